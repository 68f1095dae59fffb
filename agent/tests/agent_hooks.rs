//! The host's own code around the calls of models and tools.

mod support;

use async_trait::async_trait;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_agent::{AfterModel, Agent, BeforeModel, BeforeTool, EventKind, Hooks, RunContext};
use stepwell_core::{
    Cancel, ChatModel, ChatRequest, ChatResponse, Decision, Error, FinishReason, Message, Origin, Part,
    Policy, PolicyRequest, Result, Role, StreamEvent, Tool, ToolCall, ToolContext, ToolError, ToolOutput,
    ToolResult, store::RunStatus,
};
use support::{LogStore, Script};

#[derive(Clone, Debug, Default)]
struct Echo {
    ran: Arc<AtomicU32>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct EchoArgs {
    text: String,
}

impl Tool for Echo {
    const NAME: &'static str = "echo";
    const DESCRIPTION: &'static str = "Echoes.";
    type Args = EchoArgs;
    type Output = String;

    async fn call(&self, args: EchoArgs, _: &ToolContext) -> Result<String, ToolError> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        Ok(args.text)
    }
}

fn says(text: &str) -> Vec<Part> {
    vec![Part::text(text, Origin::Model)]
}

fn echo(id: &str, text: &str) -> Part {
    Part::tool_call(id, "echo", json!({ "text": text }))
}

fn answer(text: &str) -> ChatResponse {
    ChatResponse::new("hook", "h", says(text), FinishReason::Stop)
}

fn results(messages: &[Message]) -> Vec<&ToolResult> {
    messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::ToolResult(result) => Some(result),
            _ => None,
        })
        .collect()
}

/// Notes what it sees, under its own name.
#[derive(Clone, Debug)]
struct Notes(&'static str, Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, what: &str) {
        self.1.lock().expect("free").push(format!("{} {what}", self.0));
    }
}

#[async_trait]
impl Hooks for Notes {
    async fn before_model(&self, request: &mut ChatRequest, cx: &RunContext) -> Result<BeforeModel> {
        self.note(&format!("before model, step {}", cx.step_number()));
        request.temperature = Some(0.5);
        Ok(BeforeModel::Ask)
    }
    async fn after_model(&self, response: &mut ChatResponse, _: &RunContext) -> Result<AfterModel> {
        self.note("after model");
        for part in &mut response.message.parts {
            if let Part::Text(text) = part {
                text.text.push('!');
            }
        }
        Ok(AfterModel::GoOn)
    }
    async fn before_tool(&self, call: &mut ToolCall, _: &RunContext) -> Result<BeforeTool> {
        self.note(&format!("before {}", call.name));
        Ok(BeforeTool::Run)
    }
    async fn after_tool(&self, call: &ToolCall, result: &mut ToolResult, _: &RunContext) -> Result<()> {
        self.note(&format!("after {}", call.name));
        result.parts.push(Part::text(" and more", Origin::Tool));
        Ok(())
    }
}

#[tokio::test]
async fn hooks_run_in_order_before_and_in_reverse_after_and_what_they_change_is_kept() {
    let model = Script::new(vec![vec![echo("1", "hi")], says("done")]);
    let notes = Arc::default();
    let agent = Agent::new(Arc::clone(&model) as Arc<dyn ChatModel>)
        .tool(Echo::default())
        .hooks(Notes("a", Arc::clone(&notes)))
        .hooks(Notes("b", Arc::clone(&notes)))
        .build()
        .expect("no fault");
    let result = agent.run("go").await.expect("answers");
    assert_eq!(result.answer, "done!!");
    assert_eq!(results(&result.messages)[0].text(), "hi\n and more\n and more");
    assert_eq!(
        *notes.lock().expect("free"),
        [
            "a before model, step 1",
            "b before model, step 1",
            "b after model",
            "a after model",
            "a before echo",
            "b before echo",
            "b after echo",
            "a after echo",
            "a before model, step 3",
            "b before model, step 3",
            "b after model",
            "a after model",
        ]
    );
    let asked = model.asked.lock().expect("free");
    assert!(asked.iter().all(|request| request.temperature == Some(0.5)));
}

#[tokio::test]
async fn a_hook_may_answer_in_the_place_of_the_model_and_of_a_tool() {
    #[derive(Debug)]
    struct Instead;
    #[async_trait]
    impl Hooks for Instead {
        async fn before_model(&self, request: &mut ChatRequest, _: &RunContext) -> Result<BeforeModel> {
            Ok(match request.last_user_text().as_deref() {
                Some("cached") => BeforeModel::Answer(Box::new(answer("from the hook"))),
                _ => BeforeModel::Ask,
            })
        }
        async fn before_tool(&self, call: &mut ToolCall, _: &RunContext) -> Result<BeforeTool> {
            call.id = "another".into(); // it stays as it was
            Ok(BeforeTool::Answer(ToolOutput::parts(vec![Part::text(
                "known",
                Origin::System,
            )])))
        }
    }
    let model = Script::new(vec![vec![echo("1", "hi")], says("done")]);
    let tool = Echo::default();
    let agent = Agent::new(Arc::clone(&model) as Arc<dyn ChatModel>)
        .tool(tool.clone())
        .hooks(Instead)
        .build()
        .expect("no fault");
    let mut stream = agent.stream("cached");
    let mut words = String::new();
    while let Some(event) = stream.next().await {
        if let EventKind::Model {
            event: StreamEvent::TextDelta { text, .. },
        } = event.kind
        {
            words.push_str(&text);
        }
    }
    let result = stream.finish().await.expect("ended");
    assert_eq!(
        (result.answer.as_str(), words.as_str()),
        ("from the hook", "from the hook")
    );
    assert_eq!((model.calls(), result.usage.total()), (0, 0));

    let result = agent.run("go").await.expect("answers");
    let told = results(&result.messages);
    assert_eq!(
        (told[0].call_id.as_str(), told[0].text()),
        ("1", "known".to_owned())
    );
    assert_eq!(
        told[0].parts[0].origin(),
        Origin::Tool,
        "a hook's words for a tool are a tool's"
    );
    assert_eq!(tool.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_policy_decides_on_what_a_hook_made_of_the_call() {
    #[derive(Debug)]
    struct Rewrite;
    #[async_trait]
    impl Hooks for Rewrite {
        async fn before_tool(&self, call: &mut ToolCall, _: &RunContext) -> Result<BeforeTool> {
            call.arguments = match call.id.as_str() {
                "1" => json!({ "text": "evil" }),
                _ => json!({ "text": 7 }),
            };
            Ok(BeforeTool::Run)
        }
    }
    #[derive(Debug)]
    struct NoEvil;
    #[async_trait]
    impl Policy for NoEvil {
        async fn decide(&self, request: PolicyRequest<'_>) -> Decision {
            match request.arguments["text"].as_str() {
                Some("evil") => Decision::Deny {
                    reason: "no evil".into(),
                },
                _ => Decision::Allow,
            }
        }
    }
    let model = Script::new(vec![vec![echo("1", "good"), echo("2", "good")], says("done")]);
    let tool = Echo::default();
    let agent = Agent::new(model)
        .tool(tool.clone())
        .policy(NoEvil)
        .hooks(Rewrite)
        .build()
        .expect("no fault");
    let result = agent.run("go").await.expect("answers");
    let told = results(&result.messages);
    assert!(told[0].is_error && told[0].text().contains("no evil"));
    assert!(told[1].is_error && told[1].text().contains("do not fit"));
    assert_eq!(tool.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_hook_may_stop_the_run_in_good_order() {
    #[derive(Debug)]
    struct Stop;
    #[async_trait]
    impl Hooks for Stop {
        async fn after_model(&self, _: &mut ChatResponse, _: &RunContext) -> Result<AfterModel> {
            Ok(AfterModel::Stop {
                reason: "the shift is over".into(),
            })
        }
    }
    let tool = Echo::default();
    let model = Script::new(vec![vec![echo("1", "a"), echo("2", "b")]]);
    let agent = Agent::new(model)
        .tool(tool.clone())
        .hooks(Stop)
        .build()
        .expect("no fault");
    let result = agent.run("go").await.expect("stopped in good order");
    assert_eq!((result.status, result.answer.as_str()), (RunStatus::Done, ""));
    let told = results(&result.messages);
    assert_eq!(told.len(), 2, "every call has its result");
    assert!(
        told.iter()
            .all(|result| result.is_error && result.text().contains("the shift is over"))
    );
    assert_eq!(tool.ran.load(Ordering::SeqCst), 0);

    let agent = Agent::new(Script::new(vec![says("half")]))
        .hooks(Stop)
        .build()
        .expect("no fault");
    assert_eq!(agent.run("go").await.expect("stopped").answer, "half");
}

/// Misbehaves in one place.
#[derive(Clone, Debug)]
struct Bad {
    place: &'static str,
    how: &'static str,
}

impl Bad {
    async fn at(&self, place: &str) -> Result<()> {
        if place != self.place {
            return Ok(());
        }
        match self.how {
            "panic" => panic!("canary words"),
            "hang" => std::future::pending().await,
            _ => Err(Error::invalid("the hook", "it says no")),
        }
    }
}

#[async_trait]
impl Hooks for Bad {
    async fn before_model(&self, _: &mut ChatRequest, _: &RunContext) -> Result<BeforeModel> {
        self.at("before_model").await.map(|()| BeforeModel::Ask)
    }
    async fn after_model(&self, _: &mut ChatResponse, _: &RunContext) -> Result<AfterModel> {
        self.at("after_model").await.map(|()| AfterModel::GoOn)
    }
    async fn before_tool(&self, _: &mut ToolCall, _: &RunContext) -> Result<BeforeTool> {
        self.at("before_tool").await.map(|()| BeforeTool::Run)
    }
    async fn after_tool(&self, _: &ToolCall, _: &mut ToolResult, _: &RunContext) -> Result<()> {
        self.at("after_tool").await
    }
}

/// Every call has exactly one result.
fn assert_closed(messages: &[Message]) {
    let calls: Vec<&str> = messages
        .iter()
        .flat_map(Message::tool_calls)
        .map(|call| call.id.as_str())
        .collect();
    let answered: Vec<&str> = results(messages)
        .iter()
        .map(|result| result.call_id.as_str())
        .collect();
    assert_eq!(calls, answered);
}

#[tokio::test]
async fn a_hook_that_fails_panics_or_hangs_ends_the_run_with_an_error_and_a_closed_history() {
    for place in ["before_model", "after_model", "before_tool", "after_tool"] {
        for how in ["panic", "fail", "hang"] {
            let model = Script::new(vec![vec![echo("1", "a"), echo("2", "b")], says("done")]);
            let agent = Agent::new(model)
                .tool(Echo::default())
                .hooks(Bad { place, how })
                .build()
                .expect("no fault");
            let cancel = Cancel::new();
            if how == "hang" {
                let cancel = cancel.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    cancel.cancel();
                });
            }
            let run = agent.run("go").cancel(cancel).outcome();
            let result = tokio::time::timeout(Duration::from_secs(5), run)
                .await
                .expect(place);
            let error = result.error.as_ref().expect(place);
            let code = match how {
                "panic" => "host",
                "hang" => "cancelled",
                _ => "invalid_input",
            };
            assert_eq!(error.code(), code, "{place} {how}: {error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{place}");
            if how == "panic" {
                assert!(error.to_string().contains(place), "{error}");
            }
            assert_closed(&result.messages);
        }
    }
}

#[tokio::test]
async fn what_a_hook_left_is_what_a_resumed_run_finds() {
    let model = Script::new(vec![vec![echo("1", "hi"), echo("2", "ho")], says("done")]);
    let store = LogStore::new();
    let notes = Arc::default();
    let agent = Agent::new(Arc::clone(&model) as Arc<dyn ChatModel>)
        .tool(Echo::default())
        .hooks(Notes("a", Arc::clone(&notes)))
        .store(store.clone())
        .build()
        .expect("no fault");
    let whole = agent.run("go").run_id("r").await.expect("answers");
    // A crash when one call of the two had been recorded.
    let effect = store
        .kinds("r")
        .iter()
        .position(|kind| *kind == "effect")
        .expect("one")
        + 1;
    store.cut_after("r", effect);
    notes.lock().expect("free").clear();
    let resumed = agent.resume("r").await.expect("goes on");
    assert_eq!(resumed.messages, whole.messages);
    let seen = notes.lock().expect("free").clone();
    assert_eq!(
        seen.iter().filter(|note| note.contains("after echo")).count(),
        1,
        "{seen:?}"
    );
}

#[tokio::test]
async fn an_answer_that_a_hook_replaces_is_checked_as_the_models_own() {
    #[derive(Debug)]
    struct Spoil(AtomicU32);
    #[async_trait]
    impl Hooks for Spoil {
        async fn after_model(&self, response: &mut ChatResponse, _: &RunContext) -> Result<AfterModel> {
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                *response = answer("no JSON any more");
                response.message.role = Role::User; // an answer is the assistant's, whatever a hook says
            }
            Ok(AfterModel::GoOn)
        }
    }
    let model = Script::new(vec![says("[1]"), says("[2]")]);
    let agent = Agent::new(Arc::clone(&model) as Arc<dyn ChatModel>)
        .output::<Vec<u8>>()
        .hooks(Spoil(AtomicU32::new(0)))
        .build()
        .expect("no fault");
    let result = agent.run("go").await.expect("answers");
    assert_eq!(result.value, Some(json!([2])));
    assert_eq!(result.messages[1].role, Role::Assistant);
    let _: Value = result.output().expect("any JSON");
}
