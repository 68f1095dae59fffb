//! [`SchemaSize`]: the figures of a schema that vendors bound.

use super::dialect::Limits;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Figures of a schema that vendors bound, over all its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaSize {
    /// Properties of all objects.
    pub properties: usize,
    /// Properties that need not be there.
    pub optional_properties: usize,
    /// Properties with alternatives: `anyOf`, or more than one type.
    pub union_properties: usize,
    /// Objects inside one another, the outermost counted; references followed as far as they do not lead back.
    pub levels: usize,
    /// Characters of names, definitions' names and enumerated words.
    pub text: usize,
    /// Values of all enumerations.
    pub enum_values: usize,
    /// Characters of the largest enumeration that has more than 250 words.
    pub large_enum_text: usize,
}

impl SchemaSize {
    /// Adds another schema of the same request.
    pub fn add(&mut self, other: &Self) {
        self.properties += other.properties;
        self.optional_properties += other.optional_properties;
        self.union_properties += other.union_properties;
        self.levels = self.levels.max(other.levels);
        self.text += other.text;
        self.enum_values += other.enum_values;
        self.large_enum_text = self.large_enum_text.max(other.large_enum_text);
    }

    /// # Errors
    /// [`Error::LimitExceeded`] with the first figure that is too large.
    pub(super) fn check(&self, limits: &Limits) -> Result<()> {
        for (what, found, most) in [
            ("the properties of the schema", self.properties, limits.properties),
            ("the objects inside one another", self.levels, limits.levels),
            ("the characters of names and enumerations", self.text, limits.text),
            ("the enumerated values", self.enum_values, limits.enum_values),
            (
                "the characters of an enumeration",
                self.large_enum_text,
                limits.large_enum_text,
            ),
        ] {
            if found > most {
                return Err(Error::LimitExceeded {
                    what: format!("{what} ({found})"),
                    limit: format!("{most} of this vendor"),
                });
            }
        }
        Ok(())
    }
}

pub(super) fn size(schema: &Value) -> SchemaSize {
    let mut size = SchemaSize::default();
    for (_, map) in schemas(schema) {
        let required: Vec<&str> = map
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, inner) in map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            size.properties += 1;
            size.text += name.chars().count();
            size.optional_properties += usize::from(!required.contains(&name.as_str()));
            let has_types = inner.get("type").is_some_and(Value::is_array);
            let is_union = has_types || inner.get("anyOf").is_some() || inner.get("oneOf").is_some();
            size.union_properties += usize::from(is_union);
        }
        for name in map
            .get("$defs")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
        {
            size.text += name.chars().count();
        }
        let listed = map.get("enum").and_then(Value::as_array);
        let values = listed.into_iter().flatten().chain(map.get("const"));
        let words: usize = values
            .filter_map(Value::as_str)
            .map(|word| word.chars().count())
            .sum();
        size.text += words;
        let count = listed.map_or(0, Vec::len);
        size.enum_values += count;
        if count > 250 {
            size.large_enum_text = size.large_enum_text.max(words);
        }
    }
    let mut known = HashMap::new();
    size.levels = levels(schema, schema, &mut known);
    size
}

/// Objects inside one another. A definition is measured once; one that is being measured counts for none.
fn levels<'s>(root: &'s Value, schema: &'s Value, known: &mut HashMap<&'s str, usize>) -> usize {
    let Value::Object(map) = schema else { return 0 };
    let mut inner = 0;
    if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
        let found = known.get(reference).copied();
        inner = found.unwrap_or_else(|| {
            known.insert(reference, 0);
            let target = reference
                .strip_prefix('#')
                .and_then(|pointer| root.pointer(pointer));
            let count = target.map_or(0, |target| levels(root, target, known));
            known.insert(reference, count);
            count
        });
    }
    let mut deepest = 0;
    for (_, child) in children(map) {
        deepest = deepest.max(levels(root, child, known));
    }
    let is_object = map.contains_key("properties");
    inner.max(deepest + usize::from(is_object))
}

/// The schemas right below one, definitions left out, with their pointers below it.
fn children(map: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(parts)) => {
                for (name, part) in parts {
                    found.push((format!("/{key}/{}", super::loss::escape(name)), part));
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(parts)) => {
                for (at, part) in parts.iter().enumerate() {
                    found.push((format!("/{key}/{at}"), part));
                }
            }
            (
                "items"
                | "additionalItems"
                | "additionalProperties"
                | "propertyNames"
                | "not"
                | "if"
                | "then"
                | "else"
                | "contains"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                Value::Object(_),
            ) => found.push((format!("/{key}"), value)),
            _ => {}
        }
    }
    found
}

/// Every schema inside a schema, itself and its definitions included, with its pointer.
pub(super) fn schemas(schema: &Value) -> Vec<(String, &Map<String, Value>)> {
    let mut found = Vec::new();
    let mut stack = vec![(String::new(), schema)];
    while let Some((pointer, value)) = stack.pop() {
        let Value::Object(map) = value else { continue };
        let mut below: Vec<(String, &Value)> = children(map)
            .into_iter()
            .map(|(at, child)| (format!("{pointer}{at}"), child))
            .collect();
        for key in ["$defs", "definitions"] {
            for (name, part) in map.get(key).and_then(Value::as_object).into_iter().flatten() {
                below.push((format!("{pointer}/{key}/{}", super::loss::escape(name)), part));
            }
        }
        found.push((pointer, map));
        stack.extend(below.into_iter().rev());
    }
    found
}

/// Bytes of a value as JSON, or a few more or less: enough to bound work.
pub(super) fn text_of(value: &Value) -> usize {
    let mut bytes = 0;
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        bytes += match value {
            Value::String(text) => text.len() + 3,
            Value::Array(items) => {
                stack.extend(items);
                2
            }
            Value::Object(map) => {
                stack.extend(map.values());
                2 + map.keys().map(|key| key.len() + 4).sum::<usize>()
            }
            _ => 6,
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::size;
    use serde_json::json;

    #[test]
    fn a_schema_is_measured_over_all_its_parts_and_recursion_ends() {
        let schema = json!({ "type": "object", "required": ["a"], "properties": {
            "a": { "type": ["string", "null"] },
            "bb": { "anyOf": [{ "$ref": "#/$defs/n" }, { "type": "null" }] },
            "c": { "enum": ["xx", "y", 3] }
        }, "$defs": { "n": { "type": "object", "properties": { "next": { "$ref": "#/$defs/n" } } } } });
        let size = size(&schema);
        assert_eq!(
            (size.properties, size.optional_properties, size.union_properties),
            (4, 3, 2)
        );
        assert_eq!(
            (size.levels, size.enum_values, size.text),
            (2, 3, 1 + 2 + 1 + 4 + 1 + 3)
        );
    }
}
