//! Voyage's rerank.

use super::wire::{Ask, Read, Wire};
use serde::{Deserialize, Serialize};
use stepwell_core::{Result, Usage};

/// The wire.
#[derive(Debug)]
pub(super) struct Voyage;

#[derive(Serialize)]
struct Request<'a> {
    query: &'a str,
    documents: &'a [&'a str],
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    truncation: bool,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    usage: Option<Billed>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    relevance_score: f64,
}

#[derive(Deserialize)]
struct Billed {
    total_tokens: Option<u64>,
}

impl Wire for Voyage {
    fn path(&self) -> &'static str {
        "/rerank"
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        ask.body(&Request {
            query: ask.query,
            documents: ask.documents,
            model: ask.model,
            top_k: ask.top,
            truncation: ask.may_cut,
        })
    }

    fn decode(&self, body: &[u8]) -> std::result::Result<Read, serde_json::Error> {
        let answer: Answer = serde_json::from_slice(body)?;
        let mut usage = Usage::default();
        usage.input_tokens = answer.usage.and_then(|billed| billed.total_tokens);
        Ok(Read {
            ranked: answer
                .data
                .into_iter()
                .map(|item| (item.index, item.relevance_score))
                .collect(),
            usage,
            cost: None,
        })
    }
}
