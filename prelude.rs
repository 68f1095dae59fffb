//! A dozen names to begin with: `use stepwell::prelude::*;`

pub use crate::agent::{Agent, retriever_tool};
#[cfg(feature = "minilm")]
pub use crate::providers::MiniLm;
pub use crate::rag::Collection;
pub use crate::{
    ChatAs, ChatModel, ChatRequest, Document, Error, Message, Query, Result, Retriever, Scope, StreamEvent,
    Tool, ToolContext, ToolError, model, tool,
};
