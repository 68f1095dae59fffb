//! Turns in the order that each server wants, beyond what the law of the pairwise test holds every one to.

use super::sent;
use crate::quirks::{Quirks, ReasoningBack, ReasoningField};
use serde_json::{Value, json};
use stepwell_core::{ChatRequest, MediaSource, Message, Origin, Part, ReasoningEffort, Role, ToolCall};

/// The roles that were sent, each by its first letter.
fn roles(body: &Value) -> String {
    let turns = body["messages"].as_array().expect("turns");
    turns
        .iter()
        .map(|turn| &turn["role"].as_str().expect("a role")[..1])
        .collect()
}

fn called() -> [Message; 3] {
    let call = ToolCall::new("AbCdEfGh1", "add", json!({}));
    let result = Part::tool_result(&call, vec![Part::text("5", Origin::Tool)], false, Origin::Tool);
    [
        Message::user("Add."),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
        Message::tool(vec![result]),
    ]
}

#[tokio::test]
async fn deepseek_gets_a_thought_with_every_turn_while_it_thinks_if_only_an_empty_one() {
    let mut history = called().to_vec();
    history.extend([Message::assistant("Five."), Message::user("And now?")]);
    let thoughts = |body: &Value| {
        let turns = body["messages"].as_array().expect("turns").iter();
        let turns = turns.filter(|turn| turn["role"] == "assistant");
        turns
            .map(|turn| turn["reasoning_content"].clone())
            .collect::<Vec<_>>()
    };
    let request = ChatRequest::new(history.clone());
    let (body, _) = sent("deepseek", request.clone()).await.expect("sent");
    assert_eq!(thoughts(&body), ["", ""]);
    history[1].parts.insert(0, Part::reasoning("Hm.", None));
    let (body, _) = sent("deepseek", ChatRequest::new(history)).await.expect("sent");
    assert_eq!(thoughts(&body), ["Hm.", ""]);
    let mut unthinking = request.clone();
    unthinking.reasoning.effort = Some(ReasoningEffort::None);
    let told = request.provider_option("deepseek", json!({ "thinking": { "type": "disabled" } }));
    for request in [unthinking, told] {
        let (body, _) = sent("deepseek", request).await.expect("sent");
        assert_eq!(thoughts(&body), [Value::Null, Value::Null]);
    }
}

#[tokio::test]
async fn mistral_has_a_word_of_the_model_between_results_and_a_user_and_a_mark_on_the_last_turn() {
    let mut history = called().to_vec();
    history.push(Message::user("Stop."));
    let (body, warned) = sent("mistral", ChatRequest::new(history.clone()))
        .await
        .expect("sent");
    assert_eq!((roles(&body).as_str(), warned.len()), ("uatau", 1));
    // Media of a result follow in a turn of the user.
    let image = Part::media("image/png", MediaSource::Bytes(vec![1].into()));
    if let Part::ToolResult(result) = &mut history[2].parts[0] {
        result.parts.push(image);
    }
    let (body, _) = sent("mistral", ChatRequest::new(history[..3].to_vec()))
        .await
        .expect("sent");
    assert_eq!(roles(&body), "uatau");
    let begun = [Message::user("Count."), Message::assistant("One, two")];
    let (body, _) = sent("mistral", ChatRequest::new(begun.clone()))
        .await
        .expect("sent");
    assert_eq!(
        body["messages"][1],
        json!({ "role": "assistant", "content": "One, two", "prefix": true })
    );
    for vendor in ["perplexity", "deepseek"] {
        let (body, warned) = sent(vendor, ChatRequest::new(begun.clone())).await.expect("sent");
        assert_eq!((roles(&body).as_str(), warned.len()), ("uau", 1), "{vendor}");
    }
}

#[tokio::test]
async fn a_strict_template_gets_one_system_message_first_and_turns_by_turns() {
    let history = [
        Message::assistant("Welcome."),
        Message::user("Hi."),
        Message::system("Be brief."),
        Message::user("Are you there?"),
        Message::system("Be kind."),
    ];
    for vendor in [
        "perplexity",
        "llamacpp",
        "vllm",
        "lmstudio",
        "mistralrs",
        "ollama-openai",
    ] {
        let (body, warned) = sent(vendor, ChatRequest::new(history.clone()))
            .await
            .expect(vendor);
        assert_eq!(roles(&body), "suau", "{vendor}");
        assert_eq!(body["messages"][0]["content"], "Be brief.\n\nBe kind.");
        assert_eq!(
            body["messages"][3]["content"]
                .to_string()
                .matches("Are you there?")
                .count(),
            1
        );
        assert!(!warned.is_empty(), "it is told");
    }
    let (body, warned) = sent("groq", ChatRequest::new(history)).await.expect("sent");
    assert_eq!(
        (roles(&body).as_str(), warned.len()),
        ("ausus", 0),
        "others take it as it is"
    );
}

#[tokio::test]
async fn a_tool_that_the_model_made_up_has_a_name_that_the_vendor_takes() {
    let call = ToolCall::new("AbCdEfGh1", "functions.add numbers", json!({}));
    let history = [
        Message::user("Add."),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
    ];
    let (body, warned) = sent("groq", ChatRequest::new(history)).await.expect("sent");
    assert_eq!(
        body["messages"][1]["tool_calls"][0]["function"]["name"],
        "functions_add_numbers"
    );
    assert_eq!(warned.len(), 2, "{warned:?}");
}

#[test]
fn a_hosts_own_server_may_want_thoughts_in_the_loop_alone() {
    let quirks = Quirks::default().reasoning_back(ReasoningBack::InToolLoop(ReasoningField::Content));
    let dialect = crate::openai::dialect::Dialect {
        quirks,
        ..crate::openai::dialect::Dialect::openai()
    };
    let mut history = called().to_vec();
    history[1].parts.insert(0, Part::reasoning("Hm.", None));
    let thought = |history: &[Message]| {
        let info = stepwell_core::ModelInfo::new("openai", "m");
        let request = ChatRequest::new(history.to_vec());
        let encoded = crate::openai::chat::encode::chat(&dialect, &info, &request).expect("encodes");
        let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        body["messages"][1]["reasoning_content"].clone()
    };
    assert_eq!(thought(&history), "Hm.");
    history.extend([Message::assistant("Five."), Message::user("And now?")]);
    assert_eq!(thought(&history), Value::Null);
}
