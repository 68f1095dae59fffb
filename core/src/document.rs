//! [`Document`] what a user brings, [`Chunk`] what is searched, [`Citation`] what words rest on.

use crate::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::ops::Range;

/// A heading of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heading {
    /// 1 for the highest.
    pub level: u8,
    /// Its words.
    pub title: String,
    /// Bytes of the normalised text where the heading's own line stands; its section runs to the next heading of
    /// the same or a higher level.
    pub span: Range<usize>,
}

impl Heading {
    /// A heading.
    pub fn new(level: u8, title: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            level,
            title: title.into(),
            span,
        }
    }
}

/// A page of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageSpan {
    /// 1 for the first.
    pub number: u32,
    /// Bytes of the normalised text.
    pub span: Range<usize>,
}

impl PageSpan {
    /// A page.
    pub fn new(number: u32, span: Range<usize>) -> Self {
        Self { number, span }
    }
}

/// What a user brings: a normalised text with its structure. Loaders make it; a program may too.
///
/// Every span in the engine counts bytes of `text`; a citation's quote is `text[span]`, exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Document {
    /// Its id in the collection; adding another of the same id replaces it.
    pub id: String,
    /// The text, normalised: UTF-8, LF line ends.
    pub text: String,
    /// A title to show and to search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Path or address to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Such as `text/markdown`, `application/pdf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Headings in order of their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<Heading>,
    /// Pages in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageSpan>,
    /// Facts to filter by: strings, numbers, booleans, or lists of them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Document {
    /// A plain text under an id.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            title: None,
            uri: None,
            media_type: None,
            headings: Vec::new(),
            pages: Vec::new(),
            metadata: Map::new(),
        }
    }

    /// With a title.
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// With a path or address.
    pub fn with_uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// With a fact to filter by.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The titles of the headings a byte stands under, highest first.
    pub fn heading_path(&self, at: usize) -> Vec<String> {
        /// How far back a higher heading is looked for: a hostile document has millions of the lowest.
        const BACK: usize = 10_000;
        let end = self.headings.partition_point(|heading| heading.span.start <= at);
        let mut path: Vec<String> = Vec::new();
        let mut lowest = u8::MAX;
        for heading in self.headings[..end].iter().rev().take(BACK) {
            if heading.level < lowest {
                lowest = heading.level;
                path.push(heading.title.clone());
            }
            if lowest <= 1 {
                break;
            }
        }
        path.reverse();
        path
    }

    /// The page a byte stands on.
    pub fn page(&self, at: usize) -> Option<u32> {
        let end = self.pages.partition_point(|page| page.span.start <= at);
        self.pages[..end].last().map(|page| page.number)
    }

    /// A hash of all that is indexed of it: equal hashes need no new indexing.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let structure = (
            &self.title,
            &self.uri,
            &self.media_type,
            &self.headings,
            &self.pages,
            &self.metadata,
        );
        let structure = serde_json::to_vec(&structure).expect("strings, numbers and JSON serialise");
        hasher.update(&(structure.len() as u64).to_le_bytes());
        hasher.update(&structure);
        hasher.update(self.text.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// What is searched: a span of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Chunk {
    /// Its id: the document's and the chunk's number.
    pub id: String,
    /// The document's id.
    pub document_id: String,
    /// 0 for the document's first.
    pub number: u32,
    /// The words: `document.text[span]`.
    pub text: String,
    /// Bytes of the document's normalised text.
    pub span: Range<usize>,
    /// Headings it stands under, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
    /// Page of its first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Where in the chunk a new page begins: byte of the document's text and page number. Lets a quote name its own page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub page_breaks: Vec<(usize, u32)>,
    /// Where in the chunk a new section begins: byte of the document's text and the headings from there on. Lets a quote
    /// name its own section.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heading_breaks: Vec<(usize, Vec<String>)>,
    /// The document's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The document's path or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The document's facts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Chunk {
    /// A plain text as a document's chunk of this number, from this byte of its text on.
    pub fn new(document_id: impl Into<String>, number: u32, start: usize, text: impl Into<String>) -> Self {
        let (document_id, text) = (document_id.into(), text.into());
        let mut id = String::with_capacity(document_id.len() + 11);
        let _ = write!(id, "{document_id}#{number}"); // a String takes whatever is written
        Self {
            id,
            number,
            span: start..start.saturating_add(text.len()),
            document_id,
            text,
            headings: Vec::new(),
            page: None,
            page_breaks: Vec::new(),
            heading_breaks: Vec::new(),
            title: None,
            uri: None,
            metadata: Map::new(),
        }
    }

    /// A span of a document as its chunk of this number.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the span does not lie on character bounds of the text.
    pub fn of(document: &Document, number: u32, span: Range<usize>) -> Result<Self> {
        let Some(text) = document.text.get(span.clone()) else {
            return Err(crate::Error::invalid(
                "chunk",
                format!(
                    "bytes {}..{} are no slice of document `{}`",
                    span.start, span.end, document.id
                ),
            ));
        };
        // Leading space belongs to the page before; the first word tells page and heading.
        let first = span.start + (text.len() - text.trim_start().len());
        let pages = document.pages.partition_point(|page| page.span.start <= first);
        let page_breaks = document.pages[pages..]
            .iter()
            .take_while(|page| page.span.start < span.end)
            .map(|page| (page.span.start, page.number))
            .collect();
        let headings = document
            .headings
            .partition_point(|heading| heading.span.start <= first);
        let heading_breaks = document.headings[headings..]
            .iter()
            .take_while(|heading| heading.span.start < span.end)
            .map(|heading| (heading.span.start, document.heading_path(heading.span.start)))
            .collect();
        Ok(Self {
            id: format!("{}#{number}", document.id),
            document_id: document.id.clone(),
            number,
            text: text.to_owned(),
            headings: document.heading_path(first),
            page: document.page(first),
            page_breaks,
            heading_breaks,
            title: document.title.clone(),
            uri: document.uri.clone(),
            metadata: document.metadata.clone(),
            span,
        })
    }

    /// A citation of a part of it, by bytes of the chunk's own text.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the range does not lie on character bounds of the text.
    pub fn cite(&self, range: Range<usize>) -> Result<Citation> {
        let Some(quote) = self.text.get(range.clone()) else {
            return Err(crate::Error::invalid(
                "citation",
                format!(
                    "bytes {}..{} are no slice of chunk `{}`",
                    range.start, range.end, self.id
                ),
            ));
        };
        let span = self.span.start + range.start..self.span.start + range.end;
        let page = self
            .page_breaks
            .iter()
            .rev()
            .find(|(at, _)| *at <= span.start)
            .map_or(self.page, |(_, page)| Some(*page));
        let section = self.heading_breaks.iter().rev().find(|(at, _)| *at <= span.start);
        let headings = section.map_or(&self.headings, |(_, headings)| headings).clone();
        Ok(Citation {
            document_id: self.document_id.clone(),
            chunk_id: self.id.clone(),
            title: self.title.clone(),
            uri: self.uri.clone(),
            span,
            page,
            headings,
            quote: quote.to_owned(),
        })
    }
}

/// A place in a document that words rest on: `quote == document.text[span]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Citation {
    /// The document.
    pub document_id: String,
    /// The chunk it was read in.
    pub chunk_id: String,
    /// The document's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The document's path or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Bytes of the document's normalised text.
    pub span: Range<usize>,
    /// Page of the quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Headings it stands under, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
    /// The exact words.
    pub quote: String,
}

impl Citation {
    /// A citation as a vendor reports it; empty fields where it tells nothing.
    pub fn new(document_id: impl Into<String>, span: Range<usize>, quote: impl Into<String>) -> Self {
        Self {
            document_id: document_id.into(),
            chunk_id: String::new(),
            title: None,
            uri: None,
            span,
            page: None,
            headings: Vec::new(),
            quote: quote.into(),
        }
    }

    /// File, then page or heading: `guide.pdf, page 3` or `runs.md, Runs › Resume`.
    pub fn place(&self) -> String {
        let name = self
            .uri
            .as_deref()
            .or(self.title.as_deref())
            .unwrap_or(&self.document_id);
        match (self.page, self.headings.is_empty()) {
            (Some(page), _) => format!("{name}, page {page}"),
            (None, false) => format!("{name}, {}", self.headings.join(" › ")),
            (None, true) => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Document, Heading, PageSpan};

    fn guide() -> Document {
        let mut document = Document::new(
            "guide.md",
            "# Runs\nAll about runs.\n## Resume\nIt goes on. Page two here.",
        );
        document.headings = vec![Heading::new(1, "Runs", 0..6), Heading::new(2, "Resume", 23..32)];
        document.pages = vec![PageSpan::new(1, 0..44), PageSpan::new(2, 44..58)];
        document
    }

    #[test]
    fn a_quote_is_the_documents_own_bytes_under_its_page_and_headings() {
        let document = guide();
        let chunk = Chunk::of(&document, 1, 33..document.text.len()).expect("on bounds");
        assert_eq!(
            (chunk.headings.join(" › ").as_str(), chunk.page),
            ("Runs › Resume", Some(1))
        );
        let citation = chunk.cite(12..21).expect("on bounds");
        assert_eq!(citation.quote, document.text[citation.span.clone()]);
        assert_eq!(
            (citation.page, citation.place().as_str()),
            (Some(2), "guide.md, page 2")
        );
        assert!(chunk.cite(0..999).is_err());
    }

    #[test]
    fn a_quote_after_a_heading_inside_the_chunk_names_that_heading() {
        let document = guide();
        let chunk = Chunk::of(&document, 0, 0..document.text.len()).expect("on bounds");
        assert_eq!(chunk.headings, ["Runs"]);
        assert_eq!(chunk.cite(7..22).expect("on bounds").headings, ["Runs"]);
        assert_eq!(
            chunk.cite(33..44).expect("on bounds").headings,
            ["Runs", "Resume"]
        );
    }

    #[test]
    fn the_content_hash_tells_any_change_of_text_or_facts() {
        let one = guide();
        assert_eq!(one.content_hash(), guide().content_hash());
        assert_ne!(
            one.content_hash(),
            guide().with_metadata("year", 2024).content_hash()
        );
        let mut moved = guide();
        moved.pages.pop();
        assert_ne!(one.content_hash(), moved.content_hash());
    }
}
