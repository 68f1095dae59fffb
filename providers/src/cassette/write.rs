//! [`Writer`]: exchanges → lines of a file.

use super::{
    format::{Exchange, Head, Request, Response, VERSION},
    redact,
};
use crate::http::{Raw, Secrets};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use stepwell_core::{Error, Result};
use tokio::time::Instant;

/// Writes one line per exchange, when its body has been read or dropped.
pub(super) struct Writer {
    path: PathBuf,
    file: Mutex<File>,
    count: AtomicUsize,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Error::invalid(
                    "cassette",
                    format!(
                        "{} is there already; delete it to record anew, or play it",
                        path.display()
                    ),
                ),
                _ => Error::io(format!("making the cassette {}", path.display()), error),
            })?;
        let head = serde_json::to_string(&Head {
            stepwell_cassette: VERSION,
        })
        .map_err(|_| Error::internal("a number could not be written as JSON"))?;
        writeln!(file, "{head}")
            .map_err(|error| Error::io(format!("writing the cassette {}", path.display()), error))?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            count: AtomicUsize::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tee(
        self: Arc<Self>,
        provider: &str,
        path: &str,
        secrets: &Secrets,
        body: &[u8],
        raw: Raw,
    ) -> Raw {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut asked = body.to_vec();
        secrets.blot(&mut asked);
        let tape = Tape {
            exchange: Some(Exchange {
                id: format!("{provider}-{number}"),
                provider: provider.to_owned(),
                request: Request {
                    method: "POST".to_owned(),
                    path: path.to_owned(),
                    // What we send is JSON; blotting a key out leaves it JSON.
                    body: redact::asked(serde_json::from_slice(&asked).unwrap_or(Value::Null)),
                },
                response: Response {
                    status: raw.status,
                    headers: redact::headers(&raw.headers, secrets),
                    is_cut: true,
                    ..Response::default()
                },
            }),
            secrets: secrets.clone(),
            writer: self,
            inner: raw.body,
            bytes: Vec::new(),
            last: Instant::now(),
        };
        Raw {
            body: tape.boxed(),
            ..raw
        }
    }

    fn write(&self, exchange: &Exchange) -> Result<()> {
        let failed = |error| Error::io(format!("writing the cassette {}", self.path.display()), error);
        let mut line = serde_json::to_vec(exchange).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        // In one piece, so that lines of calls side by side never mix.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).and_then(|()| file.flush()).map_err(failed)
    }
}

/// A body on its way to the caller, noted down.
struct Tape {
    exchange: Option<Exchange>,
    secrets: Secrets,
    writer: Arc<Writer>,
    inner: BoxStream<'static, Result<Bytes>>,
    bytes: Vec<u8>,
    last: Instant,
}

impl Tape {
    fn close(&mut self, is_cut: bool) -> Result<()> {
        let Some(mut exchange) = self.exchange.take() else {
            return Ok(());
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        self.secrets.blot(&mut bytes);
        exchange.response.set_body(bytes);
        exchange.response.is_cut = is_cut;
        self.writer.write(&exchange)
    }
}

impl Stream for Tape {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = this.inner.poll_next_unpin(cx);
        match &polled {
            Poll::Ready(Some(Ok(bytes))) => {
                if let Some(exchange) = &mut this.exchange {
                    let now = Instant::now();
                    let waited = u64::try_from((now - this.last).as_millis()).unwrap_or(u64::MAX);
                    this.last = now;
                    exchange.response.chunks.push((bytes.len(), waited));
                    this.bytes.extend_from_slice(bytes);
                }
            }
            Poll::Ready(Some(Err(_))) => {
                // The caller gets the vendor's own error; one of the disk shows at the next exchange.
                let _ = this.close(true);
            }
            Poll::Ready(None) => {
                if let Err(error) = this.close(false) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // A drop cannot fail; a cassette that lacks an exchange says so when it is played.
        let _ = self.close(true);
    }
}
