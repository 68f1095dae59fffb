//! Where a run pauses though nobody is asked, and where a further input takes it up.

use crate::board::{Board, Count, Slate, acts, chain, side_by_side, slowly, waits};
use crate::kept::stores;
use crate::pauses::{asks, places};
use stepwell::{
    Cancel,
    agent::{Channels, Pause, Run, RunContext, node_sync},
    store::RunStatus,
};

#[tokio::test]
async fn a_run_pauses_before_and_after_named_nodes() {
    async fn check<S: Slate>() {
        for place in places() {
            let ran = Count::default();
            let builder = S::builder()
                .node("a", slowly("a", 0, &ran))
                .node("b", slowly("b", 0, &ran))
                .node("c", slowly("c", 0, &ran));
            let graph = chain(builder, &["a", "b", "c"]);
            let set = |run: Run<S>| run.break_before(["b"]).break_after(["b", "c"]);
            let before = set(place.begin(&graph)).await.expect("pauses");
            assert_eq!(
                before.pause,
                Some(Pause::Before {
                    nodes: vec!["b".into()]
                })
            );
            assert_eq!(
                (before.state.words(), before.next.clone()),
                ("a".into(), vec!["b".into()])
            );
            let after = set(place.again(&graph, before)).await.expect("pauses");
            assert_eq!(
                after.pause,
                Some(Pause::After {
                    nodes: vec!["b".into()]
                })
            );
            assert_eq!(after.state.words(), "a b");
            let done = set(place.again(&graph, after))
                .await
                .expect("ends: c was the last");
            assert_eq!(
                (done.status, done.state.words()),
                (RunStatus::Done, "a b c".into())
            );
            assert_eq!(ran.now(), 3);
            let error = place.begin(&graph).run_id("other").break_before(["nobody"]).await;
            assert!(error.expect_err("no such node").to_string().contains("`nobody`"));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 39.
#[tokio::test]
async fn a_drained_run_ends_its_step_and_goes_on_later_and_one_in_its_last_step_just_ends() {
    async fn check<S: Slate>() {
        for place in places() {
            for at in ["a", "c"] {
                let drain = Cancel::new();
                let step = |name: &'static str| {
                    let drain = drain.clone();
                    acts(move |_: &S, _| {
                        let drain = drain.clone();
                        Box::pin(async move {
                            if name == at {
                                drain.cancel();
                            }
                            waits(3).await;
                            Ok(S::says(name).into())
                        }) as _
                    })
                };
                let builder = S::builder()
                    .node("a", step("a"))
                    .node("b", step("b"))
                    .node("c", step("c"));
                let graph = chain(builder, &["a", "b", "c"]);
                let run_id = format!("r{at}");
                let outcome = place.begin(&graph).run_id(&run_id).drain(drain.clone()).await;
                let outcome = outcome.expect("no failure");
                if at == "c" {
                    assert_eq!(
                        (outcome.status, outcome.state.words()),
                        (RunStatus::Done, "a b c".into())
                    );
                    continue;
                }
                assert_eq!(
                    (outcome.pause.clone(), outcome.state.words()),
                    (Some(Pause::Drained), "a".into())
                );
                assert_eq!(outcome.next, ["b"]);
                let done = place
                    .again(&graph, outcome)
                    .run_id(&run_id)
                    .await
                    .expect("goes on");
                assert_eq!(done.state.words(), "a b c");
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_further_input_gives_open_questions_up_and_keeps_what_had_finished() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let ran = Count::default();
            let builder = S::builder()
                .node("asks", asks("q", &ran))
                .node("plain", node_sync(|_: &S, _: &RunContext| Ok(S::says("plain"))));
            let graph = side_by_side(builder, &["asks", "plain"]);
            graph
                .run(S::blank())
                .run_id("r")
                .store(kept.store())
                .await
                .expect("pauses");
            let before = kept.records("r").await;
            let refused = graph
                .turn("r", S::says("x"))
                .store(kept.store())
                .reply(1)
                .outcome()
                .await;
            assert_eq!(refused.error.map(|error| error.code()), Some("invalid_input"));
            assert_eq!(kept.records("r").await, before);
            let turned = graph
                .turn("r", S::says("turn"))
                .store(kept.store())
                .await
                .expect("pauses again");
            assert_eq!(turned.state.words(), "plain turn plain");
            assert_eq!(turned.questions.len(), 1);
            let done = graph
                .resume("r")
                .store(kept.store())
                .reply(1)
                .await
                .expect("ends");
            assert_eq!(done.state.words(), "plain turn q=1 plain");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
