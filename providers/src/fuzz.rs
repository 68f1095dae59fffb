//! What has to hold for every byte string a vendor may send: [`targets`] for a fuzzer, and the same as property tests.
//!
//! A target takes any bytes. The first says how the rest is cut; the rest is what comes from the vendor.

use crate::{
    answer::{Decoder, Out, run},
    framing::{Framing, Limits},
    sse::Item,
};
use bytes::Bytes;
use futures::executor::block_on;
use serde_json::Value;
use stepwell_core::{Error, Fold, PartialJson, Result, StreamEvent};

const MODEL: &str = "some-model";

/// Events, and how they ended.
type Ending = (Vec<StreamEvent>, Option<Error>);

/// A streamed wire.
#[derive(Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) name: &'static str,
    /// What its bodies are said to be.
    pub(crate) content_type: &'static [u8],
    decode: fn(Vec<Result<Bytes>>, &'static [u8]) -> Ending,
}

impl Wire {
    /// A stream that comes so.
    pub(crate) fn read(&self, body: Vec<Result<Bytes>>) -> Ending {
        (self.decode)(body, self.content_type)
    }
}

fn decode(body: Vec<Result<Bytes>>, kind: &[u8], decoder: impl Decoder) -> Ending {
    block_on(run(body, kind, decoder, "acme"))
}

/// All streamed wires there are.
pub(crate) fn wires() -> Vec<Wire> {
    const EVENTS: &[u8] = b"text/event-stream";
    vec![
        #[cfg(feature = "anthropic")]
        Wire {
            name: "messages",
            content_type: EVENTS,
            decode: |body, kind| decode(body, kind, crate::anthropic::stream::Messages::new(MODEL)),
        },
        #[cfg(feature = "openai")]
        Wire {
            name: "chat_completions",
            content_type: EVENTS,
            decode: |body, kind| {
                let dialect = crate::openai::dialect::Dialect::openai();
                decode(
                    body,
                    kind,
                    crate::openai::chat::stream::Completion::new(dialect, MODEL),
                )
            },
        },
        #[cfg(feature = "openai")]
        Wire {
            name: "responses",
            content_type: EVENTS,
            decode: |body, kind| {
                let vendor = std::sync::Arc::new(crate::openai::VENDOR.clone());
                decode(
                    body,
                    kind,
                    crate::openai::responses::stream::Responses::new(vendor, MODEL),
                )
            },
        },
        #[cfg(feature = "gemini")]
        Wire {
            name: "generate_content",
            content_type: EVENTS,
            decode: |body, kind| {
                let vendor = &crate::gemini::GEMINI;
                decode(body, kind, crate::gemini::stream::Generated::new(vendor, MODEL))
            },
        },
        #[cfg(feature = "gemini")]
        Wire {
            name: "generate_content_array",
            content_type: b"application/json",
            decode: |body, kind| {
                let vendor = &crate::gemini::GEMINI;
                decode(body, kind, crate::gemini::stream::Generated::new(vendor, MODEL))
            },
        },
        #[cfg(feature = "ollama")]
        Wire {
            name: "ollama_native",
            content_type: b"application/x-ndjson",
            decode: |body, kind| decode(body, kind, crate::ollama::stream::Lines::new(MODEL, 4096)),
        },
    ]
}

/// A way to read a body that is whole.
type Whole = fn(&[u8]) -> Result<Out>;

fn wholes() -> Vec<(&'static str, Whole)> {
    vec![
        #[cfg(feature = "anthropic")]
        ("messages_whole", |body| {
            crate::anthropic::decode::body(MODEL, body)
        }),
        #[cfg(feature = "openai")]
        ("chat_completions_whole", |body| {
            let dialect = crate::openai::dialect::Dialect::openai();
            crate::openai::chat::decode::body(&dialect, MODEL, body)
        }),
        #[cfg(feature = "openai")]
        ("responses_whole", |body| {
            let vendor = std::sync::Arc::new(crate::openai::VENDOR.clone());
            crate::openai::responses::decode::body(&vendor, MODEL, body)
        }),
    ]
}

/// Framings, by their targets' names.
const FRAMINGS: [(&str, Framing); 3] = [
    ("sse", Framing::Events),
    ("lines", Framing::Lines),
    ("values", Framing::Values),
];

/// Names of the targets.
pub fn targets() -> Vec<&'static str> {
    let mut names = vec!["partial_json"];
    names.extend(FRAMINGS.iter().map(|(name, _)| *name));
    names.extend(wires().iter().map(|wire| wire.name));
    names.extend(wholes().iter().map(|(name, _)| *name));
    names
}

/// Runs a target.
///
/// # Panics
/// Where a promise is broken, or there is no target of that name.
pub fn check(target: &str, data: &[u8]) {
    let (seed, body) = data.split_first().map_or((0, data), |(seed, body)| (*seed, body));
    if target == "partial_json" {
        partial_json_agrees(seed, body);
    } else if let Some((_, framing)) = FRAMINGS.iter().find(|(name, _)| *name == target) {
        let whole = frame(*framing, &[body]);
        assert_eq!(whole, frame(*framing, &cut(seed, body)), "cut by {seed}");
        assert_eq!(
            whole,
            frame(*framing, &body.chunks(1).collect::<Vec<_>>()),
            "byte by byte"
        );
    } else if let Some(wire) = wires().into_iter().find(|wire| wire.name == target) {
        stream_is_sound(wire, seed, body);
    } else {
        let whole = wholes().into_iter().find(|(name, _)| *name == target);
        let (_, read) = whole.expect("a name among `targets`");
        if let Ok(events) = read(body) {
            events_are_sound(&Vec::from(events), true);
        }
    }
}

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

fn partial_json_agrees(seed: u8, body: &[u8]) {
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
    // Numbers longer than any that is exact are over our limit.
    if text.len() < 4000 {
        assert_eq!(ours, theirs, "whole JSON is what serde_json reads");
    }
}

fn stream_is_sound(wire: Wire, seed: u8, body: &[u8]) {
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
}

/// The promises of a stream: the message starts before anything is said, parts do not contradict each other, and the
/// one end mark comes last.
fn events_are_sound(events: &[StreamEvent], is_whole: bool) {
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

#[cfg(test)]
mod tests;
