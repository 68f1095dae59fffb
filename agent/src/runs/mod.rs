//! [`Runs`]: runs that go by themselves, outlive whoever watches them, and are watched, cancelled and drained by id.

mod log;
mod start;
mod watch;

pub(crate) use log::EventLog;
pub use start::Startable;
pub(crate) use start::{Prepared, Sealed};
pub use watch::{Watch, WatchItem};

use crate::{
    EventKind, Failure, RunEvent,
    event::{EventQueue, KeptReader},
    journal::now_ms,
};
use serde::Serialize;
use std::{
    collections::{HashMap, VecDeque},
    fmt::{self, Debug},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use stepwell_core::{
    Cancel, Error, Result, Scope,
    store::{RunStatus, RunStore},
};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};

/// Bounds on the runs of one [`Runs`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunsLimits {
    /// Runs that may go at once; 10,000.
    pub running: usize,
    /// Events of a run that are in memory; 4,096.
    pub events: usize,
    /// Bytes of them, counted as JSON; 4 MiB. The newest is always there, however large.
    pub event_bytes: usize,
    /// Runs that have ended and can still be watched; 256.
    pub ended: usize,
    /// How long they can be; an hour.
    pub ended_time: Duration,
}

impl Default for RunsLimits {
    fn default() -> Self {
        Self {
            running: 10_000,
            events: 4_096,
            event_bytes: 4 << 20,
            ended: 256,
            ended_time: Duration::from_hours(1),
        }
    }
}

/// A run at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RunInfo {
    /// The run.
    pub run_id: String,
    /// Its graph or agent.
    pub graph: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The number of the oldest event in memory; 0 for none yet.
    pub first_seq: u64,
    /// The number of the newest.
    pub last_seq: u64,
    /// When it was started here, milliseconds since 1970.
    pub started_ms: u64,
}

/// Tenant and id: who of the tenant started it does not matter.
type Key = (Arc<str>, Arc<str>);

fn key(scope: &Scope, run_id: &str) -> Key {
    (scope.tenant().into(), run_id.into())
}

struct Entry {
    scope: Scope,
    log: Arc<EventLog>,
    graph: Arc<str>,
    cancel: Cancel,
    drain: Cancel,
    abort: AbortHandle,
    /// Where its events are kept, if they are.
    kept: Option<Arc<dyn RunStore>>,
    started_ms: u64,
    /// Which start of this id it is.
    generation: u64,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// In the order they ended.
    ended: VecDeque<(Instant, Key, u64)>,
    generation: u64,
}

struct Hub {
    limits: RunsLimits,
    table: Mutex<Table>,
    running: AtomicUsize,
    has_ended: Notify,
}

/// Runs that go by themselves. Each is a task of the runtime: it goes on whether or not it is watched, and is found by its
/// tenant and its id. Clones are the same; when the last one and the last [`RunHandle`] are dropped, the runs that still
/// go are dropped with them, as a crash would.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
/// use futures::StreamExt;
/// use stepwell_agent::{EventKind, Runs, WatchItem};
/// use stepwell_core::Scope;
/// # use stepwell_agent::{Channels, ChannelsUpdate, END, GraphBuilder, Reducer, START, node_sync};
/// # let state = Channels::new().slot("n", Reducer::Last);
/// # let graph = GraphBuilder::new(state.clone())
/// #     .node("count", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("n", 1))))
/// #     .edge(START, "count").edge("count", END)
/// #     .build()?;
/// let runs = Runs::new();
/// let handle = runs.start(graph.run(state).run_id("r"))?;
/// let mut watch = runs.watch(&Scope::local(), "r", 1)?;
/// while let Some(item) = watch.next().await {
///     match item {
///         WatchItem::Event(event) => println!("{}: {:?}", event.seq, event.kind),
///         WatchItem::Gap { from, to } => println!("{from} to {to} are gone"),
///         _ => {}
///     }
/// }
/// assert_eq!(handle.result().await?.state.get("n")?, 1);
/// # Ok::<(), stepwell_core::Error>(()) }).expect("it runs");
/// ```
#[derive(Clone)]
pub struct Runs(Arc<Hub>);

impl Default for Runs {
    fn default() -> Self {
        Self::new()
    }
}

impl Runs {
    /// None yet, with the default bounds.
    pub fn new() -> Self {
        Self::with_limits(RunsLimits::default())
    }

    /// None yet, with these bounds.
    pub fn with_limits(limits: RunsLimits) -> Self {
        Self(Arc::new(Hub {
            limits,
            table: Mutex::default(),
            running: AtomicUsize::new(0),
            has_ended: Notify::new(),
        }))
    }

    /// Starts a run of a graph or an agent, or lets one go on. Must be called in a tokio runtime; the run is a task of it.
    /// Whoever watched a run of this id here before it paused goes on with the next number.
    ///
    /// # Errors
    /// [`Error::Conflict`] where a run of this id goes already, or one begins under the id of another;
    /// [`Error::LimitExceeded`] where too many go; [`Error::Unsupported`] outside of a runtime; what the run is refused for
    /// before it begins.
    pub fn start<R: Startable>(&self, run: R) -> Result<RunHandle<R>> {
        let Prepared {
            run_id,
            scope,
            graph,
            is_new,
            cancel,
            drain,
            kept,
            work,
        } = run.prepare()?;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(Error::Unsupported {
                who: "this thread".into(),
                what: "a run that goes by itself".into(),
                hint: "start it inside of a tokio runtime".into(),
            });
        };
        let hub = &*self.0;
        let key = key(&scope, &run_id);
        let mut table = hub.lock();
        table.forget_old(&hub.limits);
        let taken = || Error::Conflict {
            what: format!("run `{}`", key.1),
        };
        let known = table.entries.get(&key);
        if known.is_some_and(|entry| is_new || entry.log.ended().is_none()) {
            return Err(taken());
        }
        let most = hub.limits.running;
        let may_go = hub
            .running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running < most).then_some(running + 1)
            });
        if may_go.is_err() {
            return Err(Error::LimitExceeded {
                what: "the runs that go at once".into(),
                limit: most.to_string(),
            });
        }
        let log = match known {
            Some(entry) => {
                entry.log.reopen();
                Arc::clone(&entry.log)
            }
            None => Arc::new(EventLog::new(hub.limits.events, hub.limits.event_bytes)),
        };
        table.generation += 1;
        let going = Going {
            hub: Arc::downgrade(&self.0),
            log: Arc::clone(&log),
            key: key.clone(),
            generation: table.generation,
        };
        let work = work(EventQueue::to_log(Arc::clone(&log)));
        let task = runtime.spawn(async move {
            let _going = going;
            work.await
        });
        let entry = Entry {
            scope: scope.clone(),
            log,
            graph,
            cancel: cancel.clone(),
            drain: drain.clone(),
            abort: task.abort_handle(),
            kept,
            started_ms: now_ms(),
            generation: table.generation,
        };
        table.entries.insert(key.clone(), entry);
        drop(table);
        Ok(RunHandle {
            runs: self.clone(),
            scope,
            run_id: key.1,
            cancel,
            drain,
            task,
        })
    }

    /// The events of a run from this number on; 1 for the first. See [`Watch`].
    ///
    /// # Errors
    /// [`Error::NotFound`] where no run of this id was started here, or it ended too long ago. Its kept events are then in
    /// [`crate::Graph::events`].
    pub fn watch(&self, scope: &Scope, run_id: &str, from_seq: u64) -> Result<Watch> {
        self.with(scope, run_id, |key, entry| {
            let kept = entry
                .kept
                .as_ref()
                .map(|store| KeptReader::new(Arc::clone(store), entry.scope.clone(), Arc::clone(&key.1)));
            Watch::new(Arc::clone(&entry.log), from_seq, kept)
        })
    }

    /// Stops a run in good order: its history is closed, and it can be resumed. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no run of this id.
    pub fn cancel(&self, scope: &Scope, run_id: &str) -> Result<()> {
        self.with(scope, run_id, |_, entry| entry.cancel.cancel())
    }

    /// Pauses a run at the end of the step that is under way.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no run of this id.
    pub fn drain(&self, scope: &Scope, run_id: &str) -> Result<()> {
        self.with(scope, run_id, |_, entry| entry.drain.cancel())
    }

    /// Pauses every run of every tenant at the end of its step, as before a program ends; then await [`Runs::idle`].
    pub fn drain_all(&self) {
        for entry in self.0.lock().entries.values() {
            entry.drain.cancel();
        }
    }

    /// Stops every run of every tenant in good order.
    pub fn cancel_all(&self) {
        for entry in self.0.lock().entries.values() {
            entry.cancel.cancel();
        }
    }

    /// Ends when no run goes.
    pub async fn idle(&self) {
        loop {
            let ended = self.0.has_ended.notified();
            if self.0.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// The runs of a tenant, the last started first: those that go, and those that ended lately.
    pub fn list(&self, scope: &Scope) -> Vec<RunInfo> {
        let mut table = self.0.lock();
        table.forget_old(&self.0.limits);
        let own = table
            .entries
            .iter()
            .filter(|((owner, _), _)| **owner == *scope.tenant());
        let mut list: Vec<(u64, RunInfo)> = own
            .map(|((_, run_id), entry)| {
                let (status, first_seq, last_seq) = entry.log.glance();
                let info = RunInfo {
                    run_id: run_id.to_string(),
                    graph: entry.graph.to_string(),
                    status,
                    first_seq,
                    last_seq,
                    started_ms: entry.started_ms,
                };
                (entry.generation, info)
            })
            .collect();
        list.sort_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        list.into_iter().map(|(_, info)| info).collect()
    }

    /// Forgets a run that has ended; its journal stays. Whether there was one: a run that goes is not forgotten.
    pub fn forget(&self, scope: &Scope, run_id: &str) -> bool {
        let mut table = self.0.lock();
        let key = key(scope, run_id);
        match table.entries.get(&key) {
            Some(entry) if entry.log.ended().is_some() => table.entries.remove(&key).is_some(),
            _ => false,
        }
    }

    fn with<T>(&self, scope: &Scope, run_id: &str, look: impl FnOnce(&Key, &Entry) -> T) -> Result<T> {
        let mut table = self.0.lock();
        table.forget_old(&self.0.limits);
        let key = key(scope, run_id);
        match table.entries.get(&key) {
            Some(entry) => Ok(look(&key, entry)),
            None => Err(Error::NotFound {
                what: "run".into(),
                name: run_id.to_owned(),
                hint: "it was not started here, or ended too long ago; look into its journal".into(),
            }),
        }
    }
}

impl Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs")
            .field("running", &self.0.running.load(Ordering::SeqCst))
            .finish_non_exhaustive()
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for entry in self.lock().entries.values() {
            entry.abort.abort();
        }
    }
}

impl Table {
    /// Forgets runs that ended too long ago, or more than may be kept.
    fn forget_old(&mut self, limits: &RunsLimits) {
        while let Some((since, key, generation)) = self.ended.front() {
            let is_old = since.elapsed() >= limits.ended_time;
            if !is_old && self.ended.len() <= limits.ended {
                break;
            }
            // One that was taken up again goes on, and is in the list anew once it has ended.
            let is_it = |entry: &Entry| entry.generation == *generation;
            if self.entries.get(key).is_some_and(is_it) {
                self.entries.remove(key);
            }
            self.ended.pop_front();
        }
    }
}

/// A run that goes: dropped with its task, however that ends.
struct Going {
    hub: Weak<Hub>,
    log: Arc<EventLog>,
    key: Key,
    generation: u64,
}

impl Drop for Going {
    fn drop(&mut self) {
        if self.log.ended().is_none() {
            // Its task was dropped or panicked: whoever watches is told.
            let (.., last) = self.log.glance();
            self.log.push(RunEvent {
                seq: last + 1,
                run_id: Arc::clone(&self.key.1),
                path: Arc::from([]),
                step: 0,
                node: None,
                send: None,
                kind: EventKind::RunEnd {
                    status: RunStatus::Failed,
                    pause: None,
                    failure: Some(Failure::from(&lost())),
                    questions: Vec::new(),
                    values: None,
                },
            });
        }
        let Some(hub) = self.hub.upgrade() else { return };
        let mut table = hub.lock();
        let ended = (Instant::now(), self.key.clone(), self.generation);
        table.ended.push_back(ended);
        table.forget_old(&hub.limits);
        drop(table);
        hub.running.fetch_sub(1, Ordering::SeqCst);
        hub.has_ended.notify_waiters();
    }
}

fn lost() -> Error {
    Error::internal("the task of the run was dropped before its end; resume it from its journal")
}

/// A run that was started. Dropping the handle leaves the run alone.
#[must_use = "the run goes on without it, and its result is lost"]
pub struct RunHandle<R: Startable> {
    runs: Runs,
    scope: Scope,
    run_id: Arc<str>,
    cancel: Cancel,
    drain: Cancel,
    task: JoinHandle<R::Ended>,
}

impl<R: Startable> RunHandle<R> {
    /// The run.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Whose run.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Its events from this number on; see [`Runs::watch`].
    ///
    /// # Errors
    /// [`Error::NotFound`] where it ended too long ago.
    pub fn watch(&self, from_seq: u64) -> Result<Watch> {
        self.runs.watch(&self.scope, &self.run_id, from_seq)
    }

    /// Stops it in good order.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Pauses it at the end of the step that is under way.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Its result, as awaiting the run itself gives it.
    ///
    /// # Errors
    /// Why the run did not get to its end or a pause; [`Error::Internal`] where its task was dropped.
    pub async fn result(self) -> Result<R::Ended> {
        R::into_result(self.outcome().await?)
    }

    /// How it ended, also where it failed: what had finished is there.
    ///
    /// # Errors
    /// [`Error::Internal`] where its task was dropped with its runtime.
    pub async fn outcome(self) -> Result<R::Ended> {
        self.task.await.map_err(|_| lost())
    }
}

impl<R: Startable> Debug for RunHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle")
            .field("run_id", &self.run_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
