//! kill -9 at any moment of ingest, merge and delete: what was acknowledged is found by text and by vector, once.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stepwell_core::{Document, Query, SearchMode};
use stepwell_rag::{AddOptions, Collection, GraphOptions, Storage, VectorField, WholeDocuments};
use support::{Seeded, WordEmbedder, document};

const PLACE: &str = "STEPWELL_TEST_KILL_FOLDER";
const ROUND: &str = "STEPWELL_TEST_KILL_ROUND";
/// Chunks that are there from the start; half of them are replaced and deleted as the children go.
const BASE: u64 = 10_000;

/// The embedder of the second field.
fn small() -> Arc<WordEmbedder> {
    WordEmbedder::named("small", 16)
}

async fn open(folder: &Path, merge_rows: u32) -> Collection {
    Collection::open(folder)
        .embedder(WordEmbedder::new(24))
        .vector_field(VectorField::new("small", small()).storage(Storage::F32))
        .chunker(Arc::new(WholeDocuments))
        .graph(GraphOptions::new().merge_rows(merge_rows))
        .build()
        .await
        .expect("the folder opens")
}

/// A version of a document, which alone has the word of its number and version.
fn versioned(number: u64, version: u64) -> Document {
    let mut document = document(number);
    document.text = format!("{} unique{number}v{version}", document.text);
    document.with_metadata("version", version)
}

/// What the child told: an id and the version that stands there, 0 for none.
type State = BTreeMap<u64, u64>;

/// Adds, replaces, deletes and merges; tells of each before (`try`) and after (`done`).
#[tokio::test]
#[ignore = "the child that the kill test starts"]
async fn child_that_writes_until_it_is_killed() {
    let folder = std::env::var_os(PLACE).expect("started by the kill test");
    let round: u64 = std::env::var(ROUND)
        .ok()
        .and_then(|round| round.parse().ok())
        .expect("a round");
    // Building graphs takes most of a merge; without them some merges end before the child does.
    let merge_rows = if round.is_multiple_of(4) { 4_000 } else { u32::MAX };
    let collection = open(Path::new(&folder), merge_rows).await;
    let mut seed = Seeded::new(round * 7_919 + 3);
    let say = |word: &str, changes: &[(u64, u64)]| {
        let changes: Vec<String> = changes
            .iter()
            .map(|(id, version)| format!("{id}:{version}"))
            .collect();
        println!("{word} {}", changes.join(" "));
        std::io::stdout().flush().expect("the parent listens");
    };
    println!("ready");
    for turn in 1_u64.. {
        let version = round * 1_000 + turn;
        // Old and new ones, every commit in a batch of a few.
        let ids: Vec<u64> = (0..12)
            .map(|_| seed.below(BASE / 2) * 2 + seed.below(2) * BASE)
            .collect();
        let changes: BTreeMap<u64, u64> = ids.iter().map(|id| (*id, version)).collect();
        let changes: Vec<(u64, u64)> = changes.into_iter().collect();
        say("try", &changes);
        let documents = changes.iter().map(|(id, version)| versioned(*id, *version));
        collection
            .add_with(
                documents.collect::<Vec<_>>(),
                AddOptions::new().chunks_per_commit(5),
            )
            .await
            .expect("added");
        say("done", &changes);
        let gone: Vec<(u64, u64)> = ids.iter().step_by(3).map(|id| (*id, 0)).collect();
        say("try", &gone);
        collection
            .delete(gone.iter().map(|(id, _)| format!("doc-{id}")))
            .await
            .expect("deleted");
        say("done", &gone);
        if turn % 5 == 2 {
            collection.compact().await.expect("compacted");
        }
    }
}

/// Starts a child and kills it after so long: what it has done for sure, and what it was about to do.
fn one_life(folder: &Path, round: u64, life: Duration, state: &mut State) -> State {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "child_that_writes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(PLACE, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in lines.by_ref() {
        if line.expect("text").ends_with("ready") {
            break;
        }
    }
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        child.kill().expect("killed");
        child.wait().expect("ended");
    });
    let mut trying = State::new();
    for line in lines {
        let Ok(line) = line else { break };
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let changes: Option<Vec<(u64, u64)>> = rest
            .split(' ')
            .map(|change| {
                let (id, version) = change.split_once(':')?;
                Some((id.parse().ok()?, version.parse().ok()?))
            })
            .collect();
        match (word, changes) {
            ("try", Some(changes)) => trying = changes.into_iter().collect(),
            ("done", Some(changes)) => {
                trying.clear();
                state.extend(changes);
            }
            // The last line may be cut.
            _ => {}
        }
    }
    killer.join().expect("the child is gone");
    trying
}

#[tokio::test]
async fn whatever_was_acknowledged_is_found_once_after_kill_nine() {
    let is_long = std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1");
    let rounds = if is_long { 1_000 } else { 50 };
    let folder = tempfile::tempdir().expect("a folder");
    let mut state: State = (0..BASE).map(|number| (number, 1)).collect();
    {
        let collection = open(folder.path(), 4_000).await;
        let base = (0..BASE).map(|number| versioned(number, 1));
        collection.add(base.collect::<Vec<_>>()).await.expect("added");
        collection.compact().await.expect("compacted");
    }
    let (embedder, small) = (WordEmbedder::new(24), small());
    let mut seed = Seeded::new(99);
    let (mut slowest, mut unsure, mut acknowledged) = (Duration::ZERO, 0, 0_u64);
    for round in 1..=rounds {
        let before = state.clone();
        // Some live long enough to end a merge of everything.
        let longest = if round % 10 == 5 { 2_500 } else { 300 };
        let life = Duration::from_millis(seed.below(longest));
        let trying = one_life(folder.path(), round, life, &mut state);
        unsure += usize::from(!trying.is_empty());
        let start = Instant::now();
        let collection = open(folder.path(), 4_000).await;
        let first = collection
            .search(&Query::new("word1").mode(SearchMode::Lexical))
            .await
            .expect("hits");
        slowest = slowest.max(start.elapsed());
        assert_eq!(first.len(), 10);
        collection.verify().await.expect("every file is whole");
        let mut listed: BTreeMap<u64, (String, u64)> = BTreeMap::new();
        for entry in collection.documents().await.expect("listed") {
            let id = entry.id[4..].parse().expect("a number");
            assert!(
                listed.insert(id, (entry.content_hash, entry.chunks)).is_none(),
                "{id} twice"
            );
        }
        // What was about to happen has happened to each document as a whole, or not.
        for (id, version) in trying {
            let is_done = match listed.get(&id) {
                Some((hash, _)) => version > 0 && *hash == versioned(id, version).content_hash(),
                None => version == 0,
            };
            if is_done {
                state.insert(id, version);
            }
        }
        for (id, version) in &state {
            let want = (*version > 0).then(|| (versioned(*id, *version).content_hash(), 1));
            assert_eq!(
                listed.remove(id),
                want,
                "round {round}: document {id} at version {version}"
            );
        }
        assert!(listed.is_empty(), "nobody added {listed:?}");
        let living = state.values().filter(|version| **version > 0).count();
        assert_eq!(collection.count(None).await.expect("counts"), living as u64);
        // All that changed in this life by text and by vector, and some of the rest.
        let changed = state
            .iter()
            .filter(|(id, version)| before.get(*id) != Some(*version));
        let changed: Vec<(u64, u64)> = changed.map(|(id, version)| (*id, *version)).collect();
        acknowledged += changed.len() as u64;
        let rest = state.iter().skip(seed.below(300) as usize).step_by(331);
        for (id, version) in changed
            .into_iter()
            .chain(rest.map(|(id, version)| (*id, *version)))
        {
            let text = versioned(id, version.max(1)).text;
            let word = text.rsplit(' ').next().expect("the last word").to_owned();
            let by_text = collection
                .search(&Query::new(word).mode(SearchMode::Lexical).top_k(5))
                .await
                .expect("hits");
            assert_eq!(
                by_text.len(),
                usize::from(version > 0),
                "round {round}: {id} by text"
            );
            if version == 0 {
                continue;
            }
            assert_eq!(by_text[0].chunk.document_id, format!("doc-{id}"));
            let query = Query::new("").mode(SearchMode::Dense).top_k(3);
            let queries = [
                query.clone().vector(embedder.vector(&text)),
                query.vector_field("small").vector(small.vector(&text)),
            ];
            for query in queries {
                let by_vector = collection.search(&query).await.expect("hits");
                let own = by_vector
                    .iter()
                    .filter(|hit| hit.chunk.document_id == format!("doc-{id}"))
                    .count();
                assert_eq!(own, 1, "round {round}: {id} by {:?}", query.vector_field);
                assert!(by_vector[0].score > 0.999);
            }
        }
    }
    println!(
        "{rounds} kills, {unsure} within a call, {acknowledged} changes found, slowest open {slowest:?}"
    );
    assert!(acknowledged > 100, "the children came to write");
    assert!(
        slowest < Duration::from_secs(1),
        "{slowest:?} to open {BASE} chunks"
    );
}
