//! Runs in SQLite.

use super::{SqliteStore, check_owner_id, fault::Work, int, row_id, uint};
use crate::rules::{self, Cursor, Holder, MAX_SEQ};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;
use stepwell_core::{
    Error, Result, Scope,
    store::{
        Durability, Lease, NewRecord, Page, PageRequest, RecordKind, RunAppend, RunFilter, RunHead,
        RunRecord, RunStatus, RunStore, check_name,
    },
};

fn read_head(row: &Row<'_>) -> Work<RunHead> {
    let mut head = RunHead::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
    head.status = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?.parse()?;
    head.last_seq = uint(row.get(3)?);
    head.snapshot_seq = uint(row.get(4)?);
    head.fence = uint(row.get(5)?);
    head.created_ms = uint(row.get(6)?);
    head.updated_ms = uint(row.get(7)?);
    Ok(head)
}

fn find_run(db: &Connection, tenant: &str, run_id: &str) -> Work<Option<(i64, RunHead)>> {
    let mut find = db.prepare_cached(
        "SELECT run_id, graph, status, last_seq, snapshot_seq, fence, created_ms, updated_ms, id
         FROM run WHERE tenant = ?1 AND run_id = ?2",
    )?;
    let mut rows = find.query((tenant, run_id))?;
    match rows.next()? {
        Some(row) => Ok(Some((row.get(8)?, read_head(row)?))),
        None => Ok(None),
    }
}

fn append(db: &Connection, scope: &Scope, append: &RunAppend) -> Work<u64> {
    let found = find_run(db, scope.tenant(), &append.run_id)?;
    let (last_seq, fence) = found
        .as_ref()
        .map_or((0, 0), |(_, head)| (head.last_seq, head.fence));
    if last_seq != append.after || fence != append.fence {
        return Err(rules::conflict_run().into());
    }
    let end = append.after + append.records.len() as u64;
    let snapshot = append
        .records
        .iter()
        .rposition(|record| record.kind == RecordKind::Snapshot)
        .map(|position| int(append.after + 1 + position as u64));
    let updated = append.records.last().map(|record| int(record.at_ms));
    let id = if let Some((id, _)) = found {
        db.prepare_cached(
            "UPDATE run SET last_seq = ?2, status = ?3, snapshot_seq = coalesce(?4, snapshot_seq),
                 updated_ms = coalesce(?5, updated_ms) WHERE id = ?1",
        )?
        .execute((id, int(end), append.status.as_str(), snapshot, updated))?;
        id
    } else {
        let created = append.records.first().map_or(0, |record| int(record.at_ms));
        db.prepare_cached(
            "INSERT INTO run (tenant, run_id, graph, status, actor, last_seq, snapshot_seq, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            scope.tenant(),
            &*append.run_id,
            append.graph,
            append.status.as_str(),
            scope.actor(),
            int(end),
            snapshot.unwrap_or(0),
            created,
            updated.unwrap_or(created),
        ])?;
        let id = db.last_insert_rowid();
        check_owner_id(id)?;
        id
    };
    let mut insert =
        db.prepare_cached("INSERT INTO record (id, kind, at_ms, body) VALUES (?1, ?2, ?3, ?4)")?;
    for (seq, record) in (append.after + 1..).zip(&append.records) {
        let kind = record.kind.as_str();
        insert.execute((row_id(id, seq), kind, int(record.at_ms), record.body.as_ref()))?;
    }
    Ok(end)
}

fn read(db: &Connection, tenant: &str, run_id: &str, from_seq: u64, limit: usize) -> Work<Vec<RunRecord>> {
    if from_seq > MAX_SEQ {
        return Ok(Vec::new());
    }
    // One statement, so that run and records are of one moment.
    let mut select = db.prepare_cached(
        "SELECT record.id & 0xffffffff, kind, at_ms, body FROM run
         CROSS JOIN record ON record.id >= (run.id << 32) + ?3 AND record.id < (run.id + 1) << 32
         WHERE tenant = ?1 AND run_id = ?2 ORDER BY record.id LIMIT ?4",
    )?;
    let mut rows = select.query((tenant, run_id, int(from_seq), int(limit as u64)))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?.parse()?;
        let body: Vec<u8> = row.get(3)?;
        records.push(RunRecord::new(
            uint(row.get(0)?),
            kind,
            uint(row.get(2)?),
            body.into(),
        ));
    }
    Ok(records)
}

fn list(
    db: &Connection,
    tenant: &str,
    filter: &RunFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Work<Page<RunHead>> {
    let mut select = db.prepare_cached(
        "SELECT run_id, graph, status, last_seq, snapshot_seq, fence, created_ms, updated_ms
         FROM run WHERE tenant = ?1 AND (?2 IS NULL OR graph = ?2) AND (?3 IS NULL OR status = ?3)
             AND (?4 IS NULL OR created_ms < ?4 OR (created_ms = ?4 AND run_id > ?5))
         ORDER BY created_ms DESC, run_id LIMIT ?6",
    )?;
    let (number, name) = cursor.map(|cursor| (int(cursor.number), cursor.name)).unzip();
    let mut rows = select.query(params![
        tenant,
        filter.graph,
        filter.status.map(RunStatus::as_str),
        number,
        name,
        int(limit as u64 + 1),
    ])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        heads.push(read_head(row)?);
    }
    let has_more = heads.len() > limit;
    heads.truncate(limit);
    let next = heads.last().filter(|_| has_more);
    let next = next.map(|head| Cursor::write(head.created_ms, &head.run_id));
    Ok(Page::new(heads, next))
}

fn claim(
    db: &Connection,
    tenant: &str,
    run_id: &str,
    owner: &str,
    fence: Option<u64>,
    time: Duration,
) -> Work<Lease> {
    let found = db
        .prepare_cached("SELECT id, owner, fence, lease_until_ms FROM run WHERE tenant = ?1 AND run_id = ?2")?
        .query_row((tenant, run_id), |row| {
            let holder = Holder {
                owner: row.get(1)?,
                fence: uint(row.get(2)?),
                until_ms: uint(row.get(3)?),
            };
            Ok((row.get::<_, i64>(0)?, holder))
        })
        .optional()?;
    let (id, mut holder) = found.ok_or_else(|| rules::not_found("run", run_id))?;
    let lease = holder.claim(run_id, owner, fence, rules::now_ms(), time)?;
    db.prepare_cached("UPDATE run SET owner = ?2, fence = ?3, lease_until_ms = ?4 WHERE id = ?1")?
        .execute((id, owner, int(lease.fence), int(lease.until_ms)))?;
    Ok(lease)
}

fn copy(db: &Connection, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Work<u64> {
    let (old, head) = find_run(db, scope.tenant(), run_id)?.ok_or_else(|| rules::not_found("run", run_id))?;
    if find_run(db, scope.tenant(), to)?.is_some() {
        return Err(rules::conflict_run().into());
    }
    let start = row_id(old, 0);
    let end = row_id(old, up_to.unwrap_or(MAX_SEQ).min(MAX_SEQ));
    let last = db
        .prepare_cached("SELECT id, at_ms FROM record WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1")?
        .query_row((start, end), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    let (last, updated) =
        last.ok_or_else(|| Error::invalid("up_to", "no record is left up to this number"))?;
    let snapshot: i64 = db
        .prepare_cached(
            "SELECT coalesce(max(id) - ?1, 0) FROM record WHERE id BETWEEN ?1 AND ?2 AND kind = 'snapshot'",
        )?
        .query_row((start, end), |row| row.get(0))?;
    let last_seq = uint(last - start);
    let status = if last_seq == head.last_seq {
        head.status
    } else {
        RunStatus::Running
    };
    db.prepare_cached(
        "INSERT INTO run (tenant, run_id, graph, status, actor, last_seq, snapshot_seq, created_ms, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        scope.tenant(),
        to,
        head.graph,
        status.as_str(),
        scope.actor(),
        int(last_seq),
        snapshot,
        int(head.created_ms),
        updated,
    ])?;
    let new = db.last_insert_rowid();
    check_owner_id(new)?;
    db.prepare_cached(
        "INSERT INTO record (id, kind, at_ms, body)
         SELECT id - ?1 + ?3, kind, at_ms, body FROM record WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
    )?
    .execute((start, end, row_id(new, 0)))?;
    Ok(last_seq)
}

fn remove_records(db: &Connection, id: i64, before_seq: u64) -> Work<u64> {
    let end = row_id(id, before_seq.min(MAX_SEQ + 1));
    let count = db
        .prepare_cached("DELETE FROM record WHERE id >= ?1 AND id < ?2")?
        .execute((row_id(id, 0), end))?;
    Ok(count as u64)
}

#[async_trait]
impl RunStore for SqliteStore {
    async fn append(&self, scope: &Scope, request: RunAppend) -> Result<u64> {
        rules::check_append(&request)?;
        let scope = scope.clone();
        self.inner
            .store
            .write(request.durability, move |db| append(db, &scope, &request))
            .await
    }

    async fn read(&self, scope: &Scope, run_id: &str, from_seq: u64, limit: usize) -> Result<Vec<RunRecord>> {
        check_name("run id", run_id)?;
        let (tenant, run_id) = (scope.tenant().to_owned(), run_id.to_owned());
        self.inner
            .store
            .read(move |db| read(db, &tenant, &run_id, from_seq, limit))
            .await
    }

    async fn head(&self, scope: &Scope, run_id: &str) -> Result<Option<RunHead>> {
        check_name("run id", run_id)?;
        let (tenant, run_id) = (scope.tenant().to_owned(), run_id.to_owned());
        self.inner
            .store
            .read(move |db| Ok(find_run(db, &tenant, &run_id)?.map(|(_, head)| head)))
            .await
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, page: PageRequest) -> Result<Page<RunHead>> {
        let cursor = Cursor::read(&page)?;
        let limit = rules::page_limit(&page);
        let (tenant, filter) = (scope.tenant().to_owned(), filter.clone());
        self.inner
            .store
            .read(move |db| list(db, &tenant, &filter, cursor, limit))
            .await
    }

    async fn claim(
        &self,
        scope: &Scope,
        run_id: &str,
        owner: &str,
        fence: Option<u64>,
        time: Duration,
    ) -> Result<Lease> {
        check_name("run id", run_id)?;
        check_name("owner", owner)?;
        let (tenant, run_id, owner) = (scope.tenant().to_owned(), run_id.to_owned(), owner.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                claim(db, &tenant, &run_id, &owner, fence, time)
            })
            .await
    }

    async fn copy(&self, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64> {
        check_name("run id", run_id)?;
        check_name("run id", to)?;
        let (scope, run_id, to) = (scope.clone(), run_id.to_owned(), to.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| copy(db, &scope, &run_id, &to, up_to))
            .await
    }

    async fn fork(
        &self,
        scope: &Scope,
        run_id: &str,
        to: &str,
        up_to: u64,
        record: NewRecord,
    ) -> Result<u64> {
        check_name("run id", run_id)?;
        check_name("run id", to)?;
        let mut added = RunAppend::new(to, "", up_to, vec![record]);
        rules::check_added(&added)?;
        let (scope, run_id) = (scope.clone(), run_id.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                added.after = copy(db, &scope, &run_id, &added.run_id, Some(up_to))?;
                append(db, &scope, &added)
            })
            .await
    }

    async fn replace(&self, scope: &Scope, request: RunAppend) -> Result<u64> {
        rules::check_append(&request)?;
        let scope = scope.clone();
        self.inner
            .store
            .write(request.durability, move |db| {
                append(db, &scope, &request)?;
                match find_run(db, scope.tenant(), &request.run_id)? {
                    Some((id, _)) => remove_records(db, id, request.after.saturating_add(1)),
                    None => Ok(0),
                }
            })
            .await
    }

    async fn prune(&self, scope: &Scope, run_id: &str, before_seq: u64) -> Result<u64> {
        check_name("run id", run_id)?;
        let (tenant, run_id) = (scope.tenant().to_owned(), run_id.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                match find_run(db, &tenant, &run_id)? {
                    Some((id, _)) => remove_records(db, id, before_seq),
                    None => Ok(0),
                }
            })
            .await
    }

    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool> {
        check_name("run id", run_id)?;
        let (tenant, run_id) = (scope.tenant().to_owned(), run_id.to_owned());
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                let Some((id, _)) = find_run(db, &tenant, &run_id)? else {
                    return Ok(false);
                };
                remove_records(db, id, MAX_SEQ + 1)?;
                db.prepare_cached("DELETE FROM run WHERE id = ?1")?
                    .execute([id])?;
                Ok(true)
            })
            .await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.store.flush().await
    }
}
