//! The loops for any processor, and what the others are tested against.

use super::{COLUMNS, Codes, Cpu, LANES, Lanes, ROWS};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Cpu for Portable {
    const ROWS: usize = 8;

    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    fn dot(self, rows: &[[u8; 4]], panel: &[Codes], sums: &mut [[i32; COLUMNS]]) {
        sums.fill([0; COLUMNS]);
        for (at, step) in panel.iter().enumerate() {
            // Columns side by side in 16 bits, which hold two products: compilers make vectors of that.
            let mut weights = [[0; COLUMNS]; 4];
            for column in 0..COLUMNS {
                for part in 0..4 {
                    weights[part][column] = i16::from(step.0[column][part]);
                }
            }
            for (row, sums) in rows.chunks_exact(panel.len()).zip(&mut *sums) {
                let [a, b, c, d] = row[at].map(i16::from);
                for column in 0..COLUMNS {
                    let one = a * weights[0][column] + b * weights[1][column];
                    let two = c * weights[2][column] + d * weights[3][column];
                    sums[column] += i32::from(one) + i32::from(two);
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
