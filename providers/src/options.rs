//! [`merge`]: a vendor's own options go into its body last.

use serde::Serialize;
use serde_json::{Map, Value};
use stepwell_core::{ChatRequest, Error, Result};

/// The options meant for this vendor.
///
/// # Errors
/// [`Error::InvalidInput`] when they are no object.
pub(crate) fn of<'a>(request: &'a ChatRequest, vendor: &str) -> Result<Option<&'a Map<String, Value>>> {
    match request.provider_options.get(vendor) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(options)) => Ok(Some(options)),
        Some(_) => Err(Error::invalid(
            "provider_options",
            format!("the options for {vendor} have to be an object of fields of its body"),
        )),
    }
}

/// The bytes of a body with options merged into it: objects field by field, `tools` added behind ours, `null`
/// takes a field away, anything else replaces it.
pub(crate) fn body(
    wire: &impl Serialize,
    options: Option<&Map<String, Value>>,
    not_body: &[&str],
) -> Result<Vec<u8>> {
    // Neither step fails for our own types: maps have string keys, numbers are finite or left out.
    let broken = |_| Error::internal("a request could not be written as JSON");
    let Some(options) = options.filter(|options| !options.is_empty()) else {
        return serde_json::to_vec(wire).map_err(broken);
    };
    let mut value = serde_json::to_value(wire).map_err(broken)?;
    if let Value::Object(body) = &mut value {
        for (key, option) in options {
            if not_body.contains(&key.as_str()) {
                continue;
            }
            match (body.get_mut(key), option) {
                (Some(Value::Array(ours)), Value::Array(more)) if key == "tools" => {
                    ours.extend(more.iter().cloned());
                }
                _ => merge(body, key, option),
            }
        }
    }
    serde_json::to_vec(&value).map_err(broken)
}

/// A number that JSON can carry.
pub(crate) fn finite(number: Option<f64>) -> Option<f64> {
    number.filter(|number| number.is_finite())
}

fn merge(into: &mut Map<String, Value>, key: &str, option: &Value) {
    match (into.get_mut(key), option) {
        (_, Value::Null) => {
            into.shift_remove(key);
        }
        (Some(Value::Object(ours)), Value::Object(more)) => {
            for (key, option) in more {
                merge(ours, key, option);
            }
        }
        _ => {
            into.insert(key.to_owned(), option.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::body;
    use serde_json::{Value, json};

    #[test]
    fn options_change_fields_deeply_add_tools_and_take_fields_away() {
        let wire =
            json!({ "model": "m", "output_config": { "format": 1 }, "tools": [{ "name": "a" }], "top_k": 4 });
        let options = json!({ "output_config": { "effort": "max" }, "tools": [{ "name": "b" }], "top_k": null, "betas": ["x"] });
        let bytes = body(&wire, options.as_object(), &["betas"]).expect("writes");
        assert_eq!(
            serde_json::from_slice::<Value>(&bytes).expect("JSON"),
            json!({ "model": "m", "output_config": { "format": 1, "effort": "max" }, "tools": [{ "name": "a" }, { "name": "b" }] })
        );
    }
}
