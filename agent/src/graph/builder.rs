//! [`GraphBuilder`]: declares nodes and ways, and checks them.

use super::{
    Choose, Entry, Graph, Inner, Route, check,
    shape::{GraphShape, JoinShape, NodeShape, OptionsShape},
};
use crate::{
    END, Node, NodeOptions, START, State, Targets,
    step::{Join, NodeIndex, Topology, Ways},
};
use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::Arc,
};
use stepwell_core::{Error, Result};

/// Builds a [`Graph`]. Names may be used before they are declared; [`GraphBuilder::build`] checks everything.
#[must_use = "call `.build()`"]
pub struct GraphBuilder<S: State> {
    pub(super) shape: GraphShape,
    blank: S,
    nodes: Vec<Box<dyn Node<S>>>,
    /// In the order of the shape's routes.
    pub(super) choices: Vec<Choose<S>>,
    options: Vec<(String, NodeOptions<S>)>,
}

impl<S: State> GraphBuilder<S> {
    /// A graph over a state like this one: for [`crate::Channels`], whose keys are known at run time only.
    pub fn new(blank: S) -> Self {
        Self {
            shape: GraphShape {
                name: "graph".into(),
                channels: blank.channels(),
                ..GraphShape::default()
            },
            blank,
            nodes: Vec::new(),
            choices: Vec::new(),
            options: Vec::new(),
        }
    }

    /// A name for lists of runs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.shape.name = name.into();
        self
    }

    /// Declares a node. The order of declaration is the order in which updates of one step are folded.
    pub fn node(mut self, name: impl Into<String>, node: impl Node<S> + 'static) -> Self {
        self.shape.nodes.push(NodeShape {
            name: name.into(),
            graph: node.graph().map(Box::new),
            ..NodeShape::default()
        });
        self.nodes.push(Box::new(node));
        self
    }

    /// Says how a node is run: again when it fails, how long, by whom its failure is handled.
    pub fn options(mut self, node: impl Into<String>, options: NodeOptions<S>) -> Self {
        self.options.push((node.into(), options));
        self
    }

    /// After `from` comes `to`. Several edges from one node start its targets side by side.
    pub fn edge(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.shape.edges.push((from.into(), to.into()));
        self
    }

    /// After `from` comes what `choose` says of the state after the step: one or several of `targets`, or Sends to them.
    /// From [`START`] it picks the entry.
    pub fn route<F, T>(mut self, from: impl Into<String>, choose: F, targets: impl Into<Targets>) -> Self
    where
        F: Fn(&S) -> T + Send + Sync + 'static,
        T: Into<Targets>,
    {
        self.choices.push(Box::new(move |state| choose(state).into()));
        self.shape.routes.push((from.into(), targets.into().into_names()));
        self
    }

    /// Declares where `from` may send the run with [`crate::Command::goto`] and [`crate::Command::send`].
    pub fn goto(mut self, from: impl Into<String>, targets: impl Into<Targets>) -> Self {
        self.shape.gotos.push((from.into(), targets.into().into_names()));
        self
    }

    /// `to` comes once, after all of these have run; then the join waits for all of them anew.
    pub fn join<T: Into<String>>(self, sources: impl IntoIterator<Item = T>, to: impl Into<String>) -> Self {
        self.joined(sources, to, None)
    }

    /// `to` comes once, after the first of these has run. Those that still run in that step are cancelled and what they
    /// would have written is dropped; one that comes in a later step does not bring `to` again.
    pub fn any<T: Into<String>>(self, sources: impl IntoIterator<Item = T>, to: impl Into<String>) -> Self {
        self.joined(sources, to, Some(1))
    }

    /// The same after so many of them.
    pub fn quorum<T: Into<String>>(
        self,
        sources: impl IntoIterator<Item = T>,
        need: usize,
        to: impl Into<String>,
    ) -> Self {
        self.joined(sources, to, Some(need))
    }

    fn joined<T: Into<String>>(
        mut self,
        sources: impl IntoIterator<Item = T>,
        to: impl Into<String>,
        need: Option<usize>,
    ) -> Self {
        self.shape.joins.push(JoinShape {
            sources: sources.into_iter().map(Into::into).collect(),
            to: to.into(),
            need,
        });
        self
    }

    /// `node` waits until nothing else is left to do, and then runs once, however often it was triggered.
    pub fn defer(mut self, node: impl Into<String>) -> Self {
        self.shape.deferred.push(node.into());
        self
    }

    /// The input of a run brings this key: for the check of keys that nodes declare to read.
    pub fn input(mut self, key: impl Into<String>) -> Self {
        self.shape.inputs.push(key.into());
        self
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`Error::InvalidGraph`] with every fault: no entry, double, empty or reserved names, unknown names, nodes that
    /// cannot be reached, that lead nowhere or from where the end cannot be reached, keys that are read and never
    /// written, two nodes of one step that write a key without a reducer.
    pub fn build(mut self) -> Result<Graph<S>> {
        let mut faults = Vec::new();
        let mut options: Vec<Option<Box<NodeOptions<S>>>> = self.nodes.iter().map(|_| None).collect();
        for (name, given) in self.options {
            match self.shape.nodes.iter().position(|node| node.name == name) {
                Some(at) if options[at].is_none() => {
                    let node = &mut self.shape.nodes[at];
                    (node.reads, node.writes) = (given.reads.clone(), given.writes.clone());
                    if node.options.is_none() {
                        node.options = OptionsShape::of(&given);
                    }
                    options[at] = Some(Box::new(given));
                }
                Some(_) => faults.push(format!(
                    "the options of node `{name}` are given twice; give them at once"
                )),
                None => faults.push(format!("there is no node `{name}`; declare it with `.node(..)`")),
            }
        }
        let mut found = check::faults(&self.shape, |key| self.blank.is_reduced(key));
        found.retain(|fault| !faults.contains(fault));
        faults.extend(found);
        if !faults.is_empty() {
            return Err(Error::InvalidGraph { faults });
        }
        let shape = self.shape;
        let mut index: HashMap<Arc<str>, NodeIndex> = HashMap::new();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for ((at, node), (shape, options)) in (0..).zip(self.nodes).zip(shape.nodes.iter().zip(options)) {
            let name: Arc<str> = shape.name.as_str().into();
            index.insert(Arc::clone(&name), at);
            nodes.push(Entry {
                name,
                node,
                options,
                routes: Vec::new(),
                gotos: Vec::new(),
            });
        }
        let find = |name: &str| index[name];
        let mut topology = Topology {
            nodes: vec![Ways::default(); nodes.len()],
            ..Topology::default()
        };
        let mut entry = Vec::new();
        for (from, to) in &shape.edges {
            match (from.as_str(), to.as_str()) {
                (_, END) => {}
                (START, to) => entry.push(find(to)),
                (from, to) => topology.nodes[find(from) as usize].edges.push(find(to)),
            }
        }
        let mut entry_routes = Vec::new();
        for (choose, (from, declared)) in self.choices.into_iter().zip(&shape.routes) {
            let route = Route {
                choose,
                declared: declared.clone(),
            };
            if from == START {
                entry_routes.push(route);
            } else {
                nodes[find(from) as usize].routes.push(route);
            }
        }
        for (from, targets) in &shape.gotos {
            nodes[find(from) as usize].gotos.extend(targets.iter().cloned());
        }
        for join in &shape.joins {
            let mut sources: Vec<NodeIndex> = join.sources.iter().map(|name| find(name)).collect();
            sources.sort_unstable();
            sources.dedup();
            for &source in &sources {
                topology.nodes[source as usize].joins.push(topology.joins.len());
            }
            let need = join.need.unwrap_or(sources.len());
            topology.has_races |= need < sources.len();
            topology.joins.push(Join {
                sources,
                target: find(&join.to),
                need,
            });
        }
        for node in &shape.deferred {
            topology.nodes[find(node) as usize].is_deferred = true;
        }
        Ok(Graph(Arc::new(Inner {
            name: shape.name.as_str().into(),
            blank: self.blank,
            nodes,
            index,
            topology,
            entry,
            entry_routes,
            fingerprint: shape.fingerprint(),
            shape,
        })))
    }
}

impl<S: State> Debug for GraphBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphBuilder")
            .field("name", &self.shape.name)
            .field(
                "nodes",
                &self.shape.nodes.iter().map(|node| &node.name).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}
