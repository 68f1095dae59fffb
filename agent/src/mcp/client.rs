//! [`Client`]: the tools of somebody else's server.

use super::{Pins, link::Link, tool::RemoteTool};
use std::{fmt, sync::Arc};
use stepwell_core::{DynTool, Result};

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
    pub(super) fn new(link: Link) -> Self {
        Self { link: Arc::new(link) }
    }

    /// The tools, as they were when connected or last refreshed.
    pub fn tools(&self) -> Vec<Arc<dyn DynTool>> {
        self.link
            .faces()
            .into_iter()
            .map(|face| RemoteTool::new(Arc::clone(&self.link), face) as Arc<dyn DynTool>)
            .collect()
    }

    /// What the tools say now, to be kept and given to [`Connect::pinned`](super::Connect::pinned) the next time. Somebody should have read them.
    pub fn pins(&self) -> Pins {
        self.link.pins()
    }

    /// Tools that were left out, with the reason, and tools with hidden characters in what they say.
    pub fn findings(&self) -> Vec<Finding> {
        self.link.findings()
    }

    /// Reads the tools anew. Tools handed out before whose words have changed stay refused; take [`Client::tools`] again.
    ///
    /// # Errors
    /// [`Error::PinMismatch`](stepwell_core::Error::PinMismatch) where there are pins and a tool is not what they say; those of a lost connection.
    pub async fn refresh(&self) -> Result<()> {
        self.link.refresh().await
    }

    /// Goes by these pins from now on, and reads the tools anew.
    ///
    /// # Errors
    /// As [`Client::refresh`].
    pub async fn repin(&self, pins: Pins) -> Result<()> {
        self.link.set_pins(pins);
        self.refresh().await
    }

    /// The end of what a child process wrote to its error output: for a developer's eyes, as it may hold anything.
    /// Empty for a server at an address.
    pub fn stderr(&self) -> String {
        self.link.stderr()
    }

    /// Ends the connection, and a child process with all that it started; returns when it is gone. Calls under way fail.
    pub async fn close(&self) {
        self.link.close().await;
    }
}
