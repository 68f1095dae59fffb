//! What each vendor takes, written anew from its documentation: no line of the compiler is used here.

use serde_json::{Map, Value, json};
use std::collections::HashSet;
use stepwell_core::{CompiledSchema, Dialect, Schema, SchemaChange, Violation};

const OPENAI: &[&str] = &[
    "$schema",
    "$ref",
    "$defs",
    "title",
    "description",
    "type",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "pattern",
    "format",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];
const ANTHROPIC: &[&str] = &[
    "$schema",
    "$ref",
    "$defs",
    "title",
    "description",
    "default",
    "type",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "format",
    "pattern",
];
const OPENAPI: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "default",
    "anyOf",
    "items",
    "minimum",
    "maximum",
];
const GEMINI: &[&str] = &[
    "$schema",
    "$defs",
    "$ref",
    "type",
    "format",
    "title",
    "description",
    "default",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "properties",
    "additionalProperties",
    "required",
];
const FORMATS: &[&str] = &[
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
];

/// Every rule of the dialect that the compiled schema breaks.
pub(crate) fn faults(dialect: Dialect, compiled: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let is_plain = matches!(dialect, Dialect::Plain | Dialect::Arguments | Dialect::Ollama);
    if !is_plain {
        walk(dialect, "", compiled, compiled, &mut faults);
    }
    let has_unions = ["anyOf", "oneOf", "allOf", "$ref", "enum", "not"]
        .iter()
        .any(|key| compiled.get(*key).is_some());
    let needs_object = !matches!(
        dialect,
        Dialect::Plain
            | Dialect::Ollama
            | Dialect::AnthropicStrict
            | Dialect::GeminiOpenApi
            | Dialect::GeminiJson
    );
    if needs_object && (compiled["type"] != "object" || has_unions && dialect != Dialect::Arguments) {
        faults.push("the top is not one object".to_owned());
    }
    if dialect == Dialect::Arguments
        && ["anyOf", "oneOf", "allOf", "$ref"]
            .iter()
            .any(|key| compiled.get(*key).is_some())
    {
        faults.push("the top has alternatives".to_owned());
    }
    faults
}

fn walk(dialect: Dialect, at: &str, root: &Value, value: &Value, faults: &mut Vec<String>) {
    let mut fault = |what: &str| faults.push(format!("{at}: {what}"));
    let Value::Object(map) = value else {
        return fault("no map");
    };
    let is_openai = matches!(
        dialect,
        Dialect::OpenAiStrict
            | Dialect::OpenAiStrictArguments
            | Dialect::CompatibleStrict
            | Dialect::CompatibleStrictArguments
    );
    let is_anthropic = matches!(
        dialect,
        Dialect::AnthropicStrict | Dialect::AnthropicStrictArguments
    );
    let is_tool = matches!(
        dialect,
        Dialect::OpenAiStrictArguments | Dialect::CompatibleStrictArguments
    );
    let allowed = match dialect {
        _ if is_openai => OPENAI,
        _ if is_anthropic => ANTHROPIC,
        Dialect::GeminiOpenApi => OPENAPI,
        _ => GEMINI,
    };
    for key in map.keys() {
        let is_allowed = allowed.contains(&key.as_str()) || key == "default" && is_tool;
        if !is_allowed {
            fault(&format!("`{key}` is refused"));
        }
        if key == "$schema" && !at.is_empty() || key == "$defs" && !at.is_empty() {
            fault(&format!("`{key}` below the top"));
        }
    }
    if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
        let beside: &[&str] = if is_openai {
            &["$ref"]
        } else if is_anthropic {
            &["$ref", "title", "description", "default"]
        } else {
            &["$ref", "description", "default"]
        };
        if map.keys().any(|key| !beside.contains(&key.as_str())) {
            fault("a `$ref` with company");
        }
        let leads = reference == "#"
            || reference.starts_with("#/$defs/")
                && reference
                    .strip_prefix('#')
                    .is_some_and(|pointer| root.pointer(pointer).is_some());
        if !leads {
            fault("a `$ref` that leads nowhere");
        }
        return;
    }
    if is_openai || dialect == Dialect::GeminiOpenApi {
        let says = ["type", "anyOf", "enum", "const"]
            .iter()
            .any(|key| map.contains_key(*key));
        if !says {
            fault("no type");
        }
    }
    let kinds: Vec<&str> = match map.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &str| kinds.iter().any(|other| other.eq_ignore_ascii_case(kind));
    let names = map.get("properties").and_then(Value::as_object);
    let required: Vec<&str> = map
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if (is_openai || is_anthropic) && is("object") {
        if map.get("additionalProperties") != Some(&json!(false)) {
            fault("an open object");
        }
        if required
            .iter()
            .any(|name| !names.is_some_and(|names| names.contains_key(*name)))
        {
            fault("a required property that is not there");
        }
    }
    if is_openai
        && is("object")
        && names.is_some_and(|names| names.keys().any(|name| !required.contains(&name.as_str())))
    {
        fault("an optional property");
    }
    if is("array") && (is_openai || dialect == Dialect::GeminiOpenApi) && !map.contains_key("items") {
        fault("an array without items");
    }
    if is_anthropic
        && map
            .get("minItems")
            .and_then(Value::as_u64)
            .is_some_and(|count| count > 1)
    {
        fault("minItems above 1");
    }
    if dialect == Dialect::GeminiOpenApi {
        let is_capital = |kind: &Value| {
            kind.as_str()
                .is_some_and(|kind| kind == kind.to_ascii_uppercase())
        };
        if !map.get("type").is_none_or(is_capital) {
            fault("a type in small letters, or several");
        }
        let listed = map.get("enum").and_then(Value::as_array);
        if listed.is_some_and(|values| !values.iter().all(Value::is_string)) {
            fault("an enum of something else than strings");
        }
        if map.get("format").is_some_and(|format| {
            !["date-time", "int32", "int64", "float", "double"]
                .iter()
                .any(|known| format == known)
        }) {
            fault("an unknown format");
        }
    }
    if dialect == Dialect::GeminiJson {
        let listed = map.get("enum").and_then(Value::as_array);
        if listed.is_some_and(|values| !values.iter().all(|value| value.is_string() || value.is_number())) {
            fault("an enum of something else than strings and numbers");
        }
    }
    if (is_openai || is_anthropic) && is("string") {
        let format = map.get("format").and_then(Value::as_str);
        let is_known = |format: &str| FORMATS.contains(&format) || is_anthropic && format == "uri";
        if !format.is_none_or(is_known) {
            fault("an unknown format of a string");
        }
    }
    if let Some(values) = map.get("enum").and_then(Value::as_array)
        && (values.is_empty() || values.iter().any(|value| value.is_object() || value.is_array()))
    {
        fault("an empty enum, or one of objects");
    }
    if is_anthropic && at.is_empty() && contains_itself(root) {
        fault("recursion");
    }
    for key in ["properties", "$defs"] {
        for (name, inner) in map.get(key).and_then(Value::as_object).into_iter().flatten() {
            walk(dialect, &format!("{at}/{key}/{name}"), root, inner, faults);
        }
    }
    for key in ["anyOf", "prefixItems"] {
        let branches = map.get(key).and_then(Value::as_array);
        if branches.is_some_and(Vec::is_empty) {
            faults.push(format!("{at}: empty {key}"));
        }
        for (place, inner) in branches.into_iter().flatten().enumerate() {
            walk(dialect, &format!("{at}/{key}/{place}"), root, inner, faults);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner @ Value::Object(_)) = map.get(key) {
            walk(dialect, &format!("{at}/{key}"), root, inner, faults);
        }
    }
}

/// Whether a definition is reached from itself.
fn contains_itself(root: &Value) -> bool {
    fn targets<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                for (_, inner) in map.iter().filter(|(key, _)| *key != "$defs") {
                    targets(inner, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|inner| targets(inner, found)),
            _ => {}
        }
    }
    let below = |reference: &str| {
        let mut found = Vec::new();
        if let Some(target) = reference
            .strip_prefix('#')
            .and_then(|pointer| root.pointer(pointer))
        {
            targets(target, &mut found);
        }
        found
    };
    let mut starts = vec!["#"];
    targets(root, &mut starts);
    let mut at = 0;
    while let Some(start) = starts.get(at).copied() {
        at += 1;
        let (mut seen, mut waiting): (Vec<&str>, Vec<&str>) = (Vec::new(), below(start));
        while let Some(next) = waiting.pop() {
            if next == start {
                return true;
            }
            if !seen.contains(&next) {
                seen.push(next);
                waiting.extend(below(next));
            }
        }
        for next in seen {
            if !starts.contains(&next) {
                starts.push(next);
            }
        }
    }
    false
}

/// The compiled schema as JSON Schema, so that values can be held against it.
pub(crate) fn as_json_schema(dialect: Dialect, compiled: &Value) -> Value {
    if dialect == Dialect::GeminiOpenApi {
        read_openapi(compiled)
    } else {
        compiled.clone()
    }
}

fn read_openapi(value: &Value) -> Value {
    let Value::Object(map) = value else {
        return value.clone();
    };
    let mut read = Map::new();
    for (key, value) in map {
        match (key.as_str(), value) {
            ("type", Value::String(kind)) => {
                read.insert("type".into(), json!(kind.to_ascii_lowercase()));
            }
            ("properties", Value::Object(parts)) => {
                let parts = parts
                    .iter()
                    .map(|(name, part)| (name.clone(), read_openapi(part)))
                    .collect();
                read.insert("properties".into(), Value::Object(parts));
            }
            ("anyOf", Value::Array(parts)) => {
                read.insert("anyOf".into(), parts.iter().map(read_openapi).collect());
            }
            ("items", part) => {
                read.insert("items".into(), read_openapi(part));
            }
            ("nullable", _) => {}
            _ => {
                read.insert(key.clone(), value.clone());
            }
        }
    }
    if map.get("nullable") == Some(&json!(true)) {
        return json!({ "anyOf": [read, { "type": "null" }] });
    }
    Value::Object(read)
}

/// The promise: what keeps to the compiled schema keeps to the given one, but for what the report names, at the places it
/// names. `None` where the value does not keep to the compiled one.
pub(crate) fn breach(
    given: &Schema,
    compiled: &CompiledSchema,
    checked: &Schema,
    value: &Value,
) -> Option<Result<(), String>> {
    checked.check(value).ok()?;
    let Err(violations) = given.read(value.clone()) else {
        return Some(Ok(()));
    };
    let losses = compiled.losses.iter().filter(|loss| loss.change.is_loose());
    let loose: HashSet<(&str, SchemaChange)> =
        losses.map(|loss| (loss.pointer.as_str(), loss.change)).collect();
    let unnamed = violations
        .into_iter()
        .find(|violation| !is_named(given.as_value(), &loose, violation));
    Some(unnamed.map_or(Ok(()), |violation| {
        let Violation {
            path, schema_path, ..
        } = violation;
        Err(format!("at {path} `{schema_path}`"))
    }))
}

/// Keywords that only say that something below them does not fit.
const WRAPS: [&str; 6] = ["anyOf", "oneOf", "not", "contains", "propertyNames", "if"];

/// Whether the report names what a value breaks: that very keyword, one around it, or one that it rests on.
fn is_named(given: &Value, loose: &HashSet<(&str, SchemaChange)>, violation: &Violation) -> bool {
    let way = way(given, &violation.schema_path);
    let Some(last) = way.last() else { return false };
    let is_told = |place: &str| {
        [SchemaChange::Dropped, SchemaChange::Widened]
            .iter()
            .any(|change| loose.contains(&(place, *change)))
    };
    let is_on_the_way = way.iter().any(|place| {
        is_told(place)
            // A schema that nothing fits has no keyword for it: of that, `not` is told to be widened.
            || loose.contains(&(&format!("{place}/not"), SchemaChange::Widened))
            || place
                .strip_suffix("/items")
                .is_some_and(|array| is_told(&format!("{array}/prefixItems")))
    });
    let parent = last.rsplit_once('/').map_or("", |(parent, _)| parent);
    let is_property = |place: &str| {
        let name = place
            .strip_prefix(parent)
            .and_then(|name| name.strip_prefix("/properties/"));
        name.is_some_and(|name| !name.contains('/'))
    };
    match violation.keyword.as_str() {
        _ if is_on_the_way => true,
        // Told at the property's own place.
        "required" => loose
            .iter()
            .any(|(pointer, _)| pointer.strip_suffix("/required").is_some_and(is_property)),
        // A null in a property that nothing fits is read as its absence.
        "minProperties" => loose
            .iter()
            .any(|(pointer, _)| pointer.strip_suffix("/not").is_some_and(is_property)),
        keyword if WRAPS.contains(&keyword) => {
            let below = below(given, last);
            loose
                .iter()
                .any(|(pointer, _)| below.iter().any(|place| pointer.starts_with(place.as_str())))
        }
        _ => false,
    }
}

/// Every place of the schema that an evaluation passes, as pointers without `$ref`s in them.
fn way(given: &Value, path: &str) -> Vec<String> {
    let (mut places, mut at) = (Vec::new(), String::new());
    for segment in path.split('/').skip(1) {
        let before = at.clone();
        at = format!("{at}/{segment}");
        places.push(at.clone());
        if segment == "$ref" || segment == "$dynamicRef" {
            let target = given
                .pointer(&before)
                .and_then(|schema| schema[segment].as_str())
                .and_then(|reference| follow(given, reference));
            // The name of a property, or a reference that is followed nowhere here.
            if let Some(target) = target {
                at = target;
                places.push(at.clone());
            }
        }
    }
    places
}

/// The pointer a reference leads to.
fn follow(given: &Value, reference: &str) -> Option<String> {
    let fragment = reference.strip_prefix('#')?;
    if fragment.is_empty() || fragment.starts_with('/') {
        let plain = fragment
            .replace("%25", "%")
            .replace("%22", "\"")
            .replace("%24", "$");
        return Some(plain);
    }
    let mut waiting = vec![(String::new(), given)];
    while let Some((at, value)) = waiting.pop() {
        if value["$anchor"] == fragment || value["$dynamicAnchor"] == fragment {
            return Some(at);
        }
        for (key, inner) in value.as_object().into_iter().flatten() {
            waiting.push((
                format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                inner,
            ));
        }
        for (place, inner) in value.as_array().into_iter().flatten().enumerate() {
            waiting.push((format!("{at}/{place}"), inner));
        }
    }
    None
}

/// A place, and all that references below it lead to, each with a slash behind it.
fn below(given: &Value, at: &str) -> Vec<String> {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(map) => {
                for key in ["$ref", "$dynamicRef"] {
                    found.extend(map.get(key).and_then(Value::as_str));
                }
                map.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }
    let (mut places, mut next) = (vec![format!("{at}/")], 0);
    while let Some(place) = places.get(next).cloned() {
        next += 1;
        let mut found = Vec::new();
        if let Some(value) = given.pointer(place.trim_end_matches('/')) {
            references(value, &mut found);
        }
        for target in found.into_iter().filter_map(|reference| follow(given, reference)) {
            let target = format!("{target}/");
            if !places.contains(&target) {
                places.push(target);
            }
        }
    }
    places
}
