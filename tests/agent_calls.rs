//! Tools that say they may be tried again or kept, and an agent as a model whose run waits for a person.

use futures::StreamExt;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell::{
    AllowAll, ChatModel, ChatRequest, Effect, Message, Part, Result, Risk, Tool, ToolContext, ToolError,
    ToolOptions,
    agent::{Agent, AgentModel},
    providers::Scripted,
    stores::MemoryStore,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct LookArgs {
    word: String,
}

/// Fails so many times, then answers; counts its calls.
struct Look {
    options: ToolOptions,
    failures: u32,
    calls: Arc<AtomicU32>,
}

impl Tool for Look {
    const NAME: &'static str = "look";
    const DESCRIPTION: &'static str = "Looks a word up.";
    type Args = LookArgs;
    type Output = String;
    fn options(&self) -> ToolOptions {
        self.options.clone()
    }
    async fn call(&self, args: LookArgs, cx: &ToolContext) -> Result<String, ToolError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call <= self.failures {
            return Err(ToolError::Failed("not now".into()));
        }
        Ok(format!("{} at attempt {}", args.word, cx.attempt))
    }
}

fn look(options: ToolOptions, failures: u32) -> (Look, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let tool = Look {
        options,
        failures,
        calls: Arc::clone(&calls),
    };
    (tool, calls)
}

fn told(messages: &[Message]) -> Vec<(String, bool)> {
    messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::ToolResult(result) => Some((result.text(), result.is_error)),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_tried_again_as_often_as_its_tool_says_and_never_one_that_must_not_happen_twice() {
    for (effect, failures, calls, is_error) in [
        (Effect::Pure, 2, 3, false),
        (Effect::Idempotent, 2, 3, false),
        (Effect::Pure, 3, 3, true),
        (Effect::AtMostOnce, 2, 1, true),
    ] {
        let (tool, made) = look(ToolOptions::default().effect(effect).retries(2), failures);
        let model = Scripted::new().call("look", json!({ "word": "sea" })).say("done");
        let agent = Agent::new(Arc::new(model))
            .tool(tool)
            .policy(AllowAll)
            .build()
            .expect("no fault");
        let result = agent.run("look").await.expect("it answers");
        assert_eq!(made.load(Ordering::SeqCst), calls, "{effect:?} {failures}");
        let results = told(&result.messages);
        assert_eq!(
            (results.len(), results[0].1),
            (1, is_error),
            "{effect:?} {failures}: {results:?}"
        );
        if !is_error {
            assert_eq!(results[0].0, "sea at attempt 3");
        }
    }
}

#[tokio::test]
async fn a_kept_result_is_given_again_for_the_same_arguments_of_a_pure_tool_alone() {
    for (effect, calls) in [(Effect::Pure, 2), (Effect::Idempotent, 3)] {
        let options = ToolOptions::default()
            .effect(effect)
            .cache(Duration::from_mins(1));
        let (tool, made) = look(options, 0);
        let model = Scripted::new()
            .call("look", json!({ "word": "sea" }))
            .say("done")
            .call("look", json!({ "word": "sea" }))
            .say("done")
            .call("look", json!({ "word": "sky" }))
            .say("done");
        let agent = Agent::new(Arc::new(model))
            .tool(tool)
            .policy(AllowAll)
            .tool_cache(Arc::new(MemoryStore::new()))
            .build()
            .expect("no fault");
        let mut results = Vec::new();
        for _ in 0..3 {
            let result = agent.run("look").await.expect("it answers");
            results.extend(told(&result.messages).into_iter().map(|(text, _)| text));
        }
        assert_eq!(
            results,
            ["sea at attempt 1", "sea at attempt 1", "sky at attempt 1"]
        );
        assert_eq!(made.load(Ordering::SeqCst), calls, "{effect:?}");
    }
}

#[tokio::test]
async fn an_agent_as_a_model_whose_run_waits_for_a_person_says_so_with_the_runs_id() {
    let (tool, made) = look(ToolOptions::default().risk(Risk::Write), 0);
    let model = Scripted::new().call("look", json!({ "word": "sea" })).say("done");
    let agent = Agent::new(Arc::new(model)).tool(tool).build().expect("no fault");
    let asked = AgentModel::new("writer", agent);
    let mut stream = asked
        .stream(ChatRequest::new([Message::user("look")]))
        .await
        .expect("it begins");
    let mut last = None;
    while let Some(event) = stream.next().await {
        last = Some(event);
    }
    let error = last.expect("an event").expect_err("it waits");
    assert_eq!(error.code(), "interrupted");
    assert_eq!(made.load(Ordering::SeqCst), 0, "nobody allowed it");
}
