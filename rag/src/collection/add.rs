//! Adding documents: plan → cut → embed → one atomic commit per batch.
//!
//! A batch that fails leaves the commits before it; a document is never split between two. Nothing reaches tantivy
//! before every vector of the batch is there and checked, so a dropped or failed `add` leaves no half document, and the
//! version that stood there stands until the very commit that replaces it.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{Fuse, Stream, StreamExt};
use stepwell_core::store::check_name;
use stepwell_core::{Document, Error, Result};
use tantivy::schema::Term;

use super::Collection;
use super::embeddings::{self, Embedded};
use super::pace::Pace;
use super::planned::{Incoming, Plan, Planned, cut, plan};
use super::progress::{AddEvent, AddOptions, AddReport, FailedDocument, SkipReason};
use crate::error::blocking;
use crate::schema;
use crate::vector::rows::prepare;
use crate::writer::{Change, Cursor, Payload, Turn, Writer};

/// Texts handed to the embedder at once: enough to sort by length, few enough to show progress.
const TEXTS_PER_CALL: usize = 64;
/// A batch is closed at this many bytes of text, whatever its chunks.
const BATCH_BYTES: usize = 32 << 20;
/// Documents that are at hand are planned together, up to this many of this many bytes.
const DOCUMENTS_PER_PLAN: usize = 64;
const BYTES_PER_PLAN: usize = 1 << 20;

impl Collection {
    /// Adds documents, replacing those of the same id; documents that stand there unchanged are skipped, and those that
    /// cannot be added are told in [`AddReport::failed`].
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
    /// As [`Collection::add`]; `cancelled` when it was asked to stop; the first document's error with
    /// [`AddOptions::stops_at_error`].
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
        self.take_in(documents.map(Incoming::from), total, options).await
    }

    /// [`Collection::add_stream`] for documents that may have had another id.
    pub(crate) async fn take_in<S>(
        &self,
        documents: S,
        total: Option<u64>,
        options: AddOptions,
    ) -> Result<AddReport>
    where
        S: Stream<Item = Incoming> + Send,
    {
        let inner = &self.inner;
        for (field, source) in inner.pinned.vectors.iter().zip(&inner.sources) {
            if source.embedder.is_none() && field.spec.dim > 0 {
                let setting = if field.name.is_empty() {
                    "`.embedder(..)`".to_owned()
                } else {
                    format!("`.vector_field(..)` of the name `{}`", field.name)
                };
                return Err(Error::Unsupported {
                    who: "this collection".to_owned(),
                    what: "documents without its embedders".to_owned(),
                    hint: format!("open it with {setting} for {}", field.embedder),
                });
            }
        }
        if let Some((source, _)) = &options.source {
            check_name("source", source)?;
        }
        let turn = inner.writers.turn().await?;
        let now = (options.clock)();
        let mut batch = Batch {
            collection: self,
            report: AddReport::default(),
            pace: Pace::new(now),
            planned: Vec::new(),
            places: HashMap::new(),
            ready: vec![0; inner.sources.len()],
            missing: vec![0; inner.sources.len()],
            chunks: 0,
            bytes: 0,
            taken: options.source.as_ref().map_or(0, |(_, done)| *done),
            turn: Some(turn),
            writer: None,
            opened_at: now,
            options: &options,
        };
        batch.report.progress.documents_total = total;
        let mut documents = pin!(documents.fuse());
        loop {
            let incoming = gather(&mut documents).await;
            if incoming.is_empty() {
                break;
            }
            options.cancel.check()?;
            batch.take(incoming).await?;
        }
        batch.commit().await?;
        batch.clear_cursor().await?;
        let Batch {
            report, mut writer, ..
        } = batch;
        if let Some(writer) = writer.take() {
            let this = Arc::clone(inner);
            blocking(&inner.place, move || {
                writer.close();
                // Merges that ended after the last commit.
                this.snapshots.follow()
            })
            .await?;
        }
        Ok(report)
    }

    /// How many documents of a source the last commit of an `add` with [`AddOptions::source`] had done: a source that
    /// cannot be read cheaply again goes on from there. 0 when there is none, or when its `add` ran to its end.
    ///
    /// # Errors
    /// `io`, `damaged`.
    pub async fn cursor(&self, source: &str) -> Result<u64> {
        let this = self.clone();
        let source = source.to_owned();
        blocking(&self.inner.place, move || {
            let last = Payload::read(&this.inner.index, &this.inner.place)?;
            Ok(last.done(&this.scope, &source))
        })
        .await
    }
}

/// The next document and what is at hand beside it; empty at the end.
async fn gather<S>(documents: &mut Pin<&mut Fuse<S>>) -> Vec<Incoming>
where
    S: Stream<Item = Incoming> + Send,
{
    let mut gathered: Vec<Incoming> = documents.next().await.into_iter().collect();
    let mut bytes = 0;
    while let Some(last) = gathered.last() {
        bytes += last.document.text.len();
        if bytes > BYTES_PER_PLAN || gathered.len() >= DOCUMENTS_PER_PLAN {
            break;
        }
        match documents.next().now_or_never() {
            Some(Some(next)) => gathered.push(next),
            _ => break,
        }
    }
    gathered
}

/// The documents between two commits.
struct Batch<'a> {
    collection: &'a Collection,
    options: &'a AddOptions,
    report: AddReport,
    pace: Pace,
    /// `None` where a document was left out again.
    planned: Vec<Option<Planned>>,
    /// Where a document stands in `planned`.
    places: HashMap<String, usize>,
    /// By vector field: the planned documents before this one have all their vectors.
    ready: Vec<usize>,
    /// By vector field: chunks that have no vector yet.
    missing: Vec<usize>,
    /// Chunks of the planned documents; an empty one counts as one.
    chunks: usize,
    /// Bytes of the planned documents' chunks.
    bytes: usize,
    /// Documents taken from the stream.
    taken: u64,
    /// Until there is a writer, which has it then.
    turn: Option<Turn>,
    /// There once it was needed.
    writer: Option<Writer>,
    /// When the batch was opened.
    opened_at: Duration,
}

impl Batch<'_> {
    fn tell(&self, event: &AddEvent) {
        if let Some(see) = &self.options.progress {
            see(event);
        }
    }

    fn tell_progress(&mut self) {
        self.pace.note((self.options.clock)(), &mut self.report.progress);
        if self.options.progress.is_some() {
            self.tell(&AddEvent::Progress(self.report.progress.clone()));
        }
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

    fn fail(&mut self, document_id: &str, error: Error) -> Result<()> {
        if self.options.stops_at_error {
            return Err(error);
        }
        let failed = FailedDocument::new(document_id, error);
        self.report.progress.documents_done += 1;
        self.report.progress.documents_failed += 1;
        self.report.failed.push(failed.clone());
        self.tell(&AddEvent::Failed(failed));
        Ok(())
    }

    /// Compares documents with the index, cuts and embeds them; commits when there is enough.
    async fn take(&mut self, incoming: Vec<Incoming>) -> Result<()> {
        let this = self.collection.clone();
        let plans = blocking(&self.collection.inner.place, move || {
            let snapshot = this.inner.snapshots.latest()?;
            let plan = |incoming: Incoming| {
                let id = incoming.document.id.clone();
                plan(&this, &snapshot, incoming).map(|plan| (id, plan))
            };
            incoming.into_iter().map(plan).collect::<Result<Vec<_>>>()
        })
        .await?;
        for (id, plan) in plans {
            let plan = match plan {
                Plan::Probe(incoming, probes) => self.cut_by_probes(incoming, &probes).await?,
                plan => plan,
            };
            self.taken += 1;
            match plan {
                Plan::Take(planned) => {
                    self.leave_out(&id);
                    self.plan_in(planned);
                }
                Plan::Failed(error) => self.fail(&id, error)?,
                Plan::Unchanged | Plan::Probe(..) => {
                    // An earlier document of this batch would overwrite what stands there.
                    self.leave_out(&id);
                    self.skip(id, SkipReason::Unchanged);
                }
            }
            self.embed(TEXTS_PER_CALL).await?;
            if self.is_full() {
                self.commit().await?;
            }
        }
        Ok(())
    }

    fn plan_in(&mut self, planned: Planned) {
        let missing = self.missing_of(&planned);
        let progress = &mut self.report.progress;
        // Chunks are counted by their first vector, or at once where they get none.
        progress.chunks += (planned.chunks.len() - missing[0]) as u64;
        if self.collection.inner.embedder().is_some() {
            progress.chunks_reused += (planned.chunks.len() - missing[0]) as u64;
        }
        for (sum, missing) in self.missing.iter_mut().zip(missing) {
            *sum += missing;
        }
        self.chunks += planned.chunks.len().max(1);
        self.bytes += planned.bytes;
        self.places.insert(planned.key.id.clone(), self.planned.len());
        self.planned.push(Some(planned));
    }

    /// Chunks without a vector, by vector field.
    fn missing_of(&self, planned: &Planned) -> Vec<usize> {
        let fields = planned.vectors.iter().zip(&self.collection.inner.sources);
        let missing = fields.map(|(vectors, source)| match source.embedder {
            Some(_) => vectors.iter().filter(|vector| vector.is_none()).count(),
            None => 0,
        });
        missing.collect()
    }

    /// Takes a planned document out again.
    fn take_out(&mut self, id: &str) -> Option<Planned> {
        let place = self.places.remove(id)?;
        let planned = self.planned.get_mut(place)?.take()?;
        let missing = self.missing_of(&planned);
        for (sum, missing) in self.missing.iter_mut().zip(missing) {
            *sum -= missing;
        }
        self.chunks -= planned.chunks.len().max(1);
        self.bytes -= planned.bytes;
        Some(planned)
    }

    /// Leaves out an earlier document of the batch with the same id.
    fn leave_out(&mut self, id: &str) {
        if let Some(planned) = self.take_out(id) {
            self.skip(planned.key.id, SkipReason::Replaced);
        }
    }

    fn is_full(&self) -> bool {
        let is_late = || {
            self.options
                .commit_after
                .is_some_and(|time| (self.options.clock)().saturating_sub(self.opened_at) >= time)
        };
        !self.places.is_empty()
            && (self.chunks >= self.options.chunks_per_commit || self.bytes >= BATCH_BYTES || is_late())
    }

    /// A chunker that cuts by meaning gets the vectors it asks for.
    async fn cut_by_probes(&mut self, incoming: Incoming, probes: &[std::ops::Range<usize>]) -> Result<Plan> {
        let collection = self.collection;
        if collection.inner.embedder().is_none() {
            return Ok(Plan::Failed(Error::Unsupported {
                who: "a collection without an embedder".to_owned(),
                what: "a chunker that cuts by meaning".to_owned(),
                hint: "open it with `.embedder(..)`, or choose another chunker".to_owned(),
            }));
        }
        let Some(texts) = probes
            .iter()
            .map(|probe| incoming.document.text.get(probe.clone()))
            .collect::<Option<Vec<&str>>>()
        else {
            return Ok(Plan::Failed(Error::host(
                "the chunker asks for what is no slice of the text",
            )));
        };
        let mut vectors = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TEXTS_PER_CALL) {
            match self.call(0, texts).await {
                Ok(made) => vectors.extend(made.vectors),
                Err(error) if is_of_the_text(&error) => return Ok(Plan::Failed(error)),
                Err(error) => return Err(error),
            }
        }
        let this = collection.clone();
        blocking(&collection.inner.place, move || {
            let snapshot = this.inner.snapshots.latest()?;
            cut(&this, &snapshot, incoming, Some(&vectors))
        })
        .await
    }

    /// The lock comes first: without it no embedding is worth its cost.
    async fn hold_writer(&mut self) -> Result<()> {
        if self.writer.is_none() {
            let this = Arc::clone(&self.collection.inner);
            let turn = self.turn.take();
            let turn = turn.ok_or_else(|| Error::internal("the writer is gone"))?;
            let writer = blocking(&self.collection.inner.place, move || this.writer(turn));
            self.writer = Some(writer.await?);
        }
        Ok(())
    }

    async fn call(&mut self, field: usize, texts: &[&str]) -> Result<Embedded> {
        self.hold_writer().await?;
        let collection = self.collection;
        let source = &collection.inner.sources[field];
        let Some(embedder) = source.embedder.as_deref() else {
            return Err(Error::internal("texts are embedded without an embedder"));
        };
        let shelf = source.shelf.as_ref().map(|shelf| (shelf, &collection.scope));
        let made = embeddings::embed(embedder, shelf, texts, &self.options.cancel).await?;
        self.report.progress.tokens += made.tokens;
        Ok(made)
    }

    /// Embeds what is planned, in calls of [`TEXTS_PER_CALL`] texts, as long as so many are missing at least.
    async fn embed(&mut self, least: usize) -> Result<()> {
        for field in 0..self.missing.len() {
            self.embed_field(field, least).await?;
        }
        Ok(())
    }

    async fn embed_field(&mut self, field: usize, least: usize) -> Result<()> {
        while self.missing[field] >= least.max(1) {
            let places = self.missing_places(field);
            if places.is_empty() {
                return Err(Error::internal("vectors are missing of no chunk"));
            }
            match self.embed_places(field, &places).await {
                Err(error) if is_of_the_text(&error) => {
                    // Which of the texts it is, each document shows alone.
                    for places in places.chunk_by(|left, right| left.0 == right.0) {
                        match self.embed_places(field, places).await {
                            Err(error) if is_of_the_text(&error) => self.fail_planned(places[0].0, error)?,
                            other => other?,
                        }
                    }
                }
                other => other?,
            }
            self.tell_progress();
        }
        Ok(())
    }

    /// The next chunks without a vector of a field, by document and number.
    fn missing_places(&mut self, field: usize) -> Vec<(usize, usize)> {
        let is_ready = |planned: &Option<Planned>| {
            let vectors = planned.as_ref().map(|planned| &planned.vectors[field]);
            vectors.is_none_or(|vectors| vectors.iter().all(Option::is_some))
        };
        let ready = &mut self.ready[field];
        while self.planned.get(*ready).is_some_and(is_ready) {
            *ready += 1;
        }
        let waiting = self.planned.iter().enumerate().skip(*ready);
        waiting
            .filter_map(|(document, planned)| Some((document, planned.as_ref()?)))
            .flat_map(|(document, planned)| {
                let vectors = planned.vectors[field].iter().enumerate();
                vectors
                    .filter(|(_, vector)| vector.is_none())
                    .map(move |(chunk, _)| (document, chunk))
            })
            .take(TEXTS_PER_CALL)
            .collect()
    }

    async fn embed_places(&mut self, field: usize, places: &[(usize, usize)]) -> Result<()> {
        let inner = Arc::clone(&self.collection.inner);
        let texts: Vec<String> = places
            .iter()
            .filter_map(|(document, chunk)| self.planned[*document].as_ref()?.chunks.get(*chunk))
            .map(|chunk| inner.chunker.embedded(chunk).into_owned())
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let made = self.call(field, &texts).await?;
        let progress = &mut self.report.progress;
        if field == 0 {
            progress.chunks += texts.len() as u64;
            progress.chunks_cached += made.cached;
            progress.chunks_reused += made.repeated;
        }
        for ((document, chunk), vector) in places.iter().zip(&made.vectors) {
            // An earlier text of the document may have failed it.
            let Some(planned) = &mut self.planned[*document] else {
                continue;
            };
            match prepare(&inner.pinned.vectors[field].spec, vector) {
                Ok(vector) => {
                    planned.vectors[field][*chunk] = Some(vector);
                    self.missing[field] -= 1;
                }
                Err(fault) => {
                    let embedder = inner.sources[field].embedder.as_ref();
                    let provider = embedder.map(|embedder| &embedder.info().provider);
                    let error = Error::InvalidResponse {
                        provider: provider.cloned().unwrap_or_default(),
                        message: format!("a vector cannot be indexed: {fault}"),
                    };
                    self.fail_planned(*document, error)?;
                }
            }
        }
        Ok(())
    }

    fn fail_planned(&mut self, document: usize, error: Error) -> Result<()> {
        let id = self.planned[document]
            .as_ref()
            .map(|planned| planned.key.id.clone());
        let Some(id) = id else {
            return Ok(());
        };
        self.take_out(&id);
        self.fail(&id, error)
    }

    /// Embeds what is left and commits what was taken.
    async fn commit(&mut self) -> Result<()> {
        self.embed(1).await?;
        self.opened_at = (self.options.clock)();
        self.places.clear();
        self.ready.fill(0);
        (self.chunks, self.bytes) = (0, 0);
        let planned: Vec<Planned> = std::mem::take(&mut self.planned).into_iter().flatten().collect();
        if planned.is_empty() {
            return Ok(());
        }
        let documents = planned.len() as u64;
        let empty: Vec<String> = planned
            .iter()
            .filter(|planned| planned.chunks.is_empty())
            .map(|planned| planned.key.id.clone())
            .collect();
        let updated = self.write(planned, self.taken).await?;
        let indexed = documents - empty.len() as u64;
        for id in empty {
            self.skip(id, SkipReason::Empty);
        }
        let progress = &mut self.report.progress;
        progress.documents_done += indexed;
        progress.documents_updated += updated;
        progress.documents_added += indexed - updated;
        self.tell_progress();
        Ok(())
    }

    /// A source that was read to its end needs no cursor.
    async fn clear_cursor(&mut self) -> Result<()> {
        if let Some((source, _)) = &self.options.source
            && self.collection.cursor(source).await? > 0
        {
            self.write(Vec::new(), 0).await?;
        }
        Ok(())
    }

    async fn write(&mut self, planned: Vec<Planned>, done: u64) -> Result<u64> {
        self.hold_writer().await?;
        self.options.cancel.check()?;
        let Some(writer) = self.writer.take() else {
            return Err(Error::internal("the writer is gone"));
        };
        let cursor = self.options.source.as_ref().map(|(source, _)| Cursor {
            tenant: self.collection.scope.tenant().to_owned(),
            source: source.clone(),
            done,
        });
        let this = self.collection.clone();
        let work = move || write(&this, writer, planned, cursor);
        let (writer, updated) = blocking(&self.collection.inner.place, work).await?;
        self.writer = Some(writer);
        self.report.progress.commits += 1;
        Ok(updated)
    }
}

/// Whether an embedder refused a text, and would take others.
fn is_of_the_text(error: &Error) -> bool {
    matches!(error, Error::InvalidInput { .. } | Error::LimitExceeded { .. })
}

/// Commits a batch; how many of its documents replaced a version.
fn write(
    collection: &Collection,
    mut writer: Writer,
    planned: Vec<Planned>,
    cursor: Option<Cursor>,
) -> Result<(Writer, u64)> {
    let (inner, scope) = (&collection.inner, &collection.scope);
    // Nobody else can write now: what this snapshot says of a document stays true until the commit.
    let snapshot = inner.snapshots.latest()?;
    let mut updated = 0;
    let changes = planned.into_iter().map(|document| {
        let mut versions = inner.versions(&snapshot, scope, &document.key.id)?;
        if let Some(from) = &document.from {
            versions.extend(inner.versions(&snapshot, scope, from)?);
        }
        let term = document.key.term(scope);
        updated += u64::from(!versions.is_empty() && !document.chunks.is_empty());
        let remove = versions
            .iter()
            .map(|term| Term::from_field_bytes(inner.fields.document, term))
            .collect();
        let mut add = Vec::with_capacity(document.chunks.len());
        for (number, chunk) in document.chunks.iter().enumerate() {
            let vectors = document.vectors.iter().map(|field| field[number].as_deref());
            let vectors: Vec<Option<&[f32]>> = vectors.collect();
            let record = schema::Record {
                chunk,
                text_bytes: document.covered,
            };
            let facts = &document.facts;
            add.push(schema::encode(
                &inner.fields,
                scope,
                &term,
                number,
                &record,
                facts,
                &vectors,
            )?);
        }
        Ok(Change { remove, add })
    });
    writer.commit(changes, cursor)?;
    inner.snapshots.follow()?;
    Ok((writer, updated))
}
