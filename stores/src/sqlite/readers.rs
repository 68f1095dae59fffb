//! A few connections that only read, on the blocking pool.

use super::{fault::Work, file::connect_reader};
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use stepwell_core::{Error, Result};
use tokio::{runtime::Handle, sync::Semaphore};

pub(super) struct Readers {
    path: Arc<Path>,
    /// Opened when first needed.
    idle: Mutex<Vec<Connection>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: &Path, count: usize) -> Self {
        Self {
            path: path.into(),
            idle: Mutex::default(),
            room: Arc::new(Semaphore::new(count.max(1))),
        }
    }

    pub(super) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Work<T> + Send + 'static,
    {
        let closed = |_| Error::internal("the store's readers are gone");
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(closed)?;
        let readers = Arc::clone(self);
        let run = move || {
            let result = readers.run(work);
            drop(permit); // here, not with the future: a dropped future leaves its read running
            result
        };
        match Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(run)
                .await
                .unwrap_or_else(|_| Err(Error::internal("a read of the store broke off"))),
            Err(_) => run(), // outside tokio there is no blocking pool
        }
    }

    fn run<T>(&self, work: impl FnOnce(&Connection) -> Work<T>) -> Result<T> {
        let idle = self.lock().pop();
        let db = idle.map_or_else(|| connect_reader(&self.path), Ok)?;
        let result = work(&db);
        self.lock().push(db);
        result.map_err(|fault| fault.explain(&self.path))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
