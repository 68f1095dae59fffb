//! [`Thought`]: what a model thinks before it answers, and the tokens it comes with.
//!
//! `reasoning_details` come in pieces: those of one index are one block. They go back as the blocks they make, key
//! by key as they came.

use serde_json::{Map, Value, value::RawValue};

/// Most blocks of reasoning that are kept of an answer.
const MOST_BLOCKS: usize = 512;

/// The thought of one answer.
#[derive(Debug, Default)]
pub(crate) struct Thought {
    /// Its part, while it is open.
    pub(crate) open: Option<u32>,
    blocks: Vec<Map<String, Value>>,
    token: Option<Value>,
}

impl Thought {
    /// More of `reasoning_details`.
    pub(crate) fn details(&mut self, raw: &RawValue) {
        let pieces: Option<Vec<Map<String, Value>>> = serde_json::from_str(raw.get()).ok();
        for piece in pieces.into_iter().flatten() {
            let count = self.blocks.len();
            match self.blocks.last_mut() {
                Some(last) if is_same_block(last, &piece) => add(last, piece),
                _ if count < MOST_BLOCKS => self.blocks.push(piece),
                _ => {}
            }
        }
    }

    /// `extra_content`; a later one replaces it.
    pub(crate) fn token(&mut self, raw: &RawValue) {
        self.token = serde_json::from_str(raw.get())
            .ok()
            .filter(|token: &Value| !token.is_null());
    }

    /// Whether it goes back with more than its words.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some() || !self.blocks.is_empty()
    }

    /// What has to go back as it came.
    pub(crate) fn take_token(&mut self) -> Option<Value> {
        let blocks = std::mem::take(&mut self.blocks);
        if blocks.is_empty() {
            return self.token.take();
        }
        Some(Value::Array(blocks.into_iter().map(Value::Object).collect()))
    }
}

/// The words in `reasoning_details`, for servers that tell them there alone.
pub(crate) fn words_of_details(raw: Option<&RawValue>) -> Option<String> {
    let pieces: Vec<Map<String, Value>> = serde_json::from_str(raw?.get()).ok()?;
    let words: String = pieces
        .iter()
        .filter_map(|piece| piece.get("text").or(piece.get("summary"))?.as_str())
        .collect();
    (!words.is_empty()).then_some(words)
}

/// Pieces of one stream belong together by index; whole blocks of one answer differ in it.
fn is_same_block(last: &Map<String, Value>, piece: &Map<String, Value>) -> bool {
    let is_same = |key: &str| last.get(key) == piece.get(key);
    let has_other_id = matches!((last.get("id"), piece.get("id")), (Some(Value::String(a)), Some(Value::String(b))) if a != b);
    last.contains_key("index")
        && is_same("index")
        && is_same("type")
        && !has_other_id
        // A signed block is whole.
        && !last.get("signature").is_some_and(Value::is_string)
}

fn add(block: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        let so_far = block.get_mut(&key);
        match (key.as_str(), so_far, value) {
            ("text" | "summary" | "data", Some(Value::String(so_far)), Value::String(more)) => {
                so_far.push_str(&more);
            }
            (_, Some(_), Value::Null) => {}
            (_, _, value) => {
                block.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Thought;
    use serde_json::{Value, json, value::RawValue};

    fn token(pieces: &[Value]) -> Value {
        let mut thought = Thought::default();
        for piece in pieces {
            let raw = RawValue::from_string(json!([piece]).to_string()).expect("JSON");
            thought.details(&raw);
        }
        thought.take_token().expect("a token")
    }

    #[test]
    fn pieces_of_a_block_are_joined_up_to_its_signature_and_whole_blocks_stay_as_they_are() {
        let text = |text: &str| json!({ "type": "reasoning.text", "index": 0, "format": "f", "text": text });
        let joined = token(&[
            text("The "),
            text("farmer"),
            json!({ "type": "reasoning.text", "index": 0, "format": "f", "signature": "s1" }),
            json!({ "type": "reasoning.text", "index": 0, "text": "again", "signature": null }),
        ]);
        assert_eq!(
            joined,
            json!([
                { "type": "reasoning.text", "index": 0, "format": "f", "text": "The farmer", "signature": "s1" },
                { "type": "reasoning.text", "index": 0, "text": "again", "signature": null }
            ])
        );
        let whole = [
            json!({ "type": "reasoning.summary", "index": 0, "summary": "a" }),
            json!({ "type": "reasoning.encrypted", "index": 1, "data": "x", "id": "rs_1" }),
            json!({ "type": "reasoning.encrypted", "data": "y" }),
            json!({ "type": "reasoning.encrypted", "data": "z" }),
        ];
        assert_eq!(token(&whole), Value::from(whole.to_vec()));
    }
}
