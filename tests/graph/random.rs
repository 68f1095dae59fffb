//! Random graphs against a naive interpreter.

use crate::board::{Slate, acts, is_long, waits};
use std::collections::BTreeSet;
use stepwell::{
    Error,
    agent::{Channels, Command, END, Graph, RunContext, START, Send, Targets},
};

type Board = crate::board::Board;

const STEPS: u32 = 14;

/// The same seed, the same numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
    pub(crate) fn is(&mut self, of_ten: u64) -> bool {
        self.below(10) < of_ten
    }
    pub(crate) fn node(&mut self, nodes: usize) -> usize {
        usize::try_from(self.below(nodes as u64)).expect("small")
    }
    fn some(&mut self, nodes: usize, most: u64) -> Vec<usize> {
        let mut some: Vec<usize> = (0..=self.below(most)).map(|_| self.node(nodes)).collect();
        some.sort_unstable();
        some.dedup();
        some
    }
}

/// What a node does beside writing, by the sum it sees.
#[derive(Clone, Debug)]
enum Way {
    Edges,
    /// Where the sum is even; to the end where nobody is named.
    Goto(Vec<usize>),
    /// Where the sum is small: to this node, so many.
    Sends(usize, i64),
}

#[derive(Clone, Debug)]
struct Spec {
    nodes: usize,
    entry: Vec<usize>,
    edges: Vec<(usize, usize)>,
    /// Taken where the sum after the step is a multiple of three.
    routes: Vec<(usize, Vec<usize>)>,
    joins: Vec<(Vec<usize>, usize, usize)>,
    deferred: BTreeSet<usize>,
    ways: Vec<Way>,
    puts: BTreeSet<usize>,
    overwrites: BTreeSet<usize>,
}

impl Spec {
    fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        dice.below(2);
        let nodes = 2 + dice.node(5);
        let way = |dice: &mut Dice| match dice.below(6) {
            0 => Way::Goto(dice.some(nodes, 2)),
            1 => Way::Goto(Vec::new()),
            2 => Way::Sends(dice.node(nodes), 1 + i64::try_from(dice.below(3)).expect("small")),
            _ => Way::Edges,
        };
        let join = |dice: &mut Dice| {
            let sources = dice.some(nodes, 3);
            let need = if dice.is(6) {
                sources.len()
            } else {
                1 + dice.node(sources.len())
            };
            (sources, dice.node(nodes), need)
        };
        let mut edges: Vec<(usize, usize)> = (0..dice.below(7))
            .map(|_| (dice.node(nodes), dice.node(nodes)))
            .filter(|(from, to)| from < to || dice_rarely(seed, *from))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        Self {
            nodes,
            entry: dice.some(nodes, 3),
            edges,
            routes: (0..dice.below(3))
                .map(|_| (dice.node(nodes), dice.some(nodes, 2)))
                .collect(),
            joins: (0..dice.below(3)).map(|_| join(&mut dice)).collect(),
            deferred: if dice.is(4) {
                dice.some(nodes, 2).into_iter().collect()
            } else {
                BTreeSet::new()
            },
            ways: (0..nodes).map(|_| way(&mut dice)).collect(),
            puts: if dice.is(2) {
                dice.some(nodes, 2).into_iter().collect()
            } else {
                BTreeSet::new()
            },
            overwrites: if dice.is(3) {
                dice.some(nodes, 2).into_iter().collect()
            } else {
                BTreeSet::new()
            },
        }
    }

    fn way(&self, node: usize, sum: i64) -> Option<Vec<To>> {
        match &self.ways[node] {
            Way::Goto(targets) if sum % 2 == 0 => Some(targets.iter().map(|to| To::Node(*to)).collect()),
            Way::Sends(to, count) if sum < 40 => {
                Some((1..=*count).map(|input| To::Send(*to, input)).collect())
            }
            _ => None,
        }
    }
}

/// A way back now and then.
fn dice_rarely(seed: u64, from: usize) -> bool {
    Dice(seed ^ from as u64).is(2)
}

#[derive(Clone, Copy, Debug)]
enum To {
    Node(usize),
    Send(usize, i64),
}

pub(crate) fn name(node: usize) -> String {
    format!("n{node}")
}

fn graph<S: Slate>(spec: &Spec) -> Graph<S> {
    let mut builder = S::builder();
    let all: Vec<String> = (0..spec.nodes).map(name).chain([END.to_owned()]).collect();
    for node in 0..spec.nodes {
        let spec = spec.clone();
        let turns = u32::try_from((node * 5) % 4).expect("small");
        let act = acts(move |state: &S, cx: &RunContext| {
            let spec = spec.clone();
            Box::pin(async move {
                waits(turns).await;
                let input: i64 = if cx.has_input() { cx.input()? } else { 0 };
                let sum = state.sum();
                let word = format!("{node}.{input}");
                let mut command = if spec.overwrites.contains(&node) && sum % 3 == 0 {
                    Command::update(S::overwrites(&[&word]))
                } else {
                    Command::update(S::says(word))
                };
                command = command.and(S::adds(i64::try_from(node).expect("small") + 1 + input));
                if spec.puts.contains(&node) {
                    command = command.and(S::puts(input));
                }
                Ok(match spec.way(node, sum) {
                    None => command,
                    Some(to) if to.is_empty() => command.with_goto(END),
                    Some(to) => {
                        let mut targets = Targets::default();
                        for to in to {
                            targets = match to {
                                To::Node(to) => targets.and(name(to)),
                                To::Send(to, input) => targets.and(Send::new(name(to), input)?),
                            };
                        }
                        command.with_goto(targets)
                    }
                })
            })
        });
        builder = builder.node(name(node), act).goto(name(node), all.clone());
    }
    let entry: Vec<String> = spec.entry.iter().copied().map(name).collect();
    builder = builder.route(START, move |_: &S| entry.clone(), all[..spec.nodes].to_vec());
    for (from, to) in &spec.edges {
        builder = builder.edge(name(*from), name(*to));
    }
    for (from, targets) in &spec.routes {
        let targets: Vec<String> = targets.iter().copied().map(name).collect();
        let declared = targets.clone();
        let choose = move |state: &S| {
            if state.sum() % 3 == 0 {
                targets.clone()
            } else {
                Vec::new()
            }
        };
        builder = builder.route(name(*from), choose, declared);
    }
    for (sources, to, need) in &spec.joins {
        builder = builder.quorum(sources.iter().copied().map(name), *need, name(*to));
    }
    for node in &spec.deferred {
        builder = builder.defer(name(*node));
    }
    builder.build().expect("everything is declared")
}

/// How a run ends, as far as it can be told.
#[derive(Debug, PartialEq)]
struct End {
    log: Vec<String>,
    sum: i64,
    plain: Option<i64>,
    steps: u32,
    code: Option<&'static str>,
}

/// Plays a graph with plain sets and lists; `None` where several of a race come in one step, whose winner chance decides.
fn naive(spec: &Spec) -> Option<End> {
    let mut end = End {
        log: vec![],
        sum: 0,
        plain: None,
        steps: 0,
        code: None,
    };
    let (mut ready, mut deferred) = (BTreeSet::new(), BTreeSet::new());
    let mut sends: Vec<(usize, i64)> = Vec::new();
    // For each join: who has come, and, once it fired, who is late.
    let mut come: Vec<(BTreeSet<usize>, Option<BTreeSet<usize>>)> =
        vec![Default::default(); spec.joins.len()];
    let trigger = |to: usize, ready: &mut BTreeSet<usize>, deferred: &mut BTreeSet<usize>| {
        if spec.deferred.contains(&to) {
            deferred.insert(to)
        } else {
            ready.insert(to)
        };
    };
    for to in &spec.entry {
        trigger(*to, &mut ready, &mut deferred);
    }
    loop {
        if ready.is_empty() && sends.is_empty() {
            std::mem::swap(&mut ready, &mut deferred);
        }
        let mut tasks: Vec<(usize, i64)> = ready.iter().map(|node| (*node, 0)).collect();
        tasks.extend(&sends);
        if tasks.is_empty() {
            return Some(end);
        }
        if end.steps == STEPS {
            end.code = Some("step_limit");
            return Some(end);
        }
        for (sources, _, need) in &spec.joins {
            let racing = tasks.iter().filter(|(node, _)| sources.contains(node)).count();
            if *need < sources.len() && racing > 1 {
                return None;
            }
        }
        let sum = end.sum;
        let overs = tasks
            .iter()
            .filter(|(node, _)| spec.overwrites.contains(node) && sum % 3 == 0);
        let overs: Vec<(usize, i64)> = overs.copied().collect();
        let puts = tasks.iter().filter(|(node, _)| spec.puts.contains(node)).count();
        if overs.len() > 1 || puts > 1 {
            end.code = Some("invalid_update");
            return Some(end);
        }
        if let [(node, input)] = overs[..] {
            end.log = vec![format!("{node}.{input}")];
        } else {
            end.log
                .extend(tasks.iter().map(|(node, input)| format!("{node}.{input}")));
        }
        for (node, input) in &tasks {
            end.sum += i64::try_from(*node).expect("small") + 1 + input;
            if spec.puts.contains(node) {
                end.plain = Some(*input);
            }
        }
        end.steps += 1;
        (ready, sends) = Default::default();
        let mut gone = BTreeSet::new();
        for (node, _) in tasks {
            let Some(targets) = spec.way(node, sum) else {
                if !gone.insert(node) {
                    continue;
                }
                for (from, to) in &spec.edges {
                    if *from == node {
                        trigger(*to, &mut ready, &mut deferred);
                    }
                }
                for ((sources, to, need), (here, late)) in spec.joins.iter().zip(&mut come) {
                    if !sources.contains(&node) {
                        continue;
                    }
                    if let Some(waiting) = late {
                        let was_late = waiting.remove(&node);
                        if waiting.is_empty() || !was_late {
                            *late = None;
                        }
                        if was_late {
                            continue;
                        }
                    }
                    here.insert(node);
                    if here.len() == *need {
                        let rest: BTreeSet<usize> = sources
                            .iter()
                            .copied()
                            .filter(|source| !here.contains(source))
                            .collect();
                        *late = (!rest.is_empty()).then_some(rest);
                        here.clear();
                        trigger(*to, &mut ready, &mut deferred);
                    }
                }
                for (from, targets) in &spec.routes {
                    if *from == node && end.sum % 3 == 0 {
                        for to in targets {
                            trigger(*to, &mut ready, &mut deferred);
                        }
                    }
                }
                continue;
            };
            for to in targets {
                match to {
                    To::Node(to) => trigger(to, &mut ready, &mut deferred),
                    To::Send(to, input) => sends.push((to, input)),
                }
            }
        }
    }
}

#[tokio::test]
async fn random_graphs_run_as_a_naive_interpreter_says() {
    async fn check<S: Slate>(seed: u64, spec: &Spec, expected: &End) {
        let graph = graph::<S>(spec);
        for order in [None, Some(seed), Some(seed + 99)] {
            let mut run = graph.run(S::blank()).step_limit(STEPS);
            if let Some(order) = order {
                run = run
                    .seed(order)
                    .concurrency(1 + usize::try_from(order % 4).expect("small"));
            }
            let outcome = run.outcome().await;
            let end = End {
                log: outcome.state.log(),
                sum: outcome.state.sum(),
                plain: outcome.state.plain(),
                steps: outcome.steps,
                code: outcome.error.as_ref().map(Error::code),
            };
            assert_eq!(end, *expected, "seed {seed}, order {order:?}: {spec:#?}");
        }
    }
    let (mut played, mut long, mut faults) = (0, 0, 0);
    for seed in 0..if is_long() { 20_000 } else { 600 } {
        let spec = Spec::of(seed);
        let Some(expected) = naive(&spec) else { continue };
        played += 1;
        long += u32::from(expected.steps > 3);
        faults += u32::from(expected.code == Some("invalid_update"));
        check::<Board>(seed, &spec, &expected).await;
        check::<Channels>(seed, &spec, &expected).await;
    }
    assert!(
        played > 300 && long > 50 && faults > 3,
        "{played} played, {long} long, {faults} faults"
    );
}
