//! What the index stores of a chunk, to be shown again.
//!
//! ```text
//! 2 | flags | number | start of the span | document id | text | [text bytes of the document] | [the rest]
//! ```
//!
//! Numbers are LEB128, strings have their length before them. The rest, such as title, headings and metadata, is JSON, and
//! most short documents have none. The first byte is the version.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stepwell_core::{Chunk, Error, Result};

const VERSION: u8 = 2;
/// The document's length follows: its chunks cover it.
const HAS_TEXT_BYTES: u8 = 1;
/// JSON follows.
const HAS_REST: u8 = 2;

/// A chunk to be stored.
pub(crate) struct Record<'a> {
    pub(crate) chunk: &'a Chunk,
    /// The length of the document's text, where its chunks cover all of it.
    pub(crate) text_bytes: Option<u64>,
}

/// What was stored of a chunk.
#[derive(Debug, PartialEq)]
pub(crate) struct StoredChunk {
    pub(crate) chunk: Chunk,
    /// The length of the document's text, where its chunks cover all of it; `None` also where that was not noted.
    pub(crate) text_bytes: Option<u64>,
}

/// What a chunk has beside its words and its place; the names are kept short, for they stand in every record.
#[derive(Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Rest {
    /// Where it does not follow from document and number.
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Where it does not follow from start and text.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    end: Option<usize>,
    #[serde(rename = "h", skip_serializing_if = "Vec::is_empty")]
    headings: Vec<String>,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    #[serde(rename = "pb", skip_serializing_if = "Vec::is_empty")]
    page_breaks: Vec<(usize, u32)>,
    #[serde(rename = "hb", skip_serializing_if = "Vec::is_empty")]
    heading_breaks: Vec<(usize, Vec<String>)>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(rename = "m", skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(first & 0x7F);
        number |= bits << shift;
        if first & 0x80 == 0 {
            // The tenth byte has room for one bit.
            return (bits << shift >> shift == bits).then_some(number);
        }
    }
    None
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn id_of(document_id: &str, number: u32) -> String {
    format!("{document_id}#{number}")
}

impl Record<'_> {
    /// As the index keeps it.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let chunk = self.chunk;
        let unstorable =
            |error: serde_json::Error| Error::internal(format!("a chunk cannot be stored: {error}"));
        let Range { start, end } = chunk.span;
        let rest = Rest {
            id: (chunk.id != id_of(&chunk.document_id, chunk.number)).then(|| chunk.id.clone()),
            end: (start.checked_add(chunk.text.len()) != Some(end)).then_some(end),
            headings: chunk.headings.clone(),
            page: chunk.page,
            page_breaks: chunk.page_breaks.clone(),
            heading_breaks: chunk.heading_breaks.clone(),
            title: chunk.title.clone(),
            uri: chunk.uri.clone(),
            metadata: chunk.metadata.clone(),
        };
        let has_rest = rest != Rest::default();
        let mut bytes = Vec::with_capacity(chunk.text.len() + chunk.document_id.len() + 32);
        bytes.push(VERSION);
        bytes.push(u8::from(self.text_bytes.is_some()) * HAS_TEXT_BYTES + u8::from(has_rest) * HAS_REST);
        push_number(&mut bytes, u64::from(chunk.number));
        push_number(&mut bytes, start as u64);
        push_text(&mut bytes, &chunk.document_id);
        push_text(&mut bytes, &chunk.text);
        if let Some(length) = self.text_bytes {
            push_number(&mut bytes, length);
        }
        if has_rest {
            serde_json::to_writer(&mut bytes, &rest).map_err(unstorable)?;
        }
        Ok(bytes)
    }
}

impl StoredChunk {
    /// `None` for what is no record.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [VERSION, flags, body @ ..] = bytes else {
            return None;
        };
        let body = &mut &*body;
        let number = u32::try_from(take_number(body)?).ok()?;
        let start = usize::try_from(take_number(body)?).ok()?;
        let document_id = take_text(body)?;
        let text = take_text(body)?;
        let text_bytes = match flags & HAS_TEXT_BYTES {
            0 => None,
            _ => Some(take_number(body)?),
        };
        let rest: Rest = match flags & HAS_REST {
            0 if body.is_empty() => Rest::default(),
            0 => return None,
            _ => serde_json::from_slice(body).ok()?,
        };
        let end = match rest.end {
            Some(end) => end,
            None => start.checked_add(text.len())?,
        };
        let mut chunk = Chunk::new(document_id, number, start, text);
        chunk.span = start..end;
        if let Some(id) = rest.id {
            chunk.id = id;
        }
        chunk.headings = rest.headings;
        chunk.page = rest.page;
        chunk.page_breaks = rest.page_breaks;
        chunk.heading_breaks = rest.heading_breaks;
        chunk.title = rest.title;
        chunk.uri = rest.uri;
        chunk.metadata = rest.metadata;
        Some(Self { chunk, text_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use stepwell_core::{Document, Heading, PageSpan};

    use super::*;

    fn chunk(text: &str, rich: bool, number: u32) -> Chunk {
        let mut document = Document::new("notes/ä.md", text);
        if rich {
            document.title = Some("A title".to_owned());
            document.uri = Some("docs/ä.md".to_owned());
            document.headings = vec![
                Heading::new(1, "One", 0..0),
                Heading::new(2, "Two", text.len() / 2..text.len()),
            ];
            document.pages = vec![
                PageSpan::new(1, 0..0),
                PageSpan::new(2, text.len() / 2..text.len()),
            ];
            document = document.with_metadata("tags", json!(["x", 1, null, { "deep": true }]));
        }
        Chunk::of(&document, number, 0..text.len()).expect("the whole text")
    }

    #[test]
    fn a_plain_chunk_costs_few_bytes_beside_its_words() {
        let chunk = chunk(&"word ".repeat(80), false, 3);
        let record = Record {
            chunk: &chunk,
            text_bytes: Some(1_000),
        };
        let bytes = record.to_bytes().expect("stores");
        assert_eq!(bytes.len(), chunk.text.len() + chunk.document_id.len() + 9);
        assert!(bytes.len() + 60 < serde_json::to_vec(&chunk).expect("JSON").len());
    }

    #[test]
    fn a_chunk_of_the_hosts_own_making_keeps_its_id_and_span() {
        let mut chunk = chunk("some words", false, 3);
        chunk.id = "mine".to_owned();
        chunk.span = 90..95;
        let record = Record {
            chunk: &chunk,
            text_bytes: None,
        };
        let stored = StoredChunk::from_bytes(&record.to_bytes().expect("stores"));
        assert_eq!(stored.expect("reads").chunk, chunk);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]
        #[test]
        fn a_record_survives_and_a_cut_one_is_refused(
            text in "\\PC{0,200}", rich: bool, number: u32, length in prop::option::of(any::<u64>()),
            garbage in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let chunk = chunk(&text, rich, number);
            let record = Record { chunk: &chunk, text_bytes: length };
            let bytes = record.to_bytes().expect("stores");
            let stored = StoredChunk::from_bytes(&bytes).expect("reads");
            prop_assert_eq!(stored.text_bytes, length);
            prop_assert_eq!(stored.chunk, chunk);
            for cut in 0..bytes.len() {
                prop_assert_eq!(StoredChunk::from_bytes(&bytes[..cut]), None, "cut at {}", cut);
            }
            let _ = StoredChunk::from_bytes(&[&[VERSION][..], &garbage].concat());
        }
    }
}
