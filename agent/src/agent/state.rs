//! [`AgentState`]: what flows through an agent's graph.

use crate::{
    __private::{restore_origins, save_origins},
    HasMessages, Kept, MessageChange, Messages, Passages, Prompt, State, Update, Write, WriteKind,
    reduce::{ById, Last, Reduce},
    state::{Channel, invalid_update},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use stepwell_core::{Error, Message, Origin, Result};

/// The slots, in order.
const SLOTS: [(&str, &str); 5] = [
    ("messages", <ById as Reduce<Messages>>::NAME),
    ("instructions", LAST),
    ("passages", LAST),
    ("memory", LAST),
    ("output", LAST),
];
const LAST: &str = <Last as Reduce<Value>>::NAME;

/// What flows through an agent's graph: the conversation, and what belongs to this run beside it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AgentState {
    /// The conversation, whole, instructions left out.
    pub messages: Messages,
    /// The instructions of this run, where they were made from a template.
    pub instructions: Option<String>,
    /// What was found for the question.
    pub passages: Option<Passages>,
    /// What context policies keep from turn to turn, by policy: summaries, and where they cut.
    pub memory: Map<String, Value>,
    /// The answer in the shape that was asked for, checked.
    pub output: Option<Value>,
}

/// A change of [`AgentState`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<Write<Messages, Vec<MessageChange>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instructions: Option<Write<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passages: Option<Write<Passages, Passages>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<Write<Map<String, Value>, Map<String, Value>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<Write<Value, Value>>,
}

impl AgentUpdate {
    /// Sets what was found for the question.
    pub(crate) fn passages(passages: Passages) -> Self {
        Self {
            passages: Some(Write::Fold(passages)),
            ..Self::default()
        }
    }
}

/// The value of a slot without a reducer, however it was written.
fn last<T>(write: Write<T, T>) -> T {
    match write {
        Write::Fold(value) | Write::Overwrite(value) => value,
    }
}

fn discard<T, U>(slot: &mut Option<Write<T, U>>) {
    if matches!(slot, Some(Write::Fold(_))) {
        *slot = None;
    }
}

impl Update for AgentUpdate {
    fn visit<'a>(&'a self, found: &mut dyn FnMut(&'a str, WriteKind)) {
        let kinds = [
            self.messages.as_ref().map(Write::kind),
            self.instructions.as_ref().map(Write::kind),
            self.passages.as_ref().map(Write::kind),
            self.memory.as_ref().map(Write::kind),
            self.output.as_ref().map(Write::kind),
        ];
        for ((key, _), kind) in SLOTS.iter().zip(kinds) {
            if let Some(kind) = kind {
                found(key, kind);
            }
        }
    }

    fn discard_fold(&mut self, key: &str) {
        match key {
            "messages" => discard(&mut self.messages),
            "instructions" => discard(&mut self.instructions),
            "passages" => discard(&mut self.passages),
            "memory" => discard(&mut self.memory),
            "output" => discard(&mut self.output),
            _ => {}
        }
    }
}

impl AgentState {
    /// A policy is asked with the passages in mind: the model reads them, though no message holds them.
    fn note_passages(&mut self) {
        if self.passages.is_some() {
            self.messages.note_origin(Origin::Document);
        }
    }
}

impl State for AgentState {
    type Update = AgentUpdate;

    fn channels(&self) -> Vec<Channel> {
        SLOTS
            .iter()
            .map(|(key, reducer)| Channel::new(*key, *reducer))
            .collect()
    }

    fn is_reduced(&self, key: &str) -> Option<bool> {
        SLOTS
            .iter()
            .any(|(slot, _)| *slot == key)
            .then_some(key == "messages")
    }

    fn apply(&mut self, update: AgentUpdate) -> Result<()> {
        match update.messages {
            None => {}
            Some(Write::Overwrite(messages)) => self.messages = messages,
            Some(Write::Fold(changes)) => {
                self.messages
                    .check(&changes)
                    .map_err(|complaint| invalid_update("messages", complaint))?;
                self.messages.fold(changes);
            }
        }
        if let Some(write) = update.instructions {
            self.instructions = Some(last(write));
        }
        if let Some(write) = update.passages {
            self.passages = Some(last(write));
        }
        if let Some(write) = update.memory {
            self.memory = last(write);
        }
        if let Some(write) = update.output {
            self.output = Some(last(write));
        }
        self.note_passages();
        Ok(())
    }

    fn save(&self) -> Result<Value> {
        fn put<T: Serialize>(saved: &mut Map<String, Value>, key: &str, value: &T) -> Result<()> {
            let value = serde_json::to_value(value)
                .map_err(|_| invalid_update(key, "it cannot be written as JSON"))?;
            saved.insert(key.to_owned(), value);
            Ok(())
        }
        let mut saved = Map::new();
        save_origins(&mut saved, "messages", &self.messages)?;
        put(&mut saved, "messages", &self.messages)?;
        if let Some(instructions) = &self.instructions {
            put(&mut saved, "instructions", instructions)?;
        }
        if let Some(passages) = &self.passages {
            put(&mut saved, "passages", passages)?;
        }
        if !self.memory.is_empty() {
            put(&mut saved, "memory", &self.memory)?;
        }
        if let Some(output) = &self.output {
            put(&mut saved, "output", output)?;
        }
        Ok(Value::Object(saved))
    }

    fn restore(&self, saved: Value) -> Result<Self> {
        fn take<T: DeserializeOwned>(saved: &mut Map<String, Value>, key: &str) -> Result<Option<T>> {
            saved
                .remove(key)
                .map(|value| serde_json::from_value(value).map_err(|error| damaged(error.to_string())))
                .transpose()
        }
        let Value::Object(mut saved) = saved else {
            return Err(damaged("it is no object".into()));
        };
        let mut restored = Self {
            messages: take(&mut saved, "messages")?.unwrap_or_default(),
            instructions: take(&mut saved, "instructions")?,
            passages: take(&mut saved, "passages")?,
            memory: take(&mut saved, "memory")?.unwrap_or_default(),
            output: saved.remove("output"), // as it is: a null is an answer too
        };
        restore_origins(&mut saved, "messages", &mut restored.messages)?;
        restored.note_passages();
        Ok(restored)
    }
}

fn damaged(message: String) -> Error {
    Error::Damaged {
        what: "the saved conversation".into(),
        message,
        hint: "restore the store from a backup".into(),
    }
}

impl HasMessages for AgentState {
    fn messages(&self) -> &Messages {
        &self.messages
    }

    fn add_messages(messages: Vec<Message>) -> AgentUpdate {
        AgentUpdate {
            messages: Some(Write::Fold(messages.into_iter().map(Into::into).collect())),
            ..AgentUpdate::default()
        }
    }

    fn prompt(&self) -> Prompt<'_> {
        Prompt {
            instructions: self.instructions.as_deref(),
            passages: self.passages.as_ref(),
            memory: Some(&self.memory),
        }
    }

    fn keep(kept: Kept) -> AgentUpdate {
        AgentUpdate {
            memory: kept.memory.map(Write::Fold),
            output: kept.output.map(Write::Fold),
            ..AgentUpdate::default()
        }
    }
}
