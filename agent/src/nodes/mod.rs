//! The prebuilt nodes: a model, the tools it asks for, a retriever as one of them, and what was found before it is asked.

pub(crate) mod call;
pub(crate) mod hooks;
mod model;
mod output;
pub(crate) mod passages;
mod retrieve;
mod tools;

pub use hooks::{AfterModel, BeforeModel, BeforeTool, Hooks};
pub use model::ModelNode;
pub use output::OutputShape;
pub use passages::{ContextOptions, Passages};
pub use retrieve::{RetrieverTool, retriever_tool};
pub use tools::{Approval, ToolsNode, Verdict};
#[cfg(feature = "mcp")]
pub(crate) use tools::{accepted, overdue};
