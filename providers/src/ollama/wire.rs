//! The native chat wire as Ollama documents it (API reference, `POST /api/chat` and `POST /api/show`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::borrow::Cow;

// ---- request ----

/// Body of `POST /api/chat`. Fields in a fixed order: the same request gives the same bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    pub(crate) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) think: Option<Think>,
    pub(crate) options: Options<'a>,
    /// Off: a prompt that is too long is an error, and no prompt without its beginning.
    pub(crate) truncate: bool,
    /// Off: an answer that fills the context ends there, and forgets nothing.
    pub(crate) shift: bool,
    pub(crate) stream: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) role: &'static str,
    pub(crate) content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_call_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: Called<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Called<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Cow<'a, Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tool<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: Function<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) parameters: Cow<'a, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Think {
    Switch(bool),
    Level(&'static str),
}

#[derive(Debug, Serialize)]
pub(crate) struct Options<'a> {
    pub(crate) num_ctx: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) num_predict: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) stop: &'a [String],
}

/// Body of `POST /api/show`.
#[derive(Debug, Serialize)]
pub(crate) struct ShowRequest<'a> {
    pub(crate) model: &'a str,
}

// ---- answer ----

/// A line of the stream, and the whole answer where it does not stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) message: Option<Said<'a>>,
    pub(crate) done: Option<bool>,
    pub(crate) done_reason: Option<String>,
    pub(crate) prompt_eval_count: Option<u64>,
    pub(crate) eval_count: Option<u64>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Said<'a> {
    // Owned: each moves into an event as it is.
    pub(crate) content: Option<String>,
    pub(crate) thinking: Option<String>,
    #[serde(borrow)]
    pub(crate) tool_calls: Option<Vec<SaidCall<'a>>>,
    pub(crate) images: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SaidCall<'a> {
    pub(crate) id: Option<String>,
    #[serde(borrow)]
    pub(crate) function: Option<SaidFunction<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SaidFunction<'a> {
    pub(crate) name: Option<String>,
    #[serde(borrow)]
    pub(crate) arguments: Option<&'a RawValue>,
}

/// Answer of `POST /api/show`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Show {
    /// Lines of a name and a value.
    #[serde(default)]
    pub(crate) parameters: String,
    #[serde(default)]
    pub(crate) model_info: Map<String, Value>,
    pub(crate) capabilities: Option<Vec<String>>,
}

/// Body of a failure.
#[derive(Debug, Deserialize)]
pub(crate) struct Failure<'a> {
    #[serde(borrow)]
    pub(crate) error: &'a RawValue,
}
