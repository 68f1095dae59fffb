//! Whether null fits a compiled place, and how to let it.

use serde_json::{Map, Value, json};

/// Whether null fits a compiled place.
pub(super) fn takes_null(map: &Map<String, Value>) -> bool {
    if map.get("nullable") == Some(&Value::Bool(true)) {
        return true;
    }
    if let Some(Value::Array(branches)) = map.get("anyOf") {
        return branches.iter().filter_map(Value::as_object).any(takes_null);
    }
    if map.contains_key("$ref") {
        return false; // a second null does no harm
    }
    let by_type = match map.get("type") {
        None => true,
        Some(Value::String(kind)) => kind == "null",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "null"),
        Some(_) => false,
    };
    by_type
        && map
            .get("enum")
            .and_then(Value::as_array)
            .is_none_or(|values| values.contains(&Value::Null))
        && map.get("const").is_none_or(Value::is_null)
}

/// The same place, where null fits too.
pub(super) fn with_null(mut map: Map<String, Value>) -> Map<String, Value> {
    if takes_null(&map) {
        return map;
    }
    let is_listed = map.contains_key("enum") || map.contains_key("const");
    match map.get_mut("type") {
        Some(Value::Array(kinds)) if !is_listed => {
            kinds.push(json!("null"));
            return map;
        }
        Some(kind) if kind.is_string() && !is_listed => {
            *kind = json!([kind, "null"]);
            return map;
        }
        _ => {}
    }
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.push(json!({ "type": "null" }));
        return map;
    }
    let mut outer = Map::new();
    for note in ["title", "description", "default"] {
        if let Some(value) = map.shift_remove(note) {
            outer.insert(note.to_owned(), value);
        }
    }
    outer.insert("anyOf".to_owned(), json!([map, { "type": "null" }]));
    outer
}
