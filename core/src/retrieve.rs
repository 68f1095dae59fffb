//! [`Query`], [`Hit`]; [`Retriever`] and [`Reranker`].

use crate::{Chunk, Filter, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, ops::Range};

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

/// What one hit stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HitUnit {
    /// A chunk; several of one document may be found.
    #[default]
    Chunk,
    /// The best chunk of a document: no document is found twice.
    BestChunk,
    /// A document, found by its best chunk: the hit's chunk is the whole text, or as much of it around the best chunk
    /// as the retriever returns at once.
    Document,
}

/// How the words of a question match, beyond any of them being there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // each is a stage of its own, and any of them go together
pub struct WordMatching {
    /// Words that stand side by side in the question count more where they do so in a chunk; off.
    pub phrases: bool,
    /// Words that nothing has are searched with one letter wrong, long ones with two; off.
    pub fuzzy: bool,
    /// Documents whose id, title or address is the question itself come first; off.
    pub exact_first: bool,
    /// The text is an expression for experts, with operators, fields and quotes; off. What the collection's guide does
    /// not name is refused.
    pub expression: bool,
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
    /// Which of a collection's vector fields is searched by meaning; the first, that of its embedder, when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_field: Option<String>,
    /// Hits below this score are left out. Scores of a hybrid search compare within one answer alone: to ask whether
    /// anything fits at all, set `min_relevance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// Hits below this [`Explanation::relevance`] are left out, 0 to 1; an answer may then be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_relevance: Option<f32>,
    /// How words match.
    #[serde(default, skip_serializing_if = "is_default")]
    pub words: WordMatching,
    /// What one hit stands for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unit: HitUnit,
    /// Hits like those before them are moved down: 0 for not at all, 1 for difference alone; maximal marginal
    /// relevance (Carbonell and Goldstein 1998) with λ = 1 − this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    /// Whether hits tell where the question's words stand in them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub highlight: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
            vector_field: None,
            min_score: None,
            min_relevance: None,
            words: WordMatching::default(),
            unit: HitUnit::default(),
            diversity: None,
            highlight: false,
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

    /// By the meaning that this vector field tells.
    pub fn vector_field(mut self, name: impl Into<String>) -> Self {
        self.vector_field = Some(name.into());
        self
    }

    /// Not below this score.
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = Some(score);
        self
    }

    /// Not below this relevance.
    pub fn min_relevance(mut self, relevance: f32) -> Self {
        self.min_relevance = Some(relevance);
        self
    }

    /// Words side by side count more.
    pub fn phrases(mut self) -> Self {
        self.words.phrases = true;
        self
    }

    /// Words that nothing has are searched with a letter wrong.
    pub fn fuzzy(mut self) -> Self {
        self.words.fuzzy = true;
        self
    }

    /// What is called like the question comes first.
    pub fn exact_first(mut self) -> Self {
        self.words.exact_first = true;
        self
    }

    /// The text is an expression for experts.
    pub fn expression(mut self) -> Self {
        self.words.expression = true;
        self
    }

    /// For hits of this kind.
    pub fn unit(mut self, unit: HitUnit) -> Self {
        self.unit = unit;
        self
    }

    /// With hits that differ this much.
    pub fn diversity(mut self, diversity: f32) -> Self {
        self.diversity = Some(diversity);
        self
    }

    /// With the places of its words.
    pub fn highlight(mut self) -> Self {
        self.highlight = true;
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
    /// The same share, a word counting the more the fewer chunks have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_coverage: Option<f32>,
    /// How likely it answers the question, 0 to 1, comparable between questions; `None` where the retriever cannot
    /// tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relevance: Option<f32>,
    /// What put it there last: `fused`, `lexical`, `dense`, `exact`, `diverse`, `reranked` …
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
    /// Bytes of the chunk's text where words of the question stand, in order; empty unless they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub highlights: Vec<Range<usize>>,
}

impl Hit {
    /// A hit.
    pub fn new(chunk: Chunk, score: f32, explanation: Explanation) -> Self {
        Self {
            chunk,
            score,
            explanation,
            highlights: Vec::new(),
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
