//! [`VectorReader`]: nearest vectors alone, without words, texts and fusion.

use std::sync::Arc;

use stepwell_core::{Chunk, Error, Filter, Result};

use super::Collection;
use super::search::MOST_HITS;
use crate::best::sort_best_first;
use crate::error::guarded;
use crate::filter::RowSet;
use crate::snapshot::Snapshot;
use crate::vector::plan::{Effort, SegmentSearch};
use crate::vector::rows::prepare;
use crate::vector::search::{DenseQuery, search};

/// One committed state of a collection's vectors, as its tenant and a filter see it.
///
/// For code that asks many vectors of one state: near duplicates, recommendations, measurements. What is committed
/// later is not seen. Its methods compute on the calling thread.
#[derive(Clone)]
pub struct VectorReader {
    collection: Collection,
    snapshot: Arc<Snapshot>,
    allowed: Vec<Arc<RowSet>>,
    field: usize,
    effort: Effort,
}

impl std::fmt::Debug for VectorReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorReader")
            .field("collection", &self.collection)
            .field("effort", &self.effort)
            .finish_non_exhaustive()
    }
}

/// A chunk of a [`VectorReader`], by its place there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Neighbour {
    /// As the collection's [`crate::Metric`] tells; higher is nearer.
    pub score: f32,
    segment: u32,
    row: u32,
}

/// What [`VectorReader::nearest`] found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Nearest {
    /// Best first.
    pub neighbours: Vec<Neighbour>,
    /// How each segment was searched.
    pub segments: Vec<SegmentSearch>,
}

impl Collection {
    /// The vectors as they are now, among the chunks that a filter lets through.
    pub async fn vectors(&self, filter: Option<&Filter>) -> Result<VectorReader> {
        let filter = filter.cloned();
        let collection = self.clone();
        crate::error::blocking(&self.inner.place, move || {
            let inner = &collection.inner;
            let snapshot = inner.snapshots.latest()?;
            let allowed = inner.allowed(&snapshot, &collection.scope, filter.as_ref())?;
            Ok(VectorReader {
                snapshot,
                allowed,
                field: 0,
                effort: inner.effort,
                collection,
            })
        })
        .await
    }
}

impl VectorReader {
    /// Aims at this share of the true nearest instead of the collection's, 0.5 to 1; 1 compares every vector.
    ///
    /// # Errors
    /// `invalid_input` for another number.
    pub fn recall(mut self, recall: f32) -> Result<Self> {
        self.effort = Effort::Recall(recall);
        if self.effort.is_valid() {
            Ok(self)
        } else {
            Err(Error::invalid("recall", "give a share between 0.5 and 1"))
        }
    }

    /// Of this vector field instead of the first.
    ///
    /// # Errors
    /// `invalid_input` where the index has no such field.
    pub fn vector_field(mut self, name: &str) -> Result<Self> {
        self.field = self.collection.inner.pinned.field(Some(name))?;
        Ok(self)
    }

    /// Walks graphs with a list of this many candidates, whatever a scan would cost; what HNSW libraries call ef. At
    /// least as many as are asked for are kept.
    pub fn ef(mut self, ef: usize) -> Self {
        self.effort = Effort::Ef(ef.clamp(1, MOST_HITS));
        self
    }

    /// The `k` nearest, or all where fewer match.
    ///
    /// # Errors
    /// `invalid_input` for a vector of another length, with a value that is not finite, or without direction;
    /// `limit_exceeded` for more than 10,000.
    pub fn nearest(&self, vector: &[f32], k: usize) -> Result<Nearest> {
        if k > MOST_HITS {
            return Err(Error::LimitExceeded {
                what: "k".to_owned(),
                limit: format!("{MOST_HITS} neighbours"),
            });
        }
        let vector = prepare(&self.collection.inner.pinned.vectors[self.field].spec, vector)
            .map_err(|fault| Error::invalid("vector", fault.to_string()))?;
        let segments = self.snapshot.vectors[self.field]
            .iter()
            .map(AsRef::as_ref)
            .zip(self.allowed.iter().map(AsRef::as_ref));
        let (mut found, segments) = guarded(&self.collection.inner.place, || {
            Ok(search(segments, &DenseQuery::new(vector), k, k, self.effort))
        })?;
        sort_best_first(&mut found);
        let neighbours = found
            .iter()
            .map(|scored| Neighbour {
                score: scored.score,
                segment: scored.segment,
                row: scored.row,
            })
            .collect();
        Ok(Nearest { neighbours, segments })
    }

    /// Vectors of so many different chunks, or of all where there are fewer, chosen by `below`: a number under its limit.
    pub(super) fn sample(&self, count: usize, mut below: impl FnMut(u64) -> u64) -> Vec<Vec<f32>> {
        let total: u64 = self.allowed.iter().map(|rows| u64::from(rows.len())).sum();
        let wanted = total.min(count as u64);
        let mut chosen = std::collections::BTreeSet::new();
        // Floyd's choice of different numbers.
        for last in total - wanted..total {
            let drawn = below(last + 1);
            if !chosen.insert(drawn) {
                chosen.insert(last);
            }
        }
        let mut chosen = chosen.into_iter().peekable();
        let mut vectors = Vec::new();
        let mut before = 0;
        for (rows, file) in self.allowed.iter().zip(&self.snapshot.vectors[self.field]) {
            for (at, row) in rows.rows().enumerate() {
                if chosen.next_if_eq(&(before + at as u64)).is_some() {
                    vectors.extend(file.vector(row));
                }
            }
            before += u64::from(rows.len());
        }
        vectors
    }

    /// The chunk of a neighbour that this reader found.
    ///
    /// # Errors
    /// `damaged` when the index is; `invalid_input` for a neighbour of another reader that this one does not have.
    pub fn chunk(&self, neighbour: &Neighbour) -> Result<Chunk> {
        let inner = &self.collection.inner;
        // Another reader's neighbour must not show what this scope and filter hide.
        let is_ours = self
            .allowed
            .get(neighbour.segment as usize)
            .is_some_and(|rows| rows.contains(neighbour.row));
        if !is_ours {
            return Err(Error::invalid("neighbour", "ask the reader that found it"));
        }
        guarded(&inner.place, || {
            let stored = inner.stored_chunk(&self.snapshot, neighbour.segment as usize, neighbour.row);
            stored.map(|stored| stored.chunk)
        })
    }
}
