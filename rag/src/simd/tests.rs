//! Every kernel beside the portable one.

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

fn query_of(stored: &[u8]) -> QueryCodes {
    let mut query = QueryCodes::default();
    query.set(stored);
    query
}

/// Codes as they are stored, every byte there is.
fn stored(noise: &mut Noise, count: usize) -> Vec<u8> {
    (0..count).map(|_| (noise.next() % 256) as u8).collect()
}

/// What every kernel has to give, row by row.
fn sums(codes: &[u8], query: &[u8]) -> Vec<i32> {
    let value = |code: &u8| i32::from(*code) - 128;
    let rows = codes.chunks(query.len());
    rows.map(|row| {
        row.iter()
            .zip(query)
            .map(|(left, right)| value(left) * value(right))
            .sum()
    })
    .collect()
}

#[test]
fn every_code_kernel_gives_exactly_the_sums_at_any_length_and_alignment() {
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    for dim in DIMS {
        for shift in [0_usize, 1, 3, 33] {
            let rows = 9;
            let store = stored(&mut noise, dim * rows + shift);
            let (codes, query) = (&store[shift..], stored(&mut noise, dim));
            let want = sums(codes, &query);
            for level in levels() {
                let mut got = vec![1; rows];
                Kernels { level }.dot_codes(codes, &query_of(&query), &mut got);
                assert_eq!(got, want, "{level:?}, dimension {dim}, shift {shift}");
            }
        }
    }
}

#[test]
fn rows_that_lie_apart_get_the_sums_of_rows_side_by_side() {
    let mut noise = Noise(0xD1B5_4A32_D192_ED03);
    for dim in DIMS {
        let store = stored(&mut noise, dim * 40 + 3);
        let query = stored(&mut noise, dim);
        for count in 0..12 {
            let rows: Vec<&[u8]> = (0..count)
                .map(|_| {
                    let start = (noise.next() as usize) % (store.len() - dim);
                    &store[start..start + dim]
                })
                .collect();
            let want = sums(&rows.concat(), &query);
            for level in levels() {
                let mut got = vec![1; count];
                Kernels { level }.dot_rows(&rows, &query_of(&query), &mut got);
                assert_eq!(got, want, "{level:?}, dimension {dim}, {count} rows");
            }
        }
    }
}

#[test]
fn extreme_codes_do_not_saturate() {
    for code in [0, 1, 127, 128, 129, 255] {
        for value in [0, 1, 128, 255] {
            for dim in DIMS {
                let (codes, query) = (vec![code; dim], vec![value; dim]);
                for level in levels() {
                    let mut got = [0];
                    Kernels { level }.dot_codes(&codes, &query_of(&query), &mut got);
                    assert_eq!(
                        got.as_slice(),
                        sums(&codes, &query),
                        "{level:?} {dim}: {code} {value}"
                    );
                }
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

#[test]
fn every_kernel_sees_the_same_scores_reach_the_bar() {
    let mut noise = Noise(11);
    for length in [0, 1, 7, 63, 64] {
        for special in [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0, -0.0] {
            let mut scores: Vec<f32> = (0..length).map(|_| noise.value()).collect();
            if let Some(score) = scores.get_mut(5) {
                *score = special;
            }
            for bar in [f32::NEG_INFINITY, -0.5, 0.0, -0.0, 0.25, f32::INFINITY, f32::NAN] {
                let want: u64 = (0..length).map(|at| u64::from(scores[at] >= bar) << at).sum();
                for level in levels() {
                    let got = Kernels { level }.reached(&scores, bar);
                    assert_eq!(got, want, "{level:?} {length} {special} {bar}");
                }
            }
        }
    }
}
