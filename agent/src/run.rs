//! [`Run`]: a run about to begin or to go on.

use crate::{
    Graph, Migration, Outcome, RunStream, State,
    context::Clock,
    driver::drive,
    event::EventQueue,
    journal::{Saving, now_ms},
    progress::Progress,
    run_file::Recording,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fmt::{self, Debug},
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};
use stepwell_core::{Budget, BudgetLimits, Cancel, Error, Limits, Result, Scope, store::RunStore};

/// Why a run paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pause", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pause {
    /// It waits for answers.
    Questions,
    /// Before a step in which these nodes run, as was asked.
    Before {
        /// Those that were named.
        nodes: Vec<String>,
    },
    /// After a step in which these nodes ran, as was asked.
    After {
        /// Those that were named.
        nodes: Vec<String>,
    },
    /// It was drained.
    Drained,
}

/// What a run begins with.
pub(crate) enum Begin<S: State> {
    State(Box<S>),
    Input(Box<S::Update>),
    Journal,
    Turn(Box<S::Update>),
    Progress(Box<Progress<S>>),
}

impl<S: State> Begin<S> {
    /// It begins; otherwise it goes on.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::State(_) | Self::Input(_))
    }
}

/// How a run is run.
#[derive(Clone)]
pub(crate) struct RunOptions {
    pub(crate) run_id: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) store: Option<Arc<dyn RunStore>>,
    pub(crate) saving: Saving,
    pub(crate) cancel: Cancel,
    pub(crate) drain: Option<Cancel>,
    pub(crate) budget: Option<Budget>,
    pub(crate) budget_limits: BudgetLimits,
    pub(crate) limits: Limits,
    pub(crate) wants_values: bool,
    pub(crate) keeps_events: bool,
    pub(crate) concurrency: Option<usize>,
    pub(crate) seed: Option<u64>,
    pub(crate) break_before: Vec<String>,
    pub(crate) break_after: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) migration: Option<Migration>,
    /// Answers for models, tools and memoised steps where the run is replayed.
    pub(crate) recording: Option<Arc<Recording>>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            run_id: None,
            scope: Scope::local(),
            store: None,
            saving: Saving::Async,
            cancel: Cancel::new(),
            drain: None,
            budget: None,
            budget_limits: BudgetLimits::default(),
            limits: Limits::default(),
            wants_values: false,
            keeps_events: false,
            concurrency: None,
            seed: None,
            break_before: Vec::new(),
            break_after: Vec::new(),
            clock: Arc::new(now_ms),
            migration: None,
            recording: None,
        }
    }
}

/// What a run that goes on is given.
pub(crate) struct Given<S: State> {
    pub(crate) answers: Vec<(String, Value)>,
    /// To the only question there is.
    pub(crate) reply: Option<Value>,
    pub(crate) updates: Vec<S::Update>,
    /// Something that could not be written as JSON.
    pub(crate) fault: Option<Error>,
}

impl<S: State> Default for Given<S> {
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            reply: None,
            updates: Vec::new(),
            fault: None,
        }
    }
}

impl<S: State> Given<S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.reply.is_none() && self.updates.is_empty() && self.fault.is_none()
    }
}

/// A run about to begin or to go on. `.await` it for its outcome, or watch it with [`Run::stream`].
#[must_use = "await it, or poll its stream"]
pub struct Run<S: State> {
    pub(crate) graph: Graph<S>,
    pub(crate) begin: Begin<S>,
    pub(crate) given: Given<S>,
    pub(crate) options: RunOptions,
}

impl<S: State> Run<S> {
    pub(crate) fn new(graph: Graph<S>, begin: Begin<S>, run_id: Option<String>) -> Self {
        Self {
            graph,
            begin,
            given: Given::default(),
            options: RunOptions {
                run_id,
                ..RunOptions::default()
            },
        }
    }

    pub(crate) fn of_state(graph: Graph<S>, state: S) -> Self {
        Self::new(graph, Begin::State(Box::new(state)), None)
    }

    pub(crate) fn of_input(graph: Graph<S>, input: S::Update) -> Self {
        Self::new(graph, Begin::Input(Box::new(input)), None)
    }

    pub(crate) fn of_journal(graph: Graph<S>, run_id: String) -> Self {
        Self::new(graph, Begin::Journal, Some(run_id))
    }

    pub(crate) fn of_turn(graph: Graph<S>, run_id: String, input: S::Update) -> Self {
        Self::new(graph, Begin::Turn(Box::new(input)), Some(run_id))
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
        self.options.saving = Saving::Sync;
        self
    }

    /// Saves only when the run ends, pauses, fails or is cancelled: cheap, and a crash loses the whole run. A call of a tool
    /// that must not happen twice is recorded before it happens all the same.
    pub fn at_exit(mut self) -> Self {
        self.options.saving = Saving::AtExit;
        self
    }

    /// Stops when this switch is pulled.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.options.cancel = cancel;
        self
    }

    /// Pauses at the end of the step that is under way when this switch is pulled; nothing is cut off. A run whose last
    /// step it was ends as if nothing had been asked.
    pub fn drain(mut self, drain: Cancel) -> Self {
        self.options.drain = Some(drain);
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

    /// At most so many tasks of a step at once; all of them otherwise. The result is the same.
    pub fn concurrency(mut self, most: usize) -> Self {
        self.options.concurrency = Some(most.max(1));
        self
    }

    /// For tests: lets chance, which this number decides, order the tasks of each step. A run that gives another result
    /// under another seed depends on the order in which its nodes end.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Pauses before each step in which one of these nodes runs.
    pub fn break_before<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.options
            .break_before
            .extend(nodes.into_iter().map(Into::into));
        self
    }

    /// Pauses after each step in which one of these nodes ran, unless it was the last.
    pub fn break_after<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.options.break_after.extend(nodes.into_iter().map(Into::into));
        self
    }

    /// What time it is, in milliseconds since 1970, for questions that expire; the system's clock otherwise.
    pub fn clock(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.options.clock = Arc::new(clock);
        self
    }

    /// Answers a question of a paused run. The run is refused, and nothing written, when one of its answers is to an unknown
    /// question or to one that was answered, has expired, or does not fit its schema. Questions without an answer stay.
    pub fn answer(mut self, question_id: impl Into<String>, answer: impl Serialize) -> Self {
        match serde_json::to_value(answer) {
            Ok(answer) => self.given.answers.push((question_id.into(), answer)),
            Err(error) => {
                self.given.fault = Some(Error::invalid("answer", format!("it is no JSON: {error}")));
            }
        }
        self
    }

    /// Answers the only question of a paused run; with several open the run is refused with their ids.
    pub fn reply(mut self, answer: impl Serialize) -> Self {
        match serde_json::to_value(answer) {
            Ok(answer) => self.given.reply = Some(answer),
            Err(error) => {
                self.given.fault = Some(Error::invalid("answer", format!("it is no JSON: {error}")));
            }
        }
        self
    }

    /// Reads a run through this, where another version of the graph has stored it. The journal then goes on with a
    /// snapshot of this graph, and the run does not need the migration again.
    pub fn migrate(mut self, migration: Migration) -> Self {
        self.options.migration = Some(migration);
        self
    }

    /// Changes the state of a run that goes on, before it does.
    pub fn with_update(mut self, update: S::Update) -> Self {
        self.given.updates.push(update);
        self
    }

    /// Keeps what can be watched in the journal too, so that it can be watched from any event on after a crash and in other
    /// processes, with [`Graph::events`]. Events are written in batches of at most a second; what a crash overtakes is
    /// missing, and told so. A streamed answer costs little more than its words.
    pub fn keep_events(mut self) -> Self {
        self.options.keeps_events = true;
        self
    }

    /// Puts the whole state into the events at the begin and at the end of each step: costs its size each time.
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
        let queue = EventQueue::to_stream();
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
