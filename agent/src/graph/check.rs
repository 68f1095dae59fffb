//! What is wrong with a graph: every fault at once, before anything runs.

use super::shape::GraphShape;
use crate::{Channel, END, START};
use std::collections::{BTreeMap, BTreeSet};

/// The faults of a shape, one sentence each; `is_reduced` tells which keys take several writers in one step.
pub(super) fn faults(shape: &GraphShape, is_reduced: impl Fn(&str) -> Option<bool>) -> Vec<String> {
    let mut check = Check {
        shape,
        ways: shape.ways().collect(),
        faults: Vec::new(),
    };
    check.names();
    check.choices();
    check.joins();
    check.reach();
    check.keys(is_reduced);
    let mut once = BTreeSet::new();
    check.faults.retain(|fault| once.insert(fault.clone()));
    check.faults
}

struct Check<'a> {
    shape: &'a GraphShape,
    ways: Vec<(&'a str, &'a str)>,
    faults: Vec<String>,
}

impl<'a> Check<'a> {
    fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    fn names(&mut self) {
        let shape = self.shape;
        if shape.nodes.is_empty() {
            self.fault("there is no node");
        }
        let mut seen = BTreeSet::new();
        for node in &shape.nodes {
            let name = node.name.as_str();
            if !seen.insert(name) {
                self.fault(format!("two nodes are named `{name}`"));
            }
            if name.is_empty() || name == START || name == END {
                self.fault(format!("`{name}` cannot be the name of a node"));
            } else if name.contains(['/', '#', '@', ':']) {
                self.fault(format!("`{name}` cannot be the name of a node: `/`, `#`, `@` and `:` part the places of nested runs"));
            }
        }
        if self.ways.iter().any(|(from, to)| *from == END || *to == START) {
            self.fault("ways leave START and lead to END, not the other way round");
        }
        let ends = self.ways.iter().flat_map(|(from, to)| [*from, *to]);
        let unknown: BTreeSet<&str> = ends
            .chain(shape.deferred.iter().map(String::as_str))
            .filter(|name| *name != START && *name != END && !seen.contains(name))
            .collect();
        for name in unknown {
            self.fault(format!("there is no node `{name}`; declare it with `.node(..)`"));
        }
    }

    fn choices(&mut self) {
        let shape = self.shape;
        let routes = shape.routes.iter().map(|choice| (choice, "route"));
        for ((from, targets), what) in routes.chain(shape.gotos.iter().map(|choice| (choice, "goto"))) {
            if targets.is_empty() {
                self.fault(format!("the {what} from `{from}` declares no target"));
            }
            if what == "goto" && from == START {
                self.fault("a goto leaves a node; from START use `.route(..)`");
            }
        }
    }

    fn joins(&mut self) {
        for join in &self.shape.joins {
            let to = &join.to;
            if join.sources.is_empty() {
                self.fault(format!("the join into `{to}` has no source"));
            }
            if to == END || join.sources.iter().any(|source| source == START) {
                self.fault(format!(
                    "the join into `{to}` stands between nodes, not START or END"
                ));
            }
            let sources: BTreeSet<&String> = join.sources.iter().collect();
            if let Some(need) = join.need
                && (need == 0 || need > sources.len())
            {
                self.fault(format!(
                    "the join into `{to}` needs {need} of {} sources; give a number from 1 to {}",
                    sources.len(),
                    sources.len().max(1)
                ));
            }
        }
    }

    fn reach(&mut self) {
        if !self.ways.iter().any(|(from, _)| *from == START) {
            self.fault("nothing leaves START; say where the run begins");
        }
        let reached = self.closure(START, |(from, to)| (from, to));
        let ending = self.closure(END, |(from, to)| (to, from));
        let names: BTreeSet<&str> = self.shape.nodes.iter().map(|node| node.name.as_str()).collect();
        for name in names {
            if !self.ways.iter().any(|(from, _)| *from == name) {
                self.fault(format!(
                    "node `{name}` leads nowhere; add an edge to END or to another node"
                ));
            } else if !ending.contains(name) {
                self.fault(format!(
                    "from node `{name}` the end cannot be reached; give the cycle a way out"
                ));
            }
            if !reached.contains(name) {
                self.fault(format!("node `{name}` cannot be reached from START"));
            }
        }
    }

    fn closure(
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

    /// Keys that nodes declare: known ones, read only where something may have written them, and written by one node of a
    /// step where they have no reducer. What is not declared is not checked.
    fn keys(&mut self, is_reduced: impl Fn(&str) -> Option<bool>) {
        let shape = self.shape;
        let known: BTreeSet<&str> = shape.channels.iter().map(|Channel { key, .. }| &**key).collect();
        let mut faults = Vec::new();
        for node in &shape.nodes {
            for key in node.reads.iter().chain(&node.writes) {
                if !known.contains(key.as_str()) {
                    faults.push(format!(
                        "node `{}` names the key `{key}`, which the state does not have",
                        node.name
                    ));
                }
            }
        }
        // Only where every node says what it writes can a key be known to be written by none.
        if shape
            .nodes
            .iter()
            .all(|node| !node.writes.is_empty() || !node.reads.is_empty())
        {
            let written: BTreeSet<&String> = shape.nodes.iter().flat_map(|node| &node.writes).collect();
            for node in &shape.nodes {
                for key in node.reads.iter().filter(|key| !written.contains(key)) {
                    if known.contains(key.as_str()) && !shape.inputs.contains(key) {
                        faults.push(format!(
                            "node `{}` reads the key `{key}`, which no node writes; declare it as an input with `.input(\"{key}\")` or let a node write it",
                            node.name
                        ));
                    }
                }
            }
        }
        // Targets of one node's static edges always run in one step.
        let mut together: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in &shape.edges {
            together.entry(from).or_default().insert(to);
        }
        let deferred: BTreeSet<&str> = shape.deferred.iter().map(String::as_str).collect();
        for (from, targets) in together {
            let mut writers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for node in &shape.nodes {
                if targets.contains(node.name.as_str()) && !deferred.contains(node.name.as_str()) {
                    for key in node.writes.iter().collect::<BTreeSet<_>>() {
                        writers.entry(key).or_default().push(&node.name);
                    }
                }
            }
            for (key, nodes) in writers {
                if nodes.len() > 1 && is_reduced(key) == Some(false) {
                    let nodes: Vec<String> = nodes.iter().map(|node| format!("`{node}`")).collect();
                    faults.push(format!(
                        "{} run in one step after `{from}` and write the key `{key}`; give it a reducer or let one of them write it",
                        nodes.join(" and ")
                    ));
                }
            }
        }
        self.faults.extend(faults);
    }
}
