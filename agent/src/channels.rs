//! [`Channels`]: the dynamic state. JSON slots with the same reducers as a typed one, for graphs whose keys are known
//! at run time only.

use crate::{
    Channel, HasMessages, MessageChange, Messages, State, Update, Write, WriteKind, state::invalid_update,
};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use std::{
    collections::HashSet,
    fmt::{self, Debug},
    sync::{Arc, LazyLock},
};
use stepwell_core::{Error, Message, Result};

/// A reducer of one's own: takes the slot's value and the update, gives the new value or a complaint.
pub type JsonReducer = Arc<dyn Fn(Option<&Value>, Value) -> Result<Value, String> + Send + Sync>;

/// How an update folds into a JSON slot.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Reducer {
    /// The last value stands; two writers in one step are an error.
    #[default]
    Last,
    /// An array grows by the update's members.
    Append,
    /// A sum of numbers.
    Add,
    /// An object takes new keys and replaces known ones.
    Merge,
    /// An array without doubles.
    Set,
    /// Messages by id. An update is an array of messages, of `{"remove": id}` and of `"remove_all"`.
    Messages,
    /// One's own, under a name for fingerprints.
    Custom(Arc<str>, JsonReducer),
}

impl Reducer {
    fn name(&self) -> String {
        match self {
            Self::Last => "last".into(),
            Self::Append => "append".into(),
            Self::Add => "add".into(),
            Self::Merge => "merge".into(),
            Self::Set => "set".into(),
            Self::Messages => "messages".into(),
            Self::Custom(name, _) => format!("custom:{name}"),
        }
    }
}

impl Debug for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The content of a slot. Lists that are searched keep what makes that cheap.
#[derive(Clone, Debug)]
enum Content {
    Empty,
    Json(Value),
    Set {
        items: Vec<Value>,
        seen: HashSet<String>,
    },
    Messages(Messages),
}

#[derive(Clone, Debug)]
struct Slot {
    reducer: Reducer,
    content: Content,
}

/// A state of JSON slots, declared one by one.
///
/// ```
/// # use stepwell_agent::{Channels, ChannelsUpdate, Reducer, State};
/// let mut state = Channels::new().slot("log", Reducer::Append).slot("answer", Reducer::Last);
/// state.apply(ChannelsUpdate::new().set("log", ["a"]).set("answer", 42)).unwrap();
/// state.apply(ChannelsUpdate::new().set("log", ["b"])).unwrap();
/// assert_eq!(state.get("log").unwrap(), serde_json::json!(["a", "b"]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Channels {
    slots: IndexMap<Arc<str>, Slot>,
}

impl Channels {
    /// No slots yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a slot. One of a list, object or sum kind begins empty or at 0; a `Last` or custom one has no value
    /// until it is written.
    pub fn slot(mut self, key: impl Into<Arc<str>>, reducer: Reducer) -> Self {
        let content = match &reducer {
            Reducer::Last | Reducer::Custom(..) => Content::Empty,
            Reducer::Append => Content::Json(Value::Array(Vec::new())),
            Reducer::Add => Content::Json(Value::from(0)),
            Reducer::Merge => Content::Json(Value::Object(Map::new())),
            Reducer::Set => Content::Set {
                items: Vec::new(),
                seen: HashSet::new(),
            },
            Reducer::Messages => Content::Messages(Messages::new()),
        };
        self.slots.insert(key.into(), Slot { reducer, content });
        self
    }

    /// The value of a slot, copied: for large ones see [`Channels::json`] and [`Channels::messages_of`].
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such slot, or nothing was written into it yet.
    pub fn get(&self, key: &str) -> Result<Value> {
        let slot = self.find(key)?;
        match &slot.content {
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

    fn find(&self, key: &str) -> Result<&Slot> {
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

/// A change of [`Channels`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelsUpdate {
    writes: IndexMap<String, Write<Value, Value>>,
}

impl ChannelsUpdate {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Folds a value into a slot.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.writes.insert(key.into(), Write::Fold(value.into()));
        self
    }

    /// Replaces a slot.
    pub fn overwrite(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.writes.insert(key.into(), Write::Overwrite(value.into()));
        self
    }

    /// An update as plain JSON: an object of keys and values, where `{"$overwrite": value}` replaces a slot.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is no object.
    pub fn from_json(value: Value) -> Result<Self> {
        let Value::Object(fields) = value else {
            return Err(Error::invalid("update", "give an object of keys and values"));
        };
        let mut update = Self::new();
        for (key, value) in fields {
            update = match value {
                Value::Object(mut inner) if inner.len() == 1 && inner.contains_key("$overwrite") => {
                    update.overwrite(key, inner.remove("$overwrite").unwrap_or_default())
                }
                value => update.set(key, value),
            };
        }
        Ok(update)
    }
}

impl Update for ChannelsUpdate {
    fn visit<'a>(&'a self, found: &mut dyn FnMut(&'a str, WriteKind)) {
        for (key, write) in &self.writes {
            found(key, write.kind());
        }
    }

    fn discard_fold(&mut self, key: &str) {
        if self
            .writes
            .get(key)
            .is_some_and(|write| write.kind() == WriteKind::Fold)
        {
            self.writes.shift_remove(key);
        }
    }
}

/// A write that was checked and only has to be put in.
enum Ready {
    Content(Content),
    Extend(Vec<Value>),
    Merge(Map<String, Value>),
    Insert(Vec<Value>),
    Messages(Vec<MessageChange>),
}

fn prepare(key: &str, slot: &Slot, write: Write<Value, Value>) -> Result<Ready> {
    let update = match write {
        Write::Overwrite(value) => return content(key, &slot.reducer, value).map(Ready::Content),
        Write::Fold(update) => update,
    };
    let complain = |what: &str| Err(invalid_update(key, format!("its reducer takes {what}")));
    Ok(match (&slot.reducer, update) {
        (Reducer::Last, value) => Ready::Content(Content::Json(value)),
        (Reducer::Append, Value::Array(items)) => Ready::Extend(items),
        (Reducer::Append, _) => return complain("an array of what to append"),
        (Reducer::Set, Value::Array(items)) => Ready::Insert(items),
        (Reducer::Set, _) => return complain("an array of members"),
        (Reducer::Merge, Value::Object(fields)) => Ready::Merge(fields),
        (Reducer::Merge, _) => return complain("an object"),
        (Reducer::Add, Value::Number(number)) => {
            let sum = match &slot.content {
                Content::Json(Value::Number(so_far)) => add(so_far, &number),
                _ => Some(number),
            };
            let Some(sum) = sum else {
                return complain("numbers whose sum can be written");
            };
            Ready::Content(Content::Json(Value::Number(sum)))
        }
        (Reducer::Add, _) => return complain("a number"),
        (Reducer::Messages, value) => {
            let changes = message_changes(key, value)?;
            if let Content::Messages(messages) = &slot.content {
                messages
                    .check(&changes)
                    .map_err(|complaint| invalid_update(key, complaint))?;
            }
            Ready::Messages(changes)
        }
        (Reducer::Custom(_, reduce), value) => {
            let so_far = match &slot.content {
                Content::Json(value) => Some(value),
                _ => None,
            };
            let value = reduce(so_far, value).map_err(|complaint| invalid_update(key, complaint))?;
            Ready::Content(Content::Json(value))
        }
    })
}

/// A slot's whole value from JSON.
fn content(key: &str, reducer: &Reducer, value: Value) -> Result<Content> {
    let complain = |what: &str| Err(invalid_update(key, format!("it holds {what}")));
    Ok(match (reducer, value) {
        (Reducer::Set, Value::Array(members)) => {
            let (mut items, mut seen) = (Vec::new(), HashSet::new());
            insert(&mut items, &mut seen, members);
            Content::Set { items, seen }
        }
        (Reducer::Set, _) => return complain("an array of members"),
        (Reducer::Messages, value) => {
            let mut messages = Messages::new();
            let changes = message_changes(key, value)?;
            messages
                .check(&changes)
                .map_err(|complaint| invalid_update(key, complaint))?;
            messages.fold(changes);
            Content::Messages(messages)
        }
        (Reducer::Append, value) if !value.is_array() => return complain("an array"),
        (Reducer::Merge, value) if !value.is_object() => return complain("an object"),
        (Reducer::Add, value) if !value.is_number() => return complain("a number"),
        (_, value) => Content::Json(value),
    })
}

fn message_changes(key: &str, value: Value) -> Result<Vec<MessageChange>> {
    let Value::Array(items) = value else {
        return Err(invalid_update(key, "its reducer takes an array of messages"));
    };
    items
        .into_iter()
        .map(|item| {
            if item.get("role").is_some() {
                serde_json::from_value::<Message>(item).map(Into::into)
            } else {
                serde_json::from_value(item)
            }
            .map_err(|error| invalid_update(key, format!("a member is no message: {error}")))
        })
        .collect()
}

fn add(a: &Number, b: &Number) -> Option<Number> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.checked_add(b).map(Number::from),
        _ => Number::from_f64(a.as_f64()? + b.as_f64()?),
    }
}

fn insert(items: &mut Vec<Value>, seen: &mut HashSet<String>, members: Vec<Value>) {
    for member in members {
        if seen.insert(member.to_string()) {
            items.push(member);
        }
    }
}

impl State for Channels {
    type Update = ChannelsUpdate;

    fn channels(&self) -> Vec<Channel> {
        self.slots
            .iter()
            .map(|(key, slot)| Channel::new(key.to_string(), slot.reducer.name()))
            .collect()
    }

    fn is_reduced(&self, key: &str) -> Option<bool> {
        self.slots
            .get(key)
            .map(|slot| !matches!(slot.reducer, Reducer::Last))
    }

    fn apply(&mut self, update: ChannelsUpdate) -> Result<()> {
        let mut ready = Vec::with_capacity(update.writes.len());
        for (key, write) in update.writes {
            let Some((at, _, slot)) = self.slots.get_full(key.as_str()) else {
                return Err(invalid_update(&key, "the state has no such key"));
            };
            ready.push((at, prepare(&key, slot, write)?));
        }
        for (at, write) in ready {
            let content = &mut self.slots[at].content;
            match (write, content) {
                (Ready::Content(value), content) => *content = value,
                (Ready::Extend(items), Content::Json(Value::Array(slot))) => slot.extend(items),
                (Ready::Merge(fields), Content::Json(Value::Object(slot))) => slot.extend(fields),
                (Ready::Insert(members), Content::Set { items, seen }) => insert(items, seen, members),
                (Ready::Messages(changes), Content::Messages(messages)) => messages.fold(changes),
                // A slot keeps the content of its kind: `slot` and `content` make no other.
                _ => return Err(Error::internal("a slot holds the content of another kind")),
            }
        }
        Ok(())
    }

    fn save(&self) -> Result<Value> {
        let mut saved = Map::new();
        for (key, slot) in &self.slots {
            if !matches!(slot.content, Content::Empty) {
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
        let Value::Object(saved) = saved else {
            return Err(damaged("it is no object".into()));
        };
        let mut restored = self.clone();
        for (key, value) in saved {
            let Some(slot) = restored.slots.get_mut(key.as_str()) else {
                return Err(damaged(format!("it has the unknown key `{key}`")));
            };
            slot.content = content(&key, &slot.reducer, value).map_err(|error| damaged(error.to_string()))?;
        }
        Ok(restored)
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
        let overflow = ChannelsUpdate::new().set("sum", i64::MAX);
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
