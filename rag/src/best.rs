//! The best of many rows, as both legs of a search find them and fusion orders them.

use std::cmp::Ordering;

use crate::simd::kernels;
use crate::spare::Spare;

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
    let mut scores: Spare<u32> = list.iter().map(|scored| ordered(scored.score)).collect();
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

/// The rows of the word at this place that are looked at for a guess: another four of each 64, so that no regular order of
/// rows is seen as all there is.
fn sampled(word: usize) -> u64 {
    0x0001_0001_0001_0001_u64.rotate_left(word as u32 % 64 * 7)
}

/// Leaves the best so many rows of a list, in the order they had; the score of the last of them comes back where there are as
/// many.
pub(crate) fn keep_best(list: &mut Vec<Scored>, limit: usize) -> f32 {
    if limit == 0 {
        list.clear();
        return f32::NEG_INFINITY;
    }
    if list.len() == limit {
        let lowest = list.iter().map(|scored| ordered(scored.score)).min();
        return lowest.map_or(f32::NEG_INFINITY, unordered);
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

/// Room made at once.
const MOST_ROOM: usize = 1 << 15;
/// Of many rows one in so many is looked at to guess how high the bar lies.
const SAMPLED: usize = 16;
/// So many more than wanted are kept at least before they are cut: choosing ten of eleven again and again is slow.
const ROOM_LEAST: usize = 64;
/// Rows for each wanted one from which the bar is guessed.
const GUESSED: usize = 4;

/// How many are kept at most between two cuts.
fn room(limit: usize) -> usize {
    limit.saturating_add(limit.max(ROOM_LEAST))
}

/// Keeps the best `limit` of many: fills well past the limit, then cuts, so a push is mostly one comparison. Nothing is
/// sorted but equal scores at the cut: rows that come in the order of their addresses stay in it.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    kept: Spare<Scored>,
    threshold: f32,
}

impl Best {
    pub(crate) fn new(limit: usize) -> Self {
        let mut kept = Spare::default();
        kept.reserve(room(limit).min(MOST_ROOM));
        Self {
            limit,
            kept,
            threshold: if limit == 0 {
                f32::INFINITY
            } else {
                f32::NEG_INFINITY
            },
        }
    }

    /// Rows below this score cannot enter any more.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    #[inline]
    pub(crate) fn push(&mut self, scored: Scored) {
        // A row equal to the threshold may still win by its address. NaN reaches none.
        if scored.score >= self.threshold {
            self.kept.push(scored);
            self.cut();
        }
    }

    /// Many rows of a segment at once, from row `first` on: those whose bit is set, each with the score at its place. Of
    /// unset ones the score may be anything. Scores below `least`, and NaN, count for nothing.
    ///
    /// Where many rows are given, a few of them tell how high the bar lies: most rows are then compared and never moved.
    pub(crate) fn push_rows(&mut self, segment: u32, first: u32, bits: &[u64], scores: &[f32], least: f32) {
        if self.limit == 0 {
            return;
        }
        let bar = self.threshold.max(least);
        let before = self.kept.len();
        if let Some(guess) = self.guess(bits, scores, bar) {
            self.append(segment, first, bits, scores, guess);
            if self.kept.len() - before >= self.limit {
                self.threshold = guess;
                self.cut();
                return;
            }
            self.kept.truncate(before);
        }
        self.append(segment, first, bits, scores, bar);
        self.cut();
    }

    /// A score that more rows than wanted probably reach, if most do not.
    fn guess(&self, bits: &[u64], scores: &[f32], bar: f32) -> Option<f32> {
        let given: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        if given < self.limit.saturating_mul(GUESSED) || given < SAMPLED * SAMPLED {
            return None;
        }
        let mut sample = Spare::default();
        sample.reserve(given / SAMPLED + 64);
        for (at, (word, scores)) in bits.iter().zip(scores.chunks(64)).enumerate() {
            let mut seen = word & sampled(at);
            while seen != 0 {
                let score = scores.get(seen.trailing_zeros() as usize);
                // NaN is not above the bar.
                sample.extend(score.filter(|score| **score >= bar).map(|score| ordered(*score)));
                seen &= seen - 1;
            }
        }
        let expected = self.limit / SAMPLED;
        let place = expected + 3 * expected.isqrt() + 8;
        if place >= sample.len() {
            return None;
        }
        let (_, guess, _) = sample.select_nth_unstable_by(place, |left, right| right.cmp(left));
        Some(unordered(*guess))
    }

    fn append(&mut self, segment: u32, first: u32, bits: &[u64], scores: &[f32], bar: f32) {
        let kernels = kernels();
        let mut some = [Scored {
            score: 0.0,
            segment,
            row: 0,
        }; 64];
        let pieces = (first..).step_by(64).zip(bits.iter().zip(scores.chunks(64)));
        for (first, (word, scores)) in pieces {
            if *word == 0 {
                continue;
            }
            let mut chosen = word & kernels.reached(scores, bar);
            let some = &mut some[..chosen.count_ones() as usize];
            for slot in &mut *some {
                let at = chosen.trailing_zeros();
                chosen &= chosen - 1;
                (slot.score, slot.segment, slot.row) = (scores[at as usize], segment, first + at);
            }
            self.kept.extend_from_slice(some);
        }
    }

    #[inline]
    fn cut(&mut self) {
        if self.kept.len() > room(self.limit) {
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
    pub(crate) fn into_list(mut self) -> Spare<Scored> {
        if self.kept.len() > self.limit {
            keep_best(&mut self.kept, self.limit);
        }
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
                assert_eq!(*list, want, "{limit}");
            }
        }
    }

    #[test]
    fn rows_given_at_once_are_those_given_one_by_one() {
        let mut seed = 3_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        // Scores of chance, few different ones, rising ones, the high ones in a few places alone, and all those high that
        // the guess is made from: it is too high then.
        let kinds: [fn(u64, usize) -> f32; 5] = [
            |noise, _| (noise % 100_003) as f32 / 1_000.0 - 50.0,
            |noise, _| (noise % 5) as f32,
            |_, at| at as f32,
            |noise, at| if at % 64 < 9 { 1e6 } else { (noise % 1_000) as f32 },
            |noise, at| {
                let is_sampled = sampled(at / 64) & (1 << (at % 64)) != 0;
                (noise % 1_000) as f32 + if is_sampled { 1e6 } else { 0.0 }
            },
        ];
        for kind in kinds {
            for rows in [0_usize, 1, 63, 64, 65, 1_000, 5_000, 9_999] {
                let mut scores: Vec<f32> = (0..rows).map(|at| kind(next(), at)).collect();
                if rows > 50 {
                    scores[40] = f32::NAN;
                    scores[50] = f32::NEG_INFINITY;
                }
                let densities = [u64::MAX, 0x5555_0F0F_0001_8000, 1 << 9];
                for density in densities {
                    let mut bits: Vec<u64> = (0..rows.div_ceil(64))
                        .map(|_| density & !(1 << (next() % 64)))
                        .collect();
                    if let Some(last) = bits.last_mut().filter(|_| rows % 64 > 0) {
                        *last &= (1 << (rows % 64)) - 1;
                    }
                    for (limit, least) in [
                        (0, f32::NEG_INFINITY),
                        (1, 0.0),
                        (10, f32::NEG_INFINITY),
                        (700, 2.0),
                        (2_000, 0.0),
                    ] {
                        let (mut at_once, mut one_by_one) = (Best::new(limit), Best::new(limit));
                        for segment in 0..3_u32 {
                            // In two pieces, as a long scan gives them.
                            let middle = bits.len() / 2;
                            let pieces = [(0, &bits[..middle]), (middle * 64, &bits[middle..])];
                            for (first, bits) in pieces {
                                at_once.push_rows(segment, first as u32, bits, &scores[first..], least);
                            }
                            for (row, score) in (0..).zip(&scores) {
                                let is_set = bits[row / 64] & (1 << (row % 64)) != 0;
                                if is_set && *score >= least {
                                    let row = row as u32;
                                    one_by_one.push(Scored {
                                        score: *score,
                                        segment,
                                        row,
                                    });
                                }
                            }
                        }
                        let list = at_once.into_list();
                        assert!(list.is_sorted_by_key(|scored| scored.address()));
                        let mut want = one_by_one.into_list();
                        sort_by_address(&mut want);
                        assert_eq!(*list, *want, "{limit} of {rows}");
                    }
                }
            }
        }
    }
}
