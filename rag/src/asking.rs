//! [`Asking`]: a folder for tests, which asks before each of its calls whether that may be.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

/// It may fail, panic, or wait.
type Ask = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Asking {
    inner: MmapDirectory,
    ask: Ask,
}

impl Asking {
    pub(crate) fn new(folder: &Path, ask: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self {
            inner: MmapDirectory::open(folder).expect("a folder"),
            ask: Arc::new(ask),
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asking").field(&self.inner).finish()
    }
}

struct AskingFile {
    inner: WritePtr,
    ask: Ask,
}

impl Write for AskingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.ask)()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl TerminatingWrite for AskingFile {
    /// Where the file is brought to the disk (fsync).
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        (self.ask)()?;
        self.inner.terminate_ref(token)
    }
}

impl Directory for Asking {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        (self.ask)().map_err(|error| OpenReadError::wrap_io_error(error, path.to_owned()))?;
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        (self.ask)().map_err(|error| DeleteError::IoError {
            io_error: Arc::new(error),
            filepath: path.to_owned(),
        })?;
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        (self.ask)().map_err(|error| OpenWriteError::wrap_io_error(error, path.to_owned()))?;
        Ok(BufWriter::new(Box::new(AskingFile {
            inner: self.inner.open_write(path)?,
            ask: Arc::clone(&self.ask),
        })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        (self.ask)().map_err(|error| OpenReadError::wrap_io_error(error, path.to_owned()))?;
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        (self.ask)()?;
        self.inner.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        (self.ask)()?;
        self.inner.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        (self.ask)().map_err(|error| LockError::IoError(Arc::new(error)))?;
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}
