//! [`Output`]: where a merge writes, a directory that looks empty and lists nothing.
//!
//! tantivy merges segments into an index of its own. Here the files of that index go to the folder of the one they come
//! from, and its list stays in memory: the writer puts the segment into the real list when it will.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, ManagedDirectory, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

use crate::disk::{Disk, META};
use crate::stop::Stop;

/// The list of files that tantivy may delete.
const MANAGED: &str = ".managed.json";

/// The files that a merge reads and writes: no list need refer to them while it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<HashSet<PathBuf>>>);

impl Held {
    /// Paths are put in one by one; a poisoned set has right ones.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub(super) struct Output {
    /// The folder as it is.
    disk: Disk,
    /// The same folder, with checksums and the list of what may be deleted.
    managed: ManagedDirectory,
    held: Held,
    stop: Stop,
    meta: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Output {
    pub(super) fn new(disk: Disk, managed: ManagedDirectory, held: Held, stop: Stop) -> Self {
        Self {
            disk,
            managed,
            held,
            stop,
            meta: Arc::default(),
        }
    }

    fn meta(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.disk).finish()
    }
}

fn check(stop: &Stop) -> io::Result<()> {
    if stop.is_set() {
        return Err(io::Error::other("the merge was given up"));
    }
    Ok(())
}

fn is(path: &Path, name: &str) -> bool {
    path == Path::new(name)
}

impl Directory for Output {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.disk.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.disk.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        if is(path, META) {
            return Ok(self.meta().is_some());
        }
        self.disk.exists(path)
    }

    /// The checksum is put to the file by whoever calls this, so it must not be put to it here as well. But the file has to
    /// stand in the folder's list before it is there: else, after a crash, nobody would delete it.
    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let failed = |error: io::Error| OpenWriteError::wrap_io_error(error, path.to_owned());
        check(&self.stop).map_err(failed)?;
        self.held.lock().insert(path.to_owned());
        drop(self.managed.open_write(path)?);
        match self.managed.delete(path) {
            Ok(()) | Err(DeleteError::FileDoesNotExist(_)) => {}
            Err(DeleteError::IoError { io_error, .. }) => {
                return Err(failed(io::Error::new(io_error.kind(), io_error.to_string())));
            }
        }
        let file = self.disk.open_write(path)?.into_inner();
        Ok(BufWriter::new(Box::new(Stoppable {
            file: file.map_err(|error| failed(error.into_error()))?,
            stop: self.stop.clone(),
        })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let missing = || OpenReadError::FileDoesNotExist(path.to_owned());
        if is(path, MANAGED) {
            return Err(missing());
        }
        if is(path, META) {
            return self.meta().clone().ok_or_else(missing);
        }
        self.disk.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        if is(path, META) {
            *self.meta() = Some(data.to_owned());
            return Ok(());
        }
        if is(path, MANAGED) {
            return Ok(());
        }
        self.disk.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.disk.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.disk.watch(callback)
    }
}

/// A file whose writing ends when nobody waits for it.
struct Stoppable {
    file: Box<dyn TerminatingWrite + Send + Sync>,
    stop: Stop,
}

impl Write for Stoppable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check(&self.stop)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for Stoppable {
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        check(&self.stop)?;
        self.file.terminate_ref(token)
    }
}
