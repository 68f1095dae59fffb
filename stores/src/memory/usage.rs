//! The usage ledger in memory.

use super::MemoryStore;
use crate::rules::{self, Cursor};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashSet};
use stepwell_core::{
    Error, Result, Scope,
    store::{Page, PageRequest, UsageGroup, UsageLedger, UsageRow, UsageTotal},
};

#[derive(Default)]
pub(super) struct Rows {
    ids: HashSet<String>,
    by_time: BTreeMap<(u64, String), UsageRow>,
}

fn group_name(row: &UsageRow, group: UsageGroup) -> Result<String> {
    Ok(match group {
        UsageGroup::None => String::new(),
        UsageGroup::Model => format!("{}/{}", row.provider, row.model),
        UsageGroup::Purpose => row.purpose.clone(),
        UsageGroup::Actor => row.actor.clone().unwrap_or_default(),
        UsageGroup::Day => rules::day(row.at_ms),
        _ => return Err(unknown_group()),
    })
}

fn unknown_group() -> Error {
    Error::Unsupported {
        who: "the memory store".to_owned(),
        what: "this grouping".to_owned(),
        hint: "use one that this version knows".to_owned(),
    }
}

fn add(total: &mut UsageTotal, row: &UsageRow) {
    total.calls += 1;
    total.usage.add(&row.usage);
    match row.cost {
        Some(cost) => total.cost.micro_usd = total.cost.micro_usd.saturating_add(cost.micro_usd),
        None => total.unpriced_calls += 1,
    }
}

#[async_trait]
impl UsageLedger for MemoryStore {
    async fn record(&self, scope: &Scope, mut row: UsageRow) -> Result<()> {
        rules::check_usage(&row)?;
        row.actor = row.actor.or_else(|| scope.actor().map(str::to_owned));
        self.inner.usage.with(scope, |rows| {
            if rows.ids.insert(row.id.clone()) {
                rows.by_time.insert((row.at_ms, row.id.clone()), row);
            }
        });
        Ok(())
    }

    async fn totals(
        &self,
        scope: &Scope,
        from_ms: u64,
        to_ms: u64,
        group: UsageGroup,
    ) -> Result<Vec<UsageTotal>> {
        self.inner.usage.with(scope, |rows| {
            let mut totals: BTreeMap<String, UsageTotal> = BTreeMap::new();
            if group == UsageGroup::None {
                totals.insert(String::new(), UsageTotal::default());
            }
            for row in rows.by_time.values() {
                if (from_ms..to_ms).contains(&row.at_ms) {
                    let name = group_name(row, group)?;
                    let total = totals.entry(name.clone()).or_default();
                    total.group = name;
                    add(total, row);
                }
            }
            Ok(totals.into_values().collect())
        })
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
        Ok(self.inner.usage.with(scope, |rows| {
            let mut found = rows
                .by_time
                .values()
                .filter(|row| (from_ms..to_ms).contains(&row.at_ms))
                .filter(|row| {
                    cursor
                        .as_ref()
                        .is_none_or(|cursor| (row.at_ms, &row.id) > (cursor.number, &cursor.name))
                })
                .cloned();
            let items: Vec<_> = found.by_ref().take(limit).collect();
            let next = found.next().and(items.last());
            let next = next.map(|last| Cursor::write(last.at_ms, &last.id));
            Page::new(items, next)
        }))
    }

    async fn prune(&self, scope: &Scope, before_ms: u64) -> Result<u64> {
        Ok(self.inner.usage.with(scope, |rows| {
            let kept = rows.by_time.split_off(&(before_ms, String::new()));
            let gone = std::mem::replace(&mut rows.by_time, kept);
            for (_, id) in gone.keys() {
                rows.ids.remove(id);
            }
            gone.len() as u64
        }))
    }
}
