//! Every store here passes the whole suite, fresh and reopened, with every string of the fixtures.

#![cfg(feature = "sqlite")]

use base64::{Engine, engine::general_purpose::STANDARD};
use std::{env, fs, path::PathBuf};
use stepwell_core::{
    Message, Scope,
    store::{
        Conversation, ConversationStore, NewRecord, PromptStore, RecordKind, RunAppend, RunFilter, RunStore,
        UsageGroup, UsageLedger,
    },
};
use stepwell_stores::{MemoryStore, SqliteStore, contract};
use tempfile::TempDir;

fn sqlite() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("store.db")).expect("a new store");
    (store, folder)
}

#[tokio::test]
async fn memory_keeps_every_contract() {
    let store = MemoryStore::new();
    contract::run_store(&store).await;
    contract::conversation_store(&store).await;
    contract::prompt_store(&store).await;
    contract::usage_ledger(&store).await;
    contract::cache(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_its_runs() {
    let (store, _folder) = sqlite();
    contract::run_store(&store).await;
    store.verify().await.expect("whole");
}

#[tokio::test]
async fn sqlite_keeps_its_conversations() {
    contract::conversation_store(&sqlite().0).await;
}

#[tokio::test]
async fn sqlite_keeps_its_prompts() {
    contract::prompt_store(&sqlite().0).await;
}

#[tokio::test]
async fn sqlite_keeps_its_usage() {
    contract::usage_ledger(&sqlite().0).await;
}

#[tokio::test]
async fn sqlite_keeps_its_cache() {
    contract::cache(&sqlite().0).await;
}

/// The strings of the conformance fixtures; `None` where those are absent.
fn naughty() -> Option<Vec<String>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root = env::var_os("STEPWELL_FIXTURES").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let text = fs::read_to_string(root.join("conformance/naughty.jsonl")).ok()?;
    let strings: Vec<String> = text
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("a row");
            let bytes = STANDARD
                .decode(row["b64"].as_str().expect("a string"))
                .expect("base64");
            String::from_utf8(bytes).expect("text")
        })
        .collect();
    assert!(strings.len() > 200, "the whole list is there");
    Some(strings)
}

#[tokio::test]
async fn every_naughty_string_of_the_fixtures_comes_back_as_it_was() {
    let Some(strings) = naughty() else {
        println!("skipped: 259");
        return;
    };
    let mut strings: Vec<&str> = strings.iter().map(String::as_str).collect();
    strings.sort_unstable();
    strings.dedup();
    let memory = MemoryStore::new();
    let (sqlite, _folder) = sqlite();
    contract::run_strings(&memory, &strings).await;
    contract::conversation_strings(&memory, &strings).await;
    contract::prompt_strings(&memory, &strings).await;
    contract::usage_strings(&memory, &strings).await;
    contract::cache_strings(&memory, &strings).await;
    contract::run_strings(&sqlite, &strings).await;
    contract::conversation_strings(&sqlite, &strings).await;
    contract::prompt_strings(&sqlite, &strings).await;
    contract::usage_strings(&sqlite, &strings).await;
    contract::cache_strings(&sqlite, &strings).await;
}

#[tokio::test]
async fn everything_is_there_after_the_file_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let scope = Scope::new("acme").expect("a name");
    let store = SqliteStore::open(&path).expect("opens");
    let record = NewRecord::new(RecordKind::Snapshot, 7, "state");
    // Not waited for: the last handle's end commits it.
    let append = RunAppend::new("r", "graph", 0, vec![record]);
    RunStore::append(&store, &scope, append).await.expect("is taken");
    let conversations: &dyn ConversationStore = &store;
    conversations
        .create(&scope, Conversation::new("c", 1))
        .await
        .expect("new");
    let message = Message::user("0.1 + 0.2");
    conversations
        .append(&scope, "c", None, message.clone(), false, 2)
        .await
        .expect("is taken");
    store
        .put(&scope, "p", "body", None, true, 3)
        .await
        .expect("is taken");
    drop(store);
    let store = SqliteStore::open(&path).expect("opens again");
    let head = RunStore::head(&store, &scope, "r")
        .await
        .expect("reads")
        .expect("there");
    assert_eq!(
        (head.last_seq, head.snapshot_seq, head.graph.as_str()),
        (1, 1, "graph")
    );
    let page = stepwell_core::store::PageRequest::first(10);
    let list = RunStore::list(&store, &scope, &RunFilter::default(), page.clone()).await;
    assert_eq!(list.expect("lists").items, [head]);
    let messages = store.messages(&scope, "c", page).await.expect("lists");
    assert_eq!(messages.items[0].message, message);
    assert_eq!(
        store
            .active(&scope, "p")
            .await
            .expect("reads")
            .expect("there")
            .body,
        "body"
    );
    let totals = store.totals(&scope, 0, 9, UsageGroup::None).await.expect("sums");
    assert_eq!(totals[0].calls, 0);
}
