//! What a run stands on fails it: a store that refuses, forgets to say so or panics, a clock that goes backwards, two that
//! answer at once, more work than one append takes.

use crate::{
    board::{Board, Count, Slate, acts, chain, is_long, seeds},
    dropped::{goes_on, undisturbed},
    kept::{Fault, Hooked, Kept, stores},
    works::{Notes, graph},
};
use std::sync::{
    Arc, Barrier,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;
use stepwell::{
    Error, Scope,
    agent::{Channels, Command, END, Graph, Outcome, Run, RunContext, Runs, START, Send, Targets},
    store::{RunStatus, RunStore},
    stores::{MemoryStore, SqliteStore},
};

/// To the question and on to the end, as far as the store lets it.
async fn lives<S: Slate>(graph: &Graph<S>, store: &Arc<dyn RunStore>, is_sync: bool) -> Outcome<S> {
    let set = |run: Run<S>| {
        let run = run.store(store.clone());
        if is_sync { run.sync() } else { run }
    };
    let outcome = set(graph.run(S::blank()).run_id("r")).outcome().await;
    if outcome.status != RunStatus::Paused {
        return outcome;
    }
    set(graph.resume("r").answer(&outcome.questions[0].id, 7))
        .outcome()
        .await
}

#[tokio::test]
async fn a_run_whose_store_fails_at_any_call_ends_with_an_error_and_goes_on_later() {
    async fn check<S: Slate>(fault: Fault, is_sync: bool) {
        let whole = undisturbed::<S>().await;
        let mut faults = 0;
        for call in (0..).step_by(if is_long() || is_sync { 1 } else { 3 }) {
            let (notes, memory) = (Notes::default(), MemoryStore::new());
            let memory: Arc<dyn RunStore> = Arc::new(memory);
            let faulty = Arc::new(Hooked::faulty(memory.clone(), call, fault));
            let store: Arc<dyn RunStore> = faulty.clone();
            let outcome = lives(&graph::<S>(&notes.note()), &store, is_sync).await;
            if !faulty.is_faulted() {
                assert_eq!(outcome.status, RunStatus::Done);
                break;
            }
            faults += 1;
            let place = format!("{fault:?} at call {call}, sync {is_sync}");
            let error = outcome
                .error
                .unwrap_or_else(|| panic!("{place}: nobody was told"));
            assert_eq!(
                (outcome.status, error.code()),
                (RunStatus::Failed, "host"),
                "{place}: {error}"
            );
            goes_on::<S>(&place, &notes, &memory, &whole).await;
        }
        assert!(faults > 4, "{faults} faults");
    }
    for fault in [Fault::Refused, Fault::DoneAndRefused, Fault::Panics] {
        Box::pin(check::<Board>(fault, true)).await;
        Box::pin(check::<Channels>(fault, false)).await;
    }
}

#[tokio::test]
async fn a_store_that_panics_is_an_error_for_whoever_looks_at_a_run() {
    let (memory, notes): (Arc<dyn RunStore>, _) = (Arc::new(MemoryStore::new()), Notes::default());
    let graph = graph::<Board>(&notes.note());
    let run = graph.run(Board::blank()).run_id("r").store(memory.clone());
    let paused = run.await.expect("pauses");
    assert_eq!(paused.status, RunStatus::Paused);
    for call in 0..2 {
        let faulty = Hooked::faulty(memory.clone(), call, Fault::Panics);
        let error = graph
            .view(&faulty, &Scope::local(), "r")
            .await
            .expect_err("it panics");
        assert_eq!(error.code(), "host", "{error}");
        let faulty = Arc::new(Hooked::faulty(memory.clone(), call, Fault::Panics));
        let runs = Runs::new();
        let handle = runs
            .start(graph.resume("r").store(faulty).reply(7))
            .expect("starts");
        let outcome = handle.outcome().await.expect("its task is whole");
        assert_eq!(outcome.error.expect("it panics").code(), "host");
    }
}

/// The time is the host's: whatever it says, a run pauses, is answered and ends.
#[tokio::test]
async fn a_clock_that_goes_backwards_or_stands_at_its_ends_harms_no_run() {
    async fn check<S: Slate>() {
        let times = [
            [9_000, 3_000, 0],
            [u64::MAX - 10_000, 0, u64::MAX],
            [0, u64::MAX - 1, 5],
            [5_000, 4_999, 9_999],
        ];
        for kept in stores() {
            for (round, [begun, answered, later]) in (0..).zip(times) {
                let clock = Arc::new(AtomicU64::new(begun));
                let tick = {
                    let clock = Arc::clone(&clock);
                    move || clock.load(Ordering::SeqCst)
                };
                let patient = acts(|_: &S, cx: &RunContext| {
                    Box::pin(async move {
                        let asked = cx.ask::<u8>("q", ()).expires_in(Duration::from_secs(5)).await;
                        let word = match asked {
                            Ok(answer) => format!("answer {answer}"),
                            Err(error) if matches!(error.error(), Error::Timeout { .. }) => "too late".into(),
                            Err(error) => return Err(error),
                        };
                        Ok(S::says(word).into())
                    })
                });
                let graph = chain(S::builder().node("patient", patient), &["patient"]);
                let run_id = format!("r{round}");
                let run = graph.run(S::blank()).run_id(&run_id).store(kept.store());
                let paused = run.clock(tick.clone()).await.expect("pauses");
                let question = paused.questions[0].clone();
                assert_eq!(question.asked_ms, begun);
                clock.store(answered, Ordering::SeqCst);
                let is_late = question.expires_ms.is_some_and(|end| end <= answered);
                let run = graph.resume(&run_id).store(kept.store()).clock(tick.clone());
                let outcome = run.answer(&question.id, 7).outcome().await;
                assert_eq!(outcome.error.is_some(), is_late, "{:?}", outcome.error);
                clock.store(later, Ordering::SeqCst);
                let run = graph.resume(&run_id).store(kept.store()).clock(tick);
                let done = run.await.expect("goes on");
                let expected = match (is_late, done.status) {
                    (false, RunStatus::Done) => "answer 7",
                    // Before its time again: it waits as before.
                    (true, RunStatus::Paused) => "",
                    (true, RunStatus::Done) => "too late",
                    other => panic!("round {round}: {other:?}"),
                };
                assert_eq!(done.state.words(), expected, "{} round {round}", kept.name);
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Two programs with the same file open, each with a runtime of its own.
#[test]
fn of_two_that_answer_one_run_at_the_same_moment_one_goes_on_and_the_other_is_told() {
    fn pays<S: Slate>(paid: &Count) -> Graph<S> {
        let paid = paid.clone();
        let asks = acts(|_: &S, cx: &RunContext| {
            Box::pin(async move {
                let answer: u8 = cx.ask("sure", ()).await?;
                Ok(S::says(format!("sure={answer}")).into())
            })
        });
        let pays = acts(move |_: &S, _: &RunContext| {
            let paid = paid.clone();
            Box::pin(async move {
                paid.more();
                Ok(Command::update(S::says("paid")))
            })
        });
        chain(
            S::builder().node("asks", asks).node("pays", pays),
            &["asks", "pays"],
        )
    }
    fn alone<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work)
    }
    fn check<S: Slate>(through_runs: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("runs.db");
        let first: Arc<dyn RunStore> = Arc::new(SqliteStore::open(&path).expect("opens"));
        let second: Arc<dyn RunStore> = Arc::new(SqliteStore::open(&path).expect("opens twice"));
        for round in seeds() {
            let (run_id, paid) = (format!("r{round}"), Count::default());
            let graph = pays::<S>(&paid);
            let run = graph.run(S::blank()).run_id(&run_id).store(first.clone());
            let question = alone(async { run.await.expect("pauses").questions[0].id.clone() });
            let barrier = Barrier::new(2);
            let answers = |store: &Arc<dyn RunStore>, answer: u8| {
                let run = graph
                    .resume(&run_id)
                    .store(store.clone())
                    .sync()
                    .answer(&question, answer);
                barrier.wait();
                alone(async {
                    if through_runs {
                        Runs::new()
                            .start(run)
                            .expect("starts")
                            .outcome()
                            .await
                            .expect("its task is whole")
                    } else {
                        run.outcome().await
                    }
                })
            };
            let [one, two] = std::thread::scope(|scope| {
                let two = scope.spawn(|| answers(&second, 2));
                [answers(&first, 1), two.join().expect("no panic")]
            });
            let (won, lost, answer) = if one.status == RunStatus::Done && one.error.is_none() {
                (one, two, 1)
            } else {
                (two, one, 2)
            };
            assert_eq!(won.state.words(), format!("sure={answer} paid"), "round {round}");
            let error = lost
                .error
                .unwrap_or_else(|| panic!("round {round}: both went on"));
            // It came second at the store, or found the question answered.
            assert!(
                ["conflict", "not_found", "invalid_input"].contains(&error.code()),
                "round {round}: {error}"
            );
            assert_eq!(paid.now(), 1, "round {round}");
            let view = alone(graph.view(&*second, &Scope::local(), &run_id)).expect("reads");
            assert_eq!(
                (view.status, view.state.words()),
                (RunStatus::Done, won.state.words())
            );
        }
    }
    check::<Board>(false);
    check::<Channels>(true);
}

/// More tasks end at once than a store takes records in one append.
#[tokio::test]
async fn ten_thousand_sends_are_kept_and_read_back() {
    async fn check<S: Slate>(kept: &Kept, is_sync: bool) {
        const COUNT: u32 = 10_000;
        let (begun, ran) = (Count::default(), Count::default());
        let stops = Count::of(1);
        let part = {
            let ran = ran.clone();
            acts(move |_: &S, cx: &RunContext| {
                let ran = ran.clone();
                Box::pin(async move {
                    let number: i64 = cx.input()?;
                    ran.more();
                    Ok(Command::update(S::adds(number)))
                })
            })
        };
        let fails_once = acts(move |_: &S, _: &RunContext| {
            let fails = stops.less();
            Box::pin(async move {
                if fails {
                    return Err(stepwell::agent::NodeError::new("not yet"));
                }
                Ok(Command::update(S::says("after")))
            })
        });
        let sends = {
            let begun = begun.clone();
            move |_: &S| {
                begun.more();
                (1..=COUNT).fold(Targets::default(), |targets, number| {
                    targets.and(Send::new("part", number).expect("a number"))
                })
            }
        };
        let graph = S::builder()
            .node("part", part)
            .node("after", fails_once)
            .route(START, sends, "part")
            .edge("part", "after")
            .edge("after", END)
            .build()
            .expect("no fault");
        let run = graph.run(S::blank()).run_id("r").store(kept.store());
        let run = if is_sync { run.sync() } else { run };
        let failed = run.outcome().await;
        let error = failed.error.expect("the node after them fails");
        assert_eq!(error.code(), "node_failed", "{}: {error}", kept.name);
        let done = graph.resume("r").store(kept.store()).await.expect("goes on");
        let sum = i64::from(COUNT) * i64::from(COUNT + 1) / 2;
        assert_eq!((done.state.sum(), done.state.words()), (sum, "after".into()));
        assert_eq!(
            (ran.now(), begun.now()),
            (COUNT, 1),
            "{}: none ran twice",
            kept.name
        );
    }
    for kept in stores() {
        Box::pin(check::<Board>(&kept, kept.name == "memory")).await;
    }
    check::<Channels>(&Kept::sqlite(), true).await;
}
