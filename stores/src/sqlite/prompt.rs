//! Prompts in SQLite.

use super::{SqliteStore, fault::Work, int, uint};
use crate::rules::{self, Cursor};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use stepwell_core::{
    Result, Scope,
    store::{Durability, Page, PageRequest, PromptStore, PromptVersion, check_name},
};

fn read_version(row: &Row<'_>) -> rusqlite::Result<PromptVersion> {
    let (key, body): (String, String) = (row.get(0)?, row.get(2)?);
    let mut version = PromptVersion::new(key, uint(row.get(1)?), body, uint(row.get(5)?));
    version.note = row.get(3)?;
    version.actor = row.get(4)?;
    Ok(version)
}

fn put(
    db: &Connection,
    scope: &Scope,
    key: &str,
    body: &str,
    note: Option<&str>,
    activate: bool,
    now_ms: u64,
) -> Work<u64> {
    let version: i64 = db
        .prepare_cached(
            "INSERT INTO prompt (tenant, key, version, body, note, actor, at_ms)
             SELECT ?1, ?2, coalesce(max(version), 0) + 1, ?3, ?4, ?5, ?6
             FROM prompt WHERE tenant = ?1 AND key = ?2 RETURNING version",
        )?
        .query_row(
            params![scope.tenant(), key, body, note, scope.actor(), int(now_ms)],
            |row| row.get(0),
        )?;
    if activate {
        set_active(db, scope.tenant(), key, Some(version))?;
    }
    Ok(uint(version))
}

fn set_active(db: &Connection, tenant: &str, key: &str, version: Option<i64>) -> Work<()> {
    match version {
        Some(version) => db
            .prepare_cached("REPLACE INTO active_prompt (tenant, key, version) VALUES (?1, ?2, ?3)")?
            .execute((tenant, key, version))?,
        None => db
            .prepare_cached("DELETE FROM active_prompt WHERE tenant = ?1 AND key = ?2")?
            .execute((tenant, key))?,
    };
    Ok(())
}

fn get(db: &Connection, tenant: &str, key: &str, version: u64) -> Work<Option<PromptVersion>> {
    Ok(db
        .prepare_cached(
            "SELECT key, version, body, note, actor, at_ms FROM prompt
             WHERE tenant = ?1 AND key = ?2 AND version = ?3",
        )?
        .query_row((tenant, key, int(version)), read_version)
        .optional()?)
}

fn active(db: &Connection, tenant: &str, key: &str) -> Work<Option<PromptVersion>> {
    Ok(db
        .prepare_cached(
            "SELECT key, version, body, note, actor, at_ms
             FROM active_prompt JOIN prompt USING (tenant, key, version) WHERE tenant = ?1 AND key = ?2",
        )?
        .query_row((tenant, key), read_version)
        .optional()?)
}

fn versions(
    db: &Connection,
    tenant: &str,
    key: &str,
    before: u64,
    limit: usize,
) -> Work<Page<PromptVersion>> {
    let mut select = db.prepare_cached(
        "SELECT key, version, body, note, actor, at_ms FROM prompt
         WHERE tenant = ?1 AND key = ?2 AND version < ?3 ORDER BY version DESC LIMIT ?4",
    )?;
    let rows = select.query_map((tenant, key, int(before), int(limit as u64 + 1)), read_version)?;
    let mut items = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more);
    let next = next.map(|last| Cursor::write(last.version, ""));
    Ok(Page::new(items, next))
}

fn keys(db: &Connection, tenant: &str, after: &str, limit: usize) -> Work<Page<String>> {
    let mut select = db.prepare_cached(
        "SELECT DISTINCT key FROM prompt WHERE tenant = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
    )?;
    let rows = select.query_map((tenant, after, int(limit as u64 + 1)), |row| row.get(0))?;
    let mut items = rows.collect::<rusqlite::Result<Vec<String>>>()?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more);
    let next = next.map(|last| Cursor::write(0, last));
    Ok(Page::new(items, next))
}

#[async_trait]
impl PromptStore for SqliteStore {
    async fn put(
        &self,
        scope: &Scope,
        key: &str,
        body: &str,
        note: Option<&str>,
        activate: bool,
        now_ms: u64,
    ) -> Result<u64> {
        rules::check_new_prompt(key, body, note, now_ms)?;
        let (scope, key, body) = (scope.clone(), key.to_owned(), body.to_owned());
        let note = note.map(str::to_owned);
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                put(db, &scope, &key, &body, note.as_deref(), activate, now_ms)
            })
            .await
    }

    async fn active(&self, scope: &Scope, key: &str) -> Result<Option<PromptVersion>> {
        check_name("prompt key", key)?;
        let (tenant, key) = (scope.tenant().to_owned(), key.to_owned());
        self.inner.store.read(move |db| active(db, &tenant, &key)).await
    }

    async fn get(&self, scope: &Scope, key: &str, version: u64) -> Result<Option<PromptVersion>> {
        check_name("prompt key", key)?;
        let (tenant, key) = (scope.tenant().to_owned(), key.to_owned());
        self.inner
            .store
            .read(move |db| get(db, &tenant, &key, version))
            .await
    }

    async fn activate(&self, scope: &Scope, key: &str, version: Option<u64>) -> Result<()> {
        check_name("prompt key", key)?;
        let (tenant, key) = (scope.tenant().to_owned(), key.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                if let Some(version) = version
                    && get(db, &tenant, &key, version)?.is_none()
                {
                    return Err(rules::not_found("version of this prompt", version).into());
                }
                set_active(db, &tenant, &key, version.map(int))
            })
            .await
    }

    async fn versions(&self, scope: &Scope, key: &str, page: PageRequest) -> Result<Page<PromptVersion>> {
        check_name("prompt key", key)?;
        let before = Cursor::read(&page)?.map_or(u64::MAX, |cursor| cursor.number);
        let limit = rules::page_limit(&page);
        let (tenant, key) = (scope.tenant().to_owned(), key.to_owned());
        self.inner
            .store
            .read(move |db| versions(db, &tenant, &key, before, limit))
            .await
    }

    async fn keys(&self, scope: &Scope, page: PageRequest) -> Result<Page<String>> {
        let after = Cursor::read(&page)?.map_or_else(String::new, |cursor| cursor.name);
        let limit = rules::page_limit(&page);
        let tenant = scope.tenant().to_owned();
        self.inner
            .store
            .read(move |db| keys(db, &tenant, &after, limit))
            .await
    }

    async fn delete(&self, scope: &Scope, key: &str) -> Result<bool> {
        check_name("prompt key", key)?;
        let (tenant, key) = (scope.tenant().to_owned(), key.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                let count = db
                    .prepare_cached("DELETE FROM prompt WHERE tenant = ?1 AND key = ?2")?
                    .execute((&tenant, &key))?;
                Ok(count > 0)
            })
            .await
    }
}
