//! [`one_object`]: a schema of arguments with one object at its top, as vendors of tools want it; all else as it is.

use super::{
    loss::{Report, SchemaChange},
    reference::Document,
};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// Most alternatives that are run together.
const BRANCHES: usize = 64;

/// # Errors
/// [`Error::Unsupported`] when no object fits.
pub(super) fn one_object(given: &Value, report: &mut Report) -> Result<Value> {
    let refused = || Error::Unsupported {
        who: "a tool".into(),
        what: "arguments that are no object".into(),
        hint: "make their schema an object".into(),
    };
    let Value::Object(map) = given else {
        return if *given == Value::Bool(true) {
            Ok(json!({ "type": "object" }))
        } else {
            Err(refused())
        };
    };
    match map.get("type") {
        // A tool of no arguments.
        Some(kind) if kind == "null" => {
            report.tell(
                "",
                "type",
                SchemaChange::Widened,
                "no arguments are an empty object",
            );
            return Ok(json!({ "type": "object", "properties": {} }));
        }
        Some(kind) if kind == "object" => {}
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "object") => {}
        None => {}
        Some(_) => return Err(refused()),
    }
    let is_plain = !["anyOf", "oneOf", "allOf", "$ref"]
        .iter()
        .any(|key| map.contains_key(*key));
    if is_plain {
        let is_object = map.get("type").is_some_and(|kind| kind == "object");
        return Ok(if is_object {
            given.clone()
        } else {
            Value::Object(with_type(map.clone()))
        });
    }
    let document = Document::new(given);
    let mut budget = BRANCHES;
    let Some(Top { mut map, .. }) = top(&document, "", map, report, &mut budget, &mut Vec::new())? else {
        return Err(refused());
    };
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = given.get(key) {
            map.insert(key.to_owned(), definitions.clone());
        }
    }
    let written = Value::Object(with_type(map));
    // What was taken from the top may have been referred to.
    let document = Document::new(&written);
    let still_lead = |(at, reference): &(String, &str)| document.follow(at, reference).is_ok();
    let mut references = super::reference::references("", &written);
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = written.get(key) {
            references.extend(super::reference::references(&format!("/{key}"), definitions));
        }
    }
    if references.iter().all(still_lead) {
        return Ok(written);
    }
    report.tell(
        "",
        "properties",
        SchemaChange::Widened,
        "a reference leads into what was run together: any object fits",
    );
    Ok(json!({ "type": "object" }))
}

fn with_type(mut map: Map<String, Value>) -> Map<String, Value> {
    map.shift_remove("type");
    let mut typed = Map::from_iter([("type".to_owned(), json!("object"))]);
    typed.extend(map);
    typed
}

/// An object at the top, as raw keywords.
struct Top {
    map: Map<String, Value>,
}

/// The keywords of one object that has room for whatever fits here; `None` where no object does.
fn top(
    document: &Document<'_>,
    at: &str,
    given: &Map<String, Value>,
    report: &mut Report,
    budget: &mut usize,
    active: &mut Vec<String>,
) -> Result<Option<Top>> {
    if *budget == 0 {
        report.tell(
            at,
            "anyOf",
            SchemaChange::Widened,
            "too many alternatives at the top: some are left out",
        );
        return Ok(Some(Top { map: Map::new() }));
    }
    *budget -= 1;
    if given
        .get("type")
        .is_some_and(|kind| kind.as_str().is_some_and(|kind| kind != "object"))
    {
        return Ok(None);
    }
    let mut map = given.clone();
    for key in ["$defs", "definitions", "type"] {
        map.shift_remove(key);
    }
    if let Some(Value::String(reference)) = map.shift_remove("$ref") {
        let (target, value) = document.follow(at, &reference)?;
        if active.contains(&target) {
            return Err(Error::invalid("schema", "its `$ref` leads back to itself"));
        }
        active.push(target.clone());
        let is_alone = !map.keys().any(|key| super::compile::is_constraint(key));
        let change = if is_alone {
            SchemaChange::Rewritten
        } else {
            SchemaChange::Widened
        };
        report.tell(at, "$ref", change, "the reference is written out");
        tell_opened(report, at, &map);
        if let Value::Object(inner) = value {
            match top(document, &target, inner, report, budget, active)? {
                Some(inner) => join(&mut map, inner.map),
                None => return Ok(None),
            }
        }
        active.pop();
    }
    if let Some(Value::Array(parts)) = map.shift_remove("allOf") {
        report.tell(
            at,
            "allOf",
            SchemaChange::Widened,
            "what holds together at the top is run together",
        );
        tell_opened(report, at, &map);
        for (place, part) in parts.iter().enumerate() {
            let Value::Object(inner) = part else { continue };
            match top(
                document,
                &format!("{at}/allOf/{place}"),
                inner,
                report,
                budget,
                active,
            )? {
                Some(inner) => join(&mut map, inner.map),
                None => return Ok(None),
            }
        }
    }
    for keyword in ["anyOf", "oneOf"] {
        let Some(Value::Array(branches)) = map.shift_remove(keyword) else {
            continue;
        };
        let told = "the alternatives at the top are run together: one object with room for each";
        report.tell(at, keyword, SchemaChange::Widened, told);
        tell_opened(report, at, &map);
        let mut objects = Vec::new();
        for (place, branch) in branches.iter().enumerate() {
            let Value::Object(inner) = branch else { continue };
            let at = format!("{at}/{keyword}/{place}");
            objects.extend(top(document, &at, inner, report, budget, active)?);
        }
        if objects.is_empty() {
            return Ok(None);
        }
        join(&mut map, either(objects));
    }
    Ok(Some(Top { map }))
}

/// Tells that keywords about all other properties let more through: they see those of what is run together as well.
fn tell_opened(report: &mut Report, at: &str, map: &Map<String, Value>) {
    for keyword in ["additionalProperties", "unevaluatedProperties"] {
        if map.contains_key(keyword) {
            let told = "it knows the properties of what was run together, too";
            report.tell(at, keyword, SchemaChange::Widened, told);
        }
    }
}

/// Adds what holds as well. Of properties both have, and of any other keyword, the first stays.
fn join(map: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (key.as_str(), map.get_mut(&key), value) {
            ("properties", Some(Value::Object(own)), Value::Object(others)) => {
                for (name, value) in others {
                    own.entry(name).or_insert(value);
                }
            }
            ("required", Some(Value::Array(own)), Value::Array(others)) => {
                for name in others {
                    if !own.contains(&name) {
                        own.push(name);
                    }
                }
            }
            // What one part closes another part opens.
            ("additionalProperties", Some(own), value) if *own != value => *own = Value::Bool(true),
            (_, Some(_), _) => {}
            (_, None, value) => {
                map.insert(key, value);
            }
        }
    }
}

/// One object with room for each of these.
fn either(objects: Vec<Top>) -> Map<String, Value> {
    let mut properties: Map<String, Value> = Map::new();
    let mut forms: std::collections::HashMap<String, Vec<Value>> = std::collections::HashMap::new();
    let mut common: Option<Vec<Value>> = None;
    let mut is_closed = true;
    for Top { map } in objects {
        is_closed &= map.get("additionalProperties") == Some(&Value::Bool(false));
        let own = map
            .get("required")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        common = Some(match common {
            None => own,
            Some(so_far) => so_far.into_iter().filter(|name| own.contains(name)).collect(),
        });
        for (name, value) in map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            properties.entry(name.clone()).or_insert(Value::Null);
            let known = forms.entry(name.clone()).or_default();
            if !known.contains(value) {
                known.push(value.clone());
            }
        }
    }
    for (name, slot) in &mut properties {
        let mut known = forms.remove(name).unwrap_or_default();
        *slot = if known.len() == 1 {
            known.remove(0)
        } else {
            json!({ "anyOf": known })
        };
    }
    let mut map = Map::from_iter([("properties".to_owned(), Value::Object(properties))]);
    if let Some(names) = common.filter(|names| !names.is_empty()) {
        map.insert("required".to_owned(), Value::Array(names));
    }
    if is_closed {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::{Report, one_object};
    use serde_json::json;

    fn written(given: serde_json::Value) -> serde_json::Value {
        one_object(&given, &mut Report::default()).expect("an object")
    }

    #[test]
    fn alternatives_at_the_top_become_one_object_with_room_for_each() {
        let given = json!({ "oneOf": [
            { "type": "object", "properties": { "kind": { "const": "a" }, "x": { "type": "string" } }, "required": ["kind", "x"] },
            { "$ref": "#/$defs/b" },
            { "type": "null" }
        ], "$defs": { "b": { "type": "object", "properties": { "kind": { "const": "b" }, "y": {} }, "required": ["kind"] } } });
        assert_eq!(
            written(given.clone()),
            json!({ "type": "object",
                "properties": { "kind": { "anyOf": [{ "const": "a" }, { "const": "b" }] }, "x": { "type": "string" }, "y": {} },
                "required": ["kind"],
                "$defs": given["$defs"] })
        );
    }

    #[test]
    fn an_object_stays_as_it_is_and_what_is_none_is_refused() {
        let plain = json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/x" } }, "$defs": { "x": {} }, "x-own": 1 });
        assert_eq!(written(plain.clone()), plain);
        assert_eq!(
            written(json!({ "type": "null" })),
            json!({ "type": "object", "properties": {} })
        );
        assert_eq!(
            written(json!({ "properties": { "a": {} } })),
            json!({ "type": "object", "properties": { "a": {} } })
        );
        for bad in [
            json!({ "type": "string" }),
            json!(false),
            json!({ "anyOf": [{ "type": "string" }] }),
        ] {
            let error = one_object(&bad, &mut Report::default()).expect_err("no object");
            assert_eq!(error.code(), "unsupported", "{bad}");
        }
        let circle = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
        assert!(one_object(&circle, &mut Report::default()).is_err());
    }
}
