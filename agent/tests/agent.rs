//! Behaviours of agents, of the tools node and of the retriever tool. Numbers refer to the project's conformance list.
#![allow(clippy::items_after_statements)] // a tool of one test stands in that test

mod support;

use async_trait::async_trait;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_agent::{Agent, AgentBuilder, EventKind, RunResult, retriever_tool};
use stepwell_core::{
    AllowAll, BudgetLimits, Cancel, ChatModel, Chunk, Decision, Document, DynTool, Effect, Error,
    Explanation, Hit, IntoDynTool, Limits, Message, Origin, Part, Policy, PolicyRequest, Price, Query,
    Result, Retriever, Risk, Role, Schema, StreamEvent, Tool, ToolContext, ToolError, ToolOptions,
    ToolOutput, ToolResult, ToolSpec, erase, store::RunStatus,
};
use support::{LogStore, Script};

/// Does what its arguments say.
#[derive(Clone, Debug, Default)]
struct Act {
    ran: Arc<AtomicU32>,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct ActArgs {
    /// `ok`, `retry`, `failed`, `fatal`, `panic`, `hang`, `slow` or `big`.
    what: String,
}

impl Tool for Act {
    const NAME: &'static str = "act";
    const DESCRIPTION: &'static str = "Acts.";
    type Args = ActArgs;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default().timeout(Duration::from_millis(200))
    }

    async fn call(&self, args: ActArgs, cx: &ToolContext) -> Result<String, ToolError> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        cx.emit(json!(args.what));
        match args.what.as_str() {
            "retry" => Err(ToolError::Retry("say please".into())),
            "failed" => Err(ToolError::Failed("it is broken".into())),
            "fatal" => Err(ToolError::Fatal(Error::internal("no way on"))),
            "panic" => panic!("secret words"),
            "hang" => std::future::pending().await,
            "slow" => {
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok("slow done".into())
            }
            "big" => Ok("b".repeat(1 << 20)),
            what => Ok(format!("{what} done")),
        }
    }
}

fn call(id: &str, what: &str) -> Part {
    Part::tool_call(id, "act", json!({ "what": what }))
}

fn says(text: &str) -> Vec<Part> {
    vec![Part::text(text, Origin::Model)]
}

fn agent(model: &Arc<Script>) -> AgentBuilder {
    Agent::new(Arc::clone(model) as Arc<dyn ChatModel>).tool(Act::default())
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

/// Every call has exactly one result, in the order of the calls.
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
async fn an_agent_answers_with_messages_usage_and_the_answer() {
    let model = Script::new(vec![vec![call("1", "ok")], says("All done.")]);
    let agent = agent(&model)
        .name("helper")
        .instructions("Be brief.")
        .build()
        .expect("no fault");
    let result = agent.run("Do it.").await.expect("answers");
    assert_eq!(
        (result.answer.as_str(), result.status),
        ("All done.", RunStatus::Done)
    );
    assert_eq!(
        (result.usage.input_tokens, result.usage.output_tokens),
        (Some(20), Some(10))
    );
    assert_eq!(
        (result.spent.calls, result.spent.tokens, result.steps),
        (3, 30, 3)
    );
    let roles: Vec<Role> = result.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Assistant]);
    assert_eq!(results(&result.messages)[0].text(), "ok done");
    assert_eq!(
        result
            .answer_message()
            .and_then(|message| message.name.as_deref()),
        Some("helper")
    );
    let asked = model.asked.lock().expect("free");
    assert_eq!(asked[0].messages[0].role, Role::System, "instructions come first");
    assert_eq!(asked[0].tools[0].name, "act");
    assert_eq!(asked[1].messages.len(), 4, "instructions, question, call, result");
}

#[tokio::test]
async fn a_conversation_goes_on_where_it_was() {
    let model = Script::new(vec![says("first"), says("second")]);
    let agent = agent(&model).build().expect("no fault");
    let mut messages = agent.run("one").await.expect("answers").messages;
    messages.push(Message::user("two"));
    let result = agent.run(messages).await.expect("answers");
    assert_eq!((result.answer.as_str(), result.messages.len()), ("second", 4));
}

#[tokio::test]
async fn every_call_gets_one_result_in_call_order_whatever_happens() {
    // Behaviour 50.
    let calls = vec![
        call("slow", "slow"),
        call("ok", "ok"),
        call("panic", "panic"),
        call("hang", "hang"),
        call("failed", "failed"),
        call("retry", "retry"),
        Part::tool_call("unknown", "nothing_like_it", json!({})),
        Part::tool_call("bad", "act", json!({ "what": 3 })),
        Part::ToolCall(stepwell_core::ToolCall::from_text("cut", "act", r#"{"what":"o"#)),
        call("big", "big"),
        call("ok", "ok"),
    ];
    let model = Script::new(vec![calls, says("done")]);
    let agent = agent(&model).build().expect("no fault");
    let result = agent.run("go").await.expect("answers");
    assert_closed(&result.messages);
    let told: Vec<(String, bool, String)> = results(&result.messages)
        .iter()
        .map(|result| (result.call_id.clone(), result.is_error, result.text()))
        .collect();
    for (id, is_error, words) in [
        ("slow", false, "slow done"),
        ("ok", false, "ok done"),
        ("panic", true, "failed unexpectedly"),
        ("hang", true, "did not end within 200ms"),
        ("failed", true, "it is broken"),
        ("retry", true, "say please"),
        ("unknown", true, "there is: act"),
        ("bad", true, "do not fit"),
        ("cut", true, "not whole JSON"),
        ("big", false, "[cut: 1048576 bytes in all]"),
        ("ok_2", false, "ok done"),
    ] {
        let found = told.iter().find(|(found, ..)| found == id).expect(id);
        assert!(
            found.1 == is_error && found.2.contains(words),
            "{id}: {} {:.200}",
            found.1,
            found.2
        );
        assert!(!found.2.contains("secret"), "{id}");
        assert!(found.2.len() <= 256 << 10, "{id}");
    }
}

#[tokio::test]
async fn a_null_for_an_absent_argument_reaches_the_tool_as_absent() {
    #[derive(Deserialize, schemars::JsonSchema)]
    struct Args {
        city: String,
        #[serde(default)]
        days: u8,
    }
    struct Trip;
    impl Tool for Trip {
        const NAME: &'static str = "trip";
        const DESCRIPTION: &'static str = "Plans.";
        type Args = Args;
        type Output = String;
        async fn call(&self, args: Args, _cx: &ToolContext) -> Result<String, ToolError> {
            Ok(format!("{} for {}", args.city, args.days))
        }
    }
    // A strict vendor sends every argument: this is how it leaves one out.
    let given = |id: &str, city: Value| Part::tool_call(id, "trip", json!({ "city": city, "days": null }));
    let calls = vec![given("absent", json!("Oslo")), given("needed", Value::Null)];
    let model = Script::new(vec![calls, says("done")]);
    let agent = Agent::new(model).tool(Trip).build().expect("no fault");
    let result = agent.run("go").await.expect("answers");
    let told = results(&result.messages);
    assert_eq!(
        (told[0].is_error, told[0].text()),
        (false, "Oslo for 0".to_owned())
    );
    assert!(
        told[1].is_error && told[1].text().contains("do not fit"),
        "{}",
        told[1].text()
    );
}

#[tokio::test]
async fn a_fatal_tool_stops_the_run_and_the_history_is_closed() {
    let model = Script::new(vec![
        vec![call("1", "hang"), call("2", "fatal"), call("3", "ok")],
        says("on"),
    ]);
    let store = LogStore::new();
    let agent = agent(&model).store(store).build().expect("no fault");
    let result = agent.run("go").run_id("r").outcome().await;
    assert_eq!(result.error.as_ref().map(Error::code), Some("tool_failed"));
    assert_eq!(result.status, RunStatus::Failed);
    assert_closed(&result.messages);
    assert!(results(&result.messages)[0].text().contains("stopped before"));
    let resumed = agent.resume("r").await.expect("the history is whole");
    assert_eq!(resumed.answer, "on");
    assert_closed(&resumed.messages);
}

#[tokio::test]
async fn a_cancelled_run_has_a_closed_history_and_can_be_resumed() {
    let model = Script::new(vec![
        vec![call("1", "ok"), call("2", "slow"), call("3", "hang")],
        says("after"),
    ]);
    let agent = agent(&model).store(LogStore::new()).build().expect("no fault");
    let cancel = Cancel::new();
    let mut stream = agent.run("go").run_id("r").cancel(cancel.clone()).stream();
    let mut ended = 0;
    while let Some(event) = stream.next().await {
        if matches!(event.kind, EventKind::ToolEnd { .. }) {
            ended += 1;
            if ended == 2 {
                cancel.cancel();
            }
        }
    }
    let result = stream.finish().await.expect("it ended");
    assert_eq!(result.status, RunStatus::Cancelled);
    assert_closed(&result.messages);
    let told: Vec<bool> = results(&result.messages)
        .iter()
        .map(|result| result.is_error)
        .collect();
    assert_eq!(told, [false, false, true]);
    let resumed = agent.resume("r").await.expect("goes on");
    assert_eq!(resumed.answer, "after");
    assert_closed(&resumed.messages);
}

#[tokio::test]
async fn cancelling_a_streaming_model_ends_the_run_and_books_an_estimate() {
    let mut model = Script::plain(vec![says("a long answer that never ends")]);
    model.hangs_after = Some(3);
    let model = Arc::new(model);
    let agent = Agent::new(model.clone()).build().expect("no fault");
    let cancel = Cancel::new();
    let mut stream = agent.run("go").cancel(cancel.clone()).stream();
    while let Some(event) = stream.next().await {
        if matches!(
            &event.kind,
            EventKind::Model {
                event: StreamEvent::TextDelta { .. }
            }
        ) {
            cancel.cancel();
        }
    }
    let result = stream.finish().await.expect("it ended");
    assert_eq!(result.status, RunStatus::Cancelled);
    assert!(
        result.usage.is_estimated && result.usage.total() > 0,
        "{:?}",
        result.usage
    );
}

#[tokio::test]
async fn tokens_and_tool_progress_stream_as_they_come() {
    let model = Script::new(vec![vec![call("1", "ok")], says("Hello there.")]);
    let agent = agent(&model).build().expect("no fault");
    let mut stream = agent.stream("hi");
    let (mut text, mut tools) = (String::new(), Vec::new());
    while let Some(event) = stream.next().await {
        match event.kind {
            EventKind::Model {
                event: StreamEvent::TextDelta { text: piece, .. },
            } => text.push_str(&piece),
            EventKind::ToolStart { call } => tools.push(format!("start {}", call.id)),
            EventKind::ToolProgress { call_id, value } => tools.push(format!("progress {call_id} {value}")),
            EventKind::ToolEnd { result } => tools.push(format!("end {}", result.call_id)),
            _ => {}
        }
    }
    assert_eq!(text, "Hello there.");
    assert_eq!(tools, ["start 1", "progress 1 \"ok\"", "end 1"]);
    assert_eq!(stream.finish().await.expect("ended").answer, "Hello there.");
}

/// A tool of a chosen effect that counts its runs and remembers its keys.
#[derive(Clone)]
struct Charge {
    effect: Effect,
    hangs: Arc<AtomicU32>,
    keys: Arc<Mutex<Vec<(String, u32)>>>,
}

impl Charge {
    fn new(effect: Effect, hangs: u32) -> Self {
        Self {
            effect,
            hangs: Arc::new(AtomicU32::new(hangs)),
            keys: Arc::default(),
        }
    }
}

impl Tool for Charge {
    const NAME: &'static str = "charge";
    const DESCRIPTION: &'static str = "Charges.";
    type Args = Value;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default().effect(self.effect).risk(Risk::Write)
    }

    async fn call(&self, _: Value, cx: &ToolContext) -> Result<String, ToolError> {
        self.keys
            .lock()
            .expect("free")
            .push((cx.idempotency_key.clone(), cx.attempt));
        if self.hangs.swap(0, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        Ok("charged".into())
    }
}

/// Polls a run until a tool hangs in it, then drops it: a crash.
async fn crash(agent: &Agent) {
    let run = agent.run("go").run_id("r").outcome();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), run)
            .await
            .is_err(),
        "the tool hangs"
    );
}

#[tokio::test]
async fn after_a_crash_finished_calls_are_not_repeated_and_idempotent_ones_keep_their_key() {
    let act = Act::default();
    let charge = Charge::new(Effect::Idempotent, 1);
    let model = Script::new(vec![
        vec![
            call("a", "ok"),
            Part::tool_call("b", "charge", json!({})),
            call("c", "ok"),
        ],
        says("done"),
    ]);
    let store = LogStore::new();
    let agent = Agent::new(model.clone())
        .tool(act.clone())
        .tool(charge.clone())
        .policy(AllowAll)
        .store(store.clone())
        .build()
        .expect("no fault");
    crash(&agent).await;
    assert!(store.kinds("r").contains(&"intent") && store.kinds("r").contains(&"effect"));
    let result = agent.resume("r").await.expect("goes on");
    assert_closed(&result.messages);
    assert_eq!(act.ran.load(Ordering::SeqCst), 2, "each finished call ran once");
    let keys = charge.keys.lock().expect("free").clone();
    assert_eq!(keys.len(), 2);
    assert_eq!((&keys[0].0, keys[0].1, keys[1].1), (&keys[1].0, 1, 2));
    assert_eq!(model.calls(), 2, "the finished model call is not repeated");
}

#[tokio::test]
async fn after_a_crash_an_at_most_once_call_that_had_begun_is_never_repeated() {
    let charge = Charge::new(Effect::AtMostOnce, 1);
    let model = Script::new(vec![
        vec![Part::tool_call("b", "charge", json!({}))],
        says("done"),
    ]);
    let store = LogStore::new();
    let agent = Agent::new(model)
        .tool(charge.clone())
        .policy(AllowAll)
        .store(store.clone())
        .build()
        .expect("no fault");
    crash(&agent).await;
    assert_eq!(
        store.sync_appends.load(Ordering::SeqCst),
        1,
        "the intent was safe before the call ran"
    );
    let result = agent.resume("r").await.expect("goes on");
    assert_eq!(charge.keys.lock().expect("free").len(), 1);
    assert!(
        results(&result.messages)[0]
            .text()
            .contains("outcome is not known")
    );
    assert_closed(&result.messages);
}

#[derive(Debug)]
struct Strict(Mutex<Vec<Vec<Origin>>>);

#[async_trait]
impl Policy for Strict {
    async fn decide(&self, request: PolicyRequest<'_>) -> Decision {
        self.0.lock().expect("free").push(request.origins.to_vec());
        match request.arguments["what"].as_str() {
            Some("deny") => Decision::Deny {
                reason: "not today".into(),
            },
            Some("ask") => Decision::Ask {
                reason: "it is costly".into(),
            },
            Some("crash") => panic!("policy"),
            _ => Decision::Allow,
        }
    }
}

#[tokio::test]
async fn the_policy_decides_before_each_call_and_the_model_is_told() {
    let act = Act::default();
    let calls = ["deny", "ask", "crash", "ok"]
        .map(|what| call(what, what))
        .to_vec();
    let model = Script::new(vec![calls, says("done")]);
    let policy = Arc::new(Strict(Mutex::default()));
    let agent = Agent::new(model)
        .tool(act.clone())
        .shared_policy(policy.clone())
        .build()
        .expect("no fault");
    let result = agent.run("go").await.expect("answers");
    let told: Vec<String> = results(&result.messages)
        .iter()
        .map(|result| result.text())
        .collect();
    for (told, words) in told
        .iter()
        .zip(["not today", "approval of a person", "no clear answer", "ok done"])
    {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(act.ran.load(Ordering::SeqCst), 1);
    assert_eq!(policy.0.lock().expect("free")[0], [Origin::User, Origin::Model]);
    // By default reading runs and writing asks.
    let charge = Charge::new(Effect::Pure, 0);
    let model = Script::new(vec![
        vec![Part::tool_call("b", "charge", json!({}))],
        says("done"),
    ]);
    let agent = Agent::new(model).tool(charge.clone()).build().expect("no fault");
    agent.run("go").await.expect("answers");
    assert!(charge.keys.lock().expect("free").is_empty());
}

#[derive(Debug)]
struct Alone {
    spec: ToolSpec,
    options: ToolOptions,
    schema: Schema,
    inside: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}

impl Alone {
    fn tool(
        name: &str,
        is_parallel: bool,
        inside: &Arc<AtomicU32>,
        most: &Arc<AtomicU32>,
    ) -> Arc<dyn DynTool> {
        let schema = Schema::from_value(json!({ "type": "object" })).expect("a schema");
        Arc::new(Self {
            spec: ToolSpec::new(name, "Counts.", &schema).expect("a name"),
            options: ToolOptions::default().parallel(is_parallel),
            schema,
            inside: Arc::clone(inside),
            most: Arc::clone(most),
        })
    }
}

#[async_trait]
impl DynTool for Alone {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    fn options(&self) -> &ToolOptions {
        &self.options
    }
    fn schema(&self) -> &Schema {
        &self.schema
    }
    async fn call(&self, _: Value, _: &ToolContext) -> Result<ToolOutput, ToolError> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if !self.options.is_parallel && inside > 1 {
            return Err(ToolError::Failed("not alone".into()));
        }
        Ok(ToolOutput::text("fine"))
    }
}

#[tokio::test]
async fn parallel_calls_run_side_by_side_and_a_sequential_one_runs_alone() {
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let calls = ["many", "many", "one", "many", "one", "one"];
    let calls: Vec<Part> = calls
        .iter()
        .enumerate()
        .map(|(at, name)| Part::tool_call(at.to_string(), *name, json!({})))
        .collect();
    let model = Script::new(vec![calls, says("done")]);
    let agent = Agent::new(model)
        .tools([
            Alone::tool("many", true, &inside, &most),
            Alone::tool("one", false, &inside, &most),
        ])
        .build()
        .expect("no fault");
    let result = agent.run("go").await.expect("answers");
    assert_closed(&result.messages);
    assert!(results(&result.messages).iter().all(|result| !result.is_error));
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_model_may_mend_its_call_only_so_often_and_a_budget_or_step_limit_stops_it() {
    let stubborn = || Script::new((0..9).map(|at| vec![call(&at.to_string(), "retry")]).collect());
    let mut limits = Limits::default();
    limits.steps = 12;
    let model = stubborn();
    let result = agent(&model)
        .limits(limits)
        .build()
        .expect("no fault")
        .run("go")
        .outcome()
        .await;
    assert_eq!(result.error.as_ref().map(Error::code), Some("step_limit"));
    assert_closed(&result.messages);
    let told: Vec<bool> = results(&result.messages)
        .iter()
        .map(|result| result.text().contains("last try"))
        .collect();
    assert_eq!(told[..5], [false, false, false, true, true]);
    let mut budget = BudgetLimits::default();
    budget.calls = Some(4);
    let model = stubborn();
    let result = agent(&model)
        .budget(budget.clone())
        .build()
        .expect("no fault")
        .run("go")
        .outcome()
        .await;
    assert_eq!(result.error.as_ref().map(Error::code), Some("budget_exceeded"));
    assert_eq!((result.spent.calls, model.calls()), (4, 2));
    assert_closed(&result.messages);
    // A budget counts over resumptions.
    let (model, store) = (stubborn(), LogStore::new());
    let agent = agent(&model)
        .budget(budget)
        .store(store)
        .build()
        .expect("no fault");
    assert!(agent.run("go").run_id("r").await.is_err());
    let resumed = agent.resume("r").outcome().await;
    assert_eq!(resumed.error.as_ref().map(Error::code), Some("budget_exceeded"));
    assert_eq!(model.calls(), 2);
    // An unknown price is not 0.
    let mut budget = BudgetLimits::default();
    budget.micro_usd = Some(1_000);
    let model = Script::new(vec![says("free?")]);
    let agent = Agent::new(model.clone())
        .budget(budget)
        .build()
        .expect("no fault");
    assert_eq!(agent.run("go").await.expect_err("no price").code(), "unsupported");
    assert_eq!(model.calls(), 0);
    // A bound in tokens bounds the answer.
    let mut budget = BudgetLimits::default();
    budget.tokens = Some(100);
    let model = Script::new(vec![says("short")]);
    let agent = Agent::new(model.clone())
        .budget(budget)
        .build()
        .expect("no fault");
    agent.run("a question").await.expect("fits");
    assert!(
        model.asked.lock().expect("free")[0]
            .max_output_tokens
            .is_some_and(|most| most <= 100)
    );
    // And so does one in money, however long the model's longest answer.
    let mut budget = BudgetLimits::default();
    budget.micro_usd = Some(1_000);
    let mut price = Price::default();
    (price.input, price.output) = (Some(1_000_000), Some(10_000_000));
    let mut model = Script::plain(vec![says("short")]);
    (model.info.price, model.info.max_output_tokens) = (Some(price), Some(128_000));
    let model = Arc::new(model);
    let agent = Agent::new(model.clone())
        .budget(budget)
        .build()
        .expect("no fault");
    agent.run("a question").await.expect("fits");
    assert!(
        model.asked.lock().expect("free")[0]
            .max_output_tokens
            .is_some_and(|most| (50..100).contains(&most))
    );
}

#[tokio::test]
async fn a_failed_model_call_reaches_the_caller_with_its_own_code() {
    let model = Script::new(vec![]);
    let error = Agent::new(model)
        .build()
        .expect("no fault")
        .run("go")
        .await
        .expect_err("no line");
    assert_eq!(error.code(), "internal");
    let mut limits = Limits::default();
    limits.answer_bytes = 10;
    let model = Script::new(vec![says("more than ten bytes")]);
    let agent = Agent::new(model).limits(limits).build().expect("no fault");
    assert_eq!(
        agent.run("go").await.expect_err("too long").code(),
        "limit_exceeded"
    );
}

#[tokio::test]
async fn a_builder_tells_every_fault_and_an_empty_question_is_refused_before_any_call() {
    let model = Script::new(vec![]);
    let error = Agent::new(model.clone())
        .name(" ")
        .tool(Act::default())
        .tool(Act::default())
        .tool(retriever_tool("not a name", Arc::new(Shelf)))
        .build()
        .expect_err("three faults");
    for words in ["two tools are named `act`", "the name is blank", "tool name"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    let agent = Agent::new(model.clone()).build().expect("no fault");
    for input in ["", "  \n"] {
        assert_eq!(agent.run(input).await.expect_err("empty").code(), "invalid_input");
    }
    assert_eq!(
        agent
            .run(Vec::<Message>::new())
            .stream()
            .finish()
            .await
            .expect("ended")
            .error
            .expect("empty")
            .code(),
        "invalid_input"
    );
    assert_eq!(model.calls(), 0);
}

#[derive(Debug)]
struct Shelf;

#[async_trait]
impl Retriever for Shelf {
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>> {
        if query.text == "nothing" {
            return Ok(Vec::new());
        }
        let document = Document::new(
            "runs.md",
            "A journal only grows. It is read again after a crash. ".repeat(10),
        );
        (0..query.top_k)
            .map(|number| {
                let span = number..document.text.len().min(number + 100);
                let chunk = Chunk::of(&document, u32::try_from(number).expect("small"), span)?;
                Ok(Hit::new(chunk, 1.0, Explanation::default()))
            })
            .collect()
    }
}

#[tokio::test]
async fn a_retriever_as_a_tool_gives_labelled_text_and_whole_hits_as_documents() {
    let tool = retriever_tool("search", Arc::new(Shelf))
        .about("Searches the guides.")
        .top_k(3)
        .into_dyn_tool()
        .expect("a name");
    assert!(
        tool.spec().description.starts_with("Searches the guides.")
            && tool.spec().description.contains("cite")
    );
    assert!(
        tool.schema()
            .check(&json!({ "query": "x", "top_k": 51 }))
            .is_err()
    );
    assert!(tool.schema().check(&json!({ "query": "x", "top_k": 50 })).is_ok());
    let model = Script::new(vec![
        vec![
            Part::tool_call("1", "search", json!({ "query": "journal" })),
            Part::tool_call("2", "search", json!({ "query": "journal", "top_k": 2 })),
            Part::tool_call("3", "search", json!({ "query": "nothing" })),
            Part::tool_call("4", "search", json!({ "query": "   " })),
        ],
        says("It grows [runs.md#0]."),
    ]);
    let agent = Agent::new(model).tools([tool]).build().expect("no fault");
    let result = agent.run("what grows?").await.expect("answers");
    let found = results(&result.messages);
    let told = found[0].text();
    let key = told.strip_prefix("<<").and_then(|told| told.split_once(' '));
    let (key, _) = key.expect("a frame begins");
    assert!(
        told.starts_with(&format!("<<{key} [runs.md#0] runs.md>>\nA journal only grows.")),
        "{told}"
    );
    assert_eq!(told.matches(&format!("\n<<end {key}>>")).count(), 3);
    assert_eq!(told.matches("[runs.md#").count(), 3);
    assert_eq!(found[1].text().matches("[runs.md#").count(), 2);
    assert_eq!(found[2].text(), "nothing was found");
    assert!(found[3].is_error);
    assert!(
        found[0].origin == Origin::Document
            && found[0]
                .parts
                .iter()
                .all(|part| part.origin() == Origin::Document)
    );
    let hits = result.hits();
    assert_eq!(hits.len(), 3, "each chunk once");
    assert_eq!(hits[0].chunk.cite(0..9).expect("a slice").quote, "A journal");
    // A small limit leaves the later hits out of both.
    let small = retriever_tool("search", Arc::new(Shelf))
        .text_bytes(340)
        .into_dyn_tool()
        .expect("a name");
    let cx = ToolContext::new("1", "r", stepwell_core::Scope::local());
    let output = small
        .call(json!({ "query": "journal" }), &cx)
        .await
        .expect("finds");
    let Part::Data(data) = &output.parts[1] else {
        panic!("no data")
    };
    assert_eq!(
        (data.name.as_str(), data.value.as_array().map(Vec::len)),
        ("hits", Some(2))
    );
}

#[tokio::test]
async fn a_result_without_an_answer_is_empty_and_not_invented() {
    let model = Script::new(vec![vec![call("1", "ok")]]);
    let result: RunResult = agent(&model).build().expect("no fault").run("go").outcome().await;
    assert_eq!(
        (result.answer.as_str(), result.answer_message().is_none()),
        ("", true)
    );
    assert!(erase(Act::default()).is_ok());
}

#[tokio::test]
async fn a_run_dropped_after_any_poll_resumes_to_the_same_end() {
    let build = |store: Arc<LogStore>| {
        let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let wish = |id: &str, name: &str| Part::tool_call(id, name, json!({}));
        let model = Script::new(vec![
            vec![wish("1", "many"), wish("2", "many"), wish("3", "one")],
            vec![wish("1", "one")],
            says("done"),
        ]);
        Agent::new(model)
            .tools([
                Alone::tool("many", true, &inside, &most),
                Alone::tool("one", false, &inside, &most),
            ])
            .store(store)
            .build()
            .expect("no fault")
    };
    let whole = build(LogStore::new())
        .run("go")
        .run_id("r")
        .await
        .expect("answers");
    for polls in 1.. {
        let store = LogStore::new();
        let mut run = Box::pin(build(store.clone()).run("go").run_id("r").outcome());
        let mut is_done = false;
        for _ in 0..polls {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            is_done = run.as_mut().poll(&mut cx).is_ready();
            if is_done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(run);
        let resumed = match build(store.clone()).resume("r").await {
            Err(error) if error.code() == "not_found" => {
                build(store).run("go").run_id("r").await.expect("begins anew")
            }
            resumed => resumed.expect("resumes"),
        };
        assert_eq!(resumed.messages, whole.messages, "dropped after poll {polls}");
        assert_eq!(resumed.usage, whole.usage, "dropped after poll {polls}");
        assert_closed(&resumed.messages);
        if is_done {
            assert!(polls > 15, "the run takes more than {polls} polls");
            break;
        }
    }
}
