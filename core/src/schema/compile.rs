//! [`compile`]: one JSON Schema in, a vendor's dialect out, with a report.
//!
//! A place of the schema is compiled from the [`Part`]s that all hold there: the schema itself, what its `allOf` lists,
//! what a `$ref` with something beside it leads to. So constraints are joined, never guessed, and each keeps its own
//! pointer for the report. The work is bounded: past [`NODES`] places or [`BYTES`] of text no reference is written out
//! any more.

use super::{
    DEPTH, SCHEMA_BYTES, arguments,
    dialect::{Dialect, Refs, Rules},
    is_deeper,
    loss::{Report, SchemaChange, SchemaLoss, escape},
    measure::{self, SchemaSize},
    reference::{Document, REFERENCES},
};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Places that are compiled before references are no longer written out.
const NODES: usize = 4_000;
/// Text that is copied before that: as much as a schema may have.
const BYTES: usize = SCHEMA_BYTES;
/// Places inside one another before that: more than a given schema can have.
const DEEP: usize = 70;

/// A schema in a vendor's dialect.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CompiledSchema {
    /// The schema, ready to be sent.
    pub value: Value,
    /// What it says otherwise than the given one, in the order of the given one.
    pub losses: Vec<SchemaLoss>,
    /// Figures that vendors bound.
    pub size: SchemaSize,
    /// Somewhere free keys were asked for, and the dialect has none: nothing but an empty object fits there.
    pub is_hollow: bool,
}

impl CompiledSchema {
    /// Keywords that the vendor does not keep to, sorted: an answer may break them, and is checked for it here.
    /// A `format` is a note in JSON Schema and not among them.
    pub fn loose_keywords(&self) -> Vec<&str> {
        let mut keywords: Vec<&str> = self
            .losses
            .iter()
            .filter(|loss| loss.change.is_loose() && loss.keyword != "format")
            .map(|loss| loss.keyword.as_str())
            .collect();
        keywords.sort_unstable();
        keywords.dedup();
        keywords
    }
}

pub(super) fn compile(given: &Value, dialect: Dialect) -> Result<CompiledSchema> {
    if !given.is_object() && !given.is_boolean() {
        return Err(Error::invalid("schema", "a JSON Schema is an object"));
    }
    if is_deeper(given, DEPTH) || measure::text_of(given) > SCHEMA_BYTES {
        return Err(super::too_large());
    }
    if let Some(reference) = super::remote_reference(given) {
        return Err(super::leaves(&reference));
    }
    let Some(rules) = dialect.rules() else {
        return as_it_is(given, dialect);
    };
    let mut compiler = Compiler::new(given, rules);
    if rules.no_recursion && !compiler.recursive.is_empty() {
        return Err(Error::Unsupported {
            who: "this dialect".into(),
            what: "a schema that contains itself".into(),
            hint: "send it without `strict`; the answer is checked here".into(),
        });
    }
    let value = compiler.root()?;
    let size = measure::size(&value);
    if let Some(limits) = &rules.limits {
        size.check(limits)?;
    }
    Ok(CompiledSchema {
        value,
        losses: compiler.report.into_losses(),
        size,
        is_hollow: compiler.is_hollow,
    })
}

fn as_it_is(given: &Value, dialect: Dialect) -> Result<CompiledSchema> {
    let mut report = Report::default();
    let value = if dialect == Dialect::Arguments {
        arguments::one_object(given, &mut report)?
    } else {
        given.clone()
    };
    if let Some(kept) = dialect.kept() {
        for (at, map) in measure::schemas(given) {
            for keyword in map.keys().filter(|keyword| is_constraint(keyword)) {
                if !kept.contains(&keyword.as_str()) {
                    report.tell(&at, keyword, SchemaChange::Widened, not_kept(keyword));
                }
            }
        }
    }
    Ok(CompiledSchema {
        size: measure::size(&value),
        value,
        losses: report.into_losses(),
        is_hollow: false,
    })
}

pub(super) fn not_kept(keyword: &str) -> String {
    format!("`{keyword}` is not kept by the vendor")
}

/// Keywords that say nothing about which values fit.
pub(super) const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$id",
    "$anchor",
    "$dynamicAnchor",
];

/// Keywords that a value may break. References and definitions are not among them; nor is what nobody defined.
pub(super) fn is_constraint(keyword: &str) -> bool {
    matches!(
        keyword,
        "type"
            | "enum"
            | "const"
            | "anyOf"
            | "oneOf"
            | "allOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "properties"
            | "patternProperties"
            | "additionalProperties"
            | "propertyNames"
            | "unevaluatedProperties"
            | "minProperties"
            | "maxProperties"
            | "required"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies"
            | "items"
            | "prefixItems"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "minContains"
            | "maxContains"
            | "minItems"
            | "maxItems"
            | "uniqueItems"
            | "minLength"
            | "maxLength"
            | "pattern"
            | "format"
            | "multipleOf"
            | "minimum"
            | "maximum"
            | "exclusiveMinimum"
            | "exclusiveMaximum"
    )
}

/// What of a map was dealt with already, as bits.
pub(super) const DONE_ANY: u8 = 1;
pub(super) const DONE_ONE: u8 = 2;
pub(super) const DONE_ALL: u8 = 4;
pub(super) const DONE_REF: u8 = 8;
pub(super) const DONE_NOTES: u8 = 16;

/// One of the schemas that hold at a place.
#[derive(Clone, Debug)]
pub(super) struct Part<'g> {
    /// Its pointer in the given schema.
    pub(super) at: String,
    pub(super) value: &'g Value,
    pub(super) done: u8,
}

impl<'g> Part<'g> {
    pub(super) fn new(at: impl Into<String>, value: &'g Value) -> Self {
        Self {
            at: at.into(),
            value,
            done: 0,
        }
    }

    /// The value of a keyword that is still to be dealt with.
    pub(super) fn get(&self, keyword: &str) -> Option<&'g Value> {
        let done = match keyword {
            "anyOf" => DONE_ANY,
            "oneOf" => DONE_ONE,
            "allOf" => DONE_ALL,
            "$ref" | "$dynamicRef" => DONE_REF,
            _ if ANNOTATIONS.contains(&keyword) => DONE_NOTES,
            _ => 0,
        };
        if self.done & done != 0 {
            return None;
        }
        self.value.get(keyword)
    }

    pub(super) fn keywords(&self) -> impl Iterator<Item = &'g str> {
        let map = self.value.as_object();
        map.into_iter().flat_map(Map::keys).map(String::as_str)
    }

    fn reference(&self) -> Option<&'g str> {
        REFERENCES.iter().find_map(|keyword| self.get(keyword)?.as_str())
    }

    pub(super) fn constrains(&self) -> bool {
        self.keywords()
            .any(|keyword| is_constraint(keyword) && self.get(keyword).is_some())
    }
}

/// What fits a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Everything; with notes for the reader.
    Any(Map<String, Value>),
    /// Nothing.
    Never,
    Some(Map<String, Value>),
}

pub(super) struct Compiler<'g> {
    pub(super) rules: &'static Rules,
    pub(super) document: Document<'g>,
    given: &'g Value,
    pub(super) recursive: HashSet<String>,
    pub(super) report: Report,
    pub(super) is_hollow: bool,
    nodes: usize,
    bytes: usize,
    depth: usize,
    /// References that are being written out.
    active: Vec<String>,
    /// Pointer → name of the definitions that are referred to.
    names: IndexMap<String, String>,
}

impl<'g> Compiler<'g> {
    fn new(given: &'g Value, rules: &'static Rules) -> Self {
        let document = Document::new(given);
        Self {
            rules,
            recursive: document.recursive(),
            document,
            given,
            report: Report::default(),
            is_hollow: false,
            nodes: 0,
            bytes: 0,
            depth: 0,
            active: Vec::new(),
            names: IndexMap::new(),
        }
    }

    /// Whether so much was written that nothing may be written out twice any more.
    pub(super) fn is_spent(&self) -> bool {
        self.nodes > NODES || self.bytes > BYTES || self.depth > DEEP
    }

    /// A value that is copied.
    pub(super) fn copy(&mut self, value: &Value) -> Value {
        self.bytes += measure::text_of(value);
        value.clone()
    }

    pub(super) fn allows(&self, keyword: &str) -> bool {
        self.rules.keywords.contains(&keyword)
    }

    fn root(&mut self) -> Result<Value> {
        let mut map = match self.node(vec![Part::new("", self.given)], true)? {
            Shape::Some(map) => map,
            Shape::Any(notes) => self.anything("", notes),
            Shape::Never => return Err(Error::invalid("schema", "no value fits it")),
        };
        let is_object = map
            .get("type")
            .is_some_and(|kind| kind == "object" || kind == "OBJECT");
        if self.rules.object_root && !is_object {
            return Err(Error::Unsupported {
                who: "this dialect".into(),
                what: "a schema whose top is no object".into(),
                hint: "wrap it into an object".into(),
            });
        }
        let mut definitions = Vec::new();
        let mut at = 0;
        // Definitions may refer to more of them.
        while let Some((pointer, name)) = self.names.get_index(at) {
            let (pointer, name) = (pointer.clone(), name.clone());
            at += 1;
            let Some(value) = self.given.pointer(&pointer) else {
                continue;
            };
            self.active.push(pointer.clone());
            let shape = self.node(vec![Part::new(pointer.clone(), value)], false)?;
            self.active.pop();
            let compiled = match shape {
                Shape::Some(map) => map,
                Shape::Any(notes) => self.anything(&pointer, notes),
                Shape::Never => {
                    let told = "a definition that nothing fits is written as one that anything fits";
                    self.report.tell(&pointer, "not", SchemaChange::Widened, told);
                    self.anything(&pointer, Map::new())
                }
            };
            definitions.push((self.order_of(&pointer), name, compiled));
        }
        if !definitions.is_empty() {
            definitions.sort_by_key(|(order, ..)| *order);
            let definitions: Map<String, Value> = definitions
                .into_iter()
                .map(|(_, name, map)| (name, Value::Object(map)))
                .collect();
            map.insert("$defs".to_owned(), Value::Object(definitions));
        }
        Ok(Value::Object(map))
    }

    /// Place of a definition among those of the given schema; those from elsewhere follow as they were met.
    fn order_of(&self, pointer: &str) -> usize {
        let at = |keyword: &str, before: usize| {
            let name = pointer.strip_prefix(keyword)?.strip_prefix('/')?;
            let map = self.given.get(&keyword[1..])?.as_object()?;
            let place = map.keys().position(|key| escape(key) == name)?;
            Some(before + place)
        };
        at("/$defs", 0)
            .or_else(|| at("/definitions", 1 << 20))
            .unwrap_or(usize::MAX)
    }

    /// What fits where all these hold.
    pub(super) fn node(&mut self, parts: Vec<Part<'g>>, is_root: bool) -> Result<Shape> {
        self.nodes += 1;
        self.depth += 1;
        if self.depth > 2 * DEEP {
            return Err(super::too_large());
        }
        let before = self.active.len();
        let shape = self.spread(parts, is_root).and_then(|spread| match spread {
            Spread::Parts(parts) => self.assemble(&parts, is_root),
            Spread::Done(shape) => Ok(shape),
        });
        self.active.truncate(before);
        self.depth -= 1;
        shape
    }

    /// The maps that hold at a place: `allOf` taken apart, references followed unless they can stand.
    fn spread(&mut self, parts: Vec<Part<'g>>, is_root: bool) -> Result<Spread<'g>> {
        let mut maps: Vec<Part<'g>> = Vec::new();
        let mut waiting: Vec<Part<'g>> = parts;
        loop {
            waiting.reverse();
            while let Some(mut part) = waiting.pop() {
                match part.value {
                    Value::Bool(true) => continue,
                    Value::Bool(false) => return Ok(Spread::Done(Shape::Never)),
                    Value::Object(_) => {}
                    _ => {
                        return Err(Error::invalid(
                            "schema",
                            "a part of it is neither object nor boolean",
                        ));
                    }
                }
                let all = part.get("allOf").and_then(Value::as_array);
                part.done |= DONE_ALL;
                let at = part.at.clone();
                maps.push(part);
                for (place, value) in all.map_or(&[][..], Vec::as_slice).iter().enumerate().rev() {
                    waiting.push(Part::new(format!("{at}/allOf/{place}"), value));
                }
            }
            let Some(found) = maps.iter().position(|part| part.reference().is_some()) else {
                return Ok(Spread::Parts(maps));
            };
            let reference = maps[found].reference().unwrap_or_default();
            let (target, value) = self.document.follow(&maps[found].at, reference)?;
            let is_bare = !maps.iter().any(Part::constrains)
                && maps.iter().filter(|part| part.reference().is_some()).count() == 1;
            let turns = self.active.iter().filter(|active| **active == target).count();
            match self.rules.refs {
                Refs::Kept(beside) => {
                    let notes = self.notes(&maps);
                    let is_fine = notes.keys().all(|key| beside.contains(&key.as_str()));
                    let must = turns > 0 || self.is_spent();
                    let can_inline = !must && !self.recursive.contains(&target);
                    if !is_root && (must || is_bare && (is_fine || !can_inline)) {
                        return Ok(Spread::Done(self.kept(&maps, &target, notes, beside)));
                    }
                }
                Refs::Unrolled(most) => {
                    if turns >= most || self.is_spent() {
                        return Ok(Spread::Done(self.cut(&maps[found].at, value)));
                    }
                }
            }
            if is_root && turns > 0 {
                return Err(Error::invalid("schema", "its `$ref` leads back to itself"));
            }
            if matches!(self.rules.refs, Refs::Unrolled(_)) {
                let told = "the reference is written out";
                self.report
                    .tell(&maps[found].at, "$ref", SchemaChange::Rewritten, told);
            }
            self.active.push(target.clone());
            maps[found].done |= DONE_REF;
            waiting.push(Part::new(target, value));
            waiting.extend(maps.drain(found + 1..));
        }
    }

    /// A reference that stands.
    fn kept(&mut self, maps: &[Part<'g>], target: &str, notes: Map<String, Value>, beside: &[&str]) -> Shape {
        let is_this = |part: &Part<'g>| {
            part.reference()
                .and_then(|reference| self.document.follow(&part.at, reference).ok())
                .is_some_and(|(other, _)| other == target)
        };
        let others: Vec<&Part<'g>> = maps
            .iter()
            .filter(|part| part.reference().is_some() && !is_this(part))
            .collect();
        for part in others {
            let told = "of several references only one is kept";
            self.report.tell(&part.at, "$ref", SchemaChange::Dropped, told);
        }
        for part in maps {
            for keyword in part.keywords().filter(|keyword| is_constraint(keyword)) {
                if part.get(keyword).is_some() {
                    let told = format!("`{keyword}` cannot stand beside a `$ref` to the schema it is in");
                    self.report.tell(&part.at, keyword, SchemaChange::Dropped, told);
                }
            }
        }
        let mut map = Map::new();
        map.insert("$ref".to_owned(), Value::String(self.name(target)));
        map.extend(
            notes
                .into_iter()
                .filter(|(key, _)| beside.contains(&key.as_str())),
        );
        Shape::Some(map)
    }

    /// The written form of a reference.
    fn name(&mut self, target: &str) -> String {
        if target.is_empty() {
            return "#".to_owned();
        }
        if let Some(name) = self.names.get(target) {
            return format!("#/$defs/{}", escape(name));
        }
        let own = target
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .replace("~1", "/")
            .replace("~0", "~");
        let mut name = own.clone();
        let mut count = 1;
        while self.names.values().any(|taken| *taken == name) {
            count += 1;
            name = format!("{own}_{count}");
        }
        let written = format!("#/$defs/{}", escape(&name));
        self.names.insert(target.to_owned(), name);
        written
    }

    /// In the place of a reference that is written out no further: the kind of what it leads to.
    fn cut(&mut self, at: &str, target: &Value) -> Shape {
        let told = "the recursion is cut here: any value of the right type fits";
        self.report.tell(at, "$ref", SchemaChange::Widened, told);
        let mut map = Map::new();
        let kind = target.get("type").and_then(Value::as_str);
        let kind = kind.or_else(|| target.get("properties").map(|_| "object"));
        let Some(kind) = kind.filter(|kind| *kind != "null") else {
            return Shape::Any(map);
        };
        let kind = if self.rules.openapi {
            kind.to_ascii_uppercase()
        } else {
            kind.to_owned()
        };
        if kind.eq_ignore_ascii_case("array") {
            let items = self.anything(at, Map::new());
            map.insert("items".to_owned(), Value::Object(items));
        }
        map.insert("type".to_owned(), Value::String(kind));
        Shape::Some(map)
    }

    /// What the reader is told of a place: the first of each annotation that may stand.
    pub(super) fn notes(&mut self, parts: &[Part<'g>]) -> Map<String, Value> {
        let mut notes = Map::new();
        for part in parts {
            for keyword in part.keywords().filter(|keyword| ANNOTATIONS.contains(keyword)) {
                let is_root_only = keyword == "$schema" && !part.at.is_empty();
                if is_root_only || !self.allows(keyword) || notes.contains_key(keyword) || self.is_spent() {
                    continue;
                }
                if let Some(value) = part.get(keyword) {
                    let value = self.copy(value);
                    notes.insert(keyword.to_owned(), value);
                }
            }
        }
        notes
    }

    /// In the place of a schema that anything fits.
    pub(super) fn anything(&mut self, at: &str, mut notes: Map<String, Value>) -> Map<String, Value> {
        if !self.rules.typed {
            return notes;
        }
        let told = "any value fits the given schema; here words, numbers, booleans and null do";
        self.report.tell(at, "type", SchemaChange::Narrowed, told);
        if self.rules.openapi {
            let kinds = json!([{ "type": "STRING" }, { "type": "NUMBER" }, { "type": "BOOLEAN" }]);
            notes.insert("anyOf".to_owned(), kinds);
            notes.insert("nullable".to_owned(), Value::Bool(true));
        } else {
            notes.insert("type".to_owned(), json!(["string", "number", "boolean", "null"]));
        }
        notes
    }
}

enum Spread<'g> {
    Parts(Vec<Part<'g>>),
    Done(Shape),
}
