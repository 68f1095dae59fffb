//! [`Framing`]: how the events of an answer lie in its bytes; [`Parser`]: bytes → events, whichever it is.

use crate::{json_values, ndjson, sse};
use stepwell_core::Result;

/// How the events of an answer lie in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The body is one answer, not a stream.
    Whole,
    /// Server-sent events.
    Events,
    /// A JSON value per line.
    #[cfg_attr(not(feature = "ollama"), allow(dead_code))] // only some vendors frame so
    Lines,
    /// JSON values in an array, or alone.
    #[cfg_attr(not(feature = "gemini"), allow(dead_code))] // only some vendors frame so
    Values,
}

impl Framing {
    /// What most vendors mean by a content type: JSON is a whole answer, anything else a stream of events.
    pub(crate) fn usual(content_type: &[u8]) -> Self {
        if content_type.starts_with(b"application/json") {
            Self::Whole
        } else {
            Self::Events
        }
    }

    /// A parser under these limits. A body that is whole has no events; it is read as if it had.
    pub(crate) fn parser(self, limits: Limits) -> Parser {
        match self {
            Self::Whole | Self::Events => Parser::Events(sse::Parser::new(limits)),
            Self::Lines => Parser::Lines(ndjson::Parser::new(limits.event)),
            Self::Values => Parser::Values(json_values::Parser::new(limits.event)),
        }
    }
}

/// How much of a stream is held until it means something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most bytes of an event.
    pub(crate) event: usize,
    /// Most bytes of a line that carries no data.
    pub(crate) line: usize,
}

/// Bytes → events.
#[derive(Debug)]
pub(crate) enum Parser {
    Events(sse::Parser),
    Lines(ndjson::Parser),
    Values(json_values::Parser),
}

impl Parser {
    /// Takes in what came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Events(parser) => parser.push(bytes),
            Self::Lines(parser) => parser.push(bytes),
            Self::Values(parser) => parser.push(bytes),
        }
    }

    /// The next event or sign of life; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`stepwell_core::Error::LimitExceeded`] when an event is larger than allowed.
    pub(crate) fn next(&mut self) -> Result<Option<sse::Item<'_>>> {
        match self {
            Self::Events(parser) => parser.next(),
            Self::Lines(parser) => parser.next(),
            Self::Values(parser) => parser.next(),
        }
    }

    /// No more bytes come: what is left, where it is a whole event that only lacks its separator.
    pub(crate) fn rest(&mut self) -> Option<String> {
        match self {
            // An event without its blank line is dropped, as the algorithm says.
            Self::Events(_) | Self::Values(_) => None,
            Self::Lines(parser) => parser.rest(),
        }
    }
}

/// An event that is larger than allowed.
pub(crate) fn too_large(limit: usize) -> stepwell_core::Error {
    stepwell_core::Error::LimitExceeded {
        what: "an event of the stream".to_owned(),
        limit: format!("{limit} bytes; `HttpOptions::max_event_bytes` raises it"),
    }
}

/// A line without data that is longer than allowed.
pub(crate) fn too_long(limit: usize) -> stepwell_core::Error {
    stepwell_core::Error::LimitExceeded {
        what: "a line of the stream".to_owned(),
        limit: format!("{limit} bytes; `HttpOptions::max_line_bytes` raises it"),
    }
}
