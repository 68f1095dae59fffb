//! Vectors from vendors: [`VendorEmbedder`].
//!
//! ```text
//! texts ─▶ plan (count, tokens) ─▶ wire.encode ─▶ http ─▶ wire.decode ─▶ order, width, numbers ─▶ rows
//!          (one batcher for all)    (pure, per vendor)     (pure)         (one check for all)
//! ```
//!
//! A vendor is one small file with its request and its answer; everything else is here once.

mod batch;
#[cfg(feature = "cohere")]
mod cohere;
#[cfg(any(feature = "openai", feature = "voyage"))]
mod data;
#[cfg(feature = "gemini")]
mod gemini;
#[cfg(feature = "openai")]
mod mistral;
mod numbers;
#[cfg(feature = "ollama")]
mod ollama;
#[cfg(feature = "openai")]
mod openai;
mod vendors;
#[cfg(feature = "voyage")]
mod voyage;
mod wire;

pub(crate) use batch::{Limits, Spent, plan};
pub use numbers::NumberFormat;
#[cfg(feature = "openai")]
pub(crate) use vendors::COMPATIBLE;
#[cfg(feature = "cohere")]
pub(crate) use vendors::cohere_vendor;
#[cfg(feature = "voyage")]
pub(crate) use vendors::voyage_vendor;

use crate::{
    catalogue::{self, Catalogue},
    client::{Client, Setup, setters},
    http::Vendor,
    registry::ModelOptions,
};
use async_trait::async_trait;
use batch::{Caller, Kept};
use serde_json::Value;
use std::{
    fmt,
    sync::{Arc, Mutex},
};
use stepwell_core::{
    EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, HeuristicTokens, Price, Result, Secret,
    TokenCounter, Warning,
};
use wire::{Options, Overlong, Wire};

/// Longest input where nothing is known of the model: short enough for any.
const SHORTEST_LONGEST: usize = 512;

/// Vectors of a vendor's model.
///
/// Texts go out in batches by count and tokens, a few side by side; rows come back in the order of the texts,
/// whatever the order of the answer. A row of another width, a number that is none, a missing or doubled row fail
/// the call. Rows of batches that had come when another failed are kept, so that the same call made again asks only
/// for the rest. Nothing is tried twice here; that is a layer's task.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::{EmbedKind, Embedder};
/// use stepwell_providers::VendorEmbedder;
/// let embedder = VendorEmbedder::openai("text-embedding-3-small").dimension(512).build()?;
/// let vectors = embedder.embed(&["What is a ledger?"], EmbedKind::Query).await?;
/// assert_eq!(vectors.dimension, 512);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VendorEmbedder {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    path: String,
    wire: &'static dyn Wire,
    options: Options,
    limits: Limits,
    info: EmbedderInfo,
    normalize: bool,
    price: Option<Price>,
    counter: Arc<dyn TokenCounter>,
    kept: Mutex<Kept>,
}

impl fmt::Debug for VendorEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorEmbedder")
            .field("info", &self.inner.info)
            .field("http", &self.inner.client.http)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`VendorEmbedder`].
#[derive(Clone)]
pub struct VendorEmbedderBuilder {
    vendor: Vendor,
    setup: Setup,
    wire: &'static dyn Wire,
    options: Options,
    limits: Limits,
    width: Option<usize>,
    normalize: Option<bool>,
    revision: String,
    price: Option<Price>,
    counter: Arc<dyn TokenCounter>,
    is_azure: bool,
    api_version: Option<String>,
}

impl fmt::Debug for VendorEmbedderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("VendorEmbedderBuilder", f)
    }
}

impl VendorEmbedderBuilder {
    setters! {
        key: "The key; without, it is read from the vendor's variable.",
        address: "The address; without, it is read from the vendor's variable, else it is the vendor's own."
    }

    /// What the program says at the registry.
    pub(crate) fn options(mut self, options: ModelOptions) -> Self {
        self.width = options.width.or(self.width);
        self.options.dimension = options.dimension.or(self.options.dimension);
        self.setup.take(options);
        self
    }

    /// A query parameter of every call.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.setup.query.push((name.into(), value.into()));
        self
    }

    /// Azure's version, such as `2024-10-21`: the model's name is that of a deployment then, and part of the path.
    /// Without, it is read from `AZURE_OPENAI_API_VERSION`; without that too, the path is `/openai/v1`.
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api_version = Some(version.into());
        self
    }

    /// Asks for vectors of this width, which not every model can give.
    pub fn dimension(mut self, dimension: usize) -> Self {
        self.options.dimension = Some(dimension);
        self
    }

    /// Says how wide the model's own vectors are, where the catalogue does not know. Nothing is asked for.
    pub fn width(mut self, width: usize) -> Self {
        self.width = Some(width);
        self
    }

    /// Says how many tokens the model reads of a text, where the catalogue does not know.
    pub fn max_input_tokens(mut self, tokens: usize) -> Self {
        self.options.longest = Some(tokens);
        self
    }

    /// The vendor's words for a question and for a passage, such as Cohere's `classification` for both.
    pub fn input_types(mut self, query: impl Into<String>, document: impl Into<String>) -> Self {
        self.options.words = Some((query.into(), document.into()));
        self
    }

    /// Questions and passages alike: no word for either, and nothing before them.
    pub fn without_input_types(mut self) -> Self {
        self.options.words = None;
        self.options.prefixes = None;
        self
    }

    /// What stands before a question and a passage, for models that were trained so (`query: `, `passage: `).
    pub fn prefixes(mut self, query: impl Into<String>, document: impl Into<String>) -> Self {
        self.options.prefixes = Some((query.into(), document.into()));
        self
    }

    /// How the vendor writes numbers. Coarser ones are handed out as they come, not brought to length 1.
    pub fn numbers(mut self, format: NumberFormat) -> Self {
        self.options.number = format;
        self
    }

    /// Whether to ask for base64, which is a quarter of the bytes, or for lists; the vendor's usual where unset.
    pub fn base64(mut self, base64: bool) -> Self {
        self.options.base64 = Some(base64);
        self
    }

    /// Whether vectors are brought to length 1: yes for floats, no for coarser numbers.
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = Some(normalize);
        self
    }

    /// Lets a text that is too long be cut at its end, and be told of in the warnings; otherwise it is an error.
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.options.may_cut = truncate;
        self
    }

    /// Which build of the weights, where it can be told: part of the fingerprint.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Most texts of one call.
    pub fn max_batch_texts(mut self, texts: usize) -> Self {
        self.limits.texts = texts;
        self
    }

    /// Most tokens of one call.
    pub fn max_batch_tokens(mut self, tokens: usize) -> Self {
        self.limits.tokens = tokens;
        self
    }

    /// How many calls run side by side: 4.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.limits.concurrency = calls;
        self
    }

    /// Counts as the model does; an estimate stands in otherwise.
    pub fn token_counter(mut self, counter: Arc<dyn TokenCounter>) -> Self {
        self.counter = counter;
        self
    }

    /// What it costs, before the catalogue's figures.
    pub fn price(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// Any other field of the vendor's body.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.extra.insert(name.into(), value.into());
        self
    }

    /// The embedder. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key where one is needed; [`Error::InvalidInput`] for an address that is none,
    /// and for a model whose width nobody knows: say it with [`Self::width`], or let [`Self::probe`] find out.
    pub fn build(self) -> Result<VendorEmbedder> {
        let embedder = self.made()?;
        if embedder.inner.info.dimension == 0 {
            let info = &embedder.inner.info;
            return Err(Error::invalid(
                "dimension",
                format!(
                    "how wide the vectors of {}/{} are is not known; say it with `.width(..)`, ask for one with \
                     `.dimension(..)`, or find out with `.probe()`",
                    info.provider, info.model
                ),
            ));
        }
        Ok(embedder)
    }

    /// The embedder of a model whose width is learnt from one short text.
    ///
    /// # Errors
    /// As [`Self::build`] and [`Embedder::embed`].
    pub async fn probe(self) -> Result<VendorEmbedder> {
        let mut embedder = self.made()?;
        if embedder.inner.info.dimension == 0 {
            let (rows, _) = embedder
                .caller()
                .run(&["width"], &[1], EmbedKind::Document)
                .await?;
            let width = rows.first().map_or(0, Vec::len);
            if let Some(inner) = Arc::get_mut(&mut embedder.inner) {
                inner.info.dimension = width;
            }
        }
        Ok(embedder)
    }

    fn made(mut self) -> Result<VendorEmbedder> {
        if self.options.number != NumberFormat::Float && !self.wire.has_formats() {
            return Err(self.vendor.unsupported(
                &format!("the number format {}", self.options.number.word()),
                "leave it at floats",
            ));
        }
        if self.options.dimension == Some(0) || self.width == Some(0) {
            return Err(Error::invalid("dimension", "a vector has at least one number"));
        }
        let (provider, model) = (self.setup.info.provider.clone(), self.setup.info.model.clone());
        let known = Catalogue::global()?.entry(&provider, &model);
        let price = self.price.or_else(|| known.as_ref()?.price(&catalogue::today()));
        let known_width = known.as_ref().and_then(|entry| entry.dimension);
        self.options.longest = self.options.longest.or_else(|| {
            let window = known.as_ref()?.info.context_window?;
            usize::try_from(window).ok()
        });
        let normalize = self
            .normalize
            .unwrap_or(self.options.number == NumberFormat::Float);
        let info = EmbedderInfo::new(
            provider,
            model,
            self.revision,
            self.options.dimension.or(self.width).or(known_width).unwrap_or(0),
            self.options.longest.unwrap_or(SHORTEST_LONGEST),
            normalize,
        )
        .settings(settings(&self.options));
        #[cfg(feature = "openai")]
        if self.is_azure && self.api_version.is_none() {
            self.api_version = crate::openai::compatible::azure::version();
        }
        if let Some(version) = &self.api_version {
            self.setup
                .query
                .push(("api-version".to_owned(), version.as_str().into()));
        }
        let client = self.setup.build(&self.vendor, "text-embedding-3-small")?;
        let path = self.wire.path(client.http.base(), &client.info.model);
        #[cfg(feature = "openai")]
        let path = if self.is_azure {
            let has_version = self.api_version.is_some();
            crate::openai::compatible::azure::path_of(
                &path,
                client.http.base(),
                &client.info.model,
                has_version,
            )
        } else {
            path
        };
        Ok(VendorEmbedder {
            inner: Arc::new(Inner {
                client,
                path,
                wire: self.wire,
                options: self.options,
                limits: self.limits,
                info,
                normalize,
                price,
                counter: self.counter,
                kept: Mutex::default(),
            }),
        })
    }
}

/// What changes the vectors beside the model, in one word: two collections with the same may be searched alike.
fn settings(options: &Options) -> String {
    let mut words = Vec::new();
    if let Some((query, document)) = &options.words {
        words.push(format!("{query}+{document}"));
    }
    if let Some((query, document)) = &options.prefixes {
        let hash = blake3::hash(format!("{query}\0{document}").as_bytes()).to_hex();
        words.push(format!("prefixes-{}", &hash[..8]));
    }
    if options.number != NumberFormat::Float {
        words.push(options.number.word().to_owned());
    }
    words.join(",")
}

impl VendorEmbedder {
    fn caller(&self) -> Caller<'_> {
        let inner = &*self.inner;
        Caller {
            client: &inner.client,
            path: &inner.path,
            wire: inner.wire,
            options: &inner.options,
            limits: inner.limits,
            price: inner.price.as_ref(),
            dimension: inner.info.dimension,
            normalize: inner.normalize,
            kept: &inner.kept,
        }
    }

    /// Says what becomes of texts that are longer than the model reads, and cuts them where that is ours to do.
    fn fit(&self, texts: &mut [String], tokens: &mut [usize], warnings: &mut Vec<Warning>) -> Result<()> {
        let inner = &*self.inner;
        let Some(longest) = inner.options.longest else {
            return Ok(());
        };
        let total = texts.len();
        for (at, (text, count)) in texts.iter_mut().zip(tokens).enumerate() {
            if *count <= longest {
                continue;
            }
            let which = format!("text {} of {total}", at + 1);
            match (inner.options.may_cut, inner.wire.overlong()) {
                // The vendor refuses it by itself, and counts better than we do.
                (false, Overlong::Refused | Overlong::Asked) => {}
                (false, Overlong::Silent) => {
                    return Err(Error::LimitExceeded {
                        what: format!("{which} (about {count} tokens)"),
                        limit: format!("{longest} tokens of {}", inner.info.model),
                    });
                }
                (true, Overlong::Refused) => {
                    let end = inner.counter.spans(text).get(longest).map(|span| span.start);
                    if let Some(end) = end {
                        text.truncate(end);
                        *count = longest;
                        warnings.push(cut(format!("{which} was cut to {longest} tokens")));
                    }
                }
                (true, Overlong::Asked | Overlong::Silent) => warnings.push(cut(format!(
                    "{which} has about {count} tokens; the vendor reads {longest} of them"
                ))),
            }
        }
        Ok(())
    }
}

fn cut(message: String) -> Warning {
    Warning::new("input_truncated", message)
}

#[async_trait]
impl Embedder for VendorEmbedder {
    fn info(&self) -> &EmbedderInfo {
        &self.inner.info
    }

    async fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Embeddings> {
        let inner = &*self.inner;
        if let Some(at) = texts.iter().position(|text| text.is_empty()) {
            return Err(Error::invalid(
                "texts",
                format!("text {} of {} is empty; leave it out", at + 1, texts.len()),
            ));
        }
        let prefix = inner
            .options
            .prefixes
            .as_ref()
            .map(|(query, document)| match kind {
                EmbedKind::Query => query.as_str(),
                EmbedKind::Document => document.as_str(),
            });
        let mut warnings = Vec::new();
        let mut tokens: Vec<usize> = texts.iter().map(|text| inner.counter.count(text)).collect();
        let is_overlong = inner
            .options
            .longest
            .is_some_and(|longest| tokens.iter().any(|count| *count > longest));
        // Most calls go out as they came, without a copy.
        let changed: Option<Vec<String>> = if prefix.is_some() || is_overlong {
            let mut owned: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            self.fit(&mut owned, &mut tokens, &mut warnings)?;
            if let Some(prefix) = prefix {
                for text in &mut owned {
                    text.insert_str(0, prefix);
                }
            }
            Some(owned)
        } else {
            None
        };
        let changed: Option<Vec<&str>> = changed
            .as_ref()
            .map(|owned| owned.iter().map(String::as_str).collect());
        let texts = changed.as_deref().unwrap_or(texts);
        let (rows, spent) = self.caller().run(texts, &tokens, kind).await?;
        let mut values = Vec::with_capacity(rows.len() * inner.info.dimension);
        for row in rows {
            values.extend_from_slice(&row);
        }
        let cost = spent.cost();
        let mut made = Embeddings::new(inner.info.dimension, values, spent.usage)?;
        made.cost = if texts.is_empty() { None } else { cost };
        made.warnings = warnings;
        Ok(made)
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::clone(&self.inner.counter)
    }
}

fn builder(vendor: Vendor, model: String, wire: &'static dyn Wire, limits: Limits) -> VendorEmbedderBuilder {
    VendorEmbedderBuilder {
        setup: Setup::new(&vendor, model),
        vendor,
        wire,
        options: Options::default(),
        limits,
        width: None,
        normalize: None,
        revision: String::new(),
        price: None,
        counter: Arc::new(HeuristicTokens),
        is_azure: false,
        api_version: None,
    }
}

/// Reads a body as each vendor's answer in each format; the failures.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_all(body: &[u8]) -> Vec<serde_json::Error> {
    let wires: Vec<&dyn Wire> = vec![
        #[cfg(feature = "openai")]
        &openai::OpenAi,
        #[cfg(feature = "openai")]
        &mistral::Mistral,
        #[cfg(feature = "gemini")]
        &gemini::Gemini,
        #[cfg(feature = "voyage")]
        &voyage::Voyage,
        #[cfg(feature = "cohere")]
        &cohere::Cohere,
        #[cfg(feature = "ollama")]
        &ollama::Ollama,
    ];
    let formats = [
        NumberFormat::Float,
        NumberFormat::Int8,
        NumberFormat::Uint8,
        NumberFormat::Binary,
        NumberFormat::Ubinary,
    ];
    let mut failures = Vec::new();
    for (wire, format) in wires.iter().flat_map(|wire| formats.map(|format| (wire, format))) {
        match wire.decode(body, format) {
            Ok(read) => read
                .rows
                .into_iter()
                .for_each(|(_, row)| drop(format.unpack(row))),
            Err(error) => failures.push(error),
        }
    }
    failures
}

#[cfg(test)]
mod tests;
