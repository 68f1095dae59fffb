//! Watching runs: by themselves, late, again, after a crash, in nested runs and through views.

mod support;

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use stepwell_agent::{
    Agent, Channels, ChannelsUpdate, Command, END, EventKind, Graph, GraphBuilder, HasMessages as _, Node,
    NodeError, NodeOptions, Outcome, Reducer, RunContext, RunEvent, Runs, RunsLimits, START, Startable,
    Subgraph, View, ViewItem, Views, Watch, WatchItem, node_sync,
};
use stepwell_core::{
    Cancel, ChatModel, ChatRequest, ChatStream, Error, FinishReason, ModelInfo, Result, Scope, StreamEvent,
    store::{RunStatus, RunStore},
};
use support::{LogStore, Seeded};
use tokio::sync::Semaphore;

/// A model that says so many short words, one event each, and lets others have their turn in between.
#[derive(Debug)]
struct Chatty {
    info: ModelInfo,
    words: usize,
    turn_every: usize,
}

impl Chatty {
    fn new(words: usize) -> Arc<Self> {
        Arc::new(Self {
            info: ModelInfo::new("chatty", "long"),
            words,
            turn_every: 16,
        })
    }

    fn text(&self) -> String {
        (0..self.words).map(word).collect()
    }
}

fn word(at: usize) -> String {
    // Also words of several bytes, so that a cut in the middle of a character would be seen.
    format!("{}{} ", ["ä", "be", "ce"][at % 3], at % 10)
}

#[async_trait]
impl ChatModel for Chatty {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream> {
        let start = [
            StreamEvent::MessageStart {
                id: Some("m".into()),
                model: None,
                request_id: None,
            },
            StreamEvent::TextStart { index: 0 },
        ];
        let words = (0..self.words).map(|at| StreamEvent::TextDelta {
            index: 0,
            text: word(at),
        });
        let end = [
            StreamEvent::TextEnd {
                index: 0,
                opaque: None,
            },
            StreamEvent::Finish {
                reason: FinishReason::Stop,
                raw: None,
                refusal: None,
            },
        ];
        let turn_every = self.turn_every;
        let events = start.into_iter().chain(words).chain(end).enumerate();
        let paced = stream::iter(events).then(move |(at, event)| async move {
            if at % turn_every == 0 {
                tokio::task::yield_now().await;
            }
            Ok(event)
        });
        Ok(paced.boxed())
    }
}

fn chatty(words: usize) -> (Arc<Chatty>, Agent) {
    let model = Chatty::new(words);
    let agent = Agent::new(model.clone()).build().expect("no fault");
    (model, agent)
}

fn limits(events: usize) -> RunsLimits {
    let mut limits = RunsLimits::default();
    limits.events = events;
    limits
}

fn text_of<'a>(events: impl IntoIterator<Item = &'a RunEvent>) -> String {
    events
        .into_iter()
        .filter_map(|event| match &event.kind {
            EventKind::Model {
                event: StreamEvent::TextDelta { text, .. },
            } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

async fn events_of(watch: Watch) -> Vec<RunEvent> {
    watch
        .map(|item| match item {
            WatchItem::Event(event) => (*event).clone(),
            other => panic!("{other:?}"),
        })
        .collect()
        .await
}

async fn kept(graph: &Graph<impl stepwell_agent::State>, store: &Arc<LogStore>, from: u64) -> Vec<WatchItem> {
    let store: Arc<dyn RunStore> = store.clone();
    graph
        .events(store, &Scope::local(), "r", from)
        .map(|item| item.expect("reads back"))
        .collect()
        .await
}

/// What a watcher saw, checked: numbers without a hole, gaps told.
#[derive(Default)]
struct Seen {
    next: u64,
    events: BTreeMap<u64, Arc<RunEvent>>,
    gaps: Vec<(u64, u64)>,
}

impl Seen {
    fn from(next: u64) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    fn take(&mut self, item: WatchItem) {
        match item {
            WatchItem::Event(event) => {
                assert_eq!(event.seq, self.next, "no event is left out in silence");
                self.next += 1;
                self.events.insert(event.seq, event);
            }
            WatchItem::Gap { from, to } => {
                assert!(
                    from == self.next && to >= from,
                    "{from} to {to}, not {}",
                    self.next
                );
                self.next = to + 1;
                self.gaps.push((from, to));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Joins somewhere, leaves and joins again as chance has it, and reads on to the end.
async fn wander(runs: Runs, seed: u64) -> Seen {
    let mut chance = Seeded(seed.wrapping_mul(0x9e37_79b9));
    let from = 1 + chance.below(300);
    let mut seen = Seen::from(from);
    loop {
        for _ in 0..chance.below(40) {
            tokio::task::yield_now().await;
        }
        let mut watch = runs.watch(&Scope::local(), "r", seen.next).expect("there");
        let mut most = chance.below(200);
        loop {
            let Some(item) = watch.next().await else {
                return seen;
            };
            seen.take(item);
            assert_eq!(watch.next_seq(), seen.next);
            if chance.below(7) == 0 {
                tokio::task::yield_now().await;
            }
            if most == 0 {
                break; // leaves, and joins where it was
            }
            most -= 1;
        }
    }
}

async fn wanderers(runs: &Runs, count: u64) -> Vec<Seen> {
    let tasks: Vec<_> = (0..count)
        .map(|seed| tokio::spawn(wander(runs.clone(), seed)))
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.expect("no watcher failed"));
    }
    seen
}

// ---- Watching -------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_watchers_that_join_and_leave_anywhere_all_see_the_same_run_whole() {
    let (model, agent) = chatty(2_000);
    let runs = Runs::new();
    let handle = runs.start(agent.run("go").run_id("r")).expect("starts");
    let all = handle.watch(1).expect("there");
    let seen = wanderers(&runs, 200).await;
    let all = events_of(all).await;
    assert_eq!(handle.result().await.expect("ends").answer, model.text());
    assert_eq!(text_of(&all), model.text());
    for (at, seen) in seen.into_iter().enumerate() {
        assert!(seen.gaps.is_empty(), "watcher {at}: {:?}", seen.gaps);
        for (seq, event) in seen.events {
            assert_eq!(*event, all[usize::try_from(seq).expect("small") - 1]);
        }
        assert_eq!(seen.next, all.len() as u64 + 1, "watcher {at} saw the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_comes_too_late_for_a_small_log_is_told_what_it_missed() {
    let (model, agent) = chatty(2_000);
    let runs = Runs::with_limits(limits(50));
    let handle = runs.start(agent.run("go").run_id("r")).expect("starts");
    let seen = wanderers(&runs, 200).await;
    let result = handle.result().await.expect("no watcher stops it");
    assert_eq!(result.answer, model.text());
    let info = runs.list(&Scope::local()).remove(0);
    assert_eq!(info.last_seq - info.first_seq, 49);
    assert!(seen.iter().all(|seen| seen.next == info.last_seq + 1));
    assert!(seen.iter().any(|seen| !seen.gaps.is_empty()));
    let late: Vec<WatchItem> = runs.watch(&Scope::local(), "r", 1).expect("kept").collect().await;
    let missed = WatchItem::Gap {
        from: 1,
        to: info.first_seq - 1,
    };
    assert_eq!((late.len(), &late[0]), (51, &missed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_events_are_kept_a_small_log_costs_no_watcher_an_event() {
    let model = Chatty::new(2_000);
    let agent = Agent::new(model.clone())
        .store(LogStore::new())
        .build()
        .expect("no fault");
    let runs = Runs::with_limits(limits(50));
    let handle = runs
        .start(agent.run("go").run_id("r").keep_events())
        .expect("starts");
    let seen = wanderers(&runs, 50).await;
    assert_eq!(handle.result().await.expect("ends").answer, model.text());
    for seen in &seen {
        assert!(seen.gaps.is_empty(), "{:?}", seen.gaps);
    }
    let late = events_of(runs.watch(&Scope::local(), "r", 1).expect("kept")).await;
    assert_eq!(text_of(&late), model.text());
    for seen in seen {
        for (seq, event) in seen.events {
            assert_eq!(*event, late[usize::try_from(seq).expect("small") - 1]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_outlives_its_watchers_and_is_watched_again_after_its_end_from_any_number() {
    let (model, agent) = chatty(500);
    let runs = Runs::new();
    let handle = runs.start(agent.run("go").run_id("r")).expect("starts");
    let silent = runs.start(agent.run("go").run_id("silent")).expect("starts");
    drop(silent); // nobody watches it, nobody waits for it
    let first: Vec<WatchItem> = handle.watch(1).expect("there").take(10).collect().await;
    assert_eq!(first.len(), 10);
    assert_eq!(handle.result().await.expect("ends").answer, model.text());
    runs.idle().await;
    let list = runs.list(&Scope::local());
    let ended: Vec<_> = list.iter().map(|info| (&*info.run_id, info.status)).collect();
    assert_eq!(ended, [("silent", RunStatus::Done), ("r", RunStatus::Done)]);
    let all = events_of(runs.watch(&Scope::local(), "r", 0).expect("kept")).await;
    assert!(matches!(
        all.last().map(|event| &event.kind),
        Some(EventKind::RunEnd {
            status: RunStatus::Done,
            ..
        })
    ));
    for from in [1, 2, 11, 250, all.len()] {
        let watch = runs.watch(&Scope::local(), "r", from as u64).expect("kept");
        assert_eq!(events_of(watch).await, all[from - 1..]);
    }
    let beyond = runs.watch(&Scope::local(), "r", u64::MAX).expect("kept");
    assert!(events_of(beyond).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_cancelled_by_its_id_from_another_task_and_its_history_is_closed() {
    let model = {
        let mut model = support::Script::plain(vec![vec![stepwell_core::Part::text(
            "an answer that never ends",
            stepwell_core::Origin::Model,
        )]]);
        model.hangs_after = Some(3);
        Arc::new(model)
    };
    let agent = Agent::new(model).build().expect("no fault");
    let outer = Cancel::new();
    let runs = Runs::new();
    let run = agent.run("go").run_id("r").cancel(outer.clone());
    let handle = runs.start(run).expect("starts");
    let mut watch = handle.watch(1).expect("there");
    while let Some(item) = watch.next().await {
        let event = item.event().cloned().expect("no gap");
        if matches!(
            event.kind,
            EventKind::Model {
                event: StreamEvent::TextDelta { .. }
            }
        ) {
            let runs = runs.clone();
            tokio::spawn(async move { runs.cancel(&Scope::local(), "r").expect("there") });
        }
        if let EventKind::RunEnd { status, .. } = event.kind {
            assert_eq!(status, RunStatus::Cancelled);
        }
    }
    let result = handle.outcome().await.expect("its task ended");
    assert_eq!(result.status, RunStatus::Cancelled);
    assert!(result.usage.is_estimated, "what it had used is booked");
    assert!(!outer.is_cancelled(), "a switch that others share is not pulled");
    runs.idle().await;
    let unknown = runs.cancel(&Scope::local(), "s").expect_err("no such run");
    assert_eq!(unknown.code(), "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_panics_and_a_waker_that_does_harm_neither_the_run_nor_other_watchers() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
    let (model, agent) = chatty(500);
    let runs = Runs::new();
    let gate = Arc::new(Semaphore::new(0));
    let handle = runs
        .start(gated(&gate).run(log_state()).run_id("g"))
        .expect("starts");
    let mut bomb = handle.watch(u64::MAX).expect("there");
    let waker = Waker::from(Arc::new(Bomb));
    let polled = Pin::new(&mut bomb).poll_next(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    gate.add_permits(9);
    handle.result().await.expect("the run goes on");

    let handle = runs.start(agent.run("go").run_id("r")).expect("starts");
    let tasks: Vec<_> = (0..20)
        .map(|at| {
            let mut watch = handle.watch(1).expect("there");
            tokio::spawn(async move {
                for _ in 0..at {
                    watch.next().await;
                }
                panic!("a watcher's own fault");
            })
        })
        .collect();
    let all = events_of(handle.watch(1).expect("there")).await;
    assert_eq!(text_of(&all), model.text());
    handle.result().await.expect("ends");
    for task in tasks {
        assert!(task.await.expect_err("it panicked").is_panic());
    }
}

#[tokio::test]
async fn one_id_is_one_run_of_a_tenant_and_another_tenants_is_its_own() {
    let gate = Arc::new(Semaphore::new(0));
    let runs = Runs::with_limits({
        let mut limits = limits(100);
        limits.running = 2;
        limits
    });
    let start = |scope: Scope, id: &str| {
        let run = gated(&gate).run(log_state()).scope(scope).run_id(id);
        runs.start(run)
    };
    let (ann, bob) = (Scope::new("ann").expect("fine"), Scope::new("bob").expect("fine"));
    let of_ann = start(ann.clone(), "r").expect("starts");
    let of_bob = start(bob.clone(), "r").expect("starts");
    let taken = start(ann.clone(), "r").expect_err("it goes already");
    assert_eq!(taken.code(), "conflict");
    let third = start(ann.clone(), "s").expect_err("two at once");
    assert_eq!(third.code(), "limit_exceeded");
    runs.cancel(&bob, "r").expect("there");
    let ended = of_bob.outcome().await.expect("its task ended");
    assert_eq!(ended.status, RunStatus::Cancelled);
    gate.add_permits(9);
    assert!(
        of_ann
            .result()
            .await
            .expect("nobody cancelled it")
            .done()
            .is_some()
    );
    runs.idle().await;
    let list = runs.list(&ann);
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].status, &*list[0].run_id), (RunStatus::Done, "r"));
    assert!(runs.watch(&Scope::new("eve").expect("fine"), "r", 1).is_err());
    let again = start(ann.clone(), "r").expect_err("the id is taken while the run is kept");
    assert_eq!(again.code(), "conflict");
    assert!(runs.forget(&ann, "r"));
    start(ann, "r").expect("free again").result().await.expect("ends");
    let none = Runs::new();
    let words = Agent::new(Chatty::new(1)).build().expect("no fault");
    let refused = none.start(words.run("")).expect_err("there is nothing to answer");
    assert_eq!(refused.code(), "invalid_input");
}

#[test]
fn a_run_cannot_be_started_outside_of_a_runtime_and_the_error_says_so() {
    let gate = Arc::new(Semaphore::new(0));
    let refused = Runs::new()
        .start(gated(&gate).run(log_state()))
        .expect_err("no runtime");
    assert!(refused.to_string().contains("tokio runtime"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_runs_are_drained_and_go_on_later_under_the_next_numbers() {
    let gate = Arc::new(Semaphore::new(0));
    let runs = Runs::new();
    let store = LogStore::new();
    let handles: Vec<_> = (0..5)
        .map(|at| {
            let run = gated(&gate)
                .run(log_state())
                .store(store.clone())
                .run_id(format!("r{at}"));
            runs.start(run).expect("starts")
        })
        .collect();
    for handle in &handles {
        // All are in their first step.
        let mut watch = handle.watch(1).expect("there");
        let starts = |item: WatchItem| {
            item.event()
                .is_some_and(|event| event.kind == EventKind::NodeStart)
        };
        while !starts(watch.next().await.expect("it goes")) {}
    }
    runs.drain_all();
    gate.add_permits(5);
    runs.idle().await;
    for handle in handles {
        let id = handle.run_id().to_owned();
        assert_eq!(handle.result().await.expect("paused").status, RunStatus::Paused);
        let before = events_of(runs.watch(&Scope::local(), &id, 1).expect("kept")).await;
        gate.add_permits(5);
        let on = gated(&gate).resume(&id).store(store.clone());
        let handle = runs.start(on).expect("goes on");
        let after = events_of(handle.watch(before.len() as u64 + 1).expect("there")).await;
        assert_eq!(after[0].seq, before.len() as u64 + 1);
        assert!(matches!(
            after[0].kind,
            EventKind::RunStart { is_resumed: true, .. }
        ));
        assert!(handle.result().await.expect("ends").done().is_some());
    }
}

fn log_state() -> Channels {
    Channels::new().slot("log", Reducer::Append)
}

/// Two nodes, each of which waits for a permit.
fn gated(gate: &Arc<Semaphore>) -> Graph<Channels> {
    struct Wait(Arc<Semaphore>);
    #[async_trait]
    impl Node<Channels> for Wait {
        async fn run(&self, _: &Channels, cx: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
            self.0.acquire().await?.forget();
            Ok(ChannelsUpdate::new().set("log", [cx.node()]).into())
        }
    }
    GraphBuilder::new(log_state())
        .node("one", Wait(Arc::clone(gate)))
        .node("two", Wait(Arc::clone(gate)))
        .edge(START, "one")
        .edge("one", "two")
        .edge("two", END)
        .build()
        .expect("no fault")
}

// ---- Kept events and numbers ----------------------------------------------------------------------------------

/// Runs it to its end and gives its events.
async fn watched<R: Startable>(runs: &Runs, run: R) -> Vec<RunEvent> {
    let handle = runs.start(run).expect("starts");
    let watch = handle.watch(1).expect("there").filter_map(|item| async move {
        match item {
            WatchItem::Event(event) => Some((*event).clone()),
            _ => None, // what an earlier process saw
        }
    });
    let events = watch.collect().await;
    handle.outcome().await.expect("its task ended");
    events
}

/// Three models at once, by Sends; then one word of a node's own.
fn choir(words: usize) -> Graph<Talk> {
    GraphBuilder::new(Talk::default())
        .node(
            "all",
            node_sync(|_: &Talk, _| Ok(Command::<TalkUpdate>::send("voice", 0..3)?)),
        )
        .node("voice", stepwell_agent::ModelNode::new(Chatty::new(words)))
        .node(
            "last",
            node_sync(|_: &Talk, cx| {
                cx.emit("bye", json!({ "deep": [1, { "er": null }] }));
                Ok(TalkUpdate::default())
            }),
        )
        .edge(START, "all")
        .goto("all", ["voice"])
        .edge("voice", "last")
        .edge("last", END)
        .build()
        .expect("no fault")
}

#[derive(Clone, Debug, Default, PartialEq, stepwell_macros::State)]
#[state(crate = "stepwell_agent")]
struct Talk {
    #[state(messages)]
    messages: stepwell_agent::Messages,
}

#[tokio::test]
async fn kept_events_read_back_exactly_as_they_were_watched_also_when_answers_interleave() {
    let store = LogStore::new();
    let graph = choir(300);
    let run = graph
        .run(Talk::default())
        .run_id("r")
        .store(store.clone())
        .values()
        .keep_events();
    let live = watched(&Runs::new(), run).await;
    let sends: BTreeSet<Option<u32>> = live
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Model { .. }))
        .map(|event| event.send)
        .collect();
    assert_eq!(sends.len(), 3, "each Send's words are told apart");
    let back = kept(&graph, &store, 1).await;
    let back: Vec<RunEvent> = back
        .iter()
        .map(|item| item.event().cloned().expect("no gap"))
        .collect();
    assert_eq!(back.len(), live.len());
    for (back, live) in back.iter().zip(&live) {
        assert_eq!(back, live);
    }
    for from in [2, 17, 400, live.len()] {
        let part = kept(&graph, &store, from as u64).await;
        assert_eq!(part.len(), live.len() - from + 1);
        assert_eq!(part[0].event(), Some(&live[from - 1]));
    }
}

#[tokio::test]
async fn keeping_a_streamed_answer_costs_a_small_multiple_of_its_text_and_not_keeping_costs_nothing() {
    let disk = async |keeps: bool| {
        let model = Chatty::new(40_000);
        let store = LogStore::new();
        let agent = Agent::new(model.clone())
            .store(store.clone())
            .build()
            .expect("no fault");
        let run = agent.run("go").run_id("r");
        let run = if keeps { run.keep_events() } else { run };
        let result = Runs::new()
            .start(run)
            .expect("starts")
            .result()
            .await
            .expect("ends");
        assert_eq!(result.answer, model.text());
        let events = store.kinds("r").iter().filter(|kind| **kind == "event").count();
        (store.bytes("r"), events, result.answer.len())
    };
    let (plain, events, _) = disk(false).await;
    assert_eq!(events, 0);
    let (whole, events, text) = disk(true).await;
    let kept = whole - plain;
    println!("text {text} B, journal {plain} B, with kept events {whole} B in {events} records");
    assert!(events > 4, "in batches");
    // The words as they came, their lengths, and the update with the whole message once more.
    assert!(kept < 3 * text, "{kept} bytes for {text} of text");
}

#[tokio::test]
async fn after_a_crash_anywhere_kept_events_have_the_numbers_they_had_and_new_ones_are_new() {
    let store = LogStore::new();
    let graph = choir(20);
    let run = || graph.run(Talk::default()).run_id("r").store(store.clone());
    let live = watched(&Runs::new(), run().keep_events()).await;
    let whole = store.records("r").len();
    assert!(whole > 8);
    for cut in 2..whole {
        let store = LogStore::new();
        let run = graph.run(Talk::default()).run_id("r").store(store.clone());
        assert_eq!(watched(&Runs::new(), run.keep_events()).await.len(), live.len());
        store.cut_after("r", cut);
        let before = kept(&graph, &store, 1).await;
        for (item, live) in before.iter().zip(&live) {
            assert_eq!(item.event(), Some(live), "cut after record {cut}");
        }
        // Another process: another hub.
        let on = graph.resume("r").store(store.clone()).keep_events();
        let all = watched(&Runs::new(), on).await;
        let (old, resumed) = all.split_at(before.len());
        assert_eq!(old, &live[..old.len()], "its watchers get what was kept first");
        assert!(
            resumed[0].seq > live.len() as u64,
            "the first process may have shown {} events, this one begins at {}",
            live.len(),
            resumed[0].seq
        );
        assert!(resumed[0].seq < 1 << 53, "a number that JavaScript holds");
        let mut after = kept(&graph, &store, 1).await;
        let rest = after.split_off(before.len());
        let gap = WatchItem::Gap {
            from: before.len() as u64 + 1,
            to: resumed[0].seq - 1,
        };
        assert_eq!(after, before, "what was kept stays");
        assert_eq!(rest[0], gap, "what the crash overtook is told");
        let rest: Vec<&RunEvent> = rest[1..].iter().filter_map(WatchItem::event).collect();
        assert_eq!(rest, resumed.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn without_kept_events_no_number_is_given_twice_over_crashes_pauses_and_unwatched_turns() {
    let graph = {
        async fn ask(_: &Channels, cx: &RunContext) -> Result<ChannelsUpdate, NodeError> {
            cx.emit("before", json!(null));
            let name: String = cx.ask("name", json!("?")).await?;
            Ok(ChannelsUpdate::new().set("log", [name]))
        }
        GraphBuilder::new(log_state())
            .node("ask", stepwell_agent::node_fn(ask))
            .edge(START, "ask")
            .edge("ask", END)
            .build()
            .expect("no fault")
    };
    let store = LogStore::new();
    let mut given: BTreeMap<u64, EventKind> = BTreeMap::new();
    let mut note = |events: &[RunEvent]| {
        for event in events {
            let before = given.insert(event.seq, event.kind.clone());
            assert!(
                before.is_none() || before.as_ref() == Some(&event.kind),
                "{event:?}"
            );
        }
    };
    let on = || graph.resume("r").store(store.clone());
    let first = watched(
        &Runs::new(),
        graph.run(log_state()).run_id("r").store(store.clone()),
    )
    .await;
    note(&first);
    let last = first.len() as u64;
    // A wrong answer is refused, and so is none: only the last event is said again.
    for run in [on().reply(7), on()] {
        let refused = watched(&Runs::new(), run).await;
        assert_eq!((refused.len(), refused[0].seq), (1, last));
    }
    let second = watched(&Runs::new(), on().reply("ann")).await;
    assert_eq!(second[0].seq, last + 1, "after a pause the next number follows");
    note(&second);
    let last = last + second.len() as u64;
    // A turn that nobody watches takes one number, for its end.
    let turn = || graph.turn("r", ChannelsUpdate::new()).store(store.clone());
    turn().await.expect("pauses");
    let third = watched(&Runs::new(), on().reply("bob")).await;
    assert_eq!(third[0].seq, last + 2);
    note(&third);
    // A turn that a crash cuts off, twice.
    let mut last = third.last().expect("some").seq;
    for _ in 0..2 {
        let cut = store.records("r").len() + 1;
        let events = watched(&Runs::new(), turn()).await;
        assert!(events[0].seq > last);
        note(&events);
        store.cut_after("r", cut);
        let events = watched(&Runs::new(), on()).await;
        assert!(events[0].seq > last + 5, "{} after {last}", events[0].seq);
        note(&events);
        last = events.last().expect("some").seq;
    }
    // Without a journal the paused run itself knows.
    let mut paused = graph.run(log_state()).await.expect("pauses");
    assert_eq!(paused.status, RunStatus::Paused);
    let mut stream = paused.paused().expect("waits").resume().reply("eve").stream();
    assert_eq!(stream.next().await.map(|event| event.seq), Some(2));
    paused = graph.run(log_state()).await.expect("pauses");
    assert!(paused.error.is_none());
}

#[tokio::test]
async fn keeping_events_without_a_store_is_refused_in_one_sentence() {
    let gate = Arc::new(Semaphore::new(9));
    let refused = gated(&gate)
        .run(log_state())
        .keep_events()
        .await
        .expect_err("nowhere to keep them");
    assert!(matches!(refused, Error::InvalidInput { .. }));
    assert!(refused.to_string().contains(".store("), "{refused}");
    let store: Arc<dyn RunStore> = LogStore::new();
    let unknown: Vec<_> = gated(&gate)
        .events(store, &Scope::local(), "nobody", 1)
        .collect()
        .await;
    assert!(matches!(&unknown[..], [Err(Error::NotFound { .. })]));
}

#[tokio::test]
async fn a_damaged_record_ends_kept_events_with_an_error_and_a_watch_with_a_gap() {
    let store = LogStore::new();
    let graph = choir(50);
    let runs = Runs::with_limits(limits(5));
    let run = graph.run(Talk::default()).run_id("r").store(store.clone());
    runs.start(run.keep_events())
        .expect("starts")
        .result()
        .await
        .expect("ends");
    let kinds = store.kinds("r");
    let at = kinds.iter().rposition(|kind| *kind == "event").expect("kept");
    store.damage("r", at as u64 + 1, 20, b'\x07');
    let dynamic: Arc<dyn RunStore> = store.clone();
    let items: Vec<_> = graph.events(dynamic, &Scope::local(), "r", 1).collect().await;
    assert!(matches!(items.last(), Some(Err(Error::Damaged { .. }))));
    let mut seen = Seen::from(1);
    let mut watch = runs.watch(&Scope::local(), "r", 1).expect("there");
    while let Some(item) = watch.next().await {
        seen.take(item);
    }
    assert_eq!((seen.gaps.len(), seen.events.len()), (1, 5));
}

// ---- Nested runs ----------------------------------------------------------------------------------------------

/// A graph as a node of itself, so many levels deep; the innermost tells how far it is.
fn nested(levels: u32) -> Graph<Channels> {
    struct Slow;
    #[async_trait]
    impl Node<Channels> for Slow {
        async fn run(&self, _: &Channels, cx: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
            for at in 0..20 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if at % 2 == 0 {
                    cx.emit("progress", json!(at));
                } else {
                    cx.heartbeat();
                }
            }
            Ok(ChannelsUpdate::new().set("log", ["slow"]).into())
        }
    }
    let builder = GraphBuilder::new(log_state());
    let builder = if levels == 0 {
        builder.node("work", Slow)
    } else {
        let inner = Subgraph::new(
            nested(levels - 1),
            |_: &Channels, _| Ok(ChannelsUpdate::new()),
            |inner: Channels| Ok(ChannelsUpdate::new().set("log", inner.get("log")?)),
        );
        let options = NodeOptions::new().idle_timeout(Duration::from_millis(200));
        builder.node("work", inner).options("work", options)
    };
    builder
        .edge(START, "work")
        .edge("work", END)
        .build()
        .expect("no fault")
}

#[tokio::test(start_paused = true)]
async fn a_nested_runs_events_have_its_path_lie_inside_its_node_and_keep_all_around_it_alive() {
    let events = watched(&Runs::new(), nested(2).run(log_state())).await;
    assert!(matches!(
        events.last().map(|event| &event.kind),
        Some(EventKind::RunEnd {
            status: RunStatus::Done,
            ..
        })
    ));
    let told = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Custom { .. }));
    let told: Vec<&RunEvent> = told.collect();
    assert_eq!(told.len(), 10, "progress comes through two levels");
    assert!(told.iter().all(|event| *event.path == ["work", "work"]));
    // Nested like brackets: what begins inside ends inside.
    let mut open: Vec<(usize, &str)> = Vec::new();
    for event in &events {
        let depth = event.path.len();
        match event.kind {
            EventKind::RunStart { .. } => open.push((depth, "run")),
            EventKind::NodeStart => open.push((depth, "node")),
            EventKind::RunEnd { .. } => assert_eq!(open.pop(), Some((depth, "run"))),
            EventKind::NodeEnd { .. } => assert_eq!(open.pop(), Some((depth, "node"))),
            _ => assert_eq!(open.last().map(|(depth, _)| *depth), Some(depth)),
        }
    }
    assert!(open.is_empty());
}

#[test]
fn a_path_is_matched_by_whole_names_and_a_call_inside_it_is_told() {
    let event = |path: &[&str]| -> RunEvent {
        let event = json!({ "seq": 1, "run_id": "r", "path": path, "step": 1, "type": "node_start" });
        serde_json::from_value(event).expect("an event")
    };
    let inside = event(&["research", "tools#2@call_1", "inner"]);
    assert!(inside.is_within(&["research"]) && inside.is_within::<&str>(&[]));
    assert!(inside.is_within(&["research", "tools"]));
    assert!(inside.is_within(&["research", "tools#2@call_1"]));
    assert!(!inside.is_within(&["research", "tools#1@call_1"]));
    assert!(!inside.is_within(&["tools"]));
    assert!(!inside.is_within(&["research", "tools", "inner", "more"]));
    // Behaviour 42.
    assert!(!event(&["research_review"]).is_within(&["research"]));
    assert_eq!(inside.parent_call_id(), Some("call_1"));
    assert_eq!(inside.names().collect::<Vec<_>>(), ["research", "tools", "inner"]);
    assert_eq!(event(&["worker#3"]).parent_call_id(), None);
    assert_eq!(event(&["tools@a", "tools@b@c#d"]).parent_call_id(), Some("b@c#d"));
}

// ---- Views ----------------------------------------------------------------------------------------------------

fn shown(views: &mut Views, events: &[RunEvent]) -> Vec<(View, Value)> {
    let items = events.iter().flat_map(|event| views.take(event));
    items
        .map(|(view, item)| (view, serde_json::to_value(item).expect("plain data")))
        .collect()
}

/// `a` writes, then `b` asks.
fn asking() -> Graph<Channels> {
    async fn b(_: &Channels, cx: &RunContext) -> Result<ChannelsUpdate, NodeError> {
        let name: String = cx.ask("name", json!("who?")).await?;
        Ok(ChannelsUpdate::new().set("log", [name]))
    }
    GraphBuilder::new(log_state())
        .node(
            "a",
            node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("log", ["a"]))),
        )
        .node("b", stepwell_agent::node_fn(b))
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", END)
        .build()
        .expect("no fault")
}

#[tokio::test]
async fn updates_and_values_show_a_pause_and_a_resumed_run_begins_with_what_it_has() {
    // Behaviour 43.
    let mut views = Views::new([View::Updates, View::Values]);
    let mut stream = asking().run(log_state()).values().stream();
    let events: Vec<RunEvent> = stream.by_ref().collect().await;
    let items = shown(&mut views, &events);
    let words: Vec<(View, &str)> = items
        .iter()
        .map(|(view, item)| (*view, item["item"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        words,
        [
            (View::Values, "values"),
            (View::Updates, "update"),
            (View::Values, "values"),
            (View::Updates, "interrupt"),
            (View::Values, "values"),
        ]
    );
    assert_eq!(items[2].1["values"]["log"], json!(["a"]));
    assert_eq!(items[3].1["question"]["payload"], "who?");
    assert_eq!(items[4].1["values"]["log"], json!(["a"]));
    assert_eq!(items[4].1["questions"][0]["id"], items[3].1["question"]["id"]);
    let paused: Outcome<Channels> = stream.take_result().expect("ended");
    let resumed = paused.paused().expect("waits").resume().reply("ann").values();
    let mut stream = resumed.stream();
    let events: Vec<RunEvent> = stream.by_ref().collect().await;
    let items = shown(&mut views, &events);
    assert_eq!(items[0].0, View::Values);
    assert_eq!(items[0].1["values"]["log"], json!(["a"]));
    let last = items.last().expect("some");
    assert_eq!(last.1["values"]["log"], json!(["a", "ann"]));
}

#[tokio::test]
async fn a_failed_task_is_shown_before_the_run_fails() {
    // Behaviour 44.
    let graph = GraphBuilder::new(log_state())
        .node(
            "bad",
            node_sync(|_: &Channels, _| -> Result<ChannelsUpdate, NodeError> {
                Err(NodeError::new("no luck"))
            }),
        )
        .edge(START, "bad")
        .edge("bad", END)
        .build()
        .expect("no fault");
    let mut stream = graph.run(log_state()).stream();
    let events: Vec<RunEvent> = stream.by_ref().collect().await;
    assert!(stream.take_result().expect("ended").error.is_some());
    let tasks = shown(&mut Views::new([View::Tasks, View::Debug]), &events);
    let failed = tasks
        .iter()
        .position(|(view, item)| *view == View::Tasks && item["failure"]["code"] == "node_failed");
    let ended = tasks
        .iter()
        .position(|(view, item)| *view == View::Debug && item["event"]["type"] == "run_end");
    assert!(failed.expect("shown") < ended.expect("shown"), "{tasks:?}");
}

#[tokio::test]
async fn messages_are_shown_once_streamed_or_whole_and_inputs_are_not_echoed() {
    use stepwell_core::Message;
    let echo = node_sync(|state: &Talk, _: &RunContext| {
        // It returns all there is, and one of its own.
        let mut all: Vec<_> = state.messages.iter().cloned().collect();
        all.push(Message::assistant("by hand").with_id("own"));
        Ok(Talk::add_messages(all))
    });
    let inner = GraphBuilder::new(Talk::default())
        .node("voice", stepwell_agent::ModelNode::new(Chatty::new(5)))
        .node("echo", echo)
        .edge(START, "voice")
        .edge("voice", "echo")
        .edge("echo", END)
        .build()
        .expect("no fault");
    let state = Talk {
        messages: vec![Message::user("hello").with_id("input")].into(),
    };
    let mut stream = inner.run(state).stream();
    let events: Vec<RunEvent> = stream.by_ref().collect().await;
    assert!(stream.take_result().expect("ended").error.is_none());
    let mut views = Views::new([View::Messages]);
    let (mut text, mut whole) = (String::new(), Vec::new());
    for event in &events {
        for (_, item) in views.take(event) {
            match item {
                ViewItem::Token {
                    event: StreamEvent::TextDelta { text: piece, .. },
                } => text.push_str(piece),
                ViewItem::Message { message } => whole.push(message.id.clone()),
                _ => {}
            }
        }
    }
    assert_eq!(text, Chatty::new(5).text());
    assert_eq!(whole, [Some("own".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn views_of_one_nested_run_leave_the_others_out_and_custom_shows_what_nodes_say() {
    let events = watched(&Runs::new(), nested(1).run(log_state())).await;
    let mut inner = Views::new([View::Custom, View::Tasks]).within(["work"]);
    let items = shown(&mut inner, &events);
    let count = |wanted: View| items.iter().filter(|(view, _)| *view == wanted).count();
    assert_eq!((count(View::Custom), count(View::Tasks)), (10, 3));
    let mut outer = Views::new([View::Custom, View::Tasks]).outermost();
    let items = shown(&mut outer, &events);
    assert!(items.iter().all(|(view, _)| *view == View::Tasks) && items.len() == 3);
    assert!(shown(&mut Views::new([View::Debug]).within(["wor"]), &events).is_empty());
    let all = shown(&mut Views::new([View::Debug]), &events);
    assert_eq!(all.len(), events.len());
}

// ---- Agents inside of tool calls ------------------------------------------------------------------------------

#[tokio::test]
async fn an_agent_inside_a_tool_call_streams_with_its_call_and_its_tools_progress_comes_through() {
    use stepwell_core::{Origin, Part, Tool, ToolContext, ToolError};

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Nothing {}

    struct Dig;

    impl Tool for Dig {
        const NAME: &'static str = "dig";
        const DESCRIPTION: &'static str = "Digs.";
        type Args = Nothing;
        type Output = String;

        async fn call(&self, _: Nothing, cx: &ToolContext) -> Result<String, ToolError> {
            cx.emit(json!("half way"));
            Ok("earth".into())
        }
    }

    let says = |text: &str| vec![Part::text(text, Origin::Model)];
    let inner = Agent::new(support::Script::new(vec![
        vec![Part::tool_call("inner_call", "dig", json!({}))],
        says("found"),
    ]))
    .name("digger")
    .tool(Dig)
    .build()
    .expect("no fault");
    let outer = Agent::new(support::Script::new(vec![
        vec![Part::tool_call("call_1", "ask_digger", json!({ "task": "dig" }))],
        says("done"),
    ]))
    .tool(inner.tool("ask_digger", "Digs."))
    .build()
    .expect("no fault");
    let events = watched(&Runs::new(), outer.run("go")).await;
    let inside: Vec<&RunEvent> = events.iter().filter(|event| !event.path.is_empty()).collect();
    assert!(!inside.is_empty());
    assert!(
        inside
            .iter()
            .all(|event| event.parent_call_id() == Some("call_1"))
    );
    assert!(inside.iter().all(|event| event.is_within(&["tools@call_1"])));
    assert!(
        inside.iter().any(|event| matches!(&event.kind,
            EventKind::ToolProgress { call_id, .. } if call_id == "inner_call")),
        "progress of the inner tool"
    );
    assert_eq!(text_of(inside.iter().copied()), "found");
    let place = |wanted: &dyn Fn(&RunEvent) -> bool| events.iter().position(wanted).expect("it happened");
    let start = place(&|event| matches!(&event.kind, EventKind::ToolStart { call } if call.id == "call_1"));
    let end =
        place(&|event| matches!(&event.kind, EventKind::ToolEnd { result } if result.call_id == "call_1"));
    let seqs = inside
        .iter()
        .map(|event| usize::try_from(event.seq).expect("small") - 1);
    assert!(seqs.into_iter().all(|at| start < at && at < end));
}
