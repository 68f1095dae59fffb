//! The stores that runs are kept in, and one that lets a test in around each append.

use crate::board::waits;
use async_trait::async_trait;
use std::{
    fmt::{self, Debug},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell::{
    Result, Scope,
    store::{Lease, Page, PageRequest, RunAppend, RunFilter, RunHead, RunRecord, RunStore},
    stores::{MemoryStore, SqliteStore},
};

/// A store and the folder it lives in.
pub(crate) struct Kept {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn RunStore>,
    _folder: Option<tempfile::TempDir>,
}

impl Kept {
    pub(crate) fn memory() -> Self {
        Self {
            name: "memory",
            store: Arc::new(MemoryStore::new()),
            _folder: None,
        }
    }

    /// In memory, with pauses around each append, as a store has that is not in memory.
    pub(crate) fn slow() -> Self {
        let mut slow = Hooked::new(Arc::new(MemoryStore::new()));
        slow.turns = 1;
        Self {
            name: "slow",
            store: Arc::new(slow),
            _folder: None,
        }
    }

    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            name: "sqlite",
            store: Arc::new(SqliteStore::open(folder.path().join("runs.db")).expect("opens")),
            _folder: Some(folder),
        }
    }

    pub(crate) fn store(&self) -> Arc<dyn RunStore> {
        Arc::clone(&self.store)
    }

    /// How many records the run has.
    pub(crate) async fn records(&self, run_id: &str) -> u64 {
        let head = self.store.head(&Scope::local(), run_id).await.expect("reads");
        head.map_or(0, |head| head.last_seq)
    }

    /// The kinds of its records.
    pub(crate) async fn kinds(&self, run_id: &str) -> Vec<&'static str> {
        let records = self
            .store
            .read(&Scope::local(), run_id, 1, 10_000)
            .await
            .expect("reads");
        records.iter().map(|record| record.kind.as_str()).collect()
    }
}

/// Both stores.
pub(crate) fn stores() -> [Kept; 2] {
    [Kept::memory(), Kept::sqlite()]
}

/// Is told the number of an append, and whether it has been written.
type Hook = Box<dyn Fn(usize, bool) + Send + Sync>;

/// A store that calls a hook before and after each append, and waits some turns there.
pub(crate) struct Hooked {
    store: Arc<dyn RunStore>,
    appends: AtomicUsize,
    pub(crate) hook: Hook,
    pub(crate) turns: u32,
}

impl Hooked {
    pub(crate) fn new(store: Arc<dyn RunStore>) -> Self {
        Self {
            store,
            appends: AtomicUsize::new(0),
            hook: Box::new(|_, _| {}),
            turns: 0,
        }
    }
}

impl Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

#[async_trait]
impl RunStore for Hooked {
    async fn append(&self, scope: &Scope, append: RunAppend) -> Result<u64> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst);
        (self.hook)(number, false);
        waits(self.turns).await;
        let last = self.store.append(scope, append).await?;
        waits(self.turns).await;
        (self.hook)(number, true);
        Ok(last)
    }
    async fn read(&self, scope: &Scope, run_id: &str, from: u64, limit: usize) -> Result<Vec<RunRecord>> {
        self.store.read(scope, run_id, from, limit).await
    }
    async fn head(&self, scope: &Scope, run_id: &str) -> Result<Option<RunHead>> {
        self.store.head(scope, run_id).await
    }
    async fn list(&self, scope: &Scope, filter: &RunFilter, page: PageRequest) -> Result<Page<RunHead>> {
        self.store.list(scope, filter, page).await
    }
    async fn claim(
        &self,
        scope: &Scope,
        run_id: &str,
        owner: &str,
        fence: Option<u64>,
        time: Duration,
    ) -> Result<Lease> {
        self.store.claim(scope, run_id, owner, fence, time).await
    }
    async fn copy(&self, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64> {
        self.store.copy(scope, run_id, to, up_to).await
    }
    async fn prune(&self, scope: &Scope, run_id: &str, before: u64) -> Result<u64> {
        self.store.prune(scope, run_id, before).await
    }
    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool> {
        self.store.delete(scope, run_id).await
    }
    async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }
}
