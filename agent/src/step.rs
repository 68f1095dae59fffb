//! Which node is next: pure, serialisable, without a clock and without an await.
//!
//! [`Topology`] is a graph's shape in numbers (nodes in declaration order). [`Schedule`] is a place in a run; it
//! advances by the exits of the tasks of one step. The journal keeps a schedule per step, so a run goes on from where
//! it was without asking any route again.

use serde::{Deserialize, Serialize};

/// A node by its place in the order of declaration.
pub(crate) type NodeIndex = u32;

/// A node's way on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    /// Static edges, without those to the end.
    pub(crate) edges: Vec<NodeIndex>,
    /// Joins it takes part in.
    pub(crate) joins: Vec<usize>,
    /// It waits until nothing else is left to do.
    pub(crate) is_deferred: bool,
}

/// A node that runs once all its sources have.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) sources: Vec<NodeIndex>,
    pub(crate) target: NodeIndex,
}

/// A graph's shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    pub(crate) nodes: Vec<Ways>,
    pub(crate) joins: Vec<Join>,
}

/// How a task of a step ended, for the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Along the static edges and joins, and to what its routes chose.
    Edges(Vec<NodeIndex>),
    /// There instead.
    Goto(Vec<NodeIndex>),
}

/// A place in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// Steps that have ended.
    pub(crate) step: u32,
    /// Nodes of the next step, in declaration order.
    pub(crate) ready: Vec<NodeIndex>,
    /// Joins that wait: which sources have arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    arrived: Vec<(usize, Vec<NodeIndex>)>,
    /// Deferred nodes that were triggered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<NodeIndex>,
}

impl Schedule {
    /// The place before the first step.
    pub(crate) fn start(topology: &Topology, entry: Vec<NodeIndex>) -> Self {
        let mut schedule = Self::default();
        schedule.trigger(topology, &entry);
        schedule.settle();
        schedule
    }

    /// Ends the step: what its tasks, in declaration order, lead to is ready next. Several triggers of one node in one
    /// step run it once.
    pub(crate) fn advance(&mut self, topology: &Topology, exits: &[(NodeIndex, Exit)]) {
        self.step += 1;
        self.ready.clear();
        for (node, exit) in exits {
            match exit {
                Exit::Goto(targets) => self.trigger(topology, targets),
                Exit::Edges(routed) => {
                    let ways = &topology.nodes[*node as usize];
                    self.trigger(topology, &ways.edges);
                    self.trigger(topology, routed);
                    for &join in &ways.joins {
                        self.arrive(topology, join, *node);
                    }
                }
            }
        }
        self.settle();
    }

    fn trigger(&mut self, topology: &Topology, targets: &[NodeIndex]) {
        for &target in targets {
            if topology.nodes[target as usize].is_deferred {
                self.deferred.push(target);
            } else {
                self.ready.push(target);
            }
        }
    }

    fn arrive(&mut self, topology: &Topology, join: usize, node: NodeIndex) {
        let known = self.arrived.iter().position(|(waiting, _)| *waiting == join);
        let at = known.unwrap_or_else(|| {
            self.arrived.push((join, Vec::new()));
            self.arrived.len() - 1
        });
        let seen = &mut self.arrived[at].1;
        if !seen.contains(&node) {
            seen.push(node);
        }
        let Join { sources, target } = &topology.joins[join];
        if seen.len() == sources.len() {
            self.arrived.swap_remove(at);
            self.trigger(topology, &[*target]);
        }
    }

    fn settle(&mut self) {
        if self.ready.is_empty() {
            self.ready.append(&mut self.deferred);
        }
        self.ready.sort_unstable();
        self.ready.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Join, Schedule, Topology, Ways};
    use proptest::prelude::*;

    fn topology(edges: &[(u32, u32)], joins: &[(&[u32], u32)], deferred: &[u32], nodes: u32) -> Topology {
        let mut topology = Topology {
            nodes: vec![Ways::default(); nodes as usize],
            joins: Vec::new(),
        };
        for (from, to) in edges {
            topology.nodes[*from as usize].edges.push(*to);
        }
        for (sources, target) in joins {
            for source in *sources {
                topology.nodes[*source as usize].joins.push(topology.joins.len());
            }
            topology.joins.push(Join {
                sources: sources.to_vec(),
                target: *target,
            });
        }
        for node in deferred {
            topology.nodes[*node as usize].is_deferred = true;
        }
        topology
    }

    fn walk(topology: &Topology, entry: Vec<u32>, most: usize) -> Vec<Vec<u32>> {
        let mut schedule = Schedule::start(topology, entry);
        let mut steps = Vec::new();
        while !schedule.ready.is_empty() && steps.len() < most {
            steps.push(schedule.ready.clone());
            let exits: Vec<_> = schedule
                .ready
                .iter()
                .map(|node| (*node, Exit::Edges(Vec::new())))
                .collect();
            schedule.advance(topology, &exits);
        }
        steps
    }

    #[test]
    fn branches_of_unequal_length_trigger_a_plain_node_twice_and_a_join_once() {
        // 0 → 1 → 3, 0 → 2 → 4 → 3
        let edges = [(0, 1), (0, 2), (2, 4), (1, 3), (4, 3)];
        assert_eq!(
            walk(&topology(&edges, &[], &[], 5), vec![0], 9),
            [vec![0], vec![1, 2], vec![3, 4], vec![3]]
        );
        let joined = topology(&edges[..3], &[(&[1, 4], 3)], &[], 5);
        assert_eq!(walk(&joined, vec![0], 9), [vec![0], vec![1, 2], vec![4], vec![3]]);
    }

    /// Behaviour 12.
    #[test]
    fn a_deferred_node_runs_once_after_all_other_work() {
        let edges = [(0, 1), (0, 2), (2, 4), (1, 3), (4, 3)];
        let topology = topology(&edges, &[], &[3], 5);
        assert_eq!(
            walk(&topology, vec![0], 9),
            [vec![0], vec![1, 2], vec![4], vec![3]]
        );
    }

    /// Behaviour 11.
    #[test]
    fn a_join_beside_a_plain_edge_runs_its_target_for_each() {
        // 0 → 1, 0 → 2 → 4; join(1, 4) → 3 and 1 → 3
        let topology = topology(&[(0, 1), (0, 2), (2, 4), (1, 3)], &[(&[1, 4], 3)], &[], 5);
        assert_eq!(
            walk(&topology, vec![0], 9),
            [vec![0], vec![1, 2], vec![3, 4], vec![3]]
        );
    }

    #[test]
    fn a_goto_replaces_edges_and_joins_and_a_join_starts_anew_after_it_fired() {
        let topology = topology(&[(0, 1), (2, 0)], &[(&[0, 1], 2)], &[], 3);
        let mut schedule = Schedule::start(&topology, vec![0]);
        schedule.advance(&topology, &[(0, Exit::Goto(vec![0]))]);
        assert_eq!((schedule.ready.clone(), schedule.arrived.len()), (vec![0], 0));
        assert_eq!(
            walk(&topology, vec![0], 7),
            [vec![0], vec![1], vec![2], vec![0], vec![1], vec![2], vec![0]]
        );
    }

    proptest! {
        /// The rule in its plainest words: ready next is the sorted set of all targets of all edges.
        #[test]
        fn the_next_step_is_the_set_of_the_targets_and_a_stored_schedule_goes_on_alike(
            edges in proptest::collection::vec((0u32..6, 0u32..6), 0..14),
            entry in proptest::collection::vec(0u32..6, 1..3),
        ) {
            let topology = topology(&edges, &[], &[], 6);
            let mut schedule = Schedule::start(&topology, entry);
            for _ in 0..6 {
                let mut expected: Vec<u32> = edges.iter().filter(|(from, _)| schedule.ready.contains(from)).map(|(_, to)| *to).collect();
                expected.sort_unstable();
                expected.dedup();
                let exits: Vec<_> = schedule.ready.iter().map(|node| (*node, Exit::Edges(Vec::new()))).collect();
                let stored = serde_json::to_string(&schedule).expect("plain data");
                let mut again: Schedule = serde_json::from_str(&stored).expect("reads back");
                schedule.advance(&topology, &exits);
                again.advance(&topology, &exits);
                prop_assert_eq!(&schedule.ready, &expected);
                prop_assert_eq!(&schedule, &again);
            }
        }
    }
}
