//! Model vendors and offline models: everything here is a [`stepwell_core::ChatModel`] or an embedder.
//!
//! ```text
//! ChatRequest ─▶ encode ─▶ http ─▶ the vendor ─▶ sse ─▶ decoder ─▶ answer ─▶ StreamEvent…
//!               (pure)    (the one client)       (bytes → events → ours, pure)
//! ```
//!
//! A vendor is a folder with its wire as the vendor documents it, two pure directions and a thin client;
//! [`Registry`] finds it by `vendor/model`. Offline there are [`Scripted`], [`Extractive`] and the embedder `minilm`.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use stepwell_core::ChatModel;
//! use stepwell_providers::Scripted;
//! let model = Scripted::new().say("A ledger is a book of accounts.");
//! assert_eq!(model.chat("What is a ledger?".into()).await?.text(), "A ledger is a book of accounts.");
//! # Ok::<(), stepwell_core::Error>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// A build with some vendors alone leaves parts of what they share unused; the whole build tells what died.
#![cfg_attr(
    not(all(
        feature = "anthropic",
        feature = "openai",
        feature = "gemini",
        feature = "ollama",
        feature = "voyage",
        feature = "cohere",
        feature = "minilm"
    )),
    allow(dead_code, unused_imports, unused_macros)
)]

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "anthropic")]
mod anthropic;
#[cfg(feature = "http")]
mod cassette;
mod catalogue;
#[cfg(feature = "http")]
mod client;
pub mod doctor;
#[cfg(any(
    feature = "openai",
    feature = "gemini",
    feature = "ollama",
    feature = "voyage",
    feature = "cohere"
))]
mod embeddings;
mod extractive;
#[cfg(all(test, feature = "http"))]
mod fixtures;
#[cfg(feature = "http")]
mod framing;
#[cfg(all(feature = "http", any(test, feature = "fuzz")))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "gemini")]
mod gemini;
#[cfg(feature = "http")]
mod header;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod json_values;
pub mod layers;
#[cfg(feature = "minilm")]
pub mod minilm;
#[cfg(feature = "http")]
mod ndjson;
#[cfg(feature = "ollama")]
mod ollama;
#[cfg(feature = "openai")]
mod openai;
#[cfg(feature = "http")]
mod options;
mod registry;
#[cfg(any(feature = "openai", feature = "voyage", feature = "cohere"))]
mod rerank;
#[cfg(any(
    feature = "anthropic",
    feature = "openai",
    feature = "gemini",
    feature = "ollama"
))]
mod schema;
mod scripted;
mod seconds;
#[cfg(feature = "http")]
mod sse;
#[cfg(any(
    feature = "anthropic",
    feature = "openai",
    feature = "gemini",
    feature = "ollama"
))]
mod structured;
mod tape;
#[cfg(feature = "http")]
mod tls;
#[cfg(any(
    feature = "openai",
    feature = "gemini",
    feature = "ollama",
    feature = "voyage",
    feature = "cohere"
))]
mod vendor_failure;
#[cfg(feature = "http")]
mod verdict;
#[cfg(feature = "http")]
mod warnings;

#[cfg(feature = "anthropic")]
pub use anthropic::{Anthropic, AnthropicBuilder};
#[cfg(feature = "http")]
pub use cassette::{Cassette, Chunks, Fault};
pub use catalogue::{Catalogue, CatalogueEntry, ModelKind};
#[cfg(any(
    feature = "openai",
    feature = "gemini",
    feature = "ollama",
    feature = "voyage",
    feature = "cohere"
))]
pub use embeddings::{NumberFormat, VendorEmbedder, VendorEmbedderBuilder};
pub use extractive::Extractive;
#[cfg(feature = "gemini")]
pub use gemini::{Gemini, GeminiBuilder};
#[cfg(feature = "http")]
pub use http::HttpOptions;
#[cfg(feature = "minilm")]
pub use minilm::MiniLm;
#[cfg(feature = "ollama")]
pub use ollama::{Ollama, OllamaBuilder};
#[cfg(feature = "openai")]
pub use openai::{
    OpenAi, OpenAiBuilder, OpenAiWire,
    compatible::{OpenAiCompatible, OpenAiCompatibleBuilder, quirks},
};
pub use registry::{ModelOptions, Registry, embedder, model, reranker};
#[cfg(any(feature = "openai", feature = "voyage", feature = "cohere"))]
pub use rerank::{Ranked, Ranking, VendorReranker, VendorRerankerBuilder};
pub use scripted::{IntoAnswer, Scripted};
pub use stepwell_core::{NOT_FOUND, cite_marks};
