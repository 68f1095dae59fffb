//! What went wrong with a server, in our words. The words of the server and of the network's libraries stay out of
//! errors: they may quote addresses, headers and bodies.

use super::{Connect, visible::visible, wire::Line};
use rmcp::{
    model::{ErrorCode, ErrorData},
    service::{ClientInitializeError, ServiceError},
    transport::{DynamicTransportError, streamable_http_client::StreamableHttpError},
};
use std::fmt;
use stepwell_core::{Error, ToolError, VendorFailure};

/// Bytes of a server's own sentence that reach the model.
const SENTENCE: usize = 4 << 10;

/// Why a connection is no more: the cause of an [`Error::Transport`](stepwell_core::Error::Transport).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
/// use std::error::Error;
/// use stepwell_agent::mcp::{Ended, Stdio, connect};
/// let error = connect("broken", Stdio::new("cat").arg("no-such-file")).await.expect_err("it ends at once");
/// let cause = error.source().and_then(|cause| cause.downcast_ref::<Ended>()).expect("it ended");
/// assert!(cause.stderr().contains("no-such-file"));
/// # });
/// ```
#[derive(thiserror::Error)]
#[error("{reason}")]
pub struct Ended {
    reason: String,
    stderr: String,
}

impl Ended {
    /// The end of what a child wrote to its error output before it ended. It may hold anything: show it to the
    /// developer, never log it. Neither `Debug` nor `Display` has it.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ended").field(&self.reason).finish()
    }
}

fn ended(connect: &Connect, reason: &str) -> Error {
    Error::Transport {
        provider: connect.server(),
        source: Box::new(Ended {
            reason: reason.to_owned(),
            stderr: String::new(),
        }),
    }
}

/// The same with what the server wrote.
pub(super) fn with_stderr(mut error: Error, stderr: String) -> Error {
    if let Error::Transport { source, .. } = &mut error
        && let Some(ended) = source.downcast_mut::<Ended>()
    {
        ended.stderr = stderr;
    }
    error
}

/// The connection has ended and is not made again.
pub(super) fn lost(connect: &Connect, line: Option<&Line>) -> Error {
    let reason = line
        .and_then(Line::fault)
        .unwrap_or("the connection has ended; connect again, or allow it with `.reconnect(..)`");
    ended(connect, reason)
}

/// An error with its cause, for a model.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::Transport { provider, source } => format!("the connection to {provider} was lost: {source}"),
        other => other.to_string(),
    }
}

/// The handshake did not come about.
pub(super) fn handshake(connect: &Connect, line: &Line, error: &ClientInitializeError) -> Error {
    let provider = connect.server();
    let message = match error {
        ClientInitializeError::TransportError { error, .. } => return transport(connect, line, error),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => {
            return handshake(connect, line, fallback);
        }
        ClientInitializeError::ConnectionClosed(_) => {
            let reason = "it ended before the handshake; `Ended::stderr` has what it said";
            return ended(connect, line.fault().unwrap_or(reason));
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "it speaks no version of the protocol that is spoken here"
        }
        ClientInitializeError::JsonRpcError(error) => return refused(connect, error),
        _ => "it did not answer the handshake as the protocol says",
    };
    Error::InvalidResponse {
        provider,
        message: message.to_owned(),
    }
}

/// A request failed, where no tool is at stake.
pub(super) fn call(connect: &Connect, line: &Line, error: &ServiceError) -> Error {
    match error {
        ServiceError::McpError(error) => refused(connect, error),
        ServiceError::TransportSend(error) => transport(connect, line, error),
        ServiceError::UnexpectedResponse => Error::InvalidResponse {
            provider: connect.server(),
            message: "it is no answer of the protocol".to_owned(),
        },
        _ => lost(connect, Some(line)),
    }
}

/// A call failed.
pub(super) fn of_call(
    connect: &Connect,
    line: &Line,
    error: &ServiceError,
    in_doubt: impl FnOnce(String) -> ToolError,
) -> ToolError {
    match error {
        ServiceError::McpError(error) => {
            let told = format!("{} refused the call: {}", connect.server(), words(error));
            if error.code == ErrorCode::INVALID_PARAMS {
                ToolError::Retry(told)
            } else {
                ToolError::Failed(told)
            }
        }
        other => in_doubt(sentence(&call(connect, line, other))),
    }
}

fn words(error: &ErrorData) -> String {
    let mut text = visible(&error.message).into_owned();
    if text.len() > SENTENCE {
        let mut end = SENTENCE;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

fn refused(connect: &Connect, error: &ErrorData) -> Error {
    let mut failure = VendorFailure::new(connect.server());
    failure.kind = Some(format!("JSON-RPC error {}", error.code.0));
    failure.message = Some(words(error));
    Error::Rejected(Box::new(failure))
}

/// What HTTP or a pipe did.
fn transport(connect: &Connect, line: &Line, error: &DynamicTransportError) -> Error {
    let provider = connect.server();
    let unreachable = |reason: &str| ended(connect, reason);
    let status = |status: u16| {
        let mut failure = VendorFailure::new(connect.server());
        failure.status = Some(status);
        Box::new(failure)
    };
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error.error.as_ref());
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            match cause {
                StreamableHttpError::ResponseBodyTooLarge { max_size } => {
                    return Error::LimitExceeded {
                        what: format!("a message of {provider}"),
                        limit: format!("{max_size} bytes (`ClientLimits::message_bytes`)"),
                    };
                }
                StreamableHttpError::HttpStatus(cause) => {
                    return match cause.status {
                        429 => Error::RateLimited(status(429)),
                        code => Error::Overloaded(status(code)),
                    };
                }
                StreamableHttpError::AuthRequired(_) => {
                    return Error::Unauthorized {
                        env_var: "the header `Authorization`".to_owned(),
                        failure: status(401),
                    };
                }
                StreamableHttpError::InsufficientScope(_) => return Error::Rejected(status(403)),
                StreamableHttpError::SessionExpired => {
                    // The next call makes a new one, where that is allowed.
                    line.ended.cancel();
                    return unreachable("it no longer knows the session");
                }
                StreamableHttpError::UnexpectedServerResponse(told) => {
                    // Of the library's sentence only the status is taken: the rest is the server's page.
                    let code = told
                        .strip_prefix("HTTP ")
                        .and_then(|rest| rest.get(..3))
                        .and_then(|code| code.parse::<u16>().ok());
                    return match code {
                        Some(401) => Error::Unauthorized {
                            env_var: "the header `Authorization`".to_owned(),
                            failure: status(401),
                        },
                        Some(code) => Error::Rejected(status(code)),
                        None => Error::InvalidResponse {
                            provider,
                            message: "it is no message of the protocol".to_owned(),
                        },
                    };
                }
                StreamableHttpError::UnexpectedContentType(_) => {
                    return Error::InvalidResponse {
                        provider,
                        message:
                            "it is neither JSON nor an event stream; is the address that of an MCP endpoint?"
                                .to_owned(),
                    };
                }
                StreamableHttpError::Client(cause) if cause.is_timeout() => {
                    return unreachable("it took too long to connect");
                }
                StreamableHttpError::Client(cause) if cause.is_connect() => {
                    return unreachable("nobody answers at its address");
                }
                _ => {}
            }
        }
        next = cause.source();
    }
    unreachable(line.fault().unwrap_or("the connection broke"))
}
