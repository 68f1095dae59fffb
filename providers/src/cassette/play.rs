//! [`Player`]: lines of a file → answers, whole or broken.

use super::{
    damaged,
    fault::{Fault, duplicate_start},
    format::{Exchange, FILE_BYTES, Head, VERSION},
    redact,
};
use crate::http::Raw;
use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stepwell_core::{Error, Result};

/// How a played body is cut into pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Chunks {
    /// As they came.
    #[default]
    Recorded,
    /// In one piece.
    Whole,
    /// In pieces of random length, the same for the same seed: also inside lines and characters.
    Random {
        /// Of the random numbers.
        seed: u64,
    },
    /// Byte by byte.
    Bytes,
}

/// One recorded answer, ready to play.
struct Recorded {
    provider: String,
    path: String,
    asked: Value,
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    chunks: Vec<(usize, u64)>,
    is_cut: bool,
}

/// How often each exchange was played, and how many calls there were.
#[derive(Default)]
struct Place {
    played: Vec<u32>,
    calls: usize,
}

/// Plays a cassette. Clones share the place in it.
#[derive(Clone)]
pub(super) struct Player {
    path: PathBuf,
    tape: Arc<[Recorded]>,
    place: Arc<Mutex<Place>>,
    pub(super) chunks: Chunks,
    pub(super) keeps_time: bool,
    pub(super) faults: Vec<(usize, Fault)>,
}

impl Player {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(format!("reading the cassette {}", path.display()), error);
        if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES {
            return Err(Error::LimitExceeded {
                what: format!("the cassette {}", path.display()),
                limit: format!("{FILE_BYTES} bytes"),
            });
        }
        let foreign = || Error::Foreign {
            path: path.to_owned(),
            what: "cassette".to_owned(),
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(foreign()),
            Err(error) => return Err(failed(error)),
        };
        let mut lines = text.lines().enumerate();
        let head: Head = lines
            .next()
            .and_then(|(_, line)| serde_json::from_str(line).ok())
            .ok_or_else(foreign)?;
        if head.stepwell_cassette > VERSION {
            return Err(Error::UnknownVersion {
                what: format!("the cassette {}", path.display()),
                found: head.stepwell_cassette,
                known: VERSION,
            });
        }
        let tape = lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| recorded(line).ok_or_else(|| damaged(path, at + 1)))
            .collect::<Result<Arc<[Recorded]>>>()?;
        Ok(Self {
            path: path.to_owned(),
            place: Arc::new(Mutex::new(Place {
                played: vec![0; tape.len()],
                calls: 0,
            })),
            tape,
            chunks: Chunks::default(),
            keeps_time: false,
            faults: Vec::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn answer(&self, provider: &str, path: &str, body: &[u8]) -> Result<Raw> {
        // As it would be written down: secrets are no part of what tells two requests apart.
        let asked = redact::asked(serde_json::from_slice(body).unwrap_or(Value::Null));
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let call = place.calls;
        place.calls += 1;
        let fault = self
            .faults
            .iter()
            .find(|(at, _)| *at == call)
            .map(|(_, fault)| *fault);
        // Of the equal ones the one that was played least, and of those the first.
        let found = (0..self.tape.len())
            .filter(|at| {
                let one = &self.tape[*at];
                one.provider == provider && one.path == path && one.asked == asked
            })
            .min_by_key(|at| place.played[*at]);
        let Some(at) = found else {
            return Err(self.unknown(provider, path, &asked));
        };
        if fault.is_none() {
            place.played[at] += 1;
        }
        drop(place);
        Ok(self.raw(provider, &self.tape[at], fault))
    }

    /// The first difference from the recorded request that is most like this one.
    fn unknown(&self, provider: &str, path: &str, asked: &Value) -> Error {
        let nearest = self
            .tape
            .iter()
            .filter(|one| one.provider == provider && one.path == path)
            .map(|one| difference(&one.asked, asked))
            .max_by_key(String::len);
        Error::NotFound {
            what: "recorded call".to_owned(),
            name: format!("{provider} {path}"),
            hint: match nearest {
                Some(at) => format!("the nearest one differs at `{at}`; delete the cassette to record anew"),
                None => "none to this path is on the cassette; delete it to record anew".to_owned(),
            },
        }
    }

    fn raw(&self, provider: &str, one: &Recorded, fault: Option<Fault>) -> Raw {
        if let Some(Fault::Status { status, retry_after }) = fault {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Some(wait) = retry_after {
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(wait));
            }
            let body = Bytes::from_static(br#"{"error":{"message":"a fault of the cassette"}}"#);
            return Raw {
                status,
                headers,
                body: stream::iter([Ok(body)]).boxed(),
            };
        }
        let body = match fault {
            Some(Fault::DuplicateStart) => Bytes::from(duplicate_start(&one.body)),
            _ => one.body.clone(),
        };
        let end = match fault {
            Some(Fault::CutAt(at) | Fault::ResetAt(at) | Fault::StallAt(at)) => at.min(body.len()),
            _ => body.len(),
        };
        let is_broken = one.is_cut || matches!(fault, Some(Fault::ResetAt(_)));
        let keeps_time = self.keeps_time;
        let pieces =
            stream::iter(self.cut(&body.slice(..end), &one.chunks)).then(move |(bytes, wait)| async move {
                if keeps_time && wait > 0 {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                Ok(bytes)
            });
        let body = match fault {
            Some(Fault::StallAt(_)) => pieces.chain(stream::pending()).boxed(),
            _ if is_broken => {
                let reset = Error::Transport {
                    provider: provider.to_owned(),
                    source: Box::new(io::Error::from(io::ErrorKind::ConnectionReset)),
                };
                pieces.chain(stream::iter([Err(reset)])).boxed()
            }
            _ => pieces.boxed(),
        };
        Raw {
            status: one.status,
            headers: one.headers.clone(),
            body,
        }
    }

    fn cut(&self, body: &Bytes, recorded: &[(usize, u64)]) -> Vec<(Bytes, u64)> {
        let mut seed = match self.chunks {
            Chunks::Random { seed } => seed,
            _ => 0,
        };
        let mut recorded = recorded.iter();
        let mut rest = body.clone();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (length, wait) = match self.chunks {
                Chunks::Recorded => recorded.next().copied().unwrap_or((rest.len(), 0)),
                Chunks::Whole => (rest.len(), 0),
                Chunks::Bytes => (1, 0),
                Chunks::Random { .. } => (usize::try_from(1 + next(&mut seed) % 48).unwrap_or(1), 0),
            };
            pieces.push((rest.split_to(length.min(rest.len())), wait));
        }
        pieces
    }
}

/// SplitMix64: the same numbers for the same seed everywhere.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Reads a line and cuts its body as recorded: the pieces are the body again.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_line(line: &str) {
    let Some(one) = recorded(line) else { return };
    let player = Player {
        path: PathBuf::new(),
        tape: Arc::from([]),
        place: Arc::default(),
        chunks: Chunks::Recorded,
        keeps_time: false,
        faults: Vec::new(),
    };
    let pieces: Vec<u8> = player
        .cut(&one.body, &one.chunks)
        .iter()
        .flat_map(|(piece, _)| piece.to_vec())
        .collect();
    assert_eq!(pieces, one.body);
}

fn recorded(line: &str) -> Option<Recorded> {
    let mut exchange: Exchange = serde_json::from_str(line).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &exchange.response.headers {
        headers.append(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
    }
    let body = Bytes::from(exchange.response.take_body()?);
    Some(Recorded {
        provider: exchange.provider,
        path: exchange.request.path,
        asked: exchange.request.body,
        status: exchange.response.status,
        headers,
        body,
        chunks: exchange.response.chunks,
        is_cut: exchange.response.is_cut,
    })
}

/// Where two requests first differ, as a JSON pointer: names of fields, never their values.
fn difference(recorded: &Value, asked: &Value) -> String {
    let mut path = String::new();
    let (mut recorded, mut asked) = (recorded, asked);
    loop {
        let step = match (recorded, asked) {
            (Value::Object(a), Value::Object(b)) => b
                .iter()
                .find(|(key, value)| a.get(*key) != Some(value))
                .map(|(key, _)| key.clone())
                .or_else(|| a.keys().find(|key| !b.contains_key(*key)).cloned()),
            (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
                .find(|at| a.get(*at) != b.get(*at))
                .map(|at| at.to_string()),
            _ => None,
        };
        let Some(step) = step else { break };
        path.push('/');
        path.push_str(&step);
        let (Some(a), Some(b)) = (child(recorded, &step), child(asked, &step)) else {
            break;
        };
        (recorded, asked) = (a, b);
    }
    path
}

fn child<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}
