//! Collections: open, add, search, delete.

use crate::{
    bring::{Bringing, Change, taken},
    caller::Caller,
    convert::{json_to_py, py_to_serde},
    embed::NativeEmbedder,
    error::{to_pyerr, to_pyerr_async},
    runtime::Born,
};
use pyo3::{IntoPyObjectExt, prelude::*};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};
use stepwell::{
    Embedder, Error, Filter, HeuristicTokens, Hit, Query, Result, Scope, TokenCounter,
    rag::{
        ChunkOptions, Chunker, Chunking, Collection, Coverage, Explained, Fusion, Language, Metric, Storage,
        VectorField, WholeDocuments,
    },
};

/// The settings a Python caller may name.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    tenant: Option<String>,
    actor: Option<String>,
    language: Option<String>,
    codes_only: Option<bool>,
    storage: Option<Storage>,
    metric: Option<Metric>,
    fusion: Option<FusionName>,
    chunks: Option<ChunkSettings>,
    vector_fields: Vec<VectorFieldSettings>,
}

/// A vector field; its embedder comes beside it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorFieldSettings {
    name: String,
    metric: Option<Metric>,
    storage: Option<Storage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum FusionName {
    ZScore { weight: f32 },
    MinMax { weight: f32 },
    ReciprocalRank { k: f32 },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChunkSettings {
    /// Each document is one chunk.
    whole: bool,
    max_tokens: Option<usize>,
    overlap_tokens: Option<usize>,
    header_tokens: Option<usize>,
}

/// Whose data: the one tenant of a program that has no others where none is named.
pub(crate) fn scope_of(tenant: Option<String>, actor: Option<String>) -> Result<Scope> {
    let scope = tenant.map_or_else(|| Ok(Scope::local()), Scope::new)?;
    Ok(match actor {
        Some(actor) => scope.with_actor(actor),
        None => scope,
    })
}

fn chunker(
    settings: Option<ChunkSettings>,
    embedder: Option<&Arc<dyn Embedder>>,
) -> Result<Arc<dyn Chunking>> {
    let settings = settings.unwrap_or_default();
    if settings.whole {
        return Ok(Arc::new(WholeDocuments));
    }
    let mut options = embedder.map_or_else(ChunkOptions::new, |embedder| {
        ChunkOptions::for_embedder(embedder.info())
    });
    if let Some(tokens) = settings.max_tokens {
        options = options.with_max_tokens(tokens);
    }
    if let Some(tokens) = settings.overlap_tokens {
        options = options.with_overlap_tokens(tokens);
    }
    if let Some(tokens) = settings.header_tokens {
        options = options.with_header_tokens(tokens);
    }
    let counter = embedder.map_or_else(
        || Arc::new(HeuristicTokens) as Arc<dyn TokenCounter>,
        |embedder| embedder.tokens(),
    );
    Ok(Arc::new(Chunker::new(options, counter)?))
}

async fn open(
    path: Option<PathBuf>,
    embedder: Option<Arc<dyn Embedder>>,
    field_embedders: Vec<Arc<dyn Embedder>>,
    settings: Settings,
) -> Result<Collection> {
    let mut builder = path.map_or_else(Collection::in_memory, Collection::open);
    builder = builder
        .scope(scope_of(settings.tenant, settings.actor)?)
        .chunker(chunker(settings.chunks, embedder.as_ref())?);
    if let Some(name) = settings.language {
        let language = Language::from_name(&name).ok_or_else(|| Error::NotFound {
            what: "language".into(),
            name,
            hint: "use an English name in lower case, such as `german`, or `neutral`".into(),
        })?;
        builder = builder.language(language);
    }
    if settings.codes_only.is_some() && settings.storage.is_some() {
        return Err(Error::invalid(
            "storage",
            "`codes_only` says it already: pass one of the two",
        ));
    }
    if let Some(codes_only) = settings.codes_only {
        builder = builder.codes_only(codes_only);
    }
    if let Some(storage) = settings.storage {
        builder = builder.storage(storage);
    }
    if let Some(metric) = settings.metric {
        builder = builder.metric(metric);
    }
    for (given, embedder) in settings.vector_fields.into_iter().zip(field_embedders) {
        let mut field = VectorField::new(given.name, embedder);
        if let Some(metric) = given.metric {
            field = field.metric(metric);
        }
        if let Some(storage) = given.storage {
            field = field.storage(storage);
        }
        builder = builder.vector_field(field);
    }
    builder = match settings.fusion {
        Some(FusionName::ZScore { weight }) => builder.fusion(Fusion::ZScore { weight }),
        Some(FusionName::MinMax { weight }) => builder.fusion(Fusion::MinMax { weight }),
        Some(FusionName::ReciprocalRank { k }) => builder.fusion(Fusion::ReciprocalRank { k }),
        None => builder,
    };
    if let Some(embedder) = embedder {
        builder = builder.embedder(embedder);
    }
    builder.build().await
}

/// A collection of documents.
#[pyclass(frozen, name = "Collection", module = "stepwell._native")]
pub(crate) struct NativeCollection {
    collection: Collection,
    born: Born,
}

impl NativeCollection {
    fn new(collection: Collection) -> Self {
        Self {
            collection,
            born: Born::now(),
        }
    }

    /// The collection, where its threads are still there.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Collection> {
        self.shared().map_err(|error| to_pyerr(py, &error))
    }

    /// The same for the engine's side.
    pub(crate) fn shared(&self) -> Result<Collection> {
        self.born.check("collection")?;
        Ok(self.collection.clone())
    }
}

impl NativeCollection {
    fn change<'py>(
        &self,
        py: Python<'py>,
        bringing: Bringing,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let collection = self.get(py)?;
        let (caller, bridge) = Caller::on_loop(py)?;
        let change = Change::new(caller);
        let work = change.run(collection, bringing, progress);
        // The loop does its jobs in order: every progress call comes before this end.
        bridge.spawn(py, async move { Ok(work.await) }, move |py, result| {
            if let Some(error) = taken(&change.thrown) {
                return Err(error);
            }
            let report = result.map_err(|error| to_pyerr_async(py, &error))?;
            json_to_py(py, &report).map(Bound::unbind)
        })
    }

    fn change_sync<'py>(
        &self,
        py: Python<'py>,
        bringing: Bringing,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let collection = self.get(py)?;
        let (caller, desk) = Caller::on_thread(py)?;
        let change = Change::new(caller);
        let work = change.run(collection, bringing, progress);
        let result = desk.block_on(py, async move { Ok(work.await) })?;
        if let Some(error) = taken(&change.thrown) {
            return Err(error);
        }
        let report = result.map_err(|error| to_pyerr(py, &error))?;
        json_to_py(py, &report)
    }
}

/// Everything a call needs, read from Python's arguments.
fn opening(
    path: Option<PathBuf>,
    embedder: Option<&Bound<'_, NativeEmbedder>>,
    field_embedders: &[Bound<'_, NativeEmbedder>],
    settings: &Bound<'_, PyAny>,
) -> Result<impl Future<Output = Result<Collection>> + Send + 'static + use<>> {
    let settings: Settings = py_to_serde("collection settings", settings)?;
    let embedder = embedder.map(|embedder| embedder.get().get()).transpose()?;
    let field_embedders = field_embedders.iter().map(|embedder| embedder.get().get());
    let field_embedders = field_embedders.collect::<Result<Vec<_>>>()?;
    Ok(open(path, embedder, field_embedders, settings))
}

fn hits_json(hits: &[Hit]) -> Result<Value> {
    serde_json::to_value(hits).map_err(|error| Error::internal(format!("a hit is no JSON: {error}")))
}

fn explained_json(explained: &Explained) -> Result<Value> {
    let segments: Vec<_> = explained
        .segments
        .iter()
        .map(|segment| {
            json!({
                "vectors": segment.vectors,
                "allowed": segment.allowed,
                "strategy": segment.strategy.as_str(),
                "is_exact": segment.strategy.is_exact(),
                "reason": segment.reason,
                "ef": segment.ef,
                "compared": segment.compared,
            })
        })
        .collect();
    let hits = hits_json(&explained.hits)?;
    Ok(json!({ "hits": hits, "allowed": explained.allowed, "segments": segments }))
}

fn coverage_json(coverage: &Coverage) -> Value {
    json!({
        "document_id": coverage.document_id,
        "chunks": coverage.chunks,
        "text_bytes": coverage.text_bytes,
        "gaps": coverage.gaps,
        "is_numbered": coverage.is_numbered,
        "is_whole": coverage.is_whole(),
    })
}

/// One question of a collection that changes nothing, or a simple change: named by a word, answered with JSON.
async fn ask(collection: Collection, what: Ask) -> Result<Value> {
    Ok(match what {
        Ask::Search(query) => hits_json(&collection.search(&query).await?)?,
        Ask::Explain(query) => explained_json(&collection.explain(&query).await?)?,
        Ask::Coverage(document_id) => coverage_json(&collection.coverage(&document_id).await?),
        Ask::Count(filter) => json!(collection.count(filter.as_ref()).await?),
        Ask::Delete(ids) => json!(collection.delete(ids).await?),
        Ask::DeleteWhere(filter) => json!(collection.delete_where(&filter).await?),
        Ask::Documents => {
            let entries = collection.documents().await?;
            entries
                .into_iter()
                .map(|entry| json!({ "id": entry.id, "content_hash": entry.content_hash, "chunks": entry.chunks }))
                .collect()
        }
        Ask::Stats => {
            let stats = collection.stats().await?;
            json!({
                "documents": stats.documents,
                "chunks": stats.chunks,
                "vectors": stats.vectors,
                "embedder": stats.embedder,
                "dimension": stats.dimension,
                "vector_fields": stats.vector_fields.iter().map(|field| json!({
                    "name": field.name,
                    "vectors": field.vectors,
                    "embedder": field.embedder,
                    "dimension": field.dimension,
                })).collect::<Vec<_>>(),
            })
        }
        Ask::IndexStats => {
            let stats = collection.index_stats().await?;
            json!({
                "segments": stats.segments,
                "chunks": stats.chunks,
                "deleted_chunks": stats.deleted_chunks,
                "vectors": stats.vectors,
                "bytes": stats.bytes,
                "vector_bytes": stats.vector_bytes,
            })
        }
        Ask::Compact => {
            collection.compact().await?;
            Value::Null
        }
        Ask::Verify => {
            collection.verify().await?;
            Value::Null
        }
    })
}

/// What can be asked of a collection.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    Search(Query),
    Explain(Query),
    Coverage(String),
    Count(Option<Filter>),
    Delete(Vec<String>),
    DeleteWhere(Filter),
    Documents,
    Stats,
    IndexStats,
    Compact,
    Verify,
}

#[pymethods]
impl NativeCollection {
    #[staticmethod]
    fn open<'py>(
        py: Python<'py>,
        path: Option<PathBuf>,
        embedder: Option<&Bound<'py, NativeEmbedder>>,
        field_embedders: Vec<Bound<'py, NativeEmbedder>>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let opening =
            opening(path, embedder, &field_embedders, settings).map_err(|error| to_pyerr(py, &error))?;
        let (_, bridge) = Caller::on_loop(py)?;
        bridge.spawn(py, opening, |py, collection| {
            Self::new(collection).into_py_any(py)
        })
    }

    #[staticmethod]
    fn open_sync(
        py: Python<'_>,
        path: Option<PathBuf>,
        embedder: Option<&Bound<'_, NativeEmbedder>>,
        field_embedders: Vec<Bound<'_, NativeEmbedder>>,
        settings: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let opening =
            opening(path, embedder, &field_embedders, settings).map_err(|error| to_pyerr(py, &error))?;
        let (_, desk) = Caller::on_thread(py)?;
        desk.block_on(py, opening).map(Self::new)
    }

    /// The same collection as another tenant sees it.
    fn scoped(&self, py: Python<'_>, tenant: String, actor: Option<String>) -> PyResult<Self> {
        let scope = scope_of(Some(tenant), actor).map_err(|error| to_pyerr(py, &error))?;
        Ok(Self {
            collection: self.collection.scoped(scope),
            born: self.born,
        })
    }

    #[getter]
    fn tenant(&self) -> &str {
        self.collection.scope().tenant()
    }

    fn add<'py>(
        &self,
        py: Python<'py>,
        documents: &Bound<'py, PyAny>,
        progress: Option<Py<PyAny>>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let documents = py_to_serde("documents", documents).map_err(|error| to_pyerr(py, &error))?;
        let settings = py_to_serde("add settings", settings).map_err(|error| to_pyerr(py, &error))?;
        self.change(py, Bringing::Documents(documents, settings), progress)
    }

    fn add_sync<'py>(
        &self,
        py: Python<'py>,
        documents: &Bound<'py, PyAny>,
        progress: Option<Py<PyAny>>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let documents = py_to_serde("documents", documents).map_err(|error| to_pyerr(py, &error))?;
        let settings = py_to_serde("add settings", settings).map_err(|error| to_pyerr(py, &error))?;
        self.change_sync(py, Bringing::Documents(documents, settings), progress)
    }

    /// Makes it hold the files under these paths.
    fn sync_files<'py>(
        &self,
        py: Python<'py>,
        paths: Vec<PathBuf>,
        progress: Option<Py<PyAny>>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let settings = py_to_serde("sync settings", settings).map_err(|error| to_pyerr(py, &error))?;
        self.change(py, Bringing::Files(paths, settings), progress)
    }

    /// The blocking twin of `sync_files`.
    fn sync_files_sync<'py>(
        &self,
        py: Python<'py>,
        paths: Vec<PathBuf>,
        progress: Option<Py<PyAny>>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let settings = py_to_serde("sync settings", settings).map_err(|error| to_pyerr(py, &error))?;
        self.change_sync(py, Bringing::Files(paths, settings), progress)
    }

    /// What `sync_files` would do.
    fn plan_files<'py>(
        &self,
        py: Python<'py>,
        paths: Vec<PathBuf>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let settings = py_to_serde("sync settings", settings).map_err(|error| to_pyerr(py, &error))?;
        self.change(py, Bringing::Plan(paths, settings), None)
    }

    /// The blocking twin of `plan_files`.
    fn plan_files_sync<'py>(
        &self,
        py: Python<'py>,
        paths: Vec<PathBuf>,
        settings: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let settings = py_to_serde("sync settings", settings).map_err(|error| to_pyerr(py, &error))?;
        self.change_sync(py, Bringing::Plan(paths, settings), None)
    }

    /// Asks it something: `{"search": query}`, `{"count": filter}`, `"documents"` …
    fn ask<'py>(&self, py: Python<'py>, what: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let collection = self.get(py)?;
        let what: Ask = py_to_serde("query", what).map_err(|error| to_pyerr(py, &error))?;
        let (_, bridge) = Caller::on_loop(py)?;
        bridge.spawn(py, ask(collection, what), |py, value| {
            json_to_py(py, &value).map(Bound::unbind)
        })
    }

    /// The blocking twin of `ask`.
    fn ask_sync<'py>(&self, py: Python<'py>, what: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let collection = self.get(py)?;
        let what: Ask = py_to_serde("query", what).map_err(|error| to_pyerr(py, &error))?;
        let (_, desk) = Caller::on_thread(py)?;
        let value = desk.block_on(py, ask(collection, what))?;
        json_to_py(py, &value)
    }
}
