//! What a collection makes of an index that another version wrote.

use std::path::Path;

use stepwell_core::{Query, SearchMode};
use tantivy::Index;
use tantivy::directory::MmapDirectory;

use super::Collection;
use super::faults::{builder, document};
use crate::error::Place;
use crate::snapshot::STORE_BLOCK;

/// meta.json as another version would have left it, for it seals what it wrote; without a seal it is taken as it is.
fn unsealed(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("meta.json")).expect("text");
    let (_, text) = text.split_once("\",").expect("a seal");
    format!("{{{text}")
}

#[tokio::test]
async fn formats_of_a_newer_version_are_refused_with_both_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let collection = builder(folder.path()).build().await.expect("made");
    collection
        .add((0..3).map(|id| document(id, 0)))
        .await
        .expect("added");
    drop(collection);
    let meta = folder.path().join("meta.json");
    let text = unsealed(folder.path());
    let versioned = r#""version": 2"#;
    // Each vector field has one; a newer one of the second alone is enough.
    let places: Vec<usize> = text.match_indices(versioned).map(|(place, _)| place).collect();
    assert_eq!(places.len(), 2, "{text}");
    for place in places {
        let mut newer = text.clone();
        newer.replace_range(place..place + versioned.len(), r#""version": 7"#);
        std::fs::write(&meta, newer).expect("written");
        let error = builder(folder.path()).build().await.expect_err("newer");
        assert_eq!(error.code(), "unknown_version");
        assert!(
            error.to_string().contains('7') && error.to_string().contains('2'),
            "{error}"
        );
    }
    std::fs::write(&meta, text.replace(versioned, r#""version": 1"#)).expect("written");
    let error = builder(folder.path()).build().await.expect_err("older");
    assert_eq!(error.code(), "unknown_version");
    assert!(
        error.to_string().ends_with("make it anew with this one"),
        "{error}"
    );
    std::fs::write(&meta, text).expect("written");
    builder(folder.path()).build().await.expect("ours again");

    // A vector file of a later layout; its checksum is kept elsewhere, so the version is told first.
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    let path = entries
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|found| found == "swv"))
        .expect("a vector file");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[8] = 9;
    std::fs::write(&path, bytes).expect("written");
    let place = Place::folder(folder.path());
    let directory = Box::new(MmapDirectory::open(folder.path()).expect("a folder"));
    let error = builder(folder.path())
        .open_in(directory, place, 0)
        .expect_err("newer");
    assert_eq!(error.code(), "unknown_version");
    assert!(error.to_string().contains('9'), "{error}");
}

/// The documents that hold the word, and how many came twice.
async fn found(collection: &Collection, word: &str) -> (Vec<String>, usize) {
    let query = Query::new(word).mode(SearchMode::Lexical).top_k(100);
    let hits = collection.search(&query).await.expect("searched");
    let count = hits.len();
    let mut ids: Vec<String> = hits.into_iter().map(|hit| hit.chunk.document_id).collect();
    ids.sort();
    ids.dedup();
    let twice = count - ids.len();
    (ids, twice)
}

#[tokio::test]
async fn an_index_made_in_larger_blocks_is_read_added_to_and_merged() {
    let folder = tempfile::tempdir().expect("a folder");
    let collection = builder(folder.path()).build().await.expect("made");
    collection
        .add((0..2).map(|id| document(id, 0)))
        .await
        .expect("added");
    drop(collection);
    let text = unsealed(folder.path());
    let ours = format!(r#""docstore_blocksize": {STORE_BLOCK}"#);
    assert!(text.contains(&ours), "{text}");
    let text = text.replace(&ours, r#""docstore_blocksize": 4096"#);
    std::fs::write(folder.path().join("meta.json"), text).expect("written");

    let collection = builder(folder.path()).build().await.expect("opens");
    let ids = |count: u64| {
        let mut ids: Vec<String> = (0..count).map(|id| format!("d{id}")).collect();
        ids.sort();
        (ids, 0)
    };
    assert_eq!(found(&collection, "common").await, ids(2));
    collection
        .add((2..90).map(|id| document(id, 0)))
        .await
        .expect("added");
    assert_eq!(found(&collection, "common").await, ids(90));
    collection.optimize().await.expect("merged");
    assert_eq!(collection.index_stats().await.expect("told").segments, 1);
    assert_eq!(found(&collection, "common").await, ids(90));
    collection.verify().await.expect("whole");
    drop(collection);
    let index = Index::open_in_dir(folder.path()).expect("opens");
    assert_eq!(
        index.settings().docstore_blocksize,
        4_096,
        "the index keeps its own"
    );
}
