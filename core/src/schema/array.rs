//! Arrays: their items, and how many.

use super::{
    build::ARRAYS,
    compile::{Compiler, Part, Shape, not_kept},
    loss::SchemaChange,
};
use crate::Result;
use serde_json::{Map, Value, json};

impl<'g> Compiler<'g> {
    /// Writes what fits of arrays.
    pub(super) fn array(
        &mut self,
        map: &mut Map<String, Value>,
        parts: &[Part<'g>],
        types: Option<&[&str]>,
    ) -> Result<()> {
        if types.is_some_and(|kinds| !kinds.contains(&"array")) {
            return Ok(());
        }
        let prefix = longest_prefix(parts);
        let rest: Vec<Part<'g>> = parts.iter().filter_map(rest).collect();
        let rest = if rest.is_empty() {
            None
        } else {
            Some(self.node(rest, false)?)
        };
        if prefix == 0 {
            match rest {
                // An array that has to be empty.
                Some(Shape::Never) => self.at_most(map, parts, 0),
                Some(Shape::Some(items) | Shape::Any(items)) => {
                    let items = self.typed(parts, items);
                    map.insert("items".to_owned(), Value::Object(items));
                }
                None if self.rules.typed => {
                    let items = self.typed(parts, Map::new());
                    map.insert("items".to_owned(), Value::Object(items));
                }
                None => {}
            }
        } else {
            self.tuple(map, parts, prefix, rest)?;
        }
        self.counts(map, parts);
        Ok(())
    }

    /// A place that is not empty where the dialect refuses an empty one.
    fn typed(&mut self, parts: &[Part<'g>], items: Map<String, Value>) -> Map<String, Value> {
        let says = |key: &String| !super::compile::ANNOTATIONS.contains(&key.as_str());
        if items.keys().any(says) {
            return items;
        }
        let at = parts.first().map_or("", |part| part.at.as_str());
        self.anything(&format!("{at}/items"), items)
    }

    fn at_most(&mut self, map: &mut Map<String, Value>, parts: &[Part<'g>], count: usize) {
        if self.allows("maxItems") {
            map.insert("maxItems".to_owned(), json!(count));
            if count == 0 && self.rules.typed {
                let items = if self.rules.openapi {
                    json!({ "type": "STRING" })
                } else {
                    json!({ "type": "string" })
                };
                map.insert("items".to_owned(), items);
            }
        } else {
            self.tell_all(parts, &["items"]);
            if self.rules.typed && !map.contains_key("items") {
                let items = self.typed(parts, Map::new());
                map.insert("items".to_owned(), Value::Object(items));
            }
        }
    }

    /// Items that differ by their place.
    fn tuple(
        &mut self,
        map: &mut Map<String, Value>,
        parts: &[Part<'g>],
        prefix: usize,
        rest: Option<Shape>,
    ) -> Result<()> {
        let mut places = Vec::new();
        for place in 0..prefix {
            let inner: Vec<Part<'g>> = parts.iter().filter_map(|part| item(part, place)).collect();
            let at = inner.first().map_or_else(String::new, |part| part.at.clone());
            match self.node(inner, false)? {
                Shape::Never => break,
                Shape::Some(item) => places.push(item),
                Shape::Any(notes) => places.push(self.anything(&at, notes)),
            }
        }
        let is_cut = places.len() < prefix || rest == Some(Shape::Never);
        if is_cut {
            let count = places.len();
            self.at_most(map, parts, count);
        }
        if self.allows("prefixItems") && !places.is_empty() {
            let places: Vec<Value> = places.into_iter().map(Value::Object).collect();
            map.insert("prefixItems".to_owned(), Value::Array(places));
            if let Some(Shape::Some(items) | Shape::Any(items)) = rest
                && !is_cut
            {
                map.insert("items".to_owned(), Value::Object(items));
            }
            return Ok(());
        }
        let told = "items that differ by their place are written as any of them";
        for part in parts {
            if part.get("prefixItems").is_some() || part.get("items").is_some_and(Value::is_array) {
                self.report
                    .tell(&part.at, "prefixItems", SchemaChange::Widened, told);
            }
        }
        let mut forms: Vec<Map<String, Value>> = Vec::new();
        let rest = match rest {
            Some(Shape::Some(items)) if !is_cut => Some(items),
            _ => None,
        };
        for form in places.into_iter().chain(rest) {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        let items = match forms.len() {
            0 => return Ok(()),
            1 => forms.remove(0),
            _ => Map::from_iter([(
                "anyOf".to_owned(),
                Value::Array(forms.into_iter().map(Value::Object).collect()),
            )]),
        };
        map.insert("items".to_owned(), Value::Object(items));
        Ok(())
    }

    /// `minItems`, `contains` and the like.
    fn counts(&mut self, map: &mut Map<String, Value>, parts: &[Part<'g>]) {
        for part in parts {
            for keyword in part.keywords().filter(|keyword| ARRAYS.contains(keyword)) {
                let Some(value) = part.get(keyword) else { continue };
                match keyword {
                    "items" | "prefixItems" | "additionalItems" => {} // written with the items
                    "minItems" | "maxItems" if self.allows(keyword) => {
                        self.count(map, &part.at, keyword, value);
                    }
                    _ => self
                        .report
                        .tell(&part.at, keyword, SchemaChange::Dropped, not_kept(keyword)),
                }
            }
        }
    }

    fn count(&mut self, map: &mut Map<String, Value>, at: &str, keyword: &str, value: &Value) {
        let Some(mut count) = whole(value) else { return };
        if keyword == "minItems"
            && let Some(most) = self.rules.min_items.filter(|most| count > *most)
        {
            let told = format!("the vendor keeps to a `minItems` of at most {most}");
            self.report.tell(at, keyword, SchemaChange::Widened, told);
            count = most;
        }
        if let Some(so_far) = map.get(keyword).and_then(Value::as_u64) {
            count = if keyword == "minItems" {
                count.max(so_far)
            } else {
                count.min(so_far)
            };
        }
        map.insert(keyword.to_owned(), json!(count));
    }
}

/// JSON Schema takes 2.0 for a count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be whole and small
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|count| count.fract() == 0.0 && (0.0..1e15).contains(count))
            .map(|count| count as u64)
    })
}

fn places(part: &Part<'_>) -> usize {
    let listed = part
        .get("prefixItems")
        .or_else(|| part.get("items").filter(|items| items.is_array()));
    listed.and_then(Value::as_array).map_or(0, Vec::len)
}

fn longest_prefix(parts: &[Part<'_>]) -> usize {
    parts.iter().map(places).max().unwrap_or(0)
}

/// The schema of the items that have no place of their own.
fn rest<'g>(part: &Part<'g>) -> Option<Part<'g>> {
    let keyword = if part.get("items").is_some_and(Value::is_array) {
        "additionalItems"
    } else {
        "items"
    };
    Some(Part::new(format!("{}/{keyword}", part.at), part.get(keyword)?))
}

fn item<'g>(part: &Part<'g>, place: usize) -> Option<Part<'g>> {
    if place >= places(part) {
        return rest(part);
    }
    let keyword = if part.get("prefixItems").is_some() {
        "prefixItems"
    } else {
        "items"
    };
    let value = part.get(keyword)?.get(place)?;
    Some(Part::new(format!("{}/{keyword}/{place}", part.at), value))
}
