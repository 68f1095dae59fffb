//! [`Measures`] of one answer.

use std::collections::HashMap;
use std::hash::BuildHasher;

/// How good an order of documents is; each 0 to 1, higher is better.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Measures {
    /// Gains of the first ten, discounted by log₂(rank + 1), over those of the best possible order (Järvelin and
    /// Kekäläinen 2002), with linear gains.
    pub ndcg: f64,
    /// Share of the relevant documents among the first ten.
    pub recall_at_10: f64,
    /// Share of the relevant documents among the first hundred.
    pub recall_at_100: f64,
    /// One over the rank of the first relevant document; 0 where none is among the first ten.
    pub reciprocal_rank: f64,
}

impl Measures {
    /// The means; zeros where there is nothing.
    pub fn mean(each: &[Self]) -> Self {
        let count = each.len().max(1) as f64;
        let mean = |of: fn(&Self) -> f64| each.iter().map(of).sum::<f64>() / count;
        Self {
            ndcg: mean(|one| one.ndcg),
            recall_at_10: mean(|one| one.recall_at_10),
            recall_at_100: mean(|one| one.recall_at_100),
            reciprocal_rank: mean(|one| one.reciprocal_rank),
        }
    }
}

/// Judges a ranking of document ids, best first, each once. Documents without a gain count as not relevant; with no
/// relevant document at all every measure is 0.
///
/// ```
/// use stepwell_rag::eval::measure;
/// let gains = std::collections::HashMap::from([("a".to_owned(), 1.0)]);
/// assert_eq!(measure(&["b", "a"], &gains).reciprocal_rank, 0.5);
/// ```
pub fn measure<S: BuildHasher>(ranking: &[&str], gains: &HashMap<String, f64, S>) -> Measures {
    let gain = |id: &str| gains.get(id).copied().filter(|gain| *gain > 0.0).unwrap_or(0.0);
    let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        gains
            .take(10)
            .enumerate()
            .map(|(rank, gain)| gain / ((rank + 2) as f64).log2())
            .sum()
    };
    let mut best: Vec<f64> = gains.values().copied().filter(|gain| *gain > 0.0).collect();
    if best.is_empty() {
        return Measures::default();
    }
    best.sort_by(|left, right| right.total_cmp(left));
    let relevant = best.len() as f64;
    let ideal = discounted(&mut best.into_iter());
    let found = |depth: usize| ranking.iter().take(depth).filter(|id| gain(id) > 0.0).count() as f64;
    let first = ranking.iter().take(10).position(|id| gain(id) > 0.0);
    Measures {
        ndcg: discounted(&mut ranking.iter().map(|id| gain(id))) / ideal,
        recall_at_10: found(10) / relevant,
        recall_at_100: found(100) / relevant,
        reciprocal_rank: first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_worked_out_by_hand() {
        let gains: HashMap<String, f64> = [("a", 2.0), ("b", 1.0), ("c", 0.0), ("d", -1.0)]
            .map(|(id, gain)| (id.to_owned(), gain))
            .into();
        let found = measure(&["c", "b", "x", "a"], &gains);
        let ideal = 2.0 + 1.0 / 3.0_f64.log2();
        let gained = 1.0 / 3.0_f64.log2() + 2.0 / 5.0_f64.log2();
        assert!((found.ndcg - gained / ideal).abs() < 1e-12);
        assert_eq!(
            (found.recall_at_10, found.recall_at_100, found.reciprocal_rank),
            (1.0, 1.0, 0.5)
        );
        assert!((measure(&["a", "b"], &gains).ndcg - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_eleventh_counts_for_recall_alone() {
        let gains = HashMap::from([("z".to_owned(), 1.0)]);
        let ranking = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "z"];
        let found = measure(&ranking, &gains);
        assert_eq!(
            (found.ndcg, found.recall_at_10, found.recall_at_100),
            (0.0, 0.0, 1.0)
        );
        assert_eq!(measure(&ranking, &HashMap::new()), Measures::default());
    }
}
