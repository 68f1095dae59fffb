//! What every store has to do: one suite per contract, run by each implementation here, and by a host's own.
//!
//! Each function works in tenants of its own with fresh names, so that it can run on a store that is in use, and
//! panics at the first difference, for it is called from tests.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use stepwell_stores::{MemoryStore, contract};
//! let store = MemoryStore::new();
//! contract::run_store(&store).await;
//! contract::conversation_store(&store).await;
//! contract::prompt_store(&store).await;
//! contract::usage_ledger(&store).await;
//! contract::cache(&store).await;
//! # });
//! ```

mod caches;
mod conversations;
mod prompts;
mod runs;
mod usage;

pub use caches::{cache, cache_strings};
pub use conversations::{conversation_store, conversation_strings};
pub use prompts::{prompt_store, prompt_strings};
pub use runs::{run_store, run_strings};
pub use usage::{usage_ledger, usage_strings};

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};
use stepwell_core::{
    Result, Scope,
    store::{PageRequest, check_name},
};

/// Strings that break careless stores; the suites use them as tenants, ids, keys and values.
pub const STRINGS: &[&str] = &[
    "",
    " ",
    "null",
    "'; DROP TABLE run; --",
    "\" OR \"\"=\"",
    "%",
    "_",
    "*?[a-z]",
    "../../etc/passwd",
    "a:b:c",
    "7:x",
    "0",
    "-1",
    "1e309",
    "\u{0}",
    "line\nbreak",
    "\u{7f}",
    "é",
    "e\u{301}",
    "ÄÖÜß",
    "İ",
    "ﬁ",
    "\u{202e}right to left",
    "\u{feff}mark",
    "\u{200b}",
    "👩‍👩‍👧‍👦",
    "\u{10ffff}",
    "田中さんにあげて下さい",
    "{\"json\": [1]}",
    "$1 ?1 :name @p",
    "=1+1",
    "\\x41\\",
];

/// A tenant nobody else uses.
fn fresh(name: &str) -> Scope {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Scope::new(format!("contract {name} {nanos} {count}")).expect("a short name")
}

/// Those that can be keys, and as many tenants by their names.
fn keys<'a>(strings: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    strings
        .iter()
        .copied()
        .filter(|text| check_name("key", text).is_ok())
}

/// The store refuses what cannot be a key, whatever it is.
fn unfit<'a>(strings: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    strings
        .iter()
        .copied()
        .filter(|text| check_name("key", text).is_err())
}

#[track_caller]
fn refused<T>(result: Result<T>, code: &str, why: &str) {
    match result {
        Ok(_) => panic!("{why}: expected `{code}`, but it was accepted"),
        Err(error) => assert_eq!(error.code(), code, "{why}: {error}"),
    }
}

/// Walks every page of a list; each but the last is full.
macro_rules! walk {
    ($limit:expr, |$page:ident| $list:expr) => {{
        let mut all = Vec::new();
        let mut $page = stepwell_core::store::PageRequest::first($limit);
        loop {
            let found = $list.await.expect("lists");
            assert!(found.items.len() <= $limit, "a page holds at most its limit");
            all.extend(found.items);
            match found.next {
                Some(next) => $page = $crate::contract::next_page(next, $limit, all.len()),
                None => break all,
            }
        }
    }};
}
use walk;

fn next_page(next: String, limit: usize, seen: usize) -> PageRequest {
    assert!(seen < 100_000, "a list comes to its end");
    PageRequest::after(next, limit)
}
