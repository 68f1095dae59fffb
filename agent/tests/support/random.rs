//! Random graphs, and what holds of the checkpoints of their runs on any store.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use stepwell_agent::{
    Channels, ChannelsUpdate, Checkpoint, Command, END, EventKind, Graph, GraphBuilder, Keep, Node,
    NodeError, Reducer, RunContext, RunEvent, START, Send, State as _, StateUpdate, Targets, node_sync,
};
use stepwell_core::{
    Scope,
    store::{PageRequest, RunRecord, RunStatus, RunStore},
};

/// The same seed, the same numbers.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % most as u64).expect("small")
    }
}

pub fn state() -> Channels {
    Channels::new()
        .slot("log", Reducer::Append)
        .slot("sum", Reducer::Add)
        .slot("rounds", Reducer::Add)
        .slot("found", Reducer::Append.ephemeral())
}

fn rounds(state: &Channels) -> i64 {
    state.json("rounds").ok().and_then(Value::as_i64).unwrap_or(0)
}

struct Tells {
    name: String,
    at: usize,
    is_last: bool,
    waits: usize,
    fails_in: Option<i64>,
    fuse: Arc<AtomicBool>,
}

#[async_trait]
impl Node<Channels> for Tells {
    async fn run(&self, state: &Channels, cx: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
        for _ in 0..self.waits {
            tokio::task::yield_now().await;
        }
        let known = cx.step("known", async { state.get("log") }).await?;
        let known = known.as_array().map_or(0, Vec::len);
        if self.fails_in.is_some_and(|round| rounds(state) >= round) && self.fuse.load(Ordering::SeqCst) {
            return Err(NodeError::new("not yet"));
        }
        let line = format!("{} knew {known}, found {}", self.name, state.get("found")?);
        let mut update = ChannelsUpdate::new()
            .set("log", json!([line]))
            .set("sum", 1 + self.at)
            .set("found", json!([self.name]));
        if self.is_last {
            update = update.set("rounds", 1);
        }
        Ok(update.into())
    }
}

/// Nodes whose writes tell what they read; edges to later ones, a loop of a few rounds, and Sends to a worker. While the
/// fuse is lit one of them fails once its round has come.
fn graph(seed: u64, fuse: &Arc<AtomicBool>) -> Graph<Channels> {
    let mut chance = Chance(seed.wrapping_mul(977).wrapping_add(1));
    let count = 3 + chance.below(4);
    let names: Vec<String> = (0..count).map(|at| format!("n{at}")).collect();
    let (weak, weak_round) = (
        chance.below(count),
        i64::try_from(chance.below(2)).expect("small"),
    );
    let mut builder = GraphBuilder::new(state());
    for (at, name) in names.iter().enumerate() {
        let node = Tells {
            name: name.clone(),
            at,
            is_last: at + 1 == count,
            waits: chance.below(4),
            fails_in: (at == weak).then_some(weak_round),
            fuse: Arc::clone(fuse),
        };
        builder = builder.node(name.clone(), node);
    }
    builder = builder.node(
        "worker",
        node_sync(|_: &Channels, cx: &RunContext| {
            let item: i64 = cx.input()?;
            Ok(ChannelsUpdate::new().set("log", json!([item])).set("sum", item))
        }),
    );
    builder = builder.edge(START, names[0].clone()).edge("worker", END);
    for at in 0..count - 1 {
        builder = builder.edge(names[at].clone(), names[at + 1].clone());
        let further = at + 1 + chance.below(count - at - 1);
        if further != at + 1 {
            builder = builder.edge(names[at].clone(), names[further].clone());
        }
    }
    let (first, items) = (names[0].clone(), i64::try_from(chance.below(4)).expect("small"));
    let declared = vec![names[0].clone(), "worker".to_owned(), END.to_owned()];
    builder
        .route(
            names[count - 1].clone(),
            move |state: &Channels| {
                if rounds(state) < 3 {
                    return Targets::from(first.clone());
                }
                let sends = (0..items).map(|item| Send::new("worker", item).expect("plain data"));
                sends.fold(Targets::from(END), Targets::and)
            },
            declared,
        )
        .build()
        .expect("no fault")
}

fn saved(state: &Channels) -> Value {
    state.save().expect("plain data")
}

pub async fn all_checkpoints(
    graph: &Graph<Channels>,
    store: &dyn RunStore,
    scope: &Scope,
    run_id: &str,
    limit: usize,
) -> Vec<Checkpoint> {
    let (mut all, mut page) = (Vec::new(), PageRequest::first(limit));
    loop {
        let found = graph
            .history(store, scope, run_id, page)
            .await
            .expect("a history");
        assert!(found.items.len() <= limit);
        all.extend(found.items);
        match found.next {
            Some(next) => page = PageRequest::after(next, limit),
            None => return all,
        }
    }
}

async fn records(store: &dyn RunStore, scope: &Scope, run_id: &str) -> Vec<RunRecord> {
    store.read(scope, run_id, 1, 10_000).await.expect("reads")
}

/// What is told of a checkpoint apart from its number and size.
fn told(checkpoint: &Checkpoint) -> (u32, Vec<String>) {
    (checkpoint.step, checkpoint.next.clone())
}

/// A run of a random graph, which fails in the middle and is resumed: each checkpoint is the state the run had then; forks
/// change nobody else; pruning keeps what it promises. Gives how many checkpoints the run had.
pub async fn checkpoints_hold(store: &Arc<dyn RunStore>, seed: u64) -> u64 {
    let scope = Scope::new(format!("seed {seed}")).expect("a name");
    let mut chance = Chance(seed);
    let fuse = Arc::new(AtomicBool::new(true));
    let graph = graph(seed, &fuse);
    let input = ChannelsUpdate::new().set("log", json!(["begin"]));
    let run = graph
        .run_input(input)
        .run_id("r")
        .scope(scope.clone())
        .store(Arc::clone(store))
        .values();

    // What the run itself told of each step, before and behind its failure: the state after it, and the nodes in it.
    let (mut values, mut nexts) = (BTreeMap::new(), BTreeMap::new());
    let mut stream = run.stream();
    while let Some(event) = stream.next().await {
        note(event, &mut values, &mut nexts);
    }
    let broken = stream.take_result().expect("it ended");
    assert_eq!(broken.status, RunStatus::Failed);
    prune_keeps(&graph, store, &scope, &mut chance, &fuse).await;
    fuse.store(false, Ordering::SeqCst);
    let resumed = graph.resume("r").scope(scope.clone()).store(Arc::clone(store));
    let mut stream = resumed.values().stream();
    while let Some(event) = stream.next().await {
        note(event, &mut values, &mut nexts);
    }
    let whole = stream.finish().await.expect("it may now");

    let history = all_checkpoints(&graph, &**store, &scope, "r", 3).await;
    assert_eq!(history.len(), 1 + values.len(), "an input, and each step");
    for (step, checkpoint) in (0..).zip(history.iter().rev()) {
        let view = graph.state_at(&**store, &scope, "r", checkpoint.seq).await;
        let view = view.expect("a state");
        assert_eq!((checkpoint.step, view.steps), (step, step));
        let next = nexts.get(&(step + 1)).cloned().unwrap_or_default();
        assert_eq!(checkpoint.next, next, "seed {seed}, {checkpoint:?}");
        if let Some(value) = values.get(&step) {
            assert_eq!(&saved(&view.state), value, "seed {seed}, {checkpoint:?}");
        }
    }

    forks_are_alone(&graph, store, &scope, &history, &whole.state, &mut chance).await;
    prune_keeps(&graph, store, &scope, &mut chance, &fuse).await;
    history.len() as u64
}

fn note(event: RunEvent, values: &mut BTreeMap<u32, Value>, nexts: &mut BTreeMap<u32, Vec<String>>) {
    match event.kind {
        EventKind::StepStart { nodes } => {
            let mut nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            nodes.dedup();
            // A broken step begins again without what had finished.
            nexts.entry(event.step).or_insert(nodes);
        }
        EventKind::StepEnd { values: told } => {
            values.insert(event.step, told.expect("asked for"));
        }
        _ => {}
    }
}

async fn forks_are_alone(
    graph: &Graph<Channels>,
    store: &Arc<dyn RunStore>,
    scope: &Scope,
    history: &[Checkpoint],
    end: &Channels,
    chance: &mut Chance,
) {
    let before = records(&**store, scope, "r").await;
    let at = &history[chance.below(history.len())];
    for fork in ["same", "other"] {
        graph
            .fork(&**store, scope, "r", at.seq, fork)
            .await
            .expect("forks");
    }
    let resume = |run: &str| graph.resume(run).scope(scope.clone()).store(Arc::clone(store));
    let same = resume("same").await.expect("goes on");
    assert_eq!(saved(&same.state), saved(end), "the same nodes, the same end");
    let kept = records(&**store, scope, "same").await;
    let update = StateUpdate::new(ChannelsUpdate::new().overwrite("log", json!(["changed"]))).as_node("n0");
    graph
        .update_states(&**store, scope, "other", vec![vec![update]])
        .await
        .expect("changes");
    let other = resume("other").await.expect("goes on");
    assert_eq!(other.state.get("log").expect("written")[0], "changed");
    assert_eq!(records(&**store, scope, "same").await, kept);
    assert_eq!(records(&**store, scope, "r").await, before);
    let list = all_checkpoints(graph, &**store, scope, "same", 100).await;
    assert!(list.iter().any(|place| told(place) == told(at)));
}

/// Prunes a copy, and compares it with the run.
async fn prune_keeps(
    graph: &Graph<Channels>,
    store: &Arc<dyn RunStore>,
    scope: &Scope,
    chance: &mut Chance,
    fuse: &Arc<AtomicBool>,
) {
    let run_id = "r";
    let copy = format!("copy {}", chance.below(1 << 30));
    graph.copy(&**store, scope, run_id, &copy).await.expect("copies");
    let before = all_checkpoints(graph, &**store, scope, run_id, 100).await;
    let most = 1 + chance.below(before.len() + 1);
    let keep = if most == 1 { Keep::Latest } else { Keep::Last(most) };
    let gone = graph.prune(&**store, scope, &copy, keep).await.expect("prunes");
    let after = all_checkpoints(graph, &**store, scope, &copy, 2).await;
    assert_eq!(
        after.len(),
        most.min(before.len()),
        "{keep:?} of {}",
        before.len()
    );
    assert_eq!(gone > 0, most < before.len());
    for (kept, was) in after.iter().zip(&before) {
        assert_eq!(told(kept), told(was));
        let (kept, was) = (
            graph
                .state_at(&**store, scope, &copy, kept.seq)
                .await
                .expect("a state"),
            graph
                .state_at(&**store, scope, run_id, was.seq)
                .await
                .expect("a state"),
        );
        assert_eq!(saved(&kept.state), saved(&was.state));
        assert_eq!((kept.next, kept.usage), (was.next, was.usage));
    }
    let (view, was) = (
        graph.view(&**store, scope, &copy).await.expect("a view"),
        graph.view(&**store, scope, run_id).await.expect("a view"),
    );
    assert_eq!(saved(&view.state), saved(&was.state));
    assert_eq!(
        (view.status, view.next, view.finished, view.steps),
        (was.status, was.next, was.finished, was.steps)
    );
    assert_eq!(view.failure, was.failure);
    let size = graph.run_size(&**store, scope, &copy).await.expect("a size");
    let left = records(&**store, scope, &copy).await;
    assert_eq!(size.records, left.len() as u64);
    assert_eq!(
        size.bytes,
        left.iter().map(|record| record.body.len() as u64).sum::<u64>()
    );
    // Both go on to the same end; the run itself is only forked for that.
    let was_lit = fuse.swap(false, Ordering::SeqCst);
    let whole = format!("{copy} whole");
    graph.copy(&**store, scope, run_id, &whole).await.expect("copies");
    let mut ends = Vec::new();
    for run in [&copy, &whole] {
        let run = graph.resume(run).scope(scope.clone()).store(Arc::clone(store));
        ends.push(saved(&run.await.expect("goes on").state));
    }
    assert_eq!(ends[0], ends[1]);
    fuse.store(was_lit, Ordering::SeqCst);
}
