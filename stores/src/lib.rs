//! The storage contracts of stepwell, kept.
//!
//! ```text
//!  RunStore  ConversationStore  PromptStore  UsageLedger  Cache      (stepwell-core)
//!      └────────────┴──────┬────────┴────────────┴─────────┘
//!             MemoryStore      SqliteStore
//! ```
//!
//! Both keep all five; [`contract`] is the suite that they, and a host's own store, have to pass.
//! What is checked before a write, how a list goes on and who may write a run stands once, for all, in `rules`.

pub mod contract;
mod memory;
mod rules;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
