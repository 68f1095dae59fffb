//! [`Coverage`]: the proof that what is stored of a document is all of it.

use std::collections::BTreeMap;
use std::ops::Range;

use stepwell_core::{Error, Result, Scope};

use super::planned::gaps;
use super::{Collection, Inner};
use crate::error::blocking;
use crate::schema::{DocumentKey, check_id};
use crate::snapshot::Snapshot;

/// How much of a document's text its stored chunks hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// The document's id.
    pub document_id: String,
    /// How many chunks it has.
    pub chunks: u64,
    /// The length of its text, where it was noted: for documents whose chunker covered all of it.
    pub text_bytes: Option<u64>,
    /// Bytes of the text that are in no chunk, in order; without `text_bytes` only those between the chunks.
    pub gaps: Vec<Range<usize>>,
    /// Whether the chunks are numbered from 0, each once.
    pub is_numbered: bool,
}

impl Coverage {
    /// Whether every byte of the text is proved to be in a chunk.
    pub fn is_whole(&self) -> bool {
        self.text_bytes.is_some() && self.gaps.is_empty() && self.is_numbered
    }
}

/// What was seen of a document's chunks.
#[derive(Default)]
struct Seen {
    spans: Vec<Range<usize>>,
    numbers: Vec<u32>,
    text_bytes: Option<u64>,
}

impl Seen {
    fn judge(mut self, document_id: &str) -> Coverage {
        let end = self.spans.iter().map(|span| span.end).max().unwrap_or(0);
        let length = self.text_bytes.map_or(end, |length| length as usize);
        self.numbers.sort_unstable();
        Coverage {
            document_id: document_id.to_owned(),
            chunks: self.numbers.len() as u64,
            text_bytes: self.text_bytes,
            is_numbered: self
                .numbers
                .iter()
                .zip(0..)
                .all(|(number, place)| *number == place),
            gaps: gaps(length, self.spans),
        }
    }
}

impl Collection {
    /// How much of a document's text its stored chunks hold.
    ///
    /// # Errors
    /// `not_found` when there is no such document; `damaged`.
    pub async fn coverage(&self, document_id: &str) -> Result<Coverage> {
        check_id(document_id)?;
        let id = document_id.to_owned();
        self.read(move |inner, scope, snapshot| {
            let mut seen = inner.seen(snapshot, &DocumentKey::prefix(scope, &id))?;
            match seen.pop_first() {
                Some((_, seen)) => Ok(seen.judge(&id)),
                None => Err(Error::NotFound {
                    what: "document".to_owned(),
                    name: id,
                    hint: "`documents()` lists those that are there".to_owned(),
                }),
            }
        })
        .await
    }

    /// Proves for each document of the scope whose chunker covered its text that every byte of it is still in a chunk.
    pub(super) async fn verify_coverage(&self) -> Result<()> {
        let this = self.clone();
        blocking(&self.inner.place, move || {
            let snapshot = this.inner.snapshots.latest()?;
            this.inner.verify_coverage(&this.scope, &snapshot)
        })
        .await
    }
}

impl Inner {
    /// The chunks of each document whose term begins so, by id.
    fn seen(&self, snapshot: &Snapshot, prefix: &[u8]) -> Result<BTreeMap<String, Seen>> {
        let mut all: BTreeMap<String, Seen> = BTreeMap::new();
        self.each_document(snapshot, prefix, |segment, term, rows| {
            let key = DocumentKey::from_term(term)
                .ok_or_else(|| self.place.damaged("a document's key is not one"))?;
            let seen = all.entry(key.id.clone()).or_default();
            for row in rows {
                let stored = self.stored_chunk(snapshot, segment, *row)?;
                if stored.chunk.document_id != key.id {
                    return Err(self.place.damaged(format!(
                        "a chunk of `{}` is stored under another document",
                        key.id
                    )));
                }
                seen.text_bytes = stored.text_bytes;
                seen.spans.push(stored.chunk.span);
                seen.numbers.push(stored.chunk.number);
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn verify_coverage(&self, scope: &Scope, snapshot: &Snapshot) -> Result<()> {
        for (id, seen) in self.seen(snapshot, &DocumentKey::tenant_prefix(scope))? {
            let coverage = seen.judge(&id);
            if coverage.text_bytes.is_none() || coverage.is_whole() {
                continue;
            }
            let message = match coverage.gaps.first() {
                Some(gap) => format!(
                    "bytes {}..{} of document `{id}` are in no chunk",
                    gap.start, gap.end
                ),
                None => format!("the chunks of document `{id}` are not numbered one by one"),
            };
            return Err(Error::Damaged {
                what: self.place.name(),
                message,
                hint: "delete that document and add it again".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stepwell_core::{Document, HeuristicTokens};
    use tantivy::schema::Term;

    use super::*;
    use crate::chunk::{ChunkOptions, Chunker};
    use crate::writer::Change;

    #[tokio::test]
    async fn a_chunk_that_got_lost_is_found_out() {
        let options = ChunkOptions::new().with_max_tokens(20).with_overlap_tokens(0);
        let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
        let collection = Collection::in_memory()
            .chunker(Arc::new(chunker))
            .build()
            .await
            .expect("made");
        let text = "Herons fish at dawn in the shallow water here. ".repeat(3)
            + "A zebra stood in the middle of it all. "
            + &"They sleep at noon in the trees over there. ".repeat(3);
        let document = Document::new("a", text.as_str());
        collection
            .add([document, Document::new("b", "Short.")])
            .await
            .expect("added");
        collection.verify().await.expect("whole");
        let coverage = collection.coverage("a").await.expect("there");
        assert!(coverage.is_whole() && coverage.chunks > 5, "{coverage:?}");
        // Only one chunk has this word; no call of ours deletes a part of a document.
        let inner = &collection.inner;
        let mut writer = inner
            .writers
            .open(inner.writers.turn().await.expect("mine"))
            .expect("free");
        let remove = vec![Term::from_field_text(inner.fields.body, "zebra")];
        writer
            .commit(
                [Ok(Change {
                    remove,
                    add: Vec::new(),
                })],
                None,
            )
            .expect("committed");
        writer.close();
        inner.snapshots.follow().expect("read");
        let coverage = collection.coverage("a").await.expect("there");
        let zebra = text.find("zebra").expect("there");
        assert!(!coverage.is_whole() && coverage.gaps.len() == 1, "{coverage:?}");
        assert!(coverage.gaps[0].contains(&zebra), "{coverage:?}");
        let error = collection.verify().await.expect_err("told");
        assert_eq!(error.code(), "damaged");
        assert!(
            error.to_string().contains("of document `a` are in no chunk"),
            "{error}"
        );
        // Adding it again mends it.
        collection.delete(["a"]).await.expect("deleted");
        collection.add([Document::new("a", text)]).await.expect("added");
        collection.verify().await.expect("whole again");
    }
}
