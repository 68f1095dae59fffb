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

/// A score in one number, higher for what comes first in [`best_first`]: numbers are compared without a branch.
pub(crate) fn ordered(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The score of such a number.
pub(crate) fn unordered(ordered: u32) -> f32 {
    f32::from_bits(if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    })
}

/// The score of the row in this place of the list, were it best first; 1 is the first. Less than all where there are fewer.
pub(crate) fn nth_score(list: &[Scored], place: usize) -> f32 {
    if place == 0 || place > list.len() {
        return f32::NEG_INFINITY;
    }
    let mut scores: Vec<u32> = list.iter().map(|scored| ordered(scored.score)).collect();
    let (_, nth, _) = scores.select_nth_unstable_by(place - 1, |left, right| right.cmp(left));
    unordered(*nth)
}

/// Brings rows into the order of their addresses, which they mostly have already.
pub(crate) fn sort_by_address(list: &mut [Scored]) {
    if !list.is_sorted_by_key(|scored| scored.address()) {
        list.sort_unstable_by_key(|scored| u64::from(scored.segment) << 32 | u64::from(scored.row));
    }
}

/// Best first.
pub(crate) fn sort_best_first(list: &mut [Scored]) {
    list.sort_unstable_by(best_first);
}

/// Leaves the best so many rows of a list, in the order they had; the score of the last of them comes back where there are as
/// many.
pub(crate) fn keep_best(list: &mut Vec<Scored>, limit: usize) -> f32 {
    if limit == 0 {
        list.clear();
        return f32::NEG_INFINITY;
    }
    let last = nth_score(list, limit);
    if list.len() > limit {
        let bar = ordered(last);
        // Without a branch: which rows stay is chance.
        let mut kept = 0;
        for at in 0..list.len() {
            let scored = list[at];
            list[kept] = scored;
            kept += usize::from(ordered(scored.score) >= bar);
        }
        list.truncate(kept);
        if list.len() > limit {
            // Of equal scores those with the lowest addresses.
            sort_by_address(list);
            let above = list.iter().filter(|scored| ordered(scored.score) > bar).count();
            let mut equal = limit - above;
            list.retain(|scored| {
                let is_above = ordered(scored.score) > bar;
                let is_kept = is_above || equal > 0;
                equal -= usize::from(is_kept && !is_above);
                is_kept
            });
        }
    }
    last
}

/// Up to so many rows for each wanted one nothing is cut before the end.
const UNCUT: usize = 16;
/// Room made at once.
const MOST_ROOM: usize = 1 << 15;

/// Keeps the best `limit` of many: fills to twice the limit, then cuts, so a push is mostly one comparison. Nothing is
/// sorted but equal scores at the cut: rows that come in the order of their addresses stay in it.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    /// What is kept is cut beyond so many.
    room: usize,
    kept: Vec<Scored>,
    threshold: f32,
}

impl Best {
    pub(crate) fn new(limit: usize) -> Self {
        Self::of_rows(limit, usize::MAX)
    }

    /// The same for so many rows at most: where that is not far more than the limit, all are kept until the end.
    pub(crate) fn of_rows(limit: usize, rows: usize) -> Self {
        let room = if rows <= limit * UNCUT { rows } else { limit * 2 };
        Self {
            limit,
            room,
            kept: Vec::with_capacity(room.min(MOST_ROOM)),
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
        self.kept.push(scored);
        if self.kept.len() > self.room {
            self.settle();
        }
    }

    /// Makes the threshold the score of the last that is kept, once the limit is reached.
    pub(crate) fn settle(&mut self) {
        if self.limit > 0 && self.kept.len() >= self.limit {
            self.threshold = keep_best(&mut self.kept, self.limit);
        }
    }

    /// What is kept, in no order of its own.
    pub(crate) fn into_list(mut self) -> Vec<Scored> {
        keep_best(&mut self.kept, self.limit);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_as_numbers_have_the_order_of_scores_and_give_them_back() {
        let scores = [
            f32::NEG_INFINITY,
            f32::MIN,
            -3.5,
            -f32::MIN_POSITIVE,
            -0.0,
            0.0,
            f32::MIN_POSITIVE,
            0.7,
            4.0,
            f32::MAX,
            f32::INFINITY,
        ];
        for left in scores {
            assert_eq!(unordered(ordered(left)).to_bits(), left.to_bits());
            for right in scores {
                assert_eq!(ordered(left).cmp(&ordered(right)), left.total_cmp(&right));
            }
        }
    }

    #[test]
    fn the_best_few_of_many_are_kept_whatever_their_order() {
        let all: Vec<Scored> = (0..1_000)
            .map(|at| Scored {
                score: (at * 7_919 % 41) as f32 - 20.0,
                segment: at / 400,
                row: at % 400,
            })
            .collect();
        let mut mixed = all.clone();
        mixed.sort_by_key(|scored| (scored.row * 7_919 % 1_009, scored.segment));
        for limit in [0_usize, 1, 2, 10, 100, 999, 1_000, 2_000] {
            let mut want = all.clone();
            want.sort_by(best_first);
            want.truncate(limit);
            let last = want.last().map(|scored| scored.score);
            want.sort_by_key(|scored| scored.address());
            for given in [&all, &mixed] {
                let mut best = Best::new(limit);
                for scored in given {
                    best.push(*scored);
                }
                best.push(Scored {
                    score: f32::NAN,
                    segment: 0,
                    row: 0,
                });
                best.settle();
                if limit > 0 && limit <= all.len() {
                    assert_eq!(Some(best.threshold()), last, "of {limit}");
                }
                let mut list = best.into_list();
                sort_by_address(&mut list);
                assert_eq!(list, want, "{limit}");
            }
        }
    }
}
