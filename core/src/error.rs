//! [`Error`]: everything that can go wrong, with a stable [`Error::code`] in all three languages.
//!
//! One enum serves the whole engine, so that a `code` means the same wherever it was raised and a binding maps
//! it once. Display is one sentence that says what to do next. Keys, headers, prompts and bodies never enter it:
//! a vendor's own message may echo them, so it is kept apart in [`VendorFailure::message`], which is never printed.

use crate::{Attempt, ChatResponse, SchemaFault, Usage};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// A boxed cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a vendor said when it refused or failed. `Debug` and `Display` leave its message out.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct VendorFailure {
    /// The vendor, as in `vendor/model`.
    pub provider: String,
    /// HTTP status; `None` when it failed inside a stream that had begun with 200.
    pub status: Option<u16>,
    /// The vendor's own word for the failure, such as `overloaded_error` or `insufficient_quota`.
    pub kind: Option<String>,
    /// The vendor's id of the request, for its support.
    pub request_id: Option<String>,
    /// How long the vendor asks to wait.
    pub retry_after: Option<Duration>,
    /// The vendor's own verdict on a second try (`x-should-retry`); it overrules ours.
    pub should_retry: Option<bool>,
    /// Whether a piece of the answer had been handed out already.
    pub output_started: bool,
    /// Tokens this try took, where it had told some before it failed; flagged as an estimate.
    pub usage: Option<Usage>,
    /// The tries that had failed before this one.
    pub attempts: Vec<Attempt>,
    /// The vendor's sentence. It may quote the request: show it to the developer, never log it.
    pub message: Option<String>,
    /// What the host's own code raised, where it plays the vendor.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl VendorFailure {
    /// A failure of this vendor, nothing else known.
    pub fn new(provider: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            ..Self::default()
        }
    }
}

impl fmt::Debug for VendorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorFailure")
            .field("provider", &self.provider)
            .field("status", &self.status)
            .field("kind", &self.kind)
            .field("request_id", &self.request_id)
            .field("retry_after", &self.retry_after)
            .field("output_started", &self.output_started)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for VendorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        let mut parts = Vec::new();
        if let Some(status) = self.status {
            parts.push(format!("status {status}"));
        }
        if let Some(kind) = &self.kind {
            parts.push(kind.clone());
        }
        if let Some(id) = &self.request_id {
            parts.push(format!("request {id}"));
        }
        if parts.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", parts.join(", "))
        }
    }
}

/// Which clock a [`Error::Timeout`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timer {
    /// Name lookup, TCP and TLS.
    Connect,
    /// From sending the request to the first event.
    FirstEvent,
    /// Between two events.
    Idle,
    /// One try of a call.
    Attempt,
    /// A call with its retries and fallbacks.
    Total,
    /// The wait for a place under a rate limit.
    Queue,
    /// The wait of a run for a person's answer.
    Answer,
}

/// What went wrong. Match on [`Error::code`] across languages, on the variant in Rust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument of the caller cannot be used.
    #[error("{what}: {message}")]
    InvalidInput {
        /// Which argument.
        what: String,
        /// What is wrong with it and what would do.
        message: String,
    },
    /// A named thing is not there.
    #[error("there is no {what} `{name}`; {hint}")]
    NotFound {
        /// The kind of thing: `file`, `model vendor`, `run` …
        what: String,
        /// Its name.
        name: String,
        /// What to do, or which names exist.
        hint: String,
    },
    /// The vendor, store or index cannot do what was asked.
    #[error("{who} cannot take {what}; {hint}")]
    Unsupported {
        /// Who cannot.
        who: String,
        /// What was asked.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// No key was given.
    #[error("no key for {provider}: set {env_var} or pass one with `.api_key(..)`")]
    MissingKey {
        /// The vendor.
        provider: String,
        /// The environment variable that is read.
        env_var: String,
    },
    /// The vendor refused the key.
    #[error("{failure} refused the key: check {env_var} or the key passed with `.api_key(..)`")]
    Unauthorized {
        /// The environment variable that is read.
        env_var: String,
        /// What the vendor said.
        failure: Box<VendorFailure>,
    },
    /// The vendor refused the request; the same request will be refused again.
    #[error("{0} refused the request; see `vendor_message()` for its words")]
    Rejected(Box<VendorFailure>),
    /// The account has no money or quota left.
    #[error("{0} has no quota left on this account; add credit or use another model")]
    QuotaExceeded(Box<VendorFailure>),
    /// Too many requests; wait and try again.
    #[error("{0} limits the rate; wait and try again")]
    RateLimited(Box<VendorFailure>),
    /// The vendor is overloaded or failed; try again.
    #[error("{0} failed on its side; try again or use another model")]
    Overloaded(Box<VendorFailure>),
    /// The vendor could not be reached, or the connection broke.
    #[error("could not reach {provider}; check the network and the address")]
    Transport {
        /// The vendor.
        provider: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The stream ended without the vendor's end mark: the answer is not whole.
    #[error("the answer of {provider} broke off before its end; the partial answer is attached")]
    StreamTruncated {
        /// The vendor.
        provider: String,
        /// What had arrived, with the usage known so far.
        partial: Box<ChatResponse>,
    },
    /// The vendor answered with something that cannot be read.
    #[error("{provider} sent an answer that cannot be read: {message}")]
    InvalidResponse {
        /// The vendor.
        provider: String,
        /// What was wrong with it; never its text.
        message: String,
    },
    /// The answer came whole and has another shape than was asked for. Asking again costs a whole answer and tends to
    /// end the same way, so it is not retryable by itself: mend the schema or the instructions, or ask another model.
    #[error(
        "the answer of {provider} does not keep to the schema: {}; the answer is attached",
        list(faults)
    )]
    SchemaMismatch {
        /// The vendor.
        provider: String,
        /// The first places where it does not, without its values.
        faults: Vec<SchemaFault>,
        /// The answer, whole.
        response: Box<ChatResponse>,
    },
    /// A time limit was reached.
    #[error("{what} took longer than {after:?}; raise its limit or try again")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        after: Duration,
        /// Which clock rang.
        timer: Timer,
        /// What had come of an answer that stalled, with its usage flagged as an estimate.
        partial: Option<Box<ChatResponse>>,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A run waits for a person.
    #[error("the run `{run_id}` waits for an answer; answer its questions and resume it")]
    Interrupted {
        /// The run.
        run_id: String,
    },
    /// A tool gave up in a way that stops the run.
    #[error("tool `{tool}` stopped the run: {message}")]
    ToolFailed {
        /// The tool.
        tool: String,
        /// Its own sentence.
        message: String,
    },
    /// The budget of the run is spent.
    #[error("the budget for {what} is spent ({limit}); raise it to go on")]
    BudgetExceeded {
        /// `money`, `tokens`, `calls` or `time`.
        what: String,
        /// The limit, with its unit.
        limit: String,
        /// What had come of an answer that was stopped at the limit, with its usage flagged as an estimate.
        partial: Option<Box<ChatResponse>>,
    },
    /// Something is larger, deeper or longer than allowed.
    #[error("{what} is over the limit of {limit}")]
    LimitExceeded {
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A graph took more steps than allowed.
    #[error("the run did not end within {limit} steps; raise `step_limit` or mend the cycle")]
    StepLimit {
        /// The limit.
        limit: u32,
    },
    /// A graph cannot be built or driven: every fault, not only the first.
    #[error("the graph has {} fault(s): {}", faults.len(), faults.join("; "))]
    InvalidGraph {
        /// One sentence each.
        faults: Vec<String>,
    },
    /// Two nodes of one step wrote a key that has no reducer, or an update does not fit the state.
    #[error("the update of `{key}` cannot be applied: {message}")]
    InvalidUpdate {
        /// The key.
        key: String,
        /// Who wrote, and what to do.
        message: String,
    },
    /// A node failed.
    #[error("node `{node}` failed: {source}")]
    NodeFailed {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// Somebody else wrote in between.
    #[error("{what} was changed by someone else meanwhile; read it again and repeat")]
    Conflict {
        /// What.
        what: String,
    },
    /// Another writer holds the index or store.
    #[error(
        "{path} is being written by another process or handle; wait until it ends (reading needs no lock)"
    )]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// The folder or file is not one of ours.
    #[error("{path} is not a stepwell {what}; name an empty or new folder, or the right one")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// `index`, `store` …
        what: String,
    },
    /// The stored data is damaged.
    #[error("{what} is damaged ({message}); {hint}")]
    Damaged {
        /// Which data.
        what: String,
        /// What was found.
        message: String,
        /// How to get well again.
        hint: String,
    },
    /// The data was written by a newer version, or by one so old that it is read no more.
    #[error("{what} has format version {found}, this build reads up to {known}; {}", if found > known {
        "use a newer stepwell"
    } else {
        "make it anew with this one"
    })]
    UnknownVersion {
        /// Which data.
        what: String,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The index was made with another embedder.
    #[error("the index was made with embedder {found}, not {expected}; open it with that one or index anew")]
    EmbedderMismatch {
        /// Fingerprint of the embedder in use.
        expected: String,
        /// Fingerprint in the index.
        found: String,
    },
    /// A tool of somebody else's server is not what was pinned.
    #[error(
        "tool `{tool}` of the MCP server `{server}` {change}; read what it says now and pin it anew, or leave the server out"
    )]
    PinMismatch {
        /// The server, by the name given to it here.
        server: String,
        /// The server's name for the tool.
        tool: String,
        /// What is different.
        change: String,
    },
    /// A document could not be read.
    #[error("{document}: {reason}")]
    Unreadable {
        /// Its name or path.
        document: String,
        /// Why, in a few words.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No room left on the disk.
    #[error("no room left on the disk for {what}; free some and run again, what was committed is kept")]
    DiskFull {
        /// What was being written.
        what: String,
    },
    /// A store failed.
    #[error("the store failed: {message}")]
    Store {
        /// What was tried.
        message: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// An error of the host's own code (a callback in Rust, Python or JavaScript), carried whole.
    #[error("{0}")]
    Host(#[source] BoxError),
    /// A fault of the engine itself; please report it.
    #[error("internal fault: {message}; please report it")]
    Internal {
        /// What does not hold.
        message: String,
    },
}

/// Faults in one line.
fn list(faults: &[SchemaFault]) -> String {
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    told.join(", ")
}

impl Error {
    /// [`Error::InvalidInput`] in one line.
    pub fn invalid(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidInput {
            what: what.into(),
            message: message.into(),
        }
    }

    /// [`Error::Io`] in one line; a full disk becomes [`Error::DiskFull`].
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        let what = what.into();
        if source.kind() == std::io::ErrorKind::StorageFull {
            Self::DiskFull { what }
        } else {
            Self::Io { what, source }
        }
    }

    /// [`Error::Internal`] in one line.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal {
            message: message.into(),
        }
    }

    /// [`Error::Host`] from any error.
    pub fn host(source: impl Into<BoxError>) -> Self {
        Self::Host(source.into())
    }

    /// A stable word for this kind of error, the same in Rust, Python and Node.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidInput { .. } => "invalid_input",
            Self::NotFound { .. } => "not_found",
            Self::Unsupported { .. } => "unsupported",
            Self::MissingKey { .. } => "missing_key",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Rejected(_) => "rejected",
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::RateLimited(_) => "rate_limited",
            Self::Overloaded(_) => "overloaded",
            Self::Transport { .. } => "transport",
            Self::StreamTruncated { .. } => "stream_truncated",
            Self::InvalidResponse { .. } => "invalid_response",
            Self::SchemaMismatch { .. } => "schema_mismatch",
            Self::Timeout { .. } => "timeout",
            Self::Cancelled => "cancelled",
            Self::Interrupted { .. } => "interrupted",
            Self::ToolFailed { .. } => "tool_failed",
            Self::BudgetExceeded { .. } => "budget_exceeded",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::StepLimit { .. } => "step_limit",
            Self::InvalidGraph { .. } => "invalid_graph",
            Self::InvalidUpdate { .. } => "invalid_update",
            Self::NodeFailed { .. } => "node_failed",
            Self::Conflict { .. } => "conflict",
            Self::Locked { .. } => "locked",
            Self::Foreign { .. } => "foreign",
            Self::Damaged { .. } => "damaged",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::EmbedderMismatch { .. } => "embedder_mismatch",
            Self::PinMismatch { .. } => "pin_mismatch",
            Self::Unreadable { .. } => "unreadable",
            Self::Io { .. } => "io",
            Self::DiskFull { .. } => "disk_full",
            Self::Store { .. } => "store",
            Self::Host(_) => "host",
            Self::Internal { .. } => "internal",
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        if let Some(verdict) = self.vendor_failure().and_then(|failure| failure.should_retry) {
            return verdict;
        }
        matches!(
            self,
            Self::RateLimited(_)
                | Self::Overloaded(_)
                | Self::Transport { .. }
                | Self::StreamTruncated { .. }
                | Self::Timeout { .. }
                | Self::Conflict { .. }
                | Self::Locked { .. }
        )
    }

    /// What the vendor said about it, where a vendor did.
    pub fn vendor_failure(&self) -> Option<&VendorFailure> {
        match self {
            Self::Unauthorized { failure, .. }
            | Self::Rejected(failure)
            | Self::QuotaExceeded(failure)
            | Self::RateLimited(failure)
            | Self::Overloaded(failure) => Some(failure),
            _ => None,
        }
    }

    /// The same, for a layer that adds what it knows.
    pub fn vendor_failure_mut(&mut self) -> Option<&mut VendorFailure> {
        match self {
            Self::Unauthorized { failure, .. }
            | Self::Rejected(failure)
            | Self::QuotaExceeded(failure)
            | Self::RateLimited(failure)
            | Self::Overloaded(failure) => Some(failure),
            _ => None,
        }
    }

    /// The vendor's own sentence. It may quote the request: for a developer's eyes, not for logs.
    pub fn vendor_message(&self) -> Option<&str> {
        self.vendor_failure()
            .and_then(|failure| failure.message.as_deref())
    }

    /// What had come of an answer that broke off, stalled or was stopped; the whole of one that has the wrong shape.
    pub fn partial(&self) -> Option<&ChatResponse> {
        match self {
            Self::StreamTruncated { partial, .. }
            | Self::SchemaMismatch {
                response: partial, ..
            }
            | Self::Timeout {
                partial: Some(partial),
                ..
            }
            | Self::BudgetExceeded {
                partial: Some(partial),
                ..
            } => Some(partial),
            _ => None,
        }
    }

    /// How long the vendor asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        self.vendor_failure().and_then(|failure| failure.retry_after)
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, VendorFailure};

    #[test]
    fn a_vendors_sentence_is_kept_but_never_printed() {
        let mut failure = VendorFailure::new("openai");
        failure.status = Some(400);
        failure.message = Some("you sent: canary-prompt".to_owned());
        let error = Error::Rejected(Box::new(failure));
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert_eq!(error.vendor_message(), Some("you sent: canary-prompt"));
        assert_eq!((error.code(), error.is_retryable()), ("rejected", false));
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Error::io("writing the index", full).code(), "disk_full");
    }
}
