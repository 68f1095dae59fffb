//! [`NativeCollection`]: documents in, hits out.

use crate::{
    bring::{AddGiven, SyncGiven, event_json, plan_json, report_json, sync_event_json, sync_report_json},
    convert::{from_json, parse, read, to_json, with_members},
    error::to_napi,
    models::Embedder,
    runtime::{Cancel, promise},
    stream::NativeStream,
};
use napi::{
    Env,
    bindgen_prelude::{ClassInstance, PromiseRaw},
};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use stepwell::{
    Citation, Document, DynTool, Error, Filter, Hit, HitUnit, IntoDynTool, Query, Result, Scope, SearchMode,
    agent::retriever_tool,
    rag::{ChunkOptions, Collection, Coverage, Explained, Fusion, Language, Metric, Storage, VectorField},
};

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a tenant's name, or an object with `tenant` and `actor`"
)]
pub(crate) enum ScopeGiven {
    Tenant(String),
    Both { tenant: String, actor: Option<String> },
}

impl ScopeGiven {
    pub(crate) fn scope(self) -> Result<Scope> {
        match self {
            Self::Tenant(tenant) => Scope::new(tenant),
            Self::Both { tenant, actor } => {
                let scope = Scope::new(tenant)?;
                Ok(actor.into_iter().fold(scope, Scope::with_actor))
            }
        }
    }
}

/// A scope from JSON.
fn scope(text: &str) -> Result<Scope> {
    parse::<ScopeGiven>("scope", text)?.scope()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum FusionGiven {
    ZScore { weight: f32 },
    MinMax { weight: f32 },
    ReciprocalRank { k: f32 },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OpenOptions {
    path: Option<String>,
    scope: Option<ScopeGiven>,
    language: Option<String>,
    codes_only: Option<bool>,
    storage: Option<Storage>,
    metric: Option<Metric>,
    fusion: Option<FusionGiven>,
    chunks: Option<ChunksGiven>,
    vector_fields: Vec<VectorFieldGiven>,
}

/// A vector field; its embedder comes beside it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VectorFieldGiven {
    name: String,
    metric: Option<Metric>,
    storage: Option<Storage>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ChunksGiven {
    max_tokens: Option<usize>,
    overlap_tokens: Option<usize>,
}

async fn open(
    options: OpenOptions,
    embedder: Option<Arc<dyn stepwell::Embedder>>,
    field_embedders: Vec<Arc<dyn stepwell::Embedder>>,
) -> Result<Collection> {
    let mut builder = match options.path {
        Some(path) => Collection::open(path),
        None => Collection::in_memory(),
    };
    let embedder_info = embedder.as_ref().map(|embedder| embedder.info().clone());
    if let Some(embedder) = embedder {
        builder = builder.embedder(embedder);
    }
    if let Some(scope) = options.scope {
        builder = builder.scope(scope.scope()?);
    }
    if let Some(name) = options.language {
        let language = Language::from_name(&name).ok_or_else(|| Error::NotFound {
            what: "language".into(),
            name: name.chars().take(64).collect(),
            hint: "write its lower-case English name, or `neutral`".into(),
        })?;
        builder = builder.language(language);
    }
    if options.codes_only.is_some() && options.storage.is_some() {
        return Err(Error::invalid(
            "storage",
            "`codesOnly` says it already: pass one of the two",
        ));
    }
    if let Some(codes_only) = options.codes_only {
        builder = builder.codes_only(codes_only);
    }
    if let Some(storage) = options.storage {
        builder = builder.storage(storage);
    }
    if let Some(metric) = options.metric {
        builder = builder.metric(metric);
    }
    for (given, embedder) in options.vector_fields.into_iter().zip(field_embedders) {
        let mut field = VectorField::new(given.name, embedder);
        if let Some(metric) = given.metric {
            field = field.metric(metric);
        }
        if let Some(storage) = given.storage {
            field = field.storage(storage);
        }
        builder = builder.vector_field(field);
    }
    if let Some(fusion) = options.fusion {
        builder = builder.fusion(match fusion {
            FusionGiven::ZScore { weight } => Fusion::ZScore { weight },
            FusionGiven::MinMax { weight } => Fusion::MinMax { weight },
            FusionGiven::ReciprocalRank { k } => Fusion::ReciprocalRank { k },
        });
    }
    if let Some(given) = options.chunks {
        let mut chunks = match &embedder_info {
            Some(info) => ChunkOptions::for_embedder(info),
            None => ChunkOptions::new(),
        };
        if let Some(tokens) = given.max_tokens {
            chunks = chunks.with_max_tokens(tokens);
        }
        if let Some(tokens) = given.overlap_tokens {
            chunks = chunks.with_overlap_tokens(tokens);
        }
        builder = builder.chunks(chunks);
    }
    builder.build().await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QueryGiven {
    text: String,
    top_k: Option<usize>,
    filter: Option<Value>,
    mode: Option<SearchMode>,
    vector: Option<Vec<f32>>,
    vector_field: Option<String>,
    min_score: Option<f32>,
    min_relevance: Option<f32>,
    unit: Option<HitUnit>,
    diversity: Option<f32>,
    highlight: Option<bool>,
    phrases: Option<bool>,
    fuzzy: Option<bool>,
    exact_first: Option<bool>,
    expression: Option<bool>,
}

fn query(text: &str) -> Result<Query> {
    let given: QueryGiven = parse("query", text)?;
    let mut query = Query::new(given.text);
    if let Some(top_k) = given.top_k {
        query = query.top_k(top_k);
    }
    query.filter = given.filter.map(filter).transpose()?;
    query.mode = given.mode.unwrap_or_default();
    query.vector = given.vector;
    query.vector_field = given.vector_field;
    query.min_score = given.min_score;
    query.min_relevance = given.min_relevance;
    query.unit = given.unit.unwrap_or_default();
    query.diversity = given.diversity;
    query.highlight = given.highlight.unwrap_or_default();
    query.words.phrases = given.phrases.unwrap_or_default();
    query.words.fuzzy = given.fuzzy.unwrap_or_default();
    query.words.exact_first = given.exact_first.unwrap_or_default();
    query.words.expression = given.expression.unwrap_or_default();
    Ok(query)
}

/// A filter from JSON; plain values stand for typed ones.
pub(crate) fn filter(mut given: Value) -> Result<Filter> {
    typed(&mut given);
    read("filter", given)
}

fn typed(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(typed),
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                match (key.as_str(), &mut *value) {
                    ("value" | "min" | "max", value) => type_one(value),
                    ("values", Value::Array(values)) => values.iter_mut().for_each(type_one),
                    (_, value) => typed(value),
                }
            }
        }
        _ => {}
    }
}

fn type_one(value: &mut Value) {
    let kind = match value {
        Value::String(_) => "text",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        _ => return,
    };
    *value = json!({ kind: value.take() });
}

/// Citations with their `place`: file, then page or heading.
pub(crate) fn citations_json(citations: &[Citation]) -> Result<String> {
    let texts: Result<Vec<String>> = citations
        .iter()
        .map(|citation| {
            Ok(with_members(
                &to_json(citation)?,
                &[("place", json!(citation.place()).to_string())],
            ))
        })
        .collect();
    Ok(format!("[{}]", texts?.join(",")))
}

pub(crate) fn hits_json(hits: &[Hit]) -> Result<String> {
    let texts: Result<Vec<String>> = hits
        .iter()
        .map(|hit| {
            let citation = hit.chunk.cite(0..hit.chunk.text.len())?;
            Ok(with_members(
                &to_json(hit)?,
                &[("place", json!(citation.place()).to_string())],
            ))
        })
        .collect();
    Ok(format!("[{}]", texts?.join(",")))
}

fn explained_json(explained: &Explained) -> Result<String> {
    let segments: Vec<_> = explained
        .segments
        .iter()
        .map(|segment| {
            json!({
                "vectors": segment.vectors, "allowed": segment.allowed, "strategy": segment.strategy.as_str(),
                "isExact": segment.strategy.is_exact(), "reason": segment.reason, "ef": segment.ef,
                "compared": segment.compared,
            })
        })
        .collect();
    let rest = json!({ "allowed": explained.allowed, "segments": segments });
    Ok(with_members(
        &rest.to_string(),
        &[("hits", hits_json(&explained.hits)?)],
    ))
}

fn coverage_json(coverage: &Coverage) -> String {
    json!({
        "documentId": coverage.document_id, "chunks": coverage.chunks, "textBytes": coverage.text_bytes,
        "gaps": coverage.gaps, "isNumbered": coverage.is_numbered, "isWhole": coverage.is_whole(),
    })
    .to_string()
}

/// A search that an agent may call.
#[napi]
pub struct SearchTool(Arc<dyn DynTool>);

impl SearchTool {
    pub(crate) fn inner(&self) -> Arc<dyn DynTool> {
        Arc::clone(&self.0)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SearchOptions {
    about: Option<String>,
    top_k: Option<usize>,
    text_bytes: Option<usize>,
}

fn search_tool(name: String, collection: Collection, options: SearchOptions) -> Result<SearchTool> {
    let mut tool = retriever_tool(name, Arc::new(collection));
    if let Some(about) = options.about {
        tool = tool.about(about);
    }
    if let Some(top_k) = options.top_k {
        tool = tool.top_k(top_k);
    }
    if let Some(bytes) = options.text_bytes {
        tool = tool.text_bytes(bytes);
    }
    tool.into_dyn_tool().map(SearchTool)
}

#[napi]
impl SearchTool {
    /// What the model sees, as JSON.
    #[napi(getter)]
    pub fn spec(&self) -> napi::Result<String> {
        to_json(self.0.spec()).map_err(to_napi)
    }
}

/// Chunks with their two indexes, in a folder or in memory.
#[napi]
pub struct NativeCollection(Collection);

impl NativeCollection {
    pub(crate) fn inner(&self) -> Collection {
        self.0.clone()
    }
}

#[napi]
impl NativeCollection {
    /// Opens a collection, or makes it.
    #[napi(ts_return_type = "Promise<NativeCollection>")]
    pub fn open<'env>(
        env: &'env Env,
        options: String,
        embedder: Option<&Embedder>,
        field_embedders: Vec<ClassInstance<'_, Embedder>>,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, Self>> {
        let embedder = embedder.map(Embedder::inner);
        let field_embedders = field_embedders.iter().map(|embedder| embedder.inner()).collect();
        let options: OpenOptions = parse("options", &options).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            open(options, embedder, field_embedders).await.map(Self)
        })
    }

    /// The same collection as another tenant sees it.
    #[napi]
    pub fn scoped(&self, scope: String) -> napi::Result<Self> {
        self::scope(&scope)
            .map(|scope| Self(self.0.scoped(scope)))
            .map_err(to_napi)
    }

    /// A tool that searches it.
    #[napi]
    pub fn tool(&self, name: String, options: String) -> napi::Result<SearchTool> {
        parse("options", &options)
            .and_then(|options| search_tool(name, self.inner(), options))
            .map_err(to_napi)
    }

    /// Adds documents (a JSON list). The items are progress events, the outcome is the report.
    #[napi]
    pub fn add(&self, documents: String, options: String, cancel: &Cancel) -> napi::Result<NativeStream> {
        let collection = self.inner();
        let documents: Vec<Document> = from_json("documents", &documents).map_err(to_napi)?;
        let given: AddGiven = parse("options", &options).map_err(to_napi)?;
        let options = given.options(Cancel::of(Some(cancel)));
        Ok(NativeStream::open(move |feed| async move {
            let options = options.progress(move |event| {
                if let Some(json) = event_json(event) {
                    feed.push_json(&json);
                }
            });
            let report = collection.add_with(documents, options).await?;
            Ok(Some(report_json(&report)))
        }))
    }

    /// Makes the collection hold what files and folders hold. The items are progress events, the outcome is the report.
    #[napi]
    pub fn sync(&self, paths: Vec<String>, options: String, cancel: &Cancel) -> napi::Result<NativeStream> {
        let collection = self.inner();
        let given: SyncGiven = parse("options", &options).map_err(to_napi)?;
        let options = given.options(Cancel::of(Some(cancel)));
        Ok(NativeStream::open(move |feed| async move {
            let options = options.progress(move |event| {
                if let Some(json) = sync_event_json(event) {
                    feed.push_json(&json);
                }
            });
            let report = collection.sync(paths, options).await?;
            Ok(Some(sync_report_json(&report)))
        }))
    }

    /// What `sync` would do with these paths now, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn plan_sync<'env>(
        &self,
        env: &'env Env,
        paths: Vec<String>,
        options: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        let given: SyncGiven = parse("options", &options).map_err(to_napi)?;
        let options = given.options(Cancel::of(cancel));
        promise(env, Cancel::of(cancel), async move {
            Ok(plan_json(&collection.plan_sync(paths, options).await?))
        })
    }

    /// The best hits for a question, best first, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn search<'env>(
        &self,
        env: &'env Env,
        query: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        let query = self::query(&query).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            hits_json(&collection.search(&query).await?)
        })
    }

    /// `search`, and how each segment was searched by meaning, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn explain<'env>(
        &self,
        env: &'env Env,
        query: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        let query = self::query(&query).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            explained_json(&collection.explain(&query).await?)
        })
    }

    /// Deletes documents by id; how many there were.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn delete<'env>(&self, env: &'env Env, ids: Vec<String>) -> napi::Result<PromiseRaw<'env, f64>> {
        let collection = self.inner();
        promise(env, stepwell::Cancel::new(), async move {
            collection.delete(ids).await.map(number)
        })
    }

    /// Deletes every document of which a chunk passes the filter; how many there were.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn delete_where<'env>(&self, env: &'env Env, filter: String) -> napi::Result<PromiseRaw<'env, f64>> {
        let collection = self.inner();
        let filter = parse("filter", &filter).and_then(self::filter).map_err(to_napi)?;
        promise(env, stepwell::Cancel::new(), async move {
            collection.delete_where(&filter).await.map(number)
        })
    }

    /// How many chunks there are, or how many a filter lets through.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn count<'env>(
        &self,
        env: &'env Env,
        filter: Option<String>,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, f64>> {
        let collection = self.inner();
        let filter = filter
            .map(|filter| parse("filter", &filter).and_then(self::filter))
            .transpose()
            .map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            collection.count(filter.as_ref()).await.map(number)
        })
    }

    /// All documents by id, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn documents<'env>(
        &self,
        env: &'env Env,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        promise(env, Cancel::of(cancel), async move {
            let entries = collection.documents().await?;
            let entries: Vec<_> = entries
                .iter()
                .map(|entry| json!({ "id": entry.id, "contentHash": entry.content_hash, "chunks": entry.chunks }))
                .collect();
            Ok(Value::Array(entries).to_string())
        })
    }

    /// How much of a document's text its stored chunks hold, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn coverage<'env>(
        &self,
        env: &'env Env,
        document_id: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        promise(env, Cancel::of(cancel), async move {
            Ok(coverage_json(&collection.coverage(&document_id).await?))
        })
    }

    /// How large it is, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn stats<'env>(
        &self,
        env: &'env Env,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        promise(env, Cancel::of(cancel), async move {
            let stats = collection.stats().await?;
            let stats = json!({
                "documents": stats.documents, "chunks": stats.chunks, "vectors": stats.vectors,
                "embedder": stats.embedder, "dimension": stats.dimension,
                "vectorFields": stats.vector_fields.iter().map(|field| json!({
                    "name": field.name, "vectors": field.vectors,
                    "embedder": field.embedder, "dimension": field.dimension,
                })).collect::<Vec<_>>(),
            });
            Ok(stats.to_string())
        })
    }

    /// How large the whole index is, whoever the chunks belong to, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn index_stats<'env>(
        &self,
        env: &'env Env,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let collection = self.inner();
        promise(env, Cancel::of(cancel), async move {
            let stats = collection.index_stats().await?;
            let stats = json!({
                "segments": stats.segments, "chunks": stats.chunks, "deletedChunks": stats.deleted_chunks,
                "vectors": stats.vectors, "bytes": stats.bytes, "vectorBytes": stats.vector_bytes,
            });
            Ok(stats.to_string())
        })
    }

    /// Merges all segments into one and frees what was deleted.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn compact<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let collection = self.inner();
        promise(
            env,
            stepwell::Cancel::new(),
            async move { collection.compact().await },
        )
    }

    /// Reads every file against its checksums.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn verify<'env>(
        &self,
        env: &'env Env,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let collection = self.inner();
        promise(env, Cancel::of(cancel), async move { collection.verify().await })
    }
}

/// A count as JavaScript has it; exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn number(count: u64) -> f64 {
    count as f64
}
