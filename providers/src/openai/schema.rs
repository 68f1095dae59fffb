//! What both wires want of a schema and of its name.

use crate::{http::Vendor, narrow};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{Result, ToolSpec};

/// Keywords the vendor's grammars refuse, the first of them only for answers.
const REFUSED: &[&str] = &[
    "default",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "contains",
];

/// What the vendor's grammar of answers needs.
pub(crate) const GRAMMAR: narrow::Grammar = narrow::Grammar {
    requires_all: true,
    refuses: REFUSED,
};

/// What its grammar of arguments needs: recorded calls show that a default is taken there.
pub(crate) const TOOL_GRAMMAR: narrow::Grammar = narrow::Grammar {
    requires_all: true,
    refuses: REFUSED.split_at(1).1,
};

/// The schema of a tool's arguments.
///
/// # Errors
/// [`stepwell_core::Error::Unsupported`] when they are no object.
pub(crate) fn parameters<'a>(tool: &'a ToolSpec, vendor: &Vendor) -> Result<Cow<'a, Value>> {
    match tool.parameters.get("type").and_then(Value::as_str) {
        Some("object") => Ok(Cow::Borrowed(&tool.parameters)),
        None if tool.parameters.is_object() => Ok(Cow::Borrowed(&tool.parameters)),
        Some("null") => Ok(Cow::Owned(json!({ "type": "object", "properties": {} }))),
        _ => Err(vendor.unsupported(
            &format!("the arguments of tool `{}`", tool.name),
            "make their schema an object",
        )),
    }
}

/// The vendor takes letters, digits, `_` and `-`, at most 64.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .take(64)
        .collect();
    Cow::Owned(if name.is_empty() {
        "answer".to_owned()
    } else {
        name
    })
}
