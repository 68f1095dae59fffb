//! Files against their checksums: a small index when it is opened, any on demand, and before it is written.
//!
//! Before a write, because a merge would give damaged postings a fresh checksum, and deletes would miss what they look for.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use stepwell_core::{Error, Result};
use tantivy::directory::error::OpenReadError;
use tantivy::{Directory, HasLen, Index};

use crate::error::Place;
use crate::snapshot::{RELOADS, Stamp};
use crate::vector::file::VectorFile;
use crate::vector::format::{EXTENSIONS, VectorSpec};

/// An index up to this size is read against its checksums when it is opened; `verify` does so at any size.
pub(crate) const CHECKED_AT_OPEN: u64 = 32 << 20;

/// Which files of an index this process has found whole. Their names are never used again for other content.
#[derive(Debug, Default)]
pub(crate) struct Checksums {
    whole: Mutex<HashSet<PathBuf>>,
}

impl Checksums {
    /// The first living file that does not match its checksum. Indexes above `limit` bytes are not read.
    pub(crate) fn damage(
        &self,
        index: &Index,
        specs: &[VectorSpec],
        place: &Place,
        limit: u64,
    ) -> Result<Option<Error>> {
        self.look(index, specs, place, |files| {
            // Not every listed file need exist (one without deletes has no `del`); the reader misses what it needs.
            let sizes = files.iter().map(|path| {
                index
                    .directory()
                    .open_read(path)
                    .map_or(0, |file| file.len() as u64)
            });
            if sizes.sum::<u64>() > limit {
                files.clear();
            }
        })
    }

    /// The same before a write: of files that were not looked at before. The vectors are compared when they are merged.
    pub(crate) fn check_before_write(
        &self,
        index: &Index,
        specs: &[VectorSpec],
        place: &Place,
    ) -> Result<()> {
        let damage = self.look(index, specs, place, |files| {
            let mut whole = self.lock();
            let living: HashSet<&PathBuf> = files.iter().collect();
            whole.retain(|path| living.contains(path));
            files.retain(|path| field_of(path).is_none() && !whole.contains(path));
        })?;
        damage.map_or(Ok(()), Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        // Names are put in one by one; a poisoned set has right ones.
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vector file whose rows match their own checksums passes: its graph is damaged, or what belongs to nothing.
    fn look(
        &self,
        index: &Index,
        specs: &[VectorSpec],
        place: &Place,
        choose: impl Fn(&mut Vec<PathBuf>),
    ) -> Result<Option<Error>> {
        for _ in 0..RELOADS {
            let before = Stamp::read(place);
            let metas = place.check("opening", index.load_metas())?;
            let mut files: Vec<PathBuf> = metas.list_segment_files().into_iter().collect();
            files.sort_unstable();
            choose(&mut files);
            let damage = files
                .iter()
                .find_map(|path| match index.directory().validate_checksum(path) {
                    Ok(true) => {
                        self.lock().insert(path.clone());
                        None
                    }
                    Err(OpenReadError::FileDoesNotExist(_)) => None,
                    Ok(false) if has_whole_rows(index, path, specs) => None,
                    Ok(false) => Some(
                        place.damaged(format!("the file {} does not match its checksum", path.display())),
                    ),
                    Err(error) => Some(place.explain("checking", &error.into())),
                });
            // A commit meanwhile may have taken files away; look again at its state.
            if damage.is_none() || before == Stamp::read(place) {
                return Ok(damage);
            }
        }
        Ok(None)
    }
}

/// The number of the vector field that a file belongs to.
fn field_of(path: &Path) -> Option<usize> {
    let extension = path.extension()?;
    EXTENSIONS.iter().position(|of_field| extension == *of_field)
}

fn has_whole_rows(index: &Index, path: &Path, specs: &[VectorSpec]) -> bool {
    let spec = field_of(path).and_then(|field| specs.get(field));
    spec.is_some_and(|spec| {
        index
            .directory()
            .open_read(path)
            .ok()
            .and_then(|file| file.read_bytes().ok())
            .and_then(|bytes| VectorFile::open(bytes, spec).ok())
            .is_some_and(|file| file.verify_rows().is_ok())
    })
}
