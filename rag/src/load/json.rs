//! JSON and JSON Lines: objects as records, each value under its path. No tree is built.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use stepwell_core::Document;

use super::guard::Guard;
use super::records::Records;
use super::refusal::Refusal;
use super::text;

/// Deepest nesting that serde_json itself takes.
const DEEPEST: usize = 127;

/// A file of one value: the elements of an array are records, and so are the entries of an object. What is not valid
/// JSON, and what a number of it would lose, is read as the text it is.
pub(super) fn read(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let source = text::decode(bytes)?;
    check_depth(&source, guard)?;
    let mut records = Records::new(guard);
    let mut refused = None;
    let value = Value {
        records: &mut records,
        path: &mut String::new(),
        refused: &mut refused,
        place: Place::Top,
    };
    let is_whole = flatten(&source, value);
    if let Some(refusal) = refused {
        return Err(refusal);
    }
    if !is_whole {
        guard.text(source.len())?;
        return Ok(Document::new(id, source));
    }
    Ok(finish(id, records))
}

/// A file of one value a line. A line that is no value stays as it is.
pub(super) fn read_lines(id: &str, bytes: &[u8], guard: &Guard) -> Result<Document, Refusal> {
    let source = text::decode(bytes)?;
    let mut records = Records::new(guard);
    for (number, line) in (1..).zip(source.lines()) {
        guard.check()?;
        if line.trim().is_empty() {
            continue;
        }
        if line.len() > guard.limits.record_bytes {
            return Err(guard.limits.record_too_long(&format!("line {number}")));
        }
        check_depth(line, guard)?;
        records.open(format!("line {number}"));
        let length = records.len();
        let mut refused = None;
        let value = Value {
            records: &mut records,
            path: &mut String::new(),
            refused: &mut refused,
            place: Place::Inside,
        };
        let is_whole = flatten(line, value);
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        if !is_whole {
            records.undo(length);
            records.field("", line)?;
        }
    }
    Ok(finish(id, records))
}

fn finish(id: &str, records: Records<'_>) -> Document {
    let (text, headings) = records.finish();
    let mut document = Document::new(id, text);
    document.headings = headings;
    document
}

/// Whether a text is one JSON value, told without keeping it.
pub(super) fn is_json(source: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(source).is_ok()
}

fn check_depth(source: &str, guard: &Guard) -> Result<(), Refusal> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in source.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > guard.limits.nesting {
                    return Err(guard.limits.too_deep());
                }
                if depth > DEEPEST {
                    return Err(Refusal::new(format!("nested deeper than {DEEPEST} levels")));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    guard.check()
}

fn flatten(source: &str, value: Value<'_, '_>) -> bool {
    let mut json = Deserializer::from_str(source);
    value.deserialize(&mut json).is_ok() && json.end().is_ok()
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is the file.
    Top,
    Inside,
    /// Behind another on its line.
    Behind,
}

/// Writes a value into the records; tells whether it was no more than one line.
struct Value<'a, 'g> {
    records: &'a mut Records<'g>,
    path: &'a mut String,
    /// A limit that was met: serde's own errors are made of text.
    refused: &'a mut Option<Refusal>,
    place: Place,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    Scalar,
    Block,
}

impl<'g> Value<'_, 'g> {
    fn inside(&mut self, place: Place) -> Value<'_, 'g> {
        Value {
            records: self.records,
            path: self.path,
            refused: self.refused,
            place,
        }
    }

    fn keep<E: serde::de::Error, T>(&mut self, result: Result<T, Refusal>) -> Result<T, E> {
        result.map_err(|refusal| {
            *self.refused = Some(refusal);
            E::custom("a limit")
        })
    }

    fn scalar<E: serde::de::Error>(mut self, value: &str) -> Result<Written, E> {
        let counted = self.records.count();
        self.keep(counted)?;
        if value.trim().is_empty() {
            return Ok(Written::Nothing);
        }
        let written = match self.place {
            Place::Behind => self.records.more(value),
            Place::Top | Place::Inside => self.records.field(self.path, value),
        };
        self.keep(written)?;
        Ok(Written::Scalar)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = Written;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Written, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Written, E> {
        self.scalar(if value { "true" } else { "false" })
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Written, E> {
        self.scalar(&value.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Written, E> {
        self.scalar(&value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Written, E> {
        // Whole numbers beyond 64 bits come as this, and would lose their digits.
        let is_kept = value.abs() < 1e18 || value.fract() != 0.0;
        match serde_json::Number::from_f64(value).filter(|_| is_kept) {
            Some(number) => self.scalar(&number.to_string()),
            None => Err(E::custom("a number that would lose digits")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Written, E> {
        self.scalar(value)
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<Written, E> {
        let counted = self.records.count();
        self.keep(counted)?;
        Ok(Written::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Written, A::Error> {
        let (length, is_top) = (self.path.len(), self.place == Place::Top);
        let mut before = Written::Nothing;
        for number in 1_usize.. {
            let counted = self.records.count();
            self.keep(counted)?;
            let place = if before == Written::Scalar && !is_top {
                Place::Behind
            } else {
                Place::Inside
            };
            if is_top {
                self.records.open(format!("item {number}"));
            }
            let item = Item {
                value: self.inside(place),
                number: (!is_top).then_some(number),
            };
            let item = items.next_element_seed(item)?;
            self.path.truncate(length);
            match item {
                Some(Written::Nothing) => {}
                Some(written) => before = written,
                None => break,
            }
        }
        Ok(Written::Block)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Written, A::Error> {
        let (length, is_top) = (self.path.len(), self.place == Place::Top);
        // Names that occur twice are both kept, in their order.
        while let Some(name) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            let counted = self.records.count();
            self.keep(counted)?;
            if is_top {
                self.records.open(title(&name));
            }
            let longest = self.records.guard.text(self.path.len() + name.len());
            self.keep(longest)?;
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            let written = entries.next_value_seed(self.inside(Place::Inside));
            self.path.truncate(length);
            written?;
        }
        Ok(Written::Block)
    }
}

/// The name of an entry as a heading.
fn title(name: &str) -> String {
    let line = name.split_whitespace().collect::<Vec<_>>().join(" ");
    line[..line.floor_char_boundary(120)].to_owned()
}

/// An element of an array: only one that is no scalar shows its number.
struct Item<'a, 'g> {
    value: Value<'a, 'g>,
    number: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = Written;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Written, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Written, E> {
        self.value.visit_bool(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Written, E> {
        self.value.visit_u64(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Written, E> {
        self.value.visit_i64(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Written, E> {
        self.value.visit_f64(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Written, E> {
        self.value.visit_str(value)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Written, E> {
        self.value.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, items: A) -> Result<Written, A::Error> {
        self.numbered();
        self.value.visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, entries: A) -> Result<Written, A::Error> {
        self.numbered();
        self.value.visit_map(entries)
    }
}

impl Item<'_, '_> {
    /// The path of what stands in it; its owner takes the number off again.
    fn numbered(&mut self) {
        if let Some(number) = self.number {
            self.value.path.extend(["[", &number.to_string(), "]"]);
        }
        self.value.place = Place::Inside;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(source: &str) -> Document {
        read("a.json", source.as_bytes(), &Guard::unbounded()).expect("JSON")
    }

    fn titles(document: &Document) -> Vec<(&str, &str)> {
        let headings = document.headings.iter();
        headings
            .map(|heading| (heading.title.as_str(), &document.text[heading.span.clone()]))
            .collect()
    }

    #[test]
    fn objects_of_an_array_are_records_with_paths() {
        let document = json(
            r#"[{"id": 7, "by": {"name": "Ada", "tags": ["x", null, "y"]}, "rows": [{"n": 1.0}, {"n": true}]}, 5, "two\r\nlines"]"#,
        );
        assert_eq!(
            document.text,
            "id: 7\nby.name: Ada\nby.tags: x, y\nrows[1].n: 1.0\nrows[2].n: true\n\n5\n\ntwo\nlines"
        );
        assert_eq!(
            titles(&document),
            [("item 1", "id: 7"), ("item 2", "5"), ("item 3", "two")]
        );
    }

    #[test]
    fn entries_of_an_object_are_records_and_a_name_that_occurs_twice_stays_twice() {
        let document =
            json(r#"{"name": "x", "server": {"port": 80}, "name": "y", "__proto__": {"a": 1}, "empty": {}}"#);
        assert_eq!(
            document.text,
            "name: x\n\nserver.port: 80\n\nname: y\n\n__proto__.a: 1"
        );
        assert_eq!(document.headings.len(), 4);
        assert_eq!(document.heading_path(12), ["server"]);
    }

    #[test]
    fn what_is_not_json_or_would_lose_digits_stays_text() {
        for source in [
            "{\n  // a comment\n  \"a\": 1\n}\n",
            "{\"a\": 123456789012345678901234567890}",
            "{\"a\": \"\\ud800\"}",
            "[1, 2",
        ] {
            let document = json(source);
            assert_eq!((document.text.as_str(), document.headings.len()), (source, 0));
        }
    }

    #[test]
    fn a_line_is_a_record_and_a_broken_one_stays_as_it_is() {
        let source = "{\"a\": {\"b\": 1}}\n\n{broken\n[1, 2, {\"c\": 3}]\n";
        let document = read_lines("a.jsonl", source.as_bytes(), &Guard::unbounded()).expect("lines");
        assert_eq!(document.text, "a.b: 1\n\n{broken\n\n1, 2\n[3].c: 3");
        assert_eq!(
            titles(&document),
            [("line 1", "a.b: 1"), ("line 3", "{broken"), ("line 4", "1, 2")]
        );
    }

    #[test]
    fn depth_and_long_lines_are_refused_by_their_limits() {
        let guard = Guard::unbounded();
        for depth in [200, 100_000] {
            let source = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert!(read("a.json", source.as_bytes(), &guard).is_err());
            assert!(read_lines("a.jsonl", source.as_bytes(), &guard).is_err());
        }
        let line = format!("\"{}\"", "x".repeat(2 << 20));
        let refusal = read_lines("a.jsonl", line.as_bytes(), &guard).expect_err("too long");
        assert!(
            refusal
                .reason()
                .starts_with("the size of line 1 is over the limit of 1 MiB")
        );
        // Long names that many values share.
        let source = format!(
            "{{\"{}\": {{{}\"z\": 1}}}}",
            "n".repeat(1 << 20),
            "\"a\": 1, ".repeat(10_000)
        );
        let refusal = read("a.json", source.as_bytes(), &guard).expect_err("too long");
        assert!(refusal.reason().starts_with("its text is over the limit"));
    }
}
