//! How updates become state.

use crate::board::{Board, Count, Slate, chain, says, seeds, side_by_side, slowly};
use futures::StreamExt;
use serde_json::json;
use stepwell::{
    Message,
    agent::{Channels, Command, EventKind, MessageChange, NodeError, RunContext, START, node_sync},
};

/// Behaviour 2.
#[tokio::test]
async fn two_writers_of_a_plain_key_are_an_error_that_names_key_and_nodes_even_for_equal_values() {
    async fn check<S: Slate>() {
        let one = || node_sync(|_: &S, _: &RunContext| Ok(S::puts(1)));
        let graph = side_by_side(
            S::builder().node("left", one()).node("right", one()),
            &["left", "right"],
        );
        for seed in seeds() {
            let outcome = graph.run(S::blank()).seed(seed).outcome().await;
            let error = outcome.error.expect("two writers");
            assert_eq!(error.code(), "invalid_update");
            for word in ["`plain`", "`left`", "`right`"] {
                assert!(error.to_string().contains(word), "{error}");
            }
            assert_eq!(outcome.state.plain(), None);
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 3.
#[tokio::test]
async fn an_input_is_reduced_into_the_blank_state() {
    async fn check<S: Slate>() {
        let mut begun = S::blank();
        begun.apply(S::says("blank")).expect("fits");
        let builder = stepwell::agent::GraphBuilder::new(begun).node("a", says::<S>("a"));
        let state = chain(builder, &["a"])
            .run_input(S::says("given"))
            .await
            .expect("runs")
            .state;
        assert_eq!(state.words(), "blank given a");
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 4.
#[tokio::test]
async fn several_updates_of_one_node_are_applied_in_order() {
    async fn check<S: Slate>() {
        let node = node_sync(|_: &S, _: &RunContext| {
            Ok(Command::update(S::puts(1))
                .and(S::says("1"))
                .and(S::puts(2))
                .and(S::says("2")))
        });
        let state = chain(S::builder().node("a", node), &["a"])
            .run(S::blank())
            .await
            .expect("runs")
            .state;
        assert_eq!((state.plain(), state.words()), (Some(2), "1 2".into()));
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviours 5 and 6.
#[tokio::test]
async fn an_overwrite_beats_the_appends_of_its_step_and_a_later_step_appends_to_it() {
    async fn check<S: Slate>() {
        for from_json in [false, true] {
            let over = node_sync(move |_: &S, _: &RunContext| {
                Ok(if from_json {
                    S::from_json(json!({ "log": { "$overwrite": ["new"] } }))
                } else {
                    S::overwrites(&["new"])
                })
            });
            let graph = S::builder()
                .node("before", says("before"))
                .node("append", says("lost"))
                .node("overwrite", over)
                .node("zappend", says("lost too"))
                .node("after", says("after"))
                .edge(START, "before")
                .edge("before", "append")
                .edge("before", "overwrite")
                .edge("before", "zappend")
                .join(["append", "overwrite", "zappend"], "after")
                .edge("after", stepwell::agent::END)
                .build()
                .expect("no fault");
            for seed in seeds() {
                let state = graph.run(S::blank()).seed(seed).await.expect("runs").state;
                assert_eq!(state.words(), "new after", "seed {seed}");
            }
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

#[tokio::test]
async fn two_overwrites_in_one_step_are_an_error() {
    async fn check<S: Slate>() {
        let over = |word: &'static str| node_sync(move |_: &S, _: &RunContext| Ok(S::overwrites(&[word])));
        let graph = side_by_side(
            S::builder().node("a", over("a")).node("b", over("b")),
            &["a", "b"],
        );
        let error = graph.run(S::blank()).await.expect_err("two overwrites");
        for word in ["`log`", "`a`", "`b`", "overwrote"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 7: a typed state says with `Option` what may be absent, Channels with an error.
#[tokio::test]
async fn a_key_nobody_wrote_is_empty_and_an_update_of_nothing_changes_nothing() {
    let error = Channels::blank().get("plain").expect_err("nothing is there");
    assert_eq!(error.code(), "not_found");
    assert!(error.to_string().contains("`plain`"), "{error}");
    assert_eq!(Board::blank().plain(), None);

    async fn check<S: Slate>() {
        let idle = || node_sync(|_: &S, _: &RunContext| Ok(Command::<S::Update>::default()));
        let graph = chain(S::builder().node("a", idle()).node("b", idle()), &["a", "b"]);
        let mut stream = graph.run_input(S::says("given")).stream();
        let mut updates = 0;
        while let Some(event) = stream.next().await {
            updates += u32::from(matches!(event.kind, EventKind::Update { .. }));
        }
        let outcome = stream.finish().await.expect("ended");
        assert_eq!(updates, 0, "nobody is told of an update that is none");
        assert_eq!((outcome.state.words(), outcome.steps), ("given".into(), 2));
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 8.
#[tokio::test]
async fn an_ephemeral_list_empties_at_each_step_and_a_plain_one_keeps_all() {
    async fn check<S: Slate>() {
        let leads = |word: &'static str| {
            node_sync(move |state: &S, _: &RunContext| {
                let seen = format!("{word} saw [{}]", state.leads().join(","));
                Ok(Command::update(S::leads_to(word)).and(S::says(seen)))
            })
        };
        let sees = node_sync(|state: &S, _: &RunContext| {
            Ok(S::says(format!("c saw [{}]", state.leads().join(","))))
        });
        let builder = S::builder()
            .node("a", leads("a"))
            .node("b", leads("b"))
            .node("c", sees)
            .node("d", says("d"));
        let state = chain(builder, &["a", "b", "c", "d"])
            .run(S::blank())
            .await
            .expect("runs")
            .state;
        assert_eq!(state.log(), ["a saw []", "b saw [a]", "c saw [b]", "d"]);
        assert!(state.leads().is_empty());
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Behaviour 45.
#[test]
fn messages_are_replaced_and_removed_by_id_and_a_removal_of_none_is_an_error() {
    fn check<S: Slate>(change: impl Fn(Vec<MessageChange>) -> S::Update) {
        let said = |state: &S| -> Vec<String> { state.messages().iter().map(Message::text).collect() };
        let mut state = S::blank();
        let add = |text: &str, id: &str| MessageChange::from(Message::user(text).with_id(id));
        state
            .apply(change(vec![add("one", "1"), add("two", "2"), add("three", "3")]))
            .expect("fits");
        state.apply(change(vec![add("TWO", "2")])).expect("fits");
        assert_eq!(said(&state), ["one", "TWO", "three"], "in its place");
        state
            .apply(change(vec![MessageChange::Remove("1".into())]))
            .expect("fits");
        assert_eq!(said(&state), ["TWO", "three"]);
        let error = state
            .apply(change(vec![MessageChange::Remove("1".into())]))
            .expect_err("it is gone");
        assert_eq!(error.code(), "invalid_update");
        assert_eq!(said(&state), ["TWO", "three"], "nothing of it was applied");
        state
            .apply(change(vec![
                add("before", "4"),
                MessageChange::RemoveAll,
                add("after", "5"),
            ]))
            .expect("fits");
        assert_eq!(said(&state), ["after"]);
    }
    check::<Board>(crate::board::BoardUpdate::messages);
    check::<Channels>(|changes| {
        stepwell::agent::ChannelsUpdate::new()
            .set("messages", serde_json::to_value(changes).expect("plain data"))
    });
}

/// Updates fold in the order of declaration, whatever order the nodes end in.
#[tokio::test]
async fn the_order_in_which_nodes_end_never_shows() {
    async fn check<S: Slate>() {
        let ran = Count::default();
        let graph = side_by_side(
            S::builder()
                .node("z", slowly("z", 3, &ran))
                .node("m", slowly("m", 0, &ran))
                .node("a", slowly("a", 7, &ran))
                .node("k", slowly("k", 1, &ran)),
            &["a", "k", "m", "z"],
        );
        for seed in seeds() {
            let state = graph.run(S::blank()).seed(seed).await.expect("runs").state;
            assert_eq!(state.words(), "z m a k", "seed {seed}");
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}

/// Siblings read the state as it was when their step began.
#[tokio::test]
async fn siblings_never_see_each_others_writes() {
    async fn check<S: Slate>() {
        let reads = || {
            crate::board::acts(|state: &S, _| {
                Box::pin(async move {
                    crate::board::waits(3).await;
                    let seen = S::says(format!("read {}", state.sum()));
                    Ok::<_, NodeError>(Command::update(S::adds(1)).and(seen))
                })
            })
        };
        let graph = side_by_side(S::builder().node("a", reads()).node("b", reads()), &["a", "b"]);
        for seed in seeds() {
            let state = graph.run(S::blank()).seed(seed).await.expect("runs").state;
            assert_eq!((state.sum(), state.words()), (2, "read 0 read 0".into()));
        }
    }
    check::<Board>().await;
    check::<Channels>().await;
}
