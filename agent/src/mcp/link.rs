//! [`Link`]: what a client and its tools share: the connection, made again where it is lost and that is allowed, and the
//! list of tools, read again where it has changed.

use super::{
    Connect, Endpoint, Finding, Pins, fault,
    listing::{Face, Listing, Reading},
    stdio::Stderr,
    wire::{Line, Wire},
};
use rmcp::{
    RoleClient,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, Implementation, ListToolsRequest,
        PaginatedRequestParams, ProtocolVersion, ServerResult, SubscriptionFilter, Tool,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt, Peer, PeerRequestOptions, RunningService, Subscription,
    },
    transport::Transport,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_core::{Error, Result, Timer};
use tokio::task::JoinHandle;

/// Pages of one list.
const PAGES: usize = 1_000;
/// Times in a row a list may change while it is read.
const CHANGES: usize = 5;
/// Between two tries to hear of changes again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection.
pub(super) struct Session {
    pub(super) peer: Peer<RoleClient>,
    pub(super) line: Arc<Line>,
    running: Mutex<Option<RunningService<RoleClient, ClientConfig>>>,
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
    /// Connects, reads the tools and takes them where they are what the pins say.
    pub(super) async fn open(connect: Connect) -> Result<Self> {
        let link = Self {
            stderr: Arc::new(Stderr::new(connect.limits.stderr_bytes)),
            left: AtomicU32::new(connect.reconnects),
            pins: RwLock::new(connect.pins.clone()),
            connect,
            session: RwLock::default(),
            listing: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
        };
        let session = link.dial().await?;
        link.take(&session).await?;
        *write(&link.session) = Some(session);
        Ok(link)
    }

    pub(super) fn faces(&self) -> Vec<Arc<Face>> {
        read(&self.listing).faces.clone()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        read(&self.listing).findings.clone()
    }

    pub(super) fn pins(&self) -> Pins {
        read(&self.listing).pins()
    }

    pub(super) fn set_pins(&self, pins: Pins) {
        *write(&self.pins) = Some(pins);
    }

    pub(super) fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub(super) async fn refresh(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let session = self.alive().await?;
        self.take(&session).await
    }

    pub(super) async fn close(&self) {
        self.left.store(0, Ordering::Relaxed);
        let session = write(&self.session).take();
        if let Some(session) = session {
            session.line.ended.cancel();
            let running = session
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(running) = running {
                let _ = running.cancel().await; // it has ended either way
            }
        }
    }

    /// Reads the tools and hands them out from now on.
    async fn take(&self, session: &Session) -> Result<()> {
        let reading = self.read(session).await?;
        let refused = match &*read(&self.pins) {
            Some(pins) => reading.check(pins, &self.connect.name),
            None => Ok(()),
        };
        let mut listing = write(&self.listing);
        match refused {
            Ok(()) => listing.accept(reading),
            // What was handed out before is refused from now on where the server says something else of it.
            Err(_) => listing.note(&reading),
        }
        refused
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
            write(&self.listing).note(&reading);
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
        let session = self.dial().await?;
        session.line.is_stale.store(true, Ordering::Release);
        *write(&self.session) = Some(Arc::clone(&session));
        let reading = self.read(&session).await?;
        write(&self.listing).note(&reading);
        Ok(session)
    }

    async fn dial(&self) -> Result<Arc<Session>> {
        let line = Arc::new(Line::default());
        let limit = self.connect.handshake;
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
        let running = match config.serve_with_lifecycle(wire, lifecycle).await {
            Ok(running) => running,
            Err(error) => {
                if matches!(self.connect.endpoint, Endpoint::Stdio(_)) {
                    line.drained.cancelled().await;
                }
                let error = fault::handshake(&self.connect, line, &error);
                return Err(fault::with_stderr(error, self.stderr()));
            }
        };
        let peer = running.peer().clone();
        let listener = self.listen(&peer, line).await;
        Ok(Arc::new(Session {
            peer,
            line: Arc::clone(line),
            running: Mutex::new(Some(running)),
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
            let doubt = Doubt::new(&session.line.is_stale);
            let limit = self.connect.handshake;
            let tools = tokio::time::timeout(limit, self.pages(session))
                .await
                .unwrap_or_else(|_| Err(self.late("the list of tools of", limit)))?;
            if doubt.settle() {
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
            let request = ListToolsRequest {
                params: cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor))),
                ..ListToolsRequest::default()
            };
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
            let answer = answer.map_err(|error| fault::call(&self.connect, &session.line, &error))?;
            let ServerResult::ListToolsResult(page) = answer else {
                return Err(Error::InvalidResponse {
                    provider: self.connect.server(),
                    message: "its list of tools has another shape than the protocol's".into(),
                });
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

/// A list while it is read: known to be what the server says from here on, unless it changes meanwhile, cannot be read, or
/// nobody waits for it to its end.
struct Doubt<'a> {
    is_stale: &'a AtomicBool,
    is_settled: bool,
}

impl<'a> Doubt<'a> {
    fn new(is_stale: &'a AtomicBool) -> Self {
        is_stale.store(false, Ordering::Release);
        Self {
            is_stale,
            is_settled: false,
        }
    }

    /// It was read to its end; whether it did not change meanwhile.
    fn settle(mut self) -> bool {
        self.is_settled = true;
        !self.is_stale.load(Ordering::Acquire)
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.is_stale.store(true, Ordering::Release);
        }
    }
}

async fn ask_for_changes(peer: &Peer<RoleClient>) -> Option<Subscription> {
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    peer.listen(filter).await.ok()
}
