//! [`EventLog`]: the last events of one run, for any number of watchers. A watcher is a place in it and nothing more, so a
//! slow one costs nothing and stops nobody.

use crate::{EventKind, RunEvent};
use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};
use stepwell_core::store::RunStatus;

/// What a log gives to a place in it.
pub(crate) enum Found {
    /// The event of this number, or the first behind it.
    Event(Arc<RunEvent>),
    /// Events from the number up to this one were there, and are here no more.
    Missing(u64),
    /// The run has ended, and nothing comes behind the number.
    Ended,
}

struct Inner {
    events: VecDeque<(Arc<RunEvent>, usize)>,
    bytes: usize,
    /// The number of the last event that is not here any more, or never was.
    missing_to: u64,
    last: u64,
    /// Where the run stands; `Running` while it goes.
    status: RunStatus,
    ended: Option<Instant>,
    wakers: HashMap<u64, Waker>,
    next_watcher: u64,
}

/// The last events of one run.
pub(crate) struct EventLog {
    most_events: usize,
    most_bytes: usize,
    inner: Mutex<Inner>,
}

impl EventLog {
    pub(crate) fn new(most_events: usize, most_bytes: usize) -> Self {
        Self {
            most_events: most_events.max(1),
            most_bytes,
            inner: Mutex::new(Inner {
                events: VecDeque::new(),
                bytes: 0,
                missing_to: 0,
                last: 0,
                status: RunStatus::Running,
                ended: None,
                wakers: HashMap::new(),
                next_watcher: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event in. The oldest make room for it; the newest is always there.
    pub(crate) fn push(&self, event: RunEvent) {
        let weight = event.weight();
        let mut inner = self.lock();
        if let EventKind::RunEnd { status, .. } = &event.kind
            && event.path.is_empty()
        {
            inner.status = *status;
            inner.ended = Some(Instant::now());
        }
        // A run that was refused, or had nothing to do, says its last event again.
        if event.seq > inner.last {
            if inner.last == 0 {
                inner.missing_to = event.seq - 1;
            }
            inner.last = event.seq;
            inner.bytes += weight;
            inner.events.push_back((Arc::new(event), weight));
            while inner.events.len() > self.most_events
                || inner.bytes > self.most_bytes && inner.events.len() > 1
            {
                let Some((dropped, weight)) = inner.events.pop_front() else {
                    break;
                };
                inner.bytes -= weight;
                inner.missing_to = dropped.seq;
            }
        }
        wake(inner);
    }

    /// What there is at this number; the waker is woken once there may be more.
    pub(crate) fn poll(&self, watcher: u64, seq: u64, cx: &mut Context<'_>) -> Poll<Found> {
        let mut inner = self.lock();
        let found = if seq <= inner.missing_to {
            Found::Missing(inner.missing_to)
        } else {
            let at = inner.events.partition_point(|(event, _)| event.seq < seq);
            match inner.events.get(at) {
                Some((event, _)) => Found::Event(Arc::clone(event)),
                None if inner.ended.is_some() => Found::Ended,
                None => {
                    inner.wakers.insert(watcher, cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        Poll::Ready(found)
    }

    /// Wakes once there is an event behind this number, or the run has ended; ready where that is so.
    pub(crate) fn poll_beyond(&self, watcher: u64, seq: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.last > seq || inner.ended.is_some() {
            return Poll::Ready(());
        }
        inner.wakers.insert(watcher, cx.waker().clone());
        Poll::Pending
    }

    /// A number for a watcher: its waker is kept under it.
    pub(crate) fn join(&self) -> u64 {
        let mut inner = self.lock();
        inner.next_watcher += 1;
        inner.next_watcher
    }

    pub(crate) fn leave(&self, watcher: u64) {
        self.lock().wakers.remove(&watcher);
    }

    /// The run goes again.
    pub(crate) fn reopen(&self) {
        let mut inner = self.lock();
        (inner.status, inner.ended) = (RunStatus::Running, None);
    }

    /// Since when the run has ended, where it has.
    pub(crate) fn ended(&self) -> Option<Instant> {
        self.lock().ended
    }

    /// Where the run stands, the first number that is here and the last.
    pub(crate) fn glance(&self) -> (RunStatus, u64, u64) {
        let inner = self.lock();
        let first = inner.events.front().map_or(0, |(event, _)| event.seq);
        (inner.status, first, inner.last)
    }

    /// How many events are here, and what they weigh.
    #[cfg(test)]
    pub(crate) fn weigh(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.events.len(), inner.bytes)
    }

    /// How many watchers wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().wakers.len()
    }
}

/// Wakes whoever waits, with nothing locked. A waker is a watcher's own code: if it panics, the run goes on.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let wakers = std::mem::take(&mut inner.wakers);
    drop(inner);
    for waker in wakers.into_values() {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

#[cfg(test)]
mod tests {
    use super::EventLog;
    use crate::{EventKind, RunEvent};
    use serde_json::json;
    use std::sync::Arc;

    fn event(seq: u64, words: usize) -> RunEvent {
        RunEvent {
            seq,
            run_id: "r".into(),
            path: Arc::from([]),
            step: 1,
            node: None,
            send: None,
            kind: EventKind::Custom {
                name: "n".into(),
                value: json!("w".repeat(words)),
            },
        }
    }

    #[test]
    fn a_log_stays_within_its_events_and_its_bytes_and_always_has_the_newest() {
        let log = EventLog::new(100, 50_000);
        for seq in 1..=10_000 {
            log.push(event(seq, 300));
            let (events, bytes) = log.weigh();
            assert!(events <= 100 && bytes <= 50_000, "{events} events, {bytes} bytes");
        }
        assert!(log.weigh().0 >= 90, "{} events", log.weigh().0);
        log.push(event(10_001, 1_000_000));
        let (events, bytes) = log.weigh();
        assert!(
            events == 1 && bytes > 1_000_000,
            "the newest alone: {events} events"
        );
        log.push(event(10_002, 10));
        assert_eq!(log.weigh().0, 1);
        assert!(log.weigh().1 < 1_000);
    }
}
