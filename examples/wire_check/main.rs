//! Checks recorded exchanges with vendors: what we send is what was recorded, what we read is what was answered.
//!
//! ```text
//! cargo run --release --example wire_check -- FOLDER [--verbose]
//! ```
//!
//! FOLDER holds one exchange per `.json` file, at any depth. One line per exchange, a table vendor × API, and a last
//! line `N passed, M failed, K unsupported`; exit code 1 when anything failed, 2 when nothing could be checked.

#[path = "frame.rs"]
#[allow(unreachable_pub)] // the same files are a module of a test
mod frame;

use std::{path::PathBuf, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    let (flags, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let verbose = flags.iter().any(|flag| flag == "--verbose");
    let ([path], true) = (paths.as_slice(), flags.iter().all(|flag| flag == "--verbose")) else {
        eprintln!("usage: wire_check FOLDER [--verbose]");
        return ExitCode::from(2);
    };
    let report = match frame::run(&PathBuf::from(path), verbose, |line| println!("{line}")).await {
        Ok(report) => report,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    println!("\n{}", report.table());
    if verbose {
        println!("{}", report.differences());
    }
    println!("{}", report.sum());
    if report.lines.is_empty() {
        eprintln!("{path} holds no exchange");
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(report.failed > 0))
}
