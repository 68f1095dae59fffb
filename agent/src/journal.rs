//! The run's log. Everything durable is here: what is recorded (`record`), how it is written beside the run, and how a
//! run is read back (`replay`).
//!
//! A step costs what it changed: its tasks' updates and the schedule that follows. Once the records since the last
//! snapshot outweigh it, the whole state is written as another. A run inside a task writes into the same log: each of its
//! records is wrapped into one of the run around it.

mod outline;
mod record;
mod replay;
mod stored;

pub(crate) use outline::{Outline, is_place};
pub(crate) use record::{
    AnswerBody, ChildBody, ChildRecord, EditBody, EditWrite, EffectBody, EndBody, EventBody, ForkBody,
    InputBody, IntentBody, InterruptBody, KeptBody, MemoBody, SnapshotBody, StartBody, StepBody, TaskIn,
    TaskOut, TaskRef, TaskSeen, UsageBody, damaged, encode, open, read,
};
pub(crate) use replay::{Reader, Replay, refused, renumber};
pub(crate) use stored::{Stored, not_found, replay};

use crate::{RunContext, State, command::Next, context::Used, step::TaskId};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;
use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};
use stepwell_core::{
    Error, Result, Scope,
    store::{NewRecord, RecordKind, RunAppend, RunRecord, RunStatus, RunStore},
};
use tokio::sync::oneshot;

/// A snapshot is not worth it below so many bytes of records.
const SNAPSHOT_BYTES: usize = 512 << 10;
/// Records of one append: stores take no more than ten thousand.
const BATCH_RECORDS: usize = 8_192;
/// Bytes that may wait to be appended before a step waits for them.
const WAITING_BYTES: usize = 4 << 20;

/// A task that ended.
#[derive(Debug)]
pub(crate) struct TaskDone<S: State> {
    pub(crate) id: TaskId,
    pub(crate) updates: Vec<S::Update>,
    pub(crate) next: Next,
    pub(crate) stop: Option<Error>,
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A panic of the store is an error of it; the panic's words may quote anything and are left out.
pub(crate) async fn unharmed<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let ended = AssertUnwindSafe(call).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(Error::host("the store of the run panicked")))
}

/// When records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Saving {
    /// Each step is safe before the next begins.
    Sync,
    /// Beside the steps that follow.
    #[default]
    Async,
    /// When the run ends, pauses or fails; and before a call that must not happen twice.
    AtExit,
}

#[derive(Default)]
struct Backlog {
    records: Vec<NewRecord>,
    /// Whom to tell once so many of the records are written.
    waiting: Vec<(usize, oneshot::Sender<()>)>,
    bytes: usize,
    since_snapshot: usize,
    last_snapshot: usize,
    /// Something waits that must be written now, whatever the saving.
    is_urgent: bool,
}

impl Backlog {
    /// Takes the records of one append; whether it has to be safe when it ends, and whom to tell then.
    fn take_batch(&mut self) -> (Vec<NewRecord>, bool, Vec<oneshot::Sender<()>>) {
        let is_urgent = self.is_urgent;
        if self.records.len() <= BATCH_RECORDS {
            (self.bytes, self.is_urgent) = (0, false);
            let waiting = std::mem::take(&mut self.waiting).into_iter();
            let waiting = waiting.map(|(_, written)| written).collect();
            return (std::mem::take(&mut self.records), is_urgent, waiting);
        }
        let rest = self.records.split_off(BATCH_RECORDS);
        let batch = std::mem::replace(&mut self.records, rest);
        self.bytes -= batch.iter().map(|record| record.body.len()).sum::<usize>();
        let done = self.waiting.extract_if(.., |(count, _)| *count <= BATCH_RECORDS);
        let done = done.map(|(_, written)| written).collect();
        for (count, _) in &mut self.waiting {
            *count -= BATCH_RECORDS;
        }
        (batch, is_urgent, done)
    }

    fn is_snapshot_due(&self) -> bool {
        self.since_snapshot > SNAPSHOT_BYTES.max(2 * self.last_snapshot)
    }
}

/// How a record that was pushed stands.
pub(crate) struct Pushed {
    /// To wait for where it has to be safe before the caller goes on.
    pub(crate) written: Option<oneshot::Receiver<()>>,
    /// The records since the last snapshot outweigh it. Runs inside a task leave that to the one around them.
    pub(crate) is_snapshot_due: bool,
    /// So much waits that the run should.
    pub(crate) is_full: bool,
}

/// The task a run is inside of, and which run of it.
struct Outer {
    queue: JournalQueue,
    task: TaskRef,
    key: String,
}

/// Records on their way to the store. Tasks push; the runner appends, so that a dropped task never leaves an append
/// half known.
#[derive(Clone)]
pub(crate) struct JournalQueue {
    backlog: Arc<Mutex<Backlog>>,
    saving: Saving,
    outer: Option<Arc<Outer>>,
}

impl JournalQueue {
    pub(crate) fn new(saving: Saving) -> Self {
        Self {
            backlog: Arc::default(),
            saving,
            outer: None,
        }
    }

    /// The queue of a run inside a task: its records go into this one.
    pub(crate) fn inside(&self, task: TaskRef, key: &str) -> Self {
        Self {
            backlog: Arc::clone(&self.backlog),
            saving: self.saving,
            outer: Some(Arc::new(Outer {
                queue: self.clone(),
                task,
                key: key.to_owned(),
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_sync(&self) -> bool {
        self.saving == Saving::Sync
    }

    /// The record as the log has it.
    fn bytes(&self, kind: RecordKind, body: &impl Serialize) -> Result<(RecordKind, Bytes)> {
        let Some(mut outer) = self.outer.as_ref() else {
            return Ok((kind, encode(kind, body)?));
        };
        let mut text = record::wrap(&outer.task, &outer.key, kind, &record::text(body)?)?;
        while let Some(further) = outer.queue.outer.as_ref() {
            text = record::wrap(&further.task, &further.key, RecordKind::Child, &text)?;
            outer = further;
        }
        Ok((RecordKind::Child, record::headed(RecordKind::Child, &text)?))
    }

    fn enqueue(
        &self,
        (kind, body): (RecordKind, Bytes),
        is_sync: bool,
        written: Option<oneshot::Sender<()>>,
    ) -> MutexGuard<'_, Backlog> {
        let mut backlog = self.lock();
        let at_ms = now_ms(); // under the lock: two tasks at once do not swap their times
        backlog.bytes += body.len();
        backlog.is_urgent |= is_sync;
        if matches!(kind, RecordKind::Input | RecordKind::Snapshot) {
            backlog.last_snapshot = body.len();
            backlog.since_snapshot = 0;
        } else if kind != RecordKind::Event {
            // What is only told changes no state that a snapshot could spare reading.
            backlog.since_snapshot += body.len();
        }
        backlog.records.push(NewRecord::new(kind, at_ms, body));
        if let Some(written) = written {
            let count = backlog.records.len();
            backlog.waiting.push((count, written));
        }
        backlog
    }

    pub(crate) fn push(&self, kind: RecordKind, body: &impl Serialize) -> Result<()> {
        let bytes = self.bytes(kind, body)?;
        drop(self.enqueue(bytes, self.is_sync(), None));
        Ok(())
    }

    /// Pushes an event for whoever watches later: nothing waits for it, whatever the saving.
    pub(crate) fn push_event(&self, body: &impl Serialize) -> Result<()> {
        let bytes = self.bytes(RecordKind::Event, body)?;
        drop(self.enqueue(bytes, false, None));
        Ok(())
    }

    /// Pushes a record that is in bytes already.
    pub(crate) fn push_record(&self, record: RunRecord) {
        drop(self.enqueue((record.kind, record.body), self.is_sync(), None));
    }

    /// Pushes a record; something to wait for where it has to be safe before the caller goes on.
    pub(crate) fn push_waiting(
        &self,
        kind: RecordKind,
        body: &impl Serialize,
        must_be_safe: bool,
    ) -> Result<Pushed> {
        let bytes = self.bytes(kind, body)?;
        let is_sync = must_be_safe || self.is_sync();
        let (sender, written) = is_sync.then(oneshot::channel).unzip();
        let backlog = self.enqueue(bytes, is_sync, sender);
        Ok(Pushed {
            written,
            is_snapshot_due: self.outer.is_none() && backlog.is_snapshot_due(),
            is_full: self.saving != Saving::AtExit && backlog.bytes > WAITING_BYTES,
        })
    }

    /// Keeps the state of a persistent graph under its place, beside the records of the outermost run.
    pub(crate) fn keep(&self, place: &str, body: &KeptBody) -> Result<()> {
        let Some(mut outer) = self.outer.as_ref() else {
            return Ok(());
        };
        while let Some(further) = outer.queue.outer.as_ref() {
            outer = further;
        }
        let text = record::wrap(&outer.task, place, RecordKind::Snapshot, &record::text(body)?)?;
        let bytes = record::headed(RecordKind::Child, &text)?;
        drop(self.enqueue((RecordKind::Child, bytes), self.is_sync(), None));
        Ok(())
    }

    pub(crate) fn task<S: State>(
        &self,
        cx: &RunContext,
        done: &TaskDone<S>,
        used: Option<&Used>,
    ) -> Result<()> {
        let body = TaskOut {
            task: TaskSeen {
                step: cx.step,
                node: &cx.node,
                send: done.id.send,
            },
            updates: &done.updates,
            goto: match &done.next {
                Next::Goto(targets) => Some(targets),
                _ => None,
            },
            leave: match &done.next {
                Next::Leave(targets) => Some(targets),
                _ => None,
            },
            used,
            stop: done.stop.as_ref().map(Into::into),
        };
        self.push(RecordKind::Task, &body)
    }

    /// What the log weighs that a run was read back from: its last snapshot, and the records since.
    pub(crate) fn weigh(&self, (last_snapshot, since_snapshot): (usize, usize)) {
        let mut backlog = self.lock();
        backlog.last_snapshot = last_snapshot;
        backlog.since_snapshot = since_snapshot;
    }
}

/// Appends what waits in the queue, one batch at a time, while the run goes on.
pub(crate) struct Journal {
    store: Arc<dyn RunStore>,
    scope: Arc<Scope>,
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
        saving: Saving,
        last_seq: u64,
    ) -> Self {
        Self {
            store,
            scope: Arc::new(scope),
            run_id,
            graph,
            queue: JournalQueue::new(saving),
            last_seq,
            status: RunStatus::Running,
            in_flight: None,
            is_broken: false,
        }
    }

    /// Appends what waits; ready when nothing does any more that has to be written now.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.queue.saving == Saving::AtExit && self.in_flight.is_none() && !self.queue.lock().is_urgent {
            return Poll::Ready(Ok(()));
        }
        self.poll_all(cx)
    }

    /// Appends what waits; ready when nothing does any more.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if let Some((append, _)) = &mut self.in_flight {
                let Poll::Ready(written) = append.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                let waiting = self.in_flight.take().map(|(_, waiting)| waiting);
                match written {
                    Ok(last) => self.last_seq = last,
                    Err(error) => {
                        self.is_broken = true;
                        return Poll::Ready(Err(error));
                    }
                }
                for written in waiting.into_iter().flatten() {
                    let _ = written.send(()); // the task may be gone
                }
            }
            let mut backlog = self.queue.lock();
            if backlog.records.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (batch, is_sync, waiting) = backlog.take_batch();
            drop(backlog);
            // The store has the graph's name from the first record on.
            let graph = if self.last_seq == 0 { &*self.graph } else { "" };
            let mut append =
                RunAppend::new(Arc::clone(&self.run_id), graph, self.last_seq, batch).status(self.status);
            if is_sync {
                append = append.sync();
            }
            let (store, scope) = (Arc::clone(&self.store), Arc::clone(&self.scope));
            let write = Box::pin(async move { unharmed(store.append(&scope, append)).await });
            self.in_flight = Some((write, waiting));
        }
    }

    /// Ends when everything pushed so far was taken by the store.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_all(cx)).await
    }

    /// The last record; ends when it would survive a power cut, for a program may exit right after its run.
    pub(crate) async fn end(&mut self, end: &EndBody<'_>) -> Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.drain().await?;
        self.status = end.status;
        let bytes = self.queue.bytes(RecordKind::End, end)?;
        drop(self.queue.enqueue(bytes, true, None));
        self.drain().await
    }
}
