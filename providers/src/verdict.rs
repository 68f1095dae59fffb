//! [`Verdict`]: what a vendor's failure means for the caller, and the typed error of it.

use crate::http::Vendor;
use stepwell_core::{Error, VendorFailure};

/// What a failure means for the caller, over all vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same request will be refused again.
    Rejected,
    /// The key.
    Unauthorized,
    /// The account.
    Quota,
    /// The model is not there.
    NoModel,
    /// Too fast.
    RateLimited,
    /// The vendor's side.
    Overloaded,
    /// It is no answer of a model's service.
    Stranger,
}

impl Verdict {
    /// By status alone, where the body tells nothing better.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Unauthorized,
            402 => Self::Quota,
            429 => Self::RateLimited,
            408 | 409 | 425 | 500..=599 => Self::Overloaded,
            400..=499 => Self::Rejected,
            _ => Self::Stranger,
        }
    }

    /// The typed error.
    pub(crate) fn error(self, failure: VendorFailure, vendor: &Vendor, model: &str) -> Error {
        let failure = Box::new(failure);
        match self {
            Self::Rejected => Error::Rejected(failure),
            Self::Unauthorized => Error::Unauthorized {
                env_var: vendor.key_var().to_owned(),
                failure,
            },
            Self::Quota => Error::QuotaExceeded(failure),
            Self::NoModel => Error::NotFound {
                what: format!("model at {}", vendor.name()),
                name: model.to_owned(),
                hint: "check its name, and that your account may use it".to_owned(),
            },
            Self::RateLimited => Error::RateLimited(failure),
            Self::Overloaded => Error::Overloaded(failure),
            Self::Stranger => Error::InvalidResponse {
                provider: vendor.name().to_owned(),
                message: match failure.status {
                    Some(status @ 300..=399) => {
                        format!(
                            "it redirects (status {status}), which is not followed; set the base URL to the final address"
                        )
                    }
                    Some(status) => {
                        format!("status {status} is none a model's service sends; check the base URL")
                    }
                    None => "the failure has no form we know".to_owned(),
                },
            },
        }
    }
}

/// A vendor's word for a failure, where it is a plain word and so may stand in an error.
pub(crate) fn plain_word(word: Option<String>) -> Option<String> {
    word.filter(|word| {
        (1..=48).contains(&word.len())
            && !word.starts_with("sk-")
            && word.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.')
            })
    })
}

#[cfg(test)]
mod tests {
    use super::{Verdict, plain_word};
    use crate::http::{Auth, Vendor};
    use stepwell_core::VendorFailure;

    static VENDOR: Vendor = Vendor::new(
        "acme",
        "ACME_API_KEY",
        "ACME_BASE_URL",
        "https://api.acme.example",
        Auth::Bearer,
    );

    #[test]
    fn a_status_has_one_meaning() {
        for (status, code) in [
            (400, "rejected"),
            (401, "unauthorized"),
            (402, "quota_exceeded"),
            (403, "unauthorized"),
            (404, "rejected"),
            (408, "overloaded"),
            (409, "overloaded"),
            (413, "rejected"),
            (422, "rejected"),
            (429, "rate_limited"),
            (500, "overloaded"),
            (503, "overloaded"),
            (529, "overloaded"),
            (301, "invalid_response"),
            (101, "invalid_response"),
        ] {
            let mut failure = VendorFailure::new("acme");
            failure.status = Some(status);
            let error = Verdict::of_status(status).error(failure, &VENDOR, "m");
            assert_eq!(error.code(), code, "{status}");
        }
        assert_eq!(
            plain_word(Some("overloaded_error".into())).as_deref(),
            Some("overloaded_error")
        );
        for leak in ["sk-1234", "Your prompt was", "sk-ant-canary", "CANARY"] {
            assert_eq!(plain_word(Some(leak.into())), None);
        }
    }
}
