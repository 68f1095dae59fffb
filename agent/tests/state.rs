//! What a state promises, typed and as channels: how long slots hold what was written, what goes into a journal, and that
//! the journal of one kind is read by the other.

mod support;

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell_agent::{
    AgentState, Amount, Channel, Channels, ChannelsUpdate, END, Graph, GraphBuilder, HasMessages as _,
    MessageChange, Messages, Reducer, RunContext, START, State as _, Update as _, node_sync,
};
use stepwell_core::{Message, Scope};
use stepwell_macros::State;
use support::LogStore;

/// Of this process: it cannot be written down.
#[derive(Clone, Debug, Default)]
struct Connections(Arc<AtomicU32>);

#[derive(Clone, Debug, Default, State)]
#[state(crate = "stepwell_agent")]
struct Search {
    question: String,
    #[state(append)]
    notes: Vec<String>,
    #[state(append, ephemeral)]
    found: Vec<String>,
    #[state(ephemeral)]
    hint: Option<String>,
    #[state(untracked)]
    open: Connections,
    #[state(append, untracked)]
    cache: Vec<String>,
    #[state(add)]
    cents: u64,
    #[state(merge)]
    facts: BTreeMap<String, i64>,
    #[state(set)]
    seen: BTreeSet<i64>,
    #[state(messages)]
    messages: Messages,
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_step_wrote_into_an_ephemeral_slot_is_gone_after_the_next() {
    // Behaviour 8.
    let blank = Search {
        hint: Some("begin".into()),
        ..Search::default()
    };
    let mut state = blank.clone();
    let write = |text: &str| {
        SearchUpdate::notes([text])
            .with_found([text])
            .with_hint(Some(text.to_owned()))
    };
    for step in ["one", "two"] {
        state.expire(&blank);
        state.apply(write(step)).expect("fits");
        assert_eq!(
            (&state.found, state.hint.as_deref()),
            (&texts(&[step]), Some(step))
        );
    }
    state.expire(&blank);
    assert_eq!((state.found.len(), state.hint.as_deref()), (0, Some("begin")));
    assert_eq!(state.notes, texts(&["one", "two"]));
}

#[test]
fn channels_forget_ephemeral_slots_the_same_way() {
    // Behaviour 8.
    let blank = Channels::new()
        .slot("all", Reducer::Append)
        .slot("now", Reducer::Append.ephemeral())
        .slot("last", Reducer::Last.ephemeral());
    let mut state = blank.clone();
    for step in ["one", "two"] {
        state.expire(&blank);
        let update = ChannelsUpdate::new()
            .set("all", [step])
            .set("now", [step])
            .set("last", step);
        state.apply(update).expect("fits");
        assert_eq!(state.get("now").expect("a list"), json!([step]));
    }
    state.expire(&blank);
    assert_eq!(state.get("now").expect("a list"), json!([]));
    assert_eq!(state.get("last").expect_err("blank again").code(), "not_found");
    assert_eq!(state.get("all").expect("a list"), json!(["one", "two"]));
}

#[test]
fn an_untracked_slot_is_in_no_update_and_no_saved_state_and_blank_in_a_restored_one() {
    let mut state = Search::default();
    let update = SearchUpdate::open(Connections::default())
        .with_cache(["page"])
        .with_question("why?");
    assert_eq!(
        serde_json::to_value(&update).expect("plain data"),
        json!({ "question": { "w": "why?" } })
    );
    state.apply(update).expect("fits");
    state.open.0.store(3, Ordering::SeqCst);
    assert_eq!(state.cache, texts(&["page"]));
    let saved = state.save().expect("plain data");
    assert!(
        saved.get("open").is_none() && saved.get("cache").is_none(),
        "{saved}"
    );
    let back = Search::default().restore(saved).expect("reads back");
    assert_eq!((back.question.as_str(), back.cache.len()), ("why?", 0));
    assert_eq!(back.open.0.load(Ordering::SeqCst), 0);
}

#[test]
fn channels_leave_untracked_slots_out_of_updates_and_saved_states() {
    let blank = Channels::new()
        .slot("kept", Reducer::Last)
        .slot("cache", Reducer::Append.untracked());
    let mut state = blank.clone();
    let mut update = ChannelsUpdate::new().set("cache", ["page"]).set("kept", 1);
    state.mark_untracked(&mut update);
    assert_eq!(
        serde_json::to_value(&update).expect("plain data"),
        json!({ "kept": { "w": 1 } })
    );
    state.apply(update).expect("fits");
    assert_eq!(state.get("cache").expect("in this process"), json!(["page"]));
    let saved = state.save().expect("plain data");
    assert_eq!(saved, json!({ "kept": 1 }));
    let back = blank.restore(saved).expect("reads back");
    assert_eq!(back.get("cache").expect("blank"), json!([]));
}

#[test]
fn a_saved_key_that_the_state_does_not_have_is_refused_by_both_kinds() {
    let typed = Search::default();
    let dynamic = Channels::from_channels(&typed.channels()).expect("no custom reducer");
    for key in ["ghost", "cache"] {
        let saved = json!({ key: [] });
        for error in [
            typed.restore(saved.clone()).expect_err("typed"),
            dynamic.restore(saved).expect_err("dynamic"),
        ] {
            assert_eq!(error.code(), "damaged");
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
        }
    }
}

#[test]
fn a_saved_value_of_another_type_is_refused_without_quoting_it() {
    for saved in [
        json!({ "cents": "my secret" }),
        json!({ "messages": [{ "role": "my secret" }] }),
    ] {
        let typed = Search::default();
        let dynamic = Channels::from_channels(&typed.channels()).expect("no custom reducer");
        for error in [
            typed.restore(saved.clone()).expect_err("typed"),
            dynamic.restore(saved.clone()).expect_err("dynamic"),
        ] {
            assert_eq!(error.code(), "damaged");
            assert!(!format!("{error:?}{error}").contains("secret"), "{error:?}");
        }
    }
}

#[test]
fn channels_are_built_from_the_list_a_state_gives_and_give_the_same_list() {
    let list = Search::default().channels();
    let words: Vec<String> = list
        .iter()
        .map(|channel| serde_json::to_string(channel).expect("plain"))
        .collect();
    assert_eq!(
        words[2],
        r#"{"key":"found","reducer":"append","is_ephemeral":true}"#
    );
    assert_eq!(words[4], r#"{"key":"open","reducer":"last","is_untracked":true}"#);
    let read: Vec<Channel> = words
        .iter()
        .map(|word| serde_json::from_str(word).expect("reads back"))
        .collect();
    let built = Channels::from_channels(&read).expect("all known");
    assert_eq!(built.channels(), list);
}

#[test]
fn channels_refuse_reducers_that_only_the_program_has_by_key_and_name() {
    let list = [
        Channel::new("log", "append"),
        Channel::new("best", "custom:longest"),
        Channel::new("odd", "prepend"),
    ];
    let error = Channels::from_channels(&list).expect_err("two are unknown");
    assert_eq!(error.code(), "unsupported");
    for word in [
        "`best`",
        "`custom:longest`",
        "`odd`",
        "`prepend`",
        "Reducer::Custom",
    ] {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }
    let twice = [Channel::new("log", "append"), Channel::new("log", "set")];
    let error = Channels::from_channels(&twice).expect_err("one key twice");
    assert!(
        error.code() == "invalid_input" && error.to_string().contains("`log`"),
        "{error}"
    );
}

#[test]
fn an_update_reads_the_same_in_both_kinds_and_an_overwrite_is_marked() {
    let typed = SearchUpdate::notes(["a"])
        .with_cents(2)
        .overwrite_seen([3, 1])
        .with_messages([
            Message::user("hi").with_id("m").into(),
            MessageChange::Remove("m".into()),
            MessageChange::RemoveAll,
        ]);
    let text = serde_json::to_string(&typed).expect("plain data");
    let dynamic: ChannelsUpdate = serde_json::from_str(&text).expect("one format");
    assert_eq!(
        serde_json::to_value(&dynamic).expect("plain data"),
        serde_json::to_value(&typed).expect("plain")
    );
    let by_hand = ChannelsUpdate::new()
        .set("notes", ["a"])
        .set("cents", 2)
        .overwrite("seen", [1, 3])
        .set(
            "messages",
            json!([Message::user("hi").with_id("m"), { "remove": "m" }, "remove_all"]),
        );
    assert_eq!(
        serde_json::to_value(&dynamic).expect("plain"),
        serde_json::to_value(&by_hand).expect("plain")
    );
    assert!(
        serde_json::from_str::<SearchUpdate>(r#"{"ghost":{"w":1}}"#).is_err(),
        "an unknown key"
    );
    for broken in [r#"{"notes":["a"]}"#, r#"{"notes":{"x":["a"]}}"#] {
        assert!(
            serde_json::from_str::<ChannelsUpdate>(broken).is_err(),
            "{broken}"
        );
        assert!(serde_json::from_str::<SearchUpdate>(broken).is_err(), "{broken}");
    }
}

#[test]
fn a_sum_that_cannot_be_held_is_refused_and_nothing_of_the_update_is_applied() {
    let mut state = Search {
        cents: u64::MAX,
        ..Search::default()
    };
    let error = state
        .apply(SearchUpdate::notes(["a"]).with_cents(1))
        .expect_err("too large");
    assert!(
        error.code() == "invalid_update" && error.to_string().contains("`cents`"),
        "{error}"
    );
    assert_eq!((state.cents, state.notes.len()), (u64::MAX, 0));
    assert_eq!(f64::MAX.sum(&f64::MAX), None);
    assert_eq!(1.0_f64.sum(&f64::NAN), None);
    assert_eq!(
        Duration::from_secs(1).sum(&Duration::from_secs(2)),
        Some(Duration::from_secs(3))
    );
    assert_eq!(u8::MAX.sum(&1), None);
}

#[test]
fn channels_add_whole_numbers_exactly_up_to_sixty_four_bits() {
    let mut state = Channels::new().slot("sum", Reducer::Add);
    let add = |state: &mut Channels, number: Value| state.apply(ChannelsUpdate::new().set("sum", number));
    add(&mut state, json!(i64::MAX)).expect("fits");
    add(&mut state, json!(2)).expect("fits");
    assert_eq!(
        state.get("sum").expect("a number"),
        json!(9_223_372_036_854_775_809_u64)
    );
    add(&mut state, json!(-4)).expect("fits");
    assert_eq!(state.get("sum").expect("a number"), json!(i64::MAX - 2));
    assert_eq!(
        add(&mut state, json!(u64::MAX)).expect_err("too large").code(),
        "invalid_update"
    );
    assert_eq!(state.get("sum").expect("a number"), json!(i64::MAX - 2));
}

#[test]
fn a_set_of_channels_knows_an_object_again_whatever_the_order_of_its_keys() {
    let mut state = Channels::new().slot("seen", Reducer::Set);
    let update = ChannelsUpdate::new().set(
        "seen",
        json!([{ "a": 1, "b": [{ "c": 1, "d": 2 }] }, { "b": [{ "d": 2, "c": 1 }], "a": 1 }]),
    );
    state.apply(update).expect("fits");
    assert_eq!(
        state.get("seen").expect("a set").as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn an_overwrite_that_does_not_fit_changes_nothing_of_its_update() {
    let blank = Channels::from_channels(&Search::default().channels()).expect("no custom reducer");
    for (key, value) in [
        ("notes", json!("no list")),
        ("cents", json!("two")),
        ("facts", json!([])),
        ("seen", json!({})),
        ("messages", json!([{ "remove": "m" }])),
        ("messages", json!(["remove_all"])),
        ("messages", json!([3])),
    ] {
        let mut state = blank.clone();
        let update = ChannelsUpdate::new()
            .set("question", "why?")
            .overwrite(key, value)
            .set("found", ["x"]);
        let error = state.apply(update).expect_err(key);
        assert!(
            error.code() == "invalid_update" && error.to_string().contains(&format!("`{key}`")),
            "{error}"
        );
        assert_eq!(
            state.save().expect("plain"),
            blank.save().expect("plain"),
            "{key}"
        );
    }
}

#[test]
fn the_keys_of_a_state_are_known_by_name() {
    assert_eq!(Search::KEYS.notes, "notes");
    let listed: Vec<String> = Search::default()
        .channels()
        .into_iter()
        .map(|channel| channel.key.into_owned())
        .collect();
    assert_eq!(Search::KEYS.all().to_vec(), listed);
    let state = Channels::from_channels(&Search::default().channels()).expect("no custom reducer");
    assert_eq!(state.get(Search::KEYS.cents).expect("begins at 0"), 0);
}

#[test]
fn an_agents_state_is_saved_as_any_other_and_its_update_is_one_of_messages() {
    let mut agent = AgentState::default();
    agent
        .apply(AgentState::add_messages(vec![Message::user("hi")]))
        .expect("fits");
    let saved = agent.save().expect("plain data");
    assert_eq!(saved, json!({ "messages": [Message::user("hi")] }));
    let channels = Channels::from_channels(&agent.channels()).expect("no custom reducer");
    assert_eq!(channels.restore(saved).expect("one format").messages().len(), 1);
    let mut update = AgentState::add_messages(vec![Message::user("ho")]);
    update.discard_fold("messages");
    assert_eq!(serde_json::to_value(&update).expect("plain"), json!({}));
}

/// The same three nodes over any state: a fan of two, then one.
fn fan<S: stepwell_agent::State>(builder: GraphBuilder<S>, write: fn(&'static str) -> S::Update) -> Graph<S> {
    let mut builder = builder.name("fan");
    for name in ["left", "right", "end"] {
        builder = builder.node(name, node_sync(move |_: &S, _: &RunContext| Ok(write(name))));
    }
    builder
        .edge(START, "left")
        .edge(START, "right")
        .join(["left", "right"], "end")
        .edge("end", END)
        .build()
        .expect("no fault")
}

#[tokio::test]
async fn the_journal_of_a_typed_run_is_read_by_channels_built_from_its_list() {
    let typed = fan(Graph::<Search>::builder(), |name| {
        SearchUpdate::notes([name])
            .with_found([name])
            .with_cents(1)
            .with_facts(BTreeMap::from([(name.to_owned(), 1)]))
            .with_seen([7])
            .with_cache([name])
            .with_messages([Message::user(name).with_id(name)])
    });
    let store = LogStore::new();
    let run = typed
        .run(Search::default())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("runs");
    let list = Channels::from_channels(&Search::default().channels()).expect("no custom reducer");
    let dynamic = fan(GraphBuilder::new(list), |_| ChannelsUpdate::new());
    let view = dynamic
        .view(&*store, &Scope::local(), "r")
        .await
        .expect("one format, one shape");
    let mut saved = run.state.save().expect("plain");
    // A blank slot of `last` is null in a typed state and not there in Channels.
    saved
        .as_object_mut()
        .expect("an object")
        .retain(|_, value| !value.is_null());
    assert_eq!(view.state.save().expect("plain"), saved);
    assert_eq!(
        view.state.get("notes").expect("a list"),
        json!(["left", "right", "end"])
    );
    assert_eq!(view.state.messages().len(), 3);
    assert_eq!(view.state.get("cache").expect("never in a journal"), json!([]));
    assert_eq!(run.state.cache, texts(&["left", "right", "end"]));
}

#[tokio::test]
async fn a_graph_whose_slot_became_ephemeral_does_not_resume_the_runs_of_before() {
    let graph = |slot: stepwell_agent::Slot| {
        fan(GraphBuilder::new(Channels::new().slot("log", slot)), |name| {
            ChannelsUpdate::new().set("log", [name])
        })
    };
    let store = LogStore::new();
    let before = graph(Reducer::Append.into());
    before
        .run_input(ChannelsUpdate::new())
        .run_id("r")
        .store(store.clone())
        .await
        .expect("runs");
    for now in [Reducer::Append.ephemeral(), Reducer::Append.untracked()] {
        let error = graph(now)
            .resume("r")
            .store(store.clone())
            .await
            .expect_err("another state");
        assert_eq!(error.code(), "unsupported");
    }
}
