//! Requests across the border: what Python writes down becomes a [`ChatRequest`], and a Python model is shown one.

use crate::convert::py_to_serde;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stepwell::{
    CacheMode, ChatRequest, Error, Message, ReasoningEffort, ReasoningOptions, ResponseFormat, Result,
    Schema, StructuredStrategy, ToolChoice, ToolSpec,
};

/// A request as the Python layer writes it down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Spec>,
    #[serde(default)]
    tool_choice: ToolChoice,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    response_format: Format,
    #[serde(default)]
    structured: Option<StructuredStrategy>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    top_k: Option<u32>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    reasoning: Thinking,
    #[serde(default)]
    cache: CacheMode,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    provider_options: Map<String, Value>,
    #[serde(default)]
    include_raw: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Format {
    #[default]
    Text,
    Json,
    Schema {
        name: String,
        schema: Value,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Thinking {
    effort: Option<ReasoningEffort>,
    budget_tokens: Option<u64>,
    show_summary: Option<bool>,
}

/// The request of a Python call.
pub(crate) fn read_request(given: &Bound<'_, PyAny>) -> Result<ChatRequest> {
    let given: Request = py_to_serde("request", given)?;
    let mut request = ChatRequest::new(given.messages);
    for tool in given.tools {
        let schema = Schema::from_value(tool.parameters)?;
        request
            .tools
            .push(ToolSpec::new(tool.name, tool.description, &schema)?);
    }
    request.tool_choice = given.tool_choice;
    request.parallel_tool_calls = given.parallel_tool_calls;
    request.response_format = match given.response_format {
        Format::Text => ResponseFormat::Text,
        Format::Json => ResponseFormat::Json,
        Format::Schema { name, schema } => ResponseFormat::Schema {
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
    let mut reasoning = ReasoningOptions::default();
    reasoning.effort = given.reasoning.effort;
    reasoning.budget_tokens = given.reasoning.budget_tokens;
    reasoning.show_summary = given.reasoning.show_summary;
    request.reasoning = reasoning;
    request.cache = given.cache;
    for (key, value) in given.metadata {
        let Value::String(value) = value else {
            return Err(Error::invalid(
                "metadata",
                format!("the value of `{key}` is a string"),
            ));
        };
        request.metadata.insert(key, value);
    }
    request.provider_options.extend(given.provider_options);
    request.include_raw = given.include_raw;
    Ok(request)
}

/// The request as a Python model sees it.
pub(crate) fn show_request(request: &ChatRequest) -> Result<Value> {
    let written = |error: serde_json::Error| Error::internal(format!("a request is no JSON: {error}"));
    Ok(json!({
        "messages": serde_json::to_value(&request.messages).map_err(written)?,
        "tools": serde_json::to_value(&request.tools).map_err(written)?,
        "tool_choice": serde_json::to_value(&request.tool_choice).map_err(written)?,
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": match &request.response_format {
            ResponseFormat::Json => json!("json"),
            ResponseFormat::Schema { name, schema } => json!({ "schema": { "name": name, "schema": schema.as_value() } }),
            _ => json!("text"),
        },
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": request.stop_sequences,
        "seed": request.seed,
        "metadata": serde_json::to_value(&request.metadata).map_err(written)?,
        "provider_options": serde_json::to_value(&request.provider_options).map_err(written)?,
    }))
}
