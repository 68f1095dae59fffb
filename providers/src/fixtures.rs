//! Test support: recorded exchanges, conformance suites, and a server that sends chosen bytes over a real socket.

use serde_json::Value;
use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell_core::{ChatResponse, Part};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A file below `STEPWELL_FIXTURES`; `None` where the fixtures are not there.
fn path(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("STEPWELL_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    let path = root.join(below);
    path.exists().then_some(path)
}

/// The values of a file of JSON lines.
pub(crate) fn lines(below: &str) -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(path(below)?).expect("a readable fixture");
    Some(
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect(),
    )
}

/// A recorded exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) id: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Exchange {
    pub(crate) fn is_stream(&self) -> bool {
        let start = self.body.trim_start();
        self.status == 200 && (start.starts_with("data:") || start.starts_with("event:"))
    }

    /// The JSON values of its `data:` lines, read the simplest way there is.
    pub(crate) fn data(&self) -> Vec<Value> {
        self.body
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter(|data| data.trim() != "[DONE]")
            .map(|data| serde_json::from_str(data).expect("recorded JSON"))
            .collect()
    }
}

/// All exchanges of a vendor and wire, by name; `None` (and a line that says so) where the fixtures are not there.
pub(crate) fn exchanges(provider: &str, api: &str) -> Option<Vec<Exchange>> {
    let Some(folder) = path(&format!("wire/{provider}")) else {
        println!("skipped: 1 (no fixtures for {provider})");
        return None;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .collect();
    files.sort();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found: Vec<Exchange> = files
        .into_iter()
        .map(|file| -> Value {
            serde_json::from_str(&std::fs::read_to_string(file).expect("readable")).expect("JSON")
        })
        .filter(|exchange| exchange["api"] == api)
        .map(|exchange| Exchange {
            id: text(&exchange["id"]),
            status: u16::try_from(exchange["response"]["status"].as_u64().expect("a status")).expect("small"),
            headers: exchange["response"]["headers"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            body: text(&exchange["response"]["body_text"]),
        })
        .collect();
    assert!(!found.is_empty(), "the folder of {provider} has no {api}");
    Some(found)
}

/// The same numbers every time (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).expect("below a usize")
    }

    /// Pieces of random length, mostly short, so that cuts fall inside lines and characters.
    pub(crate) fn cut<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = [3, 17, 200, 3000][self.below(4)];
        let (mut rest, mut pieces) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((1 + self.below(longest)).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }
}

/// What the server does with a connection after it read the request.
#[derive(Clone)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// Milliseconds.
    Wait(u64),
    /// Until the client closes the connection; [`Server::hung_up`] counts these.
    UntilClosed,
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// Serves one connection per script, in order, then closes it.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    closed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let closed: Arc<AtomicUsize> = Arc::default();
        let (log, count) = (seen.clone(), closed.clone());
        let task = tokio::spawn(async move {
            for script in scripts {
                let Ok((mut socket, _)) = listener.accept().await else {
                    return;
                };
                let Some(request) = read_request(&mut socket).await else {
                    continue;
                };
                log.lock().expect("no panic inside").push(request);
                for act in script {
                    match act {
                        Act::Send(bytes) => {
                            if socket.write_all(&bytes).await.is_err() {
                                break;
                            }
                        }
                        Act::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                        Act::UntilClosed => {
                            while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
                let _ = socket.shutdown().await;
            }
        });
        Self {
            url,
            seen,
            closed,
            task,
        }
    }

    pub(crate) fn hung_up(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic inside").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match socket.read(&mut buffer).await.ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut seen = Seen {
        path: head.split(' ').nth(1)?.to_owned(),
        head,
        body: bytes.split_off(head_end + 4),
    };
    let length: usize = seen
        .header("content-length")
        .map_or(Some(0), |length| length.parse().ok())?;
    while seen.body.len() < length {
        match socket.read(&mut buffer).await.ok()? {
            0 => return None,
            count => seen.body.extend_from_slice(&buffer[..count]),
        }
    }
    Some(seen)
}

/// A head and a body as one write: closed by length, by chunks, or by the end of the connection alone.
pub(crate) fn http_answer(status: u16, headers: &[(&str, &str)], body: &[u8], framing: Framing) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a String takes all");
    }
    match framing {
        Framing::Length => write!(head, "content-length: {}\r\n", body.len()).expect("a String takes all"),
        Framing::Chunks => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::Close => {}
    }
    let mut bytes = format!("{head}\r\n").into_bytes();
    if framing == Framing::Chunks {
        for chunk in body.chunks(700) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(body);
    }
    bytes
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunks,
    Close,
}

/// What an answer has to say, read from the raw JSON without our types.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Gist {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Name and arguments.
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) stop: Option<String>,
    /// All tokens, in and out.
    pub(crate) tokens: u64,
}

impl Gist {
    pub(crate) fn of(answer: &ChatResponse) -> Self {
        let mut gist = Self {
            text: answer.text(),
            stop: answer.raw_finish_reason.clone(),
            tokens: answer.usage.total(),
            ..Self::default()
        };
        for part in &answer.message.parts {
            match part {
                Part::Reasoning(part) => gist.reasoning.push_str(&part.text),
                Part::ToolCall(call) => gist.calls.push((
                    call.name.clone(),
                    call.malformed
                        .clone()
                        .map_or(call.arguments.clone(), Value::String),
                )),
                _ => {}
            }
        }
        gist
    }
}

/// Every place to cut a body of this length: all with `STEPWELL_LONG=1`, else every seventh.
pub(crate) fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = if std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1") {
        1
    } else {
        7
    };
    (0..=length).step_by(step)
}

/// Everything an error shows: its sentence, its `Debug`, and those of its causes.
pub(crate) fn shown(error: &stepwell_core::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(text, " {error} {error:?}").expect("a String takes all");
        cause = error.source();
    }
    text
}
