//! [`digest`]: by which a summary knows the messages it was made of.

use stepwell_core::{Message, Part};

/// Of what was said and done in these messages, in order.
pub(super) fn digest(messages: &[Message]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |kind: &str, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(kind.as_bytes());
        hasher.update(text.as_bytes());
    };
    for message in messages {
        field("message", "");
        for part in &message.parts {
            match part {
                Part::Text(part) => field("text", &part.text),
                Part::ToolCall(call) => {
                    field("call", &call.id);
                    field("arguments", &call.arguments.to_string());
                }
                Part::ToolResult(result) => {
                    field("result", &result.call_id);
                    field("output", &result.text());
                }
                _ => field("part", ""),
            }
        }
    }
    hasher.finalize().to_hex()[..32].to_owned()
}
