//! [`Node`]: a step of a graph; [`node_fn`] makes one of an async function.

use crate::{Command, GraphShape, RunContext, State};
use async_trait::async_trait;
use std::{
    fmt::{self, Debug, Display},
    future::Future,
    marker::PhantomData,
    sync::Arc,
};
use stepwell_core::{BoxError, Error, ToolError};

/// A step of a graph. It sees the state as it was when the step began and returns what it changes; it hides nothing.
#[async_trait]
pub trait Node<S: State>: Send + Sync {
    /// Does the step's work.
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError>;

    /// The graph inside it, where it holds one: for drawings and lists.
    fn graph(&self) -> Option<GraphShape> {
        None
    }

    /// Whether it ends by itself, with an update, soon after [`RunContext::cancel`] is pulled. Others are dropped.
    fn ends_on_cancel(&self) -> bool {
        false
    }
}

#[async_trait]
impl<S: State> Node<S> for Arc<dyn Node<S>> {
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        (**self).run(state, cx).await
    }

    fn graph(&self) -> Option<GraphShape> {
        (**self).graph()
    }

    fn ends_on_cancel(&self) -> bool {
        (**self).ends_on_cancel()
    }
}

/// Why a node ended without a result. Any error becomes one with `?`; it reaches the caller as
/// [`Error::NodeFailed`] with the node's name.
pub struct NodeError {
    error: Error,
    is_passed_on: bool,
}

impl NodeError {
    /// An error that has no type of its own.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self {
            error: Error::host(source),
            is_passed_on: false,
        }
    }

    /// An error of the engine that reaches the caller as it is: its code says more than that a node failed.
    pub(crate) fn passed_on(error: Error) -> Self {
        Self {
            error,
            is_passed_on: true,
        }
    }

    /// The run waits for an answer.
    pub(crate) fn interrupt(cx: &RunContext) -> Self {
        Self::passed_on(Error::Interrupted {
            run_id: cx.run_id().to_owned(),
        })
    }

    pub(crate) fn is_interrupt(&self) -> bool {
        matches!(self.error, Error::Interrupted { .. })
    }

    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.error
    }

    pub(crate) fn into_error(self, node: &str) -> Error {
        if self.is_passed_on {
            return self.error;
        }
        Error::NodeFailed {
            node: node.to_owned(),
            source: match self.error {
                Error::Host(source) => source,
                error => Box::new(error),
            },
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for NodeError {
    fn from(error: E) -> Self {
        let boxed: BoxError = Box::new(error);
        match boxed.downcast::<Error>() {
            Ok(error) => Self {
                is_passed_on: matches!(
                    *error,
                    Error::Cancelled | Error::BudgetExceeded { .. } | Error::Interrupted { .. }
                ),
                error: *error,
            },
            Err(other) => Self::new(other),
        }
    }
}

impl From<NodeError> for ToolError {
    /// What a tool gets from the run it is called in: an interrupt and a cancel stop it, anything else is told to the model.
    fn from(error: NodeError) -> Self {
        error.error.into()
    }
}

impl Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.error, f)
    }
}

impl Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.error, f)
    }
}

/// An async function of a state and a context: what [`node_fn`] takes.
pub trait AsyncNode<'a, S: State, C>: Fn(&'a S, &'a RunContext) -> Self::Future + Send + Sync {
    /// What it returns.
    type Future: Future<Output = Result<C, NodeError>> + Send + 'a;
}

impl<'a, S, C, F, O> AsyncNode<'a, S, C> for F
where
    S: State,
    F: Fn(&'a S, &'a RunContext) -> O + Send + Sync,
    O: Future<Output = Result<C, NodeError>> + Send + 'a,
{
    type Future = O;
}

struct FnNode<F, S, C>(F, PhantomData<fn() -> (S, C)>);

#[async_trait]
impl<S, C, F> Node<S> for FnNode<F, S, C>
where
    S: State,
    C: Into<Command<S::Update>> + Send + 'static,
    F: for<'a> AsyncNode<'a, S, C>,
{
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        Ok((self.0)(state, cx).await?.into())
    }
}

/// A node from an `async fn(&State, &RunContext) -> Result<Command or Update, NodeError>`.
pub fn node_fn<S, C, F>(run: F) -> impl Node<S> + 'static
where
    S: State,
    C: Into<Command<S::Update>> + Send + 'static,
    F: for<'a> AsyncNode<'a, S, C> + 'static,
{
    FnNode(run, PhantomData)
}

struct SyncNode<F, S, C>(F, PhantomData<fn() -> (S, C)>);

#[async_trait]
impl<S, C, F> Node<S> for SyncNode<F, S, C>
where
    S: State,
    C: Into<Command<S::Update>> + Send + 'static,
    F: Fn(&S, &RunContext) -> Result<C, NodeError> + Send + Sync,
{
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        Ok((self.0)(state, cx)?.into())
    }
}

/// A node from a plain function or closure that does not wait for anything.
pub fn node_sync<S, C, F>(run: F) -> impl Node<S> + 'static
where
    S: State,
    C: Into<Command<S::Update>> + Send + 'static,
    F: Fn(&S, &RunContext) -> Result<C, NodeError> + Send + Sync + 'static,
{
    SyncNode(run, PhantomData)
}
