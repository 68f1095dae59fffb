//! The ways themselves, and which is taken.

use super::{Trip, WIRES, Wire, kinds, request, tool, trip, watch};
use crate::{
    OpenAiCompatible,
    fixtures::{Server, shown},
    quirks::{Formats, Quirks},
};
use futures::StreamExt;
use serde_json::{Value, json};
use stepwell_core::{
    ChatAs, ChatModel, ChatRequest, ChatResponse, Error, FinishReason, PartialAnswer, Schema, StreamEvent,
    StructuredStrategy, collect,
};

#[tokio::test]
async fn every_wire_keeps_to_a_schema_by_itself_and_what_it_dropped_is_checked_here() {
    for wire in WIRES {
        let good = r#"{"city":"Oslo","days":null}"#;
        let bad = r#"{"city":"canary-Oslo","days":99}"#;
        let server = Server::start(vec![wire.says(good), wire.says(good), wire.says(bad)]).await;
        let model = wire.model(&server.url, wire.able());
        let (events, text) = watch(&*model, request()).await.expect("answers");
        assert_eq!(text, good, "{wire:?}: the reader sees the vendor's own words");
        assert_eq!(
            kinds(&events),
            ["text_start", "text_delta", "text_end", "structured", "finish"],
            "{wire:?}"
        );
        let sent = wire.asked(&server.requests()[0].json());
        assert_eq!(
            sent["properties"]["city"],
            json!({ "type": "string" }),
            "{wire:?}: {sent}"
        );

        let answer = model.chat(request()).await.expect("answers");
        let structured = answer.structured.clone().expect("it is structured");
        assert_eq!(structured.strategy, StructuredStrategy::Native, "{wire:?}");
        assert_eq!(
            structured.value,
            Some(json!({ "city": "Oslo" })),
            "{wire:?}: null is absent"
        );
        assert_eq!(
            answer.parse::<Trip>().expect("a trip"),
            Trip {
                city: "Oslo".into(),
                days: 0
            }
        );

        let error = model.chat(request()).await.expect_err("99 days");
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("schema_mismatch", false),
            "{wire:?}"
        );
        assert!(
            error.to_string().contains("`maximum` at /days"),
            "{wire:?}: {error}"
        );
        assert!(!shown(&error).contains("canary"), "{wire:?}");
        let Error::SchemaMismatch { response, .. } = error else {
            unreachable!("just asked")
        };
        assert_eq!(response.text(), bad, "{wire:?}: the answer is not lost");
        assert_eq!(response.usage.total_input(), 10, "{wire:?}");
        assert_eq!(
            response.structured.map(|known| known.strategy),
            Some(StructuredStrategy::Native)
        );
    }
}

#[tokio::test]
async fn the_arguments_of_a_final_tool_are_text_to_the_reader_on_every_wire() {
    for wire in WIRES {
        let arguments = r#"{"city":"Oslo","days":3}"#;
        let server = Server::start(vec![
            wire.calls(&[("trip", arguments)]),
            wire.calls(&[("look", "{}")]),
        ])
        .await;
        let model = wire.model(&server.url, wire.able());
        let asked = request().tool(tool()).structured(StructuredStrategy::FinalTool);
        let (events, text) = watch(&*model, asked.clone()).await.expect("answers");
        let body = server.requests()[0].json();
        assert_eq!(wire.tools(&body), ["look", "trip"], "{wire:?}");
        assert_eq!(wire.asked(&body), Value::Null, "{wire:?}: the tool is the shape");
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("JSON"),
            json!({ "city": "Oslo", "days": 3 })
        );
        assert_eq!(
            kinds(&events),
            ["text_start", "text_delta", "text_end", "structured", "finish"],
            "{wire:?}: as with a native one"
        );
        let answer = collect(futures::stream::iter(events.into_iter().map(Ok)), "p", "m", false)
            .await
            .expect("folds");
        assert_eq!(answer.finish_reason, FinishReason::Stop, "{wire:?}");
        assert_eq!(answer.message.tool_calls().count(), 0);
        assert_eq!(answer.parse::<Trip>().expect("a trip").days, 3);
        // A call of the caller's own tool is one as ever.
        let (events, _) = watch(&*model, asked).await.expect("calls");
        assert!(matches!(
            events.last(),
            Some(StreamEvent::Finish {
                reason: FinishReason::ToolCalls,
                ..
            })
        ));
        assert!(!kinds(&events).contains(&"structured".to_owned()), "{wire:?}");
    }
}

#[tokio::test]
async fn a_model_that_cannot_keep_to_a_schema_is_told_it_and_its_words_and_fences_are_left_out() {
    for wire in WIRES {
        let said = "Sure! Here [1] it is:\n```json\n{\"city\": \"Oslo\", \"days\": 2}\n```\nAnything else?";
        let server = Server::start(vec![wire.says(said), wire.says("I would rather not.")]).await;
        let model = wire.model(&server.url, wire.able());
        let asked = request().structured(StructuredStrategy::Prompted);
        let (events, text) = watch(&*model, asked.clone()).await.expect("answers");
        let body = server.requests()[0].json();
        assert!(!wire.asked(&body).is_object(), "{wire:?}");
        assert!(
            body.to_string().contains("JSON Schema") && body.to_string().contains("maximum"),
            "{wire:?}: {body}"
        );
        assert_eq!(text, "{\"city\": \"Oslo\", \"days\": 2}", "{wire:?}");
        let answer = collect(futures::stream::iter(events.into_iter().map(Ok)), "p", "m", false)
            .await
            .expect("folds");
        assert_eq!(
            answer.structured.expect("structured").strategy,
            StructuredStrategy::Prompted
        );
        let error = model.chat(asked).await.expect_err("no JSON");
        assert_eq!(
            error.partial().map(ChatResponse::text).as_deref(),
            Some("I would rather not."),
            "{wire:?}"
        );
    }
}

#[tokio::test]
async fn two_phases_run_the_tools_first_and_then_ask_for_the_shape_and_count_both() {
    for wire in WIRES {
        let json = r#"{"city":"Oslo","days":4}"#;
        let server = Server::start(vec![
            wire.calls(&[("look", "{\"q\":\"x\"}")]),
            wire.says("Go to Oslo for four days."),
            wire.says(json),
        ])
        .await;
        let model = wire.model(&server.url, wire.able());
        let asked = request().tool(tool()).structured(StructuredStrategy::TwoPhase);
        let (events, _) = watch(&*model, asked.clone()).await.expect("calls");
        assert!(
            matches!(
                events.last(),
                Some(StreamEvent::Finish {
                    reason: FinishReason::ToolCalls,
                    ..
                })
            ),
            "{wire:?}"
        );
        let (events, text) = watch(&*model, asked).await.expect("answers");
        assert_eq!(text, json, "{wire:?}: the reader sees the second answer alone");
        let seen = server.requests();
        assert_eq!(seen.len(), 3);
        assert_eq!(wire.tools(&seen[1].json()), ["look"]);
        assert_eq!(wire.asked(&seen[1].json()), Value::Null, "{wire:?}");
        assert!(wire.tools(&seen[2].json()).is_empty(), "{wire:?}");
        assert!(wire.asked(&seen[2].json()).is_object(), "{wire:?}");
        assert!(String::from_utf8_lossy(&seen[2].body).contains("Go to Oslo for four days."));
        let answer = collect(futures::stream::iter(events.into_iter().map(Ok)), "p", "m", false)
            .await
            .expect("folds");
        assert_eq!(answer.usage.total_input(), 20, "{wire:?}");
        let structured = answer.structured.expect("structured");
        assert_eq!(
            (
                structured.strategy,
                structured.value.expect("a value")["days"].as_u64()
            ),
            (StructuredStrategy::TwoPhase, Some(4))
        );
    }
}

#[tokio::test]
async fn the_way_is_picked_by_vendor_model_and_tools() {
    use StructuredStrategy::{FinalTool, Native, TwoPhase};
    let recursive = Schema::from_value(json!({ "type": "object", "required": ["city"], "properties": { "city": { "type": "string" }, "next": { "$ref": "#" } } })).expect("a schema");
    for (wire, name, has_tool, schema, strategy) in [
        (Wire::Messages, "claude-sonnet-4-5", true, trip(), Native),
        (
            Wire::Messages,
            "claude-3-5-haiku-latest",
            false,
            trip(),
            FinalTool,
        ),
        (Wire::Messages, "claude-sonnet-4-5", false, recursive, FinalTool),
        (Wire::Completions, "gpt-4o", true, trip(), Native),
        (Wire::Responses, "gpt-5.5", true, trip(), Native),
        (Wire::Generate, "gemini-3.8-flash", true, trip(), Native),
        (Wire::Generate, "gemini-2.5-flash", true, trip(), FinalTool),
        (Wire::Generate, "gemini-2.5-flash", false, trip(), Native),
        (Wire::Native, "qwen3:4b", false, trip(), Native),
        (Wire::Native, "qwen3:4b", true, trip(), TwoPhase),
    ] {
        let json = r#"{"city":"Oslo"}"#;
        let scripts = match strategy {
            FinalTool => vec![wire.calls(&[("trip", json)])],
            TwoPhase => vec![wire.says("Oslo."), wire.says(json)],
            _ => vec![wire.says(json)],
        };
        let server = Server::start(scripts).await;
        let mut asked = ChatRequest::from("Where to?").schema("trip", schema);
        if has_tool {
            asked = asked.tool(tool());
        }
        let answer = wire.model(&server.url, name).chat(asked).await.expect("answers");
        let structured = answer.structured.expect("structured");
        assert_eq!(structured.strategy, strategy, "{wire:?} {name} {has_tool}");
        assert_eq!(structured.value, Some(json!({ "city": "Oslo" })));
        let body = server.requests()[0].json();
        if strategy == FinalTool {
            let forced = match wire {
                Wire::Messages => &body["tool_choice"]["type"],
                _ => &body["toolConfig"]["functionCallingConfig"]["mode"],
            };
            assert!(forced == "any" || forced == "ANY", "{wire:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_server_without_schemas_is_told_the_shape_and_one_without_json_too() {
    for (formats, sent) in [
        (Formats::JsonObject, json!({ "type": "json_object" })),
        (Formats::Words, Value::Null),
    ] {
        let server = Server::start(vec![Wire::Completions.says(r#"{"city":"Oslo"}"#)]).await;
        let quirks = Quirks::default().formats(formats).tools(false);
        let model = OpenAiCompatible::new("plain", &server.url, "m")
            .quirks(quirks)
            .build()
            .expect("builds");
        let answer = model.chat(request()).await.expect("answers");
        let body = server.requests()[0].json();
        assert_eq!(body.get("response_format").cloned().unwrap_or_default(), sent);
        assert!(
            body["messages"][0]["content"]
                .as_str()
                .expect("words")
                .contains("JSON Schema")
        );
        assert_eq!(
            answer.structured.expect("structured").strategy,
            StructuredStrategy::Prompted
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_no_object_travels_in_one_and_is_unwrapped_while_it_streams() {
    for wire in [Wire::Messages, Wire::Completions, Wire::Responses] {
        let server = Server::start(vec![
            wire.says(r#"{"answer":[{"city":"Oslo"},{"city":"Bergen","days":1}]}"#),
        ])
        .await;
        let model = wire.model(&server.url, wire.able());
        let answer = model.chat_as::<Vec<Trip>>("Where to?").await.expect("answers");
        assert_eq!(answer.value.len(), 2, "{wire:?}");
        assert_eq!(
            answer.response.text(),
            r#"[{"city":"Oslo"},{"city":"Bergen","days":1}]"#
        );
        let sent = wire.asked(&server.requests()[0].json());
        assert_eq!(sent["properties"]["answer"]["type"], "array", "{wire:?}: {sent}");
    }
}

#[tokio::test]
async fn typed_values_are_there_while_the_answer_streams() {
    let wire = Wire::Completions;
    let server = Server::start(vec![wire.says(r#"{"city":"Trondheim","days":12}"#)]).await;
    let model = wire.model(&server.url, wire.able());
    let mut stream = model.stream(request()).await.expect("begins");
    let (mut partial, mut seen) = (PartialAnswer::<Trip>::new(), Vec::new());
    while let Some(event) = stream.next().await {
        seen.extend(partial.push(&event.expect("an event")));
    }
    assert!(
        seen.len() > 3 && seen[1].city.len() < "Trondheim".len(),
        "{seen:?}"
    );
    assert_eq!(
        seen.last(),
        Some(&Trip {
            city: "Trondheim".into(),
            days: 12
        })
    );
}
