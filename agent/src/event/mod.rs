//! [`RunEvent`]: what a caller may watch while a run goes. Events get their numbers in `queue`, are watched through a
//! [`RunStream`] or the watchers of [`crate::Runs`], kept in the journal by `keep`, and looked at through a [`View`].

mod keep;
mod queue;
mod stream;
mod view;

pub use keep::KeptEvents;
pub(crate) use keep::{Keeper, KeptReader, nowhere as keep_nowhere};
pub(crate) use queue::EventQueue;
pub use stream::RunStream;
pub use view::{View, ViewItem, Views};

use crate::{Question, run::Pause};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use stepwell_core::{Error, StreamEvent, ToolCall, ToolResult, store::RunStatus};

/// A failure as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The stable word of [`Error::code`].
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunEvent {
    /// 1 for the first of a run; counts without gaps, also over a pause. A run that is taken up after a crash, whose last
    /// numbers nobody knows, goes on with much higher ones: no number is given twice.
    pub seq: u64,
    /// The run.
    pub run_id: Arc<str>,
    /// Where in nested runs: the nodes from the outermost in; empty in the outermost. One of several runs in a node has a
    /// mark behind the name: `worker#3` for a Send, `tools@call_1` for a tool call.
    #[serde(default = "no_path", skip_serializing_if = "is_empty")]
    pub path: Arc<[String]>,
    /// 1 for the first step; 0 before it.
    pub step: u32,
    /// The node it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// Which Send of the node, where one started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<u32>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

fn no_path() -> Arc<[String]> {
    Arc::from([])
}

fn is_empty(path: &Arc<[String]>) -> bool {
    path.is_empty()
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run began or went on.
    RunStart {
        /// It goes on from its journal.
        is_resumed: bool,
        /// The state it begins or goes on with, where it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Value>,
    },
    /// A step began.
    StepStart {
        /// Its nodes, in declaration order.
        nodes: Vec<Arc<str>>,
    },
    /// A node began.
    NodeStart,
    /// A model said something.
    Model {
        /// What.
        event: StreamEvent,
    },
    /// A tool call is about to run.
    ToolStart {
        /// The call.
        call: ToolCall,
    },
    /// A tool tells how far it is.
    ToolProgress {
        /// The call.
        call_id: String,
        /// What the tool says.
        value: Value,
    },
    /// A tool call has its result.
    ToolEnd {
        /// The result.
        result: ToolResult,
    },
    /// A node says something of its own.
    Custom {
        /// What kind of thing.
        name: String,
        /// The thing.
        value: Value,
    },
    /// A node ended with an update; in order of ending.
    Update {
        /// What it changes.
        update: Value,
    },
    /// A node ended.
    NodeEnd {
        /// Why it failed, where it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// A node failed and is tried again.
    NodeRetry {
        /// The attempt that failed; 1 for the first.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// How long it waits first, milliseconds.
        delay_ms: u64,
    },
    /// A node asks a person; the run pauses with it once its step is done.
    Question {
        /// What.
        question: Question,
    },
    /// A step ended; its updates are folded.
    StepEnd {
        /// The whole state, where it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Value>,
    },
    /// The run ended. The last event.
    RunEnd {
        /// Where it stands.
        status: RunStatus,
        /// What it waits for, where it paused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pause: Option<Pause>,
        /// Why it failed, where it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// The open questions, where it paused with some.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        questions: Vec<Question>,
        /// The state of the last step that ended, where it paused and the state was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Value>,
    },
}

impl RunEvent {
    /// The names of the nodes around the run it happened in, from the outermost in, without their marks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.path.iter().map(|place| name_of(place))
    }

    /// The tool call it happened in, where an agent or graph runs inside of one: the innermost.
    pub fn parent_call_id(&self) -> Option<&str> {
        let calls = self.path.iter().rev();
        calls
            .filter_map(|place| place.split_once('@'))
            .map(|(_, call)| call)
            .next()
    }

    /// Whether it happened inside these nested runs, or deeper. Each word is a whole name: `research` is not
    /// `research_review`. A word without a mark stands for every run in that node, `worker#3` or `tools@call_1` for one.
    pub fn is_within<P: AsRef<str>>(&self, path: &[P]) -> bool {
        path.len() <= self.path.len()
            && self.path.iter().zip(path).all(|(place, wanted)| {
                let wanted = wanted.as_ref();
                place == wanted || name_of(place) == wanted
            })
    }

    /// Bytes it weighs, about: its words as JSON, and what every event has.
    pub(crate) fn weight(&self) -> usize {
        const PLACE: usize = 160;
        let words = match &self.kind {
            EventKind::Model { event } => match event {
                StreamEvent::TextDelta { text, .. } | StreamEvent::ReasoningDelta { text, .. } => text.len(),
                StreamEvent::ToolCallDelta { arguments, .. } => arguments.len(),
                other => json_bytes(other),
            },
            EventKind::NodeStart => 0,
            other => json_bytes(other),
        };
        PLACE + words
    }
}

/// The node of a place in a path; a node's name has neither mark.
fn name_of(place: &str) -> &str {
    place.split(['#', '@']).next().unwrap_or(place)
}

fn json_bytes(value: &impl Serialize) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            self.0 += piece.len();
            Ok(piece.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let _ = serde_json::to_writer(&mut counter, value); // what is no JSON weighs what came before that
    counter.0
}
