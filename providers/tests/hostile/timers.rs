//! The four clocks: each rings for its own part, names itself, and no dripping server outwits it.

use crate::{
    server::{Act, Server, head},
    wires::wires,
};
use futures::future::join_all;
use std::time::{Duration, Instant};
use stepwell_core::{Error, Timer};
use stepwell_providers::HttpOptions;

fn options() -> HttpOptions {
    HttpOptions::default()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What a script rings, and how soon.
async fn rings(what: &str, script: Vec<Act>, options: HttpOptions, timer: Timer, words: &str) {
    join_all(wires().map(|wire| {
        let (script, options) = (script.clone(), options.clone());
        async move {
            // A place for the wire's own head and first events.
            let script = script
                .into_iter()
                .flat_map(|act| match act {
                    Act::Send(mark) if mark == b"HEAD" => {
                        vec![Act::Send(head(200, &[&format!("content-type: {}", wire.kind)]))]
                    }
                    Act::Send(mark) if mark == b"BEGUN" => vec![Act::Send(wire.begun().into())],
                    Act::Drip(mark, size, wait) if mark == b"BEGUN" => {
                        vec![Act::Drip(wire.begun().into(), size, wait)]
                    }
                    Act::Drip(mark, size, wait) if mark == b"ALIVE" => {
                        let sign = if wire.kind.contains("ndjson") {
                            "\n\n\n"
                        } else {
                            ":\n\n"
                        };
                        vec![Act::Drip(sign.repeat(900).into(), size, wait)]
                    }
                    other => vec![other],
                })
                .collect();
            let server = Server::always(script).await;
            let model = (wire.build)(&server.url, "k", options);
            let begun = Instant::now();
            let error = model.chat("hi".into()).await.expect_err("it never ends");
            let place = format!("{what}, {}: {error:?}", wire.name);
            let Error::Timeout { timer: rang, .. } = &error else {
                panic!("{place}");
            };
            assert_eq!(*rang, timer, "{place}");
            assert!(error.to_string().contains(words), "{place}");
            assert!(begun.elapsed() < Duration::from_secs(4), "{place}");
        }
    }))
    .await;
}

#[tokio::test]
async fn each_clock_rings_for_its_own_part_and_names_itself() {
    let mark = |mark: &[u8]| Act::Send(mark.to_vec());
    let first = options().first_event_timeout(ms(200));
    let idle = options().idle_timeout(ms(200));
    let total = options().total_timeout(ms(300));
    tokio::join!(
        rings(
            "no head",
            vec![Act::Stall],
            first.clone(),
            Timer::FirstEvent,
            "first event"
        ),
        rings(
            "a head and no event",
            vec![mark(b"HEAD"), Act::Stall],
            first.clone(),
            Timer::FirstEvent,
            "first event"
        ),
        rings(
            "signs of life without end, and no event",
            vec![mark(b"HEAD"), Act::Drip(b"ALIVE".to_vec(), 3, 5)],
            first.clone(),
            Timer::FirstEvent,
            "first event"
        ),
        rings(
            "signs of life as fast as they go, and no event",
            vec![mark(b"HEAD"), Act::Forever(b"\n\n\n\n\n\n\n\n".repeat(2000))],
            first,
            Timer::FirstEvent,
            "first event"
        ),
        rings(
            "a stall behind the first words",
            vec![mark(b"HEAD"), mark(b"BEGUN"), Act::Stall],
            idle,
            Timer::Idle,
            "next event"
        ),
        rings(
            "one byte at a time",
            vec![mark(b"HEAD"), Act::Drip(b"BEGUN".to_vec(), 1, 20)],
            total.clone(),
            Timer::Attempt,
            "the answer"
        ),
        rings(
            "a stall under the clock of the whole call",
            vec![mark(b"HEAD"), mark(b"BEGUN"), Act::Stall],
            total.clone(),
            Timer::Attempt,
            "the answer"
        ),
        rings(
            "blank lines without end behind the first words",
            vec![
                mark(b"HEAD"),
                mark(b"BEGUN"),
                Act::Forever(b"\n\n\n\n\n\n\n\n".repeat(2000))
            ],
            total,
            Timer::Attempt,
            "the answer"
        ),
    );
}

#[tokio::test]
async fn a_server_that_never_speaks_tls_rings_the_clock_of_connecting() {
    // It takes the connection and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    for wire in wires() {
        let model = (wire.build)(&url, "k", options().connect_timeout(ms(100)));
        let error = model.chat("hi".into()).await.expect_err("no TLS there");
        assert!(
            matches!(
                &error,
                Error::Timeout {
                    timer: Timer::Connect,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().starts_with("connecting to"), "{error}");
    }
}

#[tokio::test]
async fn a_slow_answer_that_keeps_coming_is_read_to_its_end() {
    join_all(wires().map(|wire| async move {
        let server = Server::always(vec![
            Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
            Act::Drip(wire.stream.as_bytes().to_vec(), 1, 0),
        ])
        .await;
        let patient = options()
            .idle_timeout(ms(500))
            .first_event_timeout(Duration::from_secs(8));
        let answer = (wire.build)(&server.url, "k", patient).chat("hi".into()).await;
        assert_eq!(
            answer.expect("whole").text(),
            crate::wires::WORDS,
            "{}",
            wire.name
        );
    }))
    .await;
}

#[tokio::test]
async fn clocks_that_are_set_to_more_than_a_clock_can_show_do_not_ring() {
    let forever = options()
        .first_event_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .total_timeout(Duration::MAX);
    for wire in wires() {
        let server = Server::always(vec![Act::Send(crate::server::answer(
            200,
            wire.kind,
            wire.stream.as_bytes(),
        ))])
        .await;
        let answer = (wire.build)(&server.url, "k", forever.clone())
            .chat("hi".into())
            .await;
        assert!(answer.is_ok(), "{}: {answer:?}", wire.name);
    }
}
