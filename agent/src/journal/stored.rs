//! A run in its store: where reading it begins, and its records in order.

use super::{Reader, Replay, damaged, open, unharmed};
use crate::{Graph, State};
use stepwell_core::{
    Error, Result, Scope,
    store::{RecordKind, RunHead, RunRecord, RunStore},
};

/// Records are read in pieces of so many.
const PAGE: usize = 512;

pub(crate) fn not_found(run_id: &str) -> Error {
    Error::NotFound {
        what: "run".into(),
        name: run_id.to_owned(),
        hint: "check the id, the scope and the store".into(),
    }
}

/// A run in its store.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) store: &'a dyn RunStore,
    pub(crate) scope: &'a Scope,
    pub(crate) run_id: &'a str,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(store: &'a dyn RunStore, scope: &'a Scope, run_id: &'a str) -> Self {
        Self { store, scope, run_id }
    }

    /// The run at a glance.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none.
    pub(crate) async fn head(&self) -> Result<RunHead> {
        let head = unharmed(self.store.head(self.scope, self.run_id)).await?;
        head.ok_or_else(|| not_found(self.run_id))
    }

    /// One record.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none of this number, or it was pruned.
    pub(crate) async fn record(&self, seq: u64) -> Result<RunRecord> {
        let found = unharmed(self.store.read(self.scope, self.run_id, seq, 1))
            .await?
            .pop();
        found
            .filter(|record| record.seq == seq)
            .ok_or_else(|| Error::NotFound {
                what: "checkpoint".into(),
                name: seq.to_string(),
                hint: "it may have been pruned; `history` lists those there are".into(),
            })
    }

    /// Where reading begins for the place after record `at`: at the last snapshot up to there, or else at the first record
    /// that is left.
    pub(crate) async fn base(&self, head: &RunHead, at: u64) -> Result<u64> {
        if head.snapshot_seq <= at {
            return Ok(head.snapshot_seq.max(1));
        }
        let mut end = at.saturating_add(1);
        loop {
            let from = end.saturating_sub(PAGE as u64).max(1);
            let most = usize::try_from(end - from).unwrap_or(PAGE);
            let records = unharmed(self.store.read(self.scope, self.run_id, from, most)).await?;
            let here = || records.iter().filter(|record| record.seq < end);
            if let Some(found) = here().rfind(|record| record.kind == RecordKind::Snapshot) {
                return Ok(found.seq);
            }
            let first = here().next().map(|record| record.seq);
            if first != Some(from) || from == 1 {
                return Ok(first.unwrap_or(end));
            }
            end = from;
        }
    }

    /// Hands out the records in order, up to a number, each checked. A damaged snapshot behind the first record tells
    /// nothing that the records before it did not: it is passed over.
    pub(crate) async fn read(
        &self,
        from: u64,
        up_to: u64,
        mut take: impl FnMut(&RunRecord, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut next = from;
        loop {
            let records = unharmed(self.store.read(self.scope, self.run_id, next, PAGE)).await?;
            for record in &records {
                if record.seq > up_to {
                    return Ok(());
                }
                if record.seq != next {
                    return Err(damaged(record.seq, format!("record {next} is missing before it")));
                }
                next += 1;
                match open(record) {
                    Ok(text) => take(record, text)?,
                    Err(Error::Damaged { .. })
                        if record.kind == RecordKind::Snapshot && record.seq > from =>
                    {
                        tracing::warn!(
                            run_id = self.run_id,
                            seq = record.seq,
                            "passed over a damaged snapshot"
                        );
                    }
                    Err(error) => return Err(error),
                }
            }
            if records.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// The run as it was after record `at`. Where the snapshot that reading begins with is damaged and the records before it
    /// are still there, those tell the same.
    pub(crate) async fn replay<S: State>(
        &self,
        graph: &Graph<S>,
        head: &RunHead,
        at: u64,
    ) -> Result<Replay<S>> {
        let base = self.base(head, at).await?;
        match self.replay_from(graph, base, at).await {
            Ok(replay) => Ok(replay),
            Err((seq, error @ Error::Damaged { .. })) if seq == base && base > 1 => {
                let earlier = self.base(head, base - 1).await?;
                if earlier >= base {
                    return Err(error);
                }
                tracing::warn!(run_id = self.run_id, seq = base, "read past a damaged snapshot");
                // One step back is enough: two damaged in a row are no accident.
                self.replay_from(graph, earlier, at).await.map_err(|_| error)
            }
            Err((_, error)) => Err(error),
        }
    }

    async fn replay_from<S: State>(
        &self,
        graph: &Graph<S>,
        base: u64,
        at: u64,
    ) -> Result<Replay<S>, (u64, Error)> {
        let mut reader = Reader::new(graph);
        let mut seq = base;
        let read = self.read(base, at, |record, text| {
            seq = record.seq;
            reader.take(record.seq, record.kind, text)
        });
        if let Err(error) = read.await {
            return Err((seq, error));
        }
        if !reader.has_start() {
            return Err((seq, damaged(base, "nothing stands there")));
        }
        reader.finish().map_err(|error| (0, error))
    }
}

/// Reads a run back.
pub(crate) async fn replay<S: State>(
    graph: &Graph<S>,
    store: &dyn RunStore,
    scope: &Scope,
    run_id: &str,
) -> Result<Replay<S>> {
    let stored = Stored::new(store, scope, run_id);
    let head = stored.head().await?;
    stored.replay(graph, &head, head.last_seq).await
}
