//! Structured answers: [`Structured`], the JSON of an answer; [`ChatAs`], the same as a Rust type; [`PartialAnswer`],
//! while it is being written.

use crate::{
    ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Part, PartialJson, ResponseFormat, Result,
    Schema, StreamEvent,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, future::Future, marker::PhantomData};

/// Places in the words of an answer at which JSON is looked for.
const LOOKS: usize = 64;
/// Faults that an error carries.
const FAULTS: usize = 5;

/// How a vendor is brought to answer in a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StructuredStrategy {
    /// The vendor keeps to the schema by itself.
    Native,
    /// The answer is the call of a tool whose arguments have the shape; the reader sees its arguments as text.
    FinalTool,
    /// The model is told the schema in its instructions. Words and fences around the JSON are left out.
    Prompted,
    /// The tools first; when the model has its answer, a second call writes it in the shape.
    TwoPhase,
}

impl StructuredStrategy {
    /// The same word as on the wire of events and in spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::FinalTool => "final_tool",
            Self::Prompted => "prompted",
            Self::TwoPhase => "two_phase",
        }
    }
}

/// The JSON of an answer that was asked for in a shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Structured {
    /// How it was brought about.
    pub strategy: StructuredStrategy,
    /// The answer, kept to the given schema, absent things absent; `None` where the answer broke the schema.
    pub value: Option<Value>,
}

impl Structured {
    /// An answer brought about so.
    pub fn new(strategy: StructuredStrategy, value: Option<Value>) -> Self {
        Self { strategy, value }
    }
}

/// One place where an answer does not keep to the schema. It never quotes the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SchemaFault {
    /// JSON pointer into the answer; a name that the schema does not know stands as `*`. Empty for the whole.
    pub path: String,
    /// The keyword that is broken; `json` where the answer is no JSON at all, `validate` where a program's own check
    /// refused it.
    pub keyword: String,
}

impl SchemaFault {
    /// A fault of the whole answer.
    pub fn whole(keyword: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            keyword: keyword.into(),
        }
    }
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "`{}` at {path}", self.keyword)
    }
}

impl ResponseFormat {
    /// JSON of this type, under the type's name.
    pub fn of<T: JsonSchema>() -> Self {
        Self::Schema {
            name: name_of::<T>(),
            schema: Schema::of::<T>(),
        }
    }

    /// The JSON that an answer's words hold, checked against what was asked for; `None` where words were asked for.
    /// Words and code fences around the JSON are passed over.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] with the answer and the first faults.
    pub fn read(&self, answer: &ChatResponse) -> Result<Option<Value>> {
        let any;
        let schema = match self {
            Self::Text => return Ok(None),
            Self::Json => {
                any = Schema::from_value(serde_json::json!({ "type": "object" }))?;
                &any
            }
            Self::Schema { schema, .. } => schema,
        };
        let mut faults = None;
        for value in candidates(answer) {
            match schema.read(value) {
                Ok(value) => return Ok(Some(value)),
                Err(found) => {
                    // The first is the whole text, or the first JSON in it: what the model most likely meant.
                    faults.get_or_insert(found);
                }
            }
        }
        let faults = match faults {
            Some(found) => found
                .into_iter()
                .take(FAULTS)
                .map(|violation| SchemaFault {
                    path: schema.shown(&violation.path),
                    keyword: violation.keyword,
                })
                .collect(),
            None => vec![SchemaFault::whole("json")],
        };
        Err(Error::SchemaMismatch {
            provider: answer.provider.clone(),
            faults,
            response: Box::new(answer.clone()),
        })
    }
}

/// The JSON values that an answer's words hold, the likeliest first.
fn candidates(answer: &ChatResponse) -> Vec<Value> {
    let whole = answer.text();
    let parts = answer.message.parts.iter().rev().filter_map(Part::as_text);
    // Several text parts may be one answer cut in pieces, or an answer behind words about it.
    for text in std::iter::once(whole.as_str()).chain(parts) {
        if let Ok(value) = serde_json::from_str(text.trim()) {
            return vec![value];
        }
    }
    let mut found = Vec::new();
    let mut at = 0;
    for _ in 0..LOOKS {
        let Some(place) = whole.get(at..).and_then(|rest| rest.find(['{', '['])) else {
            break;
        };
        at += place;
        let mut values = serde_json::Deserializer::from_str(&whole[at..]).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            at += values.byte_offset();
            found.push(value);
        } else {
            at += 1;
        }
    }
    // A map before a list of footnote numbers, the longest before a stray one.
    found.sort_by_key(|value| !value.is_object());
    found
}

/// An answer as a Rust type, with all that came beside it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TypedAnswer<T> {
    /// The answer.
    pub value: T,
    /// The whole answer: usage, cost, warnings, how it was brought about.
    pub response: ChatResponse,
}

/// Asks a model for a Rust type.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use stepwell_core::{ChatAs, ChatModel};
/// # use stepwell_core::{ChatRequest, ChatStream, ModelInfo, ChatResponse, Part, Origin, FinishReason, whole};
/// # #[derive(Debug)] struct Model(ModelInfo);
/// # #[async_trait::async_trait] impl ChatModel for Model {
/// #     fn info(&self) -> &ModelInfo { &self.0 }
/// #     async fn stream(&self, _: ChatRequest) -> stepwell_core::Result<ChatStream> {
/// #         let part = Part::text(r#"{"city":"Oslo","days":null}"#, Origin::Model);
/// #         let answer = ChatResponse::new("acme", "m", vec![part], FinishReason::Stop);
/// #         Ok(Box::pin(futures::stream::iter(whole(answer).into_iter().map(Ok))))
/// #     }
/// # }
/// # let model = Model(ModelInfo::new("acme", "m"));
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Trip {
///     city: String,
///     #[serde(default)]
///     days: u8, // a null of the vendor's means that it is absent
/// }
/// let answer = model.chat_as::<Trip>("Where to?").await?;
/// assert_eq!((answer.value.city.as_str(), answer.value.days), ("Oslo", 0));
/// # Ok::<(), stepwell_core::Error>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ChatAs: ChatModel {
    /// Asks for an answer in the shape the request asks for, as JSON; without one it is the text.
    ///
    /// # Errors
    /// As [`ChatAs::chat_as`].
    fn chat_value(
        &self,
        request: impl Into<ChatRequest> + Send,
    ) -> impl Future<Output = Result<TypedAnswer<Value>>> + Send;

    /// Asks for an answer of this type, in place of the shape the request asks for.
    ///
    /// # Errors
    /// What the model fails with; [`Error::SchemaMismatch`] when the answer is none of this type. A refusal, and an
    /// answer that calls tools, are such too: they are attached.
    fn chat_as<T>(
        &self,
        request: impl Into<ChatRequest> + Send,
    ) -> impl Future<Output = Result<TypedAnswer<T>>> + Send
    where
        T: DeserializeOwned + JsonSchema + Send;
}

impl<M: ChatModel + ?Sized> ChatAs for M {
    async fn chat_value(&self, request: impl Into<ChatRequest> + Send) -> Result<TypedAnswer<Value>> {
        let request: ChatRequest = request.into();
        let format = request.response_format.clone();
        let response = self.chat(request).await?;
        let known = response.structured.as_ref().and_then(|known| known.value.clone());
        let value = match known {
            Some(value) => value,
            // Models that are no vendor's do not say it.
            None => format.read(&response)?.unwrap_or_else(|| response.text().into()),
        };
        Ok(TypedAnswer { value, response })
    }

    async fn chat_as<T>(&self, request: impl Into<ChatRequest> + Send) -> Result<TypedAnswer<T>>
    where
        T: DeserializeOwned + JsonSchema + Send,
    {
        let mut request: ChatRequest = request.into();
        if !matches!(request.response_format, ResponseFormat::Schema { .. }) {
            request.response_format = ResponseFormat::of::<T>();
        }
        let response = self.chat(request).await?;
        let value = response.parse::<T>()?;
        Ok(TypedAnswer { value, response })
    }
}

/// A type's name, as vendors take it.
fn name_of<T: JsonSchema>() -> String {
    let name: String = T::schema_name()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '_'
            }
        })
        .take(64)
        .collect();
    if name.is_empty() {
        "answer".to_owned()
    } else {
        name
    }
}

impl ChatResponse {
    /// The answer as a Rust type, a null taken for absent where the type has no null there.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] when it is none of this type.
    pub fn parse<T: DeserializeOwned + JsonSchema>(&self) -> Result<T> {
        let schema = Schema::of::<T>();
        let known = self.structured.as_ref().and_then(|known| known.value.clone());
        let value = match known.and_then(|value| schema.read(value).ok()) {
            Some(value) => value,
            None => ResponseFormat::Schema {
                name: name_of::<T>(),
                schema,
            }
            .read(self)?
            .unwrap_or_default(),
        };
        serde_json::from_value(value).map_err(|_| Error::SchemaMismatch {
            provider: self.provider.clone(),
            faults: vec![SchemaFault::whole("type")],
            response: Box::new(self.clone()),
        })
    }

    /// Whether this is an answer whose shape can be asked about: not a call, not a refusal, not cut by a filter.
    pub fn is_final_answer(&self) -> bool {
        self.refusal.is_none()
            && matches!(self.finish_reason, FinishReason::Stop | FinishReason::Length)
            && self.message.tool_calls().next().is_none()
    }
}

/// A structured answer as a Rust type while it is being written: give it the events of a stream as they come.
///
/// ```
/// use stepwell_core::{PartialAnswer, StreamEvent};
/// #[derive(serde::Deserialize)]
/// #[serde(default)]
/// #[derive(Default)]
/// struct Trip { city: String, days: Vec<u8> }
/// let mut partial = PartialAnswer::<Trip>::new();
/// let mut seen = Vec::new();
/// for piece in [r#"{"city":"Os"#, r#"lo","days":[1"#, r#",2]}"#] {
///     let event = StreamEvent::TextDelta { index: 0, text: piece.into() };
///     seen.extend(partial.push(&event).map(|trip| (trip.city, trip.days.len())));
/// }
/// assert_eq!(seen, [("Os".to_owned(), 0), ("Oslo".to_owned(), 1), ("Oslo".to_owned(), 2)]);
/// ```
#[derive(Clone, Debug)]
pub struct PartialAnswer<T> {
    json: PartialJson,
    shape: PhantomData<fn() -> T>,
}

impl<T> Default for PartialAnswer<T> {
    fn default() -> Self {
        Self {
            json: PartialJson::new(),
            shape: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> PartialAnswer<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an event in. The answer so far where the event brought more of it and what is there fits the type: let
    /// fields have defaults that may come late. Every such value costs a reading of all that is there.
    pub fn push(&mut self, event: &StreamEvent) -> Option<T> {
        let StreamEvent::TextDelta { text, .. } = event else {
            return None;
        };
        // What is no JSON is told at the end, by the check of the whole.
        self.json.push(text).ok()?;
        T::deserialize(self.json.value()?).ok()
    }

    /// What is there so far, as JSON.
    pub fn value(&self) -> Option<&Value> {
        self.json.value()
    }
}

#[cfg(test)]
mod tests {
    use crate::{ChatResponse, Error, FinishReason, Origin, Part, ResponseFormat, Schema};
    use serde_json::{Value, json};

    fn answer(texts: &[&str]) -> ChatResponse {
        let parts = texts
            .iter()
            .map(|text| Part::text(*text, Origin::Model))
            .collect();
        ChatResponse::new("acme", "m", parts, FinishReason::Stop)
    }

    fn format(schema: Value) -> ResponseFormat {
        ResponseFormat::Schema {
            name: "a".into(),
            schema: Schema::from_value(schema).expect("a schema"),
        }
    }

    #[test]
    fn json_is_found_whole_in_pieces_behind_words_and_in_fences() {
        let format = format(
            json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "integer" } } }),
        );
        for texts in [
            &[r#" {"a":1} "#][..],
            &[r#"{"a""#, ":1}"],
            &["I looked it up.", r#"{"a":1}"#],
            &["Here {it} is [1]:\n```json\n{\"a\":1}\n```\nAnything else?"],
            &["{\"b\":2} is wrong, {\"a\":1} right"],
        ] {
            let read = format.read(&answer(texts)).expect("found");
            assert_eq!(read, Some(json!({ "a": 1 })), "{texts:?}");
        }
    }

    #[test]
    fn a_mismatch_names_places_and_keywords_and_never_a_value() {
        let format = format(json!({ "type": "object", "properties": {
            "list": { "type": "array", "items": { "type": "object", "properties": { "n": { "type": "integer", "maximum": 3 } } } },
            "map": { "type": "object", "additionalProperties": { "type": "string" } }
        } }));
        let text = r#"{"list":[{"n":1},{"n":777}],"map":{"canary-key":5}}"#;
        let error = format.read(&answer(&[text])).expect_err("two faults");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("777"), "{shown}");
        assert!(
            shown.contains("`maximum` at /list/1/n") && shown.contains("`type` at /map/*"),
            "{shown}"
        );
        assert_eq!((error.code(), error.is_retryable()), ("schema_mismatch", false));
        assert_eq!(error.partial().map(ChatResponse::text).as_deref(), Some(text));
        let error = format.read(&answer(&["canary words"])).expect_err("no JSON");
        assert!(matches!(&error, Error::SchemaMismatch { faults, .. } if faults[0].keyword == "json"));
        assert!(ResponseFormat::Json.read(&answer(&["[1]"])).is_err());
        assert_eq!(ResponseFormat::Text.read(&answer(&["x"])).expect("words"), None);
    }
}
