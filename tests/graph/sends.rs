//! Sends: a node once for each of many inputs.

use crate::board::{Board, Slate, acts, chain, says, seeds, waits};
use serde_json::{Value, json};
use std::time::Duration;
use stepwell::agent::{Channels, Command, END, NodeOptions, RunContext, START, Send, Targets, node_sync};

/// A node that logs what it was sent, after so many turns as that says.
fn echo<S: Slate>(name: &'static str) -> impl stepwell::agent::Node<S> + 'static {
    acts(move |_: &S, cx: &RunContext| {
        Box::pin(async move {
            if !cx.has_input() {
                return Ok(S::says(name).into());
            }
            let number: u32 = cx.input()?;
            waits((number * 7) % 5).await;
            Ok(S::says(format!("{name}|{number}")).into())
        })
    })
}

/// Behaviour 13.
#[tokio::test]
async fn sends_fold_after_edges_by_emitter_and_place() {
    async fn check<S: Slate>() {
        let emits = |name: &'static str, numbers: [u32; 2]| {
            node_sync(move |_: &S, _: &RunContext| {
                let mut targets = Targets::default();
                for number in numbers {
                    targets = targets.and(Send::new("2", number)?);
                }
                Ok(Command::update(S::says(name)).with_goto(targets.and("3.1")))
            })
        };
        let graph = S::builder()
            .node("1", emits("1", [1, 2]))
            .node("1.1", emits("1.1", [3, 4]))
            .node("2", echo("2"))
            .node("3.1", says("3.1"))
            .node("3", says("3"))
            .edge(START, "1")
            .edge(START, "1.1")
            .goto("1", ["2", "3.1"])
            .goto("1.1", ["2", "3.1"])
            .edge("2", "3")
            .edge("3.1", END)
            .edge("3", END)
            .build()
            .expect("no fault");
        for seed in seeds() {
            let outcome = graph.run(S::blank()).seed(seed).await.expect("runs");
            // Whoever follows the Sends comes once, after all of them.
            assert_eq!(
                outcome.state.words(),
                "1 1.1 3.1 2|1 2|2 2|3 2|4 3",
                "seed {seed}"
            );
            assert_eq!(outcome.steps, 3);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 14: what a Send brings may ask for another.
#[tokio::test]
async fn a_send_that_sends_again_runs_one_step_later_and_what_follows_twice() {
    async fn check<S: Slate>() {
        let first = node_sync(|_: &S, _: &RunContext| {
            let inputs = [json!({ "n": 1 }), json!({ "n": 2, "then": { "n": 3 } })];
            Ok(Command::<S::Update>::send("2", inputs)?.and(S::says("1")))
        });
        let second = node_sync(|_: &S, cx: &RunContext| {
            let input: Value = cx.input()?;
            let here = Command::update(S::says(format!("2|{}", input["n"])));
            Ok(match input.get("then") {
                Some(then) => here.with_goto(Send::new("2", then)?),
                None => here,
            })
        });
        let graph = S::builder()
            .node("1", first)
            .node("2", second)
            .node("3", says("3"))
            .edge(START, "1")
            .goto("1", "2")
            .goto("2", "2")
            .edge("2", "3")
            .edge("3", END)
            .build()
            .expect("no fault");
        for seed in seeds() {
            let outcome = graph.run(S::blank()).seed(seed).await.expect("runs");
            assert_eq!(outcome.state.words(), "1 2|1 2|2 3 2|3 3", "seed {seed}");
            assert_eq!(outcome.steps, 4);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 15.
#[tokio::test]
async fn a_send_to_an_unknown_node_is_an_error_that_names_it() {
    async fn check<S: Slate>() {
        let node = node_sync(|_: &S, _: &RunContext| Ok(Command::<S::Update>::send("nowhere", ["x"])?));
        let error = chain(S::builder().node("a", node), &["a"])
            .run(S::blank())
            .await
            .expect_err("unknown");
        assert_eq!(error.code(), "invalid_graph");
        assert!(
            error.to_string().contains("`nowhere`") && error.to_string().contains("`a`"),
            "{error}"
        );
        let node = node_sync(|_: &S, _: &RunContext| Ok(Command::<S::Update>::send(END, ["x"])?));
        let graph = S::builder()
            .node("a", node)
            .edge(START, "a")
            .edge("a", END)
            .goto("a", END)
            .build()
            .expect("no fault");
        let error = graph
            .run(S::blank())
            .await
            .expect_err("nothing can be sent to the end");
        assert!(error.to_string().contains(END), "{error}");
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 37.
#[tokio::test(start_paused = true)]
async fn a_sends_own_time_limit_overrides_the_nodes() {
    async fn check<S: Slate>() {
        let sleeps = acts(|_: &S, cx: &RunContext| {
            Box::pin(async move {
                let seconds: u64 = cx.input()?;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(S::says(format!("slept {seconds}")).into())
            })
        });
        let sends = node_sync(|state: &S, _: &RunContext| {
            let own = Duration::from_secs(if state.sum() == 0 { 60 } else { 2 });
            let targets = Targets::from(Send::new("sleeps", 30)?.timeout(own));
            Ok(Command::<S::Update>::goto(targets.and(Send::new("sleeps", 5)?)))
        });
        let graph = S::builder()
            .node("sends", sends)
            .node("sleeps", sleeps)
            .options("sleeps", NodeOptions::new().timeout(Duration::from_secs(10)))
            .edge(START, "sends")
            .goto("sends", "sleeps")
            .edge("sleeps", END)
            .build()
            .expect("no fault");
        let state = graph.run(S::blank()).await.expect("longer than the node's").state;
        assert_eq!(state.words(), "slept 30 slept 5");
        let began = tokio::time::Instant::now();
        let error = graph
            .run_input(S::adds(1))
            .await
            .expect_err("shorter than the node's");
        assert_eq!(error.code(), "timeout");
        assert_eq!(began.elapsed().as_secs(), 2);
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn the_input_of_a_send_is_its_tasks_alone_and_never_in_the_state() {
    async fn check<S: Slate>() {
        let graph = S::builder()
            .node("reads", echo::<S>("reads"))
            .node("plain", echo("plain"))
            .route(
                START,
                |_: &S| Targets::from(Send::new("reads", 1).expect("a number")).and("plain"),
                ["reads", "plain"],
            )
            .edge("reads", END)
            .edge("plain", END)
            .build()
            .expect("no fault");
        let state = graph.run(S::blank()).await.expect("runs").state;
        assert_eq!(state.words(), "plain reads|1");
        assert!(!state.save().expect("plain data").to_string().contains("input"));
    }
    check::<Board>().await;
    check::<Channels>().await;
}
