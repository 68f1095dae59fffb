//! [`HttpService`] and [`Server::serve_http`]: the same server at an address.

use super::server::{Desk, MESSAGE_BYTES, Server};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::{
    StreamableHttpServerConfig, StreamableHttpService,
    streamable_http_server::session::local::LocalSessionManager,
};
use std::{
    convert::Infallible,
    fmt::{self, Display},
    net::TcpListener,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use stepwell_core::{Cancel, Error, Result, Secret};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower_service::Service;

/// Where [`Server::serve_http`] answers.
const PATH: &str = "/mcp";
/// Connections at a time.
const CONNECTIONS: usize = 256;
/// Sessions at a time; one that is silent for five minutes is let go.
const SESSIONS: usize = 1_000;
/// The time to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// The time to send a body, beside that of the longest call.
const BODY: Duration = Duration::from_secs(30);

/// Who may reach a server at an address.
///
/// A page in a browser can have requests sent to a server on the same machine. So the `Host` of each request has to be
/// one of this machine's own names or one that was added, and a request that carries an `Origin` is refused unless that
/// origin was added.
#[derive(Clone, Debug, Default)]
pub struct HttpAccess {
    hosts: Vec<String>,
    origins: Vec<String>,
    token: Option<Secret>,
}

impl HttpAccess {
    /// Requests to this machine's own names, from no browser.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also to this name, with a port or for every port, such as `tools.example`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Also from pages of this origin, such as `https://app.example:443`; `:*` stands for every port.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Only with this token, as `Authorization: Bearer …`.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }
}

/// A server as a service of HTTP requests, to be mounted at a path of the program's own choice: any router that takes a
/// `tower` service does. `http` and `tower` stand in its signature, as there is no mounting without them. Sessions end
/// when the last clone is dropped.
#[derive(Clone)]
pub struct HttpService {
    inner: StreamableHttpService<Desk, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    token: Option<blake3::Hash>,
    longest: Duration,
    _end: Arc<DropGuard>,
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").finish_non_exhaustive()
    }
}

impl Server {
    /// The server as a service that the program mounts and runs itself.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for tools that cannot be served.
    pub fn http_service(self, access: HttpAccess) -> Result<HttpService> {
        let desk = self.desk()?;
        let longest = desk.longest_call();
        let sessions = Arc::new(LocalSessionManager::default());
        let end = CancellationToken::new();
        let mut config = StreamableHttpServerConfig::default()
            .with_allowed_origins(access.origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(MESSAGE_BYTES)
            .with_cancellation_token(end.clone());
        config.allowed_hosts.extend(access.hosts);
        let inner = StreamableHttpService::new(move || Ok(desk.clone()), Arc::clone(&sessions), config);
        Ok(HttpService {
            inner,
            sessions,
            token: access.token.map(|token| hashed(token.reveal().as_bytes())),
            longest,
            _end: Arc::new(end.drop_guard()),
        })
    }

    /// Serves clients at `/mcp` of this listener until the switch is pulled or the future is dropped.
    ///
    /// There is no TLS: beyond this machine it belongs behind something that has it, and it has to have a token.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for tools that cannot be served, and for a listener that others reach without a token.
    pub async fn serve_http(self, listener: TcpListener, access: HttpAccess, stop: Cancel) -> Result<()> {
        let broken = |error| Error::io("the listener of the MCP server", error);
        let address = listener.local_addr().map_err(broken)?;
        if !address.ip().is_loopback() && access.token.is_none() {
            return Err(Error::invalid(
                "listener",
                "others than this machine reach it: set a token with `HttpAccess::token`, or listen on 127.0.0.1",
            ));
        }
        listener.set_nonblocking(true).map_err(broken)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(broken)?;
        let service = self.http_service(access)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Err(Error::internal("the places of an MCP server were closed"));
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, or gone before it was taken: the next may go better.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            while connections.try_join_next().is_some() {}
            let service = service.clone();
            connections.spawn(async move {
                let _place = place;
                let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let mut service = service.clone();
                    async move {
                        if request.uri().path() == PATH {
                            service.call(request).await
                        } else {
                            Ok(said(StatusCode::NOT_FOUND, "the server answers at /mcp"))
                        }
                    }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(64 << 10);
                let _ = http.serve_connection(TokioIo::new(stream), answer).await; // a client that leaves is no fault
            });
        }
    }
}

/// Of a fixed length, compared in constant time.
fn hashed(token: &[u8]) -> blake3::Hash {
    blake3::hash(token)
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

fn said(status: StatusCode, words: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(words.as_bytes())).boxed());
    *reply.status_mut() = status;
    reply
}

impl HttpService {
    fn is_known<B>(&self, request: &Request<B>) -> bool {
        self.token.is_none_or(|token| {
            request
                .headers()
                .get(header::AUTHORIZATION)
                .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
                .is_some_and(|given| hashed(given) == token)
        })
    }

    async fn is_full(&self) -> bool {
        self.sessions.sessions.read().await.len() >= SESSIONS
    }
}

/// Whether the request may open a session.
fn opens<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST
        && !request.headers().contains_key("mcp-session-id")
        && !request.headers().contains_key("mcp-protocol-version")
}

impl<B> Service<Request<B>> for HttpService
where
    B: Body + Send + 'static,
    B::Data: Send + 'static,
    B::Error: Display,
{
    type Response = Reply;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Reply, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut service = self.clone();
        let (is_known, opens) = (self.is_known(&request), opens(&request));
        Box::pin(async move {
            if !is_known {
                let mut reply = said(StatusCode::UNAUTHORIZED, "the server wants a token");
                let challenge = http::HeaderValue::from_static("Bearer");
                reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                return Ok(reply);
            }
            if opens && service.is_full().await {
                return Ok(said(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the server has no room for another session",
                ));
            }
            let limit = service.longest.saturating_add(BODY);
            match tokio::time::timeout(limit, service.inner.call(request)).await {
                Ok(answered) => answered,
                Err(_) => Ok(said(StatusCode::REQUEST_TIMEOUT, "the request took too long")),
            }
        })
    }
}
