//! The suite of [`Cache`].

use super::{STRINGS, fresh, keys, refused, unfit};
use bytes::Bytes;
use std::time::Duration;
use stepwell_core::{Scope, store::Cache};

async fn put(cache: &dyn Cache, scope: &Scope, key: &str, value: &str, time: Option<Duration>) {
    let value = Bytes::from(value.to_owned());
    cache.put(scope, key, value, time).await.expect("is taken");
}

async fn get(cache: &dyn Cache, scope: &Scope, key: &str) -> Option<Bytes> {
    cache.get(scope, key).await.expect("reads")
}

/// Everything a [`Cache`] promises. It has to have room for a few hundred kilobytes.
pub async fn cache(cache: &dyn Cache) {
    values(cache).await;
    times(cache).await;
    several_at_once(cache).await;
    tenants_stay_apart(cache).await;
    cache_strings(cache, STRINGS).await;
}

async fn values(cache: &dyn Cache) {
    let scope = fresh("cache values");
    assert_eq!(get(cache, &scope, "k").await, None);
    assert!(!cache.remove(&scope, "k").await.expect("nothing there"));
    put(cache, &scope, "k", "one", None).await;
    put(cache, &scope, "k", "two", None).await;
    assert_eq!(
        get(cache, &scope, "k").await.as_deref(),
        Some(&b"two"[..]),
        "the last one stays"
    );
    let large = Bytes::from((0..=255).cycle().take(100_000).collect::<Vec<u8>>());
    cache
        .put(&scope, "large", large.clone(), None)
        .await
        .expect("is taken");
    assert_eq!(get(cache, &scope, "large").await, Some(large));
    put(cache, &scope, "empty", "", None).await;
    assert_eq!(
        get(cache, &scope, "empty").await,
        Some(Bytes::new()),
        "empty is not absent"
    );
    assert!(cache.remove(&scope, "k").await.expect("removes"));
    assert!(!cache.remove(&scope, "k").await.expect("only once"));
    assert_eq!(get(cache, &scope, "k").await, None);
}

async fn times(cache: &dyn Cache) {
    let scope = fresh("cache times");
    put(cache, &scope, "over", "x", Some(Duration::ZERO)).await;
    assert_eq!(get(cache, &scope, "over").await, None, "no time is over at once");
    assert!(!cache.remove(&scope, "over").await.expect("as good as gone"));
    put(cache, &scope, "long", "x", Some(Duration::from_mins(10))).await;
    put(cache, &scope, "longest", "x", Some(Duration::MAX)).await;
    put(cache, &scope, "short", "x", Some(Duration::from_millis(30))).await;
    put(cache, &scope, "renewed", "x", Some(Duration::from_millis(30))).await;
    put(cache, &scope, "renewed", "x", None).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    for (key, is_there) in [
        ("short", false),
        ("long", true),
        ("longest", true),
        ("renewed", true),
    ] {
        assert_eq!(get(cache, &scope, key).await.is_some(), is_there, "{key}");
    }
    assert_eq!(
        cache.clear(&scope).await.expect("clears"),
        3,
        "what is over does not count"
    );
}

async fn several_at_once(cache: &dyn Cache) {
    let scope = fresh("cache several");
    let entries = (0..40).map(|number| (format!("k{number}"), Bytes::from(vec![number; 10])));
    cache
        .put_many(&scope, entries.collect(), None)
        .await
        .expect("are taken");
    let found = cache
        .get_many(&scope, &["k7", "none", "k39", "k7"])
        .await
        .expect("reads");
    let seven = Some(Bytes::from(vec![7; 10]));
    assert_eq!(
        found,
        [seven.clone(), None, Some(Bytes::from(vec![39; 10])), seven],
        "in the order of the keys"
    );
    assert!(cache.get_many(&scope, &[]).await.expect("reads").is_empty());
    assert_eq!(cache.clear(&scope).await.expect("clears"), 40);
    assert_eq!(cache.clear(&scope).await.expect("nothing left"), 0);
}

async fn tenants_stay_apart(cache: &dyn Cache) {
    let (ours, theirs) = (fresh("cache ours"), fresh("cache theirs"));
    put(cache, &theirs, "same", "theirs", None).await;
    assert_eq!(get(cache, &ours, "same").await, None);
    put(cache, &ours, "same", "ours", None).await;
    assert_eq!(cache.clear(&ours).await.expect("clears"), 1);
    assert_eq!(get(cache, &theirs, "same").await.as_deref(), Some(&b"theirs"[..]));
}

/// These strings as keys and values come back as they were.
pub async fn cache_strings(cache: &dyn Cache, strings: &[&str]) {
    let scope = fresh("cache strings");
    for text in keys(strings) {
        put(cache, &scope, text, text, None).await;
    }
    for text in keys(strings) {
        assert_eq!(get(cache, &scope, text).await.as_deref(), Some(text.as_bytes()));
    }
    let count = keys(strings).count() as u64;
    assert_eq!(
        cache.clear(&scope).await.expect("clears"),
        count,
        "each its own entry"
    );
    for text in unfit(strings) {
        refused(cache.get(&scope, text).await, "invalid_input", "an unfit key");
    }
}
