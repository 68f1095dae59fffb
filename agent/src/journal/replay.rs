//! How a run is read back from its journal.

use super::{
    AnswerBody, ChildRecord, EditBody, EffectBody, EndBody, EventBody, ForkBody, InputBody, IntentBody,
    InterruptBody, KeptBody, MemoBody, SnapshotBody, StartBody, StepBody, TaskDone, TaskRef, UsageBody,
    damaged, read,
    record::{ChildBody, TaskIn},
};
use crate::{
    Compatibility, END, Graph, GraphShape, State, Targets,
    ask::give_one,
    command::Next,
    context::{TaskMemory, Used},
    event::Failure,
    run::Pause,
    state::{apply, fold},
    step::{NodeIndex, Schedule, TaskId},
};
use serde::Deserialize;
use serde_json::Value;
use std::{borrow::Cow, collections::HashMap};
use stepwell_core::{
    Error, Result,
    store::{RecordKind, RunStatus},
};

/// More events than a run can emit while it writes one record.
const EVENTS_PER_RECORD: u64 = 1 << 30;

/// A run as its journal tells it.
pub(crate) struct Replay<S: State> {
    pub(crate) state: S,
    pub(crate) schedule: Schedule,
    /// The step its last input came before.
    pub(crate) base: u32,
    /// Tasks of the broken step that had ended.
    pub(crate) finished: Vec<TaskDone<S>>,
    /// What is remembered of those that had not.
    pub(crate) memory: HashMap<TaskId, TaskMemory>,
    pub(crate) used: Used,
    pub(crate) status: RunStatus,
    pub(crate) pause: Option<Pause>,
    pub(crate) leave: Option<Targets>,
    pub(crate) failure: Option<Failure>,
    /// Tasks of the broken step that failed for good, and why.
    pub(crate) failures: Vec<(TaskRef, Failure)>,
    /// States of persistent graphs inside nodes.
    pub(crate) kept: HashMap<String, Value>,
    pub(crate) last_seq: u64,
    /// Bytes of the last snapshot, and of the records since.
    pub(crate) weight: (usize, usize),
    /// The graph that reads has another shape than the one that wrote last: the next writer says so first.
    pub(crate) is_reshaped: bool,
    /// The number of the last event, where the run ended or paused after it.
    last_event: Option<u64>,
}

/// Takes records one by one. Until [`Reader::finish`] nodes are numbered as the graph that wrote them numbered them, so
/// that what it folded is folded in its order.
pub(crate) struct Reader<'a, S: State> {
    blank: &'a S,
    shape: &'a GraphShape,
    replay: Replay<S>,
    has_start: bool,
    has_input: bool,
    /// The graph that wrote, where it is another than the one that reads.
    writer: Option<GraphShape>,
}

impl<'a, S: State> Reader<'a, S> {
    pub(crate) fn new(graph: &'a Graph<S>) -> Self {
        Self::of(graph.blank(), graph.shape())
    }

    /// Reads as a graph of this shape and blank state would, which need not be there itself.
    pub(crate) fn of(blank: &'a S, shape: &'a GraphShape) -> Self {
        Self {
            blank,
            shape,
            replay: Replay::blank(blank),
            has_start: false,
            has_input: false,
            writer: None,
        }
    }

    /// The run as far as it was read, in the numbers of the graph that reads.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the run goes on in a node that this graph does not have.
    pub(crate) fn finish(mut self) -> Result<Replay<S>> {
        if let Some(writer) = self.writer.take() {
            self.replay.renumber(&writer, self.shape)?;
            self.replay.is_reshaped = true;
        }
        Ok(self.replay)
    }

    /// Whether the journal has begun.
    pub(crate) fn has_start(&self) -> bool {
        self.has_start
    }

    /// What was used so far.
    pub(crate) fn used(&self) -> &Used {
        &self.replay.used
    }

    /// Whether the run has anything to go on with.
    pub(crate) fn has_input(&self) -> bool {
        self.has_input
    }

    pub(crate) fn take(&mut self, seq: u64, kind: RecordKind, text: &[u8]) -> Result<()> {
        self.replay.last_seq = seq;
        if kind != RecordKind::Event {
            self.replay.weight.1 += text.len();
        }
        if !self.has_start && !matches!(kind, RecordKind::Start | RecordKind::Snapshot) {
            return Err(damaged(
                seq,
                "the journal does not begin with a start or a snapshot",
            ));
        }
        match kind {
            RecordKind::Start => {
                let start: StartBody<'_> = read(seq, text)?;
                self.written_by(start.graph)?;
            }
            RecordKind::Input => self.take_input(seq, text)?,
            RecordKind::Snapshot => {
                let snapshot: SnapshotBody<'_> = read(seq, text)?;
                // It stands for all before it: nothing of that has to have a place in its graph.
                self.replay.forget_step();
                self.replay.schedule = Schedule::default();
                self.written_by(snapshot.graph)?;
                self.replay.state = self.blank.restore(snapshot.state)?;
                self.replay.schedule = self.known(seq, snapshot.schedule.into_owned())?;
                self.replay.used = snapshot.used.into_owned();
                self.replay.kept = snapshot.kept;
                self.replay.base = snapshot.base;
                self.replay.weight = (text.len(), 0);
                self.has_input = true;
            }
            RecordKind::Task => self.take_task(seq, text)?,
            RecordKind::Step => {
                let step: StepBody<'_> = read(seq, text)?;
                self.fold_finished()?;
                self.replay.forget_step();
                self.replay.schedule = self.known(seq, step.schedule.into_owned())?;
            }
            RecordKind::Memo => {
                let memo: MemoBody<'_> = read(seq, text)?;
                if let Some(memory) = self.memory(seq, &memo.task)? {
                    memory.memos.insert(memo.key.into_owned(), memo.value);
                }
            }
            RecordKind::Intent => {
                let intent: IntentBody = read(seq, text)?;
                if let Some(memory) = self.memory(seq, &intent.task)? {
                    *memory.intents.entry(intent.call_id).or_default() += 1;
                }
            }
            RecordKind::Effect => {
                let effect: EffectBody = read(seq, text)?;
                if let Some(memory) = self.memory(seq, &effect.task)? {
                    memory
                        .effects
                        .insert(effect.result.call_id.clone(), effect.result);
                }
            }
            RecordKind::Interrupt => {
                let interrupt: InterruptBody = read(seq, text)?;
                if let Some(memory) = self.memory(seq, &interrupt.task)? {
                    if let Some(call) = &interrupt.call_id {
                        memory.intents.remove(call);
                    }
                    memory.questions.push(interrupt.question);
                }
            }
            RecordKind::Answer => {
                let answer: AnswerBody = read(seq, text)?;
                give_one(&mut self.replay.memory, &answer.question, answer.answer);
            }
            RecordKind::Usage => {
                let body: UsageBody<'_> = read(seq, text)?;
                self.replay.used.add(&body.used.usage, body.used.spend);
            }
            RecordKind::Event => match read(seq, text)? {
                EventBody::Resumed {} => {
                    self.replay.status = RunStatus::Running;
                    self.replay.last_event = None;
                    (self.replay.pause, self.replay.failure) = (None, None);
                    self.replay.failures.clear();
                }
                EventBody::Failed { task, failure } => {
                    if let Some(memory) = self.memory(seq, &task)? {
                        memory.failure = Some(failure.clone());
                        self.replay.failures.push((task, failure));
                    }
                }
                EventBody::Watched { .. } => {}
            },
            RecordKind::Edit => self.take_edit(seq, text)?,
            RecordKind::Fork => {
                // The step begins anew: what is known of it is the other run's.
                let _: ForkBody = read(seq, text)?;
                self.replay.go_on();
            }
            RecordKind::Child => self.take_child(seq, text)?,
            RecordKind::End => {
                let end: EndBody<'_> = read(seq, text)?;
                self.replay.status = end.status;
                self.replay.failure = end.failure;
                self.replay.pause = end.pause.map(Cow::into_owned);
                self.replay.leave = end.leave.map(Cow::into_owned);
                self.replay.last_event = (end.last_event > 0).then_some(end.last_event);
                if end.is_step_void {
                    self.replay.forget_step();
                }
            }
            // A newer version that writes other kinds marks its records with a newer number.
            other => {
                return Err(damaged(
                    seq,
                    format!("a record of kind `{}` does not belong there", other.as_str()),
                ));
            }
        }
        Ok(())
    }

    fn take_input(&mut self, seq: u64, text: &[u8]) -> Result<()> {
        let input: InputBody<S::Update> = read(seq, text)?;
        match input.state {
            Some(state) => {
                self.replay.state = self.blank.restore(state)?;
                self.replay.weight = (text.len(), 0);
            }
            // A further turn: what a broken step had finished stands, the rest of it is given up.
            None => self.fold_finished()?,
        }
        self.replay.forget_step();
        for update in input.updates {
            apply(&mut self.replay.state, update)?;
        }
        self.replay.status = RunStatus::Running;
        (self.replay.pause, self.replay.failure, self.replay.leave) = (None, None, None);
        self.replay.last_event = None;
        self.replay.schedule = self.known(seq, input.schedule)?;
        self.replay.base = self.replay.schedule.step;
        self.has_input = true;
        Ok(())
    }

    fn take_task(&mut self, seq: u64, text: &[u8]) -> Result<()> {
        let done: TaskIn<S::Update> = read(seq, text)?;
        if let Some(used) = &done.used {
            self.replay.used.add(&used.usage, used.spend);
        }
        if !self.is_current(&done.task) {
            return Err(damaged(seq, "a task of another step stands there"));
        }
        let id = self.id_of(seq, &done.task)?;
        self.replay.memory.remove(&id);
        self.replay.failures.retain(|(task, _)| *task != done.task);
        self.replay.finished.push(TaskDone {
            id,
            updates: done.updates,
            next: match (done.goto, done.leave) {
                (_, Some(targets)) => Next::Leave(targets),
                (Some(targets), None) => Next::Goto(targets),
                (None, None) => Next::Edges,
            },
            stop: None,
        });
        Ok(())
    }

    fn take_child(&mut self, seq: u64, text: &[u8]) -> Result<()> {
        let child: ChildBody = read(seq, text)?;
        if child.kind == RecordKind::Snapshot {
            let kept: KeptBody = read(seq, child.body.get().as_bytes())?;
            self.replay.kept.insert(child.key, kept.state);
            return Ok(());
        }
        if let Some(used) = used_inside(seq, child.kind, child.body.get().as_bytes())? {
            self.replay.used.add(&used.usage, used.spend);
        }
        if let Some(memory) = self.memory(seq, &child.task)? {
            memory.children.entry(child.key).or_default().push(ChildRecord {
                seq,
                kind: child.kind,
                body: child.body,
            });
        }
        Ok(())
    }

    fn fold_finished(&mut self) -> Result<()> {
        let writer = self.writer.as_ref().unwrap_or(self.shape);
        self.replay.fold_finished(self.blank, writer)
    }

    fn take_edit(&mut self, seq: u64, text: &[u8]) -> Result<()> {
        let edit: EditBody<S::Update> = read(seq, text)?;
        let Some(schedule) = edit.schedule else {
            let updates = edit.writes.into_iter().flat_map(|write| write.updates).collect();
            return fold(&mut self.replay.state, vec![("the caller", updates)]);
        };
        let writes = edit
            .writes
            .into_iter()
            .map(|write| {
                let node = write.as_node.as_deref().filter(|name| *name != END);
                let node = node.map(|name| self.node_of(seq, name)).transpose()?;
                Ok((node, write.updates))
            })
            .collect::<Result<Vec<_>>>()?;
        let writer = self.writer.as_ref().unwrap_or(self.shape);
        self.replay
            .fold_edit(self.blank, writer, writes, edit.ends_step)?;
        self.replay.schedule = self.known(seq, schedule)?;
        Ok(())
    }

    fn is_current(&self, task: &TaskRef) -> bool {
        task.step == self.replay.schedule.step + 1
    }

    /// The memory of a task of the step that is under way; `None` for one of an earlier step.
    fn memory(&mut self, seq: u64, task: &TaskRef) -> Result<Option<&mut TaskMemory>> {
        if !self.is_current(task) {
            return Ok(None);
        }
        let id = self.id_of(seq, task)?;
        if self.replay.finished.iter().any(|done| done.id == id) {
            return Ok(None);
        }
        Ok(Some(self.replay.memory.entry(id).or_default()))
    }

    fn id_of(&self, seq: u64, task: &TaskRef) -> Result<TaskId> {
        Ok(TaskId {
            node: self.node_of(seq, &task.node)?,
            send: task.send,
        })
    }

    fn node_of(&self, seq: u64, name: &str) -> Result<NodeIndex> {
        let node = self.writer.as_ref().unwrap_or(self.shape).index_of(name);
        node.ok_or_else(|| damaged(seq, format!("the graph has no node `{name}`")))
    }

    fn known(&self, seq: u64, schedule: Schedule) -> Result<Schedule> {
        if is_known(&schedule, self.writer.as_ref().unwrap_or(self.shape)) {
            Ok(schedule)
        } else {
            Err(damaged(seq, "it names a node the graph does not have"))
        }
    }

    /// Whether this graph can read what that one wrote. A second graph in one journal goes on by its own numbers.
    fn written_by(&mut self, writer: Cow<'_, GraphShape>) -> Result<()> {
        let reader = self.shape;
        match writer.compare(reader) {
            Compatibility::Same | Compatibility::Compatible { .. } => {}
            Compatibility::NeedsMigration { reasons } | Compatibility::Refused { reasons } => {
                return Err(refused(&reader.name, &writer.name, &reasons));
            }
        }
        if self.has_start {
            let before = self.writer.as_ref().unwrap_or(reader);
            self.replay.renumber(before, &writer)?;
        }
        self.has_start = true;
        self.writer = (writer.fingerprint() != reader.fingerprint()).then(|| writer.into_owned());
        Ok(())
    }
}

/// What a record of a run inside a task tells of tokens and money.
fn used_inside(seq: u64, kind: RecordKind, text: &[u8]) -> Result<Option<Used>> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(default)]
        used: Option<Used>,
    }
    match kind {
        RecordKind::Task | RecordKind::Usage => {
            let told: Told = read(seq, text)?;
            Ok(told.used)
        }
        RecordKind::Child => {
            let child: ChildBody = read(seq, text)?;
            used_inside(seq, child.kind, child.body.get().as_bytes())
        }
        _ => Ok(None),
    }
}

pub(crate) fn refused(reader: &str, writer: &str, reasons: &[String]) -> Error {
    Error::Unsupported {
        who: format!("the graph `{reader}`"),
        what: format!("a run of the graph `{writer}` ({})", reasons.join("; ")),
        hint: "resume it with the graph that started it, or migrate it".into(),
    }
}

impl<S: State> Replay<S> {
    /// Nothing was read yet.
    pub(crate) fn blank(blank: &S) -> Self {
        Self {
            state: blank.clone(),
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
            last_seq: 0,
            weight: (0, 0),
            is_reshaped: false,
            last_event: None,
        }
    }

    /// The number that the run's events go on after. How many a crash overtook nobody knows: then it is far above all that
    /// can have been given before, and below what a number of JavaScript holds.
    pub(crate) fn last_event(&self) -> u64 {
        self.last_event
            .unwrap_or_else(|| self.last_seq.saturating_mul(EVENTS_PER_RECORD))
    }

    /// Nothing is known of the step that is under way any more.
    pub(crate) fn forget_step(&mut self) {
        self.finished.clear();
        self.memory.clear();
        self.failures.clear();
    }

    /// It begins its step anew, wherever it stood.
    pub(crate) fn go_on(&mut self) {
        self.forget_step();
        self.status = RunStatus::Running;
        (self.pause, self.failure, self.leave) = (None, None, None);
    }

    /// Folds what had finished of the step that is under way.
    pub(crate) fn fold_finished(&mut self, blank: &S, writer: &GraphShape) -> Result<()> {
        let finished = std::mem::take(&mut self.finished);
        if finished.is_empty() {
            return Ok(());
        }
        let updates = finished.into_iter().map(|task| (Some(task.id), task.updates));
        self.fold_step(blank, writer, updates.collect())
    }

    /// Folds writes of nodes from outside as a step does, together with what had finished of the step that is under way or
    /// after it. That step is over then.
    pub(crate) fn fold_edit(
        &mut self,
        blank: &S,
        writer: &GraphShape,
        writes: Vec<(Option<NodeIndex>, Vec<S::Update>)>,
        ends_step: bool,
    ) -> Result<()> {
        let mut updates = Vec::new();
        if ends_step {
            let finished = std::mem::take(&mut self.finished);
            updates.extend(finished.into_iter().map(|task| (Some(task.id), task.updates)));
        } else {
            self.fold_finished(blank, writer)?;
        }
        for (node, given) in writes {
            updates.push((node.map(|node| TaskId { node, send: None }), given));
        }
        self.fold_step(blank, writer, updates)?;
        self.go_on();
        Ok(())
    }

    fn fold_step(
        &mut self,
        blank: &S,
        writer: &GraphShape,
        mut updates: Vec<(Option<TaskId>, Vec<S::Update>)>,
    ) -> Result<()> {
        updates.sort_by_key(|(id, _)| id.map(TaskId::order));
        let updates = updates
            .into_iter()
            .map(|(id, updates)| {
                let name = id.map_or("the caller", |id| &writer.nodes[id.node as usize].name);
                (name, updates)
            })
            .collect();
        self.state.expire(blank);
        fold(&mut self.state, updates)
    }

    /// From the numbers of one graph to those of another, by name.
    pub(crate) fn renumber(&mut self, from: &GraphShape, to: &GraphShape) -> Result<()> {
        renumber(&mut self.schedule, from, to)?;
        let node = |old: NodeIndex| place_in(to, from, old);
        for task in &mut self.finished {
            task.id.node = node(task.id.node)?;
        }
        let mut memory = HashMap::with_capacity(self.memory.len());
        for (id, remembered) in self.memory.drain() {
            let id = TaskId {
                node: node(id.node)?,
                send: id.send,
            };
            memory.insert(id, remembered);
        }
        self.memory = memory;
        Ok(())
    }
}

fn place_in(to: &GraphShape, from: &GraphShape, old: NodeIndex) -> Result<NodeIndex> {
    let name = &from.nodes[old as usize].name;
    to.index_of(name).ok_or_else(|| {
        let reason = format!("it goes on in the node `{name}`, which is not there any more");
        refused(&to.name, &from.name, &[reason])
    })
}

/// A place of one graph in the numbers of another, by name.
pub(crate) fn renumber(schedule: &mut Schedule, from: &GraphShape, to: &GraphShape) -> Result<()> {
    let node = |old: NodeIndex| place_in(to, from, old);
    for ready in schedule.ready.iter_mut().chain(&mut schedule.deferred) {
        *ready = node(*ready)?;
    }
    schedule.ready.sort_unstable();
    for sent in &mut schedule.sends {
        sent.node = node(sent.node)?;
    }
    for arrivals in &mut schedule.arrived {
        let old = &from.joins[arrivals.join];
        let Some(join) = to.joins.iter().position(|join| join == old) else {
            let reason = format!("a join into `{}` waits that is not there any more", old.to);
            return Err(refused(&to.name, &from.name, &[reason]));
        };
        arrivals.join = join;
        for source in &mut arrivals.sources {
            *source = node(*source)?;
        }
    }
    Ok(())
}

/// Whether every node and join a place names is in the graph.
pub(crate) fn is_known(schedule: &Schedule, shape: &GraphShape) -> bool {
    let arrived = schedule.arrived.iter();
    let mut named = schedule
        .tasks()
        .map(|task| task.node)
        .chain(schedule.deferred.iter().copied())
        .chain(arrived.flat_map(|arrivals| arrivals.sources.iter().copied()));
    named.all(|node| (node as usize) < shape.nodes.len())
        && schedule
            .arrived
            .iter()
            .all(|arrivals| arrivals.join < shape.joins.len())
}
