//! What the frame of recorded exchanges (`examples/wire_check`) does not see: answers go back to the vendor as they
//! came, and no failure shows a key or a prompt.

use super::{Anthropic, decode, encode, stream::Messages};
use crate::{
    answer::replay,
    fixtures::{Act, Exchange, Framing, Server, exchanges, http_answer, shown},
    http::HttpOptions,
};
use serde_json::{Value, json};
use std::time::Duration;
use stepwell_core::{ChatModel, ChatRequest, ChatResponse, Fold, Message, ModelInfo, Result, StreamEvent};

const MODEL: &str = "claude-test";

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

/// The thinking blocks of a stream, put together with `Value`s alone.
fn thoughts(exchange: &Exchange) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    for event in exchange.data() {
        match event["type"].as_str() {
            Some("content_block_start") => blocks.push(event["content_block"].clone()),
            Some("content_block_delta") => {
                let block = blocks.last_mut().expect("a block");
                for key in ["thinking", "signature"] {
                    if let Some(piece) = event["delta"][key].as_str() {
                        let so_far = block[key].as_str().unwrap_or("").to_owned();
                        block[key] = json!(so_far + piece);
                    }
                }
            }
            _ => {}
        }
    }
    blocks.retain(is_thought);
    blocks
}

fn is_thought(block: &Value) -> bool {
    matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"))
}

#[test]
fn every_whole_answer_goes_back_as_it_came() {
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
    let mut count = 0;
    for exchange in all.iter().filter(|exchange| exchange.is_stream()) {
        let thoughts = thoughts(exchange);
        let (events, error) = replay(&[exchange.body.as_bytes()], Messages::new(MODEL), "anthropic").await;
        if thoughts.is_empty() || error.is_some() {
            continue;
        }
        let answer = fold(events).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
        let back: Vec<Value> = sent_back(answer.clone()).into_iter().filter(is_thought).collect();
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

fn model(url: &str) -> Anthropic {
    Anthropic::new(MODEL)
        .api_key("sk-ant-canary-key")
        .base_url(url)
        .http(HttpOptions::default().idle_timeout(Duration::from_secs(5)))
        .build()
        .expect("builds")
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
