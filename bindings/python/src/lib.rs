//! `stepwell._native`: the engine as Python's private module. The public layer is `python/stepwell`.
//!
//! Here values are converted, calls made and errors mapped; there is no logic of the engine's own kind.

mod agent;
mod bridge;
mod bring;
mod caller;
mod chat;
mod convert;
mod embed;
mod ended;
mod error;
mod host;
mod layers;
mod rag;
mod request;
mod runtime;
mod script;
mod settings;
mod stream;
mod tool;
mod vendor;

use pyo3::prelude::*;

/// The command `ask`, with the words after its name; its exit code.
#[pyfunction]
fn ask(py: Python<'_>, words: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| stepwell::ask::run(words))
}

/// The engine. Private: use the package `stepwell`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::agent::{NativeAgent, NativeRunStore, collection_tool};
    #[pymodule_export]
    use super::ask;
    #[pymodule_export]
    use super::bridge::{LoopBridge, current_bridge};
    #[pymodule_export]
    use super::chat::NativeModel;
    #[pymodule_export]
    use super::embed::{NativeEmbedder, NativeReranker};
    #[pymodule_export]
    use super::ended::NativePaused;
    #[pymodule_export]
    use super::layers::{NativeBreaker, NativeBudget, NativeCache, NativeRateLimiter};
    #[pymodule_export]
    use super::rag::NativeCollection;
    #[pymodule_export]
    use super::runtime::{after_fork_in_child, after_fork_in_parent, before_fork, shutdown};
    #[pymodule_export]
    use super::script::NativeScript;
    #[pymodule_export]
    use super::stream::NativeStream;
    #[pymodule_export]
    use super::tool::{NativeTool, NativeToolContext};
    #[pymodule_export]
    use super::vendor::{NativeCassette, register_compatible};

    /// The version of the engine.
    #[pymodule_export]
    #[allow(non_upper_case_globals)] // Python's own name for it
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
