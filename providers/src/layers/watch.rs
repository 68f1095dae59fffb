//! [`watch`]: a stream with somebody looking on.

use futures::{Stream, StreamExt};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use stepwell_core::{ChatStream, Error, Result, StreamEvent};

/// Looks on while an answer comes. It is dropped when the stream is: at its end, after a failure, or when the caller
/// lost interest; what has to be put back is put back then.
pub(super) trait Watcher: Send + Unpin + 'static {
    /// Called around each step of the stream, for what has to stand around its work.
    fn around(&mut self, step: &mut dyn FnMut()) {
        step();
    }

    /// An event is about to be handed out. An error takes its place and ends the stream.
    fn event(&mut self, event: &StreamEvent) -> Result<()>;

    /// The stream fails.
    fn failure(&mut self, error: Error) -> Error {
        error
    }
}

struct Watched<W> {
    /// Dropped first: the call is over when the watcher puts things back.
    stream: Option<ChatStream>,
    watcher: W,
}

/// The same stream, looked on.
pub(super) fn watch(stream: ChatStream, watcher: impl Watcher) -> ChatStream {
    Watched {
        stream: Some(stream),
        watcher,
    }
    .boxed()
}

impl<W: Watcher> Stream for Watched<W> {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        let mut polled = Poll::Pending;
        this.watcher.around(&mut || polled = stream.poll_next_unpin(cx));
        let failed = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(event))) => match this.watcher.event(&event) {
                Ok(()) => return Poll::Ready(Some(Ok(event))),
                Err(error) => Some(error),
            },
            Poll::Ready(Some(Err(error))) => Some(this.watcher.failure(error)),
            Poll::Ready(None) => None,
        };
        this.stream = None;
        Poll::Ready(failed.map(Err))
    }
}
