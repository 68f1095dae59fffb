//! Streams that end too early, in each of the three ways a connection ends.

use crate::{
    server::{Act, Server, head},
    wires::{WORDS, Wire, wires},
};
use futures::{StreamExt, future::join_all};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_core::{ChatModel, Error, StreamEvent, Timer};
use stepwell_providers::HttpOptions;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Closed,
    Reset,
    Stalled,
}

/// Everything that came, and how it ended.
async fn read(model: &dyn ChatModel) -> (Vec<StreamEvent>, Option<Error>) {
    let mut events = Vec::new();
    let mut stream = match model.stream("hi".into()).await {
        Ok(stream) => stream,
        Err(error) => return (events, Some(error)),
    };
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

/// Every cut of a wire, one after the other.
async fn check_all(wire: Wire) -> usize {
    let (length, end) = (wire.stream.len(), wire.end_at());
    let some = (0..=length).step_by(length / 8);
    let mut cases = Vec::new();
    for (number, at) in some.chain([1, end - 1, end, length - 1]).enumerate() {
        cases.extend([(at, Ending::Closed), (at, Ending::Reset)]);
        // These take their time.
        if number % 2 == 0 {
            cases.push((at, Ending::Stalled));
        }
    }
    let case = Arc::new(Mutex::new((length, Ending::Closed)));
    let played = case.clone();
    let server = Server::start(move |_| {
        let (at, ending) = *played.lock().expect("no panic inside");
        let mut script = vec![
            Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
            Act::Send(wire.stream.as_bytes()[..at].to_vec()),
        ];
        script.extend(match ending {
            Ending::Closed => None,
            Ending::Reset => Some(Act::Reset),
            Ending::Stalled => Some(Act::Stall),
        });
        script
    })
    .await;
    let options = HttpOptions::default()
        .first_event_timeout(Duration::from_millis(1500))
        .idle_timeout(Duration::from_millis(300));
    let model = (wire.build)(&server.url, "k", options);
    // The first call sets the client up, which takes its time where many tests run.
    let mut is_warm = false;
    for _ in 0..10 {
        is_warm |= model.chat("hi".into()).await.is_ok();
    }
    assert!(is_warm, "{}: a good answer", wire.name);
    for (at, ending) in &cases {
        *case.lock().expect("no panic inside") = (*at, *ending);
        check(wire, &*model, *at, *ending).await;
    }
    cases.len()
}

async fn check(wire: Wire, model: &dyn ChatModel, at: usize, ending: Ending) {
    let (events, error) = read(model).await;
    let place = format!("{} {ending:?} at {at} of {}", wire.name, wire.stream.len());
    let told: String = events
        .iter()
        .filter_map(|event| match event {
            StreamEvent::TextDelta { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert!(WORDS.starts_with(&told), "{place}: {told}");
    let is_finished = matches!(events.last(), Some(StreamEvent::Finish { .. }));
    let Some(error) = error else {
        assert!(
            is_finished && at >= wire.end_at(),
            "{place}: whole before its end mark"
        );
        return;
    };
    assert!(!is_finished, "{place}: an error behind the end mark");
    assert!(error.is_retryable(), "{place}: {error}");
    match (&error, ending) {
        (Error::Timeout { timer, partial, .. }, Ending::Stalled) => {
            let expected = if events.is_empty() {
                Timer::FirstEvent
            } else {
                Timer::Idle
            };
            assert_eq!(*timer, expected, "{place}");
            assert_eq!(partial.is_some(), !events.is_empty(), "{place}");
        }
        // Nothing had been said: the vendor was not reached.
        (Error::Transport { .. }, Ending::Reset) => assert!(events.is_empty(), "{place}"),
        (Error::StreamTruncated { .. }, Ending::Closed | Ending::Reset) => {}
        (error, _) => panic!("{place}: {error:?}"),
    }
    if let Some(partial) = error.partial() {
        assert_eq!(partial.text(), told, "{place}");
        assert!(partial.usage.is_estimated, "{place}: {:?}", partial.usage);
        assert!(told.is_empty() || partial.usage.total_output() > 0, "{place}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_end_mark_is_an_error_with_what_had_come() {
    let count: usize = join_all(wires().map(check_all)).await.into_iter().sum();
    println!("{count} cuts over a socket");
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_connection_before_and_after_the_first_word() {
    join_all(wires().map(|wire| async move {
        let server = Server::start(move |number| match number {
            0 => vec![
                Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
                Act::Send(wire.begun().as_bytes().to_vec()),
                Act::Stall,
            ],
            _ => vec![Act::Stall],
        })
        .await;
        let model = (wire.build)(&server.url, "k", HttpOptions::default());
        let mut stream = model.stream("hi".into()).await.expect("it begins");
        assert!(stream.next().await.expect("an event").is_ok());
        assert_eq!(server.hung_up(), 0);
        drop(stream);
        closed(&server, 1, wire.name).await;
        let call = tokio::time::timeout(Duration::from_millis(500), model.chat("hi".into())).await;
        assert!(call.is_err(), "nobody answers");
        closed(&server, 2, wire.name).await;
    }))
    .await;
}

async fn closed(server: &Server, count: usize, name: &str) {
    let seen = async {
        while server.hung_up() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(5), seen).await;
    assert!(seen.is_ok(), "{name}: the server sees the end");
}
