//! The Responses wire as OpenAI documents it (API reference, Responses and Streaming events).

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

// ---- request ----

/// Body of `POST /responses`. Fields in a fixed order: the same request gives the same bytes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instructions: Option<Cow<'a, str>>,
    pub(crate) input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) include: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<&'a indexmap::IndexMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_options: Option<StreamOptions>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StreamOptions {
    /// Padding against traffic analysis; it doubles the bytes, and TLS to one host hides little more with it.
    pub(crate) include_obfuscation: bool,
}

/// One item of the conversation.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Item<'a> {
    Message(Message<'a>),
    Call(FunctionCall<'a>),
    Output(CallOutput<'a>),
    /// As it came.
    Own(Cow<'a, Value>),
}

#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    pub(crate) role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'static str>,
    /// Whether the words were said on the way or as the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<&'a str>,
    pub(crate) content: Content<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Content<'a> {
    Text(Cow<'a, str>),
    Pieces(Vec<Piece<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Piece<'a> {
    InputText {
        text: Cow<'a, str>,
    },
    OutputText {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<&'a Value>,
    },
    InputImage {
        #[serde(skip_serializing_if = "Option::is_none")]
        image_url: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    },
    InputFile(File<'a>),
    InputAudio {
        input_audio: Audio,
    },
}

#[derive(Debug, Default, Serialize)]
#[allow(clippy::struct_field_names)] // the vendor's names
pub(crate) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Audio {
    pub(crate) data: String,
    pub(crate) format: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct FunctionCall<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    pub(crate) call_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) arguments: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CallOutput<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) call_id: &'a str,
    /// Only patches have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'static str>,
    pub(crate) output: Said<'a>,
}

/// What a tool said.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Said<'a> {
    Text(Cow<'a, str>),
    Pieces(Vec<Piece<'a>>),
    /// In the form this kind of call asks for.
    Json(Value),
}

#[derive(Debug, Serialize)]
pub(crate) struct Tool<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) description: &'a str,
    pub(crate) parameters: Cow<'a, Value>,
    /// Always said: left out, the vendor makes optional arguments required.
    pub(crate) strict: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ToolChoice<'a> {
    Word(&'static str),
    Named {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct Text<'a> {
    pub(crate) format: Format<'a>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Format<'a> {
    JsonObject,
    JsonSchema {
        name: Cow<'a, str>,
        strict: bool,
        schema: Cow<'a, Value>,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct Reasoning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<&'static str>,
}

// ---- answer ----

/// The kind of an event whose name is not told.
#[derive(Debug, Deserialize)]
pub(crate) struct Kind<'a> {
    #[serde(rename = "type", borrow, default)]
    pub(crate) kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) error: Option<&'a RawValue>,
}

/// More of a text, a thought or a call: by far the most frequent event, so nothing else is read of it.
#[derive(Debug, Deserialize)]
pub(crate) struct More {
    pub(crate) output_index: Option<u64>,
    pub(crate) content_index: Option<u64>,
    pub(crate) summary_index: Option<u64>,
    // Owned: it moves into our event as it is.
    pub(crate) delta: Option<String>,
}

/// An item begins or is whole.
#[derive(Debug, Deserialize)]
pub(crate) struct ItemEvent<'a> {
    pub(crate) output_index: Option<u64>,
    #[serde(borrow)]
    pub(crate) item: &'a RawValue,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AnnotationEvent {
    pub(crate) output_index: Option<u64>,
    pub(crate) content_index: Option<u64>,
    pub(crate) annotation: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ResponseEvent<'a> {
    #[serde(borrow)]
    pub(crate) response: Response<'a>,
}

/// The answer as an object: at its start, at its end, and as a whole body.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Response<'a> {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) status: Option<String>,
    #[serde(borrow)]
    pub(crate) output: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
    pub(crate) incomplete_details: Option<Incomplete>,
    pub(crate) usage: Option<Usage>,
    /// OpenAI: which of its tools it ran how often.
    pub(crate) tool_usage: Option<ToolUsage>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ToolUsage {
    pub(crate) web_search: Option<Searches>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Searches {
    pub(crate) num_requests: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Incomplete {
    pub(crate) reason: Option<String>,
}

/// What every item has.
#[derive(Debug, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    pub(crate) kind: Option<Cow<'a, str>>,
    pub(crate) id: Option<String>,
    pub(crate) call_id: Option<String>,
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) environment: Option<Environment<'a>>,
}

/// Where a shell runs: with the vendor or with us.
#[derive(Debug, Deserialize)]
pub(crate) struct Environment<'a> {
    #[serde(rename = "type", borrow, default)]
    pub(crate) kind: Option<Cow<'a, str>>,
}

/// Totals: cached and written tokens lie inside the input, reasoning inside the output.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub(crate) input_tokens: Option<u64>,
    pub(crate) input_tokens_details: Option<InputDetails>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) output_tokens_details: Option<OutputDetails>,
    /// xAI: what the call cost, in units of 1e-10 dollars.
    pub(crate) cost_in_usd_ticks: Option<u64>,
    /// OpenRouter: the same, in dollars.
    pub(crate) cost: Option<f64>,
    /// xAI: which of its tools it ran how often.
    pub(crate) server_side_tool_usage_details: Option<ServerTools>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct InputDetails {
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) cache_write_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OutputDetails {
    pub(crate) reasoning_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names)] // the vendor's names
pub(crate) struct ServerTools {
    pub(crate) web_search_calls: Option<u64>,
    pub(crate) x_search_calls: Option<u64>,
}

/// Answer of `POST /responses/input_tokens`.
#[derive(Debug, Deserialize)]
pub(crate) struct Count {
    pub(crate) input_tokens: u64,
}
