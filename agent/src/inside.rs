//! A run inside a task: it shares the journal, the events, the budget and the cancel of the run around it, and goes on
//! where it was when that one does.

use crate::{
    EventKind, Graph, NodeError, RunContext, State, Targets,
    ask::give_one,
    context::{Shared, Used},
    driver::{end_of, status_of},
    journal::{EventBody, InputBody, KeptBody, Reader, StartBody},
    progress::Progress,
    run::Pause,
    runner::{Breaks, walk},
};
use std::{borrow::Cow, sync::Arc};
use stepwell_core::{
    BudgetLimits, Cancel, Limits, Result,
    store::{RecordKind, RunStatus},
};

/// What a graph inside a node remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Begins anew each time; pauses and crashes are survived.
    #[default]
    Fresh,
    /// Goes on with the state it had come to the last time.
    Persistent,
    /// Leaves nothing behind: what had finished is done again after a pause or crash.
    Stateless,
}

/// How a run inside a task ended well.
pub(crate) struct Ended<C: State> {
    pub(crate) state: C,
    /// Where the graph around it goes on instead of along its edges.
    pub(crate) leave: Option<Targets>,
}

/// Which run of a task, and how it is run.
pub(crate) struct Inside<'a, C: State> {
    pub(crate) graph: &'a Graph<C>,
    /// Tells several runs of one task apart; empty where there is one.
    pub(crate) key: &'a str,
    pub(crate) mode: Mode,
    /// Stops it alone.
    pub(crate) cancel: Cancel,
    /// Its own bounds; those of the run around it otherwise.
    pub(crate) limits: Option<Limits>,
    /// What it may spend of the task's budget.
    pub(crate) budget: BudgetLimits,
}

impl<C: State> Inside<'_, C> {
    /// Drives it to its end. `begin` is asked only where it begins; it is given the state of the last time, or a blank one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where it waits; what it failed with.
    pub(crate) async fn drive(
        self,
        cx: &RunContext,
        begin: impl FnOnce(C) -> Result<C, NodeError>,
    ) -> Result<Ended<C>, NodeError> {
        let graph = self.graph;
        let shared = self.shared(cx);
        let mut progress = match self.known(cx, &shared)? {
            Some(known) if known.status == RunStatus::Done => {
                return self.end(cx, &shared, known, Used::default());
            }
            Some(known) => known,
            None => self.begin(&shared, begin)?,
        };
        {
            let memory = cx.memory();
            for (id, answer) in &memory.answers {
                give_one(&mut progress.memory, id, answer.clone());
            }
        }
        let mut going = Going {
            inside: &self,
            cx,
            shared: &shared,
            before: std::mem::take(&mut progress.used),
            progress: Some(progress),
        };
        let values = going.progress().values(&shared).map_err(NodeError::passed_on)?;
        let step = going.progress().schedule.step;
        shared.emit(step, || EventKind::RunStart {
            is_resumed: step > 0,
            values,
        });
        let walked = walk(graph, &shared, going.progress(), None, &Breaks::default()).await;
        let (pause, error) = match walked {
            Ok(pause) => (pause, None),
            Err(error) => (None, Some(error)),
        };
        let status = status_of(pause.as_ref(), error.as_ref());
        let (progress, used) = going.stop().expect("it goes until here");
        drop(going);
        if let Some(queue) = &shared.journal {
            queue
                .push(
                    RecordKind::End,
                    &end_of(status, pause.as_ref(), error.as_ref(), &progress),
                )
                .map_err(NodeError::passed_on)?;
        }
        shared.emit(progress.schedule.step, || {
            let wishes = ((shared.clock)(), shared.wants_values);
            progress.run_end(wishes, status, pause.as_ref(), error.as_ref())
        });
        match (error, pause) {
            (None, None) => self.end(cx, &shared, progress, used),
            (Some(error), _) => {
                tell_used(cx, &shared, &used);
                self.remember(cx, progress);
                Err(NodeError::passed_on(error))
            }
            (None, Some(pause)) => {
                tell_used(cx, &shared, &used);
                self.pause(cx, &shared, progress, pause).await
            }
        }
    }

    fn shared(&self, cx: &RunContext) -> Arc<Shared> {
        let outer = &cx.shared;
        let mark = if self.key.is_empty() {
            String::new()
        } else {
            format!("@{}", self.key)
        };
        let place = format!("{}{mark}", cx.place());
        let mut path = outer.path.to_vec();
        path.push(place);
        Arc::new(Shared {
            run_id: Arc::clone(&outer.run_id),
            graph: Arc::clone(self.graph.name_arc()),
            scope: outer.scope.clone(),
            prefix: format!("{}{}.{}{mark}/", outer.prefix, cx.place(), cx.step),
            path: path.into(),
            outer: Some(cx.clone()),
            cancel: self.cancel.clone(),
            drain: outer.drain.clone(),
            budget: if self.budget == BudgetLimits::default() {
                cx.budget().clone()
            } else {
                cx.budget().part(self.budget.clone())
            },
            limits: self.limits.clone().unwrap_or_else(|| outer.limits.clone()),
            wants_values: outer.wants_values,
            events: outer.events.clone(),
            journal: match self.mode {
                Mode::Stateless => None,
                _ => outer
                    .journal
                    .as_ref()
                    .map(|queue| queue.inside(cx.task_ref(), self.key)),
            },
            concurrency: outer.concurrency,
            seed: outer.seed,
            clock: Arc::clone(&outer.clock),
            recording: outer.recording.clone(),
            kept: Arc::clone(&outer.kept),
        })
    }

    /// Where it had come to: in this process, or in the journal.
    fn known(&self, cx: &RunContext, shared: &Shared) -> Result<Option<Progress<C>>, NodeError> {
        let (paused, records) = {
            let mut memory = cx.memory();
            (memory.paused.remove(self.key), memory.children.remove(self.key))
        };
        let mut progress =
            if let Some(paused) = paused.and_then(|paused| paused.downcast::<Progress<C>>().ok()) {
                *paused
            } else if let Some(records) = records {
                let mut reader = Reader::new(self.graph);
                for record in &records {
                    reader
                        .take(record.seq, record.kind, record.body.get().as_bytes())
                        .map_err(NodeError::passed_on)?;
                }
                if !reader.has_input() {
                    return Ok(None); // cut off between its start and its input
                }
                Progress::of(reader.finish().map_err(NodeError::passed_on)?)
            } else {
                return Ok(None);
            };
        if progress.status != RunStatus::Done {
            progress.status = RunStatus::Running;
            if let Some(queue) = &shared.journal {
                let push = || {
                    if progress.is_reshaped {
                        let graph = Cow::Borrowed(self.graph.shape());
                        queue.push(RecordKind::Start, &StartBody { graph })?;
                    }
                    queue.push(RecordKind::Event, &EventBody::Resumed {})
                };
                push().map_err(NodeError::passed_on)?;
            }
        }
        Ok(Some(progress))
    }

    fn begin(
        &self,
        shared: &Shared,
        begin: impl FnOnce(C) -> Result<C, NodeError>,
    ) -> Result<Progress<C>, NodeError> {
        let graph = self.graph;
        let kept = match self.mode {
            Mode::Persistent => shared.kept().get(&shared.place()).cloned(),
            _ => None,
        };
        let state = match kept {
            Some(kept) => graph.blank().restore(kept).map_err(NodeError::passed_on)?,
            None => graph.blank().clone(),
        };
        let mut progress = Progress::blank(graph);
        progress.state = begin(state)?;
        progress.schedule = graph.start(&progress.state).map_err(NodeError::passed_on)?;
        if let Some(queue) = &shared.journal {
            let push = || {
                let graph = Cow::Borrowed(graph.shape());
                queue.push(RecordKind::Start, &StartBody { graph })?;
                let input = InputBody::<C::Update> {
                    state: Some(progress.state.save()?),
                    updates: Vec::new(),
                    schedule: progress.schedule.clone(),
                };
                queue.push(RecordKind::Input, &input)
            };
            push().map_err(NodeError::passed_on)?;
        }
        Ok(progress)
    }

    fn end(
        &self,
        cx: &RunContext,
        shared: &Shared,
        progress: Progress<C>,
        used: Used,
    ) -> Result<Ended<C>, NodeError> {
        tell_used(cx, shared, &used);
        if self.mode == Mode::Persistent {
            let state = progress.state.save().map_err(NodeError::passed_on)?;
            let place = shared.place();
            if let Some(queue) = &shared.journal {
                let body = KeptBody { state: state.clone() };
                queue.keep(&place, &body).map_err(NodeError::passed_on)?;
            }
            shared.kept().insert(place, state);
        }
        Ok(Ended {
            state: progress.state,
            leave: progress.leave,
        })
    }

    /// What it waits for is what the task waits for.
    async fn pause(
        &self,
        cx: &RunContext,
        shared: &Shared,
        mut progress: Progress<C>,
        pause: Pause,
    ) -> Result<Ended<C>, NodeError> {
        let questions = progress.questions((shared.clock)());
        {
            let mut memory = cx.memory();
            let place = &shared.prefix;
            memory.questions.retain(|known| {
                !known.id.starts_with(place) || questions.iter().any(|open| open.id == known.id)
            });
        }
        progress.pause = Some(pause);
        // Before anything is waited for: the task may be dropped meanwhile.
        self.remember(cx, progress);
        for question in questions {
            cx.pose(question).await?;
        }
        Err(NodeError::interrupt(cx))
    }

    fn remember(&self, cx: &RunContext, progress: Progress<C>) {
        if self.mode != Mode::Stateless {
            cx.memory().paused.insert(self.key.to_owned(), Box::new(progress));
        }
    }
}

/// A run inside a task while it goes. Where it is dropped before its end, it is remembered as far as it came: what it has
/// done must not be done again when the task is tried again.
struct Going<'a, 'i, C: State> {
    inside: &'a Inside<'i, C>,
    cx: &'a RunContext,
    shared: &'a Shared,
    /// What it had used before is booked already.
    before: Used,
    progress: Option<Progress<C>>,
}

impl<C: State> Going<'_, '_, C> {
    fn progress(&mut self) -> &mut Progress<C> {
        self.progress.as_mut().expect("it goes until it is stopped")
    }

    /// How far it came, and what it used this time.
    fn stop(&mut self) -> Option<(Progress<C>, Used)> {
        let mut progress = self.progress.take()?;
        let used = progress.used.clone();
        progress.used.add(&self.before.usage, self.before.spend);
        Some((progress, used))
    }
}

impl<C: State> Drop for Going<'_, '_, C> {
    fn drop(&mut self) {
        if let Some((progress, used)) = self.stop() {
            tell_used(self.cx, self.shared, &used);
            self.inside.remember(self.cx, progress);
        }
    }
}

/// What a run used is in its own records, where it leaves any.
fn tell_used(cx: &RunContext, shared: &Shared, used: &Used) {
    if shared.journal.is_some() {
        cx.add_inner_used(used);
    } else {
        cx.add_used(&used.usage, used.spend);
    }
}

impl Shared {
    /// Where the run is, without steps: one name for all times a node is run.
    fn place(&self) -> String {
        self.path.join("/")
    }
}
