//! What OpenAI's failures mean, by status or inside a stream; the same on all its wires.

use crate::{
    http::Vendor,
    verdict::{Verdict, plain_word},
};
use serde::Deserialize;
use serde_json::Value;
use stepwell_core::{Error, VendorFailure};

#[derive(Debug, Deserialize)]
struct Body {
    error: Option<Detail>,
}

#[derive(Debug, Deserialize)]
struct Detail {
    message: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Mostly a word; some servers send a number.
    code: Option<Value>,
}

/// The typed error of a failure's body; `failure` holds what the status and headers told.
pub(crate) fn error(failure: VendorFailure, body: &[u8], vendor: &Vendor, model: &str) -> Error {
    let detail = serde_json::from_slice::<Body>(body)
        .ok()
        .and_then(|body| body.error);
    of_detail(failure, detail, vendor, model)
}

/// The same for the `error` object alone, as it comes inside a stream.
pub(crate) fn of_object(failure: VendorFailure, object: &str, vendor: &Vendor, model: &str) -> Error {
    of_detail(failure, serde_json::from_str(object).ok(), vendor, model)
}

fn of_detail(mut failure: VendorFailure, detail: Option<Detail>, vendor: &Vendor, model: &str) -> Error {
    let (mut kind, mut code, mut coded) = (None, None, None);
    if let Some(detail) = detail {
        failure.message = detail.message;
        kind = plain_word(detail.kind);
        match detail.code {
            Some(Value::String(word)) => code = plain_word(Some(word)),
            Some(Value::Number(number)) => coded = number.as_u64().and_then(|code| u16::try_from(code).ok()),
            _ => {}
        }
    }
    // Inside a stream there is no status of its own, but some servers give one in the body.
    let status = failure.status.or(coded.filter(|code| (400..600).contains(code)));
    let verdict = match (code.as_deref(), kind.as_deref()) {
        (Some("insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active"), _)
        | (_, Some("insufficient_quota")) => Verdict::Quota,
        (Some("model_not_found"), _) => Verdict::NoModel,
        (Some("invalid_api_key"), _) => Verdict::Unauthorized,
        (Some("rate_limit_exceeded"), _) => Verdict::RateLimited,
        _ => match (status, kind.as_deref()) {
            (Some(status), _) => Verdict::of_status(status),
            (None, Some("invalid_request_error")) => Verdict::Rejected,
            (None, Some("authentication_error" | "permission_error")) => Verdict::Unauthorized,
            (None, Some("rate_limit_error" | "tokens" | "requests")) => Verdict::RateLimited,
            // `server_error`, and whatever else stops a stream that had begun.
            (None, _) => Verdict::Overloaded,
        },
    };
    failure.kind = code.or(kind);
    verdict.error(failure, vendor, model)
}

#[cfg(test)]
mod tests {
    use super::error;
    use crate::openai::VENDOR;
    use stepwell_core::VendorFailure;

    #[test]
    fn the_code_tells_an_empty_account_from_a_rate_limit() {
        for (status, body, code) in [
            (
                Some(429),
                r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota","message":"x"}}"#,
                "quota_exceeded",
            ),
            (
                Some(429),
                r#"{"error":{"code":"rate_limit_exceeded","type":"tokens"}}"#,
                "rate_limited",
            ),
            (Some(429), "slow down", "rate_limited"),
            (
                Some(404),
                r#"{"error":{"code":"model_not_found","type":"invalid_request_error"}}"#,
                "not_found",
            ),
            (Some(404), "<html>", "rejected"),
            (
                Some(401),
                r#"{"error":{"code":"invalid_api_key"}}"#,
                "unauthorized",
            ),
            (Some(503), "", "overloaded"),
            (
                None,
                r#"{"error":{"type":"server_error","code":null}}"#,
                "overloaded",
            ),
            (None, r#"{"error":{"type":"invalid_request_error"}}"#, "rejected"),
            (None, r#"{"error":{"message":"x","code":429}}"#, "rate_limited"),
            (None, r#"{"error":"a string"}"#, "overloaded"),
        ] {
            let mut failure = VendorFailure::new("openai");
            failure.status = status;
            assert_eq!(
                error(failure, body.as_bytes(), &VENDOR, "m").code(),
                code,
                "{status:?} {body}"
            );
        }
    }
}
