//! [`Graph`]: nodes and edges, checked once; [`GraphBuilder`] makes one and tells every fault at once.

use crate::{
    END, Node, Run, RunView, START, State, Targets,
    command::Next,
    journal::replay,
    step::{Exit, Join, NodeIndex, Schedule, Topology, Ways},
};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
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
    /// run that is done gives its result again.
    pub fn resume(&self, run_id: impl Into<String>) -> Run<S> {
        Run::of_journal(self.clone(), run_id.into())
    }

    /// Looks at a run in its journal, without going on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::UnknownVersion`], [`Error::Unsupported`] for another graph's run.
    pub async fn view(&self, store: &dyn RunStore, scope: &Scope, run_id: &str) -> Result<RunView<S>> {
        let replay = replay(self, store, scope, run_id).await?;
        RunView::new(self, replay)
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

    pub(crate) fn len(&self) -> usize {
        self.0.nodes.len()
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
        let mut entry = self.0.entry.clone();
        for route in &self.0.entry_routes {
            self.follow(START, route, state, &mut entry)?;
        }
        Ok(Schedule::start(&self.0.topology, entry))
    }

    /// Where a node leads after its step was folded.
    pub(crate) fn exit(&self, node: NodeIndex, next: &Next, state: &S) -> Result<Exit> {
        let entry = self.entry(node);
        match next {
            Next::Edges => {
                let mut routed = Vec::new();
                for route in &entry.routes {
                    self.follow(&entry.name, route, state, &mut routed)?;
                }
                Ok(Exit::Edges(routed))
            }
            Next::Goto(targets) => {
                let mut there = Vec::with_capacity(targets.0.len());
                self.resolve(&entry.name, &targets.0, &entry.gotos, "goto", &mut there)?;
                Ok(Exit::Goto(there))
            }
        }
    }

    fn follow(&self, from: &str, route: &Route<S>, state: &S, found: &mut Vec<NodeIndex>) -> Result<()> {
        let targets =
            catch_unwind(AssertUnwindSafe(|| (route.choose)(state))).map_err(|_| Error::NodeFailed {
                node: from.to_owned(),
                source: "its route panicked".into(),
            })?;
        self.resolve(from, &targets.0, &route.declared, "route", found)
    }

    fn resolve(
        &self,
        from: &str,
        names: &[Cow<'static, str>],
        declared: &[String],
        how: &str,
        found: &mut Vec<NodeIndex>,
    ) -> Result<()> {
        for name in names {
            if !declared.iter().any(|known| known == name) {
                return Err(Error::InvalidGraph {
                    faults: vec![format!(
                        "`{from}` went to `{name}`, which it does not declare; add it with `.{how}(\"{from}\", ..)`"
                    )],
                });
            }
            if name != END
                && let Some(index) = self.index_of(name)
            {
                found.push(index);
            }
        }
        Ok(())
    }
}

/// Builds a [`Graph`]. Names may be used before they are declared; [`GraphBuilder::build`] checks everything.
#[must_use = "call `.build()`"]
pub struct GraphBuilder<S: State> {
    name: String,
    blank: S,
    nodes: Vec<(String, Box<dyn Node<S>>)>,
    edges: Vec<(String, String)>,
    routes: Vec<(String, Choose<S>, Targets)>,
    gotos: Vec<(String, Targets)>,
    joins: Vec<(Vec<String>, String)>,
    deferred: Vec<String>,
}

impl<S: State> GraphBuilder<S> {
    /// A graph over a state like this one: for [`crate::Channels`], whose keys are known at run time only.
    pub fn new(blank: S) -> Self {
        Self {
            name: "graph".into(),
            blank,
            nodes: Vec::new(),
            edges: Vec::new(),
            routes: Vec::new(),
            gotos: Vec::new(),
            joins: Vec::new(),
            deferred: Vec::new(),
        }
    }

    /// A name for lists of runs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Declares a node. The order of declaration is the order in which updates of one step are folded.
    pub fn node(mut self, name: impl Into<String>, node: impl Node<S> + 'static) -> Self {
        self.nodes.push((name.into(), Box::new(node)));
        self
    }

    /// After `from` comes `to`. Several edges from one node start its targets side by side.
    pub fn edge(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.edges.push((from.into(), to.into()));
        self
    }

    /// After `from` comes what `choose` says of the state after the step: one or several of `targets`. From [`START`]
    /// it picks the entry.
    pub fn route<F, T>(mut self, from: impl Into<String>, choose: F, targets: impl Into<Targets>) -> Self
    where
        F: Fn(&S) -> T + Send + Sync + 'static,
        T: Into<Targets>,
    {
        let choose: Choose<S> = Box::new(move |state| choose(state).into());
        self.routes.push((from.into(), choose, targets.into()));
        self
    }

    /// Declares where `from` may send the run with [`crate::Command::goto`].
    pub fn goto(mut self, from: impl Into<String>, targets: impl Into<Targets>) -> Self {
        self.gotos.push((from.into(), targets.into()));
        self
    }

    /// `to` comes once, after all of these have run; then the join waits for all of them anew.
    pub fn join<T: Into<String>>(
        mut self,
        sources: impl IntoIterator<Item = T>,
        to: impl Into<String>,
    ) -> Self {
        self.joins
            .push((sources.into_iter().map(Into::into).collect(), to.into()));
        self
    }

    /// `node` waits until nothing else is left to do, and then runs once, however often it was triggered.
    pub fn defer(mut self, node: impl Into<String>) -> Self {
        self.deferred.push(node.into());
        self
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`Error::InvalidGraph`] with every fault: no entry, double, empty or reserved names, unknown names, nodes that
    /// cannot be reached, that lead nowhere or from where the end cannot be reached.
    pub fn build(self) -> Result<Graph<S>> {
        let faults = Check::new(&self).faults();
        if !faults.is_empty() {
            return Err(Error::InvalidGraph { faults });
        }
        let fingerprint = self.fingerprint();
        let mut index = HashMap::new();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (at, (name, node)) in (0..).zip(self.nodes) {
            let name: Arc<str> = name.into();
            index.insert(Arc::clone(&name), at);
            nodes.push(Entry {
                name,
                node,
                routes: Vec::new(),
                gotos: Vec::new(),
            });
        }
        let find = |name: &str| index[name];
        let mut topology = Topology {
            nodes: vec![Ways::default(); nodes.len()],
            joins: Vec::new(),
        };
        let mut entry = Vec::new();
        for (from, to) in self.edges {
            match (from.as_str(), to.as_str()) {
                (_, END) => {}
                (START, to) => entry.push(find(to)),
                (from, to) => topology.nodes[find(from) as usize].edges.push(find(to)),
            }
        }
        let mut entry_routes = Vec::new();
        for (from, choose, targets) in self.routes {
            let route = Route {
                choose,
                declared: owned(targets),
            };
            if from == START {
                entry_routes.push(route);
            } else {
                nodes[find(&from) as usize].routes.push(route);
            }
        }
        for (from, targets) in self.gotos {
            nodes[find(&from) as usize].gotos.extend(owned(targets));
        }
        for (sources, to) in self.joins {
            let mut sources: Vec<NodeIndex> = sources.iter().map(|name| find(name)).collect();
            sources.sort_unstable();
            sources.dedup();
            for &source in &sources {
                topology.nodes[source as usize].joins.push(topology.joins.len());
            }
            topology.joins.push(Join {
                sources,
                target: find(&to),
            });
        }
        for node in self.deferred {
            topology.nodes[find(&node) as usize].is_deferred = true;
        }
        Ok(Graph(Arc::new(Inner {
            name: self.name.into(),
            blank: self.blank,
            nodes,
            index,
            topology,
            entry,
            entry_routes,
            fingerprint,
        })))
    }

    fn fingerprint(&self) -> String {
        let routes: Vec<_> = self
            .routes
            .iter()
            .map(|(from, _, targets)| (from, &targets.0))
            .collect();
        let gotos: Vec<_> = self
            .gotos
            .iter()
            .map(|(from, targets)| (from, &targets.0))
            .collect();
        let nodes: Vec<_> = self.nodes.iter().map(|(name, _)| name).collect();
        let keys = self.blank.channels();
        let shape = (
            nodes,
            &self.edges,
            routes,
            gotos,
            &self.joins,
            &self.deferred,
            keys,
        );
        let shape = serde_json::to_vec(&shape).expect("strings serialise");
        blake3::hash(&shape).to_hex()[..32].to_owned()
    }
}

impl<S: State> Debug for GraphBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphBuilder")
            .field("name", &self.name)
            .field(
                "nodes",
                &self.nodes.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

fn owned(targets: Targets) -> Vec<String> {
    targets.0.into_iter().map(Cow::into_owned).collect()
}

/// The ways of a graph under construction, by name.
struct Check<'a> {
    names: Vec<&'a str>,
    ways: Vec<(&'a str, &'a str)>,
    deferred: Vec<&'a str>,
    faults: Vec<String>,
}

impl<'a> Check<'a> {
    fn new<S: State>(builder: &'a GraphBuilder<S>) -> Self {
        let mut faults = Vec::new();
        let mut ways: Vec<(&str, &str)> = builder
            .edges
            .iter()
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect();
        for (from, targets, what) in builder
            .routes
            .iter()
            .map(|(from, _, targets)| (from, targets, "route"))
            .chain(
                builder
                    .gotos
                    .iter()
                    .map(|(from, targets)| (from, targets, "goto")),
            )
        {
            if targets.0.is_empty() {
                faults.push(format!("the {what} from `{from}` declares no target"));
            }
            if what == "goto" && from == START {
                faults.push("a goto leaves a node; from START use `.route(..)`".to_owned());
            }
            ways.extend(targets.0.iter().map(|to| (from.as_str(), &**to)));
        }
        for (sources, to) in &builder.joins {
            if sources.is_empty() {
                faults.push(format!("the join into `{to}` has no source"));
            }
            if to == END || sources.iter().any(|source| source == START) {
                faults.push(format!(
                    "the join into `{to}` stands between nodes, not START or END"
                ));
            }
            ways.extend(sources.iter().map(|from| (from.as_str(), to.as_str())));
        }
        Self {
            names: builder.nodes.iter().map(|(name, _)| name.as_str()).collect(),
            ways,
            deferred: builder.deferred.iter().map(String::as_str).collect(),
            faults,
        }
    }

    fn faults(mut self) -> Vec<String> {
        if self.names.is_empty() {
            self.faults.push("there is no node".to_owned());
        }
        let mut seen = BTreeSet::new();
        for name in &self.names {
            if !seen.insert(*name) {
                self.faults.push(format!("two nodes are named `{name}`"));
            }
            if name.is_empty() || *name == START || *name == END {
                self.faults.push(format!("`{name}` cannot be the name of a node"));
            }
        }
        let mut unknown = BTreeSet::new();
        for (from, to) in &self.ways {
            if *from == END || *to == START {
                self.faults
                    .push("ways leave START and lead to END, not the other way round".to_owned());
            }
            unknown.extend(
                [*from, *to]
                    .into_iter()
                    .filter(|name| *name != START && *name != END && !self.names.contains(name)),
            );
        }
        unknown.extend(self.deferred.iter().filter(|name| !self.names.contains(name)));
        for name in unknown {
            self.faults
                .push(format!("there is no node `{name}`; declare it with `.node(..)`"));
        }
        if !self.ways.iter().any(|(from, _)| *from == START) {
            self.faults
                .push("nothing leaves START; say where the run begins".to_owned());
        }
        let reached = self.reach(START, |(from, to)| (from, to));
        let ending = self.reach(END, |(from, to)| (to, from));
        for name in &seen {
            if !self.ways.iter().any(|(from, _)| from == name) {
                self.faults.push(format!(
                    "node `{name}` leads nowhere; add an edge to END or to another node"
                ));
            } else if !ending.contains(name) {
                self.faults.push(format!(
                    "from node `{name}` the end cannot be reached; give the cycle a way out"
                ));
            }
            if !reached.contains(name) {
                self.faults
                    .push(format!("node `{name}` cannot be reached from START"));
            }
        }
        let mut once = BTreeSet::new();
        self.faults.retain(|fault| once.insert(fault.clone()));
        self.faults
    }

    fn reach(
        &self,
        from: &'a str,
        turn: impl Fn((&'a str, &'a str)) -> (&'a str, &'a str),
    ) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for (from, to) in self.ways.iter().map(|way| turn(*way)) {
                if from == at && reached.insert(to) {
                    open.push(to);
                }
            }
        }
        reached
    }
}
