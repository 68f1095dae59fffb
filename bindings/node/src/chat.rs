//! [`Model`]: `chat`, `stream`, and the request they take.

use crate::{
    convert::{messages, parse, read, to_json, with_members},
    error::to_napi,
    runtime::{Cancel, promise},
    stream::NativeStream,
};
use futures::StreamExt;
use napi::{Env, bindgen_prelude::PromiseRaw};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use stepwell::{
    CacheMode, ChatAs, ChatModel, ChatRequest, ChatResponse, Error, Fold, ReasoningEffort, ResponseFormat,
    Result, Schema, StreamEvent, StructuredStrategy, ToolChoice, ToolSpec,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecGiven {
    name: String,
    description: String,
    parameters: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ReasoningGiven {
    effort: Option<ReasoningEffort>,
    budget_tokens: Option<u64>,
    show_summary: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`text`, `json`, or an object with `name` and `schema`")]
enum FormatGiven {
    Word(FormatWord),
    Schema { name: String, schema: Value },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormatWord {
    Text,
    Json,
}

/// A request as JavaScript writes it. Unknown options are refused, for a typing error must not pass in silence.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestGiven {
    messages: Value,
    #[serde(default)]
    tools: Vec<SpecGiven>,
    tool_choice: Option<ToolChoice>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<FormatGiven>,
    structured: Option<StructuredStrategy>,
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    seed: Option<u64>,
    #[serde(default)]
    reasoning: ReasoningGiven,
    cache: Option<CacheMode>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    provider_options: Map<String, Value>,
    #[serde(default)]
    include_raw: bool,
}

/// A request from JSON: a string, a list of messages, or an object with options.
pub(crate) fn request(text: &str) -> Result<ChatRequest> {
    let given = match parse::<Value>("request", text)? {
        Value::Object(members) if !members.contains_key("role") => {
            read::<RequestGiven>("request", Value::Object(members))?
        }
        said => return messages("messages", said).map(ChatRequest::new),
    };
    let mut request = ChatRequest::new(messages("messages", given.messages)?);
    for tool in given.tools {
        let schema = Schema::from_value(tool.parameters)?;
        request = request.tool(ToolSpec::new(tool.name, tool.description, &schema)?);
    }
    request.tool_choice = given.tool_choice.unwrap_or_default();
    request.parallel_tool_calls = given.parallel_tool_calls;
    request.response_format = match given.response_format {
        None | Some(FormatGiven::Word(FormatWord::Text)) => ResponseFormat::Text,
        Some(FormatGiven::Word(FormatWord::Json)) => ResponseFormat::Json,
        Some(FormatGiven::Schema { name, schema }) => ResponseFormat::Schema {
            name,
            schema: Schema::from_value(schema)?,
        },
    };
    request.structured = given.structured;
    request.max_output_tokens = given.max_output_tokens;
    request.temperature = given.temperature;
    request.top_p = given.top_p;
    request.top_k = given.top_k;
    request.stop_sequences = given.stop_sequences;
    request.seed = given.seed;
    request.reasoning.effort = given.reasoning.effort;
    request.reasoning.budget_tokens = given.reasoning.budget_tokens;
    request.reasoning.show_summary = given.reasoning.show_summary;
    request.cache = given.cache.unwrap_or_default();
    for (key, value) in given.metadata {
        let Value::String(value) = value else {
            return Err(Error::invalid(
                "metadata",
                format!("the value of `{key}` is no string"),
            ));
        };
        request.metadata.insert(key, value);
    }
    request.provider_options.extend(given.provider_options);
    request.include_raw = given.include_raw;
    Ok(request)
}

/// An answer as JSON, with its words and calls at hand.
pub(crate) fn response_json(response: &ChatResponse) -> Result<String> {
    let calls: Vec<_> = response.message.tool_calls().collect();
    let members = [
        ("text", to_json(&response.text())?),
        ("toolCalls", to_json(&calls)?),
    ];
    Ok(with_members(&to_json(response)?, &members))
}

/// A model that continues a conversation.
#[napi]
#[derive(Clone)]
pub struct Model(Arc<dyn ChatModel>);

impl From<Arc<dyn ChatModel>> for Model {
    fn from(model: Arc<dyn ChatModel>) -> Self {
        Self(model)
    }
}

impl Model {
    pub(crate) fn new(model: Arc<dyn ChatModel>) -> Self {
        Self(model)
    }

    pub(crate) fn inner(&self) -> Arc<dyn ChatModel> {
        Arc::clone(&self.0)
    }
}

#[napi]
impl Model {
    /// Which model, and what is known of it, as JSON.
    #[napi(getter)]
    pub fn info(&self) -> napi::Result<String> {
        to_json(self.0.info()).map_err(to_napi)
    }

    /// The whole answer, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn chat<'env>(
        &self,
        env: &'env Env,
        request: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let model = self.inner();
        let request = self::request(&request).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            response_json(&model.chat(request).await?)
        })
    }

    /// The answer as it comes. The outcome is the whole answer.
    #[napi]
    pub fn stream(&self, request: String) -> napi::Result<NativeStream> {
        let model = self.inner();
        let request = self::request(&request).map_err(to_napi)?;
        Ok(NativeStream::open(move |feed| async move {
            let info = model.info();
            let mut fold = Fold::new(&info.provider, &info.model, request.include_raw);
            let mut events = model.stream(request).await?;
            while let Some(event) = events.next().await {
                let event = event?;
                let words = match &event {
                    StreamEvent::TextDelta { text, .. } => Some(text.as_str()),
                    _ => None,
                };
                feed.push_event(&event, words)?;
                fold.push(event)?;
                feed.room().await;
            }
            response_json(&fold.finish()?).map(Some)
        }))
    }

    /// The answer in the shape that the request asks for, as JSON of `value` and `response`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn chat_value<'env>(
        &self,
        env: &'env Env,
        request: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let model = self.inner();
        let request = self::request(&request).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            let answer = model.chat_value(request).await?;
            let response = response_json(&answer.response)?;
            Ok(format!("{{\"value\":{},\"response\":{response}}}", answer.value))
        })
    }

    /// How many tokens a request has, as JSON of a usage.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn count_tokens<'env>(
        &self,
        env: &'env Env,
        request: String,
        cancel: Option<&Cancel>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let model = self.inner();
        let request = self::request(&request).map_err(to_napi)?;
        promise(env, Cancel::of(cancel), async move {
            to_json(&model.count_tokens(&request).await?)
        })
    }
}

/// A request as JSON, for those who look at what was asked.
pub(crate) fn request_json(request: &ChatRequest) -> Result<String> {
    Ok(format!(
        "{{\"messages\":{},\"tools\":{}}}",
        to_json(&request.messages)?,
        to_json(&request.tools)?
    ))
}
