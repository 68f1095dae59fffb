//! Model vendors and offline models.

mod extractive;
#[cfg(feature = "minilm")]
pub mod minilm;

pub use extractive::{Extractive, NOT_FOUND, cite_marks};
