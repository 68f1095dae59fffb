//! The decoder and the encoder against recorded exchanges, and the client over a real local socket.

use super::{GEMINI, Gemini, encode, stream::Generated};
use crate::{
    answer::{Answer, Facts},
    fixtures::{self, Act, Exchange, Framing as Http, Gist, Random, Server, cuts, http_answer, shown},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::fmt::Write as _;
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Fold, Message, ModelInfo, Origin, Part,
    Result, Role, Schema, StreamEvent, ToolSpec,
};

const MODEL: &str = "gemini-2.5-flash";

fn recorded() -> Vec<Exchange> {
    ["gemini", "gemini_vertex"]
        .iter()
        .filter_map(|provider| fixtures::exchanges(provider, "generate_content"))
        .flatten()
        .collect()
}

/// The chunks of a body, read the simplest way there is.
fn chunks(body: &str) -> Vec<Value> {
    if body.starts_with("data:") {
        let lines = body.lines().filter_map(|line| line.strip_prefix("data:"));
        return lines
            .map(|line| serde_json::from_str(line).expect("recorded JSON"))
            .collect();
    }
    match serde_json::from_str(body).expect("recorded JSON") {
        Value::Array(chunks) => chunks,
        one => vec![one],
    }
}

fn parts(chunks: &[Value]) -> Vec<Value> {
    let contents = chunks
        .iter()
        .filter_map(|chunk| chunk["candidates"][0]["content"]["parts"].as_array());
    contents.flatten().cloned().collect()
}

fn gist(chunks: &[Value]) -> Gist {
    let mut gist = Gist::default();
    for part in parts(chunks) {
        let text = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true {
            gist.reasoning.push_str(text);
        } else {
            gist.text.push_str(text);
        }
        if let Some(call) = part.get("functionCall") {
            let name = call["name"].as_str().expect("a name").to_owned();
            gist.calls.push((name, call["args"].clone()));
        }
        if let Some(code) = part.get("executableCode") {
            let arguments = json!({ "language": code["language"], "code": code["code"] });
            gist.calls.push(("code_execution".to_owned(), arguments));
        }
    }
    let mut reasons = chunks
        .iter()
        .filter_map(|chunk| chunk["candidates"][0]["finishReason"].as_str());
    gist.stop = reasons.next_back().map(str::to_owned);
    let usage = &chunks.last().expect("a chunk")["usageMetadata"];
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    gist.tokens = count("promptTokenCount")
        + count("toolUsePromptTokenCount")
        + count("candidatesTokenCount")
        + count("thoughtsTokenCount");
    assert_eq!(gist.tokens, count("totalTokenCount"), "the vendor's own total");
    gist
}

async fn read(body: &str, pieces: &[&[u8]]) -> (Vec<StreamEvent>, Option<Error>) {
    use crate::answer::Decoder;
    let decoder = Generated::new(&GEMINI, MODEL);
    let kind: &[u8] = if body.starts_with("data:") {
        b"text/event-stream"
    } else {
        b"application/json; charset=UTF-8"
    };
    let parser = decoder.framing(kind).parser(crate::framing::Limits {
        event: 16 << 20,
        line: 1 << 20,
    });
    let pieces: Vec<Result<Bytes>> = pieces
        .iter()
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let facts = Facts {
        provider: "gemini".to_owned(),
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
    let mut fold = Fold::new("gemini", MODEL, false);
    for event in events {
        fold.push(event.clone()).expect("events in order");
    }
    fold.finish().expect("a whole answer")
}

fn body_of(request: &ChatRequest, model: &str) -> (Value, Vec<String>) {
    let info = ModelInfo::new("gemini", model);
    let encoded = encode::chat(&GEMINI, &info, request).expect("encodes");
    let warnings = encoded.warnings.into_iter().map(|warning| warning.code).collect();
    (serde_json::from_slice(&encoded.body).expect("JSON"), warnings)
}

#[tokio::test]
async fn every_answer_says_what_its_raw_chunks_say_however_it_is_cut() {
    let mut random = Random::new(5);
    let (mut answers, mut readings) = (0, 0);
    for exchange in recorded().iter().filter(|exchange| exchange.status == 200) {
        let bytes = exchange.body.as_bytes();
        let chunks = chunks(&exchange.body);
        let (events, error) = read(&exchange.body, &[bytes]).await;
        assert!(error.is_none(), "{}: {error:?}", exchange.id);
        let answer = fold(&events);
        assert_eq!(Gist::of(&answer), gist(&chunks), "{}", exchange.id);
        answers += 1;
        for _ in 0..4 {
            let again = read(&exchange.body, &random.cut(bytes)).await.0;
            assert_eq!(again, events, "{}", exchange.id);
            readings += 1;
        }
        if exchange.is_stream() && bytes.len() < 6_000 {
            for at in cuts(bytes.len()) {
                assert_eq!(
                    read(&exchange.body, &[&bytes[..at], &bytes[at..]]).await.0,
                    events,
                    "{} at {at}",
                    exchange.id
                );
                readings += 1;
            }
        }
    }
    println!("{answers} answers, {readings} readings of cut ones, no differences");
}

#[tokio::test]
async fn what_a_model_said_goes_back_as_it_came_signature_for_signature() {
    let (mut signatures, mut answers) = (0, 0);
    for exchange in recorded().iter().filter(|exchange| exchange.status == 200) {
        let chunks = chunks(&exchange.body);
        // What comes in pieces is one part, but for what is signed; summaries stay here.
        let mut expected: Vec<Value> = Vec::new();
        for part in parts(&chunks) {
            let is_signed = part.get("thoughtSignature").is_some();
            if part["thought"] == true && !is_signed {
                continue;
            }
            let text = part["text"].as_str();
            if text == Some("") && !is_signed {
                continue;
            }
            signatures += usize::from(is_signed);
            match (expected.last_mut(), text) {
                (Some(last), Some(more))
                    if !is_signed && last.get("thoughtSignature").is_none() && last["text"].is_string() =>
                {
                    last["text"] = json!(format!("{}{more}", last["text"].as_str().expect("text")));
                }
                _ => expected.push(part),
            }
        }
        let answer = fold(&read(&exchange.body, &[exchange.body.as_bytes()]).await.0);
        let request = ChatRequest::new([
            Message::user("go on"),
            answer.message.clone(),
            Message::user("and then?"),
        ]);
        let (body, warnings) = body_of(&request, MODEL);
        let sent = if expected.is_empty() {
            Vec::new()
        } else {
            body["contents"][1]["parts"].as_array().cloned().expect("parts")
        };
        assert_eq!(sent, expected, "{}", exchange.id);
        // Calls that nobody answered are closed, and an answer of nothing is left out.
        let is_closed = answer.message.tool_calls().next().is_some() || answer.message.parts.is_empty();
        let expected: &[&str] = if is_closed { &["history_changed"] } else { &[] };
        assert_eq!(warnings, expected, "{}", exchange.id);
        answers += 1;
        // Another model gets the words without the signatures.
        let (body, _) = body_of(&request, "gemini-2.5-pro");
        assert!(!body.to_string().contains("thoughtSignature"), "{}", exchange.id);
    }
    println!("{signatures} signatures of {answers} answers came back in their places");
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_never_a_whole_answer_before_its_last_finish_reason() {
    let mut runs = 0;
    for exchange in recorded()
        .iter()
        .filter(|exchange| exchange.is_stream() && exchange.body.len() < 9_000)
    {
        let bytes = exchange.body.as_bytes();
        let last = exchange.body.rfind("\"finishReason\"").expect("an end");
        let whole = fold(&read(&exchange.body, &[bytes]).await.0);
        for at in cuts(bytes.len()) {
            let (events, error) = read(&exchange.body, &[&bytes[..at]]).await;
            match error {
                // A finish reason in between is an end as good as any, if nothing comes behind it.
                None => assert!(
                    at > last || fold(&events).text().len() < whole.text().len(),
                    "{} at {at}",
                    exchange.id
                ),
                Some(Error::StreamTruncated { partial, .. }) => {
                    assert!(whole.text().starts_with(&partial.text()));
                }
                Some(error) => panic!("{} at {at}: {error:?}", exchange.id),
            }
            runs += 1;
        }
    }
    println!("{runs} cut streams");
}

#[test]
fn every_recorded_failure_has_its_type_and_its_wait() {
    for exchange in recorded().iter().filter(|exchange| exchange.status != 200) {
        let mut failure = stepwell_core::VendorFailure::new("gemini");
        failure.status = Some(exchange.status);
        let error = super::failure::error(failure, exchange.body.as_bytes(), &GEMINI, MODEL);
        let wait = error
            .vendor_failure()
            .and_then(|failure| failure.retry_after)
            .map(|wait| wait.as_secs());
        let expected = match exchange.status {
            429 => ("rate_limited", Some(48)),
            _ if exchange.body.contains("API_KEY_INVALID") => ("unauthorized", None),
            _ => ("rejected", None),
        };
        assert_eq!((error.code(), wait), expected, "{}", exchange.id);
    }
}

fn model(server: &Server) -> Gemini {
    Gemini::new(MODEL)
        .api_key("k-canary")
        .base_url(&server.url)
        .build()
        .expect("builds")
}

fn sse(chunks: &[Value]) -> Vec<u8> {
    let mut body = String::new();
    for chunk in chunks {
        write!(body, "data: {chunk}\r\n\r\n").expect("a String takes all");
    }
    http_answer(
        200,
        &[("content-type", "text/event-stream")],
        body.as_bytes(),
        Http::Chunks,
    )
}

fn chunk(parts: Value, more: Value) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    candidate
        .as_object_mut()
        .expect("an object")
        .extend(more.as_object().cloned().expect("an object"));
    json!({ "candidates": [candidate], "responseId": "r1", "modelVersion": "m-1" })
}

async fn answers(chunks: &[Value]) -> Result<ChatResponse> {
    let server = Server::start(vec![vec![Act::Send(sse(chunks))]]).await;
    model(&server).chat("hi".into()).await
}

#[tokio::test]
async fn over_a_socket_the_key_goes_in_its_header_alone_and_the_path_names_model_and_method() {
    let whole = [chunk(
        json!([{ "text": "hello" }]),
        json!({ "finishReason": "STOP" }),
    )];
    let server = Server::start(vec![
        vec![Act::Send(sse(&whole))],
        vec![Act::Send(http_answer(
            200,
            &[("content-type", "application/json")],
            br#"{"totalTokens": 31}"#,
            Http::Length,
        ))],
    ])
    .await;
    let answer = model(&server).chat("hi".into()).await.expect("an answer");
    assert_eq!(
        (answer.text().as_str(), answer.finish_reason),
        ("hello", FinishReason::Stop)
    );
    assert_eq!((answer.id.as_deref(), answer.model.as_str()), (Some("r1"), "m-1"));
    let count = model(&server).count_tokens(&"hi".into()).await.expect("a count");
    assert_eq!((count.input_tokens, count.is_estimated), (Some(31), false));
    let seen = server.requests();
    assert_eq!(
        seen[0].path,
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    );
    assert_eq!(seen[0].header("x-goog-api-key"), Some("k-canary"));
    assert_eq!(
        seen[0].json(),
        json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] })
    );
    assert_eq!(seen[1].path, "/v1beta/models/gemini-2.5-flash:countTokens");
    assert_eq!(
        seen[1].json()["generateContentRequest"]["model"],
        "models/gemini-2.5-flash"
    );
}

#[tokio::test]
async fn vertex_takes_a_token_and_tells_project_and_location_in_its_path() {
    let whole = [chunk(
        json!([{ "text": "hello" }]),
        json!({ "finishReason": "STOP" }),
    )];
    let server = Server::start(vec![vec![Act::Send(sse(&whole))]]).await;
    let model = Gemini::new(MODEL)
        .vertex("my-project", "europe-west4")
        .api_key("t")
        .base_url(&server.url)
        .build()
        .expect("builds");
    assert_eq!(model.info().name(), "vertex/gemini-2.5-flash");
    model.chat("hi".into()).await.expect("an answer");
    let seen = &server.requests()[0];
    assert_eq!(
        seen.path,
        "/v1beta1/projects/my-project/locations/europe-west4/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    );
    assert_eq!(seen.header("authorization"), Some("Bearer t"));
    assert_eq!(seen.header("x-goog-api-key"), None);
    for (project, location) in [("../x", "global"), ("p", "a?b"), ("p", "a b")] {
        let error = Gemini::new(MODEL)
            .vertex(project, location)
            .api_key("t")
            .build()
            .expect_err("no name");
        assert_eq!(error.code(), "invalid_input");
    }
}

#[tokio::test]
async fn a_blocked_prompt_and_an_answer_without_parts_are_refusals_and_not_failures() {
    let blocked = json!({ "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" }, "usageMetadata": { "promptTokenCount": 4 } });
    let answer = answers(&[blocked]).await.expect("an answer");
    assert_eq!(answer.finish_reason, FinishReason::ContentFilter);
    assert_eq!(
        answer.refusal.expect("a refusal").category.as_deref(),
        Some("PROHIBITED_CONTENT")
    );
    assert_eq!(answer.usage.input_tokens, Some(4));
    let silent =
        json!({ "candidates": [{ "content": {}, "finishReason": "SAFETY", "finishMessage": "no" }] });
    let answer = answers(&[silent]).await.expect("an answer");
    let refusal = answer.refusal.expect("a refusal");
    assert_eq!(
        (refusal.message.as_deref(), refusal.category.as_deref()),
        (Some("no"), Some("SAFETY"))
    );
    let malformed = json!({ "candidates": [{ "finishReason": "MALFORMED_FUNCTION_CALL" }] });
    let answer = answers(&[malformed]).await.expect("an answer");
    assert_eq!(
        (answer.finish_reason, answer.refusal.is_none()),
        (FinishReason::Other, true)
    );
    assert_eq!(answer.warnings[0].code, "malformed_call");
}

#[tokio::test]
async fn failures_are_typed_by_status_inside_the_stream_and_in_array_form() {
    let error = json!({ "error": { "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "canary; please retry in 48.9s.", "details": [] } });
    let many = json!([error]).to_string();
    let json_type = [("content-type", "application/json; charset=UTF-8")];
    for (bytes, has_begun) in [
        (http_answer(429, &json_type, many.as_bytes(), Http::Length), false),
        (http_answer(200, &json_type, many.as_bytes(), Http::Length), false),
        (sse(std::slice::from_ref(&error)), false),
        (
            sse(&[chunk(json!([{ "text": "he" }]), json!({})), error.clone()]),
            true,
        ),
    ] {
        let server = Server::start(vec![vec![Act::Send(bytes)]]).await;
        let failed = model(&server).chat("hi".into()).await.expect_err("fails");
        assert_eq!(failed.code(), "rate_limited", "{}", shown(&failed));
        let failure = failed.vendor_failure().expect("of the vendor");
        assert_eq!(failure.retry_after.map(|wait| wait.as_millis()), Some(48_900));
        assert_eq!(failure.output_started, has_begun);
        assert!(!shown(&failed).contains("canary"), "{}", shown(&failed));
    }
}

#[tokio::test]
async fn an_end_without_a_finish_reason_is_truncated_and_a_reason_in_between_is_no_end() {
    let said = chunk(json!([{ "text": "he" }]), json!({ "finishReason": "STOP" }));
    let more = chunk(json!([{ "text": "llo" }]), json!({}));
    match answers(&[said.clone(), more]).await {
        Err(Error::StreamTruncated { partial, .. }) => assert_eq!(partial.text(), "hello"),
        other => panic!("expected a truncated stream, got {other:?}"),
    }
    let empty = json!({ "usageMetadata": { "promptTokenCount": 4 } });
    assert_eq!(
        answers(std::slice::from_ref(&empty))
            .await
            .expect_err("no answer")
            .code(),
        "stream_truncated"
    );
    assert_eq!(answers(&[said, empty]).await.expect("an answer").text(), "he");
}

#[tokio::test]
async fn calls_without_ids_get_some_that_differ_and_are_never_sent() {
    let calls = json!([
        { "functionCall": { "name": "look", "args": { "q": 1 } }, "thoughtSignature": "s1" },
        { "functionCall": { "name": "look", "args": { "q": 2 } } },
        { "functionCall": { "name": "now" } },
        { "functionCall": { "id": "theirs", "name": "now", "args": {} } },
    ]);
    let answer = answers(&[chunk(calls, json!({ "finishReason": "STOP" }))])
        .await
        .expect("an answer");
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    let calls: Vec<_> = answer.message.tool_calls().cloned().collect();
    assert_eq!(calls.len(), 4);
    let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids.len(), 4);
    let results: Vec<Message> = calls
        .iter()
        .map(|call| {
            Message::tool(vec![Part::tool_result(
                call,
                vec![Part::text("r", Origin::Tool)],
                call.name == "now",
                Origin::Tool,
            )])
        })
        .collect();
    let mut messages = vec![Message::user("hi"), answer.message];
    messages.extend(results);
    let (body, warnings) = body_of(&ChatRequest::new(messages), MODEL);
    assert!(warnings.is_empty());
    assert_eq!(body["contents"].as_array().expect("contents").len(), 3);
    assert_eq!(
        body["contents"][1]["parts"],
        json!([
            { "functionCall": { "name": "look", "args": { "q": 1 } }, "thoughtSignature": "s1" },
            { "functionCall": { "name": "look", "args": { "q": 2 } } },
            { "functionCall": { "name": "now", "args": {} } },
            { "functionCall": { "id": "theirs", "name": "now", "args": {} } },
        ])
    );
    assert_eq!(
        body["contents"][2]["parts"],
        json!([
            { "functionResponse": { "name": "look", "response": { "output": "r" } } },
            { "functionResponse": { "name": "look", "response": { "output": "r" } } },
            { "functionResponse": { "name": "now", "response": { "error": "r" } } },
            { "functionResponse": { "id": "theirs", "name": "now", "response": { "error": "r" } } },
        ])
    );
}

#[tokio::test]
async fn images_code_and_unknown_parts_are_kept_and_go_back_in_their_places() {
    let said = json!([
        { "text": "look: " },
        { "inlineData": { "mimeType": "image/png", "data": "iVBORw0KGgo=" }, "thoughtSignature": "s1" },
        { "executableCode": { "id": "c9", "language": "PYTHON", "code": "1" }, "thoughtSignature": "s2" },
        { "codeExecutionResult": { "outcome": "OUTCOME_OK", "output": "1" } },
        { "newThing": { "z": 1, "a": 2 }, "thoughtSignature": "s3" },
        { "text": "", "thoughtSignature": "s4" },
    ]);
    let answer = answers(&[chunk(said.clone(), json!({ "finishReason": "STOP" }))])
        .await
        .expect("an answer");
    assert_eq!(
        answer.finish_reason,
        FinishReason::Stop,
        "what the vendor ran is no call to us"
    );
    assert_eq!(answer.message.parts.len(), 6);
    assert!(matches!(&answer.message.parts[1], Part::Media(media) if media.origin == Origin::Model));
    assert!(matches!(&answer.message.parts[3], Part::Unknown(part) if part.origin == Origin::Tool));
    let stored = serde_json::to_string(&answer.message).expect("JSON");
    let message: Message = serde_json::from_str(&stored).expect("reads back");
    let (body, _) = body_of(&ChatRequest::new([Message::user("hi"), message]), MODEL);
    assert_eq!(body["contents"][1]["parts"], said);
}

#[tokio::test]
async fn sources_become_citations_of_the_text_they_came_with_and_are_kept_whole() {
    let grounding = json!({ "groundingMetadata": {
        "groundingChunks": [{ "web": { "uri": "https://a.example", "title": "A" } }, { "web": { "uri": "https://b.example" } }],
        "groundingSupports": [{ "segment": { "endIndex": 3 }, "groundingChunkIndices": [0] }, { "groundingChunkIndices": [0, 7] }] },
        "finishReason": "STOP" });
    let answer = answers(&[
        chunk(json!([{ "text": "yes" }]), json!({})),
        chunk(
            json!([{ "text": "", "thoughtSignature": "s" }]),
            grounding.clone(),
        ),
    ])
    .await
    .expect("an answer");
    let Part::Text(text) = &answer.message.parts[0] else {
        panic!("a text")
    };
    assert_eq!(text.citations.len(), 1);
    assert_eq!(text.citations[0].uri.as_deref(), Some("https://a.example"));
    let Some(Part::Data(kept)) = answer.message.parts.last() else {
        panic!("data")
    };
    assert_eq!(kept.value["groundingMetadata"], grounding["groundingMetadata"]);
}

#[tokio::test]
async fn arguments_that_come_in_pieces_are_one_call() {
    let answer = answers(&[
        chunk(json!([{ "functionCall": { "name": "book", "willContinue": true }, "thoughtSignature": "s" }]), json!({})),
        chunk(json!([{ "functionCall": { "partialArgs": [{ "jsonPath": "$.city", "stringValue": "Os" }], "willContinue": true } }]), json!({})),
        chunk(json!([{ "functionCall": { "partialArgs": [{ "jsonPath": "$.city", "stringValue": "lo" }], "willContinue": true } }]), json!({})),
        chunk(json!([{ "functionCall": {} }]), json!({ "finishReason": "STOP" })),
    ])
    .await
    .expect("an answer");
    let calls: Vec<_> = answer.message.tool_calls().collect();
    assert_eq!(
        (calls.len(), &calls[0].arguments),
        (1, &json!({ "city": "Oslo" }))
    );
    assert_eq!(
        calls[0].opaque.as_ref().map(|token| &token.value),
        Some(&json!("s"))
    );
}

#[test]
fn a_history_from_elsewhere_is_signed_as_the_vendor_documents_and_other_signatures_are_left_out() {
    let answer = Message::new(
        Role::Assistant,
        vec![
            Part::reasoning(
                "hm",
                Some(stepwell_core::Opaque {
                    provider: "anthropic".into(),
                    model: "c".into(),
                    value: json!("x"),
                }),
            ),
            Part::tool_call("toolu_1", "look", json!({})),
            Part::tool_call("toolu_2", "look", json!({})),
        ],
    );
    let request = ChatRequest::new([Message::user("hi"), answer]);
    let (body, warnings) = body_of(&request, "gemini-3-pro-preview");
    assert_eq!(
        body["contents"][1]["parts"],
        json!([
            { "functionCall": { "id": "toolu_1", "name": "look", "args": {} }, "thoughtSignature": "skip_thought_signature_validator" },
            { "functionCall": { "id": "toolu_2", "name": "look", "args": {} } },
        ])
    );
    assert_eq!(
        warnings, ["history_changed"; 2],
        "reasoning is left out, calls are closed"
    );
    assert!(
        !body_of(&request, MODEL)
            .0
            .to_string()
            .contains("thoughtSignature")
    );
}

#[test]
fn options_of_the_vendor_are_merged_and_what_it_cannot_do_is_told() {
    let schema = Schema::from_value(json!({ "type": "object", "properties": { "q": { "type": "string" } } }))
        .expect("a schema");
    let tool = ToolSpec::new("look", "Looks.", &schema).expect("a tool");
    let mut request = ChatRequest::from("hi").tool(tool).schema("answer", schema.clone()).provider_option(
        "gemini",
        json!({ "tools": [{ "googleSearch": {} }], "toolConfig": { "functionCallingConfig": { "mode": "VALIDATED" } }, "safetySettings": [] }),
    );
    request.parallel_tool_calls = Some(false);
    request.metadata.insert("user".into(), "1".into());
    let (body, warnings) = body_of(&request, MODEL);
    assert_eq!(body["tools"][1], json!({ "googleSearch": {} }));
    assert_eq!(
        body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"],
        *schema.as_value()
    );
    assert_eq!(
        body["toolConfig"],
        json!({ "functionCallingConfig": { "mode": "VALIDATED" } })
    );
    assert_eq!(
        body.get("generationConfig"),
        None,
        "2.5 takes no schema beside tools"
    );
    assert_eq!(warnings, ["option_ignored"; 3]);
    let (body, warnings) = body_of(&request, "gemini-3.8-flash");
    assert_eq!(body["generationConfig"]["responseJsonSchema"], *schema.as_value());
    assert_eq!(warnings.len(), 2);
    let cached = request.provider_option("gemini", json!({ "cachedContent": "cachedContents/1" }));
    let (body, _) = body_of(&cached, MODEL);
    assert_eq!(
        (body.get("tools"), body["cachedContent"].as_str()),
        (None, Some("cachedContents/1"))
    );
}

#[test]
fn effort_is_a_budget_up_to_two_and_a_half_and_a_level_from_three_on() {
    use stepwell_core::ReasoningEffort::{High, Low, Max, Medium, Minimal, None as Off};
    for (model, effort, budget, expected) in [
        (
            "gemini-2.5-flash",
            Some(Off),
            None,
            json!({ "thinkingBudget": 0 }),
        ),
        (
            "gemini-2.5-pro",
            Some(Off),
            None,
            json!({ "thinkingBudget": 128 }),
        ),
        (
            "gemini-2.5-pro",
            Some(Max),
            None,
            json!({ "thinkingBudget": 32_768 }),
        ),
        (
            "gemini-2.5-flash",
            Some(High),
            Some(99),
            json!({ "thinkingBudget": 99 }),
        ),
        (
            "gemini-3-pro-preview",
            Some(Medium),
            None,
            json!({ "thinkingLevel": "high" }),
        ),
        (
            "gemini-3.1-pro-preview",
            Some(Medium),
            None,
            json!({ "thinkingLevel": "medium" }),
        ),
        (
            "gemini-3-flash-preview",
            Some(Minimal),
            None,
            json!({ "thinkingLevel": "minimal" }),
        ),
        (
            "gemini-flash-latest",
            Some(Low),
            Some(9),
            json!({ "thinkingLevel": "low" }),
        ),
        (
            "gemini-3.8-flash",
            None,
            Some(512),
            json!({ "thinkingBudget": 512 }),
        ),
        ("gemini-2.0-flash", Some(Low), None, Value::Null),
    ] {
        let mut request = ChatRequest::from("hi");
        (request.reasoning.effort, request.reasoning.budget_tokens) = (effort, budget);
        let (body, warnings) = body_of(&request, model);
        assert_eq!(
            body["generationConfig"]["thinkingConfig"], expected,
            "{model} {effort:?}"
        );
        let is_told = model == "gemini-2.0-flash" || (model == "gemini-2.5-pro" && effort == Some(Off));
        assert_eq!(!warnings.is_empty(), is_told, "{model} {effort:?}");
    }
}
