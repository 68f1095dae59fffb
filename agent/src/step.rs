//! Which node is next: pure, serialisable, without a clock and without an await.
//!
//! [`Topology`] is a graph's shape in numbers (nodes in declaration order). [`Schedule`] is a place in a run; it
//! advances by the exits of the tasks of one step. The journal keeps a schedule per step, so a run goes on from where
//! it was without asking any route again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A node by its place in the order of declaration.
pub(crate) type NodeIndex = u32;

/// One piece of work of a step: a node that is ready, or a Send by its place in the step's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskId {
    pub(crate) node: NodeIndex,
    pub(crate) send: Option<u32>,
}

impl TaskId {
    /// The order in which updates fold: ready nodes in the order of declaration, then Sends in their own.
    pub(crate) fn order(self) -> (u32, NodeIndex) {
        (self.send.map_or(0, |send| send.saturating_add(1)), self.node)
    }
}

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

/// A node that runs once so many of its sources have.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) sources: Vec<NodeIndex>,
    pub(crate) target: NodeIndex,
    /// How many have to arrive: all of them, or fewer.
    pub(crate) need: usize,
}

impl Join {
    /// Once enough have arrived the rest are not waited for.
    pub(crate) fn is_race(&self) -> bool {
        self.need < self.sources.len()
    }
}

/// A graph's shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    pub(crate) nodes: Vec<Ways>,
    pub(crate) joins: Vec<Join>,
    /// Some join is a race.
    pub(crate) has_races: bool,
}

/// A Send on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) node: NodeIndex,
    pub(crate) input: Arc<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// How a task of a step ended, for the schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Exit {
    /// Along the static edges and joins; otherwise to the targets alone.
    pub(crate) follows_edges: bool,
    /// A race was decided without it.
    pub(crate) is_dropped: bool,
    /// What its routes or its goto chose.
    pub(crate) targets: Vec<NodeIndex>,
    /// Sends of its routes or its goto.
    pub(crate) sends: Vec<Sent>,
}

impl Exit {
    pub(crate) fn edges() -> Self {
        Self {
            follows_edges: true,
            ..Self::default()
        }
    }

    pub(crate) fn dropped() -> Self {
        Self {
            is_dropped: true,
            ..Self::default()
        }
    }
}

/// A join that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arrivals {
    pub(crate) join: usize,
    /// Sources that have arrived; once it fired, those that have not and will not fire it again.
    pub(crate) sources: Vec<NodeIndex>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_fired: bool,
}

/// A place in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// Steps that have ended.
    pub(crate) step: u32,
    /// Nodes of the next step, in declaration order.
    pub(crate) ready: Vec<NodeIndex>,
    /// Sends of the next step, in the order they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sends: Vec<Sent>,
    /// Joins that wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) arrived: Vec<Arrivals>,
    /// Deferred nodes that were triggered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) deferred: Vec<NodeIndex>,
}

impl Schedule {
    /// The place before the first step.
    pub(crate) fn start(topology: &Topology, entry: &[NodeIndex], sends: Vec<Sent>) -> Self {
        let mut schedule = Self {
            sends,
            ..Self::default()
        };
        schedule.trigger(topology, entry);
        schedule.settle();
        schedule
    }

    /// Nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.ready.is_empty() && self.sends.is_empty()
    }

    /// The tasks of the next step, in the order their updates fold.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        let ready = self.ready.iter().map(|&node| TaskId { node, send: None });
        let sends = (0..).zip(&self.sends).map(|(at, sent)| TaskId {
            node: sent.node,
            send: Some(at),
        });
        ready.chain(sends)
    }

    pub(crate) fn sent(&self, task: TaskId) -> Option<&Sent> {
        task.send.and_then(|at| self.sends.get(at as usize))
    }

    /// Ends the step: what its tasks, in their order, lead to is ready next. Several triggers of one node in one step
    /// run it once; each Send runs.
    pub(crate) fn advance(&mut self, topology: &Topology, exits: Vec<(NodeIndex, Exit)>) {
        self.step += 1;
        self.ready.clear();
        self.sends.clear();
        let mut dropped = Vec::new();
        for (node, exit) in exits {
            if exit.is_dropped {
                dropped.push(node);
                continue;
            }
            if exit.follows_edges {
                let ways = &topology.nodes[node as usize];
                self.trigger(topology, &ways.edges);
                for &join in &ways.joins {
                    self.arrive(topology, join, node);
                }
            }
            self.trigger(topology, &exit.targets);
            self.sends.extend(exit.sends);
        }
        // After the arrivals that decided their races.
        for node in dropped {
            for &join in &topology.nodes[node as usize].joins {
                self.lapse(join, node);
            }
        }
        self.settle();
    }

    /// Sources that no race waits for any more, now that these tasks have gone along their edges.
    pub(crate) fn beaten(&self, topology: &Topology, through: &[NodeIndex]) -> Vec<NodeIndex> {
        let mut beaten = Vec::new();
        for (at, join) in topology
            .joins
            .iter()
            .enumerate()
            .filter(|(_, join)| join.is_race())
        {
            let waiting = self.arrived.iter().find(|arrivals| arrivals.join == at);
            if waiting.is_some_and(|arrivals| arrivals.has_fired) {
                continue;
            }
            let has_arrived = |source: &&NodeIndex| {
                through.contains(source) || waiting.is_some_and(|arrivals| arrivals.sources.contains(source))
            };
            if join.sources.iter().filter(has_arrived).count() >= join.need {
                beaten.extend(join.sources.iter().filter(|source| !through.contains(source)));
            }
        }
        beaten
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
        let known = self.arrived.iter().position(|arrivals| arrivals.join == join);
        let at = known.unwrap_or_else(|| {
            self.arrived.push(Arrivals {
                join,
                sources: Vec::new(),
                has_fired: false,
            });
            self.arrived.len() - 1
        });
        let arrivals = &mut self.arrived[at];
        if arrivals.has_fired {
            if self.lapse(join, node) {
                return;
            }
            // One that had arrived comes again: another round.
            let arrivals = &mut self.arrived[at];
            arrivals.has_fired = false;
            arrivals.sources.clear();
        }
        let arrivals = &mut self.arrived[at];
        if !arrivals.sources.contains(&node) {
            arrivals.sources.push(node);
        }
        let Join {
            sources,
            target,
            need,
        } = &topology.joins[join];
        if arrivals.sources.len() < *need {
            return;
        }
        let late: Vec<NodeIndex> = sources
            .iter()
            .copied()
            .filter(|source| !arrivals.sources.contains(source))
            .collect();
        if late.is_empty() {
            self.arrived.swap_remove(at);
        } else {
            arrivals.sources = late;
            arrivals.has_fired = true;
        }
        self.trigger(topology, &[*target]);
    }

    /// A late source of a join that has fired is not waited for any more; whether it was one.
    fn lapse(&mut self, join: usize, node: NodeIndex) -> bool {
        let fired = |arrivals: &Arrivals| arrivals.join == join && arrivals.has_fired;
        let Some(at) = self.arrived.iter().position(fired) else {
            return false;
        };
        let late = &mut self.arrived[at].sources;
        let Some(place) = late.iter().position(|source| *source == node) else {
            return false;
        };
        late.swap_remove(place);
        if late.is_empty() {
            self.arrived.swap_remove(at);
        }
        true
    }

    /// Leaves nothing to do.
    pub(crate) fn close(&mut self) {
        *self = Self {
            step: self.step,
            ..Self::default()
        };
    }

    fn settle(&mut self) {
        if self.is_done() {
            self.ready.append(&mut self.deferred);
        }
        self.ready.sort_unstable();
        self.ready.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Join, Schedule, Sent, Topology, Ways};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn topology(edges: &[(u32, u32)], joins: &[(&[u32], u32)], deferred: &[u32], nodes: u32) -> Topology {
        let mut topology = Topology {
            nodes: vec![Ways::default(); nodes as usize],
            ..Topology::default()
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
                need: sources.len(),
            });
        }
        for node in deferred {
            topology.nodes[*node as usize].is_deferred = true;
        }
        topology
    }

    fn along(nodes: &[u32]) -> Vec<(u32, Exit)> {
        nodes.iter().map(|node| (*node, Exit::edges())).collect()
    }

    fn goto(target: u32) -> Exit {
        Exit {
            targets: vec![target],
            ..Exit::default()
        }
    }

    fn walk(topology: &Topology, entry: Vec<u32>, most: usize) -> Vec<Vec<u32>> {
        let mut schedule = Schedule::start(topology, &entry, Vec::new());
        let mut steps = Vec::new();
        while !schedule.ready.is_empty() && steps.len() < most {
            steps.push(schedule.ready.clone());
            let exits = along(&schedule.ready);
            schedule.advance(topology, exits);
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
        let mut schedule = Schedule::start(&topology, &[0], Vec::new());
        schedule.advance(&topology, vec![(0, goto(0))]);
        assert_eq!((schedule.ready.clone(), schedule.arrived.len()), (vec![0], 0));
        assert_eq!(
            walk(&topology, vec![0], 7),
            [vec![0], vec![1], vec![2], vec![0], vec![1], vec![2], vec![0]]
        );
    }

    #[test]
    fn a_race_fires_once_a_round_whoever_comes_late_or_never() {
        // 0, 1, 2 race for 3.
        let mut topology = topology(&[], &[(&[0, 1, 2], 3)], &[], 4);
        topology.joins[0].need = 1;
        let begin = |topology: &Topology| Schedule::start(topology, &[0, 1, 2], Vec::new());
        let mut schedule = begin(&topology);
        assert_eq!(schedule.beaten(&topology, &[1]), [0, 2]);
        // 2 was dropped, 0 comes a step later.
        schedule.advance(&topology, vec![(2, Exit::dropped()), (1, Exit::edges())]);
        assert_eq!(schedule.ready, [3]);
        assert!(
            schedule.beaten(&topology, &[]).is_empty(),
            "the race is over for this round"
        );
        schedule.advance(&topology, along(&[0]));
        assert!(schedule.is_done() && schedule.arrived.is_empty(), "{schedule:?}");
        schedule.advance(&topology, along(&[0]));
        assert_eq!(schedule.ready, [3], "another round");
        // Two of three, in different steps.
        topology.joins[0].need = 2;
        let mut schedule = begin(&topology);
        schedule.advance(&topology, along(&[0]));
        assert!(schedule.is_done());
        assert_eq!(
            schedule.beaten(&topology, &[2]),
            [0, 1],
            "0 has arrived and is not run again"
        );
        schedule.advance(&topology, along(&[2]));
        assert_eq!(schedule.ready, [3]);
    }

    /// Behaviour 13, in numbers.
    #[test]
    fn sends_run_after_the_ready_nodes_in_the_order_they_were_made() {
        let topology = topology(&[(0, 2), (1, 2)], &[], &[], 3);
        let sent = |input: i64| Sent {
            node: 2,
            input: Arc::new(input.into()),
            timeout_ms: None,
        };
        let mut schedule = Schedule::start(&topology, &[0, 1], Vec::new());
        let sends = |inputs: [i64; 2]| Exit {
            sends: inputs.map(sent).to_vec(),
            ..Exit::edges()
        };
        schedule.advance(&topology, vec![(0, sends([1, 2])), (1, sends([3, 4]))]);
        let order: Vec<_> = schedule
            .tasks()
            .map(|task| schedule.sent(task).map(|sent| sent.input.as_i64()))
            .collect();
        assert_eq!(
            order,
            [None, Some(Some(1)), Some(Some(2)), Some(Some(3)), Some(Some(4))]
        );
        let mut sorted: Vec<_> = schedule.tasks().collect();
        sorted.reverse();
        sorted.sort_by_key(|task| task.order());
        assert_eq!(sorted, schedule.tasks().collect::<Vec<_>>());
    }

    proptest! {
        /// The rule in its plainest words: ready next is the sorted set of all targets of all edges.
        #[test]
        fn the_next_step_is_the_set_of_the_targets_and_a_stored_schedule_goes_on_alike(
            edges in proptest::collection::vec((0u32..6, 0u32..6), 0..14),
            entry in proptest::collection::vec(0u32..6, 1..3),
        ) {
            let topology = topology(&edges, &[], &[], 6);
            let mut schedule = Schedule::start(&topology, &entry, Vec::new());
            for _ in 0..6 {
                let mut expected: Vec<u32> = edges.iter().filter(|(from, _)| schedule.ready.contains(from)).map(|(_, to)| *to).collect();
                expected.sort_unstable();
                expected.dedup();
                let exits = along(&schedule.ready);
                let stored = serde_json::to_string(&schedule).expect("plain data");
                let mut again: Schedule = serde_json::from_str(&stored).expect("reads back");
                schedule.advance(&topology, exits.clone());
                again.advance(&topology, exits);
                prop_assert_eq!(&schedule.ready, &expected);
                prop_assert_eq!(&schedule, &again);
            }
        }
    }
}
