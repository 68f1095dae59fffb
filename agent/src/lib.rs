//! Graphs, the durable runner and agents.
//!
//! A [`Graph`] has nodes and edges and is checked once, when it is built. A run goes in steps: all nodes that are ready
//! read the same state and run side by side; their updates are folded in the order of declaration; then edges, routes
//! and gotos say what is ready next. With a store a run is also an append-only journal and can be resumed after a crash.
//!
//! ```text
//! Graph ─▶ Run ─▶ step: nodes read State ─▶ Commands ─▶ fold ─▶ next step … ─▶ Outcome
//!           │            └ RunEvents for whoever watches
//!           └ Journal ─▶ RunStore
//! ```
//!
//! An [`Agent`] is such a graph of two nodes, model ⇄ tools.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
//! use stepwell_agent::{Channels, ChannelsUpdate, END, GraphBuilder, Reducer, START, node_sync};
//! let state = Channels::new().slot("log", Reducer::Append);
//! let graph = GraphBuilder::new(state.clone())
//!     .node("hello", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("log", ["hello"]))))
//!     .node("world", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("log", ["world"]))))
//!     .edge(START, "hello").edge("hello", "world").edge("world", END)
//!     .build()?;
//! let ended = graph.run(state).await?;
//! assert_eq!(ended.state.get("log")?, serde_json::json!(["hello", "world"]));
//! # Ok::<(), stepwell_core::Error>(()) }).expect("it runs");
//! ```

mod agent;
mod ask;
mod channels;
mod checkpoints;
mod command;
mod context;
mod draw;
mod driver;
mod event;
mod graph;
mod history;
mod inside;
mod journal;
#[cfg(feature = "mcp")]
pub mod mcp;
mod messages;
mod node;
mod nodes;
mod options;
mod outcome;
mod progress;
mod prompt;
mod reduce;
mod report;
mod run;
mod run_file;
mod runner;
mod runs;
mod state;
mod step;
mod subgraph;
mod task;
mod tasks;

pub use agent::{
    Agent, AgentBuilder, AgentInput, AgentModel, AgentModels, AgentNode, AgentRun, AgentState, AgentTool,
    AgentUpdate, Bounds, RunResult,
};
pub use ask::{Ask, Question};
pub use channels::{Channels, ChannelsUpdate, JsonReducer, Reducer, Slot};
pub use checkpoints::{
    CheckedRun, Checkpoint, CheckpointSource, Keep, Migration, RunSize, RunsCheck, StateUpdate,
};
pub use command::{Command, END, Next, START, Send, Targets};
pub use context::RunContext;
pub use draw::{Drawing, Tone};
pub use event::{EventKind, Failure, KeptEvents, RunEvent, RunStream, View, ViewItem, Views};
pub use graph::{
    Compatibility, Graph, GraphBuilder, GraphFile, GraphShape, JoinShape, MadeShape, NodeRegistry, NodeShape,
    OptionsShape,
};
pub use history::{ContextPolicy, DropToolOutputs, History, HistoryEntry, Summarise, Trim};
pub use messages::{MessageChange, Messages};
pub use node::{AsyncNode, Node, NodeError, node_fn, node_sync};
pub use nodes::{
    AfterModel, Approval, BeforeModel, BeforeTool, ContextOptions, Hooks, ModelNode, OutputShape, Passages,
    RetrieverTool, ToolsNode, Verdict, retriever_tool,
};
pub use options::{NodeCache, NodeOptions, Retry, RetryShape};
pub use outcome::{Outcome, Paused, RunView};
pub use prompt::{Kept, Prompt};
pub use reduce::{Add, Amount, Append, ById, Last, Mapping, Members, Merge, Reduce, Union};
pub use report::Report;
pub use run::{Pause, Run};
pub use run_file::{
    Divergence, NodeComparison, ReplayReport, RunComparison, RunFile, RunSummary, RunTrace, TraceCall,
    TraceChange, TraceMemo, TraceQuestion, TraceRun, TraceStep, TraceTask,
};
pub use runs::{RunHandle, RunInfo, Runs, RunsLimits, Startable, Watch, WatchItem};
pub use state::{Channel, HasMessages, State, Update, Write, WriteKind};
pub use subgraph::Subgraph;

/// The examples of the guide run with the tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../docs/events.md")]
mod guide {}

/// What `#[derive(State)]` expands to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    use crate::{Messages, messages::origins_key, state::invalid_update};
    pub use serde;
    use serde::{Serialize, de::DeserializeOwned};
    pub use serde_json;
    use serde_json::{Map, Value};
    use std::any::Any;
    pub use stepwell_core::{Error, Message, Result};

    /// What a field must be able to do that goes into the journal.
    #[diagnostic::on_unimplemented(
        message = "the field's type `{Self}` cannot go into a journal",
        label = "does not serialise",
        note = "derive serde's `Serialize` and `Deserialize` for it, or mark the field `#[state(untracked)]`"
    )]
    pub trait Kept: Serialize + DeserializeOwned {}

    impl<T: Serialize + DeserializeOwned> Kept for T {}

    pub fn kept<T: Kept>() {}

    pub fn folds<R: crate::Reduce<T>, T>() {}

    pub fn misfit(key: &str, complaint: String) -> Error {
        invalid_update(key, complaint)
    }

    pub fn save<T: Serialize + 'static>(saved: &mut Map<String, Value>, key: &str, value: &T) -> Result<()> {
        if let Some(messages) = (value as &dyn Any).downcast_ref::<Messages>() {
            save_origins(saved, key, messages)?;
        }
        let value = serde_json::to_value(value)
            .map_err(|error| invalid_update(key, format!("it cannot be written as JSON: {error}")))?;
        saved.insert(key.to_owned(), value);
        Ok(())
    }

    /// Beside a list of messages, the origins that it does not tell any more.
    pub(crate) fn save_origins(saved: &mut Map<String, Value>, key: &str, messages: &Messages) -> Result<()> {
        let lost = messages.lost_origins();
        if !lost.is_empty() {
            let lost = serde_json::to_value(lost)
                .map_err(|error| invalid_update(key, format!("it cannot be written as JSON: {error}")))?;
            saved.insert(origins_key(key), lost);
        }
        Ok(())
    }

    pub(crate) fn restore_origins(
        saved: &mut Map<String, Value>,
        key: &str,
        messages: &mut Messages,
    ) -> Result<()> {
        if let Some(lost) = saved.remove(&origins_key(key)) {
            let lost: Vec<stepwell_core::Origin> = serde_json::from_value(lost)
                .map_err(|_| damaged(format!("what is known of the origins of `{key}` is none")))?;
            messages.add_origins(&lost);
        }
        Ok(())
    }

    pub fn fields(saved: Value) -> Result<Map<String, Value>> {
        match saved {
            Value::Object(fields) => Ok(fields),
            _ => Err(damaged("it is no object".into())),
        }
    }

    pub fn restore<T: DeserializeOwned + Clone + 'static>(
        saved: &mut Map<String, Value>,
        key: &str,
        blank: &T,
    ) -> Result<T> {
        let Some(value) = saved.remove(key) else {
            return Ok(blank.clone());
        };
        // The words of serde would quote the value.
        let mut value: T = serde_json::from_value(value)
            .map_err(|_| damaged(format!("its key `{key}` is of another type than the state's")))?;
        if let Some(messages) = (&mut value as &mut dyn Any).downcast_mut::<Messages>() {
            restore_origins(saved, key, messages)?;
        }
        Ok(value)
    }

    pub fn all_read(saved: &Map<String, Value>) -> Result<()> {
        match saved.keys().next() {
            Some(key) => Err(damaged(format!("it has the unknown key `{key}`"))),
            None => Ok(()),
        }
    }

    fn damaged(message: String) -> Error {
        Error::Damaged {
            what: "the saved state".into(),
            message,
            hint: "resume the run with the code that saved it".into(),
        }
    }
}
