//! Behaviours of the graph runner, on a typed state and on channels. Numbers refer to the project's conformance list.

#![allow(clippy::items_after_statements)] // a node of one test stands in that test

mod support;

use futures::StreamExt;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use stepwell_agent::{
    Channels, ChannelsUpdate, Command, END, EventKind, Graph, GraphBuilder, MessageChange, Messages,
    NodeError, Reducer, RunContext, START, State as _, node_fn, node_sync,
};
use stepwell_core::{Cancel, Error, Message, Scope, store::RunStatus};
use stepwell_macros::State;
use support::{LogStore, Seeded};

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

#[test]
fn every_fault_of_a_graph_is_told_at_once() {
    // Behaviour 1.
    let error = Graph::<Board>::builder()
        .node("a", says("a"))
        .node("a", says("a"))
        .node("lost", says("lost"))
        .node("cycle", says("cycle"))
        .node(END, says("end"))
        .edge("a", "nowhere")
        .edge("a", "cycle")
        .edge("cycle", "cycle")
        .edge("ghost", "a")
        .route("a", |_: &Board| END, Vec::<String>::new())
        .build()
        .expect_err("many faults");
    let Error::InvalidGraph { faults } = &error else {
        panic!("{error}")
    };
    for needed in [
        "two nodes are named `a`",
        "`__end__` cannot be the name of a node",
        "there is no node `nowhere`",
        "there is no node `ghost`",
        "nothing leaves START",
        "node `lost` leads nowhere",
        "node `lost` cannot be reached",
        "from node `cycle` the end cannot be reached",
        "the route from `a` declares no target",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(needed)),
            "{needed} is missing in {faults:#?}"
        );
    }
    assert_eq!(error.code(), "invalid_graph");
}

#[tokio::test]
async fn two_writers_of_a_plain_key_are_an_error_that_names_key_and_nodes_even_for_equal_values() {
    // Behaviour 2.
    let one = || node_sync(|_: &Board, _: &RunContext| Ok(BoardUpdate::plain(1)));
    let graph = Graph::builder()
        .node("left", one())
        .node("right", one())
        .edge(START, "left")
        .edge(START, "right")
        .edge("left", END)
        .edge("right", END)
        .build()
        .expect("no fault");
    let outcome = graph.run(Board::default()).outcome().await;
    let error = outcome.error.expect("two writers");
    assert_eq!(error.code(), "invalid_update");
    for word in ["`plain`", "`left`", "`right`"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(outcome.state, Board::default());
}

#[tokio::test]
async fn an_input_is_reduced_into_the_blank_state() {
    // Behaviour 3.
    let graph = Graph::builder()
        .node("a", says("a"))
        .edge(START, "a")
        .edge("a", END)
        .build()
        .expect("no fault");
    let input = BoardUpdate::log(["given"]).with_sum(5);
    let state = graph.run_input(input).await.expect("runs").state;
    assert_eq!((state.log, state.sum), (log(&["given", "a"]), 5));
}

#[tokio::test]
async fn several_updates_of_one_node_are_applied_in_order() {
    // Behaviour 4.
    let graph = Graph::builder()
        .node(
            "a",
            node_sync(|_: &Board, _: &RunContext| {
                Ok(Command::update(BoardUpdate::plain(1).with_log(["1"]))
                    .and(BoardUpdate::plain(2))
                    .and(BoardUpdate::log(["2"])))
            }),
        )
        .edge(START, "a")
        .edge("a", END)
        .build()
        .expect("no fault");
    let state = graph.run(Board::default()).await.expect("runs").state;
    assert_eq!((state.plain, state.log), (2, log(&["1", "2"])));
}

#[tokio::test]
async fn an_overwrite_beats_the_appends_of_its_step_and_a_later_step_appends_to_it() {
    // Behaviours 5 and 6.
    let graph = Graph::builder()
        .node("before", says("before"))
        .node("append", says("lost"))
        .node(
            "overwrite",
            node_sync(|_: &Board, _: &RunContext| {
                Ok(BoardUpdate::default().overwrite_log(vec!["new".to_owned()]))
            }),
        )
        .node("zappend", says("lost too"))
        .node("after", says("after"))
        .edge(START, "before")
        .edge("before", "append")
        .edge("before", "overwrite")
        .edge("before", "zappend")
        .join(["append", "overwrite", "zappend"], "after")
        .edge("after", END)
        .build()
        .expect("no fault");
    let state = graph.run(Board::default()).await.expect("runs").state;
    assert_eq!(state.log, log(&["new", "after"]));
}

#[tokio::test]
async fn two_overwrites_in_one_step_are_an_error() {
    let over = |name: &'static str| {
        node_sync(move |_: &Board, _: &RunContext| {
            Ok(BoardUpdate::default().overwrite_log(vec![name.to_owned()]))
        })
    };
    let graph = Graph::builder()
        .node("a", over("a"))
        .node("b", over("b"))
        .edge(START, "a")
        .edge(START, "b")
        .edge("a", END)
        .edge("b", END)
        .build()
        .expect("no fault");
    let error = graph.run(Board::default()).await.expect_err("two overwrites");
    assert!(
        error.to_string().contains("`log`") && error.to_string().contains("overwrote"),
        "{error}"
    );
}

#[tokio::test]
async fn a_route_may_choose_several_targets_which_run_in_one_step() {
    // Behaviours 9 and 10.
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("b", says("b"))
        .node("c", says("c"))
        .route(
            START,
            |board: &Board| if board.plain == 7 { "c" } else { "a" },
            ["a", "c"],
        )
        .route("a", |_: &Board| ["b", "c"], ["b", "c", END])
        .edge("b", END)
        .edge("c", END)
        .build()
        .expect("no fault");
    let all = graph.run(Board::default()).await.expect("runs");
    assert_eq!((all.state.log, all.steps), (log(&["a", "b", "c"]), 2));
    let seven = Board {
        plain: 7,
        ..Board::default()
    };
    assert_eq!(graph.run(seven).await.expect("runs").state.log, log(&["c"]));
}

#[tokio::test]
async fn a_goto_replaces_the_edges_and_one_to_the_end_ends_the_branch() {
    // Behaviour 16; the replacing rule is a decision of this project.
    let graph = Graph::builder()
        .node(
            "a",
            node_sync(|board: &Board, _: &RunContext| {
                let here = Command::update(BoardUpdate::log(["a"]));
                Ok(if board.plain == 0 {
                    here.with_goto("c")
                } else {
                    here.with_goto(END)
                })
            }),
        )
        .node("b", says("b"))
        .node("c", says("c"))
        .edge(START, "a")
        .edge("a", "b")
        .goto("a", ["c", END])
        .edge("b", END)
        .edge("c", END)
        .build()
        .expect("no fault");
    let state = graph.run(Board::default()).await.expect("runs").state;
    assert_eq!(state.log, log(&["a", "c"]));
    let ended = Board {
        plain: 1,
        ..Board::default()
    };
    assert_eq!(graph.run(ended).await.expect("runs").state.log, log(&["a"]));
}

#[tokio::test]
async fn a_goto_or_route_to_an_undeclared_node_is_an_error_that_names_it() {
    // Behaviour 15, for gotos.
    let graph = Graph::builder()
        .node(
            "a",
            node_sync(|_: &Board, _: &RunContext| Ok(Command::<BoardUpdate>::goto("nowhere"))),
        )
        .edge(START, "a")
        .edge("a", END)
        .build()
        .expect("no fault");
    let error = graph.run(Board::default()).await.expect_err("undeclared");
    assert!(error.to_string().contains("`nowhere`"), "{error}");
    let graph = Graph::builder()
        .node("a", says("a"))
        .route(START, |_: &Board| "b", ["a"])
        .edge("a", END)
        .build()
        .expect("no fault");
    assert!(graph.run(Board::default()).await.is_err());
}

async fn waits(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn updates_fold_in_declaration_order_whatever_order_the_nodes_end_in() {
    for seed in 0..60 {
        let mut random = Seeded(seed);
        let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
        let names = ["z", "m", "a", "k", "b", "y"];
        let mut builder = Graph::<Board>::builder()
            .node("start", says("start"))
            .edge(START, "start");
        for name in names {
            let (pauses, ended) = (random.below(20), Arc::clone(&ended));
            builder = builder
                .node(name, Slow { name, pauses, ended })
                .edge("start", name);
        }
        let graph = builder
            .join(names, "last")
            .node("last", says("last"))
            .edge("last", END)
            .build()
            .expect("no fault");
        let outcome = graph.run(Board::default()).await.expect("runs");
        assert_eq!(
            outcome.state.log,
            log(&["start", "z", "m", "a", "k", "b", "y", "last"]),
            "seed {seed}"
        );
        assert_eq!(outcome.state.best, "zz", "seed {seed}");
        if seed == 1 {
            assert_ne!(*ended.lock().expect("free"), names, "the seed permutes the ends");
        }
    }
}

struct Slow {
    name: &'static str,
    pauses: u64,
    ended: Arc<std::sync::Mutex<Vec<&'static str>>>,
}

#[async_trait::async_trait]
impl stepwell_agent::Node<Board> for Slow {
    async fn run(&self, _: &Board, _: &RunContext) -> Done {
        waits(self.pauses).await;
        self.ended.lock().expect("free").push(self.name);
        // Of the longest, the first folded stands: a reducer that is not commutative.
        Ok(BoardUpdate::log([self.name])
            .with_best(self.name.repeat(2))
            .into())
    }
}

#[tokio::test]
async fn siblings_read_the_same_state_and_never_each_others_writes() {
    let reads = || {
        node_fn(async |board: &Board, _: &RunContext| {
            waits(3).await;
            Ok(BoardUpdate::sum(1).with_log([format!("read {}", board.sum)]))
        })
    };
    let graph = Graph::builder()
        .node("a", reads())
        .node("b", reads())
        .edge(START, "a")
        .edge(START, "b")
        .edge("a", END)
        .edge("b", END)
        .build()
        .expect("no fault");
    let state = graph.run(Board::default()).await.expect("runs").state;
    assert_eq!((state.sum, state.log), (2, log(&["read 0", "read 0"])));
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

#[tokio::test]
async fn a_run_at_its_step_limit_is_an_error_and_goes_on_with_a_higher_one() {
    // Behaviour 18.
    let store = LogStore::new();
    let graph = counter(5);
    let stopped = graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .step_limit(3)
        .outcome()
        .await;
    assert_eq!(stopped.error.as_ref().map(Error::code), Some("step_limit"));
    assert_eq!(
        (stopped.state.sum, stopped.steps, stopped.next.clone()),
        (3, 3, log(&["count"]))
    );
    let view = graph.view(&*store, &Scope::local(), "r").await.expect("kept");
    assert_eq!(
        (view.state, view.steps, view.status),
        (stopped.state, 3, RunStatus::Failed)
    );
    let ended = graph
        .resume("r")
        .store(store.clone())
        .step_limit(10)
        .await
        .expect("goes on");
    assert_eq!((ended.state.sum, ended.steps), (5, 5));
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
async fn a_finished_sibling_of_a_failed_node_does_not_run_again() {
    // Behaviours 19 and 20.
    let (fails, runs) = (Arc::new(AtomicU32::new(2)), Arc::new(AtomicU32::new(0)));
    let graph = partial(Arc::clone(&fails), Arc::clone(&runs));
    let store = LogStore::new();
    let first = graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .outcome()
        .await;
    let error = first.error.expect("b fails");
    assert_eq!(error.code(), "node_failed");
    assert!(
        error.to_string().contains("`b`") && error.to_string().contains("not yet"),
        "{error}"
    );
    assert_eq!((first.state.sum, first.next), (1, log(&["b"])));
    let view = graph.view(&*store, &Scope::local(), "r").await.expect("kept");
    assert_eq!(
        (view.state.sum, view.next, view.finished),
        (1, log(&["b"]), log(&["a"]))
    );
    assert!(view.failure.expect("told").message.contains("`b`"));
    let second = graph.resume("r").store(store.clone()).await;
    assert!(second.is_err(), "b fails again");
    let third = graph.resume("r").store(store.clone()).await.expect("b may now");
    assert_eq!((third.state.sum, third.state.log), (6, log(&["a", "b", "c"])));
    assert_eq!(runs.load(Ordering::SeqCst), 1, "a ran once");
}

#[tokio::test]
async fn a_failing_node_cancels_a_running_sibling() {
    // Behaviour 33, second half.
    let dropped = Arc::new(AtomicU32::new(0));
    struct Guard(Arc<AtomicU32>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    struct Endless(Arc<AtomicU32>);
    #[async_trait::async_trait]
    impl stepwell_agent::Node<Board> for Endless {
        async fn run(&self, _: &Board, _: &RunContext) -> Done {
            let _guard = Guard(Arc::clone(&self.0));
            std::future::pending().await
        }
    }
    let graph = Graph::builder()
        .node("endless", Endless(Arc::clone(&dropped)))
        .node("failing", Failing(Arc::new(AtomicU32::new(1))))
        .edge(START, "endless")
        .edge(START, "failing")
        .edge("endless", END)
        .edge("failing", END)
        .build()
        .expect("no fault");
    assert!(graph.run(Board::default()).await.is_err());
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_in_a_node_or_a_route_is_an_error_of_the_run() {
    let graph = Graph::builder()
        .node(
            "bad",
            node_sync(|_: &Board, _: &RunContext| -> Result<BoardUpdate, NodeError> {
                panic!("secret words")
            }),
        )
        .edge(START, "bad")
        .edge("bad", END)
        .build()
        .expect("no fault");
    let error = graph.run(Board::default()).await.expect_err("panics");
    assert_eq!(error.code(), "node_failed");
    assert!(!error.to_string().contains("secret"), "{error}");
    let graph = Graph::builder()
        .node("a", says("a"))
        .edge(START, "a")
        .route("a", |_: &Board| -> &'static str { panic!("route") }, [END])
        .build()
        .expect("no fault");
    assert_eq!(
        graph.run(Board::default()).await.expect_err("panics").code(),
        "node_failed"
    );
}

#[tokio::test]
async fn a_done_run_resumed_gives_its_result_and_runs_nothing() {
    // Behaviour 23.
    let (fails, runs) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let graph = partial(fails, Arc::clone(&runs));
    let store = LogStore::new();
    let first = graph
        .run(Board::default())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("runs");
    let before = store.kinds("r");
    let again = graph
        .resume("r")
        .store(store.clone())
        .await
        .expect("done already");
    assert_eq!((again.state, again.status), (first.state, RunStatus::Done));
    assert_eq!(store.kinds("r"), before, "nothing is written");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_run_cut_after_any_record_resumes_to_the_same_state() {
    let build = || partial(Arc::default(), Arc::default());
    let whole = LogStore::new();
    let expected = build()
        .run(Board::default())
        .run_id("r")
        .store(whole.clone())
        .sync()
        .await
        .expect("runs")
        .state;
    let records = whole.records("r").len();
    assert_eq!(
        whole.kinds("r"),
        ["start", "input", "task", "task", "step", "task", "step", "end"]
    );
    for kept in 2..=records {
        let store = LogStore::new();
        let graph = build();
        graph
            .run(Board::default())
            .run_id("r")
            .store(store.clone())
            .await
            .expect("runs");
        store.cut_after("r", kept);
        let resumed = graph.resume("r").store(store.clone()).await.expect("resumes");
        assert_eq!(resumed.state, expected, "after record {kept}");
        assert_eq!(resumed.steps, 2);
    }
}

#[tokio::test]
async fn a_memoised_step_is_replayed_and_not_repeated() {
    let (charged, fails) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(1)));
    struct Pay(Arc<AtomicU32>, Arc<AtomicU32>);
    #[async_trait::async_trait]
    impl stepwell_agent::Node<Board> for Pay {
        async fn run(&self, _: &Board, cx: &RunContext) -> Done {
            let receipt: String = cx
                .step("charge", async {
                    let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                    Ok::<_, NodeError>(format!("receipt {number}"))
                })
                .await?;
            if self.1.swap(0, Ordering::SeqCst) > 0 {
                return Err(NodeError::new("the mailer is down"));
            }
            let twice: Result<String, _> = cx
                .step("charge", async { Ok::<_, NodeError>(String::new()) })
                .await;
            assert!(twice.is_err(), "a key is used once");
            Ok(BoardUpdate::log([receipt]).into())
        }
    }
    let graph = Graph::builder()
        .node("pay", Pay(Arc::clone(&charged), fails))
        .edge(START, "pay")
        .edge("pay", END)
        .build()
        .expect("no fault");
    let store = LogStore::new();
    let first = graph.run(Board::default()).run_id("r").store(store.clone()).await;
    assert!(first.is_err());
    let state = graph
        .resume("r")
        .store(store.clone())
        .await
        .expect("resumes")
        .state;
    assert_eq!(state.log, log(&["receipt 1"]));
    assert_eq!(charged.load(Ordering::SeqCst), 1);
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

#[tokio::test]
async fn channels_fold_by_the_same_engine_as_a_typed_state() {
    // Behaviours 2, 5, 6 and 9 on the dynamic twin.
    let state = Channels::new()
        .slot("log", Reducer::Append)
        .slot("sum", Reducer::Add)
        .slot("plain", Reducer::Last);
    let writes = |update: serde_json::Value| {
        node_sync(move |_: &Channels, _: &RunContext| Ok(ChannelsUpdate::from_json(update.clone())?))
    };
    let graph = |right: serde_json::Value| {
        GraphBuilder::new(state.clone())
            .node("first", writes(json!({ "log": ["first"] })))
            .node("left", writes(json!({ "log": ["left"], "sum": 1, "plain": 1 })))
            .node("right", writes(right))
            .edge(START, "first")
            .route("first", |_: &Channels| ["right", "left"], ["left", "right"])
            .edge("left", END)
            .edge("right", END)
            .build()
            .expect("no fault")
    };
    let run = async |right| graph(right).run(state.clone()).await;
    let ended = run(json!({ "log": ["right"], "sum": 2 }))
        .await
        .expect("runs")
        .state;
    assert_eq!(
        ended.get("log").expect("written"),
        json!(["first", "left", "right"])
    );
    assert_eq!(ended.get("sum").expect("written"), 3);
    let over = run(json!({ "log": { "$overwrite": ["over"] } }))
        .await
        .expect("runs")
        .state;
    assert_eq!(over.get("log").expect("written"), json!(["over"]));
    let error = run(json!({ "plain": 1 })).await.expect_err("two writers");
    assert!(error.to_string().contains("`plain`"), "{error}");
    let error = run(json!({ "unknown": 1 })).await.expect_err("no such key");
    assert!(error.to_string().contains("`unknown`"), "{error}");
    let store = LogStore::new();
    let graph = graph(json!({ "sum": 2 }));
    graph
        .run(state.clone())
        .run_id("c")
        .store(store.clone())
        .await
        .expect("runs");
    store.cut_after("c", 5);
    let resumed = graph.resume("c").store(store).await.expect("resumes").state;
    assert_eq!(resumed.get("sum").expect("written"), 3);
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
