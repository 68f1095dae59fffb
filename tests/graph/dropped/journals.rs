//! What is done with stored runs from outside, dropped anywhere.

use super::broken_off;
use crate::{
    board::{Board, Slate, acts},
    works::{Notes, acting, finish, recorded},
};
use futures::{StreamExt, future::BoxFuture};
use std::sync::{Arc, Mutex};
use stepwell::{
    Scope,
    agent::{
        Channels, CheckpointSource, END, Graph, Keep, Migration, RunContext, RunFile, START, StateUpdate,
        WatchItem,
    },
    store::{PageRequest, RunFilter, RunRecord, RunStatus, RunStore},
};

/// `a`, `b`, a question, `last`; the second node under this name.
fn line<S: Slate>(notes: &Notes, second: &str) -> Graph<S> {
    let note = notes.note();
    let asks = acts(|_: &S, cx: &RunContext| {
        Box::pin(async move {
            let answer: u8 = cx.ask("sure", ()).await?;
            Ok(S::says(format!("sure={answer}")).into())
        })
    });
    S::builder()
        .name("line")
        .node("a", acting("a", &note))
        .node(second, acting("b", &note))
        .node("asks", asks)
        .node("last", acting("last", &note))
        .edge(START, "a")
        .edge("a", second)
        .edge(second, "asks")
        .edge("asks", "last")
        .edge("last", END)
        .build()
        .expect("no fault")
}

const WORDS: &str = "did:a0 did:b0 sure=7 did:last0";

async fn records(store: &Arc<dyn RunStore>, run_id: &str) -> Vec<RunRecord> {
    store
        .read(&Scope::local(), run_id, 1, 1_000)
        .await
        .expect("reads")
}

/// A stored run that waits for its answer, and what belongs to it.
struct Line<S: Slate> {
    notes: Notes,
    graph: Graph<S>,
    /// What the store had of it before.
    before: Mutex<Vec<RunRecord>>,
}

impl<S: Slate> Line<S> {
    fn new() -> Self {
        let notes = Notes::default();
        Self {
            graph: line(&notes, "b"),
            notes,
            before: Mutex::default(),
        }
    }

    async fn prepare(&self, store: &Arc<dyn RunStore>) {
        self.notes.clear();
        let run = self.graph.run(S::blank()).run_id("r").store(store.clone());
        let paused = run.keep_events().await.expect("pauses");
        assert_eq!(paused.status, RunStatus::Paused);
        let records = records(store, "r").await;
        *self.before.lock().expect("free") = records;
    }

    fn before(&self) -> Vec<RunRecord> {
        self.before.lock().expect("free").clone()
    }

    /// The run goes on to its end, and what was recorded is not done again.
    async fn ends_as_ever(&self, place: &str, store: &Arc<dyn RunStore>, words: &str) {
        let known = recorded(store, "r").await;
        let happened = self.notes.lines();
        assert!(
            known.iter().all(|effect| happened.contains(effect)),
            "{place}: {known:?}"
        );
        let done = finish(&self.graph, store, "r").await.expect("ends");
        assert_eq!(
            (done.status, done.state.words()),
            (RunStatus::Done, words.to_owned()),
            "{place}"
        );
        assert_eq!(self.notes.lines()[happened.len()..], ["did:last0"], "{place}");
    }

    /// The number of the checkpoint that the first node made.
    async fn after_first(&self, store: &Arc<dyn RunStore>) -> u64 {
        let page = PageRequest::default();
        let history = self
            .graph
            .history(&**store, &Scope::local(), "r", page)
            .await
            .expect("reads");
        history
            .items
            .iter()
            .find(|place| place.nodes == ["a"])
            .expect("it ran")
            .seq
    }

    async fn steps(&self, store: &Arc<dyn RunStore>, run_id: &str) -> Vec<u32> {
        let page = PageRequest::default();
        let history = self
            .graph
            .history(&**store, &Scope::local(), run_id, page)
            .await
            .expect("reads");
        history.items.iter().map(|place| place.step).collect()
    }
}

type Act<S> = fn(Graph<S>, Arc<dyn RunStore>) -> BoxFuture<'static, ()>;

fn migration() -> Migration {
    Migration::new().rename_node("b", "bee")
}

fn looks<S: Slate>() -> Vec<(&'static str, Act<S>)> {
    vec![
        ("view", |graph, store| {
            Box::pin(async move {
                let view = graph.view(&*store, &Scope::local(), "r").await.expect("reads");
                assert_eq!(view.state.words(), "did:a0 did:b0");
            })
        }),
        ("view_migrated", |_, store| {
            Box::pin(async move {
                let graph = line::<S>(&Notes::default(), "bee");
                let view = graph
                    .view_migrated(&*store, &Scope::local(), "r", &migration())
                    .await
                    .expect("reads");
                assert_eq!(view.state.words(), "did:a0 did:b0");
            })
        }),
        ("history", |graph, store| {
            Box::pin(async move {
                let (mut page, mut steps) = (PageRequest::first(1), Vec::new());
                loop {
                    let found = graph
                        .history(&*store, &Scope::local(), "r", page)
                        .await
                        .expect("reads");
                    steps.extend(found.items.iter().map(|place| place.step));
                    let Some(next) = found.next else { break };
                    page = PageRequest::after(next, 1);
                }
                assert_eq!(steps, [2, 1, 0]);
            })
        }),
        ("state_at", |graph, store| {
            Box::pin(async move {
                let page = PageRequest::default();
                let history = graph
                    .history(&*store, &Scope::local(), "r", page)
                    .await
                    .expect("reads");
                let seq = history.items[1].seq;
                let view = graph
                    .state_at(&*store, &Scope::local(), "r", seq)
                    .await
                    .expect("reads");
                assert_eq!(view.state.words(), "did:a0");
            })
        }),
        ("check_runs", |graph, store| {
            Box::pin(async move {
                let check = graph
                    .check_runs(&*store, &Scope::local(), &RunFilter::default())
                    .await
                    .expect("reads");
                assert_eq!((check.same.len(), check.total()), (1, 1));
            })
        }),
        ("run_size", |graph, store| {
            Box::pin(async move {
                let size = graph
                    .run_size(&*store, &Scope::local(), "r")
                    .await
                    .expect("reads");
                assert!(size.records > 8, "{size:?}");
            })
        }),
        ("events", |graph, store| {
            Box::pin(async move {
                let mut events = graph.events(store, &Scope::local(), "r", 1);
                let mut next = 1;
                while let Some(item) = events.next().await {
                    match item.expect("reads") {
                        WatchItem::Event(event) => assert_eq!(event.seq, next),
                        other => panic!("{other:?}"),
                    }
                    next += 1;
                }
                assert!(next > 10, "{next} events");
            })
        }),
        ("export and replay_file", |graph, store| {
            Box::pin(async move {
                let file = RunFile::export(&*store, &Scope::local(), "r")
                    .await
                    .expect("whole");
                let report = graph.replay_file(&file).await.expect("replays");
                assert!(report.is_same(), "{:?}", report.divergences);
            })
        }),
    ]
}

#[tokio::test]
async fn looking_at_a_run_dropped_anywhere_changes_nothing() {
    async fn check<S: Slate>() {
        for (what, look) in looks::<S>() {
            let line = Line::<S>::new();
            broken_off(
                what,
                async |store| line.prepare(store).await,
                async |store| look(line.graph.clone(), store).await,
                async |place, store, _: Option<()>| {
                    assert_eq!(records(store, "r").await, line.before(), "{place}");
                    look(line.graph.clone(), store.clone()).await;
                    line.ends_as_ever(place, store, WORDS).await;
                },
            )
            .await;
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Makes the run `f` of the run `r`, with what it comes to in the end.
fn makings<S: Slate>() -> Vec<(&'static str, Act<S>, &'static str)> {
    async fn after_first<S: Slate>(graph: &Graph<S>, store: &Arc<dyn RunStore>) -> u64 {
        let page = PageRequest::default();
        let found = graph.history(&**store, &Scope::local(), "r", page).await;
        let items = found.expect("reads").items;
        items
            .iter()
            .find(|place| place.nodes == ["a"])
            .expect("it ran")
            .seq
    }
    vec![
        (
            "fork",
            |graph, store| {
                Box::pin(async move {
                    let (at, scope) = (after_first(&graph, &store).await, Scope::local());
                    graph.fork(&*store, &scope, "r", at, "f").await.expect("forks");
                })
            },
            WORDS,
        ),
        (
            "replay",
            |graph, store| {
                Box::pin(async move {
                    let (at, scope) = (after_first(&graph, &store).await, Scope::local());
                    let run = graph.replay(store, &scope, "r", at, "f").await.expect("forks");
                    drop(run);
                })
            },
            WORDS,
        ),
        (
            "copy",
            |graph, store| {
                Box::pin(async move {
                    graph
                        .copy(&*store, &Scope::local(), "r", "f")
                        .await
                        .expect("copies");
                })
            },
            WORDS,
        ),
        (
            "import",
            |_, store| {
                Box::pin(async move {
                    let scope = Scope::local();
                    let file = RunFile::export(&*store, &scope, "r").await.expect("whole");
                    file.import(&*store, &scope, "f").await.expect("imports");
                })
            },
            WORDS,
        ),
        (
            "a fork of a file",
            |_, store| {
                Box::pin(async move {
                    let scope = Scope::local();
                    let file = RunFile::export(&*store, &scope, "r").await.expect("whole");
                    file.fork(&*store, &scope, "f", 1).await.expect("forks");
                })
            },
            WORDS,
        ),
        (
            "update_states",
            |graph, store| {
                Box::pin(async move {
                    let steps = vec![
                        vec![StateUpdate::new(S::says("told")).as_node(START)],
                        vec![StateUpdate::new(S::says("as a")).as_node("a")],
                    ];
                    let scope = Scope::local();
                    let told = graph.update_states(&*store, &scope, "f", steps).await;
                    told.expect("writes");
                })
            },
            "told as a did:b0 sure=7 did:last0",
        ),
    ]
}

#[tokio::test]
async fn a_new_run_made_of_another_is_whole_or_not_there() {
    async fn check<S: Slate>() {
        for (what, make, words) in makings::<S>() {
            let line = Line::<S>::new();
            broken_off(
                what,
                async |store| line.prepare(store).await,
                async |store| make(line.graph.clone(), store).await,
                async |place, store, came: Option<()>| {
                    assert_eq!(records(store, "r").await, line.before(), "{place}");
                    let is_there = || async { !records(store, "f").await.is_empty() };
                    assert!(came.is_none() || is_there().await, "{place}");
                    if !is_there().await {
                        make(line.graph.clone(), store.clone()).await;
                    }
                    let made = records(store, "f").await;
                    let count = match what {
                        "copy" | "import" => line.before().len(),
                        "update_states" => 3,
                        _ => {
                            // All up to there, and whose it was.
                            let page = PageRequest::first(1);
                            let scope = Scope::local();
                            let last = line
                                .graph
                                .history(&**store, &scope, "f", page)
                                .await
                                .expect("reads");
                            let at = line.after_first(store).await;
                            let whose = CheckpointSource::Fork {
                                run_id: "r".into(),
                                seq: at,
                            };
                            assert_eq!(last.items[0].source, whose, "{place}");
                            usize::try_from(at).expect("few") + 1
                        }
                    };
                    assert_eq!(made.len(), count, "{place}");
                    let happened = line.notes.lines().len();
                    let done = finish(&line.graph, store, "f").await.expect("ends");
                    assert_eq!(done.state.words(), words, "{place}");
                    let again = line.notes.lines().split_off(happened);
                    let is_behind = matches!(what, "copy" | "import");
                    assert_eq!(again.len(), if is_behind { 1 } else { 2 }, "{place}: {again:?}");
                },
            )
            .await;
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_change_of_a_stored_run_is_made_or_is_not() {
    async fn check<S: Slate>() {
        let scope = Scope::local();
        let line = Line::<S>::new();
        broken_off(
            "update_state",
            async |store| line.prepare(store).await,
            async |store| {
                let update = S::says("written");
                line.graph
                    .update_state(&*store, &Scope::local(), "r", update, Some("asks"))
                    .await
                    .expect("writes")
            },
            async |place, store, came: Option<u64>| {
                let (now, before) = (records(store, "r").await, line.before());
                assert_eq!(now[..before.len()], before, "{place}");
                let is_made = now.len() > before.len();
                assert!(
                    now.len() <= before.len() + 1 && (is_made || came.is_none()),
                    "{place}"
                );
                let words = if is_made {
                    "did:a0 did:b0 written did:last0"
                } else {
                    WORDS
                };
                line.ends_as_ever(place, store, words).await;
            },
        )
        .await;
        for (keep, steps) in [(Keep::Last(2), vec![2, 1]), (Keep::Latest, vec![2])] {
            broken_off(
                "prune",
                async |store| line.prepare(store).await,
                async |store| {
                    line.graph
                        .prune(&*store, &Scope::local(), "r", keep)
                        .await
                        .expect("prunes")
                },
                async |place, store, came: Option<u64>| {
                    let now = line.steps(store, "r").await;
                    let is_pruned = now == steps;
                    assert!(
                        is_pruned || came.is_none() && now == [2, 1, 0],
                        "{place}: {now:?}"
                    );
                    let file = RunFile::export(&**store, &scope, "r").await.expect("whole");
                    if !is_pruned {
                        assert_eq!(records(store, "r").await, line.before(), "{place}");
                        let report = line.graph.replay_file(&file).await.expect("replays");
                        assert!(report.is_same(), "{place}: {:?}", report.divergences);
                        line.graph
                            .prune(&**store, &scope, "r", keep)
                            .await
                            .expect("prunes");
                        assert_eq!(line.steps(store, "r").await, steps, "{place}");
                    }
                    line.ends_as_ever(place, store, WORDS).await;
                },
            )
            .await;
        }
        broken_off(
            "delete",
            async |store| line.prepare(store).await,
            async |store| {
                line.graph
                    .delete(&*store, &Scope::local(), "r")
                    .await
                    .expect("deletes")
            },
            async |place, store, came: Option<bool>| {
                let head = store.head(&scope, "r").await.expect("reads");
                let left = records(store, "r").await;
                if head.is_some() {
                    assert_eq!((left, came), (line.before(), None), "{place}");
                    line.ends_as_ever(place, store, WORDS).await;
                } else {
                    assert!(left.is_empty(), "{place}");
                    assert!(came.is_none_or(|was_there| was_there), "{place}");
                }
            },
        )
        .await;
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_run_dropped_while_it_is_migrated_goes_on_with_the_new_graph_and_its_memos() {
    async fn check<S: Slate>() {
        let line = Line::<S>::new();
        let renamed = self::line::<S>(&line.notes, "bee");
        let again = |store: Arc<dyn RunStore>| renamed.resume("r").store(store).migrate(migration());
        broken_off(
            "resume with a migration",
            async |store| line.prepare(store).await,
            async |store| again(store).reply(7).outcome().await.status,
            async |place, store, came: Option<RunStatus>| {
                assert!(
                    came.is_none_or(|status| status == RunStatus::Done),
                    "{place}: {came:?}"
                );
                let mut outcome = again(store.clone()).await.expect("goes on");
                if outcome.status == RunStatus::Paused {
                    outcome = again(store.clone()).reply(7).await.expect("goes on");
                }
                assert_eq!(
                    (outcome.status, outcome.state.words()),
                    (RunStatus::Done, WORDS.into()),
                    "{place}"
                );
                let known = ["did:a0", "did:b0"];
                let lines = line.notes.lines();
                assert_eq!(lines[..2], known, "{place}");
                assert!(
                    lines[2..].iter().all(|line| line == "did:last0"),
                    "{place}: {lines:?}"
                );
                assert!(lines.len() <= 4, "{place}: {lines:?}");
                // The new graph needs no migration any more.
                let view = renamed.view(&**store, &Scope::local(), "r").await.expect("reads");
                assert_eq!(view.status, RunStatus::Done, "{place}");
            },
        )
        .await;
    }
    check::<Board>().await;
    check::<Channels>().await;
}
