//! One engine for LLM applications, inside your program: models, tools, durable agents, hybrid retrieval.
//!
//! This crate is the door: it re-exports the rooms and introduces them to each other.
//!
//! ```text
//!  providers   vendors and offline models         agent    graphs, the runner, agents
//!  rag         loading, chunking, retrieval       stores   journals, conversations, caches in memory and SQLite
//!  (at the top) core: the words everybody speaks  prelude  a dozen names to begin with
//! ```

pub use stepwell_core::*;
pub use stepwell_macros::{State, tool};

#[cfg(feature = "ask")]
pub mod ask;
pub mod prelude;

/// Model vendors and offline models.
pub mod providers {
    pub use stepwell_providers::*;
}

/// Graphs, the durable runner, agents.
pub mod agent {
    pub use stepwell_agent::*;
}

/// Loading, chunking and hybrid retrieval.
pub mod rag {
    pub use stepwell_rag::*;
}

/// The storage contracts in memory and SQLite.
pub mod stores {
    pub use stepwell_stores::*;
}

/// A model by name: `vendor/model` with its key from the environment, or `extractive`, which needs none.
///
/// # Errors
/// `not_found` for an unknown vendor, `missing_key` where the vendor's key is not set.
pub fn model(name: &str) -> Result<std::sync::Arc<dyn ChatModel>> {
    #[cfg(feature = "minilm")]
    if name == "extractive" {
        let embedder = std::sync::Arc::new(providers::MiniLm::new()?);
        return Ok(std::sync::Arc::new(
            providers::Extractive::new().embedder(embedder),
        ));
    }
    providers::model(name)
}

/// A vendor's model by name, with a key, an address, timers or headers of the program's own.
///
/// # Errors
/// As [`model`], and `unsupported` for a model that takes no such options.
pub fn model_with(name: &str, options: providers::ModelOptions) -> Result<std::sync::Arc<dyn ChatModel>> {
    if name == "extractive" {
        return Err(Error::Unsupported {
            who: name.to_owned(),
            what: "options given with its name".to_owned(),
            hint: "leave them out: it runs in process".to_owned(),
        });
    }
    providers::Registry::global().model_with(name, options)
}

/// Makes an agent a model of this process, under `agent/<name>`: [`model`] gives it then, and whoever takes a model's name
/// takes it too. A later agent of the same name takes its place.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use stepwell::{prelude::*, providers::Scripted};
/// let script = Scripted::new().say("Nothing suspicious.");
/// let analyst = Agent::new(std::sync::Arc::new(script)).build()?;
/// stepwell::register_agent("cyber-analyst", analyst)?;
/// let answer = model("agent/cyber-analyst")?.chat("Is 203.0.113.7 known?".into()).await?;
/// assert_eq!(answer.text(), "Nothing suspicious.");
/// # Ok::<(), Error>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `invalid_input` for a name other than 1 to 64 of the letters a-z, A-Z, digits, `-`, `_` and `.`.
pub fn register_agent(name: &str, agent: agent::Agent) -> Result<()> {
    static AGENTS: std::sync::LazyLock<agent::AgentModels> = std::sync::LazyLock::new(|| {
        let agents = agent::AgentModels::new();
        register_agents(providers::Registry::global(), &agents);
        agents
    });
    AGENTS.add(name, agent)
}

/// Lets a registry find these agents under `agent/<name>`, also those that are added later.
pub fn register_agents(registry: &providers::Registry, agents: &agent::AgentModels) {
    let agents = agents.clone();
    registry.register("agent", move |name| agents.get(name));
}

/// An embedder by name: `vendor/model` with its key from the environment, or `minilm/all-MiniLM-L6-v2`, which is
/// built in and needs none.
///
/// # Errors
/// As [`model`], and `invalid_input` for a model whose width nobody knows.
pub fn embedder(name: &str) -> Result<std::sync::Arc<dyn Embedder>> {
    providers::embedder(name)
}

/// A reranker by name: `vendor/model` with its key from the environment.
///
/// # Errors
/// As [`model`].
pub fn reranker(name: &str) -> Result<std::sync::Arc<dyn Reranker>> {
    providers::reranker(name)
}

/// The README's Rust runs as a test.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;

/// So do the examples of the page on answers.
#[cfg(all(doctest, feature = "minilm"))]
#[doc = include_str!("docs/answers.md")]
struct Answers;
