//! What Google's failures mean, by status or inside a stream.

use super::wire::{Failure, FailureDetail};
use crate::{
    http::Vendor,
    verdict::{Verdict, plain_word},
};
use serde_json::Value;
use std::time::Duration;
use stepwell_core::{Error, VendorFailure};

/// Longest wait that is believed: a day.
const LONGEST_WAIT: f64 = 86_400.0;

/// The typed error of a failure's body; `failure` holds what the status and headers told.
pub(crate) fn error(failure: VendorFailure, body: &[u8], vendor: &Vendor, model: &str) -> Error {
    let detail = match serde_json::from_slice(body) {
        Ok(Failure::One { error }) => error,
        Ok(Failure::Many(mut entries)) if !entries.is_empty() => entries.swap_remove(0).error,
        _ => FailureDetail::default(),
    };
    of_detail(failure, detail, vendor, model)
}

/// The typed error of an `error` object.
pub(crate) fn of_detail(
    mut failure: VendorFailure,
    detail: FailureDetail,
    vendor: &Vendor,
    model: &str,
) -> Error {
    let message = detail.message.as_deref().unwrap_or_default();
    let reason = detail
        .details
        .iter()
        .find_map(|detail| detail.get("reason")?.as_str());
    // No header tells the wait.
    failure.retry_after = failure
        .retry_after
        .or_else(|| detail.details.iter().find_map(retry_delay))
        .or_else(|| seconds_in(message));
    let status = detail.status.as_deref().unwrap_or_default();
    failure.kind = plain_word(Some(reason.unwrap_or(status).to_ascii_lowercase()));
    let code = failure.status.or(detail.code);
    let verdict = match status {
        _ if reason
            .is_some_and(|reason| reason.starts_with("API_KEY_") || reason.starts_with("ACCESS_TOKEN_")) =>
        {
            Verdict::Unauthorized
        }
        "PERMISSION_DENIED" | "NOT_FOUND" if is_about_cache(message) => {
            return Error::NotFound {
                what: format!("cached content at {}", vendor.name()),
                name: "cachedContent".to_owned(),
                hint: "it is gone, or of another account; make it anew and name the new one".to_owned(),
            };
        }
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => Verdict::Unauthorized,
        "RESOURCE_EXHAUSTED" if is_spent(&detail.details, message) => Verdict::Quota,
        "RESOURCE_EXHAUSTED" => Verdict::RateLimited,
        "NOT_FOUND" if message.contains("odel") => Verdict::NoModel,
        "NOT_FOUND"
        | "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION"
        | "OUT_OF_RANGE"
        | "UNIMPLEMENTED"
        | "ALREADY_EXISTS" => Verdict::Rejected,
        "INTERNAL" | "UNAVAILABLE" | "DEADLINE_EXCEEDED" | "ABORTED" | "CANCELLED" | "UNKNOWN"
        | "DATA_LOSS" => Verdict::Overloaded,
        // An unknown kind inside a stream: the vendor began to answer and could not go on.
        _ => code.map_or(Verdict::Overloaded, Verdict::of_status),
    };
    failure.message = detail.message;
    verdict.error(failure, vendor, model)
}

/// A cache that has run out is told as a missing permission.
fn is_about_cache(message: &str) -> bool {
    message.contains("CachedContent") || message.contains("cachedContent")
}

/// A quota of the day, or one of zero, does not come back by waiting some seconds.
fn is_spent(details: &[Value], message: &str) -> bool {
    let violations = details
        .iter()
        .filter_map(|detail| detail.get("violations")?.as_array())
        .flatten();
    let mut per_day = violations.filter(|violation| {
        violation["quotaId"]
            .as_str()
            .is_some_and(|id| id.contains("PerDay"))
            || violation["quotaValue"].as_str() == Some("0")
    });
    per_day.next().is_some() || message.contains("prepayment credits are depleted")
}

/// `{"@type": "…google.rpc.RetryInfo", "retryDelay": "48s"}`
fn retry_delay(detail: &Value) -> Option<Duration> {
    let delay = detail.get("retryDelay")?;
    match delay {
        Value::String(text) => seconds(text.strip_suffix('s')?),
        // The unabridged form of a protobuf duration.
        Value::Object(delay) => {
            let nanos = delay.get("nanos").and_then(Value::as_f64).unwrap_or(0.0);
            let whole = match delay.get("seconds")? {
                Value::String(text) => text.parse().ok()?,
                number => number.as_f64()?,
            };
            wait(whole + nanos / 1e9)
        }
        _ => None,
    }
}

/// `… Please retry in 48.9s.`
fn seconds_in(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("retry in ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = rest.split_at(end);
    let number = number.trim_end_matches('.');
    if unit.starts_with("ms") {
        return wait(number.parse::<f64>().ok()? / 1000.0);
    }
    unit.starts_with('s').then(|| seconds(number)).flatten()
}

fn seconds(number: &str) -> Option<Duration> {
    wait(number.parse().ok()?)
}

fn wait(seconds: f64) -> Option<Duration> {
    (seconds > 0.0 && seconds <= LONGEST_WAIT).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::error;
    use crate::{fixtures::shown, gemini::GEMINI};
    use serde_json::{Value, json};
    use std::time::Duration;
    use stepwell_core::{Error, VendorFailure};

    fn read(status: u16, body: &Value) -> Error {
        let mut failure = VendorFailure::new("gemini");
        failure.status = Some(status);
        error(failure, body.to_string().as_bytes(), &GEMINI, "m")
    }

    fn body(status: &str, message: &str, details: Value) -> Value {
        json!({ "error": { "code": 1, "status": status, "message": message, "details": details } })
    }

    #[test]
    fn every_kind_of_failure_has_its_type_in_both_forms() {
        let key =
            json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
        for (status, body, code) in [
            (
                400,
                body("INVALID_ARGUMENT", "API key not valid.", key),
                "unauthorized",
            ),
            (400, body("INVALID_ARGUMENT", "canary", json!([])), "rejected"),
            (400, body("FAILED_PRECONDITION", "canary", json!([])), "rejected"),
            (401, body("UNAUTHENTICATED", "canary", json!([])), "unauthorized"),
            (
                403,
                body("PERMISSION_DENIED", "canary", json!([])),
                "unauthorized",
            ),
            (
                403,
                body(
                    "PERMISSION_DENIED",
                    "CachedContent not found (or permission denied)",
                    json!([]),
                ),
                "not_found",
            ),
            (
                404,
                body("NOT_FOUND", "models/canary is not found", json!([])),
                "not_found",
            ),
            (404, body("NOT_FOUND", "canary", json!([])), "rejected"),
            (
                429,
                body("RESOURCE_EXHAUSTED", "canary", json!([])),
                "rate_limited",
            ),
            (
                429,
                body(
                    "RESOURCE_EXHAUSTED",
                    "canary",
                    json!([{ "violations": [{ "quotaId": "GenerateRequestsPerDayPerProject" }] }]),
                ),
                "quota_exceeded",
            ),
            (500, body("INTERNAL", "canary", json!([])), "overloaded"),
            (503, body("UNAVAILABLE", "canary", json!([])), "overloaded"),
            (504, body("DEADLINE_EXCEEDED", "canary", json!([])), "overloaded"),
            (499, body("CANCELLED", "canary", json!([])), "overloaded"),
            (418, body("CANARY CANARY", "canary", json!([])), "rejected"),
            (503, json!("canary"), "overloaded"),
        ] {
            for form in [body.clone(), json!([body])] {
                let error = read(status, &form);
                assert_eq!(error.code(), code, "{status} {form}");
                assert!(
                    !shown(&error).to_lowercase().contains("canary"),
                    "{}",
                    shown(&error)
                );
            }
        }
    }

    #[test]
    fn the_wait_is_read_from_the_details_or_from_the_sentence() {
        let info = |delay: Value| json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }]);
        for (details, message, expected) in [
            (info(json!("48s")), "Please retry in 9s.", Some(48_000)),
            (info(json!("0.5s")), "", Some(500)),
            (
                info(json!({ "seconds": "3", "nanos": 500_000_000 })),
                "",
                Some(3_500),
            ),
            (info(json!("0s")), "Please retry in 48.9s.", Some(48_900)),
            (json!([]), "Quota exceeded. Please retry in 48.9s", Some(48_900)),
            (json!([]), "Please retry in 250.5ms.", Some(250)),
            (json!([]), "Please retry in a while", None),
            (info(json!("-3s")), "", None),
            (info(json!("1e9s")), "", None),
            (info(json!("NaNs")), "", None),
        ] {
            let error = read(429, &body("RESOURCE_EXHAUSTED", message, details.clone()));
            let wait = error.vendor_failure().expect("of the vendor").retry_after;
            let expected = expected.map(Duration::from_millis);
            assert_eq!(
                wait.map(|wait| Duration::from_millis(u64::try_from(wait.as_millis()).expect("small"))),
                expected,
                "{details} {message}"
            );
        }
    }
}
