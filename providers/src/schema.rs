//! The one door by which a schema goes into a request: compiled for the vendor, strict where that can be.

use crate::{http::Vendor, warnings::Warnings};
use serde_json::Value;
use std::borrow::Cow;
use stepwell_core::{CompiledSchema, Dialect, Error, Result, Schema, SchemaSize, ToolSpec, Warning};

/// A schema, ready to be sent.
#[derive(Debug)]
pub(crate) struct Written<'a> {
    pub(crate) value: Cow<'a, Value>,
    /// The vendor keeps to it by grammar.
    pub(crate) is_strict: bool,
}

/// The schema of a tool's arguments: in the strict dialect where one is given, and where the vendor can say it there;
/// else as it is, with one object at its top. `fits` has the last word on a strict one.
///
/// # Errors
/// [`Error::Unsupported`] when the arguments are no object, [`Error::InvalidInput`] when the schema is none.
pub(crate) fn arguments<'t>(
    tool: &'t ToolSpec,
    strict: Option<Dialect>,
    vendor: &Vendor,
    warnings: &mut Warnings,
    fits: impl FnOnce(&SchemaSize) -> bool,
) -> Result<Written<'t>> {
    if let Some(dialect) = strict {
        match strictly(dialect, &tool.parameters)? {
            Some(compiled) if fits(&compiled.size) => {
                warnings.weakened(&compiled.loose_keywords());
                return Ok(Written {
                    value: Cow::Owned(compiled.value),
                    is_strict: true,
                });
            }
            _ => not_strict(
                warnings,
                vendor,
                &format!("the arguments of tool `{}`", tool.name),
            ),
        }
    }
    Ok(Written {
        value: plain_arguments(tool, vendor)?,
        is_strict: false,
    })
}

/// The schema of a tool's arguments, one object at its top and else as it is.
///
/// # Errors
/// [`Error::Unsupported`] when they are no object.
pub(crate) fn plain_arguments<'t>(tool: &'t ToolSpec, vendor: &Vendor) -> Result<Cow<'t, Value>> {
    let given = &tool.parameters;
    let is_one_object = given.get("type").is_some_and(|kind| kind == "object")
        && !["anyOf", "oneOf", "allOf", "$ref"]
            .iter()
            .any(|key| given.get(*key).is_some());
    if is_one_object {
        return Ok(Cow::Borrowed(given));
    }
    match Dialect::Arguments.compile(given) {
        Ok(compiled) => Ok(Cow::Owned(compiled.value)),
        Err(Error::Unsupported { .. }) => Err(vendor.unsupported(
            &format!("the arguments of tool `{}`", tool.name),
            "make their schema an object",
        )),
        Err(error) => Err(error),
    }
}

/// The schema of an answer: strict where the vendor can say it so, else as it is with a warning.
///
/// # Errors
/// [`Error::Unsupported`] when it is no object.
pub(crate) fn answer<'s>(
    schema: &'s Schema,
    dialect: Dialect,
    vendor: &Vendor,
    warnings: &mut Warnings,
) -> Result<Written<'s>> {
    let given = schema.as_value();
    if given.get("type").is_some_and(|kind| kind != "object") {
        return Err(vendor.unsupported("an answer that is no object", "wrap the schema into an object"));
    }
    if let Some(compiled) = strictly(dialect, given)? {
        warnings.weakened(&compiled.loose_keywords());
        return Ok(Written {
            value: Cow::Owned(compiled.value),
            is_strict: true,
        });
    }
    not_strict(warnings, vendor, "the schema of the answer");
    Ok(Written {
        value: Cow::Borrowed(given),
        is_strict: false,
    })
}

/// The strict form, where there is one in which answers still have room.
///
/// # Errors
/// [`Error::InvalidInput`] when the schema is none.
pub(crate) fn strictly(dialect: Dialect, given: &Value) -> Result<Option<CompiledSchema>> {
    match dialect.compile(given) {
        Ok(compiled) if !compiled.is_hollow => Ok(Some(compiled)),
        Ok(_) | Err(Error::Unsupported { .. } | Error::LimitExceeded { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_strict(warnings: &mut Warnings, vendor: &Vendor, what: &str) {
    warnings.warn(Warning::new(
        "schema_not_strict",
        format!(
            "{} cannot keep strictly to {what}; it is sent as it is and checked here",
            vendor.name()
        ),
    ));
}

#[cfg(test)]
mod tests {
    use super::{answer, arguments, plain_arguments};
    use crate::{
        http::{Auth, Vendor},
        warnings::Warnings,
    };
    use serde_json::{Value, json};
    use stepwell_core::{Dialect, Schema, ToolSpec, Warning};

    static VENDOR: Vendor = Vendor::new("acme", "K", "B", "https://acme.example", Auth::Bearer);

    fn tool(parameters: Value) -> ToolSpec {
        let mut tool = ToolSpec::new("look", "", &Schema::of::<u8>()).expect("a tool");
        tool.parameters = parameters;
        tool
    }

    fn codes(warnings: Warnings) -> Vec<String> {
        let told: Vec<Warning> = warnings.into();
        told.into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn arguments_are_strict_where_the_dialect_can_say_them_and_else_sent_as_they_are() {
        let map = tool(json!({ "type": "object", "additionalProperties": { "type": "string" } }));
        let plain =
            tool(json!({ "type": "object", "properties": { "a": { "type": "string", "maxLength": 3 } } }));
        let strict = Some(Dialect::OpenAiStrictArguments);
        let mut warnings = Warnings::new("acme");
        let written = arguments(&plain, strict, &VENDOR, &mut warnings, |_| true).expect("fine");
        assert!(written.is_strict);
        assert_eq!(written.value["required"], json!(["a"]));
        for (tool, fits) in [(&map, true), (&plain, false)] {
            let written = arguments(tool, strict, &VENDOR, &mut warnings, |_| fits).expect("fine");
            assert!(!written.is_strict);
            assert_eq!(*written.value, tool.parameters);
        }
        assert_eq!(codes(warnings), ["schema_weakened", "schema_not_strict"]);
    }

    #[test]
    fn arguments_that_are_no_object_are_refused_and_alternatives_run_together() {
        let error = plain_arguments(&tool(json!({ "type": "string" })), &VENDOR).expect_err("no object");
        assert!(error.to_string().contains("the arguments of tool `look`"));
        let union = tool(json!({ "anyOf": [{ "properties": { "a": {} } }, { "properties": { "b": {} } }] }));
        let written = plain_arguments(&union, &VENDOR).expect("run together");
        assert_eq!(
            *written,
            json!({ "type": "object", "properties": { "a": {}, "b": {} } })
        );
    }

    #[test]
    fn an_answer_is_strict_or_as_it_is_with_a_warning() {
        let mut warnings = Warnings::new("acme");
        let map =
            Schema::from_value(json!({ "type": "object", "additionalProperties": true })).expect("a schema");
        let written = answer(&map, Dialect::OpenAiStrict, &VENDOR, &mut warnings).expect("fine");
        assert!(!written.is_strict && *written.value == *map.as_value());
        assert_eq!(codes(warnings), ["schema_not_strict"]);
    }
}
