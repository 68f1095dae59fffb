//! The five storage contracts: [`RunStore`], [`ConversationStore`], [`PromptStore`], [`UsageLedger`], [`Cache`].
//!
//! Every method takes a [`Scope`]; there is none without. `stores` keeps them on memory and databases, a host may
//! keep its own. All are object-safe. Times are milliseconds since 1970 (UTC), given by the caller, so that a test
//! can pass them in. Lists are pages: ask with the last page's `next` until it is `None`.

mod cache;
mod conversation;
mod prompt;
mod run;
mod usage;

pub use cache::Cache;
pub use conversation::{Conversation, ConversationStore, ConversationUpdate, StoredMessage};
pub use prompt::{PromptStore, PromptVersion};
pub use run::{
    Durability, Lease, NewRecord, RecordKind, RunAppend, RunFilter, RunHead, RunRecord, RunStatus, RunStore,
};
pub use usage::{UsageGroup, UsageLedger, UsageRow, UsageTotal};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Whose data it is: a tenant, and the person or program that acts for it.
///
/// ```
/// # use stepwell_core::Scope;
/// assert!(Scope::new("").is_err());
/// assert_eq!(Scope::new("acme").unwrap().tenant(), "acme");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    tenant: String,
    actor: Option<String>,
}

impl Scope {
    /// The data of a tenant.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the name is empty, longer than 256 bytes, or has control characters.
    pub fn new(tenant: impl Into<String>) -> Result<Self> {
        let tenant = tenant.into();
        check_name("tenant", &tenant)?;
        Ok(Self { tenant, actor: None })
    }

    /// The one tenant of a program that has no others: `local`.
    pub fn local() -> Self {
        Self {
            tenant: "local".to_owned(),
            actor: None,
        }
    }

    /// Acting for this person or program; kept beside what is written, never part of a key.
    pub fn with_actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Who acts.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }
}

/// Checks a key that goes into a store: 1 to 256 bytes, no control characters.
///
/// # Errors
/// [`Error::InvalidInput`] that names `what`.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 256 {
        return Err(Error::invalid(what, "give it 1 to 256 bytes"));
    }
    // Nearly all names are ASCII; appends ask often.
    let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_plain && name.chars().any(char::is_control) {
        return Err(Error::invalid(what, "leave control characters out"));
    }
    Ok(())
}

/// A piece of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Ask with this for the next piece; `None` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A piece of a list.
    pub fn new(items: Vec<T>, next: Option<String>) -> Self {
        Self { items, next }
    }
}

/// Which piece of a list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PageRequest {
    /// `next` of the piece before; `None` for the first.
    pub after: Option<String>,
    /// Most entries; 100, at most 1,000.
    pub limit: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            after: None,
            limit: 100,
        }
    }
}

impl PageRequest {
    /// The first piece of so many entries.
    pub fn first(limit: usize) -> Self {
        Self {
            after: None,
            limit: limit.clamp(1, 1_000),
        }
    }

    /// The piece after one whose `next` was this.
    pub fn after(next: impl Into<String>, limit: usize) -> Self {
        Self {
            after: Some(next.into()),
            limit: limit.clamp(1, 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scope;

    #[test]
    fn a_tenant_has_a_name_that_can_be_a_key() {
        for bad in ["", "a\u{0}b", &"x".repeat(257)] {
            assert!(Scope::new(bad).is_err());
        }
        assert_eq!(Scope::new("ä/ö #1").expect("fine").tenant(), "ä/ö #1");
    }
}
