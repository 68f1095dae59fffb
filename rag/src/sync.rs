//! [`Collection::sync`]: makes a collection hold what lies in folders, at the cost of what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, StreamExt};
use serde_json::json;
use stepwell_core::{Cancel, Document, Error, Result};

use crate::collection::{AddEvent, AddOptions, AddProgress, Collection};
use crate::load::{LoadLimits, SkippedFile, SourceFile, SourceFiles, find_files};
use crate::schema::check_id;

/// The fact that tells which bytes a document was read from.
const HASH: &str = "file.hash";
/// The fact that tells under which given path it was found.
const ROOT: &str = "file.root";
/// Raised when the same bytes would be read otherwise: then every file is read again.
const READER: u32 = 2;
/// Files read ahead of the embedder.
const AHEAD: usize = 2;

/// How far a sync has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Of these, files that stand in the index already.
    pub files_unchanged: u64,
    /// Files and folders that cannot be read.
    pub files_skipped: u64,
    /// Documents deleted because their file is gone or cannot be read as it is now.
    pub documents_removed: u64,
    /// Chunks embedded so far.
    pub chunks: u64,
    /// Tokens that the embedder reports.
    pub tokens: u64,
    /// Commits so far: what they hold is kept whatever comes.
    pub commits: u64,
}

/// A step of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncEvent {
    /// Files were found, read, embedded, committed or deleted.
    Progress(SyncProgress),
    /// A file or folder cannot be read; the others go on.
    Skipped(SkippedFile),
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncReport {
    /// The counts at the end.
    pub progress: SyncProgress,
    /// What could not be read, and why.
    pub skipped: Vec<SkippedFile>,
    /// Ids of the documents that were deleted.
    pub removed: Vec<String>,
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
    /// Chunks per commit; 256.
    pub chunks_per_commit: usize,
    /// Whether documents whose files are gone are deleted; they are.
    pub removes: bool,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            progress: None,
            cancel: Cancel::new(),
            limits: LoadLimits::default(),
            chunks_per_commit: AddOptions::default().chunks_per_commit,
            removes: true,
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

    /// Commits after so many chunks.
    pub fn chunks_per_commit(mut self, chunks: usize) -> Self {
        self.chunks_per_commit = chunks.max(1);
        self
    }

    /// Keeps or deletes documents whose files are gone.
    pub fn removes(mut self, removes: bool) -> Self {
        self.removes = removes;
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
    /// Makes the collection hold the files under these paths: new and changed files are read and embedded, unchanged
    /// ones are only hashed, and documents whose files are gone are deleted, as far as they came from the same paths.
    ///
    /// A file that cannot be read is reported and the others go on. Files are read one batch at a time. A document's id
    /// is its file's path below the given folder; see [`find_files`].
    ///
    /// # Errors
    /// `not_found` when a given path is not there; `cancelled`; whatever [`Collection::add_with`] says. What was
    /// committed is kept, and the next sync goes on from there.
    pub async fn sync<I>(&self, paths: I, options: SyncOptions) -> Result<SyncReport>
    where
        I: IntoIterator,
        I::Item: Into<PathBuf>,
    {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        options.cancel.check()?;
        let SourceFiles {
            files,
            skipped,
            roots,
            ..
        } = beside(move || find_files(paths)).await?;
        let state = Arc::new(State::new(&options, files.len() as u64));
        for file in skipped {
            state.skip(file, false);
        }
        let known = Arc::new(Known {
            hashes: self.text_facts(HASH).await?,
            roots: self.text_facts(ROOT).await?,
        });
        state.tell_progress();
        let ids: BTreeSet<String> = files.iter().map(|file| file.id.clone()).collect();
        let total = files.len() as u64;
        let documents = stream::iter(files)
            .map(|file| {
                let (state, known) = (Arc::clone(&state), Arc::clone(&known));
                async move { take(file, &known, &state).await }
            })
            .buffered(AHEAD)
            .filter_map(std::future::ready);
        let seen = Arc::clone(&state);
        let add = AddOptions::new()
            .cancel(options.cancel.clone())
            .chunks_per_commit(options.chunks_per_commit)
            .progress(move |event| {
                if let AddEvent::Progress(progress) = event {
                    seen.added(progress);
                }
            });
        let added = self.add_stream(documents, Some(total), add).await?;
        if let Some(error) = state.lock().failed.take() {
            return Err(error);
        }
        options.cancel.check()?;
        state.added(&added.progress);
        self.remove_gone(&known, &ids, &roots, &options, &state).await?;
        state.tell_progress();
        let mut inner = state.lock();
        let (progress, skipped, removed) = (
            inner.progress(),
            std::mem::take(&mut inner.skipped),
            std::mem::take(&mut inner.removed),
        );
        Ok(SyncReport {
            progress,
            skipped,
            removed,
        })
    }

    /// Deletes what came from these paths and is gone, and what can no longer be read.
    async fn remove_gone(
        &self,
        known: &Known,
        ids: &BTreeSet<String>,
        roots: &[PathBuf],
        options: &SyncOptions,
        state: &State,
    ) -> Result<()> {
        let roots: BTreeSet<String> = roots.iter().map(|root| root_fact(root)).collect();
        let mut gone: BTreeSet<String> = state.lock().stale.clone();
        gone.retain(|id| known.hashes.contains_key(id));
        if options.removes {
            let missing = known
                .roots
                .iter()
                .filter(|(id, root)| roots.contains(*root) && !ids.contains(*id));
            gone.extend(missing.map(|(id, _)| id.clone()));
        }
        if !gone.is_empty() {
            let count = self.delete(gone.iter().cloned()).await?;
            let mut inner = state.lock();
            inner.removed_count = count;
            inner.removed = gone.into_iter().collect();
        }
        Ok(())
    }
}

/// What the index tells of the files it was made from.
struct Known {
    hashes: BTreeMap<String, String>,
    roots: BTreeMap<String, String>,
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
    removed: Vec<String>,
    /// Documents whose file is there, but no longer readable.
    stale: BTreeSet<String>,
    failed: Option<Error>,
}

impl Counts {
    fn progress(&self) -> SyncProgress {
        let added = &self.added;
        SyncProgress {
            files_total: self.total,
            files_done: self.unchanged + self.refused + added.documents_done,
            files_added: added.documents_added,
            files_updated: added.documents_updated,
            files_unchanged: self.unchanged + added.documents_unchanged,
            files_skipped: self.skipped.len() as u64,
            documents_removed: self.removed_count,
            chunks: added.chunks,
            tokens: added.tokens,
            commits: added.commits,
        }
    }
}

impl State {
    fn new(options: &SyncOptions, total: u64) -> Self {
        let inner = Mutex::new(Counts {
            total,
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

/// What came of a file.
enum Taken {
    Document(Box<Document>),
    Unchanged,
    /// The file cannot be reached: what is known of it may still be true.
    Unreachable(SkippedFile),
    /// Its bytes are there, and are no document: what is known of it is no longer true.
    Unreadable(SkippedFile),
}

/// Reads a file beside the runtime, unless the index holds what its bytes gave.
async fn take(file: SourceFile, known: &Arc<Known>, state: &State) -> Option<Document> {
    if state.options.cancel.is_cancelled() {
        return None;
    }
    let (limits, cancel, id) = (
        state.options.limits.clone(),
        state.options.cancel.clone(),
        file.id.clone(),
    );
    let known = Arc::clone(known);
    match beside(move || read(&file, &known, &limits, &cancel)).await {
        Ok(Taken::Document(document)) => return Some(*document),
        Ok(Taken::Unchanged) => state.unchanged(),
        Ok(Taken::Unreachable(file)) => state.skip(file, true),
        Ok(Taken::Unreadable(file)) => {
            state.lock().stale.insert(id);
            state.skip(file, true);
        }
        // Cancelled, or no thread to be had: the sync ends with it.
        Err(error) => state.lock().failed = Some(error),
    }
    None
}

fn read(file: &SourceFile, known: &Known, limits: &LoadLimits, cancel: &Cancel) -> Result<Taken> {
    if check_id(&file.id).is_err() {
        return Ok(Taken::Unreachable(SkippedFile::new(
            &file.uri,
            "its path is too long",
        )));
    }
    let content = match file.content(limits) {
        Ok(content) => content,
        Err(error) => return refused(error, &file.uri).map(Taken::Unreachable),
    };
    let hash = format!("{READER}:{}", content.hash);
    let root = root_fact(&file.root);
    if known.hashes.get(&file.id) == Some(&hash) && known.roots.get(&file.id) == Some(&root) {
        return Ok(Taken::Unchanged);
    }
    match file.document(content, limits, cancel) {
        Ok(document) => {
            let document = document.with_metadata("file", json!({ "hash": hash, "root": root }));
            Ok(Taken::Document(Box::new(document)))
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

/// A given path as a fact: its hash, so that an index does not tell where its files lay.
fn root_fact(root: &Path) -> String {
    blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex()[..32].to_owned()
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
