//! What a vendor's failure means where it is asked for vectors or a better order: one lenient reader for the forms
//! `{"error":{…}}`, `{"error":"…"}`, `{"code":…,"message":…}`, `{"message":…}` and `{"detail":…}`.

use crate::{
    http::Vendor,
    verdict::{Verdict, plain_word},
};
use serde_json::Value;
use std::time::Duration;
use stepwell_core::{Error, VendorFailure};

/// The typed error; `failure` holds what the status and headers told.
pub(crate) fn error(mut failure: VendorFailure, body: &[u8], vendor: &Vendor, model: &str) -> Error {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = match &body["error"] {
        Value::Null => &body,
        error => error,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    failure.message = text(&detail["message"])
        .or_else(|| text(&detail["detail"]))
        .or_else(|| text(detail));
    let code = plain_word(text(&detail["code"]));
    let kind = plain_word(
        text(&detail["type"]).or_else(|| text(&detail["status"]).map(|word| word.to_ascii_lowercase())),
    );
    if failure.retry_after.is_none() {
        failure.retry_after = retry_delay(detail);
    }
    let status = failure.status;
    let says = |words: &[&str]| {
        [&code, &kind]
            .into_iter()
            .flatten()
            .any(|word| words.contains(&word.as_str()))
    };
    let verdict = if says(&[
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
    ]) {
        Verdict::Quota
    } else if says(&["model_not_found", "invalid_model"]) || (status == Some(404) && says(&["not_found"])) {
        Verdict::NoModel
    } else if says(&["invalid_api_key"]) {
        Verdict::Unauthorized
    } else {
        match status {
            // llama.cpp's word for a text over its batch: the same text will be refused again.
            Some(500) if is_too_large(failure.message.as_deref()) => Verdict::Rejected,
            Some(status) => Verdict::of_status(status),
            None => Verdict::Overloaded,
        }
    };
    failure.kind = code.or(kind);
    verdict.error(failure, vendor, model)
}

fn is_too_large(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.contains("too large to process"))
}

/// Google's wait, which stands in the body: `"retryDelay": "48s"`.
fn retry_delay(detail: &Value) -> Option<Duration> {
    let details = detail["details"].as_array()?;
    let delay = details.iter().find_map(|part| part["retryDelay"].as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|wait| !wait.is_zero() && *wait <= Duration::from_hours(24))
}

#[cfg(test)]
mod tests {
    use super::error;
    use crate::{
        fixtures::shown,
        http::{Auth, Vendor},
    };
    use std::time::Duration;
    use stepwell_core::VendorFailure;

    #[test]
    fn every_vendors_form_of_a_failure_is_read() {
        let vendor = Vendor::named("acme".to_owned(), String::new(), Auth::Bearer);
        for (status, body, code, message) in [
            (400, r#"{"detail":"canary"}"#, "rejected", Some("canary")),
            (404, r#"{"error":"canary"}"#, "rejected", Some("canary")),
            (
                404,
                r#"{"error":{"code":404,"message":"canary","status":"NOT_FOUND"}}"#,
                "not_found",
                Some("canary"),
            ),
            (
                400,
                r#"{"code":"1500","message":"canary","type":"invalid_model"}"#,
                "not_found",
                Some("canary"),
            ),
            (429, r#"{"message":"canary"}"#, "rate_limited", Some("canary")),
            (
                429,
                r#"{"error":{"code":"insufficient_quota"}}"#,
                "quota_exceeded",
                None,
            ),
            (
                500,
                r#"{"error":{"code":500,"message":"input (canary) is too large to process","type":"server_error"}}"#,
                "rejected",
                Some("input (canary) is too large to process"),
            ),
            (500, "canary", "overloaded", None),
            (401, "[]", "unauthorized", None),
        ] {
            let mut failure = VendorFailure::new("acme");
            failure.status = Some(status);
            let error = error(failure, body.as_bytes(), &vendor, "m");
            assert_eq!(error.code(), code, "{body}");
            assert!(!shown(&error).contains("canary"));
            if error.code() != "not_found" {
                assert_eq!(error.vendor_message(), message, "{body}");
            }
        }
    }

    #[test]
    fn googles_wait_is_read_from_the_body() {
        let vendor = Vendor::named("gemini".to_owned(), String::new(), Auth::Bearer);
        let mut failure = VendorFailure::new("gemini");
        failure.status = Some(429);
        let body = br#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"a"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"48.5s"}]}}"#;
        let error = error(failure, body, &vendor, "m");
        assert_eq!(error.code(), "rate_limited");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(48_500)));
    }
}
