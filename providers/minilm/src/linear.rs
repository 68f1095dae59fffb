//! [`Linear`]: a matrix of 7-bit weights, packed for the kernels, with a scale and a bias per column.

use crate::{
    Error,
    kernel::{COLUMNS, Codes, Cpu},
    onnx::Tensors,
    rows::Rows,
};
use std::ops::Range;

pub(crate) struct Linear {
    /// Steps per panel: a step is four inputs of [`COLUMNS`] outputs.
    depth: usize,
    codes: Vec<Codes>,
    columns: Vec<Columns>,
}

/// What a panel's outputs need beside the products.
#[derive(Clone)]
struct Columns {
    /// The column's weights in all: what a zero point of 1 adds to the sum of products.
    sum: [i32; COLUMNS],
    scale: [f32; COLUMNS],
    bias: [f32; COLUMNS],
}

impl Linear {
    /// `bias` and `factor` are per output, or empty.
    pub(crate) fn read(
        tensors: &Tensors<'_>,
        name: &str,
        shape: [usize; 2],
        bias: &[f32],
    ) -> Result<Self, Error> {
        let weights = tensors.bytes(name, &shape)?;
        let scales = tensors.floats(&format!("{name}.scale"), &shape[1..])?;
        let [inputs, outputs] = shape;
        let depth = inputs / 4;
        let mut codes = Vec::with_capacity(outputs / COLUMNS * depth);
        let mut columns = Vec::with_capacity(outputs / COLUMNS);
        for first in (0..outputs).step_by(COLUMNS) {
            let mut panel = Columns {
                sum: [0; COLUMNS],
                scale: [0.0; COLUMNS],
                bias: [0.0; COLUMNS],
            };
            panel.scale.copy_from_slice(&scales[first..][..COLUMNS]);
            if !bias.is_empty() {
                panel.bias.copy_from_slice(&bias[first..][..COLUMNS]);
            }
            for step in 0..depth {
                let mut four = Codes([[0; 4]; COLUMNS]);
                for part in 0..4 {
                    let row = &weights[(step * 4 + part) * outputs + first..][..COLUMNS];
                    for (column, &weight) in row.iter().enumerate() {
                        let weight = weight.cast_signed();
                        four.0[column][part] = weight;
                        panel.sum[column] += i32::from(weight);
                    }
                }
                codes.push(four);
            }
            columns.push(panel);
        }
        if codes
            .iter()
            .flat_map(|step| step.0.as_flattened())
            .any(|weight| !(-63..=63).contains(weight))
        {
            return Err(Error(format!("`{name}` has weights of more than 7 bits")));
        }
        Ok(Self {
            depth,
            codes,
            columns,
        })
    }

    pub(crate) fn panels(&self) -> Range<usize> {
        0..self.columns.len()
    }

    /// Multiplies rows with some panels; `take` gets row, first column and the values.
    #[inline(always)]
    pub(crate) fn multiply<C: Cpu>(
        &self,
        cpu: C,
        input: &Rows,
        rows: Range<usize>,
        panels: Range<usize>,
        mut take: impl FnMut(usize, usize, &[f32; COLUMNS]),
    ) {
        let mut sums = [[0; COLUMNS]; 8];
        for panel in panels {
            let codes = &self.codes[panel * self.depth..][..self.depth];
            let columns = &self.columns[panel];
            for first in rows.clone().step_by(C::ROWS) {
                let count = C::ROWS.min(rows.end - first);
                let sums = &mut sums[..count];
                cpu.dot(input.codes(first, count), codes, sums);
                for (row, sums) in (first..).zip(sums) {
                    let scale = input.scale(row);
                    let zero = scale.zero - C::OFFSET;
                    let mut values = [0.0; COLUMNS];
                    for column in 0..COLUMNS {
                        let sum = sums[column] - zero * columns.sum[column];
                        values[column] = cpu.fma(
                            sum as f32,
                            scale.step * columns.scale[column],
                            columns.bias[column],
                        );
                    }
                    take(row, panel * COLUMNS, &values);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Linear;
    use crate::{
        kernel::{COLUMNS, Cpu, Processor, Work},
        noise::Noise,
        onnx::{Tensors, tests as file},
        rows::Rows,
    };

    const INPUTS: usize = 64;
    const OUTPUTS: usize = 2 * COLUMNS;

    struct Multiply<'a> {
        linear: &'a Linear,
        rows: &'a [Vec<f32>],
    }

    impl Work for Multiply<'_> {
        /// The product, and the rows as they were rounded.
        type Output = (Vec<f32>, Vec<Vec<f64>>);

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> Self::Output {
            let mut input = Rows::new(self.rows.len(), INPUTS);
            let mut rounded = Vec::new();
            for (at, row) in self.rows.iter().enumerate() {
                input.quantise(cpu, at, row);
                let scale = input.scale(at);
                let codes = input.codes(at, 1).as_flattened().iter();
                rounded.push(
                    codes
                        .map(|&code| f64::from(i32::from(code) - scale.zero) * f64::from(scale.step))
                        .collect(),
                );
            }
            let mut out = vec![f32::NAN; self.rows.len() * OUTPUTS];
            self.linear.multiply(
                cpu,
                &input,
                0..self.rows.len(),
                self.linear.panels(),
                |row, column, values| {
                    out[row * OUTPUTS + column..][..COLUMNS].copy_from_slice(values);
                },
            );
            (out, rounded)
        }
    }

    #[test]
    fn rows_are_multiplied_scaled_and_shifted_on_every_processor() {
        let mut noise = Noise::new(6);
        let weights: Vec<i8> = (0..INPUTS * OUTPUTS).map(|_| noise.weight()).collect();
        let (scales, bias) = (noise.floats(OUTPUTS), noise.floats(OUTPUTS));
        let parts = [
            file::bytes("m", &[INPUTS, OUTPUTS], &weights),
            file::floats("m.scale", &[OUTPUTS], &scales),
        ];
        let file = file::file(&parts);
        let tensors = Tensors::read(&file).expect("reads");
        let linear = Linear::read(&tensors, "m", [INPUTS, OUTPUTS], &bias).expect("reads");
        for count in [1, 5, 6, 7, 12, 25] {
            let rows: Vec<_> = (0..count).map(|_| noise.floats(INPUTS)).collect();
            for processor in Processor::all() {
                let (found, rounded) = processor.run(Multiply {
                    linear: &linear,
                    rows: &rows,
                });
                for (row, found) in rounded.iter().zip(found.chunks(OUTPUTS)) {
                    for column in 0..OUTPUTS {
                        let weights = (0..INPUTS).map(|input| f64::from(weights[input * OUTPUTS + column]));
                        let sum: f64 = row
                            .iter()
                            .zip(weights)
                            .map(|(value, weight)| value * weight)
                            .sum();
                        let want = sum * f64::from(scales[column]) + f64::from(bias[column]);
                        let off = (f64::from(found[column]) - want).abs();
                        assert!(
                            off < 1e-3,
                            "{processor:?}, {count} rows: {} for {want}",
                            found[column]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn weights_that_the_kernels_cannot_hold_are_refused() {
        let mut weights = vec![0; INPUTS * OUTPUTS];
        weights[7] = 64;
        let parts = [
            file::bytes("m", &[INPUTS, OUTPUTS], &weights),
            file::floats("m.scale", &[OUTPUTS], &[1.0; OUTPUTS]),
        ];
        let file = file::file(&parts);
        let refused = Linear::read(&Tensors::read(&file).expect("reads"), "m", [INPUTS, OUTPUTS], &[]);
        assert!(refused.err().expect("is refused").to_string().contains("7 bits"));
    }
}
