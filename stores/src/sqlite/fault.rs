//! What SQLite says, in the engine's words.

use rusqlite::{ErrorCode, ffi};
use std::{io, path::Path};
use stepwell_core::Error;

/// What a piece of work on a connection fails with, before the file's name is known to it.
#[derive(Debug)]
pub(super) enum Fault {
    Core(Error),
    Sql(rusqlite::Error),
}

/// The result of a piece of work on a connection.
pub(super) type Work<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    pub(super) fn explain(self, path: &Path) -> Error {
        match self {
            Self::Core(error) => error,
            Self::Sql(error) => explain(error, path),
        }
    }
}

/// The codes of a failure, which can be told to several who waited for the same commit.
pub(super) fn codes(error: &rusqlite::Error) -> ffi::Error {
    error
        .sqlite_error()
        .copied()
        .unwrap_or_else(|| ffi::Error::new(ffi::SQLITE_ERROR))
}

pub(super) fn explain_codes(codes: ffi::Error, path: &Path) -> Error {
    explain(rusqlite::Error::SqliteFailure(codes, None), path)
}

pub(super) fn explain(error: rusqlite::Error, path: &Path) -> Error {
    let shown = path.display();
    match &error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => return damaged(path, "a row of another shape"),
        _ => {}
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::DiskFull {
            what: shown.to_string(),
        },
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, "a page does not hold together"),
        Some(ErrorCode::NotADatabase) => foreign(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked { path: path.into() },
        Some(ErrorCode::TooBig) => Error::LimitExceeded {
            what: "a row".to_owned(),
            limit: "1 GB".to_owned(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::Io {
            what: format!("opening {shown} for writing"),
            source: io::ErrorKind::PermissionDenied.into(),
        },
        Some(ErrorCode::CannotOpen) => Error::Io {
            what: format!("opening {shown}"),
            source: why_closed(path).into(),
        },
        _ => Error::Store {
            message: format!("{shown} could not be read or written"),
            source: error.into(),
        },
    }
}

pub(super) fn foreign(path: &Path) -> Error {
    Error::Foreign {
        path: path.into(),
        what: "store".to_owned(),
    }
}

pub(super) fn damaged(path: &Path, found: &str) -> Error {
    Error::Damaged {
        what: path.display().to_string(),
        message: found.to_owned(),
        hint: "put a copy from a backup in its place, or move it away to begin anew".to_owned(),
    }
}

/// SQLite says only that it cannot open a file; this finds the reason a person can mend.
fn why_closed(path: &Path) -> io::ErrorKind {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        io::ErrorKind::IsADirectory
    } else if folder.is_some_and(|folder| !folder.exists()) {
        io::ErrorKind::NotFound
    } else if folder.is_some_and(|folder| !folder.is_dir()) {
        io::ErrorKind::NotADirectory
    } else {
        io::ErrorKind::PermissionDenied
    }
}
