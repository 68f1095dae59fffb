//! Layers shared by many tasks on many threads: no cap is passed, nothing is lost, nothing is left behind.

use super::{
    Breaker, BreakerOptions, CallRecord, Circuit, ModelExt, Outcome, RateLimitOptions, RateLimiter,
    RetryOptions,
    played::{overloaded, said},
};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell_core::{
    Budget, ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Price, Result, Spend, StreamEvent,
};
use tokio::{runtime::Builder, sync::Barrier, task::JoinSet};

/// Tokens of an answer that came whole.
const ANSWER: u64 = 15;

/// A model that counts who is inside, yields between its events, and fails twice in so many calls (0: never): before its
/// first event, and in the middle.
#[derive(Clone, Debug)]
struct Busy {
    info: ModelInfo,
    calls: Arc<AtomicUsize>,
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    fails_every: usize,
}

impl Busy {
    fn new(fails_every: usize) -> Self {
        let mut info = ModelInfo::new("acme", "busy");
        let mut price = Price::default();
        // A millionth of a dollar for each token.
        (price.input, price.output) = (Some(1_000_000), Some(1_000_000));
        info.price = Some(price);
        Self {
            info,
            calls: Arc::default(),
            inside: Arc::default(),
            most: Arc::default(),
            fails_every,
        }
    }
}

/// Counted as inside until it is dropped.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ChatModel for Busy {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        let inside = Inside(self.inside.clone());
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let place = call.checked_rem(self.fails_every).unwrap_or(0);
        if place == 1 {
            return Err(overloaded());
        }
        let mut steps: Vec<Result<StreamEvent>> = said("word by word").into_iter().map(Ok).collect();
        if place == 2 {
            steps.truncate(3);
            steps.push(Err(overloaded()));
        }
        let events = stream::iter(steps).then(move |event| {
            let _ = &inside;
            async move {
                tokio::task::yield_now().await;
                event
            }
        });
        Ok(events.boxed())
    }
}

fn threads(count: usize) -> tokio::runtime::Runtime {
    Builder::new_multi_thread()
        .worker_threads(count)
        .enable_time()
        .build()
        .expect("a runtime")
}

#[test]
fn a_crowd_passes_no_cap_and_every_token_is_told_and_booked_once() {
    const TASKS: usize = 400;
    const CALLS: usize = 8;
    let inner = Busy::new(9);
    let limiter = RateLimiter::new(RateLimitOptions::default().max_concurrent(6));
    let breaker = Breaker::new(BreakerOptions::default());
    let budget = Budget::tokens(100_000_000);
    let records: Arc<Mutex<Vec<CallRecord>>> = Arc::default();
    let log = records.clone();
    let model = inner
        .clone()
        .with_rate_limit(limiter.clone())
        .with_usage_hook(move |record| log.lock().expect("no panic inside").push(record))
        .with_breaker(breaker.clone())
        .with_retry(
            RetryOptions::default()
                .max_retries(1)
                .first_delay(Duration::from_millis(1)),
        )
        .with_budget(budget.clone());
    let (whole, failed, left) = threads(4).block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let model = model.clone();
            tasks.spawn(async move {
                let mut told = [0_usize; 3];
                for call in 0..CALLS {
                    let ask = async {
                        let mut stream = model
                            .stream(ChatRequest::from("x").max_output_tokens(100))
                            .await?;
                        // Every seventh reader leaves after a few events, wherever that is.
                        let stays = if (task + call) % 7 == 0 { call } else { usize::MAX };
                        let mut read = 0;
                        while let Some(event) = stream.next().await {
                            event?;
                            read += 1;
                            if read > stays {
                                return Ok::<bool, Error>(false);
                            }
                        }
                        Ok(true)
                    };
                    // Every eleventh caller does not even wait for the first.
                    let answer = if (task + call) % 11 == 0 {
                        tokio::time::timeout(Duration::from_micros(50), ask)
                            .await
                            .unwrap_or(Ok(false))
                    } else {
                        ask.await
                    };
                    told[match answer {
                        Ok(true) => 0,
                        Err(error) => {
                            assert_eq!(error.code(), "overloaded");
                            1
                        }
                        Ok(false) => 2,
                    }] += 1;
                }
                told
            });
        }
        let mut sums = (0, 0, 0);
        while let Some(told) = tasks.join_next().await {
            let [whole, failed, left] = told.expect("no panic inside");
            sums = (sums.0 + whole, sums.1 + failed, sums.2 + left);
        }
        sums
    });
    assert_eq!(whole + failed + left, TASKS * CALLS);
    assert!(
        whole > TASKS * CALLS / 3 && failed > 0 && left > 0,
        "{whole} {failed} {left}"
    );

    let most = inner.most.load(Ordering::SeqCst);
    assert!((2..=6).contains(&most), "{most} at once");
    assert_eq!(inner.inside.load(Ordering::SeqCst), 0);
    assert_eq!(limiter.load("acme/busy"), (0, 0));
    assert_ne!(breaker.circuit("acme/busy"), Circuit::HalfOpen);

    let records = records.lock().expect("no panic inside");
    // A call that was dropped in the queue is told too, though it never reached the model.
    let reached = inner.calls.load(Ordering::SeqCst);
    assert!(
        records.len() >= reached,
        "{} records of {reached} tries",
        records.len()
    );
    let finished = records
        .iter()
        .filter(|record| record.outcome == Outcome::Finished);
    assert!(finished.clone().count() >= whole);
    assert!(
        finished
            .clone()
            .all(|record| record.usage.total() == ANSWER && !record.usage.is_estimated)
    );
    let told: u64 = records.iter().map(|record| record.usage.total()).sum();
    let spent = budget.spent();
    // What came whole is booked as told. A caller who leaves is booked by estimate, and what the retry still held of the
    // answer, three tokens, is told inside it and not seen outside.
    let apart = spent.tokens.abs_diff(told);
    assert!(
        apart <= 4 * (left + failed) as u64,
        "{} booked of {told} told",
        spent.tokens
    );
    assert!(spent.tokens >= ANSWER * whole as u64);
    // Nothing is still set aside.
    drop(
        budget
            .reserve(Spend::call(100_000_000 - spent.tokens))
            .expect("the rest is free"),
    );
    println!(
        "{reached} tries by {TASKS} tasks: {whole} whole, {failed} failed, {left} left; {most} at once; {told} tokens told, {} booked",
        spent.tokens
    );
}

#[test]
fn calls_that_share_the_last_of_a_budget_get_as_many_answers_as_one_after_another() {
    // Four times a thousand tokens; the question takes one or two more each time.
    const LIMIT: u64 = 4_000;
    let runtime = threads(8);
    for round in 0..500 {
        let budget = Budget::tokens(LIMIT);
        let model = Busy::new(0).with_budget(budget.clone());
        let (started, done) = (Arc::new(Barrier::new(8)), Arc::new(Barrier::new(8)));
        let answered = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..8 {
                let (model, started, done) = (model.clone(), started.clone(), done.clone());
                tasks.spawn(async move {
                    started.wait().await;
                    let stream = model
                        .stream(ChatRequest::from("x").max_output_tokens(1_000))
                        .await;
                    // All hold what they set aside until all have asked.
                    done.wait().await;
                    match stream {
                        Ok(stream) => stream.count().await,
                        Err(error) => {
                            assert_eq!(error.code(), "budget_exceeded");
                            0
                        }
                    }
                });
            }
            let mut answered = 0;
            while let Some(events) = tasks.join_next().await {
                answered += usize::from(events.expect("no panic inside") > 0);
            }
            answered
        });
        assert_eq!(answered, 4, "round {round}");
        assert_eq!(budget.spent().tokens, 4 * ANSWER, "round {round}");
    }
}

#[test]
fn a_breaker_under_a_crowd_lets_one_probe_through_at_a_time() {
    let breaker = Breaker::new(
        BreakerOptions::default()
            .failures(1)
            .open_for(Duration::from_millis(5)),
    );
    let inner = Busy::new(0);
    let model = Down(inner.clone()).with_breaker(breaker);
    threads(4).block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let model = model.clone();
            tasks.spawn(async move {
                for _ in 0..20 {
                    model.chat("x".into()).await.expect_err("down");
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic inside");
        }
    });
    let asked = inner.calls.load(Ordering::SeqCst);
    // The first rush before the first failure, then one probe every five milliseconds.
    assert!(
        asked < 200 + 100,
        "{asked} of 4,000 calls reached a model that is down"
    );
    assert_eq!(inner.inside.load(Ordering::SeqCst), 0);
    println!("{asked} of 4,000 calls reached a model that is down");
}

/// A model that fails each call after a moment.
#[derive(Debug)]
struct Down(Busy);

#[async_trait]
impl ChatModel for Down {
    fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Err(overloaded())
    }
}
