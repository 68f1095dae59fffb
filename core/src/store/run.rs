//! [`RunStore`]: journals of runs.

use super::{Page, PageRequest, Scope};
use crate::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, str::FromStr, sync::Arc, time::Duration};

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
    /// A record of a run inside a node of this one.
    Child,
    /// The run ended, failed, paused or was cancelled.
    End,
}

impl RecordKind {
    const WORDS: [(Self, &'static str); 16] = [
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
        (Self::Child, "child"),
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
    pub run_id: Arc<str>,
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
        run_id: impl Into<Arc<str>>,
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

    /// Copies records up to this number under a new id and writes another after them; gives its number. All of it is
    /// written, or none.
    ///
    /// Where a store does not do it in one piece, it copies and appends: half of that is left where the process dies in
    /// between, or nobody waits for it to its end.
    ///
    /// # Errors
    /// Those of [`RunStore::copy`].
    async fn fork(
        &self,
        scope: &Scope,
        run_id: &str,
        to: &str,
        up_to: u64,
        record: NewRecord,
    ) -> Result<u64> {
        let last = self.copy(scope, run_id, to, Some(up_to)).await?;
        let append = RunAppend::new(to, "", last, vec![record]).sync();
        let written = self.append(scope, append).await;
        if written.is_err() {
            // Half a fork would go on as if it were the other run.
            let _ = self.delete(scope, to).await;
        }
        written
    }

    /// Writes records as [`RunStore::append`] does and deletes all before them; gives how many were deleted. All of it is
    /// done, or nothing.
    ///
    /// Where a store does not do it in one piece, it appends and prunes: where the process dies in between, or nobody waits
    /// for it to its end, both the old records and the new ones are left.
    ///
    /// # Errors
    /// Those of [`RunStore::append`].
    async fn replace(&self, scope: &Scope, append: RunAppend) -> Result<u64> {
        let (run_id, first) = (append.run_id.clone(), append.after.saturating_add(1));
        self.append(scope, append).await?;
        self.prune(scope, &run_id, first).await
    }

    /// Deletes the records before this number; the rest keep their numbers. For runs whose snapshot covers them.
    async fn prune(&self, scope: &Scope, run_id: &str, before_seq: u64) -> Result<u64>;

    /// Deletes a run; whether there was one.
    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool>;

    /// Ends when everything appended before would survive a power cut.
    async fn flush(&self) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::{RecordKind, RunStatus};
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
}
