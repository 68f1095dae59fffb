//! [`MemoryStore`]: all five contracts in memory, for tests, notebooks and programs that keep nothing.

mod cache;
mod conversation;
mod prompt;
mod run;
mod usage;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use stepwell_core::Scope;

/// All five storage contracts in memory. A clone is another handle on the same data, which ends with the last.
///
/// Only the cache is bounded (64 MiB unless told otherwise): what it loses can be made again, the rest cannot.
///
/// ```
/// # use stepwell_stores::MemoryStore;
/// # use stepwell_core::{Scope, store::{NewRecord, RecordKind, RunAppend, RunStore}};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let append = RunAppend::new("run-1", "refunds", 0, vec![NewRecord::new(RecordKind::Start, 0, "{}")]);
/// assert_eq!(RunStore::append(&store, &Scope::local(), append).await.unwrap(), 1);
/// # });
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    runs: Tenants<run::Runs>,
    conversations: Tenants<conversation::Conversations>,
    prompts: Tenants<prompt::Prompts>,
    usage: Tenants<usage::Rows>,
    cache: Mutex<cache::Entries>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose cache holds so many bytes; the entries used longest ago make room.
    pub fn with_cache_bytes(bytes: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                cache: Mutex::new(cache::Entries::with_limit(bytes)),
                ..Inner::default()
            }),
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// One kind of data, apart for every tenant.
struct Tenants<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Tenants<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Tenants<T> {
    /// Runs on the tenant's data. Everything is checked before the first change, so that a refusal leaves nothing.
    fn with<R>(&self, scope: &Scope, work: impl FnOnce(&mut T) -> R) -> R {
        let mut tenants = lock(&self.0);
        if let Some(data) = tenants.get_mut(scope.tenant()) {
            return work(data);
        }
        work(tenants.entry(scope.tenant().to_owned()).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves whole data behind: changes are made after all checks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
