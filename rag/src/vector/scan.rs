//! [`Piece`]: neighbouring rows of a file, each compared with the question by its codes.

use super::file::VectorFile;
use super::format::Metric;
use super::search::DenseQuery;
use crate::filter::RowSet;
use crate::simd::Kernels;
use crate::spare::Spare;

/// Words of 64 rows that are scanned before any is chosen: their scores stay in the nearest caches.
const PIECE_WORDS: usize = 256;

/// From so many wanted rows of 64 on all of them are compared.
const TOGETHER: usize = 16;

/// Neighbouring rows of a file with their scores by codes.
#[derive(Default)]
pub(super) struct Piece {
    /// The row of the first bit.
    pub(super) first: u32,
    /// Rows that are allowed and have a vector.
    pub(super) bits: Vec<u64>,
    /// By row; of other rows it may be anything.
    pub(super) scores: Spare<f32>,
}

impl Piece {
    /// Shows every allowed row of a file, in pieces.
    ///
    /// Each scan of a file goes through a piece the other way than the one before: what that one read last is still in the
    /// nearer caches. Ten thousand rows are twice what those hold; a question over them took 6 % less so.
    pub(super) fn scan(
        &mut self,
        kernels: Kernels,
        file: &VectorFile,
        allowed: &RowSet,
        query: &DenseQuery,
        mut see: impl FnMut(&Self),
    ) {
        let rows = file.rows();
        let is_forward = file.turns();
        for (at, words) in allowed.words().chunks(PIECE_WORDS).enumerate() {
            let at = at * PIECE_WORDS;
            self.first = at as u32 * 64;
            let length = (rows.saturating_sub(self.first) as usize).min(words.len() * 64);
            self.bits.clear();
            let pieces = words.iter().enumerate();
            self.bits
                .extend(pieces.map(|(word, bits)| bits & file.presence_word(at + word)));
            self.scores.resize(length, 0.0);
            let mut is_empty = true;
            let count = self.bits.len();
            for step in 0..count {
                let word = if is_forward { step } else { count - 1 - step };
                let bits = &self.bits[word];
                if *bits != 0 && word * 64 < length {
                    let scores = &mut self.scores[word * 64..length.min(word * 64 + 64)];
                    score_rows(kernels, file, query, self.first + word as u32 * 64, *bits, scores);
                    is_empty = false;
                }
            }
            if !is_empty {
                see(self);
            }
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, f32)> {
        let scores = (self.first..).zip(self.scores.iter());
        scores
            .filter(|(row, _)| {
                let at = row - self.first;
                self.bits[at as usize / 64] & (1 << (at % 64)) != 0
            })
            .map(|(row, score)| (row, *score))
    }
}

/// Scores of up to 64 rows from `first` on, by their codes; of those without a bit it may be anything.
fn score_rows(
    kernels: Kernels,
    file: &VectorFile,
    query: &DenseQuery,
    first: u32,
    mut bits: u64,
    scores: &mut [f32],
) {
    let (probe, metric) = (&query.probe, file.metric());
    let last = first + scores.len() as u32;
    let scales = file.scales(first..last);
    let mut sums = [0_i32; 64];
    // Well filled, they are multiplied in one go, unwanted rows included.
    let together = bits.count_ones() as usize >= TOGETHER;
    if together {
        kernels.dot_codes(file.codes(first..last), &probe.codes, &mut sums[..scores.len()]);
        if metric != Metric::L2 {
            for ((score, sum), scale) in scores.iter_mut().zip(&sums).zip(scales) {
                *score = probe.dot(*sum, f32::from_le_bytes(*scale));
            }
            return;
        }
    }
    let mut places = [0_usize; 64];
    let mut count = 0;
    while bits != 0 {
        let at = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        if at < scores.len() {
            places[count] = at;
            count += 1;
        }
    }
    let places = &places[..count];
    if !together {
        let mut rows: [&[u8]; TOGETHER] = [&[]; TOGETHER];
        for (codes, at) in rows.iter_mut().zip(places) {
            let row = first + *at as u32;
            *codes = file.codes(row..row + 1);
        }
        let mut apart = [0_i32; TOGETHER];
        kernels.dot_rows(&rows[..count], &probe.codes, &mut apart[..count]);
        for (at, sum) in places.iter().zip(apart) {
            sums[*at] = sum;
        }
    }
    for at in places {
        let (row, scale) = (first + *at as u32, f32::from_le_bytes(scales[*at]));
        scores[*at] = probe.score(metric, sums[*at], scale, || file.norm(row));
    }
}
