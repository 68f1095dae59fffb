//! What a collection does when its disk fails: a directory that refuses or panics at the n-th call.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use stepwell_core::{
    Document, EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, HeuristicTokens, Query, Result,
    SearchMode, TokenCounter, Usage,
};
use tantivy::IndexWriter;
use tantivy::directory::MmapDirectory;

use super::{Collection, CollectionBuilder, VectorField, WholeDocuments};
use crate::asking::Asking;
use crate::checksum::CHECKED_AT_OPEN;
use crate::error::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A call that fails once; the next ones work.
    Once,
    /// Everything fails from there on.
    Broken,
    /// No room from there on.
    Full,
    /// A panic.
    Panic,
}

/// When the next fault comes.
#[derive(Debug)]
struct Plan {
    fault: Fault,
    /// Calls until then; negative afterwards.
    left: AtomicI64,
    /// Faults so far.
    met: AtomicU64,
}

impl Plan {
    fn arm(&self, calls: i64) {
        self.met.store(0, Ordering::SeqCst);
        self.left.store(calls, Ordering::SeqCst);
    }

    fn disarm(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    fn call(&self) -> io::Result<()> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let is_due = match self.fault {
            Fault::Once | Fault::Panic => left == 0,
            Fault::Broken | Fault::Full => left <= 0,
        };
        if !is_due {
            return Ok(());
        }
        self.met.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            Fault::Panic => panic!("injected: this test wants it"),
            Fault::Once | Fault::Broken => Err(io::Error::other("injected")),
        }
    }
}

/// Letters of a text, counted: enough of a direction.
#[derive(Debug)]
struct Letters(EmbedderInfo);

impl Letters {
    fn new(model: &str) -> Arc<Self> {
        Arc::new(Self(EmbedderInfo::new("test", model, "1", 26, 256, false)))
    }

    fn vector(text: &str) -> Vec<f32> {
        let mut vector = vec![0.01; 26];
        for letter in text.bytes().filter(u8::is_ascii_lowercase) {
            vector[usize::from(letter - b'a')] += 1.0;
        }
        vector
    }
}

#[async_trait]
impl Embedder for Letters {
    fn info(&self) -> &EmbedderInfo {
        &self.0
    }

    async fn embed(&self, texts: &[&str], _: EmbedKind) -> Result<Embeddings> {
        let values = texts.iter().flat_map(|text| Self::vector(text)).collect();
        Embeddings::new(26, values, Usage::default())
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::new(HeuristicTokens)
    }
}

pub(super) fn builder(folder: &Path) -> CollectionBuilder {
    Collection::open(folder)
        .embedder(Letters::new("letters"))
        .vector_field(VectorField::new("second", Letters::new("others")))
        .chunker(Arc::new(WholeDocuments))
}

fn open(folder: &Path, plan: &Arc<Plan>) -> Result<Collection> {
    let plan = Arc::clone(plan);
    let directory = Asking::new(folder, move || plan.call());
    builder(folder).open_in(Box::new(directory), Place::folder(folder), CHECKED_AT_OPEN)
}

/// A word of letters that names a number.
fn word(number: u64) -> String {
    let letter = |digit: u64| char::from(b"abcdefghij"[usize::try_from(digit % 10).expect("small")]);
    [number / 100, number / 10, number].map(letter).iter().collect()
}

pub(super) fn document(id: u64, version: u64) -> Document {
    let text = format!("common {} version{}", word(id).repeat(4), word(version));
    Document::new(format!("d{id}"), text)
}

/// What may stand under each id: what was acknowledged, or what the failed call meant to leave. `None` is nothing.
type Allowed = BTreeMap<u64, Vec<Option<Document>>>;

async fn check(collection: &Collection, allowed: &Allowed, doing: &str) {
    let entries = collection.documents().await.expect("listed");
    let mut listed: BTreeMap<String, String> = BTreeMap::new();
    for entry in entries {
        assert_eq!(entry.chunks, 1, "{doing}: {} stands there once", entry.id);
        assert!(listed.insert(entry.id, entry.content_hash).is_none());
    }
    for (id, states) in allowed {
        let found = listed.remove(&format!("d{id}"));
        let is_allowed = states
            .iter()
            .any(|state| state.as_ref().map(Document::content_hash) == found);
        assert!(is_allowed, "{doing}: d{id} is {found:?} of {states:?}");
        if found.is_none() {
            continue;
        }
        let query = Query::new(word(*id).repeat(4)).top_k(1_000);
        let dense = query.clone().mode(SearchMode::Dense);
        let queries = [
            query.mode(SearchMode::Lexical),
            dense.clone(),
            dense.vector_field("second"),
        ];
        for query in queries {
            let hits = collection.search(&query).await.expect("hits");
            let own: Vec<_> = hits
                .iter()
                .filter(|hit| hit.chunk.document_id == format!("d{id}"))
                .collect();
            assert_eq!(
                own.len(),
                1,
                "{doing}: d{id} by {:?} {:?}",
                query.mode,
                query.vector_field
            );
            let texts = states.iter().flatten().map(|document| document.text.as_str());
            assert!(texts.into_iter().any(|text| text == own[0].chunk.text), "{doing}");
        }
    }
    assert!(listed.is_empty(), "{doing}: {listed:?}");
}

/// Adds, replaces, deletes and merges with the fault at call `at`; `false` when no call was the `at`-th.
async fn one_life(fault: Fault, at: i64) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Arc::new(Plan {
        fault,
        left: AtomicI64::new(i64::MAX),
        met: AtomicU64::new(0),
    });
    let collection = open(folder.path(), &plan).expect("made");
    let mut allowed = Allowed::new();
    for part in 0..3 {
        let ids = part * 4..part * 4 + 4;
        collection
            .add(ids.clone().map(|id| document(id, 0)))
            .await
            .expect("added");
        allowed.extend(ids.map(|id| (id, vec![Some(document(id, 0))])));
    }
    plan.arm(at);
    let meant = |allowed: &mut Allowed, id: u64, state: Option<Document>, is_done: bool| {
        let states = allowed.entry(id).or_insert_with(|| vec![None]);
        if is_done {
            states.clear();
        }
        states.push(state);
    };
    let mut codes = Vec::new();
    let mut told = |result: Result<(), Error>| {
        let is_done = result.is_ok();
        if let Err(error) = result {
            assert!(!error.to_string().contains('\n'), "{error}");
            codes.push(error.code().to_owned());
        }
        is_done
    };
    let new: Vec<u64> = vec![1, 5, 20, 21];
    let added = collection
        .add(new.iter().map(|id| document(*id, 1)).collect::<Vec<_>>())
        .await;
    let is_done = told(added.map(drop));
    for id in new {
        meant(&mut allowed, id, Some(document(id, 1)), is_done);
    }
    let deleted = collection.delete(["d0", "d9", "d20"]).await;
    let is_done = told(deleted.map(drop));
    for id in [0, 9, 20] {
        meant(&mut allowed, id, None, is_done);
    }
    told(collection.compact().await);
    let more = collection.add([document(30, 0)]).await;
    let is_done = told(more.map(drop));
    meant(&mut allowed, 30, Some(document(30, 0)), is_done);
    let met = plan.met.load(Ordering::SeqCst);
    plan.disarm();
    let doing = format!("{fault:?} at call {at}, {codes:?}");
    let known = match fault {
        Fault::Full => vec!["disk_full"],
        Fault::Panic => vec!["damaged", "internal", "io"],
        Fault::Once | Fault::Broken => vec!["io", "internal", "damaged", "locked"],
    };
    assert!(codes.iter().all(|code| known.contains(&code.as_str())), "{doing}");
    // The same handle goes on once the fault is gone, and another process finds the same.
    check(&collection, &allowed, &doing).await;
    collection
        .add([document(40, 0)])
        .await
        .unwrap_or_else(|error| panic!("{doing}: {error}"));
    allowed.insert(40, vec![Some(document(40, 0))]);
    check(&collection, &allowed, &doing).await;
    collection
        .compact()
        .await
        .unwrap_or_else(|error| panic!("{doing}: {error}"));
    drop(collection);
    let again = builder(folder.path())
        .build()
        .await
        .unwrap_or_else(|error| panic!("{doing}: {error}"));
    again.verify().await.expect("whole");
    check(&again, &allowed, &doing).await;
    met > 0
}

/// Every call in turn, or some of them unless `STEPWELL_LONG=1`.
async fn every_life(fault: Fault) {
    let is_long = std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1");
    let step = if is_long { 1 } else { 31 };
    let mut at = 0;
    while one_life(fault, at).await {
        at += step;
        assert!(at < 20_000, "an end comes");
    }
    println!("{fault:?}: {at} calls, every {step}th in turn");
    assert!(at > 100, "there are many calls: {at}");
}

#[tokio::test]
async fn a_call_of_the_disk_that_fails_once_costs_at_most_what_was_not_acknowledged() {
    every_life(Fault::Once).await;
}

#[tokio::test]
async fn a_disk_that_fails_for_a_while_costs_at_most_what_was_not_acknowledged() {
    every_life(Fault::Broken).await;
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while_says_so_and_costs_at_most_what_was_not_acknowledged() {
    every_life(Fault::Full).await;
}

#[tokio::test]
async fn a_panic_below_becomes_an_error_and_costs_at_most_what_was_not_acknowledged() {
    every_life(Fault::Panic).await;
}

/// Turns a bit in the middle of the first file with this ending, where it lies.
fn flip(folder: &Path, extension: &str) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let path = entries
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .expect("such a file");
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 16;
    std::fs::write(&path, bytes).expect("written");
}

#[tokio::test]
async fn a_damaged_segment_of_an_index_too_large_to_be_read_at_open_is_found_before_anything_is_written() {
    for extension in ["idx", "term", "pos", "store", "fieldnorm", "fast"] {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = builder(folder.path()).build().await.expect("made");
        collection
            .add((0..50).map(|id| document(id, 0)))
            .await
            .expect("added");
        drop(collection);
        flip(folder.path(), extension);
        let place = Place::folder(folder.path());
        let directory = Box::new(MmapDirectory::open(folder.path()).expect("a folder"));
        // As if it were above the limit; some damage already shows when segments are opened.
        let opened = builder(folder.path()).open_in(directory, place, 0);
        let Ok(collection) = opened else { continue };
        for doing in 0..4 {
            let result = match doing {
                0 => collection.add([document(3, 1)]).await.map(drop),
                1 => collection.delete(["d5"]).await.map(drop),
                2 => collection.compact().await,
                _ => collection.optimize().await,
            };
            let error = result.expect_err("nothing is written over damage");
            assert_eq!(error.code(), "damaged", "{extension} {doing}: {error}");
        }
    }
}

#[tokio::test]
async fn what_was_committed_is_acknowledged_though_it_cannot_be_read_yet_and_the_next_question_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let meta = folder.path().join("meta.json");
    // Once there is a list to compare with, every call fails that comes after another list was written; but for the first,
    // which has the disk keep its name: without that nothing is committed.
    let before = Arc::new(Mutex::new(None::<(Vec<u8>, u64)>));
    let asked = Arc::clone(&before);
    let directory = Asking::new(folder.path(), move || {
        let mut before = asked.lock().expect("whole");
        let Some((before, calls)) = before.as_mut() else {
            return Ok(());
        };
        *calls += u64::from(std::fs::read(&meta)? != *before);
        if *calls < 2 {
            Ok(())
        } else {
            Err(io::Error::other("injected"))
        }
    });
    let collection = builder(folder.path())
        .open_in(Box::new(directory), Place::folder(folder.path()), CHECKED_AT_OPEN)
        .expect("made");
    collection.add([document(1, 0)]).await.expect("added");
    let now = || std::fs::read(folder.path().join("meta.json")).expect("a list");
    *before.lock().expect("whole") = Some((now(), 0));
    let report = collection.add([document(2, 0)]).await.expect("committed");
    assert_eq!(report.progress.documents_added, 1);
    let query = Query::new(word(2).repeat(4)).mode(SearchMode::Lexical);
    let error = collection.search(&query).await.expect_err("told");
    assert!(error.to_string().contains("injected"), "{error}");
    collection.delete(["d1"]).await.expect_err("told");
    *before.lock().expect("whole") = None;
    assert_eq!(collection.search(&query).await.expect("found").len(), 1);
    *before.lock().expect("whole") = Some((now(), 0));
    assert_eq!(collection.delete(["d1"]).await.expect("committed"), 1);
    collection.search(&query).await.expect_err("told");
    *before.lock().expect("whole") = None;
    let entries = collection.documents().await.expect("listed");
    let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["d2"]);
}

#[test]
fn the_writer_lock_is_free_after_a_writer_was_dropped_by_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Arc::new(Plan {
        fault: Fault::Once,
        left: AtomicI64::new(i64::MAX),
        met: AtomicU64::new(0),
    });
    let collection = open(folder.path(), &plan).expect("made");
    let inner = Arc::clone(&collection.inner);
    let result = crate::error::guarded(&inner.place, || {
        let _writer = inner.writer(futures::executor::block_on(inner.writers.turn())?)?;
        panic!("injected: this test wants it")
    });
    let result: Result<()> = result;
    assert_eq!(result.expect_err("panicked").code(), "damaged");
    let writer: IndexWriter = inner.index.writer(20_000_000).expect("the lock is free");
    drop(writer);
}
