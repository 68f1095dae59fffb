//! The loop over bytes in AVX-VNNI, which processors without AVX-512 may have: 32 products per instruction.

use super::{COLUMNS, Codes, Cpu, Lanes, ROWS, Work, avx2, avx2::Avx2};
use std::arch::x86_64::{_mm256_dpbusd_avx_epi32, _mm256_set1_epi32, _mm256_setzero_si256};

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvxVnni(Avx2);

impl AvxVnni {
    pub(crate) fn detect() -> Option<Self> {
        Avx2::detect()
            .filter(|_| is_x86_feature_detected!("avxvnni"))
            .map(Self)
    }

    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn run<W: Work>(cpu: AvxVnni, work: W) -> W::Output {
            work.run(cpu)
        }
        // SAFETY: `detect` saw all of them.
        unsafe { run(self, work) }
    }
}

impl Cpu for AvxVnni {
    /// Six rows of two vectors are twelve sums: enough to wait for none of them.
    const ROWS: usize = 6;

    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn dot(self, rows: &[[u8; 4]], panel: &[Codes], sums: &mut [[i32; COLUMNS]]) {
        // SAFETY: `detect` saw the instructions.
        unsafe {
            match sums.len() {
                1 => dot::<1>(rows, panel, sums),
                2 => dot::<2>(rows, panel, sums),
                3 => dot::<3>(rows, panel, sums),
                4 => dot::<4>(rows, panel, sums),
                5 => dot::<5>(rows, panel, sums),
                _ => dot::<6>(rows, panel, sums),
            }
        }
    }

    #[inline(always)]
    fn blend(self, rows: [&[f32]; ROWS], right: &[Lanes], sums: &mut [Lanes; ROWS]) {
        self.0.blend(rows, right, sums);
    }
}

#[target_feature(enable = "avx2,avxvnni")]
fn dot<const N: usize>(rows: &[[u8; 4]], panel: &[Codes], out: &mut [[i32; COLUMNS]]) {
    let depth = panel.len();
    let mut left: [&[[u8; 4]]; N] = [&[]; N];
    for row in 0..N {
        left[row] = &rows[row * depth..][..depth];
    }
    for quarter in 0..4 {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for (at, step) in panel.iter().enumerate() {
            let eights = step.0.as_chunks().0;
            let columns = [
                avx2::load_codes(&eights[quarter * 2]),
                avx2::load_codes(&eights[quarter * 2 + 1]),
            ];
            for row in 0..N {
                let four = _mm256_set1_epi32(i32::from_le_bytes(left[row][at]));
                for half in 0..2 {
                    sums[row][half] = _mm256_dpbusd_avx_epi32(sums[row][half], four, columns[half]);
                }
            }
        }
        for row in 0..N {
            let eights = out[row].as_chunks_mut().0;
            avx2::store_sums(&mut eights[quarter * 2], sums[row][0]);
            avx2::store_sums(&mut eights[quarter * 2 + 1], sums[row][1]);
        }
    }
}
