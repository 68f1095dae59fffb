//! Cohere's rerank and those of its shape: OpenRouter, vLLM, Together, Jina and llama.cpp.

use super::wire::{Ask, Read, Wire};
use serde::{Deserialize, Serialize};
use stepwell_core::{Cost, Result, Usage};

/// Cohere itself.
#[cfg(feature = "cohere")]
#[derive(Debug)]
pub(super) struct Cohere;

/// A server of Cohere's shape.
#[cfg(feature = "openai")]
#[derive(Debug)]
pub(super) struct Compatible;

/// llama.cpp, whose numbers are the model's raw logits: any size, mostly below 0. Its score is the logistic function
/// of them, `1 / (1 + e^-x)`, which is what such models are trained with; it keeps their order.
#[cfg(feature = "openai")]
#[derive(Debug)]
pub(super) struct LlamaCpp;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    top_n: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Item>,
    #[serde(default)]
    usage: Option<Taken>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    relevance_score: f64,
}

#[derive(Default, Deserialize)]
struct Taken {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
    /// In dollars; OpenRouter tells it.
    cost: Option<f64>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Default, Deserialize)]
struct Billed {
    search_units: Option<u64>,
    input_tokens: Option<u64>,
}

fn encode(ask: &Ask<'_>) -> Result<Vec<u8>> {
    ask.body(&Request {
        model: ask.model,
        query: ask.query,
        documents: ask.documents,
        top_n: ask.top,
    })
}

fn decode(body: &[u8]) -> std::result::Result<Read, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let tokens = answer.usage.unwrap_or_default();
    let billed = answer.meta.and_then(|meta| meta.billed_units).unwrap_or_default();
    let mut usage = Usage::default();
    usage.input_tokens = tokens
        .total_tokens
        .or(tokens.prompt_tokens)
        .or(billed.input_tokens);
    usage.searches = billed.search_units;
    Ok(Read {
        ranked: answer
            .results
            .into_iter()
            .map(|item| (item.index, item.relevance_score))
            .collect(),
        usage,
        cost: tokens.cost.and_then(Cost::from_usd),
    })
}

#[cfg(feature = "cohere")]
impl Wire for Cohere {
    fn path(&self) -> &'static str {
        "/v2/rerank"
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        encode(ask)
    }

    fn decode(&self, body: &[u8]) -> std::result::Result<Read, serde_json::Error> {
        decode(body)
    }
}

#[cfg(feature = "openai")]
impl Wire for Compatible {
    fn path(&self) -> &'static str {
        "/rerank"
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        encode(ask)
    }

    fn decode(&self, body: &[u8]) -> std::result::Result<Read, serde_json::Error> {
        decode(body)
    }
}

#[cfg(feature = "openai")]
impl Wire for LlamaCpp {
    fn path(&self) -> &'static str {
        "/rerank"
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        encode(ask)
    }

    fn decode(&self, body: &[u8]) -> std::result::Result<Read, serde_json::Error> {
        decode(body)
    }

    fn score(&self, raw: f64) -> f64 {
        1.0 / (1.0 + (-raw).exp())
    }
}
