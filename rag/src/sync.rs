//! [`Collection::sync`]: makes a collection hold what lies in folders, at the cost of what changed.
//!
//! First every file is hashed and compared with the index (`survey`): that tells what is new, changed, moved and gone. Then
//! the new and changed ones are read, and a plan is either told or carried out: both are made by the same code.

mod gone;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use serde_json::json;
use stepwell_core::{Cancel, Document, Error, Result};

use self::survey::{Survey, Work, root_fact, steady_content};
use crate::collection::{AddEvent, AddOptions, AddProgress, ClockFn, Collection, Incoming};
use crate::load::{LoadLimits, SkippedFile, SourceFiles, find_files};

/// The fact that tells which bytes a document was read from.
const HASH: &str = "file.hash";
/// The fact that tells under which given path it was found.
const ROOT: &str = "file.root";
/// Raised when the same bytes would be read otherwise: then every file is read again.
const READER: u32 = 2;
/// Files read ahead of the embedder.
const AHEAD: usize = 2;

/// How far a sync has come.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SyncProgress {
    /// Files found; those that were skipped at once are not among them.
    pub files_total: u64,
    /// Files that are done, in whatever way.
    pub files_done: u64,
    /// Of these, new ones, committed.
    pub files_added: u64,
    /// Of these, changed ones, committed.
    pub files_updated: u64,
    /// Of these, files that were only moved: their documents have a new id, and nothing was embedded for them.
    pub files_renamed: u64,
    /// Of these, files that stand in the index already.
    pub files_unchanged: u64,
    /// Files and folders that cannot be read.
    pub files_skipped: u64,
    /// Documents deleted because their file is gone or cannot be read as it is now.
    pub documents_removed: u64,
    /// Chunks that have their vector so far.
    pub chunks: u64,
    /// Of these, chunks whose vector came from the embedding cache.
    pub chunks_cached: u64,
    /// Of these, chunks whose vector stood in the index.
    pub chunks_reused: u64,
    /// Tokens that the embedder reports.
    pub tokens: u64,
    /// Commits so far: what they hold is kept whatever comes.
    pub commits: u64,
    /// Time since reading began.
    pub elapsed: Duration,
    /// Chunks per second of late; `None` until it can be told.
    pub chunks_per_second: Option<f64>,
    /// Time that the rest will take at the pace of late; `None` until it can be told.
    pub remaining: Option<Duration>,
}

/// A step of a sync.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SyncEvent {
    /// Files were found, read, embedded, committed or deleted.
    Progress(SyncProgress),
    /// A file or folder cannot be read; the others go on.
    Skipped(SkippedFile),
}

/// A file that was moved: its bytes are the same, its path is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct RenamedFile {
    /// The id its document had.
    pub from: String,
    /// The id it has now.
    pub to: String,
}

/// What a sync would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncPlan {
    /// Ids of new documents, in the order of their files.
    pub added: Vec<String>,
    /// Ids of documents whose file changed.
    pub updated: Vec<String>,
    /// Files that were only moved.
    pub renamed: Vec<RenamedFile>,
    /// Ids of documents that go, sorted.
    pub removed: Vec<String>,
    /// How many files stand in the index as they are.
    pub unchanged: u64,
    /// What cannot be read, and why.
    pub skipped: Vec<SkippedFile>,
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SyncReport {
    /// The counts at the end.
    pub progress: SyncProgress,
    /// What could not be read, and why.
    pub skipped: Vec<SkippedFile>,
    /// Ids of the documents that were deleted, sorted.
    pub removed: Vec<String>,
    /// Ids of new documents, in the order of their files.
    pub added: Vec<String>,
    /// Ids of documents whose file changed.
    pub updated: Vec<String>,
    /// Files that were only moved: their documents have a new id, and nothing was embedded for them.
    pub renamed: Vec<RenamedFile>,
}

/// What is called at each step of a sync.
pub type SyncFn = Arc<dyn Fn(&SyncEvent) + Send + Sync>;

/// Settings of one sync.
#[derive(Clone)]
#[non_exhaustive]
pub struct SyncOptions {
    /// Called at each step; keep it short.
    pub progress: Option<SyncFn>,
    /// Stops at the next file or batch; what was committed stays, and the next sync goes on from there.
    pub cancel: Cancel,
    /// What one file may cost.
    pub limits: LoadLimits,
    /// Most chunks per commit; as in [`AddOptions`].
    pub chunks_per_commit: usize,
    /// Commits what is embedded after this time; as in [`AddOptions`].
    pub commit_after: Option<Duration>,
    /// Whether documents whose files are gone are deleted; they are.
    pub removes: bool,
    /// Whether a folder may have lost all its files; not when not set: it is more likely not mounted than emptied, and the
    /// sync ends before it deletes what came from there.
    pub allows_empty: bool,
    /// What rate, remaining time and `commit_after` are measured with; the monotonic clock.
    pub clock: ClockFn,
}

impl Default for SyncOptions {
    fn default() -> Self {
        let add = AddOptions::default();
        Self {
            progress: None,
            cancel: Cancel::new(),
            limits: LoadLimits::default(),
            chunks_per_commit: add.chunks_per_commit,
            commit_after: add.commit_after,
            removes: true,
            allows_empty: false,
            clock: add.clock,
        }
    }
}

impl SyncOptions {
    /// No progress, no cancel, the usual limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls this at each step.
    pub fn progress(mut self, see: impl Fn(&SyncEvent) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(see));
        self
    }

    /// Stops when this is pulled.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// With other limits for a file.
    pub fn limits(mut self, limits: LoadLimits) -> Self {
        self.limits = limits;
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

    /// Keeps or deletes documents whose files are gone.
    pub fn removes(mut self, removes: bool) -> Self {
        self.removes = removes;
        self
    }

    /// Deletes what came from a folder that holds no file any more, or ends with an error.
    pub fn allows_empty(mut self, allows: bool) -> Self {
        self.allows_empty = allows;
        self
    }

    /// Measures time with this clock.
    pub fn clock(mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl fmt::Debug for SyncOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncOptions")
            .field("limits", &self.limits)
            .field("chunks_per_commit", &self.chunks_per_commit)
            .field("removes", &self.removes)
            .finish_non_exhaustive()
    }
}

impl Collection {
    /// Makes the collection hold the files under these paths: new and changed files are read and embedded, moved ones are
    /// found by their bytes and only change their id, unchanged ones are only hashed, and documents whose files are gone
    /// are deleted, as far as they came from the same paths.
    ///
    /// A file that cannot be read is reported and the others go on; while it or its folder cannot be reached, its document
    /// stays. Files are read one batch at a time. A document's id is its file's path below the given folder; see
    /// [`find_files`].
    ///
    /// # Errors
    /// `not_found` when a given path is not there; `invalid_input` when a folder lost all its files, unless
    /// [`SyncOptions::allows_empty`]; `cancelled`; whatever [`Collection::add_with`] says. What was committed is kept, and
    /// the next sync goes on from there.
    pub async fn sync<I>(&self, paths: I, options: SyncOptions) -> Result<SyncReport>
    where
        I: IntoIterator,
        I::Item: Into<PathBuf>,
    {
        let (state, survey) = self.survey(paths, &options).await?;
        let Survey { work, gone } = survey;
        let total = work.len() as u64;
        let mut add = AddOptions::new().cancel(options.cancel.clone());
        add.chunks_per_commit = options.chunks_per_commit;
        add.commit_after = options.commit_after;
        add.clock = Arc::clone(&options.clock);
        let seen = Arc::clone(&state);
        let add = add.progress(move |event| match event {
            AddEvent::Progress(progress) => seen.added(progress),
            AddEvent::Failed(failed) => seen.fail(&failed.document_id, &failed.error),
            AddEvent::Skipped { .. } => {}
        });
        let documents = read_all(work, &state);
        let added = self.take_in(documents, Some(total), add).await?;
        if let Some(error) = state.lock().failed.take() {
            return Err(error);
        }
        options.cancel.check()?;
        state.added(&added.progress);
        let removed: Vec<String> = state.lock().removed(&gone).into_iter().collect();
        if !removed.is_empty() {
            let count = self.delete(removed.iter().cloned()).await?;
            state.lock().removed_count = count;
        }
        state.tell_progress();
        let mut inner = state.lock();
        let progress = inner.progress();
        let (added, updated, renamed) = inner.outcomes();
        Ok(SyncReport {
            progress,
            skipped: std::mem::take(&mut inner.skipped),
            removed,
            added,
            updated,
            renamed,
        })
    }

    /// What [`Collection::sync`] would do with these paths now: files are read and cut, but nothing is embedded or written.
    ///
    /// # Errors
    /// As [`Collection::sync`].
    pub async fn plan_sync<I>(&self, paths: I, options: SyncOptions) -> Result<SyncPlan>
    where
        I: IntoIterator,
        I::Item: Into<PathBuf>,
    {
        let (state, survey) = self.survey(paths, &options).await?;
        let Survey { work, gone } = survey;
        let mut documents = std::pin::pin!(read_all(work, &state));
        while let Some(incoming) = documents.next().await {
            let id = incoming.document.id.clone();
            if let Err(error) = self.check_document(incoming.document).await {
                state.fail(&id, &error);
            }
        }
        if let Some(error) = state.lock().failed.take() {
            return Err(error);
        }
        options.cancel.check()?;
        let mut inner = state.lock();
        let (added, updated, renamed) = inner.outcomes();
        Ok(SyncPlan {
            added,
            updated,
            renamed,
            removed: inner.removed(&gone).into_iter().collect(),
            unchanged: inner.unchanged,
            skipped: std::mem::take(&mut inner.skipped),
        })
    }

    /// Looks at every file.
    async fn survey<I>(&self, paths: I, options: &SyncOptions) -> Result<(Arc<State>, Survey)>
    where
        I: IntoIterator,
        I::Item: Into<PathBuf>,
    {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        options.cancel.check()?;
        let found: SourceFiles = beside(move || find_files(paths)).await?;
        let known = self.file_facts(HASH, ROOT).await?;
        let state = Arc::new(State::new(options, &found));
        for file in &found.skipped {
            state.skip(file.clone(), false);
        }
        state.tell_progress();
        let survey = survey::survey(found, known, &state).await?;
        Ok((state, survey))
    }
}

/// The documents of the files, read ahead of whoever takes them, in the order of the files.
fn read_all(work: Vec<Work>, state: &Arc<State>) -> impl Stream<Item = Incoming> + Send + use<> {
    let (reading, settling) = (Arc::clone(state), Arc::clone(state));
    stream::iter(work)
        .map(move |work| {
            let state = Arc::clone(&reading);
            async move {
                let work = Arc::new(work);
                let taken = take(Arc::clone(&work), &state).await;
                (work, taken)
            }
        })
        .buffered(AHEAD)
        .filter_map(move |(work, taken)| {
            let incoming = taken.and_then(|taken| settle(&work, taken, &settling));
            std::future::ready(incoming)
        })
}

/// What was done with a file, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Added,
    Updated,
    Renamed(String),
}

struct State {
    options: SyncOptions,
    total: u64,
    inner: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: u64,
    unchanged: u64,
    /// Skipped files that were counted among the found ones.
    refused: u64,
    added: AddProgress,
    removed_count: u64,
    skipped: Vec<SkippedFile>,
    /// By id.
    outcomes: BTreeMap<String, Outcome>,
    /// The ids in the order of their files.
    order: Vec<String>,
    /// The path to show of each id.
    uris: BTreeMap<String, String>,
    /// Documents whose file is there, but is none.
    stale: BTreeSet<String>,
    failed: Option<Error>,
}

impl Counts {
    fn progress(&self) -> SyncProgress {
        let added = &self.added;
        let renamed = self
            .outcomes
            .values()
            .filter(|outcome| matches!(outcome, Outcome::Renamed(_)))
            .count() as u64;
        // Some are read ahead of their commit.
        let renamed = renamed.min(added.documents_updated);
        SyncProgress {
            files_total: self.total,
            files_done: self.unchanged + self.refused + added.documents_done,
            files_added: added.documents_added,
            files_updated: added.documents_updated - renamed,
            files_renamed: renamed,
            files_unchanged: self.unchanged + added.documents_unchanged,
            files_skipped: self.skipped.len() as u64,
            documents_removed: self.removed_count,
            chunks: added.chunks,
            chunks_cached: added.chunks_cached,
            chunks_reused: added.chunks_reused,
            tokens: added.tokens,
            commits: added.commits,
            elapsed: added.elapsed,
            chunks_per_second: added.chunks_per_second,
            remaining: added.remaining,
        }
    }

    fn outcomes(&self) -> (Vec<String>, Vec<String>, Vec<RenamedFile>) {
        let (mut added, mut updated, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
        for id in &self.order {
            match self.outcomes.get(id) {
                Some(Outcome::Added) => added.push(id.clone()),
                Some(Outcome::Updated) => updated.push(id.clone()),
                Some(Outcome::Renamed(from)) => renamed.push(RenamedFile {
                    from: from.clone(),
                    to: id.clone(),
                }),
                None => {}
            }
        }
        (added, updated, renamed)
    }

    /// What goes: files that are gone and did not move, and files that are no documents any more.
    fn removed(&self, gone: &BTreeSet<String>) -> BTreeSet<String> {
        let mut removed = gone.clone();
        for outcome in self.outcomes.values() {
            if let Outcome::Renamed(from) = outcome {
                removed.remove(from);
            }
        }
        removed.extend(self.stale.iter().cloned());
        removed
    }
}

impl State {
    fn new(options: &SyncOptions, found: &SourceFiles) -> Self {
        let total = found.files.len() as u64;
        let uris = found.files.iter().map(|file| (file.id.clone(), file.uri.clone()));
        let inner = Mutex::new(Counts {
            total,
            uris: uris.collect(),
            ..Counts::default()
        });
        Self {
            options: options.clone(),
            total,
            inner,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole between any two statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &SyncEvent) {
        if let Some(see) = &self.options.progress {
            see(event);
        }
    }

    fn tell_progress(&self) {
        let progress = self.lock().progress();
        self.tell(&SyncEvent::Progress(progress));
    }

    fn skip(&self, file: SkippedFile, was_found: bool) {
        {
            let mut inner = self.lock();
            inner.refused += u64::from(was_found);
            inner.skipped.push(file.clone());
        }
        self.tell(&SyncEvent::Skipped(file));
    }

    /// A file that was read, but cannot be added; its document stays as it was.
    fn fail(&self, id: &str, error: &Error) {
        let uri = {
            let mut inner = self.lock();
            inner.outcomes.remove(id);
            inner.uris.get(id).cloned().unwrap_or_else(|| id.to_owned())
        };
        self.skip(SkippedFile::new(uri, error.to_string()), false);
    }

    fn added(&self, progress: &AddProgress) {
        self.lock().added = progress.clone();
        self.tell_progress();
    }

    fn unchanged(&self) {
        let done = {
            let mut inner = self.lock();
            inner.unchanged += 1;
            inner.unchanged
        };
        // Thousands of files may be unchanged; a report for each would cost more than the file.
        if done.is_multiple_of(64) || done == self.total {
            self.tell_progress();
        }
    }
}

/// What came of a file that is new or changed.
enum Taken {
    /// The document, and whether the file is still as it was surveyed.
    Document(Box<Document>, bool),
    /// The file cannot be reached: what is known of it may still be true.
    Unreachable(SkippedFile),
    /// Its bytes are there, and are no document: what is known of it is no longer true.
    Unreadable(SkippedFile),
}

/// Reads a file beside the runtime; `None` when the sync is at its end.
async fn take(work: Arc<Work>, state: &State) -> Option<Taken> {
    if state.options.cancel.is_cancelled() {
        return None;
    }
    let (limits, cancel) = (state.options.limits.clone(), state.options.cancel.clone());
    match beside(move || read(&work, &limits, &cancel)).await {
        Ok(taken) => Some(taken),
        Err(error) => {
            // Cancelled, or no thread to be had: the sync ends with it.
            state.lock().failed = Some(error);
            None
        }
    }
}

/// Notes what came of a file.
fn settle(work: &Work, taken: Taken, state: &State) -> Option<Incoming> {
    let id = work.file.id.clone();
    match taken {
        Taken::Document(document, is_as_surveyed) => {
            let from = work.from.clone().filter(|_| is_as_surveyed);
            let outcome = match &from {
                Some(from) => Outcome::Renamed(from.clone()),
                None if work.is_known => Outcome::Updated,
                None => Outcome::Added,
            };
            let mut inner = state.lock();
            inner.order.push(id.clone());
            inner.outcomes.insert(id, outcome);
            return Some(Incoming {
                document: *document,
                from,
                like: work.like.clone(),
            });
        }
        Taken::Unreachable(file) => state.skip(file, true),
        Taken::Unreadable(file) => {
            if work.was_file {
                state.lock().stale.insert(id);
            }
            state.skip(file, true);
        }
    }
    None
}

fn read(work: &Work, limits: &LoadLimits, cancel: &Cancel) -> Result<Taken> {
    let file = &work.file;
    let content = match steady_content(file, limits) {
        Ok(content) => content,
        Err(error) => return refused(error, &file.uri).map(Taken::Unreachable),
    };
    let hash = format!("{READER}:{}", content.hash);
    let root = root_fact(&file.root);
    match file.document(content, limits, cancel) {
        Ok(document) => {
            let is_as_surveyed = hash == work.hash;
            let document = document.with_metadata("file", json!({ "hash": hash, "root": root }));
            Ok(Taken::Document(Box::new(document), is_as_surveyed))
        }
        Err(error) => refused(error, &file.uri).map(Taken::Unreadable),
    }
}

/// A refused file costs itself; any other error ends the sync.
fn refused(error: Error, uri: &str) -> Result<SkippedFile> {
    match error {
        Error::Unreadable { reason, .. } => Ok(SkippedFile::new(uri, reason)),
        // `{uri}: its size is over …`
        Error::LimitExceeded { .. } => {
            let said = error.to_string();
            let reason = said.strip_prefix(uri).and_then(|said| said.strip_prefix(": "));
            Ok(SkippedFile::new(uri, reason.unwrap_or(&said)))
        }
        other => Err(other),
    }
}

/// Runs blocking work beside the runtime.
async fn beside<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::internal("a reader of files panicked")),
        Err(_) => Err(Error::Cancelled),
    }
}

#[cfg(test)]
mod tests;
