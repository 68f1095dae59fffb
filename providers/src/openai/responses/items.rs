//! What an output item is to us: words, a thought, a call of ours or of the vendor, or something to be kept.

use super::wire::Head;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use stepwell_core::{Citation, MediaSource, Origin, Part};

/// What an item is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Message,
    Reasoning,
    Call(Call),
    /// Kept whole.
    Other,
}

/// A call, ours to run or run by the vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: Input,
    pub(crate) is_provider_executed: bool,
}

/// Where the arguments of a call lie in its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// JSON text that is streamed, in a call that is told whole by its id, name and arguments.
    Function,
    /// JSON text that is streamed.
    Arguments,
    /// Free text that is streamed.
    Text,
    /// Program code that is streamed.
    Code,
    /// Fields that are there once the item is whole.
    Fields,
}

impl Class {
    /// By the head of an item. `is_xai`: free-text tools are the vendor's own there.
    pub(crate) fn of(head: &Head<'_>, is_xai: bool) -> Self {
        let kind = head.kind.as_deref().unwrap_or_default();
        let call = |name: &str, input, is_provider_executed| {
            let id = if is_provider_executed {
                head.id.as_ref().or(head.call_id.as_ref())
            } else {
                head.call_id.as_ref().or(head.id.as_ref())
            };
            Self::Call(Call {
                id: id.cloned().unwrap_or_default(),
                name: head.name.clone().unwrap_or_else(|| name.to_owned()),
                input,
                is_provider_executed,
            })
        };
        match kind {
            "message" => Self::Message,
            "reasoning" => Self::Reasoning,
            "function_call" => call("", Input::Function, false),
            "custom_tool_call" => call("", Input::Text, is_xai),
            "mcp_call" => call("mcp", Input::Arguments, true),
            "code_interpreter_call" => call("code_interpreter", Input::Code, true),
            "shell_call" => {
                let place = head.environment.as_ref().and_then(|place| place.kind.as_deref());
                call("shell", Input::Fields, place == Some("container_reference"))
            }
            "local_shell_call" => call("local_shell", Input::Fields, false),
            "apply_patch_call" => call("apply_patch", Input::Fields, false),
            "computer_call" => call("computer", Input::Fields, false),
            // A tool of the vendor, known today or not; one that waits for an answer of ours has a `call_id`.
            _ => match kind.strip_suffix("_call") {
                Some(name) if head.call_id.is_none() => call(name, Input::Fields, true),
                _ => Self::Other,
            },
        }
    }
}

/// The arguments of a call whose item is whole, where they are fields of it.
pub(crate) fn fields(item: &Map<String, Value>) -> Option<Value> {
    let there = |key: &str| item.get(key).filter(|value| !value.is_null());
    if let Some(value) = there("action").or_else(|| there("operation")) {
        return Some(value.clone());
    }
    let mut fields = Map::new();
    for key in ["actions", "queries", "query", "arguments", "input"] {
        if let Some(value) = there(key) {
            fields.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(prompt) = there("revised_prompt") {
        fields.insert("prompt".to_owned(), prompt.clone());
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// The image an item holds, for the program: the item itself goes back to the vendor.
pub(crate) fn image(item: &Map<String, Value>) -> Option<Part> {
    if item.get("type")? != "image_generation_call" {
        return None;
    }
    let bytes = STANDARD.decode(item.get("result")?.as_str()?).ok()?;
    let kind = match item.get("output_format").and_then(Value::as_str) {
        Some("jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        _ => "image/png",
    };
    let mut part = Part::media(kind, MediaSource::Bytes(Bytes::from(bytes)));
    if let Part::Media(media) = &mut part {
        media.origin = Origin::Model;
    }
    Some(part)
}

/// What the vendor shows of a thought: its summary, or the thought itself, paragraph by paragraph.
pub(crate) fn thought(item: &Map<String, Value>) -> String {
    let mut text = String::new();
    for key in ["summary", "content"] {
        for piece in item.get(key).and_then(Value::as_array).into_iter().flatten() {
            let piece = piece["text"].as_str().unwrap_or_default();
            if !text.is_empty() && !piece.is_empty() {
                text.push_str(PARAGRAPH);
            }
            text.push_str(piece);
        }
    }
    text
}

/// Between the paragraphs of a thought.
pub(crate) const PARAGRAPH: &str = "\n\n";

/// What a function call says beside its id, name and arguments; `None` where that is all. The arguments as they
/// came belong to it where ours would be written otherwise: the vendor's prompt cache knows its own bytes.
pub(crate) fn beside(mut item: Map<String, Value>) -> Option<Value> {
    for key in ["type", "call_id", "name"] {
        item.shift_remove(key);
    }
    if item.get("status").is_some_and(|status| status == "completed") {
        item.shift_remove("status");
    }
    let is_ours = item.get("arguments").and_then(Value::as_str).is_none_or(|text| {
        serde_json::from_str::<Value>(text).map_or(true, |value| {
            let ours = value.to_string();
            ours == text
        })
    });
    if is_ours {
        item.shift_remove("arguments");
    }
    (!item.is_empty()).then_some(Value::Object(item))
}

/// A citation as reported. Its offsets count characters of the answer, not bytes of the source, so the span stays
/// empty; the whole object is in the part's opaque token.
pub(crate) fn citation(annotation: &Value) -> Citation {
    let text = |key: &str| annotation[key].as_str().map(str::to_owned);
    let document = text("url").or_else(|| text("file_id")).unwrap_or_default();
    let mut citation = Citation::new(document, 0..0, text("quote").unwrap_or_default());
    citation.title = text("title").or_else(|| text("filename"));
    citation.uri = text("url");
    citation
}

/// What a refusal leaves in the history: the item with its words.
pub(crate) fn refusal(id: Option<&str>, words: &str) -> Value {
    let mut item = Map::new();
    item.insert("type".to_owned(), json!("message"));
    if let Some(id) = id {
        item.insert("id".to_owned(), json!(id));
    }
    item.insert("role".to_owned(), json!("assistant"));
    item.insert("status".to_owned(), json!("completed"));
    item.insert(
        "content".to_owned(),
        json!([{ "type": "refusal", "refusal": words }]),
    );
    Value::Object(item)
}

#[cfg(test)]
mod tests {
    use super::{Class, Input, beside, fields, image, thought};
    use crate::openai::responses::wire::Head;
    use serde_json::{Value, json};
    use stepwell_core::Part;

    fn class(item: &Value, is_xai: bool) -> Class {
        let text = item.to_string();
        Class::of(&serde_json::from_str::<Head<'_>>(&text).expect("a head"), is_xai)
    }

    #[test]
    fn every_call_tells_who_runs_it() {
        for (item, is_xai, expected) in [
            (
                json!({ "type": "function_call", "id": "fc", "call_id": "c", "name": "f" }),
                false,
                Some(("c", "f", false)),
            ),
            (
                json!({ "type": "custom_tool_call", "id": "i", "call_id": "c", "name": "f" }),
                false,
                Some(("c", "f", false)),
            ),
            (
                json!({ "type": "custom_tool_call", "id": "i", "call_id": "c", "name": "x_user_search" }),
                true,
                Some(("i", "x_user_search", true)),
            ),
            (
                json!({ "type": "web_search_call", "id": "ws" }),
                false,
                Some(("ws", "web_search", true)),
            ),
            (
                json!({ "type": "mcp_call", "id": "m", "name": "events" }),
                false,
                Some(("m", "events", true)),
            ),
            (
                json!({ "type": "shell_call", "id": "s", "call_id": "c", "environment": { "type": "container_reference" } }),
                false,
                Some(("s", "shell", true)),
            ),
            (
                json!({ "type": "shell_call", "id": "s", "call_id": "c", "environment": null }),
                false,
                Some(("c", "shell", false)),
            ),
            (
                json!({ "type": "brand_new_call", "id": "b" }),
                false,
                Some(("b", "brand_new", true)),
            ),
            (
                json!({ "type": "tool_search_call", "id": "t", "call_id": "c" }),
                false,
                None,
            ),
            (json!({ "type": "mcp_list_tools", "id": "l" }), false, None),
            (json!({}), false, None),
        ] {
            match (class(&item, is_xai), expected) {
                (Class::Call(call), Some((id, name, runs))) => {
                    assert_eq!(
                        (call.id.as_str(), call.name.as_str(), call.is_provider_executed),
                        (id, name, runs),
                        "{item}"
                    );
                }
                (Class::Other, None) => {}
                (other, _) => panic!("{item}: {other:?}"),
            }
        }
        let code = json!({ "type": "code_interpreter_call", "id": "ci", "container_id": "c" });
        assert!(matches!(class(&code, false), Class::Call(call) if call.input == Input::Code));
    }

    #[test]
    fn a_call_keeps_what_its_own_fields_do_not_say() {
        let item = |arguments: &str| json!({ "type": "function_call", "call_id": "c", "name": "f", "status": "completed", "arguments": arguments });
        let beside = |item: Value| beside(item.as_object().expect("an object").clone());
        assert_eq!(beside(item(r#"{"a":1}"#)), None);
        assert_eq!(
            beside(item(r#"{"a": 1}"#)),
            Some(json!({ "arguments": r#"{"a": 1}"# }))
        );
        assert_eq!(beside(item(r#"{"a"#)), None, "a cut one is kept by the call");
        let mut named = item("{}");
        named["id"] = json!("fc");
        assert_eq!(beside(named), Some(json!({ "id": "fc" })));
    }

    #[test]
    fn thoughts_are_joined_and_images_unpacked() {
        let item = json!({ "summary": [{ "text": "a" }, { "text": "" }, { "text": "b" }], "content": [{ "text": "c" }] });
        assert_eq!(thought(item.as_object().expect("an object")), "a\n\nb\n\nc");
        let item = json!({ "type": "image_generation_call", "result": "AAE=", "output_format": "webp", "revised_prompt": "a cat" });
        let item = item.as_object().expect("an object");
        assert!(matches!(image(item), Some(Part::Media(media)) if media.media_type == "image/webp"));
        assert_eq!(fields(item), Some(json!({ "prompt": "a cat" })));
    }
}
