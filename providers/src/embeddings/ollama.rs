//! Ollama's `/api/embed`: vectors in the order of the texts. It is told its window and never to cut in silence.

use super::{
    numbers::{NumberFormat, Row},
    wire::{Ask, Overlong, Read, Wire},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use stepwell_core::{Result, Usage};

/// The wire.
#[derive(Debug)]
pub(crate) struct Ollama;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Window>,
}

#[derive(Serialize)]
struct Window {
    num_ctx: usize,
}

#[derive(Deserialize)]
struct Answer {
    embeddings: Vec<Row>,
    prompt_eval_count: Option<u64>,
}

impl Wire for Ollama {
    fn path(&self, _base: &Url, _model: &str) -> String {
        "/api/embed".to_owned()
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        ask.body(&Request {
            model: ask.model,
            input: ask.texts,
            truncate: ask.options.may_cut,
            dimensions: ask.options.dimension,
            options: ask.options.longest.map(|num_ctx| Window { num_ctx }),
        })
    }

    fn decode(&self, body: &[u8], _number: NumberFormat) -> std::result::Result<Read, serde_json::Error> {
        let answer: Answer = serde_json::from_slice(body)?;
        let mut usage = Usage::default();
        usage.input_tokens = answer.prompt_eval_count;
        Ok(Read {
            rows: answer.embeddings.into_iter().map(|row| (None, row)).collect(),
            usage,
            cost: None,
        })
    }

    fn overlong(&self) -> Overlong {
        Overlong::Asked
    }
}
