//! The rows of `benches/graph` by adk-graph: prints `row value` lines. CPU time of the process, medians.

use adk_graph::{
    CompiledGraph, END, ExecutionConfig, MemoryCheckpointer, NodeContext, NodeOutput, START, SqliteCheckpointer,
    State, StateGraph, StateSchema, checkpoint::Checkpointer,
};
use cpu_time::ProcessTime;
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

const STEPS: i64 = 1_000;
const LONG: i64 = 1_001;
const BYTES: usize = 200;
const PAUSED: usize = 1_000;

fn tell(row: &str, value: f64) {
    println!("{row} {value}");
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn config(name: &str) -> ExecutionConfig {
    ExecutionConfig::new(name).with_recursion_limit(3_000)
}

fn number(context: &NodeContext) -> i64 {
    context.get("n").and_then(Value::as_i64).unwrap_or(0)
}

fn blank() -> State {
    let mut state = State::new();
    state.insert("n".into(), json!(0));
    state
}

fn counter(checkpointer: Option<Arc<dyn Checkpointer>>) -> CompiledGraph {
    let add = |context: NodeContext| async move {
        Ok(NodeOutput::new().with_update("n", json!(number(&context) + 1)))
    };
    let next = |state: &State| {
        let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
        if n < STEPS { "a".into() } else { END.into() }
    };
    let graph = StateGraph::with_channels(&["n"])
        .add_node_fn("a", add)
        .add_node_fn("b", add)
        .add_edge(START, "a")
        .add_edge("a", "b")
        .add_conditional_edges("b", next, [("a", "a"), (END, END)])
        .compile()
        .expect("compiles")
        .with_recursion_limit(3_000);
    match checkpointer {
        Some(checkpointer) => graph.with_checkpointer_arc(checkpointer),
        None => graph,
    }
}

async fn sqlite(path: &Path) -> Arc<dyn Checkpointer> {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    Arc::new(SqliteCheckpointer::new(&url).await.expect("opens"))
}

async fn one(graph: &CompiledGraph, name: &str) -> f64 {
    let begun = ProcessTime::now();
    graph.invoke(blank(), config(name)).await.expect("ends");
    begun.elapsed().as_secs_f64() * 1e6 / STEPS as f64
}

async fn long(checkpointer: Option<Arc<dyn Checkpointer>>) -> f64 {
    let marks: Arc<Mutex<Vec<f64>>> = Arc::default();
    let noted = Arc::clone(&marks);
    let begun = ProcessTime::now();
    let say = move |context: NodeContext| {
        noted.lock().expect("no panic holds it").push(begun.elapsed().as_secs_f64());
        async move {
            let n = number(&context);
            let message = json!([{ "role": "assistant", "id": format!("m{n}"), "content": "y".repeat(BYTES) }]);
            Ok(NodeOutput::new().with_update("n", json!(n + 1)).with_update("messages", message))
        }
    };
    let next = |state: &State| {
        let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
        if n < LONG { "a".into() } else { END.into() }
    };
    let mut graph = StateGraph::new(StateSchema::builder().channel("n").list_channel("messages").build())
        .add_node_fn("a", say)
        .add_edge(START, "a")
        .add_conditional_edges("a", next, [("a", "a"), (END, END)])
        .compile()
        .expect("compiles")
        .with_recursion_limit(3_000);
    if let Some(checkpointer) = checkpointer {
        graph = graph.with_checkpointer_arc(checkpointer);
    }
    graph.invoke(blank(), config("long")).await.expect("ends");
    let marks = marks.lock().expect("no panic holds it");
    let per = |low: usize, high: usize| (marks[high] - marks[low]) / (high - low) as f64;
    per(900, 1_000) / per(5, 105)
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let asking = StateGraph::new(StateSchema::builder().list_channel("messages").build())
        .add_node_fn("ask", |_| async { Ok(NodeOutput::interrupt("ok?")) })
        .add_edge(START, "ask")
        .add_edge("ask", END)
        .compile()
        .expect("compiles")
        .with_checkpointer_arc(Arc::new(MemoryCheckpointer::new()));
    let pause = async |from: usize, count: usize| {
        for at in from..from + count {
            let mut state = State::new();
            state.insert("messages".into(), json!([{ "role": "user", "content": "x".repeat(BYTES) }]));
            assert!(asking.invoke(state, config(&format!("p{at}"))).await.is_err());
        }
    };
    pause(0, 100).await;
    let before = resident_kib();
    pause(100, PAUSED).await;
    tell("paused", (resident_kib() - before) / PAUSED as f64);

    let graph = counter(None);
    let mut times = Vec::new();
    for round in 0..15 {
        times.push(one(&graph, &format!("a{round}")).await);
    }
    tell("step", median(times));
    let mut times = Vec::new();
    for round in 0..7 {
        let graph = counter(Some(Arc::new(MemoryCheckpointer::new())));
        times.push(one(&graph, &format!("b{round}")).await);
    }
    tell("step_memory", median(times));
    let graph = counter(Some(sqlite(&folder.path().join("steps.db")).await));
    tell("step_sqlite", one(&graph, "c").await);

    let mut growths = Vec::new();
    for _ in 0..3 {
        growths.push(long(None).await);
    }
    tell("growth", median(growths));
    let weighed = tempfile::tempdir().expect("a folder");
    tell("growth_sqlite", long(Some(sqlite(&weighed.path().join("long.db")).await)).await);
    let bytes: u64 = std::fs::read_dir(weighed.path())
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    tell("disk", bytes as f64 / (LONG as f64 * BYTES as f64));

    // It has no Send: a thousand declared nodes and a join are the nearest.
    let mut graph = StateGraph::new(StateSchema::builder().list_channel("out").build());
    for at in 0..1_000_i64 {
        let name = format!("w{at:04}");
        graph = graph.add_node_fn(&name, move |_| async move {
            Ok(NodeOutput::new().with_update("out", json!([at + 1])))
        });
    }
    graph = graph.add_node_fn("join", |_| async { Ok(NodeOutput::new()) });
    for at in 0..1_000 {
        let name = format!("w{at:04}");
        graph = graph.add_edge(START, &name).add_edge(&name, "join");
    }
    let graph = graph.add_edge("join", END).compile().expect("compiles");
    let mut times = Vec::new();
    for round in 0..3 {
        let begun = ProcessTime::now();
        graph.invoke(State::new(), config(&format!("d{round}"))).await.expect("ends");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    tell("sends", median(times));
}
