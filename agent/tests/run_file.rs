//! Run files: whole runs in one file, replayed without a call, forked, compared; and what is done to damaged ones.

mod support;

use serde::Deserialize;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_agent::{
    Channels, ChannelsUpdate, Command, END, Graph, GraphBuilder, ModelNode, NodeError, Outcome, Reducer,
    RunComparison, RunContext, RunFile, START, Subgraph, ToolsNode, node_fn, node_sync,
};
use stepwell_core::{
    AskBeforeEffects, ChatModel, Effect, Error, IntoDynTool, Message, Origin, Part, Result, Risk, Scope,
    Tool, ToolContext, ToolError, ToolOptions,
    store::{RecordKind, RunStatus, RunStore},
};
use support::{LogStore, Script};

/// What runs, counted.
#[derive(Clone, Debug, Default)]
struct World {
    paid: Arc<AtomicU32>,
    looked: Arc<AtomicU32>,
    asked_outside: Arc<AtomicU32>,
    /// What a node adds: code that somebody changes.
    extra: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
struct Pay(World);

#[derive(Deserialize, schemars::JsonSchema)]
struct PayArgs {
    /// How much.
    cents: u32,
}

impl Tool for Pay {
    const NAME: &'static str = "pay";
    const DESCRIPTION: &'static str = "Pays.";
    type Args = PayArgs;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default()
            .effect(Effect::AtMostOnce)
            .risk(Risk::Write)
    }

    async fn call(&self, args: PayArgs, _: &ToolContext) -> Result<String, ToolError> {
        let number = self.0.paid.fetch_add(1, Ordering::SeqCst);
        Ok(format!("paid {} as number {number}", args.cents))
    }
}

#[derive(Clone, Debug)]
struct Look(World);

#[derive(Deserialize, schemars::JsonSchema)]
struct LookArgs {
    /// After how many milliseconds it answers.
    wait_ms: u64,
}

impl Tool for Look {
    const NAME: &'static str = "look";
    const DESCRIPTION: &'static str = "Looks.";
    type Args = LookArgs;
    type Output = String;

    async fn call(&self, args: LookArgs, _: &ToolContext) -> Result<String, ToolError> {
        tokio::time::sleep(Duration::from_millis(args.wait_ms)).await;
        let number = self.0.looked.fetch_add(1, Ordering::SeqCst);
        Ok(format!("saw {number}"))
    }
}

fn state() -> Channels {
    Channels::new()
        .slot("messages", Reducer::Messages)
        .slot("sum", Reducer::Add)
        .slot("note", Reducer::Last)
        .slot("log", Reducer::Append)
}

fn inner(model: Arc<dyn ChatModel>) -> Graph<Channels> {
    GraphBuilder::new(state())
        .name("inner")
        .node("think", ModelNode::new(model))
        .node(
            "count",
            node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("sum", 1))),
        )
        .edge(START, "think")
        .edge("think", "count")
        .edge("count", END)
        .build()
        .expect("checked")
}

/// Model and tools in a loop, a question, a memoised call, code, and two graphs inside nodes.
fn graph(model: &Arc<Script>, world: &World) -> Graph<Channels> {
    let outside = world.clone();
    let extra = world.clone();
    let tools = [
        Pay(world.clone()).into_dyn_tool().expect("a tool"),
        Look(world.clone()).into_dyn_tool().expect("a tool"),
    ];
    let inside = |model: Arc<dyn ChatModel>| {
        Subgraph::new(
            inner(model),
            |_: &Channels, _| {
                let message = serde_json::to_value(Message::user("inside?")).expect("plain data");
                Ok(ChannelsUpdate::new().set("messages", json!([message])))
            },
            |inner: Channels| {
                let said = inner.messages_of("messages")?.last().map(Message::text);
                Ok(ChannelsUpdate::new()
                    .set("log", json!([said]))
                    .set("sum", inner.get("sum")?))
            },
        )
    };
    let said = |text: &str| Script::new(vec![vec![Part::text(text, Origin::Model)]]) as Arc<dyn ChatModel>;
    GraphBuilder::new(state())
        .name("desk")
        .node("model", ModelNode::new(Arc::clone(model) as Arc<dyn ChatModel>))
        .node("tools", ToolsNode::new(tools, Arc::new(AskBeforeEffects)))
        .node(
            "fetch",
            owned_fn(move |cx: RunContext| {
                let outside = outside.clone();
                async move {
                    let seen: u32 = cx
                        .step("outside", async {
                            Ok::<_, NodeError>(outside.asked_outside.fetch_add(1, Ordering::SeqCst))
                        })
                        .await?;
                    Ok(ChannelsUpdate::new().set("note", format!("outside said {seen}")))
                }
            }),
        )
        .node(
            "code",
            node_sync(move |state: &Channels, _| {
                let extra = extra.extra.load(Ordering::SeqCst);
                let messages = i64::try_from(state.messages_of("messages")?.len())?;
                Ok(ChannelsUpdate::new().set("sum", messages + extra))
            }),
        )
        .node("kept inside", inside(said("yes, inside")))
        .node("lost inside", inside(said("yes, lost")).stateless())
        .node("confirm", node_fn(confirm))
        .edge(START, "model")
        .route("model", asks_for_tools, ["tools", "fetch"])
        .edge("tools", "model")
        .edge("fetch", "code")
        .edge("fetch", "kept inside")
        .edge("fetch", "lost inside")
        .join(["code", "kept inside", "lost inside"], "confirm")
        .edge("confirm", END)
        .build()
        .expect("checked")
}

fn asks_for_tools(state: &Channels) -> &'static str {
    let last = state
        .messages_of("messages")
        .ok()
        .and_then(|messages| messages.last());
    match last {
        Some(message) if message.tool_calls().next().is_some() => "tools",
        _ => "fetch",
    }
}

type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = Result<ChannelsUpdate, NodeError>> + Send + 'a>>;

struct Owned<F>(F);

#[async_trait::async_trait]
impl<F> stepwell_agent::Node<Channels> for Owned<F>
where
    F: Fn(RunContext) -> Boxed<'static> + Send + Sync,
{
    async fn run(&self, _: &Channels, cx: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
        Ok((self.0)(cx.clone()).await?.into())
    }
}

/// A node from a closure that owns what it needs.
fn owned_fn<F, O>(run: F) -> impl stepwell_agent::Node<Channels> + 'static
where
    F: Fn(RunContext) -> O + Send + Sync + 'static,
    O: Future<Output = Result<ChannelsUpdate, NodeError>> + Send + 'static,
{
    Owned(move |cx| -> Boxed<'static> { Box::pin(run(cx)) })
}

async fn confirm(_: &Channels, cx: &RunContext) -> Result<ChannelsUpdate, NodeError> {
    let yes: bool = cx.ask("confirm", json!({ "all": "good?" })).await?;
    Ok(ChannelsUpdate::new().set("log", json!([yes])))
}

fn lines() -> Vec<Vec<Part>> {
    vec![
        vec![
            Part::tool_call("p1", "pay", json!({ "cents": 500 })),
            Part::tool_call("l1", "look", json!({ "wait_ms": 12 })),
            Part::tool_call("l2", "look", json!({ "wait_ms": 1 })),
            Part::tool_call("x1", "no such tool", json!({})),
        ],
        vec![Part::text("It is paid.", Origin::Model)],
    ]
}

fn begun(question: &str) -> Channels {
    let mut begun = state();
    let message = serde_json::to_value(Message::user(question)).expect("plain data");
    stepwell_agent::State::apply(
        &mut begun,
        ChannelsUpdate::new().set("messages", json!([message])),
    )
    .expect("it fits");
    begun
}

/// Runs it to its end, answering what it asks.
async fn run(store: &Arc<LogStore>, graph: &Graph<Channels>, run_id: &str) -> Outcome<Channels> {
    let mut outcome = graph
        .run(begun("Pay five euros."))
        .run_id(run_id)
        .store(Arc::clone(store) as Arc<dyn RunStore>)
        .outcome()
        .await;
    while outcome.status == RunStatus::Paused {
        let mut next = graph.resume(run_id).store(Arc::clone(store) as Arc<dyn RunStore>);
        for question in &outcome.questions {
            next = match question.call_id {
                Some(_) => next.answer(
                    &question.id,
                    stepwell_agent::Approval::allow(question).expect("its payload"),
                ),
                None => next.answer(&question.id, true),
            };
        }
        outcome = next.outcome().await;
    }
    outcome
}

async fn export(store: &Arc<LogStore>, run_id: &str) -> RunFile {
    RunFile::export(&**store, &Scope::local(), run_id)
        .await
        .expect("it is there")
}

#[tokio::test]
async fn a_run_is_replayed_bit_for_bit_without_a_call() {
    let (store, world, model) = (LogStore::new(), World::default(), Script::new(lines()));
    let graph = graph(&model, &world);
    let outcome = run(&store, &graph, "r1").await;
    assert_eq!(outcome.status, RunStatus::Done, "{:?}", outcome.error);
    let count = || {
        let counts = [&world.paid, &world.looked, &world.asked_outside];
        (counts.map(|count| count.load(Ordering::SeqCst)), model.calls())
    };
    let before = count();
    assert_eq!(before, ([1, 2, 1], 2), "what the run did");
    let file = RunFile::from_bytes(&export(&store, "r1").await.to_bytes()).expect("reads back");
    let report = graph.replay_file(&file).await.expect("its graph");
    assert_eq!(report.divergences, [], "{report:?}");
    assert!(report.compared >= 8, "{}", report.compared);
    assert_eq!(report.outcome.status, RunStatus::Done);
    let saved = |state: &Channels| stepwell_agent::State::save(state).expect("plain data");
    assert_eq!(saved(&report.outcome.state), saved(&outcome.state));
    assert_eq!(report.outcome.usage, outcome.usage);
    assert_eq!(count(), before, "nothing was called");
}

#[tokio::test]
async fn code_that_changed_is_named_where_it_first_goes_another_way() {
    let (store, world, model) = (LogStore::new(), World::default(), Script::new(lines()));
    let graph = graph(&model, &world);
    run(&store, &graph, "r1").await;
    let file = export(&store, "r1").await;
    world.extra.store(7, Ordering::SeqCst);
    let report = graph.replay_file(&file).await.expect("its graph");
    let first = report.first_divergence().expect("it adds another number");
    assert_eq!(
        first.to_string(),
        "step 5, node `code`: its result is another, at /updates/0/sum/w",
        "{:#?}",
        report.divergences
    );
    assert_eq!(
        first.recorded.as_ref().expect("recorded")["updates"][0]["sum"]["w"],
        4
    );
    assert_eq!(
        first.replayed.as_ref().expect("replayed")["updates"][0]["sum"]["w"],
        11
    );
    assert_eq!(
        report.divergences.len(),
        1,
        "what follows is the same: {:#?}",
        report.divergences
    );
    assert_eq!(world.paid.load(Ordering::SeqCst), 1);
}

/// A graph that asks another question and takes another step than the recorded one.
#[tokio::test]
async fn what_was_never_recorded_is_refused_and_not_called() {
    let calls = Arc::new(AtomicU32::new(0));
    let build = |key: &'static str, question: &'static str| {
        let calls = Arc::clone(&calls);
        GraphBuilder::new(state())
            .node(
                "fetch",
                owned_fn(move |cx: RunContext| {
                    let calls = Arc::clone(&calls);
                    async move {
                        let work = async { Ok::<_, NodeError>(calls.fetch_add(1, Ordering::SeqCst)) };
                        cx.step(key, work).await?;
                        let yes: bool = cx.ask(question, json!(null)).await?;
                        Ok(ChannelsUpdate::new().set("note", yes))
                    }
                }),
            )
            .edge(START, "fetch")
            .edge("fetch", END)
            .build()
            .expect("checked")
    };
    let store = LogStore::new();
    run(&store, &build("a", "q"), "r1").await;
    let file = export(&store, "r1").await;
    assert!(
        build("a", "q")
            .replay_file(&file)
            .await
            .expect("its graph")
            .is_same()
    );
    let report = build("b", "q").replay_file(&file).await.expect("its graph");
    let error = report.outcome.error.as_ref().expect("refused");
    assert!(
        error.to_string().contains("the step `b` of `fetch` in step 1"),
        "{error}"
    );
    assert!(
        report
            .divergences
            .iter()
            .any(|found| found.what.contains("memoised step is missing (`a`)"))
    );
    let report = build("a", "other").replay_file(&file).await.expect("its graph");
    assert!(!report.is_same());
    assert!(
        report
            .divergences
            .iter()
            .any(|found| found.what.starts_with("its question is missing")),
        "{report:?}"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 1, "once, when it was recorded");
    let other = GraphBuilder::new(state())
        .node("another", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new())))
        .edge(START, "another")
        .edge("another", END)
        .build()
        .expect("checked");
    assert_eq!(
        other.replay_file(&file).await.expect_err("another graph").code(),
        "unsupported"
    );
}

#[tokio::test]
async fn runs_that_failed_were_cut_off_or_decided_by_a_race_are_replayed_too() {
    // A tool that stops the run; then the same run cut off after every record.
    let (store, world) = (LogStore::new(), World::default());
    let model = Script::new(vec![lines()[0].clone()]); // its second answer fails
    let graph = graph(&model, &world);
    let outcome = run(&store, &graph, "r1").await;
    assert_eq!(outcome.status, RunStatus::Failed);
    let file = export(&store, "r1").await;
    let report = graph.replay_file(&file).await.expect("its graph");
    assert!(report.is_same(), "{:#?}", report.divergences);
    let model = Script::new(lines());
    let graph = self::graph(&model, &world);
    run(&store, &graph, "r2").await;
    let whole = store.records("r2").len();
    for cut in (2..whole).rev() {
        store.cut_after("r2", cut);
        let file = export(&store, "r2").await;
        let report = graph.replay_file(&file).await.expect("its graph");
        assert!(report.is_same(), "cut after {cut}: {:#?}", report.divergences);
    }
    // The slow one won when it was recorded.
    let is_replay = Arc::new(AtomicU32::new(0));
    let racer = |name: &'static str, slow: u64, fast: u64| {
        let is_replay = Arc::clone(&is_replay);
        owned_fn(move |_| {
            let time = if is_replay.load(Ordering::SeqCst) == 0 {
                fast
            } else {
                slow
            };
            async move {
                tokio::time::sleep(Duration::from_millis(time)).await;
                Ok(ChannelsUpdate::new().set("log", json!([name])))
            }
        })
    };
    let race = GraphBuilder::new(state())
        .node("a", racer("a", 60, 1))
        .node("b", racer("b", 1, 200))
        .node("after", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new())))
        .edge(START, "a")
        .edge(START, "b")
        .any(["a", "b"], "after")
        .edge("after", END)
        .build()
        .expect("checked");
    run(&store, &race, "r3").await;
    is_replay.store(1, Ordering::SeqCst);
    let report = race
        .replay_file(&export(&store, "r3").await)
        .await
        .expect("its graph");
    assert!(report.is_same(), "{:#?}", report.divergences);
    assert_eq!(report.outcome.state.get("log").expect("written"), json!(["a"]));
}

#[tokio::test]
async fn a_fork_goes_on_live_with_another_model_and_is_compared() {
    let (store, world, model) = (LogStore::new(), World::default(), Script::new(lines()));
    let graph = graph(&model, &world);
    run(&store, &graph, "r1").await;
    let file = export(&store, "r1").await;
    // After the tools of step 2 another model answers.
    let mut other = lines();
    other[1] = vec![Part::text("I have paid five euros.", Origin::Model)];
    let other = Script::new(other);
    let second = self::graph(&other, &world);
    file.fork(&*store, &Scope::local(), "r2", 2)
        .await
        .expect("step 2 ended");
    assert_eq!(other.calls(), 0);
    let mut outcome = second
        .resume("r2")
        .store(Arc::clone(&store) as Arc<dyn RunStore>)
        .outcome()
        .await;
    assert_eq!(outcome.status, RunStatus::Paused, "{:?}", outcome.error);
    outcome = second
        .resume("r2")
        .store(Arc::clone(&store) as Arc<dyn RunStore>)
        .reply(false)
        .outcome()
        .await;
    assert_eq!(outcome.status, RunStatus::Done);
    assert_eq!(
        (other.calls(), world.paid.load(Ordering::SeqCst)),
        (1, 1),
        "one live answer, nothing paid twice"
    );
    let forked = export(&store, "r2").await;
    let compared = RunComparison::of(&file.trace().expect("read"), &forked.trace().expect("read"));
    assert!(!compared.is_answer_same);
    assert_eq!(compared.runs[1].answer, "I have paid five euros.");
    let [first, second_run] = compared.runs.each_ref().map(|run| run.input_tokens);
    assert!(first > 0 && first == second_run, "{first} {second_run}");
    let node = |name: &str| {
        compared
            .nodes
            .iter()
            .find(|node| node.node == name)
            .expect("it ran")
    };
    assert_eq!((node("tools").runs, node("tools").is_same), ([1, 1], true));
    assert_eq!((node("model").runs, node("model").is_same), ([2, 2], false));
    assert_eq!(
        (node("confirm").is_same, node("kept inside/think").is_same),
        (false, true)
    );
    let table = compared.to_string();
    assert!(
        table.contains("node model") && table.contains("Second: I have paid five euros."),
        "{table}"
    );
    assert_eq!(
        file.fork(&*store, &Scope::local(), "r2", 2)
            .await
            .expect_err("it is there")
            .code(),
        "conflict"
    );
    assert_eq!(
        file.fork(&*store, &Scope::local(), "r4", 99)
            .await
            .expect_err("never came")
            .code(),
        "not_found"
    );
    // The fork is a run like any other: it can be replayed under its id.
    assert!(second.replay_file(&forked).await.expect("its graph").is_same());
}

#[tokio::test]
async fn a_file_is_imported_under_any_id_and_a_trace_tells_what_happened_without_the_graph() {
    let (store, world, model) = (LogStore::new(), World::default(), Script::new(lines()));
    let graph = graph(&model, &world);
    run(&store, &graph, "r1").await;
    let file = export(&store, "r1").await;
    let other = LogStore::new();
    let last = file
        .import(&*other, &Scope::local(), "copied")
        .await
        .expect("free");
    assert_eq!(usize::try_from(last), Ok(file.records().len()));
    let view = graph
        .view(&*other, &Scope::local(), "copied")
        .await
        .expect("it reads back");
    assert_eq!((view.status, view.steps), (RunStatus::Done, 6));
    assert_eq!(
        file.import(&*other, &Scope::local(), "copied")
            .await
            .expect_err("taken")
            .code(),
        "conflict"
    );

    let trace = file.trace().expect("read");
    assert_eq!(
        (trace.graph.name.as_str(), trace.status, trace.resumed),
        ("desk", RunStatus::Done, 2)
    );
    assert_eq!(trace.answer(), "It is paid.");
    let nodes: Vec<Vec<&str>> = trace
        .run
        .steps
        .iter()
        .map(|step| step.tasks.iter().map(|task| task.node.as_str()).collect())
        .collect();
    assert_eq!(nodes.len(), 6);
    assert_eq!(nodes[1], ["tools"]);
    assert_eq!(nodes[5], ["confirm"]);
    let calls = &trace.run.steps[1].tasks[0].calls;
    let pay = calls.iter().find(|call| call.tool == "pay").expect("it ran");
    assert_eq!(
        (pay.arguments.as_ref(), pay.intents),
        (Some(&json!({ "cents": 500 })), 1)
    );
    assert_eq!(
        pay.result.as_ref().expect("it ended").text(),
        "paid 500 as number 0"
    );
    assert_eq!(calls.len(), 4);
    let fetch = trace
        .tasks()
        .into_iter()
        .find(|(node, _)| node == "fetch")
        .expect("it ran")
        .1
        .clone();
    assert_eq!(
        (fetch.memos[0].key.as_str(), &fetch.memos[0].value),
        ("outside", &json!(0))
    );
    let sum = trace.run.steps[4]
        .tasks
        .iter()
        .find(|task| task.node == "code")
        .expect("it ran")
        .changes[0]
        .clone();
    assert_eq!((sum.value, sum.after), (json!(4), Some(json!(6))));
    let inside: Vec<String> = trace
        .tasks()
        .into_iter()
        .map(|(node, _)| node)
        .filter(|node| node.contains('/'))
        .collect();
    assert_eq!(inside, ["kept inside/think", "kept inside/count"]);
    let asked: Vec<_> = trace
        .questions
        .iter()
        .map(|asked| (asked.question.node.as_str(), asked.answer.is_some()))
        .collect();
    assert_eq!(asked, [("tools", true), ("confirm", true)]);
    let saved = stepwell_agent::State::save(&view.state).expect("plain data");
    assert_eq!(trace.state, Some(saved));
    assert_eq!((trace.usage.clone(), trace.spent), (view.usage, view.spent));
}

#[tokio::test]
async fn a_damaged_cut_or_swollen_file_is_refused_whole() {
    let (store, world, model) = (LogStore::new(), World::default(), Script::new(lines()));
    run(&store, &graph(&model, &world), "r1").await;
    let file = export(&store, "r1").await;
    let bytes = file.to_bytes();
    assert_eq!(RunFile::from_bytes(&bytes).expect("reads back"), file);
    let plain: usize = file.records().iter().map(|record| record.body.len()).sum();
    assert!(bytes.len() * 2 < plain, "{} bytes of {plain}", bytes.len());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x11;
        let found = RunFile::from_bytes(&bad).err();
        assert!(
            matches!(
                found,
                Some(Error::Damaged { .. } | Error::UnknownVersion { .. } | Error::LimitExceeded { .. })
            ),
            "byte {at}: {found:?}"
        );
        assert!(RunFile::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    let mut bomb = bytes[..13].to_vec();
    bomb.extend_from_slice(&u64::MAX.to_le_bytes());
    bomb.extend_from_slice(&bytes[21..]);
    assert_eq!(
        RunFile::from_bytes(&bomb).expect_err("too large").code(),
        "limit_exceeded"
    );
    let mut future = bytes.clone();
    future[12] = 2;
    assert_eq!(
        RunFile::from_bytes(&future).expect_err("newer").code(),
        "unknown_version"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r1.run");
    file.save(&path).expect("written");
    assert_eq!(RunFile::open(&path).expect("reads back"), file);
    assert_eq!(
        RunFile::open(folder.path().join("none.run"))
            .expect_err("missing")
            .code(),
        "io"
    );
    // Gigabytes of nothing are not read before they are refused.
    let begun = std::time::Instant::now();
    for (head, code) in [(&b""[..], "damaged"), (&bytes[..60], "limit_exceeded")] {
        let path = folder.path().join("huge.run");
        std::fs::write(&path, head).expect("written");
        let huge = std::fs::File::options().write(true).open(&path).expect("opens");
        huge.set_len(8 << 30).expect("a hole");
        assert_eq!(RunFile::open(&path).expect_err("too large").code(), code);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let missing = RunFile::export(&*store, &Scope::local(), "none").await;
    assert_eq!(missing.expect_err("missing").code(), "not_found");
    store.damage("r1", 3, 20, 0);
    assert_eq!(
        RunFile::export(&*store, &Scope::local(), "r1")
            .await
            .expect_err("damaged")
            .code(),
        "damaged"
    );
    assert!(
        !format!("{file:?}").contains("euros"),
        "a file's words are not in what is printed of it"
    );
    assert!(
        file.records()
            .iter()
            .any(|record| record.kind == RecordKind::Child)
    );
}
