//! What a caller may watch while documents are added.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stepwell_core::{Cancel, Error};

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

/// A document that could not be added; an older version of it still stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedDocument {
    /// Which.
    pub document_id: String,
    /// Why.
    pub error: Arc<Error>,
}

impl FailedDocument {
    pub(super) fn new(document_id: impl Into<String>, error: Error) -> Self {
        Self {
            document_id: document_id.into(),
            error: Arc::new(error),
        }
    }
}

/// The same document failed with the same code and words.
impl PartialEq for FailedDocument {
    fn eq(&self, other: &Self) -> bool {
        self.document_id == other.document_id
            && self.error.code() == other.error.code()
            && self.error.to_string() == other.error.to_string()
    }
}

/// How far an `add` has come.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Of these, documents that could not be added; see [`AddReport::failed`].
    pub documents_failed: u64,
    /// Chunks that have their vector so far; those of the batch in hand are not committed yet.
    pub chunks: u64,
    /// Of these, chunks whose vector came from the embedding cache.
    pub chunks_cached: u64,
    /// Of these, chunks whose vector stood in the index, or was made for an equal text of the same call.
    pub chunks_reused: u64,
    /// Tokens that the embedder reports.
    pub tokens: u64,
    /// Commits so far: what they hold is kept whatever comes.
    pub commits: u64,
    /// Time since the call began.
    pub elapsed: Duration,
    /// Chunks per second of late; `None` until it can be told.
    pub chunks_per_second: Option<f64>,
    /// Time that the rest will take at the pace of late; `None` while the total or the pace is not known.
    pub remaining: Option<Duration>,
}

/// A step of an `add`.
#[derive(Clone, Debug, PartialEq)]
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
    /// A document could not be added; the others go on.
    Failed(FailedDocument),
}

/// What an `add` did.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AddReport {
    /// The counts at the end.
    pub progress: AddProgress,
    /// Documents left out, but for unchanged ones.
    pub skipped: Vec<(String, SkipReason)>,
    /// Documents that could not be added, and why; the others are in.
    pub failed: Vec<FailedDocument>,
}

/// What is called at each step of an `add`.
pub type ProgressFn = Arc<dyn Fn(&AddEvent) + Send + Sync>;

/// Tells the time that has gone since any fixed moment.
pub type ClockFn = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Settings of one `add`.
#[derive(Clone)]
#[non_exhaustive]
pub struct AddOptions {
    /// Called at each step, on the task that adds; keep it short.
    pub progress: Option<ProgressFn>,
    /// Stops at the next batch; what was committed stays.
    pub cancel: Cancel,
    /// Most chunks per commit; 4,096. A document is never split between commits, so one may be larger.
    pub chunks_per_commit: usize,
    /// Commits what is embedded after this time, 5 seconds, so that a slow embedder's work is soon safe; `None` waits for
    /// the chunks.
    pub commit_after: Option<Duration>,
    /// Whether the first document that cannot be added ends the call with its error; off: it is reported and the others
    /// go on. Errors of the embedder and of the index end the call always.
    pub stops_at_error: bool,
    /// What rate, remaining time and `commit_after` are measured with; the monotonic clock.
    pub clock: ClockFn,
    /// A name under which each commit remembers how many documents of this source are done, and how many of them the
    /// stream leaves out because they are; see [`crate::Collection::cursor`]. None when not set.
    pub source: Option<(String, u64)>,
}

impl Default for AddOptions {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            progress: None,
            cancel: Cancel::new(),
            chunks_per_commit: 4_096,
            commit_after: Some(Duration::from_secs(5)),
            stops_at_error: false,
            clock: Arc::new(move || start.elapsed()),
            source: None,
        }
    }
}

impl AddOptions {
    /// No progress, no cancel; a commit after 4,096 chunks or 5 seconds.
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

    /// Commits after so many chunks, however long they take.
    pub fn chunks_per_commit(mut self, chunks: usize) -> Self {
        self.chunks_per_commit = chunks.max(1);
        self.commit_after = None;
        self
    }

    /// Commits after this time too.
    pub fn commit_after(mut self, time: Duration) -> Self {
        self.commit_after = Some(time);
        self
    }

    /// Ends at the first document that cannot be added, or goes on.
    pub fn stops_at_error(mut self, stops: bool) -> Self {
        self.stops_at_error = stops;
        self
    }

    /// Measures time with this clock.
    pub fn clock(mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Remembers with each commit how many documents of this source are done; the stream begins behind the first `done`.
    pub fn source(mut self, name: impl Into<String>, done: u64) -> Self {
        self.source = Some((name.into(), done));
        self
    }
}

impl fmt::Debug for AddOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddOptions")
            .field("chunks_per_commit", &self.chunks_per_commit)
            .field("commit_after", &self.commit_after)
            .field("stops_at_error", &self.stops_at_error)
            .finish_non_exhaustive()
    }
}
