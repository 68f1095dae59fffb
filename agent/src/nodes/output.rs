//! [`OutputShape`]: the shape an answer has to have, and what a model is told that missed it.

use crate::prompt::is_question;
use schemars::JsonSchema;
use serde_json::Value;
use std::{
    fmt::{self, Debug},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use stepwell_core::{
    ChatResponse, Error, Message, Origin, Part, ResponseFormat, Result, Role, Schema, SchemaFault,
};

/// Faults that a model is told at once.
const FAULTS: usize = 5;
/// Bytes of one of them.
const FAULT_BYTES: usize = 400;
/// Bytes of the complaint of a host's own check.
const COMPLAINT_BYTES: usize = 4 << 10;
/// Marks the message that tells a model what is wrong with its answer.
const MARK: &str = "output_fault";

type Check = Arc<dyn Fn(&Value) -> Result<(), String> + Send + Sync>;

/// The shape an answer has to have. An answer that misses it is answered with what is wrong, and the model asked again.
#[derive(Clone)]
pub struct OutputShape {
    format: ResponseFormat,
    check: Option<Check>,
    retries: u32,
}

impl OutputShape {
    /// A type's shape.
    pub fn of<T: JsonSchema>() -> Self {
        Self::new(ResponseFormat::of::<T>())
    }

    /// JSON of this schema.
    pub fn schema(schema: Schema) -> Self {
        Self::new(ResponseFormat::Schema {
            name: "answer".into(),
            schema,
        })
    }

    fn new(format: ResponseFormat) -> Self {
        Self {
            format,
            check: None,
            retries: 2,
        }
    }

    /// Also asks this about an answer that keeps to the schema. What it complains of is told to the model.
    pub fn validate(mut self, check: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// How often the model is asked again after a faulty answer; 2.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    pub(crate) fn format(&self) -> &ResponseFormat {
        &self.format
    }

    /// Whether another try is left, after so many complaints since the question.
    pub(crate) fn may_retry(&self, messages: &[Message]) -> bool {
        let complaints = messages
            .iter()
            .rev()
            .take_while(|message| !is_question(message))
            .filter(|message| message.metadata.contains_key(MARK))
            .count();
        complaints < self.retries as usize
    }

    /// The answer's JSON, or what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Host`] where the host's own check panics.
    pub(crate) fn read(&self, answer: &ChatResponse) -> Result<Result<Value, Fault>> {
        // From the words: a hook may have changed them after a vendor's layer read them.
        let value = match self.format.read(answer) {
            Ok(Some(value)) => value,
            Ok(None) => Value::String(answer.text()),
            Err(Error::SchemaMismatch { faults, .. }) => return Ok(Err(self.fault(answer, faults))),
            Err(error) => return Err(error),
        };
        let Some(check) = &self.check else {
            return Ok(Ok(value));
        };
        match catch_unwind(AssertUnwindSafe(|| check(&value))) {
            Ok(Ok(())) => Ok(Ok(value)),
            Ok(Err(complaint)) => Ok(Err(Fault {
                told: format!("it was not accepted: {}", shortened(&complaint, COMPLAINT_BYTES)),
                faults: vec![SchemaFault::whole("validate")],
            })),
            Err(_) => Err(Error::host("the check of the answer panicked")),
        }
    }

    fn fault(&self, answer: &ChatResponse, faults: Vec<SchemaFault>) -> Fault {
        let violations = match (&self.format, serde_json::from_str::<Value>(answer.text().trim())) {
            (ResponseFormat::Schema { schema, .. }, Ok(value)) => schema.read(value).err(),
            _ => None,
        };
        let told: Vec<String> = match violations {
            Some(found) => found
                .iter()
                .take(FAULTS)
                .map(|violation| shortened(&violation.to_string(), FAULT_BYTES))
                .collect(),
            None if faults.iter().any(|fault| fault.keyword == "json") => vec!["it is no JSON".into()],
            None => faults.iter().take(FAULTS).map(ToString::to_string).collect(),
        };
        Fault {
            told: format!("it does not keep to the schema: {}", told.join("; ")),
            faults,
        }
    }
}

impl Debug for OutputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputShape")
            .field("has_check", &self.check.is_some())
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// What is wrong with an answer.
#[derive(Debug)]
pub(crate) struct Fault {
    told: String,
    pub(crate) faults: Vec<SchemaFault>,
}

impl Fault {
    /// The message that asks for another answer.
    pub(crate) fn message(&self) -> Message {
        let told = format!(
            "The answer cannot be used: {}. Answer again, whole, in the shape that was asked for.",
            self.told
        );
        // The program says it, in the person's turn: system messages in between are not for every wire.
        let mut message = Message::new(Role::User, vec![Part::text(told, Origin::System)]);
        message.metadata.insert(MARK.into(), true.into());
        message
    }
}

fn shortened(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mark = if end < text.len() { "…" } else { "" };
    format!("{}{mark}", &text[..end])
}
