//! What is asked again, over a real socket: statuses and first events, never after a delivered word.

use crate::{
    server::{Act, Server, answer, head},
    wires::{WORDS, Wire, wires},
};
use futures::{StreamExt, future::join_all};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell_core::{ChatModel, StreamEvent};
use stepwell_providers::{
    HttpOptions,
    layers::{ModelExt, RateLimitOptions, RateLimiter, RetryOptions},
};

fn quick() -> RetryOptions {
    RetryOptions::default()
        .first_delay(Duration::from_millis(5))
        .seed(1)
}

fn good(wire: Wire) -> Vec<Act> {
    vec![Act::Send(answer(200, wire.kind, wire.stream.as_bytes()))]
}

fn status(status: u16) -> Vec<Act> {
    vec![Act::Send(answer(status, "application/json", b"{}"))]
}

/// Plays these scripts in order, and good answers after them.
async fn server(wire: Wire, first: Vec<Vec<Act>>) -> Server {
    Server::start(move |at| first.get(at).cloned().unwrap_or_else(|| good(wire))).await
}

#[tokio::test]
async fn a_failure_before_the_first_word_is_asked_again_in_whatever_form_it_comes() {
    join_all(wires().map(|wire| async move {
        let begun = |body: &str| vec![Act::Send(answer(200, wire.kind, body.as_bytes()))];
        let mut cases = vec![
            ("429, then 529", vec![status(429), status(529)], "rate_limited"),
            ("503, then 500", vec![status(503), status(500)], "overloaded"),
            ("408, then 409", vec![status(408), status(409)], "overloaded"),
            (
                "a failure as first event",
                vec![begun(wire.failure)],
                "overloaded",
            ),
            ("a reset before the head", vec![vec![Act::Reset]], "transport"),
            ("nothing at all", vec![begun("")], "stream_truncated"),
            (
                "a reset behind the head",
                vec![vec![
                    Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
                    Act::Reset,
                ]],
                "transport",
            ),
        ];
        if wire.kind == "text/event-stream" {
            let pinged = format!(": ping\n\n: ping\n\n{}", wire.failure);
            cases.push(("a failure behind pings", vec![begun(&pinged)], "overloaded"));
        }
        for (what, first, code) in cases {
            let failures = first.len();
            let server = server(wire, first).await;
            let model = (wire.build)(&server.url, "k", HttpOptions::default()).with_retry(quick());
            let answer = model.chat("hi".into()).await;
            let place = format!("{}, {what}", wire.name);
            let answer = answer.unwrap_or_else(|error| panic!("{place}: {error:?}"));
            assert_eq!(answer.text(), WORDS, "{place}");
            assert_eq!(answer.attempts.len(), failures, "{place}");
            assert_eq!(answer.attempts[0].code, code, "{place}");
            let requests = server.requests();
            assert_eq!(requests.len(), failures + 1, "{place}");
            assert!(
                requests.iter().all(|request| request.body == requests[0].body),
                "{place}: the same request"
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn a_third_failure_is_handed_out_and_a_refusal_is_never_asked_again() {
    join_all(wires().map(|wire| async move {
        for (code, tries) in [
            (503, 3),
            (429, 3),
            (400, 1),
            (401, 1),
            (403, 1),
            (404, 1),
            (413, 1),
            (422, 1),
        ] {
            let server = Server::always(status(code)).await;
            let model = (wire.build)(&server.url, "k", HttpOptions::default()).with_retry(quick());
            let error = model.chat("hi".into()).await.expect_err("it fails each time");
            assert_eq!(server.requests().len(), tries, "{} {code}: {error}", wire.name);
        }
    }))
    .await;
}

#[tokio::test]
async fn nothing_is_asked_again_once_a_word_was_handed_out() {
    join_all(wires().map(|wire| async move {
        let begun = format!("{}{}", wire.begun(), wire.failure);
        for broken in [
            vec![Act::Send(answer(200, wire.kind, begun.as_bytes()))],
            vec![Act::Send(answer(200, wire.kind, wire.begun().as_bytes()))],
            vec![
                Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
                Act::Send(wire.begun().into()),
                Act::Reset,
            ],
        ] {
            let server = server(wire, vec![broken]).await;
            let model = (wire.build)(&server.url, "k", HttpOptions::default()).with_retry(quick());
            let mut stream = model.stream("hi".into()).await.expect("it begins");
            let (mut text, mut failure) = (String::new(), None);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(StreamEvent::TextDelta { text: more, .. }) => text.push_str(&more),
                    Ok(_) => {}
                    Err(error) => failure = Some(error),
                }
            }
            let failure = failure.expect("it broke");
            assert!(
                WORDS.starts_with(&text) && !text.is_empty(),
                "{}: {text}",
                wire.name
            );
            assert_eq!(server.requests().len(), 1, "{}: {failure}", wire.name);
            if let Some(failed) = failure.vendor_failure() {
                assert!(failed.output_started, "{}", wire.name);
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn a_limit_on_calls_side_by_side_holds_over_the_wire_and_each_gets_its_turn() {
    let wire = wires()[0];
    let slow = vec![
        Act::Wait(120),
        Act::Send(answer(200, wire.kind, wire.stream.as_bytes())),
    ];
    let server = Server::always(slow).await;
    let limiter = RateLimiter::new(RateLimitOptions::default().max_concurrent(2));
    let model: Arc<dyn ChatModel> =
        (wire.build)(&server.url, "k", HttpOptions::default()).with_rate_limit(limiter);
    let begun = Instant::now();
    let answers = join_all((0..6).map(|_| model.chat("hi".into()))).await;
    assert!(answers.iter().all(Result::is_ok));
    // Three rounds of two.
    assert!(
        begun.elapsed() >= Duration::from_millis(340),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(server.requests().len(), 6);
}
