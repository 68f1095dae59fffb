//! Dot products: int8 codes with int8 queries, 16-bit and f32 rows with f32 queries.
//!
//! The only file of the crate with `unsafe`: the intrinsics read memory through pointers and need instructions that
//! not every processor has. Two arguments carry every use. *Instructions*: a `Level` other than `Portable` is made in
//! `Level::detect` alone, after the processor said that it has them. *Memory*: each kernel reads whole vectors only
//! below the length of the slice it was given, unaligned loads only, and the rest by index or under a mask.
#![allow(unsafe_code)]

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
    /// Σ code·query for each row of `codes`, which holds `out.len()` rows of `query.len()` bytes.
    ///
    /// Codes are stored plus 128, so the caller subtracts 128·Σquery, one constant for the whole scan.
    pub(crate) fn dot_codes(self, codes: &[u8], query: &[i8], out: &mut [i32]) {
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

    /// Σ code·query for rows that lie apart, as a walk through a graph meets them.
    pub(crate) fn dot_rows(self, rows: &[&[u8]], query: &[i8], out: &mut [i32]) {
        assert_eq!(rows.len(), out.len(), "one sum per row");
        assert!(
            rows.iter().all(|row| row.len() == query.len()),
            "codes are whole rows"
        );
        match self.level {
            // SAFETY: `detect` saw avx512f, avx512bw and avx512vnni on this processor.
            #[cfg(target_arch = "x86_64")]
            Level::Vnni => unsafe { x86::dot_rows_vnni(rows, query, out) },
            _ => {
                for (at, row) in rows.iter().enumerate() {
                    if let Some(next) = rows.get(at + 2) {
                        prefetch(next);
                    }
                    self.dot_codes(row, query, &mut out[at..=at]);
                }
            }
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
}

/// A component in 256ths of its scale.
pub(super) fn fine_steps(code: u8, low: u8) -> i32 {
    (i32::from(code) - 128) * 256 + i32::from(low) - 128
}

mod portable {
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
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32,
        _mm_loadu_si128, _mm_movehl_ps, _mm_prefetch, _mm_set1_epi8, _mm_shuffle_ps, _mm_storeu_si128,
        _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm_xor_si128, _mm256_add_epi32, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepi16_epi32,
        _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_extractf128_ps, _mm256_extracti128_si256,
        _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_madd_epi16, _mm256_mul_ps,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_si256,
        _mm256_sub_epi32, _mm256_sub_ps, _mm512_add_epi32, _mm512_castsi512_si256, _mm512_dpbusd_epi32,
        _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_reduce_add_epi32,
        _mm512_setzero_si512,
    };

    /// How far ahead of a scan codes are asked for: the processor itself stops at the end of a page.
    const AHEAD: usize = 4_096;

    /// 64 products per instruction: unsigned codes, signed query. Four rows at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn dot_codes_vnni(codes: &[u8], query: &[i8], out: &mut [i32]) {
        let dim = query.len();
        let (out_fours, out_rest) = out.as_chunks_mut::<4>();
        let mut fours = codes.chunks_exact(dim * 4);
        for (four, out) in fours.by_ref().zip(out_fours) {
            let (left, right) = four.split_at(dim * 2);
            let ((first, second), (third, fourth)) = (left.split_at(dim), right.split_at(dim));
            for line in four.chunks(64) {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD).cast());
            }
            *out = dot_four_vnni([first, second, third, fourth], query);
        }
        for (row, out) in fours.remainder().chunks_exact(dim).zip(out_rest) {
            *out = dot_row_vnni(row, query);
        }
    }

    /// Four rows at a time: their loads overlap, and those of the next four are under way.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn dot_rows_vnni(rows: &[&[u8]], query: &[i8], out: &mut [i32]) {
        let (fours, rest) = rows.as_chunks::<4>();
        let (out_fours, out_rest) = out.as_chunks_mut::<4>();
        for (at_four, (four, out)) in fours.iter().zip(out_fours).enumerate() {
            for next in rows.iter().skip(at_four * 4 + 4).take(4) {
                for line in next.chunks(64) {
                    _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
                }
            }
            *out = dot_four_vnni(*four, query);
        }
        for (row, out) in rest.iter().zip(out_rest) {
            *out = dot_row_vnni(row, query);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dot_row_vnni(row: &[u8], query: &[i8]) -> i32 {
        assert_eq!(row.len(), query.len(), "codes are whole rows");
        let dim = query.len();
        let whole = dim / 64 * 64;
        let tail = (1_u64 << (dim % 64)) - 1;
        let mut even = _mm512_setzero_si512();
        let mut odd = _mm512_setzero_si512();
        let mut at = 0;
        while at + 128 <= whole {
            // SAFETY: at + 128 <= dim, the length of both slices.
            let (left, right, left_query, right_query) = unsafe {
                (
                    _mm512_loadu_si512(row.as_ptr().add(at).cast()),
                    _mm512_loadu_si512(row.as_ptr().add(at + 64).cast()),
                    _mm512_loadu_si512(query.as_ptr().add(at).cast()),
                    _mm512_loadu_si512(query.as_ptr().add(at + 64).cast()),
                )
            };
            even = _mm512_dpbusd_epi32(even, left, left_query);
            odd = _mm512_dpbusd_epi32(odd, right, right_query);
            at += 128;
        }
        if at < whole {
            // SAFETY: at + 64 <= whole <= dim, the length of both slices.
            let (left, left_query) = unsafe {
                (
                    _mm512_loadu_si512(row.as_ptr().add(at).cast()),
                    _mm512_loadu_si512(query.as_ptr().add(at).cast()),
                )
            };
            even = _mm512_dpbusd_epi32(even, left, left_query);
        }
        if tail != 0 {
            // SAFETY: whole < dim, and the mask lets only the bytes below dim be read.
            let (left, left_query) = unsafe {
                (
                    _mm512_maskz_loadu_epi8(tail, row.as_ptr().add(whole).cast()),
                    _mm512_maskz_loadu_epi8(tail, query.as_ptr().add(whole)),
                )
            };
            odd = _mm512_dpbusd_epi32(odd, left, left_query);
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dot_four_vnni(rows: [&[u8]; 4], query: &[i8]) -> [i32; 4] {
        let dim = query.len();
        assert!(rows.iter().all(|row| row.len() == dim), "codes are whole rows");
        let whole = dim / 64 * 64;
        let tail = (1_u64 << (dim % 64)) - 1;
        let mut sums = [_mm512_setzero_si512(); 4];
        let mut at = 0;
        while at < whole {
            // SAFETY: at + 64 <= whole <= dim, the length of the query and of each row.
            unsafe {
                let right = _mm512_loadu_si512(query.as_ptr().add(at).cast());
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = _mm512_dpbusd_epi32(*sum, _mm512_loadu_si512(row.as_ptr().add(at).cast()), right);
                }
            }
            at += 64;
        }
        if tail != 0 {
            // SAFETY: whole < dim, and the mask lets only the bytes below dim be read.
            unsafe {
                let right = _mm512_maskz_loadu_epi8(tail, query.as_ptr().add(whole));
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let left = _mm512_maskz_loadu_epi8(tail, row.as_ptr().add(whole).cast());
                    *sum = _mm512_dpbusd_epi32(*sum, left, right);
                }
            }
        }
        // Halves, then pairs, then pairs of pairs: one sum per row in each 128-bit half.
        let half =
            |sum: __m512i| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
        let pairs = _mm256_hadd_epi32(
            _mm256_hadd_epi32(half(sums[0]), half(sums[1])),
            _mm256_hadd_epi32(half(sums[2]), half(sums[3])),
        );
        let four = _mm_add_epi32(
            _mm256_castsi256_si128(pairs),
            _mm256_extracti128_si256::<1>(pairs),
        );
        let mut out = [0; 4];
        // SAFETY: `out` has the 16 bytes that are stored.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
        out
    }

    /// 16 products per step in 16-bit lanes: `maddubs` would saturate with codes up to 255.
    #[target_feature(enable = "avx2")]
    pub(super) fn dot_codes_avx2(codes: &[u8], query: &[i8], out: &mut [i32]) {
        let dim = query.len();
        let whole = dim / 16 * 16;
        for (row, out) in codes.chunks_exact(dim).zip(out) {
            let mut sum: __m256i = _mm256_setzero_si256();
            let mut at = 0;
            while at < whole {
                // SAFETY: at + 16 <= whole <= dim, the length of both slices.
                let (left, right): (__m128i, __m128i) = unsafe {
                    (
                        _mm_loadu_si128(row.as_ptr().add(at).cast()),
                        _mm_loadu_si128(query.as_ptr().add(at).cast()),
                    )
                };
                let products = _mm256_madd_epi16(_mm256_cvtepu8_epi16(left), _mm256_cvtepi8_epi16(right));
                sum = _mm256_add_epi32(sum, products);
                at += 16;
            }
            let mut lanes = [0_i32; 8];
            // SAFETY: the array has the 32 bytes that are stored.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            let rest: i32 = row[whole..]
                .iter()
                .zip(&query[whole..])
                .map(|(code, value)| i32::from(*code) * i32::from(*value))
                .sum();
            *out = lanes.iter().sum::<i32>() + rest;
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn horizontal_sum(sum: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    /// One step of a sum: squared differences with `DISTANCE`, products without.
    #[target_feature(enable = "avx2,fma")]
    fn step<const DISTANCE: bool>(left: __m256, right: __m256, sum: __m256) -> __m256 {
        if DISTANCE {
            let difference = _mm256_sub_ps(left, right);
            _mm256_fmadd_ps(difference, difference, sum)
        } else {
            _mm256_fmadd_ps(left, right, sum)
        }
    }

    /// Code and low byte side by side are a 16-bit number, 128 too large.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fold_fine<const DISTANCE: bool>(codes: &[u8], low: &[u8], step: f32, query: &[f32]) -> f32 {
        let dim = query.len();
        let (sign, bias) = (_mm_set1_epi8(i8::MIN), _mm256_set1_epi32(128));
        let scale = _mm256_set1_ps(step);
        let float = |halves: __m128i| {
            let value = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepi16_epi32(halves), bias));
            if DISTANCE {
                _mm256_mul_ps(value, scale)
            } else {
                value
            }
        };
        let (mut even, mut odd) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut at = 0;
        while at + 16 <= dim {
            // SAFETY: at + 16 <= dim, the length of all three slices.
            let (high, low, first_query, second_query) = unsafe {
                (
                    _mm_loadu_si128(codes.as_ptr().add(at).cast()),
                    _mm_loadu_si128(low.as_ptr().add(at).cast()),
                    _mm256_loadu_ps(query.as_ptr().add(at)),
                    _mm256_loadu_ps(query.as_ptr().add(at + 8)),
                )
            };
            let high = _mm_xor_si128(high, sign);
            even = self::step::<DISTANCE>(float(_mm_unpacklo_epi8(low, high)), first_query, even);
            odd = self::step::<DISTANCE>(float(_mm_unpackhi_epi8(low, high)), second_query, odd);
            at += 16;
        }
        let whole = horizontal_sum(_mm256_add_ps(even, odd));
        let rest = super::portable::fold_fine::<DISTANCE>(&codes[at..], &low[at..], step, &query[at..]);
        whole + rest
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fold_f32<const DISTANCE: bool>(row: &[u8], query: &[f32]) -> f32 {
        let dim = query.len();
        let (mut even, mut odd) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut at = 0;
        while at + 16 <= dim {
            // SAFETY: at + 16 <= dim; the row has four bytes for each of dim components, and x86 is little endian.
            let (first, second, first_query, second_query) = unsafe {
                (
                    _mm256_loadu_ps(row.as_ptr().add(at * 4).cast()),
                    _mm256_loadu_ps(row.as_ptr().add(at * 4 + 32).cast()),
                    _mm256_loadu_ps(query.as_ptr().add(at)),
                    _mm256_loadu_ps(query.as_ptr().add(at + 8)),
                )
            };
            even = step::<DISTANCE>(first, first_query, even);
            odd = step::<DISTANCE>(second, second_query, odd);
            at += 16;
        }
        horizontal_sum(_mm256_add_ps(even, odd))
            + super::portable::fold_f32::<DISTANCE>(&row[at * 4..], &query[at..])
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{
        vaddvq_s32, vdupq_n_s32, vget_high_s16, vget_low_s16, vld1_s8, vld1_u8, vmlal_s16, vmovl_s8,
        vmovl_u8, vreinterpretq_s16_u16,
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
                let (left, right) =
                    unsafe { (vld1_u8(row.as_ptr().add(at)), vld1_s8(query.as_ptr().add(at))) };
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence, the same on every machine.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn value(&mut self) -> f32 {
            (self.next() % 2_001) as f32 / 1_000.0 - 1.0
        }
    }

    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        match Level::detect() {
            Level::Vnni => levels.extend([Level::Avx2, Level::Vnni]),
            Level::Avx2 => levels.push(Level::Avx2),
            Level::Portable => {}
        }
        #[cfg(target_arch = "aarch64")]
        if Level::detect() == Level::Neon {
            levels.push(Level::Neon);
        }
        levels
    }

    const DIMS: [usize; 17] = [
        1, 2, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 192, 384, 1_027,
    ];

    #[test]
    fn every_code_kernel_gives_exactly_the_portable_sums_at_any_length_and_alignment() {
        let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
        for dim in DIMS {
            for shift in [0_usize, 1, 3, 33] {
                let rows = 5;
                let store: Vec<u8> = (0..dim * rows + shift)
                    .map(|_| (noise.next() % 256) as u8)
                    .collect();
                let query: Vec<i8> = (0..dim + shift).map(|_| (noise.next() % 255) as i8).collect();
                let (codes, query) = (&store[shift..], &query[shift..]);
                let mut want = vec![0; rows];
                portable::dot_codes(codes, query, &mut want);
                for level in levels() {
                    let mut got = vec![1; rows];
                    Kernels { level }.dot_codes(codes, query, &mut got);
                    assert_eq!(got, want, "{level:?}, dimension {dim}, shift {shift}");
                }
            }
        }
    }

    #[test]
    fn rows_that_lie_apart_get_the_sums_of_rows_side_by_side() {
        let mut noise = Noise(0xD1B5_4A32_D192_ED03);
        for dim in DIMS {
            let store: Vec<u8> = (0..dim * 40 + 3).map(|_| (noise.next() % 256) as u8).collect();
            let query: Vec<i8> = (0..dim).map(|_| (noise.next() % 255) as i8).collect();
            for count in 0..12 {
                let rows: Vec<&[u8]> = (0..count)
                    .map(|_| {
                        let start = (noise.next() as usize) % (store.len() - dim);
                        &store[start..start + dim]
                    })
                    .collect();
                let mut want = vec![0; count];
                portable::dot_codes(&rows.concat(), &query, &mut want);
                for level in levels() {
                    let mut got = vec![1; count];
                    Kernels { level }.dot_rows(&rows, &query, &mut got);
                    assert_eq!(got, want, "{level:?}, dimension {dim}, {count} rows");
                }
            }
        }
    }

    #[test]
    fn extreme_codes_do_not_saturate() {
        for (code, value) in [(255_u8, 127_i8), (255, -127), (1, -127), (0, 127)] {
            for dim in DIMS {
                for level in levels() {
                    let mut got = [0];
                    Kernels { level }.dot_codes(&vec![code; dim], &vec![value; dim], &mut got);
                    assert_eq!(
                        got[0],
                        i32::from(code) * i32::from(value) * i32::try_from(dim).expect("a small dimension"),
                        "{level:?} {dim}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_float_kernel_agrees_with_the_portable_one() {
        let mut noise = Noise(7);
        for dim in DIMS {
            for shift in [0_usize, 1, 2, 5] {
                let row: Vec<f32> = (0..dim).map(|_| noise.value()).collect();
                let query: Vec<f32> = (0..dim + shift).map(|_| noise.value()).collect();
                let query = &query[shift..];
                // Every byte there is, also those that no code has.
                let mut bytes = || (0..dim + shift).map(|_| (noise.next() % 256) as u8).collect();
                let (codes, low): (Vec<u8>, Vec<u8>) = (bytes(), bytes());
                let (codes, low) = (&codes[shift..], &low[shift..]);
                let step = 1.0 / 32_768.0;
                let mut singles = vec![0; shift];
                singles.extend(row.iter().flat_map(|value| value.to_le_bytes()));
                let singles = &singles[shift..];
                for level in levels() {
                    let kernels = Kernels { level };
                    let pairs = [
                        (
                            kernels.dot_fine(codes, low, step * 256.0, query),
                            portable::fold_fine::<false>(codes, low, step, query),
                        ),
                        (
                            kernels.dot_f32(singles, query),
                            portable::fold_f32::<false>(singles, query),
                        ),
                        (
                            kernels.distance_fine(codes, low, step * 256.0, query),
                            portable::fold_fine::<true>(codes, low, step, query),
                        ),
                        (
                            kernels.distance_f32(singles, query),
                            portable::fold_f32::<true>(singles, query),
                        ),
                    ];
                    for (got, want) in pairs {
                        assert!(
                            (got - want).abs() < 1e-3 + want.abs() * 1e-5,
                            "{level:?} {dim}: {pairs:?}"
                        );
                    }
                }
            }
        }
    }
}
