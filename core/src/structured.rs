//! Structured answers: [`Structured`], the JSON of an answer; [`ChatAs`], the same as a Rust type; [`PartialAnswer`],
//! while it is being written.

use crate::{
    Attempt, ChatModel, ChatRequest, ChatResponse, Error, FinishReason, Message, Part, PartialJson,
    ResponseFormat, Result, Schema, StreamEvent,
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
        let mut faults: Option<Vec<SchemaFault>> = None;
        for mut value in candidates(answer) {
            let Err(found) = schema.read_in_place(&mut value) else {
                return Ok(Some(value));
            };
            // Of the first alone: what the model most likely meant.
            faults.get_or_insert_with(|| {
                let told = found.into_iter().take(FAULTS);
                told.map(|violation| SchemaFault {
                    path: schema.shown(&violation.path, &value),
                    keyword: violation.keyword,
                })
                .collect()
            });
        }
        let faults = faults.unwrap_or_else(|| vec![SchemaFault::whole("json")]);
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
    if let Ok(value) = serde_json::from_str(whole.trim()) {
        return vec![value];
    }
    // Several text parts may be one answer cut in pieces, or an answer behind words about it.
    let parts = answer.message.parts.iter().rev().filter_map(Part::as_text);
    let mut found: Vec<Value> = parts
        .filter_map(|text| serde_json::from_str(text.trim()).ok())
        .collect();
    let mut at = 0;
    for _ in 0..LOOKS {
        let Some(place) = whole.get(at..).and_then(|rest| rest.find(['{', '['])) else {
            break;
        };
        at += place;
        let mut values = serde_json::Deserializer::from_str(&whole[at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                at += values.byte_offset();
                found.push(value);
            }
            // What stands inside JSON that is cut or broken is no answer.
            Some(Err(error)) if !error.is_eof() => at = broken_at(&whole, at, &error),
            _ => break,
        }
    }
    // A map before a list: lists in prose are mostly footnotes.
    found.sort_by_key(|value| !value.is_object());
    found
}

/// Where JSON that begins at a place stops being any.
fn broken_at(text: &str, begins: usize, error: &serde_json::Error) -> usize {
    let line: usize = text[begins..]
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = begins + line + error.column().saturating_sub(1);
    text.floor_char_boundary(at.max(begins + 1))
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

    /// Asks for an answer of this type. A schema that the request brings is sent in place of the type's own; the answer
    /// has to be of the type all the same.
    ///
    /// # Errors
    /// What the model fails with; [`Error::SchemaMismatch`] when the answer is none of this type. A refusal, and an
    /// answer that calls tools, are such too: they are attached.
    fn chat_as<T>(
        &self,
        request: impl Into<ChatRequest> + Send,
    ) -> impl Future<Output = Result<TypedAnswer<T>>> + Send
    where
        T: DeserializeOwned + JsonSchema + Send,
    {
        self.chat_as_mended(request, 0)
    }

    /// The same; an answer of another shape is asked for again, at most so many times, with what was wrong with it. Each
    /// time costs a whole call. The answers that were wrong stand in `attempts`, with what they took, also where none
    /// is right in the end.
    ///
    /// # Errors
    /// As [`ChatAs::chat_as`]. A refusal, a call of a tool and an answer that was cut for its length are not asked for
    /// again.
    fn chat_as_mended<T>(
        &self,
        request: impl Into<ChatRequest> + Send,
        mends: u32,
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

    async fn chat_as_mended<T>(
        &self,
        request: impl Into<ChatRequest> + Send,
        mends: u32,
    ) -> Result<TypedAnswer<T>>
    where
        T: DeserializeOwned + JsonSchema + Send,
    {
        let mut request: ChatRequest = request.into();
        if !matches!(request.response_format, ResponseFormat::Schema { .. }) {
            request.response_format = ResponseFormat::of::<T>();
        }
        let mut earlier: Vec<Attempt> = Vec::new();
        let mut left = mends;
        loop {
            let asked = if left > 0 {
                request.clone()
            } else {
                std::mem::take(&mut request)
            };
            let error = match self.chat(asked).await {
                Ok(mut response) => match response.parse::<T>() {
                    Ok(value) => {
                        response.attempts.splice(0..0, earlier);
                        return Ok(TypedAnswer { value, response });
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match error {
                Error::SchemaMismatch {
                    provider,
                    faults,
                    response,
                } if left > 0 && can_be_mended(&response) => {
                    left -= 1;
                    request.messages.push(response.message.clone());
                    request.messages.push(Message::user(again(&faults)));
                    earlier.extend(response.attempts.iter().cloned());
                    let (cost, error) = (
                        response.cost,
                        Error::SchemaMismatch {
                            provider,
                            faults,
                            response,
                        },
                    );
                    let mut attempt = Attempt::failed(self.info(), &error);
                    attempt.cost = cost.or(attempt.cost);
                    earlier.push(attempt);
                }
                mut error => {
                    if let Error::SchemaMismatch { response, .. } = &mut error {
                        response.attempts.splice(0..0, earlier);
                    } else if let Some(failure) = error.vendor_failure_mut() {
                        failure.attempts.splice(0..0, earlier);
                    }
                    return Err(error);
                }
            }
        }
    }
}

/// Whether asking again may help: the answer was whole, and meant to be one.
fn can_be_mended(answer: &ChatResponse) -> bool {
    answer.is_final_answer() && answer.finish_reason == FinishReason::Stop
}

/// What the model is told of an answer of another shape; it never quotes the answer.
fn again(faults: &[SchemaFault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    format!(
        "That answer does not keep to the JSON Schema: {}. Write the whole answer again, as JSON that keeps to it.",
        faults.join(", ")
    )
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
    fn what_stands_inside_a_cut_or_broken_answer_is_not_taken_for_the_answer() {
        let format = format(json!({ "type": "object", "properties": { "x": { "type": "integer" } } }));
        for text in [
            r#"{"items":[{"x":1},{"x":2},{"x":"#,
            r#"[{"x":1},{"x":2}"#,
            r#"So: {"items":[{"x":1}], oops}"#,
        ] {
            assert!(format.read(&answer(&[text])).is_err(), "{text}");
        }
        for (texts, x) in [
            (&[r#"{"items":[{"x":1}], oops} Again: {"x":2}"#][..], 2),
            (&[r#"It is {"x":3}."#, "1"], 3),
            (&["1", r#"It is {"x":4}."#], 4),
        ] {
            let read = format.read(&answer(texts)).expect("found");
            assert_eq!(read, Some(json!({ "x": x })), "{texts:?}");
        }
    }

    #[test]
    fn a_name_made_of_digits_is_a_name_of_the_answers_own() {
        let numbers = json!({ "type": "object", "additionalProperties": { "type": "array", "items": { "type": "string" } } });
        let error = format(numbers)
            .read(&answer(&[r#"{"4111111111111111":["a",1]}"#]))
            .expect_err("no word");
        assert!(error.to_string().contains("`type` at /*/1"), "{error}");
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
