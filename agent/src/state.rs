//! [`State`]: what flows through a graph; [`Update`]: a change of it; and the one engine that folds the updates of a
//! step, under typed states and [`crate::Channels`] alike.

use crate::{Kept, Messages, Prompt};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{borrow::Cow, fmt::Debug};
use stepwell_core::{Error, Message, Result};

/// One slot of a state: its name, how it is folded, and how long it holds what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Channel {
    /// The slot.
    pub key: Cow<'static, str>,
    /// The reducer's word, such as `last` or `append`.
    pub reducer: Cow<'static, str>,
    /// What a step wrote is there in the next step only; then the slot is blank again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ephemeral: bool,
    /// It lives in the process only: it is never in a journal, and blank after a resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_untracked: bool,
}

impl Channel {
    /// A slot that is kept.
    pub fn new(key: impl Into<Cow<'static, str>>, reducer: impl Into<Cow<'static, str>>) -> Self {
        Self {
            key: key.into(),
            reducer: reducer.into(),
            is_ephemeral: false,
            is_untracked: false,
        }
    }

    /// It holds what a step wrote for the next step only.
    pub fn ephemeral(mut self) -> Self {
        self.is_ephemeral = true;
        self
    }

    /// It lives in the process only.
    pub fn untracked(mut self) -> Self {
        self.is_untracked = true;
        self
    }
}

/// What a node writes into one slot: something to fold in, or the slot's new value whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Write<T, U> {
    /// Folded by the slot's reducer.
    #[serde(rename = "w")]
    Fold(U),
    /// Replaces the slot and beats every other write of the step; two in one step are an error.
    #[serde(rename = "o")]
    Overwrite(T),
}

/// Which kind of [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// Folded by the slot's reducer.
    Fold,
    /// Replaces the slot.
    Overwrite,
}

impl<T, U> Write<T, U> {
    /// Which kind it is.
    pub fn kind(&self) -> WriteKind {
        match self {
            Self::Fold(_) => WriteKind::Fold,
            Self::Overwrite(_) => WriteKind::Overwrite,
        }
    }
}

/// A partial change of a state. `#[derive(State)]` makes one; [`crate::ChannelsUpdate`] is the dynamic one.
pub trait Update: Clone + Debug + Default + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Tells each slot that is written, and how.
    fn visit<'a>(&'a self, found: &mut dyn FnMut(&'a str, WriteKind));

    /// Takes back a [`WriteKind::Fold`] of this slot: an overwrite of the same step beats it.
    fn discard_fold(&mut self, key: &str);
}

/// What flows through a graph. `#[derive(State)]` makes a struct one.
///
/// A state is held in one place and changed in place between steps; a step costs what it changes.
pub trait State: Clone + Debug + Send + Sync + 'static {
    /// A partial change of it.
    type Update: Update;

    /// Its slots, in order.
    fn channels(&self) -> Vec<Channel>;

    /// Whether several nodes of one step may write the slot; `None` where there is no such slot.
    fn is_reduced(&self, key: &str) -> Option<bool>;

    /// Makes the ephemeral slots as they are in `blank`. The engine does it when a step has ended, right before its
    /// updates are folded: what one step wrote is there in the next only.
    fn expire(&mut self, blank: &Self) {
        let _ = blank;
    }

    /// Marks the writes that are not to be serialised. The engine does it when a task has ended, before its updates go
    /// into the journal. An update of a derived state knows by itself; one of [`crate::Channels`] is told here.
    fn mark_untracked(&self, update: &mut Self::Update) {
        let _ = update;
    }

    /// Folds one update in: all of it, or on an error none.
    ///
    /// # Errors
    /// [`Error::InvalidUpdate`] when it does not fit.
    fn apply(&mut self, update: Self::Update) -> Result<()>;

    /// The whole state as plain data, for the journal: an object of its keys, untracked ones left out.
    ///
    /// # Errors
    /// [`Error::InvalidUpdate`] when a slot cannot be written as JSON.
    fn save(&self) -> Result<Value>;

    /// A saved state; slots that were not saved are as in this one.
    ///
    /// # Errors
    /// [`Error::Damaged`] when a slot cannot be read, or a key was saved that the state does not have.
    fn restore(&self, saved: Value) -> Result<Self>;
}

/// A state with a conversation in it: what the model and tools nodes work on.
pub trait HasMessages: State {
    /// The conversation.
    fn messages(&self) -> &Messages;

    /// An update that adds to it.
    fn add_messages(messages: Vec<Message>) -> Self::Update;

    /// What this run adds to the prompt beside the conversation; nothing, where the state has no place for it.
    fn prompt(&self) -> Prompt<'_> {
        Prompt::default()
    }

    /// An update that keeps what a model node found beside its answer; a state without a place for it lets it go.
    fn keep(_kept: Kept) -> Self::Update {
        Self::Update::default()
    }
}

/// Every fault of an update is this error.
pub(crate) fn invalid_update(key: &str, message: impl Into<String>) -> Error {
    Error::InvalidUpdate {
        key: key.to_owned(),
        message: message.into(),
    }
}

#[derive(Default)]
struct Writers<'a> {
    tasks: Vec<usize>,
    nodes: Vec<&'a str>,
    overwriters: Vec<&'a str>,
}

/// Folds the updates of one step, given in declaration order of their nodes. Conflicts are found before anything is
/// changed. An update that does not fit is found at its turn; those before it stand then, and the run ends.
pub(crate) fn fold<S: State>(state: &mut S, mut tasks: Vec<(&str, Vec<S::Update>)>) -> Result<()> {
    if let [(_, updates)] = &mut tasks[..]
        && updates.len() <= 1
    {
        return updates.pop().map_or(Ok(()), |update| state.apply(update));
    }
    let overwritten = check_writers(state, &tasks)?;
    for (_, updates) in &mut tasks {
        for mut update in updates.drain(..) {
            for key in &overwritten {
                update.discard_fold(key);
            }
            state.apply(update)?;
        }
    }
    Ok(())
}

/// The slots that are overwritten; an error where two writers meet that may not.
fn check_writers<S: State>(state: &S, tasks: &[(&str, Vec<S::Update>)]) -> Result<Vec<String>> {
    let mut writers: IndexMap<&str, Writers<'_>> = IndexMap::new();
    for (task, (node, updates)) in tasks.iter().enumerate() {
        for update in updates {
            update.visit(&mut |key, kind| {
                let found = writers.entry(key).or_default();
                if found.tasks.last() != Some(&task) {
                    found.tasks.push(task);
                    found.nodes.push(node);
                }
                if kind == WriteKind::Overwrite {
                    found.overwriters.push(node);
                }
            });
        }
    }
    let mut overwritten = Vec::new();
    for (key, found) in writers {
        let Some(is_reduced) = state.is_reduced(key) else {
            return Err(invalid_update(
                key,
                format!("the state has no such key; {} wrote it", names(&found.nodes)),
            ));
        };
        if found.overwriters.len() > 1 {
            return Err(invalid_update(
                key,
                format!(
                    "{} overwrote it in one step; let one of them do it",
                    names(&found.overwriters)
                ),
            ));
        }
        if !found.overwriters.is_empty() {
            overwritten.push(key.to_owned());
        } else if !is_reduced && found.tasks.len() > 1 {
            return Err(invalid_update(
                key,
                format!(
                    "{} wrote it in one step; give the key a reducer or let one of them write it",
                    names(&found.nodes)
                ),
            ));
        }
    }
    Ok(overwritten)
}

fn names(nodes: &[&str]) -> String {
    let mut quoted: Vec<String> = nodes.iter().take(5).map(|node| format!("`{node}`")).collect();
    if nodes.len() > 5 {
        quoted.push(format!("{} more", nodes.len() - 5));
    }
    quoted.join(", ")
}

#[cfg(test)]
mod oracle;
