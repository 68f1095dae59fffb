//! Voyage: OpenAI's answer; the request tells questions from passages and has coarser numbers.

use super::{
    data,
    numbers::NumberFormat,
    wire::{Ask, Overlong, Read, Wire},
};
use reqwest::Url;
use serde::Serialize;
use stepwell_core::Result;

/// The wire.
#[derive(Debug)]
pub(crate) struct Voyage;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    input_type: Option<&'a str>,
    truncation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dtype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

impl Wire for Voyage {
    fn path(&self, _base: &Url, _model: &str) -> String {
        "/embeddings".to_owned()
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        let number = ask.options.number;
        ask.body(&Request {
            model: ask.model,
            input: ask.texts,
            input_type: ask.word(),
            truncation: ask.options.may_cut,
            output_dimension: ask.options.dimension,
            output_dtype: (number != NumberFormat::Float).then(|| number.word()),
            // It has no word for lists: they come when nothing is said.
            encoding_format: (ask.options.base64 == Some(true)).then_some("base64"),
        })
    }

    fn decode(&self, body: &[u8], _number: NumberFormat) -> std::result::Result<Read, serde_json::Error> {
        data::decode(body)
    }

    fn has_formats(&self) -> bool {
        true
    }

    fn overlong(&self) -> Overlong {
        Overlong::Asked
    }
}
