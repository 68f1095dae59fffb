//! The recorded exchanges of the vendors we speak to: each sent and read as it was recorded (by the same code as the
//! example `wire_check`), each conversation carried to every other wire, and each encoded to the same bytes again.

#![allow(missing_docs)]

// The frame names the crate a user sees; here that is this crate and its core alone.
extern crate self as stepwell;
pub use stepwell_core::*;
pub mod providers {
    pub use stepwell_providers::*;
}

mod conversations;
mod doctor;
#[path = "../../../examples/wire_check/frame.rs"]
#[allow(unreachable_pub)] // the same files are a module of an example
mod frame;
mod histories;
mod laws;
mod mutated;
mod recorded;
mod sink;
mod stable;
mod targets;
mod tokens;
