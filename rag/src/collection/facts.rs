//! One fact of every document: what a sync compares a folder with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stepwell_core::{Document, Result};
use tantivy::schema::IndexRecordOption;

use super::{Collection, Inner, living_rows};
use crate::fact::{after_prefix, text_fact_prefix};
use crate::schema::DocumentKey;
use crate::snapshot::Snapshot;

impl Collection {
    /// The text fact `key` of each document that has it, by id. Documents that were cut with other settings than the
    /// collection's now are left out: they have to be read again.
    pub(crate) async fn text_facts(&self, key: &'static str) -> Result<BTreeMap<String, String>> {
        self.read(move |inner, scope, snapshot| {
            let values = inner.values_by_row(snapshot, key)?;
            let settings =
                DocumentKey::new(&Document::new("any", ""), &inner.chunker.fingerprint())?.settings;
            let mut facts = BTreeMap::new();
            inner.each_document(
                snapshot,
                &DocumentKey::tenant_prefix(scope),
                |segment, term, rows| {
                    let document = DocumentKey::from_term(term)
                        .ok_or_else(|| inner.place.damaged("a document's key is not one"))?;
                    if document.settings == settings
                        && let Some(value) = rows.first().and_then(|row| values[segment].get(row))
                    {
                        facts.insert(document.id, value.as_ref().to_owned());
                    }
                    Ok(())
                },
            )?;
            Ok(facts)
        })
        .await
    }
}

impl Inner {
    /// The value of a text fact by row, for each segment. The rows of all tenants; the caller picks.
    fn values_by_row(&self, snapshot: &Snapshot, key: &str) -> Result<Vec<HashMap<u32, Arc<str>>>> {
        let prefix = text_fact_prefix(key)?;
        let end = after_prefix(&prefix);
        let mut segments = Vec::new();
        let mut rows = Vec::new();
        for reader in snapshot.searcher.segment_readers() {
            let index = self
                .place
                .check("reading", reader.inverted_index(self.fields.facts))?;
            let io = |error: std::io::Error| self.place.explain("reading", &error.into());
            let mut terms = index
                .terms()
                .range()
                .ge(&prefix)
                .lt(&end)
                .into_stream()
                .map_err(io)?;
            let mut values = HashMap::new();
            while terms.advance() {
                let value: Arc<str> = String::from_utf8_lossy(&terms.key()[prefix.len()..]).into();
                let postings = index
                    .read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)
                    .map_err(io)?;
                living_rows(reader, postings, &mut rows);
                values.extend(rows.iter().map(|row| (*row, Arc::clone(&value))));
            }
            segments.push(values);
        }
        Ok(segments)
    }
}
