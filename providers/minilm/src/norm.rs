//! [`Norm`]: brings a row to mean 0 and variance 1, then to its learned scale and shift.

use crate::{Error, WIDTH, fold::sum, kernel::Cpu, onnx::Tensors};

const EPSILON: f32 = 1e-12;

pub(crate) struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Norm {
    pub(crate) fn read(tensors: &Tensors<'_>, name: &str) -> Result<Self, Error> {
        Ok(Self {
            scale: tensors.floats(&format!("{name}.weight"), &[WIDTH])?,
            shift: tensors.floats(&format!("{name}.bias"), &[WIDTH])?,
        })
    }

    #[inline(always)]
    pub(crate) fn apply<C: Cpu>(&self, cpu: C, row: &mut [f32]) {
        let mean = sum(row, |x| x) / WIDTH as f32;
        let variance = sum(row, |x| (x - mean) * (x - mean)) / WIDTH as f32;
        let factor = 1.0 / (variance + EPSILON).sqrt();
        for ((x, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
            *x = cpu.fma((*x - mean) * factor, *scale, *shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Norm;
    use crate::{
        WIDTH,
        kernel::{Cpu, Processor, Work},
        noise::Noise,
    };

    struct Apply<'a>(&'a Norm, Vec<f32>);

    impl Work for Apply<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<C: Cpu>(mut self, cpu: C) -> Self::Output {
            self.0.apply(cpu, &mut self.1);
            self.1
        }
    }

    #[test]
    fn a_row_comes_to_mean_0_and_variance_1_before_its_scale_and_shift() {
        let mut noise = Noise::new(4);
        let norm = Norm {
            scale: noise.floats(WIDTH),
            shift: noise.floats(WIDTH),
        };
        let row: Vec<f32> = (0..WIDTH).map(|_| noise.float() * 20.0 + 7.0).collect();
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / WIDTH as f64;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / WIDTH as f64;
        for processor in Processor::all() {
            let found = processor.run(Apply(&norm, row.clone()));
            for at in 0..WIDTH {
                let unit = (f64::from(row[at]) - mean) / variance.sqrt();
                let want = unit * f64::from(norm.scale[at]) + f64::from(norm.shift[at]);
                assert!(
                    (f64::from(found[at]) - want).abs() < 1e-5,
                    "{processor:?}: {} for {want}",
                    found[at]
                );
            }
        }
    }
}
