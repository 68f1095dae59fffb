//! Mistral: OpenAI's answer, and two fields of its own in the request.

use super::{
    data,
    numbers::NumberFormat,
    wire::{Ask, Read, Wire},
};
use reqwest::Url;
use serde::Serialize;
use stepwell_core::Result;

/// The wire.
#[derive(Debug)]
pub(crate) struct Mistral;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dtype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

impl Wire for Mistral {
    fn path(&self, _base: &Url, _model: &str) -> String {
        "/embeddings".to_owned()
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        let number = ask.options.number;
        ask.body(&Request {
            model: ask.model,
            input: ask.texts,
            output_dimension: ask.options.dimension,
            // Its older models refuse the field, and floats are what they send.
            output_dtype: (number != NumberFormat::Float).then(|| number.word()),
            encoding_format: data::encoding(ask.options.base64),
        })
    }

    fn decode(&self, body: &[u8], _number: NumberFormat) -> std::result::Result<Read, serde_json::Error> {
        data::decode(body)
    }

    fn has_formats(&self) -> bool {
        true
    }
}
