use super::{Continuation, FallbackOptions, FallbackReason};
use crate::layers::{
    ModelExt, RetryOptions, VirtualClock,
    clock::Clock,
    played::{Played, Step, delta, failure, finish, overloaded, start, usage},
};
use futures::{StreamExt, executor::block_on};
use std::{sync::Arc, time::Duration};
use stepwell_core::{ChatModel, ChatResponse, Error, FinishReason, Role, StreamEvent, Timer, VendorFailure};

fn rejected(kind: Option<&str>, message: &str) -> Error {
    let mut failure = VendorFailure::new("acme");
    failure.status = Some(400);
    failure.kind = kind.map(str::to_owned);
    failure.message = Some(message.to_owned());
    Error::Rejected(Box::new(failure))
}

fn timeout(timer: Timer) -> Error {
    Error::Timeout {
        what: "x".into(),
        after: Duration::from_secs(1),
        timer,
        partial: None,
    }
}

#[test]
fn each_failure_goes_on_or_stays_as_the_table_says() {
    type Make = fn() -> Error;
    let cases: Vec<(&str, Make, bool)> = vec![
        ("quota", || Error::QuotaExceeded(failure(None)), true),
        ("rate", || Error::RateLimited(failure(Some(48))), true),
        ("overload", overloaded, true),
        (
            "transport",
            || Error::Transport {
                provider: "acme".into(),
                source: "down".into(),
            },
            true,
        ),
        ("first event", || timeout(Timer::FirstEvent), true),
        ("queue", || timeout(Timer::Queue), true),
        ("total", || timeout(Timer::Total), false),
        (
            "unreadable",
            || Error::InvalidResponse {
                provider: "acme".into(),
                message: "x".into(),
            },
            true,
        ),
        (
            "wrong shape",
            || Error::SchemaMismatch {
                provider: "acme".into(),
                faults: Vec::new(),
                response: Box::new(ChatResponse::new("acme", "m", Vec::new(), FinishReason::Stop)),
            },
            true,
        ),
        (
            "window by code",
            || rejected(Some("context_length_exceeded"), ""),
            true,
        ),
        (
            "window by sentence",
            || rejected(None, "prompt is too long: 213462 tokens > 200000 maximum"),
            true,
        ),
        (
            "rejected",
            || rejected(Some("invalid_request_error"), "messages: roles must alternate"),
            false,
        ),
        (
            "key",
            || Error::Unauthorized {
                env_var: "K".into(),
                failure: failure(None),
            },
            false,
        ),
        (
            "no model",
            || Error::NotFound {
                what: "model".into(),
                name: "m".into(),
                hint: "x".into(),
            },
            false,
        ),
        (
            "unsupported",
            || Error::Unsupported {
                who: "acme".into(),
                what: "audio".into(),
                hint: "x".into(),
            },
            false,
        ),
        (
            "budget",
            || Error::BudgetExceeded {
                what: "tokens".into(),
                limit: "1".into(),
                partial: None,
            },
            false,
        ),
        ("cancelled", || Error::Cancelled, false),
    ];
    for (name, make, goes_on) in cases {
        let clock = VirtualClock::new();
        let second = Played::new("two", &clock).say("hello");
        let model = Played::new("one", &clock).fail(make()).with_fallback(
            [Arc::new(second.clone()) as Arc<dyn ChatModel>],
            FallbackOptions::default(),
        );
        match block_on(clock.run(model.chat("x".into()))) {
            Ok(answer) => {
                assert!(goes_on, "{name}");
                assert_eq!((answer.model.as_str(), answer.text().as_str()), ("two", "hello"));
                assert_eq!(answer.attempts[0].model, "one", "{name}");
                assert_eq!(answer.attempts[0].code, make().code());
                assert_eq!(answer.warnings[0].code, "fallback");
            }
            Err(error) => assert_eq!((goes_on, error.code()), (false, make().code()), "{name}"),
        }
        assert_eq!(second.calls(), usize::from(goes_on), "{name}");
    }
}

#[test]
fn a_reason_can_be_added_and_taken_away() {
    let ask = |error: Error, options: FallbackOptions| {
        let clock = VirtualClock::new();
        let second: Arc<dyn ChatModel> = Arc::new(Played::new("two", &clock).say("hello"));
        let model = Played::new("one", &clock)
            .fail(error)
            .with_fallback([second], options);
        block_on(clock.run(model.chat("x".into()))).is_ok()
    };
    let key = || Error::Unauthorized {
        env_var: "K".into(),
        failure: failure(None),
    };
    let options = FallbackOptions::default;
    assert!(ask(key(), options().also(FallbackReason::Misconfiguration)));
    assert!(!ask(overloaded(), options().never(FallbackReason::Failure)));
}

#[test]
fn a_long_wait_goes_to_the_next_model_and_a_short_one_is_waited_out() {
    let ask = |seconds: u64| {
        let clock = VirtualClock::new();
        let retry = RetryOptions::default().clock(Arc::new(clock.clone()));
        let first = Played::new("one", &clock)
            .fail(Error::RateLimited(failure(Some(seconds))))
            .say("first")
            .with_retry(retry.clone());
        let second = Played::new("two", &clock).say("second").with_retry(retry);
        let model = first.with_fallback([second], FallbackOptions::default());
        let answer = block_on(clock.run(model.chat("x".into()))).expect("one of them");
        (answer.text(), clock.now().as_secs())
    };
    assert_eq!(ask(3), ("first".into(), 3));
    assert_eq!(ask(48), ("second".into(), 0));
    // Also where the wait is beyond what the retry would honour.
    assert_eq!(ask(4_000), ("second".into(), 0));
}

#[test]
fn an_outer_retry_is_the_only_loop_and_asks_all_models_again() {
    let clock = VirtualClock::new();
    let retry = RetryOptions::default().clock(Arc::new(clock.clone()));
    let first = Played::new("one", &clock).fail(overloaded()).fail(overloaded());
    let second = Played::new("two", &clock).fail(overloaded()).say("hello");
    let model = first
        .clone()
        .with_retry(retry.clone())
        .with_fallback(
            [second.clone().with_retry(retry.clone())],
            FallbackOptions::default(),
        )
        .with_retry(retry);
    let answer = block_on(clock.run(model.chat("x".into()))).expect("the fourth try");
    assert_eq!((first.calls(), second.calls()), (2, 2));
    assert_eq!(answer.text(), "hello");
}

#[test]
fn a_smaller_window_is_passed_over_and_a_refusal_goes_on_only_when_asked() {
    let clock = VirtualClock::new();
    let small = Played::new("small", &clock).window(8_000);
    let large = Played::new("large", &clock).window(1_000_000).say("hello");
    let others: Vec<Arc<dyn ChatModel>> = vec![Arc::new(small.clone()), Arc::new(large)];
    let model = Played::new("one", &clock)
        .window(200_000)
        .fail(rejected(Some("context_length_exceeded"), ""))
        .with_fallback(others, FallbackOptions::default());
    let answer = block_on(clock.run(model.chat("x".into()))).expect("the large one");
    assert_eq!((answer.model.as_str(), small.calls()), ("large", 0));

    let refusal = || {
        [start(), finish(FinishReason::ContentFilter, "refusal")]
            .map(Step::Event)
            .into_iter()
            .collect()
    };
    for (options, text) in [
        (FallbackOptions::default(), ""),
        (FallbackOptions::default().also(FallbackReason::Refusal), "hello"),
    ] {
        let second: Arc<dyn ChatModel> = Arc::new(Played::new("two", &clock).say("hello"));
        let model = Played::new("one", &clock)
            .play(refusal())
            .with_fallback([second], options);
        let answer = block_on(clock.run(model.chat("x".into()))).expect("an answer");
        assert_eq!(answer.text(), text);
    }
}

#[test]
fn the_first_event_as_error_goes_on_and_its_usage_is_kept() {
    let clock = VirtualClock::new();
    let second: Arc<dyn ChatModel> = Arc::new(Played::new("two", &clock).say("hello"));
    let model = Played::new("one", &clock)
        .play(vec![
            Step::Event(start()),
            Step::Event(usage(7, 0)),
            Step::Fail(overloaded()),
        ])
        .with_fallback([second], FallbackOptions::default());
    let answer = block_on(clock.run(model.chat("x".into()))).expect("the second");
    let attempt = &answer.attempts[0];
    let used = attempt.usage.as_ref().expect("it was told");
    assert!(used.is_estimated && used.total() == 7);
    assert_eq!(attempt.request_id.as_deref(), Some("req_1"));
}

#[test]
fn after_the_first_words_the_error_is_passed_on_unless_asked_otherwise() {
    let clock = VirtualClock::new();
    let second = Played::new("two", &clock).say("hello");
    let model = Played::new("one", &clock)
        .break_off("once upon", overloaded())
        .with_fallback(
            [Arc::new(second.clone()) as Arc<dyn ChatModel>],
            FallbackOptions::default(),
        );
    let error = block_on(clock.run(model.chat("x".into()))).expect_err("it broke off");
    assert_eq!((error.code(), second.calls()), ("overloaded", 0));
}

#[test]
fn a_text_that_breaks_off_goes_on_elsewhere_in_a_part_of_its_own() {
    for continuation in [Continuation::Ask, Continuation::Prefill] {
        let clock = VirtualClock::new();
        let second = Played::new("two", &clock).fail(overloaded());
        let third = Played::new("three", &clock).say("a time.");
        let others: Vec<Arc<dyn ChatModel>> = vec![Arc::new(second), Arc::new(third.clone())];
        let model = Played::new("one", &clock)
            .break_off("Once upon ", overloaded())
            .with_fallback(others, FallbackOptions::default().after_output(continuation));
        let events: Vec<StreamEvent> = block_on(clock.run(async {
            let stream = model.stream("Tell a story".into()).await.expect("begins");
            stream.map(|event| event.expect("no error")).collect().await
        }));
        let mark = events
            .iter()
            .position(|event| matches!(event, StreamEvent::Fallback { model, .. } if model == "three"))
            .expect("the change is marked");
        // The part that broke off is closed before, the new one begins behind.
        assert!(events[..mark].contains(&StreamEvent::TextEnd {
            index: 0,
            opaque: None
        }));
        assert!(events[mark..].contains(&StreamEvent::TextStart { index: 1 }));
        let mut fold = stepwell_core::Fold::new("acme", "one", false);
        for event in events {
            fold.push(event).expect("in order");
        }
        let answer = fold.finish().expect("one end mark");
        assert_eq!(answer.text(), "Once upon a time.");
        assert_eq!(answer.model, "three");
        assert_eq!(answer.warnings[0].code, "continued");
        assert_eq!(
            answer
                .attempts
                .iter()
                .map(|one| one.model.as_str())
                .collect::<Vec<_>>(),
            ["one", "two"]
        );
        assert!(answer.attempts[0].usage.as_ref().expect("estimated").is_estimated);
        assert!(answer.attempts[0].cost.is_some());
        let asked = &third.requests()[0].messages;
        let last = asked.last().expect("messages");
        match continuation {
            Continuation::Ask => {
                assert_eq!(last.role, Role::User);
                assert_eq!(asked[asked.len() - 2].text(), "Once upon ");
            }
            Continuation::Prefill => {
                assert_eq!((last.role, last.text().as_str()), (Role::Assistant, "Once upon"));
            }
        }
    }
}

#[test]
fn an_answer_that_began_a_tool_call_is_never_continued() {
    let clock = VirtualClock::new();
    let second = Played::new("two", &clock);
    let call = StreamEvent::ToolCallStart {
        index: 1,
        id: "c".into(),
        name: "pay".into(),
        is_provider_executed: false,
    };
    let model = Played::new("one", &clock)
        .play(vec![
            Step::Event(start()),
            Step::Event(StreamEvent::TextStart { index: 0 }),
            Step::Event(delta("I pay")),
            Step::Event(call),
            Step::Fail(overloaded()),
        ])
        .with_fallback(
            [Arc::new(second.clone()) as Arc<dyn ChatModel>],
            FallbackOptions::default().after_output(Continuation::Ask),
        );
    let error = block_on(clock.run(model.chat("x".into()))).expect_err("it broke off");
    assert_eq!((error.code(), second.calls()), ("overloaded", 0));
}

#[test]
fn when_all_fail_the_last_error_tells_of_the_others() {
    let clock = VirtualClock::new();
    let second: Arc<dyn ChatModel> = Arc::new(Played::new("two", &clock).fail(overloaded()));
    let model = Played::new("one", &clock)
        .fail(Error::RateLimited(failure(None)))
        .with_fallback([second], FallbackOptions::default());
    let error = block_on(clock.run(model.chat("x".into()))).expect_err("both fail");
    let attempts = &error.vendor_failure().expect("of a vendor").attempts;
    assert_eq!(error.code(), "overloaded");
    assert_eq!(
        attempts
            .iter()
            .map(|one| (one.model.as_str(), one.code.as_str()))
            .collect::<Vec<_>>(),
        [("one", "rate_limited")]
    );
}
