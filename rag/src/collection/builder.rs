//! [`CollectionBuilder`]: opens or makes the index, and checks that it is the right one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stepwell_core::store::Cache;
use stepwell_core::{Embedder, EmbedderInfo, Error, HeuristicTokens, Result, Scope};
use tantivy::directory::{Directory, MmapDirectory, RamDirectory};
use tantivy::{Index, IndexSettings, SegmentPlugin, TantivyError};

use super::embeddings::{Precision, Shelf};
use super::field::{self, Source, VectorField};
use super::storage::Storage;
use super::{Chunking, Collection, Inner};
use crate::calibrate::Calibration;
use crate::checksum::{CHECKED_AT_OPEN, Checksums};
use crate::chunk::{ChunkOptions, Chunker};
use crate::disk::Disk;
use crate::error::{Place, blocking};
use crate::filter::FilterCache;
use crate::fuse::Fusion;
use crate::lexical::{FieldBoosts, Language, Questions, tokenizers};
use crate::schema::{self, Fields, Pinned, PinnedVectors};
use crate::snapshot::{STORE_BLOCK, Snapshots};
use crate::vector::format::{EXTENSIONS, Encoding, Metric};
use crate::vector::plan::{Effort, GraphOptions};
use crate::vector::plugin::{Graphs, VectorPlugin};
use crate::writer::Writers;

/// What tantivy puts into a folder before the first commit; a folder with nothing else is still empty.
const LEFTOVERS: [&str; 3] = [".managed.json", ".tantivy-writer.lock", ".tantivy-meta.lock"];

/// Settings of a [`Collection`]; made by [`Collection::open`] and [`Collection::in_memory`].
#[derive(Debug)]
pub struct CollectionBuilder {
    path: Option<PathBuf>,
    embedder: Option<Arc<dyn Embedder>>,
    vector_fields: Vec<VectorField>,
    scope: Scope,
    language: Option<Language>,
    metric: Option<Metric>,
    storage: Option<Storage>,
    graph: GraphOptions,
    effort: Effort,
    fusion: Fusion,
    boosts: FieldBoosts,
    calibration: Calibration,
    chunks: Option<ChunkOptions>,
    chunker: Option<Arc<dyn Chunking>>,
    cache: Option<Arc<dyn Cache>>,
}

impl CollectionBuilder {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            embedder: None,
            vector_fields: Vec::new(),
            scope: Scope::local(),
            language: None,
            metric: None,
            storage: None,
            graph: GraphOptions::default(),
            effort: Effort::DEFAULT,
            fusion: Fusion::default(),
            boosts: FieldBoosts::default(),
            calibration: Calibration::default(),
            chunks: None,
            chunker: None,
            cache: None,
        }
    }

    /// Makes the vectors; the index remembers which one. A new index without an embedder searches words alone; one
    /// with vectors that is opened without can be searched by words, and by vectors given in the query.
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    /// One more vector for every chunk. Opened without it, an index that has it can be searched by vectors given in the
    /// query, but nothing can be added.
    pub fn vector_field(mut self, field: VectorField) -> Self {
        self.vector_fields.push(field);
        self
    }

    /// Whose data the first handle sees; [`Scope::local`] when not set.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Stems and stop words; English when not set. Fixed when the index is made.
    pub fn language(mut self, language: Language) -> Self {
        self.language = Some(language);
        self
    }

    /// Keeps int8 codes alone, half of the vectors' size, with approximate scores; off when not set. Fixed when the index
    /// is made. The same as [`Storage::Codes`], and without as [`Storage::Int16`].
    pub fn codes_only(self, codes_only: bool) -> Self {
        self.storage(if codes_only {
            Storage::Codes
        } else {
            Storage::Int16
        })
    }

    /// What is kept of a vector; [`Storage::Int16`] when not set. Fixed when the index is made.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// How vectors are compared; [`Metric::Cosine`] when not set. Fixed when the index is made.
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }

    /// When segments get a graph, and of what shape.
    pub fn graph(mut self, graph: GraphOptions) -> Self {
        self.graph = graph;
        self
    }

    /// Share of the true nearest chunks that a search by meaning aims at, 0.5 to 1; 0.99 when not set. 1 compares every
    /// chunk. Small collections are searched exactly whatever it says.
    ///
    /// It is an aim. How far a walk has to go for it is tried while a graph is built, with some of its own chunks as
    /// questions. For 0.99, 25,000 sentences gave 0.993, 200,000 vectors around them 0.992 and 100,000 synthetic ones of
    /// 128 dimensions 0.997; but 10⁶ of these, each with forty close by, gave 0.968, for questions came from elsewhere.
    /// [`Collection::measure_recall`] tells what yours gives.
    pub fn recall(mut self, recall: f32) -> Self {
        self.effort = Effort::Recall(recall);
        self
    }

    /// How words and meaning become one order.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// What a word counts in titles, headings and texts.
    pub fn boosts(mut self, boosts: FieldBoosts) -> Self {
        self.boosts = boosts;
        self
    }

    /// How relevance is told from cosine and words; [`Calibration::default`] suits MiniLM, and
    /// [`crate::eval::fit_relevance`] learns one for other embedders.
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = calibration;
        self
    }

    /// How long chunks may be; what the embedder reads when not set. Documents cut otherwise are cut again when they
    /// are added again.
    pub fn chunks(mut self, chunks: ChunkOptions) -> Self {
        self.chunks = Some(chunks);
        self
    }

    /// Another way to cut documents, such as [`crate::WholeDocuments`]. Documents cut otherwise are cut again when they are added again.
    pub fn chunker(mut self, chunker: Arc<dyn Chunking>) -> Self {
        self.chunker = Some(chunker);
        self
    }

    /// Keeps the vectors of texts in this cache, under the scope of the handle that adds them: what is cut anew, added to
    /// another index or added again after a crash is then not embedded again. None when not set.
    pub fn embedding_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Opens the index, or makes it.
    ///
    /// # Errors
    /// `embedder_mismatch`, `foreign`, `damaged`, `unknown_version`, `io`, `disk_full`; `invalid_input` for a setting
    /// that cannot be used or differs from what the index was made with.
    pub async fn build(self) -> Result<Collection> {
        if self.chunks.is_some() && self.chunker.is_some() {
            return Err(Error::invalid(
                "chunks",
                "set `.chunks(..)` or `.chunker(..)`, not both",
            ));
        }
        if !self.fusion.is_valid() {
            return Err(Error::invalid(
                "fusion",
                "give a weight between 0 and 1, or a k of 0 or more",
            ));
        }
        self.boosts.check()?;
        field::check(&self.vector_fields)?;
        if !self.effort.is_valid() {
            return Err(Error::invalid("recall", "give a share between 0.5 and 1"));
        }
        if !self.graph.is_valid() {
            return Err(Error::invalid(
                "graph",
                "give 2 to 128 links, and an ef_construction from that number to 4,096",
            ));
        }
        let place = self.path.as_deref().map_or_else(Place::memory, Place::folder);
        let for_errors = place.clone();
        blocking(&for_errors, move || {
            let directory: Box<dyn Directory> = match place.path() {
                Some(path) => Box::new(prepare_folder(path, &place)?),
                None => Box::new(RamDirectory::create()),
            };
            self.open_in(directory, place, CHECKED_AT_OPEN)
        })
        .await
    }

    /// Indexes up to `checked` bytes are read against their checksums.
    pub(super) fn open_in(
        self,
        directory: Box<dyn Directory>,
        place: Place,
        checked: u64,
    ) -> Result<Collection> {
        let info = self.embedder.as_deref().map(Embedder::info);
        let first = PinnedVectors::new(
            "",
            info,
            self.metric.unwrap_or_default(),
            self.storage.unwrap_or_default().encoding(),
        )?;
        let others = self.vector_fields.iter().map(VectorField::pinned);
        let wanted = Pinned {
            vectors: std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?,
            language: self.language.unwrap_or_default(),
        };
        let graphs = Arc::new(Graphs::new(self.graph.clone()));
        let disk = Disk::new(directory);
        let directory: Box<dyn Directory> = Box::new(disk.clone());
        let is_there = place.check(
            "opening",
            Index::exists(directory.as_ref()).map_err(TantivyError::from),
        )?;
        let mut opened = if is_there {
            None
        } else {
            create(directory.as_ref(), &wanted, &graphs, &place)?
        };
        if opened.is_none() {
            opened = Some(open_existing(directory, &graphs, &place)?);
        }
        let Some((index, pinned, fields)) = opened else {
            return Err(Error::internal("an index was neither opened nor made"));
        };
        self.check_pinned(&pinned, info)?;
        let checksums = Checksums::default();
        if let Some(damage) = checksums.damage(&index, &pinned.specs(), &place, checked)? {
            return Err(damage);
        }
        let snapshots = Snapshots::open(&index, pinned.specs(), place.clone())?;
        let chunker = self.make_chunker()?;
        let questions = Questions::new(pinned.language);
        let sources = self.sources(&pinned);
        let writers = Writers::new(&index, disk, &place, graphs.stop());
        let inner = Inner {
            index,
            writers,
            fields,
            pinned,
            place,
            sources,
            settings: chunker.fingerprint(),
            chunker,
            fusion: self.fusion,
            boosts: self.boosts,
            calibration: self.calibration,
            graphs,
            effort: self.effort,
            snapshots,
            filters: FilterCache::default(),
            checksums,
            questions,
        };
        Ok(Collection {
            inner: Arc::new(inner),
            scope: self.scope,
        })
    }

    /// Where each vector field's vectors come from.
    fn sources(&self, pinned: &Pinned) -> Vec<Source> {
        let sources = pinned.vectors.iter().map(|field| {
            let named = self.vector_fields.iter().find(|given| given.name == field.name);
            let embedder = match &field.name[..] {
                "" => self.embedder.clone(),
                _ => named.map(|given| Arc::clone(&given.embedder)),
            };
            // A cache need not be more exact than the index.
            let precision = match field.spec.encoding {
                Encoding::CodesF32 => Precision::F32,
                Encoding::Codes16 | Encoding::Codes => Precision::Int16,
            };
            let cache = self.cache.clone();
            Source {
                embedder,
                shelf: cache.map(|cache| Shelf { cache, precision }),
            }
        });
        sources.collect()
    }

    fn make_chunker(&self) -> Result<Arc<dyn Chunking>> {
        if let Some(chunker) = &self.chunker {
            return Ok(Arc::clone(chunker));
        }
        Ok(match (&self.embedder, &self.chunks) {
            (Some(embedder), Some(chunks)) => Arc::new(Chunker::new(chunks.clone(), embedder.tokens())?),
            (Some(embedder), None) => Arc::new(Chunker::for_embedder(embedder.as_ref())?),
            (None, chunks) => Arc::new(Chunker::new(
                chunks.clone().unwrap_or_default(),
                Arc::new(HeuristicTokens),
            )?),
        })
    }

    fn check_pinned(&self, pinned: &Pinned, info: Option<&EmbedderInfo>) -> Result<()> {
        check_field(pinned.first(), info, self.metric, self.storage)?;
        for given in &self.vector_fields {
            let field = &pinned.vectors[pinned.field(Some(&given.name))?];
            check_field(field, Some(given.embedder.info()), given.metric, given.storage)?;
        }
        if self.language.is_some_and(|language| language != pinned.language) {
            return Err(made_otherwise("language", pinned.language.name()));
        }
        Ok(())
    }
}

fn made_otherwise(setting: &str, made: &str) -> Error {
    Error::invalid(
        setting,
        format!("the index was made with {made}; open it so, or index anew"),
    )
}

/// Whether a vector field is what it is opened as.
fn check_field(
    field: &PinnedVectors,
    info: Option<&EmbedderInfo>,
    metric: Option<Metric>,
    storage: Option<Storage>,
) -> Result<()> {
    if let Some(expected) = info
        .map(EmbedderInfo::fingerprint)
        .filter(|expected| *expected != field.embedder)
    {
        let found = if field.embedder.is_empty() {
            "none (words alone)".to_owned()
        } else {
            field.embedder.clone()
        };
        return Err(Error::EmbedderMismatch { expected, found });
    }
    let made = Storage::of(field.spec.encoding);
    if storage.is_some_and(|storage| storage != made) {
        return Err(made_otherwise("storage", made.as_str()));
    }
    let made = field.spec.metric;
    if metric.is_some_and(|metric| metric != made) {
        return Err(made_otherwise("metric", made.name()));
    }
    Ok(())
}

/// Makes the folder where needed; refuses one that holds something else.
fn prepare_folder(path: &Path, place: &Place) -> Result<MmapDirectory> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid("path", "name a folder for the index"));
    }
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => place.foreign(),
        _ => Error::io(format!("opening the index in {}", path.display()), error),
    };
    std::fs::create_dir_all(path).map_err(io)?;
    if !path.join("meta.json").exists() {
        for entry in std::fs::read_dir(path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let is_leftover = name
                .to_str()
                .is_some_and(|name| LEFTOVERS.contains(&name) || name.starts_with(".tmp"));
            if !is_leftover {
                return Err(place.foreign());
            }
        }
    }
    place.check("opening", MmapDirectory::open(path).map_err(TantivyError::from))
}

type Opened = (Index, Pinned, Fields);

/// One for each vector field, in their order.
fn plugins(
    pinned: &Pinned,
    fields: &Fields,
    graphs: &Arc<Graphs>,
) -> impl Iterator<Item = Arc<dyn SegmentPlugin>> {
    let fields = pinned.vectors.iter().zip(&fields.vectors).zip(EXTENSIONS);
    fields.map(|((pinned, field), extension)| {
        let plugin = VectorPlugin::new(pinned.spec.clone(), *field, extension, Arc::clone(graphs));
        Arc::new(plugin) as Arc<dyn SegmentPlugin>
    })
}

/// `None` when another process made the index in the same moment.
fn create(
    directory: &dyn Directory,
    wanted: &Pinned,
    graphs: &Arc<Graphs>,
    place: &Place,
) -> Result<Option<Opened>> {
    let (schema, fields) = schema::create(wanted);
    let settings = IndexSettings {
        docstore_blocksize: STORE_BLOCK,
        ..IndexSettings::default()
    };
    let mut builder = Index::builder()
        .schema(schema)
        .settings(settings)
        .tokenizers(tokenizers(wanted.language));
    for plugin in plugins(wanted, &fields, graphs) {
        builder = builder.register_plugin(plugin);
    }
    let created = builder.open_or_create(directory.box_clone());
    match created {
        Ok(index) => Ok(Some((index, wanted.clone(), fields))),
        Err(TantivyError::IndexAlreadyExists | TantivyError::SchemaError(_)) => Ok(None),
        Err(error) => Err(place.explain("making", &error)),
    }
}

fn open_existing(directory: Box<dyn Directory>, graphs: &Arc<Graphs>, place: &Place) -> Result<Opened> {
    let mut index = Index::open(directory).map_err(|error| {
        // Something else may have its own meta.json; ours never stands alone.
        let is_alone = place
            .path()
            .is_some_and(|path| !path.join(".managed.json").exists());
        if is_alone {
            place.foreign()
        } else {
            place.explain("opening", &error)
        }
    })?;
    let (pinned, fields) = schema::read(&index.schema(), place)?;
    if index.settings().sort_by_field.is_some() {
        return Err(place.damaged("it is sorted, which vectors cannot follow"));
    }
    index.set_tokenizers(tokenizers(pinned.language));
    // Before any clone of the index: the list of plugins is copied, not shared.
    for plugin in plugins(&pinned, &fields, graphs) {
        index.register_plugin(plugin);
    }
    Ok((index, pinned, fields))
}
