//! The command line of `ask`.

use clap::{Parser, error::ErrorKind};
use std::{ffi::OsString, path::PathBuf};

/// Ask your documents: answers offline, every sentence with its source.
///
/// Indexes the files and folders (text, Markdown, HTML, PDF, DOCX), prints an answer with citations, then the hits. What has not
/// changed since the last time is not indexed again.
#[derive(Debug, Parser)]
#[command(
    name = "ask",
    version,
    after_help = "Exit codes: 0 answered, 1 failed, 2 wrong arguments, 3 not found in these documents, 130 stopped by Ctrl-C.\n\
    Keys are read from the environment: ANTHROPIC_API_KEY, OPENAI_API_KEY."
)]
pub(super) struct Args {
    /// Files and folders, then the question
    #[arg(required = true, num_args = 2.., value_names = ["PATHS", "QUESTION"])]
    words: Vec<OsString>,

    /// Answer with this model, for example anthropic/claude-sonnet-5 or openai/gpt-4.1-mini [default: extractive, offline]
    #[arg(long, value_name = "VENDOR/MODEL")]
    pub(super) model: Option<String>,

    /// How many hits to show
    #[arg(long, short, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(super) k: u16,

    /// Folder of the index [default: one per set of paths, under .stepwell in this folder]
    #[arg(long, value_name = "DIR")]
    pub(super) index: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// Reads the words after the program's name. The error is the text to print, and whether it is help rather than a fault.
    pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, (String, bool)> {
        let name = std::iter::once(OsString::from("ask"));
        Self::try_parse_from(name.chain(words)).map_err(|error| {
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            (error.to_string(), is_help)
        })
    }

    /// Everything but the last word.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let (_, paths) = self.words.split_last().expect("clap asks for two words at least");
        paths.iter().map(PathBuf::from).collect()
    }

    /// The last word.
    pub(super) fn question(&self) -> Result<String, String> {
        let last = self.words.last().expect("clap asks for two words at least");
        match last.to_str().map(str::trim) {
            Some("") => Err("the question is empty; put it in quotes after the paths".to_owned()),
            Some(question) => Ok(question.to_owned()),
            None => Err("the question is not valid UTF-8; type it anew".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;
    use std::{ffi::OsString, path::PathBuf};

    fn read(words: &[&str]) -> Result<Args, (String, bool)> {
        Args::read(words.iter().map(OsString::from))
    }

    #[test]
    fn the_last_word_is_the_question_and_the_others_are_paths() {
        let args = read(&["a", "b c", "What is it?", "--k", "3"]).expect("fine");
        assert_eq!(args.paths(), [PathBuf::from("a"), PathBuf::from("b c")]);
        assert_eq!(
            (args.question().expect("fine").as_str(), args.k),
            ("What is it?", 3)
        );
    }

    #[test]
    fn wrong_words_are_told_apart_from_a_cry_for_help() {
        assert!(!read(&["only-a-path"]).expect_err("no question").1);
        assert!(!read(&["a", "q", "--k", "0"]).expect_err("k").1);
        assert!(read(&["--help"]).expect_err("help").1);
        assert!(read(&["a", "  "]).expect("parses").question().is_err());
    }
}
