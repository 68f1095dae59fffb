//! [`Messages`]: a conversation as a channel, folded by message id.

use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
};
use stepwell_core::{Message, Origin, Part};

/// One change of a message list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MessageChange {
    /// Adds a message; one of the same id is replaced where it stands.
    Put(Box<Message>),
    /// Takes the message of this id away; an unknown id is an error.
    Remove(String),
    /// Takes away all that came before; what follows in the same update stays.
    RemoveAll,
}

impl From<Message> for MessageChange {
    fn from(message: Message) -> Self {
        Self::Put(Box::new(message))
    }
}

/// A list of messages. Adding one costs the same whatever the length; so does replacing one by its id.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    list: Vec<Message>,
    places: HashMap<Box<str>, usize>,
    origins: Vec<Origin>,
}

impl Messages {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; one of the same id is replaced where it stands.
    pub fn put(&mut self, message: Message) {
        self.note_origins(&message);
        if let Some(id) = &message.id {
            if let Some(&at) = self.places.get(id.as_str()) {
                self.list[at] = message;
                return;
            }
            self.places.insert(id.as_str().into(), self.list.len());
        }
        self.list.push(message);
    }

    /// The message of this id.
    pub fn by_id(&self, id: &str) -> Option<&Message> {
        self.places.get(id).map(|&at| &self.list[at])
    }

    /// Where the words came from that are, or ever were, in the list: what a policy asks about.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// The messages alone.
    pub fn into_vec(self) -> Vec<Message> {
        self.list
    }

    /// Whether all changes can be applied, in this order; the complaint where not.
    pub(crate) fn check(&self, changes: &[MessageChange]) -> Result<(), String> {
        if !changes
            .iter()
            .any(|change| matches!(change, MessageChange::Remove(_)))
        {
            return Ok(());
        }
        let mut added: HashSet<&str> = HashSet::new();
        let mut removed: HashSet<&str> = HashSet::new();
        let mut is_cleared = false;
        for change in changes {
            match change {
                MessageChange::Put(message) => {
                    if let Some(id) = &message.id {
                        added.insert(id);
                        removed.remove(id.as_str());
                    }
                }
                MessageChange::Remove(id) => {
                    let was_there = !is_cleared && self.places.contains_key(id.as_str());
                    let is_there = added.contains(id.as_str()) || was_there && !removed.contains(id.as_str());
                    if !is_there {
                        return Err(format!("there is no message `{id}` to remove"));
                    }
                    added.remove(id.as_str());
                    removed.insert(id);
                }
                MessageChange::RemoveAll => {
                    added.clear();
                    is_cleared = true;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn fold(&mut self, changes: Vec<MessageChange>) {
        for change in changes {
            match change {
                MessageChange::Put(message) => self.put(*message),
                MessageChange::Remove(id) => {
                    if let Some(at) = self.places.remove(id.as_str()) {
                        self.list.remove(at);
                        for place in self.places.values_mut().filter(|place| **place > at) {
                            *place -= 1;
                        }
                    }
                }
                MessageChange::RemoveAll => {
                    self.list.clear();
                    self.places.clear();
                }
            }
        }
    }

    /// Tells that the model reads words from there, though no message of the list has them.
    pub(crate) fn note_origin(&mut self, origin: Origin) {
        note(&mut self.origins, origin);
    }

    fn note_origins(&mut self, message: &Message) {
        for part in &message.parts {
            note(&mut self.origins, part.origin());
            if let Part::ToolResult(result) = part {
                for inner in &result.parts {
                    note(&mut self.origins, inner.origin());
                }
            }
        }
    }
}

fn note(origins: &mut Vec<Origin>, origin: Origin) {
    if !origins.contains(&origin) {
        origins.push(origin);
    }
}

impl Deref for Messages {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.list
    }
}

impl PartialEq for Messages {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl From<Vec<Message>> for Messages {
    fn from(list: Vec<Message>) -> Self {
        let mut messages = Self::default();
        for message in list {
            messages.put(message);
        }
        messages
    }
}

impl FromIterator<Message> for Messages {
    fn from_iter<I: IntoIterator<Item = Message>>(list: I) -> Self {
        list.into_iter().collect::<Vec<_>>().into()
    }
}

impl Serialize for Messages {
    fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.list.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::{MessageChange, Messages};
    use stepwell_core::{Message, Origin, Part};

    fn texts(messages: &Messages) -> Vec<String> {
        messages.iter().map(Message::text).collect()
    }

    /// Behaviour 45.
    #[test]
    fn the_same_id_replaces_in_place_and_a_removed_one_is_gone() {
        let mut messages: Messages = ["a", "b", "c"]
            .map(|id| Message::user(id).with_id(id))
            .into_iter()
            .collect();
        messages.fold(vec![Message::user("B").with_id("b").into()]);
        assert_eq!(texts(&messages), ["a", "B", "c"]);
        messages.fold(vec![
            MessageChange::Remove("a".into()),
            Message::user("C").with_id("c").into(),
        ]);
        assert_eq!(texts(&messages), ["B", "C"]);
        assert_eq!(messages.by_id("c").map(Message::text).as_deref(), Some("C"));
    }

    /// Behaviour 45.
    #[test]
    fn removing_an_unknown_id_is_refused_and_remove_all_keeps_what_follows() {
        let mut messages: Messages = [Message::user("a").with_id("a")].into_iter().collect();
        assert!(messages.check(&[MessageChange::Remove("x".into())]).is_err());
        let twice = [
            MessageChange::Remove("a".into()),
            MessageChange::Remove("a".into()),
        ];
        assert!(messages.check(&twice).is_err());
        let cleared = [MessageChange::RemoveAll, MessageChange::Remove("a".into())];
        assert!(messages.check(&cleared).is_err());
        let changes = vec![
            Message::user("b").into(),
            MessageChange::RemoveAll,
            Message::user("c").with_id("c").into(),
        ];
        messages.check(&changes).expect("nothing unknown");
        messages.fold(changes);
        assert_eq!(texts(&messages), ["c"]);
        assert!(messages.by_id("a").is_none());
    }

    #[test]
    fn origins_tell_what_was_ever_read_also_inside_tool_results() {
        let call = stepwell_core::ToolCall::new("1", "search", serde_json::json!({}));
        let found = Part::tool_result(
            &call,
            vec![Part::text("x", Origin::Document)],
            false,
            Origin::Tool,
        );
        let messages: Messages = [Message::user("q"), Message::tool(vec![found])]
            .into_iter()
            .collect();
        assert_eq!(messages.origins(), [Origin::User, Origin::Tool, Origin::Document]);
    }
}
