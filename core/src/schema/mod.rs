//! [`Schema`]: a JSON Schema (2020-12) with its compiled check, and its way into the dialects of vendors.
//!
//! ```text
//! Schema ─▶ Dialect::compile ─▶ CompiledSchema: what is sent, and what it lost
//!    └────▶ Schema::read: an answer with absent things absent, checked against what was given
//! ```

mod absent;
mod alternatives;
mod arguments;
mod array;
mod build;
mod compile;
mod dialect;
mod loss;
mod measure;
mod null;
mod object;
mod reference;
mod values;

pub use compile::CompiledSchema;
pub use dialect::Dialect;
pub use loss::{SchemaChange, SchemaLoss};
pub use measure::SchemaSize;

use crate::{Error, Result};
use schemars::JsonSchema;
use serde_json::Value;
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, OnceLock},
};

/// Largest schema taken, as JSON text: 256 KiB.
const SCHEMA_BYTES: usize = 256 << 10;
/// Deepest nesting of a schema or a checked value: 128.
const DEPTH: usize = 128;

/// One place where a value does not keep to its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// JSON pointer into the value; empty for the whole.
    pub path: String,
    /// The keyword it breaks.
    pub keyword: String,
    /// JSON pointer to that keyword through the schema, `$ref`s on the way included; empty where it is none of the
    /// schema's.
    pub schema_path: String,
    /// What is wrong there. It may quote the value.
    pub message: String,
}

impl Violation {
    fn of_whole(keyword: &str, message: String) -> Vec<Self> {
        vec![Self {
            path: String::new(),
            keyword: keyword.to_owned(),
            schema_path: String::new(),
            message,
        }]
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "at {path}: {}", self.message)
    }
}

/// A JSON Schema. Made from a Rust type or from JSON; compiled at the first check, shared by clones.
#[derive(Clone)]
pub struct Schema {
    value: Arc<Value>,
    checker: Arc<OnceLock<std::result::Result<jsonschema::Validator, String>>>,
}

impl Schema {
    /// The schema of a Rust type. Doc comments become descriptions.
    pub fn of<T: JsonSchema>() -> Self {
        let schema = schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| {
                settings.inline_subschemas = false;
                settings.meta_schema = None;
            })
            .into_generator()
            .into_root_schema_for::<T>();
        let mut value = schema.to_value();
        if let Some(object) = value.as_object_mut() {
            object.remove("title"); // the tool's name says it already
        }
        Self {
            value: Arc::new(value),
            checker: Arc::default(),
        }
    }

    /// A schema given as JSON.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is no schema, refers to another document, or is too large or deep.
    pub fn from_value(value: Value) -> Result<Self> {
        if !value.is_object() && !value.is_boolean() {
            return Err(Error::invalid("schema", "a JSON Schema is an object"));
        }
        if is_deeper(&value, DEPTH) || measure::text_of(&value) > SCHEMA_BYTES {
            return Err(too_large());
        }
        if let Some(reference) = remote_reference(&value) {
            return Err(leaves(&reference));
        }
        let schema = Self {
            value: Arc::new(value),
            checker: Arc::default(),
        };
        schema
            .checker()
            .map_err(|message| Error::invalid("schema", message))?;
        Ok(schema)
    }

    /// The schema as JSON, keys in order.
    pub fn as_value(&self) -> &Value {
        &self.value
    }

    fn checker(&self) -> std::result::Result<&jsonschema::Validator, String> {
        self.checker
            .get_or_init(|| {
                jsonschema::options()
                    .with_draft(jsonschema::Draft::Draft202012)
                    .build(&self.value)
                    .map_err(|error| format!("not a usable JSON Schema: {error}"))
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Every place where the value does not keep to the schema, at most 20.
    ///
    /// # Errors
    /// The violations; one that says so where the schema itself cannot be used.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if is_deeper(value, DEPTH) {
            let message = format!("nested deeper than {DEPTH} levels");
            return Err(Violation::of_whole("depth", message));
        }
        let checker = self
            .checker()
            .map_err(|message| Violation::of_whole("schema", message))?;
        let violations: Vec<Violation> = checker
            .iter_errors(value)
            .take(20)
            .map(|error| Violation {
                path: error.instance_path().to_string(),
                keyword: error.kind().keyword().to_owned(),
                schema_path: error.evaluation_path().to_string(),
                message: error.to_string(),
            })
            .collect();
        if violations.is_empty() {
            Ok(())
        } else {
            Err(violations)
        }
    }

    /// The value as it was meant, if it keeps to the schema: a null stands for an absent property where the property
    /// is optional and its schema has no null. Vendors that want every property there are given a schema in which
    /// that is the way to leave one out.
    ///
    /// ```
    /// use serde_json::json;
    /// use stepwell_core::Schema;
    /// let schema = Schema::from_value(json!({ "type": "object", "properties": { "days": { "type": "integer" } } }))?;
    /// assert_eq!(schema.read(json!({ "days": null })).expect("fits"), json!({}));
    /// # Ok::<(), stepwell_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Schema::check`]; the violations are those of the value with such nulls taken out.
    pub fn read(&self, mut value: Value) -> Result<Value, Vec<Violation>> {
        self.read_in_place(&mut value).map(|()| value)
    }
}

impl Schema {
    /// The same, the value staying where it is.
    pub(crate) fn read_in_place(&self, value: &mut Value) -> Result<(), Vec<Violation>> {
        let Err(found) = self.check(value) else {
            return Ok(());
        };
        if is_deeper(value, DEPTH) {
            return Err(found);
        }
        absent::mend(&self.value, value);
        self.check(value)
    }

    /// The path of a violation in this value, with the names that the schema does not know as `*`: they are the
    /// answer's own.
    pub(crate) fn shown(&self, path: &str, value: &Value) -> String {
        let names: HashSet<&str> = measure::schemas(&self.value)
            .into_iter()
            .filter_map(|(_, map)| map.get("properties")?.as_object())
            .flat_map(|names| names.keys().map(String::as_str))
            .collect();
        let (mut shown, mut around) = (String::new(), Some(value));
        for segment in path.split('/').skip(1).take(16) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            let is_place = around.is_some_and(Value::is_array);
            around = around.and_then(|around| match around {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?),
                other => other.get(&name),
            });
            shown.push('/');
            shown.push_str(if is_place || names.contains(name.as_str()) {
                segment
            } else {
                "*"
            });
        }
        shown
    }
}

fn too_large() -> Error {
    Error::LimitExceeded {
        what: "the schema".into(),
        limit: format!("{SCHEMA_BYTES} bytes and {DEPTH} levels"),
    }
}

fn leaves(reference: &str) -> Error {
    Error::invalid(
        "schema",
        format!("`$ref` to `{reference}` leaves the document; inline it"),
    )
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    // An explicit stack: the value comes from outside and may be deep.
    let mut stack = vec![(value, 0)];
    while let Some((value, depth)) = stack.pop() {
        if depth > levels {
            return true;
        }
        match value {
            Value::Array(items) => stack.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(items) => stack.extend(items.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    false
}

fn remote_reference(value: &Value) -> Option<String> {
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        match value {
            Value::Array(items) => stack.extend(items),
            Value::Object(items) => {
                for (key, item) in items {
                    match item {
                        Value::String(target)
                            if (key == "$ref" || key == "$dynamicRef") && !target.starts_with('#') =>
                        {
                            return Some(target.chars().take(80).collect());
                        }
                        _ => stack.push(item),
                    }
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Schema;
    use schemars::JsonSchema;
    use serde_json::json;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Args {
        /// City and country.
        city: String,
        days: Option<u8>,
    }

    #[test]
    fn a_type_becomes_a_schema_with_its_comments_and_checks_values() {
        let schema = Schema::of::<Args>();
        assert_eq!(
            schema.as_value()["properties"]["city"]["description"],
            "City and country."
        );
        assert_eq!(schema.as_value()["required"], json!(["city"]));
        assert!(
            schema
                .check(&json!({ "city": "Oslo, Norway", "days": 3 }))
                .is_ok()
        );
        let wrong = schema.check(&json!({ "days": 300 })).expect_err("two faults");
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn a_schema_that_reaches_outside_or_is_none_is_refused() {
        for bad in [
            json!({ "$ref": "other.json" }),
            json!(3),
            json!({ "type": "nothing" }),
        ] {
            assert_eq!(
                Schema::from_value(bad).expect_err("refused").code(),
                "invalid_input"
            );
        }
        let mut deep = json!({});
        for _ in 0..400 {
            deep = json!({ "items": deep });
        }
        assert_eq!(
            Schema::from_value(deep).expect_err("too deep").code(),
            "limit_exceeded"
        );
    }
}
