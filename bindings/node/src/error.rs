//! Errors across the border: engine → JavaScript class by code; a thrown value → engine and back as the same object.

use serde_json::{Map, Value, json};
use std::{error::Error as StdError, fmt};
use stepwell::Error;

/// Begins a reason that is JSON for the JavaScript layer's `convert`, and nothing a user would write.
const MARK: char = '\u{1}';

/// What JavaScript code threw, on its way through the engine. The reference inside brings the same object back.
#[derive(Debug)]
struct Thrown(napi::Error);

impl fmt::Display for Thrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)
    }
}

impl StdError for Thrown {}

/// What JavaScript code threw, as an error of the engine.
pub(crate) fn thrown(error: napi::Error) -> Error {
    Error::host(Thrown(error))
}

/// The engine's error as JavaScript is to see it: the very object that was thrown, or facts for its class.
pub(crate) fn to_napi(error: Error) -> napi::Error {
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(cause) = next {
        if let Some(thrown) = cause.downcast_ref::<Thrown>()
            && let Ok(same) = thrown.0.try_clone()
        {
            return same;
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
    match error {
        Error::StreamTruncated { partial, .. } => {
            let partial =
                crate::chat::response_json(partial).and_then(|text| crate::convert::parse("partial", &text));
            facts.insert("partial".into(), partial.unwrap_or(Value::Null));
        }
        Error::InvalidGraph { faults: all } => {
            facts.insert("faults".into(), all.clone().into());
        }
        _ => {}
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
