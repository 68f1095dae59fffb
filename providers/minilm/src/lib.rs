//! The network of all-MiniLM-L6-v2, in Rust alone: token ids in, vectors out.
//!
//! ```text
//! ids ─ words + positions ─ 6 × (attention ─ feed forward) ─ mean ─ length 1
//! ```
//!
//! [`Network::read`] takes the weights from the ONNX file that `providers/data/minilm/export.py` writes, by their
//! names; what the nodes of that file say is written out in `layer.rs` and `pass.rs`. Two things differ on purpose.
//! Activations are rounded to bytes **row by row**, where the file's nodes can only do it tensor by tensor: that is
//! nearer to the unrounded network, and a text has the same vector in any company. And texts are laid end to end and
//! worked on a few hundred rows at a time, so that nothing is padded and the weights are fetched once for all of them.
//!
//! | file | what it is |
//! |---|---|
//! | `onnx.rs` | the named constants of the file |
//! | `linear.rs`, `rows.rs` | a matrix of int8 weights; rows of bytes to multiply with it |
//! | `attention.rs`, `norm.rs`, `curve.rs` | the parts between the matrices, in floats |
//! | `layer.rs`, `pass.rs` | the parts in their order: one layer, and the whole way |
//! | `network.rs` | the weights, and texts shared out among threads |
//! | `kernel/` | the two inner loops for each instruction set |

mod attention;
mod curve;
mod fold;
mod kernel;
mod layer;
mod linear;
mod network;
#[cfg(test)]
mod noise;
mod norm;
mod onnx;
mod pass;
mod rows;

pub use network::Network;

/// Length of a vector.
pub const DIMENSION: usize = WIDTH;
/// The most token ids of a text, with the marks at its ends.
pub const POSITIONS: usize = 258;

const WORDS: usize = 30_522;
const WIDTH: usize = 384;
const INNER: usize = 1536;
const LAYERS: usize = 6;
const HEADS: usize = 12;
const HEAD_WIDTH: usize = WIDTH / HEADS;

/// Why a file is not the network, or a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
