//! [`Attempt`]: a try of a call that failed, kept beside what came in the end.

use crate::{Cost, Error, ModelInfo, Usage};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A try of a call that failed before the answer came. It names no words of the request or the vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// The vendor that was asked.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// The word of [`Error::code`]; `malformed_call` where the model's call could not be read.
    pub code: String,
    /// HTTP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The vendor's own word for the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The vendor's id of the request, for its support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Milliseconds waited after it.
    #[serde(default)]
    pub waited_ms: u64,
    /// Tokens it took, where that is known or could be estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Money it took, where the tokens and the price are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

impl Attempt {
    /// A try of this model that failed with this error.
    pub fn failed(info: &ModelInfo, error: &Error) -> Self {
        let failure = error.vendor_failure();
        let partial = error.partial();
        let usage = partial
            .map(|partial| partial.usage.clone())
            .or_else(|| failure.and_then(|failure| failure.usage.clone()))
            .filter(|usage| usage.total() > 0);
        Self {
            provider: info.provider.clone(),
            model: info.model.clone(),
            code: error.code().to_owned(),
            status: failure.and_then(|failure| failure.status),
            kind: failure.and_then(|failure| failure.kind.clone()),
            request_id: failure
                .and_then(|failure| failure.request_id.clone())
                .or_else(|| partial.and_then(|partial| partial.request_id.clone())),
            waited_ms: 0,
            cost: usage.as_ref().and_then(|usage| info.price.as_ref()?.cost(usage)),
            usage,
        }
    }

    /// Notes how long was waited after it.
    pub fn waited(mut self, time: Duration) -> Self {
        self.waited_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Attempt;
    use crate::{Error, ModelInfo, VendorFailure};
    use std::time::Duration;

    #[test]
    fn an_attempt_keeps_what_support_asks_for_and_no_words() {
        let mut failure = VendorFailure::new("acme");
        failure.status = Some(529);
        failure.kind = Some("overloaded_error".into());
        failure.request_id = Some("req_1".into());
        failure.message = Some("canary".into());
        let attempt = Attempt::failed(
            &ModelInfo::new("acme", "m"),
            &Error::Overloaded(Box::new(failure)),
        )
        .waited(Duration::from_millis(500));
        assert_eq!(
            (
                attempt.code.as_str(),
                attempt.status,
                attempt.request_id.as_deref(),
                attempt.waited_ms
            ),
            ("overloaded", Some(529), Some("req_1"), 500)
        );
        assert!(!format!("{attempt:?}").contains("canary"));
    }
}
