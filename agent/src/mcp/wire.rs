//! [`Wire`]: what stands between a server and the protocol's library. It keeps order and bounds: progress reaches its
//! call at once, a changed list is known before the next answer is, and a server that floods is hung up on.

use rmcp::{
    RoleClient,
    model::{ClientRequest, GetMeta, JsonRpcMessage, ProgressToken, ServerNotification},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use stepwell_core::Cancel;
use tokio::io::{AsyncRead, ReadBuf};

/// Requests of a server that wait for our answer.
const OPEN_REQUESTS: usize = 64;

/// Takes the progress of one call. It rides on the request, so that it is known before the request leaves.
#[derive(Clone)]
pub(super) struct Progress(pub(super) Arc<dyn Fn(Value) + Send + Sync>);

/// What is known of one connection.
#[derive(Default)]
pub(super) struct Line {
    /// Pulled when nothing more will come.
    pub(super) ended: Cancel,
    /// Pulled when the error output of a child has been read to its end.
    pub(super) drained: Cancel,
    /// The list of tools has changed since it was read.
    pub(super) is_stale: AtomicBool,
    fault: Mutex<Option<&'static str>>,
    watchers: Mutex<HashMap<ProgressToken, Progress>>,
    open: AtomicUsize,
}

impl Line {
    /// Why it was hung up, where the server is to blame.
    pub(super) fn fault(&self) -> Option<&'static str> {
        *locked(&self.fault)
    }

    pub(super) fn blame(&self, fault: &'static str) {
        locked(&self.fault).get_or_insert(fault);
    }

    pub(super) fn forget(&self, token: &ProgressToken) {
        locked(&self.watchers).remove(token);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transport with its [`Line`].
pub(super) struct Wire<T> {
    inner: T,
    line: Arc<Line>,
}

impl<T> Wire<T> {
    pub(super) fn new(inner: T, line: Arc<Line>) -> Self {
        Self { inner, line }
    }
}

impl<T> Drop for Wire<T> {
    fn drop(&mut self) {
        self.line.ended.cancel();
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Wire<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(message) = &item
            && let ClientRequest::CallToolRequest(call) = &message.request
            && let Some(watcher) = call.extensions.get::<Progress>()
            && let Some(token) = message.request.get_meta().get_progress_token()
        {
            locked(&self.line.watchers).insert(token, watcher.clone());
        }
        let is_answer = matches!(item, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_));
        let sent = self.inner.send(item);
        let line = Arc::clone(&self.line);
        async move {
            let sent = sent.await;
            if is_answer {
                // Answers of errors that had no request do not count below nought.
                let _ = line
                    .open
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| open.checked_sub(1));
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let Some(message) = self.inner.receive().await else {
                self.line.ended.cancel();
                return None;
            };
            match &message {
                JsonRpcMessage::Notification(told) => match &told.notification {
                    ServerNotification::ProgressNotification(told) => {
                        let watcher = locked(&self.line.watchers)
                            .get(&told.params.progress_token)
                            .cloned();
                        if let Some(Progress(watch)) = watcher {
                            watch(super::content::progress(&told.params));
                        }
                    }
                    ServerNotification::ToolListChangedNotification(_) => {
                        self.line.is_stale.store(true, Ordering::Release);
                        return Some(message);
                    }
                    ServerNotification::CancelledNotification(_)
                    | ServerNotification::SubscriptionsAcknowledgedNotification(_) => return Some(message),
                    // Nothing here listens to the rest; the library would log it, contents and all.
                    _ => {}
                },
                JsonRpcMessage::Request(_) => {
                    if self.line.open.fetch_add(1, Ordering::Relaxed) >= OPEN_REQUESTS {
                        self.line.blame("it asks and does not read the answers");
                        self.line.ended.cancel();
                        return None;
                    }
                    return Some(message);
                }
                _ => return Some(message),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.line.ended.cancel();
        self.inner.close().await
    }
}

/// A stream of lines of which none may be longer than so many bytes; a longer one ends it.
pub(super) struct Lines<R> {
    inner: R,
    most: usize,
    length: usize,
    line: Option<Arc<Line>>,
}

impl<R> Lines<R> {
    pub(super) fn new(inner: R, most: usize, line: Option<Arc<Line>>) -> Self {
        Self {
            inner,
            most,
            length: 0,
            line,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            let piece = &buffer.filled()[before..];
            // A buffer's worth may pass the limit before it is seen; the next read finds it.
            self.length = match piece.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => piece.len() - at - 1,
                None => self.length + piece.len(),
            };
            if self.length > self.most {
                if let Some(line) = &self.line {
                    line.blame("it sent a message over the limit of `message_bytes`");
                }
                buffer.set_filled(before); // a failed read has read nothing
                return Poll::Ready(Err(io::Error::other("a message is over the limit")));
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_line_over_the_limit_ends_the_stream_and_lines_under_it_do_not() {
        let mut read = Vec::new();
        let fine = b"12345678\n12345678\n".as_slice();
        assert!(Lines::new(fine, 8, None).read_to_end(&mut read).await.is_ok());
        assert!(
            Lines::new(b"123456789".as_slice(), 8, None)
                .read_to_end(&mut read)
                .await
                .is_err()
        );
    }
}
