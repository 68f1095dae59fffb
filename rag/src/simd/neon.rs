//! The kernels for ARM's NEON.

use std::arch::aarch64::{
    vaddvq_s32, vdupq_n_s32, vget_high_s16, vget_low_s16, vld1_s8, vld1_u8, vmlal_s16, vmovl_s8, vmovl_u8,
    vreinterpretq_s16_u16,
};

#[target_feature(enable = "neon")]
pub(super) fn dot_codes(codes: &[u8], query: &[i8], out: &mut [i32]) {
    let dim = query.len();
    let whole = dim / 8 * 8;
    for (row, out) in codes.chunks_exact(dim).zip(out) {
        let mut sum = vdupq_n_s32(0);
        let mut at = 0;
        while at < whole {
            // SAFETY: at + 8 <= whole <= dim, the length of both slices.
            let (left, right) = unsafe { (vld1_u8(row.as_ptr().add(at)), vld1_s8(query.as_ptr().add(at))) };
            let (left, right) = (vreinterpretq_s16_u16(vmovl_u8(left)), vmovl_s8(right));
            sum = vmlal_s16(sum, vget_low_s16(left), vget_low_s16(right));
            sum = vmlal_s16(sum, vget_high_s16(left), vget_high_s16(right));
            at += 8;
        }
        let rest: i32 = row[whole..]
            .iter()
            .zip(&query[whole..])
            .map(|(code, value)| i32::from(*code) * i32::from(*value))
            .sum();
        *out = vaddvq_s32(sum) + rest;
    }
}
