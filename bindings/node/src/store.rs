//! [`RunStore`]: where the journals of runs are kept.

use crate::error::to_napi;
use napi_derive::napi;
use std::sync::Arc;
use stepwell::{
    store,
    stores::{MemoryStore, SqliteStore},
};

/// Where the journals of runs are kept.
#[napi]
pub struct RunStore(Arc<dyn store::RunStore>);

#[napi]
impl RunStore {
    /// In memory, or in the SQLite file of this path, made when it is not there.
    #[napi(constructor)]
    pub fn new(path: Option<String>) -> napi::Result<Self> {
        Ok(Self(match path {
            Some(path) => Arc::new(SqliteStore::open(path).map_err(to_napi)?),
            None => Arc::new(MemoryStore::new()),
        }))
    }
}

impl RunStore {
    pub(crate) fn inner(&self) -> Arc<dyn store::RunStore> {
        Arc::clone(&self.0)
    }
}
