//! [`Recording`]: what models, tools and memoised steps gave in a run, by the task they gave it to; and how a run that is
//! replayed is answered from it instead of by them.

use super::flat::{Flat, flatten};
use crate::{
    Command, NodeError, RunContext, State, Targets,
    command::Next,
    context::Used,
    event::Failure,
    journal::{EffectBody, EventBody, MemoBody, TaskIn, TaskRef, UsageBody, read},
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use stepwell_core::{
    Error, Result, ToolResult,
    store::{RecordKind, RunRecord},
};

/// A task: the run it is in, its step, its node and which Send of it.
type Place = (String, u32, String, Option<u32>);

#[derive(Default)]
struct Recorded {
    done: Option<Done>,
    failure: Option<Failure>,
    memos: HashMap<String, Value>,
    results: HashMap<String, ToolResult>,
    /// What was booked before it ended.
    booked: Used,
}

struct Done {
    updates: Vec<Value>,
    goto: Option<Targets>,
    leave: Option<Targets>,
    used: Option<Used>,
    is_stopped: bool,
}

/// What was recorded of a run.
pub(crate) struct Recording {
    tasks: HashMap<Place, Recorded>,
    /// Steps that ended, by the run they are of.
    steps: HashSet<(String, u32)>,
}

fn place(prefix: &str, task: &TaskRef) -> Place {
    (prefix.to_owned(), task.step, task.node.clone(), task.send)
}

impl Recording {
    pub(super) fn of(records: &[RunRecord]) -> Result<Self> {
        let mut recording = Self {
            tasks: HashMap::new(),
            steps: HashSet::new(),
        };
        for record in flatten(records)? {
            recording.take(&record)?;
        }
        Ok(recording)
    }

    fn take(&mut self, record: &Flat) -> Result<()> {
        let Flat {
            seq, prefix, text, ..
        } = record;
        match record.kind {
            RecordKind::Task => {
                let task: TaskIn<Value> = read(*seq, text)?;
                let recorded = self.tasks.entry(place(prefix, &task.task)).or_default();
                for update in &task.updates {
                    find_results(update, &mut recorded.results);
                }
                recorded.done = Some(Done {
                    updates: task.updates,
                    goto: task.goto,
                    leave: task.leave,
                    used: task.used,
                    is_stopped: task.stop.is_some(),
                });
            }
            RecordKind::Memo => {
                let memo: MemoBody<'_> = read(*seq, text)?;
                let recorded = self.tasks.entry(place(prefix, &memo.task)).or_default();
                recorded.memos.insert(memo.key.into_owned(), memo.value);
            }
            RecordKind::Effect => {
                let effect: EffectBody = read(*seq, text)?;
                let recorded = self.tasks.entry(place(prefix, &effect.task)).or_default();
                recorded
                    .results
                    .insert(effect.result.call_id.clone(), effect.result);
            }
            RecordKind::Usage => {
                let body: UsageBody<'_> = read(*seq, text)?;
                let recorded = self.tasks.entry(place(prefix, &body.task)).or_default();
                recorded.booked.add(&body.used.usage, body.used.spend);
            }
            RecordKind::Event => {
                if let EventBody::Failed { task, failure } = read(*seq, text)? {
                    self.tasks.entry(place(prefix, &task)).or_default().failure = Some(failure);
                }
            }
            RecordKind::Step => {
                #[derive(Deserialize)]
                struct Step {
                    schedule: Schedule,
                }
                #[derive(Deserialize)]
                struct Schedule {
                    step: u32,
                }
                let step: Step = read(*seq, text)?;
                self.steps.insert((prefix.clone(), step.schedule.step));
            }
            _ => {}
        }
        Ok(())
    }

    fn task(&self, cx: &RunContext) -> Option<&Recorded> {
        self.tasks.get(&place(&cx.shared.prefix, &cx.task_ref()))
    }
}

/// The results of tool calls among the messages of an update.
fn find_results(value: &Value, found: &mut HashMap<String, ToolResult>) {
    match value {
        Value::Object(fields) => {
            if fields.get("type").and_then(Value::as_str) == Some("tool_result")
                && let Ok(result) = ToolResult::deserialize(value)
            {
                found.insert(result.call_id.clone(), result);
                return;
            }
            fields.values().for_each(|value| find_results(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| find_results(value, found)),
        _ => {}
    }
}

fn unrecorded(what: String) -> Error {
    Error::Unsupported {
        who: "the replay".into(),
        what,
        hint: "nothing is called while a run is replayed; fork the recording to go on live".into(),
    }
}

impl RunContext {
    /// What the node returned when the run was recorded, where it is replayed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the recording has none: nothing is called in its place.
    pub(crate) fn recorded_command<S: State>(&self) -> Result<Option<Command<S::Update>>, NodeError> {
        let Some(recording) = &self.shared.recording else {
            return Ok(None);
        };
        let recorded = recording.task(self);
        let refuse = |why: &str| {
            let what = format!("`{}` in step {}: {why}", self.node, self.step);
            Err(NodeError::passed_on(unrecorded(what)))
        };
        let Some(recorded) = recorded else {
            return refuse("it did not run when the run was recorded");
        };
        // What a task came to whose node had failed is its handler's.
        let done = match &recorded.done {
            Some(done) if recorded.failure.is_none() => done,
            _ => return refuse("it had failed when the run was recorded"),
        };
        let updates = done
            .updates
            .iter()
            .map(|update| {
                S::Update::deserialize(update).map_err(|_| {
                    NodeError::passed_on(Error::Damaged {
                        what: format!("the recorded result of `{}`", self.node),
                        message: "it does not fit the graph's state".into(),
                        hint: "replay the run with the code that recorded it".into(),
                    })
                })
            })
            .collect::<Result<_, _>>()?;
        // What it had memoised on its way is its own record; here it is not waited for.
        for (key, value) in &recorded.memos {
            let body = MemoBody {
                task: self.task_ref(),
                key: key.as_str().into(),
                value: value.clone(),
            };
            drop(self.leave(RecordKind::Memo, &body, false)?);
        }
        let next = match (&done.leave, &done.goto) {
            (Some(targets), _) => Next::Leave(targets.clone()),
            (None, Some(targets)) => Next::Goto(targets.clone()),
            (None, None) => Next::Edges,
        };
        Ok(Some(Command {
            updates,
            next,
            stop: self.recorded_stop(),
        }))
    }

    /// The recorded result of a tool call, where the run is replayed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the recording has none.
    pub(crate) fn recorded_result(&self, call_id: &str) -> Result<Option<ToolResult>> {
        let Some(recording) = &self.shared.recording else {
            return Ok(None);
        };
        let known = recording.task(self).and_then(|task| task.results.get(call_id));
        match known {
            Some(result) => Ok(Some(result.clone())),
            None => Err(unrecorded(format!(
                "the tool call `{call_id}` in step {}: it has no recorded result",
                self.step
            ))),
        }
    }

    /// The recorded result of a memoised step, where the run is replayed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the recording has none.
    pub(crate) fn recorded_memo(&self, key: &str) -> Result<Option<Value>> {
        let Some(recording) = &self.shared.recording else {
            return Ok(None);
        };
        let known = recording.task(self).and_then(|task| task.memos.get(key));
        match known {
            Some(value) => Ok(Some(value.clone())),
            None => Err(unrecorded(format!(
                "the step `{key}` of `{}` in step {}: it has no recorded result",
                self.node, self.step
            ))),
        }
    }

    /// What the task had used when the run was recorded.
    pub(crate) fn recorded_used(&self) -> Option<Box<Used>> {
        let recorded = self.shared.recording.as_ref()?.task(self)?;
        recorded.done.as_ref()?.used.clone().map(Box::new)
    }

    /// What of it had been booked before the task ended.
    pub(crate) fn recorded_booked(&self) -> Option<&Used> {
        Some(&self.shared.recording.as_ref()?.task(self)?.booked)
    }

    /// That the task had stopped the run.
    pub(crate) fn recorded_stop(&self) -> Option<Error> {
        let recorded = self.shared.recording.as_ref()?.task(self)?;
        recorded.done.as_ref()?.is_stopped.then(|| {
            unrecorded(format!(
                "more than `{}` in step {}: it stopped the run",
                self.node, self.step
            ))
        })
    }

    /// Whether the task was dropped when the run was recorded: its step ended without it.
    pub(crate) fn was_dropped(&self) -> bool {
        self.shared.recording.as_ref().is_some_and(|recording| {
            let step = (self.shared.prefix.clone(), self.step);
            recording.task(self).is_none_or(|task| task.done.is_none()) && recording.steps.contains(&step)
        })
    }
}
