//! Model vendors and offline models.

mod extractive;

pub use extractive::{Extractive, NOT_FOUND, cite_marks};
