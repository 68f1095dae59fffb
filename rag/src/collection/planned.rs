//! A document on its way in: compared with the index, checked, cut, and given the vectors that stand there already.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stepwell_core::{Chunk, Document, Error, Result};

use super::{Collection, Inner};
use crate::error::blocking;
use crate::schema::{self, DocumentKey, StoredChunk};
use crate::snapshot::Snapshot;

/// A document to be added.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) document: Document,
    /// The id it had before: that one goes in the same commit, and its vectors are taken along.
    pub(crate) from: Option<String>,
    /// The id of another document whose vectors may serve.
    pub(crate) like: Option<String>,
}

impl From<Document> for Incoming {
    fn from(document: Document) -> Self {
        Self {
            document,
            from: None,
            like: None,
        }
    }
}

/// A document that waits for its vectors and the commit.
pub(super) struct Planned {
    pub(super) key: DocumentKey,
    pub(super) from: Option<String>,
    pub(super) chunks: Vec<Chunk>,
    /// By vector field, then one per chunk, once it is embedded.
    pub(super) vectors: Vec<Vec<Option<Vec<f32>>>>,
    pub(super) facts: Arc<[Vec<u8>]>,
    /// The length of its text, where its chunks cover all of it.
    pub(super) covered: Option<u64>,
    /// Bytes of its chunks' texts.
    pub(super) bytes: usize,
}

pub(super) enum Plan {
    Unchanged,
    /// It cannot be added; the others can.
    Failed(Error),
    Take(Planned),
    /// It is cut by the vectors of these pieces of it.
    Probe(Incoming, Vec<Range<usize>>),
}

/// Ranges of a text that lie in no chunk, in order.
pub(super) fn gaps(text_bytes: usize, spans: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = spans.into_iter().collect();
    spans.sort_unstable_by_key(|span| span.start);
    let mut gaps = Vec::new();
    let mut covered = 0;
    for span in spans {
        if span.start > covered {
            gaps.push(covered..span.start);
        }
        covered = covered.max(span.end);
    }
    if covered < text_bytes {
        gaps.push(covered..text_bytes);
    }
    gaps
}

/// An error of the index ends the call; what is wrong with the document itself is [`Plan::Failed`].
pub(super) fn plan(collection: &Collection, snapshot: &Snapshot, incoming: Incoming) -> Result<Plan> {
    let inner = &collection.inner;
    let document = &incoming.document;
    let key = match DocumentKey::new(document, &inner.settings) {
        Ok(key) => key,
        Err(error) => return Ok(Plan::Failed(error)),
    };
    if incoming.from.is_none()
        && inner.versions(snapshot, &collection.scope, &document.id)? == [key.term(&collection.scope)]
    {
        return Ok(Plan::Unchanged);
    }
    if !document.text.trim().is_empty() {
        match caught(|| Ok(inner.chunker.probes(document))) {
            Ok(probes) if probes.is_empty() => {}
            Ok(probes) => return Ok(Plan::Probe(incoming, probes)),
            Err(error) => return Ok(Plan::Failed(error)),
        }
    }
    cut(collection, snapshot, incoming, None)
}

/// The second half of [`plan`], after the probes were embedded.
pub(super) fn cut(
    collection: &Collection,
    snapshot: &Snapshot,
    incoming: Incoming,
    vectors: Option<&[Vec<f32>]>,
) -> Result<Plan> {
    let inner = &collection.inner;
    let Incoming { document, from, like } = incoming;
    let made = caught(|| {
        let key = DocumentKey::new(&document, &inner.settings)?;
        let facts = schema::facts_of(&document)?;
        // A chunker may cover white space too; there is nothing to find in it.
        let chunks = match vectors {
            _ if document.text.trim().is_empty() => Vec::new(),
            None => inner.chunker.chunk(&document)?,
            Some(vectors) => inner.chunker.chunk_by(&document, vectors)?,
        };
        Ok((key, facts, chunks))
    });
    let (key, facts, chunks) = match made {
        Ok(made) => made,
        Err(error) => return Ok(Plan::Failed(error)),
    };
    let is_covered = chunks
        .iter()
        .all(|chunk| document.text.get(chunk.span.clone()) == Some(chunk.text.as_str()))
        && gaps(document.text.len(), chunks.iter().map(|chunk| chunk.span.clone())).is_empty();
    let mut known = vec![HashMap::new(); inner.sources.len()];
    if inner.sources.iter().any(|source| source.embedder.is_some()) {
        for id in std::iter::once(&document.id).chain(&from).chain(&like) {
            inner.stored_vectors(collection, snapshot, id, key.settings, &mut known)?;
        }
    }
    let texts: Vec<_> = chunks.iter().map(|chunk| inner.chunker.embedded(chunk)).collect();
    let vectors = known.iter().map(|known| {
        let vectors = texts.iter().map(|text| known.get(text.as_ref()).cloned());
        vectors.collect()
    });
    let vectors = vectors.collect();
    drop(texts);
    Ok(Plan::Take(Planned {
        key,
        from,
        vectors,
        facts,
        covered: is_covered.then_some(document.text.len() as u64),
        bytes: chunks.iter().map(|chunk| chunk.text.len()).sum(),
        chunks,
    }))
}

/// A chunker is the host's own code: its panic costs the document, not the program.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::host("the chunker panicked on this document")))
}

impl Collection {
    /// Cuts a document as an `add` would, to see whether it can be added.
    pub(crate) async fn check_document(&self, document: Document) -> Result<()> {
        let this = self.clone();
        blocking(&self.inner.place, move || {
            let snapshot = this.inner.snapshots.latest()?;
            match cut(&this, &snapshot, document.into(), None)? {
                Plan::Failed(error) => Err(error),
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Inner {
    /// The vectors of a document's living chunks by the words they were made from, as far as they were made with the
    /// settings of today. A change of metadata, a moved file or one edited paragraph then costs no more than it must.
    fn stored_vectors(
        &self,
        collection: &Collection,
        snapshot: &Snapshot,
        id: &str,
        settings: [u8; 4],
        known: &mut [HashMap<String, Vec<f32>>],
    ) -> Result<()> {
        let prefix = DocumentKey::prefix(&collection.scope, id);
        self.each_document(snapshot, &prefix, |segment, term, rows| {
            let is_same = DocumentKey::from_term(term).is_some_and(|key| key.settings == settings);
            if !is_same {
                return Ok(());
            }
            // A flipped bit must not be copied under a fresh checksum.
            let files = snapshot.vectors.iter().map(|field| &field[segment]);
            let files: Vec<_> = files.map(|file| file.has_whole_rows().then_some(file)).collect();
            for row in rows {
                let StoredChunk { chunk, .. } = self.stored_chunk(snapshot, segment, *row)?;
                let text = self.chunker.embedded(&chunk);
                for (known, file) in known.iter_mut().zip(&files) {
                    if let Some(vector) = file.and_then(|file| file.vector(*row)) {
                        known.insert(text.clone().into_owned(), vector);
                    }
                }
            }
            Ok(())
        })
    }

    /// What is stored of a row.
    pub(super) fn stored_chunk(&self, snapshot: &Snapshot, segment: usize, row: u32) -> Result<StoredChunk> {
        let stored = snapshot.stored((segment as u32, row), &self.place)?;
        schema::decode(&self.fields, &stored, &self.place)
    }
}

#[cfg(test)]
mod tests {
    use stepwell_core::Document;
    use tantivy::schema::Value;
    use tantivy::{DocAddress, TantivyDocument};

    use super::{StoredChunk, gaps};
    use crate::schema::decode;
    use crate::{Collection, WholeDocuments};

    #[tokio::test]
    async fn a_stored_chunk_is_read_as_tantivy_reads_it_and_a_cut_or_changed_one_is_damaged() {
        let collection = Collection::in_memory()
            .chunker(std::sync::Arc::new(WholeDocuments))
            .build()
            .await
            .expect("opens");
        // Lengths of one, two and three bytes.
        let documents = [1, 20, 2_000, 20_000].map(|words| {
            Document::new(format!("{words}.md"), "ä \"word\" ".repeat(words))
                .with_title("Guide")
                .with_metadata("tags", serde_json::json!(["x", "y"]))
        });
        collection.add(documents.to_vec()).await.expect("added");
        let inner = &collection.inner;
        let snapshot = inner.snapshots.latest().expect("reads");
        assert_eq!(snapshot.searcher.segment_readers().len(), 1);
        let mut seen = Vec::new();
        for row in 0..4 {
            let read = inner.stored_chunk(&snapshot, 0, row).expect("reads");
            let theirs: TantivyDocument = snapshot.searcher.doc(DocAddress::new(0, row)).expect("reads");
            let record = theirs.get_first(inner.fields.chunk).expect("stored");
            assert_eq!(
                StoredChunk::from_bytes(record.as_bytes().expect("bytes")),
                Some(read)
            );
            let read = inner.stored_chunk(&snapshot, 0, row).expect("reads");
            seen.push(read.chunk.text.len() / "ä \"word\" ".len());
            let stored = snapshot.stored((0, row), &inner.place).expect("reads");
            for cut in 0..stored.len().min(300) {
                let fault = decode(&inner.fields, &stored[..cut], &inner.place).expect_err("cut");
                assert_eq!(fault.code(), "damaged");
            }
            // How many fields, which, of what kind, how long.
            for at in 0..7 {
                let mut changed = stored.to_vec();
                changed[at] ^= 0x55;
                assert!(
                    decode(&inner.fields, &changed, &inner.place).is_err(),
                    "byte {at} of row {row}"
                );
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 20, 2_000, 20_000]);
        assert_eq!(
            snapshot
                .stored((1, 0), &inner.place)
                .expect_err("no segment")
                .code(),
            "damaged"
        );
    }

    #[test]
    fn what_no_chunk_covers_is_told() {
        assert!(gaps(10, [0..4, 4..10]).is_empty());
        assert!(gaps(10, [0..6, 3..8, 8..10]).is_empty());
        assert_eq!(gaps(10, [5..7, 1..4]), [0..1, 4..5, 7..10]);
        assert!(gaps(0, []).is_empty());
        assert_eq!(gaps(3, [7..9, 8..9]).first(), Some(&(0..7)));
    }
}
