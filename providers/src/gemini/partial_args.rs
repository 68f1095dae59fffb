//! [`PartialArgs`]: arguments of a call that come in pieces, each with the path where it belongs.
//!
//! Vertex AI streams them so where a request asks for it (function calling, `streamFunctionCallArguments`).

use serde_json::{Map, Value};

/// Deepest path that is followed.
const DEPTH: usize = 64;
/// How many items of a list may be missing before one that comes: lists come in order, and a place far behind their
/// end is a bomb of a few bytes.
const GAP: usize = 1;

/// What has come of the arguments.
#[derive(Debug)]
pub(super) struct PartialArgs(Value);

impl Default for PartialArgs {
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl PartialArgs {
    /// Puts each piece in its place: strings grow, anything else is set.
    pub(super) fn add(&mut self, pieces: &[Value]) {
        for piece in pieces {
            let value = ["stringValue", "numberValue", "boolValue"]
                .iter()
                .find_map(|key| piece.get(key))
                .or_else(|| piece.get("nullValue").map(|_| &Value::Null));
            let place = piece["jsonPath"]
                .as_str()
                .and_then(|path| place(&mut self.0, path));
            match (place, value) {
                (Some(Value::String(so_far)), Some(Value::String(more))) => so_far.push_str(more),
                (Some(place), Some(value)) => *place = value.clone(),
                _ => {}
            }
        }
    }

    /// The whole arguments.
    pub(super) fn into_json(self) -> String {
        self.0.to_string()
    }
}

/// The place of a path such as `$.rows[0].name` or `$['a b']`, made where it is not there.
fn place<'a>(root: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut rest = path.strip_prefix('$')?;
    let mut at = root;
    for _ in 0..DEPTH {
        if rest.is_empty() {
            return Some(at);
        }
        let (key, index);
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (key, index, rest) = (Some(&after[..end]), None, &after[end..]);
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = inside.trim_matches(['\'', '"']);
            let number = inside.parse::<usize>().ok();
            (key, index, rest) = (number.is_none().then_some(quoted), number, after);
        }
        at = match (key, index) {
            (Some(key), _) => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                at.as_object_mut()?.entry(key).or_insert(Value::Null)
            }
            (None, index) => {
                if !at.is_array() {
                    *at = Value::Array(Vec::new());
                }
                let items = at.as_array_mut()?;
                let index = index.filter(|index| *index <= items.len() + GAP)?;
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                &mut items[index]
            }
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::PartialArgs;
    use serde_json::{Value, json};

    #[test]
    fn pieces_come_together_at_their_paths_and_nonsense_is_left_out() {
        let mut args = PartialArgs::default();
        args.add(&[json!({ "jsonPath": "$.city", "stringValue": "Os", "willContinue": true })]);
        args.add(&[
            json!({ "jsonPath": "$.city", "stringValue": "lo" }),
            json!({ "jsonPath": "$.rows[1].n", "numberValue": 4 }),
            json!({ "jsonPath": "$['a b']", "boolValue": true }),
            json!({ "jsonPath": "$.gone", "nullValue": "NULL_VALUE" }),
            json!({ "jsonPath": "no path", "numberValue": 1 }),
            json!({ "jsonPath": "$.rows[99999999]", "numberValue": 1 }),
            json!({ "jsonPath": "$.rows[4]", "numberValue": 1 }),
            json!({ "stringValue": "nowhere" }),
            json!(3),
        ]);
        assert_eq!(
            serde_json::from_str::<Value>(&args.into_json()).expect("JSON"),
            json!({ "city": "Oslo", "rows": [null, { "n": 4 }], "a b": true, "gone": null })
        );
    }
}
