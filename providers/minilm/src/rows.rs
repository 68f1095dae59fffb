//! [`Rows`]: activations as bytes, each row with a scale and a zero point of its own.

use crate::{
    fold::{greatest, least},
    kernel::Cpu,
};

/// 1.5 · 2²³: adding it rounds to a whole number, which then stands in the lowest bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// value ≈ scale · (code − zero).
pub(crate) struct Rows {
    /// Codes per row, in fours: what one step of the product reads.
    depth: usize,
    codes: Vec<[u8; 4]>,
    scales: Vec<Scale>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Scale {
    pub(crate) step: f32,
    pub(crate) zero: i32,
}

impl Rows {
    pub(crate) fn new(count: usize, width: usize) -> Self {
        let depth = width / 4;
        Self {
            depth,
            codes: vec![[0; 4]; count * depth],
            scales: vec![Scale::default(); count],
        }
    }

    pub(crate) fn scale(&self, row: usize) -> Scale {
        self.scales[row]
    }

    /// The codes of `count` rows, one after another.
    pub(crate) fn codes(&self, row: usize, count: usize) -> &[[u8; 4]] {
        &self.codes[row * self.depth..][..count * self.depth]
    }

    /// Rounds a row. The range always holds 0, so that 0 stays 0; a row of zeros has codes of 0.
    #[inline(always)]
    pub(crate) fn quantise<C: Cpu>(&mut self, cpu: C, row: usize, values: &[f32]) {
        let low = least(values, 0.0);
        let high = greatest(values, 0.0);
        let range = high - low;
        let (step, per_step) = if range > 0.0 {
            (range / 255.0, 255.0 / range)
        } else {
            (1.0, 1.0)
        };
        let zero = (-low * per_step).round_ties_even();
        self.scales[row] = Scale {
            step,
            zero: zero as i32,
        };

        let codes = self.codes[row * self.depth..][..self.depth].as_flattened_mut();
        for (code, value) in codes.iter_mut().zip(values) {
            let exact = cpu.fma(*value, per_step, zero);
            let exact = if exact > 255.0 { 255.0 } else { exact };
            let exact = if exact < 0.0 { 0.0 } else { exact };
            // No bits are left behind the point then, and the lowest byte is the number.
            *code = (exact + ROUND).to_bits() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rows;
    use crate::{
        kernel::{Cpu, Processor, Work},
        noise::Noise,
    };

    struct Quantise<'a>(&'a [f32]);

    impl Work for Quantise<'_> {
        type Output = (Vec<u8>, f32, i32);

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> Self::Output {
            let mut rows = Rows::new(2, self.0.len());
            rows.quantise(cpu, 1, self.0);
            assert!(
                rows.codes(0, 1).as_flattened().iter().all(|&code| code == 0),
                "the other row is left alone"
            );
            let scale = rows.scale(1);
            (rows.codes(1, 1).as_flattened().to_vec(), scale.step, scale.zero)
        }
    }

    #[test]
    fn a_code_is_within_half_a_step_of_its_value() {
        let mut noise = Noise::new(3);
        for (shift, width) in [(0.0, 384), (5.0, 384), (-5.0, 1536), (0.9, 1536)] {
            for size in [1e-6, 1.0, 1e6] {
                let values: Vec<f32> = (0..width).map(|_| (noise.float() + shift) * size).collect();
                for processor in Processor::all() {
                    let (codes, step, zero) = processor.run(Quantise(&values));
                    for (code, value) in codes.iter().zip(&values) {
                        let again = (i32::from(*code) - zero) as f32 * step;
                        // The zero point is rounded too: a value at the end of the range may be half a step beyond it.
                        assert!(
                            (again - value).abs() <= step * 1.001,
                            "{processor:?}: {again} for {value}"
                        );
                    }
                    let sum: f32 = codes
                        .iter()
                        .zip(&values)
                        .map(|(code, value)| ((i32::from(*code) - zero) as f32 * step - value).abs())
                        .sum();
                    assert!(
                        sum / width as f32 <= step * 0.3,
                        "a quarter of a step on the average, not {}",
                        sum / width as f32 / step
                    );
                }
            }
        }
    }

    #[test]
    fn the_whole_range_is_used_and_zero_stays_zero() {
        let mut values = [0.0; 64];
        (values[3], values[40]) = (-1.0, 3.0);
        for processor in Processor::all() {
            let (codes, step, zero) = processor.run(Quantise(&values));
            assert_eq!(
                (codes[3], codes[40], i32::from(codes[0])),
                (0, 255, zero),
                "{processor:?}"
            );
            assert!((step - 4.0 / 255.0).abs() < 1e-6);
            let (codes, step, zero) = processor.run(Quantise(&[0.0; 64]));
            assert_eq!((codes, step, zero), (vec![0; 64], 1.0, 0), "{processor:?}");
        }
    }
}
