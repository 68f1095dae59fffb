//! Random pauses, answered in any order and portion, against the run without any.

use crate::board::{Board, Count, Slate, acts, is_long};
use crate::kept::Kept;
use crate::random::{Dice, name};
use std::collections::BTreeMap;
use stepwell::{
    agent::{Channels, END, Graph, NodeError, RunContext, START, Subgraph, node_sync},
    store::RunStatus,
};

/// A node that does something once, asks, does something more, asks again; without `asks` it knows the answers.
fn asking<S: Slate>(node: usize, asks: bool, done: &Effects) -> impl stepwell::agent::Node<S> + 'static {
    let done = done.clone();
    acts(move |state: &S, cx: &RunContext| {
        let (done, at) = (done.clone(), state.log().len());
        Box::pin(async move {
            let mut words = Vec::new();
            for part in 0..2 {
                let key = format!("{node}.{part}");
                let effect = format!("{}.{at}.{key}", cx.path().join("/"));
                let done = done.clone();
                let work = async move {
                    done.more(&effect);
                    Ok::<_, NodeError>(())
                };
                cx.step(&key, work).await?;
                let answer: usize = if asks { cx.ask(&key, part).await? } else { part * 7 };
                words.push(format!("{key}={answer}"));
            }
            Ok(S::says(words.join(",")).into())
        })
    })
}

/// How often each effect happened.
#[derive(Clone, Debug, Default)]
struct Effects(std::sync::Arc<std::sync::Mutex<BTreeMap<String, u32>>>);

impl Effects {
    fn more(&self, key: &str) {
        *self.0.lock().expect("free").entry(key.to_owned()).or_default() += 1;
    }
    fn all(&self) -> BTreeMap<String, u32> {
        self.0.lock().expect("free").clone()
    }
}

fn questions<S: Slate>(seed: u64, asks: bool, done: &Effects) -> Graph<S> {
    let mut dice = Dice(seed);
    dice.below(3);
    let width = 1 + dice.node(4);
    let mut builder = S::builder().node("end", node_sync(|_: &S, _| Ok(S::says("end"))));
    let mut sources = Vec::new();
    for node in 0..width {
        let mode = dice.below(5);
        let node_name = name(node);
        builder = if mode < 2 {
            builder.node(&node_name, asking(node, dice.is(7) && asks, done))
        } else {
            // Where nothing is kept, work is done again: it is not counted.
            let done = if mode == 4 { &Effects::default() } else { done };
            let inner = S::builder()
                .node("a", asking(node * 10, dice.is(5) && asks, done))
                .node("b", asking(node * 10 + 1, dice.is(5) && asks, done))
                .node("c", asking(node * 10 + 2, false, done));
            let inner = inner
                .edge(START, "a")
                .edge(START, "b")
                .join(["a", "b"], "c")
                .edge("c", END)
                .build()
                .expect("no fault");
            let sub = Subgraph::new(
                inner,
                |_: &S, _| Ok(S::adds(1)),
                |inner: S| Ok(S::says(inner.words())),
            );
            builder.node(
                &node_name,
                match mode {
                    2 => sub,
                    3 => sub.persistent(),
                    _ => sub.stateless(),
                },
            )
        };
        builder = builder.edge(START, &node_name);
        sources.push(node_name);
    }
    builder
        .join(sources, "end")
        .edge("end", END)
        .build()
        .expect("no fault")
}

#[tokio::test]
async fn random_pauses_answered_in_any_order_and_portion_end_like_the_run_without_any() {
    async fn check<S: Slate>(seed: u64) -> u32 {
        let mut dice = Dice(seed ^ 0xabc);
        let (plain, done) = (Effects::default(), Effects::default());
        let expected = questions::<S>(seed, false, &plain)
            .run(S::blank())
            .await
            .expect("runs");
        let graph = questions::<S>(seed, true, &done);
        let kept = match dice.below(8) {
            0 => Some(Kept::sqlite()),
            1..=4 => Some(Kept::memory()),
            _ => None,
        };
        let mut run = graph.run(S::blank()).run_id("r").seed(seed);
        if let Some(kept) = &kept {
            run = run.store(kept.store());
        }
        let mut outcome = run.await.expect("no failure");
        let mut rounds = 0;
        while outcome.status == RunStatus::Paused {
            rounds += 1;
            assert!(rounds < 60, "seed {seed} never ends: {:?}", outcome.questions);
            let mut open = outcome.questions.clone();
            let mut run = match &kept {
                Some(kept) => graph.resume("r").store(kept.store()),
                None => outcome.paused().expect("it paused").resume(),
            };
            run = run.seed(seed ^ rounds);
            for _ in 0..=dice.below(open.len() as u64) {
                let question = open.swap_remove(dice.node(open.len()));
                let part = question.payload.as_u64().expect("a number");
                run = run.answer(question.id, part * 7);
            }
            outcome = run.await.expect("no failure");
        }
        assert_eq!(outcome.state.words(), expected.state.words(), "seed {seed}");
        assert_eq!(outcome.steps, expected.steps);
        assert_eq!(done.all(), plain.all(), "seed {seed}");
        assert!(done.all().values().all(|count| *count == 1), "{:?}", done.all());
        u32::try_from(rounds).expect("few")
    }
    let paused = Count::default();
    for seed in 0..if is_long() { 2_000 } else { 80 } {
        for rounds in [check::<Board>(seed).await, check::<Channels>(seed).await] {
            if rounds > 1 {
                paused.more();
            }
        }
    }
    assert!(paused.now() > 60, "{} runs paused more than once", paused.now());
}
