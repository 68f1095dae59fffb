//! Adding documents: plan → cut → embed → one atomic commit per batch.
//!
//! A batch that fails leaves the commits before it; a document is never split between two. Nothing reaches tantivy
//! before every vector of the batch is there and checked, so a dropped or failed `add` leaves no half document.

use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};
use futures::stream::{Stream, StreamExt};
use stepwell_core::{Cancel, Chunk, Document, EmbedKind, Embedder, Error, Result};
use tantivy::schema::Term;

use super::progress::{AddEvent, AddOptions, AddReport, SkipReason};
use super::{Collection, Inner};
use crate::error::blocking;
use crate::schema::{self, DocumentKey};
use crate::vector::rows::prepare;
use crate::writer::{Change, Writer};

/// Texts handed to the embedder at once: enough to sort by length, few enough to show progress.
const TEXTS_PER_CALL: usize = 64;
/// A batch is closed at this many bytes of text, whatever its chunks.
const BATCH_BYTES: usize = 32 << 20;

/// A document on its way in.
struct Planned {
    key: DocumentKey,
    chunks: Vec<Chunk>,
    facts: Arc<[Vec<u8>]>,
}

enum Plan {
    Unchanged,
    Take(Planned),
}

impl Collection {
    /// Adds documents, replacing those of the same id; documents that stand there unchanged are skipped.
    ///
    /// # Errors
    /// `locked` when another process writes; `unsupported` without the index's embedder; what the embedder says;
    /// `disk_full`. Earlier commits of the same call are kept.
    pub async fn add<I>(&self, documents: I) -> Result<AddReport>
    where
        I: IntoIterator<Item = Document>,
        I::IntoIter: Send,
    {
        self.add_with(documents, AddOptions::default()).await
    }

    /// [`Collection::add`] with progress, cancel and batch size.
    ///
    /// # Errors
    /// As [`Collection::add`]; `cancelled` when it was asked to stop.
    pub async fn add_with<I>(&self, documents: I, options: AddOptions) -> Result<AddReport>
    where
        I: IntoIterator<Item = Document>,
        I::IntoIter: Send,
    {
        let documents = documents.into_iter();
        let total = match documents.size_hint() {
            (least, Some(most)) if least == most => Some(most as u64),
            _ => None,
        };
        self.add_stream(futures::stream::iter(documents), total, options)
            .await
    }

    /// [`Collection::add_with`] for documents that are loaded while others are embedded; `total` is for the progress.
    ///
    /// # Errors
    /// As [`Collection::add_with`].
    pub async fn add_stream<S>(
        &self,
        documents: S,
        total: Option<u64>,
        options: AddOptions,
    ) -> Result<AddReport>
    where
        S: Stream<Item = Document> + Send,
    {
        let inner = &self.inner;
        if inner.embedder.is_none() && inner.pinned.spec.dim > 0 {
            return Err(Error::Unsupported {
                who: "this collection".to_owned(),
                what: "documents without its embedder".to_owned(),
                hint: format!("open it with `.embedder(..)` for {}", inner.pinned.embedder),
            });
        }
        let turn = self.turn().await?;
        let mut batch = Batch {
            collection: self,
            options: &options,
            report: AddReport::default(),
            planned: Vec::new(),
        };
        batch.report.progress.documents_total = total;
        let mut writer = None;
        let mut documents = pin!(documents);
        while let Some(document) = documents.next().await {
            options.cancel.check()?;
            batch.take(document).await?;
            if batch.is_full() {
                writer = Some(batch.commit(writer).await?);
            }
        }
        if !batch.planned.is_empty() {
            writer = Some(batch.commit(writer).await?);
        }
        let report = batch.report;
        if let Some(writer) = writer {
            let this = Arc::clone(inner);
            blocking(&inner.place, move || {
                let _turn = turn;
                writer.close()?;
                // Merges that ended after the last commit.
                this.snapshots.reload().map(drop)
            })
            .await?;
        }
        Ok(report)
    }
}

/// The documents between two commits.
struct Batch<'a> {
    collection: &'a Collection,
    options: &'a AddOptions,
    report: AddReport,
    planned: Vec<Planned>,
}

impl Batch<'_> {
    fn tell(&self, event: &AddEvent) {
        if let Some(see) = &self.options.progress {
            see(event);
        }
    }

    fn tell_progress(&self) {
        self.tell(&AddEvent::Progress(self.report.progress.clone()));
    }

    fn skip(&mut self, document_id: String, reason: SkipReason) {
        let progress = &mut self.report.progress;
        progress.documents_done += 1;
        if reason == SkipReason::Unchanged {
            progress.documents_unchanged += 1;
        } else {
            progress.documents_skipped += 1;
            self.report.skipped.push((document_id.clone(), reason));
        }
        self.tell(&AddEvent::Skipped { document_id, reason });
    }

    /// Compares a document with the index and cuts it.
    async fn take(&mut self, document: Document) -> Result<()> {
        let this = self.collection.clone();
        let id = document.id.clone();
        let plan = blocking(&self.collection.inner.place, move || plan(&this, &document)).await?;
        let planned = match plan {
            Plan::Unchanged => {
                // An earlier document of this batch would overwrite what stands there.
                if self.drop_planned(&id) {
                    self.skip(id.clone(), SkipReason::Replaced);
                }
                self.skip(id, SkipReason::Unchanged);
                return Ok(());
            }
            Plan::Take(planned) => planned,
        };
        if self.drop_planned(&id) {
            self.skip(id, SkipReason::Replaced);
        }
        self.planned.push(planned);
        Ok(())
    }

    fn drop_planned(&mut self, id: &str) -> bool {
        let before = self.planned.len();
        self.planned.retain(|planned| planned.key.id != id);
        self.planned.len() < before
    }

    fn is_full(&self) -> bool {
        let chunks: usize = self
            .planned
            .iter()
            .map(|planned| planned.chunks.len().max(1))
            .sum();
        let bytes: usize = self
            .planned
            .iter()
            .flat_map(|planned| &planned.chunks)
            .map(|chunk| chunk.text.len())
            .sum();
        chunks >= self.options.chunks_per_commit || bytes >= BATCH_BYTES
    }

    /// Embeds and commits what was taken. The lock comes first: without it no embedding is worth its cost.
    async fn commit(&mut self, writer: Option<Writer>) -> Result<Writer> {
        let inner = &self.collection.inner;
        let writer = if let Some(writer) = writer {
            writer
        } else {
            let this = Arc::clone(inner);
            blocking(&inner.place, move || Writer::open(&this.index, &this.place)).await?
        };
        let planned = std::mem::take(&mut self.planned);
        let vectors = self.embed(&planned).await?;
        self.options.cancel.check()?;
        let documents = planned.len() as u64;
        let empty: Vec<String> = planned
            .iter()
            .filter(|planned| planned.chunks.is_empty())
            .map(|planned| planned.key.id.clone())
            .collect();
        let this = self.collection.clone();
        let (writer, updated) =
            blocking(&inner.place, move || write(&this, writer, planned, &vectors)).await?;
        for id in empty.iter().cloned() {
            self.skip(id, SkipReason::Empty);
        }
        let progress = &mut self.report.progress;
        let indexed = documents - empty.len() as u64;
        progress.documents_done += indexed;
        progress.documents_updated += updated;
        progress.documents_added += indexed - updated;
        progress.commits += 1;
        self.tell_progress();
        Ok(writer)
    }

    /// One vector per chunk, in order; none without an embedder.
    async fn embed(&mut self, planned: &[Planned]) -> Result<Vec<Vec<f32>>> {
        let inner = Arc::clone(&self.collection.inner);
        let texts: Vec<&str> = planned
            .iter()
            .flat_map(|planned| &planned.chunks)
            .map(|chunk| chunk.text.as_str())
            .collect();
        let Some(embedder) = inner.embedder.as_deref() else {
            self.report.progress.chunks += texts.len() as u64;
            return Ok(Vec::new());
        };
        let mut vectors = Vec::with_capacity(texts.len());
        for call in texts.chunks(TEXTS_PER_CALL) {
            let tokens = embed_call(&inner, embedder, call, &self.options.cancel, &mut vectors).await?;
            self.report.progress.chunks += call.len() as u64;
            self.report.progress.tokens += tokens;
            self.tell_progress();
        }
        Ok(vectors)
    }
}

async fn embed_call(
    inner: &Inner,
    embedder: &dyn Embedder,
    texts: &[&str],
    cancel: &Cancel,
    vectors: &mut Vec<Vec<f32>>,
) -> Result<u64> {
    cancel.check()?;
    let work = embedder.embed(texts, EmbedKind::Document);
    let made = match select(work, pin!(cancel.cancelled())).await {
        Either::Left((made, _)) => made?,
        // Dropping the other future stops the embedder.
        Either::Right(_) => return Err(Error::Cancelled),
    };
    let bad = |message: String| Error::InvalidResponse {
        provider: embedder.info().provider.clone(),
        message,
    };
    if made.len() != texts.len() {
        return Err(bad(format!("{} vectors for {} texts", made.len(), texts.len())));
    }
    for row in made.rows() {
        let vector = prepare(&inner.pinned.spec, row);
        vectors.push(vector.map_err(|fault| bad(format!("a vector cannot be indexed: {fault}")))?);
    }
    Ok(made.usage.total_input())
}

fn plan(collection: &Collection, document: &Document) -> Result<Plan> {
    let inner = &collection.inner;
    let key = DocumentKey::new(document, &inner.chunker.fingerprint())?;
    let snapshot = inner.snapshots.latest()?;
    let versions = inner.versions(&snapshot, &collection.scope, &document.id)?;
    if versions == [key.term(&collection.scope)] {
        return Ok(Plan::Unchanged);
    }
    let facts = schema::facts_of(document)?;
    // A chunker may cover white space too; there is nothing to find in it.
    let chunks = if document.text.trim().is_empty() {
        Vec::new()
    } else {
        inner.chunker.chunk(document)?
    };
    Ok(Plan::Take(Planned { key, chunks, facts }))
}

/// Commits a batch; how many of its documents replaced a version.
fn write(
    collection: &Collection,
    mut writer: Writer,
    planned: Vec<Planned>,
    vectors: &[Vec<f32>],
) -> Result<(Writer, u64)> {
    let (inner, scope) = (&collection.inner, &collection.scope);
    // Nobody else can write now: what this snapshot says of a document stays true until the commit.
    let snapshot = inner.snapshots.latest()?;
    let mut vectors = vectors.iter();
    let mut updated = 0;
    let mut changes = Vec::with_capacity(planned.len());
    for document in planned {
        let versions = inner.versions(&snapshot, scope, &document.key.id)?;
        let term = document.key.term(scope);
        updated += u64::from(!versions.is_empty() && !document.chunks.is_empty());
        let remove = versions
            .iter()
            .map(|term| Term::from_field_bytes(inner.fields.document, term))
            .collect();
        let mut add = Vec::with_capacity(document.chunks.len());
        for (number, chunk) in document.chunks.iter().enumerate() {
            let vector = vectors.next().map(Vec::as_slice);
            add.push(schema::encode(
                &inner.fields,
                scope,
                &term,
                number,
                chunk,
                &document.facts,
                vector,
            )?);
        }
        changes.push(Change { remove, add });
    }
    writer.commit(changes)?;
    inner.snapshots.reload()?;
    Ok((writer, updated))
}
