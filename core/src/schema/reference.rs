//! [`Document`]: a schema and where its references lead. Nothing leaves the document.

use crate::{Error, Result};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Keywords under which a reference stands.
pub(super) const REFERENCES: [&str; 2] = ["$ref", "$dynamicRef"];

/// A whole schema, for looking up its parts.
#[derive(Debug)]
pub(super) struct Document<'g> {
    root: &'g Value,
    /// `$anchor` and `$dynamicAnchor` → pointer, each below the schema with an `$id` it belongs to.
    anchors: HashMap<(String, &'g str), String>,
    /// Pointers of schemas with an `$id` of their own: a `#` inside means them.
    bases: Vec<String>,
}

impl<'g> Document<'g> {
    pub(super) fn new(root: &'g Value) -> Self {
        let mut document = Self {
            root,
            anchors: HashMap::new(),
            bases: Vec::new(),
        };
        let mut stack = vec![(String::new(), String::new(), root)];
        while let Some((pointer, base, value)) = stack.pop() {
            match value {
                Value::Object(map) => {
                    let has_id = map.get("$id").is_some_and(Value::is_string);
                    let base = if has_id { pointer.clone() } else { base };
                    if has_id && !pointer.is_empty() {
                        document.bases.push(pointer.clone());
                    }
                    for key in ["$anchor", "$dynamicAnchor"] {
                        if let Some(Value::String(name)) = map.get(key) {
                            document
                                .anchors
                                .entry((base.clone(), name))
                                .or_insert_with(|| pointer.clone());
                        }
                    }
                    for (key, value) in map {
                        let pointer = format!("{pointer}/{}", super::loss::escape(key));
                        stack.push((pointer, base.clone(), value));
                    }
                }
                Value::Array(items) => {
                    for (at, value) in items.iter().enumerate() {
                        stack.push((format!("{pointer}/{at}"), base.clone(), value));
                    }
                }
                _ => {}
            }
        }
        document
    }

    /// Pointer of the schema that a `#` at this place means.
    fn base(&self, pointer: &str) -> &str {
        let holds = |base: &&String| {
            pointer
                .strip_prefix(base.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.bases
            .iter()
            .filter(holds)
            .max_by_key(|base| base.len())
            .map_or("", String::as_str)
    }

    /// Pointer and schema that a reference at this place leads to.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it leaves the document or leads nowhere.
    pub(super) fn follow(&self, at: &str, reference: &str) -> Result<(String, &'g Value)> {
        let shown: String = reference.chars().take(80).collect();
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(Error::invalid(
                "schema",
                format!("`$ref` to `{shown}` leaves the document; inline it"),
            ));
        };
        let fragment = unescape_percent(fragment);
        let base = self.base(at);
        let pointer = if fragment.is_empty() || fragment.starts_with('/') {
            Some(format!("{base}{fragment}"))
        } else {
            self.anchors.get(&(base.to_owned(), fragment.as_str())).cloned()
        };
        pointer
            .and_then(|pointer| {
                let schema = self.root.pointer(&pointer)?;
                (schema.is_object() || schema.is_boolean()).then_some((pointer, schema))
            })
            .ok_or_else(|| Error::invalid("schema", format!("`$ref` to `{shown}` leads to no schema in it")))
    }

    /// Pointers of the schemas that contain a reference to themselves, straight or around corners.
    pub(super) fn recursive(&self) -> HashSet<String> {
        let mut edges: HashMap<String, Vec<String>> = HashMap::new();
        let mut queue = vec![(String::new(), self.root)];
        let mut seen: HashSet<String> = HashSet::from([String::new()]);
        while let Some((pointer, schema)) = queue.pop() {
            let mut targets = Vec::new();
            for (at, reference) in references(&pointer, schema) {
                if let Ok((target, schema)) = self.follow(&at, reference) {
                    if seen.insert(target.clone()) {
                        queue.push((target.clone(), schema));
                    }
                    targets.push(target);
                }
            }
            edges.insert(pointer, targets);
        }
        let reaches_itself = |start: &String| {
            let mut stack: Vec<&String> = edges.get(start).into_iter().flatten().collect();
            let mut seen = HashSet::new();
            while let Some(next) = stack.pop() {
                // What stands around a schema contains it too.
                if next == start || start.starts_with(&format!("{next}/")) {
                    return true;
                }
                if seen.insert(next) {
                    stack.extend(edges.get(next).into_iter().flatten());
                }
            }
            false
        };
        edges
            .keys()
            .filter(|start| reaches_itself(start))
            .cloned()
            .collect()
    }
}

/// Every reference inside a schema, with the pointer of the schema it stands in.
pub(super) fn references<'g>(pointer: &str, schema: &'g Value) -> Vec<(String, &'g str)> {
    let mut found = Vec::new();
    let mut stack = vec![(pointer.to_owned(), schema)];
    while let Some((pointer, value)) = stack.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(target) if REFERENCES.contains(&key.as_str()) => {
                            found.push((pointer.clone(), target.as_str()));
                        }
                        // Definitions are reached by the references to them.
                        _ if key == "$defs" || key == "definitions" => {}
                        _ => stack.push((format!("{pointer}/{}", super::loss::escape(key)), value)),
                    }
                }
            }
            Value::Array(items) => {
                for (at, value) in items.iter().enumerate() {
                    stack.push((format!("{pointer}/{at}"), value));
                }
            }
            _ => {}
        }
    }
    found
}

fn unescape_percent(fragment: &str) -> String {
    if !fragment.contains('%') {
        return fragment.to_owned();
    }
    let bytes = fragment.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Document;
    use serde_json::json;

    #[test]
    fn pointers_are_read_with_both_escapes_and_anchors_by_name() {
        let schema = json!({ "$defs": {
            "a/b": { "const": 1 }, "c~d": { "const": 2 }, "e f%": { "const": 3 }, "": { "const": 4 },
            "n": { "$anchor": "here", "const": 5 },
            "inner": { "$id": "other", "$defs": { "x": { "const": 6 } }, "properties": { "x": {} } }
        } });
        let document = Document::new(&schema);
        for (reference, value) in [
            ("#/$defs/a~1b", 1),
            ("#/$defs/c~0d", 2),
            ("#/$defs/e%20f%25", 3),
            ("#/$defs/", 4),
            ("#here", 5),
            ("#/%24defs/a~1b", 1),
        ] {
            let (_, found) = document.follow("", reference).expect(reference);
            assert_eq!(found["const"], value, "{reference}");
        }
        let (pointer, _) = document
            .follow("/$defs/inner/properties/x", "#/$defs/x")
            .expect("below its own id");
        assert_eq!(pointer, "/$defs/inner/$defs/x");
        for bad in [
            "other.json",
            "https://x.example/s#/a",
            "#/$defs/none",
            "#nowhere",
            "#/$defs/n/const",
        ] {
            assert_eq!(
                document.follow("", bad).expect_err(bad).code(),
                "invalid_input",
                "{bad}"
            );
        }
    }

    #[test]
    fn recursion_is_found_around_corners_and_from_the_root() {
        let schema = json!({ "properties": { "a": { "$ref": "#/$defs/a" }, "c": { "$ref": "#/$defs/c" }, "me": { "items": { "$ref": "#" } } }, "$defs": {
            "a": { "properties": { "b": { "$ref": "#/$defs/b" } } },
            "b": { "anyOf": [{ "$ref": "#/$defs/a" }, { "type": "null" }] },
            "c": { "items": { "$ref": "#/$defs/d" } },
            "d": {}
        } });
        let mut found: Vec<String> = Document::new(&schema).recursive().into_iter().collect();
        found.sort();
        assert_eq!(found, ["", "/$defs/a", "/$defs/b"]);
    }
}
