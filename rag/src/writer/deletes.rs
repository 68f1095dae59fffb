//! Rows of committed segments that are deleted: found by their terms, marked in a file beside the segment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use tantivy::directory::TerminatingWrite;
use tantivy::fastfield::{AliveBitSet, write_alive_bitset};
use tantivy::index::{SegmentComponent, SegmentId};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{
    BitSet, Directory, DocSet, Index, InvertedIndexReader, Opstamp, SegmentMeta, SegmentReader, TERMINATED,
    Term,
};

/// The terms of segments, opened once: a segment's terms never change.
#[derive(Default)]
pub(super) struct TermReaders(HashMap<(SegmentId, Field), Arc<InvertedIndexReader>>);

impl TermReaders {
    /// The rows that have one of the terms, deleted ones among them.
    pub(super) fn rows(
        &mut self,
        index: &Index,
        meta: &SegmentMeta,
        terms: &[Term],
    ) -> tantivy::Result<Vec<u32>> {
        let mut segment = None;
        let mut rows = Vec::new();
        for term in terms {
            let reader = match self.0.entry((meta.id(), term.field())) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(missing) => {
                    let segment = match &segment {
                        Some(segment) => segment,
                        None => segment.insert(SegmentReader::open(&index.segment(meta.clone()))?),
                    };
                    missing.insert(segment.inverted_index(term.field())?)
                }
            };
            let Some(mut postings) = reader.read_postings(term, IndexRecordOption::Basic)? else {
                continue;
            };
            let mut row = postings.doc();
            while row != TERMINATED {
                rows.push(row);
                row = postings.advance();
            }
        }
        Ok(rows)
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, segments: &[SegmentMeta]) {
        self.0
            .retain(|(id, _), _| segments.iter().any(|meta| meta.id() == *id));
    }
}

/// The living rows of a segment in this state.
pub(super) fn living(index: &Index, meta: &SegmentMeta) -> tantivy::Result<BitSet> {
    if !meta.has_deletes() {
        return Ok(BitSet::with_max_value_and_full(meta.max_doc()));
    }
    let file = index.segment(meta.clone()).open_read(SegmentComponent::Delete)?;
    let alive = AliveBitSet::open(file.read_bytes()?);
    let mut living = BitSet::with_max_value(meta.max_doc());
    for row in alive.iter_alive() {
        living.insert(row);
    }
    Ok(living)
}

/// The segment without these rows, some of which may be gone already. Its file is there when this returns, and nothing
/// refers to it yet.
pub(super) fn without(
    index: &Index,
    meta: &SegmentMeta,
    rows: &[u32],
    opstamp: Opstamp,
) -> tantivy::Result<SegmentMeta> {
    let mut living = living(index, meta)?;
    for row in rows {
        living.remove(*row);
    }
    let deleted = meta.max_doc() - living.len() as u32;
    if deleted == meta.num_deleted_docs() {
        return Ok(meta.clone());
    }
    // A commit that failed, or a process that was killed, may have left a file of this name.
    let mut stamp = opstamp.max(meta.delete_opstamp().map_or(0, |stamp| stamp + 1));
    let marked = loop {
        let marked = meta.clone().with_delete_meta(deleted, stamp);
        let path = marked.relative_path(SegmentComponent::Delete);
        if !index.directory().exists(&path)? {
            break marked;
        }
        stamp += 1;
    };
    let mut file = index
        .segment(marked.clone())
        .open_write(SegmentComponent::Delete)?;
    write_alive_bitset(&living, &mut file)?;
    file.terminate()?;
    Ok(marked)
}
