//! [`SqliteStore`]: all five contracts in SQLite files, safe across crashes, shared by several processes.

mod cache;
mod conversation;
mod fault;
mod file;
mod prompt;
mod readers;
mod run;
mod usage;
mod writer;

use fault::damaged;
use file::{File, Kind};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use stepwell_core::{Error, Result};

/// Runs, conversations, prompts and usage.
const STORE: Kind = Kind {
    application_id: 0x5374_7752, // "StwR"
    what: "the store",
    synchronous: "FULL",
    migrations: &[include_str!("store_1.sql")],
};

/// What can be made again.
const CACHE: Kind = Kind {
    application_id: 0x5374_7743, // "StwC"
    what: "the cache",
    synchronous: "NORMAL",
    migrations: &[include_str!("cache_1.sql")],
};

/// All five storage contracts in SQLite. A clone is another handle on the same open files.
///
/// `PATH` holds runs, conversations, prompts and usage; `PATH.cache` holds what can be made again. Several
/// processes may use the same files at once, on a local disk. When a write is acknowledged it survives a power
/// cut, but for appends that ask for less ([`stepwell_core::store::Durability::Async`]), messages that are still
/// being written, and the cache. Writes that come together share a commit.
///
/// The last handle to be dropped commits what is left and closes the files; it waits for the disk.
///
/// ```
/// # use stepwell_stores::SqliteStore;
/// # use stepwell_core::{Scope, store::{NewRecord, RecordKind, RunAppend, RunStore}};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("stepwell.db");
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = SqliteStore::open(path)?;
/// let append = RunAppend::new("run-1", "refunds", 0, vec![NewRecord::new(RecordKind::Start, 0, "{}")]).sync();
/// assert_eq!(RunStore::append(&store, &Scope::local(), append).await?, 1);
/// # Ok::<(), stepwell_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    store: File,
    cache: File,
    cache_bytes: u64,
}

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// How large the cache file may grow; the entries written longest ago make room. 1 GiB.
    pub cache_bytes: u64,
    /// How many reads run at once on each file. 4.
    pub readers: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 1 << 30,
            readers: 4,
        }
    }
}

impl SqliteStore {
    /// Opens the store at this path, or makes it. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`Error::Foreign`] for another program's file, [`Error::UnknownVersion`] for one of a newer stepwell,
    /// [`Error::Damaged`], [`Error::Locked`] while another process keeps it locked for over five seconds,
    /// [`Error::DiskFull`], [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().starts_with(b":") {
            return Err(Error::invalid(
                "path",
                "name a file; `MemoryStore` keeps everything in memory",
            ));
        }
        let store = File::open(path, &STORE, options.readers)?;
        let cache = open_cache(&beside(path, ".cache"), options.readers)?;
        let cache_bytes = options.cache_bytes;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                cache,
                cache_bytes,
            }),
        })
    }

    /// The file of runs, conversations, prompts and usage.
    pub fn path(&self) -> &Path {
        self.inner.store.path()
    }

    /// How many transactions this handle has committed to that file: fewer than writes, where writes came together.
    pub fn commits(&self) -> u64 {
        self.inner.store.commits()
    }

    /// Reads the whole file and checks that it holds together.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it does not.
    pub async fn verify(&self) -> Result<()> {
        let path = self.path().to_owned();
        let check = |db: &rusqlite::Connection| -> fault::Work<String> {
            Ok(db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?)
        };
        if self.inner.store.read(check).await? == "ok" {
            Ok(())
        } else {
            Err(damaged(&path, "its pages do not hold together"))
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// Opens the cache; a damaged one is made anew, for it holds nothing that cannot be made again.
fn open_cache(path: &Path, readers: usize) -> Result<File> {
    match File::open(path, &CACHE, readers) {
        Err(Error::Damaged { .. }) => {
            tracing::warn!(path = %path.display(), "the cache is damaged and is made anew");
            for name in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
                match fs::remove_file(&name) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io(format!("removing {}", name.display()), error));
                    }
                    _ => {}
                }
            }
            File::open(path, &CACHE, readers)
        }
        opened => opened,
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A number as SQLite keeps it. What is larger was refused before, or only means "the end".
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number as it was put in: never below 0.
fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The highest id of a run or conversation: it shares 63 bits with the number of the record or message.
const MAX_OWNER: i64 = 1 << 31;

/// The key of a record or message: one number, so that one tree holds it and neighbours lie together.
fn row_id(owner: i64, seq: u64) -> i64 {
    (owner << 32) + int(seq)
}

fn check_owner_id(id: i64) -> Result<()> {
    if id >= MAX_OWNER {
        return Err(Error::LimitExceeded {
            what: "the store".to_owned(),
            limit: "2^31 runs or conversations in one file".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
