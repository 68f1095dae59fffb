//! What Ollama's failures mean, by status or in a line of the stream.

use super::wire::Failure;
use crate::{http::Vendor, verdict::Verdict};
use serde_json::Value;
use stepwell_core::{Error, VendorFailure};

/// The typed error of a failure's body; `failure` holds what the status and headers told.
pub(crate) fn error(failure: VendorFailure, body: &[u8], vendor: &Vendor, model: &str) -> Error {
    match serde_json::from_slice::<Failure<'_>>(body) {
        Ok(parsed) => of_detail(failure, parsed.error.get(), vendor, model),
        // Ollama tells every failure of its own as JSON; a missing page is somebody else's.
        Err(_) if failure.status == Some(404) => Verdict::Stranger.error(failure, vendor, model),
        Err(_) => {
            let verdict = failure.status.map_or(Verdict::Overloaded, Verdict::of_status);
            verdict.error(failure, vendor, model)
        }
    }
}

/// The typed error of the value of `error`: a sentence, or an object that has one.
pub(crate) fn of_detail(mut failure: VendorFailure, detail: &str, vendor: &Vendor, model: &str) -> Error {
    let message = match serde_json::from_str(detail) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(detail)) => detail
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        _ => String::new(),
    };
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let is_missing =
        says(&["not found", "try pulling it"]) && (failure.status == Some(404) || says(&["model"]));
    if is_missing {
        return Error::NotFound {
            what: format!("model at {}", vendor.name()),
            name: model.to_owned(),
            hint: format!("fetch it with `ollama pull {model}`, or check its name with `ollama list`"),
        };
    }
    let verdict = match failure.status {
        // Its own words tell more than a 500 for everything.
        Some(400 | 500) | None
            if says(&["does not support", "context length", "context size", "invalid "]) =>
        {
            Verdict::Rejected
        }
        None if says(&["unauthorized"]) => Verdict::Unauthorized,
        Some(status) => Verdict::of_status(status),
        // It began to answer and could not go on.
        None => Verdict::Overloaded,
    };
    failure.message = (!message.is_empty()).then_some(message);
    verdict.error(failure, vendor, model)
}

#[cfg(test)]
mod tests {
    use super::error;
    use crate::{fixtures::shown, ollama::VENDOR};
    use stepwell_core::VendorFailure;

    #[test]
    fn every_kind_of_failure_has_its_type_and_a_missing_model_tells_how_to_get_it() {
        for (status, body, code) in [
            (Some(404), r#"{"error":"model 'm' not found"}"#, "not_found"),
            (
                None,
                r#"{"error":"model \"canary\" not found, try pulling it first"}"#,
                "not_found",
            ),
            (Some(404), "404 page not found", "invalid_response"),
            (
                Some(400),
                r#"{"error":"canary does not support tools"}"#,
                "rejected",
            ),
            (
                Some(500),
                r#"{"error":"canary: the input length exceeds the context length"}"#,
                "rejected",
            ),
            (
                Some(500),
                r#"{"error":"llama runner canary has terminated"}"#,
                "overloaded",
            ),
            (Some(503), r#"{"error":"server busy, canary"}"#, "overloaded"),
            (Some(401), r#"{"error":"unauthorized canary"}"#, "unauthorized"),
            (Some(429), r#"{"error":{"message":"canary"}}"#, "rate_limited"),
            (None, r#"{"error":"canary"}"#, "overloaded"),
            (Some(400), "canary", "rejected"),
        ] {
            let mut failure = VendorFailure::new("ollama");
            failure.status = status;
            let error = error(failure, body.as_bytes(), &VENDOR, "m:8b");
            assert_eq!(error.code(), code, "{body}");
            assert!(!shown(&error).contains("canary"), "{}", shown(&error));
            if code == "not_found" {
                assert!(error.to_string().contains("`ollama pull m:8b`"), "{error}");
            }
        }
    }
}
