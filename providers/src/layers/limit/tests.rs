use super::{RateLimitOptions, RateLimiter};
use crate::layers::{
    ModelExt, VirtualClock,
    clock::Clock,
    played::{Played, Step, failure, said},
};
use futures::{StreamExt, executor::block_on, future::join_all};
use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use stepwell_core::{ChatModel, ChatRequest, Error, RateLimit, Scope, StreamEvent};

fn options(clock: &VirtualClock) -> RateLimitOptions {
    RateLimitOptions::default().clock(Arc::new(clock.clone()))
}

fn many(clock: &VirtualClock, count: usize) -> Played {
    (0..count).fold(Played::new("m", clock), |model, _| model.say("hi"))
}

#[test]
fn requests_beyond_the_bucket_wait_for_it_to_fill_and_go_in_order() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).requests_per_minute(6));
    let model = many(&clock, 10).with_rate_limit(limiter.clone());
    let order = Mutex::new(Vec::new());
    let calls = (0..10).map(|number| {
        let (model, order, clock) = (&model, &order, &clock);
        async move {
            model.chat("x".into()).await.expect("in its turn");
            order
                .lock()
                .expect("no panic inside")
                .push((number, clock.now().as_secs()));
        }
    });
    block_on(clock.run(join_all(calls)));
    let order = order.into_inner().expect("no panic inside");
    assert_eq!(
        order.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    // Six at once, then one every ten seconds.
    assert!(
        order[5].1 <= 1 && (9..=11).contains(&order[6].1) && (39..=41).contains(&order[9].1),
        "{order:?}"
    );
    assert_eq!(limiter.load("acme/m"), (0, 0));
}

#[test]
fn tokens_are_set_aside_by_estimate_and_the_rest_comes_back() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).tokens_per_minute(1_000));
    let model = many(&clock, 40).with_rate_limit(limiter);
    // Each sets aside 900 and uses 15: with the rest back, forty fit into less than a minute.
    let ask = async || {
        for _ in 0..40 {
            let request = ChatRequest::from("x").max_output_tokens(900);
            model.chat(request).await.expect("fits");
        }
    };
    block_on(clock.run(ask()));
    assert!(clock.now() < Duration::from_mins(1), "{:?}", clock.now());
}

#[test]
fn calls_at_once_are_capped_and_one_larger_than_the_bucket_still_goes() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).max_concurrent(2).tokens_per_minute(100));
    let running = Arc::new(Mutex::new((0_i32, 0_i32)));
    let slow = (0..6).fold(Played::new("m", &clock), |model, _| {
        let mut steps: Vec<Step> = said("hi").into_iter().map(Step::Event).collect();
        steps.insert(2, Step::Wait(Duration::from_secs(200)));
        model.play(steps)
    });
    let model = slow.with_rate_limit(limiter.clone());
    let calls = (0..6).map(|_| {
        let (model, running) = (&model, running.clone());
        async move {
            let mut stream = model
                .stream(ChatRequest::from("x").max_output_tokens(5_000))
                .await
                .expect("in its turn");
            {
                let mut count = running.lock().expect("no panic inside");
                count.0 += 1;
                count.1 = count.1.max(count.0);
            }
            while stream.next().await.is_some() {}
            running.lock().expect("no panic inside").0 -= 1;
        }
    });
    block_on(clock.run(join_all(calls)));
    assert!((1..=2).contains(&running.lock().expect("no panic inside").1));
    assert_eq!(limiter.load("acme/m"), (0, 0));
}

#[test]
fn who_gives_up_waiting_leaves_no_trace_and_the_next_moves_up() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).max_concurrent(1));
    let model = many(&clock, 3).with_rate_limit(limiter.clone());
    let holder = block_on(clock.run(model.stream("x".into()))).expect("the first goes");
    let mut cx = Context::from_waker(Waker::noop());
    let mut second = model.stream("x".into());
    let mut third = model.stream("x".into());
    assert!(second.as_mut().poll(&mut cx).is_pending() && third.as_mut().poll(&mut cx).is_pending());
    assert_eq!(limiter.load("acme/m"), (2, 1));
    drop(second);
    assert_eq!(limiter.load("acme/m"), (1, 1));
    drop(holder);
    assert_eq!(limiter.load("acme/m"), (1, 0));
    let third = block_on(clock.run(third)).expect("its turn");
    assert_eq!(limiter.load("acme/m"), (0, 1));
    drop(third);
    assert_eq!(limiter.load("acme/m"), (0, 0));
}

#[test]
fn what_the_vendor_says_is_left_is_followed_by_all_clones() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock));
    let mut events = said("hi");
    let mut requests = RateLimit::new("requests");
    (requests.remaining, requests.reset_ms) = (Some(0), Some(20_000));
    events.insert(
        1,
        StreamEvent::RateLimits {
            limits: vec![requests],
        },
    );
    let one = Played::new("m", &clock)
        .play(events.into_iter().map(Step::Event).collect())
        .with_rate_limit(limiter.clone());
    let other = many(&clock, 1).with_rate_limit(limiter.clone());
    let free = Played::new("free", &clock).say("hi").with_rate_limit(limiter);
    block_on(clock.run(async {
        one.chat("x".into()).await.expect("goes");
        free.chat("x".into())
            .await
            .expect("another model has its own lane");
        assert_eq!(clock.now(), Duration::ZERO);
        other.chat("x".into()).await.expect("after the reset");
    }));
    assert_eq!(clock.now(), Duration::from_secs(20));
}

#[test]
fn a_refusal_for_the_rate_makes_everybody_quiet_and_halves_the_places() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).max_concurrent(4));
    let model = Played::new("m", &clock)
        .fail(Error::RateLimited(failure(Some(30))))
        .say("a")
        .say("b")
        .with_rate_limit(limiter.clone());
    block_on(clock.run(async {
        let error = model.chat("x".into()).await.expect_err("refused");
        assert_eq!(error.code(), "rate_limited");
        model.chat("x".into()).await.expect("after the quiet");
    }));
    assert_eq!(clock.now(), Duration::from_secs(30));
    let places = limiter.with("acme/m", |lane, _, _| lane.places());
    assert!(places > 2.0 && places < 3.0, "{places}"); // halved, then one good answer
}

#[test]
fn tenants_do_not_wait_for_one_another_and_a_late_place_is_told() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).max_concurrent(1).max_wait(Duration::from_secs(3)));
    let scoped = |tenant: &str| limiter.for_scope(&Scope::new(tenant).expect("a name"));
    let one = many(&clock, 2).with_rate_limit(scoped("one"));
    let two = many(&clock, 2).with_rate_limit(scoped("two"));
    block_on(clock.run(async {
        let _held = one.stream("x".into()).await.expect("goes");
        two.chat("x".into()).await.expect("another tenant");
        let error = one.chat("x".into()).await.expect_err("no place in time");
        assert_eq!(error.code(), "timeout");
        assert!(error.to_string().contains("rate limit of acme/m took"), "{error}");
    }));
    assert_eq!(clock.now(), Duration::from_secs(3));
}

#[test]
fn a_rate_of_none_is_one_in_a_minute_and_no_wait_without_end() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).requests_per_minute(0));
    let model = many(&clock, 2).with_rate_limit(limiter);
    block_on(clock.run(async {
        model.chat("x".into()).await.expect("one");
        model.chat("x".into()).await.expect("another");
    }));
    assert_eq!(clock.now(), Duration::from_mins(1));
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).tokens_per_minute(0));
    let model = many(&clock, 2).with_rate_limit(limiter);
    block_on(clock.run(async {
        model.chat("x".into()).await.expect("the bucket was full");
        model.chat("x".into()).await.expect("full again");
    }));
    assert_eq!(clock.now(), Duration::from_mins(15), "fifteen tokens were used");
}

#[test]
fn threads_share_one_limiter_and_never_pass_its_cap() {
    let clock = VirtualClock::new();
    let limiter = RateLimiter::new(options(&clock).max_concurrent(3));
    let model = many(&clock, 200).with_rate_limit(limiter.clone());
    let most = Arc::new(Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (model, limiter, most) = (&model, limiter.clone(), most.clone());
            scope.spawn(move || {
                for _ in 0..25 {
                    let stream = block_on(model.stream("x".into())).expect("a place");
                    let running = limiter.load("acme/m").1;
                    let mut most = most.lock().expect("no panic inside");
                    *most = running.max(*most);
                    drop(most);
                    block_on(stream.for_each(async |_| ()));
                }
            });
        }
    });
    assert!((1..=3).contains(&*most.lock().expect("no panic inside")));
    assert_eq!(limiter.load("acme/m"), (0, 0));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(
        super::Enter::new(limiter, "acme/m".into(), 0).poll_unpin_once(&mut cx),
        Poll::Ready(Ok(_))
    ));
}

trait PollOnce: std::future::Future + Unpin {
    fn poll_unpin_once(&mut self, cx: &mut Context<'_>) -> Poll<Self::Output> {
        std::pin::Pin::new(self).poll(cx)
    }
}
impl<F: std::future::Future + Unpin> PollOnce for F {}
