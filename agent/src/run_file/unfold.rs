//! How a [`RunTrace`] is read from records: level by level, each run inside a task like the one around it.

use super::{
    RunFile, RunTrace, TraceCall, TraceChange, TraceMemo, TraceQuestion, TraceRun, TraceStep, TraceTask,
};
use crate::{
    Channels, ChannelsUpdate, GraphShape, State,
    context::Used,
    journal::{
        AnswerBody, ChildBody, EditBody, EffectBody, EndBody, EventBody, InputBody, IntentBody,
        InterruptBody, MemoBody, SnapshotBody, StartBody, TaskIn, TaskRef, UsageBody, open, read,
    },
    state::fold,
};
use serde::Deserialize;
use serde_json::Value;
use std::{borrow::Cow, collections::HashMap};
use stepwell_core::{Message, Part, Result, ToolCall, ToolResult, store::RecordKind};

/// Values of slots beyond so many bytes are not repeated after each change.
const AFTER_BYTES: usize = 4 << 10;

impl RunTrace {
    pub(super) fn of(file: &RunFile) -> Result<Self> {
        let mut builder = Builder::default();
        let mut top = Level::default();
        for record in file.records() {
            builder.take(&mut top, record.seq, record.at_ms, record.kind, open(record)?)?;
        }
        let mut trace = builder.trace;
        trace.run_id.clone_from(&file.head().run_id);
        trace.status = file.head().status;
        trace.began_ms = file.records().first().map_or(0, |record| record.at_ms);
        trace.ended_ms = file.records().last().map_or(0, |record| record.at_ms);
        trace.graph = top.shape.clone();
        if let Some(state) = &mut top.state {
            // What a broken step had finished is part of what the run came to.
            let pending = std::mem::take(&mut top.pending);
            let _ = fold_tasks(state, &top.shape, pending);
            trace.state = state.save().ok();
        }
        trace.messages = top.messages();
        trace.run = top.run;
        Ok(trace)
    }
}

#[derive(Default)]
struct Builder {
    trace: RunTrace,
}

/// A run that is being read.
#[derive(Default)]
struct Level {
    run: TraceRun,
    shape: GraphShape,
    state: Option<Channels>,
    blank: Channels,
    /// Updates of tasks of the step that is under way.
    pending: Vec<(TaskRef, Vec<ChannelsUpdate>)>,
    calls: HashMap<String, ToolCall>,
    /// Messages as they were written, where the state cannot be read.
    written: Vec<Message>,
    ready_ms: u64,
    step: u32,
    inner: HashMap<(u32, String, Option<u32>, String), Level>,
}

/// A schedule's step; the rest is the runner's.
#[derive(Deserialize)]
struct StepNumber {
    schedule: Number,
}

#[derive(Deserialize)]
struct Number {
    step: u32,
}

impl Builder {
    fn take(&mut self, level: &mut Level, seq: u64, at_ms: u64, kind: RecordKind, text: &[u8]) -> Result<()> {
        match kind {
            RecordKind::Start => {
                let start: StartBody<'_> = read(seq, text)?;
                level.shaped(start.graph.into_owned());
                level.ready_ms = at_ms;
            }
            RecordKind::Snapshot => {
                let snapshot: SnapshotBody<'_> = read(seq, text)?;
                level.shaped(snapshot.graph.into_owned());
                level.state = level.blank.restore(snapshot.state).ok();
                level.step = snapshot.schedule.step;
                level.pending.clear();
                if self.trace.run.steps.is_empty() && level.run.steps.is_empty() {
                    level.ready_ms = at_ms;
                    self.trace.usage = snapshot.used.usage.clone();
                    self.trace.spent = snapshot.used.spend;
                }
            }
            RecordKind::Input => {
                let input: InputBody<ChannelsUpdate> = read(seq, text)?;
                level.begin(input, at_ms);
            }
            RecordKind::Task => self.take_task(level, seq, at_ms, text)?,
            RecordKind::Step => {
                let step: StepNumber = read(seq, text)?;
                level.end_step(step.schedule.step, at_ms);
            }
            RecordKind::Memo => {
                let memo: MemoBody<'_> = read(seq, text)?;
                let task = level.task(&memo.task);
                task.memos.push(TraceMemo {
                    key: memo.key.into_owned(),
                    at_ms,
                    value: memo.value,
                });
            }
            RecordKind::Intent => {
                let intent: IntentBody = read(seq, text)?;
                let call = level.call(&intent.task, &intent.call_id, &intent.tool);
                call.began_ms = at_ms;
                call.intents += 1;
            }
            RecordKind::Effect => {
                let effect: EffectBody = read(seq, text)?;
                let name = effect.result.name.clone();
                let call = level.call(&effect.task, &effect.result.call_id, &name);
                call.ended_ms = Some(at_ms);
                call.result = Some(effect.result);
            }
            RecordKind::Interrupt => {
                let interrupt: InterruptBody = read(seq, text)?;
                level.task(&interrupt.task);
                self.trace.questions.push(TraceQuestion {
                    question: interrupt.question,
                    answer: None,
                    answered_ms: None,
                });
            }
            RecordKind::Answer => {
                let answer: AnswerBody = read(seq, text)?;
                let asked = self.trace.questions.iter_mut().rev();
                for asked in asked.filter(|asked| asked.question.id == answer.question).take(1) {
                    asked.answer = Some(answer.answer.clone());
                    asked.answered_ms = Some(at_ms);
                }
            }
            RecordKind::Usage => {
                let body: UsageBody<'_> = read(seq, text)?;
                let used = body.used.into_owned();
                let task = level.task(&body.task);
                task.usage.add(&used.usage);
                task.spent = task.spent.plus(used.spend);
                self.add_used(&used);
            }
            RecordKind::Event => match read(seq, text)? {
                EventBody::Resumed {} => {
                    if level.is_top() {
                        self.trace.resumed += 1;
                        (self.trace.pause, self.trace.failure) = (None, None);
                    }
                    level.ready_again(at_ms);
                }
                EventBody::Failed { task, failure } => level.task(&task).failure = Some(failure),
                EventBody::Watched { .. } => {}
            },
            RecordKind::Edit => {
                let edit: EditBody<ChannelsUpdate> = read(seq, text)?;
                level.edit(edit, at_ms);
            }
            RecordKind::Child => {
                let child: ChildBody = read(seq, text)?;
                if child.kind != RecordKind::Snapshot {
                    self.take_child(level, seq, at_ms, &child)?;
                }
            }
            RecordKind::End => {
                let end: EndBody<'_> = read(seq, text)?;
                if level.is_top() {
                    self.trace.pause = end.pause.map(Cow::into_owned);
                    self.trace.failure = end.failure;
                }
                if end.is_step_void {
                    level.pending.clear();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_task(&mut self, level: &mut Level, seq: u64, at_ms: u64, text: &[u8]) -> Result<()> {
        let done: TaskIn<ChannelsUpdate> = read(seq, text)?;
        let keys = level.message_keys();
        let mut messages = Vec::new();
        let mut changes = Vec::new();
        for update in &done.updates {
            for (key, is_overwrite, value) in writes(update) {
                if keys.contains(&key) {
                    let found = value.as_array().into_iter().flatten();
                    messages.extend(found.filter_map(|item| Message::deserialize(item).ok()));
                }
                changes.push(TraceChange {
                    key,
                    is_overwrite,
                    value,
                    after: None,
                });
            }
        }
        for message in &messages {
            for call in message.tool_calls() {
                level.calls.insert(call.id.clone(), call.clone());
            }
        }
        let results: Vec<ToolResult> = messages
            .iter()
            .flat_map(|message| &message.parts)
            .filter_map(|part| match part {
                Part::ToolResult(result) => Some(result.clone()),
                _ => None,
            })
            .collect();
        for result in results {
            let name = result.name.clone();
            let call = level.call(&done.task, &result.call_id.clone(), &name);
            call.ended_ms = call.ended_ms.or(Some(at_ms));
            call.result = Some(result);
        }
        level.written.extend(messages.iter().cloned());
        let task = level.task(&done.task);
        task.ended_ms = Some(at_ms);
        task.changes = changes;
        task.messages = messages;
        let targets = done.leave.or(done.goto);
        task.goto = targets.map(crate::Targets::into_names).unwrap_or_default();
        task.stop = done.stop;
        if let Some(used) = done.used {
            task.usage.add(&used.usage);
            task.spent = task.spent.plus(used.spend);
            self.add_used(&used);
        }
        level.pending.push((done.task, done.updates));
        Ok(())
    }

    fn take_child(&mut self, level: &mut Level, seq: u64, at_ms: u64, child: &ChildBody) -> Result<()> {
        let place = (
            child.task.step,
            child.task.node.clone(),
            child.task.send,
            child.key.clone(),
        );
        let mut inner = level.inner.remove(&place).unwrap_or_default();
        inner.run.key.clone_from(&child.key);
        inner.ready_ms = if inner.ready_ms == 0 {
            at_ms
        } else {
            inner.ready_ms
        };
        inner.shape.name = match inner.shape.name.as_str() {
            "" => "?".to_owned(), // it is not the outermost, even before its start was read
            name => name.to_owned(),
        };
        let taken = self.take_inner(&mut inner, seq, at_ms, child);
        let runs = &mut level.task(&child.task).runs;
        match runs.iter_mut().find(|run| run.key == child.key) {
            Some(run) => *run = inner.run.clone(),
            None => runs.push(inner.run.clone()),
        }
        level.inner.insert(place, inner);
        taken
    }

    fn take_inner(&mut self, inner: &mut Level, seq: u64, at_ms: u64, child: &ChildBody) -> Result<()> {
        // Only the outermost run's end and resumptions are the run's own.
        let kept = (
            self.trace.resumed,
            self.trace.pause.take(),
            self.trace.failure.take(),
        );
        let taken = self.take(inner, seq, at_ms, child.kind, child.body.get().as_bytes());
        (self.trace.resumed, self.trace.pause, self.trace.failure) = kept;
        taken
    }

    fn add_used(&mut self, used: &Used) {
        self.trace.usage.add(&used.usage);
        self.trace.spent = self.trace.spent.plus(used.spend);
    }
}

impl Level {
    fn is_top(&self) -> bool {
        self.run.key.is_empty()
    }

    fn shaped(&mut self, shape: GraphShape) {
        self.run.graph.clone_from(&shape.name);
        if let Ok(blank) = Channels::from_channels(&shape.channels) {
            self.blank = blank;
        }
        self.shape = shape;
    }

    fn message_keys(&self) -> Vec<String> {
        let channels = self.shape.channels.iter();
        channels
            .filter(|channel| channel.reducer == "messages")
            .map(|channel| channel.key.to_string())
            .collect()
    }

    fn begin(&mut self, input: InputBody<ChannelsUpdate>, at_ms: u64) {
        let is_known = Channels::from_channels(&self.shape.channels).is_ok();
        if let Some(state) = input.state {
            self.state = self.blank.restore(state).ok().filter(|_| is_known);
        } else if let Some(state) = &mut self.state {
            let pending = std::mem::take(&mut self.pending);
            if fold_tasks(state, &self.shape, pending).is_err() {
                self.state = None;
            }
        }
        self.pending.clear();
        self.step = input.schedule.step;
        self.ready_ms = at_ms;
        let mut edits = Vec::new();
        for update in input.updates {
            edits.extend(
                writes(&update)
                    .into_iter()
                    .map(|(key, is_overwrite, value)| TraceChange {
                        key,
                        is_overwrite,
                        value,
                        after: None,
                    }),
            );
            self.apply(update);
        }
        if let Some(state) = &self.state {
            for key in self.message_keys() {
                let messages = state.messages_of(&key).map(|messages| messages.to_vec());
                for message in messages.unwrap_or_default() {
                    for call in message.tool_calls() {
                        self.calls.insert(call.id.clone(), call.clone());
                    }
                }
            }
        }
        if !edits.is_empty() {
            let step = self.step + 1;
            self.step_mut(step).edits.extend(edits);
        }
    }

    fn apply(&mut self, update: ChannelsUpdate) {
        if let Some(state) = &mut self.state
            && state.apply(update).is_err()
        {
            self.state = None;
        }
    }

    fn edit(&mut self, edit: EditBody<ChannelsUpdate>, at_ms: u64) {
        let step = self.step + 1;
        let is_step = edit.schedule.is_some();
        if is_step && !edit.ends_step && !self.pending.is_empty() {
            self.fold_pending();
        }
        for write in edit.writes {
            for update in &write.updates {
                let changes = writes(update)
                    .into_iter()
                    .map(|(key, is_overwrite, value)| TraceChange {
                        key,
                        is_overwrite,
                        value,
                        after: None,
                    });
                self.step_mut(step).edits.extend(changes);
            }
            if is_step {
                let task = TaskRef {
                    step,
                    node: write.as_node.unwrap_or_default(),
                    send: None,
                };
                self.pending.push((task, write.updates));
            } else {
                write.updates.into_iter().for_each(|update| self.apply(update));
            }
        }
        if let Some(schedule) = edit.schedule {
            self.fold_pending();
            self.step = schedule.step;
            self.ready_ms = at_ms;
        }
    }

    /// Folds what the tasks of a step wrote.
    fn fold_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if let Some(state) = &mut self.state {
            state.expire(&self.blank);
            if fold_tasks(state, &self.shape, pending).is_err() {
                self.state = None;
            }
        }
    }

    fn step_mut(&mut self, step: u32) -> &mut TraceStep {
        let steps = &mut self.run.steps;
        let known = steps.iter().rposition(|known| known.step == step);
        let at = known.unwrap_or_else(|| {
            steps.push(TraceStep {
                step,
                began_ms: self.ready_ms,
                ..TraceStep::default()
            });
            steps.len() - 1
        });
        &mut steps[at]
    }

    fn task(&mut self, task: &TaskRef) -> &mut TraceTask {
        let began_ms = self.ready_ms;
        let tasks = &mut self.step_mut(task.step).tasks;
        let known = tasks
            .iter()
            .position(|known| known.node == task.node && known.send == task.send);
        let at = known.unwrap_or_else(|| {
            tasks.push(TraceTask {
                node: task.node.clone(),
                send: task.send,
                began_ms,
                ..TraceTask::default()
            });
            tasks.len() - 1
        });
        &mut tasks[at]
    }

    fn call(&mut self, task: &TaskRef, call_id: &str, tool: &str) -> &mut TraceCall {
        let arguments = self.calls.get(call_id).map(|call| call.arguments.clone());
        let task = self.task(task);
        let began_ms = task.began_ms;
        let known = task.calls.iter().position(|known| known.call_id == call_id);
        let at = known.unwrap_or_else(|| {
            task.calls.push(TraceCall {
                call_id: call_id.to_owned(),
                tool: tool.to_owned(),
                arguments,
                began_ms,
                ..TraceCall::default()
            });
            task.calls.len() - 1
        });
        &mut task.calls[at]
    }

    fn ready_again(&mut self, at_ms: u64) {
        self.ready_ms = at_ms;
        let step = self.step + 1;
        if let Some(step) = self.run.steps.iter_mut().rfind(|known| known.step == step) {
            for task in step.tasks.iter_mut().filter(|task| task.ended_ms.is_none()) {
                task.began_ms = at_ms;
            }
        }
    }

    fn end_step(&mut self, step: u32, at_ms: u64) {
        self.fold_pending();
        let shape = std::mem::take(&mut self.shape);
        let state = self.state.take();
        let ended = self.step_mut(step);
        ended.ended_ms = Some(at_ms);
        if let Some(state) = &state {
            for change in ended.tasks.iter_mut().flat_map(|task| &mut task.changes) {
                let reducer = shape.channels.iter().find(|channel| channel.key == *change.key);
                let is_told =
                    reducer.is_some_and(|channel| matches!(&*channel.reducer, "add" | "merge" | "set"));
                if is_told
                    && let Ok(after) = state.get(&change.key)
                    && after != change.value
                    && after.to_string().len() <= AFTER_BYTES
                {
                    change.after = Some(after);
                }
            }
        }
        (self.shape, self.state) = (shape, state);
        self.step = step;
        self.ready_ms = at_ms;
    }

    fn messages(&self) -> Vec<Message> {
        let Some(state) = &self.state else {
            return self.written.clone();
        };
        self.message_keys()
            .iter()
            .filter_map(|key| state.messages_of(key).ok())
            .flat_map(|messages| messages.to_vec())
            .collect()
    }
}

/// Folds the updates of a step's tasks in the order the nodes were declared.
fn fold_tasks(
    state: &mut Channels,
    shape: &GraphShape,
    mut tasks: Vec<(TaskRef, Vec<ChannelsUpdate>)>,
) -> Result<()> {
    let place = |node: &str| shape.nodes.iter().position(|known| known.name == node);
    tasks.sort_by_key(|(task, _)| (task.send.map_or(0, |send| u64::from(send) + 1), place(&task.node)));
    let updates = tasks
        .iter_mut()
        .map(|(task, updates)| (task.node.as_str(), std::mem::take(updates)))
        .collect();
    fold(state, updates)
}

/// Slot, whether it is replaced, and what is written.
fn writes(update: &ChannelsUpdate) -> Vec<(String, bool, Value)> {
    let Ok(Value::Object(fields)) = serde_json::to_value(update) else {
        return Vec::new();
    };
    fields
        .into_iter()
        .filter_map(|(key, write)| {
            let Value::Object(write) = write else { return None };
            let (how, value) = write.into_iter().next()?;
            Some((key, how == "o", value))
        })
        .collect()
}
