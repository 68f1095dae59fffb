//! [`RunStream`]: a run as its events, driven by whoever polls it.

use super::{RunEvent, queue::EventQueue};
use futures::{Stream, future::BoxFuture};
use std::{
    fmt::{self, Debug},
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};
use stepwell_core::{Cancel, Error, Result};

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
            queue: EventQueue::to_stream(),
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
