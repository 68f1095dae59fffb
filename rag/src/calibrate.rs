//! [`Calibration`]: what cosine and words say about relevance, as a probability that compares between questions.
//!
//! Fused scores are made of each answer's own spread: the best hit of a question that nothing answers scores as high as any.
//! A logistic curve over two numbers that mean the same for every question tells such questions apart: the cosine of
//! question and chunk, and the share of the question's words that the chunk has, rare words counting more.
//!
//! The default curves were fitted to the best ten documents of 525 questions, those of SciFact and Cranfield, each asked at its
//! own collection and at the other one. At 0.38 they let the best hit of 43 % and 47 % of the own questions through, at 0.2
//! that of 76 % and 84 %; of the foreign questions none at either. With the cosine alone it is 36 % and 49 % at 0.38, with words
//! alone 49 % and 32 %. They are probabilities of what was judged relevant, so a good hit of a hard question stands at 0.3.

/// Curves that turn a hit's cosine and its share of the question's words into the probability that it is relevant.
///
/// The default is for all-MiniLM-L6-v2. Other embedders have other cosines: learn theirs with
/// [`crate::eval::fit_relevance`].
///
/// ```
/// use stepwell_rag::Calibration;
/// let curves = Calibration::default();
/// let good = curves.relevance(Some(0.7), Some(0.9));
/// let poor = curves.relevance(Some(0.2), Some(0.2));
/// assert!(good > 0.38 && poor < 0.05);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Calibration {
    /// Where cosine and words are known: the constant, what the cosine counts, what the share of words counts.
    pub both: [f32; 3],
    /// Where only the cosine is known: the constant, and what it counts.
    pub cosine: [f32; 2],
    /// Where only words are known: the constant, and what their share counts.
    pub words: [f32; 2],
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            both: [-6.79, 7.224, 2.739],
            cosine: [-6.864, 9.372],
            words: [-4.263, 5.812],
        }
    }
}

impl Calibration {
    /// The probability that a hit is relevant, 0 to 1; 0 where nothing is known of it.
    pub fn relevance(&self, cosine: Option<f32>, coverage: Option<f32>) -> f32 {
        let sum = match (cosine, coverage) {
            (Some(cosine), Some(coverage)) => self.both[0] + self.both[1] * cosine + self.both[2] * coverage,
            (Some(cosine), None) => self.cosine[0] + self.cosine[1] * cosine,
            (None, Some(coverage)) => self.words[0] + self.words[1] * coverage,
            (None, None) => return 0.0,
        };
        1.0 / (1.0 + (-sum).exp())
    }

    /// The curves nearest to these hits: cosine where known, share of words, whether relevant. A curve that has nothing to
    /// learn from stays as in `own`.
    pub(crate) fn learn(samples: &[(Option<f32>, f32, bool)], own: Self) -> Self {
        let pairs = |of: &dyn Fn(Option<f32>, f32) -> Option<[f64; 3]>| -> Vec<([f64; 3], bool)> {
            samples
                .iter()
                .filter_map(|(cosine, words, is_relevant)| Some((of(*cosine, *words)?, *is_relevant)))
                .collect()
        };
        let both = logistic(&pairs(&|cosine, words| {
            Some([1.0, f64::from(cosine?), f64::from(words)])
        }));
        let cosine = logistic(&pairs(&|cosine, _| Some([1.0, f64::from(cosine?), 0.0])));
        let words = logistic(&pairs(&|_, words| Some([1.0, f64::from(words), 0.0])));
        Self {
            both: both.unwrap_or(own.both),
            cosine: cosine.map_or(own.cosine, |[constant, slope, _]| [constant, slope]),
            words: words.map_or(own.words, |[constant, slope, _]| [constant, slope]),
        }
    }
}

/// Logistic regression by Newton's steps, with a little pull towards 0 so that clean cuts stay finite; `None` where all
/// samples are of one kind.
fn logistic(samples: &[([f64; 3], bool)]) -> Option<[f32; 3]> {
    const PULL: f64 = 0.1;
    const STEPS: usize = 50;
    let relevant = samples.iter().filter(|(_, is_relevant)| *is_relevant).count();
    if relevant == 0 || relevant == samples.len() {
        return None;
    }
    let mut weights = [0.0_f64; 3];
    for _ in 0..STEPS {
        let mut slope = weights.map(|weight| PULL * weight);
        let mut curve = [[0.0_f64; 3]; 3];
        for (at, row) in curve.iter_mut().enumerate() {
            row[at] = PULL;
        }
        for (features, is_relevant) in samples {
            let sum: f64 = features
                .iter()
                .zip(&weights)
                .map(|(feature, weight)| feature * weight)
                .sum();
            let expected = 1.0 / (1.0 + (-sum).exp());
            let miss = expected - f64::from(u8::from(*is_relevant));
            for at in 0..3 {
                slope[at] += miss * features[at];
                for other in 0..3 {
                    curve[at][other] += expected * (1.0 - expected) * features[at] * features[other];
                }
            }
        }
        let step = solve(curve, slope)?;
        for (weight, step) in weights.iter_mut().zip(&step) {
            *weight -= step;
        }
        if step.iter().all(|step| step.abs() < 1e-9) {
            break;
        }
    }
    let found = weights.map(|weight| weight as f32);
    found.iter().all(|weight| weight.is_finite()).then_some(found)
}

/// Three equations by elimination.
fn solve(mut left: [[f64; 3]; 3], mut right: [f64; 3]) -> Option<[f64; 3]> {
    for at in 0..3 {
        let pivot = (at..3).max_by(|a, b| left[*a][at].abs().total_cmp(&left[*b][at].abs()))?;
        left.swap(at, pivot);
        right.swap(at, pivot);
        if left[at][at].abs() < 1e-12 {
            return None;
        }
        for row in 0..3 {
            if row != at {
                let factor = left[row][at] / left[at][at];
                let pivot = left[at];
                for (value, pivot) in left[row].iter_mut().zip(pivot) {
                    *value -= factor * pivot;
                }
                right[row] -= factor * right[at];
            }
        }
    }
    Some(std::array::from_fn(|at| right[at] / left[at][at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Random;

    #[test]
    fn relevance_grows_with_what_it_is_told_by_and_stays_a_probability() {
        let curves = Calibration::default();
        let mut last = 0.0;
        for step in 0..=10 {
            let share = step as f32 / 10.0;
            let found = curves.relevance(Some(share), Some(share));
            assert!(found > last && found < 1.0);
            assert!(curves.relevance(Some(share), None) > 0.0 && curves.relevance(None, Some(share)) < 1.0);
            last = found;
        }
        assert_eq!(curves.relevance(None, None).to_bits(), 0.0_f32.to_bits());
    }

    #[test]
    fn learning_finds_the_curve_that_made_the_samples() {
        let true_one = Calibration {
            both: [-5.0, 6.0, 3.0],
            ..Calibration::default()
        };
        let mut random = Random(11);
        let mut draw = || random.below(1 << 24) as f32 / (1 << 24) as f32;
        let samples: Vec<_> = (0..40_000)
            .map(|_| {
                let (cosine, words) = (draw(), draw());
                let is_relevant = draw() < true_one.relevance(Some(cosine), Some(words));
                (Some(cosine), words, is_relevant)
            })
            .collect();
        let found = Calibration::learn(&samples, Calibration::default());
        for (found, wanted) in found.both.iter().zip(true_one.both) {
            assert!((found - wanted).abs() < 0.3, "{found} for {wanted}");
        }
    }

    #[test]
    fn one_kind_of_samples_teaches_nothing_and_clean_cuts_stay_finite() {
        let own = Calibration::default();
        assert_eq!(Calibration::learn(&[(Some(0.5), 0.5, true)], own), own);
        let cut: Vec<_> = (0..100)
            .map(|at| (Some(at as f32 / 100.0), 0.5, at >= 50))
            .collect();
        let found = Calibration::learn(&cut, own);
        assert!(
            found.relevance(Some(0.9), Some(0.5)) > 0.9 && found.both.iter().all(|weight| weight.is_finite())
        );
    }
}
