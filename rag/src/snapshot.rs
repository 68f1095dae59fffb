//! What a search looks at: a searcher and the vector file of each of its segments, opened together.
//!
//! A searcher does not hold the vector files: after a merge they are gone for whoever opens them late. So they are
//! opened right after a reload and kept; when one vanished in between, everything is read again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stepwell_core::Result;
use tantivy::directory::error::OpenReadError;
use tantivy::index::SegmentId;
use tantivy::{Index, IndexReader, ReloadPolicy, Searcher, TantivyError};

use crate::error::Place;
use crate::vector::file::VectorFile;
use crate::vector::format::VectorSpec;
use crate::vector::plugin::component;

/// Longer than the steps in which file systems count time.
const TICK: std::time::Duration = std::time::Duration::from_millis(25);
/// Blocks of stored chunks kept unpacked for each segment, of 16 KiB: up to some 10,000 chunks none is unpacked twice.
const STORE_BLOCKS: usize = 256;
/// How often a reload starts again when files vanish under it; each time means that a merge just ended.
pub(crate) const RELOADS: usize = 16;

/// One consistent state of an index; stays searchable whatever is committed or merged later.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) searcher: Searcher,
    /// One per segment, in the searcher's order.
    pub(crate) vectors: Vec<Arc<VectorFile>>,
    stamp: Option<Stamp>,
    /// Whether it was searched by words and by meaning before.
    warm: OnceLock<()>,
}

impl Snapshot {
    pub(crate) fn rows(&self) -> u64 {
        let readers = self.searcher.segment_readers().iter();
        readers.map(|reader| u64::from(reader.max_doc())).sum()
    }

    /// It was searched by words and by meaning: what a search reads is in memory.
    pub(crate) fn set_warm(&self) {
        self.warm.get_or_init(|| ());
    }
}

/// Tells whether meta.json is still the file that was read: it is only ever replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    modified: Option<std::time::SystemTime>,
    length: u64,
    inode: u64,
    /// Whether the clock has moved on since: within its last tick a second replacement could look the same.
    is_settled: bool,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        (self.modified, self.length, self.inode) == (other.modified, other.length, other.inode)
    }
}

impl Stamp {
    pub(crate) fn read(place: &Place) -> Option<Self> {
        let meta = std::fs::metadata(place.path()?.join("meta.json")).ok()?;
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
    spec: VectorSpec,
    place: Place,
    current: Mutex<Arc<Snapshot>>,
    /// Held while reading the index again, so that no reload overwrites a newer one.
    reloading: Mutex<()>,
}

enum Opened {
    Whole(Snapshot),
    Vanished(PathBuf),
}

impl Snapshots {
    pub(crate) fn open(index: &Index, spec: VectorSpec, place: Place) -> Result<Self> {
        let mut vanished = None;
        // Creating the reader loads the segments; they may vanish as in a reload.
        for _ in 0..RELOADS {
            let stamp = Stamp::read(&place);
            let reader = index
                .reader_builder()
                .reload_policy(ReloadPolicy::Manual)
                .doc_store_cache_num_blocks(STORE_BLOCKS)
                .try_into();
            let reader: IndexReader = match reader {
                Err(TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(path))) => {
                    vanished = Some(path);
                    continue;
                }
                other => place.check("opening", other)?,
            };
            match open_vectors(&reader, &spec, &place, None, stamp)? {
                Opened::Whole(snapshot) => {
                    return Ok(Self {
                        reader,
                        spec,
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

    /// The snapshot, if nothing was committed since it was searched last. Reads no more than the time of a file.
    pub(crate) fn if_warm(&self) -> Option<Arc<Snapshot>> {
        self.if_current().filter(|snapshot| snapshot.warm.get().is_some())
    }

    /// The snapshot, if nothing was committed since it was read.
    fn if_current(&self) -> Option<Arc<Snapshot>> {
        let current = self.current();
        let is_same =
            || Stamp::read(&self.place).is_some_and(|now| now.is_settled && Some(now) == current.stamp);
        (self.place.path().is_none() || is_same()).then_some(current)
    }

    /// Reads the index again.
    pub(crate) fn reload(&self) -> Result<Arc<Snapshot>> {
        let _alone = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_again()
    }

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
            match open_vectors(&self.reader, &self.spec, &self.place, Some(&current), stamp)? {
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
    spec: &VectorSpec,
    place: &Place,
    before: Option<&Snapshot>,
    stamp: Option<Stamp>,
) -> Result<Opened> {
    let searcher = reader.searcher();
    // A segment's id never names other content, so its open file can be kept.
    let known: HashMap<SegmentId, &Arc<VectorFile>> = before
        .map(|before| {
            before
                .searcher
                .segment_readers()
                .iter()
                .map(tantivy::SegmentReader::segment_id)
                .zip(&before.vectors)
                .collect()
        })
        .unwrap_or_default();
    let mut vectors = Vec::with_capacity(searcher.segment_readers().len());
    for segment in searcher.segment_readers() {
        if let Some(file) = known.get(&segment.segment_id()) {
            vectors.push(Arc::clone(file));
            continue;
        }
        let bytes = match segment.open_read(component()) {
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
        vectors.push(Arc::new(file));
    }
    Ok(Opened::Whole(Snapshot {
        searcher,
        vectors,
        stamp,
        warm: OnceLock::new(),
    }))
}
