//! What Anthropic's failures mean, by status or inside a stream.

use super::wire;
use crate::{
    header,
    http::Vendor,
    verdict::{Verdict, plain_word},
};
use stepwell_core::{Error, VendorFailure};

/// The typed error of a failure's body; `failure` holds what the status and headers told.
pub(crate) fn error(mut failure: VendorFailure, body: &[u8], vendor: &Vendor, model: &str) -> Error {
    let parsed: Option<wire::Failure> = serde_json::from_slice(body).ok();
    let (detail, request_id) = parsed.map_or((None, None), |parsed| (parsed.error, parsed.request_id));
    let (kind, message) = detail.map_or((None, None), |detail| (detail.kind, detail.message));
    failure.request_id = failure.request_id.or(request_id).filter(|id| header::is_id(id));
    failure.kind = plain_word(kind);
    let verdict = match failure.kind.as_deref() {
        // An empty account is told as an invalid request.
        Some("invalid_request_error")
            if message
                .as_deref()
                .is_some_and(|text| text.contains("credit balance is too low")) =>
        {
            Verdict::Quota
        }
        Some("invalid_request_error" | "request_too_large") => Verdict::Rejected,
        Some("authentication_error" | "permission_error") => Verdict::Unauthorized,
        Some("billing_error") => Verdict::Quota,
        Some("not_found_error") => Verdict::NoModel,
        Some("rate_limit_error") => Verdict::RateLimited,
        Some("timeout_error" | "api_error" | "overloaded_error") => Verdict::Overloaded,
        // An unknown kind inside a stream: the vendor began to answer and could not go on.
        _ => failure.status.map_or(Verdict::Overloaded, Verdict::of_status),
    };
    failure.message = message;
    verdict.error(failure, vendor, model)
}
