//! [`Verdict`]: whether a failure is worth another model.

use super::{FallbackOptions, FallbackReason};
use stepwell_core::{Error, Timer, VendorFailure};

/// What a failure means for the order of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It would fail elsewhere too, or wants mending.
    Stay,
    /// The next model may do better.
    Next,
    /// A model with a larger window may do better.
    LargerWindow,
}

impl Verdict {
    pub(super) fn of(error: &Error, options: &FallbackOptions) -> Self {
        let reason = match error {
            Error::QuotaExceeded(_) => FallbackReason::Quota,
            // The caller's own clock has run out for all of them.
            Error::Timeout {
                timer: Timer::Total, ..
            } => return Self::Stay,
            Error::RateLimited(_)
            | Error::Timeout {
                timer: Timer::Queue, ..
            } => FallbackReason::RateLimit,
            Error::Overloaded(_)
            | Error::Transport { .. }
            | Error::StreamTruncated { .. }
            | Error::Timeout { .. } => FallbackReason::Failure,
            Error::InvalidResponse { .. } | Error::SchemaMismatch { .. } => FallbackReason::InvalidResponse,
            Error::Unauthorized { .. } | Error::NotFound { .. } | Error::MissingKey { .. } => {
                FallbackReason::Misconfiguration
            }
            Error::Rejected(failure) if is_too_long(failure) => FallbackReason::ContextWindow,
            _ => return Self::Stay,
        };
        match reason {
            _ if !options.has(reason) => Self::Stay,
            FallbackReason::ContextWindow => Self::LargerWindow,
            _ => Self::Next,
        }
    }
}

/// The request is longer than the model's window, as vendors put it: OpenAI and those like it have a code, Anthropic
/// and Gemini a sentence.
fn is_too_long(failure: &VendorFailure) -> bool {
    if failure.kind.as_deref() == Some("context_length_exceeded") {
        return true;
    }
    let said = failure
        .message
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    [
        "prompt is too long",
        "exceed context limit",
        "maximum context length",
        "context window",
        "exceeds the maximum number of tokens",
    ]
    .iter()
    .any(|words| said.contains(words))
}
