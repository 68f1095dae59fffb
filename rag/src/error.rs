//! Tantivy's errors in the engine's words: one sentence, a stable code, what to do next.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stepwell_core::{Error, Result};
use tantivy::TantivyError;
use tantivy::directory::error::{
    Incompatibility, LockError, OpenDirectoryError, OpenReadError, OpenWriteError,
};

use crate::vector::format::{FormatError, VERSION};

/// Where an index lives, for error messages.
#[derive(Clone, Debug)]
pub(crate) struct Place(Option<Arc<Path>>);

impl Place {
    pub(crate) fn folder(path: &Path) -> Self {
        Self(Some(Arc::from(path)))
    }

    pub(crate) fn memory() -> Self {
        Self(None)
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    fn path_or_name(&self) -> PathBuf {
        self.0
            .as_deref()
            .map_or_else(|| PathBuf::from("the index in memory"), Path::to_path_buf)
    }

    pub(crate) fn name(&self) -> String {
        match &self.0 {
            Some(path) => format!("the index in {}", path.display()),
            None => "the index in memory".to_owned(),
        }
    }

    /// The index is damaged.
    pub(crate) fn damaged(&self, message: impl std::fmt::Display) -> Error {
        Error::Damaged {
            what: self.name(),
            message: message.to_string(),
            hint: "delete the folder and index the documents anew, or restore a copy".to_owned(),
        }
    }

    pub(crate) fn panicked(&self) -> Error {
        self.damaged("reading or writing it failed in an unforeseen way")
    }

    /// The folder holds something else.
    pub(crate) fn foreign(&self) -> Error {
        Error::Foreign {
            path: self.path_or_name(),
            what: "index".to_owned(),
        }
    }

    /// A segment's vector file cannot be read.
    pub(crate) fn bad_format(&self, error: &FormatError) -> Error {
        match *error {
            FormatError::Version(found) if found > VERSION => {
                self.unknown_version(u32::from(found), u32::from(VERSION))
            }
            _ => self.damaged(error),
        }
    }

    /// The index was written by another version.
    pub(crate) fn unknown_version(&self, found: u32, known: u32) -> Error {
        Error::UnknownVersion {
            what: self.name(),
            found,
            known,
        }
    }

    fn io(&self, doing: &str, error: &std::io::Error) -> Error {
        let what = format!("{doing} {}", self.name());
        match error.kind() {
            _ if is_full(error) => Error::DiskFull { what: self.name() },
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound => self.damaged(error),
            kind => Error::io(what, std::io::Error::new(kind, error.to_string())),
        }
    }

    /// What a failed call of tantivy means; `doing` reads like `opening`.
    pub(crate) fn explain(&self, doing: &str, error: &TantivyError) -> Error {
        match error {
            TantivyError::LockFailure(LockError::LockBusy, _) => Error::Locked {
                path: self.path_or_name(),
            },
            TantivyError::LockFailure(LockError::IoError(error), _)
            | TantivyError::IoError(error)
            | TantivyError::OpenReadError(OpenReadError::IoError { io_error: error, .. })
            | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: error, .. })
            | TantivyError::OpenDirectoryError(
                OpenDirectoryError::IoError { io_error: error, .. }
                | OpenDirectoryError::FailedToCreateTempDir(error),
            ) => self.io(doing, error),
            TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(path)) => {
                self.damaged(format!("the file {} is missing", path.display()))
            }
            TantivyError::OpenReadError(OpenReadError::IncompatibleIndex(found))
            | TantivyError::IncompatibleIndex(found) => match found {
                Incompatibility::IndexMismatch { index_version, .. } => self.unknown_version(
                    // The number has no accessor; the version's text ends with it.
                    index_version
                        .to_string()
                        .rsplit_once('v')
                        .and_then(|(_, number)| number.parse().ok())
                        .unwrap_or(0),
                    tantivy::INDEX_FORMAT_VERSION,
                ),
                Incompatibility::CompressionMismatch { .. } => self.damaged(error),
            },
            TantivyError::DataCorruption(_)
            | TantivyError::DeserializeError(_)
            | TantivyError::SchemaError(_)
            | TantivyError::FieldNotFound(_)
            | TantivyError::InvalidArgument(_)
            | TantivyError::MissingPlugin(_)
            | TantivyError::UnexpectedPlugin(_) => self.damaged(error),
            TantivyError::OpenDirectoryError(OpenDirectoryError::NotADirectory(_)) => self.foreign(),
            other => Error::internal(format!("{doing} {}: {other}", self.name())),
        }
    }

    /// [`Place::explain`] for a result.
    pub(crate) fn check<T>(&self, doing: &str, result: tantivy::Result<T>) -> Result<T> {
        result.map_err(|error| self.explain(doing, &error))
    }
}

/// Whether there is no room, also where tantivy wrapped the reason (its term dictionaries do).
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(reason) = next {
        next = if let Some(error) = reason.downcast_ref::<std::io::Error>() {
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                return true;
            }
            error
                .get_ref()
                .map(|inner| inner as &(dyn std::error::Error + 'static))
        } else if let Some(tantivy_fst::Error::Io(error)) = reason.downcast_ref() {
            // It does not tell its source.
            Some(error)
        } else {
            reason.source()
        };
    }
    false
}

/// Runs work on the calling thread. A panic inside it is an error here, as in [`blocking`].
pub(crate) fn guarded<T>(place: &Place, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What the work may leave half done is its own answer: snapshots are never written to.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err(place.panicked()))
}

/// Runs blocking work beside the runtime. A panic inside it (tantivy panics on some damaged files) is an error here.
pub(crate) async fn blocking<T, F>(place: &Place, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(place.panicked()),
        Err(_) => Err(Error::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_code() {
        let place = Place::folder(Path::new("papers"));
        let io = |kind: ErrorKind| TantivyError::IoError(Arc::new(std::io::Error::from(kind)));
        for (error, code) in [
            (TantivyError::LockFailure(LockError::LockBusy, None), "locked"),
            (io(ErrorKind::StorageFull), "disk_full"),
            (io(ErrorKind::QuotaExceeded), "disk_full"),
            (
                TantivyError::IoError(Arc::new(std::io::Error::other(std::io::Error::from(
                    ErrorKind::StorageFull,
                )))),
                "disk_full",
            ),
            (io(ErrorKind::UnexpectedEof), "damaged"),
            (io(ErrorKind::PermissionDenied), "io"),
            (
                OpenReadError::FileDoesNotExist(PathBuf::from("x.idx")).into(),
                "damaged",
            ),
        ] {
            let explained = place.explain("opening", &error);
            assert_eq!(explained.code(), code);
            assert!(explained.to_string().contains("papers"), "{explained}");
        }
    }

    #[tokio::test]
    async fn a_panic_beside_the_runtime_is_an_error() {
        let result: Result<()> = blocking(&Place::memory(), || panic!("told to the test only")).await;
        assert_eq!(result.expect_err("panicked").code(), "damaged");
    }
}
