//! The one writer: whole documents in, one atomic commit out.
//!
//! tantivy has a writer of its own, with threads of its own. On one of them, where deletes are applied and merges end, a
//! panic cannot be caught and ends the process. So its parts are used here, and its order: new segments and deletes are
//! written to files that nothing refers to, and become the index when `meta.json`, which lists what counts, is replaced.
//! What a failed commit or a killed process leaves is deleted by whoever writes next.

mod deletes;
mod merge;
mod output;
mod payload;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use stepwell_core::{Error, Result};
use tantivy::directory::{DirectoryLock, INDEX_WRITER_LOCK, ManagedDirectory};
use tantivy::indexer::{AddOperation, LogMergePolicy, MergePolicy, SegmentWriter};
use tantivy::{
    Directory, Index, IndexMeta, Opstamp, Segment, SegmentMeta, TantivyDocument, TantivyError, Term,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::deletes::TermReaders;
use self::merge::{Merge, Merged, Running};
use self::output::{Held, Output};
pub(crate) use self::payload::{Cursor, Payload};
use crate::disk::{Disk, META};
use crate::error::{Place, guarded};
use crate::stop::Stop;

/// Memory for the documents of one segment, vectors included; more chunks than fit become more segments.
const MEMORY: usize = 128 << 20;
/// What is left of it when a segment is full: a document is taken whole.
const MARGIN: usize = 1 << 20;
/// A level of small segments is merged when it has this many.
const SEGMENTS_PER_MERGE: usize = 6;
/// Segments below this size count as one level.
const SMALLEST_LEVEL: u32 = 4_096;
/// Share of deleted rows from which a segment is rewritten.
const DELETED_SHARE: f32 = 0.2;

/// What the writers of one open index share; one writes at a time.
pub(crate) struct Writers {
    index: Index,
    /// The folder below the index, without tantivy's checksums and lists.
    disk: Disk,
    place: Place,
    stop: Stop,
    /// The merge of a writer that was dropped.
    left: Mutex<Option<Running>>,
    turn: Arc<Semaphore>,
}

/// The right to write, among the clones of one handle.
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Writers {
    /// `stop` ends the building of graphs.
    pub(crate) fn new(index: &Index, disk: Disk, place: &Place, stop: Stop) -> Arc<Self> {
        Arc::new(Self {
            index: index.clone(),
            disk,
            place: place.clone(),
            stop,
            left: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Waits until no other clone writes.
    pub(crate) async fn turn(&self) -> Result<Turn> {
        let permit = Arc::clone(&self.turn).acquire_owned().await;
        let closed = |_| Error::internal("the writer's turn was closed");
        Ok(Turn {
            _permit: permit.map_err(closed)?,
        })
    }

    fn check<T>(&self, doing: &str, result: tantivy::Result<T>) -> Result<T> {
        let result = result.map_err(|error| match error {
            TantivyError::InternalError(_) | TantivyError::SystemError(_) if self.disk.take_full() => {
                std::io::Error::from(std::io::ErrorKind::StorageFull).into()
            }
            other => other,
        });
        self.place.check(doing, result)
    }

    /// [`stepwell_core::Error::Locked`] when another process or handle writes.
    pub(crate) fn open(self: &Arc<Self>, turn: Turn) -> Result<Writer> {
        // It was told to stop, and still has the lock.
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(left) = left {
            let _ = left.thread.join();
        }
        let lock = self.index.directory().acquire_lock(&INDEX_WRITER_LOCK);
        let lock = lock.map_err(|error| TantivyError::LockFailure(error, None));
        let lock = Arc::new(self.place.check("writing", lock)?);
        self.stop.set(false);
        // Another process may have written since the list of files was read: what is not in it nobody deletes.
        let mut index = self.index.clone();
        *index.directory_mut() =
            self.check("opening", ManagedDirectory::wrap(Box::new(self.disk.clone())))?;
        let mut merges = LogMergePolicy::default();
        merges.set_min_num_segments(SEGMENTS_PER_MERGE);
        merges.set_min_layer_size(SMALLEST_LEVEL);
        merges.set_del_docs_ratio_before_merge(DELETED_SHARE);
        let mut writer = Writer {
            shared: Arc::clone(self),
            index,
            committed: None,
            merges,
            running: None,
            may_merge: true,
            held: Held::default(),
            terms: TermReaders::default(),
            lock,
            _turn: turn,
        };
        writer.committed()?;
        writer.collect();
        Ok(writer)
    }
}

/// Holds the folder's writer lock as long as it lives.
pub(crate) struct Writer {
    shared: Arc<Writers>,
    index: Index,
    /// `None` when it has to be read: at first, and where a commit failed so late that it may have happened.
    committed: Option<IndexMeta>,
    merges: LogMergePolicy,
    running: Option<Running>,
    /// After a merge that failed the next ones are left to the next writer.
    may_merge: bool,
    held: Held,
    terms: TermReaders,
    // These two last: whoever comes next finds that everything else has ended.
    lock: Arc<DirectoryLock>,
    _turn: Turn,
}

/// What one commit does to one document.
pub(crate) struct Change {
    /// The terms of its versions so far.
    pub(crate) remove: Vec<Term>,
    /// Its chunks now.
    pub(crate) add: Vec<TantivyDocument>,
}

impl Writer {
    fn check<T>(&self, doing: &str, result: tantivy::Result<T>) -> Result<T> {
        self.shared.check(doing, result)
    }

    /// The state that the folder is in.
    fn committed(&mut self) -> Result<IndexMeta> {
        if let Some(committed) = &self.committed {
            return Ok(committed.clone());
        }
        let read = self.check("reading", self.index.load_metas())?;
        // What is not in this list is deleted.
        let plugins = self.index.custom_plugins().iter();
        let ours = plugins.flat_map(|plugin| plugin.extensions().iter().copied());
        if !ours.eq(read.persisted_custom_extensions.iter().map(String::as_str)) {
            let what = "its list of files does not name those that this version keeps";
            return Err(self.shared.place.damaged(what));
        }
        self.committed = Some(read.clone());
        Ok(read)
    }

    /// All of the changes or none: an error, also one of the changes themselves, leaves the last commit as it was, and the
    /// writer usable. What a change removes it removes of what was committed before.
    pub(crate) fn commit<I>(&mut self, changes: I, cursor: Option<Cursor>) -> Result<()>
    where
        I: IntoIterator<Item = Result<Change>>,
    {
        self.shared.disk.take_full();
        let mut state = self.committed()?;
        let payload = Payload::of(&state).next(cursor)?;
        state.payload = Some(self.check("writing", payload.to_json())?);
        state.opstamp += 1;
        let (added, removed) = self.write(changes)?;
        let left = self.remove(&state.segments, &removed, state.opstamp);
        state.segments = self.check("writing", left)?;
        state.segments.extend(added);
        self.save(state)?;
        self.settle();
        Ok(())
    }

    /// Writes new segments; what they replace.
    fn write(
        &self,
        changes: impl IntoIterator<Item = Result<Change>>,
    ) -> Result<(Vec<SegmentMeta>, Vec<Term>)> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let mut part: Option<Part> = None;
        for change in changes {
            let change = change?;
            removed.extend(change.remove);
            if change.add.is_empty() {
                continue;
            }
            let mut open = match part.take() {
                Some(open) => open,
                None => self.check("writing", Part::open(&self.index))?,
            };
            self.check("writing", open.add(change.add))?;
            if open.writer.mem_usage() < MEMORY - MARGIN {
                part = Some(open);
            } else {
                added.push(self.check("writing", open.close())?);
            }
        }
        if let Some(part) = part {
            added.push(self.check("writing", part.close())?);
        }
        Ok((added, removed))
    }

    /// The segments that are left without the rows of these terms.
    fn remove(
        &mut self,
        segments: &[SegmentMeta],
        terms: &[Term],
        opstamp: Opstamp,
    ) -> tantivy::Result<Vec<SegmentMeta>> {
        let index = &self.index;
        let mut left = Vec::with_capacity(segments.len());
        for meta in segments {
            let rows = self.terms.rows(index, meta, terms)?;
            let meta = if rows.is_empty() {
                meta.clone()
            } else {
                deletes::without(index, meta, &rows, opstamp)?
            };
            if meta.num_docs() > 0 {
                left.push(meta);
            }
        }
        Ok(left)
    }

    /// Makes a state the one that counts.
    fn save(&mut self, mut state: IndexMeta) -> Result<()> {
        state
            .segments
            .sort_by_key(|meta| std::cmp::Reverse(meta.max_doc()));
        // From here on nobody knows what is on the disk, until all is well or it is read again.
        self.committed = None;
        let deletes = state.segments.iter().filter_map(SegmentMeta::delete_opstamp);
        state.opstamp = deletes.fold(state.opstamp, Opstamp::max);
        let saved = self.replace(&state);
        self.check("writing", saved)?;
        self.terms.keep(&state.segments);
        self.committed = Some(state);
        self.collect();
        Ok(())
    }

    fn replace(&self, state: &IndexMeta) -> tantivy::Result<()> {
        let json = serde_json::to_vec_pretty(state)
            .map_err(|error| TantivyError::InternalError(format!("{META}: {error}")))?;
        let directory = self.index.directory();
        // The names of what the list refers to come first, its own name last.
        directory.sync_directory()?;
        directory.atomic_write(META.as_ref(), &json)?;
        Ok(directory.sync_directory()?)
    }

    /// Deletes the files that nothing refers to. What fails is tried again after the next commit.
    fn collect(&mut self) {
        let Some(committed) = &self.committed else {
            return;
        };
        let directory = self.index.directory_mut();
        let living = || {
            // What a merge writes is held before it stands in the list that is looked through.
            let mut living = committed.list_segment_files();
            living.insert(PathBuf::from(META));
            living.extend(self.held.lock().iter().cloned());
            living
        };
        let collected = guarded(&self.shared.place, || {
            let collected = directory.garbage_collect(living);
            self.shared.check("cleaning up", collected)
        });
        if let Err(error) = collected {
            tracing::debug!(code = error.code(), "files that nothing refers to are left");
        }
    }

    /// Puts what was merged in place, and has the next segments merged.
    fn settle(&mut self) {
        self.finish(false);
        if self.running.is_none() {
            self.attempt(Self::start);
        }
    }

    /// Puts the segment of the running merge in place, if that has ended or is waited for.
    fn finish(&mut self, is_waiting: bool) {
        let is_due = |running: &mut Running| is_waiting || running.thread.is_finished();
        let Some(running) = self.running.take_if(is_due) else {
            return;
        };
        let merged = running.thread.join();
        self.held.lock().clear();
        let merged = merged.unwrap_or_else(|_| Err(self.shared.place.panicked()));
        self.attempt(|writer| writer.install(merged?));
    }

    /// Does a step of a merge. One that fails costs no commit and loses nothing, its segments stay apart. The next writer
    /// tries again.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) {
        let shared = Arc::clone(&self.shared);
        if let Err(error) = guarded(&shared.place, || step(self)) {
            self.may_merge = false;
            self.held.lock().clear();
            tracing::warn!(code = error.code(), "a merge failed; its segments stay apart");
        }
    }

    /// Starts the next merge that is due.
    fn start(&mut self) -> Result<()> {
        if !self.may_merge {
            return Ok(());
        }
        let mut read = self.committed()?;
        let Some(due) = self
            .merges
            .compute_merge_candidates(&read.segments)
            .into_iter()
            .next()
        else {
            return Ok(());
        };
        read.segments.retain(|meta| due.0.contains(&meta.id()));
        // Deletes may leave nothing of a segment, or another file of deletes, and the merge still reads what it began with.
        self.held.lock().extend(read.list_segment_files());
        let merge = self.merge(read.segments);
        self.running = Some(merge.spawn(Arc::clone(&self.lock))?);
        Ok(())
    }

    fn merge(&self, sources: Vec<SegmentMeta>) -> Merge {
        let shared = &self.shared;
        let managed = self.index.directory().clone();
        Merge {
            shared: Arc::clone(shared),
            index: self.index.clone(),
            output: Output::new(
                shared.disk.clone(),
                managed,
                self.held.clone(),
                shared.stop.clone(),
            ),
            sources,
        }
    }

    fn install(&mut self, merged: Merged) -> Result<()> {
        let mut state = self.committed()?;
        state.opstamp += 1;
        let installed = merged.install(&self.index, &state.segments, state.opstamp);
        state.segments = self.check("merging", installed)?;
        self.save(state)
    }

    /// Rewrites all segments as one, without what was deleted.
    pub(crate) fn compact(&mut self) -> Result<()> {
        self.finish(true);
        self.shared.disk.take_full();
        let segments = self.committed()?.segments;
        if !segments.is_empty() {
            let merged = self.merge(segments).run();
            self.held.lock().clear();
            self.install(merged?)?;
        }
        Ok(())
    }

    /// Lets all merges that are due end, then gives the lock back.
    pub(crate) fn close(mut self) {
        self.settle();
        while self.running.is_some() {
            self.finish(true);
            self.settle();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.shared.stop.set(true);
            *self.shared.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        }
    }
}

/// A segment while documents come.
struct Part {
    segment: Segment,
    writer: SegmentWriter,
}

impl Part {
    fn open(index: &Index) -> tantivy::Result<Self> {
        let segment = index.new_segment();
        Ok(Self {
            writer: SegmentWriter::for_segment(MEMORY, segment.clone())?,
            segment,
        })
    }

    fn add(&mut self, documents: Vec<TantivyDocument>) -> tantivy::Result<()> {
        for document in documents {
            // Deletes are not told apart by it: they are of earlier commits.
            let opstamp = 0;
            self.writer.add_document(AddOperation { opstamp, document })?;
        }
        Ok(())
    }

    fn close(self) -> tantivy::Result<SegmentMeta> {
        let rows = self.writer.max_doc();
        self.writer.finalize()?;
        Ok(self.segment.with_max_doc(rows).meta().clone())
    }
}
