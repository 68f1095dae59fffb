//! [`Compatibility`]: whether a graph can go on with the runs of another.

use super::shape::GraphShape;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whether a graph can go on with runs that another version of it has stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compatibility {
    /// Nothing that a run depends on has changed.
    Same,
    /// Nodes, ways or keys were added, moved or taken away, and every key a run may hold is still there: runs go on,
    /// except those that stand before a node that is gone.
    Compatible {
        /// What changed, one sentence each.
        changes: Vec<String>,
    },
    /// Keys are gone or fold in another way: the stored state has to be turned into one of this graph first.
    NeedsMigration {
        /// Why, one sentence each.
        reasons: Vec<String>,
    },
    /// It is another graph.
    Refused {
        /// Why, one sentence each.
        reasons: Vec<String>,
    },
}

impl GraphShape {
    /// Whether `newer` can go on with runs of this one.
    pub fn compare(&self, newer: &Self) -> Compatibility {
        if self.fingerprint() == newer.fingerprint() {
            return Compatibility::Same;
        }
        let names =
            |shape: &Self| -> BTreeSet<String> { shape.nodes.iter().map(|node| node.name.clone()).collect() };
        let (old_nodes, new_nodes) = (names(self), names(newer));
        if old_nodes.is_disjoint(&new_nodes) {
            return Compatibility::Refused {
                reasons: vec!["they have no node in common".to_owned()],
            };
        }
        let mut reasons = Vec::new();
        for old in &self.channels {
            match newer.channels.iter().find(|new| new.key == old.key) {
                None => reasons.push(format!("the key `{}` is gone", old.key)),
                Some(new) if new != old => reasons.push(format!(
                    "the key `{}` was folded by `{}` and is by `{}`",
                    old.key, old.reducer, new.reducer
                )),
                Some(_) => {}
            }
        }
        if !reasons.is_empty() {
            return Compatibility::NeedsMigration { reasons };
        }
        let mut changes = Vec::new();
        changes.extend(
            new_nodes
                .difference(&old_nodes)
                .map(|name| format!("the node `{name}` is new")),
        );
        changes.extend(
            old_nodes
                .difference(&new_nodes)
                .map(|name| format!("the node `{name}` is gone")),
        );
        for new in &newer.channels {
            if !self.channels.iter().any(|old| old.key == new.key) {
                changes.push(format!("the key `{}` is new", new.key));
            }
        }
        if changes.is_empty() {
            changes.push("the order of the nodes or the ways between them changed".to_owned());
        }
        Compatibility::Compatible { changes }
    }
}
