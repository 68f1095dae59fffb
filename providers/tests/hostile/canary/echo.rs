//! A vendor that repeats everything it was sent, in every form a vendor answers in.

use super::slots::{KEYS, PROMPTS, SECRETS};
use crate::{
    server::{Act, answer, head},
    wires::wires,
};
use serde_json::{Value, json};

/// Everything at once, as a sentence.
fn everything() -> String {
    let words: Vec<&str> = SECRETS.iter().chain(&PROMPTS).copied().collect();
    format!("you sent: {} and that is wrong", words.join(" "))
}

/// The bodies of failures: every form of every vendor, and some of none.
fn failures() -> Vec<Vec<u8>> {
    let (said, key) = (everything(), KEYS[0]);
    let object = json!({ "message": said, "type": key, "code": key, "param": said, "status": key });
    let values: Vec<Value> = vec![
        json!({ "error": object }),
        json!([{ "error": object }]),
        json!({ "type": "error", "error": object, "request_id": key }),
        json!({ "error": said, "code": key }),
        json!({ "detail": said }),
        json!({ "detail": [{ "loc": [said], "msg": said, "type": key }] }),
        json!({ "message": said, "code": key, "object": "error" }),
        json!({ "error": { "message": said, "code": 400, "status": "INVALID_ARGUMENT", "details": [{ "reason": key, "metadata": { "key": said } }] } }),
        json!({ "error": { "message": format!("Please retry in {said}"), "type": "rate_limit_error" } }),
        json!({ "error": { "code": "insufficient_quota", "message": said } }),
        json!({ "error": { "code": "model_not_found", "message": said } }),
        json!(said),
    ];
    let mut bodies: Vec<Vec<u8>> = values
        .iter()
        .map(|value| value.to_string().into_bytes())
        .collect();
    bodies.push(format!("<html><title>{said}</title></html>").into_bytes());
    bodies.push(said.clone().into_bytes());
    bodies.push(format!("{{\"error\":{{\"message\":\"{said}").into_bytes());
    bodies
}

/// One script after the other, over and over.
pub(super) fn hostile(number: usize) -> Vec<Act> {
    let scripts = scripts();
    scripts[number % scripts.len()].clone()
}

/// How many scripts there are: so many calls meet them all.
pub(super) fn echoes() -> usize {
    scripts().len()
}

fn scripts() -> Vec<Vec<Act>> {
    let said = everything();
    let key = KEYS[0];
    let ids = [format!("request-id: {key}"), format!("x-request-id: req-{key}")];
    let mut scripts = Vec::new();
    let statuses = [400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529];
    for (at, body) in failures().into_iter().enumerate() {
        let status = statuses[at % statuses.len()];
        let length = format!("content-length: {}", body.len());
        let fields = [
            ids[0].as_str(),
            &ids[1],
            "retry-after-ms: 1",
            "content-type: application/json",
            &length,
        ];
        scripts.push(vec![Act::Send(head(status, &fields)), Act::Send(body)]);
    }
    // The whole of it by every status, in the usual form.
    let usual = json!({ "error": { "message": said, "type": key, "code": key } }).to_string();
    for status in statuses {
        scripts.push(vec![Act::Send(answer(
            status,
            "application/json",
            usual.as_bytes(),
        ))]);
    }
    let events = |body: &str| vec![Act::Send(answer(200, "text/event-stream", body.as_bytes()))];
    let whole = |body: &str| vec![Act::Send(answer(200, "application/json", body.as_bytes()))];
    // 200, and no answer.
    scripts.push(whole(&usual));
    scripts.push(whole(&format!("{{\"choices\": [{said}")));
    scripts.push(whole(&json!({ "choices": said, "content": said, "candidates": said, "data": said, "results": said, "embeddings": said, "model": said }).to_string()));
    scripts.push(vec![Act::Send(answer(200, "text/html", said.as_bytes()))]);
    scripts.push(vec![Act::Send(answer(
        200,
        "text/plain",
        format!("<p>{said}").as_bytes(),
    ))]);
    scripts.push(events(&format!("data: {usual}\n\n")));
    scripts.push(events(&format!("event: error\ndata: {usual}\n\n")));
    scripts.push(events(&format!("event: {said}\ndata: {said}\n\n: {said}\n\n")));
    scripts.push(events(&format!("data: {{\"id\": {said}}}\n\n")));
    scripts.push(vec![
        Act::Send(head(200, &["content-encoding: gzip"])),
        Act::Send(said.clone().into()),
    ]);
    scripts.push(vec![Act::Send(head(
        302,
        &[
            &format!("location: http://127.0.0.1:1/{key}?{key}"),
            "content-length: 0",
        ],
    ))]);
    scripts.push(vec![Act::Send(
        format!("HTTP/1.1 200 {key}\r\n{key}\r\n\r\n").into_bytes(),
    )]);
    scripts.push(vec![Act::Send(format!("{key} {said}\r\n\r\n").into_bytes())]);
    scripts.push(vec![Act::Reset]);
    // Every wire: begun, then failed with an echo, cut, or with keys for its ids.
    for wire in wires() {
        let kind = |body: &str| vec![Act::Send(answer(200, wire.kind, body.as_bytes()))];
        let failure = wire
            .failure
            .replace("Overloaded", &said)
            .replace("busy", &said)
            .replace("the runner stopped", &said);
        scripts.push(kind(&format!("{}{failure}", wire.begun())));
        scripts.push(kind(&failure));
        scripts.push(kind(wire.begun()));
        let named = ["msg_1", "c1", "r1", "g1"]
            .iter()
            .fold(wire.begun().to_owned(), |body, id| {
                body.replace(&format!("\"{id}\""), &format!("\"{key}\""))
            });
        scripts.push(kind(
            &named
                .replace("\"model\":\"m\"", &format!("\"model\":\"{key}\""))
                .replace("\"modelVersion\":\"m\"", &format!("\"modelVersion\":\"{key}\"")),
        ));
        scripts.push(kind(&wire.begun().replace("Grüße ", &said)));
        scripts.push(kind(wire.stream));
    }
    scripts
}
