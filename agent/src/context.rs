//! [`RunContext`]: the facts of one task and its doors to the run: events, memoised steps, questions, budget, cancel.

use crate::{
    EventKind, Failure, NodeError, RunEvent,
    ask::{Ask, Question},
    event::EventQueue,
    journal::{ChildRecord, JournalQueue, MemoBody, TaskRef, UsageBody},
    run_file::Recording,
    step::TaskId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    any::Any,
    borrow::Cow,
    collections::HashMap,
    fmt::{self, Debug},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use stepwell_core::{
    Budget, Cancel, Error, Limits, Schema, Scope, Spend, ToolContext, ToolResult, Usage, store::RecordKind,
};
use tokio::sync::oneshot;

/// Milliseconds since 1970.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What all tasks of a run share.
pub(crate) struct Shared {
    pub(crate) run_id: Arc<str>,
    pub(crate) graph: Arc<str>,
    pub(crate) scope: Scope,
    /// The nodes around this run, from the outermost in.
    pub(crate) path: Arc<[String]>,
    /// The path with steps: what the ids of questions begin with.
    pub(crate) prefix: String,
    pub(crate) cancel: Cancel,
    pub(crate) drain: Option<Cancel>,
    pub(crate) budget: Budget,
    pub(crate) limits: Limits,
    pub(crate) events: Option<EventQueue>,
    pub(crate) wants_values: bool,
    pub(crate) journal: Option<JournalQueue>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) seed: Option<u64>,
    pub(crate) clock: Clock,
    /// Answers where the run is replayed.
    pub(crate) recording: Option<Arc<Recording>>,
    /// Saved states of persistent graphs inside nodes, by their place; one for a run and all inside it.
    pub(crate) kept: Arc<Mutex<HashMap<String, Value>>>,
    /// The task it is inside of.
    pub(crate) outer: Option<RunContext>,
}

impl Shared {
    /// Tells whoever watches; nothing is made where nobody does.
    pub(crate) fn emit(&self, step: u32, kind: impl FnOnce() -> EventKind) {
        self.emit_of(step, None, None, kind);
    }

    fn emit_of(
        &self,
        step: u32,
        node: Option<&Arc<str>>,
        send: Option<u32>,
        kind: impl FnOnce() -> EventKind,
    ) {
        if let Some(events) = &self.events {
            let kind = kind();
            events.push(|seq| RunEvent {
                seq,
                run_id: Arc::clone(&self.run_id),
                path: Arc::clone(&self.path),
                step,
                node: node.cloned(),
                send,
                kind,
            });
        }
    }

    /// Whether the run is to pause at the end of its step.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(Cancel::is_cancelled)
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        lock(&self.kept)
    }
}

/// What is remembered of a task that did not end.
#[derive(Default)]
pub(crate) struct TaskMemory {
    /// Memoised results by key.
    pub(crate) memos: HashMap<String, Value>,
    /// Results of tool calls by call id.
    pub(crate) effects: HashMap<String, ToolResult>,
    /// Tool calls that began, by call id: how many times.
    pub(crate) intents: HashMap<String, u32>,
    /// Questions it asked, also those of runs inside it.
    pub(crate) questions: Vec<Question>,
    /// Answers by question.
    pub(crate) answers: HashMap<String, Value>,
    /// Why it failed, where its handler has still to run.
    pub(crate) failure: Option<Failure>,
    /// Records of runs inside it, by their key.
    pub(crate) children: HashMap<String, Vec<ChildRecord>>,
    /// Runs inside it that paused where there is no journal, by their key.
    pub(crate) paused: HashMap<String, Box<dyn Any + Send>>,
}

impl TaskMemory {
    /// Whether an answer has to come before it makes sense to run the task again. Runs inside it go on with whatever they
    /// are given; its own questions are waited for together.
    pub(crate) fn is_waiting(&self, path: &[String], now_ms: u64) -> bool {
        let is_open =
            |question: &Question| !self.answers.contains_key(&question.id) && !question.is_expired(now_ms);
        let (own, inner): (Vec<&Question>, Vec<&Question>) = self
            .questions
            .iter()
            .partition(|question| question.path.len() == path.len());
        own.iter().any(|question| is_open(question))
            || !inner.is_empty() && inner.iter().all(|question| is_open(question))
    }
}

/// What a task used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Used {
    pub(crate) usage: Usage,
    pub(crate) spend: Spend,
}

impl Used {
    pub(crate) fn add(&mut self, usage: &Usage, spend: Spend) {
        self.usage.add(usage);
        self.spend = self.spend.plus(spend);
    }
}

#[derive(Default)]
struct Notes {
    keys: Vec<String>,
    used: Option<Box<Used>>,
    /// What the journal knows already: what runs inside the task used, and what was booked with its effects.
    inner_used: Option<Box<Used>>,
}

/// What is one task's own.
struct Task {
    id: TaskId,
    input: Option<Arc<Value>>,
    budget: Option<Budget>,
    attempt: AtomicU32,
    /// Counts signs of life.
    beats: AtomicU64,
    cancel: OnceLock<Cancel>,
    notes: Mutex<Notes>,
    /// Most tasks have none.
    memory: OnceLock<Box<Mutex<TaskMemory>>>,
}

/// The facts of one task, and its doors to the run. Clones are the same task.
#[derive(Clone)]
pub struct RunContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Arc<str>,
    pub(crate) step: u32,
    /// The tool call it is for.
    call: Option<Arc<str>>,
    /// The attempt's own switch, where there may be several.
    attempt_cancel: Option<Cancel>,
    task: Arc<Task>,
}

impl RunContext {
    pub(crate) fn new(
        shared: Arc<Shared>,
        node: Arc<str>,
        step: u32,
        id: TaskId,
        input: Option<Arc<Value>>,
        budget: Option<Budget>,
        memory: Option<TaskMemory>,
    ) -> Self {
        Self {
            shared,
            node,
            step,
            call: None,
            attempt_cancel: None,
            task: Arc::new(Task {
                id,
                input,
                budget,
                attempt: AtomicU32::new(1),
                beats: AtomicU64::new(0),
                cancel: OnceLock::new(),
                notes: Mutex::default(),
                memory: memory.map_or_else(OnceLock::new, |memory| Box::new(Mutex::new(memory)).into()),
            }),
        }
    }

    /// The context of the run that a tool was called in; `None` outside of a run.
    pub fn of_tool(cx: &ToolContext) -> Option<&Self> {
        cx.extension::<Self>()
    }

    /// The run.
    pub fn run_id(&self) -> &str {
        &self.shared.run_id
    }

    /// Whose run.
    pub fn scope(&self) -> &Scope {
        &self.shared.scope
    }

    /// The nodes around this run where it is inside of others, from the outermost in.
    pub fn path(&self) -> &[String] {
        &self.shared.path
    }

    /// The node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// 1 for the first step of the run.
    pub fn step_number(&self) -> u32 {
        self.step
    }

    /// 1 for the first try; counted anew when a run is resumed.
    pub fn attempt(&self) -> u32 {
        self.task.attempt.load(Ordering::Relaxed)
    }

    /// Why the node failed, in the handler of its failure.
    pub fn failure(&self) -> Option<Failure> {
        let memory = self.task.memory.get()?;
        lock(memory).failure.clone()
    }

    /// What a Send gave this task alone.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the node was not started by a Send, or the input does not fit the type.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, NodeError> {
        let Some(input) = &self.task.input else {
            return Err(Error::invalid(
                "node input",
                format!(
                    "`{}` was started by an edge, which brings none; send one with `Send`",
                    self.node
                ),
            )
            .into());
        };
        T::deserialize(&**input).map_err(|error| {
            Error::invalid(
                "node input",
                format!("what was sent to `{}` does not fit: {error}", self.node),
            )
            .into()
        })
    }

    /// Whether a Send started this task.
    pub fn has_input(&self) -> bool {
        self.task.input.is_some()
    }

    /// Pulled when the run is to stop, or this task alone. A node that does not look at it is dropped.
    pub fn cancel(&self) -> &Cancel {
        match &self.attempt_cancel {
            Some(cancel) => cancel,
            None => self.task.cancel.get_or_init(|| self.shared.cancel.child()),
        }
    }

    /// What the task may spend: the run's budget, or its part of it.
    pub fn budget(&self) -> &Budget {
        self.task.budget.as_ref().unwrap_or(&self.shared.budget)
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

    /// A sign of life: an idle time limit begins anew.
    pub fn heartbeat(&self) {
        self.task.beats.fetch_add(1, Ordering::Relaxed);
        if let Some(outer) = &self.shared.outer {
            outer.heartbeat();
        }
    }

    /// Asks a person. The run pauses with this question, and the node starts anew once it is answered; then this gives
    /// the answer. The key is the author's and names the question within the node. The payload is shown to the person;
    /// the answer has to fit the schema of `T`, or it is refused.
    ///
    /// The interrupt travels as an error: pass it on with `?`. Siblings of the node go on and do not run again. What the
    /// node does before the question it does again, unless it is a [`RunContext::step`].
    ///
    /// ```
    /// # use stepwell_agent::{ChannelsUpdate, NodeError, RunContext};
    /// async fn approve(cx: &RunContext) -> Result<ChannelsUpdate, NodeError> {
    ///     let yes: bool = cx.ask("approve", serde_json::json!({ "amount_cents": 90_000 })).await?;
    ///     Ok(ChannelsUpdate::new().set("approved", yes))
    /// }
    /// ```
    pub fn ask<T: DeserializeOwned + JsonSchema>(
        &self,
        key: impl Into<String>,
        payload: impl Serialize,
    ) -> Ask<'_, T> {
        Ask::new(self, key.into(), serde_json::to_value(payload), Schema::of::<T>())
    }

    /// The same with a schema that is known at run time only.
    pub fn ask_value(
        &self,
        key: impl Into<String>,
        payload: impl Serialize,
        schema: Schema,
    ) -> Ask<'_, Value> {
        Ask::new(self, key.into(), serde_json::to_value(payload), schema)
    }

    /// Does something once: its result is recorded under the key, and a task that starts anew (resumed, retried, answered)
    /// gets the record instead of doing it again. The key is the author's and stands for this piece of work within the
    /// node. Errors are not recorded.
    ///
    /// # Errors
    /// What the work fails with; [`Error::InvalidInput`] when the node used the key before.
    pub async fn step<T, E, F>(&self, key: &str, work: F) -> Result<T, NodeError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<NodeError>,
        F: Future<Output = Result<T, E>>,
    {
        self.use_key("step key", key)?;
        let key = &*self.scoped(key);
        let known = self.memory().memos.get(key).cloned();
        if let Some(value) = known {
            return read_memo(key, value);
        }
        let (value, result) = if let Some(value) = self.recorded_memo(key).map_err(NodeError::passed_on)? {
            (value, None)
        } else {
            let result = work.await.map_err(Into::into)?;
            let value = serde_json::to_value(&result).map_err(|error| {
                Error::invalid(
                    "step",
                    format!("the result of `{key}` cannot be written as JSON: {error}"),
                )
            })?;
            (value, Some(result))
        };
        let body = MemoBody {
            task: self.task_ref(),
            key: key.into(),
            value,
        };
        // What it took is booked with it: after a crash it is not done again.
        self.book_used().map_err(NodeError::passed_on)?;
        let written = self.leave(RecordKind::Memo, &body, false)?;
        self.memory().memos.insert(key.to_owned(), body.value.clone());
        written.safe().await?;
        self.heartbeat();
        match result {
            Some(result) => Ok(result),
            None => read_memo(key, body.value),
        }
    }

    pub(crate) fn use_key(&self, what: &str, key: &str) -> Result<(), NodeError> {
        let entry = format!("{what} {}", self.scoped(key));
        let keys = &mut self.notes().keys;
        if keys.contains(&entry) {
            return Err(Error::invalid(
                what,
                format!("`{key}` was used before in this node; give each its own"),
            )
            .into());
        }
        keys.push(entry);
        Ok(())
    }

    /// Puts a record into the journal. What it tells is remembered before anyone waits for it to be safe: a task that is
    /// dropped meanwhile and tried again must not do it again.
    pub(crate) fn leave(
        &self,
        kind: RecordKind,
        body: &impl Serialize,
        must_be_safe: bool,
    ) -> Result<Left, NodeError> {
        let Some(journal) = &self.shared.journal else {
            return Ok(Left(None));
        };
        let pushed = journal.push_waiting(kind, body, must_be_safe);
        pushed
            .map(|pushed| Left(pushed.written))
            .map_err(NodeError::passed_on)
    }

    pub(crate) fn event(&self, kind: impl FnOnce() -> EventKind) {
        self.heartbeat();
        self.shared
            .emit_of(self.step, Some(&self.node), self.task.id.send, kind);
    }

    /// The same task, for one of its tool calls: keys are the call's own.
    pub(crate) fn for_call(&self, call_id: &str) -> Self {
        Self {
            call: Some(call_id.into()),
            ..self.clone()
        }
    }

    /// The tool call it is for.
    pub(crate) fn call_id(&self) -> Option<&str> {
        self.call.as_deref()
    }

    /// A key of the node's, or of its tool call's.
    pub(crate) fn scoped(&self, key: &str) -> String {
        match &self.call {
            Some(call) => format!("{call}/{key}"),
            None => key.to_owned(),
        }
    }

    /// The id of the one message that the task adds.
    pub(crate) fn message_id(&self) -> String {
        format!(
            "{}.{}{}.{}",
            self.run_id(),
            self.shared.prefix,
            self.step,
            self.place()
        )
    }

    /// The task as records name it.
    pub(crate) fn task_ref(&self) -> TaskRef {
        TaskRef {
            step: self.step,
            node: self.node.to_string(),
            send: self.task.id.send,
        }
    }

    /// The node, and which Send of it: one piece of a path.
    pub(crate) fn place(&self) -> String {
        match self.task.id.send {
            Some(send) => format!("{}#{send}", self.node),
            None => self.node.to_string(),
        }
    }

    pub(crate) fn beats(&self) -> u64 {
        self.task.beats.load(Ordering::Relaxed)
    }

    /// The same task for one attempt, which can be told to stop without the ones after it.
    pub(crate) fn for_attempt(&self) -> Self {
        Self {
            attempt_cancel: Some(self.cancel().child()),
            ..self.clone()
        }
    }

    /// Begins another attempt: keys may be used again, what was memoised stays.
    pub(crate) fn begin_attempt(&self, attempt: u32) {
        self.task.attempt.store(attempt, Ordering::Relaxed);
        self.notes().keys.clear();
    }

    /// Tells what the task started that nobody waits for it any more.
    pub(crate) fn abandon(&self) {
        if let Some(cancel) = self.task.cancel.get() {
            cancel.cancel();
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.task.notes)
    }

    /// The task's memory, locked: never held across an await.
    pub(crate) fn memory(&self) -> MutexGuard<'_, TaskMemory> {
        lock(self.task.memory.get_or_init(Box::default))
    }

    pub(crate) fn take_memory(&self) -> TaskMemory {
        let memory = self.task.memory.get();
        memory.map_or_else(TaskMemory::default, |memory| std::mem::take(&mut *lock(memory)))
    }

    pub(crate) fn add_used(&self, usage: &Usage, spend: Spend) {
        self.notes().used.get_or_insert_default().add(usage, spend);
    }

    /// What a run inside the task used.
    pub(crate) fn add_inner_used(&self, used: &Used) {
        if *used != Used::default() {
            self.notes()
                .inner_used
                .get_or_insert_default()
                .add(&used.usage, used.spend);
        }
    }

    /// Leaves what the task has used so far in the journal.
    pub(crate) fn book_used(&self) -> Result<(), Error> {
        let Some(journal) = &self.shared.journal else {
            return Ok(());
        };
        let Some(used) = self.notes().used.take() else {
            return Ok(());
        };
        let body = UsageBody {
            task: self.task_ref(),
            used: Cow::Borrowed(&used),
        };
        journal.push(RecordKind::Usage, &body)?;
        self.add_inner_used(&used);
        Ok(())
    }

    /// What the task used itself, and what is in the journal already: of it, and of the runs inside it.
    pub(crate) fn take_used(&self) -> (Option<Box<Used>>, Option<Box<Used>>) {
        let mut notes = self.notes();
        (notes.used.take(), notes.inner_used.take())
    }
}

/// A record on its way to the store.
#[must_use = "wait until it is safe"]
pub(crate) struct Left(Option<oneshot::Receiver<()>>);

impl Left {
    /// Waits for it where it has to be safe before the next thing happens.
    pub(crate) async fn safe(self) -> Result<(), NodeError> {
        match self.0 {
            // The runner drops the sender only when the append failed; it ends the run with that error itself.
            Some(written) => written.await.map_err(|_| NodeError::passed_on(Error::Cancelled)),
            None => Ok(()),
        }
    }
}

fn read_memo<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, NodeError> {
    serde_json::from_value(value).map_err(|error| {
        NodeError::passed_on(Error::Damaged {
            what: format!("the recorded step `{key}`"),
            message: error.to_string(),
            hint: "resume the run with the code that recorded it".into(),
        })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext")
            .field("run_id", &self.shared.run_id)
            .field("path", &self.shared.path)
            .field("node", &self.node)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
