//! [`PartialJson`]: JSON that is still being written, read as far as it has come.

mod number;
#[cfg(test)]
mod tests;

use crate::{Error, Result};
use number::NumberText;
use serde_json::{Map, Value};

/// Deepest nesting: as deep as `serde_json` reads.
const DEPTH: usize = 127;
/// Longest number, in characters: far longer than any that is exact, and too short for an integer out of range.
const NUMBER_BYTES: usize = 300;
/// Most bytes by default.
const BYTES: usize = 16 << 20;

/// Reads JSON piece by piece (a tool's arguments, a structured answer) and has a value at every moment: what is open
/// is closed, an unfinished string is there as far as it has come, an unfinished number as far as it is one, an
/// unfinished `true`, `false` or `null` as that word; a key without its value is left out.
///
/// Every byte is looked at once, and the value grows in place: the work is linear in the text, however it is cut.
///
/// ```
/// use stepwell_core::{PartialJson, StreamEvent};
/// let mut arguments = PartialJson::new();
/// for piece in [r#"{"city":"Os"#, r#"lo","days":1"#, r#"0}"#] {
///     let event = StreamEvent::ToolCallDelta { index: 0, arguments: piece.into() };
///     if let StreamEvent::ToolCallDelta { arguments: piece, .. } = event {
///         arguments.push(&piece)?;
///     }
/// }
/// assert_eq!(arguments.finish()?, serde_json::json!({ "city": "Oslo", "days": 10 }));
/// # Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PartialJson {
    root: Option<Value>,
    open: Vec<Container>,
    state: State,
    /// A string's characters since they were last put into the value; or a key.
    text: String,
    escape: Escape,
    number: NumberText,
    /// The value that is being read has its place already.
    is_placed: bool,
    read: usize,
    limit: usize,
    has_failed: bool,
}

#[derive(Clone, Debug)]
enum Container {
    Array,
    /// With the key whose value is being read.
    Object(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// Behind `[`.
    FirstItem,
    /// Behind `{`.
    FirstKey,
    /// Behind a comma in an object.
    Key,
    KeyText,
    Colon,
    AfterValue,
    Text,
    Number,
    /// One of the three words, and how much of it has come.
    Word(&'static str, usize),
    /// Only blanks may follow.
    End,
}

#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    /// Behind a backslash; with the first half of a surrogate pair.
    Slash(Option<u16>),
    /// So many hex digits, and their value.
    Hex(u8, u16, Option<u16>),
    /// A first half wants its second.
    Half(u16),
}

impl Default for PartialJson {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialJson {
    /// Nothing read yet; at most 16 MiB.
    pub fn new() -> Self {
        Self {
            root: None,
            open: Vec::new(),
            state: State::Value,
            text: String::new(),
            escape: Escape::None,
            number: NumberText::default(),
            is_placed: false,
            read: 0,
            limit: BYTES,
            has_failed: false,
        }
    }

    /// Sets the most bytes.
    pub fn max_bytes(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Reads on. After a failure the value stays what it was before, and every further piece fails.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it can never become JSON, [`Error::LimitExceeded`] where it is too long or deep.
    pub fn push(&mut self, piece: &str) -> Result<()> {
        if self.has_failed {
            return Err(self.broken());
        }
        if piece.len() > self.limit.saturating_sub(self.read) {
            self.has_failed = true;
            return Err(limit("JSON", format!("{} bytes", self.limit)));
        }
        let done = self.read_on(piece);
        self.show();
        self.has_failed = done.is_err();
        done
    }

    /// What has come so far; `None` before the first value has begun.
    pub fn value(&self) -> Option<&Value> {
        self.root.as_ref()
    }

    /// Whether it is whole JSON as it stands. A bare number may still go on.
    pub fn is_complete(&self) -> bool {
        let ends = self.state == State::End
            || (self.state == State::Number && self.open.is_empty() && self.number.is_whole());
        ends && !self.has_failed
    }

    /// The whole value.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is not complete.
    pub fn finish(mut self) -> Result<Value> {
        if self.is_complete() && self.state == State::Number {
            self.end_number()?;
        }
        if !self.is_complete() {
            return Err(self.broken());
        }
        self.root.take().ok_or_else(|| self.broken())
    }

    /// Its text is never quoted: it may be anybody's words.
    fn broken(&self) -> Error {
        Error::invalid("JSON", format!("it is none, or not whole, at byte {}", self.read))
    }

    fn read_on(&mut self, piece: &str) -> Result<()> {
        let bytes = piece.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if matches!(self.state, State::Text | State::KeyText) && matches!(self.escape, Escape::None) {
                // The run of plain characters; it ends at ASCII, so never inside a character.
                let run = bytes[at..]
                    .iter()
                    .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
                    .unwrap_or(bytes.len() - at);
                self.text.push_str(&piece[at..at + run]);
                at += run;
                self.read += run;
                let Some(&byte) = bytes.get(at) else { break };
                match byte {
                    b'"' => self.end_text(),
                    b'\\' => self.escape = Escape::Slash(None),
                    _ => return Err(self.broken()),
                }
            } else if self.state == State::Number {
                if self.number.take(byte) {
                    if self.number.text.len() > NUMBER_BYTES {
                        return Err(limit("a number in JSON", format!("{NUMBER_BYTES} characters")));
                    }
                    // An exponent out of range only grows.
                    if self.number.is_in_exponent() && self.number.value().is_none() {
                        return Err(self.broken());
                    }
                } else {
                    self.end_number()?;
                    continue; // the byte belongs to what follows
                }
            } else if matches!(self.state, State::Text | State::KeyText) {
                self.escaped(byte)?;
            } else {
                self.structure(byte)?;
            }
            at += 1;
            self.read += 1;
        }
        Ok(())
    }

    fn structure(&mut self, byte: u8) -> Result<()> {
        if let State::Word(word, come) = self.state {
            if word.as_bytes().get(come) != Some(&byte) {
                return Err(self.broken());
            }
            self.state = State::Word(word, come + 1);
            if come + 1 == word.len() {
                self.place(word_value(word));
                self.value_ends();
            }
            return Ok(());
        }
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Ok(());
        }
        match (self.state, byte) {
            (State::FirstItem, b']') | (State::FirstKey, b'}') => self.close(),
            (State::AfterValue, b']') if matches!(self.open.last(), Some(Container::Array)) => self.close(),
            (State::AfterValue, b'}') if matches!(self.open.last(), Some(Container::Object(_))) => {
                self.close();
            }
            (State::AfterValue, b',') => {
                self.state = match self.open.last() {
                    Some(Container::Object(_)) => State::Key,
                    _ => State::Value,
                };
            }
            (State::FirstKey | State::Key, b'"') => self.state = State::KeyText,
            (State::Colon, b':') => self.state = State::Value,
            (State::Value | State::FirstItem, byte) => return self.begin(byte),
            _ => return Err(self.broken()),
        }
        Ok(())
    }

    fn begin(&mut self, byte: u8) -> Result<()> {
        match byte {
            b'{' | b'[' => {
                if self.open.len() >= DEPTH {
                    return Err(limit("the nesting of JSON", format!("{DEPTH} levels")));
                }
                let (value, container, state) = if byte == b'{' {
                    let container = Container::Object(String::new());
                    (Value::Object(Map::new()), container, State::FirstKey)
                } else {
                    (Value::Array(Vec::new()), Container::Array, State::FirstItem)
                };
                self.place(value);
                self.is_placed = false;
                self.open.push(container);
                self.state = state;
            }
            b'"' => {
                self.place(Value::String(String::new()));
                self.state = State::Text;
            }
            b'-' | b'0'..=b'9' => {
                self.number = NumberText::default();
                self.number.take(byte);
                self.state = State::Number;
            }
            b't' => self.state = State::Word("true", 1),
            b'f' => self.state = State::Word("false", 1),
            b'n' => self.state = State::Word("null", 1),
            _ => return Err(self.broken()),
        }
        Ok(())
    }

    fn escaped(&mut self, byte: u8) -> Result<()> {
        self.escape = match (self.escape, byte) {
            (Escape::Slash(half), b'u') => Escape::Hex(0, 0, half),
            (Escape::Slash(None), byte) => {
                self.text.push(match byte {
                    b'"' | b'\\' | b'/' => char::from(byte),
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    _ => return Err(self.broken()),
                });
                Escape::None
            }
            (Escape::Half(half), b'\\') => Escape::Slash(Some(half)),
            (Escape::Hex(digits, so_far, half), byte) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    return Err(self.broken());
                };
                // Four hex digits: neither shift nor digit leaves the sixteen bits.
                let value = (so_far << 4) | u16::try_from(digit).unwrap_or(0);
                match (digits + 1, half) {
                    (4, half) => self.unit(value, half)?,
                    (digits, half) => Escape::Hex(digits, value, half),
                }
            }
            _ => return Err(self.broken()),
        };
        Ok(())
    }

    /// A unit of UTF-16 has come.
    fn unit(&mut self, unit: u16, half: Option<u16>) -> Result<Escape> {
        let units = [half.unwrap_or(unit), unit];
        let units = if half.is_some() { &units[..] } else { &units[1..] };
        match char::decode_utf16(units.iter().copied()).next() {
            Some(Ok(character)) => self.text.push(character),
            Some(Err(_)) if half.is_none() && (0xD800..0xDC00).contains(&unit) => {
                return Ok(Escape::Half(unit));
            }
            _ => return Err(self.broken()),
        }
        Ok(Escape::None)
    }

    fn end_text(&mut self) {
        if self.state == State::KeyText {
            if let Some(Container::Object(key)) = self.open.last_mut() {
                *key = std::mem::take(&mut self.text);
            }
            self.state = State::Colon;
        } else {
            self.show();
            self.value_ends();
        }
    }

    fn end_number(&mut self) -> Result<()> {
        let value = self.number.value().filter(|_| self.number.is_whole());
        let value = value.ok_or_else(|| self.broken())?;
        self.place(value);
        self.value_ends();
        Ok(())
    }

    fn value_ends(&mut self) {
        self.is_placed = false;
        self.state = if self.open.is_empty() {
            State::End
        } else {
            State::AfterValue
        };
    }

    fn close(&mut self) {
        self.open.pop();
        self.value_ends();
    }

    /// Puts what has come of an unfinished value into its place.
    fn show(&mut self) {
        match self.state {
            State::Text if !self.text.is_empty() => {
                let text = std::mem::take(&mut self.text);
                if let Some(Value::String(so_far)) = self.slot() {
                    so_far.push_str(&text);
                }
            }
            State::Number => {
                if let Some(value) = self.number.value() {
                    self.place(value);
                }
            }
            State::Word(word, _) => self.place(word_value(word)),
            _ => {}
        }
    }

    /// Where the innermost container is, from the root down its open ends.
    fn innermost(&mut self) -> Option<&mut Value> {
        let mut value = self.root.as_mut()?;
        let levels = self.open.len().saturating_sub(1);
        for container in &self.open[..levels] {
            value = child(value, container)?;
        }
        Some(value)
    }

    /// The place of the value that is being read.
    fn slot(&mut self) -> Option<&mut Value> {
        let mut value = self.root.as_mut()?;
        for container in &self.open {
            value = child(value, container)?;
        }
        Some(value)
    }

    /// Puts the value that is being read into its place; a later one replaces it there.
    fn place(&mut self, value: Value) {
        if self.is_placed {
            if let Some(slot) = self.slot() {
                *slot = value;
            }
            return;
        }
        self.is_placed = true;
        let key = match self.open.last() {
            None => {
                self.root = Some(value);
                return;
            }
            Some(Container::Object(key)) => Some(key.clone()),
            Some(Container::Array) => None,
        };
        match (self.innermost(), key) {
            (Some(Value::Object(fields)), Some(key)) => {
                fields.insert(key, value);
            }
            (Some(Value::Array(items)), None) => items.push(value),
            _ => {}
        }
    }
}

fn child<'a>(value: &'a mut Value, container: &Container) -> Option<&'a mut Value> {
    match (value, container) {
        (Value::Array(items), Container::Array) => items.last_mut(),
        (Value::Object(fields), Container::Object(key)) => fields.get_mut(key),
        _ => None,
    }
}

fn word_value(word: &str) -> Value {
    match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::Null,
    }
}

fn limit(what: &str, limit: String) -> Error {
    Error::LimitExceeded {
        what: what.to_owned(),
        limit,
    }
}
