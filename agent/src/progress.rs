//! [`Progress`]: how far a run is, in memory; and what a run that goes on is given.

use crate::{
    EventKind, Failure, Graph, State, Targets,
    ask::give,
    context::{Shared, TaskMemory, Used},
    journal::{Replay, TaskDone, TaskRef},
    run::{Given, Pause, RunOptions},
    state::fold,
    step::{Schedule, TaskId},
};
use serde_json::Value;
use std::collections::HashMap;
use stepwell_core::{Error, Result, store::RunStatus};

pub(crate) fn names<S: State>(graph: &Graph<S>, tasks: impl Iterator<Item = TaskId>) -> Vec<String> {
    tasks.map(|task| graph.name_of(task.node).to_string()).collect()
}

/// How far a run is.
pub(crate) struct Progress<S: State> {
    pub(crate) state: S,
    pub(crate) schedule: Schedule,
    /// The step its last input came before: limits count from there.
    pub(crate) base: u32,
    pub(crate) finished: Vec<TaskDone<S>>,
    pub(crate) memory: HashMap<TaskId, TaskMemory>,
    pub(crate) used: Used,
    pub(crate) status: RunStatus,
    pub(crate) pause: Option<Pause>,
    /// Where the graph around it goes on.
    pub(crate) leave: Option<Targets>,
    pub(crate) failure: Option<Failure>,
    pub(crate) failures: Vec<(TaskRef, Failure)>,
    pub(crate) kept: HashMap<String, Value>,
    pub(crate) is_step_void: bool,
    pub(crate) is_reshaped: bool,
    /// The number of the last event.
    pub(crate) last_event: u64,
}

impl<S: State> Progress<S> {
    pub(crate) fn blank(graph: &Graph<S>) -> Self {
        Self {
            state: graph.blank().clone(),
            schedule: Schedule::default(),
            base: 0,
            finished: Vec::new(),
            memory: HashMap::new(),
            used: Used::default(),
            status: RunStatus::Running,
            pause: None,
            leave: None,
            failure: None,
            failures: Vec::new(),
            kept: HashMap::new(),
            is_step_void: false,
            is_reshaped: false,
            last_event: 0,
        }
    }

    pub(crate) fn of(replay: Replay<S>) -> Self {
        let last_event = replay.last_event();
        Self {
            state: replay.state,
            schedule: replay.schedule,
            base: replay.base,
            finished: replay.finished,
            memory: replay.memory,
            used: replay.used,
            status: replay.status,
            pause: replay.pause,
            leave: replay.leave,
            failure: replay.failure,
            failures: replay.failures,
            kept: replay.kept,
            is_step_void: false,
            is_reshaped: replay.is_reshaped,
            last_event,
        }
    }

    /// The state for whoever watches, where it was asked for.
    pub(crate) fn values(&self, shared: &Shared) -> Result<Option<Value>> {
        let is_wanted = shared.events.is_some() && shared.wants_values;
        is_wanted.then(|| self.state.save()).transpose()
    }

    /// What the last event tells.
    pub(crate) fn run_end(
        &self,
        (now_ms, wants_values): (u64, bool),
        status: RunStatus,
        pause: Option<&Pause>,
        error: Option<&Error>,
    ) -> EventKind {
        let is_paused = status == RunStatus::Paused;
        EventKind::RunEnd {
            status,
            pause: pause.cloned(),
            failure: error.map(Failure::from),
            questions: if is_paused {
                self.questions(now_ms)
            } else {
                Vec::new()
            },
            // A state that cannot be saved is told when a step ends.
            values: (is_paused && wants_values)
                .then(|| self.state.save().ok())
                .flatten(),
        }
    }

    /// Folds what had finished of a step that is under way.
    pub(crate) fn fold_finished(&mut self, graph: &Graph<S>) -> Result<()> {
        let mut finished = std::mem::take(&mut self.finished);
        if finished.is_empty() {
            return Ok(());
        }
        finished.sort_by_key(|task| task.id.order());
        let updates = finished
            .into_iter()
            .map(|task| (&**graph.name_of(task.id.node), task.updates))
            .collect();
        self.state.expire(graph.blank());
        fold(&mut self.state, updates)
    }

    /// Whether nothing can be done until an answer comes.
    pub(crate) fn is_waiting(&self, path: &[String], now_ms: u64) -> bool {
        let mut open = self
            .schedule
            .tasks()
            .filter(|id| !self.finished.iter().any(|done| done.id == *id))
            .peekable();
        open.peek().is_some()
            && open.all(|id| {
                self.memory
                    .get(&id)
                    .is_some_and(|memory| memory.is_waiting(path, now_ms))
            })
    }

    /// Takes what a run that goes on is given. Everything is checked before anything is changed or written.
    pub(crate) fn take_given(&mut self, given: Given<S>, options: &RunOptions) -> Result<Taken<S>> {
        if let Some(fault) = given.fault {
            return Err(fault);
        }
        let now = (options.clock)();
        let mut answers = given.answers;
        if let Some(reply) = given.reply {
            let mut open: Vec<String> = self
                .questions(now)
                .into_iter()
                .map(|question| question.id)
                .collect();
            match (open.pop(), open.is_empty()) {
                (Some(only), true) => answers.push((only, reply)),
                (Some(last), false) => {
                    open.push(last);
                    return Err(Error::invalid(
                        "answer",
                        format!(
                            "the run waits for {} answers; name the question: {}",
                            open.len(),
                            open.join(", ")
                        ),
                    ));
                }
                (None, _) => return Err(Error::invalid("answer", "the run waits for no answer")),
            }
        }
        let mut state = (!given.updates.is_empty()).then(|| self.state.clone());
        if let Some(state) = &mut state {
            fold(state, vec![("the caller", given.updates.clone())])?;
        }
        give(&mut self.memory, &answers, now)?;
        if let Some(state) = state {
            self.state = state;
        }
        Ok(Taken {
            answers,
            updates: given.updates,
        })
    }
}

/// What a run that goes on was given, checked.
pub(crate) struct Taken<S: State> {
    pub(crate) answers: Vec<(String, Value)>,
    pub(crate) updates: Vec<S::Update>,
}
