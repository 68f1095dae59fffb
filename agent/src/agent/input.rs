//! [`AgentInput`]: what an agent is given.

use serde_json::{Map, Value};
use stepwell_core::Message;

/// What an agent is given: words, a message, or a conversation so far.
#[derive(Clone, Debug, Default)]
pub struct AgentInput {
    pub(super) messages: Vec<Message>,
    /// What context policies kept in the run before; see [`crate::RunResult::into_input`].
    pub(super) memory: Map<String, Value>,
}

impl AgentInput {
    /// The conversation.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
}

impl From<Vec<Message>> for AgentInput {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            memory: Map::new(),
        }
    }
}
impl From<Message> for AgentInput {
    fn from(message: Message) -> Self {
        vec![message].into()
    }
}
impl From<&str> for AgentInput {
    fn from(text: &str) -> Self {
        Message::user(text).into()
    }
}
impl From<String> for AgentInput {
    fn from(text: String) -> Self {
        Message::user(text).into()
    }
}
impl From<&String> for AgentInput {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}
