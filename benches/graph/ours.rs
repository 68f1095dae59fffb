//! The rows of this project.

use async_trait::async_trait;
use cpu_time::ProcessTime;
use futures::{StreamExt, stream};
use serde_json::json;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
};
use stepwell::{
    AllowAll, ChatModel, ChatRequest, ChatResponse, ChatStream, FinishReason, Message, ModelInfo, Part,
    Result, Role, State, Tool, ToolContext, ToolError,
    agent::{Agent, Command, END, Graph, Node, NodeError, Run, RunContext, START, node_fn, node_sync},
    store::RunStore,
    stores::{MemoryStore, SqliteStore},
    whole,
};

const STEPS: i64 = 1_000;
/// Messages of the long run, and the bytes of each.
const LONG: i64 = 1_001;
const BYTES: usize = 200;
/// Rounds of the long run.
const GROWTHS: usize = 25;
const PAUSED: usize = 5_000;
/// The steps between which it is measured: a hundred early ones, a hundred late ones.
const MARKS: [i64; 4] = [5, 105, 900, 1_000];

#[derive(Clone, Debug, Default, State)]
struct Count {
    n: i64,
}

fn counter() -> Graph<Count> {
    let add = || node_sync(|count: &Count, _: &RunContext| Ok(CountUpdate::n(count.n + 1)));
    Graph::builder()
        .node("a", add())
        .node("b", add())
        .edge(START, "a")
        .edge("a", "b")
        .route(
            "b",
            |count: &Count| if count.n < STEPS { "a" } else { END },
            ["a", END],
        )
        .build()
        .expect("no fault")
}

/// CPU of one run, median of so many, per step.
async fn loops(rounds: usize, store: impl Fn() -> Option<Arc<dyn RunStore>>) -> f64 {
    let graph = counter();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let store = store();
        let begun = ProcessTime::now();
        let mut run = graph.run(Count::default()).step_limit(2_000);
        if let Some(store) = &store {
            run = run.store(Arc::clone(store));
        }
        let ended = run.await.expect("it ends");
        times.push(begun.elapsed().as_secs_f64() * 1e6 / STEPS as f64);
        assert_eq!(ended.state.n, STEPS);
    }
    median(times)
}

/// A late step over an early one, medians of each: how many commits a hundred steps share is chance.
fn growth(times: Vec<(f64, f64)>) -> f64 {
    let (early, late) = times.into_iter().unzip();
    median(late) / median(early)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[derive(Clone, Debug, Default, State)]
struct Talk {
    n: i64,
    #[state(messages)]
    messages: stepwell::agent::Messages,
}

/// One message per step: what an early step and a late one cost, and what the file weighs per byte of content.
async fn long(store: Option<Arc<dyn RunStore>>) -> (f64, f64) {
    /// Says something, and notes the CPU time so far. Where records wait to be written, they are first: their writing
    /// belongs to the steps that made them.
    struct Say {
        begun: ProcessTime,
        marks: Arc<Mutex<Vec<f64>>>,
        store: Option<Arc<dyn RunStore>>,
    }
    #[async_trait]
    impl Node<Talk> for Say {
        async fn run(&self, talk: &Talk, _: &RunContext) -> Result<Command<TalkUpdate>, NodeError> {
            if let Some(store) = self.store.as_ref().filter(|_| MARKS.contains(&talk.n)) {
                store.flush().await?;
            }
            let cpu = self.begun.elapsed().as_secs_f64() * 1e6;
            self.marks.lock().expect("no panic holds it").push(cpu);
            let message = Message::assistant("y".repeat(BYTES)).with_id(format!("m{}", talk.n));
            Ok(TalkUpdate::n(talk.n + 1).with_messages([message]).into())
        }
    }
    let marks: Arc<Mutex<Vec<f64>>> = Arc::default();
    let say = Say {
        begun: ProcessTime::now(),
        marks: Arc::clone(&marks),
        store: store.clone(),
    };
    let graph = Graph::<Talk>::builder()
        .node("say", say)
        .edge(START, "say")
        .route(
            "say",
            |talk: &Talk| if talk.n < LONG { "say" } else { END },
            ["say", END],
        )
        .build()
        .expect("no fault");
    let mut run: Run<Talk> = graph.run(Talk::default()).step_limit(3_000);
    if let Some(store) = store {
        run = run.store(store);
    }
    run.await.expect("it ends");
    let marks = marks.lock().expect("no panic holds it");
    let at = |from: usize, to: usize| (marks[to] - marks[from]) / (to - from) as f64;
    let [early, early_end, late, late_end] = MARKS.map(|mark| usize::try_from(mark).expect("a step"));
    (at(early, early_end), at(late, late_end))
}

/// A run of 1,000 Sends whose results are appended and then summed up.
async fn sends() -> f64 {
    #[derive(Clone, Debug, Default, State)]
    struct Fan {
        #[state(append)]
        out: Vec<i64>,
        sum: i64,
    }
    async fn work(_: &Fan, cx: &RunContext) -> Result<FanUpdate, NodeError> {
        let input: i64 = cx.input()?;
        Ok(FanUpdate::out([input + 1]))
    }
    let graph = Graph::<Fan>::builder()
        .node(
            "seed",
            node_sync(|_: &Fan, _: &RunContext| Ok(Command::<FanUpdate>::send("work", 0..1_000_i64)?)),
        )
        .node("work", node_fn(work))
        .node(
            "sum",
            node_sync(|fan: &Fan, _: &RunContext| Ok(FanUpdate::sum(fan.out.iter().sum()))),
        )
        .edge(START, "seed")
        .goto("seed", "work")
        .edge("work", "sum")
        .edge("sum", END)
        .build()
        .expect("no fault");
    let mut times = Vec::new();
    for _ in 0..15 {
        let begun = ProcessTime::now();
        let ended = graph.run(Fan::default()).await.expect("it ends");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(ended.state.sum, 500_500);
    }
    median(times)
}

/// Resident memory of a run that waits for a person, in the memory store.
async fn paused() -> f64 {
    async fn ask(_: &Talk, cx: &RunContext) -> Result<TalkUpdate, NodeError> {
        let answer: String = cx.ask("ok", "ok?").await?;
        Ok(TalkUpdate::messages([Message::assistant(answer)]))
    }
    let graph = Graph::<Talk>::builder()
        .node("ask", node_fn(ask))
        .edge(START, "ask")
        .edge("ask", END)
        .build()
        .expect("no fault");
    let store: Arc<dyn RunStore> = Arc::new(MemoryStore::new());
    let pause = async |count: usize| {
        for _ in 0..count {
            let talk = Talk {
                n: 0,
                messages: vec![Message::user("x".repeat(BYTES))].into(),
            };
            let outcome = graph
                .run(talk)
                .store(Arc::clone(&store))
                .await
                .expect("it pauses");
            assert_eq!(outcome.questions.len(), 1);
        }
    };
    pause(500).await; // what grows once is not counted
    let before = resident_kib();
    pause(PAUSED).await;
    (resident_kib() - before) / PAUSED as f64
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0.0)
}

/// Asks for the tool so many times, then answers.
#[derive(Debug)]
struct Fake {
    info: ModelInfo,
    turns: usize,
}

#[async_trait]
impl ChatModel for Fake {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let done = request
            .messages
            .iter()
            .filter(|message| message.role == Role::Tool)
            .count();
        let (parts, reason) = if done < self.turns {
            let call = Part::tool_call(format!("c{done}"), "add", json!({ "a": done, "b": 1 }));
            (vec![call], FinishReason::ToolCalls)
        } else {
            (Message::assistant("done").parts.to_vec(), FinishReason::Stop)
        };
        let response = ChatResponse::new("fake", "fake", parts, reason);
        Ok(stream::iter(whole(response).into_iter().map(Ok)).boxed())
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct AddArgs {
    a: i64,
    b: i64,
}
struct Add;
impl Tool for Add {
    const NAME: &'static str = "add";
    const DESCRIPTION: &'static str = "Adds two integers.";
    type Args = AddArgs;
    type Output = i64;
    async fn call(&self, args: AddArgs, _: &ToolContext) -> Result<i64, ToolError> {
        Ok(args.a + args.b)
    }
}

/// CPU of one turn: a model call and a tool call, of runs with one.
async fn turn() -> f64 {
    const RUNS: usize = 200;
    let model = Arc::new(Fake {
        info: ModelInfo::new("fake", "fake"),
        turns: 1,
    });
    let agent = Agent::new(model)
        .tool(Add)
        .policy(AllowAll)
        .build()
        .expect("no fault");
    let mut times = Vec::new();
    for _ in 0..15 {
        let begun = ProcessTime::now();
        for _ in 0..RUNS {
            let result = agent.run("hi").await.expect("it answers");
            assert_eq!(result.answer, "done");
        }
        times.push(begun.elapsed().as_secs_f64() * 1e6 / RUNS as f64);
    }
    median(times)
}

fn bytes_of(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

pub(crate) async fn rows() -> HashMap<&'static str, f64> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut number = 0;
    let mut sqlite = || {
        number += 1;
        SqliteStore::open(folder.path().join(format!("{number}.db"))).expect("opens")
    };
    let mut rows = HashMap::new();
    rows.insert("paused", paused().await);
    loops(3, || None).await;
    rows.insert("step", loops(25, || None).await);
    rows.insert(
        "step_memory",
        loops(15, || Some(Arc::new(MemoryStore::new()))).await,
    );
    let store: Arc<dyn RunStore> = Arc::new(sqlite());
    rows.insert("step_sqlite", loops(9, || Some(Arc::clone(&store))).await);
    let mut growths = Vec::new();
    let mut stored = Vec::new();
    for _ in 0..GROWTHS {
        growths.push(long(None).await);
        stored.push(long(Some(Arc::new(sqlite()))).await);
    }
    rows.insert("growth", growth(growths));
    rows.insert("growth_sqlite", growth(stored));
    let weighed = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(weighed.path().join("long.db")).expect("opens");
    long(Some(Arc::new(store))).await;
    rows.insert(
        "disk",
        bytes_of(weighed.path()) as f64 / (LONG as f64 * BYTES as f64),
    );
    rows.insert("sends", sends().await);
    rows.insert("turn", turn().await);
    rows
}
