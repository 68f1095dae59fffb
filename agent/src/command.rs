//! [`Command`]: what a node returns, an update and where to go.

use crate::Update;
use std::borrow::Cow;
use stepwell_core::Error;

/// The entry of a graph: edges leave it.
pub const START: &str = "__start__";
/// The exit of a graph: edges lead to it.
pub const END: &str = "__end__";

/// Names of nodes, or [`END`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets(pub(crate) Vec<Cow<'static, str>>);

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
impl<T: Into<Cow<'static, str>>> From<Vec<T>> for Targets {
    fn from(names: Vec<T>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}
impl<T: Into<Cow<'static, str>>, const N: usize> From<[T; N]> for Targets {
    fn from(names: [T; N]) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

/// Where a run goes after a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// Along the node's edges and routes.
    #[default]
    Edges,
    /// To these instead: a goto replaces the node's own edges, routes and joins for this step.
    Goto(Targets),
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

    /// Ends this branch of the run, whatever the node's edges say.
    pub fn end() -> Self {
        Self::goto(END)
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
