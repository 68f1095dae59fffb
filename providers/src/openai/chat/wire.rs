//! The Chat Completions wire as OpenAI documents it (API reference, Chat and Streaming).

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, fmt};

// ---- request ----

/// Body of `POST /chat/completions`. Fields in a fixed order: the same request gives the same bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    pub(crate) messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<Effort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) random_seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<&'a indexmap::IndexMap<String, String>>,
    pub(crate) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream_options: Option<StreamOptions>,
}

/// How hard to think, as OpenRouter wants it told.
#[derive(Debug, Serialize)]
pub(crate) struct Effort {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u64>,
}

/// Whether to think, as DeepSeek wants it told.
#[derive(Debug, Serialize)]
pub(crate) struct Thinking {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: bool,
    /// Padding against traffic analysis; it doubles the bytes, and TLS to one host hides little more with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) include_obfuscation: Option<bool>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Turn<'a> {
    pub(crate) role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    // What the model thought, where a server takes it back; each in one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_details: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extra_content: Option<&'a Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_call_id: Option<&'a str>,
    /// The answer begins with this turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Piece<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Piece<'a> {
    Text {
        text: Cow<'a, str>,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    InputAudio {
        input_audio: InputAudio,
    },
    File {
        file: File<'a>,
    },
    DocumentUrl {
        document_url: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        document_name: Option<&'a str>,
    },
    Thinking {
        thinking: Vec<Piece<'a>>,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct ImageUrl<'a> {
    pub(crate) url: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct InputAudio {
    pub(crate) data: String,
    pub(crate) format: &'static str,
}

#[derive(Debug, Default, Serialize)]
#[allow(clippy::struct_field_names)] // the vendor's names
pub(crate) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Call<'a> {
    pub(crate) id: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: Function<'a>,
    /// The vendor's token on the call, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extra_content: Option<&'a Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Tool<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: ToolFunction<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ToolFunction<'a> {
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) description: &'a str,
    pub(crate) parameters: Cow<'a, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strict: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ToolChoice<'a> {
    Word(&'static str),
    Named {
        #[serde(rename = "type")]
        kind: &'static str,
        function: ToolName<'a>,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct ToolName<'a> {
    pub(crate) name: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Format<'a> {
    JsonObject,
    JsonSchema { json_schema: JsonSchema<'a> },
}

#[derive(Debug, Serialize)]
pub(crate) struct JsonSchema<'a> {
    pub(crate) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) strict: bool,
    pub(crate) schema: Cow<'a, Value>,
}

// ---- answer ----

/// One chunk of the stream, and the whole body of an answer that does not stream. Beside OpenAI's own fields there
/// are those that compatible servers add.
#[derive(Debug, Deserialize)]
pub(crate) struct Chunk<'a> {
    // Raw: the same in every chunk, read once.
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) choices: Option<Vec<Choice<'a>>>,
    pub(crate) usage: Option<Usage>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
    /// `error` in chunks that are one.
    #[serde(borrow)]
    pub(crate) object: Option<&'a RawValue>,
    /// Groq's own corner.
    pub(crate) x_groq: Option<Corner>,
    /// Venice tells the money beside the usage.
    pub(crate) cost: Option<Money>,
    /// Addresses the answer rests on (Perplexity).
    #[serde(borrow)]
    pub(crate) citations: Option<&'a RawValue>,
    /// The same with titles and words.
    #[serde(borrow)]
    pub(crate) search_results: Option<&'a RawValue>,
}

impl Chunk<'_> {
    /// Whether it is a failure; at older vLLM and Mistral nothing in it is named `error`.
    pub(crate) fn is_failure(&self) -> bool {
        self.error.is_some() || self.object.is_some_and(|object| object.get() == "\"error\"")
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Corner {
    pub(crate) usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Choice<'a> {
    pub(crate) index: Option<u64>,
    /// In a chunk.
    #[serde(borrow)]
    pub(crate) delta: Option<Delta<'a>>,
    /// In a whole answer. Perplexity sends an empty `delta` beside it.
    #[serde(borrow)]
    pub(crate) message: Option<Delta<'a>>,
    pub(crate) finish_reason: Option<String>,
    /// A failure of this choice (OpenRouter).
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Delta<'a> {
    // Owned: each moves into an event as it is.
    #[serde(borrow)]
    pub(crate) content: Option<Said<'a>>,
    pub(crate) refusal: Option<String>,
    #[serde(borrow)]
    pub(crate) tool_calls: Option<Vec<CallPiece<'a>>>,
    pub(crate) audio: Option<Audio>,
    /// A call as it was before there were several.
    pub(crate) function_call: Option<FunctionPiece>,
    /// DeepSeek, xAI, llama.cpp, vLLM …
    pub(crate) reasoning_content: Option<String>,
    /// Groq, OpenRouter, Cerebras, Ollama …
    pub(crate) reasoning: Option<String>,
    /// Pieces of reasoning with signatures (OpenRouter).
    #[serde(borrow)]
    pub(crate) reasoning_details: Option<&'a RawValue>,
    /// The signature of a thought (Gemini).
    #[serde(borrow)]
    pub(crate) extra_content: Option<&'a RawValue>,
    /// Places in the web the answer rests on (OpenRouter, OpenAI).
    #[serde(borrow)]
    pub(crate) annotations: Option<&'a RawValue>,
    /// Tools the vendor ran itself (Groq).
    #[serde(borrow)]
    pub(crate) executed_tools: Option<&'a RawValue>,
}

/// `content`: words, or a list of pieces (Mistral).
#[derive(Debug)]
pub(crate) enum Said<'a> {
    Text(String),
    Pieces(Vec<&'a RawValue>),
}

/// One of those pieces; `thinking` is words or pieces again.
#[derive(Debug, Deserialize)]
pub(crate) struct SaidPiece<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) text: Option<String>,
    #[serde(borrow)]
    pub(crate) thinking: Option<Said<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Said<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SaidVisitor;
        impl<'de> Visitor<'de> for SaidVisitor {
            type Value = Said<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of pieces")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Said::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Said::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, pieces: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(pieces)).map(Said::Pieces)
            }
        }
        deserializer.deserialize_any(SaidVisitor)
    }
}

/// Speech of the audio models: its words become text, its sound a medium behind them.
#[derive(Debug, Deserialize)]
pub(crate) struct Audio {
    pub(crate) transcript: Option<String>,
    /// Base64.
    pub(crate) data: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CallPiece<'a> {
    pub(crate) index: Option<u64>,
    pub(crate) id: Option<String>,
    pub(crate) function: Option<FunctionPiece>,
    /// A tool of free text instead of JSON arguments.
    pub(crate) custom: Option<CustomPiece>,
    /// The signature of a thought (Gemini).
    #[serde(borrow)]
    pub(crate) extra_content: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FunctionPiece {
    pub(crate) name: Option<String>,
    pub(crate) arguments: Option<ArgumentText>,
}

/// Arguments as JSON text. Some servers send the object itself.
#[derive(Debug)]
pub(crate) struct ArgumentText(pub(crate) String);

impl<'de> Deserialize<'de> for ArgumentText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = ArgumentText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("arguments as text or as an object")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ArgumentText(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(ArgumentText(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                let object = Value::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(ArgumentText(object.to_string()))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct CustomPiece {
    pub(crate) name: Option<String>,
    pub(crate) input: Option<String>,
}

/// Totals: cached and written tokens lie inside the input, reasoning mostly inside the output.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
    pub(crate) total_tokens: Option<u64>,
    pub(crate) prompt_tokens_details: Option<PromptDetails>,
    pub(crate) completion_tokens_details: Option<CompletionDetails>,
    /// Beside the details at Copilot.
    pub(crate) reasoning_tokens: Option<u64>,
    /// `cached_tokens` of older DeepSeek.
    pub(crate) prompt_cache_hit_tokens: Option<u64>,
    /// `cached_tokens` of Venice and Doubleword.
    pub(crate) cache_read_input_tokens: Option<u64>,
    /// Dollars (OpenRouter, Perplexity).
    pub(crate) cost: Option<Money>,
    /// Ten-thousandths of a millionth of a dollar (xAI).
    pub(crate) cost_in_usd_ticks: Option<u64>,
}

/// What a vendor says a call cost, in dollars.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Money {
    Sum(f64),
    Total { total_cost: f64 },
    Usd { usd: f64 },
    // Whatever else it is, it is no reason to lose an answer.
    Other(IgnoredAny),
}

impl Money {
    pub(crate) fn usd(self) -> Option<f64> {
        match self {
            Self::Sum(usd) | Self::Total { total_cost: usd } | Self::Usd { usd } => Some(usd),
            Self::Other(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[allow(clippy::struct_field_names)] // the vendor's names
pub(crate) struct PromptDetails {
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) cache_write_tokens: Option<u64>,
    pub(crate) audio_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct CompletionDetails {
    pub(crate) reasoning_tokens: Option<u64>,
}

/// One of `search_results` (Perplexity).
#[derive(Debug, Deserialize)]
pub(crate) struct SearchResult {
    pub(crate) title: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) snippet: Option<String>,
}

/// One of `annotations`.
#[derive(Debug, Deserialize)]
pub(crate) struct Annotation {
    pub(crate) url_citation: Option<UrlCitation>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UrlCitation {
    pub(crate) url: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) content: Option<String>,
}
