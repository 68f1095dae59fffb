//! What the failures of OpenAI and of servers like it mean, by status or inside a stream; the same on all wires.
//!
//! Seen are `{error: {message, type, code}}`, `{error: "…", code}` (xAI), `{detail}` (Mistral, FastAPI), `{message}`,
//! `{object: "error", message, code}`, and any of these in a list (Gemini).

use crate::{
    http::Vendor,
    verdict::{Verdict, plain_word},
};
use serde_json::{Map, Value};
use stepwell_core::{Error, VendorFailure};

/// What a failure tells of itself.
#[derive(Debug, Default)]
struct Detail {
    message: Option<String>,
    code: Option<String>,
    kind: Option<String>,
    /// The status it gives in its body: inside a stream there is no other.
    status: Option<u16>,
}

impl Detail {
    fn of(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self {
                message: Some(text),
                ..Self::default()
            }),
            Value::Array(list) => Self::of(list.into_iter().next()?),
            Value::Object(mut fields) => match fields.remove("error") {
                Some(Value::Object(inner)) => Some(Self::of_fields(&inner)),
                Some(Value::String(text)) => Some(Self {
                    message: Some(text),
                    ..Self::of_fields(&fields)
                }),
                _ => {
                    let known = ["message", "detail", "code", "type"];
                    let is_one = known.iter().any(|key| fields.contains_key(*key));
                    is_one.then(|| Self::of_fields(&fields))
                }
            },
            _ => None,
        }
    }

    fn of_fields(fields: &Map<String, Value>) -> Self {
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let status = |key: &str| {
            let value = fields.get(key)?;
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            u16::try_from(number)
                .ok()
                .filter(|status| (400..600).contains(status))
        };
        // A list of what is wrong with each field (FastAPI).
        let listed = || {
            let first = fields.get("detail")?.as_array()?.first()?;
            first["msg"].as_str().map(str::to_owned)
        };
        let mut message = text("message").or_else(|| text("detail")).or_else(listed);
        // What the model wrote, when that is what was wrong (Groq).
        if let (Some(message), Some(written)) = (&mut message, text("failed_generation")) {
            message.push_str("\nThe model wrote: ");
            message.push_str(&written);
        }
        Self {
            message,
            code: text("code").filter(|code| code.parse::<u32>().is_err()),
            kind: text("type"),
            status: ["status_code", "code", "status", "raw_status_code"]
                .iter()
                .find_map(|key| status(key)),
        }
    }
}

/// The typed error of a failure's body; `failure` holds what the status and headers told.
pub(crate) fn error(failure: VendorFailure, body: &[u8], vendor: &Vendor, model: &str) -> Error {
    of_detail(failure, read(body), vendor, model)
}

/// The same for the `error` object alone, as it comes inside a stream.
pub(crate) fn of_object(failure: VendorFailure, object: &str, vendor: &Vendor, model: &str) -> Error {
    of_detail(failure, read(object.as_bytes()), vendor, model)
}

/// Whether a body is a failure in one of the forms known.
pub(crate) fn is_one(body: &[u8]) -> bool {
    read(body).is_some()
}

fn read(body: &[u8]) -> Option<Detail> {
    Detail::of(serde_json::from_slice(body).ok()?)
}

fn of_detail(mut failure: VendorFailure, detail: Option<Detail>, vendor: &Vendor, model: &str) -> Error {
    let detail = detail.unwrap_or_default();
    failure.message = detail.message;
    let status = failure.status.or(detail.status);
    let words = [detail.code, detail.kind].map(|word| word.map(|word| word.to_ascii_lowercase()));
    let said = words.iter().flatten().find_map(|word| of_word(word));
    // xAI knows no word for it.
    let is_unknown = failure
        .message
        .as_deref()
        .is_some_and(|text| text.starts_with("Model not found"));
    let said = said.or(is_unknown.then_some(Verdict::NoModel));
    let kind = words[1].as_deref();
    let verdict = said.unwrap_or_else(|| match (status, kind) {
        (Some(status), _) => Verdict::of_status(status),
        (None, _) if words[0].as_deref().is_some_and(is_of_the_request) => Verdict::Rejected,
        (None, Some("invalid_request_error")) => Verdict::Rejected,
        (None, Some("authentication_error" | "permission_error")) => Verdict::Unauthorized,
        (None, Some("rate_limit_error" | "tokens" | "requests")) => Verdict::RateLimited,
        (None, _) if words[0].as_deref() == Some("resource-exhausted") => Verdict::RateLimited,
        // `server_error`, and whatever else stops a stream that had begun.
        (None, _) => Verdict::Overloaded,
    });
    let [code, kind] = words.map(plain_word);
    failure.kind = code.or(kind);
    verdict.error(failure, vendor, model)
}

/// Words that tell more than the status they come with.
fn of_word(word: &str) -> Option<Verdict> {
    Some(match word {
        "insufficient_quota"
        | "billing_hard_limit_reached"
        | "billing_not_active"
        | "insufficient_balance" => Verdict::Quota,
        // `invalid_model` is Mistral's, `DeploymentNotFound` is Azure's.
        "model_not_found" | "invalid_model" | "deploymentnotfound" => Verdict::NoModel,
        "invalid_api_key" => Verdict::Unauthorized,
        "rate_limit_exceeded" | "ratelimitreached" => Verdict::RateLimited,
        // Azure refuses the prompt.
        "content_filter" => Verdict::Rejected,
        // Groq: the model wrote a call that does not fit its tool. It may do better the next time.
        "tool_use_failed" => Verdict::Overloaded,
        _ => return None,
    })
}

/// Whether a code that comes inside a stream blames what was asked (API reference, the error of a response).
fn is_of_the_request(code: &str) -> bool {
    let heads = [
        "invalid_",
        "invalid-",
        "image_",
        "unsupported_",
        "empty_image",
        "failed_to_download_image",
    ];
    heads.iter().any(|head| code.starts_with(head))
        || matches!(
            code,
            "context_length_exceeded" | "content_policy_violation" | "string_above_max_length"
        )
}

#[cfg(test)]
mod tests {
    use super::{error, is_one, of_object};
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
            (
                Some(404),
                r#"{"code":"invalid-argument","error":"Model not found: x"}"#,
                "not_found",
            ),
            (Some(401), r#"{"detail":"Invalid API Key"}"#, "unauthorized"),
            (
                Some(422),
                r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
                "rejected",
            ),
            (
                Some(400),
                r#"{"code":"1500","message":"x","object":"error","type":"invalid_model"}"#,
                "not_found",
            ),
            (
                None,
                r#"{"code":400,"message":"x","type":"Bad Request"}"#,
                "rejected",
            ),
            (
                None,
                r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]"#,
                "rate_limited",
            ),
            (
                Some(404),
                r#"{"error":{"code":"DeploymentNotFound"}}"#,
                "not_found",
            ),
            (
                Some(429),
                r#"{"error":{"code":"RateLimitReached"}}"#,
                "rate_limited",
            ),
            (
                Some(400),
                r#"{"error":{"code":"content_filter","status":400}}"#,
                "rejected",
            ),
            (
                None,
                r#"{"error":{"type":"invalid_request_error","code":"tool_use_failed","status_code":400}}"#,
                "overloaded",
            ),
            (None, r#"{"error":{"message":"x","code":"502"}}"#, "overloaded"),
            (None, r#"{"error":{"message":"x","code":401}}"#, "unauthorized"),
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

    #[test]
    fn an_error_event_of_responses_is_read_nested_flat_and_as_a_sentence() {
        for (data, code) in [
            (
                r#"{"type":"error","error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#,
                "quota_exceeded",
            ),
            (
                r#"{"type":"error","sequence_number":2,"error":{"type":"server_error","code":null,"message":"x"}}"#,
                "overloaded",
            ),
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"x","param":null}"#,
                "rate_limited",
            ),
            (r#"{"type":"error","code":null,"message":"x"}"#, "overloaded"),
            (
                r#"{"type":"error","code":"invalid_prompt","message":"x"}"#,
                "rejected",
            ),
            (
                r#"{"type":"error","error":{"type":"x","code":"context_length_exceeded"}}"#,
                "rejected",
            ),
            (r#"{"code":"invalid-argument","error":"x"}"#, "rejected"),
            (
                r#"{"error":"slow down","code":"resource-exhausted"}"#,
                "rate_limited",
            ),
            ("no JSON", "overloaded"),
        ] {
            let failure = VendorFailure::new("openai");
            assert_eq!(of_object(failure, data, &VENDOR, "m").code(), code, "{data}");
        }
    }

    #[test]
    fn a_vendors_sentence_is_kept_wherever_it_stands_and_never_shown() {
        for (body, words) in [
            (r#"{"error":{"message":"canary"}}"#, "canary"),
            (r#"{"error":"canary","code":"x"}"#, "canary"),
            (r#"{"detail":"canary"}"#, "canary"),
            (r#"{"detail":[{"msg":"canary"}]}"#, "canary"),
            (r#"{"message":"canary","request_id":"r"}"#, "canary"),
            (r#"[{"error":{"message":"canary"}}]"#, "canary"),
            (
                r#"{"error":{"message":"bad","failed_generation":"canary"}}"#,
                "bad\nThe model wrote: canary",
            ),
        ] {
            let mut failure = VendorFailure::new("openai");
            failure.status = Some(400);
            let error = error(failure, body.as_bytes(), &VENDOR, "m");
            assert_eq!(error.vendor_message(), Some(words), "{body}");
            assert!(!format!("{error} {error:?}").contains("canary"));
            assert!(is_one(body.as_bytes()));
        }
        assert!(!is_one(br#"{"choices":[]}"#) && !is_one(b"<html>") && !is_one(b"7"));
    }
}
