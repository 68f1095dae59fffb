//! The one writer: whole documents in, one atomic commit out.
//!
//! After a failed commit tantivy's writer goes on saying yes and stores nothing, until it is rolled back; a commit
//! without a payload erases the payload. Both are kept here, in one place.

use serde::{Deserialize, Serialize};
use stepwell_core::{Error, Result, Scope};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, UserOperation};
use tantivy::{Directory, Index, IndexWriter, TantivyDocument, TantivyError, Term};

use crate::error::Place;

/// Memory of the writer's thread, vectors included; more chunks than fit become more segments.
const MEMORY: usize = 128 << 20;
/// A level of small segments is merged when it has this many.
const SEGMENTS_PER_MERGE: usize = 6;
/// Segments below this size count as one level.
const SMALLEST_LEVEL: u32 = 4_096;
/// Share of deleted rows from which a segment is rewritten.
const DELETED_SHARE: f32 = 0.2;

/// More sources than this are not remembered at once.
const MOST_CURSORS: usize = 1_000;

/// Holds the folder's writer lock as long as it lives.
pub(crate) struct Writer {
    inner: IndexWriter,
    place: Place,
    payload: Payload,
}

/// What each commit says of itself, and hands on from the one before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Payload {
    #[serde(default)]
    stepwell: String,
    #[serde(default)]
    commits: u64,
    /// How far the sources of unfinished `add`s were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cursors: Vec<Cursor>,
}

/// How far a source was read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Cursor {
    pub(crate) tenant: String,
    pub(crate) source: String,
    /// Documents that are done; 0 when it was read to its end.
    pub(crate) done: u64,
}

impl Payload {
    fn read(index: &Index, place: &Place) -> Result<Self> {
        let payload = place.check("opening", index.load_metas())?.payload;
        // Another version's payload tells nothing that could not be found out again.
        Ok(payload
            .and_then(|payload| serde_json::from_str(&payload).ok())
            .unwrap_or_default())
    }

    /// How many documents of a source are done.
    pub(crate) fn done(&self, scope: &Scope, source: &str) -> u64 {
        self.cursors
            .iter()
            .find(|cursor| cursor.tenant == scope.tenant() && cursor.source == source)
            .map_or(0, |cursor| cursor.done)
    }

    fn next(&self, moved: Option<Cursor>) -> Result<Self> {
        let mut next = Self {
            stepwell: env!("CARGO_PKG_VERSION").to_owned(),
            commits: self.commits + 1,
            cursors: self.cursors.clone(),
        };
        if let Some(moved) = moved {
            next.cursors
                .retain(|cursor| (&cursor.tenant, &cursor.source) != (&moved.tenant, &moved.source));
            if moved.done > 0 {
                next.cursors.push(moved);
            }
        }
        if next.cursors.len() > MOST_CURSORS {
            return Err(Error::LimitExceeded {
                what: "the number of unfinished sources of this index".to_owned(),
                limit: MOST_CURSORS.to_string(),
            });
        }
        Ok(next)
    }
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
        Ok(Self {
            inner,
            place: place.clone(),
            payload: Payload::read(index, place)?,
        })
    }

    /// How far the sources of unfinished `add`s were read; needs no lock.
    pub(crate) fn cursors(index: &Index, place: &Place) -> Result<Payload> {
        Payload::read(index, place)
    }

    /// All of the changes or none: an error, also one of the changes themselves, leaves the last commit as it was, and the
    /// writer usable.
    pub(crate) fn commit<I>(&mut self, changes: I, cursor: Option<Cursor>) -> Result<()>
    where
        I: IntoIterator<Item = Result<Change>>,
    {
        let payload = self.payload.next(cursor)?;
        let result = match self.write(changes) {
            Ok(()) => {
                let committed = self.try_commit(&payload);
                self.place.check("writing", committed)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.place.check("rolling back", self.inner.rollback())?;
            return Err(error);
        }
        self.payload = payload;
        Ok(())
    }

    fn write(&mut self, changes: impl IntoIterator<Item = Result<Change>>) -> Result<()> {
        for change in changes {
            let change = change?;
            let operations: Vec<UserOperation> = change
                .remove
                .into_iter()
                .map(UserOperation::Delete)
                .chain(change.add.into_iter().map(UserOperation::Add))
                .collect();
            // One block: no commit can stand between a document's old and new chunks.
            if let Err(killed) = self.inner.run(operations) {
                // The thread that failed meanwhile tells its reason, a full disk, to the next commit alone.
                let reason = self.inner.prepare_commit().err().unwrap_or(killed);
                return self.place.check("writing", Err(reason));
            }
        }
        Ok(())
    }

    fn try_commit(&mut self, payload: &Payload) -> tantivy::Result<()> {
        let payload = serde_json::to_string(payload)
            .map_err(|error| TantivyError::InternalError(format!("the payload: {error}")))?;
        let mut prepared = self.inner.prepare_commit()?;
        prepared.set_payload(&payload);
        prepared.commit()?;
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
