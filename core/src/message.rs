//! [`Message`] and [`Part`]: what people, models, tools and documents say, and who said it.

use crate::{Citation, Parts};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Whose turn a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Instructions of the program.
    System,
    /// Instructions of the program where a wire tells them from the vendor's own.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Results of tool calls.
    Tool,
}

/// Where words come from. It stays with a part through storage and retrieval: what a tool or a document says is
/// data, never an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// The program.
    System,
    /// The person.
    User,
    /// A model.
    Model,
    /// A tool.
    Tool,
    /// A retrieved document.
    Document,
    /// An imported conversation.
    Import,
}

/// A vendor's own token on a part (a signature, an encrypted block): kept byte for byte, sent back only to the
/// vendor and model that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// The vendor that made it.
    pub provider: String,
    /// The model that made it.
    pub model: String,
    /// The token: a string, or the vendor's whole object in its own key order.
    pub value: Value,
}

/// A place up to which the vendor should cache the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CachePoint {
    /// About five minutes.
    Short,
    /// About an hour.
    Long,
}

/// Words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Text {
    /// The words.
    pub text: String,
    /// Who said them.
    pub origin: Origin,
    /// What they rest on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<Citation>,
    /// The vendor's token on this part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
    /// Cache the prompt up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePoint>,
}

/// Where a medium's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MediaSource {
    /// Here.
    Bytes(#[serde(with = "base64_bytes")] Bytes),
    /// At an address that is passed on to the vendor and never fetched by us.
    Url(String),
    /// At the vendor, under its id.
    FileId(String),
}

/// An image, a sound, a PDF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Media {
    /// Such as `image/png`, `application/pdf`, `audio/wav`.
    pub media_type: String,
    /// Its bytes or address.
    pub source: MediaSource,
    /// A file name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who brought it.
    pub origin: Origin,
    /// The vendor's token on this part, where a model made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
    /// Cache the prompt up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePoint>,
}

/// What a model thought before it answered. The text may be empty while the token is not: keep both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reasoning {
    /// What the vendor shows of it.
    pub text: String,
    /// The vendor's signature or encrypted block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
    /// The vendor hid the text; only the token is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_redacted: bool,
    /// Always [`Origin::Model`] but on imports.
    pub origin: Origin,
}

/// The model's wish to have a tool called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// Ties the result to the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as JSON; `{}` where the model sent none.
    pub arguments: Value,
    /// The arguments as sent, where they are not JSON (cut, or malformed): the model is asked to mend them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malformed: Option<String>,
    /// The vendor ran it itself (web search, code execution).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_provider_executed: bool,
    /// The vendor's token on this part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
    /// Always [`Origin::Model`] but on imports.
    pub origin: Origin,
}

/// Our answer to a [`ToolCall`]. A model reads [`ToolResult::text`] and the media; data beside text stays with us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolResult {
    /// The call it answers.
    pub call_id: String,
    /// The tool.
    pub name: String,
    /// What the tool says: text, media, data.
    pub parts: Vec<Part>,
    /// The tool failed; the parts say how.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// [`Origin::Tool`], or [`Origin::Document`] when it was a search.
    pub origin: Origin,
    /// Cache the prompt up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePoint>,
}

/// Structured data for the program or the screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Data {
    /// What kind of data, for whoever reads it.
    pub name: String,
    /// The data.
    pub value: Value,
    /// Who made it.
    pub origin: Origin,
}

/// A part that this version does not know: kept, so that nothing is lost on a round trip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unknown {
    /// The vendor or file it came from.
    pub provider: String,
    /// The whole part in its own key order.
    pub value: Value,
    /// Who said it.
    pub origin: Origin,
}

/// One piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Words.
    Text(Text),
    /// An image, a sound, a PDF.
    Media(Media),
    /// What a model thought.
    Reasoning(Reasoning),
    /// The model's wish to have a tool called.
    ToolCall(ToolCall),
    /// Our answer to it.
    ToolResult(ToolResult),
    /// Structured data.
    Data(Data),
    /// Anything else, kept.
    Unknown(Unknown),
}

impl Part {
    /// Words of someone.
    pub fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self::Text(Text {
            text: text.into(),
            origin,
            citations: Vec::new(),
            opaque: None,
            cache: None,
        })
    }

    /// A medium the person brought.
    pub fn media(media_type: impl Into<String>, source: MediaSource) -> Self {
        Self::Media(Media {
            media_type: media_type.into(),
            source,
            name: None,
            origin: Origin::User,
            opaque: None,
            cache: None,
        })
    }

    /// A thought of the model.
    pub fn reasoning(text: impl Into<String>, opaque: Option<Opaque>) -> Self {
        Self::Reasoning(Reasoning {
            text: text.into(),
            opaque,
            is_redacted: false,
            origin: Origin::Model,
        })
    }

    /// A call of the model.
    pub fn tool_call(id: impl Into<String>, name: impl Into<String>, arguments: Value) -> Self {
        Self::ToolCall(ToolCall::new(id, name, arguments))
    }

    /// The result of a call.
    pub fn tool_result(call: &ToolCall, parts: Vec<Part>, is_error: bool, origin: Origin) -> Self {
        Self::ToolResult(ToolResult {
            call_id: call.id.clone(),
            name: call.name.clone(),
            parts,
            is_error,
            origin,
            cache: None,
        })
    }

    /// Data under a name.
    pub fn data(name: impl Into<String>, value: Value, origin: Origin) -> Self {
        Self::Data(Data {
            name: name.into(),
            value,
            origin,
        })
    }

    /// A part kept as it came.
    pub fn unknown(provider: impl Into<String>, value: Value, origin: Origin) -> Self {
        Self::Unknown(Unknown {
            provider: provider.into(),
            value,
            origin,
        })
    }

    /// Who said it.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Text(part) => part.origin,
            Self::Media(part) => part.origin,
            Self::Reasoning(part) => part.origin,
            Self::ToolCall(part) => part.origin,
            Self::ToolResult(part) => part.origin,
            Self::Data(part) => part.origin,
            Self::Unknown(part) => part.origin,
        }
    }

    /// The words, where it is words.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(part) => Some(&part.text),
            _ => None,
        }
    }
}

impl ToolCall {
    /// A call with arguments that are JSON.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: Value) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            arguments,
            malformed: None,
            is_provider_executed: false,
            opaque: None,
            origin: Origin::Model,
        }
    }

    /// A call whose arguments came as text: empty and `null` are `{}`, what is not JSON is kept in `malformed`.
    pub fn from_text(id: impl Into<String>, name: impl Into<String>, arguments: &str) -> Self {
        let text = arguments.trim();
        if text.is_empty() || text == "null" {
            return Self::new(id, name, Value::Object(Map::new()));
        }
        match serde_json::from_str(text) {
            Ok(value) => Self::new(id, name, value),
            Err(_) => Self {
                malformed: Some(arguments.to_owned()),
                ..Self::new(id, name, Value::Object(Map::new()))
            },
        }
    }
}

impl ToolResult {
    /// What a model reads of the result: its text parts joined by line ends; where it has neither text nor media,
    /// its data as JSON. Data beside text is for the program and the screen, and is not sent.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self
            .parts
            .iter()
            .filter_map(Part::as_text)
            .map(str::to_owned)
            .collect();
        if lines.is_empty() && !self.parts.iter().any(|part| matches!(part, Part::Media(_))) {
            lines.extend(self.parts.iter().filter_map(|part| match part {
                Part::Data(part) => Some(part.value.to_string()),
                _ => None,
            }));
        }
        lines.join("\n")
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// An id of its own, where it has one: a later message of the same id replaces it in a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whose turn.
    pub role: Role,
    /// What was said, in order.
    pub parts: Parts,
    /// Who among several people, or which of several agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Anything the program wants to keep beside it; never sent to a vendor.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Message {
    /// A turn of these parts.
    pub fn new(role: Role, parts: impl Into<Vec<Part>>) -> Self {
        Self {
            id: None,
            role,
            parts: parts.into().into(),
            name: None,
            metadata: Map::new(),
        }
    }

    /// Instructions of the program.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, vec![Part::text(text, Origin::System)])
    }

    /// Words of the person.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, vec![Part::text(text, Origin::User)])
    }

    /// Words of the model.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, vec![Part::text(text, Origin::Model)])
    }

    /// Results of tool calls.
    pub fn tool(results: impl Into<Vec<Part>>) -> Self {
        Self::new(Role::Tool, results)
    }

    /// The same under an id.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// All words, reasoning and tool traffic left out.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(Part::as_text).collect()
    }

    /// The calls in it that we are to run (not those the vendor ran itself).
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) if !call.is_provider_executed => Some(call),
            _ => None,
        })
    }

    /// What the words rest on.
    pub fn citations(&self) -> impl Iterator<Item = &Citation> {
        self.parts.iter().flat_map(|part| match part {
            Part::Text(part) => part.citations.as_slice(),
            _ => &[],
        })
    }
}

impl From<&str> for Message {
    /// Words of the person.
    fn from(text: &str) -> Self {
        Self::user(text)
    }
}

mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{MediaSource, Message, Opaque, Origin, Part, Role, ToolCall};
    use bytes::Bytes;
    use serde_json::json;

    #[test]
    fn a_message_survives_json_with_every_kind_of_part() {
        let call = ToolCall::new("c1", "search", json!({ "z": 1, "a": [true, null] }));
        let message = Message::new(
            Role::Assistant,
            vec![
                Part::reasoning(
                    "hm",
                    Some(Opaque {
                        provider: "anthropic".into(),
                        model: "m".into(),
                        value: json!("c2ln="),
                    }),
                ),
                Part::text("Hello", Origin::Model),
                Part::media("image/png", MediaSource::Bytes(Bytes::from_static(&[0, 255, 1]))),
                Part::ToolCall(call.clone()),
                Part::tool_result(
                    &call,
                    vec![Part::text("data", Origin::Document)],
                    false,
                    Origin::Document,
                ),
                Part::data("chart", json!({ "y": 1 }), Origin::Tool),
                Part::unknown("acme", json!({ "kind": "new", "b": 1, "a": 2 }), Origin::Model),
            ],
        )
        .with_id("m1");
        let text = serde_json::to_string(&message).expect("serialises");
        assert!(
            text.contains(r#""b":1,"a":2"#),
            "unknown parts keep their key order"
        );
        assert_eq!(
            serde_json::from_str::<Message>(&text).expect("reads back"),
            message
        );
    }

    #[test]
    fn empty_and_null_arguments_are_an_empty_object_and_broken_ones_are_kept() {
        for text in ["", " ", "null"] {
            assert_eq!(ToolCall::from_text("1", "t", text).arguments, json!({}));
        }
        let cut = ToolCall::from_text("1", "t", r#"{"city":"Os"#);
        assert_eq!(
            (cut.arguments, cut.malformed.as_deref()),
            (json!({}), Some(r#"{"city":"Os"#))
        );
    }
}
