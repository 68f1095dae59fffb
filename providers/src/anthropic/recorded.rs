//! The recorded exchanges of the Messages API, all of them.
//!
//! Not decoded to an answer, and checked as what they are:
//! - `anthropic-messages-98a3a919d4` is a failure after status 200;
//! - `anthropic-messages-40d58d0daf` and `anthropic-messages-ec8cb75783` (files of a vendor's test suite, not
//!   recordings) have no blank line behind their last event, so by the algorithm of event streams that event,
//!   the end mark, never happened: the answer is truncated.

use super::{Anthropic, decode, encode, failure, stream::Messages, wire};
use crate::{
    answer::{Out, replay},
    fixtures::{Act, Exchange, Framing, Gist, Random, Server, cuts, exchanges, http_answer, shown},
    http::HttpOptions,
};
use serde_json::{Map, Value, json};
use std::time::Duration;
use stepwell_core::{
    CacheMode, CachePoint, ChatModel, ChatRequest, ChatResponse, Error, Fold, MediaSource, Message,
    ModelInfo, Origin, Part, ReasoningEffort, Result, Role, Schema, StreamEvent, ToolCall, ToolChoice,
    ToolSpec, VendorFailure,
};

const FAILED_STREAM: &str = "anthropic-messages-98a3a919d4";
const UNENDED_STREAMS: [&str; 2] = ["anthropic-messages-40d58d0daf", "anthropic-messages-ec8cb75783"];
const MODEL: &str = "claude-test";

fn is_broken(exchange: &Exchange) -> bool {
    exchange.id == FAILED_STREAM || UNENDED_STREAMS.contains(&exchange.id.as_str())
}

fn fold(events: impl IntoIterator<Item = StreamEvent>) -> Result<ChatResponse> {
    let mut fold = Fold::new("anthropic", MODEL, false);
    for event in events {
        fold.push(event)?;
    }
    fold.finish()
}

fn whole(body: &str) -> Result<ChatResponse> {
    fold(decode::body(MODEL, body.as_bytes())?)
}

async fn streamed(exchange: &Exchange) -> ChatResponse {
    let (events, error) = replay(&[exchange.body.as_bytes()], Messages::new(MODEL), "anthropic").await;
    assert!(error.is_none(), "{}: {error:?}", exchange.id);
    fold(events).unwrap_or_else(|error| panic!("{}: {error}", exchange.id))
}

fn tokens(usage: &Value) -> u64 {
    [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ]
    .iter()
    .filter_map(|key| usage[key].as_u64())
    .sum()
}

fn gist_of_blocks(blocks: &[Value]) -> Gist {
    let mut gist = Gist::default();
    for block in blocks {
        gist.text.push_str(block["text"].as_str().unwrap_or(""));
        gist.reasoning.push_str(block["thinking"].as_str().unwrap_or(""));
        if block["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("tool_use"))
        {
            let name = block["name"].as_str().expect("a name").to_owned();
            gist.calls.push((name, block["input"].clone()));
        }
    }
    gist
}

/// The blocks of a stream, put together with `Value`s alone.
fn blocks_of_stream(exchange: &Exchange) -> (Vec<Value>, Value, Map<String, Value>) {
    let (mut blocks, mut stop, mut usage) = (Vec::<Value>::new(), Value::Null, Map::new());
    let mut inputs: Vec<String> = Vec::new();
    for event in exchange.data() {
        match event["type"].as_str() {
            Some("message_start") => {
                usage.extend(event["message"]["usage"].as_object().cloned().unwrap_or_default());
            }
            Some("content_block_start") => {
                blocks.push(event["content_block"].clone());
                inputs.push(String::new());
            }
            Some("content_block_delta") => {
                let at = usize::try_from(event["index"].as_u64().expect("an index")).expect("small");
                let delta = &event["delta"];
                for key in ["text", "thinking", "signature"] {
                    if let Some(piece) = delta[key].as_str() {
                        let so_far = blocks[at][key].as_str().unwrap_or("").to_owned();
                        blocks[at][key] = json!(so_far + piece);
                    }
                }
                inputs[at].push_str(delta["partial_json"].as_str().unwrap_or(""));
            }
            Some("message_delta") => {
                stop = event["delta"]["stop_reason"].clone();
                usage.extend(event["usage"].as_object().cloned().unwrap_or_default());
            }
            _ => {}
        }
    }
    for (block, input) in blocks.iter_mut().zip(inputs) {
        if !input.is_empty() {
            block["input"] = Gist::arguments(&input);
        }
    }
    (blocks, stop, usage)
}

#[tokio::test]
async fn every_streamed_answer_says_what_its_raw_events_say_however_it_is_cut() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    let mut random = Random::new(11);
    let mut count = 0;
    for exchange in all
        .iter()
        .filter(|exchange| exchange.is_stream() && !is_broken(exchange))
    {
        let bytes = exchange.body.as_bytes();
        let (events, error) = replay(&[bytes], Messages::new(MODEL), "anthropic").await;
        assert!(error.is_none(), "{}: {error:?}", exchange.id);
        let crlf = exchange.body.replace('\n', "\r\n");
        for pieces in [
            bytes.chunks(1).collect(),
            random.cut(bytes),
            random.cut(bytes),
            random.cut(crlf.as_bytes()),
        ] {
            let again = replay(&pieces, Messages::new(MODEL), "anthropic").await;
            assert!(again.1.is_none() && again.0 == events, "{}", exchange.id);
        }
        let answer = fold(events).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let (blocks, stop, usage) = blocks_of_stream(exchange);
        let mut expected = gist_of_blocks(&blocks);
        expected.stop = stop.as_str().map(str::to_owned);
        expected.tokens = tokens(&Value::Object(usage));
        assert_eq!(Gist::of(&answer), expected, "{}", exchange.id);
        count += 1;
    }
    println!("{count} streams");
    assert!(count > 0);
}

#[test]
fn every_whole_answer_says_what_its_raw_body_says_and_goes_back_as_it_came() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    let mut count = 0;
    for exchange in all
        .iter()
        .filter(|exchange| exchange.status == 200 && !exchange.is_stream())
    {
        let body = reunited(&exchange.body);
        let raw: Value = serde_json::from_str(&body).expect("JSON");
        let answer = whole(&body).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let mut expected = gist_of_blocks(raw["content"].as_array().expect("blocks"));
        expected.stop = raw["stop_reason"].as_str().map(str::to_owned);
        expected.tokens = tokens(&raw["usage"]);
        assert_eq!(Gist::of(&answer), expected, "{}", exchange.id);
        assert_eq!(answer.id.as_deref(), raw["id"].as_str());
        assert_eq!(
            sent_back(answer),
            sendable(raw["content"].as_array().expect("blocks")),
            "{}",
            exchange.id
        );
        count += 1;
    }
    println!("{count} whole answers");
    assert!(count > 0);
}

/// A recorder renamed the ids of three exchanges where results of the vendor's own tools name them, but not where
/// the calls do: the n-th name stands for the n-th call.
fn reunited(body: &str) -> String {
    let raw: Value = serde_json::from_str(body).expect("JSON");
    let calls = raw["content"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|block| block["type"] == "server_tool_use");
    let mut body = body.to_owned();
    for (number, call) in calls.enumerate() {
        let renamed = format!("\"tool_use_id\":\"toolu_REDACTED_{}\"", number + 1);
        body = body.replace(&renamed, &format!("\"tool_use_id\":{}", call["id"]));
    }
    body
}

/// The blocks of an answer as the next request carries them.
fn sent_back(answer: ChatResponse) -> Vec<Value> {
    let request = ChatRequest::new([Message::user("?"), answer.message, Message::user("go on")]);
    let encoded = encode::chat(&ModelInfo::new("anthropic", MODEL), &request).expect("encodes");
    let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
    let turns = body["messages"].as_array().expect("turns");
    if turns.len() == 1 {
        return Vec::new(); // an empty answer has no turn
    }
    turns[1]["content"].as_array().expect("blocks").clone()
}

/// What of recorded blocks goes back: all of it, but texts of blanks alone (the vendor refuses its own), empty citation lists, and the default caller.
fn sendable(blocks: &[Value]) -> Vec<Value> {
    blocks
        .iter()
        .filter(|block| {
            block["type"] != "text" || block["text"].as_str().is_some_and(|text| !text.trim().is_empty())
        })
        .cloned()
        .map(|mut block| {
            let fields = block.as_object_mut().expect("an object");
            if fields
                .get("citations")
                .is_some_and(|list| list.as_array().is_none_or(Vec::is_empty))
            {
                fields.shift_remove("citations");
            }
            if fields["type"] == "tool_use"
                && fields
                    .get("caller")
                    .is_some_and(|caller| caller["type"] == "direct")
            {
                fields.shift_remove("caller");
            }
            block
        })
        .collect()
}

#[tokio::test]
async fn thoughts_and_signatures_of_streams_go_back_byte_for_byte_and_to_no_other_model() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    let is_thought = |block: &Value| matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"));
    let mut count = 0;
    for exchange in all
        .iter()
        .filter(|exchange| exchange.is_stream() && !is_broken(exchange))
    {
        let (blocks, ..) = blocks_of_stream(exchange);
        let thoughts: Vec<Value> = blocks.into_iter().filter(&is_thought).collect();
        if thoughts.is_empty() {
            continue;
        }
        let answer = streamed(exchange).await;
        let back: Vec<Value> = sent_back(answer.clone())
            .into_iter()
            .filter(&is_thought)
            .collect();
        assert_eq!(back, thoughts, "{}", exchange.id);
        let request = ChatRequest::new([Message::user("?"), answer.message, Message::user("go on")]);
        let other = encode::chat(&ModelInfo::new("anthropic", "claude-other"), &request).expect("encodes");
        let body = String::from_utf8(other.body).expect("UTF-8");
        assert!(!body.contains("thinking\""), "{}", exchange.id);
        assert!(
            other
                .warnings
                .iter()
                .any(|warning| warning.message.starts_with("reasoning_dropped"))
        );
        count += 1;
    }
    println!("{count} streams with thoughts");
    assert!(count > 0);
}

#[tokio::test]
async fn every_recorded_failure_has_its_type() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    let mut count = 0;
    for exchange in all.iter().filter(|exchange| exchange.status != 200) {
        let mut failed = VendorFailure::new("anthropic");
        failed.status = Some(exchange.status);
        let error = failure::error(failed, exchange.body.as_bytes(), &super::VENDOR, MODEL);
        let expected = match exchange.status {
            400 => "rejected",
            404 => "not_found",
            status => panic!("{}: status {status} is new; say what it means", exchange.id),
        };
        assert_eq!(error.code(), expected, "{}", exchange.id);
        assert!(!error.is_retryable());
        let raw: Value = serde_json::from_str(&exchange.body).expect("JSON");
        let words = raw["error"]["message"].as_str().expect("a sentence");
        assert!(!shown(&error).contains(words), "{}", exchange.id);
        count += 1;
    }
    let failed = all
        .iter()
        .find(|exchange| exchange.id == FAILED_STREAM)
        .expect("recorded");
    let (events, error) = replay(&[failed.body.as_bytes()], Messages::new(MODEL), "anthropic").await;
    let error = error.expect("a failure");
    assert!(events.is_empty(), "it comes first, so it fails the call");
    assert_eq!((error.code(), error.is_retryable()), ("overloaded", true));
    for id in UNENDED_STREAMS {
        let unended = all.iter().find(|exchange| exchange.id == id).expect("recorded");
        let body = unended.body.as_bytes();
        let (_, error) = replay(&[body], Messages::new(MODEL), "anthropic").await;
        assert_eq!(error.expect("no end mark").code(), "stream_truncated", "{id}");
        // With the blank line it is a whole answer.
        let (events, error) = replay(&[body, b"\n\n"], Messages::new(MODEL), "anthropic").await;
        assert!(error.is_none(), "{id}: {error:?}");
        let answer = fold(events).expect("whole");
        assert_eq!(
            answer.raw_finish_reason.as_deref(),
            blocks_of_stream(unended).1.as_str(),
            "{id}"
        );
    }
    println!("{count} failures by status, 1 inside a stream, 2 streams without their end");
    assert!(count > 0);
}

fn model(url: &str) -> Anthropic {
    Anthropic::new(MODEL)
        .api_key("sk-ant-canary-key")
        .base_url(url)
        .http(HttpOptions::default().idle_timeout(Duration::from_secs(5)))
        .build()
        .expect("builds")
}

fn headers(exchange: &Exchange) -> Vec<(&str, &str)> {
    exchange
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[tokio::test]
async fn over_a_socket_the_client_gives_what_was_recorded_and_sends_what_is_documented() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    let sample: Vec<&Exchange> = all
        .iter()
        .filter(|exchange| !exchange.headers.is_empty() && !is_broken(exchange))
        .collect();
    let framings = [Framing::Length, Framing::Chunks, Framing::Close];
    let server = Server::start(
        sample
            .iter()
            .enumerate()
            .map(|(at, exchange)| {
                let body = exchange.body.as_bytes();
                vec![Act::Send(http_answer(
                    exchange.status,
                    &headers(exchange),
                    body,
                    framings[at % 3],
                ))]
            })
            .collect(),
    )
    .await;
    let model = model(&server.url);
    for exchange in &sample {
        let answer = model.chat("Hello".into()).await;
        if exchange.status != 200 {
            assert!(answer.is_err(), "{}", exchange.id);
            continue;
        }
        let mut answer = answer.unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let expected = if exchange.is_stream() {
            streamed(exchange).await
        } else {
            whole(&exchange.body).expect("decodes")
        };
        let has_limits = exchange
            .headers
            .iter()
            .any(|(name, _)| name.contains("ratelimit"));
        assert_eq!(!answer.rate_limits.is_empty(), has_limits, "{}", exchange.id);
        let request_id = exchange.headers.iter().find(|(name, _)| name == "request-id");
        assert_eq!(answer.request_id.as_ref(), request_id.map(|(_, id)| id));
        (answer.rate_limits, answer.request_id) = (Vec::new(), None);
        assert_eq!(answer, expected, "{}", exchange.id);
    }
    let requests = server.requests();
    assert_eq!(requests.len(), sample.len());
    for request in requests {
        assert_eq!(request.path, "/v1/messages");
        assert_eq!(request.header("x-api-key"), Some("sk-ant-canary-key"));
        assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(
            request.json(),
            json!({ "model": MODEL, "max_tokens": 8192, "stream": true,
                "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Hello" }] }] })
        );
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_never_a_whole_answer_before_its_end_mark() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    // One with tools, one with thoughts; each over every way a connection can end.
    let picked: Vec<&Exchange> = ["\"tool_use\"", "\"thinking_delta\""]
        .iter()
        .map(|mark| {
            all.iter()
                .filter(|exchange| exchange.is_stream() && exchange.body.contains(mark))
                .min_by_key(|exchange| exchange.body.len())
                .expect("recorded")
        })
        .collect();
    for exchange in picked {
        let full = streamed(exchange).await;
        let mark = exchange.body.rfind("\"message_stop\"").expect("an end mark");
        let end = mark + exchange.body[mark..].find("\n\n").expect("the end of the event") + 2;
        for framing in [Framing::Close, Framing::Chunks] {
            let answer = http_answer(
                200,
                &[("content-type", "text/event-stream")],
                exchange.body.as_bytes(),
                framing,
            );
            let head = answer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .expect("a head")
                + 4;
            let places: Vec<usize> = cuts(answer.len() - head).map(|at| head + at).collect();
            let scripts = places
                .iter()
                .map(|at| vec![Act::Send(answer[..*at].to_vec())])
                .collect();
            let server = Server::start(scripts).await;
            let model = model(&server.url);
            let mut whole = 0;
            for at in &places {
                match model.chat("Hello".into()).await {
                    Ok(answer) => {
                        assert_eq!(answer, full);
                        assert!(
                            framing == Framing::Chunks || at - head >= end,
                            "{} at {at}",
                            exchange.id
                        );
                        whole += 1;
                    }
                    Err(Error::StreamTruncated { partial, .. }) => {
                        assert!(
                            full.text().starts_with(&partial.text()),
                            "{} at {at}",
                            exchange.id
                        );
                    }
                    // Nothing had been said yet.
                    Err(Error::Transport { .. }) => {
                        assert!(framing == Framing::Chunks, "{} at {at}", exchange.id);
                    }
                    Err(error) => panic!("{} at {at}: {error:?}", exchange.id),
                }
            }
            // Chunk marks make the body a little longer than its events: a few cuts fall behind the end mark.
            assert!(whole <= 3 + places.len() / 20, "{whole} of {}", places.len());
            println!(
                "{}: {} cuts, {framing:?}, {whole} behind the end mark",
                exchange.id,
                places.len()
            );
        }
    }
}

#[tokio::test]
async fn no_key_and_no_prompt_is_ever_shown_by_an_error() {
    let echo = "you said canary-prompt with key sk-ant-canary-key";
    let json_failure = json!({ "type": "error", "request_id": echo,
        "error": { "type": echo, "message": echo } })
    .to_string();
    let stream_failure = format!("event: error\ndata: {json_failure}\n\n");
    let started = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{}}}\n\n";
    // A model that repeats its prompt, and a connection that breaks then: the partial answer is in the error.
    let said = |text: &str| {
        format!(
            "data: {}\n\n",
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })
        )
    };
    let mut answers: Vec<(u16, &str, String)> = [400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 529]
        .into_iter()
        .flat_map(|status| {
            [
                (status, "application/json", json_failure.clone()),
                (status, "text/plain", echo.to_owned()),
            ]
        })
        .collect();
    answers.extend([
        (200, "application/json", json_failure.clone()),
        (
            200,
            "application/json",
            format!("{{\"type\":\"message\",\"content\":\"{echo}\"}}"),
        ),
        (200, "application/json", echo.to_owned()),
        (200, "text/html", echo.to_owned()),
        (200, "text/event-stream", stream_failure.clone()),
        (200, "text/event-stream", format!("{started}{stream_failure}")),
        (
            200,
            "text/event-stream",
            format!("{started}data: {{\"type\":\"message_delta\",\"usage\":\"{echo}\"}}\n\n"),
        ),
        (200, "text/event-stream", format!("data: {echo}\n\n")),
        (200, "text/event-stream", format!("{started}{}", said(echo))),
        (302, "text/plain", echo.to_owned()),
    ]);
    let server = Server::start(
        answers
            .iter()
            .map(|(status, kind, body)| {
                let headers = [("content-type", *kind), ("request-id", "sk-ant-canary-key")];
                vec![Act::Send(http_answer(
                    *status,
                    &headers,
                    body.as_bytes(),
                    Framing::Length,
                ))]
            })
            .collect(),
    )
    .await;
    let model = model(&server.url);
    assert!(!format!("{model:?}").contains("canary"));
    for (status, kind, body) in &answers {
        let error = model
            .chat("canary-prompt".into())
            .await
            .expect_err("each of them is a failure");
        assert!(
            !shown(&error).contains("canary"),
            "{status} {kind} {body}: {}",
            shown(&error)
        );
    }
    let error = model
        .chat("canary-prompt".into())
        .await
        .expect_err("the server is gone");
    assert!(!shown(&error).contains("canary"), "{}", shown(&error));
}

// ---- requests ----

/// A recorded request in our words; `None` where it uses what our request has no word for.
fn rebuilt(body: &Value) -> Option<ChatRequest> {
    let mut request = ChatRequest::default();
    let point = |block: &Value| match &block["cache_control"] {
        Value::Null => None,
        control => Some(if control["ttl"] == "1h" {
            CachePoint::Long
        } else {
            CachePoint::Short
        }),
    };
    let text_part = |block: &Value, origin: Origin| {
        let mut part = Part::text(block["text"].as_str().expect("a text"), origin);
        if let Part::Text(text) = &mut part {
            text.cache = point(block);
        }
        part
    };
    let blocks = |content: &Value| match content {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    };
    let system = blocks(&body["system"]);
    if !system.is_empty() {
        let parts: Vec<Part> = system
            .iter()
            .map(|block| text_part(block, Origin::System))
            .collect();
        request.messages.push(Message::new(Role::System, parts));
    }
    for turn in body["messages"].as_array()? {
        let is_user = turn["role"] == "user";
        let mut parts = Vec::new();
        for block in blocks(&turn["content"]) {
            parts.push(match block["type"].as_str()? {
                "text" => text_part(&block, if is_user { Origin::User } else { Origin::Model }),
                "image" if block["source"]["type"] == "url" => Part::media(
                    "image/jpeg",
                    MediaSource::Url(block["source"]["url"].as_str()?.into()),
                ),
                "document" if block["source"]["type"] == "url" && block.get("citations").is_none() => {
                    Part::media(
                        "application/pdf",
                        MediaSource::Url(block["source"]["url"].as_str()?.into()),
                    )
                }
                "document" if block["source"]["type"] == "file" => Part::media(
                    "application/pdf",
                    MediaSource::FileId(block["source"]["file_id"].as_str()?.into()),
                ),
                "tool_use" => Part::tool_call(
                    block["id"].as_str()?,
                    block["name"].as_str()?,
                    block["input"].clone(),
                ),
                "thinking" => {
                    let token = stepwell_core::Opaque {
                        provider: "anthropic".into(),
                        model: body["model"].as_str()?.into(),
                        value: block["signature"].clone(),
                    };
                    Part::reasoning(block["thinking"].as_str()?, Some(token))
                }
                "tool_result" => {
                    let call = ToolCall::new(block["tool_use_id"].as_str()?, "", json!({}));
                    let parts = blocks(&block["content"])
                        .iter()
                        .map(|block| block["text"].as_str().map(|text| Part::text(text, Origin::Tool)))
                        .collect::<Option<Vec<Part>>>()?;
                    let mut part = Part::tool_result(&call, parts, block["is_error"] == true, Origin::Tool);
                    if let Part::ToolResult(result) = &mut part {
                        result.cache = point(&block);
                    }
                    part
                }
                _ => return None,
            });
        }
        let role = if is_user { Role::User } else { Role::Assistant };
        request.messages.push(Message::new(role, parts));
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        if tool.get("type").is_some() || tool.get("strict").is_some() || tool.get("cache_control").is_some() {
            return None;
        }
        let schema = Schema::from_value(tool["input_schema"].clone()).ok()?;
        let spec = ToolSpec::new(
            tool["name"].as_str()?,
            tool["description"].as_str().unwrap_or(""),
            &schema,
        );
        request.tools.push(spec.ok()?);
    }
    request.tool_choice = match body["tool_choice"]["type"].as_str() {
        None | Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Any,
        Some("none") => ToolChoice::None,
        Some(_) => ToolChoice::Named(body["tool_choice"]["name"].as_str()?.to_owned()),
    };
    request.max_output_tokens = body["max_tokens"].as_u64();
    request.temperature = body["temperature"].as_f64();
    request.stop_sequences = body["stop_sequences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|stop| stop.as_str().map(str::to_owned))
        .collect();
    request.reasoning.budget_tokens = body["thinking"]["budget_tokens"].as_u64();
    let known = [
        "model",
        "system",
        "messages",
        "tools",
        "tool_choice",
        "max_tokens",
        "temperature",
        "stop_sequences",
        "thinking",
        "stream",
    ];
    let is_known = body.as_object()?.keys().all(|key| known.contains(&key.as_str()));
    let is_adaptive = body["thinking"]["type"] == "adaptive";
    (is_known && !is_adaptive).then_some(request)
}

/// Strings as blocks, defaults left out: two bodies that mean the same are the same.
fn plain(body: &Value) -> Value {
    let mut body = body.clone();
    let as_blocks = |content: &mut Value| {
        if let Value::String(text) = content {
            *content = json!([{ "type": "text", "text": text }]);
        }
    };
    let fields = body.as_object_mut().expect("an object");
    fields.shift_remove("stream");
    if fields
        .get("tool_choice")
        .is_some_and(|choice| choice["type"] == "auto")
    {
        fields.shift_remove("tool_choice");
    }
    if fields
        .get("tools")
        .is_some_and(|tools| tools.as_array().is_some_and(Vec::is_empty))
    {
        fields.shift_remove("tools");
    }
    if let Some(system) = fields.get_mut("system") {
        as_blocks(system);
    }
    for turn in fields["messages"].as_array_mut().expect("turns") {
        as_blocks(&mut turn["content"]);
        for block in turn["content"].as_array_mut().expect("blocks") {
            if block["type"] == "tool_result" {
                as_blocks(&mut block["content"]);
                if block["is_error"] == false {
                    block.as_object_mut().expect("an object").shift_remove("is_error");
                }
            }
        }
    }
    if let Some(temperature) = fields.get("temperature").and_then(Value::as_f64) {
        fields.insert("temperature".into(), json!(temperature)); // 1 and 1.0 are one
    }
    body
}

#[test]
fn recorded_requests_said_in_our_words_are_the_recorded_requests() {
    let Some(all) = exchanges("anthropic", "messages") else {
        return;
    };
    let mut same = 0;
    for exchange in all.iter().filter(|exchange| exchange.request.is_object()) {
        let Some(request) = rebuilt(&exchange.request) else {
            continue;
        };
        let info = ModelInfo::new("anthropic", exchange.request["model"].as_str().expect("a model"));
        let encoded =
            encode::chat(&info, &request).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let again = encode::chat(&info, &request.clone()).expect("encodes");
        assert_eq!(encoded.body, again.body, "the same request gives the same bytes");
        let sent: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        assert_eq!(plain(&sent), plain(&exchange.request), "{}", exchange.id);
        let uses_files = exchange.request.to_string().contains("file_id");
        assert_eq!(
            encoded.betas.contains(&"files-api-2025-04-14".to_owned()),
            uses_files
        );
        same += 1;
    }
    println!("{same} requests rebuilt and equal");
    assert!(same >= 12, "only {same}");
}

#[test]
fn results_come_first_in_one_turn_and_foreign_ids_are_made_to_fit() {
    let call = ToolCall::new("call:1", "look", json!({}));
    let request = ChatRequest::new([
        Message::user("look"),
        Message::new(Role::Assistant, vec![Part::ToolCall(call.clone())]),
        Message::user("quick!"),
        Message::tool(vec![Part::tool_result(
            &call,
            vec![Part::data("n", json!({ "n": 1 }), Origin::Tool)],
            true,
            Origin::Tool,
        )]),
    ]);
    let encoded = encode::chat(&ModelInfo::new("anthropic", MODEL), &request).expect("encodes");
    let sent: Value = serde_json::from_slice(&encoded.body).expect("JSON");
    assert_eq!(
        sent["messages"][2],
        json!({ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "call_1", "content": [{ "type": "text", "text": "{\"n\":1}" }], "is_error": true },
            { "type": "text", "text": "quick!" }] })
    );
    assert_eq!(sent["messages"][1]["content"][0]["id"], "call_1");
}

#[test]
fn cache_points_stay_within_the_vendors_number_and_automatic_ones_stand_at_the_ends() {
    let mut request = ChatRequest::new([
        Message::system("rules"),
        Message::user("a"),
        Message::assistant("b"),
        Message::user("c"),
    ]);
    request.cache = CacheMode::Automatic;
    let info = ModelInfo::new("anthropic", MODEL);
    let sent = |request: &ChatRequest| -> Value {
        serde_json::from_slice(&encode::chat(&info, request).expect("encodes").body).expect("JSON")
    };
    let body = sent(&request);
    assert_eq!(body["system"][0]["cache_control"], json!({ "type": "ephemeral" }));
    assert_eq!(
        body["messages"][2]["content"][0]["cache_control"],
        json!({ "type": "ephemeral" })
    );
    assert!(body["messages"][0]["content"][0].get("cache_control").is_none());
    for message in &mut request.messages {
        for _ in 0..3 {
            message.parts.push(Part::text("x", Origin::User));
        }
        for part in &mut message.parts {
            if let Part::Text(text) = part {
                text.cache = Some(CachePoint::Long);
            }
        }
    }
    request.cache = CacheMode::Points;
    assert_eq!(sent(&request).to_string().matches("cache_control").count(), 4);
}

#[test]
fn thinking_follows_the_generation_of_the_model_and_takes_sampling_away() {
    let mut request = ChatRequest::from("hi").temperature(0.5).max_output_tokens(4000);
    request.reasoning.effort = Some(ReasoningEffort::High);
    let sent = |model: &str| -> (Value, usize) {
        let encoded = encode::chat(&ModelInfo::new("anthropic", model), &request).expect("encodes");
        (
            serde_json::from_slice(&encoded.body).expect("JSON"),
            encoded.warnings.len(),
        )
    };
    let (new, warnings) = sent("claude-sonnet-5");
    assert_eq!(new["thinking"], json!({ "type": "adaptive" }));
    assert_eq!(new["output_config"], json!({ "effort": "high" }));
    assert_eq!((new.get("temperature"), warnings), (None, 1));
    let (old, _) = sent("claude-sonnet-4-5-20250929");
    assert_eq!(
        old["thinking"],
        json!({ "type": "enabled", "budget_tokens": 2976 })
    );
    assert!(old.get("output_config").is_none());
}

#[test]
fn what_the_wire_cannot_say_is_refused_or_warned_about_before_anything_is_sent() {
    let info = ModelInfo::new("anthropic", MODEL);
    let audio = Message::new(
        Role::User,
        vec![Part::media(
            "audio/wav",
            MediaSource::Bytes(bytes::Bytes::from_static(b"RIFF")),
        )],
    );
    assert_eq!(
        encode::chat(&info, &ChatRequest::new([audio]))
            .expect_err("no sound")
            .code(),
        "unsupported"
    );
    let named = ChatRequest::from("hi").tool_choice(ToolChoice::Named("nothing".into()));
    assert_eq!(
        encode::chat(&info, &named).expect_err("no such tool").code(),
        "invalid_input"
    );
    let odd = ChatRequest::from("hi").provider_option("anthropic", json!([1]));
    assert_eq!(
        encode::chat(&info, &odd).expect_err("no object").code(),
        "invalid_input"
    );
    let mut request = ChatRequest::from("hi")
        .provider_option("anthropic", json!({ "betas": ["b-1"], "service_tier": "auto" }));
    request.seed = Some(1);
    let encoded = encode::chat(&info, &request).expect("encodes");
    assert_eq!(
        (encoded.warnings.len(), encoded.betas),
        (1, vec!["b-1".to_owned()])
    );
    let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
    assert_eq!(
        (body["service_tier"].as_str(), body.get("betas")),
        (Some("auto"), None)
    );
}

#[test]
fn a_message_that_is_no_message_is_told_as_one_sentence() {
    let mut out = Out::new();
    let message: wire::Message<'_> = serde_json::from_str("{}").expect("all fields may be missing");
    assert!(Messages::new(MODEL).message(message, &mut out).is_ok());
    for body in ["{}", "[]", "{\"type\":\"list\"}", "not JSON", "\u{0}"] {
        assert_eq!(
            decode::body(MODEL, body.as_bytes()).expect_err(body).code(),
            "invalid_response"
        );
    }
}
