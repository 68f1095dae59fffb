//! What only the inside shows: bounds, owners, panics.

use super::{Runs, RunsLimits, Table, Watch};
use crate::{
    Channels, ChannelsUpdate, END, Graph, GraphBuilder, NodeError, Reducer, RunContext, START, WatchItem,
    node_fn,
};
use futures::{StreamExt, future::poll_fn};
use std::{pin::Pin, sync::Arc, task::Poll, time::Duration};
use stepwell_core::{Error, Scope, store::RunStatus};
use tokio::sync::Semaphore;

fn limits(events: usize) -> RunsLimits {
    RunsLimits {
        events,
        ..RunsLimits::default()
    }
}

fn state() -> Channels {
    Channels::new().slot("n", Reducer::Last)
}

/// Says so many things, once it may.
fn talker(count: u32, gate: Arc<Semaphore>) -> Graph<Channels> {
    GraphBuilder::new(state())
        .node(
            "talk",
            crate::node_sync(move |_: &Channels, cx: &RunContext| {
                for n in 0..count {
                    cx.emit("n", n.into());
                }
                Ok(ChannelsUpdate::new())
            }),
        )
        .node("wait", Wait(gate))
        .edge(START, "talk")
        .edge("talk", "wait")
        .edge("wait", END)
        .build()
        .expect("no fault")
}

struct Wait(Arc<Semaphore>);

#[async_trait::async_trait]
impl crate::Node<Channels> for Wait {
    async fn run(&self, _: &Channels, _: &RunContext) -> Result<crate::Command<ChannelsUpdate>, NodeError> {
        let _pass = self.0.acquire().await?;
        Ok(ChannelsUpdate::new().into())
    }
}

async fn once(watch: &mut Watch) -> Option<WatchItem> {
    // All that is polled here is one task's: it is not to be told that its turn is over.
    tokio::task::unconstrained(poll_fn(|cx| match Pin::new(&mut *watch).poll_next_unpin(cx) {
        Poll::Ready(item) => Poll::Ready(item),
        Poll::Pending => Poll::Ready(None),
    }))
    .await
}

#[tokio::test]
async fn many_watchers_that_read_nothing_cost_a_place_each_and_the_log_stays_within_its_bounds() {
    let gate = Arc::new(Semaphore::new(0));
    let runs = Runs::with_limits(limits(100));
    let handle = runs
        .start(talker(20_000, Arc::clone(&gate)).run(state()).run_id("r"))
        .expect("starts");
    let mut watches: Vec<Watch> = (0..500).map(|_| handle.watch(1).expect("there")).collect();
    for watch in &mut watches {
        assert!(once(watch).await.is_none(), "nothing has happened yet");
    }
    let log = Arc::clone(&runs.0.lock().entries.values().next().expect("one").log);
    assert_eq!(log.waiting(), 500);
    while log.glance().2 < 20_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.weigh().0, 100, "no more events than allowed, whoever watches");
    assert_eq!(log.waiting(), 0, "each was woken once");
    gate.add_permits(1);
    handle.result().await.expect("no watcher stopped it");
    for watch in &mut watches {
        let first = once(watch).await;
        assert!(
            matches!(first, Some(WatchItem::Gap { from: 1, to }) if to > 19_000),
            "{first:?}"
        );
    }
    drop(watches);
    assert_eq!(log.waiting(), 0);
}

#[tokio::test]
async fn ended_runs_are_kept_for_a_bounded_number_and_time() {
    let runs = Runs::with_limits(RunsLimits {
        ended: 3,
        ..limits(10)
    });
    let gate = Arc::new(Semaphore::new(1_000));
    for n in 0..10 {
        let run = talker(1, Arc::clone(&gate)).run(state()).run_id(format!("r{n}"));
        runs.start(run).expect("starts").result().await.expect("ends");
    }
    let ids: Vec<String> = runs
        .list(&Scope::local())
        .into_iter()
        .map(|info| info.run_id)
        .collect();
    assert_eq!(ids, ["r9", "r8", "r7"]);
    let table_of = |runs: &Runs| {
        let table: &Table = &runs.0.lock();
        (table.entries.len(), table.ended.len())
    };
    assert_eq!(table_of(&runs), (3, 3));
    assert!(runs.forget(&Scope::local(), "r9") && !runs.forget(&Scope::local(), "r9"));

    let runs = Runs::with_limits(RunsLimits {
        ended_time: Duration::ZERO,
        ..limits(10)
    });
    let run = talker(1, Arc::clone(&gate)).run(state()).run_id("r");
    runs.start(run).expect("starts").result().await.expect("ends");
    assert!(runs.list(&Scope::local()).is_empty());
    let gone = runs.watch(&Scope::local(), "r", 1).expect_err("forgotten");
    assert!(matches!(gone, Error::NotFound { .. }));
    assert_eq!(table_of(&runs), (0, 0));
}

#[tokio::test]
async fn a_run_whose_last_owner_is_gone_is_dropped_and_its_watchers_are_told() {
    let runs = Runs::new();
    let gate = Arc::new(Semaphore::new(0));
    let handle = runs
        .start(talker(1, gate).run(state()).run_id("r"))
        .expect("starts");
    let mut watch = handle.watch(1).expect("there");
    drop(runs);
    assert!(matches!(
        watch.next().await,
        Some(WatchItem::Event(event)) if event.seq == 1
    ));
    drop(handle);
    let items: Vec<WatchItem> = watch.collect().await;
    let last = items.last().and_then(WatchItem::event).expect("an event");
    assert!(
        matches!(&last.kind, crate::EventKind::RunEnd { status: RunStatus::Failed, failure: Some(failure), .. }
            if failure.code == "internal"),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_panic_of_the_engine_itself_ends_the_run_for_its_watchers_and_its_handle() {
    async fn fine(_: &Channels, _: &RunContext) -> Result<ChannelsUpdate, NodeError> {
        Ok(ChannelsUpdate::new())
    }
    let graph = GraphBuilder::new(state())
        .node("fine", node_fn(fine))
        .edge(START, "fine")
        .edge("fine", END)
        .build()
        .expect("no fault");
    let runs = Runs::new();
    // The clock is the only foreign code that the runner itself calls.
    let run = graph.run(state()).clock(|| panic!("no clock")).run_id("r");
    let handle = runs.start(run).expect("starts");
    let watch = handle.watch(1).expect("there");
    let items: Vec<WatchItem> = watch.collect().await;
    assert!(!items.is_empty());
    assert!(matches!(handle.result().await, Err(Error::Internal { .. })));
    runs.idle().await;
}
