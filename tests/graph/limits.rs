//! Steps, time, how many at once, and what a cache keeps.

use crate::board::{Board, Count, Slate, acts, chain, seeds, side_by_side, waits};
use crate::kept::stores;
use async_trait::async_trait;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use stepwell::{
    Error, Result, Scope,
    agent::{Channels, Command, END, NodeCache, NodeOptions, RunContext, START, node_sync},
    store::Cache,
    stores::MemoryStore,
};
use tokio::time::Instant;

/// Behaviour 18, the part of the runner; history and forks are in `agent/tests/checkpoints.rs`.
#[tokio::test]
async fn a_run_at_its_step_limit_is_an_error_and_goes_on_with_a_higher_one() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let counts = node_sync(|_: &S, _: &RunContext| Ok(S::adds(1)));
            let graph = S::builder()
                .node("count", counts)
                .edge(START, "count")
                .route(
                    "count",
                    |state: &S| if state.sum() < 5 { "count" } else { END },
                    ["count", END],
                )
                .build()
                .expect("no fault");
            let run = graph
                .run(S::blank())
                .run_id("r")
                .store(kept.store())
                .step_limit(3);
            let stopped = run.outcome().await;
            assert_eq!(stopped.error.as_ref().map(Error::code), Some("step_limit"));
            assert_eq!(
                (stopped.state.sum(), stopped.steps, stopped.next),
                (3, 3, vec!["count".to_owned()])
            );
            let view = graph
                .view(&*kept.store, &Scope::local(), "r")
                .await
                .expect("kept");
            assert_eq!((view.state.sum(), view.steps), (3, 3));
            let ended = graph
                .resume("r")
                .store(kept.store())
                .step_limit(10)
                .await
                .expect("goes on");
            assert_eq!((ended.state.sum(), ended.steps), (5, 5));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 40.
#[tokio::test]
async fn never_more_than_allowed_run_at_once_and_the_result_is_the_same() {
    async fn check<S: Slate>() {
        const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let (inside, most) = (Count::default(), Arc::new(std::sync::atomic::AtomicU32::new(0)));
        let mut builder = S::builder();
        for name in NAMES {
            let (inside, most) = (inside.clone(), Arc::clone(&most));
            let node = acts(move |_: &S, _| {
                let (inside, most) = (inside.clone(), Arc::clone(&most));
                Box::pin(async move {
                    let now = inside.more() + 1;
                    most.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
                    waits(3).await;
                    inside.less();
                    Ok(S::says(name).into())
                }) as _
            });
            builder = builder.node(name, node);
        }
        let graph = side_by_side(builder, &NAMES);
        let whole = graph.run(S::blank()).await.expect("runs").state.words();
        assert_eq!(whole, NAMES.join(" "));
        assert_eq!(most.swap(0, std::sync::atomic::Ordering::SeqCst), 12);
        for limit in [1, 3, 100] {
            for seed in seeds().map(Some).chain([None]) {
                let mut run = graph.run(S::blank()).concurrency(limit);
                if let Some(seed) = seed {
                    run = run.seed(seed);
                }
                assert_eq!(run.await.expect("runs").state.words(), whole);
                let most = most.swap(0, std::sync::atomic::Ordering::SeqCst);
                assert!(most as usize <= limit, "{most} at once, {limit} allowed");
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_a_timeout_that_names_the_node() {
    async fn check<S: Slate>() {
        let sleeps = acts(|_: &S, _| {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_hours(1)).await;
                Ok(S::says("slept").into())
            }) as _
        });
        let options = NodeOptions::new().timeout(Duration::from_secs(3));
        let graph = chain(
            S::builder().node("sleeps", sleeps).options("sleeps", options),
            &["sleeps"],
        );
        let began = Instant::now();
        let error = graph.run(S::blank()).await.expect_err("too long");
        assert_eq!((error.code(), began.elapsed().as_secs()), ("timeout", 3));
        assert!(error.to_string().contains("`sleeps`"), "{error}");
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_attempt_is_dropped_and_signs_of_life_keep_it() {
    async fn check<S: Slate>() {
        #[derive(Clone, Copy, Debug)]
        enum Sign {
            None,
            Heartbeat,
            Event,
            Step,
        }
        for sign in [Sign::None, Sign::Heartbeat, Sign::Event, Sign::Step] {
            let works = acts(move |_: &S, cx: &RunContext| {
                Box::pin(async move {
                    for piece in 0..10 {
                        tokio::time::sleep(Duration::from_secs(4)).await;
                        match sign {
                            Sign::None => {}
                            Sign::Heartbeat => cx.heartbeat(),
                            Sign::Event => cx.emit("piece", piece.into()),
                            Sign::Step => {
                                let key = format!("piece {piece}");
                                cx.step(&key, async { Ok::<_, Error>(piece) }).await?;
                            }
                        }
                    }
                    Ok(S::says("worked").into())
                }) as _
            });
            let options = NodeOptions::new().idle_timeout(Duration::from_secs(8));
            let graph = chain(
                S::builder().node("works", works).options("works", options),
                &["works"],
            );
            let began = Instant::now();
            let outcome = graph.run(S::blank()).outcome().await;
            let seconds = began.elapsed().as_secs();
            if matches!(sign, Sign::None) {
                assert_eq!(outcome.error.expect("silent").code(), "timeout");
                assert!((8..=9).contains(&seconds), "{seconds} s");
            } else {
                assert!(outcome.error.is_none(), "{sign:?}: {:?}", outcome.error);
                assert_eq!((outcome.state.words(), seconds), ("worked".into(), 40));
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// A cache that panics, fails or forgets costs time, never the run.
#[derive(Debug)]
enum Broken {
    Fails,
    Spoilt,
}

#[async_trait]
impl Cache for Broken {
    async fn get(&self, _: &Scope, _: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Fails => Err(Error::internal("the cache is down")),
            Self::Spoilt => Ok(Some(Bytes::from_static(b"\xff\x00 not ours"))),
        }
    }
    async fn put(&self, _: &Scope, _: &str, _: Bytes, _: Option<Duration>) -> Result<()> {
        Err(Error::internal("the cache is down"))
    }
    async fn remove(&self, _: &Scope, _: &str) -> Result<bool> {
        Ok(false)
    }
    async fn clear(&self, _: &Scope) -> Result<u64> {
        Ok(0)
    }
}

#[tokio::test]
async fn a_cached_node_runs_once_per_key_and_tenant_and_a_broken_cache_only_costs_time() {
    async fn check<S: Slate>() {
        let cached = |cache: Arc<dyn Cache>, ran: &Count| {
            let ran = ran.clone();
            let node = node_sync(move |state: &S, _: &RunContext| {
                let run = ran.more() + 1;
                let word = format!("run {run} of {}", state.sum());
                Ok(Command::update(S::says(word)).with_goto("after"))
            });
            let key = |state: &S, _: &RunContext| state.sum().into();
            let options = NodeOptions::new().cache(NodeCache::new(cache, key));
            S::builder()
                .node("works", node)
                .options("works", options)
                .node("after", crate::board::says("after"))
                .edge(START, "works")
                .edge("works", END)
                .goto("works", "after")
                .edge("after", END)
                .build()
                .expect("no fault")
        };
        let ran = Count::default();
        let graph = cached(Arc::new(MemoryStore::new()), &ran);
        for (sum, words) in [
            (1, "run 1 of 1 after"),
            (1, "run 1 of 1 after"),
            (2, "run 2 of 2 after"),
        ] {
            let state = graph.run_input(S::adds(sum)).await.expect("runs").state;
            assert_eq!(state.words(), words);
        }
        let other = Scope::new("other").expect("a name");
        let state = graph
            .run_input(S::adds(1))
            .scope(other)
            .await
            .expect("runs")
            .state;
        assert_eq!(state.words(), "run 3 of 1 after", "another tenant's is not given");
        for broken in [Broken::Fails, Broken::Spoilt] {
            let ran = Count::default();
            let graph = cached(Arc::new(broken), &ran);
            for _ in 0..2 {
                graph.run_input(S::adds(1)).await.expect("runs all the same");
            }
            assert_eq!(ran.now(), 2);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
