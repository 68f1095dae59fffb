//! A whole answer of the Messages API → events. The client streams; gateways that do not, answer so. Pure.

use super::{VENDOR, failure, stream::Messages, wire};
use crate::answer::{Out, unreadable};
use stepwell_core::{Result, VendorFailure};

/// The events of a body with status 200.
///
/// # Errors
/// The typed failure when the body is one; [`stepwell_core::Error::InvalidResponse`] when it is no answer.
pub(crate) fn body(model: &str, body: &[u8]) -> Result<Out> {
    let text = std::str::from_utf8(body).map_err(|_| stepwell_core::Error::InvalidResponse {
        provider: VENDOR.name().to_owned(),
        message: "the answer is not UTF-8".to_owned(),
    })?;
    let kind: wire::Kind<'_> =
        serde_json::from_str(text).map_err(|error| unreadable(VENDOR.name(), "the answer", &error))?;
    if kind.kind != "message" {
        let failed = VendorFailure::new(VENDOR.name());
        return Err(if kind.kind == "error" {
            failure::error(failed, body, &VENDOR, model)
        } else {
            stepwell_core::Error::InvalidResponse {
                provider: VENDOR.name().to_owned(),
                message: "the answer is no message; check the base URL".to_owned(),
            }
        });
    }
    let message =
        serde_json::from_str(text).map_err(|error| unreadable(VENDOR.name(), "the answer", &error))?;
    let (mut decoder, mut out) = (Messages::new(model), Out::new());
    decoder.message(message, &mut out)?;
    decoder.finish(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Messages, body, wire};
    use crate::answer::Out;

    #[test]
    fn a_message_that_is_no_message_is_told_as_one_sentence() {
        let mut out = Out::new();
        let message: wire::Message<'_> = serde_json::from_str("{}").expect("all fields may be missing");
        assert!(Messages::new("m").message(message, &mut out).is_ok());
        for text in ["{}", "[]", "{\"type\":\"list\"}", "not JSON", "\u{0}"] {
            assert_eq!(
                body("m", text.as_bytes()).expect_err(text).code(),
                "invalid_response"
            );
        }
    }
}
