//! The kernels for any processor: what the others are held to.

pub(super) fn dot_codes(codes: &[u8], query: &[i8], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(query.len()).zip(out) {
        *out = row
            .iter()
            .zip(query)
            .map(|(code, value)| i32::from(*code) * i32::from(*value))
            .sum();
    }
}

/// Squared differences with `DISTANCE`, products without.
fn fold<const DISTANCE: bool>(row: impl Iterator<Item = f32>, query: &[f32]) -> f32 {
    row.zip(query)
        .map(|(left, right)| {
            if DISTANCE {
                (left - right) * (left - right)
            } else {
                left * right
            }
        })
        .sum()
}

pub(super) fn fold_fine<const DISTANCE: bool>(codes: &[u8], low: &[u8], step: f32, query: &[f32]) -> f32 {
    let row = codes.iter().zip(low);
    fold::<DISTANCE>(
        row.map(|(code, low)| super::fine_steps(*code, *low) as f32 * step),
        query,
    )
}

pub(super) fn fold_f32<const DISTANCE: bool>(row: &[u8], query: &[f32]) -> f32 {
    let row = row.as_chunks::<4>().0.iter();
    fold::<DISTANCE>(row.map(|four| f32::from_le_bytes(*four)), query)
}

pub(super) fn reached(scores: &[f32], bar: f32) -> u64 {
    let mut bytes = [0_u8; 64];
    match <&[f32; 64]>::try_from(scores) {
        // Of a length that is known, many are compared at once.
        Ok(scores) => (0..64).for_each(|at| bytes[at] = u8::from(scores[at] >= bar)),
        Err(_) => (bytes.iter_mut().zip(scores)).for_each(|(byte, score)| *byte = u8::from(*score >= bar)),
    }
    let (eights, _) = bytes.as_chunks::<8>();
    eights.iter().enumerate().fold(0, |bits, (at, eight)| {
        // The lowest bits of eight bytes come together in the highest byte of the product.
        let together = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits | together << (at * 8)
    })
}
