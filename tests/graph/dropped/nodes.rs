//! What runs inside a node, dropped after each poll: by a node that has its own idea of time, and tries again; and with the
//! whole run, which is resumed.

use super::{poll_numbers, polled};
use crate::{
    board::{Board, Done, Slate, acts, chain, waits},
    kept::{Hooked, Kept},
    tools::{assert_closed, call, model, tool, words},
    works::{Came, Note, Notes, assert_effects, finish, recorded},
};
use async_trait::async_trait;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell::{
    AllowAll, ChatModel, DynTool, Effect, IntoDynTool, Message, Part, Role, ToolOptions, ToolOutput,
    agent::{
        Agent, AgentModel, Channels, Command, Graph, ModelNode, Node, NodeError, NodeOptions, Retry,
        RunContext, State, Subgraph, ToolsNode, node_fn, node_sync,
    },
    store::{RunStatus, RunStore},
    stores::MemoryStore,
};

/// A node that drops the one inside of it after so many polls, the so many-th time it runs, and fails.
struct CutShort<S: State> {
    node: Arc<dyn Node<S>>,
    time: u32,
    polls: u32,
    cut: Arc<Mutex<Cut>>,
    store: Arc<dyn RunStore>,
}

#[derive(Default)]
struct Cut {
    times: u32,
    /// It was dropped before it ended.
    was_early: bool,
    /// What the journal had when it was tried again.
    known: Option<Vec<String>>,
}

#[async_trait]
impl<S: State> Node<S> for CutShort<S> {
    async fn run(&self, state: &S, cx: &RunContext) -> Done<S> {
        let (time, was_early) = {
            let mut cut = self.cut.lock().expect("free");
            cut.times += 1;
            (cut.times, cut.was_early)
        };
        if time == self.time {
            let ended = polled(self.node.run(state, cx), self.polls).await;
            self.cut.lock().expect("free").was_early = ended.is_none();
            return ended.unwrap_or_else(|| Err(NodeError::new("cut short")));
        }
        if was_early {
            let known = recorded(&self.store, "r").await;
            self.cut.lock().expect("free").known.get_or_insert(known);
        }
        self.node.run(state, cx).await
    }
}

type Make<S> = fn(&Note) -> Arc<dyn Node<S>>;

async fn does(cx: &RunContext, name: &str, note: &Note) -> Result<String, NodeError> {
    let (effect, note) = (format!("did:{name}"), note.clone());
    cx.step(name, async move {
        waits(1).await;
        note(&effect);
        waits(1).await;
        Ok::<_, NodeError>(effect)
    })
    .await
}

fn steps<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let note = note.clone();
    Arc::new(acts(move |_: &S, cx: &RunContext| {
        let note = note.clone();
        Box::pin(async move {
            let one = does(cx, "one", &note).await?;
            let two = does(cx, "two", &note).await?;
            Ok(S::says(format!("{one} {two}")).into())
        })
    }))
}

/// Does something, asks, does something else, asks again.
fn asks<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let note = note.clone();
    Arc::new(acts(move |_: &S, cx: &RunContext| {
        let note = note.clone();
        Box::pin(async move {
            let one = does(cx, "one", &note).await?;
            let first: u8 = cx.ask("first", &one).await?;
            let two = does(cx, "two", &note).await?;
            let second: u8 = cx.ask("second", &two).await?;
            Ok(S::says(format!("{one} {first} {two} {second}")).into())
        })
    }))
}

/// Nodes that do something and ask in a graph of two steps, and the two side by side in the first.
fn inner<S: Slate>(note: &Note) -> Graph<S> {
    S::builder()
        .node("a", steps::<S>(note))
        .node("b", named::<S>("b", note))
        .node("last", asks_once::<S>(note))
        .edge(stepwell::agent::START, "a")
        .edge(stepwell::agent::START, "b")
        .join(["a", "b"], "last")
        .edge("last", stepwell::agent::END)
        .build()
        .expect("no fault")
}

fn named<S: Slate>(name: &'static str, note: &Note) -> Arc<dyn Node<S>> {
    let note = note.clone();
    Arc::new(acts(move |_: &S, cx: &RunContext| {
        let note = note.clone();
        Box::pin(async move { Ok(S::says(does(cx, name, &note).await?).into()) })
    }))
}

fn asks_once<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let note = note.clone();
    Arc::new(acts(move |_: &S, cx: &RunContext| {
        let note = note.clone();
        Box::pin(async move {
            let did = does(cx, "last", &note).await?;
            let answer: u8 = cx.ask("sure", ()).await?;
            Ok(S::says(format!("{did} {answer}")).into())
        })
    }))
}

fn subgraph<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    Arc::new(Subgraph::new(
        inner::<S>(note),
        |_: &S, _| Ok(S::adds(1)),
        |inner: S| Ok(S::says(inner.words())),
    ))
}

fn persistent<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let node = Subgraph::new(
        inner::<S>(note),
        |_: &S, _| Ok(S::adds(1)),
        |inner: S| Ok(S::says(inner.words())),
    );
    Arc::new(node.persistent())
}

fn two_deep<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let outer = chain(
        S::builder()
            .node("first", named("first", note))
            .node("inside", subgraph::<S>(note)),
        &["first", "inside"],
    );
    Arc::new(Subgraph::new(
        outer,
        |_: &S, _| Ok(S::adds(1)),
        |inner: S| Ok(S::says(inner.words())),
    ))
}

fn acting(name: &'static str, effect: Effect, note: &Note) -> Arc<dyn DynTool> {
    let note = note.clone();
    tool(
        name,
        ToolOptions::default().effect(effect),
        move |arguments, cx| {
            let note = note.clone();
            async move {
                waits(1).await;
                let did = format!("did:{name}{}:{}", arguments["n"], cx.idempotency_key);
                note(&did);
                waits(1).await;
                Ok(ToolOutput::text(did))
            }
        },
    )
}

fn three_tools(note: &Note) -> [Arc<dyn DynTool>; 3] {
    [
        acting("look", Effect::Pure, note),
        acting("put", Effect::Idempotent, note),
        acting("pay", Effect::AtMostOnce, note),
    ]
}

fn three_calls() -> Vec<Part> {
    vec![call("1", "look", 1), call("2", "put", 2), call("3", "pay", 3)]
}

fn tools<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    Arc::new(ToolsNode::new(three_tools(note), Arc::new(AllowAll)))
}

fn speaks<S: Slate>(_: &Note) -> Arc<dyn Node<S>> {
    Arc::new(ModelNode::new(model(vec![
        vec![words("a few words")],
        vec![words("more")],
    ])))
}

fn agent(note: &Note) -> Agent {
    let lines = vec![three_calls(), vec![call("4", "pay", 4)], vec![words("paid")]];
    Agent::new(model(lines))
        .tools(three_tools(note))
        .policy(AllowAll)
        .build()
        .expect("no fault")
}

fn within<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let agent = agent(note);
    Arc::new(acts(move |_: &S, cx: &RunContext| {
        let agent = agent.clone();
        Box::pin(async move {
            let said = agent.run_within(cx, "agent", "go").await?;
            assert_closed(&said.messages);
            Ok(S::add_messages(vec![Message::user(said.answer).with_id("said")]).into())
        })
    }))
}

/// An agent whose tools answer every call, as a tool.
fn handed<S: Slate>(note: &Note) -> Arc<dyn Node<S>> {
    let agent = agent(note)
        .tool("look", "Looks.")
        .into_dyn_tool()
        .expect("a tool");
    Arc::new(ToolsNode::new([agent], Arc::new(AllowAll)))
}

/// An agent as a model: a run of its own, which keeps nothing.
fn as_a_model<S: Slate>(_: &Note) -> Arc<dyn Node<S>> {
    let agent = Agent::new(model(vec![vec![words("a few words")], vec![words("more")]]));
    let model: Arc<dyn ChatModel> = Arc::new(AgentModel::new("inner", agent.build().expect("no fault")));
    Arc::new(ModelNode::new(model))
}

async fn async_function<S: Slate>(_: &S, cx: &RunContext) -> Result<S::Update, NodeError> {
    let said: String = cx
        .step("one", async { Ok::<_, NodeError>("one".to_owned()) })
        .await?;
    waits(2).await;
    Ok(S::says(said))
}

fn function<S: Slate>(_: &Note) -> Arc<dyn Node<S>> {
    Arc::new(node_fn(async_function::<S>))
}

fn plain<S: Slate>(_: &Note) -> Arc<dyn Node<S>> {
    Arc::new(node_sync(|_: &S, _: &RunContext| Ok(S::says("plain"))))
}

fn cases<S: Slate>() -> Vec<(&'static str, Make<S>)> {
    vec![
        ("steps", steps::<S>),
        ("questions", asks::<S>),
        ("a graph", subgraph::<S>),
        ("a persistent graph", persistent::<S>),
        ("a graph in a graph", two_deep::<S>),
        ("tools", tools::<S>),
        ("a model", speaks::<S>),
        ("an agent", |note| Arc::new(agent(note).node())),
        ("an agent within", within::<S>),
        ("an agent as a tool", handed::<S>),
        ("an agent as a model", as_a_model::<S>),
        ("a function", function::<S>),
        ("a plain function", plain::<S>),
    ]
}

/// A question, and the calls that tools nodes answer.
fn given<S: Slate>(what: &str) -> S {
    let mut messages = vec![Message::user("go").with_id("question")];
    let calls = match what {
        "tools" => three_calls(),
        "an agent as a tool" => vec![Part::tool_call("1", "look", serde_json::json!({ "task": "go" }))],
        _ => Vec::new(),
    };
    if !calls.is_empty() {
        messages.push(Message::new(Role::Assistant, calls).with_id("calls"));
    }
    let mut state = S::blank();
    state.apply(S::add_messages(messages)).expect("fits");
    state
}

fn one_node<S: Slate>(node: impl Node<S> + 'static) -> Graph<S> {
    let again = Retry::attempts(2).first_delay(Duration::ZERO).jitter(false);
    let builder = S::builder()
        .node("node", node)
        .options("node", NodeOptions::new().retry(again));
    chain(builder, &["node"])
}

/// The run to its end; questions are answered as they come.
async fn to_its_end<S: Slate>(
    graph: &Graph<S>,
    what: &str,
    store: &Arc<dyn RunStore>,
    is_sync: bool,
) -> Came {
    let set = |run: stepwell::agent::Run<S>| {
        let run = run.store(store.clone());
        if is_sync { run.sync() } else { run }
    };
    let mut outcome = set(graph.run(given(what)).run_id("r")).await.expect("runs");
    while outcome.status == RunStatus::Paused {
        assert_eq!(outcome.questions.len(), 1, "{what}: {:?}", outcome.questions);
        outcome = set(graph.resume("r").reply(7)).await.expect("goes on");
    }
    Came::of(&outcome)
}

async fn whole<S: Slate>(what: &str, make: Make<S>) -> (Came, Vec<String>) {
    let (notes, kept) = (Notes::default(), Kept::slow());
    let came = to_its_end(&one_node(make(&notes.note())), what, &kept.store(), false).await;
    (came, notes.lines())
}

#[tokio::test]
async fn a_node_dropped_after_any_poll_and_tried_again_goes_on_where_it_was() {
    async fn check<S: Slate>(is_sync: bool) {
        for (what, make) in cases::<S>() {
            let whole = whole(what, make).await;
            // Those that ask run more than once; each time they may be dropped.
            let (mut time, mut polls, mut most) = (1, 0, 0);
            while time <= 3 {
                let notes = Notes::default();
                let memory: Arc<dyn RunStore> = Arc::new(MemoryStore::new());
                let cut: Arc<Mutex<Cut>> = Arc::default();
                let graph = one_node(CutShort {
                    node: make(&notes.note()),
                    time,
                    polls,
                    cut: Arc::clone(&cut),
                    store: Arc::clone(&memory),
                });
                let slow: Arc<dyn RunStore> = Arc::new(Hooked::slow(memory.clone()));
                let came = to_its_end(&graph, what, &slow, is_sync).await;
                let place = format!("{what} dropped at time {time} after poll {polls}, sync {is_sync}");
                assert!(came.is_like(&whole.0), "{place}: {came:#?} is not {:#?}", whole.0);
                let (known, was_early) = {
                    let mut cut = cut.lock().expect("free");
                    (cut.known.take().unwrap_or_default(), cut.was_early)
                };
                assert_effects(&place, &known, &notes.lines(), &whole.1);
                // What the journal tells is the same.
                let view = graph
                    .view(&*memory, &stepwell::Scope::local(), "r")
                    .await
                    .expect("reads");
                assert_eq!(
                    (view.status, view.state.words()),
                    (RunStatus::Done, came.words().to_owned()),
                    "{place}"
                );
                most = most.max(polls);
                (time, polls) = if was_early {
                    (time, polls + 1)
                } else {
                    (time + 1, 0)
                };
            }
            let is_quick = ["a model", "an agent as a model", "a plain function"].contains(&what);
            assert!(is_quick || most > 2, "{what}: {most} polls");
        }
    }
    Box::pin(check::<Board>(true)).await;
    Box::pin(check::<Board>(false)).await;
    Box::pin(check::<Channels>(true)).await;
    check::<Channels>(false).await;
}

#[tokio::test]
async fn a_run_of_one_node_dropped_after_any_poll_goes_on_where_it_was() {
    async fn check<S: Slate>(is_sync: bool) {
        for (what, make) in cases::<S>() {
            let whole = whole(what, make).await;
            for polls in poll_numbers() {
                let (notes, kept) = (Notes::default(), Kept::slow());
                let graph = one_node(make(&notes.note()));
                let run = graph.run(given(what)).run_id("r").store(kept.store());
                let run = if is_sync { run.sync() } else { run };
                let is_over = polled(run.outcome(), polls).await.is_some();
                let known = recorded(&kept.store(), "r").await;
                let has_begun = kept.records("r").await > 0;
                let came = if has_begun {
                    Came::of(&finish(&graph, &kept.store(), "r").await.expect("ends"))
                } else {
                    to_its_end(&graph, what, &kept.store(), is_sync).await
                };
                let place = format!("the run of {what} dropped after poll {polls}, sync {is_sync}");
                assert!(came.is_like(&whole.0), "{place}: {came:#?} is not {:#?}", whole.0);
                assert_effects(&place, &known, &notes.lines(), &whole.1);
                if is_over {
                    break;
                }
            }
        }
    }
    Box::pin(check::<Board>(true)).await;
    Box::pin(check::<Channels>(false)).await;
}

/// A time limit of a node drops it too.
#[tokio::test(start_paused = true)]
async fn what_a_graph_inside_a_node_had_done_before_a_time_limit_is_not_done_again() {
    async fn check<S: Slate>() {
        let notes = Notes::default();
        let note = notes.note();
        let hangs = {
            let tries = crate::board::Count::default();
            acts(move |_: &S, _: &RunContext| {
                let is_first = tries.more() == 0;
                Box::pin(async move {
                    if is_first {
                        std::future::pending::<()>().await;
                    }
                    Ok(Command::update(S::says("then")))
                })
            })
        };
        let inner = chain(
            S::builder()
                .node("pays", named::<S>("pay", &note))
                .node("hangs", hangs),
            &["pays", "hangs"],
        );
        let node = Subgraph::new(
            inner,
            |_: &S, _| Ok(S::adds(1)),
            |inner: S| Ok(S::says(inner.words())),
        );
        let options = NodeOptions::new()
            .timeout(Duration::from_secs(5))
            .retry(Retry::attempts(2));
        let graph = chain(
            S::builder().node("node", node).options("node", options),
            &["node"],
        );
        let outcome = graph.run(S::blank()).await.expect("the second try ends");
        assert_eq!(outcome.state.words(), "did:pay then");
        assert_eq!(notes.lines(), ["did:pay"]);
    }
    check::<Board>().await;
    check::<Channels>().await;
}
