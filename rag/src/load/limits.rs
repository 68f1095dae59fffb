//! [`LoadLimits`]: what one file may cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::process::ReaderProgram;
use super::refusal::Refusal;

/// What one file may cost. The defaults suit files nobody has checked.
///
/// A file above a limit is refused with `limit_exceeded`, and the error names the field to raise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadLimits {
    /// Longest file in bytes: 64 MiB.
    pub input_bytes: u64,
    /// Most bytes all compressed parts of one file may inflate to, together: 64 MiB.
    pub inflated_bytes: u64,
    /// Most bytes one compressed byte may become, looked at above 1 MiB: 100.
    pub inflation_ratio: u64,
    /// Most parts of an archive: 10,000.
    pub archive_entries: usize,
    /// Deepest nesting of XML: 256; of JSON too, which is never read deeper than 127.
    pub nesting: usize,
    /// Most objects of a PDF: 500,000, with five values each on average, of which an array or a dictionary counts for three.
    pub objects: usize,
    /// Most pages of a PDF: 10,000.
    pub pages: usize,
    /// Longest record of CSV or JSON Lines in bytes: 1 MiB.
    pub record_bytes: usize,
    /// Longest text of one document in bytes: 8 MiB, a minute or two of embedding on two cores.
    pub text_bytes: usize,
    /// Longest time for one file: 20 s.
    pub time: Duration,
    /// Most memory that reading one file may take, in bytes: 512 MiB. Only a process can be held to it, so it counts
    /// where [`LoadLimits::program`] is set, on Linux.
    pub memory_bytes: u64,
    /// The program that reads files in a process of its own; `None` reads them on a thread of this process.
    #[serde(skip)]
    pub program: Option<ReaderProgram>,
}

impl Default for LoadLimits {
    fn default() -> Self {
        Self {
            input_bytes: 64 << 20,
            inflated_bytes: 64 << 20,
            inflation_ratio: 100,
            archive_entries: 10_000,
            nesting: 256,
            objects: 500_000,
            pages: 10_000,
            record_bytes: 1 << 20,
            text_bytes: 8 << 20,
            time: Duration::from_secs(20),
            memory_bytes: 512 << 20,
            program: None,
        }
    }
}

impl LoadLimits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another longest file, in bytes.
    pub fn with_input_bytes(mut self, input_bytes: u64) -> Self {
        self.input_bytes = input_bytes;
        self
    }

    /// With another limit on inflated bytes.
    pub fn with_inflated_bytes(mut self, inflated_bytes: u64) -> Self {
        self.inflated_bytes = inflated_bytes;
        self
    }

    /// With another limit on what one compressed byte may become.
    pub fn with_inflation_ratio(mut self, inflation_ratio: u64) -> Self {
        self.inflation_ratio = inflation_ratio;
        self
    }

    /// With another limit on the parts of an archive.
    pub fn with_archive_entries(mut self, archive_entries: usize) -> Self {
        self.archive_entries = archive_entries;
        self
    }

    /// With another deepest nesting of XML and JSON.
    pub fn with_nesting(mut self, nesting: usize) -> Self {
        self.nesting = nesting;
        self
    }

    /// With another limit on the objects of a PDF.
    pub fn with_objects(mut self, objects: usize) -> Self {
        self.objects = objects;
        self
    }

    /// With another limit on the pages of a PDF.
    pub fn with_pages(mut self, pages: usize) -> Self {
        self.pages = pages;
        self
    }

    /// With another longest record of CSV or JSON Lines, in bytes.
    pub fn with_record_bytes(mut self, record_bytes: usize) -> Self {
        self.record_bytes = record_bytes;
        self
    }

    /// With another longest text of one document, in bytes.
    pub fn with_text_bytes(mut self, text_bytes: usize) -> Self {
        self.text_bytes = text_bytes;
        self
    }

    /// With another longest time for one file.
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// With another limit on the memory of a reader's process, in bytes.
    pub fn with_memory_bytes(mut self, memory_bytes: u64) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// Reads each file in a process of its own, which this program runs: for files of people who may mean harm. Its
    /// memory is bounded, and whatever breaks it costs one file.
    pub fn with_program(mut self, program: ReaderProgram) -> Self {
        self.program = Some(program);
        self
    }
}

// Each format has limits of its own.
#[cfg_attr(
    not(all(feature = "pdf", feature = "docx", feature = "epub")),
    allow(dead_code)
)]
impl LoadLimits {
    pub(super) fn too_large(&self) -> Refusal {
        Refusal::over("its size", size(self.input_bytes), "input_bytes")
    }

    pub(super) fn too_long(&self) -> Refusal {
        Refusal::over(
            "its text",
            format!("{}; split it, or", size(self.text_bytes as u64)),
            "text_bytes",
        )
    }

    pub(super) fn too_slow(&self) -> Refusal {
        Refusal::over("the time to read it", format!("{:?}", self.time), "time")
    }

    pub(super) fn inflates_too_far(&self) -> Refusal {
        Refusal::over("what it inflates to", size(self.inflated_bytes), "inflated_bytes")
    }

    pub(super) fn inflates_too_fast(&self) -> Refusal {
        let times = format!("{} times its packed size", self.inflation_ratio);
        Refusal::over("what it inflates to", times, "inflation_ratio")
    }

    pub(super) fn too_many_parts(&self) -> Refusal {
        Refusal::over("the number of its parts", self.archive_entries, "archive_entries")
    }

    pub(super) fn too_deep(&self) -> Refusal {
        Refusal::over("its nesting", format!("{} levels", self.nesting), "nesting")
    }

    pub(super) fn too_many_objects(&self) -> Refusal {
        Refusal::over("the number of its objects", self.objects, "objects")
    }

    pub(super) fn too_many_pages(&self) -> Refusal {
        Refusal::over("the number of its pages", self.pages, "pages")
    }

    pub(super) fn record_too_long(&self, record: &str) -> Refusal {
        Refusal::over(
            format!("the size of {record}"),
            size(self.record_bytes as u64),
            "record_bytes",
        )
    }

    /// What a packed part of this size may inflate to by the ratio alone. A small part may inflate as it likes.
    pub(super) fn by_ratio(&self, packed: u64) -> u64 {
        packed.saturating_mul(self.inflation_ratio).max(1 << 20)
    }
}

/// A size in the largest unit that keeps it whole.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_limit_names_it_and_says_how_to_raise_it() {
        let limits = LoadLimits::new().with_input_bytes(2 << 10);
        let error = limits.too_large().of("a.txt");
        assert_eq!(error.code(), "limit_exceeded");
        assert_eq!(
            error.to_string(),
            "a.txt: its size is over the limit of 2 KiB; raise `input_bytes` of the load limits"
        );
        assert_eq!(
            limits.too_long().of("a.txt").to_string(),
            "a.txt: its text is over the limit of 8 MiB; split it, or raise `text_bytes` of the load limits"
        );
    }
}
