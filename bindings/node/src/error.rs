//! Errors across the border: engine → JavaScript class by code; a thrown value → engine and back as the same object.

use serde_json::{Map, Value, json};
use std::{error::Error as StdError, fmt};
use stepwell::Error;

/// Begins a reason that is JSON for the JavaScript layer's `convert`, and nothing a user would write.
const MARK: char = '\u{1}';

/// What JavaScript code threw, on its way through the engine. The value itself stays in JavaScript, under a number.
#[derive(Debug)]
struct Thrown {
    number: u32,
    message: String,
}

impl fmt::Display for Thrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Thrown {}

/// What JavaScript code threw, as an error of the engine.
pub(crate) fn thrown(number: u32, message: String) -> Error {
    Error::host(Thrown { number, message })
}

/// The engine's error as JavaScript is to see it: the number of what was thrown, or facts for its class.
pub(crate) fn to_napi(error: Error) -> napi::Error {
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(cause) = next {
        if let Some(Thrown { number, .. }) = cause.downcast_ref() {
            return napi::Error::from_reason(format!("{MARK}{}", json!({ "thrown": number })));
        }
        next = cause.source();
    }
    napi::Error::from_reason(format!("{MARK}{}", facts(&error)))
}

fn facts(error: &Error) -> Value {
    let mut facts = Map::new();
    facts.insert("code".into(), error.code().into());
    facts.insert("message".into(), error.to_string().into());
    facts.insert("retryable".into(), error.is_retryable().into());
    if let Some(wait) = error.retry_after() {
        facts.insert("retryAfter".into(), json!(wait.as_secs_f64() * 1e3));
    }
    if let Some(failure) = error.vendor_failure() {
        facts.insert("provider".into(), failure.provider.clone().into());
        let known = [
            ("status", failure.status.map(Value::from)),
            ("kind", failure.kind.clone().map(Value::from)),
            ("requestId", failure.request_id.clone().map(Value::from)),
            ("vendorMessage", failure.message.clone().map(Value::from)),
        ];
        facts.extend(
            known
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?))),
        );
    }
    if let Some(partial) = error.partial() {
        let partial =
            crate::chat::response_json(partial).and_then(|text| crate::convert::parse("partial", &text));
        facts.insert("partial".into(), partial.unwrap_or(Value::Null));
    }
    if let Error::Interrupted { run_id } = error {
        facts.insert("runId".into(), run_id.clone().into());
    }
    if let Error::InvalidGraph { faults: all } = error {
        facts.insert("faults".into(), all.clone().into());
    }
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    facts.insert("causes".into(), causes.into());
    Value::Object(facts)
}
