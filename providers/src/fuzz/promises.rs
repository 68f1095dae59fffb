//! What has to hold for whatever comes.

use super::wires::{MODEL, Wire};
use crate::{
    embeddings,
    framing::{Framing, Limits},
    header,
    http::{Auth, Vendor},
    rerank,
    sse::Item,
    vendor_failure,
    verdict::plain_word,
};
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use stepwell_core::{Error, Fold, PartialJson, StreamEvent, VendorFailure};

static VENDOR: Vendor = Vendor::new(
    "acme",
    "ACME_API_KEY",
    "ACME_BASE_URL",
    "https://acme.example",
    Auth::Bearer,
);

/// Pieces of one to sixteen bytes, or of up to four thousand, as the seed says.
fn cut(seed: u8, mut rest: &[u8]) -> Vec<&[u8]> {
    let mut state = u32::from(seed).wrapping_mul(0x9E37_79B9) | 1;
    let longest = if seed & 1 == 0 { 16 } else { 4000 };
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let length = 1 + usize::try_from(state % longest).unwrap_or(0);
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

/// The same events however they are cut.
pub(super) fn framing_is_sound(framing: Framing, seed: u8, body: &[u8]) {
    let whole = frame(framing, &[body]);
    assert_eq!(whole, frame(framing, &cut(seed, body)), "cut by {seed}");
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(whole, frame(framing, &bytes), "byte by byte");
}

/// Names and data of the events in these pieces, and whether they end in a failure.
fn frame(framing: Framing, pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut parser = framing.parser(Limits {
        event: 4096,
        line: 512,
    });
    let mut found = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(Item::Event(event))) => found.push(format!("{}: {}", event.name, event.data)),
                Ok(Some(Item::Comment)) => found.push(String::new()),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    found.extend(parser.rest());
    (found, false)
}

/// The same value however it is cut, and the one serde_json reads where it is whole.
pub(super) fn partial_json_agrees(seed: u8, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let mut whole = PartialJson::new();
    let pushed = whole.push(&text).is_ok();
    let mut pieces = PartialJson::new();
    let (mut from, mut is_fine) = (0, true);
    for piece in cut(seed, text.as_bytes()) {
        // A piece ends where a character does.
        let mut to = (from + piece.len()).min(text.len());
        while !text.is_char_boundary(to) {
            to += 1;
        }
        is_fine &= to <= from || pieces.push(&text[from..to]).is_ok();
        from = to.max(from);
    }
    is_fine &= from == text.len();
    assert_eq!(pushed, is_fine, "good however it is cut");
    if pushed {
        assert_eq!(whole.value(), pieces.value(), "the same however it is cut");
    }
    let theirs = serde_json::from_str::<Value>(&text).ok();
    let ours = if pushed { whole.finish().ok() } else { None };
    // Numbers far longer than any that is exact are over our limit.
    let is_of_number = |sign: char| sign.is_ascii_digit() || matches!(sign, '-' | '+' | '.' | 'e' | 'E');
    if text
        .split(|sign| !is_of_number(sign))
        .all(|word| word.len() <= 300)
    {
        assert_eq!(ours, theirs, "whole JSON is what serde_json reads");
    }
}

/// The same events and the same end however it is cut; and an end mark, or a failure.
pub(super) fn stream_is_sound(wire: Wire, seed: u8, body: &[u8]) {
    let pieces = |pieces: Vec<&[u8]>| {
        pieces
            .into_iter()
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect()
    };
    let whole = wire.read(pieces(vec![body]));
    events_are_sound(&whole.0, whole.1.is_none());
    let again = wire.read(pieces(cut(seed, body)));
    assert_eq!(whole.0, again.0, "the same events however they are cut");
    let told = |error: &Option<Error>| match error {
        None => String::new(),
        Some(Error::StreamTruncated { partial, .. }) => format!("truncated after {:?}", partial.message),
        Some(error) => error.code().to_owned(),
    };
    assert_eq!(told(&whole.1), told(&again.1), "the same end however it is cut");
    if let Some(error) = &whole.1 {
        assert!(error.to_string().len() < 1000, "a sentence, whatever came");
    }
}

/// The promises of a stream: the message starts before anything is said, parts do not contradict each other, and the
/// one end mark comes last.
pub(super) fn events_are_sound(events: &[StreamEvent], is_whole: bool) {
    let mut fold = Fold::new("acme", MODEL, false);
    let mut has_started = false;
    for event in events {
        match event {
            StreamEvent::MessageStart { .. } => {
                assert!(!has_started, "it starts once");
                has_started = true;
            }
            StreamEvent::Ping | StreamEvent::Raw { .. } => {}
            _ => assert!(has_started, "nothing comes before the start: {event:?}"),
        }
        fold.push(event.clone())
            .expect("events do not contradict each other");
    }
    assert_eq!(fold.is_finished(), is_whole, "an end mark, or a failure");
}

/// Waits are believable, ids are ids, and no header of any form stops us.
pub(super) fn headers_are_sound(body: &[u8]) {
    const NAMES: [&str; 9] = [
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "request-id",
        "x-request-id",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-requests",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-input-tokens-limit",
    ];
    let mut headers = HeaderMap::new();
    for line in body.split(|byte| *byte == b'\n') {
        // The first byte names a header we read, or the line names its own.
        let (name, value) = match line.split_first() {
            Some((first, value)) if usize::from(*first) < NAMES.len() => {
                (HeaderName::from_static(NAMES[usize::from(*first)]), value)
            }
            _ => {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                let Ok(name) = HeaderName::from_bytes(&line[..colon]) else {
                    continue;
                };
                (name, line.get(colon + 1..).unwrap_or_default().trim_ascii())
            }
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    if let Some(wait) = header::retry_after(&headers, now) {
        assert!(!wait.is_zero() && wait <= Duration::from_hours(24), "{wait:?}");
    }
    if let Some(id) = header::request_id(&headers) {
        assert!(header::is_id(&id));
    }
    let limits = header::rate_limits(&headers, now);
    assert!(limits.len() <= 16);
    assert!(limits.is_sorted_by(|a, b| a.name < b.name), "each kind once");
    let _ = header::should_retry(&headers);
}

/// Every word a vendor says of its failure is kept apart: the error shows none of them, whatever form they come in.
pub(super) fn failures_are_sound(seed: u8, body: &[u8]) {
    // Whatever text stands in the body could be a prompt.
    let marked = serde_json::from_slice::<Value>(body).map(|mut value| {
        mark(&mut value);
        serde_json::to_vec(&value).expect("a value is JSON")
    });
    let status = [400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529][usize::from(seed) % 13];
    for body in [body, marked.as_deref().unwrap_or(b"CANARY words")] {
        let mut errors = Vec::new();
        for status in [Some(status), None] {
            let failure = || {
                let mut failure = VendorFailure::new("acme");
                failure.status = status;
                failure
            };
            errors.push(vendor_failure::error(failure(), body, &VENDOR, "m"));
            #[cfg(feature = "anthropic")]
            errors.push(crate::anthropic::failure::error(failure(), body, &VENDOR, "m"));
            #[cfg(feature = "openai")]
            errors.push(crate::openai::failure::error(failure(), body, &VENDOR, "m"));
            #[cfg(feature = "gemini")]
            errors.push(crate::gemini::failure::error(failure(), body, &VENDOR, "m"));
            #[cfg(feature = "ollama")]
            errors.push(crate::ollama::failure::error(failure(), body, &VENDOR, "m"));
        }
        for error in &errors {
            let shown = format!("{error} {error:?}");
            assert!(shown.len() < 1000, "a sentence, whatever came");
            assert!(!shown.to_ascii_uppercase().contains("CANARY WORDS"), "{shown}");
            let failure = error.vendor_failure();
            if let Some(kind) = failure.and_then(|failure| failure.kind.clone()) {
                assert_eq!(plain_word(Some(kind.clone())), Some(kind));
            }
            if let Some(wait) = error.retry_after() {
                assert!(!wait.is_zero() && wait <= Duration::from_hours(24), "{wait:?}");
            }
        }
        if let Some(wait) = header::retry_after_in(body) {
            assert!(!wait.is_zero() && wait <= Duration::from_hours(24), "{wait:?}");
        }
    }
}

/// Puts words that nothing may show behind every text.
fn mark(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(" CANARY words"),
        Value::Array(items) => items.iter_mut().for_each(mark),
        Value::Object(fields) => fields.values_mut().for_each(mark),
        _ => {}
    }
}

/// Answers of embedders and rerankers are read or refused, and a failure to read them shows none of their words.
pub(super) fn vectors_are_sound(body: &[u8]) {
    for error in embeddings::read_all(body)
        .into_iter()
        .chain(rerank::read_all(body))
    {
        let shown = crate::answer::unreadable("acme", "the answer", &error).to_string();
        assert!(shown.len() < 200, "{shown}");
    }
}

/// A file that is no cassette of ours is refused.
pub(super) fn cassettes_are_sound(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    for line in text.lines() {
        crate::cassette::read_line(line);
    }
}
