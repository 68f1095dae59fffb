//! Each way to a structured answer on each wire, over a real socket: what is asked and what comes of it. Here is how
//! each wire is asked and answers.

mod edges;
mod ways;

use crate::{
    Anthropic, Gemini, Ollama, OpenAi, OpenAiWire,
    fixtures::{Act, Framing, http_answer},
};
use futures::StreamExt;
use serde_json::{Value, json};
use std::fmt::Write as _;
use stepwell_core::{ChatModel, ChatRequest, Result, Schema, StreamEvent, ToolSpec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Messages,
    Completions,
    Responses,
    Generate,
    Native,
}

const WIRES: [Wire; 5] = [
    Wire::Messages,
    Wire::Completions,
    Wire::Responses,
    Wire::Generate,
    Wire::Native,
];

fn sse(events: &[Value], has_names: bool, end: &str) -> Vec<Act> {
    let mut body = String::new();
    for event in events {
        if has_names {
            let name = event["type"].as_str().unwrap_or_default();
            writeln!(body, "event: {name}").expect("a String takes all");
        }
        write!(body, "data: {event}\n\n").expect("a String takes all");
    }
    body.push_str(end);
    let headers = [("content-type", "text/event-stream")];
    vec![Act::Send(http_answer(
        200,
        &headers,
        body.as_bytes(),
        Framing::Length,
    ))]
}

/// Pieces of a text, cut inside words.
fn pieces(text: &str) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(5).map(|piece| piece.iter().collect()).collect()
}

impl Wire {
    fn model(self, url: &str, name: &str) -> Box<dyn ChatModel> {
        match self {
            Self::Messages => Box::new(
                Anthropic::new(name)
                    .api_key("k")
                    .base_url(url)
                    .build()
                    .expect("builds"),
            ),
            Self::Completions | Self::Responses => {
                let wire = if self == Self::Completions {
                    OpenAiWire::Chat
                } else {
                    OpenAiWire::Responses
                };
                Box::new(
                    OpenAi::new(name)
                        .api_key("k")
                        .base_url(url)
                        .wire(wire)
                        .build()
                        .expect("builds"),
                )
            }
            Self::Generate => Box::new(
                Gemini::new(name)
                    .api_key("k")
                    .base_url(url)
                    .build()
                    .expect("builds"),
            ),
            Self::Native => Box::new(
                Ollama::new(name)
                    .base_url(url)
                    .num_ctx(4_096)
                    .build()
                    .expect("builds"),
            ),
        }
    }

    /// A model that keeps to a schema by itself.
    fn able(self) -> &'static str {
        match self {
            Self::Messages => "claude-sonnet-4-5",
            Self::Completions => "gpt-4o",
            Self::Responses => "gpt-5.5",
            Self::Generate => "gemini-3.8-flash",
            Self::Native => "qwen3:4b",
        }
    }

    /// An answer of words.
    fn says(self, text: &str) -> Vec<Act> {
        match self {
            Self::Messages => {
                let mut events = vec![
                    json!({ "type": "message_start", "message": { "id": "a", "model": "m", "usage": { "input_tokens": 10, "output_tokens": 1 } } }),
                    json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
                ];
                events.extend(pieces(text).iter().map(|piece| json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": piece } })));
                events.push(json!({ "type": "content_block_stop", "index": 0 }));
                events.push(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 5 } }));
                events.push(json!({ "type": "message_stop" }));
                sse(&events, true, "")
            }
            Self::Completions => {
                let mut events: Vec<Value> = pieces(text).iter().map(|piece| json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": { "content": piece } }] })).collect();
                events.push(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }));
                events.push(json!({ "choices": [], "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 } }));
                sse(&events, false, "data: [DONE]\n\n")
            }
            Self::Responses => {
                let item = json!({ "type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": text, "annotations": [] }] });
                let mut events = vec![
                    json!({ "type": "response.created", "response": { "id": "a", "model": "m", "status": "in_progress" } }),
                    json!({ "type": "response.output_item.added", "output_index": 0, "item": { "type": "message", "id": "i", "role": "assistant", "content": [] } }),
                    json!({ "type": "response.content_part.added", "output_index": 0, "content_index": 0, "item_id": "i", "part": { "type": "output_text", "text": "", "annotations": [] } }),
                ];
                events.extend(pieces(text).iter().map(|piece| json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "i", "delta": piece })));
                events.push(json!({ "type": "response.output_text.done", "output_index": 0, "content_index": 0, "item_id": "i", "text": text }));
                events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": item }));
                events.push(json!({ "type": "response.completed", "response": { "id": "a", "model": "m", "status": "completed", "output": [item], "usage": { "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 } } }));
                sse(&events, true, "")
            }
            Self::Generate => {
                let mut events: Vec<Value> = pieces(text).iter().map(|piece| json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": piece }] } }] })).collect();
                events.push(json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": "" }] }, "finishReason": "STOP" }], "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15 } }));
                sse(&events, false, "")
            }
            Self::Native => {
                let mut lines: Vec<Value> = pieces(text).iter().map(|piece| json!({ "model": "m", "message": { "role": "assistant", "content": piece }, "done": false })).collect();
                lines.push(json!({ "model": "m", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 5 }));
                ndjson(&lines)
            }
        }
    }

    /// An answer that calls tools, behind words.
    fn calls(self, calls: &[(&str, &str)]) -> Vec<Act> {
        match self {
            Self::Messages => {
                let mut events = vec![
                    json!({ "type": "message_start", "message": { "id": "a", "model": "m", "usage": { "input_tokens": 10, "output_tokens": 1 } } }),
                    json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
                    json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Let me see." } }),
                    json!({ "type": "content_block_stop", "index": 0 }),
                ];
                for (at, (name, arguments)) in calls.iter().enumerate() {
                    let index = at + 1;
                    events.push(json!({ "type": "content_block_start", "index": index, "content_block": { "type": "tool_use", "id": format!("t{at}"), "name": name, "input": {} } }));
                    events.extend(pieces(arguments).iter().map(|piece| json!({ "type": "content_block_delta", "index": index, "delta": { "type": "input_json_delta", "partial_json": piece } })));
                    events.push(json!({ "type": "content_block_stop", "index": index }));
                }
                events.push(json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 5 } }));
                events.push(json!({ "type": "message_stop" }));
                sse(&events, true, "")
            }
            Self::Completions => {
                let mut events = vec![
                    json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": { "content": "Let me see." } }] }),
                ];
                for (at, (name, arguments)) in calls.iter().enumerate() {
                    events.push(json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": at, "id": format!("t{at}"), "type": "function", "function": { "name": name, "arguments": "" } }] } }] }));
                    events.extend(pieces(arguments).iter().map(|piece| json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": at, "function": { "arguments": piece } }] } }] })));
                }
                events
                    .push(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }));
                sse(&events, false, "data: [DONE]\n\n")
            }
            Self::Responses => {
                let mut events = vec![
                    json!({ "type": "response.created", "response": { "id": "a", "model": "m", "status": "in_progress" } }),
                ];
                let mut output = Vec::new();
                for (at, (name, arguments)) in calls.iter().enumerate() {
                    let item = |arguments: &str| json!({ "type": "function_call", "id": format!("i{at}"), "call_id": format!("t{at}"), "name": name, "arguments": arguments });
                    events.push(
                        json!({ "type": "response.output_item.added", "output_index": at, "item": item("") }),
                    );
                    events.extend(pieces(arguments).iter().map(|piece| json!({ "type": "response.function_call_arguments.delta", "output_index": at, "item_id": format!("i{at}"), "delta": piece })));
                    events.push(json!({ "type": "response.function_call_arguments.done", "output_index": at, "item_id": format!("i{at}"), "arguments": arguments }));
                    events.push(json!({ "type": "response.output_item.done", "output_index": at, "item": item(arguments) }));
                    output.push(item(arguments));
                }
                events.push(json!({ "type": "response.completed", "response": { "id": "a", "model": "m", "status": "completed", "output": output, "usage": { "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 } } }));
                sse(&events, true, "")
            }
            Self::Generate => {
                let parts: Vec<Value> = calls.iter().map(|(name, arguments)| json!({ "functionCall": { "name": name, "args": serde_json::from_str::<Value>(arguments).expect("JSON") } })).collect();
                let events = [
                    json!({ "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": "STOP" }], "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 5 } }),
                ];
                sse(&events, false, "")
            }
            Self::Native => {
                let calls: Vec<Value> = calls.iter().map(|(name, arguments)| json!({ "function": { "name": name, "arguments": serde_json::from_str::<Value>(arguments).expect("JSON") } })).collect();
                ndjson(&[
                    json!({ "model": "m", "message": { "role": "assistant", "content": "", "tool_calls": calls }, "done": false }),
                    json!({ "model": "m", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 5 }),
                ])
            }
        }
    }

    /// The schema that a request asks the vendor to keep to.
    fn asked(self, body: &Value) -> Value {
        match self {
            Self::Messages => body["output_config"]["format"]["schema"].clone(),
            Self::Completions => body["response_format"]["json_schema"]["schema"].clone(),
            Self::Responses => body["text"]["format"]["schema"].clone(),
            Self::Generate => body["generationConfig"]["responseJsonSchema"].clone(),
            Self::Native => body["format"].clone(),
        }
    }

    /// Names of the tools of a request.
    fn tools(self, body: &Value) -> Vec<String> {
        let tools = match self {
            Self::Generate => &body["tools"][0]["functionDeclarations"],
            _ => &body["tools"],
        };
        let name = |tool: &Value| {
            tool["name"]
                .as_str()
                .or(tool["function"]["name"].as_str())
                .map(str::to_owned)
        };
        tools.as_array().into_iter().flatten().filter_map(name).collect()
    }
}

fn ndjson(lines: &[Value]) -> Vec<Act> {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let body = lines.join("\n") + "\n";
    let headers = [("content-type", "application/x-ndjson")];
    vec![Act::Send(http_answer(
        200,
        &headers,
        body.as_bytes(),
        Framing::Length,
    ))]
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
struct Trip {
    city: String,
    #[schemars(range(max = 30))]
    days: u8,
}

fn trip() -> Schema {
    Schema::from_value(json!({ "type": "object", "required": ["city"], "properties": {
        "city": { "type": "string" }, "days": { "type": "integer", "maximum": 30, "minimum": 0 } } }))
    .expect("a schema")
}

fn tool() -> ToolSpec {
    let schema = Schema::from_value(json!({ "type": "object", "properties": { "q": { "type": "string" } } }))
        .expect("a schema");
    ToolSpec::new("look", "Looks.", &schema).expect("a tool")
}

fn request() -> ChatRequest {
    ChatRequest::from("Where to?").schema("trip", trip())
}

/// The events, the text as a reader sees it come, and the whole.
async fn watch(model: &dyn ChatModel, request: ChatRequest) -> Result<(Vec<StreamEvent>, String)> {
    let mut stream = model.stream(request).await?;
    let (mut events, mut text) = (Vec::new(), String::new());
    while let Some(event) = stream.next().await {
        let event = event?;
        if let StreamEvent::TextDelta { text: piece, .. } = &event {
            text.push_str(piece);
        }
        events.push(event);
    }
    Ok((events, text))
}

fn kinds(events: &[StreamEvent]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for event in events {
        let kind = serde_json::to_value(event).expect("JSON")["type"]
            .as_str()
            .expect("a word")
            .to_owned();
        let is_text =
            kind.starts_with("text") || kind == "structured" || kind == "finish" || kind.starts_with("tool");
        if is_text && kinds.last() != Some(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}
