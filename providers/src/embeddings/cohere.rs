//! Cohere's `/v2/embed`: vectors by number format, in the order of the texts.

use super::{
    numbers::{NumberFormat, Row},
    wire::{Ask, Overlong, Read, Wire},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use stepwell_core::{Result, Usage};

/// The wire.
#[derive(Debug)]
pub(crate) struct Cohere;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_type: Option<&'a str>,
    embedding_types: [&'static str; 1],
    texts: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<usize>,
    truncate: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    embeddings: Formats,
    meta: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Formats {
    float: Option<Vec<Row>>,
    int8: Option<Vec<Row>>,
    uint8: Option<Vec<Row>>,
    binary: Option<Vec<Row>>,
    ubinary: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Deserialize)]
struct Billed {
    input_tokens: Option<u64>,
}

impl Wire for Cohere {
    fn path(&self, _base: &Url, _model: &str) -> String {
        "/v2/embed".to_owned()
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        ask.body(&Request {
            model: ask.model,
            input_type: ask.word(),
            embedding_types: [ask.options.number.word()],
            texts: ask.texts,
            output_dimension: ask.options.dimension,
            truncate: if ask.options.may_cut { "END" } else { "NONE" },
        })
    }

    fn decode(&self, body: &[u8], number: NumberFormat) -> std::result::Result<Read, serde_json::Error> {
        let Answer { embeddings, meta } = serde_json::from_slice(body)?;
        let rows = match number {
            NumberFormat::Float => embeddings.float,
            NumberFormat::Int8 => embeddings.int8,
            NumberFormat::Uint8 => embeddings.uint8,
            NumberFormat::Binary => embeddings.binary,
            NumberFormat::Ubinary => embeddings.ubinary,
        };
        let mut usage = Usage::default();
        usage.input_tokens = meta
            .and_then(|meta| meta.billed_units)
            .and_then(|billed| billed.input_tokens);
        Ok(Read {
            rows: rows
                .unwrap_or_default()
                .into_iter()
                .map(|row| (None, row))
                .collect(),
            usage,
            cost: None,
        })
    }

    fn overlong(&self) -> Overlong {
        Overlong::Asked
    }

    fn has_formats(&self) -> bool {
        true
    }
}
