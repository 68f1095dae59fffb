//! The compiler's work at one place. Alternatives, objects and arrays have their own files.

use super::{
    alternatives::first_group,
    compile::{ANNOTATIONS, Compiler, DONE_NOTES, Part, Shape, is_constraint, not_kept},
    dialect::Refs,
    loss::SchemaChange,
    values::{is_whole_types, types, types_of, values},
};
use crate::Result;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The types of JSON, as schemas.
static TYPES: LazyLock<Vec<(&str, Value)>> = LazyLock::new(|| {
    [
        "null", "boolean", "integer", "number", "string", "array", "object",
    ]
    .into_iter()
    .map(|kind| (kind, json!({ "type": kind })))
    .collect()
});

/// Keywords of objects and of arrays; each group is written by its own part of the compiler.
pub(super) const OBJECTS: [&str; 11] = [
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
];
pub(super) const ARRAYS: [&str; 10] = [
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "minContains",
    "maxContains",
    "minItems",
    "maxItems",
    "uniqueItems",
];
const NUMBERS: [&str; 5] = [
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
];
const STRINGS: [&str; 4] = ["minLength", "maxLength", "pattern", "format"];

impl<'g> Compiler<'g> {
    /// What fits where all these maps hold; their `allOf` and `$ref` are dealt with.
    pub(super) fn assemble(&mut self, parts: &[Part<'g>], is_root: bool) -> Result<Shape> {
        if let Some(group) = first_group(parts) {
            if !self.is_spent() {
                return self.alternatives(parts, &group, is_root);
            }
            self.tell_all(parts, &["anyOf", "oneOf"]);
        }
        let notes = self.notes(parts);
        let Some(types) = types(parts) else {
            return Ok(Shape::Never);
        };
        let Some(values) = values(parts, types.as_deref()) else {
            return Ok(Shape::Never);
        };
        self.tell_all(parts, &["not", "if"]);
        if parts.iter().any(|part| part.get("if").is_some()) {
            self.tell_all(parts, &["then", "else"]);
        }
        let mut types = types;
        if let (Some(kinds), Some(values)) = (&mut types, &values)
            && (self.rules.openapi || !self.can_list(values))
        {
            // A type of which no value is listed is none.
            let found = types_of(values);
            let has_number = found.contains(&"number") || found.contains(&"integer");
            kinds.retain(|kind| found.contains(kind) || has_number && matches!(*kind, "number" | "integer"));
        }
        let types = match (types, &values) {
            (None, Some(values)) if self.rules.openapi || !self.can_list(values) => Some(types_of(values)),
            (None, None) if self.rules.typed => self.guess(parts),
            (types, _) => types,
        };
        if let Some(kinds) = types.as_deref().filter(|_| self.rules.openapi) {
            let several = kinds.iter().filter(|kind| **kind != "null").count() > 1;
            if several {
                return self.split(parts, kinds, notes);
            }
        }
        let mut map = Map::new();
        let mut wrote = (false, false);
        for part in parts {
            for keyword in part.keywords() {
                match keyword {
                    _ if map.contains_key(keyword) => {}
                    "type" => {
                        if let Some(kinds) = &types {
                            self.write_type(&mut map, kinds);
                        }
                    }
                    "enum" | "const" => self.write_values(&mut map, parts, keyword, values.as_deref()),
                    _ if ANNOTATIONS.contains(&keyword) => {
                        if let Some(note) = notes.get(keyword) {
                            map.insert(keyword.to_owned(), note.clone());
                        }
                    }
                    _ if OBJECTS.contains(&keyword) && !wrote.0 => {
                        wrote.0 = true;
                        if !self.object(&mut map, parts, types.as_deref(), is_root)? {
                            return Ok(Shape::Never);
                        }
                    }
                    _ if ARRAYS.contains(&keyword) && !wrote.1 => {
                        wrote.1 = true;
                        self.array(&mut map, parts, types.as_deref())?;
                    }
                    _ if NUMBERS.contains(&keyword) || STRINGS.contains(&keyword) => {
                        self.bound(&mut map, parts, keyword, types.as_deref());
                    }
                    _ => {}
                }
            }
        }
        if let Some(kinds) = &types {
            if !map.contains_key("type") && !map.contains_key("anyOf") {
                self.write_type(&mut map, kinds);
            }
            if kinds.contains(&"object") && !wrote.0 && !self.object(&mut map, parts, Some(kinds), is_root)? {
                return Ok(Shape::Never);
            }
            if kinds.contains(&"array") && !wrote.1 {
                self.array(&mut map, parts, Some(kinds))?;
            }
        }
        let says_nothing = map.keys().all(|key| ANNOTATIONS.contains(&key.as_str()));
        Ok(if says_nothing {
            Shape::Any(map)
        } else {
            Shape::Some(map)
        })
    }

    /// Tells that the vendor does not keep to these keywords, wherever they stand.
    pub(super) fn tell_all(&mut self, parts: &[Part<'g>], keywords: &[&str]) {
        for part in parts {
            for keyword in keywords {
                if part.get(keyword).is_some() {
                    self.report
                        .tell(&part.at, keyword, SchemaChange::Dropped, not_kept(keyword));
                }
            }
        }
    }

    /// One branch for each type: OpenAPI has one type at a place.
    fn split(&mut self, parts: &[Part<'g>], kinds: &[&str], mut notes: Map<String, Value>) -> Result<Shape> {
        let mut branches = Vec::new();
        for (kind, schema) in TYPES.iter().filter(|(kind, _)| kinds.contains(kind)) {
            if *kind == "null" {
                notes.insert("nullable".to_owned(), Value::Bool(true));
                continue;
            }
            let mut branch: Vec<Part<'g>> = parts.to_vec();
            for part in &mut branch {
                part.done |= DONE_NOTES;
            }
            branch.push(Part::new(parts.first().map_or("", |part| &part.at), schema));
            match self.node(branch, false)? {
                Shape::Some(map) | Shape::Any(map) => branches.push(Value::Object(map)),
                Shape::Never => {}
            }
        }
        notes.insert("anyOf".to_owned(), Value::Array(branches));
        Ok(Shape::Some(notes))
    }

    fn write_type(&mut self, map: &mut Map<String, Value>, kinds: &[&str]) {
        if self.rules.openapi {
            let kind = kinds.iter().find(|kind| **kind != "null").unwrap_or(&"null");
            map.insert("type".to_owned(), Value::String(kind.to_ascii_uppercase()));
            if kinds.len() > 1 {
                map.insert("nullable".to_owned(), Value::Bool(true));
            }
            return;
        }
        let value = match kinds {
            [kind] => json!(kind),
            kinds => json!(kinds),
        };
        map.insert("type".to_owned(), value);
    }

    /// `enum` and `const`: as far as the dialect can say the values.
    fn write_values(
        &mut self,
        map: &mut Map<String, Value>,
        parts: &[Part<'g>],
        keyword: &str,
        values: Option<&[&'g Value]>,
    ) {
        let Some(values) = values else { return };
        if map.contains_key("enum") || map.contains_key("const") {
            return;
        }
        let at = parts
            .iter()
            .find(|part| part.get(keyword).is_some())
            .map_or_else(String::new, |part| part.at.clone());
        let (nulls, others): (Vec<&Value>, Vec<&Value>) = values.iter().partition(|value| value.is_null());
        // Where null has a word of its own, it need not be listed.
        let listed: &[&Value] = if self.rules.openapi { &others } else { values };
        if listed.is_empty() || !self.can_list(values) {
            if !listed.is_empty() && !is_whole_types(values) {
                let told = "the vendor cannot list such values: any of their types fits";
                self.report.tell(&at, keyword, SchemaChange::Widened, told);
            }
            return;
        }
        if self.rules.openapi && !nulls.is_empty() {
            map.insert("nullable".to_owned(), Value::Bool(true));
        }
        let listed: Vec<Value> = listed.iter().map(|value| self.copy(value)).collect();
        let had_enum = parts.iter().any(|part| part.get("enum").is_some());
        if listed.len() == 1 && !had_enum && !self.rules.const_as_enum {
            map.extend(listed.into_iter().map(|value| ("const".to_owned(), value)));
            return;
        }
        if keyword == "const" {
            let told = "`const` is written as `enum`";
            self.report.tell(&at, keyword, SchemaChange::Rewritten, told);
        }
        map.insert("enum".to_owned(), Value::Array(listed));
    }

    /// Whether the dialect can list these values.
    fn can_list(&self, values: &[&Value]) -> bool {
        let lists_booleans = self.rules.enum_others || !self.rules.const_as_enum && self.rules.enum_numbers;
        values.iter().all(|value| match value {
            Value::String(_) => true,
            Value::Number(_) => self.rules.enum_numbers,
            Value::Bool(_) => lists_booleans,
            Value::Null => self.rules.openapi || !self.rules.const_as_enum,
            _ => false,
        })
    }

    /// A bound of numbers or of strings: the tightest of those that hold here.
    fn bound(
        &mut self,
        map: &mut Map<String, Value>,
        parts: &[Part<'g>],
        keyword: &str,
        types: Option<&[&str]>,
    ) {
        let mut taken: Option<&Value> = None;
        for part in parts {
            let Some(value) = part.get(keyword) else { continue };
            let fits = self.allows(keyword)
                && match keyword {
                    "format" => self.takes_format(value, types),
                    "pattern" => value.as_str().is_some_and(is_plain_pattern),
                    _ => value.is_number(),
                };
            let is_known = keyword != "format" || fits || value.is_string();
            match taken {
                _ if !fits => {
                    if is_known {
                        self.report
                            .tell(&part.at, keyword, SchemaChange::Dropped, not_kept(keyword));
                    }
                }
                None => taken = Some(value),
                Some(so_far) if so_far == value => {}
                Some(so_far) => {
                    let order = value.as_f64().partial_cmp(&so_far.as_f64());
                    let is_tighter = match keyword {
                        "minimum" | "exclusiveMinimum" | "minLength" => {
                            order == Some(std::cmp::Ordering::Greater)
                        }
                        "maximum" | "exclusiveMaximum" | "maxLength" => {
                            order == Some(std::cmp::Ordering::Less)
                        }
                        _ => {
                            let told = format!("only one `{keyword}` is kept at a place");
                            self.report.tell(&part.at, keyword, SchemaChange::Dropped, told);
                            false
                        }
                    };
                    if is_tighter {
                        taken = Some(value);
                    }
                }
            }
        }
        if let Some(value) = taken {
            let value = self.copy(value);
            map.insert(keyword.to_owned(), value);
        }
    }

    fn takes_format(&self, format: &Value, types: Option<&[&str]>) -> bool {
        let Some(format) = format.as_str() else {
            return false;
        };
        let is_number = types.is_some_and(|kinds| {
            kinds
                .iter()
                .all(|kind| matches!(*kind, "number" | "integer" | "null"))
        });
        if !is_number {
            return self.rules.string_formats.contains(&format);
        }
        self.rules.number_formats
            || self.rules.openapi && matches!(format, "int32" | "int64" | "float" | "double")
    }

    /// The type that the constraints speak of, where none is told: a value of another type would pass them all.
    fn guess(&mut self, parts: &[Part<'g>]) -> Option<Vec<&'static str>> {
        let speaks_of = |keywords: &[&str]| {
            parts
                .iter()
                .flat_map(Part::keywords)
                .any(|keyword| keywords.contains(&keyword) && is_constraint(keyword))
        };
        let kind = if speaks_of(&OBJECTS) {
            "object"
        } else if speaks_of(&ARRAYS) {
            "array"
        } else if speaks_of(&STRINGS) {
            "string"
        } else if speaks_of(&NUMBERS) {
            "number"
        } else {
            return None;
        };
        let at = parts.first().map_or("", |part| part.at.as_str());
        let told = format!("no type is told; here only a value of type {kind} fits");
        self.report.tell(at, "type", SchemaChange::Narrowed, told);
        Some(vec![kind])
    }

    /// Whether a reference below here leads to a schema that contains itself.
    pub(super) fn is_recursive(&self, part: &Part<'g>) -> bool {
        !self.recursive.is_empty()
            && matches!(self.rules.refs, Refs::Kept(_))
            && super::reference::references(&part.at, part.value)
                .into_iter()
                .any(|(at, reference)| {
                    self.document
                        .follow(&at, reference)
                        .is_ok_and(|(target, _)| self.recursive.contains(&target))
                })
    }
}

/// Whether a pattern does without what vendors' grammars cannot do: looking around, back references, word borders.
fn is_plain_pattern(pattern: &str) -> bool {
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(next)) => {
                if next.is_ascii_digit() && *next != '0' || matches!(next, 'b' | 'B' | 'k' | 'p' | 'P') {
                    return false;
                }
                characters.next();
            }
            ('(', Some('?')) => {
                characters.next();
                if characters.peek() != Some(&':') {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_plain_pattern;

    #[test]
    fn patterns_that_look_around_or_back_are_told_from_plain_ones() {
        for plain in ["^[a-z]+$", r"\d{3}-\d{4}", "(?:a|b)*", r"\\b", r"\0"] {
            assert!(is_plain_pattern(plain), "{plain}");
        }
        for other in ["(?=a)", "(?<!a)b", r"(a)\1", r"\bword\b", r"\p{L}", "(?<name>a)"] {
            assert!(!is_plain_pattern(other), "{other}");
        }
    }
}
