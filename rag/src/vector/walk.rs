//! Walking a layer of a graph: towards the nearest, and around it.
//!
//! No lists of our own per node, no reference counts: neighbours come as numbers, visited nodes are marked in an array
//! with the number of the walk, and the codes of the neighbours of a node are compared in one go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::format::Metric;
use crate::best::{ordered, unordered};
use crate::simd::{Kernels, QueryCodes, prefetch};

/// Neighbours that are compared in one go.
const BATCH: usize = 32;
/// Scratch spaces kept for the next walk; more walks at once make their own.
const KEPT_SCRATCH: usize = 32;

/// Lists of neighbours.
pub(crate) trait Layer {
    fn nodes(&self) -> usize;
    /// The row of a node; one past the end where the graph is damaged.
    fn row(&self, node: u32) -> u32;
    fn list(&self, node: u32) -> impl Iterator<Item = u32>;
    /// The memory of a list, to be asked for early.
    fn bytes(&self, node: u32) -> &[u8];
}

/// The codes of rows.
pub(crate) trait Coded {
    /// Empty for a row that is not there.
    fn code(&self, row: u32) -> &[u8];
    fn scale(&self, row: u32) -> f32;
    /// Squared length of what the codes stand for; asked for by L2 alone.
    fn norm(&self, row: u32) -> f32;
}

/// What rows are compared with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    pub(crate) codes: QueryCodes,
    pub(crate) scale: f32,
    /// Squared length of what the codes stand for.
    pub(crate) norm: f32,
}

impl Probe {
    /// Takes over the codes of a row.
    pub(crate) fn set(&mut self, codes: &[u8], scale: f32) {
        self.codes.set(codes);
        self.scale = scale;
        self.norm = norm(codes, scale);
    }

    /// How alike a row is whose codes gave `sum`; higher is nearer.
    #[inline]
    pub(crate) fn score(&self, metric: Metric, sum: i32, scale: f32, norm: impl FnOnce() -> f32) -> f32 {
        match metric {
            Metric::Cosine | Metric::Dot => self.dot(sum, scale),
            Metric::L2 => 2.0 * self.dot(sum, scale) - self.norm - norm(),
        }
    }

    /// The product with a row whose codes gave `sum`.
    #[inline]
    pub(crate) fn dot(&self, sum: i32, scale: f32) -> f32 {
        sum as f32 * (self.scale * scale)
    }
}

/// Squared length of what codes stand for.
pub(crate) fn norm(codes: &[u8], scale: f32) -> f32 {
    let sum: i32 = codes.iter().map(|code| (i32::from(*code) - 128).pow(2)).sum();
    sum as f32 * (scale * scale)
}

/// A node with its score in one number: higher is nearer, equal scores by lower node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Near(u64);

impl Near {
    pub(crate) fn new(score: f32, node: u32) -> Self {
        Self(u64::from(ordered(score)) << 32 | u64::from(!node))
    }

    pub(crate) fn node(self) -> u32 {
        !(self.0 as u32)
    }

    pub(crate) fn score(self) -> f32 {
        unordered((self.0 >> 32) as u32)
    }
}

/// What a walk works with; made once, used by many.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The number of the walk that saw a node last.
    seen: Vec<u8>,
    walk: u8,
    frontier: BinaryHeap<Near>,
    kept: BinaryHeap<Reverse<Near>>,
    /// What the last walk kept, best first.
    pub(crate) found: Vec<Near>,
    /// Rows that the last walk compared.
    pub(crate) compared: usize,
}

impl Scratch {
    fn begin(&mut self, nodes: usize) {
        if self.walk == u8::MAX || self.seen.len() < nodes {
            self.seen.clear();
            self.seen.resize(nodes, 0);
            self.walk = 0;
        }
        self.walk += 1;
        self.frontier.clear();
        self.kept.clear();
        self.found.clear();
        self.compared = 0;
    }
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Allowed nodes that it keeps.
    pub(crate) ef: usize,
    /// Rows compared from which it goes no further.
    pub(crate) budget: usize,
}

static SPARE: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());

/// Lends a scratch space for the time of one search.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    // A poisoned list is still a list of whole spaces: those in use are not in it.
    let spare = || SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut scratch = spare().pop().unwrap_or_default();
    let result = work(&mut scratch);
    let mut spare = spare();
    if spare.len() < KEPT_SCRATCH {
        spare.push(scratch);
    }
    result
}

/// What rows are compared in, and with.
pub(crate) struct Comparison<'a, C> {
    pub(crate) kernels: Kernels,
    pub(crate) metric: Metric,
    pub(crate) coded: &'a C,
}

impl<C: Coded> Comparison<'_, C> {
    /// The scores of rows, in order. A row that is not there or not a number comes last.
    #[inline]
    pub(crate) fn scores(&self, probe: &Probe, rows: &[u32], out: &mut [f32]) {
        let mut codes: [&[u8]; BATCH] = [&[]; BATCH];
        let mut sums = [0_i32; BATCH];
        for (rows, out) in rows.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            let mut is_whole = true;
            for (code, row) in codes.iter_mut().zip(rows) {
                *code = self.coded.code(*row);
                is_whole &= code.len() == probe.codes.codes().len();
            }
            if !is_whole {
                // Only a damaged graph names such a row.
                out.fill(f32::NEG_INFINITY);
                continue;
            }
            self.kernels
                .dot_rows(&codes[..rows.len()], &probe.codes, &mut sums[..rows.len()]);
            for ((out, sum), row) in out.iter_mut().zip(sums).zip(rows) {
                let score = probe.score(self.metric, sum, self.coded.scale(*row), || self.coded.norm(*row));
                *out = if score.is_nan() { f32::NEG_INFINITY } else { score };
            }
        }
    }

    pub(crate) fn score(&self, probe: &Probe, row: u32) -> f32 {
        let mut out = [f32::NEG_INFINITY];
        self.scores(probe, &[row], &mut out);
        out[0]
    }

    /// Goes from a node to ever nearer ones, until none is nearer.
    pub(crate) fn descend(&self, layer: &impl Layer, probe: &Probe, start: Near) -> Near {
        let mut best = start;
        let (mut nodes, mut rows, mut scores) = ([0_u32; BATCH], [0_u32; BATCH], [0.0_f32; BATCH]);
        loop {
            let here = best;
            let mut list = layer.list(here.node());
            loop {
                let mut count = 0;
                for node in list
                    .by_ref()
                    .filter(|node| (*node as usize) < layer.nodes())
                    .take(BATCH)
                {
                    (nodes[count], rows[count]) = (node, layer.row(node));
                    count += 1;
                }
                self.scores(probe, &rows[..count], &mut scores[..count]);
                for (node, score) in nodes[..count].iter().zip(scores) {
                    best = best.max(Near::new(score, *node));
                }
                if count < BATCH {
                    break;
                }
            }
            // Scores rise or nodes fall, so this ends whatever the lists say.
            if best == here {
                return best;
            }
        }
    }

    /// The `ef` nearest allowed nodes around the start, into `scratch.found`; `false` when the budget ended before.
    pub(crate) fn around(
        &self,
        layer: &impl Layer,
        probe: &Probe,
        start: Near,
        Reach { ef, budget }: Reach,
        is_allowed: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.begin(layer.nodes());
        let Scratch {
            seen,
            walk,
            frontier,
            kept,
            found,
            compared,
        } = scratch;
        let walk = *walk;
        if let Some(mark) = seen.get_mut(start.node() as usize) {
            *mark = walk;
            frontier.push(start);
            if is_allowed(layer.row(start.node())) {
                kept.push(Reverse(start));
            }
        }
        let (mut nodes, mut rows, mut scores) = ([0_u32; BATCH], [0_u32; BATCH], [0.0_f32; BATCH]);
        let mut is_done = true;
        while let Some(here) = frontier.pop() {
            let worst = if kept.len() < ef {
                None
            } else {
                kept.peek().map(|kept| kept.0)
            };
            if worst.is_some_and(|worst| here < worst) {
                break;
            }
            if *compared >= budget {
                is_done = false;
                break;
            }
            if let Some(next) = frontier.peek() {
                prefetch(layer.bytes(next.node()));
            }
            let mut list = layer.list(here.node());
            loop {
                let mut count = 0;
                for node in list.by_ref() {
                    // A number past the end stands in a damaged graph only.
                    if let Some(mark) = seen.get_mut(node as usize).filter(|mark| **mark != walk) {
                        *mark = walk;
                        (nodes[count], rows[count]) = (node, layer.row(node));
                        count += 1;
                        if count == BATCH {
                            break;
                        }
                    }
                }
                if count == 0 {
                    break;
                }
                *compared += count;
                self.scores(probe, &rows[..count], &mut scores[..count]);
                for at in 0..count {
                    let near = Near::new(scores[at], nodes[at]);
                    if kept.len() < ef || kept.peek().is_some_and(|worst| near > worst.0) {
                        frontier.push(near);
                        if is_allowed(rows[at]) {
                            kept.push(Reverse(near));
                            if kept.len() > ef {
                                kept.pop();
                            }
                        }
                    }
                }
                if count < BATCH {
                    break;
                }
            }
        }
        found.extend(kept.drain().map(|kept| kept.0));
        found.sort_unstable_by(|left, right| right.cmp(left));
        is_done
    }
}
