//! [`PromptStore`]: prompts and their versions.

use super::{Page, PageRequest, Scope};
use crate::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// One version of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PromptVersion {
    /// The prompt.
    pub key: String,
    /// 1 for the first; given by the store.
    pub version: u64,
    /// The template.
    pub body: String,
    /// Why it was changed.
    pub note: Option<String>,
    /// Who changed it.
    pub actor: Option<String>,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

impl PromptVersion {
    /// A version as read back.
    pub fn new(key: impl Into<String>, version: u64, body: impl Into<String>, at_ms: u64) -> Self {
        Self {
            key: key.into(),
            version,
            body: body.into(),
            note: None,
            actor: None,
            at_ms,
        }
    }
}

/// Prompts by key, every version kept, one active.
#[async_trait]
pub trait PromptStore: Send + Sync + Debug {
    /// Adds a version and gives its number; it becomes active when asked.
    async fn put(
        &self,
        scope: &Scope,
        key: &str,
        body: &str,
        note: Option<&str>,
        activate: bool,
        now_ms: u64,
    ) -> Result<u64>;

    /// The active version; `None` where there is none.
    async fn active(&self, scope: &Scope, key: &str) -> Result<Option<PromptVersion>>;

    /// One version.
    async fn get(&self, scope: &Scope, key: &str, version: u64) -> Result<Option<PromptVersion>>;

    /// Makes a version the active one; `None` leaves no active one, so that a lower layer shows through.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] where there is no such version.
    async fn activate(&self, scope: &Scope, key: &str, version: Option<u64>) -> Result<()>;

    /// Versions of a prompt, newest first.
    async fn versions(&self, scope: &Scope, key: &str, page: PageRequest) -> Result<Page<PromptVersion>>;

    /// Keys in order.
    async fn keys(&self, scope: &Scope, page: PageRequest) -> Result<Page<String>>;

    /// Deletes a prompt with its versions; whether there was one.
    async fn delete(&self, scope: &Scope, key: &str) -> Result<bool>;
}
