//! Documents on their way in: what is embedded and what is not, what fails and what stands, who may write.

mod support;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use stepwell_core::store::Cache;
use stepwell_core::{
    Chunk, Document, EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, Query, Result, Scope, SearchMode,
    TokenCounter,
};
use stepwell_rag::{
    AddEvent, AddOptions, AddProgress, ChunkOptions, ChunkStyle, Chunking, Collection, Storage,
};
use support::{WordEmbedder, document, documents, open};

/// A cache of the test: it can fail, and be spoilt.
#[derive(Debug, Default)]
struct Drawer {
    values: Mutex<HashMap<(String, String), Bytes>>,
    fails: AtomicBool,
}

impl Drawer {
    fn spoil(&self, with: impl Fn(&[u8]) -> Vec<u8>) {
        for value in self.values.lock().expect("free").values_mut() {
            *value = with(value).into();
        }
    }

    fn check(&self) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::host("the test's cache was told to fail"));
        }
        Ok(())
    }
}

#[async_trait]
impl Cache for Drawer {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        self.check()?;
        let key = (scope.tenant().to_owned(), key.to_owned());
        Ok(self.values.lock().expect("free").get(&key).cloned())
    }

    async fn put(&self, scope: &Scope, key: &str, value: Bytes, _: Option<Duration>) -> Result<()> {
        self.check()?;
        let key = (scope.tenant().to_owned(), key.to_owned());
        self.values.lock().expect("free").insert(key, value);
        Ok(())
    }

    async fn remove(&self, _: &Scope, _: &str) -> Result<bool> {
        Ok(false)
    }

    async fn clear(&self, _: &Scope) -> Result<u64> {
        Ok(0)
    }
}

/// An embedder with moods: fails at its n-th call, refuses texts, waits at a gate, remembers what it was asked.
#[derive(Debug)]
struct Moody {
    words: Arc<WordEmbedder>,
    calls: AtomicU64,
    /// The call that fails; `u64::MAX` for none.
    fails_at: AtomicU64,
    asked: Mutex<Vec<Vec<String>>>,
    waits: AtomicBool,
}

impl Moody {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: WordEmbedder::new(32),
            calls: AtomicU64::new(0),
            fails_at: AtomicU64::new(u64::MAX),
            asked: Mutex::default(),
            waits: AtomicBool::new(false),
        })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("free")).concat()
    }
}

#[async_trait]
impl Embedder for Moody {
    fn info(&self) -> &EmbedderInfo {
        self.words.info()
    }

    async fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Embeddings> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        while self.waits.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if call == self.fails_at.load(Ordering::SeqCst) {
            return Err(Error::host("the test's embedder fails at this call"));
        }
        if texts.iter().any(|text| text.contains("refuse")) {
            return Err(Error::invalid("text", "it is refused"));
        }
        if kind == EmbedKind::Document {
            let asked = texts.iter().map(|text| (*text).to_owned()).collect();
            self.asked.lock().expect("free").push(asked);
        }
        let mut made = self.words.embed(texts, kind).await?;
        for (row, text) in texts.iter().enumerate() {
            if text.contains("nothing") {
                made.values[row * 32..][..32].fill(0.0);
            }
        }
        Ok(made)
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        self.words.tokens()
    }
}

async fn with(embedder: &Arc<Moody>, path: &Path) -> Collection {
    Collection::open(path)
        .embedder(embedder.clone())
        .build()
        .await
        .expect("opens")
}

async fn memory(embedder: &Arc<Moody>) -> Collection {
    Collection::in_memory()
        .embedder(embedder.clone())
        .build()
        .await
        .expect("made")
}

async fn answers(collection: &Collection) -> Vec<(String, f32)> {
    let mut answers = Vec::new();
    for number in [1, 7, 33] {
        let query = Query::new(document(number).text)
            .mode(SearchMode::Dense)
            .top_k(20);
        for hit in collection.search(&query).await.expect("hits") {
            answers.push((hit.chunk.id, hit.score));
        }
    }
    answers
}

#[tokio::test]
async fn texts_that_the_cache_knows_are_not_embedded_again_and_the_index_is_the_same() {
    for storage in [Storage::Int16, Storage::F32, Storage::Codes] {
        let (drawer, embedder) = (Arc::new(Drawer::default()), WordEmbedder::new(32));
        let make = || {
            Collection::in_memory()
                .embedder(embedder.clone())
                .storage(storage)
                .embedding_cache(drawer.clone())
        };
        let first = make().build().await.expect("made");
        let report = first.add(documents(0..100)).await.expect("added");
        assert_eq!((embedder.texts(), report.progress.chunks_cached), (100, 0));
        let second = make().build().await.expect("made");
        let report = second.add(documents(0..120)).await.expect("added");
        assert_eq!(
            (report.progress.chunks, report.progress.chunks_cached),
            (120, 100)
        );
        assert_eq!(embedder.texts(), 120, "twenty are new");
        second
            .delete((100..120).map(|number| format!("doc-{number}")))
            .await
            .expect("deleted");
        assert_eq!(answers(&first).await, answers(&second).await, "{storage:?}");
        // Another tenant's texts are its own.
        let (other, before) = (
            second.scoped(Scope::new("other").expect("a name")),
            embedder.texts(),
        );
        other.add(documents(0..10)).await.expect("added");
        assert_eq!(embedder.texts() - before, 10);
    }
}

#[tokio::test]
async fn entries_that_are_damaged_foreign_or_of_another_embedder_are_made_again() {
    let (drawer, embedder) = (Arc::new(Drawer::default()), WordEmbedder::new(32));
    let add = async |embedder: &Arc<WordEmbedder>| {
        let builder = Collection::in_memory()
            .embedder(embedder.clone())
            .embedding_cache(drawer.clone());
        let collection = builder.build().await.expect("made");
        let before = embedder.texts();
        let report = collection.add(documents(0..50)).await.expect("added");
        assert_eq!(collection.count(None).await.expect("count"), 50);
        (embedder.texts() - before, report.progress.chunks_cached)
    };
    assert_eq!(add(&embedder).await, (50, 0));
    assert_eq!(add(&embedder).await, (0, 50));
    drawer.spoil(|value| {
        let mut value = value.to_vec();
        let middle = value.len() / 2;
        value[middle] ^= 16;
        value
    });
    assert_eq!(add(&embedder).await, (50, 0), "a flipped bit");
    drawer.spoil(|_| b"something else".to_vec());
    assert_eq!(add(&embedder).await, (50, 0), "foreign values");
    assert_eq!(add(&embedder).await, (0, 50), "mended");
    assert_eq!(
        add(&WordEmbedder::named("other", 32)).await,
        (50, 0),
        "another model"
    );
    assert_eq!(add(&WordEmbedder::new(16)).await, (50, 0), "another dimension");
    drawer.fails.store(true, Ordering::SeqCst);
    assert_eq!(
        add(&embedder).await,
        (50, 0),
        "a cache that fails costs time alone"
    );
}

#[tokio::test]
async fn an_embedder_that_fails_at_any_call_never_loses_the_old_version() {
    let folder = tempfile::tempdir().expect("folder");
    let embedder = Moody::new();
    let collection = with(&embedder, folder.path()).await;
    collection.add(documents(0..12)).await.expect("added");
    let changed = |round: u64| -> Vec<Document> {
        (0..12)
            .map(|number| {
                let text = format!("{} changed in round {round} {number}", document(number).text);
                Document::new(format!("doc-{number}"), text.repeat(80))
            })
            .collect()
    };
    let mut failures = 0;
    for round in 0..6 {
        let before = collection.documents().await.expect("listed");
        embedder.calls.store(0, Ordering::SeqCst);
        embedder.fails_at.store(round, Ordering::SeqCst);
        let options = || AddOptions::new().chunks_per_commit(64);
        let result = collection.add_with(changed(round), options()).await;
        embedder.fails_at.store(u64::MAX, Ordering::SeqCst);
        failures += u64::from(result.is_err());
        if let Err(error) = &result {
            assert_eq!(error.code(), "host");
        }
        let after = collection.documents().await.expect("listed");
        assert_eq!(after.len(), 12, "every document stands");
        for (old, new) in before.iter().zip(&after) {
            let wanted = changed(round)
                .into_iter()
                .find(|document| document.id == new.id)
                .expect("one of them");
            assert!(
                new == old || new.content_hash == wanted.content_hash(),
                "{} is neither old nor new",
                new.id
            );
        }
        collection.verify().await.expect("every byte is there");
        let report = collection
            .add_with(changed(round), options())
            .await
            .expect("goes on");
        let committed = after
            .iter()
            .zip(&before)
            .filter(|(new, old)| new.content_hash != old.content_hash)
            .count() as u64;
        if result.is_err() {
            assert_eq!(
                report.progress.documents_unchanged, committed,
                "what was committed is skipped"
            );
        }
    }
    assert!(failures == 5, "{failures} of the rounds failed");
}

#[tokio::test]
async fn a_bad_document_costs_itself_alone_and_is_told_with_its_error() {
    let embedder = Moody::new();
    let collection = memory(&embedder).await;
    collection
        .add([Document::new("zeros", "once it was fine")])
        .await
        .expect("added");
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!({ "a": deep });
    }
    let all = || {
        let mut all = documents(0..20);
        all.insert(3, Document::new("", "no id"));
        all.insert(
            7,
            Document::new("deep", "fine words").with_metadata("a", deep.clone()),
        );
        all.insert(11, Document::new("zeros", "a text of nothing"));
        all.insert(15, Document::new("refused", "please refuse this"));
        all
    };
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let options = AddOptions::new().progress(move |event| sink.lock().expect("free").push(event.clone()));
    let report = collection
        .add_with(all(), options)
        .await
        .expect("the others are in");
    let mut failed: Vec<(&str, &str)> = report
        .failed
        .iter()
        .map(|failed| (failed.document_id.as_str(), failed.error.code()))
        .collect();
    failed.sort_unstable();
    assert_eq!(
        failed,
        [
            ("", "invalid_input"),
            ("deep", "limit_exceeded"),
            ("refused", "invalid_input"),
            ("zeros", "invalid_response"),
        ]
    );
    let progress = &report.progress;
    assert_eq!(
        (
            progress.documents_done,
            progress.documents_added,
            progress.documents_failed
        ),
        (24, 20, 4)
    );
    for failed in &report.failed {
        assert!(
            events
                .lock()
                .expect("free")
                .contains(&AddEvent::Failed(failed.clone()))
        );
    }
    let entries = collection.documents().await.expect("listed");
    assert_eq!(entries.len(), 21);
    let zeros = entries
        .iter()
        .find(|entry| entry.id == "zeros")
        .expect("the old version");
    assert_eq!(
        zeros.content_hash,
        Document::new("zeros", "once it was fine").content_hash()
    );

    let strict = memory(&embedder).await;
    let error = strict
        .add_with(all(), AddOptions::new().stops_at_error(true))
        .await
        .expect_err("stops at the first");
    assert_eq!(error.code(), "invalid_input");
    assert_eq!(strict.count(None).await.expect("count"), 0);
}

/// Cuts into lines, without some of them; panics on a word.
#[derive(Debug)]
struct Lines;

impl Chunking for Lines {
    fn chunk(&self, document: &Document) -> Result<Vec<Chunk>> {
        assert!(!document.text.contains("panic"), "told to the test only");
        let mut chunks = Vec::new();
        let mut at = 0;
        for line in document.text.split_inclusive('\n') {
            let span = at..at + line.len();
            at = span.end;
            if !line.starts_with('-') {
                chunks.push(Chunk::of(document, chunks.len() as u32, span)?);
            }
        }
        Ok(chunks)
    }

    fn fingerprint(&self) -> String {
        "lines/1".to_owned()
    }

    fn embedded<'a>(&self, chunk: &'a Chunk) -> Cow<'a, str> {
        Cow::Owned(format!("line: {}", chunk.text))
    }
}

#[tokio::test]
async fn a_chunker_of_the_hosts_own_may_panic_and_may_leave_out_what_it_likes() {
    let embedder = Moody::new();
    let collection = Collection::in_memory()
        .embedder(embedder.clone())
        .chunker(Arc::new(Lines))
        .build()
        .await
        .expect("made");
    let report = collection
        .add([
            Document::new("a", "one\n-left out\ntwo\n"),
            Document::new("b", "do panic"),
            Document::new("c", "one\ntwo\n"),
        ])
        .await
        .expect("the others are in");
    assert_eq!(report.failed.len(), 1);
    assert_eq!(
        (
            report.failed[0].document_id.as_str(),
            report.failed[0].error.code()
        ),
        ("b", "host")
    );
    assert!(embedder.asked().iter().all(|text| text.starts_with("line: ")));
    let coverage = collection.coverage("a").await.expect("there");
    assert_eq!(
        (
            coverage.text_bytes,
            coverage.gaps.first().cloned(),
            coverage.gaps.len(),
            coverage.is_whole()
        ),
        (None, Some(4..14), 1, false)
    );
    let coverage = collection.coverage("c").await.expect("there");
    assert_eq!(
        (coverage.text_bytes, coverage.chunks, coverage.is_whole()),
        (Some(8), 2, true)
    );
    assert_eq!(
        collection.coverage("b").await.expect_err("not there").code(),
        "not_found"
    );
    collection
        .verify()
        .await
        .expect("what was left out on purpose is no damage");
}

#[tokio::test]
async fn what_stands_in_the_index_is_not_embedded_again() {
    let folder = tempfile::tempdir().expect("folder");
    for storage in [Storage::Int16, Storage::Codes] {
        let embedder = Moody::new();
        let path = folder.path().join(storage.as_str());
        let builder = Collection::open(&path)
            .embedder(embedder.clone())
            .chunker(Arc::new(Lines))
            .storage(storage);
        let collection = builder.build().await.expect("opens");
        let lines: Vec<String> = (0..50).map(|number| document(number).text + "\n").collect();
        let text = |lines: &[String]| lines.concat();
        collection
            .add([Document::new("a", text(&lines))])
            .await
            .expect("added");
        assert_eq!(embedder.asked().len(), 50);
        let before = answers(&collection).await;
        // Other facts, the same words.
        let facts = Document::new("a", text(&lines)).with_metadata("year", 2026);
        let report = collection.add([facts]).await.expect("updated");
        assert_eq!((embedder.asked().len(), report.progress.chunks_reused), (0, 50));
        let after = answers(&collection).await;
        for ((id, score), (want, wanted)) in after.iter().zip(&before) {
            assert!(
                id == want && (score - wanted).abs() < 1e-6,
                "the same vectors: {id} {score}, {want} {wanted}"
            );
        }
        // One line changed, one moved to the end.
        let mut edited = lines.clone();
        edited[20] = "a new line about herons\n".to_owned();
        let moved = edited.remove(3);
        edited.push(moved);
        collection
            .add([Document::new("a", text(&edited))])
            .await
            .expect("updated");
        assert_eq!(embedder.asked(), ["line: a new line about herons\n"]);
        assert_eq!(collection.count(None).await.expect("count"), 50);
        collection.verify().await.expect("whole");
    }
}

#[tokio::test]
async fn progress_tells_rate_and_rest_by_the_clock_it_is_given() {
    let embedder = Moody::new();
    let collection = memory(&embedder).await;
    // Each look at the clock takes a tenth of a second.
    let now = Arc::new(AtomicU64::new(50));
    let clock = {
        let now = Arc::clone(&now);
        move || Duration::from_millis(now.fetch_add(100, Ordering::SeqCst))
    };
    let seen: Arc<Mutex<Vec<AddProgress>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let options = AddOptions::new()
        .chunks_per_commit(10)
        .clock(clock)
        .progress(move |event| {
            if let AddEvent::Progress(progress) = event {
                sink.lock().expect("free").push(progress.clone());
            }
        });
    let report = collection
        .add_with(documents(0..100), options)
        .await
        .expect("added");
    assert_eq!(
        report.progress.commits, 10,
        "a number of chunks is kept whatever the time"
    );
    let seen = seen.lock().expect("free").clone();
    assert!(seen.is_sorted_by(|left, right| left.elapsed < right.elapsed));
    let half = seen
        .iter()
        .find(|progress| progress.documents_done == 50)
        .expect("half way");
    let (rate, rest) = (
        half.chunks_per_second.expect("a rate"),
        half.remaining.expect("a rest"),
    );
    assert_eq!(rest, half.elapsed, "the second half takes as long as the first");
    assert!((rate * half.elapsed.as_secs_f64() - 50.0).abs() < 1e-6, "{rate}");
    assert_eq!(report.progress.remaining, Some(Duration::ZERO));

    // And by default a slow embedder's work is committed after five seconds.
    let collection = memory(&embedder).await;
    let steps = Arc::new(AtomicU64::new(0));
    let options =
        AddOptions::new().clock(move || Duration::from_millis(steps.fetch_add(500, Ordering::SeqCst)));
    let report = collection
        .add_with(documents(0..100), options)
        .await
        .expect("added");
    assert!(
        (5..=40).contains(&report.progress.commits),
        "{}",
        report.progress.commits
    );
    let quick = memory(&embedder).await;
    let options = AddOptions::new().clock(|| Duration::ZERO);
    let report = quick.add_with(documents(0..100), options).await.expect("added");
    assert_eq!(report.progress.commits, 1);
}

#[tokio::test]
async fn a_cursor_is_kept_over_every_commit_until_its_source_is_read_to_the_end() {
    let folder = tempfile::tempdir().expect("folder");
    let embedder = Moody::new();
    let collection = with(&embedder, folder.path()).await;
    let other = collection.scoped(Scope::new("other").expect("a name"));
    assert_eq!(collection.cursor("crawl").await.expect("read"), 0);
    embedder.fails_at.store(3, Ordering::SeqCst);
    let options = |done| AddOptions::new().chunks_per_commit(10).source("crawl", done);
    let error = collection
        .add_with(documents(0..60), options(0))
        .await
        .expect_err("the fourth batch fails");
    assert_eq!(
        (error.code(), collection.cursor("crawl").await.expect("read")),
        ("host", 30)
    );
    assert_eq!(
        other.cursor("crawl").await.expect("read"),
        0,
        "another tenant's is its own"
    );
    // Other writers come and go.
    collection.delete(["doc-1"]).await.expect("deleted");
    other
        .add_with(documents(0..5), AddOptions::new())
        .await
        .expect("added");
    collection.compact().await.expect("compacted");
    drop((collection, other));
    let collection = with(&embedder, folder.path()).await;
    let done = collection.cursor("crawl").await.expect("read");
    assert_eq!(done, 30);
    embedder.calls.store(0, Ordering::SeqCst);
    embedder.fails_at.store(1, Ordering::SeqCst);
    collection
        .add_with(documents(done..60), options(done))
        .await
        .expect_err("fails once more");
    assert_eq!(collection.cursor("crawl").await.expect("read"), 40);
    embedder.fails_at.store(u64::MAX, Ordering::SeqCst);
    collection
        .add_with(documents(40..60), options(40))
        .await
        .expect("to the end");
    assert_eq!(collection.cursor("crawl").await.expect("read"), 0);
    assert_eq!(collection.count(None).await.expect("count"), 59);
    let nameless = AddOptions::new().source("", 0);
    assert_eq!(
        collection
            .add_with(documents(0..1), nameless)
            .await
            .expect_err("refused")
            .code(),
        "invalid_input"
    );
}

#[tokio::test]
async fn a_chunker_by_meaning_reads_in_bounded_calls_and_cuts_the_same_each_time() {
    let text = (0..200)
        .map(|number| {
            let subject = ["herons water frogs fish", "banks money interest loans"][number / 20 % 2];
            format!("Sentence {number} tells of {subject}. ")
        })
        .collect::<Vec<String>>()
        .concat();
    let mut cuts = Vec::new();
    for _ in 0..2 {
        let embedder = Moody::new();
        let options = ChunkOptions::new().with_style(ChunkStyle::Meaning { percentile: 95 });
        let collection = Collection::in_memory()
            .embedder(embedder.clone())
            .chunks(options)
            .build()
            .await
            .expect("made");
        collection
            .add([Document::new("a", text.as_str())])
            .await
            .expect("added");
        assert!(
            embedder
                .asked
                .lock()
                .expect("free")
                .iter()
                .all(|call| call.len() <= 64)
        );
        assert!(embedder.asked().len() > 200, "probes and chunks");
        let coverage = collection.coverage("a").await.expect("there");
        assert!(coverage.is_whole(), "{coverage:?}");
        let hits = collection
            .search(&Query::new("sentence").top_k(100))
            .await
            .expect("hits");
        let mut spans: Vec<Range<usize>> = hits.into_iter().map(|hit| hit.chunk.span).collect();
        spans.sort_unstable_by_key(|span| span.start);
        cuts.push(spans);
        // The probes' vectors decide nothing that was decided before.
        let again = collection
            .add([Document::new("a", text.as_str())])
            .await
            .expect("skipped");
        assert_eq!(again.progress.documents_unchanged, 1);
    }
    assert_eq!(cuts[0], cuts[1]);
    let turns = cuts[0].iter().filter(|span| {
        let words = &text[span.start..];
        words.starts_with("Sentence")
            && words
                .split(' ')
                .nth(1)
                .is_some_and(|number| number.parse::<u64>().is_ok_and(|number| number % 20 == 0))
    });
    assert!(
        turns.count() >= 8,
        "chunks begin where the subject turns: {:?}",
        cuts[0]
    );
    let words_alone = Collection::in_memory()
        .chunks(ChunkOptions::new().with_style(ChunkStyle::Meaning { percentile: 95 }))
        .build()
        .await
        .expect("made");
    let report = words_alone.add([Document::new("a", text)]).await.expect("told");
    assert_eq!(report.failed[0].error.code(), "unsupported");
}

#[tokio::test]
async fn a_header_is_embedded_and_searched_but_not_shown() {
    let embedder = Moody::new();
    let mut builder = Collection::in_memory().embedder(embedder.clone());
    builder = builder.chunks(ChunkOptions::new().with_header_tokens(16));
    let collection = builder.build().await.expect("made");
    let guide = Document::new("a", "They swell when charged too fast.").with_title("Sodium cathodes");
    collection.add([guide, document(3)]).await.expect("added");
    assert_eq!(
        embedder.asked(),
        [
            "Sodium cathodes\nThey swell when charged too fast.".to_owned(),
            document(3).text
        ]
    );
    let query = Query::new("Sodium cathodes").top_k(1);
    for mode in [SearchMode::Dense, SearchMode::Lexical] {
        let hits = collection.search(&query.clone().mode(mode)).await.expect("hits");
        assert_eq!(hits[0].chunk.text, "They swell when charged too fast.");
    }
}

/// Runs in a process of its own: tells what a second process may do with a folder that is being written.
#[tokio::test]
async fn child_that_reads_and_tries_to_write() {
    let Some(folder) = std::env::var_os("STEPWELL_TEST_SECOND_FOLDER") else {
        return;
    };
    let collection = open(Path::new(&folder), &WordEmbedder::new(32)).await;
    let count = collection.count(None).await.expect("readers need no lock");
    let hits = collection
        .search(&Query::new(document(5).text).top_k(3))
        .await
        .expect("hits");
    let error = collection.add([document(900)]).await.err();
    let told = json!({
        "count": count,
        "best": hits[0].chunk.document_id,
        "code": error.as_ref().map(Error::code),
        "sentence": error.as_ref().map(ToString::to_string),
        "retryable": error.as_ref().map(Error::is_retryable),
    });
    std::fs::write(
        std::env::var_os("STEPWELL_TEST_SECOND_ANSWER").expect("a path"),
        told.to_string(),
    )
    .expect("told");
}

fn second_process(folder: &Path, answer: &Path) -> Value {
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["child_that_reads_and_tries_to_write", "--exact"])
        .env("STEPWELL_TEST_SECOND_FOLDER", folder)
        .env("STEPWELL_TEST_SECOND_ANSWER", answer)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the child runs");
    assert!(status.success());
    serde_json::from_slice(&std::fs::read(answer).expect("told")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_reads_while_one_writes_and_is_told_that_it_cannot_write() {
    let folder = tempfile::tempdir().expect("folder");
    let (index, answer) = (folder.path().join("index"), folder.path().join("answer"));
    let embedder = Moody::new();
    let collection = with(&embedder, &index).await;
    collection.add(documents(0..20)).await.expect("added");
    embedder.waits.store(true, Ordering::SeqCst);
    let calls = embedder.calls.load(Ordering::SeqCst);
    let writing = tokio::spawn({
        let collection = collection.clone();
        async move { collection.add(documents(20..40)).await }
    });
    // It holds the lock once it embeds.
    while embedder.calls.load(Ordering::SeqCst) == calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = {
        let (index, answer) = (index.clone(), answer.clone());
        tokio::task::spawn_blocking(move || second_process(&index, &answer))
            .await
            .expect("no panic")
    };
    assert_eq!(
        (&told["count"], &told["best"], &told["code"], &told["retryable"]),
        (&json!(20), &json!("doc-5"), &json!("locked"), &json!(true))
    );
    let sentence = told["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("is being written by another process or handle; wait until it ends"),
        "{sentence}"
    );
    // A clone of this handle waits for its turn instead.
    let waiting = tokio::spawn({
        let collection = collection.clone();
        async move { collection.add(documents(40..50)).await }
    });
    embedder.waits.store(false, Ordering::SeqCst);
    assert_eq!(
        writing
            .await
            .expect("no panic")
            .expect("added")
            .progress
            .documents_added,
        20
    );
    assert_eq!(
        waiting
            .await
            .expect("no panic")
            .expect("added")
            .progress
            .documents_added,
        10
    );
    drop(collection);
    let told = tokio::task::spawn_blocking(move || second_process(&index, &answer))
        .await
        .expect("no panic");
    assert_eq!(
        (&told["count"], &told["code"]),
        (&json!(50), &Value::Null),
        "the lock is free"
    );
}
