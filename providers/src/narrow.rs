//! [`schema`]: a JSON Schema made narrow enough for a vendor that keeps to schemas by grammar.
//!
//! Such vendors want every object closed. Closing objects and asking for every property only narrows the
//! schema: whatever keeps to the narrow one keeps to the given one. A keyword the vendor refuses is dropped and
//! told; the answer is still checked against the given schema where it is read.

use serde_json::{Map, Value, json};

/// What a vendor's grammar needs.
pub(crate) struct Grammar {
    /// Every property has to be required.
    pub(crate) requires_all: bool,
    /// Keywords it refuses.
    pub(crate) refuses: &'static [&'static str],
}

/// The narrow schema, and the keywords that were dropped on the way.
pub(crate) fn schema(given: &Value, grammar: &Grammar) -> (Value, Vec<&'static str>) {
    let mut dropped = Vec::new();
    let narrow = walk(given, grammar, &mut dropped);
    dropped.sort_unstable();
    dropped.dedup();
    (narrow, dropped)
}

// Recursion is bounded: `Schema` refuses more than 128 levels.
fn walk(value: &Value, grammar: &Grammar, dropped: &mut Vec<&'static str>) -> Value {
    let Value::Object(given) = value else {
        return value.clone();
    };
    let mut narrow = Map::with_capacity(given.len() + 2);
    for (key, value) in given {
        if let Some(refused) = grammar.refuses.iter().find(|refused| *refused == key) {
            dropped.push(refused);
            continue;
        }
        let value = match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(parts)) => Value::Object(
                parts
                    .iter()
                    .map(|(name, part)| (name.clone(), walk(part, grammar, dropped)))
                    .collect(),
            ),
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(parts)) => {
                Value::Array(parts.iter().map(|part| walk(part, grammar, dropped)).collect())
            }
            ("items" | "not", part) => walk(part, grammar, dropped),
            _ => value.clone(),
        };
        // Of alternatives that exclude one another, any is one of them.
        let key = if key == "oneOf" && !given.contains_key("anyOf") {
            "anyOf"
        } else {
            key
        };
        narrow.insert(key.to_owned(), value);
    }
    let names: Option<Vec<Value>> = narrow
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().map(Value::String).collect());
    let is_object = narrow.get("type").is_some_and(|kind| kind == "object") || names.is_some();
    if is_object {
        if !matches!(narrow.get("additionalProperties"), Some(Value::Bool(_))) {
            if narrow.contains_key("additionalProperties") {
                dropped.push("additionalProperties");
            }
            narrow.insert("additionalProperties".to_owned(), json!(false));
        }
        if grammar.requires_all {
            let names = names.unwrap_or_default();
            narrow.insert("required".to_owned(), Value::Array(names));
        }
    }
    Value::Object(narrow)
}

#[cfg(test)]
mod tests {
    use super::{Grammar, schema};
    use serde_json::json;

    #[test]
    fn objects_are_closed_at_every_depth_and_refused_keywords_are_told() {
        let given = json!({ "type": "object", "properties": {
            "n": { "type": "integer", "minimum": 1 },
            "rows": { "type": "array", "items": { "type": "object", "properties": { "a": { "type": ["string", "null"] } } } },
            "minimum": { "oneOf": [{ "const": 1 }, { "const": 2 }] }
        }, "required": ["n"] });
        let grammar = Grammar {
            requires_all: true,
            refuses: &["minimum"],
        };
        let (narrow, dropped) = schema(&given, &grammar);
        assert_eq!(dropped, ["minimum"]);
        assert_eq!(narrow["required"], json!(["n", "rows", "minimum"]));
        assert_eq!(narrow["properties"]["n"], json!({ "type": "integer" }));
        assert_eq!(
            narrow["properties"]["rows"]["items"],
            json!({ "type": "object", "properties": { "a": { "type": ["string", "null"] } }, "additionalProperties": false, "required": ["a"] })
        );
        assert!(
            narrow["properties"]["minimum"]["anyOf"].is_array(),
            "a property of a keyword's name is no keyword"
        );
    }
}
