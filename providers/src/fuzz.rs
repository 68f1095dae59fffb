//! What has to hold for every byte string that may come from outside: [`targets`] for a fuzzer, and the same as
//! property tests.
//!
//! A target takes any bytes. The first says how the rest is cut; the rest is what comes from the vendor.

#[cfg(test)]
mod found;
#[cfg(test)]
mod growth;
mod promises;
#[cfg(test)]
mod tests;
mod wires;
mod words;

pub use words::WORDS;

use crate::framing::Framing;
use promises::{
    cassettes_are_sound, events_are_sound, failures_are_sound, framing_is_sound, headers_are_sound,
    partial_json_agrees, stream_is_sound, vectors_are_sound,
};
use wires::{wholes, wires};

/// Framings, by their targets' names.
const FRAMINGS: [(&str, Framing); 3] = [
    ("sse", Framing::Events),
    ("lines", Framing::Lines),
    ("values", Framing::Values),
];

/// Names of the targets.
pub fn targets() -> Vec<&'static str> {
    let mut names = vec!["partial_json", "headers", "failures", "vectors", "cassettes"];
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
    match target {
        "partial_json" => return partial_json_agrees(seed, body),
        "headers" => return headers_are_sound(body),
        "failures" => return failures_are_sound(seed, body),
        "vectors" => return vectors_are_sound(body),
        "cassettes" => return cassettes_are_sound(body),
        _ => {}
    }
    if let Some((_, framing)) = FRAMINGS.iter().find(|(name, _)| *name == target) {
        framing_is_sound(*framing, seed, body);
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
