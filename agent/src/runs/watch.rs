//! [`Watch`]: the events of a run from any number on, while it goes and after.

use super::log::{EventLog, Found};
use crate::{RunEvent, event::KeptReader};
use futures::{FutureExt, Stream, future::BoxFuture};
use serde::Serialize;
use std::{
    collections::VecDeque,
    fmt::{self, Debug},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use stepwell_core::Result;

/// Events that have to come before the journal is asked again for what it did not have yet.
const ASK_AGAIN: u64 = 64;

/// What a watcher gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum WatchItem {
    /// An event.
    Event(Arc<RunEvent>),
    /// The events of these numbers are not to be had any more. Whoever shows the run reads its state anew.
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

impl WatchItem {
    /// The event, where it is one.
    pub fn event(&self) -> Option<&RunEvent> {
        match self {
            Self::Event(event) => Some(event),
            Self::Gap { .. } => None,
        }
    }
}

type Read = (KeptReader, Result<Vec<RunEvent>>);

/// Events from the journal, for numbers that memory does not have any more.
enum Kept {
    Nowhere,
    Idle(KeptReader),
    /// And whether the run had ended before.
    Reading(BoxFuture<'static, Read>, bool),
    /// It did not have them yet, at this number: they may be on their way.
    Waiting(KeptReader, u64),
}

/// The events of a run from a number on. It ends when the run has; a run that paused and goes on is watched anew, from the
/// number after the last. Any number of watchers may join and leave; none of them slows the run.
#[must_use = "poll it"]
pub struct Watch {
    log: Arc<EventLog>,
    watcher: u64,
    next: u64,
    kept: Kept,
    /// What was read, not yet given.
    read: VecDeque<RunEvent>,
}

impl Watch {
    pub(super) fn new(log: Arc<EventLog>, from_seq: u64, kept: Option<KeptReader>) -> Self {
        Self {
            watcher: log.join(),
            log,
            next: from_seq.max(1),
            kept: kept.map_or(Kept::Nowhere, Kept::Idle),
            read: VecDeque::new(),
        }
    }

    /// The number it goes on from: for joining again later.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    fn gap(&mut self, to: u64) -> WatchItem {
        let from = std::mem::replace(&mut self.next, to + 1);
        WatchItem::Gap { from, to }
    }

    fn give(&mut self, event: Arc<RunEvent>) -> WatchItem {
        self.next = event.seq + 1;
        WatchItem::Event(event)
    }

    /// What the journal has at the number, where memory misses everything up to `to`.
    fn poll_kept(&mut self, to: u64, cx: &mut Context<'_>) -> Poll<WatchItem> {
        loop {
            while let Some(event) = self.read.pop_front() {
                if event.seq < self.next {
                    continue;
                }
                if event.seq == self.next {
                    return Poll::Ready(self.give(Arc::new(event)));
                }
                let missing = event.seq - 1;
                self.read.push_front(event);
                return Poll::Ready(self.gap(missing.min(to)));
            }
            match std::mem::replace(&mut self.kept, Kept::Nowhere) {
                Kept::Nowhere => return Poll::Ready(self.gap(to)),
                Kept::Idle(mut reader) => {
                    let from = self.next;
                    let read = async move {
                        let batch = reader.batch(from).await;
                        (reader, batch)
                    };
                    // Once a run has ended, all it keeps is there.
                    let has_ended = self.log.ended().is_some();
                    self.kept = Kept::Reading(read.boxed(), has_ended);
                }
                Kept::Reading(mut reading, has_ended) => {
                    let Poll::Ready((reader, batch)) = reading.as_mut().poll(cx) else {
                        self.kept = Kept::Reading(reading, has_ended);
                        return Poll::Pending;
                    };
                    match batch {
                        Ok(events) if !events.is_empty() => {
                            self.read = events.into();
                            self.kept = Kept::Idle(reader);
                        }
                        Ok(_) if has_ended => {
                            self.kept = Kept::Idle(reader);
                            return Poll::Ready(self.gap(to));
                        }
                        Ok(_) => {
                            let (.., last) = self.log.glance();
                            self.kept = Kept::Waiting(reader, last + ASK_AGAIN);
                        }
                        Err(error) => {
                            tracing::warn!(code = error.code(), "the kept events of a run cannot be read");
                            return Poll::Ready(self.gap(to));
                        }
                    }
                }
                Kept::Waiting(reader, until) => {
                    if self.log.poll_beyond(self.watcher, until, cx).is_pending() {
                        self.kept = Kept::Waiting(reader, until);
                        return Poll::Pending;
                    }
                    self.kept = Kept::Idle(reader);
                }
            }
        }
    }
}

impl Stream for Watch {
    type Item = WatchItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        // A watcher that always has something to read lets its neighbours have their turn.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let (watcher, next) = (self.watcher, self.next);
        let item = match ready!(self.log.poll(watcher, next, cx)) {
            Found::Event(event) => {
                self.read.clear();
                Some(self.give(event))
            }
            Found::Missing(to) => Some(ready!(self.poll_kept(to, cx))),
            Found::Ended => None,
        };
        turn.made_progress();
        Poll::Ready(item)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.log.leave(self.watcher);
    }
}

impl Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("next_seq", &self.next)
            .finish_non_exhaustive()
    }
}
