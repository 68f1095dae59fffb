//! The `ask` command.

use napi_derive::napi;

/// Runs the command with the words after its name and gives its exit code. It blocks: it is the whole program.
#[napi]
#[must_use]
pub fn ask(words: Vec<String>) -> u32 {
    u32::from(stepwell::ask::run(words.into_iter().map(Into::into)))
}
