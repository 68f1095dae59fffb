//! Graphs inside of nodes, in their three modes.

use crate::board::{Board, Count, Slate, acts, chain, says, side_by_side, slowly, waits};
use crate::kept::{Kept, stores};
use serde_json::json;
use std::time::Duration;
use stepwell::{
    Cancel,
    agent::{
        Channels, Command, END, Graph, NodeError, NodeOptions, Pause, Retry, RunContext, START, Send,
        Subgraph, Targets, node_sync,
    },
    store::RunStatus,
};

/// How a graph inside a node is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Fresh,
    Persistent,
    Stateless,
}

const MODES: [Mode; 3] = [Mode::Fresh, Mode::Persistent, Mode::Stateless];

/// A graph as a node: its log becomes the log of the one around it.
fn inside<S: Slate>(graph: Graph<S>, mode: Mode) -> Subgraph<S, S> {
    let node = Subgraph::new(
        graph,
        |_: &S, _| Ok(S::adds(1)),
        |inner: S| Ok(S::says(format!("[{}]", inner.words()))),
    );
    match mode {
        Mode::Fresh => node,
        Mode::Persistent => node.persistent(),
        Mode::Stateless => node.stateless(),
    }
}

/// Behaviour 41.
#[tokio::test]
async fn a_persistent_subgraph_goes_on_where_it_was_and_each_node_has_its_own() {
    async fn check<S: Slate>() {
        for kept in stores() {
            for mode in MODES {
                let inner = || chain(S::builder().node("word", says("w")), &["word"]);
                let again = node_sync(|state: &S, _: &RunContext| {
                    Ok(Command::update(S::adds(1)).with_goto(if state.sum() < 2 { "one" } else { END }))
                });
                let graph = S::builder()
                    .node("one", inside(inner(), mode))
                    .node("two", inside(inner(), mode))
                    .node("again", again)
                    .edge(START, "one")
                    .edge("one", "two")
                    .edge("two", "again")
                    .goto("again", ["one", END])
                    .build()
                    .expect("no fault");
                let run_id = format!("{mode:?}");
                let run = graph.run(S::blank()).run_id(&run_id).store(kept.store());
                let words = run.await.expect("runs").state.words();
                let turn = graph.turn(&run_id, S::adds(-1)).store(kept.store());
                let turned = turn.await.expect("runs").state.words();
                let (first, second) = match mode {
                    Mode::Persistent => (
                        "[w] [w] [w w] [w w] [w w w] [w w w]",
                        "[w] [w] [w w] [w w] [w w w] [w w w] [w w w w] [w w w w]",
                    ),
                    _ => ("[w] [w] [w] [w] [w] [w]", "[w] [w] [w] [w] [w] [w] [w] [w]"),
                };
                assert_eq!(
                    (words.as_str(), turned.as_str()),
                    (first, second),
                    "{} {mode:?}",
                    kept.name
                );
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 42: a node's name that begins like another's, and an answer meant for one of them.
#[tokio::test]
async fn questions_of_nodes_with_alike_names_are_told_apart() {
    async fn check<S: Slate>() {
        for mode in MODES {
            for kept in stores() {
                let inner = |name: &'static str| {
                    let node = acts(move |_: &S, cx: &RunContext| {
                        Box::pin(async move {
                            let answer: u8 = cx.ask("q", ()).await?;
                            Ok(S::says(format!("{name} {answer}")).into())
                        }) as _
                    });
                    inside(chain(S::builder().node("ask", node), &["ask"]), mode)
                };
                let builder = S::builder()
                    .node("research", inner("research"))
                    .node("research_review", inner("review"));
                let graph = side_by_side(builder, &["research", "research_review"]);
                let paused = graph
                    .run(S::blank())
                    .run_id("r")
                    .store(kept.store())
                    .await
                    .expect("pauses");
                let paths: Vec<&str> = paused
                    .questions
                    .iter()
                    .map(|open| open.path[0].as_str())
                    .collect();
                assert_eq!(paths, ["research", "research_review"]);
                let ids: Vec<String> = paused.questions.iter().map(|open| open.id.clone()).collect();
                let half = graph
                    .resume("r")
                    .store(kept.store())
                    .answer(&ids[0], 1)
                    .await
                    .expect("half of it");
                assert_eq!(
                    (half.state.words(), half.questions.len()),
                    ("[research 1]".into(), 1)
                );
                assert_eq!(half.questions[0].id, ids[1]);
                let done = graph
                    .resume("r")
                    .store(kept.store())
                    .answer(&ids[1], 2)
                    .await
                    .expect("ends");
                assert_eq!(
                    done.state.words(),
                    "[research 1] [review 2]",
                    "{mode:?} {}",
                    kept.name
                );
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Two graphs deep, with two questions in a row: what had finished inside does not run again, but where nothing is kept.
#[tokio::test]
async fn a_paused_subgraph_goes_on_where_it_was_in_memory_and_in_a_store() {
    async fn check<S: Slate>() {
        for mode in MODES {
            for is_kept in [false, true] {
                let before = Count::default();
                let asks = acts(|_: &S, cx: &RunContext| {
                    Box::pin(async move {
                        let first: u8 = cx.ask("first", ()).await?;
                        let second: u8 = cx.ask("second", ()).await?;
                        Ok(S::says(format!("{first}{second}")).into())
                    }) as _
                });
                let builder = S::builder()
                    .node("before", slowly("before", 1, &before))
                    .node("asks", asks);
                let middle = chain(
                    S::builder().node("inner", inside(chain(builder, &["before", "asks"]), mode)),
                    &["inner"],
                );
                let graph = chain(S::builder().node("outer", inside(middle, mode)), &["outer"]);
                let kept = Kept::sqlite();
                let mut run = graph.run(S::blank()).run_id("r");
                if is_kept {
                    run = run.store(kept.store());
                }
                let mut outcome = run.await.expect("pauses");
                for (key, answer) in [("first", 1), ("second", 2)] {
                    assert_eq!(outcome.status, RunStatus::Paused, "{mode:?} {is_kept}");
                    let question = outcome.questions[0].clone();
                    assert_eq!((question.key.as_str(), question.path.len()), (key, 2));
                    let run = if is_kept {
                        graph.resume("r").store(kept.store())
                    } else {
                        outcome.paused().expect("waits").resume()
                    };
                    outcome = run.answer(question.id, answer).await.expect("goes on");
                }
                assert_eq!(outcome.state.words(), "[[before 12]]", "{mode:?} {is_kept}");
                let runs = if mode == Mode::Stateless { 3 } else { 1 };
                assert_eq!(before.now(), runs, "{mode:?} {is_kept}");
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 17.
#[tokio::test]
async fn leaving_a_subgraph_under_a_time_limit_goes_on_where_it_says() {
    async fn check<S: Slate>() {
        for mode in MODES {
            let leaves = node_sync(|_: &S, _: &RunContext| {
                let mut command = Command::leave("rescue");
                command = command.and(S::says("left"));
                Ok(command)
            });
            let inner = S::builder()
                .node("leaves", leaves)
                .node("never", says("never"))
                .edge(START, "leaves")
                .edge("leaves", "never")
                .edge("never", END)
                .build()
                .expect("no fault");
            let options = || {
                NodeOptions::new()
                    .timeout(Duration::from_mins(1))
                    .idle_timeout(Duration::from_mins(1))
                    .retry(Retry::attempts(3))
                    .on_error(says::<S>("handled"))
            };
            let graph = S::builder()
                .node("sub", inside(inner, mode))
                .options("sub", options())
                .node("plain", says("plain"))
                .node("rescue", says("rescue"))
                .edge(START, "sub")
                .edge("sub", "plain")
                .goto("sub", "rescue")
                .edge("plain", END)
                .edge("rescue", END)
                .build()
                .expect("no fault");
            let state = graph.run(S::blank()).await.expect("routed").state;
            assert_eq!(state.words(), "[left] rescue", "{mode:?}");
        }
        let leaves = node_sync(|_: &S, _: &RunContext| Ok(Command::<S::Update>::leave("x")));
        let error = chain(S::builder().node("leaves", leaves), &["leaves"])
            .run(S::blank())
            .await
            .expect_err("there is nothing around it");
        assert_eq!(error.code(), "invalid_graph");
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// A subgraph that failed is tried again from where it was; each attempt has a switch that is not pulled.
#[tokio::test]
async fn a_subgraph_that_is_tried_again_goes_on_where_it_failed() {
    async fn check<S: Slate>() {
        for mode in MODES {
            let (before, left) = (Count::default(), Count::of(2));
            let fails = node_sync(move |_: &S, _: &RunContext| {
                if left.less() {
                    return Err(NodeError::new("not yet"));
                }
                Ok(S::says("b"))
            });
            let builder = S::builder()
                .node("before", slowly("before", 1, &before))
                .node("fails", fails);
            let inner = chain(builder, &["before", "fails"]);
            let retry = Retry::attempts(3).first_delay(Duration::from_millis(1));
            let builder = S::builder()
                .node("sub", inside(inner, mode))
                .options("sub", NodeOptions::new().retry(retry));
            let outcome = chain(builder, &["sub"]).run(S::blank()).outcome().await;
            assert!(outcome.error.is_none(), "{mode:?}: {:?}", outcome.error);
            assert_eq!(outcome.state.words(), "[before b]");
            let runs = if mode == Mode::Stateless { 3 } else { 1 };
            assert_eq!(before.now(), runs, "{mode:?}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Draining reaches inside: the run says that it was drained, and goes on inside.
#[tokio::test]
async fn a_run_drained_inside_a_subgraph_says_so_and_goes_on() {
    async fn check<S: Slate>() {
        for mode in [Mode::Fresh, Mode::Persistent] {
            for kept in stores() {
                let (drain, ran) = (Cancel::new(), Count::default());
                let pulls = {
                    let (drain, ran) = (drain.clone(), ran.clone());
                    acts(move |_: &S, _| {
                        let (drain, ran) = (drain.clone(), ran.clone());
                        Box::pin(async move {
                            ran.more();
                            drain.cancel();
                            waits(2).await;
                            Ok(S::says("a").into())
                        }) as _
                    })
                };
                let builder = S::builder().node("a", pulls).node("b", says("b"));
                let inner = chain(builder, &["a", "b"]);
                let builder = S::builder().node("sub", inside(inner, mode)).node("c", says("c"));
                let graph = chain(builder, &["sub", "c"]);
                let run = graph.run(S::blank()).run_id("r").store(kept.store()).drain(drain);
                let outcome = run.await.expect("no failure");
                assert_eq!(
                    (outcome.status, outcome.pause),
                    (RunStatus::Paused, Some(Pause::Drained))
                );
                assert_eq!(outcome.next, ["sub"]);
                let done = graph.resume("r").store(kept.store()).await.expect("goes on");
                assert_eq!((done.state.words(), ran.now()), ("[a b] c".into(), 1), "{mode:?}");
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// A subgraph that is sent to several times at once is several runs, each with its own questions.
#[tokio::test]
async fn sends_to_a_subgraph_are_runs_of_their_own() {
    async fn check<S: Slate>() {
        for mode in MODES {
            for kept in stores() {
                let ask = acts(|state: &S, cx: &RunContext| {
                    Box::pin(async move {
                        let answer: u8 = cx.ask("q", json!(state.sum())).await?;
                        Ok(S::says(format!("{}={answer}", state.sum())).into())
                    }) as _
                });
                let inner = chain(S::builder().node("ask", ask), &["ask"]);
                let node = Subgraph::new(
                    inner,
                    |_: &S, cx: &RunContext| Ok(S::adds(cx.input()?)),
                    |inner: S| Ok(S::says(inner.words())),
                );
                let node = match mode {
                    Mode::Fresh => node,
                    Mode::Persistent => node.persistent(),
                    Mode::Stateless => node.stateless(),
                };
                let many = |_: &S| {
                    (1..=3).fold(Targets::default(), |targets, number| {
                        targets.and(Send::new("sub", number).expect("a number"))
                    })
                };
                let graph = S::builder()
                    .node("sub", node)
                    .route(START, many, "sub")
                    .edge("sub", END)
                    .build()
                    .expect("no fault");
                let mut outcome = graph
                    .run(S::blank())
                    .run_id("r")
                    .store(kept.store())
                    .await
                    .expect("pauses");
                assert_eq!(outcome.questions.len(), 3);
                for at in [1, 1, 0] {
                    let question = &outcome.questions[at];
                    let answer = question.payload.as_u64().expect("a number") * 10;
                    let run = graph.resume("r").store(kept.store());
                    outcome = run.answer(&question.id, answer).await.expect("goes on");
                }
                assert_eq!(outcome.state.words(), "1=10 2=20 3=30", "{mode:?} {}", kept.name);
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
