//! Merges beside commits: what is deleted meanwhile stays deleted, nobody waits, nothing is left lying about.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tantivy::schema::{Field, INDEXED, STORED, Schema, Value};

use super::*;
use crate::asking::Asking;
use crate::vector::file::VectorFile;
use crate::vector::format::{EXTENSION, Encoding, Metric, VectorSpec};
use crate::vector::plan::GraphOptions;
use crate::vector::plugin::{Graphs, VectorPlugin, component, field_bytes};
use crate::vector::rows::prepare;

/// Where merges stop until it is opened.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    moved: Condvar,
    /// How many came to it.
    came: Mutex<u32>,
}

impl Gate {
    fn set(&self, is_open: bool) {
        *self.is_open.lock().expect("whole") = is_open;
        self.moved.notify_all();
    }

    fn pass(&self) {
        if std::thread::current().name() != Some("stepwell-merge") {
            return;
        }
        *self.came.lock().expect("whole") += 1;
        let is_open = self.is_open.lock().expect("whole");
        let waited = self
            .moved
            .wait_timeout_while(is_open, Duration::from_mins(1), |is_open| !*is_open);
        assert!(!waited.expect("whole").1.timed_out(), "nobody opened the gate");
    }

    fn wait_for_somebody(&self) {
        for _ in 0..3_000 {
            if *self.came.lock().expect("whole") > 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no merge began in thirty seconds");
    }
}

const DIM: u32 = 8;

fn spec() -> VectorSpec {
    VectorSpec {
        dim: DIM,
        metric: Metric::Cosine,
        encoding: Encoding::CodesF32,
        fingerprint: [1; 16],
    }
}

fn vector(id: u64) -> Vec<f32> {
    let raw: Vec<f32> = (0..u64::from(DIM))
        .map(|at| ((id * 31 + at * 7) as f32 * 0.113).sin() + 0.01)
        .collect();
    prepare(&spec(), &raw).expect("finite")
}

/// An index of numbers, each with its vector.
struct Fixture {
    folder: Arc<tempfile::TempDir>,
    gate: Arc<Gate>,
    index: Index,
    writers: Arc<Writers>,
    id: Field,
    vector: Field,
}

impl Fixture {
    fn new() -> Self {
        Self::over(Arc::new(tempfile::tempdir().expect("a folder")))
    }

    /// As another process has it.
    fn over(folder: Arc<tempfile::TempDir>) -> Self {
        let gate = Arc::<Gate>::default();
        let passed = Arc::clone(&gate);
        let ask = move || {
            passed.pass();
            Ok(())
        };
        let disk = Disk::new(Box::new(Asking::new(folder.path(), ask)));
        let mut schema = Schema::builder();
        let id = schema.add_u64_field("id", INDEXED | STORED);
        let vector = schema.add_custom_field("vector", "test.vector", serde_json::json!({}));
        let graphs = Arc::new(Graphs::new(GraphOptions::default()));
        let stop = graphs.stop();
        let index = Index::builder()
            .schema(schema.build())
            .register_plugin(Arc::new(VectorPlugin::new(spec(), vector, EXTENSION, graphs)))
            .open_or_create(disk.clone())
            .expect("an index");
        let writers = Writers::new(&index, disk, &Place::folder(folder.path()), stop);
        Self {
            folder,
            gate,
            index,
            writers,
            id,
            vector,
        }
    }

    fn open(&self) -> Result<Writer> {
        self.writers
            .open(futures::executor::block_on(self.writers.turn())?)
    }

    fn term(&self, id: u64) -> Term {
        Term::from_field_u64(self.id, id)
    }

    fn change(&self, remove: &[u64], add: &[u64]) -> Change {
        let document = |id: &u64| {
            let mut document = TantivyDocument::new();
            document.add_u64(self.id, *id);
            document.add_custom(self.vector, &field_bytes(&vector(*id)));
            document
        };
        Change {
            remove: remove.iter().map(|id| self.term(*id)).collect(),
            add: add.iter().map(document).collect(),
        }
    }

    /// Six segments, which are due to be merged; the third has two rows, the others ten.
    fn six(&self) -> (Writer, BTreeSet<u64>) {
        let mut writer = self.open().expect("free");
        let mut living = BTreeSet::new();
        for part in 0..6 {
            let count = if part == 2 { 2 } else { 10 };
            let ids: Vec<u64> = (part * 10..part * 10 + count).collect();
            writer
                .commit([Ok(self.change(&[], &ids))], None)
                .expect("committed");
            living.extend(ids);
        }
        (writer, living)
    }

    fn segments(&self) -> usize {
        self.index.load_metas().expect("a list").segments.len()
    }

    /// Everything that lives is there once with its vector, and nothing else is.
    fn check_rows(&self, living: &BTreeSet<u64>) {
        let searcher = self.index.reader().expect("a reader").searcher();
        let mut seen = Vec::new();
        for (ordinal, reader) in searcher.segment_readers().iter().enumerate() {
            let file = reader.open_read(component(EXTENSION)).expect("there");
            let file = VectorFile::open(file.read_bytes().expect("bytes"), &spec()).expect("opens");
            file.verify_rows().expect("whole");
            for row in reader.doc_ids_alive() {
                let address = tantivy::DocAddress::new(ordinal as u32, row);
                let document: TantivyDocument = searcher.doc(address).expect("stored");
                let id = document
                    .get_first(self.id)
                    .and_then(|id| id.as_u64())
                    .expect("a number");
                assert_eq!(file.vector(row), Some(vector(id)), "{id}");
                seen.push(id);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, living.iter().copied().collect::<Vec<_>>());
    }

    /// That, and no file lies about.
    fn check(&self, living: &BTreeSet<u64>) {
        self.check_rows(living);
        let listed = self.index.load_metas().expect("a list").list_segment_files();
        for entry in std::fs::read_dir(self.folder.path()).expect("listed") {
            let name = PathBuf::from(entry.expect("an entry").file_name());
            let is_hidden = name.to_string_lossy().starts_with('.');
            assert!(
                is_hidden || name == Path::new(META) || listed.contains(&name),
                "{name:?}"
            );
        }
    }
}

#[test]
fn commits_and_deletes_go_on_beside_a_merge_and_are_in_what_it_makes() {
    let fixture = Fixture::new();
    let (mut writer, mut living) = fixture.six();
    fixture.gate.wait_for_somebody();
    // Of two segments some rows, of one all, and one that comes back.
    let gone = [3, 7, 20, 21, 45];
    writer
        .commit([Ok(fixture.change(&gone, &[]))], None)
        .expect("committed");
    writer
        .commit(
            [
                Ok(fixture.change(&[3], &[3, 100])),
                Ok(fixture.change(&[59], &[])),
            ],
            None,
        )
        .expect("committed");
    living.retain(|id| !gone.contains(id) && *id != 59);
    living.extend([3, 100]);
    assert_eq!(
        fixture.segments(),
        6,
        "five are left of the merge's, and a new one"
    );
    fixture.check_rows(&living);
    fixture.gate.set(true);
    writer.close();
    assert_eq!(fixture.segments(), 2, "what was merged, and what came meanwhile");
    fixture.check(&living);
    // Rows that were deleted meanwhile are deleted rows of what was merged.
    let metas = fixture.index.load_metas().expect("a list").segments;
    let deleted: Vec<u32> = metas.iter().map(SegmentMeta::num_deleted_docs).collect();
    assert_eq!(deleted, [6, 0]);
    let mut writer = fixture.open().expect("free");
    writer.compact().expect("merged");
    writer.close();
    assert_eq!(fixture.segments(), 1);
    fixture.check(&living);
}

#[test]
fn whatever_is_deleted_beside_merges_is_deleted_after_them() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let mut writer = fixture.open().expect("free");
    let (mut living, mut next, mut noise) = (BTreeSet::new(), 0, 7_u64);
    let mut merged = 0;
    for round in 0..120 {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let gone: Vec<u64> = living
            .iter()
            .copied()
            .filter(|id| (noise >> (id % 48)) % 8 == 0)
            .collect();
        let new: Vec<u64> = (next..next + 5 + (noise >> 60)).collect();
        next += new.len() as u64;
        let before = fixture.segments();
        writer
            .commit([Ok(fixture.change(&gone, &new))], None)
            .expect("committed");
        merged += u32::from(fixture.segments() < before);
        living.retain(|id| !gone.contains(id));
        living.extend(new);
        if round % 40 == 39 {
            writer.close();
            fixture.check(&living);
            assert!(fixture.segments() < SEGMENTS_PER_MERGE, "no merge failed");
            writer = fixture.open().expect("free");
        }
    }
    assert!(merged > 5, "{merged} merges");
    writer.compact().expect("merged");
    writer.close();
    fixture.check(&living);
}

#[test]
fn a_writer_that_is_dropped_gives_its_merge_up_and_keeps_the_lock_until_that_has_ended() {
    let fixture = Fixture::new();
    let (writer, mut living) = fixture.six();
    fixture.gate.wait_for_somebody();
    drop(writer);
    // As another process sees it.
    let lock = || fixture.index.directory().acquire_lock(&INDEX_WRITER_LOCK).is_ok();
    assert!(!lock(), "its files are still being written");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| fixture.open());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!next.is_finished(), "it waits for the merge");
        fixture.gate.set(true);
        let mut next = next.join().expect("no panic").expect("opened");
        fixture.check(&living);
        assert_eq!(fixture.segments(), 6, "what was given up changed nothing");
        next.commit([Ok(fixture.change(&[], &[200]))], None)
            .expect("committed");
        next.close();
    });
    assert!(lock());
    assert!(fixture.segments() < 6, "the next writer merged");
    living.insert(200);
    fixture.check(&living);
}

#[test]
fn a_change_that_fails_leaves_the_writer_and_the_index_as_they_were() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let mut writer = fixture.open().expect("free");
    writer
        .commit([Ok(fixture.change(&[], &[1, 2]))], None)
        .expect("committed");
    let failed = [
        Ok(fixture.change(&[1], &[3])),
        Err(stepwell_core::Error::internal("told to the test only")),
    ];
    assert_eq!(
        writer.commit(failed, None).expect_err("failed").code(),
        "internal"
    );
    fixture.check_rows(&BTreeSet::from([1, 2]));
    writer
        .commit([Ok(fixture.change(&[2], &[4]))], None)
        .expect("committed");
    writer.close();
    fixture.check(&BTreeSet::from([1, 4]));
}

#[test]
fn plain_tantivy_reads_and_writes_on_what_this_writer_made_and_the_other_way_round() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let mut writer = fixture.open().expect("free");
    writer
        .commit([Ok(fixture.change(&[], &[1, 2, 3]))], None)
        .expect("committed");
    writer
        .commit([Ok(fixture.change(&[2], &[4]))], None)
        .expect("committed");
    writer.close();
    // It reads the list of what may be deleted when it is opened, and never again.
    let mut plain: tantivy::IndexWriter = Fixture::over(Arc::clone(&fixture.folder))
        .index
        .writer_with_num_threads(1, 15_000_000)
        .expect("free");
    for document in fixture.change(&[], &[5, 6]).add {
        plain.add_document(document).expect("queued");
    }
    plain.delete_term(fixture.term(1));
    plain.commit().expect("committed");
    plain.wait_merging_threads().expect("ended");
    fixture.check(&BTreeSet::from([3, 4, 5, 6]));
    let mut writer = fixture.open().expect("free");
    writer
        .commit([Ok(fixture.change(&[3, 5], &[7]))], None)
        .expect("committed");
    writer.compact().expect("merged");
    writer.close();
    fixture.check(&BTreeSet::from([4, 6, 7]));
}

#[test]
fn what_another_process_left_is_deleted_by_whoever_writes_next() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let mut writer = fixture.open().expect("free");
    writer
        .commit([Ok(fixture.change(&[], &[1, 2]))], None)
        .expect("committed");
    writer.close();
    // Another one writes, and is killed while it writes on.
    let other = Fixture::over(Arc::clone(&fixture.folder));
    other.gate.set(true);
    let mut writer = other.open().expect("free");
    writer
        .commit([Ok(other.change(&[1], &[3]))], None)
        .expect("committed");
    writer
        .commit([Ok(other.change(&[2], &[4]))], None)
        .expect("committed");
    let files = || std::fs::read_dir(fixture.folder.path()).expect("listed").count();
    let before = files();
    let mut part = Part::open(&writer.index).expect("opened");
    part.add(other.change(&[], &[5]).add).expect("added");
    part.close().expect("written, and nothing refers to it");
    assert!(files() > before + 4, "{before} {}", files());
    writer.finish(true);
    drop(writer);
    let mut writer = fixture.open().expect("free");
    fixture.check(&BTreeSet::from([3, 4]));
    writer.compact().expect("merged");
    writer.close();
    fixture.check(&BTreeSet::from([3, 4]));
}

#[test]
fn nothing_is_deleted_where_the_list_does_not_name_our_files() {
    let fixture = Fixture::new();
    fixture.gate.set(true);
    let mut writer = fixture.open().expect("free");
    writer
        .commit([Ok(fixture.change(&[], &[1, 2]))], None)
        .expect("committed");
    writer.close();
    let meta = fixture.folder.path().join(META);
    let text = std::fs::read_to_string(&meta).expect("text");
    let (_, text) = text.split_once("\",").expect("a seal");
    let whole = format!("{{{text}");
    let named = format!("\"{EXTENSION}\"");
    assert_eq!(whole.matches(&named).count(), 1, "{whole}");
    for list in [whole.replace(&named, ""), whole.replace(&named, "\"swx\"")] {
        std::fs::write(&meta, list).expect("written");
        assert_eq!(fixture.open().err().expect("refused").code(), "damaged");
    }
    std::fs::write(&meta, whole).expect("written");
    fixture.check(&BTreeSet::from([1, 2]));
    fixture.open().expect("free again").close();
    fixture.check(&BTreeSet::from([1, 2]));
}
