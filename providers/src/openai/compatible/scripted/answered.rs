//! Answers: every form in which a compatible server says the same.

use super::{DONE, answer, builder, delta, end, json_answer};
use crate::fixtures::Server;
use serde_json::{Value, json};
use stepwell_core::{ChatModel, ChatResponse, Cost, FinishReason, Part};

/// Parts as one word and their text or arguments.
fn gist(answer: &ChatResponse) -> Vec<(&'static str, String)> {
    let parts = answer.message.parts.iter();
    parts
        .map(|part| match part {
            Part::Text(part) => ("text", part.text.clone()),
            Part::Reasoning(part) => ("reasoning", part.text.clone()),
            Part::ToolCall(call) => ("call", format!("{} {} {}", call.id, call.name, call.arguments)),
            Part::Unknown(part) => ("unknown", part.value.to_string()),
            _ => ("other", String::new()),
        })
        .collect()
}

async fn whole(vendor: &str, body: &Value) -> ChatResponse {
    let server = Server::start(vec![json_answer(200, &[], &body.to_string())]).await;
    let model = builder(vendor, &server.url).build().expect("builds");
    model.chat("Hi".into()).await.expect("answers")
}

#[tokio::test]
async fn a_thought_is_read_from_whatever_field_it_comes_in() {
    let said = delta(&json!({ "content": "8" }));
    for pieces in [
        [
            json!({ "reasoning_content": "5 and" }),
            json!({ "reasoning_content": " 3" }),
        ],
        [
            json!({ "reasoning": "5 and", "channel": "analysis" }),
            json!({ "reasoning": " 3" }),
        ],
        [
            json!({ "reasoning": "5 and", "reasoning_content": "5 and", "content": "" }),
            json!({ "reasoning": " 3", "reasoning_content": " 3", "content": null }),
        ],
        [
            json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "5 and" }] }),
            json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": " 3" }] }),
        ],
        [
            json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "5 and" }] }] }),
            json!({ "content": [{ "type": "thinking", "thinking": " 3" }] }),
        ],
    ] {
        let events = [delta(&pieces[0]), delta(&pieces[1]), said.clone(), end("stop")];
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let answer = answer("vllm", &events).await.expect("answers");
        assert_eq!(
            gist(&answer),
            [("reasoning", "5 and 3".to_owned()), ("text", "8".to_owned())],
            "{pieces:?}"
        );
    }
}

#[tokio::test]
async fn signed_thoughts_keep_their_tokens_and_their_place_even_without_words() {
    let details = json!([
        { "type": "reasoning.text", "text": "Hm.", "signature": "s+/=", "format": "f", "index": 0 },
        { "type": "reasoning.encrypted", "data": "zz", "id": "rs_1", "index": 1 }
    ]);
    let streamed = [
        delta(
            &json!({ "reasoning": "H", "reasoning_details": [{ "type": "reasoning.text", "text": "H", "format": "f", "index": 0 }] }),
        ),
        delta(
            &json!({ "reasoning": "m.", "reasoning_details": [{ "type": "reasoning.text", "text": "m.", "format": "f", "index": 0 }] }),
        ),
        delta(
            &json!({ "reasoning_details": [{ "type": "reasoning.text", "signature": "s+/=", "format": "f", "index": 0 }] }),
        ),
        delta(&json!({ "content": "Yes" })),
        delta(
            &json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "data": "zz", "id": "rs_1", "index": 1 }] }),
        ),
        end("stop"),
    ];
    let events: Vec<&str> = streamed.iter().map(String::as_str).collect();
    let streamed = answer("openrouter", &events).await.expect("answers");
    let message = json!({ "content": "Yes", "reasoning": "Hm.", "reasoning_details": details });
    let whole = whole(
        "openrouter",
        &json!({ "id": "a", "choices": [{ "message": message, "finish_reason": "stop" }] }),
    )
    .await;
    for answer in [&streamed, &whole] {
        assert_eq!(
            gist(answer),
            [("reasoning", "Hm.".to_owned()), ("text", "Yes".to_owned())]
        );
        let Part::Reasoning(part) = &answer.message.parts[0] else {
            panic!("a thought comes first")
        };
        let token = part.opaque.as_ref().expect("a token");
        assert_eq!(
            (token.provider.as_str(), token.model.as_str()),
            ("openrouter", "some-model")
        );
        assert_eq!(token.value.as_array().map(Vec::len), Some(2));
        assert_eq!(token.value[0]["signature"], "s+/=");
        assert_eq!(token.value[1]["data"], "zz");
    }
    let seal = json!({ "google": { "thought_signature": "AV+/==" } });
    let call = json!({ "index": 0, "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" }, "extra_content": seal });
    let events = [
        delta(&json!({ "tool_calls": [call] })),
        delta(&json!({ "extra_content": { "google": { "thought": true, "thought_signature": "B==" } } })),
        end("tool_calls"),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let sealed = answer("gemini-openai", &events).await.expect("answers");
    let Part::ToolCall(call) = &sealed.message.parts[0] else {
        panic!("a call comes first")
    };
    assert_eq!(call.opaque.as_ref().expect("a token").value, seal);
    let Part::Reasoning(part) = &sealed.message.parts[1] else {
        panic!("a thought without words")
    };
    assert_eq!(
        part.opaque.as_ref().expect("a token").value["google"]["thought_signature"],
        "B=="
    );
}

#[tokio::test]
async fn calls_are_told_apart_with_all_indexes_zero_with_none_and_whole_in_one_delta() {
    let call = |index: Option<u32>, id: &str, name: &str, arguments: Value| {
        let mut call =
            json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        if let Some(index) = index {
            call["index"] = json!(index);
        }
        call
    };
    let expected = [
        ("call", r#"x f {"n":1}"#.to_owned()),
        ("call", "y g {}".to_owned()),
    ];
    let (one, null) = (json!("{\"n\":1}"), json!("null"));
    for events in [
        // Ollama: every call has index 0.
        vec![
            delta(&json!({ "tool_calls": [call(Some(0), "x", "f", one.clone())] })),
            delta(&json!({ "tool_calls": [call(Some(0), "y", "g", null.clone())] })),
        ],
        // No index; both in one delta.
        vec![delta(
            &json!({ "tool_calls": [call(None, "x", "f", one.clone()), call(None, "y", "g", json!(""))] }),
        )],
        // An object where a string should be, and no arguments at all.
        vec![delta(
            &json!({ "tool_calls": [call(Some(0), "x", "f", json!({ "n": 1 })), call(Some(1), "y", "g", Value::Null)] }),
        )],
        // In pieces, the second begun before the first has ended.
        vec![
            delta(
                &json!({ "tool_calls": [call(Some(0), "x", "f", json!("{\"n\"")), call(Some(1), "y", "g", json!(""))] }),
            ),
            delta(&json!({ "tool_calls": [{ "index": 0, "function": { "arguments": ":1}" } }] })),
        ],
    ] {
        let end = end("tool_calls");
        let mut all: Vec<&str> = events.iter().map(String::as_str).collect();
        all.extend([end.as_str(), DONE]);
        let answer = answer("ollama-openai", &all).await.expect("answers");
        assert_eq!(gist(&answer), expected, "{events:?}");
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    }
}

#[tokio::test]
async fn usage_is_read_from_wherever_it_stands_and_its_parts_are_disjoint() {
    let told = |usage: Value| format!("data: {}", json!({ "id": "a", "choices": [], "usage": usage }));
    let text = delta(&json!({ "content": "ok" }));
    let groq = format!(
        "data: {}",
        json!({ "id": "a", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }],
            "x_groq": { "id": "r", "usage": { "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8 } } })
    );
    let stop = end("stop");
    // Fresh, cached, output, reasoning.
    for (vendor, usage, expected) in [
        ("groq", groq, (Some(5), None, Some(3), None)),
        (
            "deepseek",
            told(
                json!({ "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6, "completion_tokens_details": { "reasoning_tokens": 2 } }),
            ),
            (Some(6), Some(4), Some(5), Some(2)),
        ),
        (
            "copilot",
            told(
                json!({ "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17, "reasoning_tokens": 2 }),
            ),
            (Some(10), None, Some(5), Some(2)),
        ),
        // xAI's chat counts reasoning beside the output°.
        (
            "vllm",
            told(
                json!({ "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "completion_tokens_details": { "reasoning_tokens": 94 } }),
            ),
            (Some(32), None, Some(9), Some(94)),
        ),
        // Gemini's counts its thoughts in the total alone.
        (
            "gemini-openai",
            told(json!({ "prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109 })),
            (Some(35), None, Some(12), Some(62)),
        ),
        // Mistral counts sound beside the input.
        (
            "mistral",
            told(
                json!({ "prompt_tokens": 11, "completion_tokens": 15, "total_tokens": 401, "prompt_tokens_details": { "audio_tokens": 375, "cached_tokens": 9 } }),
            ),
            (Some(377), Some(9), Some(15), None),
        ),
        // Grok behind Azure counts more cached than there was.
        (
            "azure",
            told(
                json!({ "prompt_tokens": 198, "completion_tokens": 18, "total_tokens": 216, "prompt_tokens_details": { "cached_tokens": 314 } }),
            ),
            (Some(0), Some(198), Some(18), None),
        ),
    ] {
        let answer = answer(vendor, &[&text, &stop, &usage, DONE]).await.expect(vendor);
        let usage = &answer.usage;
        assert_eq!(
            (
                usage.input_tokens,
                usage.cache_read_tokens,
                usage.output_tokens,
                usage.reasoning_tokens
            ),
            expected,
            "{vendor}"
        );
        assert!(answer.warnings.is_empty(), "{vendor}: {:?}", answer.warnings);
    }
}

#[tokio::test]
async fn what_the_vendor_says_it_cost_is_the_cost() {
    let body = |usage: Value, more: Value| {
        let mut body = json!({ "id": "a", "choices": [{ "message": { "content": "ok" }, "finish_reason": "stop" }], "usage": usage });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        body
    };
    for (vendor, body, micro_usd) in [
        (
            "openrouter",
            body(json!({ "cost": 0.000_123 }), json!({})),
            Some(123),
        ),
        (
            "perplexity",
            body(
                json!({ "cost": { "input_tokens_cost": 0.00002, "total_cost": 0.00609 } }),
                json!({}),
            ),
            Some(6_090),
        ),
        (
            "venice",
            body(json!({}), json!({ "cost": { "diem": 0, "usd": 0.000_581_3 } })),
            Some(582),
        ),
        (
            "azure",
            body(json!({ "cost_in_usd_ticks": 37_500 }), json!({})),
            Some(4),
        ),
        ("azure", body(json!({ "cost_in_usd_ticks": 0 }), json!({})), None),
        (
            "openrouter",
            body(json!({ "cost": "a lot" }), json!({ "cost": [1] })),
            None,
        ),
    ] {
        let answer = whole(vendor, &body).await;
        assert_eq!(
            answer.cost,
            micro_usd.map(|micro_usd| Cost { micro_usd }),
            "{vendor}"
        );
    }
}

#[tokio::test]
async fn what_an_answer_rests_on_becomes_citations_of_its_text() {
    let results = json!([{ "title": "A", "url": "https://a.example", "snippet": "words", "date": null }, { "url": "https://b.example" }]);
    let chunk = |text: &str, so_far: &str, finish: Value| {
        format!(
            "data: {}",
            json!({ "id": "a", "citations": ["https://a.example", "https://b.example"], "search_results": results,
                "choices": [{ "index": 0, "delta": { "content": text }, "message": { "content": so_far }, "finish_reason": finish }] })
        )
    };
    let (one, two) = (
        chunk("Am", "Am", Value::Null),
        chunk("ber", "Amber", json!("stop")),
    );
    let answer = answer("perplexity", &[&one, &two]).await.expect("answers");
    assert_eq!(gist(&answer), [("text", "Amber".to_owned())]);
    let Part::Text(text) = &answer.message.parts[0] else {
        panic!("text")
    };
    assert_eq!(text.citations.len(), 2);
    let first = &text.citations[0];
    assert_eq!(
        (first.uri.as_deref(), first.title.as_deref(), first.quote.as_str()),
        (Some("https://a.example"), Some("A"), "words")
    );
    let link = json!({ "type": "url_citation", "url_citation": { "url": "https://c.example", "title": "C", "content": "more", "start_index": 0, "end_index": 2 } });
    for body in [
        json!({ "choices": [{ "message": { "content": "So", "annotations": [link, { "type": "other" }] }, "finish_reason": "stop" }] }),
        json!({ "choices": [{ "message": { "content": "So" }, "finish_reason": "stop" }], "citations": ["https://c.example"] }),
    ] {
        let answer = whole("openrouter", &body).await;
        let Part::Text(text) = &answer.message.parts[0] else {
            panic!("text")
        };
        assert_eq!(text.citations.len(), 1);
        assert_eq!(text.citations[0].uri.as_deref(), Some("https://c.example"));
    }
}

#[tokio::test]
async fn what_the_vendor_ran_itself_and_pieces_nobody_knows_are_kept() {
    let search = |output: Value| json!({ "executed_tools": [{ "index": 0, "type": "search", "arguments": "{}", "output": output }] });
    let events = [
        delta(&search(Value::Null)),
        delta(&search(json!("found"))),
        delta(
            &json!({ "content": [{ "type": "text", "text": "So" }, { "type": "reference", "reference_ids": [3] }] }),
        ),
        end("stop"),
    ];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let answer = answer("groq", &events).await.expect("answers");
    let gist = gist(&answer);
    assert_eq!(gist.len(), 3);
    assert_eq!(gist[0], ("text", "So".to_owned()));
    assert!(gist[1].1.contains("reference_ids"), "{gist:?}");
    assert!(gist[2].1.contains("found"), "{gist:?}");
}

#[tokio::test]
async fn an_answer_ends_with_its_finish_reason_said_once_or_twice_with_or_without_a_mark() {
    let text = delta(&json!({ "content": "ok" }));
    let (stop, length) = (end("stop"), end("length"));
    let alive = ": OPENROUTER PROCESSING";
    for events in [
        vec![alive, &text, alive, &stop, DONE],
        vec![&text, &stop],
        vec![&text, &stop, &stop, DONE],
        vec![&text, &stop, &length, DONE],
    ] {
        let answer = answer("openrouter", &events).await.expect("answers");
        assert_eq!(
            (answer.text().as_str(), answer.finish_reason),
            ("ok", FinishReason::Stop)
        );
    }
    for (word, reason) in [
        ("eos", FinishReason::Stop),
        ("model_length", FinishReason::Length),
        ("content_filter", FinishReason::ContentFilter),
        ("something_new", FinishReason::Other),
    ] {
        let end = end(word);
        let answer = answer("together", &[&text, &end, DONE]).await.expect("answers");
        assert_eq!(answer.finish_reason, reason);
        assert_eq!(answer.raw_finish_reason.as_deref(), Some(word));
    }
    for events in [vec![text.as_str()], vec![&text, DONE], vec![]] {
        let found = answer("vllm", &events).await;
        match events.len() {
            // The mark without a reason: the server says it is done.
            2 => assert_eq!(found.expect("answers").finish_reason, FinishReason::Other),
            _ => assert_eq!(found.expect_err("cut").code(), "stream_truncated"),
        }
    }
}

#[tokio::test]
async fn azures_word_on_the_prompt_comes_before_the_answer_and_is_none() {
    let filter = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}"#;
    let text = format!(
        "data: {}",
        json!({ "id": "chatcmpl-1", "model": "gpt-5-nano", "choices": [{ "index": 0, "delta": { "content": "ok" }, "content_filter_results": {} }] })
    );
    let stop = end("stop");
    let told = answer("azure", &[filter, &text, &stop, DONE])
        .await
        .expect("answers");
    assert_eq!(
        (told.id.as_deref(), told.model.as_str(), told.text().as_str()),
        (Some("chatcmpl-1"), "gpt-5-nano", "ok")
    );
    let error = answer("azure", &[filter]).await.expect_err("nothing was said");
    assert_eq!(error.code(), "stream_truncated");
}
