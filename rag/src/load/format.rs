//! [`Format`]: what a file is, by its content first and its name second.

use super::code::Language;
use super::refusal::Refusal;
use super::{csv, json};

/// How much of a file is looked at where its name tells nothing.
const SAMPLE: usize = 64 << 10;

/// A kind of file that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Plain text, and whatever else is text.
    Text,
    /// Markdown.
    Markdown,
    /// Source code and configuration of a language whose items are known.
    Code,
    /// CSV, and its like with other delimiters.
    Csv,
    /// JSON.
    Json,
    /// JSON Lines: one value a line.
    JsonLines,
    /// HTML.
    Html,
    /// PDF.
    Pdf,
    /// Word's `.docx`.
    Docx,
    /// EPUB.
    Epub,
}

impl Format {
    /// Every format.
    #[cfg(all(
        any(test, feature = "fuzz"),
        feature = "html",
        feature = "pdf",
        feature = "docx",
        feature = "epub"
    ))]
    pub(crate) const ALL: [Self; 10] = [
        Self::Text,
        Self::Markdown,
        Self::Code,
        Self::Csv,
        Self::Json,
        Self::JsonLines,
        Self::Html,
        Self::Pdf,
        Self::Docx,
        Self::Epub,
    ];

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text | Self::Code => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            Self::Epub => "application/epub+zip",
        }
    }

    /// The word for it in a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "Markdown",
            Self::Code => "source code",
            Self::Csv => "CSV",
            Self::Json => "JSON",
            Self::JsonLines => "JSON Lines",
            Self::Html => "HTML",
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
            Self::Epub => "EPUB",
        }
    }

    /// What a file of this name and content is; text when nothing else is known.
    pub(super) fn detect(name: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let extension = extension(name);
        let is = |names: &[&str]| names.contains(&extension.as_str());
        let head = &bytes[..bytes.len().min(1024)];
        // The standard lets a PDF begin with other bytes; with its name they are believed.
        if head.starts_with(b"%PDF-")
            || is(&["pdf"])
            || (head.windows(5).any(|five| five == b"%PDF-") && bytes.contains(&0))
        {
            return Ok(Self::Pdf);
        }
        if head.starts_with(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1") {
            return Err(Refusal::new(
                "an old or encrypted Office file; save it as .docx without a password",
            ));
        }
        if is(&["docx"]) {
            return Ok(Self::Docx);
        }
        if is(&["epub"]) {
            return Ok(Self::Epub);
        }
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            // The standard puts the name and the words of this part in the same place of every book.
            return if bytes.get(30..58) == Some(b"mimetypeapplication/epub+zip") {
                Ok(Self::Epub)
            } else if holds(b"word/document.xml") {
                Ok(Self::Docx)
            } else {
                Err(Refusal::new("an archive, not a document"))
            };
        }
        Ok(match extension.as_str() {
            "md" | "markdown" | "mdown" | "mkd" => Self::Markdown,
            "html" | "htm" | "xhtml" => Self::Html,
            "csv" | "tsv" | "tab" | "psv" => Self::Csv,
            "json" => Self::Json,
            "jsonl" | "ndjson" | "jsonlines" => Self::JsonLines,
            _ if Language::of(name, bytes).is_some() => Self::Code,
            "" | "txt" => of_content(bytes),
            _ => Self::Text,
        })
    }
}

/// What a file without a telling name is by its beginning.
fn of_content(bytes: &[u8]) -> Format {
    let head = &bytes[..bytes.len().min(SAMPLE)];
    if is_html(head) {
        return Format::Html;
    }
    // A character may be cut at the end.
    let head = match std::str::from_utf8(head) {
        Ok(head) => head,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return Format::Text,
    };
    let is_whole = head.len() == bytes.len();
    let mut lines = head.lines().filter(|line| !line.trim().is_empty());
    if head.trim_start().starts_with(['{', '[']) {
        let (first, second) = (lines.next(), lines.next());
        if let (Some(first), Some(second)) = (first, second)
            && json::is_json(first)
            && (json::is_json(second) || (!is_whole && lines.next().is_none()))
        {
            return Format::JsonLines;
        }
        if is_whole && json::is_json(head) {
            return Format::Json;
        }
        return Format::Text;
    }
    // A table: many rows alike, and no line of prose among them.
    let is_table = csv::delimiter(head).is_some_and(|(_, sniffed)| {
        sniffed.rows >= 5 && sniffed.columns >= 3 && sniffed.alike == sniffed.rows
    }) && lines.all(|line| !line.trim_end().ends_with(['.', '!', '?', ',']));
    if is_table { Format::Csv } else { Format::Text }
}

/// What stands after the last dot of the name, in small letters.
pub(super) fn extension(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default()
}

fn is_html(head: &[u8]) -> bool {
    let head = head
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(head)
        .trim_ascii_start();
    let starts = |word: &[u8]| head.len() >= word.len() && head[..word.len()].eq_ignore_ascii_case(word);
    starts(b"<!doctype html") || starts(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_counts_before_the_name() {
        for (name, bytes, format) in [
            ("a.txt", &b"%PDF-1.4"[..], Format::Pdf),
            ("a.pdf", b"junk", Format::Pdf),
            ("a.txt", b"mentions %PDF- once", Format::Text),
            ("a.bin", b"PK\x03\x04..word/document.xml", Format::Docx),
            ("a.DOCX", b"PK", Format::Docx),
            ("a.txt", b" <!DOCTYPE HTML><p>", Format::Html),
            ("a.md", b"<html>", Format::Markdown),
            ("dir.md/a.HTM", b"x", Format::Html),
            ("README", b"x", Format::Text),
            ("a.rs", b"fn main() {}", Format::Code),
            ("run", b"#!/bin/sh\necho", Format::Code),
            ("a.csv", b"prose", Format::Csv),
            ("a.jsonl", b"{}", Format::JsonLines),
            ("a.json", b"[]", Format::Json),
            ("data", b"{\"a\": 1}\n{\"a\": 2}\n", Format::JsonLines),
            ("data", b"{\n\"a\": 1}", Format::Json),
            ("data.txt", b"{not json}", Format::Text),
            (
                "data",
                b"a\tb\tc\n1\t2\t3\n1\t2\t3\n1\t2\t3\n1\t2\t3\n",
                Format::Csv,
            ),
            (
                "list.txt",
                b"red, green, blue.\nred, green, blue.\na, b, c\na, b, c\na, b, c\n",
                Format::Text,
            ),
            ("a.epub", b"PK", Format::Epub),
            (
                "a.bin",
                b"PK\x03\x04..........................mimetypeapplication/epub+zip",
                Format::Epub,
            ),
        ] {
            assert_eq!(Format::detect(name, bytes), Ok(format), "{name}");
        }
        assert!(Format::detect("a.zip", b"PK\x03\x04").is_err());
    }
}
