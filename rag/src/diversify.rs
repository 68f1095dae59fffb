//! Maximal marginal relevance: the next hit is the best one that is not like those before it.

/// Orders candidates by `(1 − diversity) · relevance − diversity · likeness to the most alike chosen before`, and gives
/// their places with that value, which falls from one to the next. `relevance` is brought to 0..1; `likeness` tells
/// how alike two candidates are, 0 to 1.
pub(crate) fn diversify(
    relevance: &[f32],
    diversity: f32,
    count: usize,
    likeness: impl Fn(usize, usize) -> f32,
) -> Vec<(usize, f32)> {
    let highest = relevance.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let lowest = relevance.iter().copied().fold(f32::INFINITY, f32::min);
    let spread = (highest - lowest).max(f32::MIN_POSITIVE);
    let scaled: Vec<f32> = relevance.iter().map(|score| (score - lowest) / spread).collect();
    let mut nearest = vec![0.0_f32; relevance.len()];
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    let mut chosen = Vec::with_capacity(count.min(relevance.len()));
    while chosen.len() < count && !left.is_empty() {
        let value = |at: usize| (1.0 - diversity) * scaled[at] - diversity * nearest[at];
        let (place, best) = left
            .iter()
            .enumerate()
            // The earlier candidate wins where two are equal.
            .max_by(|(_, left), (_, right)| value(**left).total_cmp(&value(**right)).then(right.cmp(left)))
            .map(|(place, at)| (place, *at))
            .expect("some are left");
        chosen.push((best, value(best)));
        left.remove(place);
        for at in &left {
            nearest[*at] = nearest[*at].max(likeness(best, *at));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of one kind and two of another.
    fn alike(left: usize, right: usize) -> f32 {
        if left / 2 == right / 2 { 0.95 } else { 0.1 }
    }

    #[test]
    fn without_diversity_the_order_is_that_of_relevance() {
        let chosen = diversify(&[0.9, 0.8, 0.7, 0.6], 0.0, 10, alike);
        assert_eq!(chosen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn with_diversity_the_second_of_a_kind_comes_after_the_first_of_another() {
        let chosen = diversify(&[0.9, 0.88, 0.7, 0.6], 0.5, 3, alike);
        assert_eq!(chosen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 2, 1]);
        assert!(chosen.is_sorted_by(|left, right| left.1 >= right.1), "{chosen:?}");
    }

    #[test]
    fn equal_scores_and_no_candidates_are_no_trouble() {
        assert!(diversify(&[], 0.5, 3, alike).is_empty());
        let chosen = diversify(&[1.0, 1.0, 1.0], 1.0, 2, alike);
        assert_eq!(chosen.len(), 2);
        assert!(chosen.iter().all(|(_, value)| value.is_finite()));
    }
}
