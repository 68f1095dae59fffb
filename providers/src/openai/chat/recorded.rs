//! The recorded exchanges of Chat Completions, all of them.
//!
//! Not decoded: `openai-chat_completions-7adabae258`, whose recorder kept the body as base64 of its bytes; it is
//! decoded from base64 first.

use super::{decode, encode, stream::Completion};
use crate::{
    answer::replay,
    fixtures::{Act, Exchange, Framing, Gist, Random, Server, cuts, exchanges, http_answer, shown},
    openai::{Dialect, OpenAi, VENDOR, failure},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Fold, MediaSource, Message, ModelInfo, Origin,
    Part, Result, Role, Schema, StreamEvent, ToolCall, ToolChoice, ToolSpec, VendorFailure,
};

const BASE64_BODY: &str = "openai-chat_completions-7adabae258";
const MODEL: &str = "gpt-4o";

fn all() -> Option<Vec<Exchange>> {
    let mut all = exchanges("openai", "chat_completions")?;
    for exchange in &mut all {
        if exchange.id == BASE64_BODY {
            let bytes = STANDARD.decode(&exchange.body).expect("base64");
            exchange.body = String::from_utf8(bytes).expect("UTF-8");
        }
    }
    Some(all)
}

fn fold(events: impl IntoIterator<Item = StreamEvent>) -> Result<ChatResponse> {
    let mut fold = Fold::new("openai", MODEL, false);
    for event in events {
        fold.push(event)?;
    }
    fold.finish()
}

fn whole(body: &str) -> Result<ChatResponse> {
    fold(decode::body(&Dialect::openai(), MODEL, body.as_bytes())?)
}

async fn streamed(exchange: &Exchange) -> ChatResponse {
    let (events, error) = replay(
        &[exchange.body.as_bytes()],
        Completion::new(Dialect::openai(), MODEL),
        "openai",
    )
    .await;
    assert!(error.is_none(), "{}: {error:?}", exchange.id);
    fold(events).unwrap_or_else(|error| panic!("{}: {error}", exchange.id))
}

/// What the vendor says, and its refusal.
fn raw_gist(messages: &[Value], finish: &Value, usage: &Value) -> (Gist, Option<String>) {
    let (mut gist, mut refusal) = (Gist::default(), String::new());
    let mut calls: Vec<(String, String)> = Vec::new();
    for message in messages {
        gist.text.push_str(message["content"].as_str().unwrap_or(""));
        gist.text
            .push_str(message["audio"]["transcript"].as_str().unwrap_or(""));
        refusal.push_str(message["refusal"].as_str().unwrap_or(""));
        for (at, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let at = call["index"]
                .as_u64()
                .map_or(at, |at| usize::try_from(at).expect("small"));
            if calls.len() <= at {
                calls.resize(at + 1, (String::new(), String::new()));
            }
            calls[at]
                .0
                .push_str(call["function"]["name"].as_str().unwrap_or(""));
            calls[at]
                .1
                .push_str(call["function"]["arguments"].as_str().unwrap_or(""));
        }
    }
    gist.calls = calls
        .into_iter()
        .map(|(name, arguments)| (name, Gist::arguments(&arguments)))
        .collect();
    gist.stop = finish.as_str().map(str::to_owned);
    gist.tokens = usage["total_tokens"].as_u64().unwrap_or(0);
    (gist, (!refusal.is_empty()).then_some(refusal))
}

fn check(exchange: &Exchange, answer: &ChatResponse, expected: (Gist, Option<String>)) {
    assert_eq!(Gist::of(answer), expected.0, "{}", exchange.id);
    if let Some(refusal) = expected.1 {
        assert_eq!(answer.finish_reason, FinishReason::ContentFilter);
        let told = answer.refusal.as_ref().and_then(|told| told.message.clone());
        assert_eq!(told, Some(refusal), "{}", exchange.id);
    } else {
        assert_eq!(
            answer.finish_reason == FinishReason::ToolCalls,
            answer.message.tool_calls().next().is_some() && expected.0.stop.as_deref() != Some("length"),
            "{}",
            exchange.id
        );
    }
}

#[tokio::test]
async fn every_streamed_answer_says_what_its_raw_chunks_say_however_it_is_cut() {
    let Some(all) = all() else { return };
    let mut random = Random::new(13);
    let mut count = 0;
    for exchange in all.iter().filter(|exchange| exchange.is_stream()) {
        let bytes = exchange.body.as_bytes();
        let (events, error) = replay(&[bytes], Completion::new(Dialect::openai(), MODEL), "openai").await;
        assert!(error.is_none(), "{}: {error:?}", exchange.id);
        let crlf = exchange.body.replace('\n', "\r\n");
        for pieces in [
            bytes.chunks(1).collect(),
            random.cut(bytes),
            random.cut(bytes),
            random.cut(crlf.as_bytes()),
        ] {
            let again = replay(&pieces, Completion::new(Dialect::openai(), MODEL), "openai").await;
            assert!(again.1.is_none() && again.0 == events, "{}", exchange.id);
        }
        let answer = fold(events).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let (mut messages, mut finish, mut usage) = (Vec::new(), Value::Null, Value::Null);
        for chunk in exchange.data() {
            let choices = chunk["choices"].as_array().cloned().unwrap_or_default();
            for choice in choices.iter().filter(|choice| choice["index"] == 0) {
                messages.push(choice["delta"].clone());
                if choice["finish_reason"].is_string() {
                    finish = choice["finish_reason"].clone();
                }
            }
            if chunk["usage"].is_object() {
                usage = chunk["usage"].clone();
            }
        }
        check(exchange, &answer, raw_gist(&messages, &finish, &usage));
        count += 1;
    }
    println!("{count} streams");
    assert!(count > 0);
}

#[test]
fn every_whole_answer_says_what_its_raw_body_says() {
    let Some(all) = all() else { return };
    let mut count = 0;
    for exchange in all
        .iter()
        .filter(|exchange| exchange.status == 200 && !exchange.is_stream())
    {
        let raw: Value = serde_json::from_str(&exchange.body).expect("JSON");
        let answer = whole(&exchange.body).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let choice = &raw["choices"][0];
        let expected = raw_gist(
            &[choice["message"].clone()],
            &choice["finish_reason"],
            &raw["usage"],
        );
        check(exchange, &answer, expected);
        assert_eq!(answer.id.as_deref(), raw["id"].as_str());
        let details = &raw["usage"]["prompt_tokens_details"];
        assert_eq!(answer.usage.cache_read_tokens, details["cached_tokens"].as_u64());
        count += 1;
    }
    println!("{count} whole answers");
    assert!(count > 0);
}

#[test]
fn every_recorded_failure_has_its_type() {
    let Some(all) = all() else { return };
    let mut count = 0;
    for exchange in all.iter().filter(|exchange| exchange.status != 200) {
        let mut failed = VendorFailure::new("openai");
        failed.status = Some(exchange.status);
        let error = failure::error(failed, exchange.body.as_bytes(), &VENDOR, MODEL);
        assert_eq!(
            exchange.status, 400,
            "{}: a new status; say what it means",
            exchange.id
        );
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("rejected", false),
            "{}",
            exchange.id
        );
        let raw: Value = serde_json::from_str(&exchange.body).expect("JSON");
        let words = raw["error"]["message"].as_str().expect("a sentence");
        assert!(!shown(&error).contains(words), "{}", exchange.id);
        assert_eq!(error.vendor_message(), Some(words));
        count += 1;
    }
    println!("{count} failures");
    assert!(count > 0);
}

fn model(url: &str) -> OpenAi {
    OpenAi::new(MODEL)
        .api_key("sk-canary-key")
        .base_url(format!("{url}/v1/"))
        .build()
        .expect("builds")
}

#[tokio::test]
async fn over_a_socket_the_client_gives_what_was_recorded_and_sends_what_is_documented() {
    let Some(all) = all() else { return };
    let framings = [Framing::Length, Framing::Chunks, Framing::Close];
    let server = Server::start(
        all.iter()
            .enumerate()
            .map(|(at, exchange)| {
                let headers: Vec<(&str, &str)> = exchange
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let body = exchange.body.as_bytes();
                vec![Act::Send(http_answer(
                    exchange.status,
                    &headers,
                    body,
                    framings[at % 3],
                ))]
            })
            .collect(),
    )
    .await;
    let model = model(&server.url);
    for exchange in &all {
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
        let request_id = exchange.headers.iter().find(|(name, _)| name == "x-request-id");
        assert_eq!(answer.request_id.as_ref(), request_id.map(|(_, id)| id));
        (answer.rate_limits, answer.request_id) = (Vec::new(), None);
        let price = model.info().price.as_ref().expect("the catalogue knows it");
        assert_eq!(answer.cost.take(), price.cost(&answer.usage), "{}", exchange.id);
        assert_eq!(answer, expected, "{}", exchange.id);
    }
    let requests = server.requests();
    assert_eq!(requests.len(), all.len());
    for request in requests {
        assert_eq!(request.path, "/v1/chat/completions");
        assert_eq!(request.header("authorization"), Some("Bearer sk-canary-key"));
        assert_eq!(
            request.json(),
            json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello" }], "stream": true,
                "stream_options": { "include_usage": true, "include_obfuscation": false } })
        );
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_never_a_whole_answer_before_its_finish_reason() {
    let Some(all) = all() else { return };
    let picked: Vec<&Exchange> = ["\"tool_calls\":[{", "\"refusal\":\"I"]
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
        let finish = full.raw_finish_reason.clone().expect("a reason");
        let mark = exchange
            .body
            .find(&format!("\"finish_reason\":\"{finish}\""))
            .expect("a finish chunk");
        let end = mark + exchange.body[mark..].find("\n\n").expect("the end of the event") + 2;
        for framing in [Framing::Close, Framing::Chunks] {
            let headers = [("content-type", "text/event-stream; charset=utf-8")];
            let answer = http_answer(200, &headers, exchange.body.as_bytes(), framing);
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
            let mut count = 0;
            for at in &places {
                match model.chat("Hello".into()).await {
                    Ok(answer) => {
                        // Behind the finish reason the words are whole; only the counts may be missing, and
                        // that is told.
                        assert_eq!(answer.message, full.message);
                        assert_eq!(answer.finish_reason, full.finish_reason);
                        assert!(answer.usage == full.usage || !answer.warnings.is_empty());
                        assert!(
                            framing == Framing::Chunks || at - head >= end,
                            "{} at {at}",
                            exchange.id
                        );
                        count += 1;
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
            let behind = (exchange.body.len() - end) / 7 + 3;
            if std::env::var_os("STEPWELL_LONG").is_none() {
                assert!(count <= behind + places.len() / 20, "{count} of {}", places.len());
            }
            println!(
                "{}: {} cuts, {framing:?}, {count} behind the finish reason",
                exchange.id,
                places.len()
            );
        }
    }
}

#[tokio::test]
async fn no_key_and_no_prompt_is_ever_shown_by_an_error() {
    let echo = "you said canary-prompt with key sk-canary-key";
    let body = json!({ "error": { "type": echo, "code": "sk-canary-key", "message": echo, "param": echo } })
        .to_string();
    let chunk = json!({ "id": "a", "choices": [{ "index": 0, "delta": { "content": "hi" } }] });
    let mut answers: Vec<(u16, &str, String)> = [400, 401, 402, 403, 404, 409, 422, 429, 500, 503]
        .into_iter()
        .flat_map(|status| {
            [
                (status, "application/json", body.clone()),
                (status, "text/html", echo.to_owned()),
            ]
        })
        .collect();
    answers.extend([
        (200, "application/json", body.clone()),
        (200, "application/json", format!("{{\"choices\":\"{echo}\"}}")),
        (200, "application/json", "{}".to_owned()),
        (200, "text/html", echo.to_owned()),
        (200, "text/event-stream", format!("data: {body}\n\n")),
        (
            200,
            "text/event-stream",
            format!("data: {chunk}\n\ndata: {body}\n\n"),
        ),
        (
            200,
            "text/event-stream",
            format!("data: {chunk}\n\ndata: {{\"choices\":\"{echo}\"}}\n\n"),
        ),
        (
            200,
            "text/event-stream",
            format!("event: error\ndata: {echo}\n\n"),
        ),
        (200, "text/event-stream", "data: [DONE]\n\n".to_owned()),
        (308, "text/plain", echo.to_owned()),
    ]);
    let server = Server::start(
        answers
            .iter()
            .map(|(status, kind, body)| {
                let headers = [("content-type", *kind), ("x-request-id", "sk-canary-key")];
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
}

// ---- requests ----

/// A recorded request in our words; `None` where it uses what our request has no word for.
fn rebuilt(body: &Value) -> Option<ChatRequest> {
    let mut request = ChatRequest::default();
    for turn in body["messages"].as_array()? {
        let (role, origin) = match turn["role"].as_str()? {
            "system" => (Role::System, Origin::System),
            "developer" => (Role::Developer, Origin::System),
            "user" => (Role::User, Origin::User),
            "assistant" => (Role::Assistant, Origin::Model),
            "tool" => (Role::Tool, Origin::Tool),
            _ => return None,
        };
        let mut parts = Vec::new();
        match &turn["content"] {
            Value::String(text) => parts.push(Part::text(text.as_str(), origin)),
            Value::Array(pieces) => {
                for piece in pieces {
                    parts.push(match piece["type"].as_str()? {
                        "text" => Part::text(piece["text"].as_str()?, origin),
                        "image_url" if piece["image_url"].get("detail").is_none() => {
                            let url = piece["image_url"]["url"].as_str()?;
                            if url.starts_with("data:") {
                                return None; // cut by the recorder
                            }
                            Part::media("image/png", MediaSource::Url(url.into()))
                        }
                        _ => return None,
                    });
                }
            }
            _ => {}
        }
        if role == Role::Tool {
            let call = ToolCall::new(turn["tool_call_id"].as_str()?, "", json!({}));
            parts = vec![Part::tool_result(&call, parts, false, Origin::Tool)];
        }
        for call in turn["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            parts.push(Part::tool_call(
                call["id"].as_str()?,
                function["name"].as_str()?,
                Gist::arguments(function["arguments"].as_str()?),
            ));
        }
        request.messages.push(Message::new(role, parts));
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let function = &tool["function"];
        let schema = Schema::from_value(function["parameters"].clone()).ok()?;
        let spec = ToolSpec::new(
            function["name"].as_str()?,
            function["description"].as_str().unwrap_or(""),
            &schema,
        );
        request.tools.push(spec.ok()?);
    }
    request.tool_choice = match &body["tool_choice"] {
        Value::Null => ToolChoice::Auto,
        Value::String(word) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Any,
            "none" => ToolChoice::None,
            _ => return None,
        },
        named => ToolChoice::Named(named["function"]["name"].as_str()?.to_owned()),
    };
    if body["response_format"].is_object() {
        let format = &body["response_format"];
        if format["type"] != "json_schema" {
            return None;
        }
        let format = &format["json_schema"];
        request = request.schema(
            format["name"].as_str()?,
            Schema::from_value(format["schema"].clone()).ok()?,
        );
    }
    request.max_output_tokens = body["max_tokens"]
        .as_u64()
        .or(body["max_completion_tokens"].as_u64());
    request.temperature = body["temperature"].as_f64();
    request.parallel_tool_calls = body["parallel_tool_calls"].as_bool();
    let known = [
        "model",
        "messages",
        "tools",
        "tool_choice",
        "response_format",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "parallel_tool_calls",
        "stream",
        "stream_options",
        "n",
    ];
    let is_known = body.as_object()?.keys().all(|key| known.contains(&key.as_str()));
    is_known.then_some(request)
}

/// Defaults left out and one form for each thing: two bodies that mean the same are the same.
fn plain(body: &Value) -> Value {
    let mut body = body.clone();
    let fields = body.as_object_mut().expect("an object");
    for key in ["stream", "stream_options", "n"] {
        fields.shift_remove(key);
    }
    if fields.get("tool_choice").is_some_and(|choice| choice == "auto") {
        fields.shift_remove("tool_choice");
    }
    if let Some(limit) = fields.shift_remove("max_tokens") {
        fields.insert("max_completion_tokens".into(), limit);
    }
    if let Some(temperature) = fields.get("temperature").and_then(Value::as_f64) {
        fields.insert("temperature".into(), json!(temperature)); // 1 and 1.0 are one
    }
    for turn in fields["messages"].as_array_mut().expect("turns") {
        let is_named_text = |pieces: &[Value]| pieces.len() == 1 && pieces[0]["type"] == "text";
        if let Some(pieces) = turn["content"].as_array().filter(|pieces| is_named_text(pieces)) {
            turn["content"] = pieces[0]["text"].clone();
        }
        if turn["content"].is_null() || turn["content"] == "" {
            turn.as_object_mut().expect("an object").shift_remove("content");
        }
        for call in turn["tool_calls"].as_array_mut().into_iter().flatten() {
            // Blanks in arguments are not kept.
            let arguments = call["function"]["arguments"].as_str().expect("a string");
            call["function"]["arguments"] = Gist::arguments(arguments);
        }
    }
    for tool in fields
        .get_mut("tools")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let function = tool["function"].as_object_mut().expect("an object");
        function.shift_remove("strict"); // the schema dialects of tools are another issue
        if function.get("description").is_some_and(|text| text == "") {
            function.shift_remove("description");
        }
    }
    body
}

#[test]
fn recorded_requests_said_in_our_words_are_the_recorded_requests() {
    let Some(all) = all() else { return };
    let mut same = 0;
    // What the vendor refused is no model for us (`system` words to o1-mini).
    for exchange in all.iter().filter(|exchange| exchange.status == 200) {
        let Some(request) = rebuilt(&exchange.request) else {
            continue;
        };
        let info = ModelInfo::new("openai", exchange.request["model"].as_str().expect("a model"));
        let encoded = encode::chat(&Dialect::openai(), &info, &request)
            .unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let again = encode::chat(&Dialect::openai(), &info, &request.clone()).expect("encodes");
        assert_eq!(encoded.body, again.body, "the same request gives the same bytes");
        let sent: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        assert_eq!(plain(&sent), plain(&exchange.request), "{}", exchange.id);
        same += 1;
    }
    println!("{same} requests rebuilt and equal");
    assert!(same >= 12, "only {same}");
}
