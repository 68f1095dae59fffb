//! [`Channels`]: the dynamic state. JSON slots with the same reducers as a typed one, for graphs whose keys are known
//! at run time only.

mod slot;
mod update;

pub use slot::{JsonReducer, Reducer, Slot};
pub use update::ChannelsUpdate;

use crate::{
    __private::{restore_origins, save_origins},
    Channel, HasMessages, Messages, State,
    state::invalid_update,
};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value};
use slot::{Content, Ready};
use std::sync::{Arc, LazyLock};
use stepwell_core::{Error, Message, Result};

/// A slot and what it holds.
#[derive(Clone, Debug)]
struct Held {
    slot: Slot,
    content: Content,
}

/// A state of JSON slots, declared one by one.
///
/// ```
/// # use stepwell_agent::{Channels, ChannelsUpdate, Reducer, State};
/// let mut state = Channels::new()
///     .slot("log", Reducer::Append)
///     .slot("answer", Reducer::Last)
///     .slot("found", Reducer::Append.ephemeral()); // seen by the next step only
/// state.apply(ChannelsUpdate::new().set("log", ["a"]).set("answer", 42)).unwrap();
/// state.apply(ChannelsUpdate::new().set("log", ["b"])).unwrap();
/// assert_eq!(state.get("log").unwrap(), serde_json::json!(["a", "b"]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Channels {
    slots: IndexMap<Arc<str>, Held>,
}

impl Channels {
    /// No slots yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a slot: a [`Reducer`], or one with `.ephemeral()` or `.untracked()` behind it. One of a list, object or
    /// sum kind begins empty or at 0; a `Last` or custom one has no value until it is written.
    pub fn slot(mut self, key: impl Into<Arc<str>>, slot: impl Into<Slot>) -> Self {
        let slot = slot.into();
        let content = Content::blank(&slot.reducer);
        self.slots.insert(key.into(), Held { slot, content });
        self
    }

    /// The slots that any state tells of itself: what was saved of a typed state, and its updates, can be read with them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the keys with a reducer that only the program has (a custom one) or that is not
    /// known, [`Error::InvalidInput`] for a key that is there twice.
    pub fn from_channels(channels: &[Channel]) -> Result<Self> {
        let mut state = Self::new();
        let mut unknown = Vec::new();
        for channel in channels {
            let Some(reducer) = Reducer::by_name(&channel.reducer) else {
                unknown.push(format!(
                    "`{}` with the reducer `{}`",
                    channel.key, channel.reducer
                ));
                continue;
            };
            if state.slots.contains_key(&*channel.key) {
                return Err(Error::invalid(
                    "channels",
                    format!("two have the key `{}`", channel.key),
                ));
            }
            let slot = Slot {
                reducer,
                is_ephemeral: channel.is_ephemeral,
                is_untracked: channel.is_untracked,
            };
            state = state.slot(&*channel.key, slot);
        }
        if unknown.is_empty() {
            return Ok(state);
        }
        Err(Error::Unsupported {
            who: "a state built from a list of channels".into(),
            what: unknown.join(", "),
            hint: "declare such a key with `.slot(key, Reducer::Custom(name, function))`".into(),
        })
    }

    /// The value of a slot, copied: for large ones see [`Channels::json`] and [`Channels::messages_of`].
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such slot, or nothing was written into it yet.
    pub fn get(&self, key: &str) -> Result<Value> {
        match &self.find(key)?.content {
            Content::Empty => Err(empty(key)),
            Content::Json(value) => Ok(value.clone()),
            Content::Set { items, .. } => Ok(Value::Array(items.clone())),
            Content::Messages(messages) => to_value(key, messages),
        }
    }

    /// The value of a slot that is neither a set nor messages.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such slot, or nothing was written into it yet.
    pub fn json(&self, key: &str) -> Result<&Value> {
        match &self.find(key)?.content {
            Content::Json(value) => Ok(value),
            _ => Err(empty(key)),
        }
    }

    /// The messages of a slot.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such slot of messages.
    pub fn messages_of(&self, key: &str) -> Result<&Messages> {
        match &self.find(key)?.content {
            Content::Messages(messages) => Ok(messages),
            _ => Err(empty(key)),
        }
    }

    fn find(&self, key: &str) -> Result<&Held> {
        self.slots.get(key).ok_or_else(|| Error::NotFound {
            what: "key".into(),
            name: key.to_owned(),
            hint: "declare it with `.slot(key, reducer)`".into(),
        })
    }
}

fn empty(key: &str) -> Error {
    Error::NotFound {
        what: "value under the key".into(),
        name: key.to_owned(),
        hint: "no node has written it yet".into(),
    }
}

fn to_value<T: Serialize>(key: &str, value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|_| invalid_update(key, "it cannot be written as JSON"))
}

impl State for Channels {
    type Update = ChannelsUpdate;

    fn channels(&self) -> Vec<Channel> {
        self.slots
            .iter()
            .map(|(key, held)| {
                let mut channel = Channel::new(key.to_string(), held.slot.reducer.name());
                channel.is_ephemeral = held.slot.is_ephemeral;
                channel.is_untracked = held.slot.is_untracked;
                channel
            })
            .collect()
    }

    fn is_reduced(&self, key: &str) -> Option<bool> {
        self.slots
            .get(key)
            .map(|held| !matches!(held.slot.reducer, Reducer::Last))
    }

    fn expire(&mut self, blank: &Self) {
        for (key, held) in &mut self.slots {
            if held.slot.is_ephemeral {
                held.content = match blank.slots.get(key) {
                    Some(blank) => blank.content.clone(),
                    None => Content::blank(&held.slot.reducer),
                };
            }
        }
    }

    fn mark_untracked(&self, update: &mut ChannelsUpdate) {
        for (key, held) in &self.slots {
            if held.slot.is_untracked && update.writes.contains_key(&**key) {
                update.untracked.insert(key.to_string());
            }
        }
    }

    fn apply(&mut self, update: ChannelsUpdate) -> Result<()> {
        let mut ready = Vec::with_capacity(update.writes.len());
        for (key, write) in update.writes {
            let Some((at, _, held)) = self.slots.get_full(key.as_str()) else {
                return Err(invalid_update(&key, "the state has no such key"));
            };
            ready.push((
                at,
                Ready::prepare(&key, &held.slot.reducer, &held.content, write)?,
            ));
        }
        for (at, write) in ready {
            self.slots[at].content.put(write)?;
        }
        Ok(())
    }

    fn save(&self) -> Result<Value> {
        let mut saved = Map::new();
        for (key, held) in &self.slots {
            if !held.slot.is_untracked && !matches!(held.content, Content::Empty) {
                if let Content::Messages(messages) = &held.content {
                    save_origins(&mut saved, key, messages)?;
                }
                saved.insert(key.to_string(), self.get(key)?);
            }
        }
        Ok(Value::Object(saved))
    }

    fn restore(&self, saved: Value) -> Result<Self> {
        let damaged = |message: String| Error::Damaged {
            what: "the saved state".into(),
            message,
            hint: "resume it with the graph that wrote it".into(),
        };
        let Value::Object(mut saved) = saved else {
            return Err(damaged("it is no object".into()));
        };
        let mut restored = self.clone();
        for (key, held) in &mut restored.slots {
            if held.slot.is_untracked {
                continue;
            }
            let Some(value) = saved.remove(&**key) else {
                continue;
            };
            held.content = Content::from_json(key, &held.slot.reducer, value)
                .map_err(|error| damaged(error.to_string()))?;
            if let Content::Messages(messages) = &mut held.content {
                restore_origins(&mut saved, key, messages)?;
            }
        }
        match saved.keys().next() {
            Some(key) => Err(damaged(format!("it has the unknown key `{key}`"))),
            None => Ok(restored),
        }
    }
}

static NO_MESSAGES: LazyLock<Messages> = LazyLock::new(Messages::new);

/// The slot `messages`.
impl HasMessages for Channels {
    fn messages(&self) -> &Messages {
        self.messages_of("messages").unwrap_or(&NO_MESSAGES)
    }

    fn add_messages(messages: Vec<Message>) -> ChannelsUpdate {
        let list = messages
            .into_iter()
            .filter_map(|message| serde_json::to_value(message).ok()) // a message always is JSON
            .collect();
        ChannelsUpdate::new().set("messages", Value::Array(list))
    }
}

#[cfg(test)]
mod tests {
    use super::{Channels, ChannelsUpdate, Reducer};
    use crate::{HasMessages, State};
    use serde_json::{Value, json};
    use std::sync::Arc;
    use stepwell_core::Message;

    fn all() -> Channels {
        let longest = |so_far: Option<&Value>, update: Value| match (so_far.and_then(Value::as_str), &update)
        {
            (_, value) if !value.is_string() => Err("give a string".to_owned()),
            (Some(old), Value::String(new)) if old.len() >= new.len() => Ok(json!(old)),
            _ => Ok(update),
        };
        Channels::new()
            .slot("last", Reducer::Last)
            .slot("log", Reducer::Append)
            .slot("sum", Reducer::Add)
            .slot("facts", Reducer::Merge)
            .slot("seen", Reducer::Set)
            .slot("messages", Reducer::Messages)
            .slot("best", Reducer::Custom("longest".into(), Arc::new(longest)))
    }

    #[test]
    fn each_reducer_folds_in_its_way_and_a_saved_state_reads_back() {
        let mut state = all();
        for update in [
            json!({ "last": 1, "log": ["a"], "sum": 2, "facts": { "x": 1, "y": 1 }, "seen": [1, 2], "best": "aa" }),
            json!({ "last": 2, "log": ["b"], "sum": 0.5, "facts": { "y": 2 }, "seen": [2, 3], "best": "b" }),
            json!({ "messages": [Message::user("hi").with_id("m"), Message::user("ho")] }),
            json!({ "messages": [{ "remove": "m" }] }),
        ] {
            state
                .apply(ChannelsUpdate::from_json(update).expect("an object"))
                .expect("fits");
        }
        assert_eq!(state.get("last").expect("written"), 2);
        assert_eq!(state.get("log").expect("written"), json!(["a", "b"]));
        assert_eq!(state.get("sum").expect("written"), 2.5);
        assert_eq!(state.get("facts").expect("written"), json!({ "x": 1, "y": 2 }));
        assert_eq!(state.get("seen").expect("written"), json!([1, 2, 3]));
        assert_eq!(state.get("best").expect("written"), "aa");
        assert_eq!(state.messages().len(), 1);
        let saved = state.save().expect("plain data");
        let back = all().restore(saved.clone()).expect("reads back");
        assert_eq!(back.save().expect("plain data"), saved);
    }

    /// Behaviour 7.
    #[test]
    fn a_slot_read_before_any_write_says_so() {
        assert_eq!(all().get("last").expect_err("empty").code(), "not_found");
        assert_eq!(all().get("nowhere").expect_err("unknown").code(), "not_found");
        assert_eq!(all().get("log").expect("a list begins empty"), json!([]));
    }

    #[test]
    fn an_update_that_does_not_fit_changes_nothing_and_names_its_key() {
        let mut state = all();
        for (key, update) in [
            ("log", json!({ "last": 1, "log": "no array" })),
            ("sum", json!({ "last": 1, "sum": "two" })),
            ("facts", json!({ "last": 1, "facts": [] })),
            ("seen", json!({ "last": 1, "seen": 3 })),
            (
                "messages",
                json!({ "last": 1, "messages": [{ "remove": "unknown" }] }),
            ),
            ("best", json!({ "last": 1, "best": 3 })),
            ("extra", json!({ "last": 1, "extra": 3 })),
        ] {
            let error = state
                .apply(ChannelsUpdate::from_json(update).expect("an object"))
                .expect_err(key);
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
            assert!(state.get("last").is_err(), "{key}: applied half");
        }
        let overflow = ChannelsUpdate::new().set("sum", u64::MAX);
        state.apply(overflow.clone()).expect("fits");
        assert_eq!(
            state.apply(overflow).expect_err("too large").code(),
            "invalid_update"
        );
    }

    /// Behaviour 5.
    #[test]
    fn an_overwrite_that_arrives_as_json_replaces_the_slot() {
        let mut state = all();
        state
            .apply(ChannelsUpdate::new().set("log", ["a", "b"]))
            .expect("fits");
        let update = ChannelsUpdate::from_json(json!({ "log": { "$overwrite": ["z"] } })).expect("an object");
        state.apply(update).expect("fits");
        assert_eq!(state.get("log").expect("written"), json!(["z"]));
    }
}
