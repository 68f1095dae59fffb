//! The loops for any processor, and what the others are tested against.

use super::{COLUMNS, Codes, Cpu, LANES, Lanes, ROWS};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Cpu for Portable {
    const ROWS: usize = 4;

    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    fn dot(self, rows: &[[u8; 4]], panel: &[Codes], sums: &mut [[i32; COLUMNS]]) {
        for (row, sums) in rows.chunks_exact(panel.len()).zip(sums) {
            *sums = [0; COLUMNS];
            for (four, step) in row.iter().zip(panel) {
                let four = four.map(i16::from);
                for column in 0..COLUMNS {
                    let weights = step.0[column].map(i16::from);
                    // Two products fit into 16 bits.
                    sums[column] += i32::from(four[0] * weights[0] + four[1] * weights[1])
                        + i32::from(four[2] * weights[2] + four[3] * weights[3]);
                }
            }
        }
    }

    fn blend(self, rows: [&[f32]; ROWS], right: &[Lanes], sums: &mut [Lanes; ROWS]) {
        for (row, sums) in rows.into_iter().zip(sums) {
            sums.0 = [0.0; LANES];
            for (weight, right) in row.iter().zip(right) {
                for lane in 0..LANES {
                    sums.0[lane] += weight * right.0[lane];
                }
            }
        }
    }
}
