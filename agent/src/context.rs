//! [`RunContext`]: the facts of one task and its doors to the run: events, memoised steps, budget, cancel.

use crate::{
    EventKind, NodeError,
    event::EventQueue,
    journal::{JournalQueue, MemoBody, encode},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt::{self, Debug},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};
use stepwell_core::{Budget, Cancel, Error, Limits, Scope, Spend, ToolResult, Usage, store::RecordKind};

/// What all tasks of a run share.
pub(crate) struct Shared {
    pub(crate) run_id: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) cancel: Cancel,
    pub(crate) budget: Budget,
    pub(crate) limits: Limits,
    pub(crate) events: Option<EventQueue>,
    pub(crate) wants_updates: bool,
    pub(crate) wants_values: bool,
    pub(crate) journal: Option<JournalQueue>,
}

impl Shared {
    pub(crate) fn emit(&self, step: u32, node: Option<&Arc<str>>, kind: impl FnOnce() -> EventKind) {
        if let Some(events) = &self.events {
            events.push(&self.run_id, step, node, kind());
        }
    }
}

/// What the journal remembers of a task that did not end.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskMemory {
    /// Memoised results by key.
    pub(crate) memos: HashMap<String, Value>,
    /// Results of tool calls by call id.
    pub(crate) effects: HashMap<String, ToolResult>,
    /// Tool calls that began, by call id: how many times.
    pub(crate) intents: HashMap<String, u32>,
}

/// What a task used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) usage: Usage,
    pub(crate) spend: Spend,
}

#[derive(Default)]
struct Notes {
    keys: Vec<String>,
    used: Option<Box<Used>>,
}

/// The facts of one task, and its doors to the run.
pub struct RunContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Arc<str>,
    pub(crate) step: u32,
    pub(crate) memory: Option<TaskMemory>,
    notes: Mutex<Notes>,
}

impl RunContext {
    pub(crate) fn new(shared: Arc<Shared>, node: Arc<str>, step: u32, memory: Option<TaskMemory>) -> Self {
        Self {
            shared,
            node,
            step,
            memory,
            notes: Mutex::default(),
        }
    }

    /// The run.
    pub fn run_id(&self) -> &str {
        &self.shared.run_id
    }

    /// Whose run.
    pub fn scope(&self) -> &Scope {
        &self.shared.scope
    }

    /// The node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// 1 for the first step of the run.
    pub fn step_number(&self) -> u32 {
        self.step
    }

    /// Pulled when the run is to stop. A node that does not look at it is dropped.
    pub fn cancel(&self) -> &Cancel {
        &self.shared.cancel
    }

    /// What the run may spend.
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// Bounds on what comes from outside.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Tells whoever watches the run something of the node's own.
    pub fn emit(&self, name: &str, value: Value) {
        self.event(|| EventKind::Custom {
            name: name.to_owned(),
            value,
        });
    }

    /// Does something once: its result is recorded under the key, and a resumed run gets the record instead of doing it
    /// again. The key is the author's and stands for this piece of work within the node. Errors are not recorded.
    ///
    /// The journal is what remembers; a run without a store only does the work.
    ///
    /// # Errors
    /// What the work fails with; [`Error::InvalidInput`] when the node used the key before.
    pub async fn step<T, E, F>(&self, key: &str, work: F) -> Result<T, NodeError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<NodeError>,
        F: Future<Output = Result<T, E>>,
    {
        {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            if notes.keys.iter().any(|used| used == key) {
                return Err(Error::invalid(
                    "step key",
                    format!("`{key}` was used before in this node; give each piece of work its own"),
                )
                .into());
            }
            notes.keys.push(key.to_owned());
        }
        if let Some(value) = self.memory.as_ref().and_then(|memory| memory.memos.get(key)) {
            return serde_json::from_value(value.clone()).map_err(|error| {
                NodeError::passed_on(Error::Damaged {
                    what: format!("the recorded step `{key}`"),
                    message: error.to_string(),
                    hint: "resume the run with the code that recorded it".into(),
                })
            });
        }
        let result = work.await.map_err(Into::into)?;
        if self.shared.journal.is_some() {
            let body = encode(
                RecordKind::Memo,
                &MemoBody {
                    step: self.step,
                    node: &self.node,
                    key,
                    value: &result,
                },
            )
            .map_err(NodeError::passed_on)?;
            self.record(RecordKind::Memo, body, false).await?;
        }
        Ok(result)
    }

    /// Puts a record into the journal; waits for it where it has to be safe before the next thing happens.
    pub(crate) async fn record(
        &self,
        kind: RecordKind,
        body: Vec<u8>,
        must_be_safe: bool,
    ) -> Result<(), NodeError> {
        let Some(journal) = &self.shared.journal else {
            return Ok(());
        };
        match journal.push_waiting(kind, body, must_be_safe) {
            // The runner drops the sender only when the append failed; it ends the run with that error itself.
            Some(written) => written.await.map_err(|_| NodeError::passed_on(Error::Cancelled)),
            None => Ok(()),
        }
    }

    pub(crate) fn event(&self, kind: impl FnOnce() -> EventKind) {
        self.shared.emit(self.step, Some(&self.node), kind);
    }

    pub(crate) fn add_used(&self, usage: &Usage, spend: Spend) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let used = notes.used.get_or_insert_default();
        used.usage.add(usage);
        add_spend(&mut used.spend, spend);
    }

    pub(crate) fn take_used(&self) -> Option<Box<Used>> {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .used
            .take()
    }
}

pub(crate) fn add_spend(sum: &mut Spend, more: Spend) {
    sum.micro_usd = sum.micro_usd.saturating_add(more.micro_usd);
    sum.tokens = sum.tokens.saturating_add(more.tokens);
    sum.calls = sum.calls.saturating_add(more.calls);
    sum.time_ms = sum.time_ms.saturating_add(more.time_ms);
}

impl Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext")
            .field("run_id", &self.shared.run_id)
            .field("node", &self.node)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
