//! A JSON value per line: bytes in, lines out, whatever the cuts of the network.
//!
//! Every byte is looked at once, and a line is handed out where it lies.

use crate::{
    framing::too_large,
    sse::{Event, Item},
};
use serde::de::IgnoredAny;
use std::borrow::Cow;
use stepwell_core::Result;

/// Bytes → lines.
#[derive(Debug)]
pub(crate) struct Parser {
    buffer: Vec<u8>,
    /// Where the next line begins.
    line: usize,
    /// Up to where it has been searched for its end.
    searched: usize,
    at_start: bool,
    limit: usize,
}

impl Parser {
    /// For lines of at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            line: 0,
            searched: 0,
            at_start: true,
            limit,
        }
    }

    /// Takes in what came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.line > self.buffer.len() / 2 || self.line == self.buffer.len() {
            self.buffer.drain(..self.line);
            self.searched -= self.line;
            self.line = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line; an empty one is a sign of life; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`stepwell_core::Error::LimitExceeded`] when a line is longer than allowed.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>> {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if self.at_start {
            if self.buffer.len() < MARK.len() && MARK.starts_with(&self.buffer) {
                return Ok(None);
            }
            self.at_start = false;
            if self.buffer.starts_with(MARK) {
                self.line = MARK.len();
                self.searched = MARK.len();
            }
        }
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        let end = found.map_or(self.buffer.len(), |offset| self.searched + offset);
        if end - self.line > self.limit {
            return Err(too_large(self.limit));
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        let line = &self.buffer[self.line..end];
        self.line = end + 1;
        self.searched = self.line;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(if line.is_empty() {
            Item::Comment
        } else {
            Item::Event(Event {
                name: Cow::Borrowed("message"),
                data: String::from_utf8_lossy(line),
            })
        }))
    }

    /// The last line, where only its line end is missing: a value that is not whole is a cut one.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let rest = std::str::from_utf8(&self.buffer[self.line..])
            .ok()?
            .trim()
            .to_owned();
        self.line = self.buffer.len();
        self.searched = self.line;
        // A bare number or word may be cut and whole at once; no vendor sends one.
        (rest.starts_with('{') && serde_json::from_str::<IgnoredAny>(&rest).is_ok()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::Parser;
    use crate::{fixtures::Random, sse::Item};

    fn read(chunks: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let (mut parser, mut seen) = (Parser::new(1 << 20), Vec::new());
        for chunk in chunks {
            parser.push(chunk);
            while let Some(item) = parser.next().expect("below the limit") {
                match item {
                    Item::Event(event) => seen.push(event.data.into_owned()),
                    Item::Comment => seen.push("(alive)".to_owned()),
                }
            }
        }
        (seen, parser.rest())
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut_and_the_last_needs_no_line_end() {
        let bytes = "\u{feff}{\"a\":\"日本 🌍\"}\r\n\n{\"b\":[1,\"\\n\"]}\n{\"c\":{}}".as_bytes();
        let expected = read(&[bytes]);
        assert_eq!(
            expected.0,
            ["{\"a\":\"日本 🌍\"}", "(alive)", "{\"b\":[1,\"\\n\"]}"]
        );
        assert_eq!(expected.1.as_deref(), Some("{\"c\":{}}"));
        for at in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..at], &bytes[at..]]), expected, "cut at {at}");
        }
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        let mut random = Random::new(3);
        for _ in 0..200 {
            assert_eq!(read(&random.cut(bytes)), expected);
        }
    }

    #[test]
    fn a_cut_last_line_is_no_event_and_an_endless_one_is_refused() {
        for rest in ["{\"a\":1", "tru", "", "12"] {
            assert_eq!(read(&[rest.as_bytes()]).1, None, "{rest}");
        }
        let mut parser = Parser::new(64);
        for _ in 0..1000 {
            parser.push(b"{\"n\": 0123456789}\n");
            assert!(matches!(parser.next(), Ok(Some(Item::Event(_)))));
        }
        parser.push(&[b'x'; 65]);
        assert_eq!(parser.next().expect_err("too long").code(), "limit_exceeded");
    }
}
