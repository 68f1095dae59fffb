//! What a caller may watch while documents are added.

use std::fmt;
use std::sync::Arc;

use stepwell_core::Cancel;

/// Why a document was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// It stands in the index with the same content: nothing was embedded.
    Unchanged,
    /// It has no text; an older version of it is deleted.
    Empty,
    /// A later document of the same call has the same id.
    Replaced,
}

impl SkipReason {
    /// In a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Empty => "it has no text",
            Self::Replaced => "a later document has the same id",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an `add` has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddProgress {
    /// How many documents there are, where it is known.
    pub documents_total: Option<u64>,
    /// Documents that are committed or left out.
    pub documents_done: u64,
    /// Of these, new ones.
    pub documents_added: u64,
    /// Of these, newer versions of documents that stood in the index.
    pub documents_updated: u64,
    /// Of these, documents that stand there already.
    pub documents_unchanged: u64,
    /// Of these, documents left out for another reason.
    pub documents_skipped: u64,
    /// Chunks embedded so far; those of the batch in hand are not committed yet.
    pub chunks: u64,
    /// Tokens that the embedder reports.
    pub tokens: u64,
    /// Commits so far: what they hold is kept whatever comes.
    pub commits: u64,
}

/// A step of an `add`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddEvent {
    /// Something was embedded or committed.
    Progress(AddProgress),
    /// A document was left out.
    Skipped {
        /// Which.
        document_id: String,
        /// Why.
        reason: SkipReason,
    },
}

/// What an `add` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddReport {
    /// The counts at the end.
    pub progress: AddProgress,
    /// Documents left out, but for unchanged ones.
    pub skipped: Vec<(String, SkipReason)>,
}

/// What is called at each step of an `add`.
pub type ProgressFn = Arc<dyn Fn(&AddEvent) + Send + Sync>;

/// Settings of one `add`.
#[derive(Clone)]
#[non_exhaustive]
pub struct AddOptions {
    /// Called at each step, on the task that adds; keep it short.
    pub progress: Option<ProgressFn>,
    /// Stops at the next batch; what was committed stays.
    pub cancel: Cancel,
    /// Chunks per commit; 256. A document is never split between commits, so one may be larger.
    pub chunks_per_commit: usize,
}

impl Default for AddOptions {
    fn default() -> Self {
        Self {
            progress: None,
            cancel: Cancel::new(),
            chunks_per_commit: 256,
        }
    }
}

impl AddOptions {
    /// No progress, no cancel, 256 chunks per commit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls this at each step.
    pub fn progress(mut self, see: impl Fn(&AddEvent) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(see));
        self
    }

    /// Stops when this is pulled.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Commits after so many chunks.
    pub fn chunks_per_commit(mut self, chunks: usize) -> Self {
        self.chunks_per_commit = chunks.max(1);
        self
    }
}

impl fmt::Debug for AddOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddOptions")
            .field("chunks_per_commit", &self.chunks_per_commit)
            .finish_non_exhaustive()
    }
}
