//! History, forks, edits and pruning of stored runs. Numbers refer to the project's conformance list.

#![allow(clippy::items_after_statements)] // a node of one test stands in that test

#[path = "support/random.rs"]
mod random;
mod support;

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::json;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};
use stepwell_agent::{
    Agent, AgentState, Channels, ChannelsUpdate, Checkpoint, CheckpointSource, Command, END, EventKind,
    Graph, GraphBuilder, HasMessages as _, Keep, Node, NodeError, Reducer, RunContext, START, State as _,
    StateUpdate, Subgraph, node_sync,
};
use stepwell_core::{
    AllowAll, Effect, Message, Origin, Part, Scope, Tool, ToolContext, ToolError, ToolOptions,
    store::{PageRequest, RunStatus, RunStore},
};
use support::{LogStore, Script};

fn scope() -> Scope {
    Scope::local()
}

fn state() -> Channels {
    Channels::new()
        .slot("log", Reducer::Append)
        .slot("sum", Reducer::Add)
        .slot("plain", Reducer::Last)
}

fn adds(name: &'static str, number: i64) -> impl Node<Channels> {
    node_sync(move |_: &Channels, _: &RunContext| Ok(added(name, number)))
}

fn added(name: &str, number: i64) -> ChannelsUpdate {
    ChannelsUpdate::new().set("log", [name]).set("sum", number)
}

fn sum(state: &Channels) -> i64 {
    state.json("sum").expect("a number").as_i64().expect("whole")
}

/// `a` ends well and counts its runs; `b` fails so many times; `c` waits for both.
fn partial(fails: &Arc<AtomicU32>, runs: &Arc<AtomicU32>) -> Graph<Channels> {
    let (fails, runs) = (Arc::clone(fails), Arc::clone(runs));
    GraphBuilder::new(state())
        .node(
            "a",
            node_sync(move |_: &Channels, _: &RunContext| {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(added("a", 1))
            }),
        )
        .node("b", Fails(fails))
        .node("c", adds("c", 3))
        .edge(START, "a")
        .edge(START, "b")
        .join(["a", "b"], "c")
        .edge("c", END)
        .build()
        .expect("no fault")
}

struct Fails(Arc<AtomicU32>);

#[async_trait]
impl Node<Channels> for Fails {
    async fn run(&self, _: &Channels, _: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let left = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(NodeError::new("not yet")),
            Err(_) => Ok(added("b", 2).into()),
        }
    }
}

/// `a`, `b`, `c` one after the other: 1, 10, 100.
fn chain() -> Graph<Channels> {
    GraphBuilder::new(state())
        .node("a", adds("a", 1))
        .node("b", adds("b", 10))
        .node("c", adds("c", 100))
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", "c")
        .edge("c", END)
        .build()
        .expect("no fault")
}

async fn history(graph: &Graph<Channels>, store: &LogStore, run_id: &str) -> Vec<Checkpoint> {
    random::all_checkpoints(graph, store, &scope(), run_id, 100).await
}

/// Source, step, who wrote, who is next; oldest first.
fn lines(history: &[Checkpoint]) -> Vec<String> {
    let words = history.iter().rev().map(|place| {
        let source = match &place.source {
            CheckpointSource::Fork { run_id, seq } => format!("fork of {run_id} {seq}"),
            source => serde_json::to_value(source).expect("plain")["source"]
                .as_str()
                .expect("a word")
                .to_owned(),
        };
        format!(
            "{} {source} [{}] > [{}]",
            place.step,
            place.nodes.join(" "),
            place.next.join(" ")
        )
    });
    words.collect()
}

async fn done(graph: &Graph<Channels>, store: &Arc<LogStore>, run_id: &str) -> Channels {
    graph
        .run(state())
        .run_id(run_id)
        .store(store.clone())
        .await
        .expect("runs")
        .state
}

#[tokio::test]
async fn a_history_is_listed_newest_first_in_pages_with_who_wrote_and_who_is_next() {
    // Behaviour 47.
    let (graph, store) = (chain(), LogStore::new());
    done(&graph, &store, "r").await;
    let all = history(&graph, &store, "r").await;
    assert_eq!(
        lines(&all),
        [
            "0 input [] > [a]",
            "1 step [a] > [b]",
            "2 step [b] > [c]",
            "3 step [c] > []"
        ]
    );
    assert!(
        all.windows(2)
            .all(|two| two[0].seq > two[1].seq && two[0].at_ms >= two[1].at_ms)
    );
    let bytes: usize = all
        .iter()
        .map(|place| usize::try_from(place.bytes).expect("small"))
        .sum();
    let end = store.records("r").last().expect("an end").body.len();
    assert_eq!(
        bytes,
        store.bytes("r") - end,
        "each record belongs to one checkpoint"
    );
    for limit in 1..5 {
        let paged = random::all_checkpoints(&graph, &*store, &scope(), "r", limit).await;
        assert_eq!(paged, all);
    }
    let text = serde_json::to_string(&all).expect("plain data");
    assert_eq!(
        serde_json::from_str::<Vec<Checkpoint>>(&text).expect("reads back"),
        all
    );
    let wrong = graph
        .history(&*store, &scope(), "r", PageRequest::after("x", 3))
        .await;
    assert_eq!(wrong.expect_err("no page").code(), "invalid_input");
    let none = graph
        .history(&*store, &scope(), "none", PageRequest::default())
        .await;
    assert_eq!(none.expect_err("no run").code(), "not_found");
}

#[tokio::test]
async fn at_the_step_limit_the_last_checkpoint_is_the_last_state_that_was_told() {
    // Behaviour 18.
    let graph = GraphBuilder::new(state())
        .node("loop", adds("x", 1))
        .edge(START, "loop")
        .route(
            "loop",
            |state: &Channels| if sum(state) < 5 { "loop" } else { END },
            ["loop", END],
        )
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let mut stream = graph
        .run(state())
        .run_id("r")
        .store(store.clone())
        .step_limit(3)
        .values()
        .stream();
    let mut told = None;
    while let Some(event) = stream.next().await {
        if let EventKind::StepEnd { values } = event.kind {
            told = values;
        }
    }
    let last = history(&graph, &store, "r").await.remove(0);
    assert_eq!(last.failure.as_ref().expect("told").code, "step_limit");
    let view = graph
        .state_at(&*store, &scope(), "r", last.seq)
        .await
        .expect("a state");
    assert_eq!(Some(view.state.save().expect("plain")), told);
    let ended = graph
        .resume("r")
        .store(store.clone())
        .step_limit(10)
        .await
        .expect("goes on");
    assert_eq!(sum(&ended.state), 5);
}

#[tokio::test]
async fn a_broken_step_shows_its_writes_at_the_head_only_and_failing_again_makes_no_checkpoint() {
    // Behaviours 19 and 20.
    let (fails, runs) = (Arc::new(AtomicU32::new(2)), Arc::default());
    let (graph, store) = (partial(&fails, &runs), LogStore::new());
    let first = graph
        .run(state())
        .run_id("r")
        .store(store.clone())
        .outcome()
        .await;
    assert_eq!((sum(&first.state), first.status), (1, RunStatus::Failed));
    let before = history(&graph, &store, "r").await;
    assert_eq!(lines(&before), ["0 input [] > [a b]"]);
    let failure = before[0].failure.as_ref().expect("told");
    assert!(failure.message.contains("`b`"), "{failure:?}");
    let view = graph.view(&*store, &scope(), "r").await.expect("a view");
    assert_eq!(
        (sum(&view.state), view.next, view.finished),
        (1, vec!["b".to_owned()], vec!["a".to_owned()])
    );
    let head = store.records("r").len() as u64;
    let at_head = graph
        .state_at(&*store, &scope(), "r", head)
        .await
        .expect("a state");
    assert_eq!(sum(&at_head.state), 1, "applied at the head");
    let at = graph
        .state_at(&*store, &scope(), "r", before[0].seq)
        .await
        .expect("a state");
    assert_eq!(
        (sum(&at.state), at.next),
        (0, vec!["a".to_owned(), "b".to_owned()])
    );
    assert!(
        graph.resume("r").store(store.clone()).await.is_err(),
        "b fails again"
    );
    let after = history(&graph, &store, "r").await;
    assert_eq!(after, before, "no new checkpoint");
    let done = graph.resume("r").store(store.clone()).await.expect("b may now");
    assert_eq!((sum(&done.state), runs.load(Ordering::SeqCst)), (6, 1));
}

#[tokio::test]
async fn a_fresh_input_after_a_failure_is_a_new_input_checkpoint_and_history_tells_the_failure() {
    // Behaviour 21.
    let (fails, runs) = (Arc::new(AtomicU32::new(1)), Arc::default());
    let (graph, store) = (partial(&fails, &runs), LogStore::new());
    assert!(graph.run(state()).run_id("r").store(store.clone()).await.is_err());
    let turn = graph
        .turn("r", ChannelsUpdate::new().set("sum", 100))
        .store(store.clone());
    assert_eq!(sum(&turn.await.expect("runs").state), 1 + 100 + 6);
    let all = history(&graph, &store, "r").await;
    assert_eq!(
        lines(&all),
        [
            "0 input [] > [a b]",
            "0 input [a] > [a b]",
            "1 step [a b] > [c]",
            "2 step [c] > []"
        ]
    );
    assert_eq!(all[3].failure.as_ref().expect("told").code, "node_failed");
    assert!(all[..3].iter().all(|place| place.failure.is_none()));
}

#[tokio::test]
async fn a_fork_of_an_old_checkpoint_written_as_a_node_has_that_value_and_the_later_nodes_only() {
    // Behaviour 22.
    let (graph, store) = (chain(), LogStore::new());
    done(&graph, &store, "r").await;
    let all = history(&graph, &store, "r").await;
    let before_a = all.last().expect("the input").seq;
    graph
        .fork(&*store, &scope(), "r", before_a, "f")
        .await
        .expect("forks");
    let seq = graph
        .update_state(
            &*store,
            &scope(),
            "f",
            ChannelsUpdate::new().set("sum", 20),
            Some("a"),
        )
        .await
        .expect("changes");
    let view = graph
        .state_at(&*store, &scope(), "f", seq)
        .await
        .expect("a state");
    assert_eq!((sum(&view.state), view.next), (20, vec!["b".to_owned()]));
    let forked = graph.resume("f").store(store.clone()).await.expect("goes on");
    assert_eq!(sum(&forked.state), 20 + 10 + 100);
    assert_eq!(forked.state.get("log").expect("written"), json!(["b", "c"]));
    assert_eq!(
        lines(&history(&graph, &store, "f").await),
        [
            "0 input [] > [a]".to_owned(),
            format!("0 fork of r {before_a} [] > [a]"),
            "1 edit [a] > [b]".to_owned(),
            "2 step [b] > [c]".to_owned(),
            "3 step [c] > []".to_owned(),
        ]
    );
}

#[tokio::test]
async fn what_a_broken_step_had_finished_stays_behind_a_fork_before_it() {
    let (fails, runs) = (Arc::new(AtomicU32::new(1)), Arc::default());
    let (graph, store) = (partial(&fails, &runs), LogStore::new());
    assert!(graph.run(state()).run_id("r").store(store.clone()).await.is_err());
    let input = history(&graph, &store, "r").await[0].seq;
    graph
        .fork(&*store, &scope(), "r", input, "f")
        .await
        .expect("forks");
    let forked = graph.resume("f").store(store.clone()).await.expect("runs");
    assert_eq!(
        (sum(&forked.state), runs.load(Ordering::SeqCst)),
        (6, 2),
        "a ran again, in the fork"
    );
    let resumed = graph.resume("r").store(store.clone()).await.expect("runs");
    assert_eq!(
        (sum(&resumed.state), runs.load(Ordering::SeqCst)),
        (6, 2),
        "and not in the run"
    );
    for (at, code) in [
        (1, "invalid_input"),
        (3, "invalid_input"),
        (99, "not_found"),
        (0, "not_found"),
    ] {
        let error = graph
            .fork(&*store, &scope(), "r", at, "x")
            .await
            .expect_err("no checkpoint");
        assert_eq!(error.code(), code, "{at}: {error}");
        let error = graph
            .state_at(&*store, &scope(), "r", at)
            .await
            .expect_err("no checkpoint");
        assert_eq!(error.code(), code, "{at}: {error}");
    }
    let taken = graph.fork(&*store, &scope(), "r", input, "f").await;
    assert_eq!(taken.expect_err("exists").code(), "conflict");
}

#[tokio::test]
async fn a_replay_from_the_last_checkpoint_runs_nothing_and_from_an_earlier_one_the_rest() {
    // Behaviour 23.
    let runs = Arc::new(AtomicU32::new(0));
    let (graph, store) = (partial(&Arc::default(), &runs), LogStore::new());
    let whole = done(&graph, &store, "r").await;
    let all = history(&graph, &store, "r").await;
    let before = store.records("r");
    let replay = graph
        .replay(store.clone(), &scope(), "r", all[0].seq, "last")
        .await
        .expect("forks");
    let same = replay.await.expect("done");
    assert_eq!(
        (sum(&same.state), runs.load(Ordering::SeqCst), same.steps),
        (sum(&whole), 1, 2)
    );
    let replay = graph
        .replay(store.clone(), &scope(), "r", all[2].seq, "first")
        .await
        .expect("forks");
    assert_eq!(sum(&replay.await.expect("runs").state), sum(&whole));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(store.records("r"), before);
}

#[tokio::test]
async fn two_forks_of_one_checkpoint_do_not_affect_each_other() {
    // Behaviour 24.
    let (graph, store) = (chain(), LogStore::new());
    done(&graph, &store, "r").await;
    let after_a = history(&graph, &store, "r").await[2].seq;
    for (fork, number) in [("one", 1_000), ("two", 2_000)] {
        graph
            .fork(&*store, &scope(), "r", after_a, fork)
            .await
            .expect("forks");
        let update = ChannelsUpdate::new().set("sum", number);
        graph
            .update_state(&*store, &scope(), fork, update, None)
            .await
            .expect("changes");
    }
    for (run, total) in [("one", 1_111), ("two", 2_111), ("r", 111)] {
        let ended = graph.resume(run).store(store.clone()).await.expect("goes on");
        assert_eq!(sum(&ended.state), total, "{run}");
    }
    assert!(graph.delete(&*store, &scope(), "r").await.expect("deletes"));
    assert!(!graph.delete(&*store, &scope(), "r").await.expect("is gone"));
    assert_eq!(
        sum(&graph.view(&*store, &scope(), "one").await.expect("stays").state),
        1_111
    );
}

#[tokio::test]
async fn a_run_told_from_its_inputs_and_writes_has_the_history_of_one_that_ran() {
    // Behaviour 25.
    let (graph, store) = (partial(&Arc::default(), &Arc::default()), LogStore::new());
    let input = ChannelsUpdate::new().set("plain", "x");
    graph
        .run_input(input.clone())
        .run_id("ran")
        .store(store.clone())
        .await
        .expect("runs");
    graph
        .turn("ran", input.clone())
        .store(store.clone())
        .await
        .expect("runs");
    let write = |name: &'static str, number| StateUpdate::new(added(name, number)).as_node(name);
    let turn = || {
        vec![
            vec![StateUpdate::new(input.clone()).as_node(START)],
            vec![write("b", 2), write("a", 1)],
            vec![write("c", 3)],
        ]
    };
    let steps = turn().into_iter().chain(turn()).collect();
    graph
        .update_states(&*store, &scope(), "told", steps)
        .await
        .expect("is written");
    let (ran, told) = (
        history(&graph, &store, "ran").await,
        history(&graph, &store, "told").await,
    );
    assert_eq!(ran.len(), told.len());
    for (ran, told) in ran.iter().zip(&told) {
        assert_eq!(
            (ran.step, &ran.nodes, &ran.next),
            (told.step, &told.nodes, &told.next)
        );
        let ran = graph
            .state_at(&*store, &scope(), "ran", ran.seq)
            .await
            .expect("a state");
        let told = graph
            .state_at(&*store, &scope(), "told", told.seq)
            .await
            .expect("a state");
        assert_eq!(
            ran.state.save().expect("plain"),
            told.state.save().expect("plain")
        );
    }
    let runs_nothing = graph.resume("told").store(store.clone()).await.expect("done");
    assert_eq!(runs_nothing.steps, 4);
}

#[tokio::test]
async fn who_wrote_last_is_inferred_where_it_was_one_and_told_where_it_was_several() {
    // Behaviour 26.
    let (graph, store) = (partial(&Arc::default(), &Arc::default()), LogStore::new());
    done(&graph, &store, "r").await;
    let all = history(&graph, &store, "r").await;
    let change = || ChannelsUpdate::new().set("sum", 50);
    graph
        .fork(&*store, &scope(), "r", all[1].seq, "both")
        .await
        .expect("forks");
    let before = store.records("both");
    let error = graph
        .update_state(&*store, &scope(), "both", change(), None)
        .await
        .expect_err("two wrote");
    assert_eq!(error.code(), "invalid_input");
    assert!(error.to_string().contains("a, b"), "{error}");
    for (node, code) in [("nobody", "not_found"), ("a", "")] {
        let changed = graph
            .update_state(&*store, &scope(), "both", change(), Some(node))
            .await;
        assert_eq!(changed.err().map_or("", |error| error.code()), code);
    }
    assert!(store.records("both").starts_with(&before));
    // c wrote last; a pruned run tells it as long as it is left.
    graph
        .update_state(&*store, &scope(), "r", change(), None)
        .await
        .expect("c wrote last");
    assert_eq!(
        lines(&history(&graph, &store, "r").await).last().expect("one"),
        "3 edit [c] > []"
    );
    graph
        .prune(&*store, &scope(), "r", Keep::Latest)
        .await
        .expect("prunes");
    let error = graph
        .update_state(&*store, &scope(), "r", change(), None)
        .await
        .expect_err("pruned");
    assert_eq!(error.code(), "invalid_input");
    // Before any node ran it is the input.
    graph
        .fork(&*store, &scope(), "both", 2, "input")
        .await
        .expect("forks");
    graph
        .update_state(&*store, &scope(), "input", change(), None)
        .await
        .expect("an input");
    assert_eq!(
        lines(&history(&graph, &store, "input").await)
            .last()
            .expect("one"),
        "0 input [] > [a b]"
    );
    for steps in [vec![], vec![vec![]]] {
        let nothing = graph.update_states(&*store, &scope(), "both", steps).await;
        assert_eq!(nothing.expect_err("nothing").code(), "invalid_input");
    }
}

#[tokio::test]
async fn a_person_gives_the_result_of_a_failed_node_and_the_step_ends_with_what_had_finished() {
    let (fails, runs) = (Arc::new(AtomicU32::new(9)), Arc::default());
    let (graph, store) = (partial(&fails, &runs), LogStore::new());
    assert!(graph.run(state()).run_id("r").store(store.clone()).await.is_err());
    graph.copy(&*store, &scope(), "r", "other").await.expect("copies");
    graph
        .update_state(&*store, &scope(), "r", added("by hand", 1_000), Some("b"))
        .await
        .expect("changes");
    let ended = graph.resume("r").store(store.clone()).await.expect("goes on");
    assert_eq!(
        ended.state.get("log").expect("written"),
        json!(["a", "by hand", "c"])
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(
        lines(&history(&graph, &store, "r").await),
        ["0 input [] > [a b]", "1 edit [a b] > [c]", "2 step [c] > []"]
    );
    // As any other node: the broken step is given up, what it had finished is folded.
    graph
        .update_state(&*store, &scope(), "other", added("instead", 1), Some("c"))
        .await
        .expect("changes");
    let ended = graph
        .resume("other")
        .store(store.clone())
        .await
        .expect("nothing is left");
    assert_eq!(ended.state.get("log").expect("written"), json!(["a", "instead"]));
    // To the end at once.
    graph
        .fork(&*store, &scope(), "r", 2, "short")
        .await
        .expect("forks");
    graph
        .update_state(&*store, &scope(), "short", added("no more", 1), Some(END))
        .await
        .expect("changes");
    let ended = graph
        .resume("short")
        .store(store.clone())
        .await
        .expect("nothing is left");
    assert_eq!(ended.state.get("log").expect("written"), json!(["no more"]));
}

#[tokio::test]
async fn an_update_that_does_not_fit_or_comes_while_the_run_goes_on_writes_nothing() {
    let (graph, store) = (chain(), LogStore::new());
    done(&graph, &store, "r").await;
    let before = store.records("r");
    let wrong = ChannelsUpdate::new().set("sum", "words");
    let error = graph
        .update_state(&*store, &scope(), "r", wrong, Some("a"))
        .await
        .expect_err("no number");
    assert_eq!(error.code(), "invalid_update");
    let two = ["a", "b"].map(|node| StateUpdate::new(ChannelsUpdate::new().set("plain", 1)).as_node(node));
    let error = graph
        .update_states(&*store, &scope(), "r", vec![two.to_vec()])
        .await
        .expect_err("two writers");
    assert_eq!(error.code(), "invalid_update");
    let good = vec![StateUpdate::new(added("x", 1)).as_node("a")];
    let mixed = vec![good.clone(), two.to_vec()];
    assert!(graph.update_states(&*store, &scope(), "r", mixed).await.is_err());
    assert_eq!(store.records("r"), before, "not even the first step");
    let scope = scope();
    let (one, two) = tokio::join!(
        graph.update_states(&*store, &scope, "r", vec![good.clone()]),
        graph.update_states(&*store, &scope, "r", vec![good]),
    );
    let codes = [one.err(), two.err()].map(|error| error.map(|error| error.code()));
    assert!(
        codes.contains(&None) && codes.contains(&Some("conflict")),
        "{codes:?}"
    );
}

/// Asks twice, one after the other, and memoises before.
struct Asks(Arc<AtomicU32>);

#[async_trait]
impl Node<Channels> for Asks {
    async fn run(&self, _: &Channels, cx: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
        let paid: u32 = cx
            .step("pay", async {
                Ok::<_, NodeError>(self.0.fetch_add(1, Ordering::SeqCst))
            })
            .await?;
        let first: String = cx.ask("first", json!({})).await?;
        let second: String = cx.ask("second", json!({ "first": first })).await?;
        Ok(added(&format!("{paid} {first} {second}"), 1).into())
    }
}

fn asking(paid: &Arc<AtomicU32>) -> Graph<Channels> {
    let inner = || {
        GraphBuilder::new(state())
            .node("asks", Asks(Arc::clone(paid)))
            .edge(START, "asks")
            .edge("asks", END)
            .build()
            .expect("no fault")
    };
    let enter = |_: &Channels, _: &RunContext| Ok(ChannelsUpdate::new());
    let leave = |inner: Channels| Ok(ChannelsUpdate::new().set("log", inner.get("log")?));
    GraphBuilder::new(state())
        .node("first", adds("first", 1))
        .node("plain", Asks(Arc::clone(paid)))
        .node("nested", Subgraph::new(inner(), enter, leave).persistent())
        .node("quick", adds("quick", 1))
        .edge(START, "first")
        .edge("first", "plain")
        .edge("first", "nested")
        .edge("first", "quick")
        .edge("plain", END)
        .edge("nested", END)
        .edge("quick", END)
        .build()
        .expect("no fault")
}

#[tokio::test]
async fn a_paused_run_is_pruned_to_its_place_with_its_questions_answers_memos_and_what_had_finished() {
    // Behaviour 48.
    let paid = Arc::new(AtomicU32::new(0));
    let (graph, store) = (asking(&paid), LogStore::new());
    let paused = graph
        .run(state())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("pauses");
    let ids: Vec<String> = paused
        .questions
        .iter()
        .map(|question| question.id.clone())
        .collect();
    assert_eq!(ids.len(), 2);
    graph
        .resume("r")
        .store(store.clone())
        .answer(&ids[0], "one")
        .await
        .expect("pauses again");
    let before = graph.view(&*store, &scope(), "r").await.expect("a view");
    let gone = graph
        .prune(&*store, &scope(), "r", Keep::Latest)
        .await
        .expect("prunes");
    assert!(gone > 0);
    assert_eq!(store.kinds("r")[0], "snapshot");
    let view = graph.view(&*store, &scope(), "r").await.expect("a view");
    assert_eq!(view.questions, before.questions);
    assert_eq!(
        (view.status, view.pause, view.finished),
        (before.status, before.pause, before.finished)
    );
    assert_eq!(
        view.state.save().expect("plain"),
        before.state.save().expect("plain")
    );
    assert_eq!(
        lines(&history(&graph, &store, "r").await),
        ["1 snapshot [] > [plain nested quick]"]
    );
    assert_eq!(
        graph
            .prune(&*store, &scope(), "r", Keep::Latest)
            .await
            .expect("nothing more"),
        0
    );
    let none = graph.prune(&*store, &scope(), "r", Keep::Last(0)).await;
    assert_eq!(none.expect_err("keeps nothing").code(), "invalid_input");
    let mut open = view.questions;
    while !open.is_empty() {
        let mut run = graph.resume("r").store(store.clone());
        for question in &open {
            run = run.answer(&question.id, "more");
        }
        open = run.await.expect("goes on").questions;
    }
    assert_eq!(
        paid.load(Ordering::SeqCst),
        2,
        "what was memoised is not done again"
    );
    let ended = graph.view(&*store, &scope(), "r").await.expect("a view");
    let log = ended.state.get("log").expect("written").to_string();
    assert!(log.contains("one more") && log.contains("more more"), "{log}");
}

#[tokio::test]
async fn an_answer_with_an_update_is_a_checkpoint_in_the_middle_of_its_step() {
    let paid = Arc::new(AtomicU32::new(0));
    let (graph, store) = (asking(&paid), LogStore::new());
    let paused = graph
        .run(state())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("pauses");
    graph
        .resume("r")
        .store(store.clone())
        .with_update(ChannelsUpdate::new().set("sum", 70))
        .answer(&paused.questions[0].id, "x")
        .await
        .expect("pauses again");
    let all = history(&graph, &store, "r").await;
    assert_eq!(
        lines(&all),
        [
            "0 input [] > [first]",
            "1 step [first] > [plain nested quick]",
            "1 edit [] > [plain nested quick]"
        ]
    );
    let at = graph
        .state_at(&*store, &scope(), "r", all[0].seq)
        .await
        .expect("a state");
    assert_eq!(sum(&at.state), 71, "the change, and nothing that had finished");
    graph
        .prune(&*store, &scope(), "r", Keep::Latest)
        .await
        .expect("prunes");
    assert_eq!(
        history(&graph, &store, "r").await.len(),
        2,
        "the place before it stays: its step begins there"
    );
    let view = graph.view(&*store, &scope(), "r").await.expect("a view");
    assert_eq!(sum(&view.state), 72);
}

#[tokio::test]
async fn a_long_run_reads_back_from_its_snapshot_from_before_it_and_from_a_fork_alike() {
    // Behaviour 46.
    let graph = GraphBuilder::new(state())
        .node(
            "say",
            node_sync(|state: &Channels, _: &RunContext| {
                let line = format!("{} {}", sum(state), "x".repeat(8_000));
                Ok(ChannelsUpdate::new().set("log", [line]).set("sum", 1))
            }),
        )
        .edge(START, "say")
        .route(
            "say",
            |state: &Channels| if sum(state) < 250 { "say" } else { END },
            ["say", END],
        )
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let mut stream = graph
        .run(state())
        .run_id("r")
        .store(store.clone())
        .step_limit(300)
        .values()
        .stream();
    let mut values = vec![state().save().expect("plain")];
    while let Some(event) = stream.next().await {
        if let EventKind::StepEnd { values: Some(told) } = event.kind {
            values.push(told);
        }
    }
    let snapshots = store
        .kinds("r")
        .iter()
        .filter(|kind| **kind == "snapshot")
        .count();
    assert!((2..6).contains(&snapshots), "{snapshots} snapshots");
    let all = history(&graph, &store, "r").await;
    assert_eq!(all.len(), 251, "a snapshot of a step is no place of its own");
    assert_eq!(
        random::all_checkpoints(&graph, &*store, &scope(), "r", 7).await,
        all
    );
    for place in all.iter().step_by(23) {
        let view = graph
            .state_at(&*store, &scope(), "r", place.seq)
            .await
            .expect("a state");
        assert_eq!(view.state.save().expect("plain"), values[place.step as usize]);
    }
    let at = all.iter().find(|place| place.step == 101).expect("it was there");
    graph
        .fork(&*store, &scope(), "r", at.seq, "f")
        .await
        .expect("forks");
    let forked = graph
        .resume("f")
        .store(store.clone())
        .step_limit(300)
        .await
        .expect("goes on");
    assert_eq!(Some(&forked.state.save().expect("plain")), values.last());

    let size = graph.run_size(&*store, &scope(), "r").await.expect("a size");
    assert_eq!(
        (size.first_seq, size.records, size.snapshots),
        (1, size.last_seq, snapshots as u64)
    );
    assert_eq!(size.bytes, store.bytes("r") as u64);
    assert_eq!(
        size.kinds.iter().map(|(_, _, bytes)| bytes).sum::<u64>(),
        size.bytes
    );
    // A damaged snapshot: the records before it tell the same.
    let last = store
        .kinds("r")
        .iter()
        .rposition(|kind| *kind == "snapshot")
        .expect("one") as u64
        + 1;
    store.damage("r", last, 100, b'#');
    let view = graph.view(&*store, &scope(), "r").await.expect("reads past it");
    assert_eq!(Some(&view.state.save().expect("plain")), values.last());
    // Once they are pruned nothing does.
    store.prune(&scope(), "r", last).await.expect("prunes");
    let error = graph
        .view(&*store, &scope(), "r")
        .await
        .expect_err("nothing is left");
    assert_eq!(error.code(), "damaged");
    assert!(error.to_string().contains(&format!("record {last}")), "{error}");
}

#[tokio::test]
async fn checkpoints_of_random_runs_hold_what_they_promise() {
    let store: Arc<dyn RunStore> = LogStore::new();
    let seeds = if std::env::var_os("STEPWELL_LONG").is_some() {
        2_000
    } else {
        25
    };
    let mut checkpoints = 0;
    for seed in 0..seeds {
        checkpoints += random::checkpoints_hold(&store, seed).await;
    }
    assert!(
        checkpoints > seeds * 5,
        "the runs are too short to tell: {checkpoints}"
    );
}

#[tokio::test]
async fn saved_at_exit_a_run_is_there_when_it_ends_and_after_a_crash_only_its_start() {
    let steps: Arc<Mutex<Vec<usize>>> = Arc::default();
    let store = LogStore::new();
    let graph = |hangs: bool| {
        let (steps, store) = (Arc::clone(&steps), Arc::clone(&store));
        GraphBuilder::new(state())
            .node("a", adds("a", 1))
            .node(
                "b",
                node_sync(move |_: &Channels, _: &RunContext| {
                    steps.lock().expect("free").push(store.records("r").len());
                    Ok(added("b", 10))
                }),
            )
            .node("c", Waits(hangs))
            .edge(START, "a")
            .edge("a", "b")
            .edge("b", "c")
            .edge("c", END)
            .build()
            .expect("no fault")
    };
    let run = graph(true)
        .run(state())
        .run_id("r")
        .store(store.clone())
        .at_exit();
    let crashed = tokio::time::timeout(std::time::Duration::from_millis(50), run.outcome()).await;
    assert!(crashed.is_err(), "it hangs, and is dropped");
    assert_eq!(store.kinds("r"), ["start", "input"]);
    let ended = graph(false)
        .resume("r")
        .store(store.clone())
        .at_exit()
        .await
        .expect("runs");
    assert_eq!(sum(&ended.state), 111);
    assert_eq!(
        *steps.lock().expect("free"),
        [2, 3],
        "b ran twice; the run that went on had written that it does, and no more"
    );
    assert_eq!(
        lines(&history(&graph(false), &store, "r").await).len(),
        4,
        "the end brought all of it"
    );
}

struct Waits(bool);

#[async_trait]
impl Node<Channels> for Waits {
    async fn run(&self, _: &Channels, _: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
        if self.0 {
            std::future::pending::<()>().await;
        }
        Ok(added("c", 100).into())
    }
}

/// Hangs in its first call, which must not be made twice.
#[derive(Clone, Default)]
struct Charge(Arc<AtomicU32>);

impl Tool for Charge {
    const NAME: &'static str = "charge";
    const DESCRIPTION: &'static str = "Charges.";
    type Args = serde_json::Value;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default().effect(Effect::AtMostOnce)
    }

    async fn call(&self, _: serde_json::Value, _: &ToolContext) -> Result<String, ToolError> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Ok("charged".into())
    }
}

#[tokio::test]
async fn saved_at_exit_the_intent_of_an_at_most_once_call_is_written_before_it_and_the_call_never_repeated() {
    let charge = Charge::default();
    let model = Script::new(vec![
        vec![Part::tool_call("x", "charge", json!({}))],
        vec![Part::text("done", Origin::Model)],
    ]);
    let agent = Agent::new(model)
        .tool(charge.clone())
        .policy(AllowAll)
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let input = AgentState::add_messages(vec![Message::user("go")]);
    let run = agent
        .graph()
        .run_input(input)
        .run_id("r")
        .store(store.clone())
        .at_exit();
    let crashed = tokio::time::timeout(std::time::Duration::from_millis(50), run.outcome()).await;
    assert!(crashed.is_err(), "it hangs, and is dropped");
    assert_eq!(store.kinds("r").last(), Some(&"intent"));
    assert_eq!(
        store.sync_appends.load(Ordering::SeqCst),
        1,
        "it was safe before the call"
    );
    let ended = agent
        .graph()
        .resume("r")
        .store(store.clone())
        .at_exit()
        .await
        .expect("goes on");
    assert_eq!(charge.0.load(Ordering::SeqCst), 1);
    let told = ended.state.messages.iter().any(|message| {
        serde_json::to_string(message)
            .expect("plain")
            .contains("outcome is not known")
    });
    assert!(told, "the model is told");
}
