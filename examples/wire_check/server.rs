//! [`ReplayServer`]: answers over a real local socket with recorded bytes, and keeps what it was asked.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What to answer next: each piece is one chunk of the transfer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub pieces: Vec<Vec<u8>>,
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// With its query.
    pub path: String,
    head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Answer>,
    seen: VecDeque<Request>,
    last_body: Option<Vec<u8>>,
    /// Sent in place of the body of every answer.
    other_answer: Option<Vec<u8>>,
    /// Seen in place of the body of every request.
    other_request: Option<Vec<u8>>,
}

/// One for the whole check.
#[derive(Debug)]
pub struct ReplayServer {
    /// `http://127.0.0.1:port`.
    pub url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl ReplayServer {
    /// Listens.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    // A client that hangs up early is its own matter.
                    let _ = tokio::time::timeout(Duration::from_mins(1), serve(socket, &state)).await;
                });
            }
        });
        Ok(Self { url, state, task })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request gets this answer.
    pub fn expect(&self, answer: Answer) {
        self.state().answers.push_back(answer);
    }

    /// From now on another body is answered, or another one seen than was sent: what is checked then has to fail.
    pub fn tamper(&self, answer: Option<Vec<u8>>, request: Option<Vec<u8>>) {
        let mut state = self.state();
        (state.other_answer, state.other_request) = (answer, request);
    }

    /// Whether anything is changed on its way.
    pub fn is_tampering(&self) -> bool {
        let state = self.state();
        state.other_answer.is_some() || state.other_request.is_some()
    }

    /// The body of the latest request since the last time, as it was sent.
    pub fn take_last_body(&self) -> Option<Vec<u8>> {
        self.state().last_body.take()
    }

    /// The requests since the last time, oldest first; answers nobody asked for are dropped.
    pub fn take(&self) -> Vec<Request> {
        let mut state = self.state();
        state.answers.clear();
        state.seen.drain(..).collect()
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let Some(mut request) = read(&mut socket).await? else {
        return Ok(());
    };
    let answer = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last_body = Some(request.body.clone());
        if let Some(other) = &state.other_request {
            request.body.clone_from(other);
        }
        state.seen.push_back(request);
        let other = state.other_answer.clone();
        state.answers.pop_front().map(|answer| match other {
            Some(other) => Answer {
                pieces: vec![other],
                ..answer
            },
            None => answer,
        })
    };
    let answer = answer.unwrap_or(Answer {
        status: 599,
        headers: Vec::new(),
        pieces: vec![b"nothing was expected".to_vec()],
    });
    let mut head = format!(
        "HTTP/1.1 {} Recorded\r\nconnection: close\r\ntransfer-encoding: chunked\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        let is_ours = matches!(
            name.as_str(),
            "connection" | "transfer-encoding" | "content-length" | "content-encoding"
        );
        if !is_ours {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    let mut bytes = format!("{head}\r\n").into_bytes();
    for piece in answer.pieces.iter().filter(|piece| !piece.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    socket.write_all(&bytes).await?;
    socket.shutdown().await
}

async fn read(socket: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match socket.read(&mut buffer).await? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut request = Request {
        path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
        head,
        body: bytes.split_off(head_end + 4),
    };
    let length: usize = request
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while request.body.len() < length {
        match socket.read(&mut buffer).await? {
            0 => return Ok(None),
            count => request.body.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(Some(request))
}
