//! [`key`]: the name under which the answer to a request is kept.

use serde_json::{Map, Value, json};
use stepwell_core::{ChatRequest, ModelInfo, ResponseFormat, Scope};

/// Counted up when the form of the key or of the value changes: older entries are not found any more.
const VERSION: u32 = 3;

/// Over tenant, vendor, model and everything of the request that can change the answer; labels of the call and the
/// messages' own ids and notes cannot. Maps count by content, not by order.
pub(super) fn key(scope: &Scope, info: &ModelInfo, request: &ChatRequest) -> String {
    let mut messages = serde_json::to_value(&request.messages).unwrap_or_default();
    for message in messages.as_array_mut().into_iter().flatten() {
        if let Value::Object(message) = message {
            message.shift_remove("id");
            message.shift_remove("metadata");
        }
    }
    let format = match &request.response_format {
        ResponseFormat::Text => Value::Null,
        ResponseFormat::Json => json!("json"),
        ResponseFormat::Schema { name, schema } => json!([name, schema.as_value()]),
        // A form this code does not know is told apart by what it prints.
        other => json!(format!("{other:?}")),
    };
    let request = json!([
        VERSION,
        scope.tenant(),
        info.provider,
        info.model,
        messages,
        request.tools,
        request.tool_choice,
        request.parallel_tool_calls,
        format,
        request.structured,
        request.max_output_tokens,
        request.temperature,
        request.top_p,
        request.top_k,
        request.stop_sequences,
        request.seed,
        request.reasoning,
        request.cache,
        request.citations,
        request.provider_options,
    ]);
    let mut hasher = blake3::Hasher::new();
    write(&mut hasher, &request);
    format!("chat:{}", hasher.finalize().to_hex())
}

/// Feeds a value with its lengths and kinds, so that no two values feed the same.
fn write(hasher: &mut blake3::Hasher, value: &Value) {
    let mut sized = |kind: u8, bytes: &[u8]| {
        hasher.update(&[kind]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match value {
        Value::Null => sized(b'n', &[]),
        Value::Bool(flag) => sized(b'b', &[u8::from(*flag)]),
        Value::Number(number) => sized(b'#', number.to_string().as_bytes()),
        Value::String(text) => sized(b's', text.as_bytes()),
        Value::Array(items) => {
            sized(b'[', &(items.len() as u64).to_le_bytes());
            for item in items {
                write(hasher, item);
            }
        }
        Value::Object(map) => object(hasher, map),
    }
}

fn object(hasher: &mut blake3::Hasher, map: &Map<String, Value>) {
    hasher.update(b"{");
    hasher.update(&(map.len() as u64).to_le_bytes());
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    for key in keys {
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key.as_bytes());
        write(hasher, &map[key]);
    }
}
