//! Files become [`Document`]s: text, Markdown, HTML, PDF, DOCX.
//!
//! A format is a pure function from bytes to a document. Each file is read on a thread of its own with limits on size,
//! inflation, nesting and time, so that a hostile one costs an error and nothing else.

mod folder;
mod format;
mod guard;
mod markdown;
mod text;

#[cfg(feature = "html")]
mod charset;
#[cfg(feature = "docx")]
mod docx;
#[cfg(any(feature = "html", feature = "docx"))]
mod flow;
#[cfg(feature = "html")]
mod html;
#[cfg(feature = "pdf")]
mod pdf;
#[cfg(feature = "html")]
mod tags;

use bytes::Bytes;
use stepwell_core::{Cancel, Document, Error, Result};

pub(crate) use self::folder::Content;
pub use self::folder::{SkippedFile, SourceFile, SourceFiles, find_files};
pub use self::format::Format;
pub use self::guard::LoadLimits;
use self::guard::{Guard, Refusal, isolated};

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
/// `unreadable`, with the reason in a few words: `empty file`, `binary, not text`, `encrypted PDF` …
pub fn load(name: &str, bytes: impl Into<Bytes>, limits: &LoadLimits) -> Result<Document> {
    load_until(name, bytes.into(), limits, &Cancel::new())
}

/// [`load`], given up when the switch is pulled.
pub(crate) fn load_until(name: &str, bytes: Bytes, limits: &LoadLimits, cancel: &Cancel) -> Result<Document> {
    let refuse = |refusal: Refusal| refusal.of(name);
    if bytes.is_empty() {
        return Err(refuse(Refusal::new("empty file")));
    }
    if bytes.len() as u64 > limits.input_bytes {
        return Err(refuse(limits.too_large()));
    }
    let format = Format::detect(name, &bytes).map_err(refuse)?;
    let id = name.to_owned();
    let read = isolated(limits, cancel, format.name(), move |guard| {
        read(format, &id, &bytes, guard)
    })?;
    let mut document = read.map_err(refuse)?;
    if document.text.trim().is_empty() {
        let hint = if format == Format::Pdf {
            "no text in it; if it is a scan, run text recognition first"
        } else {
            "no text in it"
        };
        return Err(refuse(Refusal::new(hint)));
    }
    if document.text.len() > limits.text_bytes {
        return Err(refuse(limits.too_long()));
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
        #[cfg(feature = "html")]
        Format::Html => html::read(id, bytes, guard),
        #[cfg(feature = "pdf")]
        Format::Pdf => pdf::read(id, bytes, guard),
        #[cfg(feature = "docx")]
        Format::Docx => docx::read(id, bytes, guard),
        #[cfg(not(all(feature = "html", feature = "pdf", feature = "docx")))]
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
#[cfg(all(test, feature = "html", feature = "pdf", feature = "docx"))]
mod tests;
