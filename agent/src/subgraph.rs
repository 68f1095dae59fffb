//! [`Subgraph`]: a graph of another state as a node.

use crate::{
    Command, Graph, GraphShape, Node, NodeError, RunContext, State,
    command::Next,
    inside::{Inside, Mode},
};
use async_trait::async_trait;
use std::fmt::{self, Debug};
use stepwell_core::{BudgetLimits, Result};

type Enter<S, C> = Box<dyn Fn(&S, &RunContext) -> Result<<C as State>::Update, NodeError> + Send + Sync>;
type Leave<S, C> = Box<dyn Fn(C) -> Result<<S as State>::Update, NodeError> + Send + Sync>;

/// A graph as a node of another. It shares that one's journal, events, budget and cancel; its events have a path, its
/// questions are the run's, and after a pause or a crash it goes on where it was.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
/// # use stepwell_agent::{Channels, ChannelsUpdate, END, GraphBuilder, Reducer, START, Subgraph, node_sync};
/// let inner = GraphBuilder::new(Channels::new().slot("text", Reducer::Last))
///     .node("shout", node_sync(|state: &Channels, _| {
///         let text = state.json("text")?.as_str().unwrap_or_default().to_uppercase();
///         Ok(ChannelsUpdate::new().set("text", text))
///     }))
///     .edge(START, "shout").edge("shout", END)
///     .build()?;
/// let state = Channels::new().slot("word", Reducer::Last);
/// let outer = GraphBuilder::new(state.clone())
///     .node("loud", Subgraph::new(
///         inner,
///         |state: &Channels, _| Ok(ChannelsUpdate::new().set("text", state.get("word")?)),
///         |inner: Channels| Ok(ChannelsUpdate::new().set("word", inner.get("text")?)),
///     ))
///     .edge(START, "loud").edge("loud", END)
///     .build()?;
/// let ended = outer.run_input(ChannelsUpdate::new().set("word", "well")).await?;
/// assert_eq!(ended.state.get("word")?, "WELL");
/// # Ok::<(), stepwell_core::Error>(()) }).expect("it runs");
/// ```
pub struct Subgraph<S: State, C: State> {
    graph: Graph<C>,
    enter: Enter<S, C>,
    leave: Leave<S, C>,
    mode: Mode,
    steps: Option<u32>,
}

impl<S: State, C: State> Subgraph<S, C> {
    /// This graph. `enter` makes its input of the state around it; `leave` makes an update of that one of the state it came
    /// to. Each time the node runs it begins anew.
    pub fn new(
        graph: Graph<C>,
        enter: impl Fn(&S, &RunContext) -> Result<C::Update, NodeError> + Send + Sync + 'static,
        leave: impl Fn(C) -> Result<S::Update, NodeError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            graph,
            enter: Box::new(enter),
            leave: Box::new(leave),
            mode: Mode::Fresh,
            steps: None,
        }
    }

    /// Goes on with the state it had come to the last time the node ran, also in a further turn of the run.
    pub fn persistent(mut self) -> Self {
        self.mode = Mode::Persistent;
        self
    }

    /// Leaves nothing in the journal: cheaper, and after a pause or crash it begins anew.
    pub fn stateless(mut self) -> Self {
        self.mode = Mode::Stateless;
        self
    }

    /// Takes at most so many steps; as many as the run around it otherwise.
    pub fn step_limit(mut self, steps: u32) -> Self {
        self.steps = Some(steps);
        self
    }
}

#[async_trait]
impl<S: State, C: State> Node<S> for Subgraph<S, C> {
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        // It left nothing behind that its nodes could be answered from.
        if self.mode == Mode::Stateless
            && let Some(command) = cx.recorded_command::<S>()?
        {
            return Ok(command);
        }
        let inside = Inside {
            graph: &self.graph,
            key: "",
            mode: self.mode,
            cancel: cx.cancel().clone(),
            limits: self.steps.map(|steps| {
                let mut limits = cx.limits().clone();
                limits.steps = steps;
                limits
            }),
            budget: BudgetLimits::default(),
        };
        let ended = inside
            .drive(cx, |mut blank| {
                blank.apply((self.enter)(state, cx)?)?;
                Ok(blank)
            })
            .await?;
        let mut command = Command::update((self.leave)(ended.state)?);
        if let Some(targets) = ended.leave {
            command.next = Next::Goto(targets);
        }
        Ok(command)
    }

    fn graph(&self) -> Option<GraphShape> {
        Some(self.graph.shape().clone())
    }

    fn ends_on_cancel(&self) -> bool {
        true
    }
}

impl<S: State, C: State> Debug for Subgraph<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subgraph")
            .field("graph", &self.graph)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
