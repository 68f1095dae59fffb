//! [`Writer`]: exchanges → lines of a file.

use super::{
    format::{Exchange, FILE_BYTES, Head, Request, Response, VERSION},
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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use stepwell_core::{Error, Result};
use tokio::time::Instant;

/// Writes one line per exchange, when its body has been read or dropped.
///
/// A disk that fails costs no answer: what was written before stays whole, and the next call is told, before anything is
/// sent.
pub(super) struct Writer {
    path: PathBuf,
    sheet: Mutex<Sheet>,
    count: AtomicUsize,
}

/// The file, and how far it is whole.
struct Sheet {
    file: File,
    /// Bytes of whole lines.
    bytes: u64,
    fault: Option<Fault>,
}

/// Why nothing more is written.
#[derive(Clone, Copy)]
enum Fault {
    /// The system's number of the error, where it has one, and its kind.
    Io(Option<i32>, io::ErrorKind),
    /// More could not be played.
    TooLarge,
}

impl Fault {
    fn of(error: &io::Error) -> Self {
        Self::Io(error.raw_os_error(), error.kind())
    }
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
        Ok(Self::onto(path, file, head.len() as u64 + 1))
    }

    /// Goes on behind so many bytes.
    pub(super) fn onto(path: &Path, file: File, bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            sheet: Mutex::new(Sheet {
                file,
                bytes,
                fault: None,
            }),
            count: AtomicUsize::new(0),
        }
    }

    /// # Errors
    /// Why an exchange could not be written.
    pub(super) fn check(&self) -> Result<()> {
        match self.sheet().fault {
            None => Ok(()),
            Some(Fault::TooLarge) => Err(Error::LimitExceeded {
                what: format!("the cassette {}", self.path.display()),
                limit: format!("{FILE_BYTES} bytes"),
            }),
            Some(Fault::Io(number, kind)) => {
                let error = number.map_or_else(|| kind.into(), io::Error::from_raw_os_error);
                let what = format!("writing the cassette {}", self.path.display());
                Err(Error::io(what, error))
            }
        }
    }

    fn sheet(&self) -> MutexGuard<'_, Sheet> {
        // A panic elsewhere leaves whole lines: each is counted after it was written.
        self.sheet.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn write(&self, exchange: &Exchange) {
        let line = serde_json::to_vec(exchange).map(|mut line| {
            line.push(b'\n');
            line
        });
        // In one piece, so that lines of calls side by side never mix.
        let mut sheet = self.sheet();
        if sheet.fault.is_some() {
            return;
        }
        let whole = sheet.bytes;
        let fault = match line {
            Err(error) => Some(Fault::of(&error.into())),
            Ok(line) if whole + line.len() as u64 > FILE_BYTES => Some(Fault::TooLarge),
            Ok(line) => {
                let written = sheet.file.write_all(&line).and_then(|()| sheet.file.flush());
                sheet.bytes += line.len() as u64;
                written.err().map(|error| Fault::of(&error))
            }
        };
        if fault.is_some() {
            // Half a line would make the whole file unreadable. Where this fails too, playing it tells.
            let _ = sheet.file.set_len(whole);
            sheet.fault = fault;
            drop(sheet);
            if let Err(error) = self.check() {
                tracing::warn!(
                    code = error.code(),
                    "a call could not be recorded; the next one is refused"
                );
            }
        }
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
    fn close(&mut self, is_cut: bool) {
        let Some(mut exchange) = self.exchange.take() else {
            return;
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        self.secrets.blot(&mut bytes);
        exchange.response.set_body(bytes);
        exchange.response.is_cut = is_cut;
        self.writer.write(&exchange);
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
            // An error of the disk is no part of the answer: it shows at the next exchange.
            Poll::Ready(Some(Err(_))) => this.close(true),
            Poll::Ready(None) => this.close(false),
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.close(true);
    }
}
