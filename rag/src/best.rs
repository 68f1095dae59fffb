//! The best of many rows, as both legs of a search find them and fusion orders them.

use std::cmp::Ordering;

/// A row of one snapshot with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) score: f32,
    pub(crate) segment: u32,
    pub(crate) row: u32,
}

impl Scored {
    pub(crate) fn address(self) -> (u32, u32) {
        (self.segment, self.row)
    }
}

/// Best first; equal scores in address order, so that an answer repeats.
pub(crate) fn best_first(left: &Scored, right: &Scored) -> Ordering {
    right
        .score
        .total_cmp(&left.score)
        .then_with(|| left.address().cmp(&right.address()))
}

/// Keeps the best `limit` of many: fills to twice the limit, then cuts, so a push is mostly one comparison.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    kept: Vec<Scored>,
    threshold: f32,
}

impl Best {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Vec::with_capacity((limit * 2).min(8_192)),
            threshold: f32::NEG_INFINITY,
        }
    }

    /// Rows below this score cannot enter any more.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    pub(crate) fn push(&mut self, scored: Scored) {
        // Not `<=`: a row equal to the threshold may still win by its address. NaN never enters.
        if self.limit == 0 || scored.score.is_nan() || scored.score < self.threshold {
            return;
        }
        self.kept.push(scored);
        if self.kept.len() >= self.limit * 2 && self.kept.len() > self.limit {
            self.cut();
        }
    }

    /// Makes the threshold the score of the last that is kept, once the limit is reached.
    pub(crate) fn settle(&mut self) {
        if self.limit > 0 && self.kept.len() >= self.limit {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.kept.select_nth_unstable_by(self.limit - 1, best_first);
        self.threshold = self.kept[self.limit - 1].score;
        self.kept.truncate(self.limit);
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Scored> {
        if self.kept.len() > self.limit {
            self.cut();
        }
        self.kept.sort_unstable_by(best_first);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_few_of_many_are_kept_whatever_their_order() {
        for limit in [0_usize, 1, 2, 10, 100] {
            let all: Vec<Scored> = (0..1_000)
                .map(|row| Scored {
                    score: (row * 7_919 % 41) as f32 - 20.0,
                    segment: 0,
                    row,
                })
                .collect();
            let mut best = Best::new(limit);
            for scored in &all {
                best.push(*scored);
            }
            let mut want = all;
            want.sort_by(best_first);
            want.truncate(limit);
            assert_eq!(best.into_sorted(), want);
        }
    }
}
