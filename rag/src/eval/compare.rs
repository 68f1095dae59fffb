//! Whether one ranking is better than another: a paired test over the questions.

use stepwell_core::{Error, Result};

/// Resamples; the smallest p-value that can be told is one of these.
const ROUNDS: u32 = 10_000;
/// Where the sequence starts, so that a test gives the same answer again.
const SEED: u64 = 0x5EED;

/// How two rankings differ over the same questions.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// Mean of the first less mean of the second.
    pub difference: f64,
    /// How often chance alone differs at least as much: a two-sided paired permutation test of 10,000 rounds.
    pub p_value: f64,
    /// 2.5 % of bootstrap resamples of the questions differ by less.
    pub low: f64,
    /// 2.5 % differ by more.
    pub high: f64,
}

impl Comparison {
    /// Whether chance explains the difference in less than one of twenty cases.
    pub fn is_significant(&self) -> bool {
        self.p_value < 0.05
    }
}

/// Compares two measures of the same questions, in the same order. The same numbers give the same answer.
///
/// ```
/// use stepwell_rag::eval::compare;
/// let found = compare(&[0.9; 50], &[0.5; 50])?;
/// assert!(found.is_significant() && found.difference > 0.39);
/// # Ok::<(), stepwell_core::Error>(())
/// ```
///
/// # Errors
/// `invalid_input` for no questions, for two lists of different length, and for what is no number.
pub fn compare(first: &[f64], second: &[f64]) -> Result<Comparison> {
    if first.len() != second.len() || first.is_empty() {
        return Err(Error::invalid(
            "comparison",
            "give both rankings' measures of the same questions, one at least",
        ));
    }
    let differences: Vec<f64> = first
        .iter()
        .zip(second)
        .map(|(first, second)| first - second)
        .collect();
    if differences.iter().any(|difference| !difference.is_finite()) {
        return Err(Error::invalid("comparison", "every measure must be a number"));
    }
    let count = differences.len() as f64;
    let sum: f64 = differences.iter().sum();
    let mut random = Random(SEED);
    // Sums of the same numbers in another order differ in their last digits.
    let bar = sum.abs() - 1e-9;
    let mut as_far = 0_u32;
    let mut means = Vec::with_capacity(ROUNDS as usize);
    for _ in 0..ROUNDS {
        let mut bits = 0;
        let mut left = 0;
        let mut swapped = 0.0;
        for difference in &differences {
            if left == 0 {
                (bits, left) = (random.next(), 64);
            }
            swapped += if bits & 1 == 0 { *difference } else { -difference };
            bits >>= 1;
            left -= 1;
        }
        as_far += u32::from(swapped.abs() >= bar);
        let drawn: f64 = (0..differences.len())
            .map(|_| differences[random.below(differences.len() as u64) as usize])
            .sum();
        means.push(drawn / count);
    }
    means.sort_by(f64::total_cmp);
    let tail = means.len() / 40;
    Ok(Comparison {
        difference: sum / count,
        // The order as it is counts as one of the permutations, so no p-value is 0.
        p_value: f64::from(as_far + 1) / f64::from(ROUNDS + 1),
        low: means[tail],
        high: means[means.len() - 1 - tail],
    })
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rankings_do_not_differ_and_clear_ones_do() {
        let same: Vec<f64> = (0..100).map(|at| f64::from(at % 7) / 7.0).collect();
        let found = compare(&same, &same).expect("compares");
        assert_eq!((found.difference, found.p_value), (0.0, 1.0));
        let better: Vec<f64> = same.iter().map(|value| value + 0.1).collect();
        let found = compare(&better, &same).expect("compares");
        assert!(found.is_significant() && found.p_value < 0.001, "{found:?}");
        assert!((found.low - 0.1).abs() < 1e-9 && (found.high - 0.1).abs() < 1e-9);
    }

    #[test]
    fn noise_is_called_noise_about_nineteen_times_of_twenty() {
        let mut random = Random(7);
        let mut draw = || random.below(1_000_000) as f64 / 1e6;
        let called = (0..60)
            .filter(|_| {
                let first: Vec<f64> = (0..40).map(|_| draw()).collect();
                let second: Vec<f64> = (0..40).map(|_| draw()).collect();
                compare(&first, &second).expect("compares").is_significant()
            })
            .count();
        assert!(called <= 8, "{called} of 60");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for (first, second) in [(vec![], vec![]), (vec![1.0], vec![]), (vec![f64::NAN], vec![1.0])] {
            assert_eq!(
                compare(&first, &second).expect_err("refused").code(),
                "invalid_input"
            );
        }
    }
}
