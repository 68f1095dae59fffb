//! The kernels for x86-64: AVX2, and AVX-512 with VNNI.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_GE_OQ, _MM_HINT_T0, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32,
    _mm_loadu_si128, _mm_movehl_ps, _mm_prefetch, _mm_set1_epi8, _mm_shuffle_ps, _mm_storeu_si128,
    _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm_xor_si128, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cmpgt_epi8, _mm256_cvtepi16_epi32,
    _mm256_cvtepi32_ps, _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_hadd_epi32,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_movemask_ps,
    _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_sub_epi32, _mm256_sub_ps, _mm256_xor_si256, _mm512_add_epi32,
    _mm512_castsi512_si256, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512,
    _mm512_maskz_loadu_epi8, _mm512_reduce_add_epi32, _mm512_setzero_si512,
};

use super::prefetch;

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
    four_sums(
        sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))),
    )
}

/// 32 products per instruction, four rows at a time; where the next four have the same components is asked for meanwhile.
#[target_feature(enable = "avx2")]
pub(super) fn dot_codes_avx2(codes: &[u8], query: &[i8], out: &mut [i32]) {
    let dim = query.len();
    let (out_fours, out_rest) = out.as_chunks_mut::<4>();
    let mut fours = codes.chunks_exact(dim * 4);
    for (four, out) in fours.by_ref().zip(out_fours) {
        let (left, right) = four.split_at(dim * 2);
        let ((first, second), (third, fourth)) = (left.split_at(dim), right.split_at(dim));
        let sums = sums_avx2::<4, true>([first, second, third, fourth], query);
        *out = four_sums(sums);
    }
    for (row, out) in fours.remainder().chunks_exact(dim).zip(out_rest) {
        *out = dot_row_avx2(row, query);
    }
}

/// Four rows at a time: their loads overlap, and those of the next four are under way.
#[target_feature(enable = "avx2")]
pub(super) fn dot_rows_avx2(rows: &[&[u8]], query: &[i8], out: &mut [i32]) {
    let (fours, rest) = rows.as_chunks::<4>();
    let (out_fours, out_rest) = out.as_chunks_mut::<4>();
    for (at_four, (four, out)) in fours.iter().zip(out_fours).enumerate() {
        for next in rows.iter().skip(at_four * 4 + 4).take(4) {
            prefetch(next);
        }
        *out = four_sums(sums_avx2::<4, false>(*four, query));
    }
    for (row, out) in rest.iter().zip(out_rest) {
        *out = dot_row_avx2(row, query);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot_row_avx2(row: &[u8], query: &[i8]) -> i32 {
    let zero = _mm256_setzero_si256();
    let [sum] = sums_avx2::<1, false>([row], query);
    four_sums([sum, zero, zero, zero])[0]
}

/// Eight parts of each row's sum. `GOES_ON`: as many rows more follow in memory, if any.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_avx2<const ROWS: usize, const GOES_ON: bool>(rows: [&[u8]; ROWS], query: &[i8]) -> [__m256i; ROWS] {
    let dim = query.len();
    assert!(rows.iter().all(|row| row.len() == dim), "codes are whole rows");
    let mut sums = [_mm256_setzero_si256(); ROWS];
    let (lines, whole) = (dim / 64 * 64, dim / 32 * 32);
    let mut at = 0;
    while at < lines {
        if GOES_ON {
            for row in rows {
                _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(at + dim * ROWS).cast());
            }
        }
        // SAFETY: at + 64 <= lines <= dim, the length of the query and of each row.
        unsafe {
            step_avx2(
                &mut sums,
                rows.map(|row| row.as_ptr().add(at)),
                query.as_ptr().add(at),
            );
            step_avx2(
                &mut sums,
                rows.map(|row| row.as_ptr().add(at + 32)),
                query.as_ptr().add(at + 32),
            );
        }
        at += 64;
    }
    if lines < whole {
        // SAFETY: lines + 32 = whole <= dim, the length of the query and of each row.
        unsafe {
            step_avx2(
                &mut sums,
                rows.map(|row| row.as_ptr().add(lines)),
                query.as_ptr().add(lines),
            );
        }
    }
    if whole < dim {
        // Past the end of the query are zeros: what the codes are there makes no difference.
        let (query, rows) = (last_32(&query[whole..]), rows.map(|row| last_32(&row[whole..])));
        // SAFETY: the arrays have the 32 bytes that are read.
        unsafe { step_avx2(&mut sums, rows.each_ref().map(|row| row.as_ptr()), query.as_ptr()) };
    }
    sums
}

/// The last bytes of a row, zeros after them.
fn last_32<T: Copy + Default>(rest: &[T]) -> [T; 32] {
    let mut bytes = [T::default(); 32];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// 32 components of each row: |query| times codes less 128, those where the query is below zero turned over bit by bit.
///
/// Codes as they are would be too large: pairs of products are summed in 16 bits, and 2·255·127 does not fit. Less 128 and turned
/// over they lie between -128 and 127, |query| is at most 128, and a pair between -32,768 and 32,512: every sum is exact. Turned
/// over is one too low: sums are too large by the query's components below zero.
///
/// # Safety
/// 32 bytes are read from each pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn step_avx2<const ROWS: usize>(
    sums: &mut [__m256i; ROWS],
    rows: [*const u8; ROWS],
    query: *const i8,
) {
    // SAFETY: as the caller promises.
    let query = unsafe { _mm256_loadu_si256(query.cast()) };
    let is_negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), query);
    let turned = _mm256_xor_si256(is_negative, _mm256_set1_epi8(i8::MIN));
    let (size, ones) = (_mm256_abs_epi8(query), _mm256_set1_epi16(1));
    for (sum, row) in sums.iter_mut().zip(rows) {
        // SAFETY: as the caller promises.
        let codes = unsafe { _mm256_loadu_si256(row.cast()) };
        let pairs = _mm256_maddubs_epi16(size, _mm256_xor_si256(codes, turned));
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
    }
}

/// The sum of all parts of each: halves, then pairs, then pairs of pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn four_sums(sums: [__m256i; 4]) -> [i32; 4] {
    let pairs = _mm256_hadd_epi32(
        _mm256_hadd_epi32(sums[0], sums[1]),
        _mm256_hadd_epi32(sums[2], sums[3]),
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

#[target_feature(enable = "avx2")]
pub(super) fn reached(scores: &[f32; 64], bar: f32) -> u64 {
    let bar = _mm256_set1_ps(bar);
    let (eights, _) = scores.as_chunks::<8>();
    eights.iter().enumerate().fold(0, |bits, (at, eight)| {
        // SAFETY: the array has the 32 bytes that are read.
        let eight = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
        let is_reached = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(eight, bar));
        bits | u64::from(is_reached.cast_unsigned()) << (at * 8)
    })
}
