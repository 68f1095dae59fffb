//! [`Pins`]: what a server's tools said when somebody looked at them.

use rmcp::model::Tool;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write};

/// The digests of a server's tools, by the names the server gives them. Each is made over everything that a model or a
/// policy goes by: name, title, description, both schemas and annotations. Order and spacing of the JSON do not count.
///
/// They are plain JSON (`{"add": "3f…"}`), to be kept beside the program's configuration.
///
/// ```
/// use stepwell_agent::mcp::Pins;
/// let pins: Pins = serde_json::from_str(r#"{ "add": "3f786850e387550f" }"#)?;
/// assert_eq!(pins.names().collect::<Vec<_>>(), ["add"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pins(BTreeMap<String, String>);

impl Pins {
    /// The pinned tools.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A tool's digest, in hex.
    pub fn get(&self, tool: &str) -> Option<&str> {
        self.0.get(tool).map(String::as_str)
    }

    pub(super) fn insert(&mut self, tool: String, digest: String) {
        self.0.insert(tool, digest);
    }
}

/// A tool's digest: BLAKE3 over its JSON with sorted keys.
pub(super) fn digest(tool: &Tool) -> String {
    let mut text = String::from("stepwell mcp pin 1\n");
    let whole = json!({
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
        "annotations": tool.annotations,
    });
    sorted(&whole, &mut text);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for key in keys {
                let _ = write!(text, "{}:", Value::from(key.as_str())); // a String takes everything
                sorted(&fields[key], text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                sorted(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::digest;
    use rmcp::model::Tool;
    use serde_json::{Value, json};

    fn tool(value: Value) -> Tool {
        serde_json::from_value(value).expect("a tool")
    }

    #[test]
    fn a_digest_ignores_the_order_of_keys_and_sees_every_word() {
        let one = json!({ "name": "add", "description": "Adds.", "inputSchema": { "type": "object", "properties": { "a": { "type": "number" }, "b": {} } }, "annotations": { "readOnlyHint": true } });
        let same = json!({ "annotations": { "readOnlyHint": true }, "inputSchema": { "properties": { "b": {}, "a": { "type": "number" } }, "type": "object" }, "description": "Adds.", "name": "add" });
        let first = digest(&tool(one.clone()));
        assert_eq!(first, digest(&tool(same)));
        for (pointer, other) in [
            ("/name", json!("sum")),
            ("/description", json!("Adds. ")),
            (
                "/inputSchema/properties/b",
                json!({ "description": "the second" }),
            ),
            ("/annotations/readOnlyHint", json!(false)),
        ] {
            let mut changed = one.clone();
            *changed.pointer_mut(pointer).expect("is there") = other;
            assert_ne!(first, digest(&tool(changed)), "{pointer}");
        }
    }
}
