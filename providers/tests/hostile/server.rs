//! A server that does what a script says, over a real socket: drips, stalls, resets, lies, never ends.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// What the server does with a connection, once it has read the request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// So many bytes at a time, with so many milliseconds before each.
    Drip(Vec<u8>, usize, u64),
    /// Milliseconds.
    Wait(u64),
    /// The same bytes over and over, until the client closes.
    Forever(Vec<u8>),
    /// Nothing more, until the client closes; [`Server::hung_up`] counts these.
    Stall,
    /// The connection breaks.
    Reset,
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Answers connection number `n` (from 0) as the script of that number says.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    hung_up: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

type Script = Arc<dyn Fn(usize) -> Vec<Act> + Send + Sync>;

impl Server {
    /// The same script for every connection.
    pub(crate) async fn always(script: Vec<Act>) -> Self {
        Self::start(move |_| script.clone()).await
    }

    pub(crate) async fn start(script: impl Fn(usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::run(Arc::new(script), None, "http").await
    }

    /// Behind TLS; `localhost` is its name in the address.
    pub(crate) async fn secure(config: ServerConfig, script: Vec<Act>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::run(Arc::new(move |_| script.clone()), Some(acceptor), "https").await
    }

    async fn run(script: Script, tls: Option<TlsAcceptor>, scheme: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let host = if tls.is_some() { "localhost" } else { "127.0.0.1" };
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let hung_up: Arc<AtomicUsize> = Arc::default();
        let (log, count) = (seen.clone(), hung_up.clone());
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut socket, _)) = listener.accept().await {
                let (acts, log, count, tls) = (script(number), log.clone(), count.clone(), tls.clone());
                number += 1;
                tokio::spawn(async move {
                    if let Some(tls) = tls {
                        if let Ok(mut socket) = tls.accept(socket).await {
                            play(&mut socket, acts, &log, &count).await;
                            let _ = socket.shutdown().await;
                        }
                    } else if play(&mut socket, acts, &log, &count).await {
                        let _ = socket.set_zero_linger();
                    } else {
                        let _ = socket.shutdown().await;
                    }
                });
            }
        });
        Self {
            url: format!("{scheme}://{host}:{port}"),
            seen,
            hung_up,
            task,
        }
    }

    /// How many clients closed a connection that was stalled.
    pub(crate) fn hung_up(&self) -> usize {
        self.hung_up.load(Ordering::SeqCst)
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

/// Plays a script; whether it ends with a reset.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    acts: Vec<Act>,
    log: &Mutex<Vec<Seen>>,
    hung_up: &AtomicUsize,
) -> bool {
    let Some(request) = read_request(socket).await else {
        return false;
    };
    log.lock().expect("no panic inside").push(request);
    for act in acts {
        match act {
            Act::Send(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            Act::Drip(bytes, size, wait) => {
                for piece in bytes.chunks(size) {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    if socket.write_all(piece).await.is_err() || socket.flush().await.is_err() {
                        return false;
                    }
                }
            }
            Act::Wait(wait) => tokio::time::sleep(Duration::from_millis(wait)).await,
            Act::Forever(bytes) => while socket.write_all(&bytes).await.is_ok() {},
            Act::Stall => {
                let _ = socket.flush().await;
                while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                hung_up.fetch_add(1, Ordering::SeqCst);
            }
            Act::Reset => {
                // What was sent is on its way before the connection breaks.
                tokio::time::sleep(Duration::from_millis(5)).await;
                return true;
            }
        }
    }
    let _ = socket.flush().await;
    false
}

async fn read_request<S: AsyncRead + Unpin>(socket: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 << 10];
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
    let mut body = bytes.split_off(head_end + 4);
    let mut seen = Seen {
        path: head.split(' ').nth(1)?.to_owned(),
        head,
        body: String::new(),
    };
    let length: usize = seen
        .header("content-length")
        .map_or(Some(0), |length| length.parse().ok())?;
    while body.len() < length {
        match socket.read(&mut buffer).await.ok()? {
            0 => return None,
            count => body.extend_from_slice(&buffer[..count]),
        }
    }
    seen.body = String::from_utf8_lossy(&body).into_owned();
    Some(seen)
}

/// A head; `fields` are whole lines.
pub(crate) fn head(status: u16, fields: &[&str]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for field in fields {
        write!(head, "{field}\r\n").expect("a String takes all");
    }
    (head + "\r\n").into_bytes()
}

/// A head and a body of a known length.
pub(crate) fn answer(status: u16, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let mut bytes = head(status, &[&format!("content-type: {kind}"), &length]);
    bytes.extend_from_slice(body);
    bytes
}
