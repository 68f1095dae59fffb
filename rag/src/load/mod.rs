//! Files become [`Document`]s.
//!
//! A format is a pure function from bytes to a document:
//!
//! | format | told by | text | headings and pages |
//! |---|---|---|---|
//! | text | all else that is text; encodings are sniffed | as it is | – |
//! | Markdown | `.md` | as it is | headings |
//! | source code, TOML, INI, YAML | its ending or `#!` | as it is | functions, types, sections; the fact `language` |
//! | CSV, TSV | its ending, or rows alike; the delimiter is sniffed | lines `column: value` | a heading for each row |
//! | JSON | `.json`, or its content | lines `path: value` | a heading for each element or entry |
//! | JSON Lines | `.jsonl`, `.ndjson`, or its content | lines `path: value` | a heading for each line |
//! | HTML | `.html`, or its beginning | the words one sees | headings |
//! | PDF | its content | words in reading order | pages |
//! | DOCX | `.docx`, or its content | words, tables, notes | headings |
//! | EPUB | `.epub`, or its content | the words of its chapters in reading order | headings |
//!
//! Every format is read on a thread of its own under [`LoadLimits`]: bytes, inflated bytes, nesting, length of a record
//! and of the text, and a time that the loops of readers look at. A panic or a deep recursion costs that file alone.
//!
//! A thread cannot be held to an amount of memory. What readers keep is bounded by the limits, for the formats that are
//! ours to about ten times the length of the text; a PDF made for it can cost its parser many times its own size. For
//! files of people who may mean harm there is [`LoadLimits::with_program`]: a process that the system holds to its memory
//! and that can open neither files nor connections.

mod below;
mod code;
mod csv;
mod folder;
mod format;
mod guard;
mod json;
mod limits;
mod markdown;
mod process;
mod records;
mod refusal;
mod text;

#[cfg(any(feature = "docx", feature = "epub"))]
mod archive;
#[cfg(feature = "html")]
mod charset;
#[cfg(feature = "docx")]
mod docx;
#[cfg(feature = "epub")]
mod epub;
#[cfg(any(feature = "html", feature = "docx"))]
mod flow;
#[cfg(feature = "html")]
mod html;
#[cfg(feature = "pdf")]
mod pdf;
#[cfg(feature = "html")]
mod tags;
#[cfg(any(feature = "docx", feature = "epub"))]
mod xml;

use bytes::Bytes;
use stepwell_core::{Cancel, Document, Error, Result};

pub(crate) use self::folder::Content;
pub use self::folder::{SkippedFile, SourceFile, SourceFiles, find_files};
pub use self::format::Format;
use self::guard::{Guard, isolated};
pub use self::limits::LoadLimits;
pub use self::process::{ReaderProgram, serve_reader};
use self::refusal::Refusal;

/// Reads a file that is in memory. Its name becomes the document's id and, by its ending, helps to tell the format.
///
/// The text is normalised: UTF-8 and LF, without a byte order mark and without invisible tag characters. Hidden words of
/// HTML and DOCX are left out. A text that overrides the writing direction gets the fact `has_direction_override`.
///
/// ```
/// use stepwell_rag::{LoadLimits, load};
/// let page = load("a.html", &b"<h1>Stock</h1><p>12 &times; A4"[..], &LoadLimits::default())?;
/// assert_eq!((page.text.as_str(), page.headings[0].title.as_str()), ("Stock\n\n12 × A4", "Stock"));
/// # Ok::<(), stepwell_core::Error>(())
/// ```
///
/// # Errors
/// `unreadable`, with the reason in a few words: `empty file`, `binary, not text`, `encrypted PDF` …; `limit_exceeded`,
/// with the limit to raise; `io` when no thread or process can be started.
pub fn load(name: &str, bytes: impl Into<Bytes>, limits: &LoadLimits) -> Result<Document> {
    load_until(name, bytes.into(), limits, &Cancel::new())
}

/// [`load`], given up when the switch is pulled.
pub(crate) fn load_until(name: &str, bytes: Bytes, limits: &LoadLimits, cancel: &Cancel) -> Result<Document> {
    let read = match &limits.program {
        Some(program) if !bytes.is_empty() && bytes.len() as u64 <= limits.input_bytes => {
            process::read(program, name, bytes, limits, cancel)?
        }
        _ => read_here(name, bytes, limits, cancel)?,
    };
    let mut document = read.map_err(|refusal| refusal.of(name))?;
    name.clone_into(&mut document.id);
    Ok(document)
}

/// Reads a file on a thread of this process. `Ok(Err(_))` refuses, `Err(_)` was cancelled.
fn read_here(
    name: &str,
    bytes: Bytes,
    limits: &LoadLimits,
    cancel: &Cancel,
) -> Result<std::result::Result<Document, Refusal>> {
    if bytes.is_empty() {
        return Ok(Err(Refusal::new("empty file")));
    }
    if bytes.len() as u64 > limits.input_bytes {
        return Ok(Err(limits.too_large()));
    }
    let format = match Format::detect(name, &bytes) {
        Ok(format) => format,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let id = name.to_owned();
    let read = isolated(limits, cancel, format.name(), move |guard| {
        read(format, &id, &bytes, guard)
    })?;
    Ok(read.and_then(|document| finished(document, format, limits)))
}

/// Reads a file as one of this format, whatever its name and content say.
#[cfg(all(
    any(test, feature = "fuzz"),
    feature = "html",
    feature = "pdf",
    feature = "docx",
    feature = "epub"
))]
pub(crate) fn read_as(format: Format, name: &str, bytes: Vec<u8>, limits: &LoadLimits) -> Result<Document> {
    let id = name.to_owned();
    let read = isolated(limits, &Cancel::new(), format.name(), move |guard| {
        read(format, &id, &bytes, guard)
    })?;
    read.and_then(|document| finished(document, format, limits))
        .map_err(|refusal| refusal.of(name))
}

/// What holds for the text of every format.
fn finished(
    mut document: Document,
    format: Format,
    limits: &LoadLimits,
) -> std::result::Result<Document, Refusal> {
    if document.text.trim().is_empty() {
        return Err(Refusal::new(if format == Format::Pdf {
            "no text in it; if it is a scan, run text recognition first"
        } else {
            "no text in it"
        }));
    }
    if document.text.len() > limits.text_bytes {
        return Err(limits.too_long());
    }
    document.media_type = Some(format.media_type().to_owned());
    if text::has_direction_override(&document.text) {
        document
            .metadata
            .insert("has_direction_override".to_owned(), true.into());
    }
    Ok(document)
}

fn read(format: Format, id: &str, bytes: &[u8], guard: &Guard) -> std::result::Result<Document, Refusal> {
    match format {
        Format::Text => text::read(id, bytes, guard),
        Format::Markdown => markdown::read(id, bytes, guard),
        Format::Code => match code::Language::of(id, bytes) {
            Some(language) => code::read(id, language, bytes, guard),
            None => text::read(id, bytes, guard),
        },
        Format::Csv => csv::read(id, bytes, guard),
        Format::Json => json::read(id, bytes, guard),
        Format::JsonLines => json::read_lines(id, bytes, guard),
        #[cfg(feature = "html")]
        Format::Html => html::read(id, bytes, guard),
        #[cfg(feature = "pdf")]
        Format::Pdf => pdf::read(id, bytes, guard),
        #[cfg(feature = "docx")]
        Format::Docx => docx::read(id, bytes, guard),
        #[cfg(feature = "epub")]
        Format::Epub => epub::read(id, bytes, guard),
        #[cfg(not(all(feature = "html", feature = "pdf", feature = "docx", feature = "epub")))]
        format => Err(Refusal::new(format!(
            "this build reads no {}; build it with that feature",
            format.name()
        ))),
    }
}

/// Why an input/output error kept a file from being read, in a few words.
fn io_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::NotFound => "it is gone".to_owned(),
        // The kind has no stable name yet.
        _ if is_link_loop(error) => "symbolic link loop".to_owned(),
        ErrorKind::IsADirectory => "a folder, not a file".to_owned(),
        ErrorKind::InvalidInput => "neither a file nor a folder".to_owned(),
        kind => kind.to_string(),
    }
}

fn is_link_loop(error: &std::io::Error) -> bool {
    const ELOOP: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
        40
    } else {
        62
    };
    cfg!(unix) && error.raw_os_error() == Some(ELOOP)
}

fn io_refusal(name: &str, error: &std::io::Error) -> Error {
    Refusal::new(io_reason(error)).of(name)
}

// The suites need every format.
#[cfg(all(test, feature = "html", feature = "pdf", feature = "docx", feature = "epub"))]
mod tests;
