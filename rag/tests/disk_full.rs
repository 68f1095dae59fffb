//! A disk without room: a small file system of the kernel's own, where that may be mounted.

#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use stepwell_core::{Query, SearchMode};
use stepwell_rag::{Collection, VectorField, WholeDocuments};
use support::{WordEmbedder, document, documents};

const PLACE: &str = "STEPWELL_TEST_FULL_FOLDER";
/// In a namespace of its own: the mount is gone with the child, however that ends.
const MOUNT: &str = r#"mount -t tmpfs -o size=3m stepwell "$0" && exec "$@""#;

async fn open(folder: &Path) -> Collection {
    Collection::open(folder)
        .embedder(WordEmbedder::new(24))
        .vector_field(VectorField::new("small", WordEmbedder::named("small", 12)))
        .chunker(Arc::new(WholeDocuments))
        .build()
        .await
        .expect("the folder opens")
}

/// Every document up to `count` is found by text and by vector, once.
async fn check(collection: &Collection, count: u64) {
    let entries = collection.documents().await.expect("listed");
    assert_eq!(entries.len() as u64, count);
    assert!(entries.iter().all(|entry| entry.chunks == 1));
    for number in (0..count).step_by(97) {
        let query = Query::new(document(number).text);
        let queries = [
            query.clone().mode(SearchMode::Lexical),
            query.clone().mode(SearchMode::Dense),
            query.clone().mode(SearchMode::Dense).vector_field("small"),
            query,
        ];
        for query in queries {
            let hits = collection.search(&query).await.expect("hits");
            assert_eq!(hits[0].chunk.document_id, format!("doc-{number}"));
        }
    }
}

#[tokio::test]
#[ignore = "the child that runs on the small file system"]
async fn child_that_fills_its_file_system() {
    let folder = std::env::var_os(PLACE).expect("started by the test");
    let place = Path::new(&folder).join("index");
    let ballast = Path::new(&folder).join("ballast");
    std::fs::write(&ballast, vec![7; 1 << 20]).expect("a third of the room");
    let collection = open(&place).await;
    let mut count = 0;
    let refused = loop {
        match collection.add(documents(count..count + 200)).await {
            Ok(_) => count += 200,
            Err(error) => break error,
        }
        assert!(count < 1_000_000, "an end comes");
    };
    assert_eq!(refused.code(), "disk_full", "{refused}");
    assert!(count >= 200, "something was written");
    // The last commit stands, in this handle and a new one, and all of it can be searched without room.
    check(&collection, count).await;
    check(&open(&place).await, count).await;
    for _ in 0..3 {
        let error = collection
            .add(documents(count..count + 200))
            .await
            .expect_err("still full");
        assert_eq!(error.code(), "disk_full", "{error}");
    }
    if let Err(error) = collection.compact().await {
        assert_eq!(error.code(), "disk_full", "{error}");
    }
    check(&collection, count).await;
    // Deleting needs a little room, and may be refused; what it says is so.
    match collection.delete(["doc-0"]).await {
        Ok(deleted) => assert_eq!(deleted, 1),
        Err(error) => {
            assert_eq!(error.code(), "disk_full", "{error}");
            assert!(
                collection
                    .documents()
                    .await
                    .expect("listed")
                    .iter()
                    .any(|entry| entry.id == "doc-0")
            );
        }
    }
    std::fs::remove_file(&ballast).expect("room again");
    collection.add([document(0)]).await.expect("there is room");
    collection
        .add(documents(count..count + 200))
        .await
        .expect("there is room");
    collection.verify().await.expect("whole");
    check(&collection, count + 200).await;
    println!("full at {count} documents");
}

#[test]
fn a_full_disk_says_so_keeps_the_last_commit_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |command: &[&str]| {
        Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", MOUNT])
            .arg(folder.path())
            .args(command)
            .env(PLACE, folder.path())
            .stdin(Stdio::null())
            .output()
    };
    if !run(&["true"]).is_ok_and(|output| output.status.success()) {
        println!("a small file system may not be mounted here; skipped: 1");
        return;
    }
    let test = std::env::current_exe().expect("this test");
    let test = test.to_str().expect("text");
    let output = run(&[
        test,
        "--exact",
        "child_that_fills_its_file_system",
        "--ignored",
        "--nocapture",
    ]);
    let output = output.expect("the child runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    let told = out
        .lines()
        .find(|line| line.contains("full at"))
        .expect("it came so far");
    println!("{told}");
}
