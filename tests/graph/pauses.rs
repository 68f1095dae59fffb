//! Questions and answers.

use crate::board::{Board, Count, Done, Slate, acts, chain, says, seeds, side_by_side, slowly};
use crate::kept::{Kept, stores};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;
use stepwell::{
    Error,
    agent::{Channels, Command, Graph, Node, NodeError, NodeOptions, Outcome, Pause, Run, RunContext},
    store::RunStatus,
};

/// A node that asks under this key and logs the answer; counts how often it began.
pub(crate) fn asks<S: Slate>(key: &'static str, ran: &Count) -> impl Node<S> + 'static {
    let ran = ran.clone();
    acts(move |_: &S, cx: &RunContext| {
        let ran = ran.clone();
        Box::pin(async move {
            ran.more();
            let answer: u8 = cx.ask(key, json!({ "about": key })).await?;
            Ok(S::says(format!("{key}={answer}")).into())
        })
    })
}

/// Where a run is kept: nowhere, or in a store.
pub(crate) enum Place {
    Nowhere,
    Store(Kept),
}

pub(crate) fn places() -> Vec<Place> {
    let mut places = vec![Place::Nowhere];
    places.extend(stores().map(Place::Store));
    places
}

impl Place {
    pub(crate) fn begin<S: Slate>(&self, graph: &Graph<S>) -> Run<S> {
        self.begin_as(graph, "r")
    }

    /// Under this id: many runs share one store.
    fn begin_as<S: Slate>(&self, graph: &Graph<S>, run_id: &str) -> Run<S> {
        let run = graph.run(S::blank()).run_id(run_id);
        match self {
            Self::Nowhere => run,
            Self::Store(kept) => run.store(kept.store()),
        }
    }

    /// The run goes on: from what it left in memory, or by another process.
    pub(crate) fn again<S: Slate>(&self, graph: &Graph<S>, outcome: Outcome<S>) -> Run<S> {
        match self {
            Self::Nowhere => outcome.paused().expect("it paused").resume(),
            Self::Store(kept) => graph.resume(outcome.run_id).store(kept.store()),
        }
    }
}

/// Behaviour 27.
#[tokio::test]
async fn an_answered_node_runs_again_from_its_first_line_and_earlier_nodes_do_not() {
    async fn check<S: Slate>() {
        for place in places() {
            let (earlier, asking) = (Count::default(), Count::default());
            let builder = S::builder()
                .node("earlier", slowly("earlier", 0, &earlier))
                .node("asks", asks("q", &asking));
            let graph = chain(builder, &["earlier", "asks"]);
            let paused = place.begin(&graph).await.expect("pauses");
            assert_eq!(
                (paused.status, paused.pause.clone()),
                (RunStatus::Paused, Some(Pause::Questions))
            );
            assert_eq!(paused.next, ["asks"]);
            let question = &paused.questions[0];
            assert_eq!(
                (question.key.as_str(), question.node.as_str(), question.step),
                ("q", "asks", 2)
            );
            assert_eq!(question.payload, json!({ "about": "q" }));
            // Without an answer it still waits, and nothing runs.
            let still = place.again(&graph, paused).await.expect("waits");
            assert_eq!((still.status, still.questions.len()), (RunStatus::Paused, 1));
            assert_eq!(asking.now(), 1);
            let done = place.again(&graph, still).reply(7).await.expect("ends");
            assert_eq!(
                (done.status, done.state.words()),
                (RunStatus::Done, "earlier q=7".into())
            );
            assert_eq!((earlier.now(), asking.now()), (1, 2));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 28.
#[tokio::test]
async fn two_questions_in_a_row_with_updates_beside_the_answers_apply_each_update_once() {
    async fn check<S: Slate>() {
        for place in places() {
            let twice = acts(|_: &S, cx: &RunContext| {
                Box::pin(async move {
                    let first: u8 = cx.ask("first", ()).await?;
                    let second: u8 = cx.ask("second", ()).await?;
                    Ok(S::says(format!("{first}{second}")).into())
                })
            });
            let graph = chain(
                S::builder().node("twice", twice).node("b", says("b")),
                &["twice", "b"],
            );
            let first = place.begin(&graph).await.expect("pauses");
            let second = place
                .again(&graph, first)
                .with_update(S::says("u1"))
                .reply(1)
                .await
                .expect("pauses");
            assert_eq!(second.state.words(), "u1");
            assert_eq!(second.questions[0].key, "second");
            let done = place
                .again(&graph, second)
                .with_update(S::says("u2"))
                .reply(2)
                .await
                .expect("ends");
            assert_eq!(done.state.words(), "u1 u2 12 b");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviours 29 and 30.
#[tokio::test]
async fn several_questions_are_answered_by_id_all_or_some() {
    async fn check<S: Slate>() {
        for place in places() {
            for seed in seeds() {
                let ran = [Count::default(), Count::default(), Count::default()];
                let falsy = {
                    let ran = ran[0].clone();
                    acts(move |_: &S, cx: &RunContext| {
                        let ran = ran.clone();
                        Box::pin(async move {
                            ran.more();
                            let _: bool = cx.ask("falsy", ()).await?;
                            Ok(Command::default())
                        })
                    })
                };
                let builder = S::builder()
                    .node("falsy", falsy)
                    .node("other", asks("other", &ran[1]))
                    .node("plain", slowly("plain", 3, &ran[2]));
                let graph = side_by_side(builder, &["falsy", "other", "plain"]);
                let paused = place
                    .begin_as(&graph, &format!("r{seed}"))
                    .seed(seed)
                    .await
                    .expect("pauses");
                assert_eq!(paused.state.words(), "plain", "what has finished shows");
                assert_eq!(paused.next, ["falsy", "other"]);
                let ids: Vec<String> = paused.questions.iter().map(|open| open.id.clone()).collect();
                assert_eq!(ids.len(), 2);
                let refused = place.again(&graph, paused).reply(true).outcome().await;
                let told = refused.error.as_ref().expect("which one?").to_string();
                assert!(ids.iter().all(|id| told.contains(id.as_str())), "{told}");
                let half = place
                    .again(&graph, refused)
                    .answer(&ids[0], false)
                    .await
                    .expect("half of it");
                assert_eq!(
                    (half.next.clone(), half.questions.len()),
                    (vec!["other".to_owned()], 1)
                );
                let done = place.again(&graph, half).answer(&ids[1], 3).await.expect("ends");
                assert_eq!(done.state.words(), "other=3 plain");
                assert_eq!(
                    ran.map(|ran| ran.now()),
                    [2, 2, 1],
                    "nobody runs for another's answer"
                );
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviours 31 and 32: an unknown, double, misfitting answer, and one to nothing, is refused before anything is written.
#[tokio::test]
async fn a_wrong_answer_is_refused_before_anything_is_written_and_the_run_still_waits() {
    async fn check<S: Slate>() {
        for place in places() {
            let ran = Count::default();
            let builder = S::builder()
                .node("one", asks("one", &ran))
                .node("two", asks("two", &ran));
            let graph = side_by_side(builder, &["one", "two"]);
            let mut outcome = place.begin(&graph).await.expect("pauses");
            let ids: Vec<String> = outcome.questions.iter().map(|open| open.id.clone()).collect();
            let records = async || match &place {
                Place::Nowhere => 0,
                Place::Store(kept) => kept.records("r").await,
            };
            let before = records().await;
            type Give<S> = Box<dyn Fn(Run<S>) -> Run<S>>;
            let (a, b) = (ids[0].clone(), ids[1].clone());
            let (a2, a3, a4) = (a.clone(), a.clone(), a.clone());
            let wrong: Vec<(&str, Give<S>)> = vec![
                ("not_found", Box::new(|run| run.answer("nobody", 1))),
                ("invalid_input", Box::new(move |run| run.answer(&a2, "a word"))),
                (
                    "invalid_input",
                    Box::new(move |run| run.answer(&a3, 1).answer(&a3, 2)),
                ),
                (
                    "invalid_input",
                    Box::new(move |run| run.answer(&a4, 1).answer(&b, 999)),
                ),
                (
                    "invalid_update",
                    Box::new(|run| run.with_update(S::from_json(json!({ "messages": [{ "remove": "x" }] })))),
                ),
            ];
            for (code, give) in wrong {
                let run = give(place.again(&graph, outcome));
                outcome = run.outcome().await;
                let error = outcome.error.take().expect("refused");
                assert_eq!(error.code(), code, "{error}");
                assert_eq!(outcome.status, RunStatus::Paused, "it waits as before");
                assert_eq!(outcome.questions.len(), 2);
            }
            assert_eq!((records().await, ran.now()), (before, 2));
            // What fits goes on though another question stays open.
            let half = place
                .again(&graph, outcome)
                .answer(&a, 1)
                .await
                .expect("one of them");
            assert_eq!(half.state.words(), "one=1");
            let before = records().await;
            let again = place.again(&graph, half).answer(&a, 1).outcome().await;
            let error = again.error.as_ref().expect("it was answered").to_string();
            assert!(error.contains(a.as_str()), "{error}");
            assert_eq!(records().await, before);
            let done = place.again(&graph, again).answer(&ids[1], 2).await.expect("ends");
            assert_eq!(done.state.words(), "one=1 two=2");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 33, first half.
#[tokio::test]
async fn a_node_that_asks_does_not_cancel_a_running_sibling() {
    async fn check<S: Slate>() {
        let (asking, slow) = (Count::default(), Count::default());
        let builder = S::builder()
            .node("asks", asks("q", &asking))
            .node("slow", slowly("slow", 30, &slow));
        let graph = side_by_side(builder, &["asks", "slow"]);
        for seed in seeds() {
            let paused = graph.run(S::blank()).seed(seed).await.expect("pauses");
            assert_eq!(
                (paused.state.words(), paused.next.clone()),
                ("slow".into(), vec!["asks".into()])
            );
            let done = paused
                .paused()
                .expect("waits")
                .resume()
                .reply(1)
                .await
                .expect("ends");
            assert_eq!(done.state.words(), "q=1 slow");
        }
        assert_eq!(slow.now(), asking.now() / 2);
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 34.
#[tokio::test]
async fn a_question_is_no_failure_for_retries_handlers_and_time_limits() {
    async fn check<S: Slate>() {
        let (ran, handled) = (Count::default(), Count::default());
        let options = NodeOptions::new()
            .retry(stepwell::agent::Retry::attempts(5))
            .timeout(Duration::from_mins(1))
            .on_error(slowly("handled", 0, &handled));
        let builder = S::builder()
            .node("asks", asks("q", &ran))
            .options("asks", options);
        let graph = chain(builder, &["asks"]);
        let paused = graph.run(S::blank()).await.expect("pauses");
        assert_eq!((ran.now(), handled.now()), (1, 0));
        let done = paused
            .paused()
            .expect("waits")
            .resume()
            .reply(2)
            .await
            .expect("ends");
        assert_eq!((done.state.words(), handled.now()), ("q=2".into(), 0));
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_question_expires_by_the_given_clock_and_the_node_is_told() {
    async fn check<S: Slate>() {
        for place in places() {
            let clock = Arc::new(AtomicU64::new(1_000));
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
                }) as _
            });
            let graph = chain(S::builder().node("patient", patient), &["patient"]);
            let paused = place.begin(&graph).clock(tick.clone()).await.expect("pauses");
            let question = paused.questions[0].clone();
            assert_eq!((question.asked_ms, question.expires_ms), (1_000, Some(6_000)));
            clock.store(5_999, Ordering::SeqCst);
            let still = place
                .again(&graph, paused)
                .clock(tick.clone())
                .await
                .expect("waits");
            assert_eq!(still.status, RunStatus::Paused);
            clock.store(6_000, Ordering::SeqCst);
            let late = place
                .again(&graph, still)
                .clock(tick.clone())
                .answer(&question.id, 1)
                .outcome()
                .await;
            assert!(
                late.error
                    .as_ref()
                    .expect("too late")
                    .to_string()
                    .contains("too late")
            );
            let done = place
                .again(&graph, late)
                .clock(tick)
                .await
                .expect("goes on without");
            assert_eq!(done.state.words(), "too late");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// A node that passes a question over is not paused by it, and what was in the way of it is an error of the node.
#[tokio::test]
async fn a_question_asked_twice_under_one_key_is_an_error_of_the_node() {
    async fn check<S: Slate>() {
        let twice = acts(
            |_: &S, cx: &RunContext| -> futures::future::BoxFuture<'_, Done<S>> {
                Box::pin(async move {
                    let _: u8 = cx.ask("q", ()).await?;
                    let _: u8 = cx.ask("q", ()).await?;
                    Ok::<_, NodeError>(Command::default())
                })
            },
        );
        let graph = chain(S::builder().node("twice", twice), &["twice"]);
        let paused = graph.run(S::blank()).await.expect("pauses");
        let ended = paused.paused().expect("waits").resume().reply(1).outcome().await;
        assert!(ended.error.expect("used before").to_string().contains("twice"));
    }
    check::<Board>().await;
    check::<Channels>().await;
}
