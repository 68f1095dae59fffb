//! An agent as a chat model.

mod support;

use async_trait::async_trait;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_agent::{AfterModel, Agent, AgentBuilder, AgentModel, AgentModels, Hooks, RunContext};
use stepwell_core::{
    ChatAs, ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Message, Origin, Part, Price, Result,
    StreamEvent, Tool, ToolContext, ToolError,
};
use support::Script;

#[derive(Clone, Debug, Default)]
struct Look {
    dropped: Arc<AtomicU32>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct LookArgs {
    at: String,
}

/// Tells when it is dropped before its end.
struct Guard(Arc<AtomicU32>);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Tool for Look {
    const NAME: &'static str = "look";
    const DESCRIPTION: &'static str = "Looks.";
    type Args = LookArgs;
    type Output = String;

    async fn call(&self, args: LookArgs, _: &ToolContext) -> Result<String, ToolError> {
        let guard = Guard(Arc::clone(&self.dropped));
        match args.at.as_str() {
            "hang" => std::future::pending().await,
            "fatal" => {
                std::mem::forget(guard);
                Err(ToolError::Fatal(Error::internal("no way on")))
            }
            at => {
                std::mem::forget(guard);
                Ok(format!("{at} seen"))
            }
        }
    }
}

fn says(text: &str) -> Vec<Part> {
    vec![Part::text(text, Origin::Model)]
}

fn look(at: &str) -> Vec<Part> {
    vec![
        Part::text("Let me see. ", Origin::Model),
        Part::tool_call("1", "look", json!({ "at": at })),
    ]
}

fn builder(lines: Vec<Vec<Part>>) -> AgentBuilder {
    Agent::new(Script::new(lines)).tool(Look::default())
}

fn model(builder: AgentBuilder) -> AgentModel {
    AgentModel::new("looker", builder.build().expect("no fault"))
}

async fn events(model: &AgentModel, request: ChatRequest) -> Vec<Result<StreamEvent>> {
    model.stream(request).await.expect("begins").collect().await
}

#[tokio::test]
async fn an_agent_answers_as_a_model_with_the_usage_of_all_its_calls() {
    let model = model(builder(vec![look("here"), says("All seen.")]));
    let answer = model.chat("go".into()).await.expect("answers");
    assert_eq!(
        (
            answer.provider.as_str(),
            answer.model.as_str(),
            answer.finish_reason
        ),
        ("agent", "looker", FinishReason::Stop)
    );
    assert_eq!(answer.text(), "Let me see. All seen.");
    let quiet = self::model(builder(vec![look("here"), says("All seen.")])).answer_only();
    assert_eq!(
        quiet.chat("go".into()).await.expect("answers").text(),
        "All seen."
    );
    assert_eq!(
        (answer.usage.input_tokens, answer.usage.output_tokens),
        (Some(20), Some(10))
    );
    assert_eq!(answer.cost, None, "an unknown price is not 0");
    assert!(answer.id.is_some_and(|id| !id.is_empty()));
    let data: Vec<(&str, &serde_json::Value)> = answer
        .message
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Data(data) => Some((data.name.as_str(), &data.value)),
            _ => None,
        })
        .collect();
    assert_eq!(
        data,
        [
            (
                "tool_call",
                &json!({ "call_id": "1", "name": "look", "arguments": { "at": "here" } })
            ),
            (
                "tool_result",
                &json!({ "call_id": "1", "name": "look", "is_error": false })
            )
        ]
    );
    assert!(
        answer.message.tool_calls().next().is_none(),
        "its calls are its own"
    );
}

#[tokio::test]
async fn words_stream_as_they_come_and_the_stream_folds_to_the_same_answer() {
    let model = model(builder(vec![look("here"), says("All seen.")]));
    let events: Vec<StreamEvent> = events(&model, "go".into())
        .await
        .into_iter()
        .map(|event| event.expect("no error"))
        .collect();
    let place = |found: &dyn Fn(&StreamEvent) -> bool| events.iter().position(found).expect("it is there");
    let first =
        place(&|event| matches!(event, StreamEvent::TextDelta { text, .. } if text.starts_with("Let")));
    let called = place(&|event| matches!(event, StreamEvent::Data(data) if data.name == "tool_call"));
    let last =
        place(&|event| matches!(event, StreamEvent::TextDelta { text, .. } if text.starts_with("All")));
    assert!(first < called && called < last);
    assert!(matches!(
        events.last(),
        Some(StreamEvent::Finish {
            reason: FinishReason::Stop,
            ..
        })
    ));
    assert!(matches!(events[0], StreamEvent::MessageStart { .. }));
    let ends = events
        .iter()
        .filter(|event| matches!(event, StreamEvent::Finish { .. }))
        .count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn an_agent_with_a_shape_gives_its_last_answer_alone_and_checked() {
    let shaped = || model(builder(vec![look("here"), says("[1,\"x\"]"), says("[1,2]")]).output::<Vec<u8>>());
    let answer = shaped().chat("go".into()).await.expect("answers");
    assert_eq!(
        answer.text(),
        "[1,2]",
        "neither words before a call nor a faulty answer"
    );
    assert_eq!(answer.structured.expect("checked").value, Some(json!([1, 2])));
    assert_eq!(
        shaped().chat_as::<Vec<u8>>("go").await.expect("answers").value,
        [1, 2]
    );
    assert_eq!(shaped().info().abilities.structured_output, Some(true));
    // A stricter reader than the agent is refused by its own check.
    let error = shaped().chat_as::<Vec<bool>>("go").await.expect_err("numbers");
    assert_eq!(error.code(), "schema_mismatch");
}

#[tokio::test]
async fn what_a_hook_changes_is_what_streams_out() {
    #[derive(Debug)]
    struct Quiet;
    #[async_trait]
    impl Hooks for Quiet {
        async fn after_model(&self, response: &mut ChatResponse, _: &RunContext) -> Result<AfterModel> {
            response.message.parts = says("[withheld]").into();
            Ok(AfterModel::GoOn)
        }
    }
    let model = model(builder(vec![says("the secret")]).hooks(Quiet));
    let all = format!("{:?}", events(&model, "go".into()).await);
    assert!(all.contains("[withheld]") && !all.contains("secret"), "{all}");
}

#[tokio::test]
async fn what_an_agent_cannot_honour_is_refused_or_warned_about_before_any_call() {
    let script = Script::new(vec![says("ok")]);
    let agent = Agent::new(Arc::clone(&script) as Arc<dyn ChatModel>)
        .build()
        .expect("no fault");
    let model = AgentModel::new("plain", agent);
    let spec = stepwell_core::ToolSpec::new("t", "T.", &stepwell_core::Schema::of::<u8>()).expect("a spec");
    let tools = ChatRequest::from("go").tool(spec);
    let shape = ChatRequest::from("go").schema("a", stepwell_core::Schema::of::<u8>());
    for request in [tools, shape] {
        let error = model.chat(request).await.expect_err("refused");
        assert_eq!(error.code(), "unsupported", "{error}");
        assert!(error.to_string().contains("agent/plain"), "{error}");
    }
    let error = model
        .chat(ChatRequest::default())
        .await
        .expect_err("nothing to answer");
    assert_eq!((error.code(), script.calls()), ("invalid_input", 0));
    let answer = model
        .chat(ChatRequest::from("go").temperature(0.1).max_output_tokens(5))
        .await
        .expect("answers");
    let warned: Vec<&str> = answer
        .warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert!(
        warned.len() == 2 && warned[0].contains("max_output_tokens"),
        "{warned:?}"
    );
}

#[tokio::test]
async fn errors_keep_their_codes_and_tell_the_usage_before_them() {
    let model = model(builder(vec![look("fatal")]));
    let told = events(&model, "go".into()).await;
    assert!(
        matches!(told.last(), Some(Err(Error::ToolFailed { .. }))),
        "{told:?}"
    );
    let usage = told.iter().rev().find_map(|event| match event {
        Ok(StreamEvent::Usage(usage)) => Some(usage.total()),
        _ => None,
    });
    assert_eq!(usage, Some(15));
    assert_eq!(
        model.chat("go".into()).await.expect_err("fatal").code(),
        "tool_failed"
    );
}

#[tokio::test]
async fn dropping_the_stream_stops_the_run_and_its_tools() {
    let look_tool = Look::default();
    let agent = Agent::new(Script::new(vec![look("hang")]))
        .tool(look_tool.clone())
        .build()
        .expect("no fault");
    let model = AgentModel::new("looker", agent);
    let mut stream = model.stream("go".into()).await.expect("begins");
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
        event.expect("no error");
    }
    assert_eq!(look_tool.dropped.load(Ordering::SeqCst), 0, "it hangs");
    drop(stream);
    assert_eq!(look_tool.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_agent_may_be_the_model_of_another_and_its_money_adds_up() {
    let mut inner = Script::plain(vec![says("inner words")]);
    let mut price = Price::default();
    (price.input, price.output) = (Some(1_000_000), Some(1_000_000)); // a dollar for a million tokens
    inner.info.price = Some(price);
    let inner = Agent::new(Arc::new(inner) as Arc<dyn ChatModel>)
        .build()
        .expect("no fault");
    let outer = Agent::new(Arc::new(AgentModel::new("inner", inner)))
        .build()
        .expect("no fault");
    let result = outer.run("go").await.expect("answers");
    assert_eq!(
        (result.answer.as_str(), result.usage.total()),
        ("inner words", 15)
    );
    assert_eq!(result.spent.micro_usd, 15);
    let followed = outer.run(result.into_input(Message::user("on"))).outcome().await;
    assert_eq!(
        followed.error.map(|error| error.code()),
        Some("internal"),
        "the script is over"
    );
}

#[test]
fn agents_are_kept_by_plain_names_and_an_unknown_one_is_told_with_those_there_are() {
    let agents = AgentModels::new();
    let agent = || builder(vec![]).build().expect("no fault");
    for name in ["", "a/b", "a b", ".hidden", "ä", &"n".repeat(65)] {
        assert_eq!(agents.add(name, agent()).expect_err(name).code(), "invalid_input");
    }
    assert!(
        agents
            .get("x")
            .expect_err("none")
            .to_string()
            .contains("register")
    );
    agents.add("cyber-analyst", agent()).expect("a name");
    agents.add("tutor_2.1", agent()).expect("a name");
    assert_eq!(agents.names(), ["cyber-analyst", "tutor_2.1"]);
    let error = agents.get("tutor").expect_err("a slip");
    assert_eq!(error.code(), "not_found");
    assert!(error.to_string().contains("cyber-analyst, tutor_2.1"), "{error}");
    assert_eq!(
        agents.get("cyber-analyst").expect("known").info().name(),
        "agent/cyber-analyst"
    );
}
