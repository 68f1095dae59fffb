//! [`Refusal`]: why a file is not read, before its name is known.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use stepwell_core::Error;

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refusal {
    /// What is wrong with it, in a few words.
    Unreadable(Cow<'static, str>),
    /// What is over which limit.
    Over { what: Cow<'static, str>, limit: String },
}

impl Refusal {
    pub(super) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unreadable(reason.into())
    }

    #[cfg(any(feature = "pdf", feature = "docx", feature = "epub"))]
    pub(super) fn encrypted(what: &str) -> Self {
        Self::new(format!("encrypted {what}; save a copy without its password"))
    }

    /// Over a limit that stands in this field of the load limits.
    pub(super) fn over(
        what: impl Into<Cow<'static, str>>,
        limit: impl std::fmt::Display,
        field: &'static str,
    ) -> Self {
        let hint = format!("raise `{field}` of the load limits");
        let limit = limit.to_string();
        Self::Over {
            what: what.into(),
            limit: match limit.strip_suffix(", or") {
                Some(_) => format!("{limit} {hint}"),
                None => format!("{limit}; {hint}"),
            },
        }
    }

    #[cfg(test)]
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Unreadable(reason) => reason.clone().into_owned(),
            Self::Over { what, limit } => format!("{what} is over the limit of {limit}"),
        }
    }

    pub(super) fn of(self, document: &str) -> Error {
        match self {
            Self::Unreadable(reason) => Error::Unreadable {
                document: document.to_owned(),
                reason: reason.into_owned(),
            },
            Self::Over { what, limit } => Error::LimitExceeded {
                what: format!("{document}: {what}"),
                limit,
            },
        }
    }
}
