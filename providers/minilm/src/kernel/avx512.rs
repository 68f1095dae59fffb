//! The loops in AVX-512 with VNNI: 64 products of bytes, or 16 of floats, per instruction.

use super::{COLUMNS, Codes, Cpu, Lanes, ROWS, Work};
use std::arch::x86_64::{
    __m512, __m512i, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    _mm512_storeu_si512,
};

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("fma"))
        .then_some(Self(()))
    }

    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
        fn run<W: Work>(cpu: Avx512, work: W) -> W::Output {
            work.run(cpu)
        }
        // SAFETY: `detect` saw all of them.
        unsafe { run(self, work) }
    }
}

impl Cpu for Avx512 {
    /// Six rows of four vectors are 24 sums, which leaves four registers for the panel and one for a row.
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
        // SAFETY: `detect` saw the instructions.
        unsafe { blend(rows, right, sums) }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn dot<const N: usize>(rows: &[[u8; 4]], panel: &[Codes], out: &mut [[i32; COLUMNS]]) {
    let depth = panel.len();
    let mut left: [&[[u8; 4]]; N] = [&[]; N];
    for row in 0..N {
        left[row] = &rows[row * depth..][..depth];
    }
    let mut sums = [[_mm512_setzero_si512(); 4]; N];
    for (at, step) in panel.iter().enumerate() {
        let quarters = step.0.as_chunks::<16>().0;
        let columns = [
            load_codes(&quarters[0]),
            load_codes(&quarters[1]),
            load_codes(&quarters[2]),
            load_codes(&quarters[3]),
        ];
        for row in 0..N {
            let four = _mm512_set1_epi32(i32::from_le_bytes(left[row][at]));
            for part in 0..4 {
                sums[row][part] = _mm512_dpbusd_epi32(sums[row][part], four, columns[part]);
            }
        }
    }
    for row in 0..N {
        for (part, out) in out[row].as_chunks_mut().0.iter_mut().enumerate() {
            store_sums(out, sums[row][part]);
        }
    }
}

#[target_feature(enable = "avx512f")]
fn blend(rows: [&[f32]; ROWS], right: &[Lanes], out: &mut [Lanes; ROWS]) {
    let mut left: [&[f32]; ROWS] = [&[]; ROWS];
    for row in 0..ROWS {
        left[row] = &rows[row][..right.len()];
    }
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (at, lanes) in right.iter().enumerate() {
        let halves = lanes.0.as_chunks().0;
        let halves = [load_floats(&halves[0]), load_floats(&halves[1])];
        for row in 0..ROWS {
            let weight = _mm512_set1_ps(left[row][at]);
            for half in 0..2 {
                sums[row][half] = _mm512_fmadd_ps(weight, halves[half], sums[row][half]);
            }
        }
    }
    for row in 0..ROWS {
        for (half, out) in out[row].0.as_chunks_mut().0.iter_mut().enumerate() {
            store_floats(out, sums[row][half]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_codes(codes: &[[i8; 4]; 16]) -> __m512i {
    // SAFETY: the array has the 64 bytes that are read.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(floats: &[f32; 16]) -> __m512 {
    // SAFETY: the array has the 64 bytes that are read.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_sums(out: &mut [i32; 16], sums: __m512i) {
    // SAFETY: the array has the 64 bytes that are written.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_floats(out: &mut [f32; 16], sums: __m512) {
    // SAFETY: the array has the 64 bytes that are written.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) }
}
