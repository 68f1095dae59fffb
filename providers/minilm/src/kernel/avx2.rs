//! The loops in AVX2 and FMA: 32 products of bytes, or 8 of floats, per instruction.

use super::{COLUMNS, Codes, Cpu, Lanes, ROWS, Work};
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_storeu_si256,
};

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,fma")]
        fn run<W: Work>(cpu: Avx2, work: W) -> W::Output {
            work.run(cpu)
        }
        // SAFETY: `detect` saw both.
        unsafe { run(self, work) }
    }
}

impl Cpu for Avx2 {
    /// Four rows of two vectors are eight sums; the other half of the registers holds what is multiplied.
    const ROWS: usize = 4;

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
                _ => dot::<4>(rows, panel, sums),
            }
        }
    }

    #[inline(always)]
    fn blend(self, rows: [&[f32]; ROWS], right: &[Lanes], sums: &mut [Lanes; ROWS]) {
        // SAFETY: `detect` saw the instructions.
        unsafe { blend(rows, right, sums) }
    }
}

#[target_feature(enable = "avx2")]
fn dot<const N: usize>(rows: &[[u8; 4]], panel: &[Codes], out: &mut [[i32; COLUMNS]]) {
    let depth = panel.len();
    let mut left: [&[[u8; 4]]; N] = [&[]; N];
    for row in 0..N {
        left[row] = &rows[row * depth..][..depth];
    }
    let ones = _mm256_set1_epi16(1);
    for quarter in 0..4 {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for (at, step) in panel.iter().enumerate() {
            let eights = step.0.as_chunks().0;
            let columns = [
                load_codes(&eights[quarter * 2]),
                load_codes(&eights[quarter * 2 + 1]),
            ];
            for row in 0..N {
                let four = _mm256_set1_epi32(i32::from_le_bytes(left[row][at]));
                for half in 0..2 {
                    // Two products of 8 and 7 bits each, which 16 bits hold, then two of those sums.
                    let pairs = _mm256_maddubs_epi16(four, columns[half]);
                    sums[row][half] = _mm256_add_epi32(sums[row][half], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for row in 0..N {
            let eights = out[row].as_chunks_mut().0;
            store_sums(&mut eights[quarter * 2], sums[row][0]);
            store_sums(&mut eights[quarter * 2 + 1], sums[row][1]);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn blend(rows: [&[f32]; ROWS], right: &[Lanes], out: &mut [Lanes; ROWS]) {
    let mut left: [&[f32]; ROWS] = [&[]; ROWS];
    for row in 0..ROWS {
        left[row] = &rows[row][..right.len()];
    }
    // Four rows and 16 lanes at a time are eight sums.
    for first in (0..ROWS).step_by(4) {
        for half in 0..2 {
            let mut sums = [[_mm256_setzero_ps(); 2]; 4];
            for (at, lanes) in right.iter().enumerate() {
                let eights = lanes.0.as_chunks().0;
                let eights = [load_floats(&eights[half * 2]), load_floats(&eights[half * 2 + 1])];
                for row in 0..4 {
                    let weight = _mm256_set1_ps(left[first + row][at]);
                    for part in 0..2 {
                        sums[row][part] = _mm256_fmadd_ps(weight, eights[part], sums[row][part]);
                    }
                }
            }
            for row in 0..4 {
                let eights = out[first + row].0.as_chunks_mut().0;
                store_floats(&mut eights[half * 2], sums[row][0]);
                store_floats(&mut eights[half * 2 + 1], sums[row][1]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_codes(codes: &[[i8; 4]; 8]) -> __m256i {
    // SAFETY: the array has the 32 bytes that are read.
    unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_floats(floats: &[f32; 8]) -> __m256 {
    // SAFETY: the array has the 32 bytes that are read.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_sums(out: &mut [i32; 8], sums: __m256i) {
    // SAFETY: the array has the 32 bytes that are written.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_floats(out: &mut [f32; 8], sums: __m256) {
    // SAFETY: the array has the 32 bytes that are written.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) }
}
