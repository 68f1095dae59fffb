//! Documents that are called like the question: by title or address, whatever its letters' case and spaces.

use std::sync::Arc;

use stepwell_core::{Chunk, Result};
use tantivy::schema::{IndexRecordOption, Term};
use tantivy::{DocSet, Searcher, TERMINATED};

use crate::error::Place;
use crate::filter::RowSet;
use crate::schema::Fields;

/// More documents of one name do not come first.
pub(crate) const MOST_NAMESAKES: usize = 100;
/// Longer names are no names.
const LONGEST_NAME: usize = 4_096;

/// A name as it is compared; `None` where there is nothing to compare.
pub(crate) fn plain_name(name: &str) -> Option<String> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The term of a plain name. Eight bytes of a hash: whoever finds it compares the names themselves.
fn name_term(plain: &str) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(plain.as_bytes()).as_bytes()[..8]);
    short
}

/// The plain names of a chunk's document.
pub(crate) fn names(chunk: &Chunk) -> impl Iterator<Item = String> {
    [&chunk.title, &chunk.uri]
        .into_iter()
        .flatten()
        .filter_map(|name| plain_name(name))
}

/// The terms of the names of a document, for the row of its first chunk.
pub(crate) fn name_terms(chunk: &Chunk) -> Vec<[u8; 8]> {
    let mut terms: Vec<_> = names(chunk).map(|name| name_term(&name)).collect();
    terms.dedup();
    terms
}

/// First rows of allowed documents that may have this plain name, in the order of the index.
pub(crate) fn namesakes(
    searcher: &Searcher,
    fields: &Fields,
    plain: &str,
    allowed: &[Arc<RowSet>],
    place: &Place,
) -> Result<Vec<(u32, u32)>> {
    let term = Term::from_field_bytes(fields.name, &name_term(plain));
    let walk = || -> tantivy::Result<Vec<(u32, u32)>> {
        let mut rows = Vec::new();
        for (segment, (reader, allowed)) in searcher.segment_readers().iter().zip(allowed).enumerate() {
            let index = reader.inverted_index(fields.name)?;
            let Some(mut postings) = index.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            let mut row = postings.doc();
            while row != TERMINATED && rows.len() < MOST_NAMESAKES {
                if allowed.contains(row) {
                    rows.push((segment as u32, row));
                }
                row = postings.advance();
            }
        }
        Ok(rows)
    };
    place.check("searching", walk())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stepwell_core::Document;

    #[test]
    fn names_are_compared_without_case_and_spaces() {
        assert_eq!(plain_name("  The  Guide\n"), plain_name("the guide"));
        assert_ne!(plain_name("the guide"), plain_name("theguide"));
        assert_eq!(plain_name(" \n"), None);
        assert_eq!(plain_name(&"x".repeat(5_000)), None);
    }

    #[test]
    fn a_document_that_is_called_like_its_address_has_one_name() {
        let document = Document::new("a", "text")
            .with_title("Guide.md")
            .with_uri("guide.md");
        let chunk = Chunk::of(&document, 0, 0..4).expect("a slice");
        assert_eq!(name_terms(&chunk).len(), 1);
    }
}
