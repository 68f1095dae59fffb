use super::chat;
use serde_json::{Value, json};
use stepwell_core::{
    CacheMode, CachePoint, ChatRequest, MediaSource, Message, ModelInfo, Opaque, Origin, Part,
    ReasoningEffort, Role, ToolCall, ToolChoice,
};

const MODEL: &str = "claude-test";

#[test]
fn results_come_first_in_one_turn_and_foreign_ids_are_made_to_fit() {
    let call = ToolCall::new("call:1", "look", json!({}));
    let request = ChatRequest::new([
        Message::user("look"),
        Message::new(Role::Assistant, vec![Part::ToolCall(call.clone())]),
        Message::user("quick!"),
        Message::tool(vec![Part::tool_result(
            &call,
            vec![Part::data("n", json!({ "n": 1 }), Origin::Tool)],
            true,
            Origin::Tool,
        )]),
    ]);
    let encoded = chat(&ModelInfo::new("anthropic", MODEL), &request).expect("encodes");
    let sent: Value = serde_json::from_slice(&encoded.body).expect("JSON");
    assert_eq!(
        sent["messages"][2],
        json!({ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "call_1", "content": [{ "type": "text", "text": "{\"n\":1}" }], "is_error": true },
            { "type": "text", "text": "quick!" }] })
    );
    assert_eq!(sent["messages"][1]["content"][0]["id"], "call_1");
}

#[test]
fn cache_points_stay_within_the_vendors_number_and_automatic_ones_stand_at_the_ends() {
    let mut request = ChatRequest::new([
        Message::system("rules"),
        Message::user("a"),
        Message::assistant("b"),
        Message::user("c"),
    ]);
    request.cache = CacheMode::Automatic;
    let info = ModelInfo::new("anthropic", MODEL);
    let sent = |request: &ChatRequest| -> Value {
        serde_json::from_slice(&chat(&info, request).expect("encodes").body).expect("JSON")
    };
    let body = sent(&request);
    assert_eq!(body["system"][0]["cache_control"], json!({ "type": "ephemeral" }));
    assert_eq!(
        body["messages"][2]["content"][0]["cache_control"],
        json!({ "type": "ephemeral" })
    );
    assert!(body["messages"][0]["content"][0].get("cache_control").is_none());
    for message in &mut request.messages {
        for _ in 0..3 {
            message.parts.push(Part::text("x", Origin::User));
        }
        for part in &mut message.parts {
            if let Part::Text(text) = part {
                text.cache = Some(CachePoint::Long);
            }
        }
    }
    request.cache = CacheMode::Points;
    assert_eq!(sent(&request).to_string().matches("cache_control").count(), 4);
}

#[test]
fn thinking_follows_the_generation_of_the_model_and_takes_sampling_away() {
    let mut request = ChatRequest::from("hi").temperature(0.5).max_output_tokens(4000);
    request.reasoning.effort = Some(ReasoningEffort::High);
    let sent = |model: &str| -> (Value, usize) {
        let encoded = chat(&ModelInfo::new("anthropic", model), &request).expect("encodes");
        (
            serde_json::from_slice(&encoded.body).expect("JSON"),
            encoded.warnings.len(),
        )
    };
    let (new, warnings) = sent("claude-sonnet-5");
    assert_eq!(new["thinking"], json!({ "type": "adaptive" }));
    assert_eq!(new["output_config"], json!({ "effort": "high" }));
    assert_eq!((new.get("temperature"), warnings), (None, 1));
    let (old, _) = sent("claude-sonnet-4-5-20250929");
    assert_eq!(
        old["thinking"],
        json!({ "type": "enabled", "budget_tokens": 2976 })
    );
    assert!(old.get("output_config").is_none());
}

#[test]
fn what_the_wire_cannot_say_is_refused_or_warned_about_before_anything_is_sent() {
    let info = ModelInfo::new("anthropic", MODEL);
    let audio = Message::new(
        Role::User,
        vec![Part::media(
            "audio/wav",
            MediaSource::Bytes(bytes::Bytes::from_static(b"RIFF")),
        )],
    );
    assert_eq!(
        chat(&info, &ChatRequest::new([audio]))
            .expect_err("no sound")
            .code(),
        "unsupported"
    );
    let named = ChatRequest::from("hi").tool_choice(ToolChoice::Named("nothing".into()));
    assert_eq!(
        chat(&info, &named).expect_err("no such tool").code(),
        "invalid_input"
    );
    let odd = ChatRequest::from("hi").provider_option("anthropic", json!([1]));
    assert_eq!(chat(&info, &odd).expect_err("no object").code(), "invalid_input");
    let mut request = ChatRequest::from("hi")
        .provider_option("anthropic", json!({ "betas": ["b-1"], "service_tier": "auto" }));
    request.seed = Some(1);
    let encoded = chat(&info, &request).expect("encodes");
    assert_eq!(
        (encoded.warnings.len(), encoded.betas),
        (1, vec!["b-1".to_owned()])
    );
    let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
    assert_eq!(
        (body["service_tier"].as_str(), body.get("betas")),
        (Some("auto"), None)
    );
}

#[test]
fn a_turn_from_elsewhere_that_waits_for_results_is_not_asked_to_have_thought() {
    let call = ToolCall::new("call_1", "look", json!({}));
    let result = Part::tool_result(&call, vec![Part::text("5", Origin::Tool)], false, Origin::Tool);
    let mut request = ChatRequest::new([
        Message::user("look"),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
        Message::tool(vec![result]),
    ]);
    request.reasoning.effort = Some(ReasoningEffort::Low);
    request.max_output_tokens = Some(4_096);
    let thinking = |model: &str, request: &ChatRequest| {
        let encoded = chat(&ModelInfo::new("anthropic", model), request).expect("encodes");
        let sent: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        (sent["thinking"]["type"].clone(), encoded.warnings.len())
    };
    assert_eq!(thinking("claude-sonnet-4-5", &request), (Value::Null, 1));
    assert_eq!(
        thinking("claude-sonnet-5", &request),
        (json!("adaptive"), 0),
        "there it may begin so"
    );
    let mut thought = request.clone();
    let token = Opaque {
        provider: "anthropic".to_owned(),
        model: "claude-sonnet-4-5".to_owned(),
        value: json!("signature"),
    };
    thought.messages[1]
        .parts
        .insert(0, Part::reasoning("Hm.", Some(token)));
    assert_eq!(thinking("claude-sonnet-4-5", &thought), (json!("enabled"), 0));
    request.messages.push(Message::assistant("Five."));
    request.messages.push(Message::user("And now?"));
    assert_eq!(thinking("claude-sonnet-4-5", &request), (json!("enabled"), 0));
}
