//! Every future of the agent crate dropped after each of its polls: the run goes on to the same end.

use crate::{
    board::{Board, Count, Slate, acts, chain, is_long, says, waits},
    kept::Kept,
    tools::{assert_closed, call, model, tool, words},
    works::{Came, Notes, assert_effects, finish, graph, recorded},
};
use futures::StreamExt;
use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use stepwell::{
    Scope, ToolOptions, ToolOutput,
    agent::{Agent, Channels, RunContext},
    store::{RunStatus, RunStore},
};

/// Polls a future so often and drops it; what it came to where it did.
async fn polled<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(ended) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(ended);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// All poll numbers, or every so many of them.
fn strides() -> usize {
    if is_long() { 1 } else { 3 }
}

/// Goes on with a run that was dropped: it ends like the undisturbed one, and what was recorded is not done again.
async fn goes_on<S: Slate>(
    place: &str,
    notes: &Notes,
    store: &Arc<dyn RunStore>,
    whole: &(Came, Vec<String>),
) {
    let known = recorded(store, "r").await;
    let graph = graph::<S>(&notes.note());
    let came = Came::of(&finish(&graph, store, "r").await.expect("ends"));
    assert!(came.is_like(&whole.0), "{place}: {came:#?} is not {:#?}", whole.0);
    assert_effects(place, &known, &notes.lines(), &whole.1);
}

async fn undisturbed<S: Slate>() -> (Came, Vec<String>) {
    let (notes, kept) = (Notes::default(), Kept::slow());
    let graph = graph::<S>(&notes.note());
    let came = Came::of(&finish(&graph, &kept.store(), "r").await.expect("ends"));
    (came, notes.lines())
}

#[tokio::test]
async fn a_run_and_a_resumed_one_dropped_after_any_poll_go_on_to_the_same_end() {
    async fn check<S: Slate>(is_sync: bool) {
        let whole = undisturbed::<S>().await;
        let mut most = 0;
        for polls in (1..).step_by(strides()) {
            let (notes, kept) = (Notes::default(), Kept::slow());
            let graph = graph::<S>(&notes.note());
            let set = |run: stepwell::agent::Run<S>| {
                let run = run.store(kept.store());
                if is_sync { run.sync() } else { run }
            };
            // The first drive: to the question.
            let Some(paused) = polled(set(graph.run(S::blank()).run_id("r")).outcome(), polls).await else {
                most = polls;
                goes_on::<S>(
                    &format!("run dropped after poll {polls}"),
                    &notes,
                    &kept.store(),
                    &whole,
                )
                .await;
                continue;
            };
            // The second: with the answer, to the end.
            let mut is_done = false;
            for polls in (1..).step_by(strides()) {
                let (notes, kept) = (Notes::default(), Kept::slow());
                let graph = crate::works::graph::<S>(&notes.note());
                let begun = graph
                    .run(S::blank())
                    .run_id("r")
                    .store(kept.store())
                    .await
                    .expect("pauses");
                assert_eq!(begun.questions, paused_like(&begun, &paused));
                let run = graph
                    .resume("r")
                    .store(kept.store())
                    .answer(&begun.questions[0].id, 7);
                let run = if is_sync { run.sync() } else { run };
                is_done = polled(run.into_future(), polls).await.is_some();
                let place = format!("resumed run dropped after poll {polls}");
                goes_on::<S>(&place, &notes, &kept.store(), &whole).await;
                if is_done {
                    assert!(polls > 8, "{polls} polls");
                    break;
                }
            }
            assert!(is_done && most > 6, "{most} polls");
            break;
        }
    }
    /// The same question, asked at another time.
    fn paused_like<S: Slate>(
        now: &stepwell::agent::Outcome<S>,
        then: &stepwell::agent::Outcome<S>,
    ) -> Vec<stepwell::agent::Question> {
        let mut questions = then.questions.clone();
        for (then, now) in questions.iter_mut().zip(&now.questions) {
            then.asked_ms = now.asked_ms;
        }
        questions
    }
    Box::pin(check::<Board>(true)).await;
    check::<Channels>(false).await;
}

#[tokio::test]
async fn a_stream_dropped_after_any_event_leaves_a_run_that_goes_on() {
    async fn check<S: Slate>() {
        let whole = undisturbed::<S>().await;
        for events in (1..).step_by(strides()) {
            let (notes, kept) = (Notes::default(), Kept::slow());
            let graph = graph::<S>(&notes.note());
            let mut stream = graph
                .run(S::blank())
                .run_id("r")
                .store(kept.store())
                .values()
                .stream();
            let mut is_over = false;
            for _ in 0..events {
                is_over |= stream.next().await.is_none();
            }
            drop(stream);
            let before = (notes.lines().len(), kept.records("r").await);
            waits(10).await;
            let after = (notes.lines().len(), kept.records("r").await);
            assert_eq!(before, after, "nothing goes on behind a dropped stream");
            let place = format!("stream dropped after event {events}");
            goes_on::<S>(&place, &notes, &kept.store(), &whole).await;
            if is_over {
                break;
            }
        }
    }
    Box::pin(check::<Board>()).await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_turn_dropped_after_any_poll_has_begun_or_has_not() {
    async fn check<S: Slate>() {
        let (done, failed) = (Count::default(), Count::default());
        for polls in 1.. {
            let kept = Kept::slow();
            let acting = acts(|_: &S, cx: &RunContext| {
                Box::pin(async move {
                    let number: u32 = cx
                        .step("number", async { Ok::<_, stepwell::Error>(cx.step_number()) })
                        .await?;
                    Ok(S::says(format!("step {number}")).into())
                })
            });
            let builder = S::builder().node("acting", acting).node("b", says("b"));
            let graph = chain(builder, &["acting", "b"]);
            let first = graph
                .run(S::blank())
                .run_id("r")
                .store(kept.store())
                .await
                .expect("runs");
            assert_eq!(first.state.words(), "step 1 b");
            let turn = graph.turn("r", S::says("turn")).store(kept.store()).outcome();
            let ended = polled(turn, polls).await;
            let view = graph
                .view(&*kept.store, &Scope::local(), "r")
                .await
                .expect("kept");
            let has_begun = view.state.words().contains("turn");
            let run = if has_begun {
                done.more();
                graph.resume("r").store(kept.store())
            } else {
                failed.more();
                graph.turn("r", S::says("turn")).store(kept.store())
            };
            let state = run.await.expect("goes on").state;
            assert_eq!(state.words(), "step 1 b turn step 3 b", "after poll {polls}");
            if ended.is_some_and(|ended| ended.status == RunStatus::Done) {
                break;
            }
        }
        assert!(
            done.now() > 0 && failed.now() > 0,
            "{} begun, {} not",
            done.now(),
            failed.now()
        );
    }
    Box::pin(check::<Board>()).await;
    check::<Channels>().await;
}

#[tokio::test]
async fn an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end() {
    let build = |store: Arc<dyn RunStore>| {
        let lines = vec![
            vec![call("1", "act", 1), call("2", "act", 2)],
            vec![call("3", "act", 3)],
            vec![words("done")],
        ];
        let act = tool("act", ToolOptions::default(), |arguments, _| async move {
            waits(2).await;
            Ok(ToolOutput::text(format!("acted {}", arguments["n"])))
        });
        Agent::new(model(lines))
            .tools([act])
            .store(store)
            .build()
            .expect("no fault")
    };
    let whole = build(Kept::slow().store())
        .run("go")
        .run_id("r")
        .await
        .expect("answers");
    for polls in (1..).step_by(strides()) {
        let kept = Kept::slow();
        let is_done = polled(
            Box::pin(build(kept.store()).run("go").run_id("r").outcome()),
            polls,
        )
        .await
        .is_some();
        let resumed = match build(kept.store()).resume("r").await {
            Err(error) if error.code() == "not_found" => build(kept.store())
                .run("go")
                .run_id("r")
                .await
                .expect("begins anew"),
            resumed => resumed.expect("resumes"),
        };
        assert_eq!(resumed.messages, whole.messages, "dropped after poll {polls}");
        assert_eq!(
            (resumed.usage, resumed.spent.calls),
            (whole.usage.clone(), whole.spent.calls)
        );
        assert_closed(&resumed.messages);
        if is_done {
            break;
        }
    }
}
