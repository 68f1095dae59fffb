//! Types and listed values: what is left of them where several schemas hold.

use super::compile::Part;
use serde_json::Value;

/// The types that all of these allow, in the order of the first; the outer `None` where none is left, the inner where
/// none is told.
#[allow(clippy::option_option)] // two questions, each with its own answer
pub(super) fn types<'g>(parts: &[Part<'g>]) -> Option<Option<Vec<&'g str>>> {
    let mut common: Option<Vec<&'g str>> = None;
    for part in parts {
        let kinds: Vec<&'g str> = match part.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        common = Some(match common {
            None => kinds,
            Some(so_far) => {
                let mut both: Vec<&'g str> = Vec::new();
                for kind in so_far {
                    let before = both.len();
                    if kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number") {
                        both.push(kind);
                    } else if kind == "number" && kinds.contains(&"integer") {
                        both.push("integer");
                    }
                    if both.len() > before && both[..before].contains(&both[before]) {
                        both.pop();
                    }
                }
                both
            }
        });
    }
    match common {
        Some(kinds) if kinds.is_empty() => None,
        common => Some(common),
    }
}

/// The values that all of these allow; the outer `None` where none is left, the inner where any is allowed.
#[allow(clippy::option_option)] // two questions, each with its own answer
pub(super) fn values<'g>(parts: &[Part<'g>], types: Option<&[&str]>) -> Option<Option<Vec<&'g Value>>> {
    let mut common: Option<Vec<&'g Value>> = None;
    for part in parts {
        for keyword in ["enum", "const"] {
            let Some(value) = part.get(keyword) else { continue };
            let listed: Vec<&'g Value> = match (keyword, value) {
                ("enum", Value::Array(values)) => values.iter().collect(),
                ("enum", _) => continue,
                _ => vec![value],
            };
            common = Some(match common {
                None => listed,
                Some(so_far) => so_far
                    .into_iter()
                    .filter(|value| listed.iter().any(|other| is_same(value, other)))
                    .collect(),
            });
        }
    }
    let Some(mut values) = common else {
        return Some(None);
    };
    if let Some(kinds) = types {
        values.retain(|value| {
            let kind = type_of(value);
            let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
            kinds.contains(&kind)
                || kind == "integer" && kinds.contains(&"number")
                || kind == "number" && is_whole && kinds.contains(&"integer")
        });
    }
    (!values.is_empty()).then_some(Some(values))
}

/// JSON Schema holds 1 and 1.0 for the same.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || a.is_number() && b.is_number() && a.as_f64() == b.as_f64()
}

pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(super) fn types_of(values: &[&Value]) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for value in values {
        let kind = type_of(value);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.contains(&"number") {
        kinds.retain(|kind| *kind != "integer");
    }
    kinds
}

/// Whether the values are all there are of their types.
pub(super) fn is_whole_types(values: &[&Value]) -> bool {
    let has = |wanted: bool| values.iter().any(|value| **value == Value::Bool(wanted));
    values.iter().all(|value| value.is_null() || value.is_boolean()) && has(true) == has(false)
}
