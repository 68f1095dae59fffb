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
    fs::remove_file(place.folder.path().join("a.txt")).expect("removed");
    assert_eq!(place.sync().await.removed, ["a.txt"]);
    assert_eq!(place.ids().await, ["by-hand", "other.txt"]);
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
