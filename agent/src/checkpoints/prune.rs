//! [`Keep`]: what stays when the past of a run is pruned; [`RunSize`]: what a run weighs.

use crate::{
    Graph, State,
    journal::{Outline, SnapshotBody, Stored, encode, now_ms},
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use stepwell_core::{
    Error, Result, Scope,
    store::{NewRecord, PageRequest, RecordKind, RunAppend, RunStore},
};

/// Records are weighed in pieces of so many.
const PAGE: usize = 512;

/// What stays when the past of a run is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// The place where the run stands.
    Latest,
    /// So many checkpoints, the newest.
    Last(usize),
}

/// What a run weighs in its store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunSize {
    /// Number of the first record that is left.
    pub first_seq: u64,
    /// Number of the last record.
    pub last_seq: u64,
    /// How many records there are.
    pub records: u64,
    /// Bytes of all of them, without what the store adds.
    pub bytes: u64,
    /// How many of them are snapshots.
    pub snapshots: u64,
    /// Bytes of the last snapshot; 0 for none.
    pub snapshot_bytes: u64,
    /// Bytes of the records behind it: they are read to resume, and written into the next snapshot once they outweigh it.
    pub since_snapshot_bytes: u64,
    /// The kinds of records, by their stored words: how many, and their bytes.
    pub kinds: Vec<(String, u64, u64)>,
}

impl<S: State> Graph<S> {
    /// Forgets the past of a run: the checkpoints that stay can be looked at and forked from as before, and the run goes on
    /// as before, with what its broken step had finished, asked and memoised. Gives how many records went.
    ///
    /// Where no snapshot stands in the right place one is written, and the records that stay behind it, in one append:
    /// their checkpoints have new numbers then.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InvalidInput`] for nothing to keep, [`Error::Conflict`] where the run goes on at
    /// the same time, [`Error::LimitExceeded`] where more is to stay than the store takes at once, and those of
    /// [`Graph::view`]. The run is as it was then.
    pub async fn prune(&self, store: &dyn RunStore, scope: &Scope, run_id: &str, keep: Keep) -> Result<u64> {
        let most = match keep {
            Keep::Latest => 1,
            Keep::Last(0) => return Err(Error::invalid("prune", "keep at least one checkpoint")),
            Keep::Last(most) => most,
        };
        let stored = Stored::new(store, scope, run_id);
        let head = stored.head().await?;
        let Some(oldest) = self.nth_last(store, scope, run_id, most).await? else {
            return Ok(0); // there are no more than that
        };
        let base = stored.base(&head, oldest).await?;
        let mut outline = Outline::default();
        let (mut boundary, mut kind) = (base, RecordKind::Start);
        stored
            .read(base, oldest, |record, text| {
                if outline.take(record, text)?.is_some_and(|place| place.is_boundary) {
                    (boundary, kind) = (record.seq, record.kind);
                }
                Ok(())
            })
            .await?;
        if kind == RecordKind::Snapshot {
            return store.prune(scope, run_id, boundary).await;
        }
        let after = store.read(scope, run_id, boundary + 1, 1).await?;
        if kind == RecordKind::Step
            && after
                .first()
                .is_some_and(|after| after.kind == RecordKind::Snapshot)
        {
            return store.prune(scope, run_id, boundary + 1).await;
        }
        let replay = stored.replay(self, &head, boundary).await?;
        let snapshot = SnapshotBody {
            graph: Cow::Borrowed(self.shape()),
            state: replay.state.save()?,
            schedule: Cow::Borrowed(&replay.schedule),
            base: replay.base,
            used: Cow::Borrowed(&replay.used),
            kept: replay.kept.clone(),
        };
        let bytes = encode(RecordKind::Snapshot, &snapshot)?;
        let mut records = vec![NewRecord::new(RecordKind::Snapshot, now_ms(), bytes)];
        stored
            .read(boundary + 1, head.last_seq, |record, _| {
                records.push(NewRecord::new(record.kind, record.at_ms, record.body.clone()));
                Ok(())
            })
            .await?;
        let append = RunAppend::new(run_id, head.graph, head.last_seq, records);
        // In one piece: with both the old records and the new ones, steps and answers would stand there twice.
        store.replace(scope, append.status(head.status).sync()).await
    }

    /// What a run weighs. All of its records are read, and none is looked into.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such run.
    pub async fn run_size(&self, store: &dyn RunStore, scope: &Scope, run_id: &str) -> Result<RunSize> {
        let head = Stored::new(store, scope, run_id).head().await?;
        let mut size = RunSize::default();
        let mut next = 1;
        loop {
            let records = store.read(scope, run_id, next, PAGE).await?;
            for record in records.iter().filter(|record| record.seq <= head.last_seq) {
                let bytes = record.body.len() as u64;
                size.first_seq = if size.records == 0 {
                    record.seq
                } else {
                    size.first_seq
                };
                size.last_seq = record.seq;
                size.records += 1;
                size.bytes += bytes;
                if record.kind == RecordKind::Snapshot {
                    size.snapshots += 1;
                    (size.snapshot_bytes, size.since_snapshot_bytes) = (bytes, 0);
                } else {
                    size.since_snapshot_bytes += bytes;
                }
                let word = record.kind.as_str();
                match size.kinds.iter_mut().find(|(kind, ..)| kind == word) {
                    Some((_, count, all)) => (*count, *all) = (*count + 1, *all + bytes),
                    None => size.kinds.push((word.to_owned(), 1, bytes)),
                }
                next = record.seq + 1;
            }
            if records.len() < PAGE || next > head.last_seq {
                return Ok(size);
            }
        }
    }

    /// The checkpoint before which so many are, counted from the newest; `None` where no more than those are there.
    async fn nth_last(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        mut most: usize,
    ) -> Result<Option<u64>> {
        let mut page = PageRequest::first(most);
        loop {
            let found = self.history(store, scope, run_id, page).await?;
            let Some(next) = found.next else {
                return Ok(None);
            };
            most -= found.items.len();
            if most == 0 {
                return Ok(found.items.last().map(|last| last.seq));
            }
            page = PageRequest::after(next, most);
        }
    }
}
