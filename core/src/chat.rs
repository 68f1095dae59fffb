//! [`ChatModel`]: what continues a conversation, and the request and answer it deals in.

use crate::{
    Attempt, ChatStream, Cost, FinishReason, HeuristicTokens, Message, Part, Price, Result, Role, Schema,
    Structured, StructuredStrategy, TokenCounter, ToolSpec, Usage, collect, telemetry::is_plain_name,
};
use async_trait::async_trait;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fmt::{self, Debug},
    sync::Arc,
};

/// Whether the model may, must or must not call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No calls.
    None,
    /// At least one call.
    Any,
    /// This tool.
    Named(String),
}

/// The shape of the answer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ResponseFormat {
    /// Words.
    #[default]
    Text,
    /// Any JSON object.
    Json,
    /// JSON of this schema, under this name.
    Schema {
        /// Letters, digits, `_`, `-`.
        name: String,
        /// The shape.
        schema: Schema,
    },
}

/// How hard to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasoningEffort {
    /// Not at all, where the model can.
    None,
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// As much as it can.
    Max,
}

/// What is asked of a model's reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReasoningOptions {
    /// How hard.
    pub effort: Option<ReasoningEffort>,
    /// At most this many tokens, where the vendor counts them.
    pub budget_tokens: Option<u64>,
    /// Whether to show a summary; the vendor's default where `None`.
    pub show_summary: Option<bool>,
}

/// Whether the vendor's prompt cache is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheMode {
    /// At the parts that carry a [`crate::CachePoint`], and where the vendor does it unasked.
    #[default]
    Points,
    /// Also after the instructions, the tools and the last turn.
    Automatic,
}

/// A turn to be answered. Same request, same bytes on the wire: all maps are ordered.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The conversation so far; system messages anywhere are put where the wire wants them.
    pub messages: Vec<Message>,
    /// Tools the model may ask for.
    pub tools: Vec<ToolSpec>,
    /// Whether it may.
    pub tool_choice: ToolChoice,
    /// Whether it may ask for several at once; the vendor's default where `None`.
    pub parallel_tool_calls: Option<bool>,
    /// The shape of the answer. It is checked when it has come: [`crate::Error::SchemaMismatch`].
    pub response_format: ResponseFormat,
    /// How the vendor is brought to that shape; the surest way it has where `None`.
    pub structured: Option<StructuredStrategy>,
    /// Most tokens of the answer; the model's maximum where `None`.
    pub max_output_tokens: Option<u64>,
    /// 0 for the likeliest words, up to the vendor's maximum for wilder ones.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Sample among so many.
    pub top_k: Option<u32>,
    /// The answer ends before any of these.
    pub stop_sequences: Vec<String>,
    /// For answers that repeat, where the vendor can.
    pub seed: Option<u64>,
    /// Thinking before answering.
    pub reasoning: ReasoningOptions,
    /// The vendor's prompt cache.
    pub cache: CacheMode,
    /// Whether the answer tells which places of the documents in the request it rests on, where the vendor does that;
    /// its default where `None`.
    pub citations: Option<bool>,
    /// Passed on to the vendor as labels of the call.
    pub metadata: IndexMap<String, String>,
    /// A vendor's own options, by vendor name; merged into its body last.
    pub provider_options: IndexMap<String, Value>,
    /// Keep the vendor's raw answer in [`ChatResponse::raw`].
    pub include_raw: bool,
}

impl ChatRequest {
    /// A conversation to continue.
    pub fn new(messages: impl IntoIterator<Item = impl Into<Message>>) -> Self {
        Self {
            messages: messages.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds a tool.
    pub fn tool(mut self, tool: ToolSpec) -> Self {
        self.tools.push(tool);
        self
    }

    /// Sets who decides about calls.
    pub fn tool_choice(mut self, choice: ToolChoice) -> Self {
        self.tool_choice = choice;
        self
    }

    /// Bounds the answer.
    pub fn max_output_tokens(mut self, tokens: u64) -> Self {
        self.max_output_tokens = Some(tokens);
        self
    }

    /// Sets the temperature.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Asks for JSON of this shape.
    pub fn schema(mut self, name: impl Into<String>, schema: Schema) -> Self {
        self.response_format = ResponseFormat::Schema {
            name: name.into(),
            schema,
        };
        self
    }

    /// Sets how the vendor is brought to the shape of the answer.
    pub fn structured(mut self, strategy: StructuredStrategy) -> Self {
        self.structured = Some(strategy);
        self
    }

    /// Adds a vendor's own option.
    pub fn provider_option(mut self, provider: impl Into<String>, options: Value) -> Self {
        self.provider_options.insert(provider.into(), options);
        self
    }

    /// Input tokens by a local estimate, media not counted: for limits and budgets, where a question to the vendor
    /// would cost more than it tells.
    pub fn estimated_tokens(&self) -> u64 {
        let mut tokens: usize = self
            .messages
            .iter()
            .map(|message| HeuristicTokens.count_message(message))
            .sum();
        for tool in &self.tools {
            tokens += HeuristicTokens.count(&tool.description)
                + HeuristicTokens.count(&tool.parameters.to_string());
        }
        tokens as u64
    }

    /// The last words of the person.
    pub fn last_user_text(&self) -> Option<String> {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == Role::User)
            .map(Message::text)
    }
}

impl From<&str> for ChatRequest {
    fn from(text: &str) -> Self {
        Self::new([Message::user(text)])
    }
}

/// `Debug` tells sizes, never words.
impl Debug for ChatRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatRequest")
            .field("messages", &self.messages.len())
            .field(
                "tools",
                &self
                    .tools
                    .iter()
                    .map(|tool| tool.name.as_str())
                    .collect::<Vec<_>>(),
            )
            .field("tool_choice", &self.tool_choice)
            .field("max_output_tokens", &self.max_output_tokens)
            .finish_non_exhaustive()
    }
}

/// Something that was not done as asked, though the answer came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// A stable word, such as `option_ignored`.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl Warning {
    /// An option this vendor or model does not honour.
    pub fn option_ignored(provider: &str, option: &str) -> Self {
        Self {
            code: "option_ignored".into(),
            message: format!("{provider} does not honour `{option}`; it was left out"),
        }
    }

    /// Any other.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}

/// The model or the vendor would not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refusal {
    /// What it says about that.
    pub message: Option<String>,
    /// The vendor's category.
    pub category: Option<String>,
}

impl Refusal {
    /// With what is known.
    pub fn new(message: Option<String>, category: Option<String>) -> Self {
        Self { message, category }
    }
}

/// One of the vendor's limits, as its headers tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// `requests`, `tokens`, `input_tokens`, `output_tokens` …
    pub name: String,
    /// How many in a window.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: Option<u64>,
    /// Milliseconds until the window starts anew.
    pub reset_ms: Option<u64>,
}

impl RateLimit {
    /// A limit of this name, nothing else known.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// A whole answer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatResponse {
    /// What the model said, parts in order.
    pub message: Message,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The vendor's own word for that.
    pub raw_finish_reason: Option<String>,
    /// Set when the model or the vendor would not answer.
    pub refusal: Option<Refusal>,
    /// Tokens.
    pub usage: Usage,
    /// Money, where the price is known.
    pub cost: Option<Cost>,
    /// The vendor.
    pub provider: String,
    /// The model that answered, as the vendor names it.
    pub model: String,
    /// The vendor's id of the answer.
    pub id: Option<String>,
    /// The vendor's id of the request.
    pub request_id: Option<String>,
    /// What was not done as asked.
    pub warnings: Vec<Warning>,
    /// The vendor's limits, as told with this answer.
    pub rate_limits: Vec<RateLimit>,
    /// The vendor's answer as it came, when asked for.
    pub raw: Option<Value>,
    /// The answer's JSON where a shape was asked for, checked; text and parts are as the model wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Structured>,
    /// Tries that failed before this answer came, oldest first: what the retry and fallback layers went through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl ChatResponse {
    /// An answer of these parts, nothing else known.
    pub fn new(
        provider: impl Into<String>,
        model: impl Into<String>,
        parts: Vec<Part>,
        finish_reason: FinishReason,
    ) -> Self {
        Self {
            message: Message::new(Role::Assistant, parts),
            finish_reason,
            raw_finish_reason: None,
            refusal: None,
            usage: Usage::default(),
            cost: None,
            provider: provider.into(),
            model: model.into(),
            id: None,
            request_id: None,
            warnings: Vec::new(),
            rate_limits: Vec::new(),
            raw: None,
            structured: None,
            attempts: Vec::new(),
        }
    }

    /// Its words.
    pub fn text(&self) -> String {
        self.message.text()
    }
}

/// `Debug` tells sizes, never words: a truncated stream carries its answer inside an error. A vendor may put words
/// into a name; such a name is left out.
impl Debug for ChatResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: Option<&String>| name.filter(|name| is_plain_name(name)).cloned();
        f.debug_struct("ChatResponse")
            .field("provider", &self.provider)
            .field("model", &name(Some(&self.model)).unwrap_or_default())
            .field("id", &name(self.id.as_ref()))
            .field("request_id", &name(self.request_id.as_ref()))
            .field("parts", &self.message.parts.len())
            .field("finish_reason", &self.finish_reason)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// What a model can do; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Abilities {
    /// Calls tools.
    pub tools: Option<bool>,
    /// Sees images.
    pub images: Option<bool>,
    /// Reads PDFs.
    pub documents: Option<bool>,
    /// Hears.
    pub audio: Option<bool>,
    /// Reasons before it answers.
    pub reasoning: Option<bool>,
    /// Keeps to a JSON Schema by itself.
    pub structured_output: Option<bool>,
    /// Tells by itself which places of the documents in the request its answer rests on, where
    /// [`ChatRequest::citations`] asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citations: Option<bool>,
}

/// A model, by name and by what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The vendor.
    pub provider: String,
    /// The model, as the vendor names it.
    pub model: String,
    /// Tokens in and out together.
    pub context_window: Option<u64>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<u64>,
    /// What it can do.
    pub abilities: Abilities,
    /// What it costs.
    pub price: Option<Price>,
}

impl ModelInfo {
    /// A model of which only the name is known.
    pub fn new(provider: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            model: model.into(),
            ..Self::default()
        }
    }

    /// `vendor/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }
}

/// A model that continues a conversation.
///
/// `stream` is the one required path; `chat` folds it, so the two never disagree.
#[async_trait]
pub trait ChatModel: Send + Sync + Debug {
    /// Which model, and what is known of it.
    fn info(&self) -> &ModelInfo;

    /// Answers as events; dropping the stream cancels the call. It closes with exactly one
    /// [`crate::StreamEvent::Finish`]; a stream that ends without is an error that carries what had come.
    async fn stream(&self, request: ChatRequest) -> Result<ChatStream>;

    /// The same answer, whole.
    async fn chat(&self, request: ChatRequest) -> Result<ChatResponse> {
        let include_raw = request.include_raw;
        let info = self.info();
        let mut answer = collect(
            self.stream(request).await?,
            &info.provider,
            &info.model,
            include_raw,
        )
        .await?;
        // A model of the host's own need not tell the money in its stream.
        if answer.cost.is_none()
            && let Some(price) = &info.price
        {
            answer.cost = price.cost(&answer.usage);
        }
        Ok(answer)
    }

    /// How many input tokens the request has. The default is an estimate, flagged so.
    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        Ok(Usage {
            input_tokens: Some(request.estimated_tokens()),
            is_estimated: true,
            ..Usage::default()
        })
    }
}

/// A shared model is a model: layers and hosts pass `Arc<dyn ChatModel>` wherever one is asked for.
#[async_trait]
impl<M: ChatModel + ?Sized> ChatModel for Arc<M> {
    fn info(&self) -> &ModelInfo {
        (**self).info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        (**self).stream(request).await
    }

    async fn chat(&self, request: ChatRequest) -> Result<ChatResponse> {
        (**self).chat(request).await
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        (**self).count_tokens(request).await
    }
}
