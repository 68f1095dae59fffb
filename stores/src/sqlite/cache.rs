//! The cache in SQLite: its own file, bounded, what was written longest ago goes first.

use super::{SqliteStore, fault::Work, int};
use crate::rules;
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};
use std::time::Duration;
use stepwell_core::{
    Result, Scope,
    store::{Cache, Durability, check_name},
};

fn get(db: &Connection, tenant: &str, keys: &[String], now: u64) -> Work<Vec<Option<Bytes>>> {
    let mut select = db.prepare_cached(
        "SELECT value FROM entry WHERE tenant = ?1 AND key = ?2 AND (until_ms IS NULL OR until_ms > ?3)",
    )?;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let value: Option<Vec<u8>> = select
            .query_row((tenant, key, int(now)), |row| row.get(0))
            .optional()?;
        values.push(value.map(Bytes::from));
    }
    Ok(values)
}

fn put(
    db: &Connection,
    tenant: &str,
    entries: &[(String, Bytes)],
    until_ms: Option<u64>,
    limit: u64,
) -> Work<()> {
    // A replaced entry gets a new number, so that the lowest numbers are those written longest ago.
    let mut insert =
        db.prepare_cached("REPLACE INTO entry (tenant, key, value, until_ms) VALUES (?1, ?2, ?3, ?4)")?;
    for (key, value) in entries {
        insert.execute((tenant, key, value.as_ref(), until_ms.map(int)))?;
    }
    make_room(db, limit)
}

/// Takes away what is over, then the oldest eighth until the rest fits.
fn make_room(db: &Connection, limit: u64) -> Work<()> {
    db.prepare_cached(
        "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE until_ms <= ?1 ORDER BY until_ms LIMIT 64)",
    )?
    .execute([int(rules::now_ms())])?;
    while used(db)? > limit {
        let gone = db
            .prepare_cached(
                "DELETE FROM entry WHERE id <= (SELECT min(id) + (max(id) - min(id)) / 8 FROM entry)",
            )?
            .execute([])?;
        if gone == 0 {
            break;
        }
    }
    Ok(())
}

/// Bytes in pages that hold something. Counted by SQLite, so that several processes agree on it.
fn used(db: &Connection) -> Work<u64> {
    let figure = |sql| db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let pages = figure("PRAGMA page_count")? - figure("PRAGMA freelist_count")?;
    Ok(super::uint(pages * figure("PRAGMA page_size")?))
}

impl SqliteStore {
    async fn put_entries(
        &self,
        scope: &Scope,
        entries: Vec<(String, Bytes)>,
        time: Option<Duration>,
    ) -> Result<()> {
        for (key, value) in &entries {
            check_name("cache key", key)?;
            rules::check_value("a cached value", value.len())?;
        }
        let until = time.map(|time| rules::until(rules::now_ms(), time));
        let tenant = scope.tenant().to_owned();
        let limit = self.inner.cache_bytes;
        self.inner
            .cache
            .write(Durability::Async, move |db| {
                put(db, &tenant, &entries, until, limit)
            })
            .await
    }

    async fn get_entries(&self, scope: &Scope, keys: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        for key in &keys {
            check_name("cache key", key)?;
        }
        let tenant = scope.tenant().to_owned();
        let now = rules::now_ms();
        self.inner
            .cache
            .read(move |db| get(db, &tenant, &keys, now))
            .await
    }
}

#[async_trait]
impl Cache for SqliteStore {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        let values = self.get_entries(scope, vec![key.to_owned()]).await?;
        Ok(values.into_iter().next().flatten())
    }

    async fn get_many(&self, scope: &Scope, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.get_entries(scope, keys).await
    }

    async fn put(&self, scope: &Scope, key: &str, value: Bytes, time: Option<Duration>) -> Result<()> {
        self.put_entries(scope, vec![(key.to_owned(), value)], time).await
    }

    async fn put_many(
        &self,
        scope: &Scope,
        entries: Vec<(String, Bytes)>,
        time: Option<Duration>,
    ) -> Result<()> {
        self.put_entries(scope, entries, time).await
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool> {
        check_name("cache key", key)?;
        let (tenant, key) = (scope.tenant().to_owned(), key.to_owned());
        let now = rules::now_ms();
        self.inner
            .cache
            .write(Durability::Async, move |db| {
                let is_fresh = get(db, &tenant, std::slice::from_ref(&key), now)?[0].is_some();
                db.prepare_cached("DELETE FROM entry WHERE tenant = ?1 AND key = ?2")?
                    .execute((&tenant, &key))?;
                Ok(is_fresh)
            })
            .await
    }

    async fn clear(&self, scope: &Scope) -> Result<u64> {
        let tenant = scope.tenant().to_owned();
        let now = rules::now_ms();
        self.inner
            .cache
            .write(Durability::Async, move |db| {
                let over = db
                    .prepare_cached("DELETE FROM entry WHERE tenant = ?1 AND until_ms <= ?2")?
                    .execute((&tenant, int(now)));
                over?;
                let count = db
                    .prepare_cached("DELETE FROM entry WHERE tenant = ?1")?
                    .execute([&tenant])?;
                Ok(count as u64)
            })
            .await
    }
}
