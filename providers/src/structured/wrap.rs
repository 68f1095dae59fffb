//! [`wrap`]: a schema of anything as the one property of an object, for vendors that want an object at the top.

use serde_json::{Map, Value, json};

/// The property that holds the answer.
pub(super) const FIELD: &str = "answer";

/// Whether the schema is one object at its top.
pub(super) fn is_object(schema: &Value) -> bool {
    let map = schema.as_object();
    let is_typed = schema.get("type").is_some_and(|kind| kind == "object");
    let is_named = schema.get("type").is_none() && schema.get("properties").is_some();
    (is_typed || is_named) && map.is_some_and(|map| !map.contains_key("anyOf") && !map.contains_key("oneOf"))
        || is_reference_to_object(schema)
}

fn is_reference_to_object(schema: &Value) -> bool {
    let target = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| schema.pointer(reference.strip_prefix('#')?));
    target.is_some_and(|target| target.get("$ref").is_none() && is_object(target))
}

/// The schema of an object with such a value in it. Definitions move to the top, so that references still lead there.
pub(super) fn wrap(schema: &Value) -> Value {
    let mut inner = schema.clone();
    let mut outer = Map::from_iter([("type".to_owned(), json!("object"))]);
    let mut definitions = Vec::new();
    if let Value::Object(map) = &mut inner {
        for key in ["$defs", "definitions"] {
            if let Some(value) = map.shift_remove(key) {
                definitions.push((key.to_owned(), value));
            }
        }
        // A name of its own would make the references inside it stay inside.
        for key in ["$id", "$schema"] {
            map.shift_remove(key);
        }
    }
    lead_inside(&mut inner);
    outer.insert("properties".to_owned(), json!({ FIELD: inner }));
    outer.insert("required".to_owned(), json!([FIELD]));
    outer.insert("additionalProperties".to_owned(), json!(false));
    for (key, mut value) in definitions {
        lead_inside(&mut value);
        outer.insert(key, value);
    }
    Value::Object(outer)
}

/// References to the whole, or to places in it, lead to where these are now.
fn lead_inside(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$ref" | "$dynamicRef", Value::String(target)) => {
                        let stays = target.starts_with("#/$defs/") || target.starts_with("#/definitions/");
                        if (target == "#" || target.starts_with("#/")) && !stays {
                            *target = format!("#/properties/{FIELD}{}", &target[1..]);
                        }
                    }
                    // Values, not schemas; as the name of a property they hold a schema, which is no list.
                    ("enum" | "examples", Value::Array(_)) => {}
                    (_, value) => lead_inside(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lead_inside),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{is_object, wrap};
    use serde_json::json;
    use stepwell_core::Schema;

    #[test]
    fn what_is_no_object_is_wrapped_and_its_references_lead_to_the_same_places() {
        let list = json!({ "type": "array", "items": { "anyOf": [{ "$ref": "#" }, { "$ref": "#/$defs/n" }] }, "$defs": { "n": { "type": "integer" } } });
        assert!(!is_object(&list));
        let wrapped = Schema::from_value(wrap(&list)).expect("a schema");
        assert!(wrapped.check(&json!({ "answer": [1, [2, [3]]] })).is_ok());
        assert!(wrapped.check(&json!({ "answer": [1, ["x"]] })).is_err());
        assert!(wrapped.check(&json!([1])).is_err());
        let named = json!({ "$id": "list", "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "array",
            "items": { "$ref": "#/$defs/n" }, "$defs": { "n": { "enum": [{ "$ref": "#/x" }, 1] } } });
        let wrapped = Schema::from_value(wrap(&named)).expect("a schema");
        assert!(
            wrapped
                .check(&json!({ "answer": [{ "$ref": "#/x" }, 1] }))
                .is_ok()
        );
        assert!(wrapped.check(&json!({ "answer": [2] })).is_err());
        for object in [
            json!({ "type": "object" }),
            json!({ "properties": {} }),
            json!({ "$ref": "#/$defs/o", "$defs": { "o": { "type": "object" } } }),
        ] {
            assert!(is_object(&object), "{object}");
        }
        for other in [
            json!({}),
            json!(true),
            json!({ "type": "object", "anyOf": [{}] }),
            json!({ "type": ["object", "null"] }),
        ] {
            assert!(!is_object(&other), "{other}");
        }
    }
}
