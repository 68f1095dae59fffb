//! Joins: all, any, a quorum; deferred nodes.

use crate::board::{Board, Count, OnDrop, Slate, acts, says, seeds, slowly, waits};
use crate::kept::stores;
use stepwell::{
    agent::{Channels, Command, END, GraphBuilder, RunContext, START, node_sync},
    store::RunStatus,
};

/// Behaviour 11.
#[tokio::test]
async fn a_join_and_an_edge_into_one_node_each_run_it() {
    async fn check<S: Slate>() {
        let graph = S::builder()
            .node("rewrite", says::<S>("rewrite"))
            .node("one", says("one"))
            .node("two", says("two"))
            .node("answer", says("answer"))
            .edge(START, "rewrite")
            .edge("rewrite", "one")
            .edge("rewrite", "two")
            .edge("rewrite", "answer")
            .join(["one", "two"], "answer")
            .edge("answer", END)
            .build()
            .expect("no fault");
        for seed in seeds() {
            let outcome = graph.run(S::blank()).seed(seed).await.expect("runs");
            assert_eq!(
                outcome.state.words(),
                "rewrite one two answer answer",
                "seed {seed}"
            );
            assert_eq!(outcome.steps, 3);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 12.
#[tokio::test]
async fn a_deferred_node_runs_once_after_all_other_work() {
    async fn check<S: Slate>() {
        let graph = S::builder()
            .node("a", says::<S>("a"))
            .node("short", says("short"))
            .node("long1", says("long1"))
            .node("long2", says("long2"))
            .node("last", says("last"))
            .defer("last")
            .edge(START, "a")
            .edge("a", "short")
            .edge("a", "long1")
            .edge("long1", "long2")
            .edge("short", "last")
            .edge("long2", "last")
            .edge("last", END)
            .build()
            .expect("no fault");
        for seed in seeds() {
            let outcome = graph.run(S::blank()).seed(seed).await.expect("runs");
            assert_eq!(outcome.state.words(), "a short long1 long2 last", "seed {seed}");
            assert_eq!(outcome.steps, 4);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// A join waits over several steps, and in a loop for all of its sources anew.
#[tokio::test]
async fn a_join_of_unequal_branches_fires_once_a_round() {
    async fn check<S: Slate>() {
        let again = node_sync(|state: &S, _: &RunContext| {
            let here = Command::update(S::adds(1)).and(S::says("join"));
            Ok(if state.sum() == 0 {
                here.with_goto("a")
            } else {
                here.with_goto(END)
            })
        });
        let graph = S::builder()
            .node("a", says::<S>("a"))
            .node("short", says("short"))
            .node("long1", says("long1"))
            .node("long2", says("long2"))
            .node("join", again)
            .edge(START, "a")
            .edge("a", "short")
            .edge("a", "long1")
            .edge("long1", "long2")
            .join(["short", "long2"], "join")
            .goto("join", ["a", END])
            .build()
            .expect("no fault");
        for kept in stores() {
            for seed in seeds() {
                let run_id = format!("r{seed}");
                let outcome = graph
                    .run(S::blank())
                    .seed(seed)
                    .run_id(&run_id)
                    .store(kept.store())
                    .await
                    .expect("runs");
                assert_eq!(
                    outcome.state.words(),
                    "a short long1 long2 join a short long1 long2 join",
                    "{} seed {seed}",
                    kept.name
                );
                let view = graph
                    .view(&*kept.store, &stepwell::Scope::local(), &run_id)
                    .await
                    .expect("kept");
                assert_eq!(view.state.words(), outcome.state.words());
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// `fast` ends, `slow` never does.
fn race<S: Slate>(dropped: &Count, cancelled: &Count, fast: u32) -> GraphBuilder<S> {
    let (dropped, cancelled) = (dropped.clone(), cancelled.clone());
    let slow = acts(move |_: &S, cx: &RunContext| {
        let (dropped, cancelled) = (dropped.clone(), cancelled.clone());
        Box::pin(async move {
            let _guard = OnDrop(dropped);
            let switch = cx.cancel().clone();
            // What the node started elsewhere is told too.
            let watch = tokio::spawn(async move {
                switch.cancelled().await;
                cancelled.more();
            });
            std::future::pending::<()>().await;
            drop(watch);
            Ok(S::says("slow").into())
        })
    });
    S::builder()
        .node("slow", slow)
        .node("fast", slowly("fast", fast, &Count::default()))
        .node("brisk", slowly("brisk", 1, &Count::default()))
        .node("after", says("after"))
        .edge(START, "slow")
        .edge(START, "fast")
        .edge("after", END)
}

#[tokio::test]
async fn the_first_of_any_cancels_the_rest_whose_writes_are_dropped() {
    async fn check<S: Slate>() {
        for kept in stores() {
            for seed in seeds() {
                let (dropped, cancelled) = (Count::default(), Count::default());
                let graph = race::<S>(&dropped, &cancelled, 5)
                    .edge("brisk", END)
                    .any(["slow", "fast"], "after")
                    .edge(START, "brisk")
                    .build()
                    .expect("no fault");
                let run_id = format!("r{seed}");
                let run = graph
                    .run(S::blank())
                    .run_id(&run_id)
                    .store(kept.store())
                    .seed(seed);
                let outcome = run.await.expect("the slow one is not waited for");
                assert_eq!(outcome.state.words(), "fast brisk after");
                waits(3).await;
                assert_eq!(dropped.now(), 1, "its future is gone");
                assert_eq!(cancelled.now(), 1, "its switch is pulled");
                let again = graph.resume(&run_id).store(kept.store()).await.expect("done");
                assert_eq!(again.status, RunStatus::Done);
                assert_eq!(again.state.words(), outcome.state.words());
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_quorum_is_met_by_so_many_and_a_late_source_does_not_fire_it_again() {
    async fn check<S: Slate>() {
        let (dropped, cancelled) = (Count::default(), Count::default());
        let graph = race::<S>(&dropped, &cancelled, 9)
            .edge(START, "brisk")
            .quorum(["slow", "fast", "brisk"], 2, "after")
            .build()
            .expect("no fault");
        for (round, seed) in (1..).zip(seeds()) {
            let outcome = graph.run(S::blank()).seed(seed).await.expect("runs");
            assert_eq!(outcome.state.words(), "fast brisk after", "seed {seed}");
            assert_eq!(dropped.now(), round);
        }
        // One that comes in a later step finds the race decided.
        let graph = S::builder()
            .node("a", says::<S>("a"))
            .node("b1", says("b1"))
            .node("b2", says("b2"))
            .node("after", says("after"))
            .edge(START, "a")
            .edge(START, "b1")
            .edge("b1", "b2")
            .any(["a", "b2"], "after")
            .edge("after", END)
            .build()
            .expect("no fault");
        for seed in seeds() {
            let outcome = graph.run(S::blank()).seed(seed).await.expect("runs");
            assert_eq!(outcome.state.words(), "a b1 b2 after", "seed {seed}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
