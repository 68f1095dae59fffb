//! The suite of [`ConversationStore`].

use super::{STRINGS, fresh, keys, refused, unfit, walk};
use futures::future::join_all;
use serde_json::{Map, Value, json};
use stepwell_core::{
    Message, Scope,
    store::{Conversation, ConversationStore, ConversationUpdate, StoredMessage},
};

async fn begin(store: &dyn ConversationStore, scope: &Scope, id: &str) {
    let conversation = Conversation::new(id, 1_000);
    store.create(scope, conversation).await.expect("a new id");
}

async fn get(store: &dyn ConversationStore, scope: &Scope, id: &str) -> Conversation {
    let found = store.get(scope, id).await.expect("reads");
    found.expect("there is such a conversation")
}

async fn say(store: &dyn ConversationStore, scope: &Scope, id: &str, parent: Option<u64>, text: &str) -> u64 {
    store
        .append(scope, id, parent, Message::user(text), false, 2_000)
        .await
        .expect("is taken")
}

async fn all(store: &dyn ConversationStore, scope: &Scope, id: &str) -> Vec<StoredMessage> {
    walk!(3, |page| store.messages(scope, id, page.clone()))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Everything a [`ConversationStore`] promises.
pub async fn conversation_store(store: &dyn ConversationStore) {
    its_own_facts(store).await;
    numbers(store).await;
    numbers_under_concurrency(store).await;
    branches(store).await;
    locks(store).await;
    partial_messages(store).await;
    listing(store).await;
    tenants_stay_apart(store).await;
    conversation_strings(store, STRINGS).await;
}

async fn its_own_facts(store: &dyn ConversationStore) {
    let scope = fresh("conversations facts");
    assert!(store.get(&scope, "c").await.expect("reads").is_none());
    let nothing = ConversationUpdate::default();
    refused(
        store.update(&scope, "c", nothing, 1).await,
        "not_found",
        "nothing there",
    );
    let mut conversation = Conversation::new("c", 1_000);
    conversation.title = Some("A title".to_owned());
    conversation.metadata = object(json!({ "z": 1.1, "a": { "deep": [null, 0.1] } }));
    store
        .create(&scope, conversation.clone())
        .await
        .expect("a new id");
    assert_eq!(get(store, &scope, "c").await, conversation);
    refused(
        store.create(&scope, conversation).await,
        "conflict",
        "the id exists",
    );
    let mut update = ConversationUpdate::default();
    update.expected_version = Some(0);
    update.title = Some(None);
    update.metadata = Some(object(json!({ "z": null, "b": "new" })));
    let changed = store
        .update(&scope, "c", update.clone(), 5_000)
        .await
        .expect("the version read");
    assert_eq!(
        (changed.version, changed.title.as_deref(), changed.updated_ms),
        (1, None, 5_000)
    );
    assert_eq!(
        Value::Object(changed.metadata.clone()),
        json!({ "a": { "deep": [null, 0.1] }, "b": "new" }),
        "null takes a key away"
    );
    assert_eq!(get(store, &scope, "c").await, changed);
    refused(
        store.update(&scope, "c", update, 6_000).await,
        "conflict",
        "an old version",
    );
    assert_eq!(
        get(store, &scope, "c").await,
        changed,
        "a refusal changes nothing"
    );
    let mut blind = ConversationUpdate::default();
    blind.title = Some(Some("Another".to_owned()));
    let changed = store
        .update(&scope, "c", blind, 10)
        .await
        .expect("no version asked for");
    assert_eq!(
        (changed.version, changed.updated_ms),
        (2, 5_000),
        "time never goes back"
    );
    assert!(store.delete(&scope, "c").await.expect("deletes"));
    assert!(!store.delete(&scope, "c").await.expect("only once"));
}

async fn numbers(store: &dyn ConversationStore) {
    let scope = fresh("conversations numbers").with_actor("ada");
    let lost = store
        .append(&scope, "c", None, Message::user("x"), false, 1)
        .await;
    refused(lost, "not_found", "no such conversation");
    assert!(all(store, &scope, "c").await.is_empty());
    begin(store, &scope, "c").await;
    for number in 1..=8_u64 {
        assert_eq!(
            say(store, &scope, "c", number.checked_sub(1).filter(|n| *n > 0), "x").await,
            number
        );
    }
    let messages = all(store, &scope, "c").await;
    let numbers: Vec<u64> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8], "oldest first, page by page");
    assert_eq!(messages[2].actor.as_deref(), Some("ada"));
    assert_eq!((messages[2].at_ms, messages[2].parent), (2_000, Some(2)));
    assert_eq!(messages[2].message, Message::user("x"));
    let conversation = get(store, &scope, "c").await;
    assert_eq!(
        (
            conversation.last_seq,
            conversation.updated_ms,
            conversation.version
        ),
        (8, 2_000, 0)
    );
    assert!(store.delete(&scope, "c").await.expect("deletes"));
    begin(store, &scope, "c").await;
    assert!(
        all(store, &scope, "c").await.is_empty(),
        "its messages went with it"
    );
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let mut message = Message::user("x");
    message.metadata = object(json!({ "deep": deep }));
    let answer = store.append(&scope, "c", None, message, false, 1).await;
    refused(
        answer,
        "limit_exceeded",
        "what could not be read back is not taken",
    );
}

async fn numbers_under_concurrency(store: &dyn ConversationStore) {
    let scope = fresh("conversations race");
    begin(store, &scope, "c").await;
    let appends =
        (0..50).map(|number| say(store, &scope, "c", None, if number % 2 == 0 { "a" } else { "b" }));
    let mut numbers = join_all(appends).await;
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        (1..=50).collect::<Vec<u64>>(),
        "each number once, no gap"
    );
    assert_eq!(all(store, &scope, "c").await.len(), 50);
}

async fn branches(store: &dyn ConversationStore) {
    let scope = fresh("conversations branches");
    begin(store, &scope, "c").await;
    let root = say(store, &scope, "c", None, "root").await;
    let left = say(store, &scope, "c", Some(root), "left").await;
    let right = say(store, &scope, "c", Some(root), "right").await;
    let leaf = say(store, &scope, "c", Some(right), "leaf").await;
    let other = say(store, &scope, "c", None, "other root").await;
    for (tip, path) in [
        (leaf, vec![root, right, leaf]),
        (left, vec![root, left]),
        (other, vec![other]),
    ] {
        let found = store.branch(&scope, "c", tip).await.expect("a branch");
        let numbers: Vec<u64> = found.iter().map(|message| message.seq).collect();
        assert_eq!(numbers, path, "from the root down");
    }
    for missing in [0, 6, 77, u64::MAX] {
        refused(
            store.branch(&scope, "c", missing).await,
            "not_found",
            "no such message",
        );
        let orphan = store
            .append(&scope, "c", Some(missing), Message::user("x"), false, 1)
            .await;
        refused(orphan, "not_found", "no such parent");
    }
    refused(
        store.branch(&scope, "none", 1).await,
        "not_found",
        "no such conversation",
    );
    assert_eq!(
        get(store, &scope, "c").await.last_seq,
        5,
        "refused ones took no number"
    );
}

async fn locks(store: &dyn ConversationStore) {
    let scope = fresh("conversations locks");
    begin(store, &scope, "c").await;
    let mut lock = ConversationUpdate::default();
    lock.locked = Some(Some("archived".to_owned()));
    let locked = store.update(&scope, "c", lock, 1).await.expect("locks");
    assert_eq!((locked.locked.as_deref(), locked.version), (Some("archived"), 1));
    let answer = store
        .append(&scope, "c", None, Message::user("x"), false, 1)
        .await;
    refused(answer, "unsupported", "it is locked");
    let mut unlock = ConversationUpdate::default();
    unlock.locked = Some(None);
    store.update(&scope, "c", unlock, 1).await.expect("opens");
    assert_eq!(
        say(store, &scope, "c", None, "x").await,
        1,
        "the refused one took no number"
    );
}

async fn partial_messages(store: &dyn ConversationStore) {
    let scope = fresh("conversations partial");
    begin(store, &scope, "c").await;
    let first = Message::assistant("He");
    assert_eq!(
        store
            .append(&scope, "c", None, first, true, 1)
            .await
            .expect("begins"),
        1
    );
    assert!(all(store, &scope, "c").await[0].is_partial);
    for (text, is_partial) in [("Hell", true), ("Hello", false)] {
        let message = Message::assistant(text);
        let replaced = store
            .replace_partial(&scope, "c", 1, message.clone(), is_partial)
            .await;
        replaced.expect("still being written");
        let found = &all(store, &scope, "c").await[0];
        assert_eq!((&found.message, found.is_partial), (&message, is_partial));
    }
    let late = Message::assistant("late");
    for (id, seq, code) in [
        ("c", 1, "conflict"),
        ("c", 2, "not_found"),
        ("c", 0, "not_found"),
        ("d", 1, "not_found"),
    ] {
        let answer = store.replace_partial(&scope, id, seq, late.clone(), true).await;
        refused(answer, code, "not one that is still being written");
    }
    assert_eq!(all(store, &scope, "c").await[0].message.text(), "Hello");
}

async fn listing(store: &dyn ConversationStore) {
    let scope = fresh("conversations list");
    for number in 0..11_u64 {
        let conversation = Conversation::new(format!("c{number:02}"), 100 + number / 2);
        store.create(&scope, conversation).await.expect("a new id");
    }
    store
        .append(&scope, "c03", None, Message::user("x"), false, 900)
        .await
        .expect("is taken");
    let list = walk!(2, |page| store.list(&scope, page.clone()));
    assert_eq!(
        (list.len(), list[0].id.as_str()),
        (11, "c03"),
        "the last changed first"
    );
    assert!(
        list.windows(2)
            .all(|pair| pair[0].updated_ms >= pair[1].updated_ms)
    );
}

async fn tenants_stay_apart(store: &dyn ConversationStore) {
    let (ours, theirs) = (fresh("conversations ours"), fresh("conversations theirs"));
    begin(store, &ours, "same").await;
    begin(store, &theirs, "same").await;
    say(store, &theirs, "same", None, "secret").await;
    begin(store, &theirs, "only theirs").await;
    assert!(all(store, &ours, "same").await.is_empty());
    assert!(store.get(&ours, "only theirs").await.expect("reads").is_none());
    refused(store.branch(&ours, "same", 1).await, "not_found", "their message");
    let answer = store
        .append(&ours, "only theirs", None, Message::user("x"), false, 1)
        .await;
    refused(answer, "not_found", "their conversation");
    assert_eq!(walk!(5, |page| store.list(&ours, page.clone())).len(), 1);
    assert!(store.delete(&ours, "same").await.expect("deletes"));
    assert_eq!(all(store, &theirs, "same").await.len(), 1);
}

/// These strings as ids, titles, words and metadata come back as they were.
pub async fn conversation_strings(store: &dyn ConversationStore, strings: &[&str]) {
    let scope = fresh("conversations strings");
    for text in keys(strings) {
        begin(store, &scope, text).await;
        assert_eq!(get(store, &scope, text).await.id, text);
    }
    let count = keys(strings).count();
    assert_eq!(walk!(3, |page| store.list(&scope, page.clone())).len(), count);
    begin(store, &scope, "values of strings").await;
    for (number, text) in (1..).zip(strings) {
        let mut message = Message::user(*text).with_id(*text);
        message.metadata.insert((*text).to_owned(), json!(text));
        let seq = store
            .append(&scope, "values of strings", None, message.clone(), false, 1)
            .await;
        assert_eq!(seq.expect("any text"), number);
        let found = store
            .branch(&scope, "values of strings", number)
            .await
            .expect("there");
        assert_eq!(found[0].message, message);
        let mut update = ConversationUpdate::default();
        update.title = Some(Some((*text).to_owned()));
        update.metadata = Some(object(json!({ *text: text })));
        store
            .update(&scope, "values of strings", update, 1)
            .await
            .expect("any text");
        let changed = get(store, &scope, "values of strings").await;
        assert_eq!(changed.title.as_deref(), Some(*text));
        assert_eq!(changed.metadata.get(*text), Some(&json!(text)));
    }
    for text in unfit(strings) {
        let answer = store.create(&scope, Conversation::new(text, 1)).await;
        refused(answer, "invalid_input", "an unfit id");
    }
}
