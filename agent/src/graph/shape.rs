//! [`GraphShape`]: a graph as plain data, without its code. What is fingerprinted, compared, drawn and stored.

use crate::{Channel, Graph, NodeOptions, State, options::RetryShape, step::NodeIndex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A graph as plain data: names and ways, without the code of nodes and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GraphShape {
    /// The graph's name.
    pub name: String,
    /// Its nodes, in order of declaration.
    pub nodes: Vec<NodeShape>,
    /// Static edges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<(String, String)>,
    /// Routes: from where, and where they may lead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<(String, Vec<String>)>,
    /// What decides each route, by registered name and in the order of the routes; empty where they are code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choosers: Vec<String>,
    /// Gotos: from where, and where they may lead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gotos: Vec<(String, Vec<String>)>,
    /// Joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<JoinShape>,
    /// Nodes that wait until nothing else is left to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deferred: Vec<String>,
    /// The slots of its state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    /// Keys that the input of a run brings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

/// A node as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NodeShape {
    /// Its name.
    pub name: String,
    /// What it is made from, where that has a registered name.
    #[serde(default, skip_serializing_if = "MadeShape::is_code")]
    pub made: MadeShape,
    /// The graph inside it, where it holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Box<GraphShape>>,
    /// Keys it declares to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// Keys it declares to write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
    /// How it is run, where something is said of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionsShape>,
}

/// What a node is made from: a name of a [`crate::NodeRegistry`], or code that has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MadeShape {
    /// The registered name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What the factory of that name is given. It stands in journals and files: name a secret here, never write one.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
}

impl MadeShape {
    fn is_code(&self) -> bool {
        *self == Self::default()
    }
}

/// How a node is run, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OptionsShape {
    /// How often it is tried, and when again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryShape>,
    /// The longest attempt, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The longest time without a sign of life, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// What runs when it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<MadeShape>,
    /// Its results are kept in a cache: what they are kept under is code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cached: bool,
}

impl OptionsShape {
    /// What options say, where they say anything of how the node is run.
    pub(super) fn of<S: State>(options: &NodeOptions<S>) -> Option<Self> {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let shape = Self {
            retry: options.retry.as_ref().map(RetryShape::of),
            timeout_ms: options.timeout.map(millis),
            idle_timeout_ms: options.idle_timeout.map(millis),
            on_error: options.on_error.as_ref().map(|_| MadeShape::default()),
            is_cached: options.cache.is_some(),
        };
        (shape != Self::default()).then_some(shape)
    }
}

/// A join as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JoinShape {
    /// What it waits for.
    pub sources: Vec<String>,
    /// What comes then.
    pub to: String,
    /// How many sources it needs; all of them where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<usize>,
}

impl GraphShape {
    /// A hash of what a stored run depends on: nodes, ways and keys. Names of graphs, what is inside of nodes, and what
    /// they declare to read and write do not enter it.
    pub fn fingerprint(&self) -> String {
        let nodes: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        let shape = (
            nodes,
            &self.edges,
            &self.routes,
            &self.gotos,
            &self.joins,
            &self.deferred,
            &self.channels,
        );
        let shape = serde_json::to_vec(&shape).expect("strings serialise");
        blake3::hash(&shape).to_hex()[..32].to_owned()
    }

    /// A node's place in the order of declaration.
    pub(crate) fn index_of(&self, name: &str) -> Option<NodeIndex> {
        (0..)
            .zip(&self.nodes)
            .find_map(|(at, node)| (node.name == name).then_some(at))
    }

    /// Every way from one node to another, [`crate::START`] and [`crate::END`] included.
    pub fn ways(&self) -> impl Iterator<Item = (&str, &str)> {
        let edges = self.edges.iter().map(|(from, to)| (from.as_str(), to.as_str()));
        let choices = self
            .routes
            .iter()
            .chain(&self.gotos)
            .flat_map(|(from, targets)| targets.iter().map(move |to| (from.as_str(), to.as_str())));
        let joins = self
            .joins
            .iter()
            .flat_map(|join| join.sources.iter().map(|from| (from.as_str(), join.to.as_str())));
        edges.chain(choices).chain(joins)
    }
}

impl<S: State> Graph<S> {
    /// The graph as plain data.
    pub fn shape(&self) -> &GraphShape {
        &self.0.shape
    }
}
