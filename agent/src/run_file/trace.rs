//! [`RunTrace`]: what happened in a run, as plain data read from its records alone: no graph, no code.

use crate::{Failure, GraphShape, Pause, Question};
use serde::Serialize;
use serde_json::Value;
use stepwell_core::{Message, Role, Spend, ToolResult, Usage, store::RunStatus};

/// A run as its records tell it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunTrace {
    /// Its id.
    pub run_id: String,
    /// Its graph, as it was last.
    pub graph: GraphShape,
    /// Where it stands.
    pub status: RunStatus,
    /// First record, milliseconds since 1970.
    pub began_ms: u64,
    /// Last record.
    pub ended_ms: u64,
    /// How often it was taken up again.
    pub resumed: u32,
    /// What happened.
    pub run: TraceRun,
    /// What people were asked, also by runs inside it.
    pub questions: Vec<TraceQuestion>,
    /// Tokens, runs inside it included.
    pub usage: Usage,
    /// What was spent, runs inside it included.
    pub spent: Spend,
    /// The conversation at the end, where its state has one.
    pub messages: Vec<Message>,
    /// The state at the end; `None` where a reducer is code, or the state cannot be read without it.
    pub state: Option<Value>,
    /// Why it paused, where it did.
    pub pause: Option<Pause>,
    /// Why it stopped, where it did.
    pub failure: Option<Failure>,
}

/// A run, or one inside a task of another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceRun {
    /// The tool call it is inside of, where it is one.
    pub key: String,
    /// Its graph.
    pub graph: String,
    /// Its steps, in order.
    pub steps: Vec<TraceStep>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceStep {
    /// 1 for the first.
    pub step: u32,
    /// When it became ready, milliseconds since 1970.
    pub began_ms: u64,
    /// When its updates were folded; `None` where it did not come to that.
    pub ended_ms: Option<u64>,
    /// Its tasks, in the order they were first heard of.
    pub tasks: Vec<TraceTask>,
    /// What was changed from outside before it.
    pub edits: Vec<TraceChange>,
}

/// A node in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceTask {
    /// The node.
    pub node: String,
    /// Which Send of the step, where it was one.
    pub send: Option<u32>,
    /// When it may have begun, milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended; `None` where it did not.
    pub ended_ms: Option<u64>,
    /// What it wrote.
    pub changes: Vec<TraceChange>,
    /// Messages it wrote.
    pub messages: Vec<Message>,
    /// Where it went, where it chose.
    pub goto: Vec<String>,
    /// Tokens of its own.
    pub usage: Usage,
    /// What it spent itself.
    pub spent: Spend,
    /// Tool calls it ran.
    pub calls: Vec<TraceCall>,
    /// Results it memoised.
    pub memos: Vec<TraceMemo>,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// It stopped the run.
    pub stop: Option<Failure>,
    /// Runs inside it.
    pub runs: Vec<TraceRun>,
}

/// A write into a slot.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceChange {
    /// The slot.
    pub key: String,
    /// It replaced the slot instead of being folded in.
    pub is_overwrite: bool,
    /// What was written.
    pub value: Value,
    /// The slot after the step, where that is short and another value.
    pub after: Option<Value>,
}

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceCall {
    /// Its id.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// What the model gave, where its message is known.
    pub arguments: Option<Value>,
    /// When it may have begun, milliseconds since 1970.
    pub began_ms: u64,
    /// When its result was recorded.
    pub ended_ms: Option<u64>,
    /// How often it began with an effect.
    pub intents: u32,
    /// Its result.
    pub result: Option<ToolResult>,
}

/// A memoised result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceMemo {
    /// Its key.
    pub key: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The result.
    pub value: Value,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceQuestion {
    /// What was asked.
    pub question: Question,
    /// The answer, where one came.
    pub answer: Option<Value>,
    /// When it came, milliseconds since 1970.
    pub answered_ms: Option<u64>,
}

impl RunTrace {
    /// The words of the last answer; empty where there is none.
    pub fn answer(&self) -> String {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == Role::Assistant && message.tool_calls().next().is_none())
            .map(Message::text)
            .unwrap_or_default()
    }

    /// All tasks, also of runs inside it, with the path of nodes to each; in order of step and depth first.
    pub fn tasks(&self) -> Vec<(String, &TraceTask)> {
        let mut found = Vec::new();
        collect(&self.run, "", &mut found);
        found
    }
}

fn collect<'a>(run: &'a TraceRun, path: &str, found: &mut Vec<(String, &'a TraceTask)>) {
    for task in run.steps.iter().flat_map(|step| &step.tasks) {
        let at = format!("{path}{}", task.node);
        found.push((at.clone(), task));
        for inner in &task.runs {
            collect(inner, &format!("{at}/"), found);
        }
    }
}
