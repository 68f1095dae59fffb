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

/// A row in one number, higher for what comes first in [`best_first`]: numbers are sorted without a branch.
fn key(scored: Scored) -> u128 {
    let bits = scored.score.to_bits();
    // Turned so that the order of the bits is the order of the numbers.
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u128::from(ordered) << 64 | u128::from(!scored.segment) << 32 | u128::from(!scored.row)
}

#[allow(clippy::cast_possible_truncation)] // the key is put together of three numbers of 32 bits
fn scored(key: u128) -> Scored {
    let ordered = (key >> 64) as u32;
    let bits = if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    };
    Scored {
        score: f32::from_bits(bits),
        segment: !((key >> 32) as u32),
        row: !(key as u32),
    }
}

/// Keeps the best `limit` of many: fills to twice the limit, then cuts, so a push is mostly one comparison.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    kept: Vec<u128>,
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

    #[inline]
    pub(crate) fn push(&mut self, scored: Scored) {
        // Not `<=`: a row equal to the threshold may still win by its address. NaN never enters.
        if self.limit == 0 || scored.score.is_nan() || scored.score < self.threshold {
            return;
        }
        self.kept.push(key(scored));
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
        self.kept
            .select_nth_unstable_by(self.limit - 1, |left, right| right.cmp(left));
        self.threshold = scored(self.kept[self.limit - 1]).score;
        self.kept.truncate(self.limit);
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Scored> {
        if self.kept.len() > self.limit {
            self.cut();
        }
        self.kept.sort_unstable_by(|left, right| right.cmp(left));
        self.kept.into_iter().map(scored).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_scores_then_addresses_and_give_the_row_back() {
        let scores = [
            f32::NEG_INFINITY,
            -3.5,
            -0.0,
            0.0,
            f32::MIN_POSITIVE,
            0.7,
            4.0,
            f32::MAX,
        ];
        let all: Vec<Scored> = scores
            .into_iter()
            .flat_map(|score| {
                [(0, 0), (0, 9), (1, 0), (u32::MAX, u32::MAX)].map(|(segment, row)| Scored {
                    score,
                    segment,
                    row,
                })
            })
            .collect();
        for left in &all {
            assert_eq!(scored(key(*left)), *left);
            assert_eq!(scored(key(*left)).score.to_bits(), left.score.to_bits());
            for right in &all {
                assert_eq!(key(*right).cmp(&key(*left)), best_first(left, right));
            }
        }
    }

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
