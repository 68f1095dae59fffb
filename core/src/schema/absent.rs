//! [`mend`]: a `null` that stands for an absent property is taken out.
//!
//! Vendors that want every property there are given a schema in which an optional one may be null; other models write
//! null unasked. Where the given schema has no null, the property is meant to be absent.

use super::{
    reference::{Document, REFERENCES},
    values::type_of,
};
use serde_json::Value;

/// Places looked at before the rest is left as it is.
const STEPS: usize = 100_000;
/// Schemas inside one another, references counted.
const DEEP: usize = 160;

struct Mender<'g> {
    document: Document<'g>,
    steps: usize,
}

/// The value without the nulls of optional properties whose schema has none. Everything else stays as it is.
pub(super) fn mend(schema: &Value, value: &mut Value) {
    let mut mender = Mender {
        document: Document::new(schema),
        steps: 0,
    };
    mender.walk("", schema, value, 0);
}

impl<'g> Mender<'g> {
    fn is_over(&mut self, depth: usize) -> bool {
        self.steps += 1;
        self.steps > STEPS || depth > DEEP
    }

    fn target(&self, at: &str, schema: &'g Value) -> Option<(String, &'g Value)> {
        let reference = REFERENCES.iter().find_map(|key| schema.get(key)?.as_str())?;
        self.document.follow(at, reference).ok()
    }

    fn walk(&mut self, at: &str, schema: &'g Value, value: &mut Value, depth: usize) {
        if self.is_over(depth) || !(value.is_object() || value.is_array()) {
            return;
        }
        if let Some((target, inner)) = self.target(at, schema) {
            self.walk(&target, inner, value, depth + 1);
        }
        for (place, inner) in list(schema, "allOf") {
            self.walk(&format!("{at}/allOf/{place}"), inner, value, depth + 1);
        }
        for keyword in ["anyOf", "oneOf"] {
            // The branch the value is meant for: the first that would fit.
            for (place, inner) in list(schema, keyword) {
                let at = format!("{at}/{keyword}/{place}");
                if self.could_be(&at, inner, value, depth + 1) {
                    self.walk(&at, inner, value, depth + 1);
                    break;
                }
            }
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.could_be(&format!("{at}/if"), condition, value, depth + 1) {
                "then"
            } else {
                "else"
            };
            if let Some(inner) = schema.get(branch) {
                self.walk(&format!("{at}/{branch}"), inner, value, depth + 1);
            }
        }
        match value {
            Value::Object(map) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                map.retain(|name, item| {
                    let Some(inner) = properties.and_then(|properties| properties.get(name)) else {
                        return true;
                    };
                    let at = format!("{at}/properties/{}", super::loss::escape(name));
                    if item.is_null()
                        && !is_required(schema, name)
                        && !self.could_be(&at, inner, item, depth + 1)
                    {
                        return false;
                    }
                    self.walk(&at, inner, item, depth + 1);
                    true
                });
                if let Some(inner) = schema
                    .get("additionalProperties")
                    .filter(|inner| inner.is_object())
                {
                    let at = format!("{at}/additionalProperties");
                    for (name, item) in map {
                        if properties.is_none_or(|properties| !properties.contains_key(name)) {
                            self.walk(&at, inner, item, depth + 1);
                        }
                    }
                }
            }
            Value::Array(items) => {
                let places: Vec<(usize, &Value)> = list(schema, "prefixItems").collect();
                for (place, item) in items.iter_mut().enumerate() {
                    if let Some((_, inner)) = places.get(place) {
                        self.walk(&format!("{at}/prefixItems/{place}"), inner, item, depth + 1);
                    } else if let Some(inner) = schema.get("items") {
                        self.walk(&format!("{at}/items"), inner, item, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether the value could keep to the schema once its nulls are mended: types, constants, names and the values
    /// below are looked at, bounds are not.
    fn could_be(&mut self, at: &str, schema: &'g Value, value: &Value, depth: usize) -> bool {
        if self.is_over(depth) {
            return true;
        }
        if let Value::Bool(any) = schema {
            return *any;
        }
        if let Some((target, inner)) = self.target(at, schema)
            && !self.could_be(&target, inner, value, depth + 1)
        {
            return false;
        }
        let kind = type_of(value);
        let takes = |word: &Value| {
            word == kind
                || word == "number" && kind == "integer"
                || word == "integer" && value.as_f64().is_some_and(|number| number.fract() == 0.0)
        };
        let fits_type = match schema.get("type") {
            Some(Value::Array(words)) => words.iter().any(takes),
            Some(word) => takes(word),
            None => true,
        };
        let fits_values = schema.get("const").is_none_or(|one| one == value)
            && schema
                .get("enum")
                .and_then(Value::as_array)
                .is_none_or(|values| values.contains(value));
        if !fits_type || !fits_values {
            return false;
        }
        for (place, inner) in list(schema, "allOf") {
            if !self.could_be(&format!("{at}/allOf/{place}"), inner, value, depth + 1) {
                return false;
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            let mut branches = list(schema, keyword).peekable();
            if branches.peek().is_some()
                && !branches.any(|(place, inner)| {
                    self.could_be(&format!("{at}/{keyword}/{place}"), inner, value, depth + 1)
                })
            {
                return false;
            }
        }
        match value {
            Value::Object(map) => {
                let is_there = |name: &Value| name.as_str().is_none_or(|name| map.contains_key(name));
                if !list(schema, "required").all(|(_, name)| is_there(name)) {
                    return false;
                }
                let properties = schema.get("properties").and_then(Value::as_object);
                let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
                    && schema.get("patternProperties").is_none();
                map.iter().all(|(name, item)| {
                    let Some(inner) = properties.and_then(|properties| properties.get(name)) else {
                        return !is_closed;
                    };
                    let at = format!("{at}/properties/{}", super::loss::escape(name));
                    item.is_null() && !is_required(schema, name) || self.could_be(&at, inner, item, depth + 1)
                })
            }
            Value::Array(items) => match schema.get("items") {
                Some(inner) if list(schema, "prefixItems").next().is_none() => items
                    .iter()
                    .all(|item| self.could_be(&format!("{at}/items"), inner, item, depth + 1)),
                _ => true,
            },
            _ => true,
        }
    }
}

fn list<'g>(schema: &'g Value, keyword: &str) -> impl Iterator<Item = (usize, &'g Value)> {
    schema
        .get(keyword)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
}

fn is_required(schema: &Value, name: &str) -> bool {
    list(schema, "required").any(|(_, other)| other == name)
}

#[cfg(test)]
mod tests {
    use super::mend;
    use serde_json::{Value, json};

    fn mended(schema: &Value, mut value: Value) -> Value {
        mend(schema, &mut value);
        value
    }

    #[test]
    fn a_null_is_taken_out_only_where_the_schema_has_none_and_asks_for_none() {
        let schema = json!({ "type": "object", "required": ["must"], "properties": {
            "must": { "type": "string" }, "may": { "type": "integer" },
            "null_too": { "type": ["string", "null"] }, "any": {}, "listed": { "enum": ["a", null] }
        } });
        let given = json!({ "must": null, "may": null, "null_too": null, "any": null, "listed": null, "other": null });
        let expected = json!({ "must": null, "null_too": null, "any": null, "listed": null, "other": null });
        assert_eq!(mended(&schema, given), expected);
    }

    #[test]
    fn nulls_are_found_below_references_arrays_maps_and_the_branch_that_is_meant() {
        let schema = json!({ "$ref": "#/$defs/node", "$defs": {
            "node": { "type": "object", "properties": {
                "name": { "type": "string" },
                "children": { "type": "array", "items": { "$ref": "#/$defs/node" } },
                "by_key": { "type": "object", "additionalProperties": { "$ref": "#/$defs/node" } },
                "act": { "oneOf": [
                    { "type": "object", "properties": { "kind": { "const": "a" }, "x": { "type": "string" } }, "required": ["kind"] },
                    { "type": "object", "properties": { "kind": { "const": "b" }, "x": { "type": ["string", "null"] } }, "required": ["kind"] }
                ] }
            } }
        } });
        let given = json!({
            "name": null,
            "children": [{ "name": "x", "children": null }, { "act": { "kind": "b", "x": null } }],
            "by_key": { "k": { "name": null } },
            "act": { "kind": "a", "x": null }
        });
        let expected = json!({
            "children": [{ "name": "x" }, { "act": { "kind": "b", "x": null } }],
            "by_key": { "k": {} },
            "act": { "kind": "a" }
        });
        assert_eq!(mended(&schema, given), expected);
    }

    #[test]
    fn a_schema_that_leads_in_circles_ends() {
        let schema = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }] }, "b": { "$ref": "#" } } });
        let value = json!({ "x": [1, 2, { "y": null }] });
        assert_eq!(mended(&schema, value.clone()), value);
    }
}
