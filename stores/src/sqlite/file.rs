//! A database file: told apart from others, opened, brought to the newest format; one writer, several readers.

use super::{
    fault::{self, Work, explain},
    readers::Readers,
    writer::{Shared, Writer},
};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use stepwell_core::{Error, Result, store::Durability};

/// How long a writer of another process is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What tells one kind of our files from another.
pub(super) struct Kind {
    /// SQLite's own mark of whose file it is.
    pub(super) application_id: i32,
    pub(super) what: &'static str,
    /// `FULL`: a commit survives a power cut. `NORMAL`: it may be lost then, but the file stays whole.
    pub(super) synchronous: &'static str,
    /// Each brings the file one version on. Never changed, only added to.
    pub(super) migrations: &'static [&'static str],
}

/// A file in use.
pub(super) struct File {
    // Dropped in this order: the writer is the last to close, so it can fold the log back into the file.
    readers: Arc<Readers>,
    writer: Writer,
    shared: Arc<Shared>,
}

impl File {
    pub(super) fn open(path: &Path, kind: &Kind, readers: usize) -> Result<Self> {
        let shared = Arc::new(Shared::new(path));
        let db = connect(path, kind)?;
        let writer = Writer::start(db, Arc::clone(&shared))?;
        let readers = Arc::new(Readers::new(path, readers));
        Ok(Self {
            readers,
            writer,
            shared,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.shared.path()
    }

    pub(super) fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    pub(super) async fn write<T, F>(&self, durability: Durability, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Work<T> + Send + 'static,
    {
        self.writer.write(durability, work).await
    }

    /// Reads what was acknowledged: from the writer's own connection while its transaction is open, for no other
    /// connection can see that yet.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Work<T> + Send + 'static,
    {
        if self.shared.has_uncommitted.load(Ordering::Acquire) {
            self.writer.read(work).await
        } else {
            self.readers.read(work).await
        }
    }

    pub(super) async fn flush(&self) -> Result<()> {
        self.writer.flush().await
    }
}

fn connect(path: &Path, kind: &Kind) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepare = || -> Work<Connection> {
        let mut db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(PATIENCE)?;
        // Looked at before anything is changed: another program's file stays as it is.
        check_owner(&db, path, kind)?;
        log_ahead(&db, path)?;
        db.pragma_update(None, "synchronous", kind.synchronous)?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        db.pragma_update(None, "trusted_schema", false)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        db.set_prepared_statement_cache_capacity(64);
        migrate(&mut db, path, kind)?;
        // The writer waits for other processes itself, in steps short enough to find a gap between their commits.
        db.busy_timeout(Duration::ZERO)?;
        Ok(db)
    };
    prepare().map_err(|fault| fault.explain(path))
}

/// A connection that can only read.
pub(super) fn connect_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepare = || {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(PATIENCE)?;
        db.pragma_update(None, "trusted_schema", false)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(db)
    };
    prepare().map_err(|error| explain(error, path))
}

fn number(db: &Connection, pragma: &str) -> Work<i32> {
    Ok(db.pragma_query_value(None, pragma, |row| row.get(0))?)
}

/// The version of a file of ours; 0 for an empty one.
fn check_owner(db: &Connection, path: &Path, kind: &Kind) -> Work<usize> {
    let owner = number(db, "application_id")?;
    let version = number(db, "user_version")?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if owner != kind.application_id {
        return Err(fault::foreign(path).into());
    }
    let known = kind.migrations.len();
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    if found > known {
        return Err(Error::UnknownVersion {
            what: format!("{} {}", kind.what, path.display()),
            found: u32::try_from(version).unwrap_or(u32::MAX),
            known: u32::try_from(known).unwrap_or(u32::MAX),
        }
        .into());
    }
    Ok(found)
}

/// Switches to the write-ahead log. SQLite does not wait for others here, whatever the busy timeout says.
fn log_ahead(db: &Connection, path: &Path) -> Work<()> {
    let start = Instant::now();
    let mode: String = loop {
        match db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(2));
            }
            mode => break mode?,
        }
    };
    if mode != "wal" {
        return Err(Error::Unsupported {
            who: format!("the disk of {}", path.display()),
            what: "a write-ahead log".to_owned(),
            hint: "put the store on a local disk".to_owned(),
        }
        .into());
    }
    Ok(())
}

fn migrate(db: &mut Connection, path: &Path, kind: &Kind) -> Work<()> {
    if check_owner(db, path, kind)? == kind.migrations.len() {
        return Ok(());
    }
    let all = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again: another process may have been quicker.
    let version = check_owner(&all, path, kind)?;
    for migration in &kind.migrations[version..] {
        all.execute_batch(migration)?;
    }
    all.pragma_update(None, "application_id", kind.application_id)?;
    all.pragma_update(
        None,
        "user_version",
        i32::try_from(kind.migrations.len()).unwrap_or(i32::MAX),
    )?;
    Ok(all.commit()?)
}
