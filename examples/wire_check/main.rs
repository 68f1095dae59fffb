//! Checks recorded exchanges with vendors: what we send is what was recorded, what we read is what was answered.
//!
//! ```text
//! cargo run --release --example wire_check -- FOLDER [--verbose]
//! cargo run --release --example wire_check -- FOLDER --mutate
//! ```
//!
//! FOLDER holds one exchange per `.json` file, at any depth. One line per exchange, a table vendor × API, and a last
//! line `N passed, M failed, K unsupported`; exit code 1 when anything failed, 2 when nothing could be checked. With
//! `--mutate` answers and requests are changed on their way, and the places are told at which the check overlooks it.

#[path = "frame.rs"]
#[allow(unreachable_pub)] // the same files are a module of a test
mod frame;

use std::{path::PathBuf, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    let (flags, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let verbose = has("--verbose");
    let is_known = |flag: &String| matches!(flag.as_str(), "--verbose" | "--mutate");
    let ([path], true) = (paths.as_slice(), flags.iter().all(is_known)) else {
        eprintln!("usage: wire_check FOLDER [--verbose | --mutate]");
        return ExitCode::from(2);
    };
    if has("--mutate") {
        return match frame::mutation::run(&PathBuf::from(path), 2, |_, _, _| true).await {
            Ok(mutations) => {
                println!("{}", mutations.table());
                ExitCode::SUCCESS
            }
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::from(2)
            }
        };
    }
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
