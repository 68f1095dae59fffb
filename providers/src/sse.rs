//! Server-sent events: bytes in, events out, by the WHATWG algorithm, one pass, whatever the cuts of the network.
//!
//! A [`Parser`] owns what has come and not been read. Data of one line (nearly all of it) is handed out where it
//! lies; only data of several lines is joined. Every byte is looked at once: an unfinished line is taken up
//! where the search stopped, and read bytes are dropped when they are the larger half.

use crate::framing::{Limits, too_large, too_long};
use std::{borrow::Cow, ops::Range};
use stepwell_core::Result;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// `message` where the server gives no name.
    pub(crate) name: Cow<'a, str>,
    /// Its data, lines joined by `\n`.
    pub(crate) data: Cow<'a, str>,
}

/// What the parser found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Event(Event<'a>),
    /// A comment: a sign of life.
    Comment,
}

#[derive(Debug)]
enum Data {
    None,
    /// One line, where it lies in the buffer.
    One(Range<usize>),
    Many(Vec<u8>),
}

/// Bytes → events.
#[derive(Debug)]
pub(crate) struct Parser {
    buffer: Vec<u8>,
    /// Where the next line begins.
    line: usize,
    /// Up to where the next line has been searched for its end.
    searched: usize,
    /// The last line ended with CR at the end of what had come: an LF may follow.
    after_cr: bool,
    at_start: bool,
    name: Option<Range<usize>>,
    data: Data,
    last_id: String,
    pending_id: Option<String>,
    retry: Option<u64>,
    limits: Limits,
}

impl Parser {
    /// For events and lines of at most so many bytes.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            buffer: Vec::new(),
            line: 0,
            searched: 0,
            after_cr: false,
            at_start: true,
            name: None,
            data: Data::None,
            last_id: String::new(),
            pending_id: None,
            retry: None,
            limits,
        }
    }

    /// Takes in what came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let used = self.first_needed();
        if used == self.buffer.len() {
            self.buffer.clear();
            self.shift(used);
        } else if used > self.buffer.len() / 2 {
            self.buffer.drain(..used);
            self.shift(used);
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn first_needed(&self) -> usize {
        let mut first = self.line;
        if let Some(name) = &self.name {
            first = first.min(name.start);
        }
        if let Data::One(line) = &self.data {
            first = first.min(line.start);
        }
        first
    }

    fn shift(&mut self, by: usize) {
        self.line -= by;
        self.searched -= by;
        for range in self.name.iter_mut().chain(match &mut self.data {
            Data::One(line) => Some(line),
            _ => None,
        }) {
            range.start -= by;
            range.end -= by;
        }
    }

    /// The next event or comment; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`stepwell_core::Error::LimitExceeded`] when an event is larger than allowed.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>> {
        if !self.skip_byte_order_mark() {
            return Ok(None);
        }
        loop {
            if self.after_cr && self.line < self.buffer.len() {
                self.after_cr = false;
                if self.buffer[self.line] == b'\n' {
                    self.line += 1;
                    self.searched = self.searched.max(self.line);
                }
            }
            let Some(offset) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                self.check_size(self.searched)?;
                self.check_line(self.line..self.searched)?;
                return Ok(None);
            };
            let end = self.searched + offset;
            self.check_size(end)?;
            let line = self.line..end;
            self.check_line(line.clone())?;
            self.after_cr = self.buffer[end] == b'\r';
            self.line = end + 1;
            self.searched = self.line;
            if line.is_empty() {
                if let Some((name, data)) = self.dispatch() {
                    let name = name.map_or(Cow::Borrowed("message"), |range| {
                        String::from_utf8_lossy(&self.buffer[range])
                    });
                    let data = match data {
                        Data::One(range) => String::from_utf8_lossy(&self.buffer[range]),
                        Data::Many(bytes) => Cow::Owned(lossy(bytes)),
                        Data::None => Cow::Borrowed(""),
                    };
                    return Ok(Some(Item::Event(Event { name, data })));
                }
                continue;
            }
            if self.buffer[line.start] == b':' {
                return Ok(Some(Item::Comment));
            }
            self.field(line);
        }
    }

    /// The id of the last event that carried one.
    #[cfg(test)]
    pub(crate) fn last_id(&self) -> &str {
        &self.last_id
    }

    /// How long the server asks to wait before connecting again, in milliseconds.
    #[cfg(test)]
    pub(crate) fn retry(&self) -> Option<u64> {
        self.retry
    }

    fn skip_byte_order_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if !self.at_start {
            return true;
        }
        if self.buffer.len() < MARK.len() && MARK.starts_with(&self.buffer) {
            return false;
        }
        self.at_start = false;
        if self.buffer.starts_with(MARK) {
            self.line = MARK.len();
            self.searched = MARK.len();
        }
        true
    }

    fn check_size(&self, end: usize) -> Result<()> {
        let joined = match &self.data {
            Data::Many(bytes) => bytes.len(),
            _ => 0,
        };
        if end - self.first_needed().min(end) + joined > self.limits.event {
            return Err(too_large(self.limits.event));
        }
        Ok(())
    }

    /// A line of data counts as its event alone: vendors send an image in one.
    fn check_line(&self, line: Range<usize>) -> Result<()> {
        if line.len() > self.limits.line && !self.buffer[line].starts_with(b"data:") {
            return Err(too_long(self.limits.line));
        }
        Ok(())
    }

    fn field(&mut self, line: Range<usize>) {
        let bytes = &self.buffer[line.clone()];
        let (field, mut value) = match memchr::memchr(b':', bytes) {
            Some(colon) => (&bytes[..colon], line.start + colon + 1..line.end),
            None => (bytes, line.end..line.end),
        };
        if self.buffer.get(value.start) == Some(&b' ') && !value.is_empty() {
            value.start += 1;
        }
        match field {
            b"data" => match &mut self.data {
                Data::None => self.data = Data::One(value),
                Data::One(first) => {
                    let mut joined = Vec::with_capacity(first.len() + 1 + value.len());
                    joined.extend_from_slice(&self.buffer[first.clone()]);
                    joined.push(b'\n');
                    joined.extend_from_slice(&self.buffer[value]);
                    self.data = Data::Many(joined);
                }
                Data::Many(joined) => {
                    joined.push(b'\n');
                    joined.extend_from_slice(&self.buffer[value]);
                }
            },
            b"event" => self.name = Some(value),
            b"id" => {
                let value = &self.buffer[value];
                if !value.contains(&0) {
                    self.pending_id = Some(String::from_utf8_lossy(value).into_owned());
                }
            }
            b"retry" => {
                let value = &self.buffer[value];
                if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
                    self.retry = std::str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.parse().ok())
                        .or(self.retry);
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<(Option<Range<usize>>, Data)> {
        if let Some(id) = self.pending_id.take() {
            self.last_id = id;
        }
        let name = self.name.take().filter(|name| !name.is_empty());
        match std::mem::replace(&mut self.data, Data::None) {
            Data::None => None,
            data => Some((name, data)),
        }
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Item, Parser};
    use crate::{
        fixtures::{self, Random},
        framing::Limits,
    };
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde_json::Value;
    use std::time::{Duration, Instant};

    /// Event name, data, id of the last event.
    type Seen = (String, String, String);

    fn limited(event: usize, line: usize) -> Parser {
        Parser::new(Limits { event, line })
    }

    fn read(chunks: &[&[u8]]) -> (Vec<Seen>, Option<u64>, String) {
        let mut parser = limited(1 << 20, 1 << 20);
        let mut seen = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            loop {
                let found = match parser.next().expect("below the limit") {
                    Some(Item::Event(event)) => (event.name.into_owned(), event.data.into_owned()),
                    Some(Item::Comment) => continue,
                    None => break,
                };
                seen.push((found.0, found.1, parser.last_id().to_owned()));
            }
        }
        let id = parser.last_id().to_owned();
        (seen, parser.retry(), id)
    }

    #[test]
    fn every_case_of_the_conformance_suite_gives_its_events_however_it_is_cut() {
        let Some(cases) = fixtures::lines("conformance/sse.jsonl") else {
            println!("skipped: 1 (no fixtures)");
            return;
        };
        assert!(!cases.is_empty());
        let mut random = Random::new(7);
        let mut runs = 0;
        for case in &cases {
            let name = case["id"].as_str().expect("an id");
            let bytes = STANDARD
                .decode(case["bytes_b64"].as_str().expect("bytes"))
                .expect("base64");
            let text = |value: &Value| value.as_str().expect("a string").to_owned();
            let expected: Vec<Seen> = case["expected_events"]
                .as_array()
                .expect("events")
                .iter()
                .map(|event| {
                    (
                        text(&event["event"]),
                        text(&event["data"]),
                        text(&event["last_event_id"]),
                    )
                })
                .collect();
            let retry = case["expected_retry_ms"].as_u64();
            let last_id = text(&case["expected_last_event_id"]);
            let mut check = |chunks: &[&[u8]], how: &str| {
                assert_eq!(
                    read(chunks),
                    (expected.clone(), retry, last_id.clone()),
                    "{name}, {how}"
                );
                runs += 1;
            };
            check(&[&bytes], "whole");
            check(&bytes.chunks(1).collect::<Vec<_>>(), "byte by byte");
            // One case has a megabyte of data: its single cuts are sampled.
            for at in (0..=bytes.len()).step_by((bytes.len() / 4096).max(1)) {
                check(&[&bytes[..at], &bytes[at..]], "one cut");
            }
            for _ in 0..50 {
                check(&random.cut(&bytes), "random cuts");
            }
            if let Some(chunks) = case["chunks_b64"].as_array() {
                let chunks: Vec<Vec<u8>> = chunks
                    .iter()
                    .map(|chunk| STANDARD.decode(chunk.as_str().expect("bytes")).expect("base64"))
                    .collect();
                check(
                    &chunks.iter().map(Vec::as_slice).collect::<Vec<_>>(),
                    "given chunks",
                );
            }
        }
        println!("{} cases, {runs} readings, no differences", cases.len());
    }

    #[test]
    fn comments_are_told_as_signs_of_life() {
        let mut parser = limited(100, 100);
        parser.push(b": OPENROUTER PROCESSING\n\ndata: x\n\n");
        assert_eq!(parser.next().expect("fine"), Some(Item::Comment));
        assert!(matches!(
            parser.next().expect("fine"),
            Some(Item::Event(event)) if event.data == "x"
        ));
        assert_eq!(parser.next().expect("fine"), None);
    }

    #[test]
    fn an_event_over_the_limit_is_refused_before_it_is_whole_and_small_ones_never_add_up() {
        let mut parser = limited(64, 64);
        for _ in 0..1000 {
            parser.push(b"data: 0123456789\r\n\r\n");
            assert!(matches!(parser.next(), Ok(Some(Item::Event(_)))));
            assert_eq!(parser.next().expect("fine"), None);
        }
        let mut parser = limited(64, 64);
        parser.push(&[b'x'; 65]);
        assert_eq!(parser.next().expect_err("too long").code(), "limit_exceeded");
        let mut parser = limited(64, 64);
        for _ in 0..7 {
            parser.push(b"data: 0123456789\n");
        }
        assert_eq!(parser.next().expect_err("too long").code(), "limit_exceeded");
    }

    /// What a parser with these limits makes of pieces of sixteen bytes.
    fn ending(event: usize, line: usize, text: &str) -> Result<usize, String> {
        let (mut parser, mut events) = (limited(event, line), 0);
        for piece in text.as_bytes().chunks(16) {
            parser.push(piece);
            loop {
                match parser.next() {
                    Ok(Some(Item::Event(_))) => events += 1,
                    Ok(Some(Item::Comment)) => {}
                    Ok(None) => break,
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Ok(events)
    }

    #[test]
    fn a_line_and_an_event_of_their_limits_are_read_and_one_byte_more_is_refused() {
        const LINE: usize = 1 << 20;
        const EVENT: usize = 8 << 20;
        let over_line = Err("a line of the stream is over the limit of 1048576 bytes; `HttpOptions::max_line_bytes` raises it".to_owned());
        let over_event = Err("an event of the stream is over the limit of 8388608 bytes; `HttpOptions::max_event_bytes` raises it".to_owned());
        let line = |start: &str, length: usize| format!("{start}{}", "x".repeat(length - start.len()));
        // Comments, names, ids and fields nobody knows: no data.
        for start in [":", "event:", "id:", "dat", "datax"] {
            let text = |length| format!("{}\ndata: a\n\n", line(start, length));
            assert_eq!(ending(EVENT, LINE, &text(LINE)), Ok(1), "{start}");
            assert_eq!(ending(EVENT, LINE, &text(LINE + 1)), over_line, "{start}");
            // It is refused before it ends.
            assert_eq!(ending(EVENT, LINE, &line(start, LINE + 1)), over_line, "{start}");
        }
        // A line of data is as long as its event.
        assert_eq!(ending(EVENT, LINE, &(line("data: ", EVENT) + "\n\n")), Ok(1));
        assert_eq!(ending(EVENT, LINE, &line("data: ", EVENT + 1)), over_event);
        // Many lines, each of them short.
        let many = |count: usize| format!("{}\n", "data:x\n".repeat(count));
        assert_eq!(ending(EVENT, LINE, &many(100_000)), Ok(1));
        assert_eq!(ending(EVENT, LINE, &many(5 << 20)), over_event);
    }

    #[test]
    fn time_grows_with_the_bytes_and_not_with_their_square() {
        // 8 MB in one line, in pieces of 16 bytes: a parser that searches or copies again per piece takes minutes.
        let begun = Instant::now();
        let mut parser = limited(16 << 20, 64);
        parser.push(b"data: ");
        for _ in 0..(8 << 20) / 16 {
            parser.push(&[b'x'; 16]);
            assert_eq!(parser.next().expect("fine"), None);
        }
        parser.push(b"\n\n");
        assert!(matches!(parser.next(), Ok(Some(Item::Event(event))) if event.data.len() == 8 << 20));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
