//! The usage ledger in SQLite.

use super::{SqliteStore, fault::Work, int, uint};
use crate::rules::{self, Cursor};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use stepwell_core::{
    Cost, Error, Result, Scope, Usage,
    store::{Durability, Page, PageRequest, UsageGroup, UsageLedger, UsageRow, UsageTotal},
};

fn record(db: &Connection, tenant: &str, row: &UsageRow) -> Work<()> {
    let Usage {
        input_tokens,
        cache_read_tokens,
        cache_write_tokens,
        cache_write_1h_tokens,
        output_tokens,
        reasoning_tokens,
        is_estimated,
        ..
    } = row.usage;
    db.prepare_cached(
        "INSERT INTO usage (tenant, usage_id, at_ms, purpose, provider, model, run_id, actor, input_tokens,
             cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
             is_estimated, micro_usd)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (tenant, usage_id) DO NOTHING",
    )?
    .execute(params![
        tenant,
        row.id,
        int(row.at_ms),
        row.purpose,
        row.provider,
        row.model,
        row.run_id,
        row.actor,
        input_tokens.map(int),
        cache_read_tokens.map(int),
        cache_write_tokens.map(int),
        cache_write_1h_tokens.map(int),
        output_tokens.map(int),
        reasoning_tokens.map(int),
        is_estimated,
        row.cost.map(|cost| int(cost.micro_usd)),
    ])?;
    Ok(())
}

/// Seven columns from this one on.
fn read_usage(row: &Row<'_>, first: usize) -> rusqlite::Result<Usage> {
    let figure = |offset| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(first + offset)?.map(uint));
    let mut usage = Usage::default();
    usage.input_tokens = figure(0)?;
    usage.cache_read_tokens = figure(1)?;
    usage.cache_write_tokens = figure(2)?;
    usage.cache_write_1h_tokens = figure(3)?;
    usage.output_tokens = figure(4)?;
    usage.reasoning_tokens = figure(5)?;
    usage.is_estimated = row.get(first + 6)?;
    Ok(usage)
}

fn read_cost(micro_usd: i64) -> Cost {
    Cost {
        micro_usd: uint(micro_usd),
    }
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let (id, purpose, provider, model): (String, String, String, String) =
        (row.get(0)?, row.get(2)?, row.get(3)?, row.get(4)?);
    let usage = read_usage(row, 7)?;
    let mut read = UsageRow::new(id, uint(row.get(1)?), purpose, provider, model, usage);
    read.run_id = row.get(5)?;
    read.actor = row.get(6)?;
    read.cost = row.get::<_, Option<i64>>(14)?.map(read_cost);
    Ok(read)
}

/// The statement of a grouping. Whole texts, not pieces put together: no text of a caller can come near them.
fn totals_sql(group: UsageGroup) -> Result<&'static str> {
    macro_rules! totals_by {
        ($group:literal) => {
            concat!(
                "SELECT ",
                $group,
                ", sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens),
                 sum(cache_write_1h_tokens), sum(output_tokens), sum(reasoning_tokens), max(is_estimated),
                 count(*), coalesce(sum(micro_usd), 0), sum(micro_usd IS NULL)
                 FROM usage WHERE tenant = ?1 AND at_ms >= ?2 AND at_ms < ?3 GROUP BY 1 ORDER BY 1"
            )
        };
    }
    Ok(match group {
        UsageGroup::None => totals_by!("''"),
        UsageGroup::Model => totals_by!("provider || '/' || model"),
        UsageGroup::Purpose => totals_by!("purpose"),
        UsageGroup::Actor => totals_by!("coalesce(actor, '')"),
        UsageGroup::Day => totals_by!("strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')"),
        _ => {
            return Err(Error::Unsupported {
                who: "the SQLite store".to_owned(),
                what: "this grouping".to_owned(),
                hint: "use one that this version knows".to_owned(),
            });
        }
    })
}

fn totals(db: &Connection, tenant: &str, from_ms: u64, to_ms: u64, sql: &str) -> Work<Vec<UsageTotal>> {
    let mut select = db.prepare_cached(sql)?;
    let rows = select.query_map((tenant, int(from_ms), int(to_ms)), |row| {
        let mut total = UsageTotal::default();
        total.group = row.get(0)?;
        total.usage = read_usage(row, 1)?;
        total.calls = uint(row.get(8)?);
        total.cost = read_cost(row.get(9)?);
        total.unpriced_calls = uint(row.get(10)?);
        Ok(total)
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn rows(
    db: &Connection,
    tenant: &str,
    from_ms: u64,
    to_ms: u64,
    cursor: Option<Cursor>,
    limit: usize,
) -> Work<Page<UsageRow>> {
    let mut select = db.prepare_cached(
        "SELECT usage_id, at_ms, purpose, provider, model, run_id, actor, input_tokens, cache_read_tokens,
             cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, is_estimated, micro_usd
         FROM usage WHERE tenant = ?1 AND at_ms >= ?2 AND at_ms < ?3
             AND (?4 IS NULL OR at_ms > ?4 OR (at_ms = ?4 AND usage_id > ?5))
         ORDER BY at_ms, usage_id LIMIT ?6",
    )?;
    let (number, name) = cursor.map(|cursor| (int(cursor.number), cursor.name)).unzip();
    let found = select.query_map(
        params![
            tenant,
            int(from_ms),
            int(to_ms),
            number,
            name,
            int(limit as u64 + 1)
        ],
        read_row,
    )?;
    let mut items = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more);
    let next = next.map(|last| Cursor::write(last.at_ms, &last.id));
    Ok(Page::new(items, next))
}

#[async_trait]
impl UsageLedger for SqliteStore {
    async fn record(&self, scope: &Scope, mut row: UsageRow) -> Result<()> {
        rules::check_usage(&row)?;
        row.actor = row.actor.or_else(|| scope.actor().map(str::to_owned));
        let tenant = scope.tenant().to_owned();
        self.inner
            .store
            .write(Durability::Sync, move |db| record(db, &tenant, &row))
            .await
    }

    async fn totals(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        group: UsageGroup,
    ) -> Result<Vec<UsageTotal>> {
        let sql = totals_sql(group)?;
        let tenant = scope.tenant().to_owned();
        let mut totals = self
            .inner
            .store
            .read(move |db| totals(db, &tenant, from_ms, to_ms, sql))
            .await?;
        if group == UsageGroup::None && totals.is_empty() {
            totals.push(UsageTotal::default());
        }
        Ok(totals)
    }

    async fn rows(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        page: PageRequest,
    ) -> Result<Page<UsageRow>> {
        let cursor = Cursor::read(&page)?;
        let limit = rules::page_limit(&page);
        let tenant = scope.tenant().to_owned();
        self.inner
            .store
            .read(move |db| rows(db, &tenant, from_ms, to_ms, cursor, limit))
            .await
    }

    async fn prune(&self, scope: &Scope, before_ms: u64) -> Result<u64> {
        let tenant = scope.tenant().to_owned();
        self.inner
            .store
            .write(Durability::Sync, move |db| {
                let count = db
                    .prepare_cached("DELETE FROM usage WHERE tenant = ?1 AND at_ms < ?2")?
                    .execute((&tenant, int(before_ms)))?;
                Ok(count as u64)
            })
            .await
    }
}
