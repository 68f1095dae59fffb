//! [`View`]: one way to look at the events of a run; [`Views`]: several at once.

use super::{EventKind, Failure, RunEvent};
use crate::Question;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
};
use stepwell_core::{Message, Role, StreamEvent, ToolCall, ToolResult, store::RunStatus};

/// One way to look at a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum View {
    /// The whole state: what the run begins with, and after each step; with the questions where it pauses. Only of a run
    /// that was asked for it with [`crate::Run::values`].
    Values,
    /// What each node changed, as it ends, and what it asks.
    Updates,
    /// What models say, piece by piece, and whole messages of nodes that did not stream them.
    Messages,
    /// Nodes and tool calls: begin, result, failure.
    Tasks,
    /// What nodes and tools tell of their own.
    Custom,
    /// Every event as it is.
    Debug,
}

/// What a view shows of an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "item", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ViewItem<'a> {
    /// The whole state.
    Values {
        /// The state; `None` where the run pauses and was not asked for it.
        values: Option<&'a Value>,
        /// What the run waits for, where it pauses.
        #[serde(skip_serializing_if = "<[Question]>::is_empty")]
        questions: &'a [Question],
    },
    /// What a node changed.
    Update {
        /// The node.
        node: &'a str,
        /// The change.
        update: &'a Value,
    },
    /// A node asks.
    Interrupt {
        /// What.
        question: &'a Question,
    },
    /// A piece of a model's answer.
    Token {
        /// The piece, as the model's stream has it.
        event: &'a StreamEvent,
    },
    /// A whole message of a node that did not stream it.
    Message {
        /// The message.
        message: Box<Message>,
    },
    /// A node began.
    TaskStart,
    /// A node ended with this.
    TaskResult {
        /// What it changes.
        update: &'a Value,
    },
    /// A node ended, after its results; or stopped to wait for an answer.
    TaskEnd {
        /// Why it failed, where it did: told before the run's own end.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<&'a Failure>,
    },
    /// A node failed and is tried again.
    TaskRetry {
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: &'a Failure,
    },
    /// A tool call is about to run.
    ToolStart {
        /// The call.
        call: &'a ToolCall,
    },
    /// A tool call has its result.
    ToolEnd {
        /// The result.
        result: &'a ToolResult,
    },
    /// A node says something of its own.
    Custom {
        /// What kind of thing.
        name: &'a str,
        /// The thing.
        value: &'a Value,
    },
    /// A tool tells how far it is.
    Progress {
        /// The call.
        call_id: &'a str,
        /// What the tool says.
        value: &'a Value,
    },
    /// The event itself.
    Event {
        /// The event.
        event: &'a RunEvent,
    },
}

impl View {
    /// What it shows of this event. [`View::Messages`] gives pieces alone: whole messages take [`Views`], which knows what was
    /// streamed before.
    pub fn of(self, event: &RunEvent) -> Option<ViewItem<'_>> {
        match self {
            Self::Values => values_of(&event.kind),
            Self::Updates => match &event.kind {
                EventKind::Update { update } => Some(ViewItem::Update {
                    node: event.node.as_deref().unwrap_or_default(),
                    update,
                }),
                EventKind::Question { question } => Some(ViewItem::Interrupt { question }),
                _ => None,
            },
            Self::Messages => match &event.kind {
                EventKind::Model { event } => Some(ViewItem::Token { event }),
                _ => None,
            },
            Self::Tasks => task_of(&event.kind),
            Self::Custom => match &event.kind {
                EventKind::Custom { name, value } => Some(ViewItem::Custom { name, value }),
                EventKind::ToolProgress { call_id, value } => Some(ViewItem::Progress { call_id, value }),
                _ => None,
            },
            Self::Debug => Some(ViewItem::Event { event }),
        }
    }
}

fn values_of(kind: &EventKind) -> Option<ViewItem<'_>> {
    match kind {
        EventKind::RunStart {
            values: Some(values), ..
        }
        | EventKind::StepEnd { values: Some(values) } => Some(ViewItem::Values {
            values: Some(values),
            questions: &[],
        }),
        EventKind::RunEnd {
            status: RunStatus::Paused,
            questions,
            values,
            ..
        } if values.is_some() || !questions.is_empty() => Some(ViewItem::Values {
            values: values.as_ref(),
            questions,
        }),
        _ => None,
    }
}

fn task_of(kind: &EventKind) -> Option<ViewItem<'_>> {
    match kind {
        EventKind::NodeStart => Some(ViewItem::TaskStart),
        EventKind::Update { update } => Some(ViewItem::TaskResult { update }),
        EventKind::NodeEnd { failure } => Some(ViewItem::TaskEnd {
            failure: failure.as_ref(),
        }),
        EventKind::NodeRetry { attempt, failure, .. } => Some(ViewItem::TaskRetry {
            attempt: *attempt,
            failure,
        }),
        EventKind::ToolStart { call } => Some(ViewItem::ToolStart { call }),
        EventKind::ToolEnd { result } => Some(ViewItem::ToolEnd { result }),
        EventKind::Question { question } => Some(ViewItem::Interrupt { question }),
        _ => None,
    }
}

/// A task: its nested run, its step, its node and which Send.
type TaskPlace = (Arc<[String]>, u32, Option<Arc<str>>, Option<u32>);

/// Several views of one run at once. It does nothing but look: the same events give the same items.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
/// use futures::StreamExt;
/// use stepwell_agent::{View, ViewItem, Views};
/// # use stepwell_agent::{Channels, ChannelsUpdate, END, GraphBuilder, Reducer, START, node_sync};
/// # let state = Channels::new().slot("n", Reducer::Last);
/// # let graph = GraphBuilder::new(state.clone())
/// #     .node("count", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("n", 1))))
/// #     .edge(START, "count").edge("count", END)
/// #     .build()?;
/// let mut run = graph.run(state).values().stream();
/// let mut views = Views::new([View::Values, View::Updates]);
/// let mut seen = Vec::new();
/// while let Some(event) = run.next().await {
///     for (view, _) in views.take(&event) {
///         seen.push(view);
///     }
/// }
/// assert_eq!(seen, [View::Values, View::Updates, View::Values]);
/// # Ok::<(), stepwell_core::Error>(()) }).expect("it runs");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Views {
    wanted: Vec<View>,
    within: Option<Vec<String>>,
    is_outermost: bool,
    /// Tasks that streamed a whole answer and have not ended.
    streamed: HashSet<TaskPlace>,
    /// Messages that were shown, or were there before.
    known: HashMap<Arc<[String]>, HashSet<String>>,
}

impl Views {
    /// These views; each event gives their items in this order.
    pub fn new(views: impl IntoIterator<Item = View>) -> Self {
        Self {
            wanted: views.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Only of these nested runs and what is inside of them; see [`RunEvent::is_within`].
    pub fn within<P: Into<String>>(mut self, path: impl IntoIterator<Item = P>) -> Self {
        self.within = Some(path.into_iter().map(Into::into).collect());
        self
    }

    /// Only of the outermost run.
    pub fn outermost(mut self) -> Self {
        self.is_outermost = true;
        self
    }

    /// What the views show of this event.
    pub fn take<'a>(&mut self, event: &'a RunEvent) -> Vec<(View, ViewItem<'a>)> {
        let is_wanted = (event.path.is_empty() || !self.is_outermost)
            && self.within.as_ref().is_none_or(|path| event.is_within(path));
        if !is_wanted {
            return Vec::new();
        }
        let messages = if self.wanted.contains(&View::Messages) {
            self.messages(event)
        } else {
            Vec::new()
        };
        let mut items = Vec::new();
        for view in &self.wanted {
            items.extend(view.of(event).map(|item| (*view, item)));
            if *view == View::Messages {
                let whole = messages.iter().cloned().map(Box::new);
                items.extend(whole.map(|message| (*view, ViewItem::Message { message })));
            }
        }
        items
    }

    /// Whole messages in this event that were not shown before.
    fn messages(&mut self, event: &RunEvent) -> Vec<Message> {
        let task = || {
            (
                Arc::clone(&event.path),
                event.step,
                event.node.clone(),
                event.send,
            )
        };
        match &event.kind {
            EventKind::Model {
                event: StreamEvent::Finish { .. },
            } => {
                self.streamed.insert(task());
            }
            EventKind::NodeRetry { .. } | EventKind::NodeEnd { .. } => {
                self.streamed.remove(&task());
            }
            EventKind::RunStart {
                values: Some(values), ..
            } => {
                let known = self.known.entry(Arc::clone(&event.path)).or_default();
                let slots = values.as_object().into_iter().flat_map(|slots| slots.values());
                known.extend(slots.flat_map(messages_in).filter_map(|message| message.id));
            }
            EventKind::Update { update } => {
                let is_streamed = self.streamed.contains(&task());
                let known = self.known.entry(Arc::clone(&event.path)).or_default();
                let writes = update.as_object().into_iter().flat_map(|slots| slots.values());
                return writes
                    .filter_map(|write| write.get("w").or_else(|| write.get("o")))
                    .flat_map(messages_in)
                    .filter(|message| match &message.id {
                        Some(id) => known.insert(id.clone()),
                        None => true,
                    })
                    // What people said is no answer; what a model said was shown piece by piece.
                    .filter(|message| match message.role {
                        Role::Assistant => !is_streamed,
                        Role::Tool => true,
                        _ => false,
                    })
                    .collect();
            }
            _ => {}
        }
        Vec::new()
    }
}

/// The messages of a slot, or of what is folded into it.
fn messages_in(slot: &Value) -> Vec<Message> {
    let entries = match slot {
        Value::Array(entries) => entries.as_slice(),
        other => std::slice::from_ref(other),
    };
    let is_message = |entry: &&Value| entry.get("role").is_some() && entry.get("parts").is_some();
    entries
        .iter()
        .filter(is_message)
        .filter_map(|entry| Message::deserialize(entry).ok())
        .collect()
}
