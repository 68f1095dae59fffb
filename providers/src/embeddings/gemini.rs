//! Gemini's `batchEmbedContents`: one request per text, vectors in their order.

use super::{
    numbers::{NumberFormat, Row},
    wire::{Ask, Overlong, Read, Wire},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use stepwell_core::{Result, Usage};

/// The wire.
#[derive(Debug)]
pub(crate) struct Gemini;

#[derive(Serialize)]
struct Request<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<usize>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    embeddings: Vec<Vector>,
    usage_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Vector {
    values: Row,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    prompt_token_count: Option<u64>,
}

/// Its newer models take the task as words before the text and have no field for it.
pub(super) fn takes_task_type(model: &str) -> bool {
    model.starts_with("gemini-embedding-001") || !model.starts_with("gemini-embedding")
}

impl Wire for Gemini {
    /// The address may have its version already. A model's name is one segment whatever is in it.
    fn path(&self, base: &Url, model: &str) -> String {
        let last = base
            .path()
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let is_version = last
            .strip_prefix('v')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let mut path = if is_version { "/models/" } else { "/v1beta/models/" }.to_owned();
        for byte in model.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
                path.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(path, "%{byte:02X}");
            }
        }
        path.push_str(":batchEmbedContents");
        path
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Vec<u8>> {
        let model = format!("models/{}", ask.model);
        ask.body(&Request {
            requests: ask
                .texts
                .iter()
                .map(|text| One {
                    model: &model,
                    content: Content {
                        parts: [Part { text }],
                    },
                    task_type: ask.word(),
                    output_dimensionality: ask.options.dimension,
                })
                .collect(),
        })
    }

    fn decode(&self, body: &[u8], _number: NumberFormat) -> std::result::Result<Read, serde_json::Error> {
        let answer: Answer = serde_json::from_slice(body)?;
        let mut usage = Usage::default();
        usage.input_tokens = answer
            .usage_metadata
            .and_then(|metadata| metadata.prompt_token_count);
        Ok(Read {
            rows: answer
                .embeddings
                .into_iter()
                .map(|vector| (None, vector.values))
                .collect(),
            usage,
            cost: None,
        })
    }

    fn overlong(&self) -> Overlong {
        Overlong::Silent
    }
}
