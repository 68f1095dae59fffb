//! Objects: properties, which of them have to be there, and which more there may be.

use super::{
    build::OBJECTS,
    compile::{Compiler, Part, Shape, not_kept},
    dialect::Optional,
    loss::{SchemaChange, escape},
    null::with_null,
};
use crate::Result;
use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value, json};

impl<'g> Compiler<'g> {
    /// Writes what fits of objects; false where no value at all fits.
    pub(super) fn object(
        &mut self,
        map: &mut Map<String, Value>,
        parts: &[Part<'g>],
        types: Option<&[&str]>,
        is_root: bool,
    ) -> Result<bool> {
        // The given types leave no object out; nothing here would ever be looked at.
        if types.is_some_and(|kinds| !kinds.contains(&"object")) {
            return Ok(true);
        }
        let is_only_object = types.is_some_and(|kinds| kinds == ["object"]);
        self.object_bounds(map, parts);
        let required: IndexSet<&'g str> = parts
            .iter()
            .filter_map(|part| part.get("required")?.as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut names: IndexSet<&'g str> = parts
            .iter()
            .filter_map(|part| part.get("properties")?.as_object())
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        let has_properties = parts.iter().any(|part| part.get("properties").is_some());
        names.extend(&required);
        let mut properties = Map::new();
        let mut must: Vec<&str> = Vec::new();
        for name in names {
            let inner = Self::property(parts, name);
            let is_recursive =
                self.rules.optional_recursion && inner.iter().any(|part| self.is_recursive(part));
            let at = inner.first().map_or_else(String::new, |part| part.at.clone());
            let compiled = match self.node(inner, false)? {
                Shape::Some(compiled) => compiled,
                Shape::Any(notes) => self.anything(&at, notes),
                Shape::Never if required.contains(name) && is_only_object => return Ok(false),
                Shape::Never => {
                    if !self.rules.closed {
                        let told = "a property that may not be there cannot be told";
                        self.report.tell(&at, "not", SchemaChange::Widened, told);
                    }
                    if required.contains(name) {
                        let told = "a required property that nothing fits is left out";
                        self.tell_required(parts, name, SchemaChange::Widened, told);
                    }
                    continue;
                }
            };
            let compiled = if required.contains(name) {
                if is_recursive {
                    let told = "a recursive property may not be required";
                    self.tell_required(parts, name, SchemaChange::Widened, told);
                } else {
                    must.push(name);
                }
                compiled
            } else if self.rules.optional == Optional::Nullable {
                let told = "the optional property is required, and null where it is absent";
                self.tell_required(parts, name, SchemaChange::Rewritten, told);
                must.push(name);
                with_null(compiled)
            } else {
                compiled
            };
            properties.insert(name.to_owned(), Value::Object(compiled));
        }
        let is_empty = properties.is_empty();
        if has_properties || !is_empty {
            map.insert("properties".to_owned(), Value::Object(properties));
        }
        let had_required = parts.iter().any(|part| part.get("required").is_some());
        if self.rules.optional == Optional::Nullable
            || had_required && (!must.is_empty() || !self.rules.openapi)
        {
            map.insert("required".to_owned(), json!(must));
        }
        self.additional(map, parts, is_empty && (has_properties || is_root))
            .map(|()| true)
    }

    /// The schemas that hold for a property.
    fn property(parts: &[Part<'g>], name: &str) -> Vec<Part<'g>> {
        let mut inner = Vec::new();
        for part in parts {
            let own = part.get("properties").and_then(|properties| properties.get(name));
            if let Some(value) = own {
                inner.push(Part::new(
                    format!("{}/properties/{}", part.at, escape(name)),
                    value,
                ));
            } else if let Some(value) = part.get("additionalProperties")
                && part.get("patternProperties").is_none()
            {
                inner.push(Part::new(format!("{}/additionalProperties", part.at), value));
            }
        }
        inner
    }

    /// Tells a change of `required` for a property, at the property's place.
    fn tell_required(&mut self, parts: &[Part<'g>], name: &str, change: SchemaChange, message: &str) {
        let has = |part: &&Part<'g>| {
            part.get("properties")
                .is_some_and(|properties| properties.get(name).is_some())
        };
        let Some(part) = parts.iter().find(has).or(parts.first()) else {
            return;
        };
        let at = format!("{}/properties/{}", part.at, escape(name));
        self.report.tell(&at, "required", change, message);
    }

    /// `minProperties`, `propertyNames` and the like.
    fn object_bounds(&mut self, map: &mut Map<String, Value>, parts: &[Part<'g>]) {
        for part in parts {
            for keyword in part.keywords().filter(|keyword| OBJECTS.contains(keyword)) {
                let Some(value) = part.get(keyword) else { continue };
                if matches!(keyword, "properties" | "required" | "additionalProperties") {
                    continue;
                }
                if self.allows(keyword) && !map.contains_key(keyword) {
                    map.insert(keyword.to_owned(), value.clone());
                } else {
                    self.report
                        .tell(&part.at, keyword, SchemaChange::Dropped, not_kept(keyword));
                }
            }
        }
    }

    /// What more there may be. `is_meant_empty`: the given object was to have no properties of its own.
    fn additional(
        &mut self,
        map: &mut Map<String, Value>,
        parts: &[Part<'g>],
        is_meant_empty: bool,
    ) -> Result<()> {
        let is_open = |value: &Value| *value != Value::Bool(false);
        let given: Vec<(&Part<'g>, &'g Value)> = parts
            .iter()
            .filter_map(|part| Some((part, part.get("additionalProperties")?)))
            .collect();
        if self.rules.closed {
            let free = given
                .iter()
                .find(|(_, value)| is_open(value))
                .map(|(part, _)| *part);
            let free = free.or_else(|| parts.iter().find(|part| part.get("patternProperties").is_some()));
            let is_closed = given.iter().any(|(_, value)| !is_open(value));
            if !is_closed {
                let told = "only the properties that are named may be there";
                let at = free.or(parts.first()).map_or("", |part| part.at.as_str());
                self.report
                    .tell(at, "additionalProperties", SchemaChange::Narrowed, told);
            }
            let has_names = map
                .get("properties")
                .and_then(Value::as_object)
                .is_some_and(|names| !names.is_empty());
            self.is_hollow |= !is_closed && !has_names && (free.is_some() || !is_meant_empty);
            map.insert("additionalProperties".to_owned(), json!(false));
            return Ok(());
        }
        let mut taken = false;
        for (part, value) in given {
            let at = format!("{}/additionalProperties", part.at);
            if !self.allows("additionalProperties") || taken {
                if is_open(value) && value.as_object().is_none_or(Map::is_empty) {
                    continue; // so it is anyway
                }
                let told = not_kept("additionalProperties");
                self.report
                    .tell(&part.at, "additionalProperties", SchemaChange::Dropped, told);
                continue;
            }
            taken = true;
            let written = match value {
                Value::Bool(_) => value.clone(),
                _ => match self.node(vec![Part::new(at, value)], false)? {
                    Shape::Never => json!(false),
                    Shape::Some(map) | Shape::Any(map) => Value::Object(map),
                },
            };
            map.insert("additionalProperties".to_owned(), written);
        }
        Ok(())
    }

    /// Alternatives at the top of a tool's arguments, as one object that has room for each of them.
    pub(super) fn run_together(
        &mut self,
        at: &str,
        keyword: &str,
        branches: Vec<Map<String, Value>>,
        mut notes: Map<String, Value>,
    ) -> Shape {
        let told = "the alternatives at the top are run together: one object with room for each";
        self.report.tell(at, keyword, SchemaChange::Widened, told);
        let objects: Vec<Map<String, Value>> = branches
            .into_iter()
            .filter(|branch| branch.get("type").is_some_and(|kind| kind == "object"))
            .collect();
        if objects.is_empty() {
            return Shape::Never;
        }
        let mut properties: IndexMap<String, Vec<Map<String, Value>>> = IndexMap::new();
        for object in &objects {
            for (name, value) in object
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let Value::Object(value) = value else { continue };
                let forms = properties.entry(name.clone()).or_default();
                if !forms.contains(value) {
                    forms.push(value.clone());
                }
            }
        }
        let has = |object: &Map<String, Value>, name: &str| {
            object
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|names| names.iter().any(|other| other == name))
        };
        let mut must = Vec::new();
        let mut written = Map::new();
        for (name, mut forms) in properties {
            let mut form = if forms.len() == 1 {
                forms.remove(0)
            } else {
                Map::from_iter([(
                    "anyOf".to_owned(),
                    Value::Array(forms.into_iter().map(Value::Object).collect()),
                )])
            };
            if objects.iter().all(|object| has(object, &name)) {
                must.push(name.clone());
            } else if self.rules.optional == Optional::Nullable {
                must.push(name.clone());
                form = with_null(form);
            }
            written.insert(name, Value::Object(form));
        }
        notes.insert("type".to_owned(), json!("object"));
        notes.insert("properties".to_owned(), Value::Object(written));
        notes.insert("required".to_owned(), json!(must));
        if self.rules.closed {
            notes.insert("additionalProperties".to_owned(), json!(false));
        }
        Shape::Some(notes)
    }
}
