//! In how many chunks of a tenant words stand.

use std::collections::HashSet;

use stepwell_core::Result;
use tantivy::schema::{IndexRecordOption, Term};
use tantivy::{DocSet, TERMINATED};

use super::Collection;
use crate::answer::TermCounts;
use crate::lexical::analyzer;

/// Most words that are counted at once.
const MOST_TERMS: usize = 10_000;

impl Collection {
    /// Counts each distinct word of a text. Only chunks of this tenant count: another's words are not told.
    pub(crate) async fn count_terms(&self, text: &str) -> Result<TermCounts> {
        let text = text.to_owned();
        self.read(move |inner, scope, snapshot| {
            let mut terms: HashSet<String> = HashSet::new();
            let mut analyzer = analyzer(inner.pinned.language, false);
            let mut stream = analyzer.token_stream(&text);
            while stream.advance() && terms.len() < MOST_TERMS {
                terms.insert(stream.token().text.clone());
            }
            drop(stream);
            let mut counted = TermCounts::default();
            let allowed = inner.allowed(snapshot, scope, None)?;
            for (reader, allowed) in snapshot.searcher.segment_readers().iter().zip(&allowed) {
                counted.chunks += u64::from(allowed.len());
                let body = inner.fields.body;
                let count = |term: &str| -> tantivy::Result<u64> {
                    let index = reader.inverted_index(body)?;
                    let term = Term::from_field_text(body, term);
                    let Some(mut postings) = index.read_postings(&term, IndexRecordOption::Basic)? else {
                        return Ok(0);
                    };
                    let mut found = 0;
                    let mut row = postings.doc();
                    while row != TERMINATED {
                        found += u64::from(allowed.contains(row));
                        row = postings.advance();
                    }
                    Ok(found)
                };
                for term in &terms {
                    let found = inner.place.check("counting words", count(term))?;
                    if found > 0 {
                        *counted.counts.entry(term.clone()).or_default() += found;
                    }
                }
            }
            Ok(counted)
        })
        .await
    }
}
