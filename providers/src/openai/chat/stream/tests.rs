//! Streams of Chat Completions as odd servers send them.

use super::Completion;
use crate::{
    answer::{Decoder, Out},
    openai::Dialect,
};
use serde_json::{Value, json};
use stepwell_core::{ChatResponse, FinishReason, Fold, Part, Result};

fn decode(chunks: &[Value]) -> Result<ChatResponse> {
    let (mut decoder, mut out) = (Completion::new(Dialect::openai(), "m"), Out::new());
    for chunk in chunks {
        decoder.event("message", &chunk.to_string(), &mut out)?;
    }
    decoder.end(&mut out);
    let mut fold = Fold::new("openai", "m", false);
    for event in out {
        fold.push(event)?;
    }
    fold.finish()
}

fn calls(pieces: &Value) -> Value {
    json!({ "id": "a", "choices": [{ "index": 0, "delta": { "tool_calls": pieces } }] })
}

fn end(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

fn seen(answer: &ChatResponse) -> Vec<(String, String, Value)> {
    answer
        .message
        .tool_calls()
        .map(|call| (call.id.clone(), call.name.clone(), call.arguments.clone()))
        .collect()
}

#[test]
fn a_new_id_on_a_known_index_is_a_new_call() {
    let answer = decode(&[
        calls(&json!([{ "index": 0, "id": "x", "function": { "name": "f", "arguments": "{\"n\":1}" } }])),
        calls(&json!([{ "index": 0, "id": "y", "function": { "name": "g", "arguments": "{\"n\"" } }])),
        calls(&json!([{ "index": 0, "function": { "arguments": ":2}" } }])),
        end("stop"),
    ])
    .expect("decodes");
    assert_eq!(
        seen(&answer),
        [
            ("x".into(), "f".into(), json!({ "n": 1 })),
            ("y".into(), "g".into(), json!({ "n": 2 }))
        ]
    );
    assert_eq!(
        answer.finish_reason,
        FinishReason::ToolCalls,
        "`stop` beside a call means the call"
    );
}

#[test]
fn calls_without_an_index_go_by_id_and_without_an_id_get_one() {
    let answer = decode(&[
        calls(
            &json!([{ "id": "x", "function": { "name": "f", "arguments": "{" } },
                      { "id": "y", "function": { "name": "g" } }]),
        ),
        calls(&json!([{ "id": "x", "function": { "name": "f", "arguments": "}" } }])),
        calls(&json!([{ "function": { "arguments": "null" } }])),
        end("tool_calls"),
    ])
    .expect("decodes");
    assert_eq!(
        seen(&answer),
        [
            ("x".into(), "f".into(), json!({})),
            ("y".into(), "g".into(), json!({}))
        ]
    );
    let answer = decode(&[
        calls(&json!([{ "index": 0, "function": { "arguments": "{\"a\"" } }])),
        calls(&json!([{ "index": 0, "function": { "name": "f", "arguments": ":1}" } }])),
        end("tool_calls"),
    ])
    .expect("decodes");
    assert_eq!(
        seen(&answer),
        [("call_a_0".into(), "f".into(), json!({ "a": 1 }))]
    );
}

#[test]
fn a_failure_in_a_chunk_is_typed_and_an_answer_without_a_finish_reason_is_truncated() {
    let text = json!({ "id": "a", "choices": [{ "delta": { "content": "hi" } }] });
    let error = decode(&[
        text.clone(),
        json!({ "error": { "code": "insufficient_quota", "message": "canary" } }),
    ])
    .expect_err("fails");
    assert_eq!(error.code(), "quota_exceeded");
    assert!(!format!("{error} {error:?}").contains("canary"));
    assert_eq!(
        decode(std::slice::from_ref(&text)).expect_err("cut").code(),
        "stream_truncated"
    );
    let whole = decode(&[text, end("stop")]).expect("`[DONE]` may be missing");
    assert_eq!((whole.text().as_str(), whole.warnings.len()), ("hi", 1));
}

#[test]
fn the_old_single_call_sound_and_pages_are_read() {
    let delta = |delta: Value| json!({ "id": "a", "choices": [{ "index": 0, "delta": delta }] });
    let answer = decode(&[
        delta(json!({ "function_call": { "name": "f", "arguments": "{\"n\"" } })),
        delta(json!({ "function_call": { "arguments": ":1}" } })),
        end("function_call"),
    ])
    .expect("decodes");
    assert_eq!(
        seen(&answer),
        [("call_a_0".into(), "f".into(), json!({ "n": 1 }))]
    );
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    let page = json!({ "type": "url_citation", "url_citation": { "url": "https://x.example", "title": "X", "start_index": 0, "end_index": 2 } });
    let answer = decode(&[
        delta(json!({ "audio": { "id": "s", "transcript": "hi" } })),
        delta(json!({ "audio": { "data": "AAEC" } })),
        delta(json!({ "audio": { "data": "Aw==" }, "annotations": [page] })),
        end("stop"),
    ])
    .expect("decodes");
    assert_eq!(answer.text(), "hi");
    let uris: Vec<_> = answer
        .message
        .citations()
        .map(|citation| citation.uri.as_deref())
        .collect();
    assert_eq!(uris, [Some("https://x.example")]);
    match &answer.message.parts[1] {
        Part::Media(media) => assert_eq!(media.media_type, "audio/pcm"),
        other => panic!("expected the sound, got {other:?}"),
    }
}

#[test]
fn odd_chunks_do_no_harm_and_odd_words_are_never_quoted() {
    let answer = decode(&[
        json!({ "choices": [], "prompt_filter_results": [] }),
        json!({ "choices": null, "usage": null }),
        json!({ "choices": [{ "index": 1, "delta": { "content": "other" } }] }),
        json!({ "choices": [{ "delta": null }] }),
        end("stop"),
        end("length"),
    ])
    .expect("decodes");
    assert_eq!(
        (answer.text().as_str(), answer.finish_reason),
        ("", FinishReason::Stop)
    );
    let error = decode(&[json!({ "choices": "canary" })]).expect_err("no list");
    assert_eq!(error.code(), "invalid_response");
    assert!(!format!("{error} {error:?}").contains("canary"));
}
