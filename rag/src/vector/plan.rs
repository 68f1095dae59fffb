//! What a segment is searched by: its rows one by one, or its graph; and when it gets a graph.

use super::build::{CodedRows, Shape};
use super::needs::Needs;
use super::walk::Reach;

/// When segments get a graph, and of what shape.
///
/// A graph makes vector search on large collections quick; small segments are scanned. It is built while segments are
/// merged. One that could not be built (too little memory) or is damaged is no error: the segment is scanned, and the
/// next merge, or [`crate::Collection::optimize`], builds it again. These settings are of the writer, not of the
/// index: each graph keeps its own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphOptions {
    /// Vectors from which a merged segment gets a graph; 16,384.
    pub merge_rows: u32,
    /// Vectors from which a segment gets one when it is first written, which the commit waits for; 32,768.
    pub flush_rows: u32,
    /// What a build may take in bytes, beside the vectors; 512 MiB, enough for two million vectors.
    pub memory_bytes: u64,
    /// Neighbours of a row above the base level, twice as many on it; 16. From 2 to 128.
    pub links: usize,
    /// How many near rows a new row's neighbours are chosen from; 200. From `links` to 4,096.
    pub ef_construction: usize,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            merge_rows: 16_384,
            flush_rows: 32_768,
            memory_bytes: 512 << 20,
            links: 16,
            ef_construction: 200,
        }
    }
}

impl GraphOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`GraphOptions::merge_rows`].
    pub fn merge_rows(mut self, rows: u32) -> Self {
        self.merge_rows = rows;
        self
    }

    /// Sets [`GraphOptions::flush_rows`].
    pub fn flush_rows(mut self, rows: u32) -> Self {
        self.flush_rows = rows;
        self
    }

    /// Sets [`GraphOptions::memory_bytes`].
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets [`GraphOptions::links`].
    pub fn links(mut self, links: usize) -> Self {
        self.links = links;
        self
    }

    /// Sets [`GraphOptions::ef_construction`].
    pub fn ef_construction(mut self, ef: usize) -> Self {
        self.ef_construction = ef;
        self
    }

    pub(crate) fn is_valid(&self) -> bool {
        (2..=128).contains(&self.links) && (self.links..=4_096).contains(&self.ef_construction)
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape {
            links: self.links,
            ef_construction: self.ef_construction,
        }
    }

    /// What a build over so many rows takes.
    pub(crate) fn build_bytes(&self, rows: u32) -> u64 {
        u64::from(rows) * CodedRows::bytes_per_row(self.shape())
    }
}

/// How exact a vector search is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effort {
    /// Share of the true nearest that is aimed at; 1 compares every row.
    Recall(f32),
    /// Rows that a walk keeps.
    Ef(usize),
}

impl Effort {
    pub(crate) const DEFAULT: Self = Self::Recall(0.99);

    pub(crate) fn is_valid(self) -> bool {
        match self {
            Self::Recall(recall) => (0.5..=1.0).contains(&recall),
            Self::Ef(ef) => ef >= 1,
        }
    }

    /// Rows that a walk through a graph keeps for the best `k`; `None` where only a scan is exact enough.
    fn ef(self, k: usize, rows: u32, needs: Needs) -> Option<usize> {
        match self {
            Self::Ef(ef) => Some(ef.max(k)),
            Self::Recall(recall) if recall >= 1.0 => None,
            Self::Recall(recall) => Some(needs.ef(recall, k, rows)),
        }
    }
}

/// How a segment was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// Nothing in it may be found.
    Skipped,
    /// Every allowed row was compared.
    Scan,
    /// Its graph was walked, and every row may be found.
    Walk,
    /// Its graph was walked across rows that may not be found.
    FilteredWalk,
    /// The walk cost more than a scan or found too few rows, so every allowed row was compared after all.
    WalkThenScan,
}

impl Strategy {
    /// Whether the nearest by what the index keeps of a vector (see [`crate::Storage`]) were found for sure. The others
    /// find the share that [`crate::CollectionBuilder::recall`] aims at.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Skipped | Self::Scan | Self::WalkThenScan)
    }

    /// In a word or two.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Scan => "scan",
            Self::Walk => "walk",
            Self::FilteredWalk => "filtered walk",
            Self::WalkThenScan => "walk, then scan",
        }
    }
}

/// How one segment was searched by meaning, and why so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSearch {
    /// Vectors of the segment, of all tenants.
    pub vectors: u32,
    /// Of these, those that tenant, filter and deletes let through.
    pub allowed: u32,
    /// What was done.
    pub strategy: Strategy,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Rows that a walk keeps; 0 without one.
    pub ef: usize,
    /// Rows that were compared with the question.
    pub compared: usize,
}

/// What is to be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Skip,
    Scan { reason: &'static str },
    Walk(Reach),
}

/// Rows that a walk compares for each row that it keeps: 11 to 17 on MiniLM sentences with 16 links.
const COMPARED_PER_KEPT: usize = 14;
/// How much longer a comparison takes in a walk than in a scan: memory comes in no order, and heaps are kept.
const WALK_OVER_SCAN: usize = 3;
/// Rows compared before a walk is near the question.
const WAY_IN: usize = 150;

/// Rows that a scan compares in the time of a walk that keeps so many.
pub(super) fn scanned_meanwhile(kept: usize) -> usize {
    (kept * COMPARED_PER_KEPT + WAY_IN) * WALK_OVER_SCAN
}

/// Chooses by what either way costs. `vectors` are those of the segment, `allowed` those that may be found; `needs` are its
/// graph's, if it has one.
pub(crate) fn choose(needs: Option<Needs>, vectors: u32, allowed: u32, k: usize, effort: Effort) -> Choice {
    if allowed == 0 || vectors == 0 || k == 0 {
        return Choice::Skip;
    }
    let Some(needs) = needs else {
        return Choice::Scan { reason: "no graph" };
    };
    let Some(ef) = effort.ef(k.min(allowed as usize), vectors, needs) else {
        return Choice::Scan { reason: "exact" };
    };
    if allowed as usize <= k {
        return Choice::Scan {
            reason: "all that match are wanted",
        };
    }
    if let Effort::Ef(_) = effort {
        let budget = usize::MAX;
        return Choice::Walk(Reach { ef, budget });
    }
    // A walk keeps allowed rows alone, and meets them among the others.
    let met = (ef as u64 * u64::from(vectors)).div_ceil(u64::from(allowed)) as usize;
    if scanned_meanwhile(met) >= allowed as usize {
        let reason = if allowed < vectors {
            "few rows match"
        } else {
            "few rows"
        };
        return Choice::Scan { reason };
    }
    // Where a walk takes as long as the scan it stands for, the scan is begun.
    let budget = (allowed as usize / WALK_OVER_SCAN).max(ef);
    Choice::Walk(Reach { ef, budget })
}
