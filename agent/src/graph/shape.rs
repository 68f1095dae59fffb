//! [`GraphShape`]: a graph as plain data, without its code. What is fingerprinted, compared, drawn and stored.

use crate::{Channel, Graph, State, step::NodeIndex};
use serde::{Deserialize, Serialize};

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
    /// The graph inside it, where it holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Box<GraphShape>>,
    /// Keys it declares to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// Keys it declares to write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
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
