//! [`connect`]: where a server is, and what is agreed with it beforehand.

use super::{Client, Http, Pins, Stdio, link::Link};
use std::{collections::HashMap, future::IntoFuture, pin::Pin, time::Duration};
use stepwell_core::{Result, ToolOptions};

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
    pub(super) endpoint: Endpoint,
    pub(super) prefix: String,
    pub(super) pins: Option<Pins>,
    pub(super) trusts_hints: bool,
    pub(super) options: HashMap<String, ToolOptions>,
    pub(super) handshake: Duration,
    pub(super) call_timeout: Duration,
    pub(super) reconnects: u32,
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
        handshake: Duration::from_secs(30),
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
        self.handshake = limit;
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
        Box::pin(async move { Ok(Client::new(Link::open(self).await?)) })
    }
}
