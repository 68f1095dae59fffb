//! No failure of this wire shows a key or a prompt.

use crate::{
    fixtures::{Act, Framing, Server, http_answer, shown},
    openai::OpenAi,
};
use serde_json::json;
use stepwell_core::ChatModel;

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
    let model = OpenAi::new("gpt-4o")
        .api_key("sk-canary-key")
        .base_url(&server.url)
        .build()
        .expect("builds");
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
