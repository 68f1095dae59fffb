//! [`ConversationStore`]: dialogues and their messages.

use super::{Page, PageRequest, Scope};
use crate::{Message, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt::Debug;

/// A person's dialogue over many runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// A title to show.
    pub title: Option<String>,
    /// Nothing may be added while set; the reason.
    pub locked: Option<String>,
    /// Number of its last message; 0 for none.
    pub last_seq: u64,
    /// Counts up with every change of title, lock or metadata.
    pub version: u64,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub updated_ms: u64,
    /// Anything the program keeps beside it.
    pub metadata: Map<String, Value>,
}

impl Conversation {
    /// An empty one.
    pub fn new(id: impl Into<String>, now_ms: u64) -> Self {
        Self {
            id: id.into(),
            title: None,
            locked: None,
            last_seq: 0,
            version: 0,
            created_ms: now_ms,
            updated_ms: now_ms,
            metadata: Map::new(),
        }
    }
}

/// A message in its conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredMessage {
    /// 1 for the first; given by the store.
    pub seq: u64,
    /// Number of the message it answers; `None` for a root. Two with the same parent are branches.
    pub parent: Option<u64>,
    /// Whether it is still being written.
    pub is_partial: bool,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who acted.
    pub actor: Option<String>,
    /// The message.
    pub message: Message,
}

impl StoredMessage {
    /// A message as read back.
    pub fn new(seq: u64, parent: Option<u64>, at_ms: u64, message: Message) -> Self {
        Self {
            seq,
            parent,
            is_partial: false,
            at_ms,
            actor: None,
            message,
        }
    }
}

/// A change to a conversation's own facts; `None` leaves as it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConversationUpdate {
    /// The version read; refused when it is not the newest.
    pub expected_version: Option<u64>,
    /// The title; `Some(None)` takes it away.
    pub title: Option<Option<String>>,
    /// The lock; `Some(None)` opens it.
    pub locked: Option<Option<String>>,
    /// Keys to set; `null` takes one away.
    pub metadata: Option<Map<String, Value>>,
}

/// Conversations and their messages.
#[async_trait]
pub trait ConversationStore: Send + Sync + Debug {
    /// Makes a conversation.
    ///
    /// # Errors
    /// [`crate::Error::Conflict`] where the id exists.
    async fn create(&self, scope: &Scope, conversation: Conversation) -> Result<()>;

    /// One conversation; `None` where there is none.
    async fn get(&self, scope: &Scope, id: &str) -> Result<Option<Conversation>>;

    /// Conversations, the last changed first.
    async fn list(&self, scope: &Scope, page: PageRequest) -> Result<Page<Conversation>>;

    /// Changes title, lock or metadata.
    ///
    /// # Errors
    /// [`crate::Error::Conflict`] when the version read is not the newest.
    async fn update(
        &self,
        scope: &Scope,
        id: &str,
        update: ConversationUpdate,
        now_ms: u64,
    ) -> Result<Conversation>;

    /// Deletes one with its messages; whether there was one.
    async fn delete(&self, scope: &Scope, id: &str) -> Result<bool>;

    /// Adds a message and gives its number. Numbers are given atomically, without gaps.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] while it is locked; [`crate::Error::NotFound`] where it, or the parent, does not exist.
    async fn append(
        &self,
        scope: &Scope,
        id: &str,
        parent: Option<u64>,
        message: Message,
        is_partial: bool,
        now_ms: u64,
    ) -> Result<u64>;

    /// Replaces a message that is still being written.
    ///
    /// # Errors
    /// [`crate::Error::Conflict`] when it is whole already.
    async fn replace_partial(
        &self,
        scope: &Scope,
        id: &str,
        seq: u64,
        message: Message,
        is_partial: bool,
    ) -> Result<()>;

    /// Messages by number, oldest first.
    async fn messages(&self, scope: &Scope, id: &str, page: PageRequest) -> Result<Page<StoredMessage>>;

    /// The messages from a root down to this one, oldest first: one branch.
    async fn branch(&self, scope: &Scope, id: &str, tip: u64) -> Result<Vec<StoredMessage>>;
}
