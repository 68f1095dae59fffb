//! What a search looks at: a searcher, and the vector file and the stored chunks of each of its segments, opened together.
//!
//! A searcher does not hold the vector files: after a merge they are gone for whoever opens them late. So they are
//! opened right after a reload and kept; when one vanished in between, everything is read again. Chunks are read past the
//! searcher as well: its own readers forget at each reload what they unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stepwell_core::Result;
use tantivy::directory::OwnedBytes;
use tantivy::directory::error::OpenReadError;
use tantivy::index::SegmentId;
use tantivy::store::StoreReader;
use tantivy::{Index, IndexReader, ReloadPolicy, Searcher, TantivyError};

use crate::disk::META;
use crate::error::Place;
use crate::vector::file::VectorFile;
use crate::vector::format::{EXTENSION, EXTENSIONS, VectorSpec};
use crate::vector::plugin::component;

/// Longer than the steps in which file systems count time.
const TICK: std::time::Duration = std::time::Duration::from_millis(25);
/// Stored chunks are packed in blocks of so many bytes. A hit unpacks its whole block: in tantivy's usual 16 KiB the first
/// questions over 10,000 passages took .78 ms each and later ones .52, in 4 KiB .52 and .48, for 23 bytes more a passage. 2 KiB
/// took 2 % off again, for 21 bytes.
pub(crate) const STORE_BLOCK: usize = 2 << 10;
/// Blocks kept unpacked for each segment: enough for who reads rows one after the other. Hits lie anywhere, and unpacking a
/// block costs no more than finding it in memory that was not read for long.
const STORE_BLOCKS: usize = 16;
/// How often a reload starts again when files vanish under it; each time means that a merge just ended.
pub(crate) const RELOADS: usize = 16;

/// A larger index is not read ahead of its questions.
const WARM_BYTES: u64 = 64 << 20;
/// The files of a segment that a plain question reads, by tantivy's endings and ours.
const READ_AHEAD: [&str; 5] = ["term", "idx", "fieldnorm", EXTENSION, "store"];

/// One consistent state of an index; stays searchable whatever is committed or merged later.
pub(crate) struct Snapshot {
    pub(crate) searcher: Searcher,
    /// By vector field, then by segment in the searcher's order.
    pub(crate) vectors: Vec<Vec<Arc<VectorFile>>>,
    /// One per segment, in that order.
    stored: Vec<Arc<StoreReader>>,
    stamp: Option<Stamp>,
    /// Whether somebody reads ahead, or did.
    is_warming: AtomicBool,
    /// Whether all that a plain question reads was read.
    is_warm: AtomicBool,
}

impl Snapshot {
    pub(crate) fn rows(&self) -> u64 {
        let readers = self.searcher.segment_readers().iter();
        readers.map(|reader| u64::from(reader.max_doc())).sum()
    }

    /// What tantivy stores of a row.
    pub(crate) fn stored(&self, (segment, row): (u32, u32), place: &Place) -> Result<OwnedBytes> {
        let reader = self.stored.get(segment as usize);
        let reader = reader.ok_or_else(|| place.damaged("a row lies in no segment"))?;
        place.check("reading", reader.get_document_bytes(row))
    }

    /// Has all that a plain question may read come into memory, beside the runtime; once. A question reads its own words
    /// alone: the next one would still wait for the disk.
    pub(crate) fn warm_up(self: Arc<Self>, place: &Place) {
        if !self.is_warming.swap(true, Ordering::Relaxed) {
            let place = place.clone();
            tokio::task::spawn_blocking(move || {
                let is_read = place
                    .path()
                    .is_none_or(|folder| self.read_ahead(folder).is_some());
                self.is_warm.store(is_read, Ordering::Release);
            });
        }
    }

    /// `None` where there is too much, or what cannot be read. The files are read, and not the memory they are mapped to:
    /// nobody waits for this, and a file that somebody cuts short meanwhile would end the process there.
    fn read_ahead(&self, folder: &Path) -> Option<()> {
        let mut left = WARM_BYTES;
        for segment in self.searcher.segment_readers() {
            let id = segment.segment_id().uuid_string();
            for part in READ_AHEAD {
                let mut file = File::open(folder.join(format!("{id}.{part}"))).ok()?;
                left = left.checked_sub(file.metadata().ok()?.len())?;
                std::io::copy(&mut file, &mut std::io::sink()).ok()?;
            }
        }
        Some(())
    }
}

/// Tells whether meta.json is still the file that was read: it is only ever replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    modified: Option<std::time::SystemTime>,
    length: u64,
    inode: u64,
    /// Whether the clock had moved on when it was read: within its last tick another replacement could look the same.
    is_settled: bool,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        (self.modified, self.length, self.inode) == (other.modified, other.length, other.inode)
    }
}

impl Stamp {
    /// Whether `now`, read later, shows that nothing replaced the file meanwhile.
    fn still_holds(&self, now: &Self) -> bool {
        self.is_settled && self == now
    }

    pub(crate) fn read(place: &Place) -> Option<Self> {
        Self::of(&place.path()?.join(META))
    }

    fn of(file: &Path) -> Option<Self> {
        let meta = std::fs::metadata(file).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&meta);
        #[cfg(not(unix))]
        let inode = 0;
        let modified = meta.modified().ok();
        // A time in the future is a wrong clock; it will not settle by waiting.
        let age = modified.and_then(|modified| modified.elapsed().ok());
        Some(Self {
            modified,
            length: meta.len(),
            inode,
            is_settled: age.is_none_or(|age| age > TICK),
        })
    }
}

/// Keeps the newest snapshot.
pub(crate) struct Snapshots {
    reader: IndexReader,
    /// One per vector field.
    specs: Vec<VectorSpec>,
    place: Place,
    /// The file that each commit replaces; `None` in memory.
    meta: Option<PathBuf>,
    current: Mutex<Arc<Snapshot>>,
    /// Held while reading the index again, so that no reload overwrites a newer one.
    reloading: Mutex<()>,
}

enum Opened {
    Whole(Snapshot),
    Vanished(PathBuf),
}

impl Snapshots {
    pub(crate) fn open(index: &Index, specs: Vec<VectorSpec>, place: Place) -> Result<Self> {
        let mut vanished = None;
        // Creating the reader loads the segments; they may vanish as in a reload.
        for _ in 0..RELOADS {
            let stamp = Stamp::read(&place);
            let reader = index
                .reader_builder()
                .reload_policy(ReloadPolicy::Manual)
                .doc_store_cache_num_blocks(0)
                .try_into();
            let reader: IndexReader = match reader {
                Err(TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(path))) => {
                    vanished = Some(path);
                    continue;
                }
                other => place.check("opening", other)?,
            };
            match open_vectors(&reader, &specs, &place, None, stamp)? {
                Opened::Whole(snapshot) => {
                    return Ok(Self {
                        reader,
                        specs,
                        meta: place.path().map(|folder| folder.join(META)),
                        place,
                        current: Mutex::new(Arc::new(snapshot)),
                        reloading: Mutex::new(()),
                    });
                }
                Opened::Vanished(path) => vanished = Some(path),
            }
        }
        Err(missing(&place, vanished))
    }

    fn current(&self) -> Arc<Snapshot> {
        // Only an `Arc` is swapped under the lock; a poisoned one is whole.
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest committed state, also when another process or handle committed it. Blocks while it reloads.
    pub(crate) fn latest(&self) -> Result<Arc<Snapshot>> {
        if let Some(current) = self.if_current() {
            return Ok(current);
        }
        let _alone = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        // Another search may have read it again meanwhile.
        match self.if_current() {
            Some(current) => Ok(current),
            None => self.read_again(),
        }
    }

    /// The snapshot, if nothing was committed since it was read ahead. Reads no more than the time of a file.
    pub(crate) fn if_warm(&self) -> Option<Arc<Snapshot>> {
        self.if_current()
            .filter(|snapshot| snapshot.is_warm.load(Ordering::Acquire))
    }

    /// The snapshot, if nothing was committed since it was read.
    fn if_current(&self) -> Option<Arc<Snapshot>> {
        let current = self.current();
        let is_same = |meta: &PathBuf| {
            let stamps = current.stamp.zip(Stamp::of(meta));
            stamps.is_some_and(|(read, now)| read.still_holds(&now))
        };
        self.meta.as_ref().is_none_or(is_same).then_some(current)
    }

    /// Reads the index again after a commit. One that cannot be read right now is committed all the same: the next question
    /// reads it again, and tells.
    pub(crate) fn follow(&self) -> Result<()> {
        let _alone = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read_again() {
            // In memory nobody would notice that there is something newer.
            Err(error) if self.meta.is_some() => {
                tracing::warn!(code = error.code(), "what was committed cannot be read yet");
                Ok(())
            }
            read => read.map(drop),
        }
    }

    /// Reads the index again; the lock is in hand.
    fn read_again(&self) -> Result<Arc<Snapshot>> {
        let mut vanished = None;
        for _ in 0..RELOADS {
            let stamp = Stamp::read(&self.place);
            match self.reader.reload() {
                Err(TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(path))) => {
                    vanished = Some(path);
                    continue;
                }
                other => self.place.check("reading", other)?,
            }
            let current = self.current();
            match open_vectors(&self.reader, &self.specs, &self.place, Some(&current), stamp)? {
                Opened::Whole(snapshot) => {
                    let snapshot = Arc::new(snapshot);
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&snapshot);
                    return Ok(snapshot);
                }
                Opened::Vanished(path) => vanished = Some(path),
            }
        }
        Err(missing(&self.place, vanished))
    }
}

fn missing(place: &Place, path: Option<PathBuf>) -> stepwell_core::Error {
    place.damaged(format!(
        "the file {} is missing",
        path.unwrap_or_default().display()
    ))
}

fn open_vectors(
    reader: &IndexReader,
    specs: &[VectorSpec],
    place: &Place,
    before: Option<&Snapshot>,
    stamp: Option<Stamp>,
) -> Result<Opened> {
    let searcher = reader.searcher();
    // A segment's id never names other content, so its open files can be kept.
    let known: HashMap<SegmentId, usize> = before
        .map(|before| {
            let segments = before.searcher.segment_readers().iter().enumerate();
            segments.map(|(at, segment)| (segment.segment_id(), at)).collect()
        })
        .unwrap_or_default();
    let mut vectors: Vec<Vec<Arc<VectorFile>>> = vec![Vec::new(); specs.len()];
    let mut stored = Vec::new();
    for segment in searcher.segment_readers() {
        let kept = known.get(&segment.segment_id()).zip(before);
        for (field, spec) in specs.iter().enumerate() {
            if let Some((at, before)) = kept {
                vectors[field].push(Arc::clone(&before.vectors[field][*at]));
                continue;
            }
            let bytes = match segment.open_read(component(EXTENSIONS[field])) {
                Err(OpenReadError::FileDoesNotExist(path)) => return Ok(Opened::Vanished(path)),
                Err(error) => return Err(place.explain("opening", &error.into())),
                Ok(file) => file
                    .read_bytes()
                    .map_err(|error| place.explain("opening", &error.into()))?,
            };
            let file = VectorFile::open(bytes, spec).map_err(|error| place.bad_format(&error))?;
            if file.rows() != segment.max_doc() {
                return Err(place.damaged("a vector file has not as many rows as its segment"));
            }
            vectors[field].push(Arc::new(file));
        }
        if let Some((at, before)) = kept {
            stored.push(Arc::clone(&before.stored[*at]));
            continue;
        }
        let chunks = segment.get_store_reader(STORE_BLOCKS).map_err(TantivyError::from);
        stored.push(Arc::new(place.check("opening", chunks)?));
    }
    Ok(Opened::Whole(Snapshot {
        searcher,
        vectors,
        stored,
        stamp,
        is_warming: AtomicBool::new(false),
        is_warm: AtomicBool::new(false),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Stamp;

    #[test]
    fn a_stamp_read_in_the_tick_of_a_replacement_does_not_tell_that_there_was_no_other() {
        let stamp = |is_settled, length| Stamp {
            modified: Some(std::time::SystemTime::UNIX_EPOCH),
            length,
            inode: 7,
            is_settled,
        };
        assert!(stamp(true, 900).still_holds(&stamp(true, 900)));
        assert!(!stamp(false, 900).still_holds(&stamp(true, 900)));
        assert!(!stamp(true, 900).still_holds(&stamp(true, 901)));

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("meta.json");
        std::fs::write(&file, "{}").expect("written");
        std::thread::sleep(Duration::from_millis(50));
        let read = Stamp::of(&file).expect("there");
        assert!(read.still_holds(&Stamp::of(&file).expect("there")));
        let other = folder.path().join("other");
        std::fs::write(&other, "{}").expect("written");
        std::fs::rename(&other, &file).expect("replaced");
        assert!(!read.still_holds(&Stamp::of(&file).expect("there")));
    }
}
