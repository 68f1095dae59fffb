//! The suite of [`PromptStore`].

use super::{STRINGS, fresh, keys, refused, unfit, walk};
use futures::future::join_all;
use stepwell_core::{Scope, store::PromptStore};

async fn put(store: &dyn PromptStore, scope: &Scope, key: &str, body: &str, activate: bool) -> u64 {
    let version = store.put(scope, key, body, Some("why"), activate, 1_000).await;
    version.expect("is taken")
}

async fn active(store: &dyn PromptStore, scope: &Scope, key: &str) -> Option<u64> {
    let found = store.active(scope, key).await.expect("reads");
    found.map(|version| version.version)
}

/// Everything a [`PromptStore`] promises.
pub async fn prompt_store(store: &dyn PromptStore) {
    versions(store).await;
    numbers_under_concurrency(store).await;
    tenants_stay_apart(store).await;
    prompt_strings(store, STRINGS).await;
}

async fn versions(store: &dyn PromptStore) {
    let scope = fresh("prompts versions").with_actor("ada");
    assert_eq!(active(store, &scope, "p").await, None);
    store
        .activate(&scope, "p", None)
        .await
        .expect("none is active already");
    refused(
        store.activate(&scope, "p", Some(1)).await,
        "not_found",
        "no such version",
    );
    assert_eq!(put(store, &scope, "p", "one", false).await, 1);
    assert_eq!(active(store, &scope, "p").await, None, "active only when asked");
    assert_eq!(put(store, &scope, "p", "two", true).await, 2);
    assert_eq!(put(store, &scope, "p", "three", false).await, 3);
    let found = store
        .active(&scope, "p")
        .await
        .expect("reads")
        .expect("asked for");
    assert_eq!(
        (found.version, found.body.as_str(), found.at_ms),
        (2, "two", 1_000)
    );
    assert_eq!(
        (found.note.as_deref(), found.actor.as_deref()),
        (Some("why"), Some("ada"))
    );
    store.activate(&scope, "p", Some(1)).await.expect("an old one");
    assert_eq!(active(store, &scope, "p").await, Some(1));
    for missing in [0, 4, u64::MAX] {
        refused(
            store.activate(&scope, "p", Some(missing)).await,
            "not_found",
            "no such version",
        );
        assert!(store.get(&scope, "p", missing).await.expect("reads").is_none());
    }
    assert_eq!(
        active(store, &scope, "p").await,
        Some(1),
        "a refusal changes nothing"
    );
    store.activate(&scope, "p", None).await.expect("none");
    assert_eq!(
        active(store, &scope, "p").await,
        None,
        "a lower layer shows through"
    );
    assert_eq!(
        store
            .get(&scope, "p", 3)
            .await
            .expect("reads")
            .expect("kept")
            .body,
        "three"
    );
    let list = walk!(2, |page| store.versions(&scope, "p", page.clone()));
    let numbers: Vec<u64> = list.iter().map(|version| version.version).collect();
    assert_eq!(numbers, [3, 2, 1], "newest first");
    for key in ["b", "a", "c"] {
        put(store, &scope, key, "x", true).await;
    }
    let names = walk!(1, |page| store.keys(&scope, page.clone()));
    assert_eq!(names, ["a", "b", "c", "p"], "in order, each once");
    assert!(store.delete(&scope, "a").await.expect("deletes"));
    assert!(!store.delete(&scope, "a").await.expect("only once"));
    assert_eq!(active(store, &scope, "a").await, None);
    assert_eq!(put(store, &scope, "a", "anew", false).await, 1, "counts anew");
    assert_eq!(
        active(store, &scope, "a").await,
        None,
        "and nothing of the old one shows"
    );
}

async fn numbers_under_concurrency(store: &dyn PromptStore) {
    let scope = fresh("prompts race");
    let mut numbers = join_all((0..20).map(|_| put(store, &scope, "p", "x", true))).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<u64>>());
}

async fn tenants_stay_apart(store: &dyn PromptStore) {
    let (ours, theirs) = (fresh("prompts ours"), fresh("prompts theirs"));
    put(store, &theirs, "same", "theirs", true).await;
    assert_eq!(active(store, &ours, "same").await, None);
    refused(
        store.activate(&ours, "same", Some(1)).await,
        "not_found",
        "their version",
    );
    assert_eq!(put(store, &ours, "same", "ours", true).await, 1);
    let list = walk!(5, |page| store.versions(&ours, "same", page.clone()));
    assert_eq!((list.len(), list[0].body.as_str()), (1, "ours"));
    let found = store.get(&ours, "same", 1).await.expect("reads");
    assert_eq!(found.expect("there").body, "ours");
    put(store, &theirs, "only theirs", "x", true).await;
    assert_eq!(walk!(5, |page| store.keys(&ours, page.clone())), ["same"]);
    assert!(store.delete(&ours, "same").await.expect("deletes"));
    let found = store.active(&theirs, "same").await.expect("reads");
    assert_eq!(found.expect("stays").body, "theirs");
}

/// These strings as keys, bodies and notes come back as they were.
pub async fn prompt_strings(store: &dyn PromptStore, strings: &[&str]) {
    let scope = fresh("prompts strings");
    for text in keys(strings) {
        assert_eq!(
            put(store, &scope, text, text, true).await,
            1,
            "{text:?} names itself only"
        );
        let found = store
            .active(&scope, text)
            .await
            .expect("reads")
            .expect("asked for");
        assert_eq!((found.key.as_str(), found.body.as_str()), (text, text));
    }
    let mut names: Vec<&str> = keys(strings).collect();
    names.sort_unstable();
    assert_eq!(
        walk!(3, |page| store.keys(&scope, page.clone())),
        names,
        "in order of their bytes"
    );
    let scope = fresh("prompts values");
    for text in strings {
        let version = store
            .put(&scope, "p", text, Some(text), true, 1)
            .await
            .expect("any text");
        let found = store
            .get(&scope, "p", version)
            .await
            .expect("reads")
            .expect("there");
        assert_eq!((found.body.as_str(), found.note.as_deref()), (*text, Some(*text)));
    }
    for text in unfit(strings) {
        refused(store.active(&scope, text).await, "invalid_input", "an unfit key");
    }
}
