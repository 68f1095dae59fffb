//! [`RunEvent`]: what a caller may watch while a run goes; [`RunStream`]: a run as its events.

use crate::{Question, run::Pause};
use futures::{Stream, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::VecDeque,
    fmt::{self, Debug},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use stepwell_core::{Cancel, Error, Result, StreamEvent, ToolCall, ToolResult, store::RunStatus};

/// Events that may wait for the watcher before those that make them pause.
const ROOM: usize = 256;
/// Events that may wait at all; tool progress and custom events beyond are left out.
const MOST: usize = 16_384;

/// A failure as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The stable word of [`Error::code`].
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunEvent {
    /// 1 for the first; counts without gaps.
    pub seq: u64,
    /// The run.
    pub run_id: Arc<str>,
    /// Where in nested runs: the nodes from the outermost in; empty in the outermost. One of several runs in a node has a
    /// mark behind the name: `worker#3` for a Send, `tools@call_1` for a tool call.
    #[serde(default = "no_path", skip_serializing_if = "is_empty")]
    pub path: Arc<[String]>,
    /// 1 for the first step; 0 before it.
    pub step: u32,
    /// The node it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

fn no_path() -> Arc<[String]> {
    Arc::from([])
}

fn is_empty(path: &Arc<[String]>) -> bool {
    path.is_empty()
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run began or went on.
    RunStart {
        /// It goes on from its journal.
        is_resumed: bool,
    },
    /// A step began.
    StepStart {
        /// Its nodes, in declaration order.
        nodes: Vec<Arc<str>>,
    },
    /// A node began.
    NodeStart,
    /// A model said something.
    Model {
        /// What.
        event: StreamEvent,
    },
    /// A tool call is about to run.
    ToolStart {
        /// The call.
        call: ToolCall,
    },
    /// A tool tells how far it is.
    ToolProgress {
        /// The call.
        call_id: String,
        /// What the tool says.
        value: Value,
    },
    /// A tool call has its result.
    ToolEnd {
        /// The result.
        result: ToolResult,
    },
    /// A node says something of its own.
    Custom {
        /// What kind of thing.
        name: String,
        /// The thing.
        value: Value,
    },
    /// A node ended with an update; in order of ending.
    Update {
        /// What it changes.
        update: Value,
    },
    /// A node ended.
    NodeEnd {
        /// Why it failed, where it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// A node failed and is tried again.
    NodeRetry {
        /// The attempt that failed; 1 for the first.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// How long it waits first, milliseconds.
        delay_ms: u64,
    },
    /// A node asks a person; the run pauses with it once its step is done.
    Question {
        /// What.
        question: Question,
    },
    /// A step ended; its updates are folded.
    StepEnd {
        /// The whole state, where it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Value>,
    },
    /// The run ended. The last event.
    RunEnd {
        /// Where it stands.
        status: RunStatus,
        /// What it waits for, where it paused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pause: Option<Pause>,
        /// Why it failed, where it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
}

#[derive(Default)]
struct Queued {
    events: VecDeque<RunEvent>,
    seq: u64,
}

/// Events on their way to the watcher. Producer and watcher take turns in one task, so nothing is woken.
#[derive(Clone, Default)]
pub(crate) struct EventQueue(Arc<Mutex<Queued>>);

impl EventQueue {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(
        &self,
        run_id: &Arc<str>,
        path: &Arc<[String]>,
        step: u32,
        node: Option<&Arc<str>>,
        kind: EventKind,
    ) {
        let mut queued = self.lock();
        let may_be_left_out = matches!(kind, EventKind::ToolProgress { .. } | EventKind::Custom { .. });
        if may_be_left_out && queued.events.len() >= MOST {
            return;
        }
        queued.seq += 1;
        let seq = queued.seq;
        queued.events.push_back(RunEvent {
            seq,
            run_id: Arc::clone(run_id),
            path: Arc::clone(path),
            step,
            node: node.cloned(),
            kind,
        });
    }

    /// Ends when the watcher has taken enough for more to come.
    pub(crate) async fn room(&self) {
        if self.lock().events.len() < ROOM {
            return;
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

    fn pop(&self) -> Option<RunEvent> {
        self.lock().events.pop_front()
    }
}

/// A run as its events, in order. Nothing happens unless it is polled; dropping it stops the run. After the last event
/// [`RunStream::finish`] gives the result.
#[must_use = "a run goes on only while its stream is polled"]
pub struct RunStream<R> {
    queue: EventQueue,
    run: Option<BoxFuture<'static, R>>,
    result: Option<R>,
    cancel: Cancel,
}

impl<R> Unpin for RunStream<R> {}

impl<R> RunStream<R> {
    pub(crate) fn new(queue: EventQueue, cancel: Cancel, run: BoxFuture<'static, R>) -> Self {
        Self {
            queue,
            run: Some(run),
            result: None,
            cancel,
        }
    }

    /// One that failed before it began.
    pub(crate) fn ended(result: R) -> Self {
        Self {
            queue: EventQueue::default(),
            run: None,
            result: Some(result),
            cancel: Cancel::new(),
        }
    }

    /// The switch that stops the run in good order: its history is closed and its result still comes.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The result, once the last event was taken.
    pub fn take_result(&mut self) -> Option<R> {
        self.result.take()
    }

    /// Lets the run end, leaving the rest of the events out, and gives its result.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the result was taken before.
    pub async fn finish(mut self) -> Result<R> {
        poll_fn(|cx| {
            loop {
                match Pin::new(&mut self).poll_next(cx) {
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        self.result
            .take()
            .ok_or_else(|| Error::invalid("run", "its result was taken already"))
    }
}

impl<R: Send + 'static> RunStream<R> {
    pub(crate) fn map_result<T>(self, turn: impl FnOnce(R) -> T + Send + 'static) -> RunStream<T> {
        use futures::FutureExt;
        RunStream {
            queue: self.queue,
            run: self.run.map(|run| run.map(turn).boxed()),
            result: None,
            cancel: self.cancel,
        }
    }
}

impl<R> Stream for RunStream<R> {
    type Item = RunEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RunEvent>> {
        if let Some(event) = self.queue.pop() {
            return Poll::Ready(Some(event));
        }
        let Some(run) = &mut self.run else {
            return Poll::Ready(None);
        };
        let polled = Future::poll(run.as_mut(), cx);
        if let Poll::Ready(result) = polled {
            self.run = None;
            self.result = Some(result);
        }
        match self.queue.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.run.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<R> Debug for RunStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunStream")
            .field("is_ended", &self.run.is_none())
            .finish_non_exhaustive()
    }
}
