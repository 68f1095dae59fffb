//! A better order from vendors: [`VendorReranker`].
//!
//! A vendor is a small file with its request and its answer; batching, order and checks are here once.

#[cfg(any(feature = "openai", feature = "cohere"))]
mod cohere;
#[cfg(feature = "voyage")]
mod voyage;
mod wire;

use crate::{
    answer,
    catalogue::{self, Catalogue},
    client::{Client, Setup, setters},
    embeddings::{Limits, Spent, plan},
    http::Vendor,
    registry::ModelOptions,
    vendor_failure,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};
use std::{fmt, ops::Range, sync::Arc};
use stepwell_core::{Cost, Error, HeuristicTokens, Hit, Price, Reranker, Result, TokenCounter, Usage};
use wire::{Ask, Read, Wire};

/// A document in a better order.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ranked {
    /// Which of the documents.
    pub index: usize,
    /// How well it answers the question, higher is better; from 0 to 1.
    pub score: f32,
    /// The vendor's own number.
    pub raw: f64,
}

/// Documents in a better order, the best first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Ranking {
    /// The best, best first; where two are equal, the earlier document first.
    pub ranked: Vec<Ranked>,
    /// Tokens or searches.
    pub usage: Usage,
    /// Money, where the price is known.
    pub cost: Option<Cost>,
}

/// A vendor's model that puts texts in a better order.
///
/// Many documents go out in batches and are merged by score, for these models look at one document at a time. A
/// missing or doubled document and a score that is no number fail the call. Nothing is tried twice here.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_providers::VendorReranker;
/// let reranker = VendorReranker::voyage("rerank-2.5").build()?;
/// let ranking = reranker.rank("what is ruby", &["a town", "a language by Matz"], 1).await?;
/// assert_eq!(ranking.ranked[0].index, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VendorReranker {
    client: Client,
    wire: &'static dyn Wire,
    limits: Limits,
    may_cut: bool,
    extra: Map<String, Value>,
    price: Option<Price>,
    counter: Arc<dyn TokenCounter>,
}

impl fmt::Debug for VendorReranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorReranker")
            .field("model", &self.client.info.model)
            .field("http", &self.client.http)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`VendorReranker`].
#[derive(Clone)]
pub struct VendorRerankerBuilder {
    vendor: Vendor,
    setup: Setup,
    wire: &'static dyn Wire,
    limits: Limits,
    may_cut: bool,
    extra: Map<String, Value>,
    price: Option<Price>,
}

impl fmt::Debug for VendorRerankerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.show("VendorRerankerBuilder", f)
    }
}

impl VendorRerankerBuilder {
    setters! {
        key: "The key; without, it is read from the vendor's variable.",
        address: "The address; without, it is read from the vendor's variable, else it is the vendor's own."
    }

    fn new(vendor: Vendor, model: String, wire: &'static dyn Wire) -> Self {
        Self {
            setup: Setup::new(&vendor, model),
            vendor,
            wire,
            // Voyage's and Cohere's own limits; servers of one's own take less, and say so.
            limits: Limits {
                texts: 1_000,
                tokens: 500_000,
                concurrency: 4,
            },
            may_cut: false,
            extra: Map::new(),
            price: None,
        }
    }

    /// What the program says at the registry.
    pub(crate) fn options(mut self, options: ModelOptions) -> Self {
        self.setup.take(options);
        self
    }

    /// Lets the vendor cut what is too long for its model (Voyage; others do as they do).
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.may_cut = truncate;
        self
    }

    /// Most documents of one call: 1,000.
    pub fn max_batch_documents(mut self, documents: usize) -> Self {
        self.limits.texts = documents;
        self
    }

    /// Most tokens of the documents of one call: 500,000.
    pub fn max_batch_tokens(mut self, tokens: usize) -> Self {
        self.limits.tokens = tokens;
        self
    }

    /// How many calls run side by side: 4.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.limits.concurrency = calls;
        self
    }

    /// What it costs, before the catalogue's figures.
    pub fn price(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// Any other field of the vendor's body, such as Cohere's `max_tokens_per_doc`.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }

    /// The reranker. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::MissingKey`] without a key where one is needed, [`Error::InvalidInput`] for an address that is none.
    pub fn build(self) -> Result<VendorReranker> {
        let info = &self.setup.info;
        let known = Catalogue::global()?.entry(&info.provider, &info.model);
        let price = self.price.or_else(|| known.as_ref()?.price(&catalogue::today()));
        Ok(VendorReranker {
            client: self.setup.build(&self.vendor, "rerank-2.5")?,
            wire: self.wire,
            limits: self.limits,
            may_cut: self.may_cut,
            extra: self.extra,
            price,
            counter: Arc::new(HeuristicTokens),
        })
    }
}

impl VendorReranker {
    /// A model of Voyage.
    #[cfg(feature = "voyage")]
    pub fn voyage(model: impl Into<String>) -> VendorRerankerBuilder {
        VendorRerankerBuilder::new(crate::embeddings::voyage_vendor(), model.into(), &voyage::Voyage)
    }

    /// A model of Cohere.
    #[cfg(feature = "cohere")]
    pub fn cohere(model: impl Into<String>) -> VendorRerankerBuilder {
        VendorRerankerBuilder::new(crate::embeddings::cohere_vendor(), model.into(), &cohere::Cohere)
    }

    /// A model behind one of the compatible vendors, by its name (`openrouter`, `vllm`, `together` …): Cohere's
    /// request below its address. Numbers of `llamacpp` are logits, see [`Self::llamacpp`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that is not in the table.
    #[cfg(feature = "openai")]
    pub fn of_vendor(vendor: &str, model: impl Into<String>) -> Result<VendorRerankerBuilder> {
        let row = crate::openai::compatible::table::row(vendor).ok_or_else(|| Error::NotFound {
            what: "rerank vendor".to_owned(),
            name: vendor.chars().take(64).collect(),
            hint: "name its address with `VendorReranker::compatible(..)`".to_owned(),
        })?;
        let wire: &'static dyn Wire = match vendor {
            "llamacpp" => &cohere::LlamaCpp,
            _ => &cohere::Compatible,
        };
        let mut made = VendorRerankerBuilder::new(row.vendor.clone(), model.into(), wire);
        made.setup.is_key_optional = row.is_key_optional;
        Ok(made)
    }

    /// A model behind OpenRouter, with its vendor (`voyageai/rerank-2.5-lite`). It states the money itself.
    #[cfg(feature = "openai")]
    pub fn openrouter(model: impl Into<String>) -> VendorRerankerBuilder {
        Self::of_vendor("openrouter", model).expect("a test finds the row")
    }

    /// A model of llama.cpp's server. Its numbers are raw logits, mostly below 0: the score is the logistic function
    /// of them, which keeps their order and lies from 0 to 1; [`Ranked::raw`] is the logit.
    #[cfg(feature = "openai")]
    pub fn llamacpp(model: impl Into<String>) -> VendorRerankerBuilder {
        Self::of_vendor("llamacpp", model).expect("a test finds the row")
    }

    /// A model of any server of Cohere's shape, at this address; `/rerank` is asked below it.
    #[cfg(feature = "openai")]
    pub fn compatible(
        name: impl Into<String>,
        base_url: impl Into<String>,
        model: impl Into<String>,
    ) -> VendorRerankerBuilder {
        let vendor = Vendor::named(name.into(), base_url.into(), crate::http::Auth::Bearer);
        let mut made = VendorRerankerBuilder::new(vendor, model.into(), &cohere::Compatible);
        made.setup.is_key_optional = true;
        made
    }

    /// The best `top_k` of the documents for this question.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an empty question, the vendor's own failures, and [`Error::InvalidResponse`] for
    /// an answer that does not fit what was asked.
    pub async fn rank(&self, query: &str, documents: &[&str], top_k: usize) -> Result<Ranking> {
        if query.trim().is_empty() {
            return Err(Error::invalid("query", "it is empty"));
        }
        if documents.is_empty() || top_k == 0 {
            return Ok(Ranking::default());
        }
        let tokens: Vec<usize> = documents
            .iter()
            .map(|document| self.counter.count(document))
            .collect();
        let calls: Vec<_> = plan(&tokens, self.limits)
            .into_iter()
            .map(|batch| self.call(query, documents, batch, top_k))
            .collect();
        let mut ranking = Ranking::default();
        let mut spent = Spent::default();
        let mut calls = stream::iter(calls).buffered(self.limits.concurrency.max(1));
        while let Some((ranked, usage, cost)) = calls.try_next().await? {
            spent.add_call(&usage, cost, self.price.as_ref());
            ranking.ranked.extend(ranked);
        }
        // Finite numbers only; the raw ones, for a score may be too coarse to tell two apart.
        ranking
            .ranked
            .sort_by(|a, b| b.raw.total_cmp(&a.raw).then(a.index.cmp(&b.index)));
        ranking.ranked.truncate(top_k);
        ranking.cost = spent.cost();
        ranking.usage = spent.usage;
        Ok(ranking)
    }

    async fn call(
        &self,
        query: &str,
        documents: &[&str],
        batch: Range<usize>,
        top_k: usize,
    ) -> Result<(Vec<Ranked>, Usage, Option<Cost>)> {
        let vendor = self.client.http.vendor.name();
        let invalid = |message: String| Error::InvalidResponse {
            provider: vendor.to_owned(),
            message,
        };
        let ask = Ask {
            model: &self.client.info.model,
            query,
            documents: &documents[batch.clone()],
            top: (top_k < batch.len()).then_some(top_k),
            may_cut: self.may_cut,
            extra: &self.extra,
        };
        let reply = self
            .client
            .post(
                self.wire.path(),
                vec![],
                self.wire.encode(&ask)?,
                vendor_failure::error,
            )
            .await?;
        let body = reply.body.read().await?;
        let Read { ranked, usage, cost } = self
            .wire
            .decode(&body)
            .map_err(|error| answer::unreadable(vendor, "a list of scores", &error))?;
        let wanted = top_k.min(batch.len());
        // Some servers take no notice of how many are asked for, and give all.
        if ranked.len() < wanted {
            return Err(invalid(format!(
                "{} scores where {wanted} were asked for",
                ranked.len()
            )));
        }
        let mut is_seen = vec![false; batch.len()];
        let mut found = Vec::with_capacity(ranked.len());
        for (at, raw) in ranked {
            match is_seen.get_mut(at) {
                None => return Err(invalid(format!("a score for document {at} of {}", batch.len()))),
                Some(true) => return Err(invalid(format!("two scores for document {at}"))),
                Some(seen) => *seen = true,
            }
            if !raw.is_finite() {
                return Err(invalid("a score that is no number".to_owned()));
            }
            #[allow(clippy::cast_possible_truncation)] // a score needs no more digits
            found.push(Ranked {
                index: batch.start + at,
                score: self.wire.score(raw) as f32,
                raw,
            });
        }
        Ok((found, usage, cost))
    }
}

#[async_trait]
impl Reranker for VendorReranker {
    async fn rerank(&self, query: &str, mut hits: Vec<Hit>, top_k: usize) -> Result<Vec<Hit>> {
        let texts: Vec<&str> = hits.iter().map(|hit| hit.chunk.text.as_str()).collect();
        let ranking = self.rank(query, &texts, top_k).await?;
        let mut places: Vec<Option<Hit>> = hits.drain(..).map(Some).collect();
        Ok(ranking
            .ranked
            .iter()
            .filter_map(|ranked| {
                let mut hit = places.get_mut(ranked.index)?.take()?;
                hit.score = ranked.score;
                "reranked".clone_into(&mut hit.explanation.stage);
                Some(hit)
            })
            .collect())
    }
}

/// Reads a body as each vendor's answer; the failures.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_all(body: &[u8]) -> Vec<serde_json::Error> {
    let wires: Vec<&dyn Wire> = vec![
        #[cfg(feature = "voyage")]
        &voyage::Voyage,
        #[cfg(feature = "cohere")]
        &cohere::Cohere,
        #[cfg(feature = "openai")]
        &cohere::LlamaCpp,
    ];
    wires
        .into_iter()
        .filter_map(|wire| match wire.decode(body) {
            Ok(read) => {
                for (_, raw) in read.ranked {
                    let score = wire.score(raw);
                    assert!(score.is_finite() || !raw.is_finite(), "{raw} is no score");
                }
                None
            }
            Err(error) => Some(error),
        })
        .collect()
}

#[cfg(test)]
mod tests;
