//! One fact of every document: what a sync compares a folder with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stepwell_core::{Document, Result};
use tantivy::schema::IndexRecordOption;

use super::{Collection, Inner, living_rows};
use crate::fact::{after_prefix, text_fact_prefix};
use crate::schema::DocumentKey;
use crate::snapshot::Snapshot;

/// What the index knows of the file that a document was made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileFacts {
    /// Of the file's bytes; `None` for a document that came from no file.
    pub(crate) hash: Option<Arc<str>>,
    /// Of the given path it was found under.
    pub(crate) root: Option<Arc<str>>,
    /// Whether it was cut with the settings of today; otherwise it has to be read again.
    pub(crate) is_current: bool,
}

impl FileFacts {
    pub(crate) fn is_of(&self, hash: &str, root: &str) -> bool {
        self.hash.as_deref() == Some(hash) && self.root.as_deref() == Some(root)
    }
}

impl Collection {
    /// All documents with the facts of their files, by id; the keys name the facts.
    pub(crate) async fn file_facts(
        &self,
        hash: &'static str,
        root: &'static str,
    ) -> Result<BTreeMap<String, FileFacts>> {
        self.read(move |inner, scope, snapshot| {
            let hashes = inner.values_by_row(snapshot, hash)?;
            let roots = inner.values_by_row(snapshot, root)?;
            let settings = DocumentKey::new(&Document::new("any", ""), &inner.settings)?.settings;
            let mut facts = BTreeMap::new();
            let prefix = DocumentKey::tenant_prefix(scope);
            inner.each_document(snapshot, &prefix, |segment, term, rows| {
                let document = DocumentKey::from_term(term)
                    .ok_or_else(|| inner.place.damaged("a document's key is not one"))?;
                let first = rows.first().copied().unwrap_or_default();
                let value = |values: &[HashMap<u32, Arc<str>>]| values[segment].get(&first).cloned();
                let file = FileFacts {
                    hash: value(&hashes),
                    root: value(&roots),
                    is_current: document.settings == settings,
                };
                facts.insert(document.id, file);
                Ok(())
            })?;
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
