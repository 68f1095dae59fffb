//! [`EventQueue`]: where the events of a run get their numbers, and where they go from there: to the stream that drives the
//! run, to the log of a run that goes by itself, and into the journal where they are kept.

use super::{EventKind, RunEvent, keep::Keeper};
use crate::runs::EventLog;
use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

/// Events that may wait for the stream before those that make them pause.
const ROOM: usize = 256;
/// Events that may wait for the stream at all; tool progress and custom events beyond are left out.
const MOST: usize = 16_384;

/// Who watches.
enum Watcher {
    /// The stream that polls the run: both take turns in one task, so nothing is woken.
    Stream(VecDeque<RunEvent>),
    /// Whoever likes to, from other tasks.
    Log(Arc<EventLog>),
    /// Nobody: the events are only kept.
    Nobody,
}

struct Inner {
    /// The number of the last event.
    last: u64,
    watcher: Watcher,
    keeper: Option<Keeper>,
}

impl Inner {
    fn deliver(&mut self, event: RunEvent) {
        match &mut self.watcher {
            Watcher::Stream(events) => events.push_back(event),
            Watcher::Log(log) => log.push(event),
            Watcher::Nobody => {}
        }
    }
}

/// Events on their way to whoever watches. Clones are one queue.
#[derive(Clone)]
pub(crate) struct EventQueue(Arc<Mutex<Inner>>);

impl EventQueue {
    fn new(watcher: Watcher) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            last: 0,
            watcher,
            keeper: None,
        })))
    }

    pub(crate) fn to_stream() -> Self {
        Self::new(Watcher::Stream(VecDeque::new()))
    }

    pub(crate) fn to_log(log: Arc<EventLog>) -> Self {
        Self::new(Watcher::Log(log))
    }

    pub(crate) fn to_nobody() -> Self {
        Self::new(Watcher::Nobody)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on after this number, and keeps what is given a keeper for.
    pub(crate) fn begin(&self, last: u64, keeper: Option<Keeper>) {
        let mut inner = self.lock();
        (inner.last, inner.keeper) = (last, keeper);
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// Gives an event its number and hands it on; its place is filled in by `event`.
    pub(crate) fn push(&self, event: impl FnOnce(u64) -> RunEvent) {
        let mut inner = self.lock();
        let event = event(inner.last + 1);
        if let Watcher::Stream(waiting) = &inner.watcher
            && waiting.len() >= MOST
            && matches!(
                event.kind,
                EventKind::ToolProgress { .. } | EventKind::Custom { .. }
            )
        {
            return;
        }
        inner.last = event.seq;
        if let Some(keeper) = &mut inner.keeper {
            keeper.take(&event);
        }
        inner.deliver(event);
    }

    /// Keeps the last event, before the journal is closed.
    pub(crate) fn keep_end(&self, end: &RunEvent) {
        if let Some(mut keeper) = self.lock().keeper.take() {
            keeper.take(end);
            keeper.flush();
        }
    }

    /// Hands the last event on.
    pub(crate) fn end(&self, end: RunEvent) {
        let mut inner = self.lock();
        inner.last = end.seq;
        inner.deliver(end);
    }

    /// Ends when the watcher has taken enough for more to come. Only a stream is waited for: it and the run take turns.
    pub(crate) async fn room(&self) {
        let waiting = match &self.lock().watcher {
            Watcher::Stream(events) => Some(events.len()),
            _ => None,
        };
        match waiting {
            Some(waiting) if waiting < ROOM => return,
            Some(_) => {}
            // A model that has everything ready would keep its neighbours waiting.
            None => return tokio::task::coop::consume_budget().await,
        }
        let mut has_paused = false;
        // The watcher takes all that waits before the run is polled again: one pause is enough.
        poll_fn(|cx| {
            if std::mem::replace(&mut has_paused, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn pop(&self) -> Option<RunEvent> {
        match &mut self.lock().watcher {
            Watcher::Stream(events) => events.pop_front(),
            _ => None,
        }
    }
}
