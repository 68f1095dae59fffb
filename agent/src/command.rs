//! [`Command`]: what a node returns, an update and where to go.

use crate::Update;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, sync::Arc, time::Duration};
use stepwell_core::{Error, Result};

/// The entry of a graph: edges leave it.
pub const START: &str = "__start__";
/// The exit of a graph: edges lead to it.
pub const END: &str = "__end__";

/// Starts a node once with an input of its own, in the next step: one per item makes a map, and what the node leads to
/// comes once after all of them.
///
/// ```
/// # use stepwell_agent::{self as agent, ChannelsUpdate, Command};
/// let one = agent::Send::new("summarise", "first page")?;
/// let many = Command::<ChannelsUpdate>::send("summarise", ["first page", "second page"])?;
/// # let _ = (one, many); Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    #[serde(rename = "send")]
    pub(crate) node: Cow<'static, str>,
    pub(crate) input: Arc<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

impl Send {
    /// To this node, with this input; the node reads it with [`crate::RunContext::input`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the input cannot be written as JSON.
    pub fn new(node: impl Into<Cow<'static, str>>, input: impl Serialize) -> Result<Self> {
        let input = serde_json::to_value(input)
            .map_err(|error| Error::invalid("the input of a Send", format!("it is no JSON: {error}")))?;
        Ok(Self {
            node: node.into(),
            input: Arc::new(input),
            timeout_ms: None,
        })
    }

    /// A time limit of its own instead of the node's, in whole milliseconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// One place to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Target {
    Node(Cow<'static, str>),
    Send(Send),
}

impl Target {
    pub(crate) fn node(&self) -> &str {
        match self {
            Self::Node(name) => name,
            Self::Send(send) => &send.node,
        }
    }
}

/// Where to go: names of nodes, [`END`], or [`Send`]s.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Targets(pub(crate) Vec<Target>);

impl Targets {
    /// These, and those after them.
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        self.0.extend(more.into().0);
        self
    }

    pub(crate) fn into_names(self) -> Vec<String> {
        self.0
            .into_iter()
            .map(|target| match target {
                Target::Node(name) => name.into_owned(),
                Target::Send(send) => send.node.into_owned(),
            })
            .collect()
    }
}

impl From<&'static str> for Target {
    fn from(name: &'static str) -> Self {
        Self::Node(name.into())
    }
}
impl From<String> for Target {
    fn from(name: String) -> Self {
        Self::Node(name.into())
    }
}
impl From<Cow<'static, str>> for Target {
    fn from(name: Cow<'static, str>) -> Self {
        Self::Node(name)
    }
}
impl From<Send> for Target {
    fn from(send: Send) -> Self {
        Self::Send(send)
    }
}
impl From<&'static str> for Targets {
    fn from(name: &'static str) -> Self {
        Self(vec![name.into()])
    }
}
impl From<String> for Targets {
    fn from(name: String) -> Self {
        Self(vec![name.into()])
    }
}
impl From<Send> for Targets {
    fn from(send: Send) -> Self {
        Self(vec![send.into()])
    }
}
#[allow(private_bounds)] // what can be a target is this crate's to say
impl<T: Into<Target>> From<Vec<T>> for Targets {
    fn from(targets: Vec<T>) -> Self {
        Self(targets.into_iter().map(Into::into).collect())
    }
}
#[allow(private_bounds)]
impl<T: Into<Target>, const N: usize> From<[T; N]> for Targets {
    fn from(targets: [T; N]) -> Self {
        Self(targets.into_iter().map(Into::into).collect())
    }
}

/// Where a run goes after a node.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Next {
    /// Along the node's edges and routes.
    #[default]
    Edges,
    /// To these instead: a goto replaces the node's own edges, routes and joins for this step.
    Goto(Targets),
    /// Out of this graph, which ends with this step, and on to these nodes of the graph around it.
    Leave(Targets),
}

/// What a node returns: updates of the state, and where to go.
///
/// ```
/// # use stepwell_agent::{ChannelsUpdate, Command, END};
/// let plain = Command::update(ChannelsUpdate::new().set("done", true));
/// let routed = plain.with_goto(END);
/// let nothing: Command<ChannelsUpdate> = Command::default();
/// ```
#[derive(Debug)]
#[must_use = "a node returns it"]
pub struct Command<U> {
    pub(crate) updates: Vec<U>,
    pub(crate) next: Next,
    /// The update is folded, the step ends, then the run stops with this error.
    pub(crate) stop: Option<Error>,
}

impl<U> Default for Command<U> {
    fn default() -> Self {
        Self {
            updates: Vec::new(),
            next: Next::Edges,
            stop: None,
        }
    }
}

impl<U: Update> Command<U> {
    /// Changes the state and follows the edges.
    pub fn update(update: U) -> Self {
        Self {
            updates: vec![update],
            ..Self::default()
        }
    }

    /// Changes nothing and goes there. The targets are declared with [`crate::GraphBuilder::goto`].
    pub fn goto(targets: impl Into<Targets>) -> Self {
        Self::default().with_goto(targets)
    }

    /// Starts a node once for each of these inputs: see [`Send`]. Replaces the node's edges, as a goto does; declare the
    /// node with [`crate::GraphBuilder::goto`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when an input cannot be written as JSON.
    pub fn send<I: Serialize>(
        node: impl Into<Cow<'static, str>>,
        inputs: impl IntoIterator<Item = I>,
    ) -> Result<Self> {
        let node = node.into();
        let sends = inputs
            .into_iter()
            .map(|input| Send::new(node.clone(), input))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self::goto(sends))
    }

    /// Ends this branch of the run, whatever the node's edges say.
    pub fn end() -> Self {
        Self::goto(END)
    }

    /// Leaves a graph that is a node of another: this step is its last, and the graph around it goes there instead of
    /// along the node's edges. Declare the targets there, with [`crate::GraphBuilder::goto`] from that node.
    pub fn leave(targets: impl Into<Targets>) -> Self {
        Self {
            next: Next::Leave(targets.into()),
            ..Self::default()
        }
    }

    /// Another update after those so far: applied in this order.
    pub fn and(mut self, update: U) -> Self {
        self.updates.push(update);
        self
    }

    /// Goes there instead of along the edges.
    pub fn with_goto(mut self, targets: impl Into<Targets>) -> Self {
        self.next = Next::Goto(targets.into());
        self
    }

    pub(crate) fn stopped(mut self, error: Option<Error>) -> Self {
        self.stop = error;
        self
    }
}

impl<U: Update> From<U> for Command<U> {
    fn from(update: U) -> Self {
        Self::update(update)
    }
}
