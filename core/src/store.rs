//! The five storage contracts: [`RunStore`], [`ConversationStore`], [`PromptStore`], [`UsageLedger`], [`Cache`].
//!
//! Every method takes a [`Scope`]; there is none without. `stores` keeps them on memory and databases, a host may
//! keep its own. All are object-safe. Times are milliseconds since 1970 (UTC), given by the caller, so that a test
//! can pass them in. Lists are pages: ask with the last page's `next` until it is `None`.

use crate::{Cost, Error, Message, Result, Usage};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt::Debug, str::FromStr, time::Duration};

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
    if name.chars().any(char::is_control) {
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

// ---- Runs ---------------------------------------------------------------------------------------------------

/// What a journal record tells. Closed: an unknown word is refused, never skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordKind {
    /// The run began: graph fingerprint, limits.
    Start,
    /// Input from outside.
    Input,
    /// A task ended; its update and where to go.
    Task,
    /// A step ended; its updates were folded.
    Step,
    /// A memoised result inside a node.
    Memo,
    /// A tool call is about to run.
    Intent,
    /// A tool call ended.
    Effect,
    /// A question to a person.
    Interrupt,
    /// An answer to it.
    Answer,
    /// Tokens and money.
    Usage,
    /// An event for whoever watches.
    Event,
    /// The state was changed from outside.
    Edit,
    /// The whole state.
    Snapshot,
    /// The run was forked from another.
    Fork,
    /// The run ended, failed, paused or was cancelled.
    End,
}

impl RecordKind {
    const WORDS: [(Self, &'static str); 15] = [
        (Self::Start, "start"),
        (Self::Input, "input"),
        (Self::Task, "task"),
        (Self::Step, "step"),
        (Self::Memo, "memo"),
        (Self::Intent, "intent"),
        (Self::Effect, "effect"),
        (Self::Interrupt, "interrupt"),
        (Self::Answer, "answer"),
        (Self::Usage, "usage"),
        (Self::Event, "event"),
        (Self::Edit, "edit"),
        (Self::Snapshot, "snapshot"),
        (Self::Fork, "fork"),
        (Self::End, "end"),
    ];

    /// The word it is stored as.
    pub fn as_str(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, word)| word)
    }
}

impl FromStr for RecordKind {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::WORDS
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(kind, _)| *kind)
            .ok_or_else(|| Error::Damaged {
                what: "the journal".into(),
                message: "a record of an unknown kind".into(),
                hint: "read it with the version that wrote it".into(),
            })
    }
}

/// One record of a run's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunRecord {
    /// 1 for the first; the store counts without gaps.
    pub seq: u64,
    /// What it tells.
    pub kind: RecordKind,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Its content, opaque to the store: versioned and checksummed by the journal, so that a store may encrypt it.
    pub body: Bytes,
}

impl RunRecord {
    /// A record as read back.
    pub fn new(seq: u64, kind: RecordKind, at_ms: u64, body: Bytes) -> Self {
        Self {
            seq,
            kind,
            at_ms,
            body,
        }
    }
}

/// A record to be written; the store gives it its number.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewRecord {
    /// What it tells.
    pub kind: RecordKind,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Its content.
    pub body: Bytes,
}

impl NewRecord {
    /// A record.
    pub fn new(kind: RecordKind, at_ms: u64, body: impl Into<Bytes>) -> Self {
        Self {
            kind,
            at_ms,
            body: body.into(),
        }
    }
}

/// When an append is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When the records would survive a power cut.
    Sync,
    /// When the store has taken them in order; a later `Sync` append or [`RunStore::flush`] covers them.
    #[default]
    Async,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// It goes on, or its process died: a journal cannot tell which.
    #[default]
    Running,
    /// It waits for a person.
    Paused,
    /// It ended well.
    Done,
    /// It ended with an error and can be resumed.
    Failed,
    /// It was stopped and can be resumed.
    Cancelled,
}

impl RunStatus {
    /// The word it is stored as.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl FromStr for RunStatus {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        [
            Self::Running,
            Self::Paused,
            Self::Done,
            Self::Failed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
        .ok_or_else(|| Error::Damaged {
            what: "the run list".into(),
            message: "an unknown status".into(),
            hint: "read it with the version that wrote it".into(),
        })
    }
}

/// A run at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunHead {
    /// The run.
    pub run_id: String,
    /// The graph or agent, for lists.
    pub graph: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Number of its last record; 0 for none.
    pub last_seq: u64,
    /// Number of its last snapshot record; 0 for none.
    pub snapshot_seq: u64,
    /// Who may write: see [`RunStore::claim`].
    pub fence: u64,
    /// First record, milliseconds since 1970.
    pub created_ms: u64,
    /// Last record, milliseconds since 1970.
    pub updated_ms: u64,
}

impl RunHead {
    /// A run without records.
    pub fn new(run_id: impl Into<String>, graph: impl Into<String>) -> Self {
        Self {
            run_id: run_id.into(),
            graph: graph.into(),
            status: RunStatus::Running,
            last_seq: 0,
            snapshot_seq: 0,
            fence: 0,
            created_ms: 0,
            updated_ms: 0,
        }
    }
}

/// Which runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunFilter {
    /// Of this graph.
    pub graph: Option<String>,
    /// That stand here.
    pub status: Option<RunStatus>,
}

/// An append to one run. All of it is written, or none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunAppend {
    /// The run.
    pub run_id: String,
    /// Number of the record that must be the last so far; 0 for a new run.
    pub after: u64,
    /// The fence of [`RunStore::claim`]; 0 where nobody claims runs.
    pub fence: u64,
    /// The graph or agent, for lists; needed with the first record only.
    pub graph: String,
    /// Where the run stands after it.
    pub status: RunStatus,
    /// What to write.
    pub records: Vec<NewRecord>,
    /// When the append is done.
    pub durability: Durability,
}

impl RunAppend {
    /// Records for a run.
    pub fn new(
        run_id: impl Into<String>,
        graph: impl Into<String>,
        after: u64,
        records: Vec<NewRecord>,
    ) -> Self {
        Self {
            run_id: run_id.into(),
            graph: graph.into(),
            after,
            fence: 0,
            status: RunStatus::Running,
            records,
            durability: Durability::Async,
        }
    }

    /// Leaves the run at this status.
    pub fn status(mut self, status: RunStatus) -> Self {
        self.status = status;
        self
    }

    /// Done when it would survive a power cut.
    pub fn sync(mut self) -> Self {
        self.durability = Durability::Sync;
        self
    }

    /// By the owner of this fence.
    pub fn fence(mut self, fence: u64) -> Self {
        self.fence = fence;
        self
    }
}

/// The right to write a run until it runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Counts up with every owner; appends with an older one are refused.
    pub fence: u64,
    /// Until when, milliseconds since 1970 on the store's clock.
    pub until_ms: u64,
}

impl Lease {
    /// A lease.
    pub fn new(fence: u64, until_ms: u64) -> Self {
        Self { fence, until_ms }
    }
}

/// Journals of runs: append-only, numbered without gaps.
#[async_trait]
pub trait RunStore: Send + Sync + Debug {
    /// Writes records after the one named in the append; gives the number of the last one written.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another record is the last, or the fence is not the newest; nothing is written then.
    async fn append(&self, scope: &Scope, append: RunAppend) -> Result<u64>;

    /// Records from this number on, at most so many, in order.
    async fn read(&self, scope: &Scope, run_id: &str, from_seq: u64, limit: usize) -> Result<Vec<RunRecord>>;

    /// The run at a glance; `None` where there is none.
    async fn head(&self, scope: &Scope, run_id: &str) -> Result<Option<RunHead>>;

    /// Runs, newest first.
    async fn list(&self, scope: &Scope, filter: &RunFilter, page: PageRequest) -> Result<Page<RunHead>>;

    /// Takes the right to write a run for so long, or renews it for the owner of `fence`.
    ///
    /// # Errors
    /// [`Error::Locked`] while another owner's lease lasts; [`Error::NotFound`] where there is no such run.
    async fn claim(
        &self,
        scope: &Scope,
        run_id: &str,
        owner: &str,
        fence: Option<u64>,
        time: Duration,
    ) -> Result<Lease>;

    /// Copies records up to this number (all where `None`) under a new id; gives the number of the last.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the new id exists; [`Error::NotFound`] where the old one does not.
    async fn copy(&self, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64>;

    /// Deletes the records before this number; the rest keep their numbers. For runs whose snapshot covers them.
    async fn prune(&self, scope: &Scope, run_id: &str, before_seq: u64) -> Result<u64>;

    /// Deletes a run; whether there was one.
    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool>;

    /// Ends when everything appended before would survive a power cut.
    async fn flush(&self) -> Result<()>;
}

// ---- Conversations ------------------------------------------------------------------------------------------

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
    /// [`Error::Conflict`] where the id exists.
    async fn create(&self, scope: &Scope, conversation: Conversation) -> Result<()>;

    /// One conversation; `None` where there is none.
    async fn get(&self, scope: &Scope, id: &str) -> Result<Option<Conversation>>;

    /// Conversations, the last changed first.
    async fn list(&self, scope: &Scope, page: PageRequest) -> Result<Page<Conversation>>;

    /// Changes title, lock or metadata.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the version read is not the newest.
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
    /// [`Error::Unsupported`] while it is locked; [`Error::NotFound`] where it, or the parent, does not exist.
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
    /// [`Error::Conflict`] when it is whole already.
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

// ---- Prompts ------------------------------------------------------------------------------------------------

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
    /// [`Error::NotFound`] where there is no such version.
    async fn activate(&self, scope: &Scope, key: &str, version: Option<u64>) -> Result<()>;

    /// Versions of a prompt, newest first.
    async fn versions(&self, scope: &Scope, key: &str, page: PageRequest) -> Result<Page<PromptVersion>>;

    /// Keys in order.
    async fn keys(&self, scope: &Scope, page: PageRequest) -> Result<Page<String>>;

    /// Deletes a prompt with its versions; whether there was one.
    async fn delete(&self, scope: &Scope, key: &str) -> Result<bool>;
}

// ---- Usage --------------------------------------------------------------------------------------------------

/// What one call took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageRow {
    /// An id of its own: recording the same one twice counts once.
    pub id: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What for: `chat`, `title`, `summary`, `embed` …
    pub purpose: String,
    /// The vendor.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The run, where there is one.
    pub run_id: Option<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// Tokens.
    pub usage: Usage,
    /// Money, where the price is known.
    pub cost: Option<Cost>,
}

impl UsageRow {
    /// A row.
    pub fn new(
        id: impl Into<String>,
        at_ms: u64,
        purpose: impl Into<String>,
        provider: impl Into<String>,
        model: impl Into<String>,
        usage: Usage,
    ) -> Self {
        Self {
            id: id.into(),
            at_ms,
            purpose: purpose.into(),
            provider: provider.into(),
            model: model.into(),
            run_id: None,
            actor: None,
            usage,
            cost: None,
        }
    }
}

/// By what totals are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UsageGroup {
    /// One sum.
    None,
    /// By `vendor/model`.
    Model,
    /// By purpose.
    Purpose,
    /// By who acted.
    Actor,
    /// By day (UTC), `YYYY-MM-DD`.
    Day,
}

/// A sum of usage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageTotal {
    /// The group's name; empty for one sum.
    pub group: String,
    /// Calls.
    pub calls: u64,
    /// Tokens.
    pub usage: Usage,
    /// Money of the calls whose price is known.
    pub cost: Cost,
    /// Calls whose price is unknown.
    pub unpriced_calls: u64,
}

/// What calls took, by tenant.
#[async_trait]
pub trait UsageLedger: Send + Sync + Debug {
    /// Books a call; a row of a known id changes nothing.
    async fn record(&self, scope: &Scope, row: UsageRow) -> Result<()>;

    /// Sums over `from_ms..to_ms`, groups in order of their names.
    async fn totals(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        group: UsageGroup,
    ) -> Result<Vec<UsageTotal>>;

    /// Rows of `from_ms..to_ms`, oldest first.
    async fn rows(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        page: PageRequest,
    ) -> Result<Page<UsageRow>>;

    /// Deletes rows before this moment; how many.
    async fn prune(&self, scope: &Scope, before_ms: u64) -> Result<u64>;
}

// ---- Cache --------------------------------------------------------------------------------------------------

/// Values that can be made again: embeddings, answers. Losing one costs time, never truth.
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// The value; `None` where there is none or its time is over.
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>>;

    /// Several values at once, in the order of the keys.
    async fn get_many(&self, scope: &Scope, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(scope, key).await?);
        }
        Ok(values)
    }

    /// Keeps a value, for so long where a time is given.
    async fn put(&self, scope: &Scope, key: &str, value: Bytes, time: Option<Duration>) -> Result<()>;

    /// Keeps several values.
    async fn put_many(
        &self,
        scope: &Scope,
        entries: Vec<(String, Bytes)>,
        time: Option<Duration>,
    ) -> Result<()> {
        for (key, value) in entries {
            self.put(scope, &key, value, time).await?;
        }
        Ok(())
    }

    /// Takes a value away; whether there was one.
    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool>;

    /// Takes everything of the tenant away; how many.
    async fn clear(&self, scope: &Scope) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use super::{RecordKind, RunStatus, Scope};
    use std::str::FromStr;

    #[test]
    fn stored_words_read_back_and_unknown_ones_are_refused() {
        for (kind, word) in RecordKind::WORDS {
            assert_eq!(
                (RecordKind::from_str(word).expect("known"), kind.as_str()),
                (kind, word)
            );
        }
        assert_eq!(
            RecordKind::from_str("hologram").expect_err("unknown").code(),
            "damaged"
        );
        assert_eq!(RunStatus::from_str("paused").expect("known"), RunStatus::Paused);
    }

    #[test]
    fn a_tenant_has_a_name_that_can_be_a_key() {
        for bad in ["", "a\u{0}b", &"x".repeat(257)] {
            assert!(Scope::new(bad).is_err());
        }
        assert_eq!(Scope::new("ä/ö #1").expect("fine").tenant(), "ä/ö #1");
    }
}
