//! The run's log. Everything durable is here: what is recorded (`record`), how it is written beside the run, and how a
//! run is read back (`replay`).
//!
//! A step costs what it changed: its tasks' updates and the schedule that follows. Once the records since the last
//! snapshot outweigh it, the whole state is written as another.

mod record;
mod replay;

pub(crate) use record::{EffectBody, IntentBody, MemoBody, encode};
pub(crate) use replay::{Replay, replay};

use crate::{
    Graph, State,
    command::Next,
    context::Used,
    event::Failure,
    step::{NodeIndex, Schedule},
};
use futures::future::BoxFuture;
use record::{EndBody, EventBody, InputBody, SnapshotBody, StartBody, StepBody, TaskOut, UsageBody};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};
use stepwell_core::{
    Error, Result, Scope,
    store::{Durability, NewRecord, RecordKind, RunAppend, RunStatus, RunStore},
};
use tokio::sync::oneshot;

/// A snapshot is not worth it below so many bytes of records.
const SNAPSHOT_BYTES: usize = 512 << 10;
/// Bytes that may wait to be appended before a step waits for them.
const WAITING_BYTES: usize = 4 << 20;

/// A task that ended.
#[derive(Debug)]
pub(crate) struct TaskDone<S: State> {
    pub(crate) node: NodeIndex,
    pub(crate) updates: Vec<S::Update>,
    pub(crate) next: Next,
    pub(crate) stop: Option<Error>,
    pub(crate) used: Option<Box<Used>>,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

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

    /// The last record; ends when it would survive a power cut, for a program may exit right after its run.
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
        self.queue
            .enqueue(RecordKind::End, encode(RecordKind::End, &body)?, true, None);
        self.drain().await
    }
}
