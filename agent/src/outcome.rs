//! [`Outcome`]: how a run ended or paused; [`Paused`]: one that waits; [`RunView`]: how its journal shows a run.

use crate::{
    Failure, Graph, Question, Run, State,
    ask::open,
    journal::{Replay, now_ms},
    progress::{Progress, names},
    run::{Begin, Given, Pause, RunOptions},
};
use std::fmt::{self, Debug};
use stepwell_core::{Error, Result, Spend, Usage, store::RunStatus};

/// How a run ended or paused.
#[non_exhaustive]
pub struct Outcome<S: State> {
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
    /// Why it paused, where it did.
    pub pause: Option<Pause>,
    /// What it waits for.
    pub questions: Vec<Question>,
    /// Tokens, over all resumptions.
    pub usage: Usage,
    /// What was spent, over all resumptions.
    pub spent: Spend,
    /// Why it stopped before its end; or why what a paused run was given was refused: then it waits as before.
    pub error: Option<Error>,
    pub(crate) rest: Option<Box<Rest<S>>>,
}

/// What a paused run goes on with.
pub(crate) struct Rest<S: State> {
    pub(crate) graph: Graph<S>,
    pub(crate) options: RunOptions,
    /// Where there is no journal to read it from.
    pub(crate) progress: Option<Box<Progress<S>>>,
}

impl<S: State> Debug for Outcome<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("run_id", &self.run_id)
            .field("status", &self.status)
            .field("state", &self.state)
            .field("steps", &self.steps)
            .field("next", &self.next)
            .field("pause", &self.pause)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<S: State> Outcome<S> {
    /// That of a run inside a task which got to its end.
    pub(crate) fn ended(run_id: &str, state: S) -> Self {
        Self {
            run_id: run_id.to_owned(),
            status: RunStatus::Done,
            state,
            steps: 0,
            next: Vec::new(),
            pause: None,
            questions: Vec::new(),
            usage: Usage::default(),
            spent: Spend::default(),
            error: None,
            rest: None,
        }
    }

    /// The outcome of a run that got to its end or paused.
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

    /// The run, where it paused: to be answered and to go on, with a store or without.
    pub fn paused(mut self) -> Option<Paused<S>> {
        self.take_paused()
    }

    pub(crate) fn take_paused(&mut self) -> Option<Paused<S>> {
        let rest = self.rest.take()?;
        Some(Paused {
            run_id: self.run_id.clone(),
            questions: self.questions.clone(),
            rest,
        })
    }
}

/// A run that waits. Dropping one that has no store gives the run up.
pub struct Paused<S: State> {
    run_id: String,
    questions: Vec<Question>,
    rest: Box<Rest<S>>,
}

impl<S: State> Paused<S> {
    /// What it waits for; empty where it was drained or stopped at a breakpoint.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Lets it go on; give it answers with [`Run::answer`] or [`Run::reply`].
    pub fn resume(self) -> Run<S> {
        let Rest {
            graph,
            mut options,
            progress,
        } = *self.rest;
        options.run_id = Some(self.run_id);
        // The switch that paused it is still pulled.
        options.drain = None;
        Run {
            graph,
            begin: progress.map_or(Begin::Journal, Begin::Progress),
            given: Given::default(),
            options,
        }
    }
}

impl<S: State> Debug for Paused<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paused")
            .field("run_id", &self.run_id)
            .field("questions", &self.questions.len())
            .finish_non_exhaustive()
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
    /// Nodes of a broken step that failed, and why.
    pub failed: Vec<(String, Failure)>,
    /// Why it paused, where it did.
    pub pause: Option<Pause>,
    /// What it waits for.
    pub questions: Vec<Question>,
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
        let mut finished: Vec<_> = view.finished.iter().map(|task| task.id).collect();
        finished.sort_by_key(|id| id.order());
        let next = names(graph, view.schedule.tasks().filter(|id| !finished.contains(id)));
        view.fold_finished(graph)?;
        let now = now_ms();
        Ok(Self {
            questions: view.questions(now),
            status: view.status,
            state: view.state,
            steps: view.schedule.step,
            next,
            finished: names(graph, finished.into_iter()),
            failed: view
                .failures
                .into_iter()
                .map(|(task, failure)| (task.node, failure))
                .collect(),
            pause: view.pause,
            usage: view.used.usage,
            spent: view.used.spend,
            failure: view.failure,
        })
    }
}

impl<S: State> Progress<S> {
    /// The questions that wait for an answer, in the order of their tasks.
    pub(crate) fn questions(&self, now_ms: u64) -> Vec<Question> {
        let mut tasks: Vec<_> = self.memory.iter().collect();
        tasks.sort_by_key(|(id, _)| id.order());
        tasks
            .into_iter()
            .flat_map(|(_, memory)| open(memory, now_ms))
            .cloned()
            .collect()
    }
}
