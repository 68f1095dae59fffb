//! What goes wrong: refusals, cuts, words beside the answer, and what is asked again.

use super::{Trip, WIRES, Wire, request, sse, tool};
use crate::fixtures::{Act, Framing, Server, http_answer};
use serde_json::{Value, json};
use stepwell_core::{ChatAs, ChatRequest, FinishReason, ReasoningEffort, Schema};

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
        vec![Act::Send([&text.as_bytes()[..end], b"\n"].concat())]
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
