//! Building a graph over a segment's int8 codes.
//!
//! Not hnsw_rs: it keeps an Arc, a lock and sixteen lists per row (4.2 KB each, three times hnswlib's build time), ends
//! the process in eight places, panics on vectors of norm 1.01, and compares f32 alone. Over the codes that the segment
//! has anyway, with flat lists and one thread, a build takes less time than hnswlib's and repeats bit for bit; merges
//! run beside searches and commits, so more threads would only take cores from them.

use super::format::Metric;
use super::graph::{GraphParts, Head, MAX_LEVELS, NONE};
use super::needs::{Needs, held_back, measure};
use super::walk::{Coded, Comparison, Layer, Near, Probe, Reach, Scratch, norm};
use crate::simd::kernels;
use crate::stop::Stop;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Neighbours of a row above the base; twice as many on it.
    pub(crate) links: usize,
    /// How many near rows a new row's neighbours are chosen from.
    pub(crate) ef_construction: usize,
}

/// The rows that a graph joins, by number; where they lie does not matter.
#[derive(Debug, Default)]
pub(crate) struct CodedRows<'a> {
    codes: Vec<&'a [u8]>,
    scales: Vec<f32>,
    norms: Vec<f32>,
}

impl<'a> CodedRows<'a> {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            codes: Vec::with_capacity(rows),
            scales: Vec::with_capacity(rows),
            norms: Vec::with_capacity(rows),
        }
    }

    pub(crate) fn push(&mut self, codes: &'a [u8], scale: f32) {
        self.codes.push(codes);
        self.scales.push(scale);
        self.norms.push(norm(codes, scale));
    }

    pub(crate) fn push_absent(&mut self) {
        self.codes.push(&[]);
        self.scales.push(0.0);
        self.norms.push(0.0);
    }

    /// Bytes that a build takes for each row, beside the codes themselves.
    pub(crate) fn bytes_per_row(shape: Shape) -> u64 {
        let rows = size_of::<&[u8]>() + 2 * size_of::<f32>();
        // Lists and their lengths, the mark of the walk, twice the lists where they become the file's bytes.
        let lists = 2 * (shape.links * 2 * 4) + 1 + 1;
        // One row in `links` stands above the base; half as many again leave room for chance.
        let upper = (shape.links * 4 * 2 + 8) * 3 / (shape.links.max(2) * 2) + 4;
        (rows + lists + upper) as u64
    }
}

impl Coded for CodedRows<'_> {
    fn code(&self, row: u32) -> &[u8] {
        self.codes.get(row as usize).copied().unwrap_or_default()
    }

    fn scale(&self, row: u32) -> f32 {
        self.scales[row as usize]
    }

    fn norm(&self, row: u32) -> f32 {
        self.norms[row as usize]
    }
}

/// Lists of equal room.
struct Lists {
    room: usize,
    nodes: Vec<u32>,
    lengths: Vec<u16>,
}

impl Lists {
    fn new(count: usize, room: usize) -> Self {
        Self {
            room,
            nodes: vec![NONE; count * room],
            lengths: vec![0; count],
        }
    }

    fn of(&self, node: u32) -> &[u32] {
        let start = node as usize * self.room;
        &self.nodes[start..start + usize::from(self.lengths[node as usize])]
    }

    fn set(&mut self, node: u32, list: impl Iterator<Item = u32>) {
        let start = node as usize * self.room;
        let mut length = 0;
        for (place, neighbour) in self.nodes[start..start + self.room].iter_mut().zip(list) {
            *place = neighbour;
            length += 1;
        }
        self.nodes[start + length..start + self.room].fill(NONE);
        self.lengths[node as usize] = length as u16;
    }

    /// Adds a neighbour where there is room.
    fn push(&mut self, node: u32, neighbour: u32) -> bool {
        let length = usize::from(self.lengths[node as usize]);
        if length == self.room {
            return false;
        }
        self.nodes[node as usize * self.room + length] = neighbour;
        self.lengths[node as usize] += 1;
        true
    }
}

impl Lists {
    /// Adds a neighbour; where there is no room it takes the place of the last one, and leads on to that. Whoever was
    /// reached by way of `node` still is; `neighbour` itself was not, so nobody was by way of it.
    fn insert_before_last(&mut self, node: u32, neighbour: u32) {
        if self.push(node, neighbour) {
            return;
        }
        let last = node as usize * self.room + self.room - 1;
        let next = std::mem::replace(&mut self.nodes[last], neighbour);
        if !self.push(neighbour, next) {
            self.nodes[neighbour as usize * self.room + self.room - 1] = next;
        }
    }
}

/// One level, as a walk sees it. On the base nodes are rows, above it places in `rows`.
struct Level<'a> {
    lists: &'a Lists,
    rows: Option<&'a [u32]>,
}

impl Layer for Level<'_> {
    fn nodes(&self) -> usize {
        self.lists.lengths.len()
    }

    fn row(&self, node: u32) -> u32 {
        self.rows.map_or(node, |rows| rows[node as usize])
    }

    fn list(&self, node: u32) -> impl Iterator<Item = u32> {
        self.lists.of(node).iter().copied()
    }

    fn bytes(&self, _: u32) -> &[u8] {
        &[]
    }
}

/// Memory that choosing neighbours uses again and again.
#[derive(Default)]
struct Choice {
    probe: Probe,
    candidates: Vec<Near>,
    chosen: Vec<Near>,
    rows: Vec<u32>,
    scores: Vec<f32>,
}

struct Builder<'a> {
    comparison: Comparison<'a, CodedRows<'a>>,
    shape: Shape,
    /// The rows above the base, those of higher levels first.
    upper_rows: Vec<u32>,
    base: Lists,
    /// The levels above the base, from the first up.
    upper: Vec<Lists>,
    scratch: Scratch,
    choice: Choice,
}

/// A level from a row's number alone: the same rows give the same graph.
fn level_of(row: u32, links: usize) -> usize {
    let mut mixed = u64::from(row).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let chance = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    #[allow(clippy::cast_sign_loss)] // the logarithm of a chance is negative
    let level = (-chance.ln() / (links.max(2) as f64).ln()) as usize;
    level.min(MAX_LEVELS)
}

/// Joins the rows that are there; `None` where there are none, and where it was told to stop.
pub(crate) fn build(rows: &CodedRows<'_>, metric: Metric, shape: Shape, stop: &Stop) -> Option<GraphParts> {
    let present: Vec<u32> = (0..rows.codes.len() as u32)
        .filter(|row| !rows.code(*row).is_empty())
        .collect();
    // The first row has a level above the base, so that every graph has one to start from.
    let mut ranked: Vec<(usize, u32)> = present
        .iter()
        .map(|row| (level_of(*row, shape.links), *row))
        .collect();
    ranked.first_mut()?.0 = ranked.first()?.0.max(1);
    let mut above: Vec<(usize, u32)> = ranked.iter().copied().filter(|(level, _)| *level > 0).collect();
    above.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
    let top = above.first()?.0;
    let count_at = |level: usize| above.iter().take_while(|(of, _)| *of >= level).count();
    let mut builder = Builder {
        comparison: Comparison {
            kernels: kernels(),
            metric,
            coded: rows,
        },
        shape,
        base: Lists::new(rows.codes.len(), shape.links * 2),
        upper: (1..=top)
            .map(|level| Lists::new(count_at(level), shape.links))
            .collect(),
        upper_rows: above.iter().map(|(_, row)| *row).collect(),
        scratch: Scratch::default(),
        choice: Choice::default(),
    };
    // Rows of higher levels first: whoever comes later finds all the ways down.
    for (place, (level, row)) in above.iter().enumerate() {
        if stop.is_set() {
            return None;
        }
        builder.insert(*row, *level, Some(place as u32));
    }
    let lower = ranked
        .iter()
        .filter(|(level, _)| *level == 0)
        .map(|(_, row)| *row);
    let is_held = held_back(ranked.len() - above.len());
    let mut held = Vec::new();
    for (place, row) in lower.enumerate() {
        if stop.is_set() {
            return None;
        }
        if is_held(place) {
            held.push(row);
        } else {
            builder.insert(row, 0, None);
        }
    }
    let needs = builder.needs(&present, &held, stop);
    for row in held {
        if stop.is_set() {
            return None;
        }
        builder.insert(row, 0, None);
    }
    builder.join_strays(&present);
    Some(builder.finish(present.len() as u32, needs))
}

impl Builder<'_> {
    fn level(&self, level: usize) -> Level<'_> {
        if level == 0 {
            Level {
                lists: &self.base,
                rows: None,
            }
        } else {
            Level {
                lists: &self.upper[level - 1],
                rows: Some(&self.upper_rows),
            }
        }
    }

    fn lists(&mut self, level: usize) -> &mut Lists {
        if level == 0 {
            &mut self.base
        } else {
            &mut self.upper[level - 1]
        }
    }

    fn reach(&self) -> Reach {
        Reach {
            ef: self.shape.ef_construction,
            budget: usize::MAX,
        }
    }

    fn probe(&self, row: u32) -> Probe {
        let mut probe = Probe::default();
        probe.set(self.comparison.coded.code(row), self.comparison.coded.scale(row));
        probe
    }

    /// The node on the base that a node on the first level above it is.
    fn down(&self, near: Near, from_level: usize) -> Near {
        if from_level == 1 {
            Near::new(near.score(), self.upper_rows[near.node() as usize])
        } else {
            near
        }
    }

    /// A node near the question on this level, found on those above it.
    fn way_in(&self, probe: &Probe, level: usize) -> Near {
        let mut near = Near::new(self.comparison.score(probe, self.upper_rows[0]), 0);
        for above in (level + 1..=self.upper.len()).rev() {
            near = self.comparison.descend(&self.level(above), probe, near);
            near = self.down(near, above);
        }
        near
    }

    /// What walks have to keep, asked by rows that are held back.
    fn needs(&mut self, present: &[u32], held: &[u32], stop: &Stop) -> Needs {
        if held.is_empty() {
            return Needs::default();
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        // Both are in the order of the rows.
        let mut next = held.iter().copied().peekable();
        let joined = present
            .iter()
            .copied()
            .filter(|row| next.next_if_eq(row).is_none());
        let needs = measure(&self.comparison, held, joined, stop, |probe, ef, see| {
            let near = self.way_in(probe, 0);
            let budget = usize::MAX;
            self.comparison.around(
                &self.level(0),
                probe,
                near,
                Reach { ef, budget },
                |_| true,
                &mut scratch,
            );
            see(&scratch.found);
        });
        self.scratch = scratch;
        needs
    }

    fn insert(&mut self, row: u32, own: usize, place: Option<u32>) {
        // The first row has nobody to be joined to.
        if place == Some(0) {
            return;
        }
        let probe = self.probe(row);
        let top = self.upper.len();
        let mut near = self.way_in(&probe, own);
        let mut scratch = std::mem::take(&mut self.scratch);
        for level in (0..=own.min(top)).rev() {
            let node = if level == 0 { row } else { place.unwrap_or(row) };
            let reach = self.reach();
            self.comparison
                .around(&self.level(level), &probe, near, reach, |_| true, &mut scratch);
            near = scratch.found.first().copied().unwrap_or(near);
            let mut choice = std::mem::take(&mut self.choice);
            choice.candidates.clear();
            choice
                .candidates
                .extend(scratch.found.iter().filter(|found| found.node() != node));
            self.choose(level, self.shape.links, &mut choice);
            self.lists(level)
                .set(node, choice.chosen.iter().map(|near| near.node()));
            let chosen = std::mem::take(&mut choice.chosen);
            for near in &chosen {
                self.link_back(level, near.node(), Near::new(near.score(), node), &mut choice);
            }
            choice.chosen = chosen;
            self.choice = choice;
            if level > 0 {
                near = self.down(near, level);
            }
        }
        self.scratch = scratch;
    }

    /// From `choice.candidates`, best first, those that are nearer to the row than to any chosen before: neighbours in
    /// all directions instead of a clump (algorithm 4 of the paper, as hnswlib has it).
    fn choose(&self, level: usize, most: usize, choice: &mut Choice) {
        let layer = self.level(level);
        choice.chosen.clear();
        choice.rows.clear();
        'candidates: for candidate in &choice.candidates {
            if choice.chosen.len() == most {
                break;
            }
            let row = layer.row(candidate.node());
            if !choice.rows.is_empty() {
                choice
                    .probe
                    .set(self.comparison.coded.code(row), self.comparison.coded.scale(row));
                choice.scores.resize(8, 0.0);
                for rows in choice.rows.chunks(8) {
                    let scores = &mut choice.scores[..rows.len()];
                    self.comparison.scores(&choice.probe, rows, scores);
                    if scores.iter().any(|score| *score > candidate.score()) {
                        continue 'candidates;
                    }
                }
            }
            choice.chosen.push(*candidate);
            choice.rows.push(row);
        }
    }

    /// Makes `near` a neighbour of `node`; where there is no room, all of them are chosen anew.
    fn link_back(&mut self, level: usize, node: u32, near: Near, choice: &mut Choice) {
        if self.lists(level).push(node, near.node()) {
            return;
        }
        let layer = self.level(level);
        let row = layer.row(node);
        choice
            .probe
            .set(self.comparison.coded.code(row), self.comparison.coded.scale(row));
        let list = layer.lists.of(node);
        choice.rows.clear();
        choice.rows.extend(list.iter().map(|other| layer.row(*other)));
        choice.scores.resize(list.len().max(8), 0.0);
        self.comparison
            .scores(&choice.probe, &choice.rows, &mut choice.scores[..list.len()]);
        choice.candidates.clear();
        choice.candidates.push(near);
        choice.candidates.extend(
            list.iter()
                .zip(&choice.scores)
                .map(|(other, score)| Near::new(*score, *other)),
        );
        choice.candidates.sort_unstable_by(|left, right| right.cmp(left));
        let room = layer.lists.room;
        self.choose(level, room, choice);
        self.lists(level)
            .set(node, choice.chosen.iter().map(|near| near.node()));
    }

    /// Choosing anew drops neighbours, and with many equal rows whole groups can lose every way in. Each gets one.
    fn join_strays(&mut self, present: &[u32]) {
        let mut reached = vec![false; self.base.lengths.len()];
        let mut open = vec![self.upper_rows[0]];
        reached[self.upper_rows[0] as usize] = true;
        let mut scratch = std::mem::take(&mut self.scratch);
        for row in std::iter::once(None).chain(present.iter().map(Some)) {
            if let Some(row) = row.filter(|row| !reached[**row as usize]) {
                let probe = self.probe(*row);
                let start = self.upper_rows[0];
                let near = Near::new(self.comparison.score(&probe, start), start);
                let reach = self.reach();
                // Walks from the start meet reached rows alone.
                self.comparison
                    .around(&self.level(0), &probe, near, reach, |_| true, &mut scratch);
                let has_room =
                    |near: &&Near| usize::from(self.base.lengths[near.node() as usize]) < self.base.room;
                let host = scratch.found.iter().find(has_room).or(scratch.found.first());
                if let Some(host) = host {
                    self.base.insert_before_last(host.node(), *row);
                    reached[*row as usize] = true;
                    open.push(*row);
                }
            }
            while let Some(row) = open.pop() {
                for other in self.base.of(row) {
                    if !std::mem::replace(&mut reached[*other as usize], true) {
                        open.push(*other);
                    }
                }
            }
        }
        self.scratch = scratch;
    }

    fn finish(self, nodes: u32, needs: Needs) -> GraphParts {
        let head = Head {
            links: self.shape.links,
            base_links: self.base.room,
            ef_construction: self.shape.ef_construction as u32,
            nodes,
            counts: self
                .upper
                .iter()
                .map(|lists| lists.lengths.len() as u32)
                .collect(),
            needs,
        };
        let bytes = |numbers: &[u32]| {
            numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let mut upper = bytes(&self.upper_rows);
        for lists in &self.upper {
            upper.extend(lists.nodes.iter().flat_map(|number| number.to_le_bytes()));
        }
        GraphParts {
            head: head.to_bytes(),
            base: bytes(&self.base.nodes),
            upper,
        }
    }
}
