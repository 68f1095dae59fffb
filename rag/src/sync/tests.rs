//! A folder as it is in life: good files, bad files, changes, and a person who pulls the plug.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use stepwell_core::{
    EmbedKind, Embedder, EmbedderInfo, Embeddings, HeuristicTokens, Query, TokenCounter, Usage,
};
use tempfile::TempDir;

use super::*;

/// Vectors from letters, and a count of the texts they were made for.
#[derive(Debug)]
struct Letters {
    info: EmbedderInfo,
    texts: AtomicU64,
}

impl Letters {
    fn new() -> Arc<Self> {
        let info = EmbedderInfo::new("test", "letters", "1", 8, 256, false);
        Arc::new(Self {
            info,
            texts: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl Embedder for Letters {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: EmbedKind) -> Result<Embeddings> {
        self.texts.fetch_add(texts.len() as u64, Ordering::Relaxed);
        let mut values = Vec::new();
        for text in texts {
            let mut row = [1.0_f32; 8];
            for byte in text.bytes() {
                row[usize::from(byte % 8)] += 1.0;
            }
            values.extend(row);
        }
        Embeddings::new(8, values, Usage::default())
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::new(HeuristicTokens)
    }
}

struct Place {
    folder: TempDir,
    embedder: Arc<Letters>,
    collection: Collection,
}

impl Place {
    async fn new() -> Self {
        let embedder = Letters::new();
        let collection = Collection::in_memory()
            .embedder(embedder.clone())
            .build()
            .await
            .expect("a collection");
        Self {
            folder: TempDir::new().expect("a folder"),
            embedder,
            collection,
        }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    async fn sync(&self) -> SyncReport {
        self.collection
            .sync([self.folder.path()], SyncOptions::new())
            .await
            .expect("synced")
    }

    async fn plan(&self) -> SyncPlan {
        self.collection
            .plan_sync([self.folder.path()], SyncOptions::new())
            .await
            .expect("planned")
    }

    async fn ids(&self) -> Vec<String> {
        self.collection
            .documents()
            .await
            .expect("listed")
            .into_iter()
            .map(|entry| entry.id)
            .collect()
    }

    fn embedded(&self) -> u64 {
        self.embedder.texts.swap(0, Ordering::Relaxed)
    }
}

fn told(report: &SyncReport) -> BTreeMap<&str, &str> {
    report
        .skipped
        .iter()
        .map(|file| {
            (
                file.uri.rsplit('/').next().unwrap_or_default(),
                file.reason.as_str(),
            )
        })
        .collect()
}

#[tokio::test]
async fn only_what_changed_is_embedded() {
    let place = Place::new().await;
    place.write("a.md", "# Alpha\n\nThe first file.");
    place.write("b/c.txt", "The second file.");
    let first = place.sync().await;
    assert_eq!(
        (
            first.progress.files_added,
            first.progress.files_total,
            place.embedded()
        ),
        (2, 2, 2)
    );
    let again = place.sync().await;
    assert_eq!(
        (
            again.progress.files_unchanged,
            again.progress.commits,
            place.embedded()
        ),
        (2, 0, 0)
    );
    place.write("a.md", "# Alpha\n\nThe first file, changed.");
    place.write("d.txt", "A third.");
    fs::remove_file(place.folder.path().join("b/c.txt")).expect("removed");
    let third = place.sync().await;
    let counts = &third.progress;
    assert_eq!(
        (
            counts.files_added,
            counts.files_updated,
            counts.files_unchanged,
            counts.documents_removed
        ),
        (1, 1, 0, 1)
    );
    assert_eq!((third.removed, place.embedded()), (vec!["b/c.txt".to_owned()], 2));
    assert_eq!(place.ids().await, ["a.md", "d.txt"]);
    let hits = place
        .collection
        .search(&Query::new("changed file").top_k(1))
        .await
        .expect("found");
    assert_eq!(hits[0].chunk.document_id, "a.md");
    assert!(
        hits[0]
            .chunk
            .uri
            .as_deref()
            .is_some_and(|uri| uri.ends_with("/a.md"))
    );
}

#[tokio::test]
async fn what_came_from_elsewhere_stays() {
    let place = Place::new().await;
    place
        .collection
        .add([Document::new("by-hand", "Added by a program.")])
        .await
        .expect("added");
    let other = TempDir::new().expect("a folder");
    fs::write(other.path().join("other.txt"), "Of another folder.").expect("a file");
    place
        .collection
        .sync([other.path()], SyncOptions::new())
        .await
        .expect("synced");
    place.write("a.txt", "Of this folder.");
    place.sync().await;
    place.write("b.txt", "Of this folder too.");
    place.sync().await;
    fs::remove_file(place.folder.path().join("a.txt")).expect("removed");
    assert_eq!(place.sync().await.removed, ["a.txt"]);
    assert_eq!(place.ids().await, ["b.txt", "by-hand", "other.txt"]);
}

#[tokio::test]
async fn a_folder_with_everything_wrong_in_it_is_told_line_by_line() {
    let place = Place::new().await;
    place.write("good.md", "# Good\n\nThis one is read.");
    place.write("empty.md", "");
    place.write("blank.txt", " \n\n ");
    place.write("binary.txt", [0x7F, b'E', b'L', b'F', 0, 1, 2, 3, 0, 0, 0, 9]);
    let wide: Vec<u8> = "Sixteen bits for each letter."
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    place.write("utf16.txt", [b"\xFF\xFE".as_slice(), &wide].concat());
    place.write(
        "big.txt",
        "Thirty megabytes of the same words. ".repeat((30 << 20) / 36),
    );
    if cfg!(feature = "pdf") {
        place.write("broken.pdf", "%PDF-1.7\nand then nothing of use");
    }
    #[cfg(unix)]
    {
        let at = |name: &str| place.folder.path().join(name);
        std::os::unix::fs::symlink(place.folder.path(), at("loop")).expect("a link");
        std::os::unix::fs::symlink(at("nowhere"), at("gone.md")).expect("a link");
    }
    let report = place.sync().await;
    let told = told(&report);
    let mut wanted = BTreeMap::from([
        ("empty.md", "empty file"),
        ("blank.txt", "no text in it"),
        ("binary.txt", "binary, not text"),
        (
            "big.txt",
            "its text is over the limit of 8 MiB; split it, or raise `text_bytes` of the load limits",
        ),
    ]);
    if cfg!(feature = "pdf") {
        wanted.insert("broken.pdf", "broken PDF: no table of its objects");
    }
    if cfg!(unix) {
        wanted.extend([
            ("loop", "symbolic link loop"),
            ("gone.md", "broken symbolic link"),
        ]);
    }
    assert_eq!(told, wanted);
    assert_eq!(place.ids().await, ["good.md", "utf16.txt"]);
    let progress = &report.progress;
    assert_eq!(
        (progress.files_done, progress.files_total),
        (
            progress.files_total,
            progress.files_added + progress.files_skipped - if cfg!(unix) { 2 } else { 0 }
        )
    );
}

#[tokio::test]
async fn thirty_megabytes_of_text_are_loaded_and_cut() {
    use crate::chunk::{ChunkOptions, Chunker};
    let place = Place::new().await;
    place.write(
        "big.txt",
        "Thirty megabytes of the same words. ".repeat((30 << 20) / 36),
    );
    let found = find_files([place.folder.path()]).expect("found");
    let limits = LoadLimits::default().with_text_bytes(64 << 20);
    let document = found.files[0].load(&limits).expect("loaded");
    let chunker = Chunker::new(ChunkOptions::default(), Arc::new(HeuristicTokens)).expect("room");
    let chunks = chunker.chunk(&document).expect("cut");
    assert!(
        chunks.len() > 25_000
            && chunks
                .last()
                .is_some_and(|chunk| chunk.span.end == document.text.len()),
        "{}",
        chunks.len()
    );
}

#[tokio::test]
async fn a_file_that_breaks_takes_its_old_words_with_it() {
    let place = Place::new().await;
    place.write("a.txt", "Once true.");
    place.sync().await;
    place.write("a.txt", [0, 1, 2, 3]);
    let report = place.sync().await;
    assert_eq!(told(&report)["a.txt"], "binary, not text");
    assert_eq!(report.removed, ["a.txt"]);
    assert!(place.ids().await.is_empty());
}

#[tokio::test]
async fn a_pulled_plug_keeps_what_was_committed_and_the_next_sync_goes_on() {
    let place = Place::new().await;
    for number in 0..40 {
        place.write(&format!("{number:02}.txt"), format!("File number {number}."));
    }
    let cancel = Cancel::new();
    let pull = cancel.clone();
    let options = SyncOptions::new()
        .chunks_per_commit(4)
        .cancel(cancel)
        .progress(move |event| {
            if matches!(event, SyncEvent::Progress(progress) if progress.commits == 3) {
                pull.cancel();
            }
        });
    let error = place
        .collection
        .sync([place.folder.path()], options)
        .await
        .expect_err("cancelled");
    assert_eq!(error.code(), "cancelled");
    let kept = place.ids().await.len() as u64;
    assert!((12..40).contains(&kept), "{kept}");
    place.embedded();
    let rest = place.sync().await;
    assert_eq!(
        (
            rest.progress.files_unchanged,
            rest.progress.files_added,
            place.embedded()
        ),
        (kept, 40 - kept, 40 - kept)
    );
}

#[tokio::test]
async fn documents_cut_otherwise_are_read_again() {
    let folder = TempDir::new().expect("a folder");
    let docs = TempDir::new().expect("a folder");
    fs::write(docs.path().join("a.txt"), "Some words to be cut. ".repeat(100)).expect("a file");
    let mut counts = Vec::new();
    for max_tokens in [256, 256, 64] {
        let embedder = Letters::new();
        let options = crate::ChunkOptions::new()
            .with_max_tokens(max_tokens)
            .with_overlap_tokens(8);
        let collection = Collection::open(folder.path())
            .embedder(embedder.clone())
            .chunks(options)
            .build()
            .await
            .expect("opened");
        let report = collection
            .sync([docs.path()], SyncOptions::new())
            .await
            .expect("synced");
        counts.push((
            report.progress.files_updated + report.progress.files_added,
            report.progress.files_unchanged,
        ));
    }
    assert_eq!(counts, [(1, 0), (0, 1), (1, 0)]);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_told_before_anything_happens() {
    let place = Place::new().await;
    let error = place
        .collection
        .sync(["no/such/folder"], SyncOptions::new())
        .await
        .expect_err("missing");
    assert_eq!(error.code(), "not_found");
}

#[tokio::test]
async fn a_moved_file_costs_no_embedding_and_its_document_follows() {
    let place = Place::new().await;
    place.write("a.md", "# Alpha\n\nThe first file.");
    place.write("b.md", "The second file.");
    place.sync().await;
    place.embedded();
    let at = |name: &str| place.folder.path().join(name);
    fs::create_dir_all(at("deep/er")).expect("folders");
    fs::rename(at("a.md"), at("deep/er/A.md")).expect("moved");
    // A change of case alone is a move as well.
    fs::rename(at("b.md"), at("B.md")).expect("moved");
    let moved = |from: &str, to: &str| RenamedFile {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let wanted = [moved("b.md", "B.md"), moved("a.md", "deep/er/A.md")];
    let plan = place.plan().await;
    assert_eq!(plan.renamed, wanted);
    let report = place.sync().await;
    assert_eq!(report.renamed, wanted);
    let progress = &report.progress;
    assert_eq!(
        (
            progress.files_renamed,
            progress.files_updated,
            progress.documents_removed,
            progress.chunks_reused
        ),
        (2, 0, 0, 2)
    );
    assert_eq!(
        (place.embedded(), place.ids().await),
        (0, vec!["B.md".to_owned(), "deep/er/A.md".to_owned()])
    );
    let hits = place
        .collection
        .search(&Query::new("first file").top_k(1))
        .await
        .expect("found");
    let chunk = &hits[0].chunk;
    assert_eq!(
        (chunk.document_id.as_str(), chunk.id.as_str()),
        ("deep/er/A.md", "deep/er/A.md#0")
    );
    assert!(
        chunk
            .uri
            .as_deref()
            .is_some_and(|uri| uri.ends_with("deep/er/A.md"))
    );
    place.collection.verify().await.expect("whole");
    // A copy has the same words: its vectors are at hand too.
    place.embedded();
    fs::copy(at("B.md"), at("copy.md")).expect("copied");
    let report = place.sync().await;
    assert_eq!((report.added, place.embedded()), (vec!["copy.md".to_owned()], 0));
}

#[tokio::test]
async fn a_folder_that_lost_everything_is_told_before_anything_is_deleted() {
    let place = Place::new().await;
    place.write("a.txt", "One.");
    place.write("b.txt", "Two.");
    place.sync().await;
    for name in ["a.txt", "b.txt"] {
        fs::remove_file(place.folder.path().join(name)).expect("removed");
    }
    let sync = |options| place.collection.sync([place.folder.path()], options);
    let error = sync(SyncOptions::new()).await.expect_err("told");
    assert_eq!(error.code(), "invalid_input");
    assert!(
        error
            .to_string()
            .contains("2 documents came from it; check that it is mounted"),
        "{error}"
    );
    let planned = place
        .collection
        .plan_sync([place.folder.path()], SyncOptions::new())
        .await;
    assert_eq!(planned.expect_err("told").to_string(), error.to_string());
    assert_eq!(place.ids().await.len(), 2, "nothing was deleted");
    let kept = sync(SyncOptions::new().removes(false))
        .await
        .expect("nothing to do");
    assert!(kept.removed.is_empty());
    let report = sync(SyncOptions::new().allows_empty(true))
        .await
        .expect("meant so");
    assert_eq!(report.removed, ["a.txt", "b.txt"]);
    // A folder that is gone itself.
    let gone = place.folder.path().join("gone");
    let error = place.collection.sync([gone], SyncOptions::new()).await;
    assert_eq!(error.expect_err("missing").code(), "not_found");
}

#[tokio::test]
async fn documents_cut_otherwise_are_deleted_with_their_files_too() {
    let (folder, docs) = (
        TempDir::new().expect("a folder"),
        TempDir::new().expect("a folder"),
    );
    for name in ["a.txt", "b.txt"] {
        fs::write(docs.path().join(name), "Some words to be cut. ".repeat(50)).expect("a file");
    }
    for max_tokens in [256, 64] {
        let collection = Collection::open(folder.path())
            .embedder(Letters::new())
            .chunks(
                crate::ChunkOptions::new()
                    .with_max_tokens(max_tokens)
                    .with_overlap_tokens(8),
            )
            .build()
            .await
            .expect("opened");
        let report = collection
            .sync([docs.path()], SyncOptions::new())
            .await
            .expect("synced");
        if max_tokens == 64 {
            assert_eq!(
                (report.removed, report.updated),
                (vec!["b.txt".to_owned()], vec!["a.txt".to_owned()])
            );
        }
        let _ = fs::remove_file(docs.path().join("b.txt"));
    }
}

#[tokio::test]
async fn a_file_that_is_written_to_all_the_time_is_never_indexed_torn() {
    let place = Place::new().await;
    let path = place.folder.path().join("busy.txt");
    let version = |letter: &str| letter.repeat(200_000);
    fs::write(&path, version("a")).expect("a file");
    let stop = Cancel::new();
    let writer = std::thread::spawn({
        let (path, stop) = (path.clone(), stop.clone());
        move || {
            while !stop.is_cancelled() {
                for letter in ["b", "c"] {
                    fs::write(&path, version(letter)).expect("written");
                }
            }
        }
    });
    let limits = LoadLimits::default();
    for _ in 0..200 {
        let found = find_files([place.folder.path()]).expect("found");
        match steady_content(&found.files[0], &limits) {
            Ok(content) => {
                let first = content.bytes.first().copied();
                assert!(
                    content.bytes.is_empty() || content.bytes.len() == 200_000,
                    "{}",
                    content.bytes.len()
                );
                assert!(
                    content.bytes.iter().all(|byte| Some(*byte) == first),
                    "two versions in one"
                );
            }
            Err(error) => assert!(
                error.to_string().contains("it changes while it is read"),
                "{error}"
            ),
        }
    }
    stop.cancel();
    writer.join().expect("the writer ends");
    fs::write(&path, version("d")).expect("at rest");
    let found = find_files([place.folder.path()]).expect("found");
    let content = steady_content(&found.files[0], &limits).expect("at rest");
    assert_eq!(content.bytes.len(), 200_000);
}

/// A folder that anything may happen to, and what should be in the index.
struct Chaos {
    state: u64,
    /// Names and texts of the readable files.
    files: BTreeMap<String, String>,
}

impl Chaos {
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    fn any_file(&mut self) -> Option<String> {
        let place = self.below(self.files.len().max(2) as u64 - 1) as usize;
        let mut names = self.files.keys().filter(|name| *name != "always.txt");
        names.nth(place).cloned()
    }

    fn name(&mut self) -> String {
        let folders = ["", "one/", "one/two/", "Three/"];
        let folder = folders[self.below(4) as usize];
        // Elsewhere the two may be one file.
        let cases = if cfg!(target_os = "linux") { 2 } else { 1 };
        format!(
            "{folder}{}{}.txt",
            ["f", "F"][self.below(cases) as usize],
            self.below(12)
        )
    }

    /// One change of the folder.
    fn step(&mut self, place: &Place) {
        let at = |name: &str| place.folder.path().join(name);
        let name = self.name();
        match self.below(9) {
            // A few texts recur, so that copies and moves back happen.
            0..=2 => {
                let text = format!("The text of number {}, some words.", self.below(30));
                place.write(&name, &text);
                self.files.insert(name, text);
            }
            3 | 4 => {
                if let Some(from) = self.any_file().filter(|from| *from != name) {
                    fs::create_dir_all(at(&name).parent().expect("inside")).expect("a folder");
                    fs::rename(at(&from), at(&name)).expect("moved");
                    let text = self.files.remove(&from).expect("there");
                    self.files.insert(name, text);
                }
            }
            5 => {
                if let Some(gone) = self.any_file() {
                    fs::remove_file(at(&gone)).expect("removed");
                    self.files.remove(&gone);
                }
            }
            6 => {
                if let (Some(one), Some(two)) = (self.any_file(), self.any_file()) {
                    let (left, right) = (self.files[&one].clone(), self.files[&two].clone());
                    place.write(&one, &right);
                    place.write(&two, &left);
                    // The same file twice keeps what was written last.
                    self.files.insert(one, right);
                    self.files.insert(two, left);
                }
            }
            7 => {
                place.write(&name, [0, 1, 2, 3, 0, 0]);
                self.files.remove(&name);
            }
            _ => {
                if let Some(from) = self.any_file().filter(|from| *from != name) {
                    fs::create_dir_all(at(&name).parent().expect("inside")).expect("a folder");
                    fs::copy(at(&from), at(&name)).expect("copied");
                    let text = self.files[&from].clone();
                    self.files.insert(name, text);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_plan_tells_exactly_what_the_sync_then_does() {
    let (mut renames, mut removals, mut skips) = (0, 0, 0);
    for seed in 1..=25_u64 {
        let place = Place::new().await;
        place.write("always.txt", "This one stays.");
        let mut chaos = Chaos {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            files: BTreeMap::from([("always.txt".to_owned(), "This one stays.".to_owned())]),
        };
        for round in 0..5 {
            for _ in 0..=chaos.below(8) {
                chaos.step(&place);
            }
            let plan = place.plan().await;
            let before = place.ids().await;
            let report = place.sync().await;
            let done = SyncPlan {
                added: report.added.clone(),
                updated: report.updated.clone(),
                renamed: report.renamed.clone(),
                removed: report.removed.clone(),
                unchanged: report.progress.files_unchanged,
                skipped: report.skipped.clone(),
            };
            assert_eq!(plan, done, "seed {seed}, round {round}");
            let progress = &report.progress;
            assert_eq!(
                (
                    progress.files_added,
                    progress.files_updated,
                    progress.files_renamed,
                    progress.documents_removed
                ),
                (
                    plan.added.len() as u64,
                    plan.updated.len() as u64,
                    plan.renamed.len() as u64,
                    plan.removed.len() as u64
                ),
                "seed {seed}, round {round}"
            );
            assert_eq!(
                progress.files_done, progress.files_total,
                "seed {seed}, round {round}"
            );
            // The index holds what the folder does, word for word.
            let ids = place.ids().await;
            assert_eq!(
                ids,
                chaos.files.keys().cloned().collect::<Vec<_>>(),
                "seed {seed}, round {round}"
            );
            for (id, text) in &chaos.files {
                let hits = place
                    .collection
                    .search(
                        &Query::new(text.as_str()).filter(stepwell_core::Filter::Documents {
                            ids: vec![id.clone()],
                        }),
                    )
                    .await
                    .expect("found");
                assert_eq!(hits.len(), 1);
                assert_eq!((&hits[0].chunk.text, &hits[0].chunk.document_id), (text, id));
            }
            // What was only moved or copied costs nothing.
            let known: BTreeSet<&String> = before.iter().collect();
            assert!(plan.renamed.iter().all(|renamed| known.contains(&renamed.from)));
            let again = place.plan().await;
            assert_eq!(
                (
                    again.added.len(),
                    again.updated.len(),
                    again.renamed.len(),
                    again.removed.len()
                ),
                (0, 0, 0, 0),
                "seed {seed}, round {round}"
            );
            renames += plan.renamed.len();
            removals += plan.removed.len();
            skips += plan.skipped.len();
        }
        place.collection.verify().await.expect("whole");
    }
    assert!(
        renames > 10 && removals > 10 && skips > 10,
        "{renames} {removals} {skips}"
    );
}
