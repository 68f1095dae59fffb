//! The one writer: whole documents in, one atomic commit out.
//!
//! After a failed commit tantivy's writer goes on saying yes and stores nothing, until it is rolled back; a commit
//! without a payload erases the payload. Both are kept here, in one place.

use stepwell_core::Result;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, UserOperation};
use tantivy::{Directory, Index, IndexWriter, TantivyDocument, Term};

use crate::error::Place;

/// Memory of the writer's thread, vectors included; more chunks than fit become more segments.
const MEMORY: usize = 128 << 20;
/// A level of small segments is merged when it has this many.
const SEGMENTS_PER_MERGE: usize = 6;
/// Segments below this size count as one level.
const SMALLEST_LEVEL: u32 = 4_096;
/// Share of deleted rows from which a segment is rewritten.
const DELETED_SHARE: f32 = 0.2;

/// Holds the folder's writer lock as long as it lives.
pub(crate) struct Writer {
    inner: IndexWriter,
    place: Place,
    commits: u64,
}

/// What one commit does to one document.
pub(crate) struct Change {
    /// The terms of its versions so far.
    pub(crate) remove: Vec<Term>,
    /// Its chunks now.
    pub(crate) add: Vec<TantivyDocument>,
}

impl Writer {
    /// [`stepwell_core::Error::Locked`] when another process or handle writes.
    pub(crate) fn open(index: &Index, place: &Place) -> Result<Self> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1) // one thread, one segment per commit
            .memory_budget_per_thread(MEMORY)
            .num_merge_threads(1)
            .build();
        let inner: IndexWriter = place.check("writing", index.writer_with_options(options))?;
        let mut merges = LogMergePolicy::default();
        merges.set_min_num_segments(SEGMENTS_PER_MERGE);
        merges.set_min_layer_size(SMALLEST_LEVEL);
        merges.set_del_docs_ratio_before_merge(DELETED_SHARE);
        inner.set_merge_policy(Box::new(merges));
        let payload = place.check("opening", index.load_metas())?.payload;
        let commits = payload
            .and_then(|payload| serde_json::from_str::<serde_json::Value>(&payload).ok())
            .and_then(|payload| payload.get("commits")?.as_u64())
            .unwrap_or(0);
        Ok(Self {
            inner,
            place: place.clone(),
            commits,
        })
    }

    /// All of the changes or none: an error leaves the last commit as it was, and the writer usable.
    pub(crate) fn commit(&mut self, changes: Vec<Change>) -> Result<()> {
        let result = self.try_commit(changes);
        if let Err(error) = result {
            let explained = self.place.explain("writing", &error);
            self.place.check("rolling back", self.inner.rollback())?;
            return Err(explained);
        }
        Ok(())
    }

    fn try_commit(&mut self, changes: Vec<Change>) -> tantivy::Result<()> {
        for change in changes {
            let operations: Vec<UserOperation> = change
                .remove
                .into_iter()
                .map(UserOperation::Delete)
                .chain(change.add.into_iter().map(UserOperation::Add))
                .collect();
            // One block: no commit can stand between a document's old and new chunks.
            if let Err(killed) = self.inner.run(operations) {
                // The thread that failed meanwhile tells its reason, a full disk, to the next commit alone.
                return Err(self.inner.prepare_commit().err().unwrap_or(killed));
            }
        }
        let mut prepared = self.inner.prepare_commit()?;
        let payload =
            serde_json::json!({ "stepwell": env!("CARGO_PKG_VERSION"), "commits": self.commits + 1 });
        prepared.set_payload(&payload.to_string());
        prepared.commit()?;
        self.commits += 1;
        // The rename of meta.json is durable only when the folder is written too.
        self.inner.index().directory().sync_directory()?;
        Ok(())
    }

    /// Rewrites all segments as one, without what was deleted.
    pub(crate) fn compact(&mut self) -> Result<()> {
        let segments = self
            .place
            .check("reading", self.inner.index().searchable_segment_ids())?;
        if !segments.is_empty() {
            let merged = self.inner.merge(&segments).wait();
            self.place.check("merging", merged)?;
        }
        let collected = self.inner.garbage_collect_files().wait();
        self.place.check("merging", collected).map(drop)
    }

    /// Lets running merges end, then gives the lock back. A failed merge loses nothing: its segments stay apart.
    pub(crate) fn close(self) -> Result<()> {
        let place = self.place;
        place.check("merging", self.inner.wait_merging_threads())
    }
}
