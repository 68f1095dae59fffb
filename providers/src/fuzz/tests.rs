//! The targets as property tests, seeded with pieces of recorded bodies; and recorded streams cut at every byte.

use super::{
    WORDS, check, targets,
    wires::{Ending, Wire, wires},
};
use crate::fixtures::{Exchange, Random, exchanges};
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;
use stepwell_core::{ChatResponse, Error, Fold, Result, StreamEvent, Timer};

fn body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    (any::<u8>(), prop::collection::vec(word, 0..24)).prop_map(|(seed, words)| {
        let mut bytes = vec![seed];
        bytes.extend(words.concat());
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_promise_holds_for_whatever_comes(bytes in body()) {
        for target in targets() {
            check(target, &bytes);
        }
    }
}

/// The exchanges whose bodies are streams, by wire.
fn recorded() -> Vec<(Wire, Vec<Exchange>)> {
    let sources = [
        ("messages", vec![("anthropic", "messages")]),
        (
            "chat_completions",
            vec![("openai", "chat_completions"), ("groq", "chat_completions")],
        ),
        ("responses", vec![("openai", "responses"), ("xai", "responses")]),
        ("generate_content", vec![("gemini", "generate_content")]),
        ("generate_content_array", vec![("gemini", "generate_content")]),
        ("ollama_native", vec![("ollama", "ollama_native")]),
    ];
    wires()
        .into_iter()
        .map(|wire| {
            let folders = sources
                .iter()
                .find(|(name, _)| *name == wire.name)
                .map(|(_, folders)| folders);
            let folders = folders.expect("every wire has its recordings");
            let found = folders
                .iter()
                .filter_map(|(provider, api)| exchanges(provider, api))
                .flatten();
            let is_its_form = |exchange: &Exchange| match wire.name {
                "generate_content_array" => exchange.body.starts_with('['),
                "ollama_native" => exchange.body.lines().count() > 1,
                _ => exchange.is_stream(),
            };
            (
                wire,
                found
                    .filter(|exchange| exchange.status == 200 && is_its_form(exchange))
                    .collect(),
            )
        })
        .collect()
}

fn fold(events: Vec<StreamEvent>) -> Result<ChatResponse> {
    let mut fold = Fold::new("acme", "some-model", false);
    for event in events {
        fold.push(event)?;
    }
    fold.finish()
}

/// Where the vendor's end mark stands at the earliest.
fn end_of(wire: &Wire, body: &str) -> usize {
    let marks: &[&str] = match wire.name {
        "messages" => &["\"message_stop\"}", "\"message_stop\" }", "\"message_stop\""],
        "chat_completions" => &["\"finish_reason\":\"", "\"finish_reason\": \""],
        "responses" => &[
            "\"type\":\"response.completed\"",
            "\"type\": \"response.completed\"",
            "response.completed",
            "response.incomplete",
        ],
        "ollama_native" => &["\"done\":true", "\"done\": true"],
        _ => &["\"finishReason\""],
    };
    let found = marks
        .iter()
        .filter_map(|mark| Some(body.find(mark)? + mark.len()));
    found.min().unwrap_or(body.len())
}

fn pieces(parts: &[&[u8]]) -> Vec<Result<Bytes>> {
    parts
        .iter()
        .map(|part| Ok(Bytes::copy_from_slice(part)))
        .collect()
}

/// Every place to cut a body of this length: all with `STEPWELL_LONG=1`, else its ends and some between.
fn places(length: usize, random: &mut Random) -> Vec<usize> {
    if std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1") {
        return (0..=length).collect();
    }
    let between = (0..24).map(|_| random.below(length));
    between.chain([0, 1, length.saturating_sub(1), length]).collect()
}

/// How a connection ends that ends too early.
fn endings() -> [(&'static str, Option<Error>); 3] {
    let reset = Error::Transport {
        provider: "acme".into(),
        source: "reset".into(),
    };
    let stall = Error::Timeout {
        what: "the next event".into(),
        after: Duration::from_secs(1),
        timer: Timer::Idle,
        partial: None,
    };
    [("closed", None), ("reset", Some(reset)), ("stalled", Some(stall))]
}

/// A stream that ended too early says how, with all that had come: words, and usage flagged as an estimate.
fn broke_off(error: &Error, how: &str, events: &[StreamEvent], full: &ChatResponse, place: &str) {
    let text = |events: &[StreamEvent]| -> String {
        let deltas = events.iter().filter_map(|event| match event {
            StreamEvent::TextDelta { text, .. } => Some(text.as_str()),
            _ => None,
        });
        deltas.collect()
    };
    match (error, how) {
        (Error::StreamTruncated { .. }, "closed" | "reset") | (Error::Timeout { .. }, "stalled") => {}
        // The vendor was not reached: nothing had come.
        (Error::Transport { .. }, "reset") => assert!(events.is_empty(), "{place}"),
        _ => panic!("{place}: {error:?}"),
    }
    let Some(partial) = error.partial() else {
        assert!(
            events.is_empty(),
            "{place}: what had come is not there: {error:?}"
        );
        return;
    };
    assert!(full.text().starts_with(&partial.text()), "{place}");
    assert_eq!(partial.text(), text(events), "{place}");
    assert!(partial.usage.is_estimated, "{place}");
    assert!(
        partial.text().is_empty() || partial.usage.total_output() > 0,
        "{place}"
    );
    assert!(!format!("{error} {error:?}").contains("\"text\""), "{place}");
}

#[test]
fn a_stream_cut_at_any_byte_is_never_whole_before_its_end_mark() {
    let mut random = Random::new(5);
    let (mut count, mut streams) = (0, 0);
    for (wire, exchanges) in recorded() {
        let mut good: Vec<&Exchange> = exchanges
            .iter()
            .filter(|exchange| wire.read(pieces(&[exchange.body.as_bytes()])).1.is_none())
            .collect();
        good.sort_by_key(|exchange| exchange.body.len());
        for exchange in good.iter().take(9) {
            streams += 1;
            let body = exchange.body.as_bytes();
            let full = fold(wire.read(pieces(&[body])).0).expect("whole");
            let end = end_of(&wire, &exchange.body);
            for at in places(body.len(), &mut random) {
                for (how, ending) in endings() {
                    let mut parts = pieces(&[&body[..at]]);
                    parts.extend(ending.map(Err));
                    let (events, error) = wire.read(parts);
                    let place = format!("{} {} {how} at {at} of {}", wire.name, exchange.id, body.len());
                    match error {
                        None => {
                            let answer = fold(events).expect("an end mark");
                            assert!(at >= end, "{place}: whole before its end mark");
                            assert!(full.text().starts_with(&answer.text()), "{place}");
                            if wire.name != "generate_content" {
                                assert_eq!(answer.message, full.message, "{place}");
                            }
                        }
                        Some(error) => broke_off(&error, how, &events, &full, &place),
                    }
                    count += 1;
                }
            }
        }
    }
    println!("{streams} recorded streams cut in {count} ways");
}

#[test]
fn forty_streams_cut_in_two_at_every_byte_and_into_single_bytes_say_the_same() {
    let mut random = Random::new(7);
    let (mut streams, mut count) = (0, 0);
    for (wire, mut exchanges) in recorded() {
        exchanges.sort_by_key(|exchange| exchange.body.len());
        for (rank, exchange) in exchanges.iter().enumerate() {
            let body = exchange.body.as_bytes();
            let crlf = exchange.body.replace("\r\n", "\n").replace('\n', "\r\n");
            let told = |(events, error): Ending| (events, error.map(|error| error.code()));
            let whole = told(wire.read(pieces(&[body])));
            let same = |parts: &[&[u8]]| {
                let again = told(wire.read(pieces(parts)));
                assert!(
                    again == whole,
                    "{} {}: {} pieces",
                    wire.name,
                    exchange.id,
                    parts.len()
                );
            };
            if rank < 12 {
                same(&body.chunks(1).collect::<Vec<_>>());
                for at in places(body.len(), &mut random) {
                    same(&[&body[..at], &body[at..]]);
                    count += 1;
                }
                streams += 1;
            }
            same(&random.cut(body));
            same(&random.cut(crlf.as_bytes()));
        }
    }
    println!("{streams} streams in {count} ways");
}
