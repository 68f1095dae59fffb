//! [`Query`], [`Hit`]; [`Retriever`] and [`Reranker`].

use crate::{Chunk, Filter, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// Which legs search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SearchMode {
    /// Words and meaning, fused.
    #[default]
    Hybrid,
    /// Words alone (BM25).
    Lexical,
    /// Meaning alone (vectors).
    Dense,
}

/// A question to a [`Retriever`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Query {
    /// The question; user text, never parsed as a query language.
    pub text: String,
    /// How many hits; 10.
    pub top_k: usize,
    /// Which chunks may be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Which legs search.
    #[serde(default)]
    pub mode: SearchMode,
    /// The question's vector, where it is at hand; embedded otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    /// Hits below this score are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
}

impl Query {
    /// A question for ten hits.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            top_k: 10,
            filter: None,
            mode: SearchMode::Hybrid,
            vector: None,
            min_score: None,
        }
    }

    /// For so many hits.
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Among these chunks.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// With these legs.
    pub fn mode(mut self, mode: SearchMode) -> Self {
        self.mode = mode;
        self
    }

    /// With its vector.
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = Some(vector);
        self
    }

    /// Not below this score.
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = Some(score);
        self
    }
}

impl From<&str> for Query {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// What one leg thinks of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LegScore {
    /// 1 for the leg's best; `None` where the hit is not in the leg's list.
    pub rank: Option<u32>,
    /// The leg's own score: BM25, or the cosine.
    pub raw: f32,
    /// The same on the scale that is fused.
    pub normalized: f32,
}

impl LegScore {
    /// All three.
    pub fn new(rank: Option<u32>, raw: f32, normalized: f32) -> Self {
        Self {
            rank,
            raw,
            normalized,
        }
    }
}

/// Why a hit is where it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// By words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LegScore>,
    /// By meaning; `raw` is the cosine of question and chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense: Option<LegScore>,
    /// Share of the question's distinct words (stop words left out, stemmed) that the chunk has, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_coverage: Option<f32>,
    /// What put it there last: `fused`, `lexical`, `dense`, `reranked` …
    pub stage: String,
}

/// A found chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hit {
    /// What was found.
    pub chunk: Chunk,
    /// Higher is better; comparable within one answer.
    pub score: f32,
    /// Why.
    #[serde(default)]
    pub explanation: Explanation,
}

impl Hit {
    /// A hit.
    pub fn new(chunk: Chunk, score: f32, explanation: Explanation) -> Self {
        Self {
            chunk,
            score,
            explanation,
        }
    }
}

/// One question, the best hits first. Fusion, filters and reranking compose around it, and each is again one.
#[async_trait]
pub trait Retriever: Send + Sync + Debug {
    /// The best hits, best first: `min(top_k, matches)` of them.
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>>;
}

/// Puts hits in a better order.
#[async_trait]
pub trait Reranker: Send + Sync + Debug {
    /// The best `top_k` of the hits for this question, best first, with new scores.
    async fn rerank(&self, query: &str, hits: Vec<Hit>, top_k: usize) -> Result<Vec<Hit>>;
}
