//! What an agent's run may take, told before it; what its model does not see; and approvals that come too late.

mod support;

use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use stepwell_agent::Agent;
use stepwell_core::{
    BudgetLimits, ChatRequest, Message, Part, Price, Risk, Tool, ToolContext, ToolError, ToolOptions,
    store::RunStatus,
};
use support::Script;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoteArgs {
    /// What to write.
    text: String,
    /// Whose note.
    owner: String,
}

/// Says whose note it wrote.
struct Note(Risk);

impl Tool for Note {
    const NAME: &'static str = "note";
    const DESCRIPTION: &'static str = "Writes a note.";
    type Args = NoteArgs;
    type Output = String;
    fn options(&self) -> ToolOptions {
        ToolOptions::default().risk(self.0)
    }
    async fn call(&self, args: NoteArgs, _: &ToolContext) -> Result<String, ToolError> {
        Ok(format!("{} for {}", args.text, args.owner))
    }
}

fn calls(arguments: Value) -> Vec<Part> {
    vec![Part::tool_call("1", "note", arguments)]
}

fn says(text: &str) -> Vec<Part> {
    Message::assistant(text).parts.to_vec()
}

#[tokio::test]
async fn bounds_are_told_without_a_call_and_a_run_keeps_within_them() {
    let mut script = Script::plain(vec![calls(json!({ "text": "a", "owner": "ann" })), says("done")]);
    script.info.context_window = Some(1_000);
    let mut price = Price::default();
    (price.input, price.output) = (Some(1_000_000), Some(10_000_000)); // a dollar and ten for a million
    script.info.price = Some(price);
    let script = Arc::new(script);
    let mut limits = BudgetLimits::default();
    limits.calls = Some(5);
    let agent = Agent::new(script.clone())
        .request(ChatRequest::default().max_output_tokens(100))
        .tool(Note(Risk::Read))
        .budget(limits)
        .build()
        .expect("no fault");
    let bounds = agent.dry_run("write a note").expect("a question");
    assert_eq!(script.calls(), 0, "nothing is asked");
    assert_eq!(
        (bounds.model_calls, bounds.tool_calls, bounds.most.calls),
        (5, 5, Some(5))
    );
    assert_eq!(bounds.most.tokens, Some(5 * 1_000));
    // Five times 900 tokens in at 1 µ$ and 100 out at 10 µ$.
    assert_eq!(bounds.most.micro_usd, Some(5 * 1_900));
    assert!(
        bounds.first_call.tokens > 100 && bounds.first_call.tokens < 1_000,
        "{bounds:?}"
    );
    let result = agent.run("write a note").await.expect("it answers");
    assert!(result.spent.calls <= bounds.most.calls.expect("bounded"));
    assert!(result.spent.tokens <= bounds.most.tokens.expect("bounded"));
    assert_eq!(
        agent.dry_run("").expect_err("nothing to answer").code(),
        "invalid_input"
    );
    let silent = Agent::new(Script::new(vec![says("hi")]))
        .build()
        .expect("no fault");
    let bounds = silent.dry_run("hello").expect("a question");
    assert_eq!((bounds.model_calls, bounds.tool_calls), (1, 0));
    assert_eq!(bounds.most.micro_usd, None, "an unknown price is not 0");
}

/// Behaviour 49, through the builder.
#[tokio::test]
async fn an_argument_that_is_filled_in_is_not_seen_by_the_model_and_not_taken_from_it() {
    let script = Script::new(vec![calls(json!({ "text": "a", "owner": "eve" })), says("done")]);
    let agent = Agent::new(script.clone())
        .tool(Note(Risk::Read))
        .inject("note", "owner", |_, cx| cx.scope().tenant().into())
        .build()
        .expect("no fault");
    let result = agent.run("write a note").await.expect("it answers");
    let tenant = stepwell_core::Scope::local().tenant().to_owned();
    assert_eq!(
        result.messages[2].parts.first().map(|part| match part {
            Part::ToolResult(result) => result.text(),
            other => panic!("{other:?}"),
        }),
        Some(format!("a for {tenant}"))
    );
    let asked = script.asked.lock().expect("no panic holds it");
    let shown = &asked[0].tools[0].parameters;
    assert_eq!(shown["required"], json!(["text"]));
    assert!(shown["properties"].get("owner").is_none());
    drop(asked);
    for (tool, argument) in [("nothing", "owner"), ("note", "nothing")] {
        let built = Agent::new(Script::new(Vec::new()))
            .tool(Note(Risk::Read))
            .inject(tool, argument, |_, _| Value::Null)
            .build();
        assert_eq!(built.expect_err("not there").code(), "not_found");
    }
}

#[tokio::test]
async fn an_approval_that_nobody_gives_in_time_lets_the_call_not_run_and_the_model_is_told() {
    let script = Script::new(vec![calls(json!({ "text": "a", "owner": "ann" })), says("done")]);
    let agent = Agent::new(script)
        .tool(Note(Risk::Write))
        .approvals_expire_in(Duration::from_millis(20))
        .build()
        .expect("no fault");
    let paused = agent.run("write a note").await.expect("it pauses");
    assert_eq!(paused.status, RunStatus::Paused);
    let question = &paused.questions[0];
    assert_eq!(
        question.expires_ms.map(|expires| expires - question.asked_ms),
        Some(20)
    );
    tokio::time::sleep(Duration::from_millis(60)).await;
    let result = agent.go_on(paused).expect("paused").await.expect("it answers");
    assert_eq!(result.answer, "done");
    let told = match result.messages[2].parts.first() {
        Some(Part::ToolResult(result)) => result.text(),
        other => panic!("{other:?}"),
    };
    assert!(told.contains("nobody approved the call in time"), "{told}");
}
