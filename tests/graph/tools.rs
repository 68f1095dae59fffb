//! The tools node: one result per call, arguments the model does not see, a person's word on a call.

use crate::board::{Board, Slate, chain};
use crate::kept::{Kept, stores};
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell::{
    AllowAll, ChatModel, Decision, DynTool, Effect, Message, Origin, Part, Policy, PolicyRequest, Risk, Role,
    Schema, ToolContext, ToolError, ToolOptions, ToolOutput, ToolResult, ToolSpec,
    agent::{
        Approval, Channels, END, Graph, HasMessages, ModelNode, RunContext, START, Send, Subgraph, Targets,
        ToolsNode,
    },
    providers::Scripted,
    store::RunStatus,
};

type Act = Arc<
    dyn Fn(Value, ToolContext) -> BoxFuture<'static, Result<ToolOutput, ToolError>>
        + std::marker::Send
        + Sync,
>;

/// A tool that does what a closure says.
pub(crate) struct Made {
    spec: ToolSpec,
    options: ToolOptions,
    schema: Schema,
    act: Act,
}

impl Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spec.name)
    }
}

#[async_trait]
impl DynTool for Made {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    fn options(&self) -> &ToolOptions {
        &self.options
    }
    fn schema(&self) -> &Schema {
        &self.schema
    }
    async fn call(&self, arguments: Value, cx: &ToolContext) -> Result<ToolOutput, ToolError> {
        (self.act)(arguments, cx.clone()).await
    }
}

/// A tool of this name; its arguments are any object with a number `n`.
pub(crate) fn tool<F, O>(name: &str, options: ToolOptions, act: F) -> Arc<dyn DynTool>
where
    F: Fn(Value, ToolContext) -> O + std::marker::Send + Sync + 'static,
    O: Future<Output = Result<ToolOutput, ToolError>> + std::marker::Send + 'static,
{
    let schema = json!({
        "type": "object",
        "properties": { "n": { "type": "integer" }, "secret": { "type": "string" } },
        "required": ["n"],
    });
    let schema = Schema::from_value(schema).expect("a schema");
    Arc::new(Made {
        spec: ToolSpec::new(name, "Acts.", &schema).expect("a name"),
        options,
        schema,
        act: Arc::new(move |arguments, cx| Box::pin(act(arguments, cx))),
    })
}

pub(crate) fn call(id: &str, name: &str, n: i64) -> Part {
    Part::tool_call(id, name, json!({ "n": n }))
}

pub(crate) fn words(text: &str) -> Part {
    Part::text(text, Origin::Model)
}

/// A model that says one line after the other, told by how often it has spoken: a resumed run goes on where it was.
pub(crate) fn model(lines: Vec<Vec<Part>>) -> Arc<dyn ChatModel> {
    Arc::new(Scripted::new().forever(move |request| {
        let spoken = request
            .messages
            .iter()
            .filter(|message| message.role == Role::Assistant);
        Ok(lines
            .get(spoken.count())
            .cloned()
            .unwrap_or_else(|| vec![words("over")]))
    }))
}

/// Model and tools in a loop.
pub(crate) fn talk<S: Slate>(model: Arc<dyn ChatModel>, tools: ToolsNode) -> Graph<S> {
    S::builder()
        .node("model", ModelNode::new(model).tools_at("tools"))
        .node("tools", tools)
        .edge(START, "model")
        .goto("model", ["tools", END])
        .edge("tools", "model")
        .build()
        .expect("no fault")
}

/// The state with a question in it.
pub(crate) fn asked<S: Slate>() -> S::Update {
    S::add_messages(vec![Message::user("go").with_id("question")])
}

pub(crate) fn results(messages: &[Message]) -> Vec<ToolResult> {
    messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::ToolResult(result) => Some(result.clone()),
            _ => None,
        })
        .collect()
}

/// Every call has exactly one result, in the order of the calls.
pub(crate) fn assert_closed(messages: &[Message]) {
    let calls: Vec<&str> = messages
        .iter()
        .flat_map(Message::tool_calls)
        .map(|call| call.id.as_str())
        .collect();
    let results = results(messages);
    let answered: Vec<&str> = results.iter().map(|result| result.call_id.as_str()).collect();
    assert_eq!(calls, answered);
}

/// Behaviour 49.
#[tokio::test]
async fn an_injected_argument_is_the_states_whatever_the_model_says_and_not_in_its_schema() {
    async fn check<S: Slate>() {
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let acting = {
            let seen = Arc::clone(&seen);
            tool("act", ToolOptions::default(), move |arguments, _| {
                seen.lock().expect("free").push(arguments);
                async { Ok(ToolOutput::text("done")) }
            })
        };
        let inject = |state: &S, cx: &RunContext| json!(format!("{} of {}", state.sum(), cx.node()));
        let tools = ToolsNode::new([acting], Arc::new(AllowAll))
            .inject("act", "secret", inject)
            .expect("there is one");
        let spec = tools.specs()[0].parameters.to_string();
        assert!(spec.contains("\"n\"") && !spec.contains("secret"), "{spec}");
        let forged = Part::tool_call("1", "act", json!({ "n": 1, "secret": "forged" }));
        let graph = talk::<S>(model(vec![vec![forged, call("2", "act", 2)]]), tools);
        let mut begun = S::blank();
        begun.apply(S::adds(7)).expect("fits");
        begun.apply(asked::<S>()).expect("fits");
        let state = graph.run(begun).await.expect("runs").state;
        assert_closed(state.messages());
        assert_eq!(
            *seen.lock().expect("free"),
            [
                json!({ "n": 1, "secret": "7 of tools" }),
                json!({ "n": 2, "secret": "7 of tools" })
            ]
        );
        let history = serde_json::to_string(&results(state.messages())).expect("plain data");
        assert!(!history.contains("7 of tools"), "the model never reads it");
    }
    check::<Board>().await;
    check::<Channels>().await;
    let none = || ToolsNode::new([] as [Arc<dyn DynTool>; 0], Arc::new(AllowAll));
    let error = none()
        .inject("act", "secret", |_: &Board, _| json!(1))
        .expect_err("no tool");
    assert_eq!(error.code(), "not_found");
}

/// Behaviour 50.
#[tokio::test]
async fn parallel_calls_have_one_result_each_in_call_order_whatever_happens_to_one() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let act = tool(
                "act",
                ToolOptions::default().timeout(Duration::from_millis(30)),
                |arguments, _| async move {
                    match arguments["n"].as_i64() {
                        Some(1) => {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                            Ok(ToolOutput::text("slow"))
                        }
                        Some(2) => Err(ToolError::Failed("broken".into())),
                        Some(3) => std::future::pending().await,
                        Some(4) => panic!("secret words"),
                        _ => Ok(ToolOutput::text("quick")),
                    }
                },
            );
            let calls: Vec<Part> = (1..=5).map(|n| call(&format!("c{n}"), "act", n)).collect();
            let tools = ToolsNode::new([act], Arc::new(AllowAll));
            let graph = talk::<S>(model(vec![calls, vec![words("done")]]), tools);
            let state = graph
                .run_input(asked::<S>())
                .run_id("r")
                .store(kept.store())
                .await
                .expect("runs")
                .state;
            assert_closed(state.messages());
            let told = results(state.messages());
            let errors: Vec<bool> = told.iter().map(|result| result.is_error).collect();
            assert_eq!(errors, [false, true, true, true, false]);
            assert!(told.iter().all(|result| !result.text().contains("secret")));
            let view = graph
                .view(&*kept.store, &stepwell::Scope::local(), "r")
                .await
                .expect("kept");
            assert_eq!(view.state.messages()[..], state.messages()[..]);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Asks about every call of a tool that writes.
#[derive(Debug)]
struct AsksFirst;

#[async_trait]
impl Policy for AsksFirst {
    async fn decide(&self, request: PolicyRequest<'_>) -> Decision {
        match request.risk {
            Risk::Read => Decision::Allow,
            _ => Decision::Ask {
                reason: "it pays".into(),
            },
        }
    }
}

type Paid = Arc<Mutex<Vec<(String, i64)>>>;

/// A tool that pays, one that looks, and what was paid.
fn till() -> (ToolsNode, Paid) {
    let paid: Paid = Arc::default();
    let pays = {
        let paid = Arc::clone(&paid);
        let options = ToolOptions::default()
            .risk(Risk::Write)
            .effect(Effect::AtMostOnce);
        tool("pay", options, move |arguments, cx| {
            let n = arguments["n"].as_i64().expect("checked");
            paid.lock().expect("free").push((cx.call_id.clone(), n));
            async move { Ok(ToolOutput::text(format!("paid {n}"))) }
        })
    };
    let looks = {
        let paid = Arc::clone(&paid);
        tool("look", ToolOptions::default(), move |_, cx| {
            paid.lock().expect("free").push((cx.call_id.clone(), 0));
            async { Ok(ToolOutput::text("looked")) }
        })
    };
    (ToolsNode::new([pays, looks], Arc::new(AsksFirst)), paid)
}

fn lines() -> Vec<Vec<Part>> {
    let calls = vec![
        call("a", "pay", 1),
        call("l", "look", 0),
        call("b", "pay", 2),
        call("c", "pay", 3),
    ];
    vec![calls, vec![words("done")]]
}

#[tokio::test]
async fn several_calls_are_allowed_edited_and_denied_one_by_one_and_each_runs_once() {
    async fn check<S: Slate>(nested: bool) {
        for kept in stores() {
            let (tools, paid) = till();
            let mut graph = talk::<S>(model(lines()), tools);
            if nested {
                let enter = |state: &S, _: &RunContext| Ok(S::add_messages(state.messages().to_vec()));
                let leave = |inner: S| Ok(S::add_messages(inner.messages().to_vec()));
                graph = chain(
                    S::builder().node("sub", Subgraph::new(graph, enter, leave)),
                    &["sub"],
                );
            }
            let paused = graph
                .run_input(asked::<S>())
                .run_id("r")
                .store(kept.store())
                .await
                .expect("pauses");
            assert_eq!(paid.lock().expect("free").len(), 1, "what needs no word has run");
            let by_call: BTreeMap<String, _> = paused
                .questions
                .iter()
                .map(|open| (open.call_id.clone().expect("about a call"), open.clone()))
                .collect();
            assert_eq!(by_call.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
            let (a, b, c) = (&by_call["a"], &by_call["b"], &by_call["c"]);
            assert_eq!(a.payload["arguments"], json!({ "n": 1 }));
            assert_eq!(
                (&a.payload["tool"], &a.payload["reason"]),
                (&json!("pay"), &json!("it pays"))
            );
            // An answer that was given to another call, one without arguments, one with arguments that do not fit.
            let before = kept.records("r").await;
            let other = Approval::allow(b).expect("about a call");
            let misfit = Approval::edit(a, json!({ "n": "much" })).expect("about a call");
            for wrong in [
                json!(other),
                json!(misfit),
                json!({ "decision": "allow" }),
                json!(true),
            ] {
                let run = graph.resume("r").store(kept.store()).answer(&a.id, wrong);
                let error = run.outcome().await.error.expect("refused");
                assert_eq!(error.code(), "invalid_input", "{error}");
            }
            assert_eq!(kept.records("r").await, before);
            let half = graph
                .resume("r")
                .store(kept.store())
                .answer(
                    &b.id,
                    Approval::edit(b, json!({ "n": 20 })).expect("about a call"),
                )
                .await
                .expect("goes on");
            assert_eq!((half.status, half.questions.len()), (RunStatus::Paused, 2));
            let done = graph
                .resume("r")
                .store(kept.store())
                .answer(&a.id, Approval::allow(a).expect("about a call"))
                .answer(&c.id, Approval::deny(c, "too much").expect("about a call"))
                .await
                .expect("ends");
            assert_eq!(done.status, RunStatus::Done);
            assert_closed(done.state.messages());
            let told: Vec<String> = results(done.state.messages())
                .iter()
                .map(ToolResult::text)
                .collect();
            assert_eq!((told[0].as_str(), told[1].as_str()), ("paid 1", "looked"));
            assert!(
                told[2].contains("paid 20") && told[2].contains("a person changed"),
                "{}",
                told[2]
            );
            assert!(told[3].contains("too much"), "{}", told[3]);
            let mut paid = paid.lock().expect("free").clone();
            paid.sort();
            assert_eq!(
                paid,
                [("a".into(), 1), ("b".into(), 20), ("l".into(), 0)],
                "{}",
                kept.name
            );
        }
    }
    for nested in [false, true] {
        check::<Board>(nested).await;
        check::<Channels>(nested).await;
    }
}

/// An approval that comes too late is not given; the call does not run, and the model is told.
#[tokio::test]
async fn a_call_nobody_approves_in_time_does_not_run() {
    let clock = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let tick = {
        let clock = Arc::clone(&clock);
        move || clock.load(std::sync::atomic::Ordering::SeqCst)
    };
    // The tools node sets no time itself: a tool that asks for itself does.
    let asks = tool("act", ToolOptions::default(), |_, cx| async move {
        let run = RunContext::of_tool(&cx).expect("in a run");
        let yes: bool = run.ask("sure", ()).expires_in(Duration::from_secs(9)).await?;
        Ok(ToolOutput::text(format!("sure {yes}")))
    });
    let kept = Kept::sqlite();
    let tools = ToolsNode::new([asks], Arc::new(AllowAll));
    let graph = talk::<Board>(
        model(vec![
            vec![call("1", "act", 1), call("2", "act", 2)],
            vec![words("done")],
        ]),
        tools,
    );
    let run = graph.run_input(asked::<Board>()).run_id("r").store(kept.store());
    let paused = run.clock(tick.clone()).await.expect("pauses");
    assert_eq!(paused.questions.len(), 2);
    let first = &paused.questions[0].id;
    clock.store(8_999, std::sync::atomic::Ordering::SeqCst);
    let half = graph
        .resume("r")
        .store(kept.store())
        .clock(tick.clone())
        .answer(first, true)
        .await
        .expect("in time");
    assert_eq!(half.status, RunStatus::Paused);
    clock.store(9_000, std::sync::atomic::Ordering::SeqCst);
    let done = graph
        .resume("r")
        .store(kept.store())
        .clock(tick)
        .await
        .expect("goes on without");
    assert_closed(done.state.messages());
    let told = results(done.state.messages());
    assert_eq!(told[0].text(), "sure true");
    assert!(told[1].is_error, "{}", told[1].text());
}

/// Messages that several tasks of one node add in one step, and those of a graph that goes on, do not replace each other.
#[tokio::test]
async fn answers_of_a_model_that_is_sent_to_or_goes_on_have_ids_of_their_own() {
    async fn check<S: Slate>() {
        let many = |_: &S| {
            (0..3).fold(Targets::default(), |targets, number| {
                targets.and(Send::new("model", number).expect("a number"))
            })
        };
        let graph = S::builder()
            .node("model", ModelNode::new(model(vec![vec![words("hello")]])))
            .route(START, many, "model")
            .edge("model", END)
            .build()
            .expect("no fault");
        let state = graph.run_input(asked::<S>()).await.expect("runs").state;
        assert_eq!(state.messages().len(), 4, "a question and three answers");

        let inner = chain(
            S::builder().node("model", ModelNode::new(model(vec![vec![words("hello")]]))),
            &["model"],
        );
        let enter = |_: &S, _: &RunContext| Ok(S::add_messages(vec![Message::user("again")]));
        let leave = |inner: S| Ok(S::says(inner.messages().len().to_string()));
        let node = Subgraph::new(inner, enter, leave).persistent();
        let graph = chain(S::builder().node("sub", node), &["sub"]);
        let kept = Kept::memory();
        let run = graph.run(S::blank()).run_id("r").store(kept.store());
        run.await.expect("runs");
        let turn = graph.turn("r", S::adds(1)).store(kept.store());
        assert_eq!(turn.await.expect("runs").state.words(), "2 4");
    }
    check::<Board>().await;
    check::<Channels>().await;
}
