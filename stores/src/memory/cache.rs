//! The cache in memory: bounded in bytes, what was used longest ago goes first.

use super::{MemoryStore, lock};
use crate::rules;
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use stepwell_core::{
    Result, Scope,
    store::{Cache, check_name},
};

/// What an entry takes beside its value: two copies of its key and the maps' own nodes.
const OVERHEAD: usize = 160;
const DEFAULT_LIMIT: usize = 64 << 20;

pub(super) struct Entries {
    limit: usize,
    used: usize,
    clock: u64,
    tenants: HashMap<String, HashMap<String, Entry>>,
    /// Tenant and key by the moment of last use, on a clock that counts uses.
    by_use: BTreeMap<u64, (String, String)>,
}

struct Entry {
    value: Bytes,
    until_ms: Option<u64>,
    used_at: u64,
}

impl Default for Entries {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }
}

fn size(tenant: &str, key: &str, value: &Bytes) -> usize {
    value.len() + 2 * key.len() + tenant.len() + OVERHEAD
}

impl Entries {
    pub(super) fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            clock: 0,
            tenants: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    fn get(&mut self, tenant: &str, key: &str, now: u64) -> Option<Bytes> {
        let entry = self.tenants.get_mut(tenant)?.get_mut(key)?;
        if entry.until_ms.is_some_and(|until| until <= now) {
            self.remove(tenant, key, now);
            return None;
        }
        self.clock += 1;
        if let Some(name) = self.by_use.remove(&entry.used_at) {
            self.by_use.insert(self.clock, name);
        }
        entry.used_at = self.clock;
        Some(entry.value.clone())
    }

    /// Whether there was one whose time was not over.
    fn remove(&mut self, tenant: &str, key: &str, now: u64) -> bool {
        let Some(entries) = self.tenants.get_mut(tenant) else {
            return false;
        };
        let Some(entry) = entries.remove(key) else {
            return false;
        };
        if entries.is_empty() {
            self.tenants.remove(tenant);
        }
        self.used -= size(tenant, key, &entry.value);
        self.by_use.remove(&entry.used_at);
        entry.until_ms.is_none_or(|until| until > now)
    }

    fn put(&mut self, tenant: &str, key: &str, value: Bytes, until_ms: Option<u64>, now: u64) {
        self.remove(tenant, key, now);
        let size = size(tenant, key, &value);
        if size > self.limit {
            return; // it would push out everything and still not fit
        }
        self.clock += 1;
        self.used += size;
        self.by_use
            .insert(self.clock, (tenant.to_owned(), key.to_owned()));
        let entry = Entry {
            value,
            until_ms,
            used_at: self.clock,
        };
        self.tenants
            .entry(tenant.to_owned())
            .or_default()
            .insert(key.to_owned(), entry);
        while self.used > self.limit {
            let Some((_, (tenant, key))) = self.by_use.pop_first() else {
                break;
            };
            self.remove(&tenant, &key, now);
        }
    }

    fn clear(&mut self, tenant: &str, now: u64) -> u64 {
        let entries = self.tenants.remove(tenant).unwrap_or_default();
        let mut count = 0;
        for (key, entry) in entries {
            self.used -= size(tenant, &key, &entry.value);
            self.by_use.remove(&entry.used_at);
            count += u64::from(entry.until_ms.is_none_or(|until| until > now));
        }
        count
    }
}

#[async_trait]
impl Cache for MemoryStore {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        check_name("cache key", key)?;
        Ok(lock(&self.inner.cache).get(scope.tenant(), key, rules::now_ms()))
    }

    async fn put(&self, scope: &Scope, key: &str, value: Bytes, time: Option<Duration>) -> Result<()> {
        check_name("cache key", key)?;
        rules::check_value("a cached value", value.len())?;
        let now = rules::now_ms();
        let until = time.map(|time| rules::until(now, time));
        lock(&self.inner.cache).put(scope.tenant(), key, value, until, now);
        Ok(())
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool> {
        check_name("cache key", key)?;
        Ok(lock(&self.inner.cache).remove(scope.tenant(), key, rules::now_ms()))
    }

    async fn clear(&self, scope: &Scope) -> Result<u64> {
        Ok(lock(&self.inner.cache).clear(scope.tenant(), rules::now_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::Entries;
    use bytes::Bytes;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut entries = Entries::with_limit(4 * 1_200);
        for key in ["a", "b", "c", "d"] {
            entries.put("t", key, Bytes::from(vec![0; 1_000]), None, 0);
        }
        assert!(entries.get("t", "a", 0).is_some());
        entries.put("t", "e", Bytes::from(vec![0; 1_000]), None, 0);
        assert!(entries.get("t", "b", 0).is_none(), "unused since longest");
        assert!(entries.get("t", "a", 0).is_some(), "used meanwhile");
        assert!(entries.used <= entries.limit);
    }

    #[test]
    fn a_value_larger_than_the_cache_is_not_kept_and_pushes_nothing_out() {
        let mut entries = Entries::with_limit(2_000);
        entries.put("t", "small", Bytes::from_static(b"x"), None, 0);
        entries.put("t", "large", Bytes::from(vec![0; 3_000]), None, 0);
        assert!(entries.get("t", "large", 0).is_none());
        assert!(entries.get("t", "small", 0).is_some());
    }

    #[test]
    fn the_byte_count_returns_to_zero_when_everything_is_gone() {
        let mut entries = Entries::with_limit(1 << 20);
        for key in 0..100 {
            entries.put("t", &format!("{key}"), Bytes::from(vec![0; key]), Some(5), 0);
            entries.put("t", &format!("{key}"), Bytes::from(vec![0; 2 * key]), None, 0);
        }
        entries.put("t", "short", Bytes::from_static(b"x"), Some(5), 0);
        assert!(entries.get("t", "short", 5).is_none(), "over at its moment");
        assert_eq!(entries.clear("t", 5), 100);
        assert_eq!((entries.used, entries.by_use.len()), (0, 0));
    }
}
