//! [`CollectionBuilder`]: opens or makes the index, and checks that it is the right one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stepwell_core::{Embedder, EmbedderInfo, Error, HeuristicTokens, Result, Scope};
use tantivy::directory::{Directory, MmapDirectory, RamDirectory};
use tantivy::{Index, TantivyError};
use tokio::sync::Semaphore;

use super::{Chunking, Collection, Inner};
use crate::chunk::{ChunkOptions, Chunker};
use crate::error::{Place, blocking};
use crate::filter::FilterCache;
use crate::fuse::Fusion;
use crate::lexical::{Language, Questions, tokenizers};
use crate::schema::{self, Fields, Pinned};
use crate::snapshot::Snapshots;
use crate::vector::format::{Encoding, Metric};
use crate::vector::plugin::VectorPlugin;

/// What tantivy puts into a folder before the first commit; a folder with nothing else is still empty.
const LEFTOVERS: [&str; 3] = [".managed.json", ".tantivy-writer.lock", ".tantivy-meta.lock"];

/// Settings of a [`Collection`]; made by [`Collection::open`] and [`Collection::in_memory`].
#[derive(Debug)]
pub struct CollectionBuilder {
    path: Option<PathBuf>,
    embedder: Option<Arc<dyn Embedder>>,
    scope: Scope,
    language: Option<Language>,
    codes_only: Option<bool>,
    fusion: Fusion,
    chunks: Option<ChunkOptions>,
    chunker: Option<Arc<dyn Chunking>>,
}

impl CollectionBuilder {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            embedder: None,
            scope: Scope::local(),
            language: None,
            codes_only: None,
            fusion: Fusion::default(),
            chunks: None,
            chunker: None,
        }
    }

    /// Makes the vectors; the index remembers which one. A new index without an embedder searches words alone; one
    /// with vectors that is opened without can be searched by words, and by vectors given in the query.
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
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

    /// Keeps int8 codes alone, a third of the vectors' size, with approximate scores; off when not set. Fixed when the index
    /// is made.
    pub fn codes_only(mut self, codes_only: bool) -> Self {
        self.codes_only = Some(codes_only);
        self
    }

    /// How words and meaning become one order.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
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
        let place = self.path.as_deref().map_or_else(Place::memory, Place::folder);
        let for_errors = place.clone();
        blocking(&for_errors, move || self.open(place)).await
    }

    fn open(self, place: Place) -> Result<Collection> {
        let info = self.embedder.as_deref().map(Embedder::info);
        let encoding = if self.codes_only == Some(true) {
            Encoding::Codes
        } else {
            Encoding::CodesF16
        };
        let wanted = Pinned::new(info, Metric::Cosine, encoding, self.language.unwrap_or_default())?;
        let directory: Box<dyn Directory> = match place.path() {
            Some(path) => Box::new(prepare_folder(path, &place)?),
            None => Box::new(RamDirectory::create()),
        };
        let is_there = place.check(
            "opening",
            Index::exists(directory.as_ref()).map_err(TantivyError::from),
        )?;
        let mut opened = if is_there {
            None
        } else {
            create(directory.as_ref(), &wanted, &place)?
        };
        if opened.is_none() {
            opened = Some(open_existing(directory, &place)?);
        }
        let Some((index, pinned, fields)) = opened else {
            return Err(Error::internal("an index was neither opened nor made"));
        };
        self.check_pinned(&pinned, info)?;
        let snapshots = Snapshots::open(&index, pinned.spec.clone(), place.clone())?;
        let chunker = self.make_chunker()?;
        let questions = Questions::new(pinned.language);
        let inner = Inner {
            index,
            fields,
            pinned,
            place,
            embedder: self.embedder,
            chunker,
            fusion: self.fusion,
            snapshots,
            filters: FilterCache::default(),
            questions,
            turn: Arc::new(Semaphore::new(1)),
        };
        Ok(Collection {
            inner: Arc::new(inner),
            scope: self.scope,
        })
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
        if let Some(expected) = info
            .map(EmbedderInfo::fingerprint)
            .filter(|expected| *expected != pinned.embedder)
        {
            let found = if pinned.embedder.is_empty() {
                "none (words alone)".to_owned()
            } else {
                pinned.embedder.clone()
            };
            return Err(Error::EmbedderMismatch { expected, found });
        }
        if self.language.is_some_and(|language| language != pinned.language) {
            let made = pinned.language.name();
            return Err(Error::invalid(
                "language",
                format!("the index was made for {made}; open it so, or index anew"),
            ));
        }
        let has_codes_only = pinned.spec.encoding == Encoding::Codes;
        if self
            .codes_only
            .is_some_and(|codes_only| codes_only != has_codes_only)
        {
            return Err(Error::invalid(
                "codes_only",
                format!("the index was made with {has_codes_only}; open it so, or index anew"),
            ));
        }
        Ok(())
    }
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

/// `None` when another process made the index in the same moment.
fn create(directory: &dyn Directory, wanted: &Pinned, place: &Place) -> Result<Option<Opened>> {
    let (schema, fields) = schema::create(wanted);
    let created = Index::builder()
        .schema(schema)
        .tokenizers(tokenizers(wanted.language))
        .register_plugin(Arc::new(VectorPlugin::new(wanted.spec.clone(), fields.vector)))
        .open_or_create(directory.box_clone());
    match created {
        Ok(index) => Ok(Some((index, wanted.clone(), fields))),
        Err(TantivyError::IndexAlreadyExists | TantivyError::SchemaError(_)) => Ok(None),
        Err(error) => Err(place.explain("making", &error)),
    }
}

fn open_existing(directory: Box<dyn Directory>, place: &Place) -> Result<Opened> {
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
    index.register_plugin(Arc::new(VectorPlugin::new(pinned.spec.clone(), fields.vector)));
    Ok((index, pinned, fields))
}
