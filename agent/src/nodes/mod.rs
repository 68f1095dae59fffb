//! The prebuilt nodes: a model, the tools it asks for, and a retriever as one of them.

mod model;
mod retrieve;
mod tools;

pub use model::ModelNode;
pub use retrieve::{RetrieverTool, retriever_tool};
pub use tools::ToolsNode;
#[cfg(feature = "mcp")]
pub(crate) use tools::{accepted, overdue};
