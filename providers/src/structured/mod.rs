//! Structured answers over every wire: how a vendor is brought to answer in a shape, and the check of what it answers.
//!
//! ```text
//! ChatRequest ─▶ plan ─▶ the vendor's request ─▶ its events ─▶ turn: text alone, checked ─▶ events
//!               (pure)                            └─ two phases: a second request when the first is answered
//! ```
//!
//! A client says what its vendor can ([`Means`]) and how a request is sent ([`Sends`]); all else is here, so a reader
//! sees the same events whichever way was taken, and a [`StreamEvent::Structured`] with the checked JSON before the end.
//!
//! [`StreamEvent::Structured`]: stepwell_core::StreamEvent::Structured

mod plan;
#[cfg(all(
    test,
    feature = "anthropic",
    feature = "openai",
    feature = "gemini",
    feature = "ollama"
))]
mod scripted;
mod text;
mod turn;
mod wrap;

pub(crate) use plan::Means;

use async_trait::async_trait;
use stepwell_core::{ChatRequest, ChatStream, ResponseFormat, Result};

/// A vendor's client, as far as a structured answer needs it.
#[async_trait]
pub(crate) trait Sends: Clone + Send + Sync + 'static {
    /// What the vendor can for this request.
    fn means(&self, request: &ChatRequest) -> Means;

    /// Vendor and model of the answers.
    fn name(&self) -> (String, String);

    /// Sends a request as it is.
    async fn send(&self, request: ChatRequest) -> Result<ChatStream>;
}

/// The answer to a request, in the shape it asks for.
///
/// # Errors
/// What the vendor fails with; the stream ends with [`stepwell_core::Error::SchemaMismatch`] where the answer came whole
/// and has another shape.
pub(crate) async fn stream(client: &impl Sends, request: ChatRequest) -> Result<ChatStream> {
    if matches!(request.response_format, ResponseFormat::Text) {
        return client.send(request).await;
    }
    let plan = plan::plan(client.means(&request), request)?;
    turn::run(client.clone(), plan).await
}
