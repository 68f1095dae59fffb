//! What does not go well: wrong folders, other embedders, damaged files, killed processes.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use stepwell_core::{Query, SearchMode};
use stepwell_rag::{AddOptions, Collection, Language};
use support::{WordEmbedder, document, documents, open};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// Opens, searches in each mode, lists and counts: the answers, or the code of the first error.
async fn answers(folder: &Path) -> Result<Vec<String>, String> {
    let embedder = WordEmbedder::new(24);
    let work = async {
        let collection = Collection::open(folder).embedder(embedder).build().await?;
        let mut answers = Vec::new();
        for mode in [SearchMode::Hybrid, SearchMode::Dense, SearchMode::Lexical] {
            for hit in collection
                .search(&Query::new(document(5).text).mode(mode).top_k(20))
                .await?
            {
                answers.push(format!("{} {:.4} {}", hit.chunk.id, hit.score, hit.chunk.text));
            }
        }
        for entry in collection.documents().await? {
            answers.push(format!("{entry:?}"));
        }
        answers.push(collection.count(None).await?.to_string());
        Ok::<_, stepwell_core::Error>(answers)
    };
    work.await.map_err(|error| {
        assert!(!error.to_string().contains('\n'), "one sentence: {error}");
        error.code().to_owned()
    })
}

async fn sample(folder: &Path) -> Vec<String> {
    let collection = open(folder, &WordEmbedder::new(24)).await;
    collection
        .add_with(documents(0..40), AddOptions::new().chunks_per_commit(16))
        .await
        .expect("added");
    collection.delete(["doc-3", "doc-30"]).await.expect("deleted");
    drop(collection);
    answers(folder).await.expect("a whole index")
}

#[tokio::test]
async fn a_flipped_bit_in_any_file_is_an_error_or_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let want = sample(folder.path()).await;
    let (mut errors, mut same) = (0, 0);
    for path in files(folder.path()) {
        let name = path.file_name().expect("a name").to_owned();
        let length = std::fs::metadata(&path).expect("there").len();
        // Beginning, end, and places between; each a different bit.
        let mut places: Vec<u64> = (0..24).map(|step| step * length / 24).collect();
        places.extend([length.saturating_sub(1), length.saturating_sub(20), 1, 9]);
        for (turn, place) in places.into_iter().filter(|place| *place < length).enumerate() {
            let broken = tempfile::tempdir().expect("folder");
            copy(folder.path(), broken.path());
            let mut bytes = std::fs::read(&path).expect("readable");
            bytes[usize::try_from(place).expect("small")] ^= 1 << (turn % 8);
            std::fs::write(broken.path().join(&name), bytes).expect("written");
            match answers(broken.path()).await {
                Ok(got) => {
                    assert_eq!(got, want, "{} at byte {place}", name.display());
                    same += 1;
                }
                Err(code) => {
                    let is_known = ["damaged", "foreign", "unknown_version", "embedder_mismatch", "io"]
                        .contains(&code.as_str());
                    assert!(is_known, "{} at byte {place}: {code}", name.display());
                    errors += 1;
                }
            }
        }
    }
    assert!(errors > 100, "{errors} errors, {same} the same");
}

#[tokio::test]
async fn a_file_cut_short_or_missing_is_an_error_or_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let want = sample(folder.path()).await;
    for path in files(folder.path()) {
        let name = path.file_name().expect("a name").to_owned();
        let bytes = std::fs::read(&path).expect("readable");
        for keep in [
            Some(0),
            Some(bytes.len().min(1)),
            Some(bytes.len() / 2),
            Some(bytes.len().saturating_sub(1)),
            None,
        ] {
            let broken = tempfile::tempdir().expect("folder");
            copy(folder.path(), broken.path());
            let target = broken.path().join(&name);
            match keep {
                Some(length) => std::fs::write(&target, &bytes[..length]).expect("written"),
                None => std::fs::remove_file(&target).expect("removed"),
            }
            match answers(broken.path()).await {
                Ok(got) => assert_eq!(got, want, "{} cut to {keep:?}", name.display()),
                Err(code) => {
                    let is_known = ["damaged", "foreign", "io"].contains(&code.as_str());
                    assert!(is_known, "{} cut to {keep:?}: {code}", name.display());
                }
            }
        }
    }
}

#[tokio::test]
async fn verify_names_a_damaged_vector_file() {
    let folder = tempfile::tempdir().expect("folder");
    sample(folder.path()).await;
    let collection = open(folder.path(), &WordEmbedder::new(24)).await;
    collection.verify().await.expect("whole");
    let path = files(folder.path())
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "swv"))
        .expect("a vector file");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[600] ^= 4;
    std::fs::write(&path, bytes).expect("written");
    let error = collection.verify().await.expect_err("damaged");
    assert_eq!(error.code(), "damaged");
    assert!(error.to_string().contains(".swv"), "{error}");
}

#[tokio::test]
async fn folders_that_are_not_ours_are_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let build = |path: PathBuf| async move { Collection::open(path).build().await.map(drop) };
    let full = folder.path().join("full");
    std::fs::create_dir(&full).expect("made");
    std::fs::write(full.join("thesis.txt"), "words").expect("written");
    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("made");
    std::fs::write(other.join("meta.json"), r#"{"name":"a web page"}"#).expect("written");
    let file = folder.path().join("file");
    std::fs::write(&file, "words").expect("written");
    for path in [full.clone(), other, file.clone(), file.join("below")] {
        let error = build(path.clone()).await.expect_err("foreign");
        assert_eq!(error.code(), "foreign", "{}: {error}", path.display());
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(files(&full).len(), 1, "nothing was written there");
    assert_eq!(
        build(PathBuf::new()).await.expect_err("no path").code(),
        "invalid_input"
    );
    build(folder.path().join("new/deep"))
        .await
        .expect("a new folder is made");
}

#[tokio::test]
async fn an_index_of_another_embedder_is_refused_and_without_one_it_can_be_read() {
    let folder = tempfile::tempdir().expect("folder");
    sample(folder.path()).await;
    for other in [WordEmbedder::new(32), WordEmbedder::named("other", 24)] {
        let error = Collection::open(folder.path())
            .embedder(other)
            .build()
            .await
            .expect_err("another");
        assert_eq!(error.code(), "embedder_mismatch");
        assert!(error.to_string().contains("test/words@1:24"), "{error}");
    }
    let error = Collection::open(folder.path())
        .language(Language::French)
        .build()
        .await
        .expect_err("another");
    assert_eq!(error.code(), "invalid_input");
    let reader = Collection::open(folder.path()).build().await.expect("readable");
    let hits = reader
        .search(&Query::new(document(5).text))
        .await
        .expect("by words");
    assert_eq!(
        (
            hits[0].chunk.document_id.as_str(),
            hits[0].explanation.stage.as_str()
        ),
        ("doc-5", "lexical")
    );
    let vector = WordEmbedder::new(24).vector(&document(5).text);
    let hits = reader
        .search(&Query::new("").vector(vector))
        .await
        .expect("by a given vector");
    assert_eq!(hits[0].chunk.document_id, "doc-5");
    let error = reader.add([document(99)]).await.expect_err("no embedder");
    assert_eq!(error.code(), "unsupported");
    assert_eq!(reader.delete(["doc-5"]).await.expect("deleting needs none"), 1);
}

/// The child of the next test: adds until it is killed.
#[tokio::test]
async fn child_that_adds_until_it_is_killed() {
    let Ok(folder) = std::env::var("STEPWELL_TEST_KILL_FOLDER") else {
        return;
    };
    let collection = open(Path::new(&folder), &WordEmbedder::new(24)).await;
    for round in 0..u64::MAX {
        // New documents, new versions of old ones, deletes and merges: every kind of write.
        let from = round * 20;
        collection
            .add_with(documents(from..from + 20), AddOptions::new().chunks_per_commit(4))
            .await
            .expect("added");
        collection.delete([format!("doc-{from}")]).await.expect("deleted");
        if round % 4 == 3 {
            collection.compact().await.expect("compacted");
        }
    }
}

#[tokio::test]
async fn a_process_killed_at_any_moment_leaves_whole_documents_and_a_free_lock() {
    let folder = tempfile::tempdir().expect("folder");
    let mut before = 0;
    for turn in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["child_that_adds_until_it_is_killed", "--exact", "--nocapture"])
            .env("STEPWELL_TEST_KILL_FOLDER", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        // Opening alone takes some of it; the odd steps fall on different writes.
        std::thread::sleep(Duration::from_millis(120 + turn * 37));
        child.kill().expect("killed");
        child.wait().expect("ended");

        let embedder = WordEmbedder::new(24);
        let collection = open(folder.path(), &embedder).await;
        collection.verify().await.expect("every file is whole");
        let entries = collection.documents().await.expect("listed");
        for entry in &entries {
            let number: u64 = entry.id[4..].parse().expect("a number");
            assert_eq!(
                (entry.content_hash.clone(), entry.chunks),
                (document(number).content_hash(), 1)
            );
        }
        assert_eq!(collection.count(None).await.expect("count"), entries.len() as u64);
        for entry in entries.iter().step_by(17) {
            let number: u64 = entry.id[4..].parse().expect("a number");
            let query = Query::new(document(number).text).mode(SearchMode::Dense).top_k(1);
            let hits = collection.search(&query).await.expect("hits");
            assert_eq!(hits[0].chunk.document_id, entry.id);
            assert!(hits[0].score > 0.999);
        }
        // The lock died with the process.
        collection
            .add([document(1_000_000 + turn)])
            .await
            .expect("writable");
        assert!(
            entries.len() as u64 + 20 > before,
            "{} after {before}",
            entries.len()
        );
        before = entries.len() as u64;
    }
    assert!(before > 20, "the children did write: {before}");
}
