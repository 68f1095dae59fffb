//! [`Slot`] and [`Reducer`]: how a JSON slot folds; its content, and a write that was checked and only has to be put in.

use crate::{MessageChange, Messages, Write, state::invalid_update};
use serde_json::{Map, Number, Value};
use std::{
    collections::HashSet,
    fmt::{self, Debug},
    sync::Arc,
};
use stepwell_core::{Error, Result};

/// A reducer of one's own: takes the slot's value and the update, gives the new value or a complaint.
pub type JsonReducer = Arc<dyn Fn(Option<&Value>, Value) -> Result<Value, String> + Send + Sync>;

/// How an update folds into a JSON slot. Each costs what the update brings, whatever the slot holds; a custom one costs
/// what it does.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Reducer {
    /// The last value stands; two writers in one step are an error.
    #[default]
    Last,
    /// An array grows by the update's members.
    Append,
    /// A sum of numbers: exact for whole ones, refused where it cannot be held.
    Add,
    /// An object takes new keys and replaces the values of known ones.
    Merge,
    /// An array without doubles; those it has stay where they are.
    Set,
    /// Messages by id. An update is an array of messages, of `{"remove": id}` and of `"remove_all"`.
    Messages,
    /// One's own, under a name for fingerprints.
    Custom(Arc<str>, JsonReducer),
}

impl Reducer {
    /// The slot holds what a step wrote for the next step only; then it is blank again.
    pub fn ephemeral(self) -> Slot {
        Slot::from(self).ephemeral()
    }

    /// The slot lives in this process only: it is never in a journal, and blank after a resume.
    pub fn untracked(self) -> Slot {
        Slot::from(self).untracked()
    }

    pub(super) fn name(&self) -> String {
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

    /// The reducer of this word; a custom one has none that says what it does.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "last" => Self::Last,
            "append" => Self::Append,
            "add" => Self::Add,
            "merge" => Self::Merge,
            "set" => Self::Set,
            "messages" => Self::Messages,
            _ => return None,
        })
    }
}

impl Debug for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What a slot of [`crate::Channels`] is: its reducer, and how long it holds what was written.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub(super) reducer: Reducer,
    pub(super) is_ephemeral: bool,
    pub(super) is_untracked: bool,
}

impl Slot {
    /// It holds what a step wrote for the next step only; then it is blank again.
    pub fn ephemeral(mut self) -> Self {
        self.is_ephemeral = true;
        self
    }

    /// It lives in this process only: it is never in a journal, and blank after a resume.
    pub fn untracked(mut self) -> Self {
        self.is_untracked = true;
        self
    }
}

impl From<Reducer> for Slot {
    fn from(reducer: Reducer) -> Self {
        Self {
            reducer,
            ..Self::default()
        }
    }
}

/// The content of a slot. Lists that are searched keep what makes that cheap.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Empty,
    Json(Value),
    Set {
        items: Vec<Value>,
        seen: HashSet<String>,
    },
    Messages(Messages),
}

impl Content {
    /// What a slot of this reducer begins with.
    pub(super) fn blank(reducer: &Reducer) -> Self {
        match reducer {
            Reducer::Last | Reducer::Custom(..) => Self::Empty,
            Reducer::Append => Self::Json(Value::Array(Vec::new())),
            Reducer::Add => Self::Json(Value::from(0)),
            Reducer::Merge => Self::Json(Value::Object(Map::new())),
            Reducer::Set => Self::Set {
                items: Vec::new(),
                seen: HashSet::new(),
            },
            Reducer::Messages => Self::Messages(Messages::new()),
        }
    }

    /// A slot's whole value from JSON.
    pub(super) fn from_json(key: &str, reducer: &Reducer, value: Value) -> Result<Self> {
        let complain = |what: &str| Err(invalid_update(key, format!("it holds {what}")));
        Ok(match (reducer, value) {
            (Reducer::Set, Value::Array(members)) => {
                let (mut items, mut seen) = (Vec::new(), HashSet::new());
                insert(&mut items, &mut seen, members);
                Self::Set { items, seen }
            }
            (Reducer::Set, _) => return complain("an array of members"),
            (Reducer::Messages, value) => {
                let mut messages = Messages::new();
                for change in message_changes(key, value)? {
                    let MessageChange::Put(message) = change else {
                        return complain("messages; a removal cannot stand for one");
                    };
                    messages.put(*message);
                }
                Self::Messages(messages)
            }
            (Reducer::Append, value) if !value.is_array() => return complain("an array"),
            (Reducer::Merge, value) if !value.is_object() => return complain("an object"),
            (Reducer::Add, value) if !value.is_number() => return complain("a number"),
            (_, value) => Self::Json(value),
        })
    }

    /// Puts in what was prepared for this slot.
    pub(super) fn put(&mut self, write: Ready) -> Result<()> {
        match (write, self) {
            (Ready::Content(value), content) => *content = value,
            (Ready::Extend(items), Self::Json(Value::Array(slot))) => slot.extend(items),
            (Ready::Merge(fields), Self::Json(Value::Object(slot))) => slot.extend(fields),
            (Ready::Insert(members), Self::Set { items, seen }) => insert(items, seen, members),
            (Ready::Messages(changes), Self::Messages(messages)) => messages.fold(changes),
            // A slot keeps the content of its kind: `blank` and `from_json` make no other.
            _ => return Err(Error::internal("a slot holds the content of another kind")),
        }
        Ok(())
    }
}

/// A write that was checked and only has to be put in.
pub(super) enum Ready {
    Content(Content),
    Extend(Vec<Value>),
    Merge(Map<String, Value>),
    Insert(Vec<Value>),
    Messages(Vec<MessageChange>),
}

impl Ready {
    /// Checks a write against its slot and what that holds.
    pub(super) fn prepare(
        key: &str,
        reducer: &Reducer,
        so_far: &Content,
        write: Write<Value, Value>,
    ) -> Result<Self> {
        let update = match write {
            Write::Overwrite(value) => return Content::from_json(key, reducer, value).map(Self::Content),
            Write::Fold(update) => update,
        };
        let complain = |what: &str| Err(invalid_update(key, format!("its reducer takes {what}")));
        Ok(match (reducer, update) {
            (Reducer::Last, value) => Self::Content(Content::Json(value)),
            (Reducer::Append, Value::Array(items)) => Self::Extend(items),
            (Reducer::Append, _) => return complain("an array of what to append"),
            (Reducer::Set, Value::Array(items)) => Self::Insert(items),
            (Reducer::Set, _) => return complain("an array of members"),
            (Reducer::Merge, Value::Object(fields)) => Self::Merge(fields),
            (Reducer::Merge, _) => return complain("an object"),
            (Reducer::Add, Value::Number(number)) => {
                let sum = match so_far {
                    Content::Json(Value::Number(so_far)) => add(so_far, &number),
                    _ => Some(number),
                };
                let Some(sum) = sum else {
                    return complain("numbers whose sum can be held");
                };
                Self::Content(Content::Json(Value::Number(sum)))
            }
            (Reducer::Add, _) => return complain("a number"),
            (Reducer::Messages, value) => {
                let changes = message_changes(key, value)?;
                if let Content::Messages(messages) = so_far {
                    messages
                        .check(&changes)
                        .map_err(|complaint| invalid_update(key, complaint))?;
                }
                Self::Messages(changes)
            }
            (Reducer::Custom(_, reduce), value) => {
                let so_far = match so_far {
                    Content::Json(value) => Some(value),
                    _ => None,
                };
                let value = reduce(so_far, value).map_err(|complaint| invalid_update(key, complaint))?;
                Self::Content(Content::Json(value))
            }
        })
    }
}

fn message_changes(key: &str, value: Value) -> Result<Vec<MessageChange>> {
    let Value::Array(items) = value else {
        return Err(invalid_update(key, "its reducer takes an array of messages"));
    };
    items
        .into_iter()
        .enumerate()
        .map(|(at, item)| {
            serde_json::from_value(item)
                .map_err(|error| invalid_update(key, format!("its member {at} does not fit: {error}")))
        })
        .collect()
}

/// Whole numbers add up exactly; a sum beyond 64 bits is none.
fn add(a: &Number, b: &Number) -> Option<Number> {
    let whole = |number: &Number| {
        let unsigned = number.as_u64().map(i128::from);
        unsigned.or_else(|| number.as_i64().map(i128::from))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => {
            let sum = a + b;
            let unsigned = u64::try_from(sum).map(Number::from);
            unsigned.or_else(|_| i64::try_from(sum).map(Number::from)).ok()
        }
        _ => Number::from_f64(a.as_f64()? + b.as_f64()?),
    }
}

fn insert(items: &mut Vec<Value>, seen: &mut HashSet<String>, members: Vec<Value>) {
    for member in members {
        let mut sorted = member.clone();
        sorted.sort_all_objects(); // objects are equal whatever the order of their keys
        if seen.insert(sorted.to_string()) {
            items.push(member);
        }
    }
}
