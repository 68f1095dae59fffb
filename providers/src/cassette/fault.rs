//! [`Fault`]: what may go wrong with a played answer.

use crate::seconds::some_seconds;
use serde::Deserialize;
use std::time::Duration;

/// What goes wrong with a call. Bytes count from the start of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// The connection is closed in good order after so many bytes.
    CutAt(usize),
    /// The connection breaks after so many bytes.
    ResetAt(usize),
    /// Nothing more comes after so many bytes, and nobody hangs up.
    StallAt(usize),
    /// Another status in place of the answer, such as 429 or 529.
    Status {
        /// The status.
        status: u16,
        /// Sent as `retry-after-ms`; in a settings file in seconds.
        #[serde(default, deserialize_with = "some_seconds")]
        retry_after: Option<Duration>,
    },
    /// The first event comes twice.
    DuplicateStart,
}

/// The body with its first event twice. An event of a stream ends with an empty line, a line of JSON with its end.
pub(super) fn duplicate_start(body: &[u8]) -> Vec<u8> {
    let is_sse = body.starts_with(b"data:") || body.starts_with(b"event:") || body.starts_with(b":");
    let ends: &[&[u8]] = if is_sse {
        &[b"\r\n\r\n", b"\n\n", b"\r\r"]
    } else {
        &[b"\n"]
    };
    let first = ends
        .iter()
        .filter_map(|end| Some(memchr::memmem::find(body, end)? + end.len()))
        .min()
        .unwrap_or(0);
    [&body[..first], body].concat()
}

#[cfg(test)]
mod tests {
    use super::duplicate_start;

    #[test]
    fn the_first_event_or_line_is_doubled_and_a_whole_answer_is_left() {
        for (body, doubled) in [
            (
                "event: a\ndata: 1\n\ndata: 2\n\n",
                "event: a\ndata: 1\n\nevent: a\ndata: 1\n\ndata: 2\n\n",
            ),
            (
                "data: 1\r\n\r\ndata: 2\r\n\r\n",
                "data: 1\r\n\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n",
            ),
            ("{\"a\":1}\n{\"a\":2}\n", "{\"a\":1}\n{\"a\":1}\n{\"a\":2}\n"),
            ("{\"whole\":true}", "{\"whole\":true}"),
        ] {
            assert_eq!(duplicate_start(body.as_bytes()), doubled.as_bytes(), "{body}");
        }
    }
}
