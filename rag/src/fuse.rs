//! Two ranked lists become one.
//!
//! A convex combination of normalised scores is the default. With MiniLM and one chunk per document, nDCG@10 of z-score,
//! min-max and reciprocal rank was .7399, .7319, .7137 on SciFact and .4031, .4044, .4022 on Cranfield: clear on the
//! first, within noise on the second. Cut into chunks, with titles and one hit per document, z-score and min-max gave .7341
//! and .7282 on SciFact, .4131 and .4158 on Cranfield. Both lists go deep: the normalisation needs the spread of the scores.

use crate::best::{Best, Scored, best_first, ordered, sort_best_first, unordered};
use crate::spare::Spare;

/// How the lexical and the dense list become one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fusion {
    /// Scores less their mean, over their spread; `weight` of the dense leg between 0 and 1. The default, at 0.5.
    ZScore {
        /// Weight of the dense leg.
        weight: f32,
    },
    /// Scores between 0 (the list's lowest) and 1 (its highest); `weight` of the dense leg between 0 and 1.
    MinMax {
        /// Weight of the dense leg.
        weight: f32,
    },
    /// Σ 1 / (k + rank); 60 is usual.
    ReciprocalRank {
        /// Damps the first ranks.
        k: f32,
    },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::ZScore { weight: 0.5 }
    }
}

impl Fusion {
    /// Whether its number can be used.
    pub(crate) fn is_valid(self) -> bool {
        match self {
            Self::ZScore { weight } | Self::MinMax { weight } => (0.0..=1.0).contains(&weight),
            Self::ReciprocalRank { k } => k.is_finite() && k >= 0.0,
        }
    }
}

/// What a leg says of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Leg {
    /// 1 for the best; `None` when the row is not in the list.
    pub(crate) rank: Option<u32>,
    pub(crate) raw: f32,
    pub(crate) normalized: f32,
}

/// A row with its fused score and what both legs say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fused {
    pub(crate) scored: Scored,
    pub(crate) lexical: Leg,
    pub(crate) dense: Leg,
}

/// With more rows than this the ranks of all are worked out at once; of fewer each is counted.
const COUNTED: usize = 64;

/// One list, its scores brought to a common scale.
struct Side<'a> {
    list: &'a [Scored],
    /// Segment and row in one number, by place in the list.
    addresses: Spare<u64>,
    normalized: Spare<f32>,
    /// Scores as numbers with a sign: counted fast.
    scores: Spare<i32>,
    /// By place in the list, where all are needed.
    ranks: Vec<u32>,
    /// What a row gets that is not in the list.
    missing: Leg,
}

impl<'a> Side<'a> {
    /// `zeros` rows score 0 without standing in the list: BM25 lists only rows that share a word.
    fn new(fusion: Fusion, list: &'a [Scored], zeros: usize, needs_ranks: bool) -> Self {
        let count = (list.len() + zeros).max(1) as f64;
        // Side by side, they are read many at once.
        let raw: Spare<f32> = list.iter().map(|scored| scored.score).collect();
        let scores: Spare<i32> = raw.iter().map(|score| signed(*score)).collect();
        let unsigned = |score: &i32| unordered(score.cast_unsigned() ^ 1 << 31);
        let lowest = scores.iter().min().map_or(0.0, unsigned);
        let lowest = if zeros > 0 { lowest.min(0.0) } else { lowest };
        let (shift, spread) = match fusion {
            Fusion::ZScore { .. } => {
                let (sum, squares) = sums(&raw);
                let mean = sum / count;
                let variance = (squares / count - mean * mean).max(0.0);
                (mean as f32, variance.sqrt() as f32)
            }
            Fusion::MinMax { .. } => {
                let highest = scores.iter().max().map_or(0.0, unsigned);
                (lowest, highest - lowest)
            }
            Fusion::ReciprocalRank { .. } => (0.0, 1.0),
        };
        let factor = if spread > f32::EPSILON { 1.0 / spread } else { 0.0 };
        let is_by_rank = matches!(fusion, Fusion::ReciprocalRank { .. });
        let ranks = if is_by_rank || needs_ranks {
            ranks(list)
        } else {
            Vec::new()
        };
        let normalized = match fusion {
            Fusion::ReciprocalRank { k } => ranks.iter().map(|rank| 1.0 / (k + *rank as f32)).collect(),
            _ => raw.iter().map(|score| (score - shift) * factor).collect(),
        };
        let addresses = list
            .iter()
            .map(|scored| u64::from(scored.segment) << 32 | u64::from(scored.row));
        Self {
            list,
            addresses: addresses.collect(),
            normalized,
            scores,
            ranks,
            missing: Leg {
                rank: None,
                raw: lowest,
                normalized: if is_by_rank {
                    0.0
                } else {
                    (lowest - shift) * factor
                },
            },
        }
    }

    /// The address at this place, above all others past the end; and what a row is worth that is there, or is not.
    #[inline]
    fn at(&self, place: usize) -> (u64, [f32; 2]) {
        match (self.addresses.get(place), self.normalized.get(place)) {
            (Some(address), Some(normalized)) => (*address, [self.missing.normalized, *normalized]),
            _ => (u64::MAX, [self.missing.normalized; 2]),
        }
    }

    /// 1 for the best of the list.
    fn rank(&self, at: usize) -> u32 {
        if let Some(rank) = self.ranks.get(at) {
            return *rank;
        }
        let score = self.scores[at];
        // Counted in as many bits as a score has: four at once.
        let above: u32 = self.scores.iter().map(|other| u32::from(*other > score)).sum();
        // The list is in the order of addresses, and of equal scores the lower address comes first.
        let before: u32 = self.scores[..at]
            .iter()
            .map(|other| u32::from(*other == score))
            .sum();
        above + before + 1
    }

    fn leg(&self, address: (u32, u32)) -> Leg {
        let found = self
            .list
            .binary_search_by_key(&address, |scored| scored.address());
        let Ok(at) = found else {
            return self.missing;
        };
        Leg {
            rank: Some(self.rank(at)),
            raw: self.list[at].score,
            normalized: self.normalized[at],
        }
    }
}

/// The scores' sum and that of their squares, four at a time: in double precision neither loses what single scores have.
fn sums(scores: &[f32]) -> (f64, f64) {
    let (mut sums, mut squares) = ([0.0; 4], [0.0; 4]);
    let mut add = |at: usize, score: f32| {
        let score = f64::from(score);
        sums[at] += score;
        squares[at] += score * score;
    };
    let (fours, rest) = scores.as_chunks::<4>();
    for four in fours {
        (0..4).for_each(|at| add(at, four[at]));
    }
    rest.iter().enumerate().for_each(|(at, score)| add(at, *score));
    (sums.iter().sum(), squares.iter().sum())
}

/// [`ordered`] with a sign: what the oldest vector instructions can compare.
fn signed(score: f32) -> i32 {
    (ordered(score) ^ 1 << 31).cast_signed()
}

/// The rank of each row of a list, by its place in it.
fn ranks(list: &[Scored]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..list.len() as u32).collect();
    order.sort_unstable_by(|left, right| best_first(&list[*left as usize], &list[*right as usize]));
    let mut ranks = vec![0; list.len()];
    for (rank, at) in (1..).zip(order) {
        ranks[at as usize] = rank;
    }
    ranks
}

/// Fuses two lists, each in the order of its addresses, into the best `top_k`, best first. `allowed` is how many rows each
/// list chose from, `depth` how many it was allowed to keep.
pub(crate) fn fuse(
    fusion: Fusion,
    lexical: &[Scored],
    dense: &[Scored],
    allowed: usize,
    depth: usize,
    top_k: usize,
) -> Vec<Fused> {
    let zeros = allowed.min(depth).saturating_sub(lexical.len());
    let words = Side::new(fusion, lexical, zeros, top_k > COUNTED);
    let meaning = Side::new(fusion, dense, 0, top_k > COUNTED);
    let weight = match fusion {
        Fusion::ZScore { weight } | Fusion::MinMax { weight } => weight,
        // Reciprocal rank is a plain sum; halves of it keep the order.
        Fusion::ReciprocalRank { .. } => 0.5,
    };
    // One walk through both; nothing is sorted but the best few.
    let mut best = Best::new(top_k);
    let (mut left, mut right) = (0, 0);
    while left < lexical.len() || right < dense.len() {
        // Without a branch: whose turn it is is chance.
        let ((by_words, words), (by_meaning, meaning)) = (words.at(left), meaning.at(right));
        let address = by_words.min(by_meaning);
        let is_left = usize::from(by_words == address);
        let is_right = usize::from(by_meaning == address);
        let score = (1.0 - weight) * words[is_left] + weight * meaning[is_right];
        left += is_left;
        right += is_right;
        best.push(Scored {
            score,
            segment: (address >> 32) as u32,
            row: address as u32,
        });
    }
    let mut best = best.into_list();
    sort_best_first(&mut best);
    best.iter()
        .map(|scored| Fused {
            scored: *scored,
            lexical: words.leg(scored.address()),
            dense: meaning.leg(scored.address()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::best::sort_by_address;

    fn list(scores: &[(u32, f32)]) -> Vec<Scored> {
        let mut list: Vec<Scored> = scores
            .iter()
            .map(|(row, score)| Scored {
                score: *score,
                segment: 0,
                row: *row,
            })
            .collect();
        sort_by_address(&mut list);
        list
    }

    fn rows(fused: &[Fused]) -> Vec<u32> {
        fused.iter().map(|fused| fused.scored.row).collect()
    }

    const ALL: [Fusion; 3] = [
        Fusion::ZScore { weight: 0.5 },
        Fusion::MinMax { weight: 0.5 },
        Fusion::ReciprocalRank { k: 60.0 },
    ];

    #[test]
    fn a_row_that_both_legs_like_wins_over_one_that_only_one_likes() {
        for fusion in ALL {
            let lexical = list(&[(1, 9.0), (2, 8.0), (3, 1.0)]);
            let dense = list(&[(4, 0.9), (2, 0.8), (3, 0.1), (1, 0.05)]);
            let fused = fuse(fusion, &lexical, &dense, 4, 1_000, 10);
            assert_eq!(rows(&fused)[0], 2, "{fusion:?}");
            assert_eq!(fused.len(), 4);
            assert_eq!((fused[0].lexical.rank, fused[0].dense.rank), (Some(2), Some(2)));
        }
    }

    #[test]
    fn the_only_row_that_shares_a_word_gains_by_it() {
        for fusion in ALL {
            let dense = list(&[(7, 0.50), (8, 0.49), (9, 0.10)]);
            let fused = fuse(fusion, &list(&[(8, 3.0)]), &dense, 3, 1_000, 10);
            assert_eq!(rows(&fused), [8, 7, 9], "{fusion:?}");
        }
    }

    #[test]
    fn an_empty_leg_leaves_the_other_ones_order() {
        for fusion in ALL {
            let dense = list(&[(3, 0.9), (1, 0.5), (2, 0.5)]);
            assert_eq!(
                rows(&fuse(fusion, &[], &dense, 3, 10, 10)),
                [3, 1, 2],
                "{fusion:?}"
            );
            assert_eq!(
                rows(&fuse(fusion, &dense, &[], 3, 10, 10)),
                [3, 1, 2],
                "{fusion:?}"
            );
            assert!(fuse(fusion, &[], &[], 0, 10, 10).is_empty());
        }
    }

    #[test]
    fn the_best_few_are_those_of_the_whole_order() {
        let lexical = list(
            &(0..200)
                .map(|row| (row * 3, 50.0 - row as f32 / 8.0))
                .collect::<Vec<_>>(),
        );
        let dense = list(
            &(0..300)
                .map(|row| (row * 2, 0.9 - row as f32 / 1_000.0))
                .collect::<Vec<_>>(),
        );
        for fusion in ALL {
            let whole = fuse(fusion, &lexical, &dense, 600, 1_000, 1_000);
            // Multiples of 3 below 600, of 2 below 600, and of 6 once.
            assert_eq!(whole.len(), 200 + 300 - 100);
            for top_k in [0, 1, 7, 399, 400] {
                assert_eq!(fuse(fusion, &lexical, &dense, 600, 1_000, top_k), whole[..top_k]);
            }
        }
    }

    #[test]
    fn weights_outside_zero_and_one_are_refused() {
        assert!(ALL.into_iter().all(Fusion::is_valid));
        for fusion in [
            Fusion::ZScore { weight: 1.1 },
            Fusion::MinMax { weight: f32::NAN },
            Fusion::ReciprocalRank { k: -1.0 },
        ] {
            assert!(!fusion.is_valid());
        }
    }
}
