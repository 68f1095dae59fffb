//! `anyOf` and `oneOf`, all written as `anyOf`.

use super::{
    compile::{Compiler, DONE_ANY, DONE_NOTES, DONE_ONE, Part, Shape},
    dialect::Refs,
    loss::SchemaChange,
    values::{types, values},
};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// A list of alternatives at a place.
pub(super) struct Group<'g> {
    /// The part it stands in.
    part: usize,
    keyword: &'static str,
    branches: &'g [Value],
}

impl<'g> Compiler<'g> {
    /// `anyOf` and `oneOf`: what stands beside them holds in every branch.
    pub(super) fn alternatives(
        &mut self,
        parts: &[Part<'g>],
        group: &Group<'g>,
        is_root: bool,
    ) -> Result<Shape> {
        let rest = |keyword: &str| {
            let bit = if group.keyword == "anyOf" {
                DONE_ANY
            } else {
                DONE_ONE
            };
            let mut rest: Vec<Part<'g>> = parts.to_vec();
            for (place, part) in rest.iter_mut().enumerate() {
                part.done |= DONE_NOTES;
                if place == group.part {
                    part.done |= bit;
                }
            }
            let _ = keyword;
            rest
        };
        let at = format!("{}/{}", parts[group.part].at, group.keyword);
        let beside: Vec<Part<'g>> = rest(group.keyword).into_iter().filter(Part::constrains).collect();
        let mut notes = self.notes(parts);
        let mut branches: Vec<Map<String, Value>> = Vec::new();
        for (place, value) in group.branches.iter().enumerate() {
            let at = format!("{at}/{place}");
            let mut branch = beside.clone();
            branch.push(Part::new(at.clone(), value));
            let map = match self.node(branch, false)? {
                Shape::Never => continue,
                Shape::Some(map) => map,
                Shape::Any(own) if !self.rules.typed => own,
                Shape::Any(own) => self.anything(&at, own),
            };
            if !branches.contains(&map) {
                branches.push(map);
            }
        }
        if group.keyword == "oneOf" {
            let part = &parts[group.part].at;
            if self.exclude_one_another(&at, group.branches) {
                let told = "`oneOf` is written as `anyOf`: its branches exclude one another";
                self.report.tell(part, "oneOf", SchemaChange::Rewritten, told);
            } else {
                let told = "`oneOf` is written as `anyOf`: more than one branch may fit";
                self.report.tell(part, "oneOf", SchemaChange::Widened, told);
            }
        }
        if is_root && self.rules.object_root {
            if !self.rules.is_arguments {
                return Err(Error::Unsupported {
                    who: "this dialect".into(),
                    what: "a schema whose top has alternatives".into(),
                    hint: "wrap it into an object".into(),
                });
            }
            return Ok(self.run_together(&parts[group.part].at, group.keyword, branches, notes));
        }
        if branches.len() < 2 {
            let Some(only) = branches.pop() else {
                return Ok(Shape::Never);
            };
            return Ok(Shape::Some(self.with_notes(only, notes)));
        }
        if self.rules.openapi {
            let before = branches.len();
            branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "NULL"));
            let has_null = branches.len() < before;
            if branches.is_empty() {
                notes.insert("type".to_owned(), json!("NULL"));
                return Ok(Shape::Some(notes));
            }
            if has_null {
                notes.insert("nullable".to_owned(), Value::Bool(true));
            }
            if let [only] = branches.as_slice() {
                return Ok(Shape::Some(self.with_notes(only.clone(), notes)));
            }
        }
        let branches = branches.into_iter().map(Value::Object).collect();
        notes.insert("anyOf".to_owned(), Value::Array(branches));
        Ok(Shape::Some(notes))
    }

    /// A place with more to tell of it.
    fn with_notes(&self, mut map: Map<String, Value>, notes: Map<String, Value>) -> Map<String, Value> {
        for (key, note) in notes {
            let fits = match self.rules.refs {
                Refs::Kept(beside) => !map.contains_key("$ref") || beside.contains(&key.as_str()),
                Refs::Unrolled(_) => true,
            };
            if fits {
                map.entry(key).or_insert(note);
            }
        }
        map
    }

    /// Whether no value can fit two of the branches, as far as their types and constants show.
    fn exclude_one_another(&self, at: &str, branches: &'g [Value]) -> bool {
        if branches.len() > 64 {
            return false;
        }
        let parts: Option<Vec<Vec<Part<'g>>>> = branches
            .iter()
            .enumerate()
            .map(|(place, value)| self.plain_parts(Part::new(format!("{at}/{place}"), value)))
            .collect();
        let Some(parts) = parts else { return false };
        parts.iter().enumerate().all(|(place, one)| {
            parts[..place].iter().all(|other| {
                let both: Vec<Part<'g>> = one.iter().chain(other).cloned().collect();
                self.is_void(&both)
            })
        })
    }

    /// Whether types or constants, here or in a property that has to be there, leave no value.
    fn is_void(&self, parts: &[Part<'g>]) -> bool {
        let Some(kinds) = types(parts) else { return true };
        if values(parts, kinds.as_deref()).is_none() {
            return true;
        }
        let is_object = kinds.is_some_and(|kinds| kinds == ["object"]);
        is_object
            && parts.iter().any(|part| {
                let names = part.get("required").and_then(Value::as_array);
                names.into_iter().flatten().filter_map(Value::as_str).any(|name| {
                    let inner: Option<Vec<Vec<Part<'g>>>> = parts
                        .iter()
                        .filter_map(|part| {
                            let value = part.get("properties")?.get(name)?;
                            Some(self.plain_parts(Part::new(format!("{}/properties/-", part.at), value)))
                        })
                        .collect();
                    inner.is_some_and(|inner| {
                        let inner = inner.concat();
                        types(&inner).is_none_or(|kinds| values(&inner, kinds.as_deref()).is_none())
                    })
                })
            })
    }

    /// The maps of a schema with one reference followed; `None` where it is no map.
    fn plain_parts(&self, part: Part<'g>) -> Option<Vec<Part<'g>>> {
        part.value.as_object()?;
        let mut parts = vec![part];
        if let Some(Value::String(reference)) = parts[0].value.get("$ref") {
            let (target, value) = self.document.follow(&parts[0].at, reference).ok()?;
            value.as_object()?;
            parts.push(Part::new(target, value));
        }
        Some(parts)
    }
}

/// The first list of alternatives that is still to be written.
pub(super) fn first_group<'g>(parts: &[Part<'g>]) -> Option<Group<'g>> {
    parts.iter().enumerate().find_map(|(place, part)| {
        ["anyOf", "oneOf"].into_iter().find_map(|keyword| {
            let branches = part.get(keyword)?.as_array()?;
            Some(Group {
                part: place,
                keyword,
                branches,
            })
        })
    })
}
