//! [`Format`]: what a file is, by its content first and its name second.

use super::guard::Refusal;

/// A kind of file that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Plain text, and whatever else is text: source code, CSV, JSON.
    Text,
    /// Markdown.
    Markdown,
    /// HTML.
    Html,
    /// PDF.
    Pdf,
    /// Word's `.docx`.
    Docx,
}

impl Format {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        }
    }

    /// The word for it in a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "Markdown",
            Self::Html => "HTML",
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
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
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            let needle = b"word/document.xml";
            let is_word = bytes.windows(needle.len()).any(|window| window == needle);
            return if is_word {
                Ok(Self::Docx)
            } else {
                Err(Refusal::new("an archive, not a document"))
            };
        }
        if is(&["md", "markdown", "mdown", "mkd"]) {
            return Ok(Self::Markdown);
        }
        if is(&["html", "htm", "xhtml"]) || (is(&["", "txt"]) && is_html(head)) {
            return Ok(Self::Html);
        }
        Ok(Self::Text)
    }
}

/// What stands after the last dot of the name, in small letters.
fn extension(name: &str) -> String {
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
            ("a.rs", b"fn main() {}", Format::Text),
        ] {
            assert_eq!(Format::detect(name, bytes), Ok(format), "{name}");
        }
        assert!(Format::detect("a.zip", b"PK\x03\x04").is_err());
    }
}
