//! The main job: ask your documents, offline, with exact citations.
//!
//! ```text
//! cargo run --release --example ask -- ./docs "How does a run resume after a crash?"
//! ```
//!
//! The same command is `python -m stepwell ask` and `npx stepwell ask`; all three call `stepwell::ask`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stepwell::ask::main(std::env::args_os().skip(1))
}
