use super::RetryOptions;
use crate::layers::{
    ModelExt, VirtualClock,
    clock::Clock,
    played::{Played, Step, delta, failure, finish, overloaded, said, start, usage},
};
use futures::{StreamExt, executor::block_on};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell_core::{ChatModel, Error, FinishReason, StreamEvent, Timer, VendorFailure};

fn options(clock: &VirtualClock) -> RetryOptions {
    RetryOptions::default().seed(1).clock(Arc::new(clock.clone()))
}

fn events(steps: Vec<StreamEvent>) -> Vec<Step> {
    steps.into_iter().map(Step::Event).collect()
}

#[test]
fn a_failure_before_the_first_word_is_mended_unseen_and_told_on_the_answer() {
    let clock = VirtualClock::new();
    let mut busy = VendorFailure::new("acme");
    busy.request_id = Some("req_busy".into());
    let model = Played::new("m", &clock)
        .fail(Error::Overloaded(Box::new(busy)))
        // As the first event, behind the start, behind an open part: nothing was shown.
        .play(vec![
            Step::Event(start()),
            Step::Event(usage(4, 0)),
            Step::Event(StreamEvent::TextStart { index: 0 }),
            Step::Fail(overloaded()),
        ])
        .say("hello")
        .with_retry(options(&clock));
    let stream = block_on(clock.run(model.stream("x".into()))).expect("begins");
    let seen: Vec<StreamEvent> = block_on(clock.run(stream.map(|event| event.expect("good")).collect()));
    assert_eq!(seen[0], start());
    assert_eq!(
        seen.iter()
            .filter(|event| matches!(event, StreamEvent::TextStart { .. }))
            .count(),
        1
    );
    let mut fold = stepwell_core::Fold::new("acme", "m", false);
    for event in seen {
        fold.push(event).expect("in order");
    }
    let answer = fold.finish().expect("whole");
    assert_eq!(answer.text(), "hello");
    assert_eq!(
        answer
            .attempts
            .iter()
            .map(|one| one.request_id.as_deref())
            .collect::<Vec<_>>(),
        [Some("req_busy"), Some("req_1")]
    );
    assert_eq!(
        answer.attempts[1]
            .usage
            .as_ref()
            .map(|usage| (usage.total(), usage.is_estimated)),
        Some((4, true))
    );
    assert_eq!(answer.attempts[1].cost.map(|cost| cost.micro_usd), Some(4));
    assert_eq!(answer.warnings[0].code, "retried");
    let waited: u64 = answer.attempts.iter().map(|one| one.waited_ms).sum();
    assert_eq!(u128::from(waited), clock.now().as_millis());
    assert!((375 + 750..=1_500).contains(&waited));
}

#[test]
fn nothing_is_asked_again_after_a_delivered_word_and_the_last_failure_tells_of_all() {
    let clock = VirtualClock::new();
    let inner = Played::new("m", &clock)
        .break_off("once", overloaded())
        .fail(overloaded())
        .fail(overloaded())
        .fail(Error::RateLimited(failure(None)));
    let model = inner.clone().with_retry(options(&clock));
    let error = block_on(clock.run(model.chat("x".into()))).expect_err("it broke off");
    assert_eq!((error.code(), inner.calls()), ("overloaded", 1));
    let error = block_on(clock.run(model.chat("x".into()))).expect_err("three times");
    assert_eq!((error.code(), inner.calls()), ("rate_limited", 4));
    assert_eq!(error.vendor_failure().expect("of the vendor").attempts.len(), 2);
}

#[test]
fn what_stalled_or_broke_off_is_asked_again_at_once_and_some_failures_never() {
    let timeout = |timer| Error::Timeout {
        what: "x".into(),
        after: Duration::from_secs(1),
        timer,
        partial: None,
    };
    let transport = || Error::Transport {
        provider: "acme".into(),
        source: "reset".into(),
    };
    let mut slip = VendorFailure::new("acme");
    slip.kind = Some("tool_use_failed".into());
    let cases: Vec<(Error, usize, bool)> = vec![
        (timeout(Timer::FirstEvent), 2, false),
        (timeout(Timer::Idle), 2, false),
        (timeout(Timer::Attempt), 2, false),
        (timeout(Timer::Connect), 2, true),
        (timeout(Timer::Total), 1, false),
        (timeout(Timer::Queue), 1, false),
        (transport(), 2, true),
        (overloaded(), 2, true),
        (Error::Rejected(Box::new(slip)), 2, false),
        (Error::Rejected(failure(None)), 1, false),
        (Error::QuotaExceeded(failure(Some(1))), 1, false),
        (Error::Cancelled, 1, false),
        (Error::invalid("x", "y"), 1, false),
        (
            Error::BudgetExceeded {
                what: "tokens".into(),
                limit: "1".into(),
                partial: None,
            },
            1,
            false,
        ),
    ];
    for (error, calls, waits) in cases {
        let clock = VirtualClock::new();
        let shown = format!("{error:?}");
        let inner = Played::new("m", &clock).fail(error).say("hello");
        let answered = block_on(clock.run(inner.clone().with_retry(options(&clock)).chat("x".into())));
        assert_eq!((answered.is_ok(), inner.calls()), (calls == 2, calls), "{shown}");
        assert_eq!(!clock.now().is_zero(), waits, "{shown}");
    }
}

#[test]
fn a_call_the_model_malformed_is_asked_again_at_once_and_bounded() {
    let clock = VirtualClock::new();
    let malformed = || {
        events(vec![
            start(),
            finish(FinishReason::Other, "MALFORMED_FUNCTION_CALL"),
        ])
    };
    let inner = Played::new("m", &clock).play(malformed()).say("hello");
    let answer = block_on(clock.run(inner.with_retry(options(&clock)).chat("x".into()))).expect("mended");
    assert_eq!(
        (answer.text().as_str(), answer.attempts[0].code.as_str()),
        ("hello", "malformed_call")
    );
    let inner = (0..3).fold(Played::new("m", &clock), |model, _| model.play(malformed()));
    let answer =
        block_on(clock.run(inner.clone().with_retry(options(&clock)).chat("x".into()))).expect("as it is");
    assert_eq!(
        answer.raw_finish_reason.as_deref(),
        Some("MALFORMED_FUNCTION_CALL")
    );
    assert_eq!(
        (inner.calls(), answer.attempts.len(), clock.now()),
        (3, 2, Duration::ZERO)
    );
    // With words before it, it is an answer.
    let mut worded = said("hm");
    worded.pop();
    worded.push(finish(FinishReason::Other, "MALFORMED_FUNCTION_CALL"));
    let inner = Played::new("m", &clock).play(events(worded));
    block_on(clock.run(inner.clone().with_retry(options(&clock)).chat("x".into()))).expect("as it is");
    assert_eq!(inner.calls(), 1);
}

#[test]
fn no_try_begins_after_the_deadline_and_there_is_one_loop_in_a_stack() {
    let clock = VirtualClock::new();
    let inner = Played::new("m", &clock)
        .fail(Error::RateLimited(failure(Some(40))))
        .fail(Error::RateLimited(failure(Some(40))));
    let limited = options(&clock)
        .max_retries(9)
        .deadline(Some(Duration::from_mins(1)));
    let error = block_on(clock.run(inner.clone().with_retry(limited).chat("x".into()))).expect_err("in time");
    assert_eq!(
        (error.code(), inner.calls(), clock.now().as_secs()),
        ("rate_limited", 2, 40)
    );

    let inner = (0..9).fold(Played::new("m", &clock), |model, _| model.fail(overloaded()));
    let nested = inner
        .clone()
        .with_retry(options(&clock))
        .with_timeouts(crate::layers::TimeoutOptions::default().clock(Arc::new(clock.clone())))
        .with_retry(options(&clock));
    block_on(clock.run(nested.chat("x".into()))).expect_err("all fail");
    assert_eq!(inner.calls(), 3);
}

#[test]
fn a_refused_key_is_replaced_where_somebody_has_another() {
    let clock = VirtualClock::new();
    let refused = || Error::Unauthorized {
        env_var: "K".into(),
        failure: failure(None),
    };
    let second: Arc<dyn ChatModel> = Arc::new(Played::new("m", &clock).say("hello"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let with = options(&clock).replace(move |error| {
        assert_eq!(error.code(), "unauthorized");
        count.fetch_add(1, Ordering::SeqCst);
        Some(second.clone())
    });
    let inner = Played::new("m", &clock).fail(refused());
    let answer = block_on(clock.run(inner.with_retry(with).chat("x".into()))).expect("the other key");
    assert_eq!(
        (answer.text().as_str(), asked.load(Ordering::SeqCst), clock.now()),
        ("hello", 1, Duration::ZERO)
    );
    let inner = Played::new("m", &clock).fail(refused());
    block_on(clock.run(inner.clone().with_retry(options(&clock)).chat("x".into()))).expect_err("no other");
    assert_eq!(inner.calls(), 1);
}

#[test]
fn an_answer_that_shows_nothing_for_long_is_not_held_for_ever() {
    let clock = VirtualClock::new();
    let mut steps: Vec<StreamEvent> = vec![start()];
    steps.extend((0..300).map(|tokens| usage(tokens, 0)));
    steps.push(StreamEvent::TextStart { index: 0 });
    steps.push(delta("x"));
    let mut plays = events(steps);
    plays.push(Step::Fail(overloaded()));
    let inner = Played::new("m", &clock).play(plays);
    let model = inner.clone().with_retry(options(&clock));
    block_on(clock.run(model.chat("x".into()))).expect_err("it fails");
    assert_eq!(inner.calls(), 1);
}
