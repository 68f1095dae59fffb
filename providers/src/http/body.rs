//! [`Body`]: the bytes of an answer, under the timers and the cap.

use super::Http;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use stepwell_core::{Error, Result, Timer};
use tokio::time::{Instant, Sleep};

/// How much of a failure's body is read: enough for any vendor's sentence.
const FAILURE_BYTES: usize = 64 << 10;

/// When a clock rings that is set now; for one that is set to more than any clock can show, in a generation.
pub(super) fn after(begun: Instant, span: Duration) -> Instant {
    begun
        .checked_add(span)
        .unwrap_or_else(|| begun + Duration::from_hours(24 * 365 * 30))
}

/// The bytes of an answer, under the timers and the cap.
pub(crate) struct Body {
    http: Http,
    inner: BoxStream<'static, Result<Bytes>>,
    left: usize,
    total: Instant,
    /// When the first event is due; `None` once it came.
    first: Option<Instant>,
    last: Instant,
    /// One timer for the whole answer: it is set anew only when it rings.
    alarm: Pin<Box<Sleep>>,
}

impl Body {
    /// The body of a call that began then.
    pub(super) fn new(
        http: Http,
        inner: BoxStream<'static, Result<Bytes>>,
        begun: Instant,
        first: Instant,
        total: Instant,
    ) -> Self {
        Self {
            left: http.options.max_response_bytes,
            http,
            inner,
            total,
            first: Some(first),
            last: begun,
            alarm: Box::pin(tokio::time::sleep_until(first.min(total))),
        }
    }

    /// From now on the idle timer runs, not that of the first event.
    pub(crate) fn begun(&mut self) {
        self.first = None;
        let (due, _) = self.due();
        if due < self.alarm.deadline() {
            self.alarm.as_mut().reset(due);
        }
    }

    /// The whole body, for answers that do not stream.
    pub(crate) async fn read(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await {
            bytes.extend_from_slice(&chunk?);
            self.begun();
        }
        Ok(bytes)
    }

    /// As much of a failure's body as is worth reading; a body that breaks off is as good as none.
    pub(crate) async fn read_failure(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.begun();
        while bytes.len() < FAILURE_BYTES {
            match self.next().await {
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                _ => break,
            }
        }
        bytes.truncate(FAILURE_BYTES);
        bytes
    }

    /// When the next clock rings, and whether it is the one of the whole call.
    fn due(&self) -> (Instant, bool) {
        let part = self
            .first
            .unwrap_or_else(|| after(self.last, self.http.options.idle_timeout));
        (part.min(self.total), self.total < part)
    }

    fn late(&self) -> Error {
        let (_, is_total) = self.due();
        self.http.late(match (is_total, self.first.is_some()) {
            (true, _) => Timer::Attempt,
            (false, true) => Timer::FirstEvent,
            (false, false) => Timer::Idle,
        })
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.inner.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                let now = Instant::now();
                // A server that never pauses never lets the alarm ring: its time is up all the same.
                let (due, _) = this.due();
                if now >= due && (this.first.is_some() || due == this.total) {
                    return Poll::Ready(Some(Err(this.late())));
                }
                this.last = now;
                let Some(left) = this.left.checked_sub(bytes.len()) else {
                    return Poll::Ready(Some(Err(Error::LimitExceeded {
                        what: format!("the answer of {}", this.http.vendor.name()),
                        limit: format!(
                            "{} bytes; `HttpOptions::max_response_bytes` raises it",
                            this.http.options.max_response_bytes
                        ),
                    })));
                };
                this.left = left;
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => loop {
                if this.alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let (due, _) = this.due();
                if Instant::now() >= due {
                    return Poll::Ready(Some(Err(this.late())));
                }
                this.alarm.as_mut().reset(due);
            },
        }
    }
}
