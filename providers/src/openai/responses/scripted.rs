//! What no recording shows of Responses, and each fact that others get wrong, over a real local socket.

use crate::{
    OpenAi, OpenAiCompatible, OpenAiWire,
    fixtures::{Act, Framing, Seen, Server, http_answer},
};
use futures::StreamExt;
use serde_json::{Value, json};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Message, Origin, Part, ReasoningEffort,
    Result, Role, StreamEvent, ToolCall,
};

/// Events of a stream, each under the name that is its type, in one chunk or cut in pieces of three bytes.
fn sse(events: &[Value], is_cut: bool) -> Vec<Act> {
    let texts = events.iter().map(|event| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap_or_default()
        )
    });
    let body = texts.collect::<String>();
    let head = http_answer(200, &[("content-type", "text/event-stream")], b"", Framing::Close);
    let mut acts = vec![Act::Send(head)];
    if is_cut {
        // Inside of characters too.
        acts.extend(body.as_bytes().chunks(3).map(|piece| Act::Send(piece.to_vec())));
    } else {
        acts.push(Act::Send(body.into_bytes()));
    }
    acts
}

fn answered(status: u16, body: &Value) -> Vec<Act> {
    let headers = [("content-type", "application/json")];
    vec![Act::Send(http_answer(
        status,
        &headers,
        body.to_string().as_bytes(),
        Framing::Length,
    ))]
}

fn created() -> Value {
    json!({ "type": "response.created", "response": { "id": "resp_1", "model": "gpt-6-sol", "status": "in_progress" } })
}

fn completed(output: &Value) -> Value {
    json!({ "type": "response.completed", "response": { "id": "resp_1", "status": "completed", "output": output } })
}

fn item(kind: &str, at: u64, item: &Value) -> Value {
    json!({ "type": format!("response.output_item.{kind}"), "output_index": at, "item": item })
}

fn model(url: &str) -> OpenAi {
    let model = OpenAi::new("gpt-6-sol")
        .api_key("k")
        .base_url(format!("{url}/v1"));
    model.wire(OpenAiWire::Responses).build().expect("builds")
}

/// The answer to a stream of these events.
async fn told(events: &[Value]) -> Result<ChatResponse> {
    let server = Server::start(vec![sse(events, false), sse(events, true)]).await;
    let model = model(&server.url);
    let whole = model.chat("Hi".into()).await;
    let cut = model.chat("Hi".into()).await;
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole.message, cut.message),
        (Err(whole), Err(cut)) => assert_eq!(whole.code(), cut.code()),
        _ => panic!("cut otherwise it ends otherwise"),
    }
    whole
}

/// What a request becomes.
async fn sent(request: ChatRequest) -> Value {
    let server = Server::start(vec![sse(&[created(), completed(&json!([]))], false)]).await;
    model(&server.url).chat(request).await.expect("answers");
    server.requests()[0].json()
}

fn thought() -> Value {
    json!({ "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "Hm." }], "encrypted_content": "gAAA+/==" })
}

fn call() -> Value {
    json!({ "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": "{ \"a\": 1 }", "status": "completed" })
}

#[tokio::test]
async fn items_are_known_by_their_place_though_every_event_has_another_id() {
    let message = |id: &str, text: &str| json!({ "type": "message", "id": id, "role": "assistant", "content": [{ "type": "output_text", "text": text, "annotations": [] }] });
    let delta = |id: &str, text: &str| json!({ "type": "response.output_text.delta", "item_id": id, "output_index": 1, "content_index": 0, "delta": text });
    let events = [
        created(),
        item(
            "added",
            0,
            &json!({ "type": "reasoning", "id": "x1", "summary": [] }),
        ),
        json!({ "type": "response.reasoning_summary_text.delta", "item_id": "x2", "output_index": 0, "summary_index": 0, "delta": "Hm." }),
        json!({ "type": "response.something_new", "output_index": 0 }),
        item("done", 0, &thought()),
        item(
            "added",
            1,
            &json!({ "type": "message", "id": "x4", "role": "assistant", "content": [] }),
        ),
        delta("x5", "Grüß "),
        delta("x6", "dich 🦀"),
        item("done", 1, &message("x7", "Grüß dich 🦀")),
        completed(&json!([])),
    ];
    let answer = told(&events).await.expect("answers");
    assert_eq!(answer.text(), "Grüß dich 🦀");
    assert_eq!(answer.message.parts.len(), 2, "{:?}", answer.message.parts);
    assert_eq!(answer.finish_reason, FinishReason::Stop);
}

#[tokio::test]
async fn an_answer_whose_last_event_has_no_output_is_made_of_its_items() {
    let bare = json!({ "type": "response.completed", "response": { "id": "resp_1", "status": "completed" } });
    for last in [completed(&json!([])), bare] {
        let answer = told(&[
            created(),
            item("done", 0, &thought()),
            item("done", 1, &call()),
            last,
        ])
        .await
        .expect("answers");
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls, "no status says so");
        let calls: Vec<_> = answer.message.tool_calls().collect();
        assert_eq!(
            (calls[0].id.as_str(), &calls[0].arguments),
            ("call_1", &json!({ "a": 1 }))
        );
    }
    // And the other way round: items that only the last event tells.
    let answer = told(&[created(), completed(&json!([thought(), call()]))])
        .await
        .expect("answers");
    assert_eq!(answer.message.parts.len(), 2);
}

#[tokio::test]
async fn a_thought_goes_back_whole_and_directly_before_its_call_without_any_names() {
    let answer = told(&[
        created(),
        item("done", 0, &thought()),
        item("done", 1, &call()),
        completed(&json!([])),
    ])
    .await
    .expect("answers");
    let called = answer.message.tool_calls().next().expect("a call").clone();
    let result = Part::tool_result(&called, vec![Part::text("2", Origin::Tool)], false, Origin::Tool);
    let mut request = ChatRequest::new([
        Message::system("Be brief."),
        Message::user("Add."),
        answer.message.clone(),
        Message::tool(vec![result]),
    ]);
    request.reasoning.effort = Some(ReasoningEffort::Low);
    request.reasoning.show_summary = Some(true);
    let body = sent(request.clone()).await;
    assert_eq!(
        body["input"],
        json!([
            { "type": "message", "role": "user", "content": "Add." },
            thought(),
            { "type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{ \"a\": 1 }" },
            { "type": "function_call_output", "call_id": "call_1", "output": "2" },
        ])
    );
    assert_eq!(
        body["input"][1].to_string(),
        thought().to_string(),
        "key by key as it came"
    );
    assert_eq!(
        (&body["store"], &body["instructions"]),
        (&json!(false), &json!("Be brief."))
    );
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(body["reasoning"], json!({ "effort": "low", "summary": "auto" }));
    // Where the vendor keeps it, it is named, and not asked for again.
    let kept = sent(
        request
            .clone()
            .provider_option("openai", json!({ "store": true })),
    )
    .await;
    assert_eq!(kept["input"][2]["id"], "fc_1");
    assert_eq!(kept.get("include"), None);
    // Another model gets neither thought nor seal.
    let server = Server::start(vec![sse(&[created(), completed(&json!([]))], false)]).await;
    let other = OpenAi::new("gpt-5-nano")
        .api_key("k")
        .base_url(format!("{}/v1", server.url));
    let other = other.wire(OpenAiWire::Responses).build().expect("builds");
    let answer = other.chat(request).await.expect("answers");
    assert!(!String::from_utf8_lossy(&server.requests()[0].body).contains("gAAA"));
    assert!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.message.contains("reasoning_dropped"))
    );
}

#[tokio::test]
async fn a_model_that_does_not_think_is_not_asked_for_seals_and_a_phase_stays_on_its_words() {
    let server = Server::start(vec![sse(&[created(), completed(&json!([]))], false)]).await;
    let model = OpenAi::new("gpt-4o")
        .api_key("k")
        .base_url(format!("{}/v1", server.url));
    let model = model.wire(OpenAiWire::Responses).build().expect("builds");
    model.chat("Hi".into()).await.expect("answers");
    assert_eq!(server.requests()[0].json().get("include"), None);
    let said = json!({ "type": "message", "id": "msg_1", "role": "assistant", "phase": "commentary", "content": [{ "type": "output_text", "text": "Let me see." }] });
    let answer = told(&[created(), item("done", 0, &said), completed(&json!([]))])
        .await
        .expect("answers");
    let body = sent(ChatRequest::new([
        Message::user("Hi"),
        answer.message,
        Message::user("And?"),
    ]))
    .await;
    assert_eq!(
        body["input"][1],
        json!({ "type": "message", "role": "assistant", "phase": "commentary", "content": "Let me see." })
    );
}

#[tokio::test]
async fn the_end_of_an_answer_is_told_by_its_status_alone() {
    let ended = |status: &str, reason: Value| {
        json!({ "type": format!("response.{status}"), "response": { "id": "resp_1", "status": status,
            "incomplete_details": { "reason": reason }, "output": [thought()],
            "usage": { "input_tokens": 100, "input_tokens_details": { "cached_tokens": 60, "cache_write_tokens": 30 },
                "output_tokens": 50, "output_tokens_details": { "reasoning_tokens": 50 } } } })
    };
    for (status, reason, finish) in [
        ("incomplete", json!("max_output_tokens"), FinishReason::Length),
        ("incomplete", json!("content_filter"), FinishReason::ContentFilter),
        ("completed", Value::Null, FinishReason::Stop),
        ("cancelled", Value::Null, FinishReason::Other),
    ] {
        // The budget may be eaten by reasoning: no message at all.
        let answer = told(&[created(), ended(status, reason.clone())])
            .await
            .expect("answers");
        assert_eq!(answer.finish_reason, finish, "{status} {reason}");
        assert_eq!((answer.text().as_str(), answer.message.parts.len()), ("", 1));
        let usage = &answer.usage;
        assert_eq!(
            (
                usage.input_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens
            ),
            (Some(10), Some(60), Some(30))
        );
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (Some(0), Some(50)));
    }
    let delta = json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Half" });
    let error = told(&[created(), delta]).await.expect_err("no last event");
    assert!(
        matches!(&error, Error::StreamTruncated { partial, .. } if partial.text() == "Half"),
        "{error}"
    );
}

#[tokio::test]
async fn a_failure_after_a_200_is_that_of_its_code_in_every_form() {
    let quota = json!({ "type": "insufficient_quota", "code": "insufficient_quota", "message": "no money" });
    let failed = |error: &Value| json!({ "type": "response.failed", "response": { "id": "resp_1", "status": "failed", "error": error } });
    let nested = json!({ "type": "error", "sequence_number": 2, "error": quota });
    let flat = json!({ "type": "error", "sequence_number": 2, "code": "insufficient_quota", "message": "no money", "param": null });
    let busy = json!({ "code": "server_error", "message": "later" });
    let limited = json!({ "code": "rate_limit_exceeded", "message": "slow" });
    for (events, code, is_retryable) in [
        (
            vec![created(), nested.clone(), failed(&quota)],
            "quota_exceeded",
            false,
        ),
        (vec![created(), flat], "quota_exceeded", false),
        (vec![created(), failed(&quota)], "quota_exceeded", false),
        (vec![created(), failed(&busy)], "overloaded", true),
        (vec![created(), failed(&limited)], "rate_limited", true),
    ] {
        let error = told(&events).await.expect_err("it failed");
        assert_eq!(
            (error.code(), error.is_retryable()),
            (code, is_retryable),
            "{events:?}"
        );
        // Before anything was said it is a failure of the call, which a retry can mend.
        let server = Server::start(vec![sse(&events, false)]).await;
        assert!(model(&server.url).stream("Hi".into()).await.is_err(), "{code}");
    }
    let delta = json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Half" });
    let server = Server::start(vec![sse(&[created(), delta, nested], false)]).await;
    let mut stream = model(&server.url).stream("Hi".into()).await.expect("it begins");
    let mut said = String::new();
    let error = loop {
        match stream.next().await.expect("an end") {
            Ok(StreamEvent::TextDelta { text, .. }) => said.push_str(&text),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((said.as_str(), error.code()), ("Half", "quota_exceeded"));
}

fn one(server: &Server) -> Seen {
    server.requests().remove(0)
}

#[tokio::test]
async fn tokens_are_counted_by_the_vendor_or_estimated_and_flagged_so() {
    let mut request =
        ChatRequest::new([Message::system("Be brief."), Message::user("Hi")]).max_output_tokens(9);
    request.temperature = Some(0.1);
    let counted = json!({ "object": "response.input_tokens", "input_tokens": 17 });
    let server = Server::start(vec![answered(200, &counted)]).await;
    let usage = model(&server.url).count_tokens(&request).await.expect("counted");
    assert_eq!((usage.input_tokens, usage.is_estimated), (Some(17), false));
    let seen = one(&server);
    assert_eq!(seen.path, "/v1/responses/input_tokens");
    assert_eq!(
        seen.json(),
        json!({ "model": "gpt-6-sol", "instructions": "Be brief.", "input": [{ "type": "message", "role": "user", "content": "Hi" }] }),
        "and nothing of how it is to be answered"
    );
    let server = Server::start(vec![answered(200, &counted)]).await;
    let azure = OpenAiCompatible::vendor("azure", "my-deployment").expect("in the table");
    let azure = azure
        .api_key("k")
        .base_url(&server.url)
        .api_version("2025-04-01-preview");
    let azure = azure.wire(OpenAiWire::Responses).build().expect("builds");
    assert_eq!(
        azure.count_tokens(&request).await.expect("counted").input_tokens,
        Some(17)
    );
    let seen = one(&server);
    assert_eq!(
        seen.path,
        "/openai/responses/input_tokens?api-version=2025-04-01-preview"
    );
    assert_eq!(seen.header("api-key"), Some("k"));
    for (status, body) in [
        (404, json!({ "error": { "message": "no such path" } })),
        (200, json!({ "ok": true })),
    ] {
        let server = Server::start(vec![answered(status, &body)]).await;
        let usage = model(&server.url)
            .count_tokens(&request)
            .await
            .expect("estimated");
        assert!(usage.is_estimated && usage.input_tokens > Some(0), "{status}");
    }
    let server = Server::start(vec![answered(401, &json!({ "error": { "message": "no" } }))]).await;
    let error = model(&server.url)
        .count_tokens(&request)
        .await
        .expect_err("a wrong key");
    assert_eq!(error.code(), "unauthorized");
}

#[tokio::test]
async fn with_a_kept_answer_only_what_is_new_is_sent_and_as_it_is() {
    let call = ToolCall::new("call_1", "add", json!({}));
    let result = Part::tool_result(&call, vec![Part::text("2", Origin::Tool)], false, Origin::Tool);
    let request = ChatRequest::new([Message::tool(vec![result])])
        .provider_option("openai", json!({ "previous_response_id": "resp_1" }));
    let body = sent(request).await;
    // The doctor would take it for a result without its call.
    assert_eq!(
        body["input"],
        json!([{ "type": "function_call_output", "call_id": "call_1", "output": "2" }])
    );
    assert_eq!(
        (&body["store"], &body["previous_response_id"]),
        (&json!(true), &json!("resp_1"))
    );
}

#[tokio::test]
async fn the_wire_is_that_of_the_family_unless_the_host_or_the_request_says_otherwise() {
    let ended = || sse(&[created(), completed(&json!([]))], false);
    let chunk = json!({ "id": "a", "choices": [{ "index": 0, "delta": { "content": "hi" }, "finish_reason": "stop" }] });
    let chat = || sse(std::slice::from_ref(&chunk), false);
    let server = Server::start(vec![chat(), ended(), ended(), chat()]).await;
    let base = format!("{}/v1", server.url);
    let openai = || OpenAi::new("gpt-6-sol").api_key("k").base_url(base.clone());
    // An address that is not the vendor's is asked on the wire that nearly every server speaks.
    openai()
        .build()
        .expect("builds")
        .chat("Hi".into())
        .await
        .expect("answers");
    let asked = ChatRequest::from("Hi").provider_option("openai", json!({ "wire": "responses" }));
    openai()
        .build()
        .expect("builds")
        .chat(asked)
        .await
        .expect("answers");
    let xai = || {
        OpenAiCompatible::vendor("xai", "grok-4.7")
            .expect("in the table")
            .api_key("k")
            .base_url(base.clone())
    };
    xai()
        .build()
        .expect("builds")
        .chat("Hi".into())
        .await
        .expect("answers");
    xai()
        .wire(OpenAiWire::Chat)
        .build()
        .expect("builds")
        .chat("Hi".into())
        .await
        .expect("answers");
    let seen = server.requests();
    let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/v1/chat/completions",
            "/v1/responses",
            "/v1/responses",
            "/v1/chat/completions"
        ]
    );
    assert_eq!(
        seen[1].json().get("wire"),
        None,
        "an option of ours is no field of the body"
    );
    // xAI seals its thoughts too; the padding is a word of OpenAI's.
    assert_eq!(seen[2].json()["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(seen[2].json().get("stream_options"), None);
    let wrong = ChatRequest::from("Hi").provider_option("openai", json!({ "wire": "telegraph" }));
    let error = openai()
        .build()
        .expect("builds")
        .chat(wrong)
        .await
        .expect_err("no such wire");
    assert_eq!(error.code(), "invalid_input");
}

#[tokio::test]
async fn what_the_model_refuses_is_told_and_goes_back_as_it_came() {
    let refused = json!({ "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{ "type": "refusal", "refusal": "I will not." }] });
    let events = [
        created(),
        item(
            "added",
            0,
            &json!({ "type": "message", "id": "msg_1", "role": "assistant", "content": [] }),
        ),
        json!({ "type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": "I will not." }),
        item("done", 0, &refused),
        completed(&json!([refused])),
    ];
    let answer = told(&events).await.expect("an answer");
    assert_eq!(
        (answer.finish_reason, answer.raw_finish_reason.as_deref()),
        (FinishReason::ContentFilter, Some("completed"))
    );
    let refusal = answer.refusal.expect("a refusal");
    assert_eq!(refusal.message.as_deref(), Some("I will not."));
    assert_eq!(answer.message.role, Role::Assistant);
    let body = sent(ChatRequest::new([
        Message::user("Do."),
        answer.message,
        Message::user("Please."),
    ]))
    .await;
    assert_eq!(body["input"][1], refused);
}
