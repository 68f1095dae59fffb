//! How far a score by codes may lie from the score by what a file keeps: what makes a scan exact.
//!
//! Codes are rounded to a step, what is kept beside them to finer ones; both errors have bounds (Cauchy–Schwarz for
//! products, the triangle inequality for distances). A row whose score by codes is too low for the k-th exact
//! score cannot be among the best k and needs no exact comparison.

use super::format::{Encoding, Metric};

/// Half a step of a code, with the rounding of the division.
const HALF_STEP: f32 = 0.501;
/// What the kept byte can be off by: a 256th of a step, where a value lies half-way between two codes.
const HALF_STEP_16: f32 = HALF_STEP + 1.0 / 256.0;
/// Rounding of sums in f32.
const SUMS: f32 = 1e-5;

/// For one question over files of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    metric: Metric,
    encoding: Encoding,
    /// Length of the question.
    length: f32,
    /// Length of what its codes leave out.
    left_out: f32,
    root_dim: f32,
}

impl Margin {
    pub(super) fn new(metric: Metric, encoding: Encoding, dim: usize, length: f32, left_out: f32) -> Self {
        Self {
            metric,
            encoding,
            length,
            left_out,
            root_dim: (dim as f32).sqrt(),
        }
    }

    /// The lowest score that codes with this scale can give a row whose exact score is `exact` or higher.
    pub(super) fn least(&self, exact: f32, scale: f32) -> f32 {
        let error = self.root_dim
            * match self.encoding {
                // The codes are what is kept.
                Encoding::Codes => 0.0,
                Encoding::Codes16 => scale * HALF_STEP_16,
                Encoding::CodesF32 => scale * HALF_STEP,
            };
        // No code is above 127 steps; vectors compared by cosine have length one.
        let longest = 127.0 * scale * self.root_dim;
        match self.metric {
            Metric::Cosine | Metric::Dot => {
                let row = if self.metric == Metric::Cosine {
                    longest.min(1.001 + HALF_STEP * scale * self.root_dim)
                } else {
                    longest
                };
                exact - (self.length * error + self.left_out * row + SUMS * self.length * row)
            }
            Metric::L2 => {
                let slack = SUMS * (self.length.powi(2) + longest.powi(2));
                let furthest = slack - exact;
                if furthest < 0.0 {
                    return f32::INFINITY; // nothing is nearer than at no distance
                }
                -slack - (furthest.sqrt() + error + self.left_out).powi(2)
            }
        }
    }
}
