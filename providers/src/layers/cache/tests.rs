use super::{CacheOptions, Cached, key};
use crate::layers::{
    ModelExt, VirtualClock,
    clock::Clock,
    played::{Played, Step, finish, overloaded, said, start},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, executor::block_on, future::join_all};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_core::{
    Budget, BudgetLimits, ChatModel, ChatRequest, Cost, Error, FinishReason, Message, ModelInfo, Result,
    Scope, StreamEvent, store::Cache,
};

#[derive(Debug, Default)]
struct Shelf {
    kept: Mutex<HashMap<(String, String), Bytes>>,
    is_broken: bool,
}

#[async_trait]
impl Cache for Shelf {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        if self.is_broken {
            return Err(Error::internal("broken"));
        }
        let kept = self.kept.lock().expect("no panic inside");
        Ok(kept.get(&(scope.tenant().to_owned(), key.to_owned())).cloned())
    }

    async fn put(&self, scope: &Scope, key: &str, value: Bytes, _time: Option<Duration>) -> Result<()> {
        if self.is_broken {
            return Err(Error::internal("broken"));
        }
        let mut kept = self.kept.lock().expect("no panic inside");
        kept.insert((scope.tenant().to_owned(), key.to_owned()), value);
        Ok(())
    }

    async fn remove(&self, _scope: &Scope, _key: &str) -> Result<bool> {
        Ok(false)
    }

    async fn clear(&self, _scope: &Scope) -> Result<u64> {
        Ok(0)
    }
}

fn cached(model: Played, shelf: &Arc<Shelf>, tenant: &str, clock: &VirtualClock) -> Cached {
    Cached::new(
        Arc::new(model),
        shelf.clone(),
        Scope::new(tenant).expect("a name"),
        CacheOptions::default().clock(Arc::new(clock.clone())),
    )
}

#[test]
fn an_equal_request_is_answered_from_the_shelf_and_streams_again() {
    let (clock, shelf) = (VirtualClock::new(), Arc::new(Shelf::default()));
    let inner = Played::new("m", &clock).say("hello").say("again");
    let model = cached(inner.clone(), &shelf, "one", &clock);
    let first = block_on(clock.run(model.chat("x".into()))).expect("asked");
    let second = block_on(clock.run(model.chat("x".into()))).expect("kept");
    assert_eq!(inner.calls(), 1);
    assert_eq!(
        (second.message.clone(), second.finish_reason),
        (first.message, first.finish_reason)
    );
    assert_eq!((first.usage.total(), second.usage.total()), (15, 0));
    assert_eq!(second.warnings[0].code, "from_cache");
    // Another tenant never sees it.
    let other = cached(inner.clone(), &shelf, "two", &clock);
    assert_eq!(
        block_on(clock.run(other.chat("x".into()))).expect("asked").text(),
        "again"
    );
    assert_eq!(inner.calls(), 2);
}

#[test]
fn a_kept_answer_costs_nothing_again() {
    let (clock, shelf) = (VirtualClock::new(), Arc::new(Shelf::default()));
    let mut priced = said("hello");
    priced.insert(priced.len() - 1, StreamEvent::Cost(Cost { micro_usd: 700 }));
    let inner = Played::new("m", &clock).play(priced.into_iter().map(Step::Event).collect());
    let mut limits = BudgetLimits::default();
    limits.micro_usd = Some(1_000_000);
    let budget = Budget::new(limits);
    let model = cached(inner, &shelf, "one", &clock).with_budget(budget.clone());
    let ask = || block_on(clock.run(model.chat("x".into()))).expect("an answer");
    assert_eq!(ask().cost, Some(Cost { micro_usd: 700 }));
    let booked = budget.spent().micro_usd;
    assert_eq!((booked, ask().cost), (700, Some(Cost { micro_usd: 0 })));
    assert_eq!(budget.spent().micro_usd, booked, "the kept one is free");
}

#[test]
fn only_whole_good_answers_are_kept() {
    let (clock, shelf) = (VirtualClock::new(), Arc::new(Shelf::default()));
    let ended = |reason, raw: &str| -> Vec<Step> {
        let mut events = said("half");
        events.pop();
        events.push(finish(reason, raw));
        events.into_iter().map(Step::Event).collect()
    };
    let inner = Played::new("m", &clock)
        .fail(overloaded())
        .break_off("half", overloaded())
        .play(vec![Step::Event(start())])
        .play(ended(FinishReason::Length, "length"))
        .play(ended(FinishReason::ContentFilter, "refusal"))
        .play(ended(FinishReason::Other, "pause_turn"))
        .say("whole");
    let model = cached(inner.clone(), &shelf, "one", &clock);
    for _ in 0..6 {
        let _ = block_on(clock.run(model.chat("x".into())));
        assert!(shelf.kept.lock().expect("no panic inside").is_empty());
    }
    // Dropped half way.
    let mut stream = block_on(clock.run(model.stream("x".into()))).expect("begins");
    block_on(clock.run(stream.next()));
    drop(stream);
    assert!(shelf.kept.lock().expect("no panic inside").is_empty());
    assert_eq!((inner.calls(), model.flights.count()), (7, 0));
}

#[test]
fn equal_requests_at_once_are_asked_once_and_a_failed_one_passes_its_turn_on() {
    let (clock, shelf) = (VirtualClock::new(), Arc::new(Shelf::default()));
    let slow = |text: &str| -> Vec<Step> {
        let mut steps: Vec<Step> = said(text).into_iter().map(Step::Event).collect();
        steps.insert(2, Step::Wait(Duration::from_secs(5)));
        steps
    };
    let inner = Played::new("m", &clock).fail(overloaded()).play(slow("hello"));
    let model = cached(inner.clone(), &shelf, "one", &clock);
    let answers = block_on(clock.run(join_all((0..5).map(|_| model.chat("x".into())))));
    assert!(answers[0].is_err());
    for answer in &answers[1..] {
        assert_eq!(answer.as_ref().expect("shared").text(), "hello");
    }
    assert_eq!((inner.calls(), model.flights.count()), (2, 0));
}

#[test]
fn nobody_waits_longer_for_another_than_allowed_and_a_broken_shelf_is_an_empty_one() {
    let clock = VirtualClock::new();
    let shelf = Arc::new(Shelf::default());
    let inner = Played::new("m", &clock).say("one").say("two");
    let model = cached(inner.clone(), &shelf, "one", &clock);
    block_on(clock.run(async {
        let _held = model.stream("x".into()).await.expect("begins"); // and is never read on
        assert_eq!(model.chat("x".into()).await.expect("on its own").text(), "two");
    }));
    assert_eq!(clock.now(), Duration::from_secs(30));
    let broken = Arc::new(Shelf {
        is_broken: true,
        ..Shelf::default()
    });
    let inner = Played::new("m", &clock).say("one").say("two");
    let model = cached(inner, &broken, "one", &clock);
    for text in ["one", "two"] {
        assert_eq!(
            block_on(clock.run(model.chat("x".into()))).expect("asked").text(),
            text
        );
    }
}

#[test]
fn the_key_tells_apart_what_changes_an_answer_and_nothing_else() {
    let scope = Scope::local();
    let info = ModelInfo::new("acme", "m");
    let of = |request: &ChatRequest| key::key(&scope, &info, request);
    let base = ChatRequest::from("x").provider_option("acme", json!({ "a": 1, "b": 2 }));
    let mut same = ChatRequest::from("x").provider_option("acme", json!({ "b": 2, "a": 1 }));
    same.messages[0].id = Some("m1".into());
    same.metadata.insert("trace".into(), "1".into());
    assert_eq!(of(&base), of(&same));
    let mut others = vec![
        ChatRequest::from("y"),
        base.clone().temperature(0.5),
        base.clone().max_output_tokens(5),
        base.clone().provider_option("acme", json!({ "a": 1, "b": 3 })),
        ChatRequest::new([Message::system("x")]),
        ChatRequest::new([Message::user("x"), Message::user("")]),
    ];
    let mut seeded = base.clone();
    seeded.seed = Some(1);
    others.push(seeded);
    let mut stopped = base.clone();
    stopped.stop_sequences.push("x".into());
    others.push(stopped);
    for citations in [true, false] {
        let mut cited = base.clone();
        cited.citations = Some(citations);
        others.push(cited);
    }
    let mut keys: Vec<String> = others.iter().map(of).collect();
    keys.push(of(&base));
    keys.push(key::key(&Scope::new("other").expect("a name"), &info, &base));
    keys.push(key::key(&scope, &ModelInfo::new("acme", "n"), &base));
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}
