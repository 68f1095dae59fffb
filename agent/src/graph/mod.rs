//! [`Graph`]: nodes and edges, checked once. [`GraphBuilder`] makes one and tells every fault at once.

mod builder;
mod check;
mod compare;
mod file;
mod shape;

pub use builder::GraphBuilder;
pub use compare::Compatibility;
pub use file::{GraphFile, NodeRegistry};
pub use shape::{GraphShape, JoinShape, MadeShape, NodeShape, OptionsShape};

use crate::{
    END, KeptEvents, Node, NodeOptions, Run, RunView, START, State, Targets,
    command::{Next, Target},
    journal::replay,
    step::{Exit, NodeIndex, Schedule, Sent, Topology},
};
use std::{
    collections::HashMap,
    fmt::{self, Debug},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use stepwell_core::{Error, Result, Scope, store::RunStore};

type Choose<S> = Box<dyn Fn(&S) -> Targets + Send + Sync>;

struct Route<S> {
    choose: Choose<S>,
    declared: Vec<String>,
}

pub(crate) struct Entry<S: State> {
    pub(crate) name: Arc<str>,
    pub(crate) node: Box<dyn Node<S>>,
    pub(crate) options: Option<Box<NodeOptions<S>>>,
    routes: Vec<Route<S>>,
    gotos: Vec<String>,
}

struct Inner<S: State> {
    name: Arc<str>,
    blank: S,
    nodes: Vec<Entry<S>>,
    index: HashMap<Arc<str>, NodeIndex>,
    topology: Topology,
    entry: Vec<NodeIndex>,
    entry_routes: Vec<Route<S>>,
    shape: GraphShape,
    fingerprint: String,
}

/// A checked graph. Clones share it.
///
/// All ready nodes of a step read the same state and run side by side; when the last has ended their updates are
/// folded in the order the nodes were declared, never in the order they ended. Then edges, routes and gotos say which
/// nodes are ready next.
pub struct Graph<S: State>(Arc<Inner<S>>);

impl<S: State> Clone for Graph<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: State> Debug for Graph<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("name", &self.0.name)
            .field("nodes", &self.node_names().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<S: State + Default> Graph<S> {
    /// Begins a graph.
    pub fn builder() -> GraphBuilder<S> {
        GraphBuilder::new(S::default())
    }
}

impl<S: State> Graph<S> {
    /// Runs it on this state. The run begins when it is awaited, or when its stream is polled.
    pub fn run(&self, state: S) -> Run<S> {
        Run::of_state(self.clone(), state)
    }

    /// Runs it on an input, folded into the blank state: a reduced key reduces what the caller gives.
    pub fn run_input(&self, input: S::Update) -> Run<S> {
        Run::of_input(self.clone(), input)
    }

    /// Goes on with a run from its journal; name the store with [`Run::store`]. What had finished is not done again. A
    /// run that is done gives its result again; one that waits for a person takes [`Run::answer`].
    pub fn resume(&self, run_id: impl Into<String>) -> Run<S> {
        Run::of_journal(self.clone(), run_id.into())
    }

    /// Gives a run that is in its journal a further input and begins at the entry again, on the state it had come to: the
    /// next turn of a conversation. What a broken step had left open is given up; what it had finished is folded first.
    pub fn turn(&self, run_id: impl Into<String>, input: S::Update) -> Run<S> {
        Run::of_turn(self.clone(), run_id.into(), input)
    }

    /// Looks at a run in its journal, without going on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::UnknownVersion`], [`Error::Unsupported`] for another graph's run.
    pub async fn view(&self, store: &dyn RunStore, scope: &Scope, run_id: &str) -> Result<RunView<S>> {
        let replay = replay(self, store, scope, run_id).await?;
        RunView::new(self, replay)
    }

    /// The kept events of a run from this number on, from its journal; see [`Run::keep_events`]. They come with the numbers
    /// they had while the run went, in any process and after a crash. Errors come as items: [`Error::NotFound`],
    /// [`Error::Damaged`], [`Error::UnknownVersion`].
    pub fn events(&self, store: Arc<dyn RunStore>, scope: &Scope, run_id: &str, from_seq: u64) -> KeptEvents {
        KeptEvents::new(store, scope.clone(), run_id, from_seq)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The names of its nodes, in order of declaration.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.0.nodes.iter().map(|node| &*node.name)
    }

    /// A hash of nodes, edges and keys: a run is resumed only by a graph of the same.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    pub(crate) fn name_arc(&self) -> &Arc<str> {
        &self.0.name
    }

    pub(crate) fn blank(&self) -> &S {
        &self.0.blank
    }

    pub(crate) fn entry(&self, node: NodeIndex) -> &Entry<S> {
        &self.0.nodes[node as usize]
    }

    pub(crate) fn name_of(&self, node: NodeIndex) -> &Arc<str> {
        &self.entry(node).name
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<NodeIndex> {
        self.0.index.get(name).copied()
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.0.topology
    }

    /// The place before the first step.
    pub(crate) fn start(&self, state: &S) -> Result<Schedule> {
        let mut exit = Exit {
            targets: self.0.entry.clone(),
            ..Exit::default()
        };
        for route in &self.0.entry_routes {
            self.follow(START, route, state, &mut exit)?;
        }
        Ok(Schedule::start(&self.0.topology, &exit.targets, exit.sends))
    }

    /// Where a node leads after its step was folded.
    pub(crate) fn exit(&self, node: NodeIndex, next: Next, state: &S) -> Result<Exit> {
        let entry = self.entry(node);
        match next {
            Next::Edges => {
                let mut exit = Exit::edges();
                for route in &entry.routes {
                    self.follow(&entry.name, route, state, &mut exit)?;
                }
                Ok(exit)
            }
            Next::Goto(targets) => {
                let mut exit = Exit::default();
                self.resolve(&entry.name, targets, &entry.gotos, "goto", &mut exit)?;
                Ok(exit)
            }
            // The run ends with this step; the graph around it goes on.
            Next::Leave(_) => Ok(Exit::default()),
        }
    }

    fn follow(&self, from: &str, route: &Route<S>, state: &S, exit: &mut Exit) -> Result<()> {
        let targets =
            catch_unwind(AssertUnwindSafe(|| (route.choose)(state))).map_err(|_| Error::NodeFailed {
                node: from.to_owned(),
                source: "its route panicked".into(),
            })?;
        self.resolve(from, targets, &route.declared, "route", exit)
    }

    fn resolve(
        &self,
        from: &str,
        targets: Targets,
        declared: &[String],
        how: &str,
        exit: &mut Exit,
    ) -> Result<()> {
        for target in targets.0 {
            let name = target.node();
            let is_declared = declared.iter().any(|known| known == name);
            let index = self.index_of(name).filter(|_| is_declared);
            match (target, index) {
                (Target::Node(_), Some(index)) => exit.targets.push(index),
                (Target::Node(name), None) if name == END && is_declared => {}
                (Target::Send(send), Some(node)) => exit.sends.push(Sent {
                    node,
                    input: send.input,
                    timeout_ms: send.timeout_ms,
                }),
                (target, _) => {
                    let name = target.node();
                    let fault = if is_declared {
                        format!("`{from}` sent something to `{name}`, where nothing can be sent; name a node")
                    } else {
                        format!(
                            "`{from}` went to `{name}`, which it does not declare; add it with `.{how}(\"{from}\", ..)`"
                        )
                    };
                    return Err(Error::InvalidGraph { faults: vec![fault] });
                }
            }
        }
        Ok(())
    }
}
