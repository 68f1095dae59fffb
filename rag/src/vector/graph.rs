//! The graph over a segment's rows (HNSW, arXiv:1603.09320) as it stands in the file: flat arrays, read in place.
//!
//! ```text
//! head   128 bytes: version(2) links(2) base_links(2) levels(2) ef_construction(4) nodes(4), then for each level above
//!        the base how many rows it has(4); at 80 what it needs, see [`Needs`]
//! base   for each row of the file `base_links` row numbers; NONE ends a list
//! upper  the rows of the first level above the base (4 bytes each), those of higher levels first; then for each level,
//!        for each of its rows, `links` places in that list; NONE ends a list
//! ```
//!
//! Places need no table from row to list: the rows of a level are a prefix of the rows of the level below it. A walk
//! starts at place 0, which has the highest level.

use super::needs::{NEEDS_LEN, Needs};
use super::walk::{Coded, Comparison, Layer, Near, Probe};

/// Ends a list of neighbours.
pub(crate) const NONE: u32 = u32::MAX;
/// Bytes of the head.
pub(crate) const HEAD_LEN: usize = 128;
/// Levels above the base; with 4 links, one more than 2³² rows can fill.
pub(crate) const MAX_LEVELS: usize = 16;
const VERSION: u16 = 1;
const NEEDS_AT: usize = 16 + MAX_LEVELS * 4;

/// The shape of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Neighbours of a row on a level above the base.
    pub(crate) links: usize,
    /// Neighbours of a row on the base.
    pub(crate) base_links: usize,
    pub(crate) ef_construction: u32,
    /// Rows that are in the graph: those with a vector.
    pub(crate) nodes: u32,
    /// Rows of each level above the base.
    pub(crate) counts: Vec<u32>,
    pub(crate) needs: Needs,
}

impl Head {
    pub(crate) fn to_bytes(&self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..2].copy_from_slice(&VERSION.to_le_bytes());
        bytes[2..4].copy_from_slice(&(self.links as u16).to_le_bytes());
        bytes[4..6].copy_from_slice(&(self.base_links as u16).to_le_bytes());
        bytes[6..8].copy_from_slice(&(self.counts.len() as u16).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.ef_construction.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.nodes.to_le_bytes());
        for (count, place) in self.counts.iter().zip(bytes[16..NEEDS_AT].chunks_exact_mut(4)) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        bytes[NEEDS_AT..NEEDS_AT + NEEDS_LEN].copy_from_slice(&self.needs.to_bytes());
        bytes
    }

    /// `None` where it describes no graph that a file of so many rows can have.
    fn from_bytes(bytes: &[u8], rows: u32) -> Option<Self> {
        let two = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let four = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let levels = usize::from(two(6)?);
        if bytes.len() != HEAD_LEN || two(0)? != VERSION || !(1..=MAX_LEVELS).contains(&levels) {
            return None;
        }
        let head = Self {
            links: usize::from(two(2)?),
            base_links: usize::from(two(4)?),
            ef_construction: four(8)?,
            nodes: four(12)?,
            counts: (0..levels)
                .map(|level| four(16 + level * 4))
                .collect::<Option<_>>()?,
            needs: Needs::from_bytes(bytes.get(NEEDS_AT..NEEDS_AT + NEEDS_LEN)?.try_into().ok()?),
        };
        let has_links = (1..=512).contains(&head.links) && (1..=1_024).contains(&head.base_links);
        let shrinks = head.counts.windows(2).all(|pair| pair[0] >= pair[1]);
        let has_entry = head.counts.last().is_some_and(|count| *count >= 1);
        let fits = head.nodes <= rows && head.counts[0] <= head.nodes;
        (has_links && shrinks && has_entry && fits).then_some(head)
    }

    fn base_len(&self, rows: u32) -> u64 {
        u64::from(rows) * self.base_links as u64 * 4
    }

    fn upper_len(&self) -> u64 {
        let lists: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        (u64::from(self.counts[0]) + lists * self.links as u64) * 4
    }
}

/// A graph to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphParts {
    pub(crate) head: [u8; HEAD_LEN],
    pub(crate) base: Vec<u8>,
    pub(crate) upper: Vec<u8>,
}

/// A graph in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Graph<'a> {
    head: &'a Head,
    base: &'a [u8],
    upper: &'a [u8],
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at * 4..at * 4 + 4)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

impl Head {
    /// The head of a graph whose parts have just the lengths that it asks for.
    pub(crate) fn read(head: &[u8], base: &[u8], upper: &[u8], rows: u32) -> Option<Self> {
        Self::from_bytes(head, rows)
            .filter(|head| base.len() as u64 == head.base_len(rows) && upper.len() as u64 == head.upper_len())
    }
}

impl<'a> Graph<'a> {
    /// `head` came from [`Head::read`] of the same parts.
    pub(crate) fn new(head: &'a Head, base: &'a [u8], upper: &'a [u8]) -> Self {
        Self { head, base, upper }
    }

    /// Whether every number in it names a row of the file or a place of its level. Reads all of it.
    pub(crate) fn is_sound(&self, rows: u32) -> bool {
        let numbers = |bytes: &'a [u8]| {
            bytes
                .chunks_exact(4)
                .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        };
        let first = self.head.counts[0] as usize * 4;
        let mut at = first;
        let levels = self.head.counts.iter().all(|count| {
            let end = at + *count as usize * self.head.links * 4;
            let is_sound = numbers(&self.upper[at..end]).all(|place| place < *count || place == NONE);
            at = end;
            is_sound
        });
        levels
            && numbers(&self.upper[..first]).all(|row| row < rows)
            && numbers(self.base).all(|row| row < rows || row == NONE)
    }

    /// What a walk through it has to keep.
    pub(crate) fn needs(&self) -> Needs {
        self.head.needs
    }

    /// The row at a place of the levels above the base.
    fn row_at(&self, place: u32) -> Option<u32> {
        (place < self.head.counts[0])
            .then(|| number(self.upper, place as usize))
            .flatten()
    }

    /// Down through the levels above the base: a row near the question, from which the base is walked.
    pub(crate) fn way_in<C: Coded>(&self, comparison: &Comparison<'_, C>, probe: &Probe) -> Option<Near> {
        let mut near = Near::new(comparison.score(probe, self.row_at(0)?), 0);
        for level in (1..=self.head.counts.len()).rev() {
            near = comparison.descend(&self.upper_layer(level), probe, near);
        }
        Some(Near::new(near.score(), self.row_at(near.node())?))
    }

    pub(crate) fn base_layer(&self) -> BaseLayer<'a> {
        BaseLayer {
            lists: self.base,
            stride: self.head.base_links * 4,
        }
    }

    /// The level with this number; 1 is the first above the base.
    pub(crate) fn upper_layer(&self, level: usize) -> UpperLayer<'a> {
        let before: usize = self.head.counts[..level - 1]
            .iter()
            .map(|count| *count as usize)
            .sum();
        let start = (self.head.counts[0] as usize + before * self.head.links) * 4;
        let stride = self.head.links * 4;
        let count = self.head.counts[level - 1] as usize;
        UpperLayer {
            rows: &self.upper[..self.head.counts[0] as usize * 4],
            lists: &self.upper[start..start + count * stride],
            stride,
        }
    }
}

/// The base: nodes are rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BaseLayer<'a> {
    lists: &'a [u8],
    stride: usize,
}

/// A level above the base: nodes are places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpperLayer<'a> {
    rows: &'a [u8],
    lists: &'a [u8],
    stride: usize,
}

fn list(lists: &[u8], stride: usize, node: u32) -> &[u8] {
    let start = node as usize * stride;
    lists.get(start..start + stride).unwrap_or_default()
}

fn neighbours(list: &[u8]) -> impl Iterator<Item = u32> {
    list.chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .take_while(|node| *node != NONE)
}

impl Layer for BaseLayer<'_> {
    fn nodes(&self) -> usize {
        self.lists.len() / self.stride
    }

    fn row(&self, node: u32) -> u32 {
        node
    }

    fn list(&self, node: u32) -> impl Iterator<Item = u32> {
        neighbours(list(self.lists, self.stride, node))
    }

    fn bytes(&self, node: u32) -> &[u8] {
        list(self.lists, self.stride, node)
    }
}

impl Layer for UpperLayer<'_> {
    fn nodes(&self) -> usize {
        self.lists.len() / self.stride
    }

    fn row(&self, node: u32) -> u32 {
        number(self.rows, node as usize).unwrap_or(NONE)
    }

    fn list(&self, node: u32) -> impl Iterator<Item = u32> {
        neighbours(list(self.lists, self.stride, node))
    }

    fn bytes(&self, node: u32) -> &[u8] {
        list(self.lists, self.stride, node)
    }
}
