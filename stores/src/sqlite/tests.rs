//! What cannot be seen from outside: a group in which one fails, a full disk, dropped callers.

use super::{SqliteStore, fault::Work};
use futures::future::join_all;
use rusqlite::Connection;
use stepwell_core::{
    Error, Result, Scope,
    store::{Cache, Durability, NewRecord, RecordKind, RunAppend, RunStore},
};
use tempfile::TempDir;

fn store() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("store.db")).expect("a new store");
    (store, folder)
}

fn append(run: &str, after: u64, bytes: usize) -> RunAppend {
    let record = NewRecord::new(RecordKind::Task, 1, vec![7; bytes]);
    RunAppend::new(run, "graph", after, vec![record])
}

async fn limit_pages(store: &SqliteStore, pages: u32) {
    let work = move |db: &Connection| -> Work<()> {
        Ok(db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
    };
    let file = &store.inner.store;
    file.write(Durability::Sync, work).await.expect("a pragma");
}

#[tokio::test]
async fn one_that_fails_after_it_wrote_takes_nobody_in_its_group_down() {
    let (store, _folder) = store();
    let scope = Scope::local();
    let file = &store.inner.store;
    let failing = || {
        file.write(Durability::Sync, |db| {
            db.execute("DELETE FROM record", [])?;
            Err::<(), _>(Error::invalid("test", "fails on purpose").into())
        })
    };
    let good = |number: usize| {
        let append = append(&format!("r{number}"), 0, 10).sync();
        RunStore::append(&store, &scope, append)
    };
    let (goods, bads) = futures::join!(join_all((0..30).map(good)), join_all((0..30).map(|_| failing())));
    assert!(goods.into_iter().all(|answer| matches!(answer, Ok(1))));
    assert!(bads.into_iter().all(|answer| answer.is_err()));
    for number in 0..30 {
        let found = RunStore::read(&store, &scope, &format!("r{number}"), 1, 9).await;
        assert_eq!(found.expect("reads").len(), 1);
    }
}

#[tokio::test]
async fn two_hundred_appends_at_once_share_a_few_commits() {
    let (store, _folder) = store();
    let scope = Scope::local();
    let before = store.commits();
    let appends = (0..200).map(|number| {
        let append = append(&format!("r{number}"), 0, 300).sync();
        RunStore::append(&store, &scope, append)
    });
    for answer in join_all(appends).await {
        assert_eq!(answer.expect("is taken"), 1);
    }
    let commits = store.commits() - before;
    assert!(commits <= 20, "{commits} commits for 200 appends");
}

#[tokio::test]
async fn appends_that_do_not_wait_for_the_disk_share_commits_and_are_seen_at_once() {
    let (store, _folder) = store();
    let scope = Scope::local();
    let before = store.commits();
    for after in 0..300 {
        RunStore::append(&store, &scope, append("r", after, 100))
            .await
            .expect("is taken");
        let head = RunStore::head(&store, &scope, "r").await.expect("reads");
        assert_eq!(
            head.expect("there").last_seq,
            after + 1,
            "one reads what one wrote"
        );
    }
    RunStore::flush(&store).await.expect("flushes");
    let commits = store.commits() - before;
    assert!(commits <= 100, "{commits} commits for 300 appends");
}

#[tokio::test]
async fn a_full_disk_refuses_the_append_keeps_what_was_there_and_goes_on_with_room() {
    let (store, folder) = store();
    let scope = Scope::local();
    RunStore::append(&store, &scope, append("r", 0, 5_000).sync())
        .await
        .expect("room");
    limit_pages(&store, 40).await;
    let large = RunStore::append(&store, &scope, append("r", 1, 4_000_000).sync()).await;
    assert_eq!(large.expect_err("no room").code(), "disk_full");
    let large = RunStore::append(&store, &scope, append("r", 1, 4_000_000)).await;
    assert_eq!(large.expect_err("no room").code(), "disk_full");
    RunStore::append(&store, &scope, append("r", 1, 10).sync())
        .await
        .expect("a small one fits");
    limit_pages(&store, 1_000_000).await;
    RunStore::append(&store, &scope, append("r", 2, 4_000_000).sync())
        .await
        .expect("room again");
    store.verify().await.expect("whole");
    drop(store);
    let store = SqliteStore::open(folder.path().join("store.db")).expect("opens");
    let found = RunStore::read(&store, &scope, "r", 1, 9).await.expect("reads");
    let sizes: Vec<usize> = found.iter().map(|record| record.body.len()).collect();
    assert_eq!(sizes, [5_000, 10, 4_000_000]);
}

#[tokio::test]
async fn a_flush_tells_when_answered_work_was_lost() {
    let (store, _folder) = store();
    let scope = Scope::local();
    RunStore::append(&store, &scope, append("r", 0, 10).sync())
        .await
        .expect("is taken");
    RunStore::append(&store, &scope, append("r", 1, 10))
        .await
        .expect("is taken");
    let file = &store.inner.store;
    // As SQLite itself does when it cannot go on: the whole transaction is rolled back under a running statement.
    let fails: Result<()> = file
        .write(Durability::Sync, |db| {
            db.execute_batch("ROLLBACK")?;
            Err(Error::DiskFull {
                what: "test".to_owned(),
            }
            .into())
        })
        .await;
    assert_eq!(fails.expect_err("fails").code(), "disk_full");
    assert_eq!(
        RunStore::flush(&store).await.expect_err("lost").code(),
        "disk_full"
    );
    RunStore::flush(&store).await.expect("told once");
    let stale = RunStore::append(&store, &scope, append("r", 2, 10).sync()).await;
    assert_eq!(stale.expect_err("record 2 is gone").code(), "conflict");
    assert_eq!(
        RunStore::append(&store, &scope, append("r", 1, 10).sync())
            .await
            .expect("goes on"),
        2
    );
}

#[tokio::test]
async fn callers_that_go_away_at_any_moment_leave_whole_appends() {
    let (store, _folder) = store();
    let scope = Scope::local();
    for number in 0..60_u32 {
        let mut first = append("r", 0, 10).sync();
        first.run_id = format!("r{number}").into();
        first.records.push(NewRecord::new(RecordKind::Task, 1, "second"));
        let mut future = Box::pin(RunStore::append(&store, &scope, first));
        for _ in 0..number % 4 {
            if futures::poll!(future.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(future);
        let mut read = Box::pin(RunStore::read(&store, &scope, "r0", 1, 9));
        let _ = futures::poll!(read.as_mut()); // begun, then dropped
        drop(read);
    }
    RunStore::flush(&store).await.expect("goes on");
    for number in 0..60 {
        let found = RunStore::read(&store, &scope, &format!("r{number}"), 1, 9)
            .await
            .expect("reads");
        assert!(matches!(found.len(), 0 | 2), "all or nothing");
    }
    assert_eq!(
        RunStore::append(&store, &scope, append("last", 0, 1).sync())
            .await
            .expect("works"),
        1
    );
}

#[tokio::test]
async fn the_cache_file_stays_within_its_limit_and_keeps_what_came_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = super::SqliteOptions {
        cache_bytes: 1 << 20,
        ..Default::default()
    };
    let store = SqliteStore::open_with(folder.path().join("store.db"), options).expect("opens");
    let scope = Scope::local();
    for number in 0..1_000 {
        let value = vec![1_u8; 4_000].into();
        Cache::put(&store, &scope, &format!("k{number}"), value, None)
            .await
            .expect("is taken");
    }
    assert!(Cache::get(&store, &scope, "k999").await.expect("reads").is_some());
    assert!(Cache::get(&store, &scope, "k0").await.expect("reads").is_none());
    drop(store);
    let size = folder
        .path()
        .join("store.db.cache")
        .metadata()
        .expect("there")
        .len();
    assert!(size <= (1 << 20) + (1 << 19), "{size} bytes");
}
