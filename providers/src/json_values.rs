//! JSON values that come in an array, one after another, or one alone: bytes in, each value's text out.
//!
//! Only the bounds are looked for: brackets that open and close outside of strings. Whether a value is good JSON
//! is for its reader to find out. Every byte is looked at once.

use crate::{
    framing::too_large,
    sse::{Event, Item},
};
use std::borrow::Cow;
use stepwell_core::Result;

/// Bytes → values.
#[derive(Debug)]
pub(crate) struct Parser {
    buffer: Vec<u8>,
    /// Where the next value begins, or the blanks before it.
    start: usize,
    /// Up to where it has been read.
    read: usize,
    /// Brackets that are open in it.
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    limit: usize,
}

impl Parser {
    /// For values of at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            read: 0,
            depth: 0,
            is_in_string: false,
            is_escaped: false,
            limit,
        }
    }

    /// Takes in what came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > self.buffer.len() / 2 || self.start == self.buffer.len() {
            self.buffer.drain(..self.start);
            self.read -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next object; `None` when more bytes are needed. What is no object and not in one has no meaning on the
    /// wires that are framed so (the array's own signs, blanks, a byte order mark), and is skipped.
    ///
    /// # Errors
    /// [`stepwell_core::Error::LimitExceeded`] when a value is larger than allowed.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>> {
        while self.read < self.buffer.len() {
            if self.is_in_string {
                self.string();
                continue;
            }
            let byte = self.buffer[self.read];
            self.read += 1;
            match byte {
                b'"' if self.depth > 0 => self.is_in_string = true,
                b'{' => {
                    if self.depth == 0 {
                        self.start = self.read - 1;
                    }
                    self.depth += 1;
                }
                b'}' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let value = self.start..self.read;
                        self.start = self.read;
                        self.check_size(value.len())?;
                        return Ok(Some(Item::Event(Event {
                            name: Cow::Borrowed("message"),
                            data: String::from_utf8_lossy(&self.buffer[value]),
                        })));
                    }
                }
                _ if self.depth == 0 => self.start = self.read,
                _ => {}
            }
        }
        self.check_size(self.read - self.start)?;
        Ok(None)
    }

    /// Reads on in a string, up to its end.
    fn string(&mut self) {
        if self.is_escaped {
            self.is_escaped = false;
            self.read += 1;
            return;
        }
        match memchr::memchr2(b'"', b'\\', &self.buffer[self.read..]) {
            None => self.read = self.buffer.len(),
            Some(offset) => {
                self.read += offset;
                if self.buffer[self.read] == b'"' {
                    self.is_in_string = false;
                } else {
                    self.is_escaped = true;
                }
                self.read += 1;
            }
        }
    }

    fn check_size(&self, length: usize) -> Result<()> {
        if length > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Parser;
    use crate::{fixtures::Random, sse::Item};

    fn read(chunks: &[&[u8]]) -> Vec<String> {
        let (mut parser, mut seen) = (Parser::new(1 << 20), Vec::new());
        for chunk in chunks {
            parser.push(chunk);
            while let Some(item) = parser.next().expect("below the limit") {
                if let Item::Event(event) = item {
                    seen.push(event.data.into_owned());
                }
            }
        }
        seen
    }

    #[test]
    fn values_are_the_same_however_they_are_cut_in_an_array_alone_or_in_a_row() {
        for (text, expected) in [
            (
                "[{\"a\": \"日本 } ] \\\" \\\\\"}\r\n,\r\n{\"b\": [{\"c\": {}}, \"{\"]}]\r\n",
                vec!["{\"a\": \"日本 } ] \\\" \\\\\"}", "{\"b\": [{\"c\": {}}, \"{\"]}"],
            ),
            ("{\n  \"a\": 1\n}\n", vec!["{\n  \"a\": 1\n}"]),
            ("{\"a\":1}{\"b\":2} {\"c\":3", vec!["{\"a\":1}", "{\"b\":2}"]),
            ("[]", vec![]),
            ("[{\"cut\": \"he", vec![]),
            ("} ] \" {\"a\":1}", vec!["{\"a\":1}"]),
        ] {
            let bytes = text.as_bytes();
            assert_eq!(read(&[bytes]), expected, "{text}");
            for at in 0..=bytes.len() {
                assert_eq!(
                    read(&[&bytes[..at], &bytes[at..]]),
                    expected,
                    "{text} cut at {at}"
                );
            }
            assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{text}");
            let mut random = Random::new(11);
            for _ in 0..100 {
                assert_eq!(read(&random.cut(bytes)), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused_before_it_is_whole_and_blanks_never_add_up() {
        let mut parser = Parser::new(64);
        for _ in 0..1000 {
            parser.push(b"{\"n\": 123456789},            \n            ");
            assert!(matches!(parser.next(), Ok(Some(Item::Event(_)))));
            assert_eq!(parser.next().expect("fine"), None);
        }
        parser.push(b"{\"x\": \"");
        parser.push(&[b'x'; 65]);
        assert_eq!(parser.next().expect_err("too long").code(), "limit_exceeded");
    }
}
