//! The two inner loops of the network, once per instruction set, and the choice of one.
//!
//! Everything else is written once, over [`Cpu`], in plain Rust: it is inlined into a function that has the
//! instruction set switched on ([`Processor::run`]), where the compiler makes vector instructions of it.
//!
//! The only folder of the crate with `unsafe`. Two arguments carry every use. *Instructions*: a value of `Avx512`,
//! `AvxVnni`, `Avx2` or `Neon` is made in its `detect` alone, after the processor said that it has them; who holds one may use
//! them. *Memory*: the only pointers are made from references to arrays of just the size that is read or written,
//! and the instructions ask for no alignment.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::fmt::Debug;

/// Outputs that are computed together: a panel of a matrix.
pub(crate) const COLUMNS: usize = 64;
/// Lanes of a float product.
pub(crate) const LANES: usize = 32;
/// Rows of a float product.
pub(crate) const ROWS: usize = 8;

/// One step of a panel: for each column four weights, from −63 to 63.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Codes(pub(crate) [[i8; 4]; COLUMNS]);

/// A row of floats.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

/// An instruction set, and the loops written in it.
pub(crate) trait Cpu: Copy + Debug {
    /// Rows that [`Cpu::dot`] takes at most.
    const ROWS: usize;
    /// What [`Cpu::dot`] takes from each code of a row before it multiplies.
    const OFFSET: i32 = 0;

    /// a · b + c, rounded once where the processor has that as one instruction.
    fn fma(self, a: f32, b: f32, c: f32) -> f32;

    /// The products of `sums.len()` rows, which stand one after another, with the columns of a panel.
    ///
    /// Exact: two products fit into 16 bits, because weights have 7.
    fn dot(self, rows: &[[u8; 4]], panel: &[Codes], sums: &mut [[i32; COLUMNS]]);

    /// For each row the sum of the right side's rows, weighted by the row's numbers.
    fn blend(self, rows: [&[f32]; ROWS], right: &[Lanes], sums: &mut [Lanes; ROWS]);
}

/// Something to do in an instruction set. `run` is to be `#[inline(always)]`, and what it calls.
pub(crate) trait Work {
    type Output;
    fn run<C: Cpu>(self, cpu: C) -> Self::Output;
}

/// The best instruction set of this processor that we have loops for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Processor {
    Portable(portable::Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(avxvnni::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Processor {
    pub(crate) fn detect() -> Self {
        *Self::all().last().expect("one is portable")
    }

    /// All that this processor can run, the best last.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable(portable::Portable)];
        #[cfg(target_arch = "x86_64")]
        all.extend(avx2::Avx2::detect().map(Self::Avx2));
        #[cfg(target_arch = "x86_64")]
        all.extend(avxvnni::AvxVnni::detect().map(Self::AvxVnni));
        #[cfg(target_arch = "x86_64")]
        all.extend(avx512::Avx512::detect().map(Self::Avx512));
        #[cfg(target_arch = "aarch64")]
        all.extend(neon::Neon::detect().map(Self::Neon));
        all
    }

    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Self::Portable(cpu) => work.run(cpu),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(cpu) => cpu.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(cpu) => cpu.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(cpu) => cpu.run(work),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(cpu) => cpu.run(work),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    struct Dot<'a> {
        rows: &'a [[u8; 4]],
        panel: &'a [Codes],
        count: usize,
    }

    impl Work for Dot<'_> {
        /// The sums, with what the processor's offset took given back.
        type Output = Vec<[i32; COLUMNS]>;

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> Self::Output {
            let mut sums = vec![[77; COLUMNS]; self.count];
            for (rows, sums) in self
                .rows
                .chunks(C::ROWS * self.panel.len())
                .zip(sums.chunks_mut(C::ROWS))
            {
                cpu.dot(rows, self.panel, sums);
            }
            for column in 0..COLUMNS {
                let weights = self.panel.iter().flat_map(|step| step.0[column]).map(i32::from);
                let offset = C::OFFSET * weights.sum::<i32>();
                for sums in &mut sums {
                    sums[column] += offset;
                }
            }
            sums
        }
    }

    fn exact(rows: &[[u8; 4]], panel: &[Codes]) -> Vec<[i32; COLUMNS]> {
        let row = |row: &[[u8; 4]]| {
            std::array::from_fn(|column| {
                let codes = row.iter().flatten().map(|&code| i32::from(code));
                let weights = panel.iter().flat_map(|step| step.0[column]).map(i32::from);
                codes.zip(weights).map(|(code, weight)| code * weight).sum()
            })
        };
        rows.chunks(panel.len()).map(row).collect()
    }

    #[test]
    fn every_processor_gives_exact_sums_for_any_number_of_rows() {
        let mut noise = Noise::new(1);
        for depth in [1, 2, 3, 7, 96, 384] {
            let panel: Vec<_> = (0..depth)
                .map(|_| Codes(std::array::from_fn(|_| std::array::from_fn(|_| noise.weight()))))
                .collect();
            for count in 1..=13 {
                let mut code = || u8::try_from(noise.below(256)).expect("below 256");
                let rows: Vec<_> = (0..count * depth)
                    .map(|_| std::array::from_fn(|_| code()))
                    .collect();
                let want = exact(&rows, &panel);
                for processor in Processor::all() {
                    let found = processor.run(Dot {
                        rows: &rows,
                        panel: &panel,
                        count,
                    });
                    assert_eq!(found, want, "{processor:?}, depth {depth}, {count} rows");
                }
            }
        }
    }

    #[test]
    fn the_greatest_codes_and_weights_do_not_overflow() {
        for (code, weight) in [(255, 63), (255, -63), (0, -63), (1, 63)] {
            let (rows, panel) = (vec![[code; 4]; 384], vec![Codes([[weight; 4]; COLUMNS]); 384]);
            let want = vec![[1536 * i32::from(code) * i32::from(weight); COLUMNS]];
            for processor in Processor::all() {
                let found = processor.run(Dot {
                    rows: &rows,
                    panel: &panel,
                    count: 1,
                });
                assert_eq!(found, want, "{processor:?}, {code} times {weight}");
            }
        }
    }

    struct Blend<'a> {
        rows: [&'a [f32]; ROWS],
        right: &'a [Lanes],
    }

    impl Work for Blend<'_> {
        type Output = [Lanes; ROWS];

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> Self::Output {
            let mut sums = [Lanes([f32::NAN; LANES]); ROWS];
            cpu.blend(self.rows, self.right, &mut sums);
            sums
        }
    }

    #[test]
    fn every_processor_blends_alike() {
        let mut noise = Noise::new(2);
        for depth in [0, 1, 2, 31, 32, 258] {
            let left = noise.floats(ROWS * depth);
            let right: Vec<_> = (0..depth)
                .map(|_| Lanes(std::array::from_fn(|_| noise.float())))
                .collect();
            let rows = std::array::from_fn(|row| &left[row * depth..][..depth]);
            for processor in Processor::all() {
                let found = processor.run(Blend { rows, right: &right });
                for (row, found) in rows.iter().zip(&found) {
                    for lane in 0..LANES {
                        let products = row
                            .iter()
                            .zip(&right)
                            .map(|(a, b)| f64::from(*a) * f64::from(b.0[lane]));
                        let (want, found) = (products.sum::<f64>(), f64::from(found.0[lane]));
                        assert!(
                            (found - want).abs() < 1e-4,
                            "{processor:?}, depth {depth}: {found} for {want}"
                        );
                    }
                }
            }
        }
    }
}
