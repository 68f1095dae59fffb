//! The command `ask`: arguments, progress, printing, exit codes.

use super::{Ask, AskReport, args::Args};
use crate::rag::SyncEvent;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};
use stepwell_core::{Cancel, Error};

/// Answered.
const ANSWERED: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// The arguments cannot be used.
const WRONG_ARGUMENTS: u8 = 2;
/// The documents do not tell.
const NOT_FOUND: u8 = 3;
/// Ctrl-C: 128 + SIGINT, as shells have it.
const STOPPED: u8 = 130;

/// Runs the command with the words after its name; prints the answer to standard output, all else to standard error.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run(words))
}

/// [`main`] with a plain number, for the bindings.
#[doc(hidden)]
pub fn run(words: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::read(words) {
        Ok(args) => args,
        Err((text, is_help)) => {
            if is_help {
                print(&text);
                return ANSWERED;
            }
            eprint_line(text.trim_end());
            return WRONG_ARGUMENTS;
        }
    };
    let question = match args.question() {
        Ok(question) => question,
        Err(message) => {
            eprint_line(&format!("error: {message}"));
            return WRONG_ARGUMENTS;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprint_line(&format!("error: could not start: {error}"));
            return FAILED;
        }
    };
    runtime.block_on(ask(args, question))
}

async fn ask(args: Args, question: String) -> u8 {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("indexing {bar:30} {pos}/{len} files, {msg}")
            .expect("the template is well-formed"),
    );
    let mut ask = Ask::new(args.paths(), question)
        .top_k(usize::from(args.k))
        .cancel(cancel);
    if let Some(model) = &args.model {
        ask = ask.model(model);
    }
    if let Some(folder) = &args.index {
        ask = ask.index(folder);
    }
    let shown = bar.clone();
    let result = ask.run(move |event| show(&shown, event)).await;
    bar.finish_and_clear();
    match result {
        Ok(report) => {
            tell_indexing(&report);
            let text = if args.json {
                serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
            } else {
                report.to_text()
            };
            print(&text);
            if report.is_found { ANSWERED } else { NOT_FOUND }
        }
        Err(Error::Cancelled) => {
            eprint_line("stopped; what was indexed is kept, run the same command to go on");
            STOPPED
        }
        Err(error) => {
            eprint_line(&format!("error: {error}"));
            if let Some(message) = error.vendor_message() {
                eprint_line(&format!("the vendor says: {message}"));
            }
            match error {
                Error::InvalidInput { .. } | Error::NotFound { .. } => WRONG_ARGUMENTS,
                _ => FAILED,
            }
        }
    }
}

fn show(bar: &ProgressBar, event: &SyncEvent) {
    if let SyncEvent::Progress(progress) = event {
        bar.set_length(progress.files_total);
        bar.set_position(progress.files_done);
        bar.set_message(format!("{} chunks", progress.chunks));
    }
}

fn tell_indexing(report: &AskReport) {
    for file in &report.skipped {
        eprint_line(&format!("skipped {}: {}", file.path, file.reason));
    }
    let indexed = &report.indexed;
    let changed = indexed.added + indexed.updated + indexed.removed;
    if changed > 0 || !report.skipped.is_empty() {
        eprint_line(&format!(
            "indexed {} documents in {} chunks ({} new, {} changed, {} gone, {} skipped)",
            indexed.documents,
            indexed.chunks,
            indexed.added,
            indexed.updated,
            indexed.removed,
            report.skipped.len()
        ));
    }
}

/// Writes to standard output; a reader that has gone away is no fault of ours.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn eprint_line(line: &str) {
    let line: String = line
        .chars()
        .map(|sign| {
            if sign.is_control() && sign != '\n' {
                ' '
            } else {
                sign
            }
        })
        .collect();
    let _ = writeln!(io::stderr().lock(), "{line}");
}
