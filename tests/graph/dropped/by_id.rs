//! Runs that go by themselves: whoever starts, watches, waits, cancels or drains leaves at any place, and the run is sound.

use super::{goes_on, poll_numbers, polled, undisturbed};
use crate::{
    board::{Board, Slate, waits},
    kept::Kept,
    works::{Notes, finish, graph},
};
use futures::StreamExt;
use stepwell::{
    Scope,
    agent::{Channels, EventKind, RunHandle, Runs, WatchItem},
    store::RunStatus,
};

fn begun<S: Slate>(runs: &Runs, kept: &Kept, notes: &Notes) -> RunHandle<stepwell::agent::Run<S>> {
    let graph = graph::<S>(&notes.note());
    runs.start(graph.run(S::blank()).run_id("r").store(kept.store()))
        .expect("starts")
}

/// It goes on without whoever waited for it, to its question.
async fn comes_to_its_question(place: &str, runs: &Runs, kept: &Kept) {
    runs.idle().await;
    let list = runs.list(&Scope::local());
    assert_eq!((list.len(), list[0].status), (1, RunStatus::Paused), "{place}");
    let head = kept.store.head(&Scope::local(), "r").await.expect("reads");
    assert_eq!(head.expect("kept").status, RunStatus::Paused, "{place}");
}

#[tokio::test]
async fn whoever_waits_for_a_run_that_goes_by_itself_may_leave_after_any_poll() {
    async fn check<S: Slate>(way: &str) {
        let whole = undisturbed::<S>().await;
        for polls in poll_numbers() {
            let (notes, kept, runs) = (Notes::default(), Kept::slow(), Runs::new());
            let handle = begun::<S>(&runs, &kept, &notes);
            let is_over = match way {
                "outcome" => polled(handle.outcome(), polls).await.is_some(),
                "result" => polled(handle.result(), polls).await.is_some(),
                _ => {
                    drop(handle);
                    polled(runs.idle(), polls).await.is_some()
                }
            };
            let place = format!("{way} dropped after poll {polls}");
            comes_to_its_question(&place, &runs, &kept).await;
            goes_on::<S>(&place, &notes, &kept.store(), &whole).await;
            if is_over {
                break;
            }
        }
    }
    for way in ["outcome", "result", "idle"] {
        Box::pin(check::<Board>(way)).await;
    }
    check::<Channels>("outcome").await;
}

/// All events from a number on, without a gap.
async fn events_from(runs: &Runs, from: u64) -> Vec<EventKind> {
    let mut watch = runs.watch(&Scope::local(), "r", from).expect("known");
    let (mut events, mut next) = (Vec::new(), from);
    while let Some(item) = watch.next().await {
        let WatchItem::Event(event) = item else {
            panic!("{item:?}")
        };
        assert_eq!(event.seq, next);
        next += 1;
        events.push(event.kind.clone());
    }
    events
}

#[tokio::test]
async fn a_watch_dropped_after_any_poll_is_joined_again_where_it_was() {
    for polls in poll_numbers() {
        let (notes, kept, runs) = (Notes::default(), Kept::slow(), Runs::new());
        let handle = begun::<Board>(&runs, &kept, &notes);
        let mut watch = handle.watch(1).expect("known");
        let mut seen = Vec::new();
        let all = async {
            while let Some(item) = watch.next().await {
                seen.push(item.event().expect("no gap").kind.clone());
            }
        };
        let is_over = polled(all, polls).await.is_some();
        let next = watch.next_seq();
        assert_eq!(next, seen.len() as u64 + 1, "what was given is counted");
        drop(watch);
        seen.extend(events_from(&runs, next).await);
        assert_eq!(seen, events_from(&runs, 1).await, "dropped after poll {polls}");
        comes_to_its_question(&format!("watch dropped after poll {polls}"), &runs, &kept).await;
        drop(handle);
        if is_over {
            break;
        }
    }
}

/// The last owner leaves: the run is dropped as a crash would, at that place; or it is cancelled, or drained.
#[tokio::test]
async fn a_run_that_goes_by_itself_and_is_left_cancelled_or_drained_anywhere_goes_on_to_the_same_end() {
    async fn check<S: Slate>(way: &str) {
        let whole = undisturbed::<S>().await;
        for turns in poll_numbers() {
            let (notes, kept, runs) = (Notes::default(), Kept::slow(), Runs::new());
            let handle = begun::<S>(&runs, &kept, &notes);
            waits(turns).await;
            let place = format!("{way} after {turns} turns");
            let list = runs.list(&Scope::local());
            let is_over = list[0].status != RunStatus::Running;
            match way {
                "left" => {
                    drop((handle, runs));
                    waits(3).await;
                    let before = kept.records("r").await;
                    waits(10).await;
                    assert_eq!(kept.records("r").await, before, "{place}: nothing goes on");
                }
                "cancelled" | "drained" => {
                    let scope = Scope::local();
                    if way == "cancelled" {
                        runs.cancel(&scope, "r").expect("known");
                    } else {
                        runs.drain(&scope, "r").expect("known");
                    }
                    let status = handle.outcome().await.expect("it ends in good order").status;
                    let expected = match way {
                        _ if is_over => RunStatus::Paused,
                        "cancelled" => RunStatus::Cancelled,
                        _ => RunStatus::Paused,
                    };
                    assert!(
                        status == expected || status == RunStatus::Paused,
                        "{place}: {status:?}"
                    );
                }
                _ => unreachable!("no other way"),
            }
            if way == "cancelled" {
                // Calls that the switch overtook have a result that says so: the rest is as it was.
                let graph = graph::<S>(&notes.note());
                let done = finish(&graph, &kept.store(), "r").await.expect("ends");
                assert_eq!(done.status, RunStatus::Done, "{place}");
                crate::tools::assert_closed(done.state.messages());
                assert_eq!(done.state.words(), whole.0.words(), "{place}");
            } else {
                goes_on::<S>(&place, &notes, &kept.store(), &whole).await;
            }
            if is_over {
                break;
            }
        }
    }
    for way in ["left", "cancelled", "drained"] {
        Box::pin(check::<Board>(way)).await;
    }
    check::<Channels>("left").await;
}
