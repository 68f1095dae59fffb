//! The loops in NEON with the dot product: 16 products of bytes, or 4 of floats, per instruction.

use super::{COLUMNS, Codes, Cpu, Lanes, ROWS, Work};
use std::arch::{
    aarch64::{
        float32x4_t, int8x16_t, int32x4_t, vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vld1q_f32, vld1q_s8,
        vreinterpretq_s8_s32, vst1q_f32, vst1q_s32,
    },
    asm,
};

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Self> {
        (std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod"))
        .then_some(Self(()))
    }

    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "neon,dotprod")]
        fn run<W: Work>(cpu: Neon, work: W) -> W::Output {
            work.run(cpu)
        }
        // SAFETY: `detect` saw both.
        unsafe { run(self, work) }
    }
}

impl Cpu for Neon {
    /// Four rows of four vectors are 16 sums; the other half of the registers holds what is multiplied.
    const ROWS: usize = 4;
    /// Both sides of the instruction are signed.
    const OFFSET: i32 = 128;

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

#[target_feature(enable = "neon,dotprod")]
fn dot<const N: usize>(rows: &[[u8; 4]], panel: &[Codes], out: &mut [[i32; COLUMNS]]) {
    let depth = panel.len();
    let mut left: [&[[u8; 4]]; N] = [&[]; N];
    for row in 0..N {
        left[row] = &rows[row * depth..][..depth];
    }
    for quarter in 0..4 {
        let mut sums = [[vdupq_n_s32(0); 4]; N];
        for (at, step) in panel.iter().enumerate() {
            let fours = step.0.as_chunks().0;
            let columns = [
                load_codes(&fours[quarter * 4]),
                load_codes(&fours[quarter * 4 + 1]),
                load_codes(&fours[quarter * 4 + 2]),
                load_codes(&fours[quarter * 4 + 3]),
            ];
            for row in 0..N {
                // Turning the highest bit takes 128 from each code.
                let four = i32::from_le_bytes(left[row][at]) ^ i32::from_le_bytes([0x80; 4]);
                let four = vreinterpretq_s8_s32(vdupq_n_s32(four));
                for part in 0..4 {
                    sums[row][part] = sdot(sums[row][part], four, columns[part]);
                }
            }
        }
        for row in 0..N {
            let fours = out[row].as_chunks_mut().0;
            for part in 0..4 {
                store_sums(&mut fours[quarter * 4 + part], sums[row][part]);
            }
        }
    }
}

#[target_feature(enable = "neon")]
fn blend(rows: [&[f32]; ROWS], right: &[Lanes], out: &mut [Lanes; ROWS]) {
    let mut left: [&[f32]; ROWS] = [&[]; ROWS];
    for row in 0..ROWS {
        left[row] = &rows[row][..right.len()];
    }
    // Four rows and 16 lanes at a time are 16 sums.
    for first in (0..ROWS).step_by(4) {
        for half in 0..2 {
            let mut sums = [[vdupq_n_f32(0.0); 4]; 4];
            for (at, lanes) in right.iter().enumerate() {
                let fours = lanes.0.as_chunks().0;
                let fours = [
                    load_floats(&fours[half * 4]),
                    load_floats(&fours[half * 4 + 1]),
                    load_floats(&fours[half * 4 + 2]),
                    load_floats(&fours[half * 4 + 3]),
                ];
                for row in 0..4 {
                    let weight = vdupq_n_f32(left[first + row][at]);
                    for part in 0..4 {
                        sums[row][part] = vfmaq_f32(sums[row][part], weight, fours[part]);
                    }
                }
            }
            for row in 0..4 {
                let fours = out[first + row].0.as_chunks_mut().0;
                for part in 0..4 {
                    store_floats(&mut fours[half * 4 + part], sums[row][part]);
                }
            }
        }
    }
}

/// To each sum the products of four bytes of the one side with four of the other.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sums: int32x4_t, left: int8x16_t, right: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is there by the function's features; it changes the one register that is named.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {left:v}.16b, {right:v}.16b",
            sums = inout(vreg) sums,
            left = in(vreg) left,
            right = in(vreg) right,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[inline]
#[target_feature(enable = "neon")]
fn load_codes(codes: &[[i8; 4]; 4]) -> int8x16_t {
    // SAFETY: the array has the 16 bytes that are read.
    unsafe { vld1q_s8(codes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_floats(floats: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array has the 16 bytes that are read.
    unsafe { vld1q_f32(floats.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_sums(out: &mut [i32; 4], sums: int32x4_t) {
    // SAFETY: the array has the 16 bytes that are written.
    unsafe { vst1q_s32(out.as_mut_ptr(), sums) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_floats(out: &mut [f32; 4], sums: float32x4_t) {
    // SAFETY: the array has the 16 bytes that are written.
    unsafe { vst1q_f32(out.as_mut_ptr(), sums) }
}
