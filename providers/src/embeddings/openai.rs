//! `/embeddings` as OpenAI has it: OpenAI, Azure, OpenRouter and every server of that form.

use super::{
    data,
    numbers::NumberFormat,
    wire::{Ask, Read, Wire},
};
use reqwest::Url;
use serde::Serialize;
use stepwell_core::Result;

/// The wire; some servers know the model by their address alone.
#[derive(Debug)]
pub(crate) struct OpenAi;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

impl Wire for OpenAi {
    fn path(&self, _base: &Url, _model: &str) -> String {
        "/embeddings".to_owned()
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        ask.body(&Request {
            model: ask.model,
            input: ask.texts,
            dimensions: ask.options.dimension,
            encoding_format: data::encoding(ask.options.base64),
        })
    }

    fn decode(&self, body: &[u8], _number: NumberFormat) -> std::result::Result<Read, serde_json::Error> {
        data::decode(body)
    }
}
