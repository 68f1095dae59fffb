//! Dropping a call or its stream at any point leaves every layer as if it had never been, but for what was used.

use super::{
    Breaker, BreakerOptions, CallRecord, Circuit, ModelExt, Outcome, RateLimitOptions, RateLimiter,
    RetryOptions, TimeoutOptions, VirtualClock,
    clock::Clock,
    played::{Played, Step, overloaded, said},
};
use futures::StreamExt;
use std::{
    future::Future,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use stepwell_core::{Budget, ChatModel, ChatRequest, Error, Spend};

const LIMIT: u64 = 100_000;

/// Everything that could be left behind.
struct Stack {
    clock: VirtualClock,
    model: Arc<dyn ChatModel>,
    inner: Played,
    limiter: RateLimiter,
    breaker: Breaker,
    budget: Budget,
    records: Arc<Mutex<Vec<CallRecord>>>,
}

fn stack(inner: impl Fn(&VirtualClock) -> Played) -> Stack {
    let clock = VirtualClock::new();
    let time: Arc<dyn Clock> = Arc::new(clock.clone());
    let inner = inner(&clock);
    let limiter = RateLimiter::new(
        RateLimitOptions::default()
            .max_concurrent(1)
            .requests_per_minute(60)
            .tokens_per_minute(50_000)
            .clock(time.clone()),
    );
    let breaker = Breaker::new(BreakerOptions::default().failures(1).clock(time.clone()));
    let budget = Budget::tokens(LIMIT);
    let records: Arc<Mutex<Vec<CallRecord>>> = Arc::default();
    let log = records.clone();
    let model = inner
        .clone()
        .with_rate_limit(limiter.clone())
        .with_usage_hook(move |record| log.lock().expect("no panic inside").push(record))
        .with_retry(RetryOptions::default().seed(5).clock(time.clone()))
        .with_breaker(breaker.clone())
        .with_timeouts(
            TimeoutOptions::default()
                .idle(Some(Duration::from_secs(9)))
                .clock(time),
        )
        .with_budget(budget.clone())
        .with_trace();
    Stack {
        clock,
        model,
        inner,
        limiter,
        breaker,
        budget,
        records,
    }
}

impl Stack {
    /// Reads the whole answer, polled at most so often; then it is dropped. Whether it came to its end.
    fn run(&self, polls: usize) -> bool {
        let read = async {
            let mut stream = self
                .model
                .stream(ChatRequest::from("a question of some length"))
                .await?;
            while let Some(event) = stream.next().await {
                event?;
            }
            Ok::<(), Error>(())
        };
        let mut read = Box::pin(read);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if read.as_mut().poll(&mut cx).is_ready() {
                return true;
            }
            // Half a second: the longest nap of the retry takes two polls.
            self.clock.advance(Duration::from_millis(500));
        }
        false
    }

    fn check(&self, polls: usize) {
        assert_eq!(self.limiter.load("acme/m"), (0, 0), "after {polls} polls");
        let records = self.records.lock().expect("no panic inside");
        assert_eq!(
            records.len(),
            self.inner.calls(),
            "one record for each try, after {polls} polls"
        );
        let spent = self.budget.spent().tokens;
        // Nothing is still set aside: the rest can be had whole.
        drop(
            self.budget
                .reserve(Spend::call(LIMIT - spent))
                .expect("given back"),
        );
        let mut ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), records.len());
        for record in records
            .iter()
            .filter(|record| record.outcome == Outcome::Cancelled)
        {
            assert!(record.usage.is_estimated && record.usage.total() > 0);
        }
        if records.iter().any(|record| record.outcome == Outcome::Cancelled) {
            assert!(spent > 0, "what was begun is booked, after {polls} polls");
        }
    }
}

#[test]
fn a_call_dropped_after_any_poll_leaves_nothing_behind() {
    // A failure that is mended, a pause, an answer.
    let play = |clock: &VirtualClock| {
        let mut steps: Vec<Step> = said("Hello, this is an answer.")
            .into_iter()
            .map(Step::Event)
            .collect();
        steps.insert(3, Step::Wait(Duration::from_secs(2)));
        Played::new("m", clock).fail(overloaded()).play(steps)
    };
    let mut polls = 0;
    loop {
        let stack = stack(play);
        let is_done = stack.run(polls);
        stack.check(polls);
        assert_eq!(stack.breaker.circuit("acme/m"), Circuit::Closed);
        if is_done {
            let records = stack.records.lock().expect("no panic inside");
            assert_eq!(records[0].outcome, Outcome::Failed("overloaded".into()));
            assert_eq!(records[0].usage.total(), 0);
            assert_eq!(records[1].outcome, Outcome::Finished);
            assert_eq!(stack.budget.spent().tokens, 15);
            assert_eq!(stack.budget.spent().calls, 2);
            break;
        }
        polls += 1;
        assert!(polls < 200, "it ends");
    }
    assert!(polls > 10, "{polls} polls are too few to tell");
    println!("dropped after each of {polls} polls");
}

#[test]
fn a_failure_that_stays_is_booked_once_wherever_it_is_dropped() {
    let play = |clock: &VirtualClock| {
        Played::new("m", clock).break_off(
            "half an answer",
            Error::StreamTruncated {
                provider: "acme".into(),
                partial: Box::new(stepwell_core::ChatResponse::new(
                    "acme",
                    "m",
                    Vec::new(),
                    stepwell_core::FinishReason::Other,
                )),
            },
        )
    };
    for polls in 0..30 {
        let stack = stack(play);
        let is_done = stack.run(polls);
        stack.check(polls);
        if is_done {
            assert!(matches!(stack.breaker.circuit("acme/m"), Circuit::Open(_)));
            let records = stack.records.lock().expect("no panic inside");
            assert_eq!(records[0].outcome, Outcome::Failed("stream_truncated".into()));
            assert!(records[0].usage.is_estimated && records[0].usage.total_output() >= 3);
        }
    }
}

#[test]
fn a_dropped_probe_lets_the_next_one_try() {
    for polls in 0..20 {
        let stack = stack(|clock| {
            Played::new("m", clock)
                .break_off("x", overloaded())
                .say("a")
                .say("b")
        });
        assert!(stack.run(100));
        assert!(matches!(stack.breaker.circuit("acme/m"), Circuit::Open(_)));
        stack.clock.advance(Duration::from_secs(31));
        stack.run(polls);
        // Closed by a whole answer, else as before the probe; never stuck.
        assert!(matches!(
            stack.breaker.circuit("acme/m"),
            Circuit::Closed | Circuit::HalfOpen
        ));
        let last = stack.model.chat("x".into());
        let last = futures::executor::block_on(stack.clock.run(last));
        last.expect("let through");
        assert_eq!(stack.breaker.circuit("acme/m"), Circuit::Closed);
    }
}

#[test]
fn dropping_an_unpolled_call_asks_nobody() {
    let stack = stack(|clock| Played::new("m", clock));
    drop(stack.model.stream("x".into()));
    assert_eq!(stack.inner.calls(), 0);
    stack.check(0);
    let mut cx = Context::from_waker(Waker::noop());
    let nap = stack.clock.sleep(Duration::from_secs(1));
    let mut nap = Box::pin(nap);
    assert_eq!(nap.as_mut().poll(&mut cx), Poll::Pending);
}
