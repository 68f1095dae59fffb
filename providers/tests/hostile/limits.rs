//! Heads, lines, events and bodies without end: each is refused at its limit, and the error tells the limit.

use crate::{
    server::{Act, Server, answer, head},
    wires::{Wire, shown, wires},
};
use futures::future::join_all;
use std::time::Duration;
use stepwell_core::Error;
use stepwell_providers::HttpOptions;

async fn fails(wire: Wire, script: Vec<Act>, options: HttpOptions) -> Error {
    let server = Server::always(script).await;
    let call = (wire.build)(&server.url, "k", options);
    let call = tokio::time::timeout(Duration::from_secs(20), call.chat("hi".into()));
    call.await.expect("in time").expect_err("too much")
}

fn begun(wire: Wire) -> Vec<Act> {
    vec![
        Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
        Act::Send(wire.begun().into()),
    ]
}

#[tokio::test]
async fn a_head_of_a_hundred_fields_is_read_and_one_more_is_refused_for_good() {
    join_all(wires().map(|wire| async move {
        let kind = format!("content-type: {}", wire.kind);
        // Beside these there is `connection`.
        let fields = |count: usize| {
            let mut fields: Vec<String> = (0..count - 2).map(|at| format!("x-{at}: a")).collect();
            fields.push(kind.clone());
            fields
        };
        let script = |count: usize| {
            let fields = fields(count);
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            vec![Act::Send(head(200, &fields)), Act::Send(wire.stream.into())]
        };
        let server = Server::always(script(100)).await;
        let good = (wire.build)(&server.url, "k", HttpOptions::default())
            .chat("hi".into())
            .await;
        assert!(good.is_ok(), "{}: {good:?}", wire.name);
        for endless in [
            script(101),
            vec![
                Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Act::Forever(b"x: a\r\n".repeat(500)),
            ],
            vec![
                Act::Send(b"HTTP/1.1 200 OK\r\nx: ".to_vec()),
                Act::Forever(vec![b'a'; 4096]),
            ],
        ] {
            let error = fails(wire, endless, HttpOptions::default()).await;
            assert_eq!(error.code(), "limit_exceeded", "{}: {}", wire.name, shown(&error));
            assert!(error.to_string().contains("100 header fields"), "{error}");
            assert!(!error.is_retryable());
        }
    }))
    .await;
}

#[tokio::test]
async fn an_endless_line_event_and_body_are_refused_at_their_limits() {
    join_all(wires().map(|wire| async move {
        let is_events = wire.kind == "text/event-stream";
        let small = HttpOptions::default()
            .max_event_bytes(64 << 10)
            .max_line_bytes(8 << 10)
            .max_response_bytes(512 << 10);
        let x = vec![b'x'; 1 << 10];
        let mut cases = vec![
            // A line of data, or of JSON, that never ends.
            (
                if is_events { &b"data: "[..] } else { b"{\"a\": \"" }.to_vec(),
                x.clone(),
                "65536 bytes",
                "max_event_bytes",
            ),
            // Good lines without end.
            (
                Vec::new(),
                if is_events {
                    b": ping\n\n".repeat(64)
                } else {
                    b"\n".repeat(512)
                },
                "524288 bytes",
                "max_response_bytes",
            ),
        ];
        if is_events {
            cases.push((b": ".to_vec(), x, "8192 bytes", "max_line_bytes"));
            cases.push((
                Vec::new(),
                b"data: x\n".repeat(64),
                "65536 bytes",
                "max_event_bytes",
            ));
        }
        for (start, more, limit, option) in cases {
            let mut script = begun(wire);
            script.extend([Act::Send(start), Act::Forever(more)]);
            let error = fails(wire, script, small.clone()).await;
            let place = format!("{}, {option}: {}", wire.name, shown(&error));
            assert_eq!(error.code(), "limit_exceeded", "{place}");
            assert!(
                error.to_string().contains(limit) && error.to_string().contains(option),
                "{place}"
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn an_answer_of_just_its_limit_is_read_and_one_byte_more_is_refused() {
    for wire in wires() {
        let body = wire.stream.as_bytes();
        for (limit, is_good) in [(body.len(), true), (body.len() - 1, false)] {
            let server = Server::always(vec![Act::Send(answer(200, wire.kind, body))]).await;
            let options = HttpOptions::default().max_response_bytes(limit);
            let told = (wire.build)(&server.url, "k", options).chat("hi".into()).await;
            match told {
                Ok(_) => assert!(is_good, "{}", wire.name),
                Err(error) => {
                    assert!(!is_good, "{}: {error}", wire.name);
                    assert_eq!(error.code(), "limit_exceeded");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_failure_with_an_endless_body_is_told_by_its_status_at_once() {
    join_all(wires().map(|wire| async move {
        for (kind, start) in [
            ("application/json", &b"{\"error\":{\"message\":\""[..]),
            ("text/html", b"<html>"),
            ("text/plain", b""),
        ] {
            let script = vec![
                Act::Send(head(400, &[&format!("content-type: {kind}")])),
                Act::Send(start.to_vec()),
                Act::Forever(b"canary ".repeat(600)),
            ];
            let error = fails(wire, script, HttpOptions::default()).await;
            assert_eq!(error.code(), "rejected", "{}: {}", wire.name, shown(&error));
            assert!(!shown(&error).contains("canary"));
        }
        // One that stalls is not waited for longer than an event is.
        let script = vec![Act::Send(head(503, &["content-length: 9"])), Act::Stall];
        let brief = HttpOptions::default().idle_timeout(Duration::from_millis(150));
        let error = fails(wire, script, brief).await;
        assert_eq!(error.code(), "overloaded", "{}", wire.name);
    }))
    .await;
}
