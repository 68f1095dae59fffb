//! [`Disk`]: what lies below tantivy, which it trusts more than it should.
//!
//! tantivy puts a checksum to every file but the one that lists the others, `meta.json`. There, one flipped bit can turn the
//! name of a key that may be absent into another, and what was deleted is back. So that file is sealed here. It stays JSON:
//! the checksum is one key more, which tantivy passes over. A file without one is read as it is: an index made before, or
//! by somebody else. Beside that, a panic below is kept from tantivy's locks, and a full disk is remembered: some of
//! tantivy's errors keep no more of their reason than its words.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, io};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, TerminatingWrite, WatchCallback, WatchHandle,
    WritePtr,
};

use crate::error::is_full;

/// The file that lists the others.
pub(crate) const META: &str = "meta.json";
/// What a sealed file begins with; 32 digits, a quote and a comma follow.
const BEGIN: &[u8] = br#"{"seal":""#;
const DIGITS: usize = 32;

/// A directory, and what is said above.
pub(crate) struct Disk {
    inner: Box<dyn Directory>,
    /// Whether a write failed because there was no room.
    full: Arc<AtomicBool>,
}

impl Disk {
    pub(crate) fn new(inner: Box<dyn Directory>) -> Self {
        Self {
            inner,
            full: Arc::default(),
        }
    }

    /// Whether a write failed because there was no room, since this was asked last.
    pub(crate) fn take_full(&self) -> bool {
        self.full.swap(false, Ordering::SeqCst)
    }
}

impl Clone for Disk {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.box_clone(),
            full: Arc::clone(&self.full),
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.inner).finish()
    }
}

fn is_meta(path: &Path) -> bool {
    path == Path::new(META)
}

fn seal_of(json: &[u8]) -> String {
    blake3::hash(json).to_hex()[..DIGITS].to_owned()
}

/// The file with its seal; anything but an object stays as it is.
fn seal(json: &[u8]) -> Vec<u8> {
    let Some(rest) = json.strip_prefix(b"{") else {
        return json.to_vec();
    };
    [BEGIN, seal_of(json).as_bytes(), b"\",", rest].concat()
}

/// The file without its seal; `None` where that does not fit.
fn unseal(sealed: Vec<u8>) -> Option<Vec<u8>> {
    let Some(rest) = sealed.strip_prefix(BEGIN) else {
        return Some(sealed);
    };
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    let json = [b"{", rest.strip_prefix(b"\",")?].concat();
    (digits == seal_of(&json).as_bytes()).then_some(json)
}

fn remember(full: &AtomicBool, error: &io::Error) {
    if is_full(error) {
        full.store(true, Ordering::SeqCst);
    }
}

/// tantivy calls this with a lock in hand that a panic would leave unusable for as long as the index is open.
fn calmly(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err(io::Error::other("writing failed in an unforeseen way")))
}

impl Directory for Disk {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = self.inner.open_write(path).and_then(|file| {
            let failed = |error: io::IntoInnerError<_>| {
                OpenWriteError::wrap_io_error(error.into_error(), path.to_owned())
            };
            file.into_inner().map_err(failed)
        });
        if let Err(OpenWriteError::IoError { io_error, .. }) = &file {
            remember(&self.full, io_error);
        }
        Ok(io::BufWriter::new(Box::new(Watched {
            file: file?,
            full: Arc::clone(&self.full),
        })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let bytes = self.inner.atomic_read(path)?;
        if !is_meta(path) {
            return Ok(bytes);
        }
        unseal(bytes).ok_or_else(|| {
            let error = io::Error::new(
                io::ErrorKind::InvalidData,
                "meta.json does not match its checksum",
            );
            OpenReadError::wrap_io_error(error, path.to_owned())
        })
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let written = calmly(|| {
            if is_meta(path) {
                return self.inner.atomic_write(path, &seal(data));
            }
            self.inner.atomic_write(path, data)
        });
        written.inspect_err(|error| remember(&self.full, error))
    }

    fn sync_directory(&self) -> io::Result<()> {
        calmly(|| self.inner.sync_directory())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}

/// A file whose failed writes are looked at.
struct Watched {
    file: Box<dyn TerminatingWrite + Send + Sync>,
    full: Arc<AtomicBool>,
}

impl io::Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file
            .write(bytes)
            .inspect_err(|error| remember(&self.full, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().inspect_err(|error| remember(&self.full, error))
    }
}

impl TerminatingWrite for Watched {
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        self.file
            .terminate_ref(token)
            .inspect_err(|error| remember(&self.full, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_reads_back_and_no_flipped_bit_changes_what_is_read() {
        let json = br#"{
  "segments": [{ "deletes": { "num_deleted_docs": 1 } }]
}"#;
        let sealed = seal(json);
        let value: serde_json::Value = serde_json::from_slice(&sealed).expect("still JSON");
        assert_eq!(value["segments"][0]["deletes"]["num_deleted_docs"], 1);
        assert_eq!(unseal(sealed.clone()).expect("whole"), json);
        for at in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            // Where the name of the seal itself is hit the rest is whole, or no JSON any more.
            let Some(read) = unseal(bytes) else { continue };
            assert!(at / 8 < BEGIN.len(), "bit {at}");
            if let Ok(read) = serde_json::from_slice::<serde_json::Value>(&read) {
                assert_eq!(read["segments"], value["segments"], "bit {at}");
            }
        }
        for cut in [9, 30, 43, sealed.len() - 1] {
            assert!(unseal(sealed[..cut].to_vec()).is_none(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn every_commit_and_merge_seals_the_list_and_plain_tantivy_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = crate::Collection::open(folder.path())
            .build()
            .await
            .expect("made");
        let file = || std::fs::read(folder.path().join(META)).expect("readable");
        for number in 0..3 {
            let document = stepwell_core::Document::new(format!("{number}"), "some words");
            collection.add([document]).await.expect("added");
            assert!(file().starts_with(BEGIN), "commit {number}");
        }
        collection.optimize().await.expect("merged");
        assert!(file().starts_with(BEGIN));
        let plain = tantivy::Index::open_in_dir(folder.path()).expect("opens");
        let segments = plain.load_metas().expect("reads").segments;
        assert_eq!(segments.iter().map(tantivy::SegmentMeta::max_doc).sum::<u32>(), 3);
    }

    #[test]
    fn a_file_of_before_is_read_as_it_is() {
        assert_eq!(unseal(b"{\"a\": 1}".to_vec()).expect("taken"), b"{\"a\": 1}");
        assert_eq!(seal(b"[]"), b"[]");
    }
}
