//! [`Sink`]: a server that keeps what it is asked and refuses it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const REFUSAL: &[u8] =
    b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{\"error\":{\"message\":\"no.\"}}";

/// Listens until it is dropped.
pub(crate) struct Sink {
    /// `http://127.0.0.1:port`.
    pub(crate) url: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = bodies.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, kept.clone()));
            }
        });
        Self { url, bodies, task }
    }

    /// The bodies since the last time.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.bodies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, bodies: Arc<Mutex<Vec<Vec<u8>>>>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            match socket.read(&mut buffer).await? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        };
        let told = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = told
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .unwrap_or(0);
        while bytes.len() < head + length {
            match socket.read(&mut buffer).await? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        let rest = bytes.split_off(head + length);
        let body = bytes.split_off(head);
        bytes = rest;
        bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        socket.write_all(REFUSAL).await?;
    }
}
