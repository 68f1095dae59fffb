//! The run's log. Everything durable is here: what is recorded, how a record looks, and how a run is read back.
//!
//! A record's body is one version byte, eight bytes of checksum (over the kind's word and the text) and JSON. A step
//! costs what it changed: its tasks' updates and the schedule that follows. Once the records since the last snapshot
//! outweigh it, the whole state is written as another.

use crate::{
    Graph, State,
    command::{Next, Targets},
    context::{TaskMemory, Used, add_spend},
    event::Failure,
    state::fold,
    step::{NodeIndex, Schedule},
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};
use stepwell_core::{
    Error, Result, Scope, Spend, ToolResult, Usage,
    store::{Durability, NewRecord, RecordKind, RunAppend, RunRecord, RunStatus, RunStore},
};
use tokio::sync::oneshot;

/// The version this build writes, and the newest it reads.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 9;
/// JSON nested deeper than this would not be read back.
const DEPTH: usize = 120;
/// Records are read in pieces of so many.
const PAGE: usize = 512;
/// A snapshot is not worth it below so many bytes of records.
const SNAPSHOT_BYTES: usize = 512 << 10;
/// Bytes and records that may wait to be appended before a step waits for them.
const WAITING_BYTES: usize = 4 << 20;

// ---- Bodies ---------------------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    pub(crate) graph: String,
    pub(crate) fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputBody {
    pub(crate) state: Value,
    pub(crate) schedule: Schedule,
}

#[derive(Serialize)]
struct TaskOut<'a, U> {
    step: u32,
    node: &'a str,
    updates: &'a [U],
    #[serde(skip_serializing_if = "Option::is_none")]
    goto: Option<&'a [std::borrow::Cow<'static, str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spend: Option<Spend>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "U: DeserializeOwned")]
struct TaskIn<U> {
    step: u32,
    node: String,
    updates: Vec<U>,
    #[serde(default)]
    goto: Option<Vec<String>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    spend: Option<Spend>,
    /// Told to people; a resumed run goes on past it.
    #[serde(default)]
    #[allow(dead_code)] // part of the closed format
    stop: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBody {
    schedule: Schedule,
}

#[derive(Serialize)]
pub(crate) struct MemoBody<'a, T> {
    pub(crate) step: u32,
    pub(crate) node: &'a str,
    pub(crate) key: &'a str,
    pub(crate) value: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoIn {
    step: u32,
    node: String,
    key: String,
    value: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentBody {
    pub(crate) step: u32,
    pub(crate) node: String,
    pub(crate) call_id: String,
    pub(crate) tool: String,
    pub(crate) idempotency_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EffectBody {
    pub(crate) step: u32,
    pub(crate) node: String,
    pub(crate) result: ToolResult,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageBody {
    node: String,
    usage: Usage,
    spend: Spend,
}

/// The run was taken up again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventBody {
    pub(crate) event: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotBody {
    graph: String,
    fingerprint: String,
    state: Value,
    schedule: Schedule,
    usage: Usage,
    spend: Spend,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndBody {
    status: RunStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    /// The updates of the step could not be folded: its tasks are run again on resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_step_void: bool,
}

// ---- Bytes ----------------------------------------------------------------------------------------------------

fn checksum(kind: RecordKind, text: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(text);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}

pub(crate) fn encode<T: Serialize>(kind: RecordKind, body: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256);
    bytes.resize(HEADER, 0);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| Error::invalid("journal", format!("a record cannot be written as JSON: {error}")))?;
    if depth(&bytes[HEADER..]) > DEPTH {
        return Err(Error::LimitExceeded {
            what: "the nesting of what the run would record".into(),
            limit: format!("{DEPTH} levels"),
        });
    }
    bytes[0] = VERSION;
    let sum = checksum(kind, &bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&sum);
    Ok(bytes)
}

/// How deep JSON text is nested.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut is_string, mut is_escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn damaged(seq: u64, message: impl Into<String>) -> Error {
    Error::Damaged {
        what: format!("record {seq} of the run's journal"),
        message: message.into(),
        hint: "restore the store from a backup, or start the run anew".into(),
    }
}

fn decode<T: DeserializeOwned>(record: &RunRecord) -> Result<T> {
    let bytes = &record.body;
    let Some(&version) = bytes.first() else {
        return Err(damaged(record.seq, "it is empty"));
    };
    if version > VERSION || version == 0 {
        return Err(Error::UnknownVersion {
            what: "the run's journal".into(),
            found: version.into(),
            known: VERSION.into(),
        });
    }
    if bytes.len() < HEADER || bytes[1..HEADER] != checksum(record.kind, &bytes[HEADER..]) {
        return Err(damaged(record.seq, "its checksum does not fit"));
    }
    serde_json::from_slice(&bytes[HEADER..])
        .map_err(|error| damaged(record.seq, format!("it cannot be read: {error}")))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

// ---- Writing --------------------------------------------------------------------------------------------------

struct Waiting {
    record: NewRecord,
    is_sync: bool,
    written: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Backlog {
    records: VecDeque<Waiting>,
    bytes: usize,
    since_snapshot: usize,
    last_snapshot: usize,
}

/// Records on their way to the store. Tasks push; the runner appends, so that a dropped task never leaves an append
/// half known.
#[derive(Clone)]
pub(crate) struct JournalQueue {
    backlog: Arc<Mutex<Backlog>>,
    durability: Durability,
}

impl JournalQueue {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            backlog: Arc::default(),
            durability,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_sync(&self) -> bool {
        self.durability == Durability::Sync
    }

    fn enqueue(&self, kind: RecordKind, body: Vec<u8>, is_sync: bool, written: Option<oneshot::Sender<()>>) {
        let mut backlog = self.lock();
        backlog.bytes += body.len();
        if matches!(kind, RecordKind::Input | RecordKind::Snapshot) {
            backlog.last_snapshot = body.len();
            backlog.since_snapshot = 0;
        } else {
            backlog.since_snapshot += body.len();
        }
        backlog.records.push_back(Waiting {
            record: NewRecord::new(kind, now_ms(), body),
            is_sync,
            written,
        });
    }

    fn push(&self, kind: RecordKind, body: Vec<u8>) {
        self.enqueue(kind, body, self.is_sync(), None);
    }

    /// Pushes a record; something to wait for where it has to be safe before the caller goes on.
    pub(crate) fn push_waiting(
        &self,
        kind: RecordKind,
        body: Vec<u8>,
        must_be_safe: bool,
    ) -> Option<oneshot::Receiver<()>> {
        if !must_be_safe && !self.is_sync() {
            self.enqueue(kind, body, false, None);
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.enqueue(kind, body, true, Some(sender));
        Some(receiver)
    }

    /// Whether the records since the last snapshot outweigh it.
    fn is_snapshot_due(&self) -> bool {
        let backlog = self.lock();
        backlog.since_snapshot > SNAPSHOT_BYTES.max(2 * backlog.last_snapshot)
    }

    fn resume(&self, last_snapshot: usize, since_snapshot: usize) {
        let mut backlog = self.lock();
        backlog.last_snapshot = last_snapshot;
        backlog.since_snapshot = since_snapshot;
    }
}

/// Appends what waits in the queue, one batch at a time, while the run goes on.
pub(crate) struct Journal {
    store: Arc<dyn RunStore>,
    scope: Scope,
    run_id: Arc<str>,
    graph: Arc<str>,
    pub(crate) queue: JournalQueue,
    last_seq: u64,
    status: RunStatus,
    in_flight: Option<InFlight>,
    /// An append failed: nothing may follow it, or the log would have a hole.
    is_broken: bool,
}

type InFlight = (BoxFuture<'static, Result<u64>>, Vec<oneshot::Sender<()>>);

impl Journal {
    pub(crate) fn new(
        store: Arc<dyn RunStore>,
        scope: Scope,
        run_id: Arc<str>,
        graph: Arc<str>,
        durability: Durability,
        last_seq: u64,
    ) -> Self {
        Self {
            store,
            scope,
            run_id,
            graph,
            queue: JournalQueue::new(durability),
            last_seq,
            status: RunStatus::Running,
            in_flight: None,
            is_broken: false,
        }
    }

    /// Appends what waits; ready when nothing does any more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if let Some((append, _)) = &mut self.in_flight {
                let Poll::Ready(written) = append.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                let (_, waiting) = self
                    .in_flight
                    .take()
                    .unwrap_or((Box::pin(async { Ok(0) }), Vec::new()));
                match written {
                    Ok(last) => self.last_seq = last,
                    Err(error) => {
                        self.is_broken = true;
                        return Poll::Ready(Err(error));
                    }
                }
                for written in waiting {
                    let _ = written.send(()); // the task may be gone
                }
            }
            let mut backlog = self.queue.lock();
            if backlog.records.is_empty() {
                return Poll::Ready(Ok(()));
            }
            backlog.bytes = 0;
            let mut batch = Vec::with_capacity(backlog.records.len());
            let (mut is_sync, mut waiting) = (false, Vec::new());
            for record in backlog.records.drain(..) {
                is_sync |= record.is_sync;
                waiting.extend(record.written);
                batch.push(record.record);
            }
            drop(backlog);
            let mut append =
                RunAppend::new(&*self.run_id, &*self.graph, self.last_seq, batch).status(self.status);
            if is_sync {
                append = append.sync();
            }
            let (store, scope) = (Arc::clone(&self.store), self.scope.clone());
            let write = Box::pin(async move { store.append(&scope, append).await });
            self.in_flight = Some((write, waiting));
        }
    }

    /// Ends when everything pushed so far was taken by the store.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Whether so much waits that the run should.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.lock().bytes > WAITING_BYTES
    }

    pub(crate) fn start(&self, fingerprint: &str, state: Value, schedule: &Schedule) -> Result<()> {
        let start = StartBody {
            graph: self.graph.to_string(),
            fingerprint: fingerprint.to_owned(),
        };
        self.queue
            .push(RecordKind::Start, encode(RecordKind::Start, &start)?);
        let input = InputBody {
            state,
            schedule: schedule.clone(),
        };
        self.queue
            .push(RecordKind::Input, encode(RecordKind::Input, &input)?);
        Ok(())
    }

    pub(crate) fn resumed(&self, replay: (usize, usize)) -> Result<()> {
        self.queue.resume(replay.0, replay.1);
        let body = EventBody {
            event: "resumed".into(),
        };
        self.queue
            .push(RecordKind::Event, encode(RecordKind::Event, &body)?);
        Ok(())
    }

    pub(crate) fn task<S: State>(&self, step: u32, node: &str, task: &TaskDone<S>) -> Result<()> {
        let body = TaskOut {
            step,
            node,
            updates: &task.updates,
            goto: match &task.next {
                Next::Goto(targets) => Some(&targets.0),
                Next::Edges => None,
            },
            usage: task.used.as_ref().map(|used| &used.usage),
            spend: task.used.as_ref().map(|used| used.spend),
            stop: task.stop.as_ref().map(Failure::from),
        };
        self.queue
            .push(RecordKind::Task, encode(RecordKind::Task, &body)?);
        Ok(())
    }

    /// What a task used that did not end.
    pub(crate) fn used(&self, node: &str, used: &Used) -> Result<()> {
        let body = UsageBody {
            node: node.to_owned(),
            usage: used.usage.clone(),
            spend: used.spend,
        };
        self.queue
            .push(RecordKind::Usage, encode(RecordKind::Usage, &body)?);
        Ok(())
    }

    pub(crate) fn step(&self, schedule: &Schedule) -> Result<()> {
        let body = StepBody {
            schedule: schedule.clone(),
        };
        self.queue
            .push(RecordKind::Step, encode(RecordKind::Step, &body)?);
        Ok(())
    }

    pub(crate) fn snapshot_if_due<S: State>(
        &self,
        graph: &Graph<S>,
        state: &S,
        schedule: &Schedule,
        used: &Used,
    ) -> Result<()> {
        if !self.queue.is_snapshot_due() {
            return Ok(());
        }
        let body = SnapshotBody {
            graph: self.graph.to_string(),
            fingerprint: graph.fingerprint().to_owned(),
            state: state.save()?,
            schedule: schedule.clone(),
            usage: used.usage.clone(),
            spend: used.spend,
        };
        self.queue
            .push(RecordKind::Snapshot, encode(RecordKind::Snapshot, &body)?);
        Ok(())
    }

    /// The last record; ends when the store has it.
    pub(crate) async fn end(
        &mut self,
        status: RunStatus,
        error: Option<&Error>,
        is_step_void: bool,
    ) -> Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.drain().await?;
        self.status = status;
        let body = EndBody {
            status,
            failure: error.map(Failure::from),
            is_step_void,
        };
        self.queue.push(RecordKind::End, encode(RecordKind::End, &body)?);
        self.drain().await
    }
}

// ---- Reading --------------------------------------------------------------------------------------------------

/// A task that ended.
#[derive(Debug)]
pub(crate) struct TaskDone<S: State> {
    pub(crate) node: NodeIndex,
    pub(crate) updates: Vec<S::Update>,
    pub(crate) next: Next,
    pub(crate) stop: Option<Error>,
    pub(crate) used: Option<Box<Used>>,
}

/// A run as its journal tells it.
pub(crate) struct Replay<S: State> {
    pub(crate) state: S,
    pub(crate) schedule: Schedule,
    /// Tasks of the broken step that had ended.
    pub(crate) finished: Vec<TaskDone<S>>,
    /// What is remembered of those that had not.
    pub(crate) memory: HashMap<String, TaskMemory>,
    pub(crate) used: Used,
    pub(crate) status: RunStatus,
    pub(crate) failure: Option<Failure>,
    pub(crate) last_seq: u64,
    /// Bytes of the last snapshot, and of the records since.
    pub(crate) weight: (usize, usize),
}

/// Reads a run back.
pub(crate) async fn replay<S: State>(
    graph: &Graph<S>,
    store: &dyn RunStore,
    scope: &Scope,
    run_id: &str,
) -> Result<Replay<S>> {
    let not_found = || Error::NotFound {
        what: "run".into(),
        name: run_id.to_owned(),
        hint: "check the id, the scope and the store".into(),
    };
    let head = store.head(scope, run_id).await?.ok_or_else(not_found)?;
    let mut reader = Reader {
        graph,
        replay: Replay {
            state: graph.blank().clone(),
            schedule: Schedule::default(),
            finished: Vec::new(),
            memory: HashMap::new(),
            used: Used::default(),
            status: RunStatus::Running,
            failure: None,
            last_seq: 0,
            weight: (0, 0),
        },
        has_start: false,
    };
    let mut from = head.snapshot_seq.max(1);
    loop {
        let records = store.read(scope, run_id, from, PAGE).await?;
        for record in &records {
            if record.seq != from {
                return Err(damaged(record.seq, format!("record {from} is missing before it")));
            }
            reader.take(record)?;
            from += 1;
        }
        if records.len() < PAGE {
            break;
        }
    }
    if reader.has_start {
        Ok(reader.replay)
    } else {
        Err(not_found())
    }
}

struct Reader<'a, S: State> {
    graph: &'a Graph<S>,
    replay: Replay<S>,
    has_start: bool,
}

impl<S: State> Reader<'_, S> {
    fn take(&mut self, record: &RunRecord) -> Result<()> {
        self.replay.last_seq = record.seq;
        self.replay.weight.1 += record.body.len();
        if !self.has_start && !matches!(record.kind, RecordKind::Start | RecordKind::Snapshot) {
            return Err(damaged(
                record.seq,
                "the journal does not begin with a start or a snapshot",
            ));
        }
        match record.kind {
            RecordKind::Start => {
                let start: StartBody = decode(record)?;
                self.check_graph(&start.graph, &start.fingerprint)?;
                self.has_start = true;
            }
            RecordKind::Input => {
                let input: InputBody = decode(record)?;
                self.replay.state = self.graph.blank().restore(input.state)?;
                self.replay.schedule = self.known(record.seq, input.schedule)?;
                self.replay.weight = (record.body.len(), 0);
            }
            RecordKind::Snapshot => {
                let snapshot: SnapshotBody = decode(record)?;
                self.check_graph(&snapshot.graph, &snapshot.fingerprint)?;
                self.has_start = true;
                self.replay.state = self.graph.blank().restore(snapshot.state)?;
                self.replay.schedule = self.known(record.seq, snapshot.schedule)?;
                self.replay.used = Used {
                    usage: snapshot.usage,
                    spend: snapshot.spend,
                };
                self.replay.weight = (record.body.len(), 0);
            }
            RecordKind::Task => self.take_task(record)?,
            RecordKind::Step => {
                let step: StepBody = decode(record)?;
                let mut finished = std::mem::take(&mut self.replay.finished);
                finished.sort_by_key(|task| task.node);
                let updates = finished
                    .into_iter()
                    .map(|task| (self.graph.name_of(task.node).as_ref(), task.updates))
                    .collect();
                fold(&mut self.replay.state, updates)?;
                self.replay.memory.clear();
                self.replay.schedule = self.known(record.seq, step.schedule)?;
            }
            RecordKind::Memo => {
                let memo: MemoIn = decode(record)?;
                if self.is_current(memo.step) {
                    let memory = self.replay.memory.entry(memo.node).or_default();
                    memory.memos.insert(memo.key, memo.value);
                }
            }
            RecordKind::Intent => {
                let intent: IntentBody = decode(record)?;
                if self.is_current(intent.step) {
                    let memory = self.replay.memory.entry(intent.node).or_default();
                    *memory.intents.entry(intent.call_id).or_default() += 1;
                }
            }
            RecordKind::Effect => {
                let effect: EffectBody = decode(record)?;
                if self.is_current(effect.step) {
                    let memory = self.replay.memory.entry(effect.node).or_default();
                    memory
                        .effects
                        .insert(effect.result.call_id.clone(), effect.result);
                }
            }
            RecordKind::Usage => {
                let body: UsageBody = decode(record)?;
                self.replay.used.usage.add(&body.usage);
                add_spend(&mut self.replay.used.spend, body.spend);
            }
            RecordKind::Event => {
                let _: EventBody = decode(record)?;
                (self.replay.status, self.replay.failure) = (RunStatus::Running, None);
            }
            RecordKind::End => {
                let end: EndBody = decode(record)?;
                (self.replay.status, self.replay.failure) = (end.status, end.failure);
                if end.is_step_void {
                    self.replay.finished.clear();
                    self.replay.memory.clear();
                }
            }
            // This version writes no other kind; a newer one that does marks its records with a newer version.
            other => {
                return Err(damaged(
                    record.seq,
                    format!("a record of kind `{}` does not belong there", other.as_str()),
                ));
            }
        }
        Ok(())
    }

    fn take_task(&mut self, record: &RunRecord) -> Result<()> {
        let task: TaskIn<S::Update> = decode(record)?;
        if let Some(usage) = &task.usage {
            self.replay.used.usage.add(usage);
        }
        if let Some(spend) = task.spend {
            add_spend(&mut self.replay.used.spend, spend);
        }
        if !self.is_current(task.step) {
            return Err(damaged(record.seq, "a task of another step stands there"));
        }
        let Some(node) = self.graph.index_of(&task.node) else {
            return Err(damaged(
                record.seq,
                format!("the graph has no node `{}`", task.node),
            ));
        };
        self.replay.finished.push(TaskDone {
            node,
            updates: task.updates,
            next: match task.goto {
                Some(names) => Next::Goto(Targets::from(names)),
                None => Next::Edges,
            },
            stop: None,
            used: None, // counted above
        });
        Ok(())
    }

    fn is_current(&self, step: u32) -> bool {
        step == self.replay.schedule.step + 1
    }

    fn known(&self, seq: u64, schedule: Schedule) -> Result<Schedule> {
        if schedule
            .ready
            .iter()
            .all(|node| (*node as usize) < self.graph.len())
        {
            Ok(schedule)
        } else {
            Err(damaged(seq, "it names a node the graph does not have"))
        }
    }

    fn check_graph(&self, name: &str, fingerprint: &str) -> Result<()> {
        if fingerprint == self.graph.fingerprint() {
            return Ok(());
        }
        Err(Error::Unsupported {
            who: format!("the graph `{}`", self.graph.name()),
            what: format!("a run of the graph `{name}` with other nodes, edges or keys"),
            hint: "resume it with the graph that started it".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{EndBody, decode, encode};
    use stepwell_core::{
        Error,
        store::{RecordKind, RunRecord, RunStatus},
    };

    fn record(kind: RecordKind, body: Vec<u8>) -> RunRecord {
        RunRecord::new(1, kind, 0, body.into())
    }

    #[test]
    fn a_changed_byte_a_wrong_kind_and_a_newer_version_are_refused() {
        let end = EndBody {
            status: RunStatus::Done,
            failure: None,
            is_step_void: false,
        };
        let good = encode(RecordKind::End, &end).expect("plain data");
        decode::<EndBody>(&record(RecordKind::End, good.clone())).expect("reads back");
        for at in 1..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let found = decode::<EndBody>(&record(RecordKind::End, bad));
            assert!(matches!(found, Err(Error::Damaged { .. })), "byte {at}");
        }
        let found = decode::<EndBody>(&record(RecordKind::Step, good.clone()));
        assert!(matches!(found, Err(Error::Damaged { .. })), "another kind");
        let mut newer = good.clone();
        newer[0] = 2;
        let found = decode::<EndBody>(&record(RecordKind::End, newer));
        assert!(matches!(
            found,
            Err(Error::UnknownVersion {
                found: 2,
                known: 1,
                ..
            })
        ));
        for cut in [0, 1, 5] {
            assert!(decode::<EndBody>(&record(RecordKind::End, good[..cut].to_vec())).is_err());
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let nested = |levels: usize| {
            (0..levels).fold(serde_json::json!("[\"{"), |inner, _| serde_json::json!([inner]))
        };
        let bytes = encode(RecordKind::Memo, &nested(120)).expect("not too deep");
        decode::<serde_json::Value>(&record(RecordKind::Memo, bytes)).expect("reads back");
        assert!(matches!(
            encode(RecordKind::Memo, &nested(121)),
            Err(Error::LimitExceeded { .. })
        ));
    }

    #[test]
    fn a_record_with_a_field_of_the_future_is_refused_and_not_half_read() {
        let body = serde_json::json!({ "status": "done", "colour": "blue" });
        let bytes = encode(RecordKind::End, &body).expect("plain data");
        assert!(decode::<EndBody>(&record(RecordKind::End, bytes)).is_err());
    }
}
