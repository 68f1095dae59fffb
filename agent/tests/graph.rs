//! The runner at its edges: spoilt and full journals, cancelling, streaming. What graphs promise is tested in the root crate's
//! `tests/graph`.

#![allow(clippy::items_after_statements)] // a node of one test stands in that test

mod support;

use futures::StreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use stepwell_agent::{
    Command, END, EventKind, Graph, MessageChange, Messages, NodeError, RunContext, START, State as _,
    node_sync,
};
use stepwell_core::{Cancel, Message, Scope, store::RunStatus};
use stepwell_macros::State;
use support::LogStore;

fn longest(slot: &mut String, update: String) {
    if update.len() > slot.len() {
        *slot = update;
    }
}

#[derive(Clone, Debug, Default, PartialEq, State)]
#[state(crate = "stepwell_agent")]
struct Board {
    plain: i64,
    words: Option<String>,
    #[state(append)]
    log: Vec<String>,
    #[state(add)]
    sum: i64,
    #[state(merge)]
    facts: BTreeMap<String, i64>,
    #[state(set)]
    seen: BTreeSet<i64>,
    #[state(messages)]
    messages: Messages,
    #[state(custom = longest)]
    best: String,
}

type Done = Result<Command<BoardUpdate>, NodeError>;

/// A node that writes its name into the log.
fn says(name: &'static str) -> impl stepwell_agent::Node<Board> {
    node_sync(move |_: &Board, _: &RunContext| Ok(BoardUpdate::log([name])))
}

fn log(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn waits(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

fn counter(limit: i64) -> Graph<Board> {
    Graph::builder()
        .node(
            "count",
            node_sync(|_: &Board, _: &RunContext| Ok(BoardUpdate::sum(1))),
        )
        .edge(START, "count")
        .route(
            "count",
            move |board: &Board| if board.sum < limit { "count" } else { END },
            ["count", END],
        )
        .build()
        .expect("no fault")
}

/// `a` ends well; `b` fails until it may not.
fn partial(fails: Arc<AtomicU32>, runs: Arc<AtomicU32>) -> Graph<Board> {
    Graph::builder()
        .node("a", Counted(Arc::clone(&runs)))
        .node("b", Failing(fails))
        .node(
            "c",
            node_sync(|_: &Board, _: &RunContext| Ok(BoardUpdate::sum(3).with_log(["c"]))),
        )
        .edge(START, "a")
        .edge(START, "b")
        .join(["a", "b"], "c")
        .edge("c", END)
        .build()
        .expect("no fault")
}

struct Counted(Arc<AtomicU32>);

#[async_trait::async_trait]
impl stepwell_agent::Node<Board> for Counted {
    async fn run(&self, _: &Board, _: &RunContext) -> Done {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(BoardUpdate::sum(1).with_log(["a"]).into())
    }
}

struct Failing(Arc<AtomicU32>);

#[async_trait::async_trait]
impl stepwell_agent::Node<Board> for Failing {
    async fn run(&self, _: &Board, _: &RunContext) -> Done {
        waits(5).await;
        if self.0.load(Ordering::SeqCst) > 0 {
            self.0.fetch_sub(1, Ordering::SeqCst);
            return Err(NodeError::new("not yet"));
        }
        Ok(BoardUpdate::sum(2).with_log(["b"]).into())
    }
}

#[tokio::test]
async fn an_update_that_does_not_fit_fails_the_step_and_its_nodes_run_again_on_resume() {
    let removes = Arc::new(AtomicU32::new(1));
    struct Remove(Arc<AtomicU32>);
    #[async_trait::async_trait]
    impl stepwell_agent::Node<Board> for Remove {
        async fn run(&self, _: &Board, _: &RunContext) -> Done {
            if self.0.swap(0, Ordering::SeqCst) > 0 {
                return Ok(BoardUpdate::messages([MessageChange::Remove("unknown".into())]).into());
            }
            Ok(BoardUpdate::messages([Message::user("hi").with_id("m")]).into())
        }
    }
    let graph = Graph::builder()
        .node("a", Remove(removes))
        .edge(START, "a")
        .edge("a", END)
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let first = graph.run(Board::default()).run_id("r").store(store.clone()).await;
    assert_eq!(first.expect_err("unknown id").code(), "invalid_update");
    let state = graph
        .resume("r")
        .store(store.clone())
        .await
        .expect("resumes")
        .state;
    assert_eq!(state.messages.len(), 1);
}

#[tokio::test]
async fn a_second_run_of_the_same_id_and_a_second_driver_are_refused_before_any_work() {
    let runs = Arc::new(AtomicU32::new(0));
    let graph = partial(Arc::default(), Arc::clone(&runs));
    let store = LogStore::new();
    graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("runs");
    let again = graph.run(Board::default()).run_id("r").store(store.clone()).await;
    assert_eq!(again.expect_err("exists").code(), "conflict");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    // Two resume at once: one goes on, the other is told.
    store.cut_after("r", 3);
    let (one, two) = tokio::join!(
        graph.resume("r").store(store.clone()).outcome(),
        graph.resume("r").store(store.clone()).outcome()
    );
    let codes = [one.error, two.error].map(|error| error.map(|error| error.code()));
    assert!(
        codes.contains(&None) && codes.contains(&Some("conflict")),
        "{codes:?}"
    );
}

#[tokio::test]
async fn a_missing_damaged_newer_or_foreign_journal_is_refused_with_its_own_error() {
    let store = LogStore::new();
    let graph = counter(3);
    let scope = Scope::local();
    assert_eq!(
        graph
            .resume("r")
            .store(store.clone())
            .await
            .expect_err("none")
            .code(),
        "not_found"
    );
    assert_eq!(
        graph.resume("r").await.expect_err("no store").code(),
        "invalid_input"
    );
    graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("runs");
    let elsewhere = Scope::new("other").expect("a name");
    assert_eq!(
        graph
            .view(&*store, &elsewhere, "r")
            .await
            .expect_err("not theirs")
            .code(),
        "not_found"
    );
    let other = partial(Arc::default(), Arc::default());
    assert_eq!(
        other
            .view(&*store, &scope, "r")
            .await
            .expect_err("another graph")
            .code(),
        "unsupported"
    );
    store.damage("r", 4, 20, b'#');
    let error = graph.view(&*store, &scope, "r").await.expect_err("spoilt");
    assert_eq!(error.code(), "damaged");
    assert!(error.to_string().contains("record 4"), "{error}");
    store.damage("r", 3, 0, 9);
    assert_eq!(
        graph.view(&*store, &scope, "r").await.expect_err("newer").code(),
        "unknown_version"
    );
}

#[tokio::test]
async fn a_full_disk_ends_the_run_with_its_error_and_what_was_kept_resumes() {
    for room in 0..6 {
        let store = LogStore::with_room(room);
        let graph = counter(8);
        let outcome = graph
            .run(Board::default())
            .run_id("r")
            .store(store.clone())
            .sync()
            .outcome()
            .await;
        assert_eq!(outcome.error.expect("no room").code(), "disk_full");
        if room > 0 {
            let view = graph.view(&*store, &Scope::local(), "r").await.expect("readable");
            assert!(view.state.sum <= outcome.state.sum);
        }
    }
}

#[tokio::test]
async fn a_long_run_is_snapshot_by_size_and_resumes_from_the_snapshot() {
    let graph = Graph::builder()
        .node(
            "say",
            node_sync(|_: &Board, _: &RunContext| {
                Ok(BoardUpdate::messages([Message::user("x".repeat(200))]).with_sum(1))
            }),
        )
        .edge(START, "say")
        .route(
            "say",
            |board: &Board| if board.sum < 3_000 { "say" } else { END },
            ["say", END],
        )
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let whole = graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .step_limit(5_000)
        .await
        .expect("runs");
    let kinds = store.kinds("r");
    let snapshots = kinds.iter().filter(|kind| **kind == "snapshot").count();
    assert!((1..4).contains(&snapshots), "{snapshots} snapshots");
    store.cut_after("r", kinds.len() - 100);
    let resumed = graph
        .resume("r")
        .store(store.clone())
        .step_limit(5_000)
        .await
        .expect("resumes");
    assert_eq!(resumed.state, whole.state);
}

#[tokio::test]
async fn cancelling_ends_the_run_at_once_and_it_can_be_resumed() {
    let store = LogStore::new();
    let release = Arc::new(tokio::sync::Notify::new());
    struct Wait(Arc<tokio::sync::Notify>);
    #[async_trait::async_trait]
    impl stepwell_agent::Node<Board> for Wait {
        async fn run(&self, _: &Board, _: &RunContext) -> Done {
            self.0.notified().await;
            Ok(BoardUpdate::log(["waited"]).into())
        }
    }
    let graph = Graph::builder()
        .node("quick", says("quick"))
        .node("wait", Wait(Arc::clone(&release)))
        .edge(START, "quick")
        .edge(START, "wait")
        .edge("quick", END)
        .edge("wait", END)
        .build()
        .expect("no fault");
    let cancel = Cancel::new();
    let run = graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .cancel(cancel.clone());
    let (outcome, ()) = tokio::join!(run.outcome(), async {
        waits(20).await;
        cancel.cancel();
    });
    assert_eq!(outcome.status, RunStatus::Cancelled);
    assert_eq!(
        (outcome.state.log, outcome.next),
        (log(&["quick"]), log(&["wait"]))
    );
    release.notify_one();
    let ended = graph.resume("r").store(store.clone()).await.expect("resumes");
    assert_eq!(ended.state.log, log(&["quick", "waited"]));
}

#[tokio::test]
async fn a_stream_tells_steps_nodes_updates_and_the_end_in_order_and_dropping_it_stops_the_run() {
    // Behaviour 44 for the failure.
    let graph = partial(Arc::new(AtomicU32::new(1)), Arc::default());
    let mut stream = graph.run(Board::default()).values().stream();
    let events: Vec<_> = stream.by_ref().collect().await;
    let outcome = stream.take_result().expect("it ended");
    assert!(outcome.error.is_some());
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>());
    let words: Vec<String> = events
        .iter()
        .map(|event| {
            let kind = serde_json::to_value(event).expect("plain data")["type"].clone();
            format!(
                "{} {}",
                event.node.as_deref().unwrap_or("-"),
                kind.as_str().expect("a word")
            )
        })
        .collect();
    assert_eq!(
        words,
        [
            "- run_start",
            "- step_start",
            "a node_start",
            "a update",
            "a node_end",
            "b node_start",
            "b node_end",
            "- run_end"
        ]
    );
    assert!(
        matches!(&events[6].kind, EventKind::NodeEnd { failure: Some(failure) } if failure.code == "node_failed")
    );
    assert!(matches!(
        &events[7].kind,
        EventKind::RunEnd {
            status: RunStatus::Failed,
            ..
        }
    ));
    for event in &events {
        let text = serde_json::to_string(event).expect("plain data");
        assert_eq!(*event, serde_json::from_str(&text).expect("reads back"));
    }
    let store = LogStore::new();
    let graph = partial(Arc::default(), Arc::default());
    let mut stream = graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .stream();
    let _ = stream.next().await;
    drop(stream);
    waits(50).await;
    assert!(
        !store.kinds("r").contains(&"end"),
        "nothing goes on behind a dropped stream"
    );
    let graph = counter(2);
    let mut stream = graph.run(Board::default()).values().stream();
    let mut sums = Vec::new();
    while let Some(event) = stream.next().await {
        if let EventKind::StepEnd { values: Some(values) } = event.kind {
            sums.push(values["sum"].clone());
        }
    }
    assert_eq!(sums, [1, 2]);
    assert_eq!(stream.finish().await.expect("ended").state.sum, 2);
}

#[test]
fn a_typed_update_and_state_survive_storage_and_name_their_keys() {
    let mut board = Board::default();
    let update = BoardUpdate::plain(3)
        .with_words("hi".to_owned())
        .with_log(["a"])
        .with_facts([("x".to_owned(), 1)].into_iter().collect::<BTreeMap<_, _>>())
        .with_seen([2, 2])
        .with_best("best")
        .with_messages([Message::user("q").with_id("m")]);
    let text = serde_json::to_string(&update).expect("plain data");
    board
        .apply(serde_json::from_str(&text).expect("reads back"))
        .expect("fits");
    let back = Board::default()
        .restore(board.save().expect("plain data"))
        .expect("reads back");
    assert_eq!(back, board);
    assert_eq!(board.words.as_deref(), Some("hi"));
    let keys: Vec<String> = board
        .channels()
        .into_iter()
        .map(|channel| format!("{}:{}", channel.key, channel.reducer))
        .collect();
    assert_eq!(
        keys,
        [
            "plain:last",
            "words:last",
            "log:append",
            "sum:add",
            "facts:merge",
            "seen:set",
            "messages:messages",
            "best:custom:longest"
        ]
    );
}
