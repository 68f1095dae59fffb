//! Runs in memory.

use super::MemoryStore;
use crate::rules::{self, Cursor, Holder};
use async_trait::async_trait;
use std::{collections::HashMap, sync::Arc, time::Duration};
use stepwell_core::{
    Error, Result, Scope,
    store::{
        Lease, NewRecord, Page, PageRequest, RecordKind, RunAppend, RunFilter, RunHead, RunRecord, RunStatus,
        RunStore, check_name,
    },
};

pub(super) type Runs = HashMap<String, Run>;

#[derive(Clone)]
pub(super) struct Run {
    head: RunHead,
    holder: Holder,
    /// In order of their numbers; those before the first were pruned.
    records: Vec<RunRecord>,
}

impl Run {
    fn position(&self, seq: u64) -> usize {
        self.records.partition_point(|record| record.seq < seq)
    }
}

fn append_to(runs: &mut Runs, append: RunAppend) -> Result<u64> {
    let RunAppend {
        run_id,
        graph,
        status,
        records,
        after,
        fence,
        ..
    } = append;
    let run = if let Some(run) = runs.get_mut(&*run_id) {
        if run.head.last_seq != after || run.head.fence != fence {
            return Err(rules::conflict_run());
        }
        run
    } else {
        if after != 0 || fence != 0 {
            return Err(rules::conflict_run());
        }
        runs.entry(run_id.to_string()).or_insert_with(|| Run {
            head: RunHead::new(&*run_id, graph),
            holder: Holder::default(),
            records: Vec::new(),
        })
    };
    for new in records {
        let head = &mut run.head;
        head.last_seq += 1;
        if head.last_seq == 1 {
            head.created_ms = new.at_ms;
        }
        head.updated_ms = new.at_ms;
        if new.kind == RecordKind::Snapshot {
            head.snapshot_seq = head.last_seq;
        }
        run.records
            .push(RunRecord::new(head.last_seq, new.kind, new.at_ms, new.body));
    }
    run.head.status = status;
    Ok(run.head.last_seq)
}

fn copy_in(runs: &mut Runs, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64> {
    let run = runs.get(run_id).ok_or_else(|| rules::not_found("run", run_id))?;
    if runs.contains_key(to) {
        return Err(rules::conflict_run());
    }
    let end = up_to.map_or(run.records.len(), |seq| run.position(seq.saturating_add(1)));
    let records = run.records[..end].to_vec();
    let Some(last) = records.last() else {
        return Err(Error::invalid("up_to", "no record is left up to this number"));
    };
    let mut head = RunHead::new(to, run.head.graph.clone());
    head.created_ms = run.head.created_ms;
    head.updated_ms = last.at_ms;
    head.last_seq = last.seq;
    head.status = if last.seq == run.head.last_seq {
        run.head.status
    } else {
        RunStatus::Running
    };
    head.snapshot_seq = records
        .iter()
        .rfind(|record| record.kind == RecordKind::Snapshot)
        .map_or(0, |record| record.seq);
    let seq = head.last_seq;
    let holder = Holder::default();
    runs.insert(
        to.to_owned(),
        Run {
            head,
            holder,
            records,
        },
    );
    Ok(seq)
}

fn remove_before(runs: &mut Runs, run_id: &str, before_seq: u64) -> u64 {
    runs.get_mut(run_id).map_or(0, |run| {
        let end = run.position(before_seq);
        run.records.drain(..end).count() as u64
    })
}

#[async_trait]
impl RunStore for MemoryStore {
    async fn append(&self, scope: &Scope, append: RunAppend) -> Result<u64> {
        rules::check_append(&append)?;
        self.inner.runs.with(scope, |runs| append_to(runs, append))
    }

    async fn read(&self, scope: &Scope, run_id: &str, from_seq: u64, limit: usize) -> Result<Vec<RunRecord>> {
        check_name("run id", run_id)?;
        Ok(self.inner.runs.with(scope, |runs| {
            runs.get(run_id).map_or_else(Vec::new, |run| {
                let rest = &run.records[run.position(from_seq)..];
                rest.iter().take(limit).cloned().collect()
            })
        }))
    }

    async fn head(&self, scope: &Scope, run_id: &str) -> Result<Option<RunHead>> {
        check_name("run id", run_id)?;
        Ok(self
            .inner
            .runs
            .with(scope, |runs| runs.get(run_id).map(|run| run.head.clone())))
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, page: PageRequest) -> Result<Page<RunHead>> {
        let cursor = Cursor::read(&page)?;
        let limit = rules::page_limit(&page);
        let mut heads: Vec<RunHead> = self.inner.runs.with(scope, |runs| {
            runs.values()
                .map(|run| &run.head)
                .filter(|head| filter.graph.as_ref().is_none_or(|graph| *graph == head.graph))
                .filter(|head| filter.status.is_none_or(|status| status == head.status))
                .filter(|head| {
                    cursor.as_ref().is_none_or(|cursor| {
                        head.created_ms < cursor.number
                            || (head.created_ms == cursor.number && head.run_id > cursor.name)
                    })
                })
                .cloned()
                .collect()
        });
        heads.sort_by(|a, b| (b.created_ms, &a.run_id).cmp(&(a.created_ms, &b.run_id)));
        let has_more = heads.len() > limit;
        heads.truncate(limit);
        let next = heads.last().filter(|_| has_more);
        let next = next.map(|head| Cursor::write(head.created_ms, &head.run_id));
        Ok(Page::new(heads, next))
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
        self.inner.runs.with(scope, |runs| {
            let run = runs
                .get_mut(run_id)
                .ok_or_else(|| rules::not_found("run", run_id))?;
            let lease = run.holder.claim(run_id, owner, fence, rules::now_ms(), time)?;
            run.head.fence = lease.fence;
            Ok(lease)
        })
    }

    async fn copy(&self, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64> {
        check_name("run id", run_id)?;
        check_name("run id", to)?;
        self.inner
            .runs
            .with(scope, |runs| copy_in(runs, run_id, to, up_to))
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
        let mut append = RunAppend::new(to, "", up_to, vec![record]);
        rules::check_added(&append)?;
        self.inner.runs.with(scope, |runs| {
            append.after = copy_in(runs, run_id, to, Some(up_to))?;
            append_to(runs, append)
        })
    }

    async fn replace(&self, scope: &Scope, append: RunAppend) -> Result<u64> {
        rules::check_append(&append)?;
        let (run_id, after) = (Arc::clone(&append.run_id), append.after);
        self.inner.runs.with(scope, |runs| {
            append_to(runs, append)?;
            Ok(remove_before(runs, &run_id, after.saturating_add(1)))
        })
    }

    async fn prune(&self, scope: &Scope, run_id: &str, before_seq: u64) -> Result<u64> {
        check_name("run id", run_id)?;
        Ok(self
            .inner
            .runs
            .with(scope, |runs| remove_before(runs, run_id, before_seq)))
    }

    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool> {
        check_name("run id", run_id)?;
        Ok(self.inner.runs.with(scope, |runs| runs.remove(run_id).is_some()))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}
