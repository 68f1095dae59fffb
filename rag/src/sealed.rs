//! [`Sealed`]: a directory whose `meta.json` is checked against a checksum of its own.
//!
//! tantivy puts a checksum to every file but the one that lists the others. There, one flipped bit can turn the name of a key
//! that may be absent into another, and what was deleted is back. The file stays JSON: the checksum is one key more, which
//! tantivy passes over. A file without one is read as it is: an index made before, or by somebody else.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{Directory, DirectoryLock, FileHandle, Lock, WatchCallback, WatchHandle, WritePtr};

/// The file that lists the others.
pub(crate) const META: &str = "meta.json";
/// What a sealed file begins with; 32 digits, a quote and a comma follow.
const BEGIN: &[u8] = br#"{"seal":""#;
const DIGITS: usize = 32;

/// Seals one file, and passes everything else on.
pub(crate) struct Sealed(Box<dyn Directory>);

impl Sealed {
    pub(crate) fn new(directory: Box<dyn Directory>) -> Self {
        Self(directory)
    }
}

impl Clone for Sealed {
    fn clone(&self) -> Self {
        Self(self.0.box_clone())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealed").field(&self.0).finish()
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

impl Directory for Sealed {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.0.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.0.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.0.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.0.open_write(path)
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let bytes = self.0.atomic_read(path)?;
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
        if is_meta(path) {
            return self.0.atomic_write(path, &seal(data));
        }
        self.0.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.0.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.0.watch(callback)
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
