//! What no recording shows, over a real local socket: every quirk of a request, every form of an answer and of a
//! failure. The vendors' forms are from their documentation and from the issues that the wire reference names.

mod answered;
mod asked;
mod failed;
mod ordered;

use super::{OpenAiCompatible, OpenAiCompatibleBuilder};
use crate::{
    OpenAiWire,
    fixtures::{Act, Framing, Server, http_answer},
};
use serde_json::{Value, json};
use stepwell_core::{ChatModel, ChatRequest, ChatResponse, Result};

pub(super) const KEY: &str = "k-canary-key";

/// A vendor's model behind a local server, over Chat Completions.
pub(super) fn builder(vendor: &str, url: &str) -> OpenAiCompatibleBuilder {
    OpenAiCompatible::vendor(vendor, "some-model")
        .expect("in the table")
        .api_key(KEY)
        .wire(OpenAiWire::Chat)
        .base_url(format!("{url}/v1"))
}

pub(super) fn sse(events: &[&str]) -> Vec<Act> {
    let mut body = events.join("\n\n");
    body.push_str("\n\n");
    let headers = [("content-type", "text/event-stream")];
    vec![Act::Send(http_answer(
        200,
        &headers,
        body.as_bytes(),
        Framing::Chunks,
    ))]
}

pub(super) fn json_answer(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<Act> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    vec![Act::Send(http_answer(
        status,
        &all,
        body.as_bytes(),
        Framing::Length,
    ))]
}

/// A chunk with this delta.
pub(super) fn delta(delta: &Value) -> String {
    format!(
        "data: {}",
        json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    )
}

/// The chunk that ends an answer.
pub(super) fn end(reason: &str) -> String {
    format!(
        "data: {}",
        json!({ "id": "a", "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
    )
}

pub(super) const DONE: &str = "data: [DONE]";

/// The answer to these events.
pub(super) async fn answer(vendor: &str, events: &[&str]) -> Result<ChatResponse> {
    let server = Server::start(vec![sse(events)]).await;
    let model = builder(vendor, &server.url).build()?;
    model.chat("Hi".into()).await
}

/// The body that a request becomes, and the warnings it makes.
pub(super) async fn sent(vendor: &str, request: ChatRequest) -> Result<(Value, Vec<String>)> {
    let (text, stop) = (delta(&json!({ "content": "{}" })), end("stop"));
    let server = Server::start(vec![sse(&[&text, &stop, DONE])]).await;
    let answer = builder(vendor, &server.url).build()?.chat(request).await;
    let seen = server.requests();
    if answer.is_err() {
        assert!(seen.is_empty(), "what is refused is not sent");
    }
    let answer = answer?;
    let warned = answer.warnings.into_iter().map(|warning| warning.code).collect();
    Ok((seen[0].json(), warned))
}
