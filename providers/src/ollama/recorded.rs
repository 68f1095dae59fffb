//! The decoder and the encoder against recorded exchanges, and the client over a real local socket.

use super::{Ollama, encode, stream::Lines};
use crate::{
    answer::{Answer, Decoder, Facts},
    fixtures::{self, Act, Exchange, Framing as Http, Gist, Random, Server, cuts, http_answer, shown},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Fold, MediaSource, Message, ModelInfo, Origin,
    Part, ReasoningEffort, Result, Role, Schema, StreamEvent, ToolChoice, ToolSpec,
};

const MODEL: &str = "qwen3:4b";

fn recorded() -> Vec<Exchange> {
    fixtures::exchanges("ollama", "ollama_native").unwrap_or_default()
}

fn lines(body: &str) -> Vec<Value> {
    let lines = body.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).expect("recorded JSON"))
        .collect()
}

fn gist(lines: &[Value]) -> Gist {
    let mut gist = Gist::default();
    for line in lines {
        let said = &line["message"];
        gist.text.push_str(said["content"].as_str().unwrap_or_default());
        gist.reasoning
            .push_str(said["thinking"].as_str().unwrap_or_default());
        for call in said["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            gist.calls.push((
                function["name"].as_str().expect("a name").to_owned(),
                function["arguments"].clone(),
            ));
        }
    }
    let last = lines.last().expect("a line");
    gist.stop = last["done_reason"].as_str().map(str::to_owned);
    gist.tokens = last["prompt_eval_count"].as_u64().unwrap_or(0) + last["eval_count"].as_u64().unwrap_or(0);
    gist
}

async fn read(exchange: &Exchange, pieces: &[&[u8]]) -> (Vec<StreamEvent>, Option<Error>) {
    let decoder = Lines::new(MODEL, 16_384);
    let kind = exchange
        .headers
        .iter()
        .find(|(name, _)| name == "content-type")
        .expect("a type")
        .1
        .as_bytes();
    let parser = decoder.framing(kind).parser(crate::framing::Limits {
        event: 16 << 20,
        line: 1 << 20,
    });
    let pieces: Vec<Result<Bytes>> = pieces
        .iter()
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let facts = Facts {
        provider: "ollama".to_owned(),
        model: MODEL.to_owned(),
        ..Facts::default()
    };
    let mut answer = Answer::new(stream::iter(pieces), parser, decoder, facts);
    if let Err(error) = answer.first().await {
        return (Vec::new(), Some(error));
    }
    let mut events = Vec::new();
    while let Some(event) = answer.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

fn fold(events: &[StreamEvent]) -> ChatResponse {
    let mut fold = Fold::new("ollama", MODEL, false);
    for event in events {
        fold.push(event.clone()).expect("events in order");
    }
    fold.finish().expect("a whole answer")
}

fn encoded(request: &ChatRequest, num_ctx: u64) -> Result<(Value, Vec<String>)> {
    let context = encode::Context {
        num_ctx,
        thinks: None,
    };
    let encoded = encode::chat(&ModelInfo::new("ollama", MODEL), request, context)?;
    let warnings = encoded.warnings.into_iter().map(|warning| warning.code).collect();
    Ok((serde_json::from_slice(&encoded.body).expect("JSON"), warnings))
}

#[tokio::test]
async fn every_answer_says_what_its_raw_lines_say_however_it_is_cut() {
    let mut random = Random::new(9);
    let (mut answers, mut readings) = (0, 0);
    for exchange in recorded() {
        let bytes = exchange.body.as_bytes();
        let (events, error) = read(&exchange, &[bytes]).await;
        assert!(error.is_none(), "{}: {error:?}", exchange.id);
        assert_eq!(
            Gist::of(&fold(&events)),
            gist(&lines(&exchange.body)),
            "{}",
            exchange.id
        );
        answers += 1;
        for _ in 0..3 {
            assert_eq!(
                read(&exchange, &random.cut(bytes)).await.0,
                events,
                "{}",
                exchange.id
            );
            readings += 1;
        }
        if bytes.len() < 6_000 {
            for at in cuts(bytes.len()) {
                assert_eq!(
                    read(&exchange, &[&bytes[..at], &bytes[at..]]).await.0,
                    events,
                    "{} at {at}",
                    exchange.id
                );
                let (_, error) = read(&exchange, &[&bytes[..at]]).await;
                let is_whole = at >= exchange.body.trim_end().len();
                assert_eq!(error.is_none(), is_whole, "{} cut off at {at}", exchange.id);
                readings += 2;
            }
        }
    }
    println!("{answers} answers, {readings} readings of cut ones, no differences");
}

fn model(server: &Server) -> super::OllamaBuilder {
    Ollama::new(MODEL).base_url(&server.url)
}

const DONE: &str = r#"{"model":"qwen3:4b","message":{"role":"assistant","content":"hi"},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":2}"#;

fn answer(body: &str) -> Vec<Act> {
    vec![Act::Send(http_answer(
        200,
        &[("content-type", "application/x-ndjson")],
        body.as_bytes(),
        Http::Chunks,
    ))]
}

#[tokio::test]
async fn the_server_is_asked_for_the_models_context_once_and_every_request_tells_it() {
    for (shown, num_ctx) in [
        (
            json!({ "model_info": { "qwen3.context_length": 262_144 }, "capabilities": ["completion"] }),
            16_384,
        ),
        (json!({ "model_info": { "qwen3.context_length": 4_096 } }), 4_096),
        (
            json!({ "parameters": "stop \"x\"\nnum_ctx                 40960", "model_info": {} }),
            40_960,
        ),
        (json!("nonsense"), 16_384),
    ] {
        let json_type = [("content-type", "application/json")];
        let show = || {
            vec![Act::Send(http_answer(
                200,
                &json_type,
                shown.to_string().as_bytes(),
                Http::Length,
            ))]
        };
        let is_told = shown.is_object();
        let mut scripts = vec![show(), answer(DONE)];
        if !is_told {
            scripts.push(show());
        }
        scripts.push(answer(DONE));
        let server = Server::start(scripts).await;
        let model = model(&server).build().expect("builds");
        let mut request = ChatRequest::from("hi");
        request.reasoning.effort = Some(ReasoningEffort::High);
        for _ in 0..2 {
            model.chat(request.clone()).await.expect("an answer");
        }
        let seen = server.requests();
        assert_eq!(
            (seen[0].path.as_str(), seen[0].json()),
            ("/api/show", json!({ "model": MODEL }))
        );
        let chats: Vec<_> = seen.iter().filter(|seen| seen.path == "/api/chat").collect();
        assert_eq!((chats.len(), seen.len()), (2, if is_told { 3 } else { 4 }));
        for chat in chats {
            let body = chat.json();
            assert_eq!(body["options"]["num_ctx"], num_ctx);
            assert_eq!(
                (&body["truncate"], &body["shift"]),
                (&json!(false), &json!(false))
            );
            let can_think = shown.get("capabilities").is_none();
            assert_eq!(body.get("think").is_some(), can_think, "{shown}");
            assert_eq!(chat.header("authorization"), None);
        }
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_before_anything_is_sent_and_a_full_context_is_told() {
    let server = Server::start(vec![answer(
        &DONE.replace("\"prompt_eval_count\":5", "\"prompt_eval_count\":512"),
    )])
    .await;
    let model = model(&server).num_ctx(512).build().expect("builds");
    let error = model
        .chat("word ".repeat(600).as_str().into())
        .await
        .expect_err("too long");
    assert_eq!(error.code(), "limit_exceeded");
    assert!(error.to_string().contains("num_ctx"), "{error}");
    assert!(server.requests().is_empty());
    let answer = model.chat("hi".into()).await.expect("an answer");
    assert_eq!(answer.warnings[0].code, "context_full");
    let request = ChatRequest::from("word ".repeat(600).as_str()).provider_option(
        "ollama",
        json!({ "options": { "num_ctx": 4096 }, "keep_alive": "5m" }),
    );
    let (body, _) = encoded(&request, 512).expect("fits now");
    assert_eq!(
        (&body["options"]["num_ctx"], &body["keep_alive"]),
        (&json!(4096), &json!("5m"))
    );
}

#[tokio::test]
async fn failures_are_typed_by_status_and_by_a_line_after_200() {
    let line = "{\"message\":{\"content\":\"he\"},\"done\":false}\n{\"error\":\"canary\"}\n";
    let missing = br#"{"error":"model 'qwen3:4b' not found"}"#;
    for (bytes, code, has_begun) in [
        (http_answer(404, &[], missing, Http::Length), "not_found", None),
        (
            http_answer(503, &[], br#"{"error":"canary"}"#, Http::Length),
            "overloaded",
            Some(false),
        ),
        (
            http_answer(
                200,
                &[("content-type", "application/x-ndjson")],
                b"{\"error\":\"canary\"}",
                Http::Close,
            ),
            "overloaded",
            Some(false),
        ),
        (
            http_answer(
                200,
                &[("content-type", "application/x-ndjson")],
                line.as_bytes(),
                Http::Chunks,
            ),
            "overloaded",
            Some(true),
        ),
    ] {
        let server = Server::start(vec![vec![Act::Send(bytes)]]).await;
        let error = model(&server)
            .num_ctx(2_048)
            .build()
            .expect("builds")
            .chat("hi".into())
            .await
            .expect_err("fails");
        assert_eq!(error.code(), code);
        assert_eq!(
            error.vendor_failure().map(|failure| failure.output_started),
            has_begun
        );
        assert!(!shown(&error).contains("canary"), "{}", shown(&error));
    }
}

#[tokio::test]
async fn an_answer_that_never_says_done_is_truncated() {
    let server = Server::start(vec![answer(
        "{\"message\":{\"content\":\"hel\"},\"done\":false}\n{\"message\":{\"content\":\"lo\"},\"do",
    )])
    .await;
    match model(&server)
        .num_ctx(2_048)
        .build()
        .expect("builds")
        .chat("hi".into())
        .await
    {
        Err(Error::StreamTruncated { partial, .. }) => assert_eq!(partial.text(), "hel"),
        other => panic!("expected a truncated answer, got {other:?}"),
    }
}

#[tokio::test]
async fn calls_without_ids_get_some_that_differ_and_arguments_of_both_forms_are_read() {
    let calls = json!({ "created_at": "2026-01-01T00:00:00Z", "message": { "content": "", "tool_calls": [
        { "function": { "name": "look", "arguments": { "q": 1 } } },
        { "function": { "name": "look", "arguments": "{\"q\":2}" } },
        { "id": "call_9", "function": { "name": "now", "arguments": {} } },
    ] }, "done": true, "done_reason": "stop" });
    let server = Server::start(vec![answer(&calls.to_string())]).await;
    let said = model(&server)
        .num_ctx(2_048)
        .build()
        .expect("builds")
        .chat("hi".into())
        .await
        .expect("an answer");
    assert_eq!(said.finish_reason, FinishReason::ToolCalls);
    let calls: Vec<_> = said.message.tool_calls().cloned().collect();
    assert_eq!(
        [&calls[0].arguments, &calls[1].arguments],
        [&json!({ "q": 1 }), &json!({ "q": 2 })]
    );
    assert_ne!(calls[0].id, calls[1].id);
    let results: Vec<Part> = calls
        .iter()
        .map(|call| Part::tool_result(call, vec![Part::text("r", Origin::Tool)], false, Origin::Tool))
        .collect();
    let request = ChatRequest::new([Message::user("hi"), said.message.clone(), Message::tool(results)]);
    let (body, warnings) = encoded(&request, 2_048).expect("encodes");
    assert!(warnings.is_empty());
    assert_eq!(
        body["messages"][1],
        json!({ "role": "assistant", "content": "", "tool_calls": [
            { "type": "function", "function": { "name": "look", "arguments": { "q": 1 } } },
            { "type": "function", "function": { "name": "look", "arguments": { "q": 2 } } },
            { "id": "call_9", "type": "function", "function": { "name": "now", "arguments": {} } },
        ] })
    );
    assert_eq!(
        body["messages"][2],
        json!({ "role": "tool", "content": "r", "tool_name": "look" })
    );
    assert_eq!(
        body["messages"][4],
        json!({ "role": "tool", "content": "r", "tool_name": "now", "tool_call_id": "call_9" })
    );
}

#[test]
fn what_the_wire_cannot_say_is_refused_or_told() {
    for media in [
        Part::media("image/png", MediaSource::Url("https://a.example/x.png".into())),
        Part::media("application/pdf", MediaSource::Bytes(Bytes::from_static(b"%PDF"))),
    ] {
        let error =
            encoded(&ChatRequest::new([Message::new(Role::User, vec![media])]), 2_048).expect_err("no image");
        assert_eq!(error.code(), "unsupported");
    }
    let image = Part::media("image/png", MediaSource::Bytes(Bytes::from_static(&[1, 2, 3])));
    let schema = Schema::from_value(json!({ "type": "object" })).expect("a schema");
    let mut request = ChatRequest::new([Message::new(
        Role::User,
        vec![Part::text("see", Origin::User), image],
    )])
    .tool(ToolSpec::new("look", "Looks.", &schema).expect("a tool"))
    .tool_choice(ToolChoice::Any)
    .schema("a", schema.clone());
    request.parallel_tool_calls = Some(false);
    request.reasoning.budget_tokens = Some(100);
    let (body, warnings) = encoded(&request, 2_048).expect("encodes");
    assert_eq!(warnings, ["option_ignored"; 3]);
    assert_eq!(body["messages"][0]["images"], json!(["AQID"]));
    assert_eq!(
        (&body["format"], &body["think"]),
        (schema.as_value(), &json!(true))
    );
    request.tool_choice = ToolChoice::None;
    assert_eq!(encoded(&request, 2_048).expect("encodes").0.get("tools"), None);
}

#[test]
fn levels_are_for_the_family_that_has_them() {
    for (effort, level) in [
        (ReasoningEffort::Minimal, "low"),
        (ReasoningEffort::Medium, "medium"),
        (ReasoningEffort::Max, "high"),
    ] {
        let mut request = ChatRequest::from("hi");
        request.reasoning.effort = Some(effort);
        let context = encode::Context {
            num_ctx: 2_048,
            thinks: Some(true),
        };
        let encoded =
            encode::chat(&ModelInfo::new("ollama", "gpt-oss:20b"), &request, context).expect("encodes");
        let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        assert_eq!(body["think"], level);
    }
}
