//! The answer that OpenAI, Mistral and Voyage send: vectors with the places of their texts.

use super::{numbers::Row, wire::Read};
use serde::Deserialize;
use stepwell_core::{Cost, Usage};

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<Billed>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Row,
}

#[derive(Default, Deserialize)]
struct Billed {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
    /// In dollars; OpenRouter tells it.
    cost: Option<f64>,
}

/// The word for base64 or lists, where one is to be said.
pub(super) fn encoding(base64: Option<bool>) -> Option<&'static str> {
    base64.map(|base64| if base64 { "base64" } else { "float" })
}

/// The answer of OpenAI, Mistral and Voyage.
pub(super) fn decode(body: &[u8]) -> std::result::Result<Read, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let billed = answer.usage.unwrap_or_default();
    let mut usage = Usage::default();
    usage.input_tokens = billed.prompt_tokens.or(billed.total_tokens);
    Ok(Read {
        rows: answer
            .data
            .into_iter()
            .map(|item| (item.index, item.embedding))
            .collect(),
        usage,
        cost: billed.cost.and_then(Cost::from_usd),
    })
}
