//! [`Run`]: a run about to begin; [`Outcome`]: how it ended; [`RunView`]: how its journal shows it.

use crate::{
    Failure, Graph, RunStream, State,
    event::EventQueue,
    journal::Replay,
    runner::{Progress, drive, names},
};
use std::{
    fmt::{self, Debug},
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};
use stepwell_core::{
    Budget, BudgetLimits, Cancel, Error, Limits, Result, Scope, Spend, Usage,
    store::{Durability, RunStatus, RunStore},
};

/// What a run begins with.
pub(crate) enum Begin<S: State> {
    State(Box<S>),
    Input(Box<S::Update>),
    Journal,
}

/// How a run is run.
#[derive(Clone)]
pub(crate) struct RunOptions {
    pub(crate) run_id: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) store: Option<Arc<dyn RunStore>>,
    pub(crate) durability: Durability,
    pub(crate) cancel: Cancel,
    pub(crate) budget: Option<Budget>,
    pub(crate) budget_limits: BudgetLimits,
    pub(crate) limits: Limits,
    pub(crate) wants_values: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            run_id: None,
            scope: Scope::local(),
            store: None,
            durability: Durability::Async,
            cancel: Cancel::new(),
            budget: None,
            budget_limits: BudgetLimits::default(),
            limits: Limits::default(),
            wants_values: false,
        }
    }
}

/// A run about to begin. `.await` it for its outcome, or watch it with [`Run::stream`].
#[must_use = "await it, or poll its stream"]
pub struct Run<S: State> {
    pub(crate) graph: Graph<S>,
    pub(crate) begin: Begin<S>,
    pub(crate) options: RunOptions,
}

impl<S: State> Run<S> {
    pub(crate) fn of_state(graph: Graph<S>, state: S) -> Self {
        Self {
            graph,
            begin: Begin::State(Box::new(state)),
            options: RunOptions::default(),
        }
    }

    pub(crate) fn of_input(graph: Graph<S>, input: S::Update) -> Self {
        Self {
            graph,
            begin: Begin::Input(Box::new(input)),
            options: RunOptions::default(),
        }
    }

    pub(crate) fn of_journal(graph: Graph<S>, run_id: String) -> Self {
        Self {
            graph,
            begin: Begin::Journal,
            options: RunOptions {
                run_id: Some(run_id),
                ..RunOptions::default()
            },
        }
    }

    pub(crate) fn with_options(mut self, options: RunOptions) -> Self {
        let run_id = self.options.run_id.take();
        self.options = options;
        self.options.run_id = run_id.or(self.options.run_id);
        self
    }

    /// The same, beginning with another state.
    pub(crate) fn with_state(mut self, state: S) -> Self {
        self.begin = Begin::State(Box::new(state));
        self
    }

    /// Under this id; one that sorts by time otherwise.
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.options.run_id = Some(run_id.into());
        self
    }

    /// Whose run; the one local tenant otherwise.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.scope = scope;
        self
    }

    /// Keeps a journal there, so that the run can be resumed.
    pub fn store(mut self, store: Arc<dyn RunStore>) -> Self {
        self.options.store = Some(store);
        self
    }

    /// Each step is safe before the next begins; otherwise saving overlaps with the steps that follow.
    pub fn sync(mut self) -> Self {
        self.options.durability = Durability::Sync;
        self
    }

    /// Stops when this switch is pulled.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.options.cancel = cancel;
        self
    }

    /// Spends from this account, shared with whoever else holds it. What a resumed run had spent is not booked again.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.options.budget = Some(budget);
        self
    }

    /// Spends at most so much, counted over all resumptions.
    pub fn budget_limits(mut self, limits: BudgetLimits) -> Self {
        self.options.budget_limits = limits;
        self
    }

    /// Bounds on what comes from outside, and on steps.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// Most steps of the run, counted over all resumptions; 100.
    pub fn step_limit(mut self, steps: u32) -> Self {
        self.options.limits.steps = steps;
        self
    }

    /// Puts the whole state into the event at the end of each step: costs its size each time.
    pub fn values(mut self) -> Self {
        self.options.wants_values = true;
        self
    }

    /// How the run ended, also where it failed: the state then has what had finished.
    pub async fn outcome(self) -> Outcome<S> {
        drive(self, None).await
    }

    /// The run as its events, closed by its outcome.
    pub fn stream(self) -> RunStream<Outcome<S>> {
        let queue = EventQueue::default();
        let cancel = self.options.cancel.clone();
        RunStream::new(queue.clone(), cancel, Box::pin(drive(self, Some(queue))))
    }
}

impl<S: State> IntoFuture for Run<S> {
    type Output = Result<Outcome<S>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.outcome().await.into_result() })
    }
}

impl<S: State> Debug for Run<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("graph", &self.graph)
            .field("run_id", &self.options.run_id)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<S> {
    /// The run; resume it by this id.
    pub run_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The state; of a run that did not get to its end, with what had finished.
    pub state: S,
    /// Steps that ended, over all resumptions.
    pub steps: u32,
    /// Nodes that would come next, where it did not get to its end.
    pub next: Vec<String>,
    /// Tokens, over all resumptions.
    pub usage: Usage,
    /// What was spent, over all resumptions.
    pub spent: Spend,
    /// Why it stopped before its end.
    pub error: Option<Error>,
}

impl<S> Outcome<S> {
    /// The outcome of a run that got to its end.
    ///
    /// # Errors
    /// Why it did not.
    pub fn into_result(mut self) -> Result<Self> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// The state of a run that got to its end.
    pub fn done(self) -> Option<S> {
        (self.status == RunStatus::Done).then_some(self.state)
    }
}

/// A run as its journal shows it.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunView<S> {
    /// Where it stands.
    pub status: RunStatus,
    /// The state, with what had finished of a broken step.
    pub state: S,
    /// Steps that ended.
    pub steps: u32,
    /// Nodes that run next: those of a broken step that had not finished, or the next step's.
    pub next: Vec<String>,
    /// Nodes of a broken step that had finished and do not run again.
    pub finished: Vec<String>,
    /// Tokens.
    pub usage: Usage,
    /// What was spent.
    pub spent: Spend,
    /// Why it stopped, where it did.
    pub failure: Option<Failure>,
}

impl<S: State> RunView<S> {
    pub(crate) fn new(graph: &Graph<S>, replay: Replay<S>) -> Result<Self> {
        let mut view = Progress::of(replay);
        let finished = view.finished.iter().map(|task| task.node).collect::<Vec<_>>();
        let next = names(
            graph,
            view.schedule.ready.iter().filter(|node| !finished.contains(node)),
        );
        view.fold_finished(graph)?;
        Ok(Self {
            status: view.status,
            state: view.state,
            steps: view.schedule.step,
            next,
            finished: names(graph, finished.iter()),
            usage: view.used.usage,
            spent: view.used.spend,
            failure: view.failure,
        })
    }
}
