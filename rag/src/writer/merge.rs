//! One merge: segments become one, on a thread of ours, while commits and deletes go on.
//!
//! tantivy merges on threads of its own, where a panic ends the process; here it is an error.

use std::sync::Arc;
use std::thread::JoinHandle;

use stepwell_core::{Error, Result};
use tantivy::directory::DirectoryLock;
use tantivy::indexer::merge_filtered_segments;
use tantivy::{Index, Opstamp, SegmentMeta, TantivyError};

use super::output::Output;
use super::{Writers, deletes};
use crate::error::guarded;

/// Segments as they are when their merge begins, none of them empty.
pub(super) struct Merge {
    pub(super) shared: Arc<Writers>,
    pub(super) index: Index,
    pub(super) output: Output,
    pub(super) sources: Vec<SegmentMeta>,
}

/// A segment with the rows that lived in others. No list refers to it yet.
pub(super) struct Merged {
    sources: Vec<SegmentMeta>,
    meta: SegmentMeta,
}

impl Merge {
    pub(super) fn run(self) -> Result<Merged> {
        let merged = self.shared.check("merging", self.write());
        Ok(Merged {
            meta: merged?,
            sources: self.sources,
        })
    }

    fn write(&self) -> tantivy::Result<SegmentMeta> {
        let sources = self.sources.iter().cloned();
        let segments: Vec<_> = sources.map(|meta| self.index.segment(meta)).collect();
        let as_it_is = segments.iter().map(|_| None).collect();
        let settings = self.index.settings().clone();
        let merged = merge_filtered_segments(&segments, settings, as_it_is, self.output.clone())?;
        match merged.searchable_segment_metas()?.as_slice() {
            [one] => Ok(self.index.new_segment_meta(one.id(), one.max_doc())),
            _ => Err(TantivyError::InternalError(
                "a merge makes one segment".to_owned(),
            )),
        }
    }

    /// Runs it on a thread. The folder stays locked until it ends, whatever becomes of the writer.
    pub(super) fn spawn(self, lock: Arc<DirectoryLock>) -> Result<Running> {
        let what = format!("starting a merge in {}", self.shared.place.name());
        let thread = std::thread::Builder::new().name("stepwell-merge".to_owned());
        let thread = thread.spawn(move || {
            let place = self.shared.place.clone();
            let merged = guarded(&place, || self.run());
            drop(lock);
            merged
        });
        let thread = thread.map_err(|error| Error::io(what, error))?;
        Ok(Running { thread })
    }
}

/// A merge on its thread.
pub(super) struct Running {
    pub(super) thread: JoinHandle<Result<Merged>>,
}

impl Merged {
    /// The segments of the state `now` with this one in place of its sources. What was deleted of them since is deleted
    /// of it too: rows keep their order, so each is found by how many living ones stood before it.
    pub(super) fn install(
        self,
        index: &Index,
        now: &[SegmentMeta],
        opstamp: Opstamp,
    ) -> tantivy::Result<Vec<SegmentMeta>> {
        let mut deleted = Vec::new();
        let mut row = 0;
        for then in &self.sources {
            let left = match now.iter().find(|meta| meta.id() == then.id()) {
                Some(left) if left.delete_opstamp() == then.delete_opstamp() => {
                    row += then.num_docs();
                    continue;
                }
                Some(left) => Some(deletes::living(index, left)?),
                // All of it is gone.
                None => None,
            };
            let lived = deletes::living(index, then)?;
            for old in (0..then.max_doc()).filter(|old| lived.contains(*old)) {
                if left.as_ref().is_none_or(|left| !left.contains(old)) {
                    deleted.push(row);
                }
                row += 1;
            }
        }
        if row != self.meta.max_doc() {
            let what = format!("{row} rows were merged to {}", self.meta.max_doc());
            return Err(TantivyError::InternalError(what));
        }
        let mut segments: Vec<_> = now
            .iter()
            .filter(|meta| self.sources.iter().all(|then| then.id() != meta.id()))
            .cloned()
            .collect();
        let merged = deletes::without(index, &self.meta, &deleted, opstamp)?;
        if merged.num_docs() > 0 {
            segments.push(merged);
        }
        Ok(segments)
    }
}
