//! The stores that runs are kept in, and one that lets a test in around each append.

use crate::board::waits;
use async_trait::async_trait;
use std::{
    fmt::{self, Debug},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell::{
    Error, Result, Scope,
    store::{Lease, NewRecord, Page, PageRequest, RunAppend, RunFilter, RunHead, RunRecord, RunStore},
    stores::{MemoryStore, SqliteStore},
};
use tokio::sync::Notify;

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

    /// In memory, with pauses around each call, as a store has that is not in memory.
    pub(crate) fn slow() -> Self {
        Self {
            name: "slow",
            store: Arc::new(Hooked::slow(Arc::new(MemoryStore::new()))),
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

/// What becomes of one call to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is sent, and whoever waits for it is dropped: it lands behind their back, or does not.
    Unanswered,
    /// It is not done.
    Refused,
    /// It is done, and the answer is an error all the same.
    DoneAndRefused,
    /// It panics.
    Panics,
}

/// A store that lets a test in: around each append, by pauses around each call, by a fault of one of them.
pub(crate) struct Hooked {
    store: Arc<dyn RunStore>,
    appends: AtomicUsize,
    calls: AtomicUsize,
    pub(crate) hook: Hook,
    pub(crate) turns: u32,
    /// At which call, counted from 0.
    fault: Option<(usize, Fault)>,
    has_come: Notify,
}

impl Hooked {
    pub(crate) fn new(store: Arc<dyn RunStore>) -> Self {
        Self {
            store,
            appends: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            hook: Box::new(|_, _| {}),
            turns: 0,
            fault: None,
            has_come: Notify::new(),
        }
    }

    /// With a pause before and after each call, as a store has that is not in memory.
    pub(crate) fn slow(store: Arc<dyn RunStore>) -> Self {
        Self {
            turns: 1,
            ..Self::new(store)
        }
    }

    /// With a fault at the call of this number.
    pub(crate) fn faulty(store: Arc<dyn RunStore>, at: usize, fault: Fault) -> Self {
        Self {
            fault: Some((at, fault)),
            ..Self::new(store)
        }
    }

    /// Whether it came to the fault.
    pub(crate) fn is_faulted(&self) -> bool {
        self.fault
            .is_some_and(|(at, _)| self.calls.load(Ordering::SeqCst) > at)
    }

    /// Drives a future that uses the store and drops it at the call that is not answered; what it came to where it ended
    /// before that.
    pub(crate) async fn drive<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            came = future => Some(came),
            () = self.has_come.notified() => None,
        }
    }

    async fn around<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let refused = || Error::host("the store is out of order");
        waits(self.turns).await;
        match fault {
            None => {}
            Some(Fault::Unanswered) => {
                let mut call = pin!(call);
                let _ = futures::poll!(&mut call);
                self.has_come.notify_one();
                return std::future::pending().await;
            }
            Some(Fault::Refused) => return Err(refused()),
            Some(Fault::DoneAndRefused) => return call.await.and(Err(refused())),
            Some(Fault::Panics) => panic!("the store is out of order"),
        }
        let came = call.await?;
        waits(self.turns).await;
        Ok(came)
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
        let last = self.around(self.store.append(scope, append)).await?;
        (self.hook)(number, true);
        Ok(last)
    }
    async fn read(&self, scope: &Scope, run_id: &str, from: u64, limit: usize) -> Result<Vec<RunRecord>> {
        self.around(self.store.read(scope, run_id, from, limit)).await
    }
    async fn head(&self, scope: &Scope, run_id: &str) -> Result<Option<RunHead>> {
        self.around(self.store.head(scope, run_id)).await
    }
    async fn list(&self, scope: &Scope, filter: &RunFilter, page: PageRequest) -> Result<Page<RunHead>> {
        self.around(self.store.list(scope, filter, page)).await
    }
    async fn claim(
        &self,
        scope: &Scope,
        run_id: &str,
        owner: &str,
        fence: Option<u64>,
        time: Duration,
    ) -> Result<Lease> {
        self.around(self.store.claim(scope, run_id, owner, fence, time))
            .await
    }
    async fn copy(&self, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64> {
        self.around(self.store.copy(scope, run_id, to, up_to)).await
    }
    async fn fork(&self, scope: &Scope, run_id: &str, to: &str, up_to: u64, add: NewRecord) -> Result<u64> {
        self.around(self.store.fork(scope, run_id, to, up_to, add)).await
    }
    async fn replace(&self, scope: &Scope, append: RunAppend) -> Result<u64> {
        self.around(self.store.replace(scope, append)).await
    }
    async fn prune(&self, scope: &Scope, run_id: &str, before: u64) -> Result<u64> {
        self.around(self.store.prune(scope, run_id, before)).await
    }
    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool> {
        self.around(self.store.delete(scope, run_id)).await
    }
    async fn flush(&self) -> Result<()> {
        self.around(self.store.flush()).await
    }
}
