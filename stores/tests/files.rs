//! Files that are not what they should be, files that several use, places where none can be.

#![cfg(feature = "sqlite")]

use rusqlite::Connection;
use std::{
    fs,
    path::{Path, PathBuf},
};
use stepwell_core::{
    Error, Scope,
    store::{Cache, NewRecord, PageRequest, RecordKind, RunAppend, RunFilter, RunStore},
};
use stepwell_stores::SqliteStore;
use tempfile::TempDir;

fn place() -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (folder.path().join("store.db"), folder)
}

fn append(run: &str, after: u64, body: &str) -> RunAppend {
    let record = NewRecord::new(RecordKind::Task, 1, body.to_owned());
    RunAppend::new(run, "graph", after, vec![record]).sync()
}

async fn fill(path: &Path, runs: u64) {
    let store = SqliteStore::open(path).expect("opens");
    let scope = Scope::local();
    let appends = (0..runs).map(|run| {
        let append = append(&format!("r{run}"), 0, &"body ".repeat(200));
        RunStore::append(&store, &scope, append)
    });
    for answer in futures::future::join_all(appends).await {
        answer.expect("is taken");
    }
}

fn fails(path: &Path) -> Error {
    SqliteStore::open(path).expect_err("cannot be opened")
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let (path, _folder) = place();
    fill(&path, 1).await;
    Connection::open(&path)
        .and_then(|db| db.pragma_update(None, "user_version", 99))
        .expect("as a newer build would");
    let error = fails(&path);
    assert!(
        matches!(
            error,
            Error::UnknownVersion {
                found: 99,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    let version: i64 = Connection::open(&path)
        .and_then(|db| db.pragma_query_value(None, "user_version", |row| row.get(0)))
        .expect("reads");
    assert_eq!(version, 99);
}

#[test]
fn files_of_other_programs_are_refused_and_left_as_they_were() {
    let (path, _folder) = place();
    for content in [&b"just some text"[..], &[0_u8; 5_000], &[b'x'; 5_000]] {
        fs::write(&path, content).expect("writes");
        assert_eq!(fails(&path).code(), "foreign");
        assert_eq!(fs::read(&path).expect("reads"), content);
    }
    fs::remove_file(&path).expect("removes");
    Connection::open(&path)
        .and_then(|db| db.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)"))
        .expect("another program's");
    let before = fs::read(&path).expect("reads");
    assert_eq!(fails(&path).code(), "foreign");
    assert_eq!(fs::read(&path).expect("reads"), before);
}

#[tokio::test]
async fn a_cache_file_is_not_taken_for_a_store() {
    let (path, folder) = place();
    fill(&path, 1).await;
    assert_eq!(fails(&folder.path().join("store.db.cache")).code(), "foreign");
}

#[test]
fn an_empty_file_becomes_a_store() {
    let (path, _folder) = place();
    fs::write(&path, "").expect("writes");
    SqliteStore::open(&path).expect("opens");
}

#[tokio::test]
async fn damage_is_told_and_never_read_as_something_else() {
    let (path, _folder) = place();
    fill(&path, 40).await;
    let whole = fs::read(&path).expect("reads");
    let scope = Scope::local();
    let mut told = 0;
    // Each page but the first in turn is overwritten; then the end is cut off.
    for page in 1..whole.len() / 4_096 {
        let mut bytes = whole.clone();
        bytes[page * 4_096..][..4_096].fill(0xA5);
        told += u32::from(is_damage_told(&path, &bytes, &scope).await);
    }
    for length in [whole.len() - 4_096, whole.len() / 2, 4_096] {
        assert!(
            is_damage_told(&path, &whole[..length], &scope).await,
            "cut at {length}"
        );
    }
    assert!(told > 10, "{told} pages missed");
    assert!(
        !is_damage_told(&path, &whole, &scope).await,
        "the whole file is well"
    );
}

/// Whether opening, reading or verifying tells of damage. What is read without an error has to be right.
async fn is_damage_told(path: &Path, bytes: &[u8], scope: &Scope) -> bool {
    fs::write(path, bytes).expect("writes");
    let store = match SqliteStore::open(path) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.code(), "damaged", "{error}");
            return true;
        }
    };
    for run in 0..40 {
        match RunStore::read(&store, scope, &format!("r{run}"), 1, 9).await {
            Ok(found) => {
                for record in found {
                    assert!(record.body.iter().all(|byte| b"body \xA5".contains(byte)));
                }
            }
            Err(error) => assert_eq!(error.code(), "damaged", "{error}"),
        }
    }
    match store.verify().await {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.code(), "damaged", "{error}");
            true
        }
    }
}

#[tokio::test]
async fn a_damaged_cache_is_made_anew_and_the_store_stays() {
    let (path, folder) = place();
    fill(&path, 1).await;
    let cache = folder.path().join("store.db.cache");
    let mut bytes = fs::read(&cache).expect("reads");
    bytes[100..].fill(0xA5);
    fs::write(&cache, bytes).expect("writes");
    let store = SqliteStore::open(&path).expect("opens all the same");
    let scope = Scope::local();
    Cache::put(&store, &scope, "k", "v".into(), None)
        .await
        .expect("works");
    assert!(
        RunStore::head(&store, &scope, "r0")
            .await
            .expect("reads")
            .is_some()
    );
}

#[test]
fn places_where_no_file_can_be_are_told_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = fails(folder.path());
    assert_eq!(error.code(), "io", "a folder: {error}");
    let error = fails(&folder.path().join("none").join("store.db"));
    assert_eq!(error.code(), "io", "no such folder: {error}");
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("writes");
    let error = fails(&file.join("store.db"));
    assert_eq!(error.code(), "io", "inside a file: {error}");
    for path in ["", ":memory:"] {
        assert_eq!(fails(Path::new(path)).code(), "invalid_input");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_without_the_right_to_write_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let (path, folder) = place();
    fill(&path, 1).await;
    let allow = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
    allow(0o555).expect("takes the right away");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("takes the right away");
    let is_almighty = fs::write(folder.path().join("probe"), "x").is_ok();
    let opened = SqliteStore::open(&path);
    allow(0o755).expect("gives it back");
    if is_almighty {
        println!("skipped: 1 (this user may write everywhere)");
    } else {
        assert_eq!(opened.expect_err("no right").code(), "io");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_on_one_file_write_side_by_side_and_lose_nothing() {
    let (path, _folder) = place();
    let scope = Scope::local();
    let first = SqliteStore::open(&path).expect("opens");
    let second = SqliteStore::open(&path).expect("opens beside");
    let write = |store: SqliteStore, name: &'static str| {
        let scope = scope.clone();
        tokio::spawn(async move {
            let mut conflicts = 0;
            for number in 0..60_u64 {
                let own = append(name, number, "x");
                assert_eq!(
                    RunStore::append(&store, &scope, own).await.expect("its own run"),
                    number + 1
                );
                loop {
                    let head = RunStore::head(&store, &scope, "both").await.expect("reads");
                    let last = head.map_or(0, |head| head.last_seq);
                    match RunStore::append(&store, &scope, append("both", last, name)).await {
                        Ok(_) => break,
                        Err(error) => {
                            assert_eq!(error.code(), "conflict", "{error}");
                            conflicts += 1;
                        }
                    }
                }
            }
            conflicts
        })
    };
    let (one, two) = (write(first.clone(), "one"), write(second.clone(), "two"));
    let conflicts = one.await.expect("runs") + two.await.expect("runs");
    let records = RunStore::read(&first, &scope, "both", 1, 1_000)
        .await
        .expect("reads");
    assert_eq!(
        records.len(),
        120,
        "each of both wrote 60 ({conflicts} conflicts on the way)"
    );
    let count = |name: &[u8]| records.iter().filter(|record| &record.body[..] == name).count();
    assert_eq!((count(b"one"), count(b"two")), (60, 60));
    let list = RunStore::list(&second, &scope, &RunFilter::default(), PageRequest::default()).await;
    assert_eq!(list.expect("lists").items.len(), 3);
}

#[tokio::test]
async fn a_file_locked_by_another_for_long_is_told_and_works_afterwards() {
    let (path, _folder) = place();
    let store = SqliteStore::open(&path).expect("opens");
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let scope = Scope::local();
    let start = std::time::Instant::now();
    let (a, b) = futures::join!(
        RunStore::append(&store, &scope, append("a", 0, "x")),
        RunStore::append(&store, &scope, append("b", 0, "x")),
    );
    assert_eq!(a.expect_err("locked").code(), "locked");
    assert_eq!(b.expect_err("locked").code(), "locked");
    let waited = start.elapsed().as_secs();
    assert!(
        (4..9).contains(&waited),
        "both waited {waited} s together, not one after the other"
    );
    assert!(
        RunStore::head(&store, &scope, "a")
            .await
            .expect("reads go on")
            .is_none()
    );
    other.execute_batch("ROLLBACK").expect("opens");
    assert_eq!(
        RunStore::append(&store, &scope, append("a", 0, "x"))
            .await
            .expect("works"),
        1
    );
}
