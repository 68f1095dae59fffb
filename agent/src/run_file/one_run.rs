//! [`OneRun`]: the store that a replayed run writes into.

use async_trait::async_trait;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stepwell_core::{
    Error, Result, Scope,
    store::{Lease, Page, PageRequest, RecordKind, RunAppend, RunFilter, RunHead, RunRecord, RunStore},
};

/// Holds the journal of one run in memory, whoever's it is.
#[derive(Debug)]
pub(super) struct OneRun(Mutex<(RunHead, Vec<RunRecord>)>);

impl OneRun {
    pub(super) fn new(run_id: &str, graph: &str) -> Self {
        Self(Mutex::new((RunHead::new(run_id, graph), Vec::new())))
    }

    fn lock(&self) -> MutexGuard<'_, (RunHead, Vec<RunRecord>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn records(&self) -> Vec<RunRecord> {
        self.lock().1.clone()
    }
}

fn refused(what: &str) -> Error {
    Error::Unsupported {
        who: "the store of a replayed run".into(),
        what: what.into(),
        hint: "import the run file into a store of your own".into(),
    }
}

#[async_trait]
impl RunStore for OneRun {
    async fn append(&self, _: &Scope, append: RunAppend) -> Result<u64> {
        let mut kept = self.lock();
        let (head, records) = &mut *kept;
        if *append.run_id != *head.run_id || append.after != head.last_seq {
            return Err(Error::Conflict {
                what: format!("run `{}`", append.run_id),
            });
        }
        for record in append.records {
            head.last_seq += 1;
            if record.kind == RecordKind::Snapshot {
                head.snapshot_seq = head.last_seq;
            }
            records.push(RunRecord::new(
                head.last_seq,
                record.kind,
                record.at_ms,
                record.body,
            ));
        }
        head.status = append.status;
        Ok(head.last_seq)
    }

    async fn read(&self, _: &Scope, run_id: &str, from_seq: u64, limit: usize) -> Result<Vec<RunRecord>> {
        let kept = self.lock();
        let (head, records) = &*kept;
        let from = usize::try_from(from_seq.max(1) - 1).unwrap_or(usize::MAX);
        let is_it = head.run_id == run_id;
        Ok(records
            .iter()
            .filter(|_| is_it)
            .skip(from)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn head(&self, _: &Scope, run_id: &str) -> Result<Option<RunHead>> {
        let kept = self.lock();
        Ok((kept.0.run_id == run_id && !kept.1.is_empty()).then(|| kept.0.clone()))
    }

    async fn list(&self, _: &Scope, _: &RunFilter, _: PageRequest) -> Result<Page<RunHead>> {
        Err(refused("a list of runs"))
    }

    async fn claim(&self, _: &Scope, _: &str, _: &str, _: Option<u64>, _: Duration) -> Result<Lease> {
        Err(refused("a claim"))
    }

    async fn copy(&self, _: &Scope, _: &str, _: &str, _: Option<u64>) -> Result<u64> {
        Err(refused("a copy"))
    }

    async fn prune(&self, _: &Scope, _: &str, _: u64) -> Result<u64> {
        Err(refused("pruning"))
    }

    async fn delete(&self, _: &Scope, _: &str) -> Result<bool> {
        Err(refused("deleting"))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}
