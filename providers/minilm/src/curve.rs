//! The two curves of the network: the exponential of the softmax, and the GELU.
//!
//! Written without branches and calls, so that the compiler turns a loop over them into vector instructions. The
//! coefficients are our own fits (weighted least squares, iterated towards the smallest greatest error).

use crate::{kernel::Cpu, rows::ROUND};

/// e to the x, for x ≤ 0: relative error below 3e-7 down to −87, beyond it stays at e⁻⁸⁷ instead of 0.
#[inline(always)]
pub(crate) fn exp<C: Cpu>(cpu: C, x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x } * std::f32::consts::LOG2_E;
    let rounded = x + ROUND;
    let part = x - (rounded - ROUND); // −½ to ½
    let mut power = 0.001_327_647_2;
    for coefficient in [
        0.009_675_542,
        0.055_507_13,
        0.240_221_2,
        0.693_146_94,
        1.000_000_1,
    ] {
        power = cpu.fma(power, part, coefficient);
    }
    power * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000))
}

/// x · Φ(x) with Φ the normal distribution: absolute error below 1e-5.
#[inline(always)]
pub(crate) fn gelu<C: Cpu>(cpu: C, x: f32) -> f32 {
    // Φ(x) − ½ as a fraction in x², up to 5, where Φ is 1 but for 3e-7.
    let z = if x < -5.0 { -5.0 } else { x };
    let z = if z > 5.0 { 5.0 } else { z };
    let square = z * z;
    let mut above = 5.231_431_7e-5;
    for coefficient in [0.004_139_650_6, 0.029_113_121, 0.398_948_22] {
        above = cpu.fma(above, square, coefficient);
    }
    let mut below = 2.588_187_3e-6;
    for coefficient in [0.001_378_541_5, 0.025_233_714, 0.239_713_01, 1.0] {
        below = cpu.fma(below, square, coefficient);
    }
    x * cpu.fma(z, above / below, 0.5)
}

#[cfg(test)]
mod tests {
    use super::{exp, gelu};
    use crate::kernel::{Cpu, Processor, Work};

    struct Curves<'a>(&'a [f32]);

    impl Work for Curves<'_> {
        type Output = Vec<(f32, f32)>;

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> Self::Output {
            self.0
                .iter()
                .map(|&x| (exp(cpu, -x.abs()), gelu(cpu, x)))
                .collect()
        }
    }

    /// Φ(x) by its series, which is good to 1e-9 as far as 6.
    fn normal(x: f64) -> f64 {
        if x.abs() > 6.0 {
            return if x > 0.0 { 1.0 } else { 0.0 };
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / (2.0 * f64::from(n));
            sum += term / f64::from(2 * n + 1);
        }
        0.5 + sum / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn both_curves_stay_within_their_bounds() {
        let points: Vec<f32> = (-200_000..=200_000).map(|n| n as f32 / 2_000.0).collect();
        for processor in Processor::all() {
            for (&x, (exp, gelu)) in points.iter().zip(processor.run(Curves(&points))) {
                let want = f64::from(-x.abs()).max(-87.0).exp();
                let off = (f64::from(exp) / want - 1.0).abs();
                // The product with log₂ e is rounded, which weighs more the further out.
                assert!(
                    off < 3e-7 + 1e-7 * f64::from(x.abs().min(87.0)),
                    "{processor:?}: exp {x} is off by {off}"
                );
                let off = (f64::from(gelu) - f64::from(x) * normal(f64::from(x))).abs();
                let most = if x.abs() < 10.0 {
                    1e-5
                } else {
                    1e-6 * f64::from(x.abs())
                };
                assert!(off < most, "{processor:?}: gelu {x} is off by {off}");
            }
        }
    }
}
