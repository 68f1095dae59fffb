//! Each way to a structured answer on each wire, over a real socket: what is asked and what comes of it.

use crate::{
    Anthropic, Gemini, Ollama, OpenAi, OpenAiCompatible, OpenAiWire,
    fixtures::{Act, Framing, Server, http_answer, shown},
    quirks::{Formats, Quirks},
};
use futures::StreamExt;
use serde_json::{Value, json};
use std::fmt::Write as _;
use stepwell_core::{
    ChatAs, ChatModel, ChatRequest, ChatResponse, Error, FinishReason, PartialAnswer, ReasoningEffort,
    Result, Schema, StreamEvent, StructuredStrategy, ToolSpec, collect,
};

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

#[tokio::test]
async fn every_wire_keeps_to_a_schema_by_itself_and_what_it_dropped_is_checked_here() {
    for wire in WIRES {
        let good = r#"{"city":"Oslo","days":null}"#;
        let bad = r#"{"city":"canary-Oslo","days":99}"#;
        let server = Server::start(vec![wire.says(good), wire.says(good), wire.says(bad)]).await;
        let model = wire.model(&server.url, wire.able());
        let (events, text) = watch(&*model, request()).await.expect("answers");
        assert_eq!(text, good, "{wire:?}: the reader sees the vendor's own words");
        assert_eq!(
            kinds(&events),
            ["text_start", "text_delta", "text_end", "structured", "finish"],
            "{wire:?}"
        );
        let sent = wire.asked(&server.requests()[0].json());
        assert_eq!(
            sent["properties"]["city"],
            json!({ "type": "string" }),
            "{wire:?}: {sent}"
        );

        let answer = model.chat(request()).await.expect("answers");
        let structured = answer.structured.clone().expect("it is structured");
        assert_eq!(structured.strategy, StructuredStrategy::Native, "{wire:?}");
        assert_eq!(
            structured.value,
            Some(json!({ "city": "Oslo" })),
            "{wire:?}: null is absent"
        );
        assert_eq!(
            answer.parse::<Trip>().expect("a trip"),
            Trip {
                city: "Oslo".into(),
                days: 0
            }
        );

        let error = model.chat(request()).await.expect_err("99 days");
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("schema_mismatch", false),
            "{wire:?}"
        );
        assert!(
            error.to_string().contains("`maximum` at /days"),
            "{wire:?}: {error}"
        );
        assert!(!shown(&error).contains("canary"), "{wire:?}");
        let Error::SchemaMismatch { response, .. } = error else {
            unreachable!("just asked")
        };
        assert_eq!(response.text(), bad, "{wire:?}: the answer is not lost");
        assert_eq!(response.usage.total_input(), 10, "{wire:?}");
        assert_eq!(
            response.structured.map(|known| known.strategy),
            Some(StructuredStrategy::Native)
        );
    }
}

#[tokio::test]
async fn the_arguments_of_a_final_tool_are_text_to_the_reader_on_every_wire() {
    for wire in WIRES {
        let arguments = r#"{"city":"Oslo","days":3}"#;
        let server = Server::start(vec![
            wire.calls(&[("trip", arguments)]),
            wire.calls(&[("look", "{}")]),
        ])
        .await;
        let model = wire.model(&server.url, wire.able());
        let asked = request().tool(tool()).structured(StructuredStrategy::FinalTool);
        let (events, text) = watch(&*model, asked.clone()).await.expect("answers");
        let body = server.requests()[0].json();
        assert_eq!(wire.tools(&body), ["look", "trip"], "{wire:?}");
        assert_eq!(wire.asked(&body), Value::Null, "{wire:?}: the tool is the shape");
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("JSON"),
            json!({ "city": "Oslo", "days": 3 })
        );
        assert_eq!(
            kinds(&events),
            ["text_start", "text_delta", "text_end", "structured", "finish"],
            "{wire:?}: as with a native one"
        );
        let answer = collect(futures::stream::iter(events.into_iter().map(Ok)), "p", "m", false)
            .await
            .expect("folds");
        assert_eq!(answer.finish_reason, FinishReason::Stop, "{wire:?}");
        assert_eq!(answer.message.tool_calls().count(), 0);
        assert_eq!(answer.parse::<Trip>().expect("a trip").days, 3);
        // A call of the caller's own tool is one as ever.
        let (events, _) = watch(&*model, asked).await.expect("calls");
        assert!(matches!(
            events.last(),
            Some(StreamEvent::Finish {
                reason: FinishReason::ToolCalls,
                ..
            })
        ));
        assert!(!kinds(&events).contains(&"structured".to_owned()), "{wire:?}");
    }
}

#[tokio::test]
async fn a_model_that_cannot_keep_to_a_schema_is_told_it_and_its_words_and_fences_are_left_out() {
    for wire in WIRES {
        let said = "Sure! Here [1] it is:\n```json\n{\"city\": \"Oslo\", \"days\": 2}\n```\nAnything else?";
        let server = Server::start(vec![wire.says(said), wire.says("I would rather not.")]).await;
        let model = wire.model(&server.url, wire.able());
        let asked = request().structured(StructuredStrategy::Prompted);
        let (events, text) = watch(&*model, asked.clone()).await.expect("answers");
        let body = server.requests()[0].json();
        assert!(!wire.asked(&body).is_object(), "{wire:?}");
        assert!(
            body.to_string().contains("JSON Schema") && body.to_string().contains("maximum"),
            "{wire:?}: {body}"
        );
        assert_eq!(text, "{\"city\": \"Oslo\", \"days\": 2}", "{wire:?}");
        let answer = collect(futures::stream::iter(events.into_iter().map(Ok)), "p", "m", false)
            .await
            .expect("folds");
        assert_eq!(
            answer.structured.expect("structured").strategy,
            StructuredStrategy::Prompted
        );
        let error = model.chat(asked).await.expect_err("no JSON");
        assert_eq!(
            error.partial().map(ChatResponse::text).as_deref(),
            Some("I would rather not."),
            "{wire:?}"
        );
    }
}

#[tokio::test]
async fn two_phases_run_the_tools_first_and_then_ask_for_the_shape_and_count_both() {
    for wire in WIRES {
        let json = r#"{"city":"Oslo","days":4}"#;
        let server = Server::start(vec![
            wire.calls(&[("look", "{\"q\":\"x\"}")]),
            wire.says("Go to Oslo for four days."),
            wire.says(json),
        ])
        .await;
        let model = wire.model(&server.url, wire.able());
        let asked = request().tool(tool()).structured(StructuredStrategy::TwoPhase);
        let (events, _) = watch(&*model, asked.clone()).await.expect("calls");
        assert!(
            matches!(
                events.last(),
                Some(StreamEvent::Finish {
                    reason: FinishReason::ToolCalls,
                    ..
                })
            ),
            "{wire:?}"
        );
        let (events, text) = watch(&*model, asked).await.expect("answers");
        assert_eq!(text, json, "{wire:?}: the reader sees the second answer alone");
        let seen = server.requests();
        assert_eq!(seen.len(), 3);
        assert_eq!(wire.tools(&seen[1].json()), ["look"]);
        assert_eq!(wire.asked(&seen[1].json()), Value::Null, "{wire:?}");
        assert!(wire.tools(&seen[2].json()).is_empty(), "{wire:?}");
        assert!(wire.asked(&seen[2].json()).is_object(), "{wire:?}");
        assert!(String::from_utf8_lossy(&seen[2].body).contains("Go to Oslo for four days."));
        let answer = collect(futures::stream::iter(events.into_iter().map(Ok)), "p", "m", false)
            .await
            .expect("folds");
        assert_eq!(answer.usage.total_input(), 20, "{wire:?}");
        let structured = answer.structured.expect("structured");
        assert_eq!(
            (
                structured.strategy,
                structured.value.expect("a value")["days"].as_u64()
            ),
            (StructuredStrategy::TwoPhase, Some(4))
        );
    }
}

#[tokio::test]
async fn the_way_is_picked_by_vendor_model_and_tools() {
    use StructuredStrategy::{FinalTool, Native, TwoPhase};
    let recursive = Schema::from_value(json!({ "type": "object", "required": ["city"], "properties": { "city": { "type": "string" }, "next": { "$ref": "#" } } })).expect("a schema");
    for (wire, name, has_tool, schema, strategy) in [
        (Wire::Messages, "claude-sonnet-4-5", true, trip(), Native),
        (
            Wire::Messages,
            "claude-3-5-haiku-latest",
            false,
            trip(),
            FinalTool,
        ),
        (Wire::Messages, "claude-sonnet-4-5", false, recursive, FinalTool),
        (Wire::Completions, "gpt-4o", true, trip(), Native),
        (Wire::Responses, "gpt-5.5", true, trip(), Native),
        (Wire::Generate, "gemini-3.8-flash", true, trip(), Native),
        (Wire::Generate, "gemini-2.5-flash", true, trip(), FinalTool),
        (Wire::Generate, "gemini-2.5-flash", false, trip(), Native),
        (Wire::Native, "qwen3:4b", false, trip(), Native),
        (Wire::Native, "qwen3:4b", true, trip(), TwoPhase),
    ] {
        let json = r#"{"city":"Oslo"}"#;
        let scripts = match strategy {
            FinalTool => vec![wire.calls(&[("trip", json)])],
            TwoPhase => vec![wire.says("Oslo."), wire.says(json)],
            _ => vec![wire.says(json)],
        };
        let server = Server::start(scripts).await;
        let mut asked = ChatRequest::from("Where to?").schema("trip", schema);
        if has_tool {
            asked = asked.tool(tool());
        }
        let answer = wire.model(&server.url, name).chat(asked).await.expect("answers");
        let structured = answer.structured.expect("structured");
        assert_eq!(structured.strategy, strategy, "{wire:?} {name} {has_tool}");
        assert_eq!(structured.value, Some(json!({ "city": "Oslo" })));
        let body = server.requests()[0].json();
        if strategy == FinalTool {
            let forced = match wire {
                Wire::Messages => &body["tool_choice"]["type"],
                _ => &body["toolConfig"]["functionCallingConfig"]["mode"],
            };
            assert!(forced == "any" || forced == "ANY", "{wire:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_server_without_schemas_is_told_the_shape_and_one_without_json_too() {
    for (formats, sent) in [
        (Formats::JsonObject, json!({ "type": "json_object" })),
        (Formats::Words, Value::Null),
    ] {
        let server = Server::start(vec![Wire::Completions.says(r#"{"city":"Oslo"}"#)]).await;
        let quirks = Quirks::default().formats(formats).tools(false);
        let model = OpenAiCompatible::new("plain", &server.url, "m")
            .quirks(quirks)
            .build()
            .expect("builds");
        let answer = model.chat(request()).await.expect("answers");
        let body = server.requests()[0].json();
        assert_eq!(body.get("response_format").cloned().unwrap_or_default(), sent);
        assert!(
            body["messages"][0]["content"]
                .as_str()
                .expect("words")
                .contains("JSON Schema")
        );
        assert_eq!(
            answer.structured.expect("structured").strategy,
            StructuredStrategy::Prompted
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_no_object_travels_in_one_and_is_unwrapped_while_it_streams() {
    for wire in [Wire::Messages, Wire::Completions, Wire::Responses] {
        let server = Server::start(vec![
            wire.says(r#"{"answer":[{"city":"Oslo"},{"city":"Bergen","days":1}]}"#),
        ])
        .await;
        let model = wire.model(&server.url, wire.able());
        let answer = model.chat_as::<Vec<Trip>>("Where to?").await.expect("answers");
        assert_eq!(answer.value.len(), 2, "{wire:?}");
        assert_eq!(
            answer.response.text(),
            r#"[{"city":"Oslo"},{"city":"Bergen","days":1}]"#
        );
        let sent = wire.asked(&server.requests()[0].json());
        assert_eq!(sent["properties"]["answer"]["type"], "array", "{wire:?}: {sent}");
    }
}

#[tokio::test]
async fn typed_values_are_there_while_the_answer_streams() {
    let wire = Wire::Completions;
    let server = Server::start(vec![wire.says(r#"{"city":"Trondheim","days":12}"#)]).await;
    let model = wire.model(&server.url, wire.able());
    let mut stream = model.stream(request()).await.expect("begins");
    let (mut partial, mut seen) = (PartialAnswer::<Trip>::new(), Vec::new());
    while let Some(event) = stream.next().await {
        seen.extend(partial.push(&event.expect("an event")));
    }
    assert!(
        seen.len() > 3 && seen[1].city.len() < "Trondheim".len(),
        "{seen:?}"
    );
    assert_eq!(
        seen.last(),
        Some(&Trip {
            city: "Trondheim".into(),
            days: 12
        })
    );
}

#[tokio::test]
async fn a_refusal_and_a_cut_answer_are_told_apart_from_a_wrong_shape() {
    let wire = Wire::Completions;
    let refused = [
        json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": { "refusal": "No." } }] }),
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
    ];
    let cut = [
        json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": { "content": "{\"city\":\"Os" } }] }),
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "length" }] }),
    ];
    let server = Server::start(vec![
        sse(&refused, false, "data: [DONE]\n\n"),
        sse(&cut, false, "data: [DONE]\n\n"),
    ])
    .await;
    let model = wire.model(&server.url, "gpt-4o");
    let answer = model.chat(request()).await.expect("a refusal is an answer");
    assert!(answer.refusal.is_some() && answer.structured.is_none());
    let error = model.chat(request()).await.expect_err("cut");
    assert_eq!(error.code(), "schema_mismatch");
    assert_eq!(
        error.partial().map(|answer| answer.finish_reason),
        Some(FinishReason::Length)
    );
}

#[tokio::test]
async fn words_before_the_final_call_are_left_out_with_a_warning_and_a_call_left_out_is_read_from_words() {
    let wire = Wire::Messages;
    let server = Server::start(vec![
        wire.calls(&[("trip", r#"{"city":"Oslo"}"#), ("trip", r#"{"city":"twice"}"#)]),
        wire.says("I skip the call: {\"city\":\"Bergen\"}"),
    ])
    .await;
    let model = wire.model(&server.url, "claude-3-5-haiku-latest");
    let answer = model.chat(request()).await.expect("answers");
    assert_eq!(answer.text(), r#"{"city":"Oslo"}"#);
    assert_eq!(
        answer
            .warnings
            .iter()
            .map(|warning| warning.code.as_str())
            .collect::<Vec<_>>(),
        ["text_left_out"]
    );
    let mut asked = request();
    asked.reasoning.effort = Some(ReasoningEffort::None);
    let answer = model.chat(asked).await.expect("answers");
    assert_eq!(answer.text(), r#"{"city":"Bergen"}"#);
}

#[tokio::test]
async fn words_behind_the_final_call_are_left_out_and_a_call_without_arguments_is_an_empty_object() {
    let wire = Wire::Messages;
    let start = |index: u8, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let stop = |index: u8| json!({ "type": "content_block_stop", "index": index });
    let call = json!({ "type": "tool_use", "id": "t", "name": "trip", "input": {} });
    let piece = |index: u8, kind: &str, key: &str, text: &str| json!({ "type": "content_block_delta", "index": index, "delta": { "type": kind, key: text } });
    let head = json!({ "type": "message_start", "message": { "id": "a", "model": "m", "usage": { "input_tokens": 10, "output_tokens": 1 } } });
    let tail = [
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 5 } }),
        json!({ "type": "message_stop" }),
    ];
    let answered = [
        &[head.clone(), start(0, call.clone())][..],
        &[
            piece(0, "input_json_delta", "partial_json", r#"{"city":"Oslo"}"#),
            stop(0),
        ],
        &[
            start(1, json!({ "type": "text", "text": "" })),
            piece(1, "text_delta", "text", "Have fun!"),
            stop(1),
        ],
        &tail,
    ]
    .concat();
    let empty = [
        &[
            head,
            start(0, call),
            piece(0, "input_json_delta", "partial_json", ""),
            stop(0),
        ][..],
        &tail,
    ]
    .concat();
    let server = Server::start(vec![sse(&answered, true, ""), sse(&empty, true, "")]).await;
    let model = wire.model(&server.url, "claude-3-5-haiku-latest");
    let answer = model.chat(request()).await.expect("answers");
    assert_eq!(answer.text(), r#"{"city":"Oslo"}"#);
    assert_eq!(answer.warnings[0].code, "text_left_out");
    let lax = ChatRequest::from("Where to?").schema("trip", Schema::of::<Trip>());
    let answer = model.chat_as::<Trip>(lax).await.expect("nothing is required");
    assert_eq!(
        (answer.value, answer.response.text().as_str()),
        (Trip::default(), "{}")
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_attached_as_its_reader_saw_it_with_all_it_took() {
    // Broken off behind the event that brings the second piece of the JSON; the length that was told is not met.
    let cut = |acts: Vec<Act>| {
        let Act::Send(bytes) = &acts[0] else {
            unreachable!("one piece")
        };
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        let at = text.find(r#"y\":\"O"#).expect("it is said");
        let end = at + text[at..].find('\n').expect("a line") + 1;
        vec![Act::Send([text[..end].as_bytes(), b"\n"].concat())]
    };
    let wire = Wire::Messages;
    let server = Server::start(vec![cut(wire.calls(&[("trip", r#"{"city":"Oslo","days":3}"#)]))]).await;
    let model = wire.model(&server.url, "claude-3-5-haiku-latest");
    let error = model.chat(request()).await.expect_err("cut");
    assert_eq!(error.code(), "stream_truncated");
    let partial = error.partial().expect("attached");
    assert!(partial.text().starts_with(r#"{"city":"#), "{partial:?}");
    assert_eq!(partial.message.tool_calls().count(), 0, "the reader saw text");

    let wire = Wire::Native;
    let whole = wire.says("Oslo, for four days.");
    let again = cut(wire.says(r#"{"city":"Oslo","days":4}"#));
    let busy = vec![Act::Send(http_answer(503, &[], b"{}", Framing::Length))];
    let server = Server::start(vec![whole.clone(), again, whole, busy]).await;
    let model = wire.model(&server.url, wire.able());
    let error = model.chat(request().tool(tool())).await.expect_err("cut");
    let partial = error.partial().expect("attached");
    assert!(partial.text().starts_with(r#"{"city"#), "{partial:?}");
    assert!(
        partial.usage.is_estimated && partial.usage.total() >= 15,
        "{:?}",
        partial.usage
    );
    let error = model.chat(request().tool(tool())).await.expect_err("refused");
    let failure = error.vendor_failure().expect("of the vendor");
    assert_eq!(failure.usage.as_ref().map(stepwell_core::Usage::total), Some(15));
    assert!(failure.output_started, "the first phase cannot be taken back");
}

#[tokio::test]
async fn an_answer_of_another_shape_is_asked_for_again_with_its_faults_where_that_is_wanted() {
    for wire in WIRES {
        let (wrong, right) = (r#"{"city":"Oslo","days":99}"#, r#"{"city":"Oslo","days":9}"#);
        let says = [wrong, wrong, right, wrong, wrong, wrong];
        let server = Server::start(says.iter().map(|text| wire.says(text)).collect()).await;
        let model = wire.model(&server.url, wire.able());
        let answer = model
            .chat_as_mended::<Trip>(request(), 2)
            .await
            .expect("the third is right");
        assert_eq!(answer.value.days, 9, "{wire:?}");
        let attempts = &answer.response.attempts;
        let told: Vec<(&str, u64)> = attempts
            .iter()
            .map(|attempt| {
                (
                    attempt.code.as_str(),
                    attempt.usage.as_ref().map_or(0, stepwell_core::Usage::total),
                )
            })
            .collect();
        assert_eq!(
            told,
            [("schema_mismatch", 15), ("schema_mismatch", 15)],
            "{wire:?}"
        );
        let last = String::from_utf8_lossy(&server.requests()[2].body).into_owned();
        assert_eq!(last.matches("`maximum` at /days").count(), 2, "{wire:?}: {last}");
        assert!(
            last.contains(r#"\"days\":99"#),
            "{wire:?}: its own words stand before it"
        );

        let error = model
            .chat_as_mended::<Trip>(request(), 1)
            .await
            .expect_err("wrong twice");
        let partial = error.partial().expect("attached");
        assert_eq!(
            (error.code(), partial.attempts.len()),
            ("schema_mismatch", 1),
            "{wire:?}"
        );
        model.chat_as::<Trip>(request()).await.expect_err("once is once");
        assert_eq!(server.requests().len(), 6, "{wire:?}");
    }
}

#[tokio::test]
async fn a_refusal_a_cut_answer_and_a_call_are_not_asked_for_again() {
    let wire = Wire::Completions;
    let end = |delta: Value, reason: &str| {
        let events = [
            json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": delta }] }),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }),
        ];
        sse(&events, false, "data: [DONE]\n\n")
    };
    let server = Server::start(vec![
        end(json!({ "refusal": "No." }), "stop"),
        end(json!({ "content": "{\"city\":\"Os" }), "length"),
        wire.calls(&[("look", "{}")]),
    ])
    .await;
    let model = wire.model(&server.url, "gpt-4o");
    for _ in 0..3 {
        let asked = request().tool(tool());
        let error = model.chat_as_mended::<Trip>(asked, 3).await.expect_err("no trip");
        assert_eq!(error.code(), "schema_mismatch");
    }
    assert_eq!(server.requests().len(), 3);
}
