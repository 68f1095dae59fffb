//! [`connect`] and [`Client`]: the tools of somebody else's server.

use super::{
    Http, Pins, Stdio, fault,
    listing::{Listing, Reading},
    stdio::Stderr,
    tool::RemoteTool,
    wire::{Line, Wire},
};
use rmcp::{
    RoleClient,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, Implementation, ListToolsRequest,
        PaginatedRequestParams, ProtocolVersion, ServerResult, SubscriptionFilter, Tool,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, Peer, PeerRequestOptions,
        RunningService, Subscription,
    },
    transport::Transport,
};
use std::{
    collections::HashMap,
    fmt,
    future::IntoFuture,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_core::{DynTool, Error, Result, Timer, ToolOptions};
use tokio::task::JoinHandle;

/// Pages of one list.
const PAGES: usize = 1_000;
/// Times in a row a list may change while it is read.
const CHANGES: usize = 5;
/// Between two tries to hear of changes again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Where a server is: a program to start, or an address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Endpoint {
    /// A child process.
    Stdio(Stdio),
    /// An address.
    Http(Http),
}

impl From<Stdio> for Endpoint {
    fn from(server: Stdio) -> Self {
        Self::Stdio(server)
    }
}

impl From<Http> for Endpoint {
    fn from(server: Http) -> Self {
        Self::Http(server)
    }
}

/// Bounds on what a server may send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientLimits {
    /// Tools of one server; 1,000. A server with more is refused.
    pub tools: usize,
    /// Bytes of one tool's description; 16 KiB. A tool with more is left out.
    pub description_bytes: usize,
    /// Bytes of one tool's schema as JSON; 64 KiB. A tool with more is left out.
    pub schema_bytes: usize,
    /// Bytes of one message; 16 MiB. A server that sends more is hung up on.
    pub message_bytes: usize,
    /// Bytes that are kept of a child's error output, from its end; 64 KiB.
    pub stderr_bytes: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            tools: 1_000,
            description_bytes: 16 << 10,
            schema_bytes: 64 << 10,
            message_bytes: 16 << 20,
            stderr_bytes: 64 << 10,
        }
    }
}

/// A connection to be made; `.await` makes it. See [`connect`].
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `.await`"]
pub struct Connect {
    pub(super) name: String,
    endpoint: Endpoint,
    pub(super) prefix: String,
    pins: Option<Pins>,
    pub(super) trusts_hints: bool,
    pub(super) options: HashMap<String, ToolOptions>,
    connect_timeout: Duration,
    pub(super) call_timeout: Duration,
    reconnects: u32,
    pub(super) limits: ClientLimits,
}

/// Connects to a server of tools. The name is ours, for messages.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_agent::mcp::{Stdio, connect};
/// let files = connect("files", Stdio::new("npx").args(["-y", "some-server@1.2.3", "/srv/data"]))
///     .prefix("files_")
///     .await?;
/// for tool in files.tools() {
///     println!("{}: {}", tool.spec().name, tool.spec().description);
/// }
/// # Ok(()) }
/// ```
pub fn connect(name: impl Into<String>, endpoint: impl Into<Endpoint>) -> Connect {
    Connect {
        name: name.into(),
        endpoint: endpoint.into(),
        prefix: String::new(),
        pins: None,
        trusts_hints: false,
        options: HashMap::new(),
        connect_timeout: Duration::from_secs(30),
        call_timeout: Duration::from_mins(1),
        reconnects: 0,
        limits: ClientLimits::default(),
    }
}

impl Connect {
    /// Puts this before the name of each tool, so that those of two servers do not clash.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Takes only tools that say exactly what they said when they were pinned ([`Client::pins`]). A server with another
    /// one, or with a new one, is refused.
    pub fn pinned(mut self, pins: Pins) -> Self {
        self.pins = Some(pins);
        self
    }

    /// Believes what the server says of its tools: that one only reads, or may be repeated. Off: each counts as
    /// [`Risk::Write`](stepwell_core::Risk::Write) and [`Effect::AtMostOnce`](stepwell_core::Effect::AtMostOnce),
    /// whatever the server says, since anyone can write "read only" over a tool that deletes.
    pub fn trust_hints(mut self, trusts: bool) -> Self {
        self.trusts_hints = trusts;
        self
    }

    /// What the program itself knows of a tool, by the server's name for it: its effect, risk and time limit.
    pub fn tool_options(mut self, tool: impl Into<String>, options: ToolOptions) -> Self {
        self.options.insert(tool.into(), options);
        self
    }

    /// The time to start it, shake hands and read its tools; 30 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The time of one call, for tools without one of their own; 60 s.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// How often in all a lost connection may be made again; never by default. It is made by the next call, after which
    /// the tools are read and compared anew. The call that was under way when the connection was lost fails and is not
    /// repeated: its outcome is not known.
    pub fn reconnect(mut self, times: u32) -> Self {
        self.reconnects = times;
        self
    }

    /// Sets the bounds on what the server may send.
    pub fn limits(mut self, limits: ClientLimits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn server(&self) -> String {
        format!("the MCP server `{}`", self.name)
    }
}

impl IntoFuture for Connect {
    type Output = Result<Client>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Client>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let link = Link {
                stderr: Arc::new(Stderr::new(self.limits.stderr_bytes)),
                left: AtomicU32::new(self.reconnects),
                pins: RwLock::new(self.pins.clone()),
                connect: self,
                session: RwLock::default(),
                listing: RwLock::default(),
                turn: tokio::sync::Mutex::default(),
            };
            let session = link.open().await?;
            let reading = link.read(&session).await?;
            link.check_pins(&reading)?;
            link.keep(session);
            link.accept(reading);
            Ok(Client { link: Arc::new(link) })
        })
    }
}

/// A tool that is not handed out, or is shown otherwise than the server wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The server's name for the tool, hidden characters written out.
    pub tool: String,
    /// Whether the tool was left out.
    pub is_left_out: bool,
    /// What was found, in one sentence.
    pub message: String,
}

/// A server's tools. Clones share the connection; it ends, and a child process with it, when the last clone and the
/// last of the tools are dropped.
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.link.connect.name)
            .field("endpoint", &self.link.connect.endpoint)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// The tools, as they were when connected or last refreshed.
    pub fn tools(&self) -> Vec<Arc<dyn DynTool>> {
        let listing = read(&self.link.listing);
        listing
            .faces
            .iter()
            .map(|face| RemoteTool::new(Arc::clone(&self.link), Arc::clone(face)) as Arc<dyn DynTool>)
            .collect()
    }

    /// What the tools say now, to be kept and given to [`Connect::pinned`] the next time. Somebody should have read them.
    pub fn pins(&self) -> Pins {
        read(&self.link.listing).pins()
    }

    /// Tools that were left out, with the reason, and tools with hidden characters in what they say.
    pub fn findings(&self) -> Vec<Finding> {
        read(&self.link.listing).findings.clone()
    }

    /// Reads the tools anew. Tools handed out before whose words have changed stay refused; take [`Client::tools`] again.
    ///
    /// # Errors
    /// [`Error::PinMismatch`] where there are pins and a tool is not what they say; those of a lost connection.
    pub async fn refresh(&self) -> Result<()> {
        let _turn = self.link.turn.lock().await;
        let session = self.link.alive().await?;
        let reading = self.link.read(&session).await?;
        self.link.check_pins(&reading)?;
        self.link.accept(reading);
        Ok(())
    }

    /// Goes by these pins from now on, and reads the tools anew.
    ///
    /// # Errors
    /// As [`Client::refresh`].
    pub async fn repin(&self, pins: Pins) -> Result<()> {
        *self.link.pins.write().unwrap_or_else(PoisonError::into_inner) = Some(pins);
        self.refresh().await
    }

    /// The end of what a child process wrote to its error output: for a developer's eyes, as it may hold anything.
    /// Empty for a server at an address.
    pub fn stderr(&self) -> String {
        self.link.stderr.text()
    }

    /// Ends the connection, and a child process with all that it started; returns when it is gone. Calls under way fail.
    pub async fn close(&self) {
        let session = {
            let mut held = self.link.session.write().unwrap_or_else(PoisonError::into_inner);
            held.take()
        };
        self.link.left.store(0, Ordering::Relaxed);
        if let Some(session) = session {
            session.line.ended.cancel();
            let running = session.running.lock().await.take();
            if let Some(running) = running {
                let _ = running.cancel().await; // it has ended either way
            }
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection.
pub(super) struct Session {
    pub(super) peer: Peer<RoleClient>,
    pub(super) line: Arc<Line>,
    running: tokio::sync::Mutex<Option<RunningService<RoleClient, ClientConfig>>>,
    listener: Option<JoinHandle<()>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// What the client and its tools share.
pub(super) struct Link {
    pub(super) connect: Connect,
    stderr: Arc<Stderr>,
    /// Reconnects that are left.
    left: AtomicU32,
    pins: RwLock<Option<Pins>>,
    session: RwLock<Option<Arc<Session>>>,
    listing: RwLock<Listing>,
    /// Connecting and reading the tools go one at a time; calls do not wait for it.
    turn: tokio::sync::Mutex<()>,
}

impl Link {
    fn keep(&self, session: Arc<Session>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    fn accept(&self, reading: Reading) {
        self.listing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .accept(reading);
    }

    fn check_pins(&self, reading: &Reading) -> Result<()> {
        read(&self.pins)
            .as_ref()
            .map_or(Ok(()), |pins| reading.check(pins, &self.connect.name))
    }

    /// Whether the server still says of a tool what it said when it was handed out.
    pub(super) fn stands(&self, tool: &str, digest: &str) -> Option<bool> {
        read(&self.listing).now(tool).map(|now| now == digest)
    }

    fn current(&self) -> Option<Arc<Session>> {
        read(&self.session)
            .clone()
            .filter(|session| !session.line.ended.is_cancelled())
    }

    /// A connection whose list of tools is known to be what was read.
    pub(super) async fn ready(&self) -> Result<Arc<Session>> {
        if let Some(session) = self.current()
            && !session.line.is_stale.load(Ordering::Acquire)
        {
            return Ok(session);
        }
        let _turn = self.turn.lock().await;
        let session = self.alive().await?;
        if session.line.is_stale.load(Ordering::Acquire) {
            let reading = self.read(&session).await?;
            self.listing
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .note(&reading);
        }
        Ok(session)
    }

    /// The connection, made again where it was lost and that is allowed.
    async fn alive(&self) -> Result<Arc<Session>> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let had = read(&self.session).clone();
        let allowed = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if allowed.is_err() {
            return Err(fault::lost(
                &self.connect,
                had.as_deref().map(|session| &*session.line),
            ));
        }
        let session = self.open().await?;
        session.line.is_stale.store(true, Ordering::Release);
        self.keep(Arc::clone(&session));
        let reading = self.read(&session).await?;
        self.listing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .note(&reading);
        Ok(session)
    }

    async fn open(&self) -> Result<Arc<Session>> {
        let line = Arc::new(Line::default());
        let limit = self.connect.connect_timeout;
        let opening = async {
            match &self.connect.endpoint {
                Endpoint::Stdio(stdio) => {
                    let bytes = self.connect.limits.message_bytes;
                    let child = stdio.start(&self.connect.name, bytes, &self.stderr, &line)?;
                    self.shake(child, &line).await
                }
                Endpoint::Http(http) => {
                    let wire = http.open(self.connect.limits.message_bytes)?;
                    self.shake(wire, &line).await
                }
            }
        };
        tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|_| Err(self.late("the handshake with", limit)))
    }

    fn late(&self, what: &str, after: Duration) -> Error {
        Error::Timeout {
            what: format!("{what} {}", self.connect.server()),
            after,
            timer: Timer::Connect,
            partial: None,
        }
    }

    async fn shake<T>(&self, transport: T, line: &Arc<Line>) -> Result<Arc<Session>>
    where
        T: Transport<RoleClient> + 'static,
    {
        let who = Implementation::new("stepwell", env!("CARGO_PKG_VERSION"));
        // No capability is declared: nobody here samples, lists roots or fills in forms for a server.
        let config = ClientConfig::new(ClientCapabilities::default(), who);
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        let wire = Wire::new(transport, Arc::clone(line));
        let running = config
            .serve_with_lifecycle(wire, lifecycle)
            .await
            .map_err(|error: ClientInitializeError| fault::handshake(&self.connect, line, &error))?;
        let peer = running.peer().clone();
        let listener = self.listen(&peer, line).await;
        Ok(Arc::new(Session {
            peer,
            line: Arc::clone(line),
            running: tokio::sync::Mutex::new(Some(running)),
            listener,
        }))
    }

    /// Where the protocol wants changes of the list to be asked for, asks, and goes on asking while the session lives.
    async fn listen(&self, peer: &Peer<RoleClient>, line: &Arc<Line>) -> Option<JoinHandle<()>> {
        let info = peer.peer_info()?;
        let tells = info.capabilities.tools.as_ref()?.list_changed == Some(true);
        if !tells || info.protocol_version.has_initialize() {
            return None;
        }
        let first = ask_for_changes(peer).await?;
        let (peer, line) = (peer.clone(), Arc::clone(line));
        Some(tokio::spawn(async move {
            let mut subscription = Some(first);
            while !line.ended.is_cancelled() {
                if let Some(mut heard) = subscription.take() {
                    while let Ok(Some(_)) = heard.next().await {}
                }
                // Whatever changed while nobody listened is found by reading again.
                line.is_stale.store(true, Ordering::Release);
                tokio::time::sleep(LISTEN_AGAIN).await;
                subscription = ask_for_changes(&peer).await;
            }
        }))
    }

    /// Reads the whole list, again where it changed meanwhile.
    async fn read(&self, session: &Session) -> Result<Reading> {
        for _ in 0..CHANGES {
            session.line.is_stale.store(false, Ordering::Release);
            let limit = self.connect.connect_timeout;
            let tools = match tokio::time::timeout(limit, self.pages(session)).await {
                Ok(Ok(tools)) => tools,
                Ok(Err(error)) => {
                    session.line.is_stale.store(true, Ordering::Release);
                    return Err(error);
                }
                Err(_) => {
                    session.line.is_stale.store(true, Ordering::Release);
                    return Err(self.late("the list of tools of", limit));
                }
            };
            if !session.line.is_stale.load(Ordering::Acquire) {
                return Ok(Reading::new(&self.connect, tools));
            }
        }
        Err(Error::InvalidResponse {
            provider: self.connect.server(),
            message: "its list of tools changes as fast as it is read".into(),
        })
    }

    async fn pages(&self, session: &Session) -> Result<Vec<Tool>> {
        let has_tools = session
            .peer
            .peer_info()
            .is_some_and(|info| info.capabilities.tools.is_some());
        let (mut tools, mut cursor) = (Vec::new(), None);
        if !has_tools {
            return Ok(tools);
        }
        for _ in 0..PAGES {
            let mut request = ListToolsRequest::default();
            request.params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            // Not by the library's own list: it may answer from its cache.
            let asked = session
                .peer
                .send_request_with_option(
                    ClientRequest::ListToolsRequest(request),
                    PeerRequestOptions::no_options(),
                )
                .await
                .map_err(|error| fault::call(&self.connect, &session.line, &error))?;
            let answer = tokio::select! {
                biased;
                answer = asked.await_response() => answer,
                () = session.line.ended.cancelled() => return Err(fault::lost(&self.connect, Some(&session.line))),
            };
            let page = match answer.map_err(|error| fault::call(&self.connect, &session.line, &error))? {
                ServerResult::ListToolsResult(page) => page,
                _ => {
                    return Err(Error::InvalidResponse {
                        provider: self.connect.server(),
                        message: "its list of tools has another shape than the protocol's".into(),
                    });
                }
            };
            tools.extend(page.tools);
            if tools.len() > self.connect.limits.tools {
                return Err(Error::LimitExceeded {
                    what: format!("the list of tools of {}", self.connect.server()),
                    limit: format!("{} tools (`ClientLimits::tools`)", self.connect.limits.tools),
                });
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(tools);
            }
        }
        Err(Error::LimitExceeded {
            what: format!("the list of tools of {}", self.connect.server()),
            limit: format!("{PAGES} pages"),
        })
    }
}

async fn ask_for_changes(peer: &Peer<RoleClient>) -> Option<Subscription> {
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    peer.listen(filter).await.ok()
}
