//! Runs, their streams and agents, dropped while they go.

use super::{goes_on, poll_numbers, polled, undisturbed};
use crate::{
    board::{Board, Count, Slate, acts, chain, says, waits},
    kept::Kept,
    tools::{assert_closed, call, tool, words},
    works::{Notes, graph},
};
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::json;
use std::sync::Arc;
use stepwell::{
    ChatModel, Chunk, Document, Explanation, Hit, Message, Origin, Part, Query, Retriever, Role, Scope,
    ToolOptions, ToolOutput,
    agent::{
        Agent, Channels, ContextOptions, DropToolOutputs, RunContext, RunFile, Summarise, Trim,
        retriever_tool,
    },
    providers::Scripted,
    store::{RunStatus, RunStore},
};

#[tokio::test]
async fn a_run_and_a_resumed_one_dropped_after_any_poll_go_on_to_the_same_end() {
    async fn check<S: Slate>(is_sync: bool) {
        let whole = undisturbed::<S>().await;
        let mut most = 0;
        for polls in poll_numbers() {
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
            for polls in poll_numbers() {
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
        // Event by event, then in one piece.
        for is_finished in [false, true] {
            for dropped_at in poll_numbers() {
                let (notes, kept) = (Notes::default(), Kept::slow());
                let graph = graph::<S>(&notes.note());
                let run = graph.run(S::blank()).run_id("r").store(kept.store());
                let mut stream = run.values().stream();
                let mut is_over = false;
                if is_finished {
                    is_over = polled(stream.finish(), dropped_at).await.is_some();
                } else {
                    for _ in 0..dropped_at {
                        is_over |= stream.next().await.is_none();
                    }
                    drop(stream);
                }
                let before = (notes.lines().len(), kept.records("r").await);
                waits(10).await;
                let after = (notes.lines().len(), kept.records("r").await);
                assert_eq!(before, after, "nothing goes on behind a dropped stream");
                let place = format!("stream dropped after {dropped_at}, finished {is_finished}");
                goes_on::<S>(&place, &notes, &kept.store(), &whole).await;
                if is_over {
                    break;
                }
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

/// Finds two passages, after a while.
#[derive(Debug)]
struct Shelf;

#[async_trait]
impl Retriever for Shelf {
    async fn retrieve(&self, _: &Query) -> stepwell::Result<Vec<Hit>> {
        waits(2).await;
        let document = Document::new("runs.md", "A journal only grows. It is read again.");
        let cut = |at: u32, span| {
            Ok(Hit::new(
                Chunk::of(&document, at, span)?,
                1.0,
                Explanation::default(),
            ))
        };
        Ok::<_, stepwell::Error>(vec![cut(0, 0..21)?, cut(1, 22..39)?])
    }
}

/// Says one line after the other of the turn that is under way, however much of what was before it is left out.
fn in_this_turn(lines: Vec<Vec<Part>>) -> Arc<dyn ChatModel> {
    Arc::new(Scripted::new().forever(move |request| {
        let messages = &request.messages;
        let asked = messages.iter().rposition(|message| message.role == Role::User);
        let spoken = messages[asked.unwrap_or(0)..]
            .iter()
            .filter(|message| message.role == Role::Assistant);
        Ok(lines
            .get(spoken.count())
            .cloned()
            .unwrap_or_else(|| vec![words("over")]))
    }))
}

/// With passages before the question, a search as a tool, and a long past that is summarised.
#[tokio::test]
async fn an_agent_dropped_after_any_poll_has_a_whole_history_in_the_end() {
    let build = |store: Arc<dyn RunStore>, is_sync: bool| {
        let lines = vec![
            vec![call("1", "act", 1), call("2", "act", 2)],
            vec![Part::tool_call("3", "search", json!({ "query": "journal" }))],
            vec![call("4", "act", 3)],
            vec![words("done")],
        ];
        let act = tool("act", ToolOptions::default(), |arguments, _| async move {
            waits(2).await;
            Ok(ToolOutput::text(format!("acted {}", arguments["n"])))
        });
        let shelf: Arc<dyn Retriever> = Arc::new(Shelf);
        let agent = Agent::new(in_this_turn(lines))
            .tools([act])
            .tool(retriever_tool("search", shelf.clone()))
            .context(shelf, ContextOptions::default())
            .context_policy(DropToolOutputs::default().keep_rounds(1).min_bytes(1))
            .context_policy(
                Summarise::over_tokens(2_000, in_this_turn(vec![vec![words("long ago")]])).keep_turns(1),
            )
            .context_policy(Trim::to_tokens(100_000))
            .store(store);
        let agent = if is_sync { agent.sync() } else { agent };
        agent.build().expect("no fault")
    };
    let past = || {
        let mut past: Vec<Message> = (0..6)
            .map(|turn| {
                let words = Part::text("many words of the past ".repeat(100), Origin::User);
                let role = if turn % 2 == 0 {
                    Role::User
                } else {
                    Role::Assistant
                };
                Message::new(role, vec![words]).with_id(format!("past {turn}"))
            })
            .collect();
        past.push(Message::user("go").with_id("question"));
        past
    };
    let kept = Kept::slow();
    let agent = build(kept.store(), false);
    let whole = agent.run(past()).run_id("r").await.expect("answers");
    assert_eq!(whole.answer, "done");
    let file = RunFile::export(&*kept.store, &Scope::local(), "r")
        .await
        .expect("whole");
    let report = agent.graph().replay_file(&file).await.expect("replays");
    assert!(report.is_same(), "{:?}", report.divergences);
    assert_eq!(
        (&report.outcome.usage, report.outcome.spent.calls),
        (&whole.usage, whole.spent.calls)
    );
    for is_sync in [false, true] {
        for polls in poll_numbers() {
            let kept = Kept::slow();
            let agent = build(kept.store(), is_sync);
            let run = agent.run(past()).run_id("r");
            let is_done = polled(Box::pin(run.outcome()), polls).await.is_some();
            let resumed = match agent.resume("r").await {
                Err(error) if error.code() == "not_found" => {
                    agent.run(past()).run_id("r").await.expect("begins anew")
                }
                resumed => resumed.expect("resumes"),
            };
            let place = format!("dropped after poll {polls}, sync {is_sync}");
            assert_eq!(resumed.messages, whole.messages, "{place}");
            assert_eq!(
                (resumed.usage, resumed.spent.calls),
                (whole.usage.clone(), whole.spent.calls),
                "{place}"
            );
            assert_closed(&resumed.messages);
            if is_done {
                assert!(polls > 8, "{place}");
                break;
            }
        }
    }
}
