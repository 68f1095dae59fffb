//! [`ContextPolicy`]: what of a conversation is sent to the model; [`History`]: the conversation while it is shaped.
//!
//! The state keeps everything. A policy shapes the request alone: [`Trim`] leaves old turns out, [`DropToolOutputs`]
//! shortens old results, [`Summarise`] lets a model write what was said before.

mod digest;
mod summarise;
mod tool_outputs;
mod trim;
mod units;

pub use summarise::Summarise;
pub use tool_outputs::DropToolOutputs;
pub use trim::Trim;

use crate::RunContext;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::HashSet, fmt::Debug};
use stepwell_core::{Error, Message, Part, Result, Role, TokenCounter};

/// Decides what of a conversation a model gets to read. Several are asked one after the other.
///
/// A call and its results stay together: a history that parts them is refused before anything is sent. A policy that
/// panics ends the run with an error.
#[async_trait]
pub trait ContextPolicy: Send + Sync + Debug {
    /// Takes out, shortens or replaces what is not to be sent.
    ///
    /// # Errors
    /// Whatever ends the run: the model is not asked then.
    async fn shape<'a>(&self, history: &mut History<'a>, cx: &RunContext) -> Result<()>;
}

/// A message of the history, as it is to be sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryEntry<'a> {
    /// Its place in the conversation, from 0; `None` for one that a policy put in.
    pub at: Option<usize>,
    /// The message; what a policy changes is its own copy.
    pub message: Cow<'a, Message>,
}

/// A conversation while it is shaped for one call of a model.
#[derive(Clone, Debug)]
pub struct History<'a> {
    whole: &'a [Message],
    entries: Vec<HistoryEntry<'a>>,
    tokens_around: u64,
    memory: Option<&'a Map<String, Value>>,
    kept: Option<Map<String, Value>>,
    shortened: usize,
    added: usize,
}

impl<'a> History<'a> {
    pub(crate) fn new(
        whole: &'a [Message],
        memory: Option<&'a Map<String, Value>>,
        tokens_around: u64,
    ) -> Self {
        let entries = whole
            .iter()
            .enumerate()
            .map(|(at, message)| HistoryEntry {
                at: Some(at),
                message: Cow::Borrowed(message),
            })
            .collect();
        Self {
            whole,
            entries,
            tokens_around,
            memory,
            kept: None,
            shortened: 0,
            added: 0,
        }
    }

    /// What is to be sent, in order.
    pub fn entries(&self) -> &[HistoryEntry<'a>] {
        &self.entries
    }

    /// The whole conversation, as the state has it.
    pub fn whole(&self) -> &'a [Message] {
        self.whole
    }

    /// Tokens of what is sent beside the conversation: instructions, passages, tools. An estimate.
    pub fn tokens_around(&self) -> u64 {
        self.tokens_around
    }

    /// Tokens of all that is to be sent, as this counter counts; media are not counted.
    pub fn tokens(&self, counter: &dyn TokenCounter) -> u64 {
        let inside: usize = self
            .entries
            .iter()
            .map(|entry| counter.count_message(&entry.message))
            .sum();
        self.tokens_around + inside as u64
    }

    /// Keeps those of which it says so.
    pub fn retain(&mut self, keeps: impl FnMut(&HistoryEntry<'a>) -> bool) {
        self.entries.retain(keeps);
    }

    /// A message of the entries, to be changed.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where there is no such entry.
    pub fn change(&mut self, index: usize) -> Result<&mut Message> {
        self.shortened += 1;
        match self.entries.get_mut(index) {
            Some(entry) => Ok(entry.message.to_mut()),
            None => Err(Error::invalid(
                "history",
                format!("there is no entry {index} to change"),
            )),
        }
    }

    /// Puts a message in before this entry, or at the end.
    pub fn insert(&mut self, index: usize, message: Message) {
        let entry = HistoryEntry {
            at: None,
            message: Cow::Owned(message),
        };
        self.entries.insert(index.min(self.entries.len()), entry);
        self.added += 1;
    }

    /// What was kept under this name in an earlier turn.
    pub fn recall(&self, name: &str) -> Option<&Value> {
        match &self.kept {
            Some(kept) => kept.get(name),
            None => self.memory?.get(name),
        }
    }

    /// Whether there is a place to keep something from turn to turn.
    pub fn can_keep(&self) -> bool {
        self.memory.is_some()
    }

    /// Keeps something under this name for later turns; it is written to the state with the answer. Nothing is kept
    /// where [`History::can_keep`] says so.
    pub fn keep(&mut self, name: &str, value: Value) {
        if let Some(memory) = self.memory {
            let kept = self.kept.get_or_insert_with(|| memory.clone());
            kept.insert(name.to_owned(), value);
        }
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.entries.iter().map(|entry| &*entry.message)
    }

    pub(crate) fn into_memory(self) -> Option<Map<String, Value>> {
        self.kept
    }

    /// What was done to it; `None` where nothing was.
    pub(crate) fn report(&self) -> Option<Value> {
        let left = self.whole.len() + self.added - self.entries.len();
        (left + self.added + self.shortened > 0).then(|| {
            json!({
                "messages": self.whole.len(),
                "sent": self.entries.len(),
                "left_out": left,
                "shortened": self.shortened,
                "added": self.added,
            })
        })
    }

    /// A call without its result, or the other way round, is refused by every vendor: who parted them is told here.
    pub(crate) fn check(&self) -> Result<()> {
        if parted(self.messages()) > parted(self.whole.iter()) {
            return Err(Error::invalid(
                "context policy",
                "it parts a tool call from its result; leave out both or none",
            ));
        }
        Ok(())
    }
}

/// Calls that no result follows, and results that follow no call. Ids may repeat from answer to answer.
fn parted<'m>(messages: impl Iterator<Item = &'m Message>) -> usize {
    let (mut open, mut parted) = (HashSet::new(), 0);
    for message in messages {
        if message.role == Role::Assistant {
            parted += open.len();
            open.clear();
            open.extend(message.tool_calls().map(|call| call.id.as_str()));
        }
        for part in &message.parts {
            if let Part::ToolResult(result) = part
                && !open.remove(result.call_id.as_str())
            {
                parted += 1;
            }
        }
    }
    parted + open.len()
}
