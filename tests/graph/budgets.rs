//! What a run spends: parts of it for Sends, and counted once over pauses, crashes and runs inside.

use crate::{
    board::{Board, Slate, acts, chain},
    kept::{Kept, stores},
    tools::{asked, call, model, talk, tool, words},
};
use std::sync::Arc;
use stepwell::{
    AllowAll, BudgetLimits, Error, Scope, Spend, ToolOptions, ToolOutput,
    agent::{
        Channels, END, Graph, ModelNode, Outcome, RunContext, START, Send, Subgraph, Targets, ToolsNode,
    },
    store::RunStatus,
};

fn calls(limit: u64) -> BudgetLimits {
    let mut limits = BudgetLimits::default();
    limits.calls = Some(limit);
    limits
}

#[tokio::test]
async fn sends_share_a_bounded_budget_in_equal_parts() {
    async fn check<S: Slate>() {
        let spends = acts(|_: &S, cx: &RunContext| {
            Box::pin(async move {
                let wish: u32 = cx.input()?;
                for _ in 0..wish {
                    crate::board::waits(1).await;
                    cx.budget().reserve(Spend::call(0))?.settle(Spend::call(0));
                }
                Ok(S::says(format!("{wish}")).into())
            })
        });
        let sends = |state: &S| {
            let last = u32::try_from(state.sum()).expect("small");
            [2, 2, last]
                .into_iter()
                .fold(Targets::default(), |targets, wish: u32| {
                    targets.and(Send::new("spends", wish).expect("a number"))
                })
        };
        let graph = S::builder()
            .node("spends", spends)
            .route(START, sends, "spends")
            .edge("spends", END)
            .build()
            .expect("no fault");
        for seed in crate::board::seeds() {
            let run = graph.run_input(S::adds(2)).budget_limits(calls(6)).seed(seed);
            assert_eq!(run.await.expect("just enough").state.words(), "2 2 2");
            // One of them wants the part of another: refused, though the whole would do.
            let run = graph.run_input(S::adds(3)).budget_limits(calls(8)).seed(seed);
            let error = run.await.expect_err("a part is 2");
            assert_eq!(error.code(), "budget_exceeded");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Model, a tool that asks, and the same again inside of a node.
fn nested<S: Slate>(asks: bool) -> Graph<S> {
    let talks = || {
        let act = tool("act", ToolOptions::default(), move |arguments, cx| async move {
            let run = RunContext::of_tool(&cx).expect("in a run");
            let yes = if asks && arguments["n"] == 2 {
                run.ask("sure", ()).await?
            } else {
                true
            };
            Ok(ToolOutput::text(format!("{yes}")))
        });
        let lines = vec![
            vec![call("1", "act", 1), call("2", "act", 2)],
            vec![call("3", "act", 3)],
            vec![words("done")],
        ];
        talk::<S>(model(lines), ToolsNode::new([act], Arc::new(AllowAll)))
    };
    let enter = |state: &S, _: &RunContext| Ok(S::add_messages(state.messages().to_vec()));
    let leave = |inner: S| Ok(S::says(inner.messages().len().to_string()));
    let middle = chain(
        S::builder().node("deep", Subgraph::new(talks(), enter, leave)),
        &["deep"],
    );
    let leave = |inner: S| Ok(S::says(inner.words()));
    let builder = S::builder()
        .node("sub", Subgraph::new(middle, enter, leave))
        .node("model", ModelNode::new(model(vec![vec![words("hello")]])));
    chain(builder, &["sub", "model"])
}

fn spent<S: Slate>(outcome: &Outcome<S>) -> (u64, u64, u64, String) {
    (
        outcome.usage.total(),
        outcome.spent.tokens,
        outcome.spent.calls,
        outcome.state.words(),
    )
}

async fn to_the_end<S: Slate>(
    graph: &Graph<S>,
    kept: &Kept,
    run_id: &str,
    mut outcome: Outcome<S>,
) -> Outcome<S> {
    while outcome.status == RunStatus::Paused {
        let mut run = graph.resume(run_id).store(kept.store());
        for question in outcome.questions {
            run = run.answer(question.id, true);
        }
        outcome = run.await.expect("goes on");
    }
    outcome
}

#[tokio::test]
async fn what_is_spent_counts_once_over_pauses_crashes_and_runs_inside() {
    async fn check<S: Slate>() {
        let plain = nested::<S>(false).run_input(asked::<S>()).await.expect("runs");
        let plain = spent(&plain);
        assert_eq!((plain.2, plain.3.as_str()), (7, "6"));
        for kept in stores() {
            let graph = nested::<S>(true);
            let run = graph.run_input(asked::<S>()).run_id("whole").store(kept.store());
            let paused = run.await.expect("pauses");
            assert_eq!(paused.spent.calls, 3, "one of the model, two of tools");
            let ended = to_the_end(&graph, &kept, "whole", paused).await;
            // The call that asked was made twice.
            assert_eq!((ended.usage.total(), ended.spent.calls), (plain.0, plain.2 + 1));
            let view = graph
                .view(&*kept.store, &Scope::local(), "whole")
                .await
                .expect("kept");
            assert_eq!((view.usage, view.spent), (ended.usage.clone(), ended.spent));
            let records = kept.records("whole").await;
            let stride = if kept.name == "memory" { 1 } else { 7 };
            for upto in (2..=records).step_by(stride) {
                let run_id = format!("c{upto:04}");
                kept.store
                    .copy(&Scope::local(), "whole", &run_id, Some(upto))
                    .await
                    .expect("copies");
                let resumed = graph.resume(&run_id).store(kept.store()).await.expect("resumes");
                let resumed = to_the_end(&graph, &kept, &run_id, resumed).await;
                let tokens = (resumed.usage.total(), resumed.spent.tokens, resumed.state.words());
                assert_eq!(
                    tokens,
                    (plain.0, plain.1, plain.3.clone()),
                    "cut after record {upto}"
                );
                assert!(
                    resumed.spent.calls.abs_diff(ended.spent.calls) <= 1,
                    "{}",
                    resumed.spent.calls
                );
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_spent_budget_stops_a_run_that_goes_on_with_a_larger_one() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let graph = nested::<S>(false);
            let run = graph.run_input(asked::<S>()).run_id("r").store(kept.store());
            let stopped = run.budget_limits(calls(4)).outcome().await;
            assert_eq!(stopped.error.as_ref().map(Error::code), Some("budget_exceeded"));
            assert_eq!(stopped.spent.calls, 4);
            let run = graph.resume("r").store(kept.store()).budget_limits(calls(4));
            let again = run.outcome().await;
            assert_eq!(
                (again.error.as_ref().map(Error::code), again.spent.calls),
                (Some("budget_exceeded"), 4)
            );
            let run = graph.resume("r").store(kept.store()).budget_limits(calls(20));
            let ended = run.await.expect("goes on");
            assert_eq!((ended.status, ended.state.words()), (RunStatus::Done, "6".into()));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// What a graph spends that leaves nothing in the journal is in the journal all the same.
#[tokio::test]
async fn what_a_stateless_subgraph_spends_is_in_the_journal() {
    async fn check<S: Slate>() {
        for kept in stores() {
            let inner = chain(
                S::builder().node("model", ModelNode::new(model(vec![vec![words("hello")]]))),
                &["model"],
            );
            let enter = |state: &S, _: &RunContext| Ok(S::add_messages(state.messages().to_vec()));
            let leave = |inner: S| Ok(S::says(inner.messages().len().to_string()));
            let builder = S::builder().node("sub", Subgraph::new(inner, enter, leave).stateless());
            let graph = chain(builder, &["sub"]);
            let run = graph.run_input(asked::<S>()).run_id("r").store(kept.store());
            let ended = run.await.expect("runs");
            assert_eq!(ended.spent.calls, 1);
            let view = graph
                .view(&*kept.store, &Scope::local(), "r")
                .await
                .expect("kept");
            assert_eq!((view.usage, view.spent), (ended.usage, ended.spent));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
