//! Runs cut off after each record of their journal, in memory and in SQLite.

use crate::{
    board::{Board, Count, Slate, acts, chain, is_long, says},
    kept::{Kept, stores},
    works::{Came, Notes, assert_effects, finish, graph, recorded},
};
use stepwell::{
    Scope,
    agent::{Channels, NodeError, RunContext},
    store::RunStatus,
};

#[tokio::test]
async fn a_run_cut_off_after_any_record_ends_as_if_it_had_not_been() {
    async fn check<S: Slate>(kept: &Kept) {
        let notes = Notes::default();
        let undisturbed = graph::<S>(&notes.note());
        let whole = finish(&undisturbed, &kept.store(), "whole").await.expect("ends");
        assert_eq!((whole.status, whole.steps), (RunStatus::Done, 12));
        let (whole, whole_effects) = (Came::of(&whole), notes.lines());
        let records = kept.records("whole").await;
        assert!(records > 40, "{records} records");
        let stride = if is_long() || kept.name == "memory" { 1 } else { 5 };
        let mut upto = 2;
        while upto <= records {
            let place = format!("{} after record {upto}", kept.name);
            let run_id = format!("c{upto:04}"); // as long as the other: tokens are estimated
            kept.store
                .copy(&Scope::local(), "whole", &run_id, Some(upto))
                .await
                .expect("copies");
            let known: Vec<String> = recorded(&kept.store(), &run_id)
                .await
                .into_iter()
                .map(|effect| effect.replace(":whole:", &format!(":{run_id}:")))
                .collect();
            let notes = Notes::default();
            let resumed = finish(&graph::<S>(&notes.note()), &kept.store(), &run_id).await;
            let resumed = Came::of(&resumed.expect("ends"));
            let text = format!("{resumed:?}").replace(&format!("{run_id}:"), "whole:");
            if !text.contains(crate::works::UNKNOWN) {
                assert_eq!(text, format!("{whole:?}"), "{place}");
            }
            // What was known is not done again; the rest is, once.
            let mut happened = notes.lines();
            assert!(known.iter().all(|effect| !happened.contains(effect)), "{place}");
            happened.extend(known.iter().cloned());
            let renamed: Vec<String> = whole_effects
                .iter()
                .map(|effect| effect.replace(":whole:", &format!(":{run_id}:")))
                .collect();
            assert_effects(&place, &known, &happened, &renamed);
            upto += stride;
        }
    }
    for kept in stores() {
        check::<Board>(&kept).await;
    }
    for kept in stores() {
        check::<Channels>(&kept).await;
    }
}

/// A done run resumed gives its result; nothing runs and nothing is written. Behaviour 23 without its forks.
#[tokio::test]
async fn a_done_run_resumed_is_a_view() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let ran = Count::default();
            let builder = S::builder().node("a", crate::board::slowly("a", 0, &ran));
            let graph = chain(builder, &["a"]);
            let first = graph
                .run(S::blank())
                .run_id("r")
                .store(kept.store())
                .await
                .expect("runs");
            let before = kept.records("r").await;
            let again = graph.resume("r").store(kept.store()).await.expect("done already");
            assert_eq!(
                (again.state.words(), again.status),
                (first.state.words(), RunStatus::Done)
            );
            assert_eq!((kept.records("r").await, ran.now()), (before, 1));
            let same = graph.run(S::blank()).run_id("r").store(kept.store()).await;
            assert_eq!(same.expect_err("exists").code(), "conflict");
            assert_eq!((kept.records("r").await, ran.now()), (before, 1));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_memoised_step_is_replayed_and_not_repeated() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let (charged, left) = (Count::default(), Count::of(1));
            let pays = {
                let (charged, left) = (charged.clone(), left.clone());
                acts(move |_: &S, cx: &RunContext| {
                    let (charged, left) = (charged.clone(), left.clone());
                    Box::pin(async move {
                        let work = async { Ok::<_, NodeError>(format!("receipt {}", charged.more() + 1)) };
                        let receipt: String = cx.step("charge", work).await?;
                        if left.less() {
                            return Err(NodeError::new("the mailer is down"));
                        }
                        let again = cx
                            .step("charge", async { Ok::<_, NodeError>(String::new()) })
                            .await;
                        assert!(again.is_err(), "a key is used once");
                        Ok(S::says(receipt).into())
                    }) as _
                })
            };
            let builder = S::builder().node("pays", pays).node("b", says("b"));
            let graph = chain(builder, &["pays", "b"]);
            let first = graph.run(S::blank()).run_id("r").store(kept.store()).await;
            assert!(first.is_err());
            let state = graph
                .resume("r")
                .store(kept.store())
                .await
                .expect("resumes")
                .state;
            assert_eq!((state.words(), charged.now()), ("receipt 1 b".into(), 1));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Three ways of saving come to the same journal at the end.
#[tokio::test]
async fn every_way_of_saving_leaves_the_same_run() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let names = ["sync", "async", "exit"];
            let mut views = Vec::new();
            for name in names {
                let notes = Notes::default();
                let graph = graph::<S>(&notes.note());
                let run = graph.run(S::blank()).run_id(name).store(kept.store());
                let run = match name {
                    "sync" => run.sync(),
                    "exit" => run.at_exit(),
                    _ => run,
                };
                let outcome = run.await.expect("pauses");
                assert_eq!(outcome.status, RunStatus::Paused);
                let view = graph
                    .view(&*kept.store, &Scope::local(), name)
                    .await
                    .expect("kept");
                assert_eq!(view.status, RunStatus::Paused, "{name} {}", kept.name);
                let saved = view.state.save().expect("plain data").to_string();
                views.push((saved, view.steps, view.next, view.questions.len()));
            }
            assert!(views.windows(2).all(|two| two[0] == two[1]), "{views:#?}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
