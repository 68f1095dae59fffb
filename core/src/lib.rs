//! The words and contracts of stepwell: what a message, a model, a tool, a retriever, a store is.
//!
//! No network, no index, no runtime lives here. `providers`, `agent`, `rag` and `stores` each know this crate
//! and not one another; the facade crate `stepwell` introduces them.
//!
//! ```text
//! ChatRequest ─▶ ChatModel ─▶ StreamEvent… ─▶ ChatResponse ─▶ ToolCall ─▶ Policy ─▶ Tool ─▶ ToolResult
//!                                                                             Query ─▶ Retriever ─▶ Hit
//! ```
//!
//! Start with [`Message`] and [`ChatModel`]; then [`Tool`]; then [`Retriever`]; [`store`] last.
//!
//! ```
//! use stepwell_core::{ChatRequest, Message};
//! let request = ChatRequest::new([Message::system("Answer in one sentence."), Message::user("What is a ledger?")]);
//! assert_eq!(request.messages[1].text(), "What is a ledger?");
//! ```

mod attempt;
mod budget;
mod cancel;
mod chat;
mod cite;
mod document;
mod embed;
mod error;
mod fence;
mod filter;
mod message;
mod partial_json;
mod parts;
mod policy;
mod pricing;
mod retrieve;
mod schema;
mod secret;
pub mod store;
mod stream;
mod structured;
pub mod telemetry;
mod tokens;
mod tool;
mod usage;
pub mod words;

pub use attempt::Attempt;
pub use budget::{Budget, BudgetLimits, Reservation, Spend};
pub use cancel::Cancel;
pub use chat::{
    Abilities, CacheMode, ChatModel, ChatRequest, ChatResponse, ModelInfo, RateLimit, ReasoningEffort,
    ReasoningOptions, Refusal, ResponseFormat, ToolChoice, Warning,
};
pub use cite::{NOT_FOUND, cite_marks, find_quote, quote_for};
pub use document::{Chunk, Citation, Document, Heading, PageSpan};
pub use embed::{EmbedKind, Embedder, EmbedderInfo, Embeddings};
pub use error::{BoxError, Error, Result, Timer, VendorFailure};
pub use fence::fence;
pub use filter::{Filter, FilterValue};
pub use message::{
    CachePoint, Data, Media, MediaSource, Message, Opaque, Origin, Part, Reasoning, Role, Text, ToolCall,
    ToolResult, Unknown,
};
pub use partial_json::PartialJson;
pub use parts::Parts;
pub use policy::{AllowAll, AskBeforeEffects, Decision, Limits, Policy, PolicyRequest};
pub use pricing::{Cost, Price, PriceTable, PriceTier};
pub use retrieve::{
    Explanation, Hit, HitUnit, LegScore, Query, Reranker, Retriever, SearchMode, WordMatching,
};
pub use schema::{CompiledSchema, Dialect, Schema, SchemaChange, SchemaLoss, SchemaSize, Violation};
pub use secret::Secret;
pub use store::Scope;
pub use stream::{ChatStream, Fold, StreamEvent, collect, whole};
pub use structured::{ChatAs, PartialAnswer, SchemaFault, Structured, StructuredStrategy, TypedAnswer};
pub use tokens::{HeuristicTokens, TokenCounter};
pub use tool::{
    DynTool, Effect, IntoDynTool, ProgressSink, Risk, Tool, ToolContext, ToolError, ToolOptions, ToolOutput,
    ToolSpec, erase,
};
pub use usage::{FinishReason, Usage};

/// What the macros of `stepwell-macros` expand to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use async_trait;
    pub use schemars;
    pub use serde;
    pub use serde_json;
}
