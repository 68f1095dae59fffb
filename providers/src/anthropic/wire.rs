//! The Messages wire as Anthropic documents it (docs: API reference, Messages and Streaming).

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

// ---- request ----

/// Body of `POST /v1/messages`. Fields in a fixed order: the same request gives the same bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    pub(crate) max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) system: Vec<Block<'a>>,
    pub(crate) messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_config: Option<OutputConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<&'a str>,
    pub(crate) stream: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Turn<'a> {
    pub(crate) role: &'static str,
    pub(crate) content: Vec<Block<'a>>,
}

/// A block: one of ours, or the vendor's own, sent back as it came.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Block<'a> {
    Known(Known<'a>),
    Verbatim(Cow<'a, Value>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Known<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Citations>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        caller: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
}

impl Block<'_> {
    /// Where a cache point of the block goes; thinking and foreign blocks have none.
    pub(crate) fn cache_control(&mut self) -> Option<&mut Option<CacheControl>> {
        match self {
            Self::Known(
                Known::Text { cache_control, .. }
                | Known::Image { cache_control, .. }
                | Known::Document { cache_control, .. }
                | Known::ToolUse { cache_control, .. }
                | Known::ToolResult { cache_control, .. },
            ) => Some(cache_control),
            _ => None,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Source<'a> {
    Base64 { media_type: &'a str, data: String },
    Text { media_type: &'a str, data: Cow<'a, str> },
    Url { url: &'a str },
    File { file_id: &'a str },
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Citations {
    pub(crate) enabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CacheControl {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tool<'a> {
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) description: &'a str,
    pub(crate) input_schema: Cow<'a, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<CacheControl>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ToolChoice<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Thinking {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct OutputConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Format {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) schema: Value,
}

#[derive(Debug, Serialize)]
pub(crate) struct Metadata<'a> {
    pub(crate) user_id: &'a str,
}

// ---- answer ----

/// Any event of the stream. One flat shape, because a tagged enum would copy every field once before it knows.
#[derive(Debug, Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) index: Option<u64>,
    #[serde(borrow)]
    pub(crate) delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub(crate) content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) message: Option<&'a RawValue>,
    pub(crate) usage: Option<Usage>,
}

/// Delta of a block, or of the message.
#[derive(Debug, Deserialize)]
pub(crate) struct Delta<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    // Owned: each moves into an event as it is.
    pub(crate) text: Option<String>,
    pub(crate) partial_json: Option<String>,
    pub(crate) thinking: Option<String>,
    pub(crate) signature: Option<String>,
    pub(crate) citation: Option<Value>,
    pub(crate) stop_reason: Option<String>,
    pub(crate) stop_details: Option<StopDetails>,
    pub(crate) container: Option<Value>,
}

/// The kind alone, for events whose other fields have a shape we do not know.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_field_names)] // the vendor's `type`
pub(crate) struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) index: Option<Value>,
    pub(crate) delta: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct StopDetails {
    pub(crate) category: Option<String>,
    pub(crate) explanation: Option<String>,
}

/// `message` of `message_start`, and the whole body of an answer that does not stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    #[serde(borrow)]
    pub(crate) content: Option<Vec<&'a RawValue>>,
    pub(crate) stop_reason: Option<String>,
    pub(crate) stop_details: Option<StopDetails>,
    pub(crate) container: Option<Value>,
    pub(crate) usage: Option<Usage>,
}

/// The fields of the blocks we know.
#[derive(Debug, Deserialize)]
pub(crate) struct BlockStart<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) citations: Option<Vec<Value>>,
    pub(crate) thinking: Option<String>,
    pub(crate) signature: Option<String>,
    pub(crate) data: Option<String>,
    #[serde(borrow)]
    pub(crate) input: Option<&'a RawValue>,
    pub(crate) caller: Option<Value>,
}

/// Cumulative: a later one replaces the fields it has.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Usage {
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) cache_read_input_tokens: Option<u64>,
    pub(crate) cache_creation_input_tokens: Option<u64>,
    pub(crate) cache_creation: Option<CacheCreation>,
    pub(crate) output_tokens_details: Option<OutputDetails>,
    pub(crate) server_tool_use: Option<ServerToolUse>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct ServerToolUse {
    pub(crate) web_search_requests: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct CacheCreation {
    pub(crate) ephemeral_5m_input_tokens: Option<u64>,
    pub(crate) ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct OutputDetails {
    pub(crate) thinking_tokens: Option<u64>,
}

/// Body of a failure, and of `event: error`.
#[derive(Debug, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: Option<FailureDetail>,
    pub(crate) request_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FailureDetail {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) message: Option<String>,
}

/// The answer of `POST /v1/messages/count_tokens`.
#[derive(Debug, Deserialize)]
pub(super) struct Count {
    pub(super) input_tokens: u64,
}
