//! [`Messages`]: a conversation as a channel, folded by message id.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::Deref,
};
use stepwell_core::{Message, Origin, Part, Role};

/// One change of a message list. As JSON it is the message itself, `{"remove": id}` or `"remove_all"`.
#[derive(Clone, Debug, PartialEq)]
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

/// The changes that are no message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Removal<'a> {
    Remove(Cow<'a, str>),
    RemoveAll,
}

impl Serialize for MessageChange {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        match self {
            Self::Put(message) => message.serialize(serializer),
            Self::Remove(id) => Removal::Remove(id.as_str().into()).serialize(serializer),
            Self::RemoveAll => Removal::RemoveAll.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MessageChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let change = if value.get("role").is_some() {
            Message::deserialize(value).map(Self::from)
        } else {
            Removal::deserialize(value).map(|removal| match removal {
                Removal::Remove(id) => Self::Remove(id.into_owned()),
                Removal::RemoveAll => Self::RemoveAll,
            })
        };
        change.map_err(|_| {
            // The words of serde would quote the message.
            D::Error::custom("it is no message, no `{\"remove\": id}` and not `\"remove_all\"`")
        })
    }
}

/// A list of messages. Adding one costs the same whatever the length; so does replacing one by its id, and taking away
/// the oldest or the newest ones. Taking some from the middle moves the messages on the shorter side of them, once per
/// update: the list is always one slice.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// Blanks up to `head`, then the messages.
    list: Vec<Message>,
    /// The number of each message: they only rise, so that a message is found by it however far it was moved.
    numbers: Vec<u64>,
    head: usize,
    next_number: u64,
    by_id: HashMap<Box<str>, u64>,
    origins: Vec<Origin>,
}

impl Messages {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; one of the same id is replaced where it stands.
    pub fn put(&mut self, message: Message) {
        note_all(&mut self.origins, &message);
        if let Some(id) = &message.id {
            if let Some(at) = self.place(id) {
                self.list[at] = message;
                return;
            }
            self.by_id.insert(id.as_str().into(), self.next_number);
        }
        self.list.push(message);
        self.numbers.push(self.next_number);
        self.next_number += 1;
    }

    /// The message of this id.
    pub fn by_id(&self, id: &str) -> Option<&Message> {
        self.place(id).map(|at| &self.list[at])
    }

    fn place(&self, id: &str) -> Option<usize> {
        let at = self.numbers[self.head..].binary_search(self.by_id.get(id)?);
        at.ok().map(|at| self.head + at)
    }

    /// Where the words came from that are, or ever were, in the list: what a policy asks about.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// The origins that the messages do not tell any more; they are saved beside them.
    pub(crate) fn lost_origins(&self) -> Vec<Origin> {
        let mut told = Vec::new();
        for message in &**self {
            note_all(&mut told, message);
        }
        let lost = self.origins.iter().filter(|origin| !told.contains(origin));
        lost.copied().collect()
    }

    pub(crate) fn add_origins(&mut self, origins: &[Origin]) {
        for origin in origins {
            note(&mut self.origins, *origin);
        }
    }

    /// The messages alone.
    pub fn into_vec(mut self) -> Vec<Message> {
        self.list.drain(..self.head);
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
                    let was_there = !is_cleared && self.by_id.contains_key(id.as_str());
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
        let mut gaps = Vec::new();
        for change in changes {
            match change {
                MessageChange::Put(message) => self.put(*message),
                MessageChange::Remove(id) => {
                    if let Some(at) = self.place(&id) {
                        self.by_id.remove(id.as_str());
                        self.list[at] = blank();
                        gaps.push(at);
                    }
                }
                MessageChange::RemoveAll => {
                    self.list.clear();
                    self.numbers.clear();
                    self.head = 0;
                    self.by_id.clear();
                    gaps.clear();
                }
            }
        }
        gaps.sort_unstable();
        self.close(&gaps);
    }

    /// Closes the gaps, which are in order, by moving the messages before or behind them, whichever are fewer.
    fn close(&mut self, gaps: &[usize]) {
        let (Some(&first), Some(&last)) = (gaps.first(), gaps.last()) else {
            return;
        };
        let mut is_gap = vec![false; last - first + 1];
        for at in gaps {
            is_gap[at - first] = true;
        }
        let is_gap = |at: usize| at.checked_sub(first).and_then(|at| is_gap.get(at)) == Some(&true);
        if last - self.head < self.list.len() - first {
            let mut to = last;
            for from in (self.head..=last).rev().filter(|at| !is_gap(*at)) {
                self.swap(from, to);
                to -= 1; // a gap stands before it, so there is room
            }
            self.head += gaps.len();
            if self.head * 2 > self.list.len() {
                // As many were taken away since the last time as are moved now.
                self.list.drain(..self.head);
                self.numbers.drain(..self.head);
                self.head = 0;
            }
        } else {
            let mut to = first;
            for from in (first..self.list.len()).filter(|at| !is_gap(*at)) {
                self.swap(from, to);
                to += 1;
            }
            self.list.truncate(to);
            self.numbers.truncate(to);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.list.swap(a, b);
        self.numbers.swap(a, b);
    }

    /// Tells that the model reads words from there, though no message of the list has them.
    pub(crate) fn note_origin(&mut self, origin: Origin) {
        note(&mut self.origins, origin);
    }
}

/// What stands where a message was taken away, until the gap is closed.
fn blank() -> Message {
    Message::new(Role::User, Vec::new())
}

fn note_all(origins: &mut Vec<Origin>, message: &Message) {
    for part in &message.parts {
        note(origins, part.origin());
        if let Part::ToolResult(result) = part {
            for inner in &result.parts {
                note(origins, inner.origin());
            }
        }
    }
}

/// The key beside that of a list of messages, under which the origins are saved that the list does not tell any more.
pub(crate) fn origins_key(key: &str) -> String {
    format!("{key}$origins")
}

fn note(origins: &mut Vec<Origin>, origin: Origin) {
    if !origins.contains(&origin) {
        origins.push(origin);
    }
}

impl Deref for Messages {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.list[self.head..]
    }
}

impl PartialEq for Messages {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
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
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

    #[test]
    fn origins_outlive_removed_messages_through_a_saved_state_of_either_kind() {
        use crate::{Channels, ChannelsUpdate, HasMessages, Reducer, State};
        use serde_json::json;
        let blank = Channels::new().slot("messages", Reducer::Messages);
        let mut state = blank.clone();
        let page = Message::new(
            stepwell_core::Role::User,
            vec![Part::text("a page", Origin::Document)],
        );
        let told = [Message::user("q").with_id("q"), page.with_id("page")];
        state.apply(Channels::add_messages(told.to_vec())).expect("fits");
        assert!(
            state.save().expect("plain")["messages$origins"].is_null(),
            "the list tells them"
        );
        let removal = ChannelsUpdate::new().set("messages", json!([{ "remove": "page" }]));
        state.apply(removal).expect("it is there");
        let saved = state.save().expect("plain");
        assert_eq!(saved["messages$origins"], json!(["document"]));
        let back = blank.restore(saved.clone()).expect("reads back");
        assert!(back.messages().origins().contains(&Origin::Document));
        assert_eq!(back.save().expect("plain"), saved);
        let typed = crate::AgentState::default().restore(saved).expect("one format");
        assert!(typed.messages.origins().contains(&Origin::Document));
    }
}
