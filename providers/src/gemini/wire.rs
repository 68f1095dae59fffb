//! The generateContent wire as Google documents it (Gemini API reference, `models.generateContent`).

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, fmt};

// ---- request ----

/// Body of `:generateContent` and `:streamGenerateContent`. Fields in a fixed order: the same request gives the
/// same bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_config: Option<ToolConfig<'a>>,
    pub(crate) contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "GenerationConfig::is_empty")]
    pub(crate) generation_config: GenerationConfig<'a>,
    /// Vertex alone has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<&'a indexmap::IndexMap<String, String>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    pub(crate) parts: Vec<Part<'a>>,
}

/// A part: one of ours, or the vendor's own, sent back as it came.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Part<'a> {
    Known(Known<'a>),
    Verbatim(Cow<'a, Value>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known<'a> {
    #[serde(flatten)]
    pub(crate) data: Data<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Data<'a> {
    Text(&'a str),
    #[serde(rename = "inlineData")]
    Inline(Blob<'a>),
    #[serde(rename = "fileData")]
    File(FileData<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

impl<'a> From<Data<'a>> for Part<'a> {
    fn from(data: Data<'a>) -> Self {
        Self::Known(Known {
            data,
            thought: false,
            thought_signature: None,
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blob<'a> {
    pub(crate) mime_type: &'a str,
    pub(crate) data: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileData<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) mime_type: &'a str,
    pub(crate) file_uri: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) args: Cow<'a, Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) response: Response<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Part<'a>>,
}

/// What a function says has to be an object.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Response<'a> {
    Object(&'a Value),
    Value { output: &'a Value },
    Text { output: String },
    Error { error: String },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tool<'a> {
    pub(crate) function_declarations: Vec<FunctionDeclaration<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FunctionDeclaration<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    /// The vendor's subset of OpenAPI, for older models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameters: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameters_json_schema: Option<Cow<'a, Value>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolConfig<'a> {
    pub(crate) function_calling_config: FunctionCallingConfig<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FunctionCallingConfig<'a> {
    pub(crate) mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_mime_type: Option<&'static str>,
    /// The vendor's subset of OpenAPI, for older models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_schema: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_json_schema: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking_config: Option<ThinkingConfig>,
}

impl GenerationConfig<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) include_thoughts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking_budget: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking_level: Option<&'static str>,
}

/// Body of `:countTokens` at the Gemini API: the request that would be sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CountRequest {
    pub(crate) generate_content_request: Value,
}

#[derive(Debug, Serialize)]
pub(crate) struct CountedRequest<'a> {
    pub(crate) model: Cow<'a, str>,
    #[serde(flatten)]
    pub(crate) request: Request<'a>,
}

// ---- answer ----

/// An event of the stream, and the whole answer where it does not stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chunk<'a> {
    #[serde(borrow)]
    pub(crate) candidates: Option<Vec<Candidate<'a>>>,
    pub(crate) usage_metadata: Option<Usage>,
    #[serde(borrow)]
    pub(crate) model_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) response_id: Option<Cow<'a, str>>,
    pub(crate) prompt_feedback: Option<PromptFeedback>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Candidate<'a> {
    #[serde(borrow)]
    pub(crate) content: Option<AnswerContent<'a>>,
    pub(crate) index: Option<u64>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) finish_message: Option<String>,
    #[serde(borrow)]
    pub(crate) grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) url_context_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) citation_metadata: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AnswerContent<'a> {
    #[serde(borrow)]
    pub(crate) parts: Option<Vec<AnswerPart<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromptFeedback {
    pub(crate) block_reason: Option<String>,
    pub(crate) block_reason_message: Option<String>,
}

/// A part of an answer: what comes in nearly every chunk is read at once; what is rare is only noticed, and then
/// read whole from the event's own text.
#[derive(Debug, Default)]
pub(crate) struct AnswerPart<'a> {
    // Owned: each moves into an event as it is.
    pub(crate) text: Option<String>,
    pub(crate) is_thought: bool,
    pub(crate) signature: Option<String>,
    pub(crate) call: Option<AnswerCall<'a>>,
    pub(crate) blob: Option<AnswerBlob>,
    /// It has a field we do not know.
    pub(crate) is_other: bool,
}

impl AnswerPart<'_> {
    /// Whether it is more than an empty text.
    pub(crate) fn says_something(&self) -> bool {
        self.text.as_ref().is_some_and(|text| !text.is_empty())
            || self.signature.is_some()
            || self.call.is_some()
            || self.blob.is_some()
            || self.is_other
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AnswerCall<'a> {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    #[serde(borrow)]
    pub(crate) args: Option<&'a RawValue>,
    /// Vertex streams arguments where it is asked to.
    pub(crate) partial_args: Option<Vec<Value>>,
    pub(crate) will_continue: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AnswerBlob {
    pub(crate) mime_type: Option<String>,
    pub(crate) data: String,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum PartKey {
    Text,
    Thought,
    ThoughtSignature,
    FunctionCall,
    InlineData,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for AnswerPart<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = AnswerPart<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part of a content")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut part = AnswerPart::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        PartKey::Text => part.text = map.next_value()?,
                        PartKey::Thought => {
                            part.is_thought = map.next_value::<Option<bool>>()?.unwrap_or_default();
                        }
                        PartKey::ThoughtSignature => part.signature = map.next_value()?,
                        PartKey::FunctionCall => part.call = map.next_value()?,
                        PartKey::InlineData => part.blob = map.next_value()?,
                        PartKey::Other => {
                            map.next_value::<IgnoredAny>()?;
                            part.is_other = true;
                        }
                    }
                }
                Ok(part)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Totals so far: a later one replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // the vendor's names
pub(crate) struct Usage {
    pub(crate) prompt_token_count: Option<u64>,
    pub(crate) cached_content_token_count: Option<u64>,
    pub(crate) tool_use_prompt_token_count: Option<u64>,
    pub(crate) candidates_token_count: Option<u64>,
    pub(crate) thoughts_token_count: Option<u64>,
}

/// Answer of `:countTokens`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Count {
    pub(crate) total_tokens: Option<u64>,
    pub(crate) cached_content_token_count: Option<u64>,
}

/// `groundingMetadata`, as far as it becomes citations.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Grounding {
    #[serde(default)]
    pub(crate) grounding_chunks: Vec<GroundingChunk>,
    #[serde(default)]
    pub(crate) grounding_supports: Vec<GroundingSupport>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroundingChunk {
    pub(crate) web: Option<Source>,
    pub(crate) retrieved_context: Option<Source>,
    pub(crate) maps: Option<Source>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Source {
    pub(crate) uri: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroundingSupport {
    #[serde(default)]
    pub(crate) grounding_chunk_indices: Vec<usize>,
}

/// `citationMetadata`: what the answer recites.
#[derive(Debug, Deserialize)]
pub(crate) struct Citations {
    #[serde(default, alias = "citationSources")]
    pub(crate) citations: Vec<Source>,
}

// ---- failure ----

/// Body of a failure; an array of one where the stream is an array.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Failure {
    One { error: FailureDetail },
    Many(Vec<FailureEntry>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct FailureEntry {
    pub(crate) error: FailureDetail,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct FailureDetail {
    pub(crate) code: Option<u16>,
    pub(crate) message: Option<String>,
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) details: Vec<Value>,
}
