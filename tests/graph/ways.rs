//! Edges, routes, gotos.

use crate::board::{Board, Slate, chain, says, seeds};
use stepwell::{
    Error,
    agent::{Channels, Command, END, RunContext, START, node_sync},
};

/// Behaviour 1: what does not fit is told when the graph is built, all of it at once. A reducer that does not fit its field
/// does not compile: `agent/tests/ui`.
#[test]
fn every_fault_of_a_graph_is_told_at_once() {
    fn check<S: Slate>() {
        let error = S::builder()
            .node("a", says::<S>("a"))
            .node("a", says("a"))
            .node("lost", says("lost"))
            .node("cycle", says("cycle"))
            .node(END, says("end"))
            .edge("a", "nowhere")
            .edge("a", "cycle")
            .edge("cycle", "cycle")
            .edge("ghost", "a")
            .route("a", |_: &S| END, Vec::<String>::new())
            .defer("phantom")
            .quorum(["a", "cycle"], 3, "cycle")
            .goto(START, "a")
            .build()
            .expect_err("many faults");
        let Error::InvalidGraph { faults } = &error else {
            panic!("{error}")
        };
        for needed in [
            "two nodes are named `a`",
            "`__end__` cannot be the name of a node",
            "there is no node `nowhere`",
            "there is no node `ghost`",
            "there is no node `phantom`",
            "a goto leaves a node",
            "node `lost` leads nowhere",
            "node `lost` cannot be reached",
            "from node `cycle` the end cannot be reached",
            "the route from `a` declares no target",
            "the join into `cycle` needs 3 of 2 sources",
        ] {
            assert!(
                faults.iter().any(|fault| fault.contains(needed)),
                "{needed} is missing in {faults:#?}"
            );
        }
        assert_eq!(error.code(), "invalid_graph");
    }
    check::<Board>();
    check::<Channels>();
}

/// Behaviour 9.
#[tokio::test]
async fn a_route_may_choose_several_targets_which_run_in_one_step() {
    async fn check<S: Slate>() {
        let graph = S::builder()
            .node("a", says::<S>("a"))
            .node("b", says("b"))
            .node("c", says("c"))
            .edge(START, "a")
            .route("a", |_: &S| ["c", "b"], ["b", "c", END])
            .edge("b", END)
            .edge("c", END)
            .build()
            .expect("no fault");
        for seed in seeds() {
            let all = graph.run(S::blank()).seed(seed).await.expect("runs");
            assert_eq!((all.state.words(), all.steps), ("a b c".into(), 2), "seed {seed}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 10: the state the caller gives picks the entry. There is no output schema: the caller reads the keys it wants.
#[tokio::test]
async fn a_route_from_the_start_picks_the_entry() {
    async fn check<S: Slate>() {
        let graph = S::builder()
            .node("even", says::<S>("even"))
            .node("odd", says("odd"))
            .route(
                START,
                |state: &S| if state.sum() % 2 == 0 { "even" } else { "odd" },
                ["even", "odd"],
            )
            .edge("even", END)
            .edge("odd", END)
            .build()
            .expect("no fault");
        for (sum, entry) in [(2, "even"), (3, "odd")] {
            let state = graph.run_input(S::adds(sum)).await.expect("runs").state;
            assert_eq!(state.words(), entry);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 16, with this project's rule: a goto replaces the node's own ways.
#[tokio::test]
async fn a_goto_replaces_the_edges_and_one_to_the_end_ends_the_branch() {
    async fn check<S: Slate>() {
        let node = node_sync(|state: &S, _: &RunContext| {
            let here = Command::update(S::says("a"));
            Ok(match state.sum() {
                0 => here.with_goto("c"),
                1 => here.with_goto(END),
                _ => here,
            })
        });
        let graph = S::builder()
            .node("a", node)
            .node("b", says("b"))
            .node("c", says("c"))
            .edge(START, "a")
            .edge("a", "b")
            .goto("a", ["c", END])
            .edge("b", END)
            .edge("c", END)
            .build()
            .expect("no fault");
        for (sum, words) in [(0, "a c"), (1, "a"), (2, "a b")] {
            let state = graph.run_input(S::adds(sum)).await.expect("runs").state;
            assert_eq!(state.words(), words);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn a_goto_or_route_to_an_undeclared_node_is_an_error_that_names_it() {
    async fn check<S: Slate>() {
        let node = node_sync(|_: &S, _: &RunContext| Ok(Command::<S::Update>::goto("nowhere")));
        let error = chain(S::builder().node("a", node), &["a"])
            .run(S::blank())
            .await
            .expect_err("undeclared");
        assert_eq!(error.code(), "invalid_graph");
        assert!(error.to_string().contains("`nowhere`"), "{error}");
        let graph = S::builder()
            .node("a", says::<S>("a"))
            .route(START, |_: &S| "b", ["a"])
            .edge("a", END)
            .build()
            .expect("no fault");
        let error = graph.run(S::blank()).await.expect_err("undeclared");
        assert!(error.to_string().contains("`b`"), "{error}");
    }
    check::<Board>().await;
    check::<Channels>().await;
}
