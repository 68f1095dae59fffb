//! Random steps on a typed state and on channels against an interpreter that is written to be plain, not fast.

use super::{Channel, State, fold};
use crate::{Channels, ChannelsUpdate, MessageChange, Messages};
use indexmap::{IndexMap, IndexSet};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use stepwell_core::Message;
use stepwell_macros::State;

#[derive(Clone, Debug, Default, PartialEq, State)]
#[state(crate = "crate")]
struct Board {
    plain: i64,
    #[state(append)]
    log: Vec<i64>,
    #[state(add)]
    sum: i64,
    #[state(merge)]
    facts: IndexMap<String, i64>,
    #[state(set)]
    seen: IndexSet<i64>,
    #[state(messages)]
    messages: Messages,
    #[state(append, ephemeral)]
    found: Vec<i64>,
    #[state(ephemeral)]
    hint: i64,
    #[state(messages, ephemeral)]
    asides: Messages,
    #[state(append, untracked)]
    scratch: Vec<i64>,
}

/// The channels a board tells of, with the values a blank board has.
fn channels() -> Channels {
    let blank = Board::default();
    let channels = Channels::from_channels(&blank.channels()).expect("no custom reducer");
    channels
        .restore(blank.save().expect("plain data"))
        .expect("one format")
}

/// All of a board, untracked keys too.
fn all_of_board(board: &Board) -> Value {
    let mut all = board.save().expect("plain data");
    all["scratch"] = json!(board.scratch);
    all
}

fn all_of_channels(channels: &Channels) -> Value {
    let mut all = channels.save().expect("plain data");
    all["scratch"] = channels.get("scratch").expect("a list begins empty");
    all
}

type Slots = Map<String, Value>;

/// What a step must do, said plainly: slots of JSON, every list searched from its start.
struct Oracle {
    channels: Vec<Channel>,
    blank: Slots,
    slots: Slots,
    /// Lists of messages that had one in them since they were blank or overwritten: all of these are a user's.
    had: BTreeSet<String>,
}

impl Oracle {
    fn new() -> Self {
        let Value::Object(slots) = all_of_board(&Board::default()) else {
            panic!("an object")
        };
        Self {
            channels: Board::default().channels(),
            blank: slots.clone(),
            slots,
            had: BTreeSet::new(),
        }
    }

    /// What is saved: beside a list without messages, the origin of those it had.
    fn saved(&self) -> Value {
        let mut saved = self.slots.clone();
        for key in &self.had {
            if saved[key] == json!([]) {
                saved.insert(format!("{key}$origins"), json!(["user"]));
            }
        }
        Value::Object(saved)
    }

    /// `tasks` are the updates of each, in order. Whether the step was refused.
    fn step(&mut self, tasks: &[Vec<Slots>]) -> Result<(), ()> {
        for channel in &self.channels {
            if channel.is_ephemeral {
                self.slots[&*channel.key] = self.blank[&*channel.key].clone();
                self.had.remove(&*channel.key);
            }
        }
        let mut overwritten = Vec::new();
        for channel in &self.channels {
            let key = &*channel.key;
            let writers = tasks
                .iter()
                .filter(|updates| updates.iter().any(|update| update.contains_key(key)));
            let overwrites = tasks
                .iter()
                .flatten()
                .filter(|update| update.get(key).is_some_and(|w| w.get("o").is_some()));
            match overwrites.count() {
                0 if channel.reducer == "last" && writers.count() > 1 => return Err(()),
                0 => {}
                1 => overwritten.push(key.to_owned()),
                _ => return Err(()),
            }
        }
        for update in tasks.iter().flatten() {
            let (mut next, mut had) = (self.slots.clone(), self.had.clone());
            for (key, write) in update {
                if let Some(value) = write.get("o") {
                    next[key] = value.clone();
                    had.remove(key);
                    had.extend(holds_message(value).then(|| key.clone()));
                } else if !overwritten.contains(key) {
                    let channel = self
                        .channels
                        .iter()
                        .find(|channel| channel.key == *key)
                        .ok_or(())?;
                    next[key] = reduce(&channel.reducer, &next[key], &write["w"])?;
                    had.extend(holds_message(&write["w"]).then(|| key.clone()));
                }
            }
            (self.slots, self.had) = (next, had); // all of an update or none
        }
        Ok(())
    }
}

fn holds_message(list: &Value) -> bool {
    let mut members = list.as_array().into_iter().flatten();
    members.any(|member| member.get("role").is_some())
}

fn reduce(reducer: &str, slot: &Value, write: &Value) -> Result<Value, ()> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    Ok(match reducer {
        "last" => write.clone(),
        "append" => Value::Array([list(slot), list(write)].concat()),
        "add" => json!(slot.as_i64().ok_or(())? + write.as_i64().ok_or(())?),
        "merge" => {
            let mut slot = slot.clone();
            for (key, value) in write.as_object().ok_or(())? {
                slot[key] = value.clone();
            }
            slot
        }
        "set" => {
            let mut slot = list(slot);
            for member in list(write) {
                if !slot.contains(&member) {
                    slot.push(member);
                }
            }
            Value::Array(slot)
        }
        "messages" => {
            let mut slot = list(slot);
            for change in list(write) {
                let place = |slot: &[Value], id: &Value| {
                    slot.iter().position(|message| message.get("id") == Some(id))
                };
                if change == "remove_all" {
                    slot.clear();
                } else if let Some(id) = change.get("remove") {
                    slot.remove(place(&slot, id).ok_or(())?);
                } else if let Some(at) = change.get("id").and_then(|id| place(&slot, id)) {
                    slot[at] = change;
                } else {
                    slot.push(change);
                }
            }
            Value::Array(slot)
        }
        other => panic!("no reducer {other}"),
    })
}

fn small() -> impl Strategy<Value = i64> {
    -5..6_i64
}

fn smalls() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(small(), 0..4)
}

fn message() -> impl Strategy<Value = Message> {
    (prop::option::of("[a-e]"), "[a-z]{1,3}").prop_map(|(id, text)| match id {
        Some(id) => Message::user(text).with_id(id),
        None => Message::user(text),
    })
}

fn change() -> impl Strategy<Value = MessageChange> {
    prop_oneof![
        6 => message().prop_map(MessageChange::from),
        2 => "[a-e]".prop_map(MessageChange::Remove),
        1 => Just(MessageChange::RemoveAll),
    ]
}

/// A write of a key, as the journal has it.
fn write(key: &'static str) -> BoxedStrategy<Value> {
    let fold = |value: Value| json!({ "w": value });
    let over = |value: Value| json!({ "o": value });
    let facts = || prop::collection::btree_map("[x-z]", small(), 0..3).prop_map(|facts| json!(facts));
    match key {
        "plain" | "hint" | "sum" => {
            prop_oneof![4 => small().prop_map(move |n| fold(json!(n))), 1 => small().prop_map(move |n| over(json!(n)))]
                .boxed()
        }
        "facts" => prop_oneof![4 => facts().prop_map(fold), 1 => facts().prop_map(over)].boxed(),
        "messages" | "asides" => prop_oneof![
            6 => prop::collection::vec(change(), 0..5).prop_map(move |changes| fold(json!(changes))),
            1 => prop::collection::vec(message(), 0..3)
                .prop_map(move |list| over(json!(Messages::from(list)))),
        ]
        .boxed(),
        "seen" => prop_oneof![
            4 => smalls().prop_map(move |list| fold(json!(list))),
            1 => smalls().prop_map(move |list| over(json!(list.into_iter().collect::<IndexSet<_>>()))),
        ]
        .boxed(),
        _ => prop_oneof![
            4 => smalls().prop_map(move |list| fold(json!(list))),
            1 => smalls().prop_map(move |list| over(json!(list))),
        ]
        .boxed(),
    }
}

/// An update: a few of the keys, in the order of the state as a typed update has them. What is untracked is in no journal.
fn update() -> impl Strategy<Value = Slots> {
    let mut keys = Board::KEYS.all().to_vec();
    keys.retain(|key| *key != Board::KEYS.scratch);
    let keys = prop::sample::subsequence(keys, 0..4);
    keys.prop_flat_map(|keys| {
        keys.into_iter()
            .map(|key| (Just(key.to_owned()), write(key)))
            .collect::<Vec<_>>()
    })
    .prop_map(|writes| writes.into_iter().collect())
}

/// Steps of tasks of updates. Mostly one writer, or most steps would be refused.
fn steps() -> impl Strategy<Value = Vec<Vec<Vec<Slots>>>> {
    let tasks = prop_oneof![
        2 => prop::collection::vec(prop::collection::vec(update(), 0..2), 1),
        3 => prop::collection::vec(prop::collection::vec(update(), 0..3), 1..4),
    ];
    prop::collection::vec(tasks, 1..7)
}

const NODES: [&str; 3] = ["first", "second", "third"];

fn fold_json<S: State>(state: &mut S, blank: &S, tasks: &[Vec<Slots>]) -> Result<(), ()> {
    state.expire(blank);
    let typed = |update: &Slots| {
        serde_json::from_value::<S::Update>(Value::Object(update.clone())).expect("the format")
    };
    let tasks = NODES
        .into_iter()
        .zip(tasks.iter().map(|updates| updates.iter().map(typed).collect()));
    fold(state, tasks.collect()).map_err(|error| assert_eq!(error.code(), "invalid_update"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("STEPWELL_LONG").is_some() { 20_000 } else { 400 }))]

    #[test]
    fn random_steps_leave_a_typed_state_and_channels_as_the_plain_interpreter_says(
        steps in steps(), resumes in prop::collection::vec(any::<bool>(), 7)
    ) {
        let (blank_board, blank_channels) = (Board::default(), channels());
        let (mut board, mut dynamic, mut oracle) = (blank_board.clone(), blank_channels.clone(), Oracle::new());
        for (step, is_resumed) in steps.iter().zip(resumes) {
            let plainly = oracle.step(step);
            prop_assert_eq!(fold_json(&mut board, &blank_board, step), plainly);
            prop_assert_eq!(fold_json(&mut dynamic, &blank_channels, step), plainly);
            prop_assert_eq!(&all_of_board(&board), &oracle.saved());
            prop_assert_eq!(&all_of_channels(&dynamic), &oracle.saved());
            if is_resumed {
                // Each is resumed from what the other saved.
                let (of_board, of_channels) = (board.save().expect("plain"), dynamic.save().expect("plain"));
                prop_assert_eq!(&of_board, &of_channels);
                board = blank_board.restore(of_channels).expect("one format");
                dynamic = blank_channels.restore(of_board).expect("one format");
            }
        }
    }

    #[test]
    fn an_update_reads_back_the_same_through_both_kinds_of_state(update in update()) {
        let text = serde_json::to_string(&update).expect("plain data");
        let typed: BoardUpdate = serde_json::from_str(&text).expect("a typed update");
        let dynamic: ChannelsUpdate = serde_json::from_str(&text).expect("a dynamic one");
        prop_assert_eq!(serde_json::to_value(&typed).expect("plain"), Value::Object(update.clone()));
        prop_assert_eq!(serde_json::to_value(&dynamic).expect("plain"), Value::Object(update));
    }

    #[test]
    fn two_updates_of_a_list_are_one_with_both_in_it(
        before in prop::collection::vec(message(), 0..12),
        first in prop::collection::vec(change(), 0..8),
        then in prop::collection::vec(change(), 0..8),
        (old, xs, ys) in (smalls(), smalls(), smalls()),
    ) {
        let start = Board { log: old.clone(), seen: old.into_iter().collect(), messages: before.into(), ..Board::default() };
        let lists = BoardUpdate::log([xs.clone(), ys.clone()].concat()).with_seen([xs.clone(), ys.clone()].concat());
        let (mut apart, mut whole) = (start.clone(), start.clone());
        for list in [xs, ys] {
            apart.apply(BoardUpdate::log(list.clone()).with_seen(list)).expect("lists always fit");
        }
        whole.apply(lists).expect("lists always fit");
        prop_assert_eq!(&apart, &whole);

        let both = [first.clone(), then.clone()].concat();
        let apart_fits = apart.apply(BoardUpdate::messages(first)).is_ok()
            && apart.apply(BoardUpdate::messages(then)).is_ok();
        let whole_fits = whole.apply(BoardUpdate::messages(both)).is_ok();
        prop_assert_eq!(apart_fits, whole_fits);
        if whole_fits {
            prop_assert_eq!(&apart, &whole);
        } else {
            prop_assert_eq!(&whole.messages, &start.messages);
        }
    }

    #[test]
    fn messages_stay_one_list_and_are_found_by_id_whichever_are_taken_away(
        rounds in prop::collection::vec((0..30_usize, prop::collection::vec(any::<prop::sample::Index>(), 0..20)), 1..8)
    ) {
        let (mut messages, mut plain, mut next) = (Messages::new(), Vec::<Message>::new(), 0);
        for (added, taken) in rounds {
            let mut changes = Vec::new();
            for _ in 0..added {
                let message = Message::user("x");
                let message = if next % 5 == 4 { message } else { message.with_id(next.to_string()) };
                plain.push(message.clone());
                changes.push(message.into());
                next += 1;
            }
            for at in taken {
                if !plain.is_empty() {
                    let at = at.index(plain.len());
                    if let Some(id) = plain[at].id.clone() {
                        plain.remove(at);
                        changes.push(MessageChange::Remove(id));
                    }
                }
            }
            messages.check(&changes).expect("all are there");
            messages.fold(changes);
            prop_assert_eq!(&*messages, &*plain);
            for message in &plain {
                if let Some(id) = &message.id {
                    prop_assert_eq!(messages.by_id(id), Some(message));
                }
            }
            prop_assert_eq!(&messages.clone().into_vec(), &plain);
        }
    }
}
