//! [`Collection`]: chunks with their two indexes, and the only way in.

mod add;
mod builder;
mod coverage;
mod cut;
mod embeddings;
mod facts;
#[cfg(test)]
mod faults;
mod field;
#[cfg(test)]
mod formats;
mod pace;
mod planned;
mod progress;
mod rank;
mod recall;
mod search;
mod stats;
mod storage;
mod terms;
mod vectors;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use stepwell_core::{Embedder, Filter, Hit, Query, Result, Retriever, Scope};
use tantivy::postings::Postings;
use tantivy::schema::{IndexRecordOption, Term};
use tantivy::{Index, SegmentReader, TERMINATED};
use tracing::Instrument;

pub use self::builder::CollectionBuilder;
pub use self::coverage::Coverage;
pub use self::cut::{Chunking, WholeDocuments};
pub(crate) use self::facts::FileFacts;
use self::field::Source;
pub use self::field::VectorField;
pub(crate) use self::planned::Incoming;
pub use self::progress::{
    AddEvent, AddOptions, AddProgress, AddReport, ClockFn, FailedDocument, ProgressFn, SkipReason,
};
pub use self::recall::{RecallOptions, RecallReport};
pub use self::search::Explained;
pub use self::stats::{CollectionStats, GraphState, IndexStats, SegmentStats, VectorFieldStats};
pub use self::storage::Storage;
pub use self::vectors::{Nearest, Neighbour, VectorReader};
use crate::calibrate::Calibration;
use crate::checksum::Checksums;
use crate::error::{Place, blocking};
use crate::fact::after_prefix;
use crate::filter::{FilterCache, Restriction, RowSet};
use crate::fuse::Fusion;
use crate::lexical::{FieldBoosts, Questions};
use crate::schema::{DocumentKey, Fields, Pinned, check_id};
use crate::snapshot::{Snapshot, Snapshots};
use crate::vector::plan::Effort;
use crate::vector::plugin::Graphs;
use crate::writer::{Change, Turn, Writer, Writers};

/// Chunks with their words, vectors and facts in one index, seen by one tenant.
///
/// What tenants of one index share, beside its room and time: words are weighed (BM25) by how many chunks of the whole
/// index have them. So a tenant's scores by words move with what others add, though never its set of hits with room
/// for all of them, and whoever may search at will can learn from them that a word has become more frequent. Tenants
/// who must not learn that of each other get a folder each. [`Collection::index_stats`], [`Collection::explain`],
/// [`Collection::compact`], [`Collection::optimize`] and [`Collection::verify`] are for who runs the index: the first
/// two tell sizes of the whole of it.
///
/// Clones share the index. Every method works within the collection's [`Scope`]; [`Collection::scoped`] gives a
/// handle for another one. One writer at a time writes a folder: clones wait for each other, another process gets
/// [`stepwell_core::Error::Locked`]. Any number of readers, in any process, search meanwhile.
#[derive(Clone)]
pub struct Collection {
    inner: Arc<Inner>,
    scope: Scope,
}

struct Inner {
    index: Index,
    writers: Arc<Writers>,
    fields: Fields,
    pinned: Pinned,
    place: Place,
    /// One per vector field.
    sources: Vec<Source>,
    chunker: Arc<dyn Chunking>,
    /// The chunker's fingerprint: documents cut otherwise are cut again.
    settings: String,
    fusion: Fusion,
    boosts: FieldBoosts,
    calibration: Calibration,
    graphs: Arc<Graphs>,
    effort: Effort,
    snapshots: Snapshots,
    filters: FilterCache,
    checksums: Checksums,
    questions: Questions,
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection")
            .field("place", &self.inner.place)
            .field("embedder", &self.inner.pinned.first().embedder)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// A document of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentEntry {
    /// Its id.
    pub id: String,
    /// [`stepwell_core::Document::content_hash`] of what was indexed.
    pub content_hash: String,
    /// How many chunks it has.
    pub chunks: u64,
}

impl Collection {
    /// A collection in a folder, made when it is not there.
    ///
    /// ```no_run
    /// # async fn example(embedder: std::sync::Arc<dyn stepwell_core::Embedder>) -> stepwell_core::Result<()> {
    /// use stepwell_core::{Document, Query};
    /// let papers = stepwell_rag::Collection::open("papers").embedder(embedder).build().await?;
    /// papers.add([Document::new("cathodes.md", "Sodium cathodes swell.")]).await?;
    /// let hits = papers.search(&Query::new("what swells?").top_k(5)).await?;
    /// # Ok(()) }
    /// ```
    pub fn open(path: impl Into<std::path::PathBuf>) -> CollectionBuilder {
        CollectionBuilder::new(Some(path.into()))
    }

    /// A collection that lives as long as its handles.
    pub fn in_memory() -> CollectionBuilder {
        CollectionBuilder::new(None)
    }

    /// The same collection as another tenant sees it.
    pub fn scoped(&self, scope: Scope) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            scope,
        }
    }

    /// How words and meaning become one order.
    pub fn fusion(&self) -> Fusion {
        self.inner.fusion
    }

    /// How relevance is told.
    pub fn calibration(&self) -> Calibration {
        self.inner.calibration
    }

    /// Whether questions are embedded: searches by meaning need no vector of the caller's.
    pub fn has_embedder(&self) -> bool {
        self.inner.embedder().is_some()
    }

    /// Whose data this handle sees.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Runs blocking work on the newest snapshot.
    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &Scope, &Snapshot) -> Result<T> + Send + 'static,
    {
        let this = self.clone();
        blocking(&self.inner.place, move || {
            let snapshot = this.inner.snapshots.latest()?;
            work(&this.inner, &this.scope, &snapshot)
        })
        .await
    }

    /// How many chunks there are, or how many a filter lets through.
    pub async fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        let filter = filter.cloned();
        self.read(move |inner, scope, snapshot| {
            let allowed = inner.allowed(snapshot, scope, filter.as_ref())?;
            Ok(allowed.iter().map(|rows| u64::from(rows.len())).sum())
        })
        .await
    }

    /// All documents with the hashes of their content, by id: what a sync compares a folder with.
    pub async fn documents(&self) -> Result<Vec<DocumentEntry>> {
        self.read(|inner, scope, snapshot| inner.entries(snapshot, scope))
            .await
    }

    /// Deletes documents by id in one commit; how many there were.
    pub async fn delete<I>(&self, ids: I) -> Result<u64>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let ids: Vec<String> = ids.into_iter().map(Into::into).collect();
        ids.iter().try_for_each(|id| check_id(id))?;
        self.remove(move |inner, scope, snapshot| {
            let mut terms = Vec::new();
            for id in &ids {
                terms.extend(inner.versions(snapshot, scope, id)?);
            }
            Ok(terms)
        })
        .await
    }

    /// Deletes every document of which a chunk passes the filter, in one commit; how many there were.
    pub async fn delete_where(&self, filter: &Filter) -> Result<u64> {
        let filter = filter.clone();
        self.remove(move |inner, scope, snapshot| {
            let allowed = inner.allowed(snapshot, scope, Some(&filter))?;
            let mut terms = Vec::new();
            inner.each_document(
                snapshot,
                &DocumentKey::tenant_prefix(scope),
                |segment, term, rows| {
                    if rows.iter().any(|row| allowed[segment].contains(*row)) {
                        terms.push(term.to_vec());
                    }
                    Ok(())
                },
            )?;
            Ok(terms)
        })
        .await
    }

    /// Deletes what `find` names, looked up while nobody else can write.
    async fn remove<F>(&self, find: F) -> Result<u64>
    where
        F: Fn(&Inner, &Scope, &Snapshot) -> Result<Vec<Vec<u8>>> + Send + 'static,
    {
        let turn = self.inner.writers.turn().await?;
        let this = self.clone();
        blocking(&self.inner.place, move || {
            let inner = &this.inner;
            // Nothing to delete needs no lock.
            if find(inner, &this.scope, inner.snapshots.latest()?.as_ref())?.is_empty() {
                return Ok(0);
            }
            let mut writer = inner.writer(turn)?;
            let mut terms = find(inner, &this.scope, inner.snapshots.latest()?.as_ref())?;
            terms.sort_unstable();
            terms.dedup();
            let count = terms.len() as u64;
            let remove = terms
                .iter()
                .map(|term| Term::from_field_bytes(inner.fields.document, term))
                .collect();
            let add = Vec::new();
            writer.commit([Ok(Change { remove, add })], None)?;
            inner.snapshots.follow()?;
            writer.close();
            inner.snapshots.follow()?;
            Ok(count)
        })
        .await
    }

    /// The best hits for a question, best first.
    ///
    /// It is searched on a thread for blocking work. A plain question (chunks, no filter) to an index of up to 16,384 chunks
    /// that was searched so since its last commit takes about half a millisecond and is answered by the task that asks.
    pub async fn search(&self, query: &Query) -> Result<Vec<Hit>> {
        let span = tracing::debug_span!(
            "retrieval",
            "gen_ai.operation.name" = stepwell_core::telemetry::SPAN_RETRIEVAL,
            "gen_ai.retrieval.top_k" = query.top_k,
        );
        let explained = search::search(self, query).instrument(span).await?;
        Ok(explained.hits)
    }

    /// [`Collection::search`], and how each segment was searched by meaning: its rows one by one or through its graph.
    pub async fn explain(&self, query: &Query) -> Result<Explained> {
        search::search(self, query).await
    }
}

#[async_trait]
impl Retriever for Collection {
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>> {
        self.search(query).await
    }
}

impl Inner {
    /// The collection's own, that of the first vector field.
    fn embedder(&self) -> Option<&dyn Embedder> {
        self.sources[0].embedder.as_deref()
    }

    /// The writer, over files that were found whole.
    fn writer(&self, turn: Turn) -> Result<Writer> {
        let writer = self.writers.open(turn)?;
        // With the lock in hand nobody else writes meanwhile.
        self.checksums
            .check_before_write(&self.index, &self.pinned.specs(), &self.place)?;
        Ok(writer)
    }

    /// The rows of each segment that a scope and a filter let through: what every search, count and delete chooses
    /// from.
    fn allowed(
        &self,
        snapshot: &Snapshot,
        scope: &Scope,
        filter: Option<&Filter>,
    ) -> Result<Vec<Arc<RowSet>>> {
        Restriction::new(scope, filter)?.rows(snapshot, &self.filters, &self.fields, &self.place)
    }

    /// Calls `see` with segment number, term and living rows of every document whose term begins so.
    fn each_document(
        &self,
        snapshot: &Snapshot,
        prefix: &[u8],
        mut see: impl FnMut(usize, &[u8], &[u32]) -> Result<()>,
    ) -> Result<()> {
        let end = after_prefix(prefix);
        let mut rows = Vec::new();
        for (segment, reader) in snapshot.searcher.segment_readers().iter().enumerate() {
            let index = self
                .place
                .check("reading", reader.inverted_index(self.fields.document))?;
            let io = |error: std::io::Error| self.place.explain("reading", &error.into());
            let mut terms = index
                .terms()
                .range()
                .ge(prefix)
                .lt(&end)
                .into_stream()
                .map_err(io)?;
            while terms.advance() {
                let postings = index
                    .read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)
                    .map_err(io)?;
                living_rows(reader, postings, &mut rows);
                if !rows.is_empty() {
                    see(segment, terms.key(), &rows)?;
                }
            }
        }
        Ok(())
    }

    fn entries(&self, snapshot: &Snapshot, scope: &Scope) -> Result<Vec<DocumentEntry>> {
        let mut entries: BTreeMap<String, DocumentEntry> = BTreeMap::new();
        let prefix = DocumentKey::tenant_prefix(scope);
        self.each_document(snapshot, &prefix, |_, term, rows| {
            let key = DocumentKey::from_term(term)
                .ok_or_else(|| self.place.damaged("a document's key is not one"))?;
            let entry = entries.entry(key.id.clone()).or_insert_with(|| DocumentEntry {
                content_hash: key.content_hash(),
                id: key.id,
                chunks: 0,
            });
            entry.chunks += rows.len() as u64;
            Ok(())
        })?;
        Ok(entries.into_values().collect())
    }

    /// The terms of the living versions of a document: one, or none.
    fn versions(&self, snapshot: &Snapshot, scope: &Scope, id: &str) -> Result<Vec<Vec<u8>>> {
        let mut terms = Vec::new();
        self.each_document(snapshot, &DocumentKey::prefix(scope, id), |_, term, _| {
            terms.push(term.to_vec());
            Ok(())
        })?;
        Ok(terms)
    }
}

fn living_rows(reader: &SegmentReader, mut postings: impl Postings, rows: &mut Vec<u32>) {
    rows.clear();
    let mut row = postings.doc();
    while row != TERMINATED {
        if !reader.is_deleted(row) {
            rows.push(row);
        }
        row = postings.advance();
    }
}
