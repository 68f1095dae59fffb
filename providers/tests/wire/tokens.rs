//! What only its maker may get back: seals and signatures, and whether a body carries them.

use serde_json::Value;
use stepwell_core::{Message, Opaque, Part};

/// Shorter ones are words that anybody may write.
const LEAST: usize = 24;

/// The tokens of parts that go back to their maker, with what they are.
pub(crate) fn of(messages: &[Message]) -> impl Iterator<Item = (&Part, &Opaque)> {
    messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| {
            let token = match part {
                Part::Text(part) => part.opaque.as_ref(),
                Part::Reasoning(part) => part.opaque.as_ref(),
                Part::ToolCall(part) => part.opaque.as_ref(),
                Part::Media(part) => part.opaque.as_ref(),
                _ => None,
            };
            token.map(|token| (part, token))
        })
}

/// The sealed strings in a token: its whole value where it is one, else those under names that mean so.
pub(crate) fn seals(value: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    match value {
        Value::String(text) => found.push(text.as_str()),
        value => collect(value, &mut found),
    }
    found.retain(|text| text.len() >= LEAST);
    found
}

fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    const NAMES: [&str; 5] = [
        "signature",
        "encrypted_content",
        "thoughtSignature",
        "thought_signature",
        "data",
    ];
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if NAMES.contains(&name.as_str()) => found.push(text),
                    field => collect(field, found),
                }
            }
        }
        _ => {}
    }
}

/// Whether a value stands somewhere in another.
pub(crate) fn holds(body: &Value, wanted: &Value) -> bool {
    body == wanted
        || match body {
            Value::Array(items) => items.iter().any(|item| holds(item, wanted)),
            Value::Object(fields) => fields.values().any(|field| holds(field, wanted)),
            _ => false,
        }
}
