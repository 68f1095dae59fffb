//! [`GraphFile`]: a graph as JSON, its nodes by registered name; [`NodeRegistry`] has what stands behind the names.

use super::{
    Choose, Graph, GraphBuilder,
    shape::{GraphShape, MadeShape, OptionsShape},
};
use crate::{Channels, Command, Node, NodeError, NodeOptions, RunContext, State, Targets};
use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use stepwell_core::{Error, Result};

/// The version this build writes, and the newest it reads.
const VERSION: u32 = 1;
/// Bounds on what is read.
const BYTES: usize = 4 << 20;
const NODES: usize = 5_000;
const DEPTH: usize = 16;

type Factory<S> = Arc<dyn Fn(&Value) -> Result<Arc<dyn Node<S>>> + Send + Sync>;
type Chooser<S> = Arc<dyn Fn(&S) -> Targets + Send + Sync>;

/// The code that names in a [`GraphFile`] stand for: nodes, handlers of failures and routes.
///
/// ```
/// # use stepwell_agent::{Channels, ChannelsUpdate, GraphFile, NodeRegistry, node_sync};
/// #[derive(serde::Deserialize)]
/// struct Say { words: String }
/// let registry = NodeRegistry::<Channels>::new().factory("say", |say: Say| {
///     Ok(node_sync(move |_: &Channels, _| Ok(ChannelsUpdate::new().set("said", say.words.clone()))))
/// });
/// let file = GraphFile::from_json(r#"{
///     "version": 1,
///     "graph": {
///         "name": "greeting",
///         "nodes": [{ "name": "hello", "made": { "from": "say", "settings": { "words": "good day" } } }],
///         "edges": [["__start__", "hello"], ["hello", "__end__"]],
///         "channels": [{ "key": "said", "reducer": "last" }]
///     }
/// }"#)?;
/// let graph = file.build(file.channels()?, &registry)?;
/// assert_eq!(GraphFile::of(&graph), file);
/// # Ok::<(), stepwell_core::Error>(())
/// ```
pub struct NodeRegistry<S: State> {
    nodes: BTreeMap<String, Factory<S>>,
    routes: BTreeMap<String, Chooser<S>>,
}

impl<S: State> Default for NodeRegistry<S> {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }
}

impl<S: State> NodeRegistry<S> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node that takes no settings. All places it stands at share it. A later one of the same name replaces it.
    pub fn node(mut self, name: impl Into<String>, node: impl Node<S> + 'static) -> Self {
        let name = name.into();
        let node: Arc<dyn Node<S>> = Arc::new(node);
        let known = name.clone();
        let factory = move |settings: &Value| match settings {
            Value::Null => Ok(Arc::clone(&node)),
            _ => Err(Error::invalid(
                "settings",
                format!("`{known}` takes none; leave them out"),
            )),
        };
        self.nodes.insert(name, Arc::new(factory));
        self
    }

    /// Makes a node of settings, each time anew. A later one of the same name replaces it.
    pub fn factory<T, N>(
        mut self,
        name: impl Into<String>,
        make: impl Fn(T) -> Result<N> + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned,
        N: Node<S> + 'static,
    {
        let factory = move |settings: &Value| -> Result<Arc<dyn Node<S>>> {
            let settings = T::deserialize(settings)
                .map_err(|error| Error::invalid("settings", format!("they do not fit: {error}")))?;
            Ok(Arc::new(make(settings)?))
        };
        self.nodes.insert(name.into(), Arc::new(factory));
        self
    }

    /// What decides a route.
    pub fn route<T: Into<Targets>>(
        mut self,
        name: impl Into<String>,
        choose: impl Fn(&S) -> T + Send + Sync + 'static,
    ) -> Self {
        self.routes
            .insert(name.into(), Arc::new(move |state| choose(state).into()));
        self
    }

    fn make(&self, what: &str, made: &MadeShape, faults: &mut Vec<String>) -> Arc<dyn Node<S>> {
        let fault = match &made.from {
            None => format!("{what} is code without a registered name; say with `made` what it is made from"),
            Some(name) => match self.nodes.get(name) {
                None => format!(
                    "{what} is made from `{name}`, which is not registered; there is: {}",
                    list(self.nodes.keys())
                ),
                Some(factory) => match catch_unwind(AssertUnwindSafe(|| factory(&made.settings))) {
                    Ok(Ok(node)) => return node,
                    Ok(Err(error)) => format!("{what} cannot be made from `{name}`: {error}"),
                    Err(_) => format!("{what} cannot be made from `{name}`: its factory panicked"),
                },
            },
        };
        faults.push(fault);
        Arc::new(Missing)
    }
}

impl<S: State> Debug for NodeRegistry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeRegistry")
            .field("nodes", &self.nodes.keys().collect::<Vec<_>>())
            .field("routes", &self.routes.keys().collect::<Vec<_>>())
            .finish()
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// Stands for a node that could not be made while the other faults are looked for; a graph with one is never built.
struct Missing;

#[async_trait]
impl<S: State> Node<S> for Missing {
    async fn run(&self, _: &S, _: &RunContext) -> Result<Command<S::Update>, NodeError> {
        Err(Error::internal("a node that could not be made was run").into())
    }
}

/// A graph as a file: versioned JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFile {
    version: u32,
    graph: GraphShape,
}

impl GraphFile {
    /// The file of a shape.
    pub fn new(graph: GraphShape) -> Self {
        Self {
            version: VERSION,
            graph,
        }
    }

    /// The file of a graph. One that was built in code can be looked at and drawn; to be built again from the file, its
    /// nodes and routes have to come from a [`NodeRegistry`].
    pub fn of<S: State>(graph: &Graph<S>) -> Self {
        Self::new(graph.shape().clone())
    }

    /// Reads one: at most 4 MiB, 5,000 nodes, graphs inside graphs 16 deep.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it is no graph or has an unknown field, [`Error::UnknownVersion`],
    /// [`Error::LimitExceeded`].
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        if text.len() > BYTES {
            return Err(Error::LimitExceeded {
                what: "the graph file".into(),
                limit: format!("{BYTES} bytes"),
            });
        }
        let unreadable =
            |error: serde_json::Error| Error::invalid("graph file", format!("it cannot be read: {error}"));
        let head: Head = serde_json::from_str(text).map_err(unreadable)?;
        if head.version == 0 || head.version > VERSION {
            return Err(Error::UnknownVersion {
                what: "the graph file".into(),
                found: head.version,
                known: VERSION,
            });
        }
        let file: Self = serde_json::from_str(text).map_err(unreadable)?;
        let mut nodes = 0;
        measure(&file.graph, 0, &mut nodes)?;
        Ok(file)
    }

    /// The file as indented JSON: the same graph gives the same text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data serialises")
    }

    /// The graph as plain data.
    pub fn shape(&self) -> &GraphShape {
        &self.graph
    }

    /// A blank state of the file's slots.
    ///
    /// # Errors
    /// As [`Channels::from_channels`]: a slot with a reducer of one's own has to be declared in code.
    pub fn channels(&self) -> Result<Channels> {
        Channels::from_channels(&self.graph.channels)
    }

    /// Builds the graph over this blank state, with the registry's code.
    ///
    /// # Errors
    /// [`Error::InvalidGraph`] with every fault at once: names that are not registered, settings that do not fit, slots
    /// that are other ones than the state's, what a file cannot hold, and all that [`GraphBuilder::build`] finds.
    pub fn build<S: State>(&self, blank: S, registry: &NodeRegistry<S>) -> Result<Graph<S>> {
        let shape = &self.graph;
        let mut faults = Vec::new();
        if blank.channels() != shape.channels {
            faults.push(
                "the slots of the file are not those of the state; begin with `file.channels()`, or name the state's slots"
                    .to_owned(),
            );
        }
        let mut builder = GraphBuilder::new(blank).name(&shape.name);
        for node in &shape.nodes {
            let made = registry.make(&format!("node `{}`", node.name), &node.made, &mut faults);
            let inner = made.graph();
            if node.graph.is_some() && node.graph.as_deref() != inner.as_ref() && node.made.from.is_some() {
                faults.push(format!(
                    "the graph inside node `{}` is another than the one that it is made with; leave it out of the file or mend it",
                    node.name
                ));
            }
            builder = builder.node(&node.name, made);
            if let Some(last) = builder.shape.nodes.last_mut() {
                last.made = node.made.clone();
                last.options.clone_from(&node.options);
            }
            if node.options.is_some() || !node.reads.is_empty() || !node.writes.is_empty() {
                let mut options = NodeOptions::new()
                    .reads(node.reads.clone())
                    .writes(node.writes.clone());
                if let Some(given) = &node.options {
                    options = with_options(&node.name, options, given, registry, &mut faults);
                }
                builder = builder.options(&node.name, options);
            }
        }
        if shape.choosers.len() != shape.routes.len() {
            faults.push(format!(
                "there are {} routes and {} names in `choosers`; name what decides each route",
                shape.routes.len(),
                shape.choosers.len()
            ));
        }
        for ((from, _), name) in shape.routes.iter().zip(&shape.choosers) {
            match registry.routes.get(name) {
                Some(choose) => {
                    let choose = Arc::clone(choose);
                    let choose: Choose<S> = Box::new(move |state| choose(state));
                    builder.choices.push(choose);
                }
                None => faults.push(format!(
                    "the route from `{from}` is decided by `{name}`, which is not registered; there is: {}",
                    list(registry.routes.keys())
                )),
            }
        }
        let target = &mut builder.shape;
        target.edges.clone_from(&shape.edges);
        target.routes.clone_from(&shape.routes);
        target.choosers.clone_from(&shape.choosers);
        target.gotos.clone_from(&shape.gotos);
        target.joins.clone_from(&shape.joins);
        target.deferred.clone_from(&shape.deferred);
        target.inputs.clone_from(&shape.inputs);
        match builder.build() {
            Ok(graph) if faults.is_empty() => Ok(graph),
            Ok(_) => Err(Error::InvalidGraph { faults }),
            Err(Error::InvalidGraph { faults: more }) => {
                faults.extend(more);
                Err(Error::InvalidGraph { faults })
            }
            Err(error) => Err(error),
        }
    }
}

impl<S: State> Graph<S> {
    /// Builds a graph from its shape: see [`GraphFile::build`].
    ///
    /// # Errors
    /// [`Error::InvalidGraph`] with every fault at once.
    pub fn from_shape(shape: GraphShape, blank: S, registry: &NodeRegistry<S>) -> Result<Self> {
        GraphFile::new(shape).build(blank, registry)
    }
}

fn with_options<S: State>(
    name: &str,
    mut options: NodeOptions<S>,
    given: &OptionsShape,
    registry: &NodeRegistry<S>,
    faults: &mut Vec<String>,
) -> NodeOptions<S> {
    if given.is_cached {
        faults.push(format!(
            "node `{name}` has a cache, which a file cannot hold; let the registered node keep what it returns"
        ));
    }
    if let Some(retry) = &given.retry {
        if retry.is_conditional {
            faults.push(format!(
                "which failures of node `{name}` are tried again is code, which a file cannot hold; leave `is_conditional` out"
            ));
        }
        options = options.retry(retry.retry());
    }
    if let Some(timeout) = given.timeout_ms {
        options = options.timeout(Duration::from_millis(timeout));
    }
    if let Some(timeout) = given.idle_timeout_ms {
        options = options.idle_timeout(Duration::from_millis(timeout));
    }
    if let Some(handler) = &given.on_error {
        options = options.on_error(registry.make(&format!("the handler of node `{name}`"), handler, faults));
    }
    options
}

fn measure(shape: &GraphShape, depth: usize, nodes: &mut usize) -> Result<()> {
    let exceeded = |what: &str, limit: usize| Error::LimitExceeded {
        what: format!("{what} of the graph file"),
        limit: limit.to_string(),
    };
    if depth > DEPTH {
        return Err(exceeded("the graphs inside graphs", DEPTH));
    }
    *nodes += shape.nodes.len();
    if *nodes > NODES {
        return Err(exceeded("the nodes", NODES));
    }
    for inner in shape.nodes.iter().filter_map(|node| node.graph.as_deref()) {
        measure(inner, depth + 1, nodes)?;
    }
    Ok(())
}
