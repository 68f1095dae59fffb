//! Requests: every quirk of the table.

use super::{DONE, KEY, builder, delta, end, json_answer, sent, sse};
use crate::{
    OpenAiCompatible, Registry,
    fixtures::{Server, shown},
    quirks::{EffortField, Formats, Quirks, SeedField, TokenLimit},
};
use serde_json::{Value, json};
use stepwell_core::{
    ChatModel, ChatRequest, MediaSource, Message, Opaque, Origin, Part, ReasoningEffort, ResponseFormat,
    Role, Schema, ToolCall, ToolChoice, ToolSpec,
};

fn tool() -> ToolSpec {
    let schema = Schema::from_value(json!({ "type": "object", "properties": {} })).expect("a schema");
    ToolSpec::new("look", "Looks.", &schema).expect("a tool")
}

fn asked() -> ChatRequest {
    ChatRequest::from("Hi")
}

fn media(kind: &str) -> ChatRequest {
    let bytes = MediaSource::Bytes(vec![1, 2, 3].into());
    ChatRequest::new([Message::new(Role::User, vec![Part::media(kind, bytes)])])
}

fn ok() -> Vec<crate::fixtures::Act> {
    sse(&[&delta(&json!({ "content": "ok" })), &end("stop"), DONE])
}

#[tokio::test]
async fn every_row_is_asked_at_its_path_with_its_key_and_a_local_one_without() {
    for vendor in OpenAiCompatible::vendors() {
        let server = Server::start(vec![ok()]).await;
        let model = builder(vendor, &server.url).build().expect(vendor);
        assert_eq!(model.info().name(), format!("{vendor}/some-model"));
        assert!(!format!("{model:?}").contains(KEY));
        assert_eq!(model.chat(asked()).await.expect(vendor).text(), "ok");
        let seen = &server.requests()[0];
        assert_eq!(seen.path, "/v1/chat/completions", "{vendor}");
        let (name, value) = match vendor {
            "azure" => ("api-key", KEY.to_owned()),
            _ => ("authorization", format!("Bearer {KEY}")),
        };
        assert_eq!(seen.header(name), Some(value.as_str()), "{vendor}");
        assert_eq!(seen.json()["model"], "some-model");
    }
    for vendor in ["llamacpp", "lmstudio", "mistralrs", "ollama-openai", "vllm"] {
        let server = Server::start(vec![ok()]).await;
        let builder = OpenAiCompatible::vendor(vendor, "m").expect("in the table");
        let model = builder.base_url(&server.url).build().expect("no key needed");
        model.chat(asked()).await.expect("answers");
        let var = format!(
            "{}_API_KEY",
            vendor.trim_end_matches("-openai").to_ascii_uppercase()
        );
        if std::env::var_os(var).is_none() {
            assert_eq!(server.requests()[0].header("authorization"), None, "{vendor}");
        }
    }
}

#[tokio::test]
async fn the_limit_the_seed_and_the_stream_are_asked_for_in_the_vendors_words() {
    let mut request = asked().max_output_tokens(9);
    request.seed = Some(7);
    request.top_k = Some(3);
    for (vendor, expected, warns) in [
        ("groq", json!({ "max_tokens": 9, "seed": 7 }), true),
        ("cerebras", json!({ "max_completion_tokens": 9, "seed": 7 }), true),
        ("azure", json!({ "max_completion_tokens": 9, "seed": 7 }), true),
        ("mistral", json!({ "max_tokens": 9, "random_seed": 7 }), true),
        ("perplexity", json!({ "max_tokens": 9, "top_k": 3 }), true),
        ("vllm", json!({ "max_tokens": 9, "seed": 7, "top_k": 3 }), false),
    ] {
        let (body, warned) = sent(vendor, request.clone()).await.expect(vendor);
        let fields = [
            "max_tokens",
            "max_completion_tokens",
            "seed",
            "random_seed",
            "top_k",
        ];
        let found: serde_json::Map<String, Value> = fields
            .iter()
            .filter_map(|field| Some(((*field).to_owned(), body.get(*field)?.clone())))
            .collect();
        assert_eq!(Value::Object(found), expected, "{vendor}");
        assert_eq!(!warned.is_empty(), warns, "{vendor}: {warned:?}");
        let has_options = body.get("stream_options").is_some();
        assert_eq!(
            has_options,
            !["mistral", "perplexity"].contains(&vendor),
            "{vendor}"
        );
        assert_eq!(
            body["stream_options"].get("include_obfuscation"),
            None,
            "{vendor}"
        );
        assert_eq!(body["stream"], true);
    }
}

#[tokio::test]
async fn words_of_the_program_are_system_where_there_is_no_developer() {
    let request = ChatRequest::new([
        Message::new(Role::Developer, vec![Part::text("Be brief.", Origin::System)]),
        Message::user("Hi"),
    ]);
    let (body, _) = sent("groq", request.clone()).await.expect("sent");
    assert_eq!(body["messages"][0]["role"], "system");
    let (body, _) = sent("azure", request).await.expect("sent");
    assert_eq!(body["messages"][0]["role"], "developer");
}

#[tokio::test]
async fn a_schema_goes_out_strict_plain_as_any_object_or_not_at_all() {
    let given = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    let request = asked().schema("answer", Schema::from_value(given.clone()).expect("a schema"));
    let (body, _) = sent("groq", request.clone()).await.expect("sent");
    let format = &body["response_format"];
    assert_eq!(format["json_schema"]["strict"], true);
    assert_eq!(format["json_schema"]["schema"]["additionalProperties"], false);
    let (body, _) = sent("perplexity", request.clone()).await.expect("sent");
    let format = &body["response_format"];
    assert_eq!(format["json_schema"].get("strict"), None);
    assert_eq!(format["json_schema"]["schema"], given);
    let (body, warned) = sent("deepseek", request.clone()).await.expect("sent");
    assert_eq!(body["response_format"], json!({ "type": "json_object" }));
    assert!(warned.is_empty(), "the model is told the shape instead");
    assert!(
        body["messages"][0]["content"]
            .as_str()
            .is_some_and(|words| words.contains("integer"))
    );
    let mut any = asked();
    any.response_format = ResponseFormat::Json;
    for request in [request, any] {
        let server = Server::start(vec![ok()]).await;
        let model = OpenAiCompatible::new("plain", &server.url, "m")
            .quirks(Quirks::default().formats(Formats::Words).tools(false))
            .build()
            .expect("builds");
        let error = model.chat(request).await.expect_err("its words are no JSON");
        assert_eq!(error.code(), "schema_mismatch");
        let body = server.requests()[0].json();
        assert_eq!(body.get("response_format"), None);
        assert!(
            body["messages"][0]["content"]
                .as_str()
                .is_some_and(|words| words.contains("JSON"))
        );
    }
}

#[tokio::test]
async fn a_call_is_asked_for_in_the_vendors_word_or_refused_where_it_would_be_ignored() {
    let request = |choice| asked().tool(tool()).tool_choice(choice);
    let named = || ToolChoice::Named("look".to_owned());
    for (vendor, word) in [("groq", "required"), ("mistral", "any"), ("llamacpp", "required")] {
        let (body, _) = sent(vendor, request(ToolChoice::Any)).await.expect(vendor);
        assert_eq!(body["tool_choice"], word, "{vendor}");
    }
    for vendor in ["groq", "mistral"] {
        let (body, _) = sent(vendor, request(named())).await.expect(vendor);
        assert_eq!(body["tool_choice"]["function"]["name"], "look", "{vendor}");
    }
    for vendor in ["llamacpp", "lmstudio", "perplexity"] {
        let error = sent(vendor, request(named())).await.expect_err(vendor);
        assert_eq!(error.code(), "unsupported", "{vendor}");
    }
    let error = sent("perplexity", request(ToolChoice::Auto))
        .await
        .expect_err("no tools");
    assert_eq!(error.code(), "unsupported");
    let mut parallel = request(ToolChoice::Auto);
    parallel.parallel_tool_calls = Some(false);
    let (body, _) = sent("groq", parallel.clone()).await.expect("sent");
    assert_eq!(body["parallel_tool_calls"], false);
    let (body, warned) = sent("ollama-openai", parallel).await.expect("sent");
    assert_eq!(body.get("parallel_tool_calls"), None);
    assert_eq!(warned, ["option_ignored"]);
}

#[tokio::test]
async fn deepseek_is_never_made_to_call_while_it_thinks() {
    let request = |effort| {
        let mut request = asked().tool(tool()).tool_choice(ToolChoice::Any);
        request.reasoning.effort = effort;
        request
    };
    let error = sent("deepseek", request(Some(ReasoningEffort::High)))
        .await
        .expect_err("it would be refused");
    assert_eq!(error.code(), "unsupported");
    let (body, warned) = sent("deepseek", request(None)).await.expect("sent");
    assert_eq!(body["thinking"], json!({ "type": "disabled" }));
    assert_eq!(warned, ["thinking_switched_off"]);
    let (body, warned) = sent("deepseek", request(Some(ReasoningEffort::None)))
        .await
        .expect("sent");
    assert_eq!(body["thinking"], json!({ "type": "disabled" }));
    assert_eq!((body.get("reasoning_effort"), warned.len()), (None, 0));
    let own = request(None).provider_option("deepseek", json!({ "thinking": { "type": "disabled" } }));
    let (body, warned) = sent("deepseek", own).await.expect("sent");
    assert_eq!(
        (body["thinking"]["type"].as_str(), warned.len()),
        (Some("disabled"), 0)
    );
}

#[tokio::test]
async fn how_hard_to_think_is_told_in_the_vendors_field() {
    let request = |effort, budget| {
        let mut request = asked();
        request.reasoning.effort = effort;
        request.reasoning.budget_tokens = budget;
        request
    };
    let minimal = Some(ReasoningEffort::Minimal);
    let max = Some(ReasoningEffort::Max);
    for (vendor, effort, budget, field, expected) in [
        ("groq", minimal, None, "reasoning_effort", json!("low")),
        ("groq", max, None, "reasoning_effort", json!("high")),
        (
            "groq",
            Some(ReasoningEffort::None),
            None,
            "reasoning_effort",
            json!("none"),
        ),
        ("openrouter", max, None, "reasoning", json!({ "effort": "xhigh" })),
        (
            "openrouter",
            None,
            Some(1024),
            "reasoning",
            json!({ "max_tokens": 1024 }),
        ),
        (
            "openrouter",
            minimal,
            Some(9),
            "reasoning",
            json!({ "max_tokens": 9 }),
        ),
        (
            "deepseek",
            minimal,
            None,
            "thinking",
            json!({ "type": "enabled" }),
        ),
        ("deepseek", minimal, None, "reasoning_effort", json!("low")),
    ] {
        let (body, warned) = sent(vendor, request(effort, budget)).await.expect(vendor);
        assert_eq!((&body[field], warned.len()), (&expected, 0), "{vendor}");
    }
    let (body, warned) = sent("groq", request(None, Some(5))).await.expect("sent");
    assert_eq!((body.get("reasoning"), warned.len()), (None, 1));
    let server = Server::start(vec![ok()]).await;
    let quirks = Quirks::default()
        .effort(EffortField::Ignored)
        .seed(SeedField::Ignored);
    let model = OpenAiCompatible::new("plain", &server.url, "m")
        .quirks(quirks)
        .build();
    let mut asked = request(max, None);
    asked.seed = Some(1);
    let answer = model.expect("builds").chat(asked).await.expect("answers");
    assert_eq!(answer.warnings.len(), 2, "{:?}", answer.warnings);
}

#[tokio::test]
async fn media_go_in_the_vendors_form_or_are_refused_before_anything_is_sent() {
    let piece = |body: &Value| body["messages"][0]["content"][0].clone();
    let (body, _) = sent("groq", media("image/png")).await.expect("sent");
    assert_eq!(piece(&body)["image_url"]["url"], "data:image/png;base64,AQID");
    let (body, _) = sent("openrouter", media("application/pdf")).await.expect("sent");
    assert_eq!(
        piece(&body)["file"]["file_data"],
        "data:application/pdf;base64,AQID"
    );
    let (body, _) = sent("mistral", media("application/pdf")).await.expect("sent");
    assert_eq!(
        piece(&body),
        json!({ "type": "document_url", "document_url": "data:application/pdf;base64,AQID" })
    );
    let (body, _) = sent("mistral", media("audio/mpeg")).await.expect("sent");
    assert_eq!(
        piece(&body)["input_audio"],
        json!({ "data": "AQID", "format": "mp3" })
    );
    for (vendor, kind) in [
        ("deepseek", "image/png"),
        ("cerebras", "image/png"),
        ("groq", "application/pdf"),
        ("groq", "audio/wav"),
        ("openrouter", "video/mp4"),
    ] {
        let error = sent(vendor, media(kind)).await.expect_err(vendor);
        assert_eq!(error.code(), "unsupported", "{vendor} {kind}");
    }
    let call = ToolCall::new("call_1", "look", json!({}));
    let image = Part::media("image/png", MediaSource::Bytes(vec![1].into()));
    let seen = [
        Message::user("Look."),
        Message::new(Role::Assistant, vec![Part::ToolCall(call.clone())]),
        Message::tool(vec![Part::tool_result(&call, vec![image], false, Origin::Tool)]),
    ];
    let (body, _) = sent("openrouter", ChatRequest::new(seen.clone()))
        .await
        .expect("sent");
    assert_eq!(body["messages"][2]["content"][0]["type"], "image_url");
    let (body, _) = sent("groq", ChatRequest::new(seen)).await.expect("sent");
    assert_eq!(body["messages"][2]["content"], "");
    assert_eq!(body["messages"][3]["content"][1]["type"], "image_url");
}

/// A turn that thought, called and got its result; then, where asked, one more question.
fn looped(reasoning: Part, call: &ToolCall, asks_again: bool) -> ChatRequest {
    let result = Part::tool_result(call, vec![Part::text("5", Origin::Tool)], false, Origin::Tool);
    let mut all = vec![
        Message::user("Add."),
        Message::new(Role::Assistant, vec![reasoning, Part::ToolCall(call.clone())]),
        Message::tool(vec![result]),
    ];
    if asks_again {
        all.push(Message::new(
            Role::Assistant,
            vec![Part::text("Five.", Origin::Model)],
        ));
        all.push(Message::user("And now?"));
    }
    ChatRequest::new(all)
}

#[tokio::test]
async fn a_thought_goes_back_where_the_vendor_wants_it() {
    let call = ToolCall::new("call_1", "add", json!({}));
    let thought = || Part::reasoning("Hm.", None);
    for (vendor, field) in [
        ("deepseek", Some("reasoning_content")),
        ("llamacpp", Some("reasoning_content")),
        ("ollama-openai", Some("reasoning")),
        ("openrouter", Some("reasoning")),
        ("groq", None),
    ] {
        // As long as it stands in the history: what goes and comes again is no cached prompt.
        for asks_again in [false, true] {
            let (body, _) = sent(vendor, looped(thought(), &call, asks_again))
                .await
                .expect(vendor);
            let turn = &body["messages"][1];
            for name in ["reasoning_content", "reasoning"] {
                let expected = (field == Some(name)).then_some("Hm.");
                assert_eq!(turn[name].as_str(), expected, "{vendor} {asks_again} {name}");
            }
        }
    }
    let (body, _) = sent("mistral", looped(thought(), &call, true))
        .await
        .expect("sent");
    assert_eq!(
        body["messages"][1]["content"],
        json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "Hm." }] }])
    );
}

#[tokio::test]
async fn signatures_go_back_as_they_came_to_the_model_that_made_them_and_to_no_other() {
    let details = json!([
        { "type": "reasoning.text", "text": "Hm.", "signature": "s+/=", "format": "f", "index": 0 },
        { "type": "reasoning.encrypted", "data": "zz", "id": "rs_1", "index": 1 }
    ]);
    let token = |provider: &str, model: &str, value: &Value| {
        Some(Opaque {
            provider: provider.to_owned(),
            model: model.to_owned(),
            value: value.clone(),
        })
    };
    let call = ToolCall::new("call_1", "add", json!({}));
    let own = Part::reasoning("Hm.", token("openrouter", "some-model", &details));
    let (body, _) = sent("openrouter", looped(own, &call, true)).await.expect("sent");
    let turn = &body["messages"][1];
    assert_eq!(turn["reasoning_details"].to_string(), details.to_string());
    assert_eq!(turn.get("reasoning"), None);
    for (provider, model) in [("openrouter", "another"), ("anthropic", "some-model")] {
        let foreign = Part::reasoning("Hm.", token(provider, model, &details));
        let (body, warned) = sent("openrouter", looped(foreign, &call, true))
            .await
            .expect("sent");
        assert_eq!(body["messages"][1].get("reasoning_details"), None);
        assert!(!warned.is_empty(), "the change is told");
    }
    let seal = json!({ "google": { "thought_signature": "AVSo+/==" } });
    let mut call = ToolCall::new("call_1", "add", json!({}));
    call.opaque = token("gemini-openai", "some-model", &seal);
    let thought = Part::reasoning("", token("gemini-openai", "some-model", &seal));
    let (body, _) = sent("gemini-openai", looped(thought, &call, true))
        .await
        .expect("sent");
    assert_eq!(body["messages"][1]["extra_content"], seal);
    assert_eq!(body["messages"][1]["tool_calls"][0]["extra_content"], seal);
    call.opaque = token("gemini-openai", "another", &seal);
    let (body, _) = sent("gemini-openai", looped(Part::reasoning("x", None), &call, true))
        .await
        .expect("sent");
    assert!(!body.to_string().contains("thought_signature"));
}

#[tokio::test]
async fn a_turn_with_two_sealed_thoughts_sends_both_or_says_which_one_has_no_place() {
    let call = ToolCall::new("call_1", "add", json!({}));
    let thoughts = |provider: &str, seals: [&Value; 2]| {
        let thought = |seal: &Value| {
            let token = Opaque {
                provider: provider.to_owned(),
                model: "some-model".to_owned(),
                value: seal.clone(),
            };
            Part::reasoning("Hm.", Some(token))
        };
        let mut request = looped(thought(seals[0]), &call, true);
        request.messages[1].parts.insert(1, thought(seals[1]));
        request
    };
    let block = |data: &str| json!({ "type": "reasoning.encrypted", "data": data });
    let lists = [&json!([block("A"), block("B")]), &json!([block("C")])];
    let (body, warned) = sent("openrouter", thoughts("openrouter", lists))
        .await
        .expect("sent");
    assert_eq!(
        body["messages"][1]["reasoning_details"],
        json!([block("A"), block("B"), block("C")])
    );
    assert_eq!(warned.len(), 0);
    // One place for a signature: the later one has it, as in the stream of an answer.
    let seal = |signature: &str| json!({ "google": { "thought_signature": signature } });
    let (body, warned) = sent(
        "gemini-openai",
        thoughts("gemini-openai", [&seal("A"), &seal("B")]),
    )
    .await
    .expect("sent");
    assert_eq!(body["messages"][1]["extra_content"], seal("B"));
    assert_eq!(warned.len(), 1, "what has no place is told");
}

#[tokio::test]
async fn mistral_gets_ids_of_nine_letters_and_digits_the_same_for_call_and_result() {
    let call = ToolCall::new("toolu_01A-b", "add", json!({}));
    let request = looped(Part::text("", Origin::Model), &call, false);
    let (body, _) = sent("mistral", request.clone()).await.expect("sent");
    let id = body["messages"][1]["tool_calls"][0]["id"]
        .as_str()
        .expect("an id");
    assert_eq!(id.len(), 9, "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(body["messages"][2]["tool_call_id"], id);
    assert_eq!(sent("mistral", request).await.expect("sent").0, body);
    let own = ToolCall::new("Ab3dEf6hI", "add", json!({}));
    let (body, _) = sent("mistral", looped(Part::text("", Origin::Model), &own, false))
        .await
        .expect("sent");
    assert_eq!(body["messages"][1]["tool_calls"][0]["id"], "Ab3dEf6hI");
}

#[tokio::test]
async fn azure_is_asked_by_deployment_and_version_and_its_query_is_in_no_error() {
    let refusal = r#"{"error":{"code":"DeploymentNotFound","message":"no"}}"#;
    let server = Server::start(vec![ok(), ok(), json_answer(404, &[], refusal), ok()]).await;
    let azure = |url: &str| {
        OpenAiCompatible::vendor("azure", "my deployment")
            .expect("in the table")
            .api_key(KEY)
            .base_url(url)
    };
    let by_version = azure(&server.url)
        .api_version("2024-10-21")
        .query("tag", "canary-query");
    assert!(!format!("{by_version:?}").contains("canary"));
    let by_version = by_version.build().expect("builds");
    by_version.chat(asked()).await.expect("answers");
    let as_it_is = azure(&format!("{}/openai/v1/", server.url))
        .build()
        .expect("builds");
    as_it_is.chat(asked()).await.expect("answers");
    let error = by_version.chat(asked()).await.expect_err("no such deployment");
    assert_eq!(error.code(), "not_found");
    assert!(!shown(&error).contains("canary"));
    if std::env::var_os("AZURE_OPENAI_API_VERSION").is_none() {
        let plain = azure(&server.url).build().expect("builds");
        plain.chat(asked()).await.expect("answers");
        assert_eq!(server.requests()[3].path, "/openai/v1/chat/completions");
    }
    let seen = server.requests();
    assert_eq!(
        seen[0].path,
        "/openai/deployments/my%20deployment/chat/completions?tag=canary-query&api-version=2024-10-21"
    );
    assert_eq!(seen[1].path, "/openai/v1/chat/completions");
    let error = OpenAiCompatible::vendor("azure", "d")
        .expect("in the table")
        .api_key(KEY)
        .build();
    if std::env::var_os("AZURE_OPENAI_ENDPOINT").is_none() {
        let error = error.expect_err("no endpoint");
        assert!(error.to_string().contains("AZURE_OPENAI_ENDPOINT"), "{error}");
    }
}

#[tokio::test]
async fn a_hosts_own_server_is_a_vendor_like_any_other() {
    let server = Server::start(vec![ok(), ok()]).await;
    let quirks = Quirks::default().token_limit(TokenLimit::MaxCompletionTokens);
    let registry = Registry::with_vendors();
    registry.register_compatible("my-vendor", format!("{}/v1", server.url), quirks);
    let model = registry.model("my-vendor/org/model:8b").expect("registered");
    let request = asked()
        .max_output_tokens(5)
        .provider_option("my-vendor", json!({ "guided_choice": ["a"] }));
    model.chat(request).await.expect("answers");
    let model = OpenAiCompatible::new("my-vendor", &server.url, "m")
        .api_key(KEY)
        .key_header("x-api-key")
        .header("x-title", "a program")
        .quirks(quirks)
        .build()
        .expect("builds");
    model.chat(asked()).await.expect("answers");
    let seen = server.requests();
    let body = seen[0].json();
    assert_eq!(seen[0].path, "/v1/chat/completions");
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(
        (
            &body["model"],
            &body["max_completion_tokens"],
            &body["guided_choice"]
        ),
        (&json!("org/model:8b"), &json!(5), &json!(["a"]))
    );
    assert_eq!(seen[1].header("x-api-key"), Some(KEY));
    assert_eq!(seen[1].header("x-title"), Some("a program"));
    for (vendor, url) in [("", "http://127.0.0.1:1"), ("x", ""), ("x", "no address")] {
        let error = OpenAiCompatible::new(vendor, url, "m").build().expect_err("told");
        assert_eq!(error.code(), "invalid_input");
    }
    let error = OpenAiCompatible::vendor("grok", "m").expect_err("a slip");
    assert!(error.to_string().contains("xai"), "{error}");
}

#[test]
fn every_row_is_registered_and_has_rules_for_its_histories() {
    let known = Registry::with_vendors().vendors();
    for vendor in OpenAiCompatible::vendors() {
        assert!(known.contains(&vendor.to_owned()), "{vendor}");
        let rules = crate::doctor::rules_of(&stepwell_core::ModelInfo::new(vendor, "m"));
        assert!(rules.is_some(), "{vendor}");
    }
}
