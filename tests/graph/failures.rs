//! What fails: attempts, handlers, cancelled siblings, what a broken step keeps.

use crate::board::{Board, Count, OnDrop, Slate, acts, chain, says, seeds, side_by_side, slowly, waits};
use crate::kept::stores;
use futures::StreamExt;
use std::{sync::Arc, time::Duration};
use stepwell::{
    Error, Scope,
    agent::{
        Channels, Command, END, EventKind, Graph, Node, NodeError, NodeOptions, Retry, RunContext, START,
        node_sync,
    },
    store::RunStatus,
};
use tokio::{sync::Mutex, time::Instant};

/// A node that fails so often, then adds and logs.
fn fails<S: Slate>(name: &'static str, left: &Count, ran: &Count) -> impl Node<S> + 'static {
    let (left, ran) = (left.clone(), ran.clone());
    acts(move |_: &S, _| {
        let (left, ran) = (left.clone(), ran.clone());
        Box::pin(async move {
            ran.more();
            waits(5).await;
            if left.less() {
                return Err(NodeError::new("not yet"));
            }
            Ok(Command::update(S::says(name)).and(S::adds(2)))
        })
    })
}

/// Behaviours 19 and 20. The view of a failed run is tested in `agent/tests/checkpoints.rs` too.
#[tokio::test]
async fn a_finished_sibling_of_a_failed_node_does_not_run_again() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let (left, a, b) = (Count::of(4), Count::default(), Count::default());
            let retry = Retry::attempts(2)
                .first_delay(Duration::from_millis(1))
                .jitter(false);
            let graph = S::builder()
                .node("a", slowly("a", 0, &a))
                .node("b", fails("b", &left, &b))
                .options("b", NodeOptions::new().retry(retry))
                .node("c", says("c"))
                .edge(START, "a")
                .edge(START, "b")
                .join(["a", "b"], "c")
                .edge("c", END)
                .build()
                .expect("no fault");
            let first = graph
                .run(S::blank())
                .run_id("r")
                .store(kept.store())
                .outcome()
                .await;
            let error = first.error.expect("b fails");
            assert_eq!(error.code(), "node_failed");
            assert!(
                error.to_string().contains("`b`") && error.to_string().contains("not yet"),
                "{error}"
            );
            assert_eq!(
                (first.state.words(), first.next),
                ("a".into(), vec!["b".to_owned()])
            );
            let view = graph
                .view(&*kept.store, &Scope::local(), "r")
                .await
                .expect("kept");
            assert_eq!(
                (view.state.words(), view.steps, view.status),
                ("a".into(), 0, RunStatus::Failed)
            );
            assert_eq!(
                (view.next, view.finished),
                (vec!["b".to_owned()], vec!["a".to_owned()])
            );
            assert_eq!(b.now(), 2, "both attempts");
            // It fails again: no step is written, attempts are counted anew.
            let second = graph.resume("r").store(kept.store()).outcome().await;
            assert!(second.error.is_some());
            assert_eq!((second.steps, b.now()), (0, 4));
            assert!(!kept.kinds("r").await.contains(&"step"));
            let third = graph.resume("r").store(kept.store()).await.expect("b may now");
            assert_eq!((third.state.words(), third.state.sum()), ("a b c".into(), 2));
            assert_eq!(a.now(), 1, "a ran once");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 33, second half.
#[tokio::test]
async fn a_failing_node_cancels_a_running_sibling() {
    async fn check<S: Slate>() {
        let dropped = Count::default();
        let endless = {
            let dropped = dropped.clone();
            acts(move |_: &S, _| {
                let guard = OnDrop(dropped.clone());
                Box::pin(async move {
                    let _guard = guard;
                    std::future::pending().await
                }) as _
            })
        };
        let builder = S::builder().node("endless", endless).node(
            "failing",
            fails("failing", &Count::of(u32::MAX), &Count::default()),
        );
        let graph = side_by_side(builder, &["endless", "failing"]);
        for (round, seed) in (1..).zip(seeds()) {
            assert!(graph.run(S::blank()).seed(seed).await.is_err());
            assert_eq!(dropped.now(), round, "seed {seed}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[derive(Debug)]
struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("busy")
    }
}

impl std::error::Error for Busy {}

/// Behaviour 35.
#[tokio::test(start_paused = true)]
async fn a_node_is_tried_again_after_growing_waits_and_only_after_failures_that_match() {
    async fn check<S: Slate>() {
        let times: Arc<Mutex<Vec<u64>>> = Arc::default();
        let began = Instant::now();
        let busy = {
            let times = Arc::clone(&times);
            acts(move |_: &S, cx: &RunContext| {
                let times = Arc::clone(&times);
                Box::pin(async move {
                    times
                        .lock()
                        .await
                        .push(u64::try_from(began.elapsed().as_millis()).expect("short"));
                    match cx.attempt() {
                        1 | 2 => Err(Busy.into()),
                        attempt => Ok(S::says(format!("attempt {attempt}")).into()),
                    }
                }) as _
            })
        };
        let retry = || {
            Retry::attempts(3)
                .first_delay(Duration::from_millis(100))
                .factor(3.0)
                .jitter(false)
        };
        let graph = chain(
            S::builder()
                .node("busy", busy)
                .options("busy", NodeOptions::new().retry(retry())),
            &["busy"],
        );
        let mut stream = graph.run(S::blank()).stream();
        let mut retries = Vec::new();
        while let Some(event) = stream.next().await {
            if let EventKind::NodeRetry {
                attempt,
                delay_ms,
                failure,
            } = event.kind
            {
                retries.push((attempt, delay_ms, failure.code));
            }
        }
        let outcome = stream.finish().await.expect("ended");
        assert_eq!(outcome.state.words(), "attempt 3");
        assert_eq!(*times.lock().await, [0, 100, 400]);
        assert_eq!(
            retries.iter().map(|(at, ms, _)| (*at, *ms)).collect::<Vec<_>>(),
            [(1, 100), (2, 300)]
        );

        for (matching, runs) in [(true, 3), (false, 1)] {
            let ran = Count::default();
            let when = move |error: &Error| match error {
                Error::Host(source) => source.is::<Busy>() == matching,
                _ => false,
            };
            let node = {
                let ran = ran.clone();
                node_sync(move |_: &S, _: &RunContext| -> Result<S::Update, NodeError> {
                    ran.more();
                    Err(Busy.into())
                })
            };
            let options = NodeOptions::new().retry(retry().when(when));
            let graph = chain(
                S::builder().node("busy", node).options("busy", options),
                &["busy"],
            );
            assert_eq!(
                graph.run(S::blank()).await.expect_err("busy").code(),
                "node_failed"
            );
            assert_eq!(ran.now(), runs);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 36. What an attempt started and nobody waits for is told to stop; the next has a switch of its own.
#[tokio::test(start_paused = true)]
async fn what_a_timed_out_attempt_would_have_written_is_dropped_and_the_next_starts_fresh() {
    async fn check<S: Slate>() {
        let (dropped, stopped) = (Count::default(), Count::default());
        let slow = {
            let (dropped, stopped) = (dropped.clone(), stopped.clone());
            acts(move |_: &S, cx: &RunContext| {
                let (guard, stopped) = (OnDrop(dropped.clone()), stopped.clone());
                Box::pin(async move {
                    assert!(
                        !cx.cancel().is_cancelled(),
                        "an attempt begins with its switch open"
                    );
                    let switch = cx.cancel().clone();
                    tokio::spawn(async move {
                        switch.cancelled().await;
                        stopped.more();
                    });
                    let _guard = guard;
                    let attempt = cx.attempt();
                    if attempt == 1 {
                        tokio::time::sleep(Duration::from_hours(1)).await;
                    }
                    Ok(S::says(format!("attempt {attempt}")).into())
                }) as _
            })
        };
        let options = NodeOptions::new()
            .timeout(Duration::from_secs(1))
            .retry(Retry::attempts(2).jitter(false));
        let graph = chain(
            S::builder().node("slow", slow).options("slow", options),
            &["slow"],
        );
        let state = graph.run(S::blank()).await.expect("the second is quick").state;
        assert_eq!(state.words(), "attempt 2");
        tokio::task::yield_now().await;
        assert_eq!((dropped.now(), stopped.now()), (2, 1));
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// A handler that logs why the node failed and goes on elsewhere.
fn handler<S: Slate>(ran: &Count) -> impl Node<S> + 'static {
    let ran = ran.clone();
    node_sync(move |_: &S, cx: &RunContext| {
        ran.more();
        let failure = cx.failure().expect("it failed");
        assert!(!cx.cancel().is_cancelled(), "the handler may use the switch");
        assert!(failure.message.contains("not yet"), "{}", failure.message);
        Ok(Command::update(S::says(format!("handled {}", failure.code))).with_goto("rescue"))
    })
}

fn rescued<S: Slate>(left: &Count, ran: &Count, handled: &Count) -> Graph<S> {
    let options = NodeOptions::new()
        .retry(Retry::attempts(2).first_delay(Duration::from_millis(1)))
        .on_error(handler(handled));
    S::builder()
        .node("fails", fails("fails", left, ran))
        .options("fails", options)
        .node("plain", says("plain"))
        .node("rescue", says("rescue"))
        .edge(START, "fails")
        .edge("fails", "plain")
        .goto("fails", "rescue")
        .edge("plain", END)
        .edge("rescue", END)
        .build()
        .expect("no fault")
}

/// Behaviour 38.
#[tokio::test]
async fn a_handler_routes_after_the_attempts_are_spent_and_still_knows_why_after_a_crash() {
    async fn check<S: Slate>() {
        let (ran, handled) = (Count::default(), Count::default());
        let graph = rescued::<S>(&Count::of(u32::MAX), &ran, &handled);
        let state = graph.run(S::blank()).await.expect("handled").state;
        assert_eq!(state.words(), "handled host rescue");
        assert_eq!((ran.now(), handled.now()), (2, 1));
        for kept in stores() {
            // The journal of a run that died between the failure and its handler: everything up to that record.
            graph
                .run(S::blank())
                .run_id("whole")
                .store(kept.store())
                .sync()
                .await
                .expect("handled");
            let kinds = kept.kinds("whole").await;
            let failed = kinds
                .iter()
                .position(|kind| *kind == "event")
                .expect("the failure is kept");
            let upto = u64::try_from(failed).expect("small") + 1;
            kept.store
                .copy(&Scope::local(), "whole", "cut", Some(upto))
                .await
                .expect("copies");
            let before = (ran.now(), handled.now());
            let resumed = graph.resume("cut").store(kept.store()).await.expect("goes on");
            assert_eq!(resumed.state.words(), "handled host rescue", "{}", kept.name);
            assert_eq!(
                (ran.now(), handled.now()),
                (before.0, before.1 + 1),
                "only the handler"
            );
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_handler_that_fails_too_fails_the_run_and_a_cancel_reaches_no_handler() {
    async fn check<S: Slate>() {
        let fails_again = node_sync(|_: &S, _: &RunContext| -> Result<S::Update, NodeError> {
            Err(NodeError::new("nor this"))
        });
        let options = NodeOptions::new().on_error(fails_again);
        let builder = S::builder()
            .node("a", fails("a", &Count::of(u32::MAX), &Count::default()))
            .options("a", options);
        let error = chain(builder, &["a"])
            .run(S::blank())
            .await
            .expect_err("both fail");
        assert!(error.to_string().contains("nor this"), "{error}");

        let handled = Count::default();
        let cancel = stepwell::Cancel::new();
        let pulls = {
            let cancel = cancel.clone();
            acts(move |_: &S, cx: &RunContext| {
                let cancel = cancel.clone();
                Box::pin(async move {
                    cancel.cancel();
                    cx.cancel().check()?;
                    Ok(S::says("never").into())
                }) as _
            })
        };
        let options = NodeOptions::new()
            .retry(Retry::attempts(9))
            .on_error(slowly("handled", 0, &handled));
        let graph = chain(
            S::builder().node("pulls", pulls).options("pulls", options),
            &["pulls"],
        );
        let outcome = graph.run(S::blank()).cancel(cancel).outcome().await;
        assert_eq!((outcome.status, handled.now()), (RunStatus::Cancelled, 0));
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_panic_in_a_node_route_handler_or_cache_key_is_an_error_that_does_not_quote_it() {
    async fn check<S: Slate>() {
        let bad =
            || node_sync(|_: &S, _: &RunContext| -> Result<S::Update, NodeError> { panic!("secret words") });
        let later = acts(|_: &S, cx: &RunContext| {
            Box::pin(async move {
                waits(2).await;
                assert!(cx.has_input(), "secret words");
                Ok(Command::default())
            })
        });
        let cache: Arc<dyn stepwell::store::Cache> = Arc::new(stepwell::stores::MemoryStore::new());
        let keyed = stepwell::agent::NodeCache::new(cache, |_: &S, _| panic!("secret words"));
        let graphs = [
            chain(S::builder().node("a", bad()), &["a"]),
            chain(S::builder().node("a", later), &["a"]),
            chain(
                S::builder()
                    .node("a", bad())
                    .options("a", NodeOptions::new().on_error(bad())),
                &["a"],
            ),
            chain(
                S::builder()
                    .node("a", says("a"))
                    .options("a", NodeOptions::new().cache(keyed)),
                &["a"],
            ),
            S::builder()
                .node("a", says("a"))
                .edge(START, "a")
                .route("a", |_: &S| -> &'static str { panic!("secret words") }, [END])
                .build()
                .expect("no fault"),
            S::builder()
                .node("a", says("a"))
                .route(START, |_: &S| -> &'static str { panic!("secret words") }, ["a"])
                .edge("a", END)
                .build()
                .expect("no fault"),
        ];
        for graph in graphs {
            let error = graph.run(S::blank()).await.expect_err("panics");
            assert_eq!(error.code(), "node_failed");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
