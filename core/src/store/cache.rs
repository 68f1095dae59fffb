//! [`Cache`]: values that can be made again.

use super::Scope;
use crate::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt::Debug, time::Duration};

/// Values that can be made again: embeddings, answers. Losing one costs time, never truth.
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// The value; `None` where there is none or its time is over.
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>>;

    /// Several values at once, in the order of the keys.
    async fn get_many(&self, scope: &Scope, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(scope, key).await?);
        }
        Ok(values)
    }

    /// Keeps a value, for so long where a time is given.
    async fn put(&self, scope: &Scope, key: &str, value: Bytes, time: Option<Duration>) -> Result<()>;

    /// Keeps several values.
    async fn put_many(
        &self,
        scope: &Scope,
        entries: Vec<(String, Bytes)>,
        time: Option<Duration>,
    ) -> Result<()> {
        for (key, value) in entries {
            self.put(scope, &key, value, time).await?;
        }
        Ok(())
    }

    /// Takes a value away; whether there was one.
    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool>;

    /// Takes everything of the tenant away; how many.
    async fn clear(&self, scope: &Scope) -> Result<u64>;
}
