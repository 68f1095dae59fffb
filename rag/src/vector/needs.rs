//! [`Needs`]: how many rows a walk through a graph has to keep for a recall, measured while the graph is built.
//!
//! The formula was fitted to sentences; other vectors need more. A few rows that the graph does not hold yet are its
//! questions: their nearest among the rows that it holds are looked up one by one, and walks keep more and more rows until
//! they find enough of these. Then the questions become rows of the graph too. What was measured raises what the formula
//! says and never lowers it: the questions of people lie further from the rows than another row does.
//!
//! Where each row has dozens of rows close by, other rows are easier to find for it than for a question from elsewhere, and
//! too little is measured. Questions a third of the way from a row to another asked for twice too much of sentences.

use super::build::CodedRows;
use super::plan::scanned_meanwhile;
use super::walk::{Coded, Comparison, Near, Probe};
use crate::stop::Stop;

/// Recalls that are measured.
const AIMS: [f32; 5] = [0.9, 0.95, 0.99, 0.995, 0.999];
/// Nearest rows of each question.
const K: usize = 10;
/// Questions that are asked: where a tenth of them miss one of their ten, chance moves the mean by .002.
const QUESTIONS: usize = 256;
/// Rows from which a graph is measured: so that its questions are few of them.
const ROWS_LEAST: usize = 4_096;
/// Longest list that is tried. Trials end sooner where a scan takes less time than the walk.
const EF_MOST: usize = 4_096;
/// What is written for an aim that this list does not reach: a scan does.
const NEVER: u16 = u16::MAX;
/// What a product of several numbers may be off by.
const ROUNDING: f64 = 1e-6;
/// Rows compared together, one question after the other: their codes stay in the nearest caches.
const BLOCK: usize = 32;

/// Rows that a walk for the best ten has to keep, by aim; 0 where that was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs([u16; AIMS.len()]);

/// Bytes of [`Needs`] in a file.
pub(super) const NEEDS_LEN: usize = AIMS.len() * 2;

/// Rows that a walk keeps for the best `k`. Fitted to MiniLM sentences, 25,000 × 384 with 16 links, where .95, .99 and .999
/// took lists of 14, 42 and 110 for the best one, 21, 57 and 160 for the best ten, 100, 190 and 480 for the best hundred; at
/// 200,000 .95 and .99 took 32 and 96 for the best ten.
fn fitted(recall: f32, k: usize, rows: u32) -> f64 {
    let breadth = 0.7 + 0.03 * k as f64;
    let growth = 1.0 + (f64::from(rows.max(1)) / 25_000.0).log2().max(0.0) * 0.2;
    6.3 / misses(recall).sqrt() * breadth * growth
}

fn misses(recall: f32) -> f64 {
    (1.0 - f64::from(recall)).max(1e-5)
}

impl Needs {
    /// Rows that a walk keeps for this share of the best `k`.
    pub(crate) fn ef(&self, recall: f32, k: usize, rows: u32) -> usize {
        #[allow(clippy::cast_sign_loss)] // a product of positive numbers
        let ef = (fitted(recall, k, rows) * self.factor(recall, rows) - ROUNDING).ceil() as usize;
        ef.max(k)
    }

    /// How much more than the formula says is needed: between two aims somewhere between what they need.
    fn factor(&self, recall: f32, rows: u32) -> f64 {
        let mut before: Option<(f64, f64)> = None;
        for (aim, ef) in AIMS.into_iter().zip(self.0) {
            let here = misses(aim).ln();
            let factor = (f64::from(ef) / fitted(aim, K, rows)).max(1.0);
            if recall <= aim {
                let Some((there, least)) = before else {
                    return factor;
                };
                return least + (factor - least) * (there - misses(recall).ln()) / (there - here);
            }
            before = Some((here, factor));
        }
        before.map_or(1.0, |(_, factor)| factor)
    }

    pub(super) fn to_bytes(self) -> [u8; NEEDS_LEN] {
        let mut bytes = [0; NEEDS_LEN];
        for (place, ef) in bytes.chunks_exact_mut(2).zip(self.0) {
            place.copy_from_slice(&ef.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; NEEDS_LEN]) -> Self {
        let mut needs = Self::default();
        for (ef, two) in needs.0.iter_mut().zip(bytes.as_chunks().0) {
            *ef = u16::from_le_bytes(*two);
        }
        needs
    }
}

/// Which of so many rows are kept back as questions: one of each of as many equal stretches; none of too few rows.
pub(super) fn held_back(rows: usize) -> impl Fn(usize) -> bool {
    let stretch = if rows < ROWS_LEAST { 0 } else { rows / QUESTIONS };
    move |row| {
        let Some(number) = row.checked_div(stretch).filter(|number| *number < QUESTIONS) else {
            return false;
        };
        // Anywhere in the stretch: documents may repeat at equal distances.
        let mut mixed = (number as u64).wrapping_add(0xD1B5_4A32_D192_ED03);
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xDABA_0B6E_B093_22E3);
        mixed ^= mixed >> 32;
        row % stretch == (mixed % stretch as u64) as usize
    }
}

/// Asks what it takes to find the nearest of `questions` among `rows`; nothing where it was told to stop. `walk` keeps so many
/// rows for a question and hands them over, best first.
pub(super) fn measure(
    comparison: &Comparison<'_, CodedRows<'_>>,
    questions: &[u32],
    rows: impl Iterator<Item = u32>,
    stop: &Stop,
    mut walk: impl FnMut(&Probe, usize, &mut dyn FnMut(&[Near])),
) -> Needs {
    let mut needs = Needs::default();
    let probes: Vec<Probe> = questions
        .iter()
        .map(|row| {
            let mut probe = Probe::default();
            probe.set(comparison.coded.code(*row), comparison.coded.scale(*row));
            probe
        })
        .collect();
    let Some((bars, count)) = bars(comparison, &probes, rows, stop) else {
        return needs;
    };
    // The recall that is reached, less what chance may have given it.
    let mut reached = |ef: usize| {
        let (mut sum, mut squares) = (0.0, 0.0);
        for (probe, bar) in probes.iter().zip(&bars) {
            if stop.is_set() {
                break;
            }
            walk(probe, ef, &mut |found| {
                // Equal scores stand for each other.
                let hits = found.iter().take(K).filter(|near| near.score() >= *bar).count();
                let recall = hits as f64 / K as f64;
                sum += recall;
                squares += recall * recall;
            });
        }
        let asked = probes.len() as f64;
        let mean = sum / asked;
        mean - ((squares / asked - mean * mean).max(0.0) / asked).sqrt()
    };
    let is_tried = |ef: usize| ef <= EF_MOST && scanned_meanwhile(ef) < count as usize;
    let mut ef = K;
    for (aim, need) in AIMS.into_iter().zip(&mut needs.0) {
        #[allow(clippy::cast_sign_loss)] // a product of positive numbers
        let first = fitted(aim, K, count).ceil() as usize;
        ef = ef.max(first);
        let mut too_short = None;
        while is_tried(ef) && reached(ef) < f64::from(aim) {
            if stop.is_set() {
                return Needs::default();
            }
            too_short = Some(ef);
            ef += ef / 4;
        }
        // The last step may have been twice as long as it must be.
        let middle = too_short.map(|short| usize::midpoint(short, ef));
        if let Some(middle) = middle.filter(|middle| is_tried(ef) && reached(*middle) >= f64::from(aim)) {
            ef = middle;
        }
        *need = if ef <= EF_MOST { ef as u16 } else { NEVER };
    }
    needs
}

/// The score of the last of the best ten of each question, and how many rows there are; `None` where there are too few or it
/// was told to stop.
fn bars(
    comparison: &Comparison<'_, CodedRows<'_>>,
    probes: &[Probe],
    mut rows: impl Iterator<Item = u32>,
    stop: &Stop,
) -> Option<(Vec<f32>, u32)> {
    let mut nearest = vec![[f32::NEG_INFINITY; K]; probes.len()];
    let mut block = Vec::with_capacity(BLOCK);
    let mut scores = [0.0_f32; BLOCK];
    let mut count = 0;
    loop {
        block.clear();
        block.extend(rows.by_ref().take(BLOCK));
        if block.is_empty() {
            break;
        }
        if stop.is_set() {
            return None;
        }
        count += block.len() as u32;
        for (probe, nearest) in probes.iter().zip(&mut nearest) {
            let scores = &mut scores[..block.len()];
            comparison.scores(probe, &block, scores);
            for score in scores {
                if *score > nearest[K - 1] {
                    let place = nearest.partition_point(|other| other >= score);
                    nearest[place..].rotate_right(1);
                    nearest[place] = *score;
                }
            }
        }
    }
    let bars: Vec<f32> = nearest.iter().map(|nearest| nearest[K - 1]).collect();
    (count as usize >= K && !bars.is_empty()).then_some((bars, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_raises_the_formula_at_its_aims_and_between_them_and_never_lowers_it() {
        let rows = 100_000;
        let formula = |recall| Needs::default().ef(recall, K, rows);
        assert_eq!(
            [0.9, 0.95, 0.99, 0.999].map(formula),
            [28, 40, 89, 279],
            "what a graph that was not measured is walked with"
        );
        let needs = Needs([20, 60, 200, 300, 800]);
        let measured = |recall| needs.ef(recall, K, rows);
        assert_eq!(
            [0.9, 0.95, 0.99, 0.995, 0.999].map(measured),
            [28, 60, 200, 300, 800]
        );
        assert_eq!(measured(0.7), formula(0.7));
        assert!((61..200).contains(&measured(0.97)), "{}", measured(0.97));
        assert!(measured(0.9999) > 2_000);
        // As much more for other numbers of neighbours, and never fewer than are wanted.
        assert_eq!(needs.ef(0.99, 100, rows), 740);
        assert_eq!(needs.ef(0.5, 5_000, rows), 5_000);
        let recalls: Vec<usize> = (50..1_000)
            .map(|thousandth| measured(thousandth as f32 / 1e3))
            .collect();
        assert!(recalls.is_sorted());
        assert_eq!(Needs::from_bytes(needs.to_bytes()), needs);
        assert!(Needs([0, 0, 0, 0, NEVER]).ef(0.999, K, rows) > 60_000);
    }

    #[test]
    fn questions_are_spread_over_the_rows_and_few_of_them() {
        for rows in [0, 1, 4_095] {
            let is_held = held_back(rows);
            assert!((0..rows).all(|row| !is_held(row)));
        }
        for rows in [4_096, 5_000, 100_003] {
            let is_held = held_back(rows);
            let held: Vec<usize> = (0..rows).filter(|row| is_held(*row)).collect();
            assert_eq!(held.len(), QUESTIONS);
            let widest = held.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(widest.is_some_and(|widest| widest < 2 * (rows / QUESTIONS)));
        }
    }
}
