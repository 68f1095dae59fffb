//! What takes many numbers at once: dot products (int8 codes with int8 queries, 16-bit and f32 rows with f32 queries), and
//! which scores reach a bar.
//!
//! The only room of the crate with `unsafe`: the intrinsics read memory through pointers and need instructions that
//! not every processor has. Two arguments carry every use. *Instructions*: a `Level` other than `Portable` is made in
//! `Level::detect` alone, after the processor said that it has them. *Memory*: each kernel reads whole vectors only
//! below the length of the slice it was given, unaligned loads only, and the rest by index, under a mask or from a copy.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

/// The instruction set that the kernels use; see the file's comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if has_avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
            {
                return Self::Vnni;
            }
            if has_avx2 {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::Neon;
        }
        Self::Portable
    }
}

/// The kernels of this processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    level: Level,
}

/// Chosen once per process.
pub(crate) fn kernels() -> Kernels {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    Kernels {
        level: *LEVEL.get_or_init(Level::detect),
    }
}

/// A question's codes, with what the kernels need of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueryCodes {
    codes: Vec<i8>,
    /// Σ 128·code: what stored codes, which are 128 more, add to every sum.
    offset: i32,
    /// Σ of the codes below zero: what the sums of AVX2, and of nothing else, are too large by.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    below_zero: i32,
}

impl QueryCodes {
    /// Takes over codes as a row stores them.
    pub(crate) fn set(&mut self, stored: &[u8]) {
        self.codes.clear();
        #[allow(clippy::cast_possible_wrap)] // the flip of the top bit turns 1..=255 into -127..=127
        self.codes.extend(stored.iter().map(|code| (code ^ 0x80) as i8));
        let codes = self.codes.iter().map(|code| i32::from(*code));
        self.offset = codes.clone().map(|code| 128 * code).sum();
        self.below_zero = codes.map(|code| code.min(0)).sum();
    }

    pub(crate) fn codes(&self) -> &[i8] {
        &self.codes
    }
}

/// Asks for memory that is read soon. A hint: nothing is read, and no address is wrong.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        // SAFETY: every x86-64 has the instruction, and it never faults.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

impl Kernels {
    /// Σ (code - 128)·query for each row of `codes`, which holds `out.len()` rows.
    pub(crate) fn dot_codes(self, codes: &[u8], query: &QueryCodes, out: &mut [i32]) {
        self.sum_codes(codes, query, out);
        self.subtract_excess(query, out);
    }

    /// The sums as the kernels give them.
    fn sum_codes(self, codes: &[u8], query: &QueryCodes, out: &mut [i32]) {
        let query = &query.codes;
        assert_eq!(codes.len(), query.len() * out.len(), "codes are whole rows");
        if query.is_empty() {
            out.fill(0);
            return;
        }
        match self.level {
            Level::Portable => portable::dot_codes(codes, query, out),
            // SAFETY: `detect` saw avx2 on this processor.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { x86::dot_codes_avx2(codes, query, out) },
            // SAFETY: `detect` saw avx512f, avx512bw and avx512vnni on this processor.
            #[cfg(target_arch = "x86_64")]
            Level::Vnni => unsafe { x86::dot_codes_vnni(codes, query, out) },
            // SAFETY: `detect` saw neon on this processor.
            #[cfg(target_arch = "aarch64")]
            Level::Neon => unsafe { neon::dot_codes(codes, query, out) },
        }
    }

    /// Σ (code - 128)·query for rows that lie apart, as a walk through a graph meets them.
    pub(crate) fn dot_rows(self, rows: &[&[u8]], query: &QueryCodes, out: &mut [i32]) {
        assert_eq!(rows.len(), out.len(), "one sum per row");
        assert!(
            rows.iter().all(|row| row.len() == query.codes.len()),
            "codes are whole rows"
        );
        match self.level {
            // SAFETY: `detect` saw avx2 on this processor.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { x86::dot_rows_avx2(rows, &query.codes, out) },
            // SAFETY: `detect` saw avx512f, avx512bw and avx512vnni on this processor.
            #[cfg(target_arch = "x86_64")]
            Level::Vnni => unsafe { x86::dot_rows_vnni(rows, &query.codes, out) },
            _ => {
                for (at, row) in rows.iter().enumerate() {
                    if let Some(next) = rows.get(at + 2) {
                        prefetch(next);
                    }
                    self.sum_codes(row, query, &mut out[at..=at]);
                }
            }
        }
        self.subtract_excess(query, out);
    }

    /// What a kernel's sums are too large by, the same for every row.
    fn subtract_excess(self, query: &QueryCodes, out: &mut [i32]) {
        let excess = match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => query.below_zero,
            _ => query.offset,
        };
        for sum in out {
            *sum -= excess;
        }
    }

    /// Σ row·query, the row being codes with their scale and low bytes.
    pub(crate) fn dot_fine(self, codes: &[u8], low: &[u8], scale: f32, query: &[f32]) -> f32 {
        self.fold_fine::<false>(codes, low, 1.0, query) * (scale / 256.0)
    }

    /// Σ (row - query)², the row being codes with their scale and low bytes.
    pub(crate) fn distance_fine(self, codes: &[u8], low: &[u8], scale: f32, query: &[f32]) -> f32 {
        self.fold_fine::<true>(codes, low, scale / 256.0, query)
    }

    fn fold_fine<const DISTANCE: bool>(self, codes: &[u8], low: &[u8], step: f32, query: &[f32]) -> f32 {
        assert!(
            codes.len() == query.len() && low.len() == query.len(),
            "a code and a byte per component"
        );
        match self.level {
            // SAFETY: `detect` saw avx2 and fma on this processor, for both levels.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Vnni => unsafe { x86::fold_fine::<DISTANCE>(codes, low, step, query) },
            _ => portable::fold_fine::<DISTANCE>(codes, low, step, query),
        }
    }

    /// Σ row·query, the row being little-endian f32.
    pub(crate) fn dot_f32(self, row: &[u8], query: &[f32]) -> f32 {
        assert_eq!(row.len(), query.len() * 4, "one f32 per component");
        match self.level {
            // SAFETY: `detect` saw avx2 and fma on this processor, for both levels.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Vnni => unsafe { x86::fold_f32::<false>(row, query) },
            _ => portable::fold_f32::<false>(row, query),
        }
    }

    /// Σ (row - query)², the row being little-endian f32.
    pub(crate) fn distance_f32(self, row: &[u8], query: &[f32]) -> f32 {
        assert_eq!(row.len(), query.len() * 4, "one f32 per component");
        match self.level {
            // SAFETY: `detect` saw avx2 and fma on this processor, for both levels.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Vnni => unsafe { x86::fold_f32::<true>(row, query) },
            _ => portable::fold_f32::<true>(row, query),
        }
    }

    /// Which of up to 64 scores reach the bar, a bit for each.
    pub(crate) fn reached(self, scores: &[f32], bar: f32) -> u64 {
        match (self.level, <&[f32; 64]>::try_from(scores)) {
            // SAFETY: `detect` saw avx2 on this processor, for both levels.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2 | Level::Vnni, Ok(scores)) => unsafe { x86::reached(scores, bar) },
            _ => portable::reached(scores, bar),
        }
    }
}

/// A component in 256ths of its scale.
pub(crate) fn fine_steps(code: u8, low: u8) -> i32 {
    (i32::from(code) - 128) * 256 + i32::from(low) - 128
}
