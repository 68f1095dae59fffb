//! A dry run over stored runs: which of them this graph could go on with.

use crate::{
    Compatibility, Graph, GraphShape, State,
    journal::{Outline, Stored, renumber},
};
use serde::{Deserialize, Serialize};
use stepwell_core::{
    Error, Result, Scope,
    store::{PageRequest, RecordKind, RunFilter, RunHead, RunStatus, RunStore},
};

/// A run that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckedRun {
    /// The run.
    pub run_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// What changed, or why it cannot go on: one sentence each.
    pub reasons: Vec<String>,
}

/// Which stored runs a graph could go on with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunsCheck {
    /// Of this very graph.
    pub same: Vec<CheckedRun>,
    /// Of another version of it, and they go on.
    pub compatible: Vec<CheckedRun>,
    /// They go on with a [`crate::Migration`].
    pub needs_migration: Vec<CheckedRun>,
    /// Of another graph.
    pub refused: Vec<CheckedRun>,
    /// Damaged, or written by a newer version of this library.
    pub unreadable: Vec<CheckedRun>,
}

impl RunsCheck {
    /// How many runs were looked at.
    pub fn total(&self) -> usize {
        let verdicts = [
            &self.same,
            &self.compatible,
            &self.needs_migration,
            &self.refused,
            &self.unreadable,
        ];
        verdicts.into_iter().map(Vec::len).sum()
    }

    /// Whether every run goes on as it is.
    pub fn is_clear(&self) -> bool {
        self.total() == self.same.len() + self.compatible.len()
    }
}

impl<S: State> Graph<S> {
    /// Looks which of the stored runs this graph could go on with, before it is deployed; nothing is written. Of each run
    /// the records since its last snapshot are read, without the state, and of one that cannot go on only the first of them.
    ///
    /// # Errors
    /// Those of the store. A run that cannot be read is no error, it is told.
    pub async fn check_runs(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        filter: &RunFilter,
    ) -> Result<RunsCheck> {
        let mut check = RunsCheck::default();
        let mut page = PageRequest::first(1_000);
        loop {
            let runs = store.list(scope, filter, page).await?;
            for head in runs.items {
                let verdict = self
                    .check_run(&Stored::new(store, scope, &head.run_id), &head)
                    .await;
                let (list, reasons) = match verdict {
                    Ok(Compatibility::Same) => (&mut check.same, Vec::new()),
                    Ok(Compatibility::Compatible { changes }) => (&mut check.compatible, changes),
                    Ok(Compatibility::NeedsMigration { reasons }) => (&mut check.needs_migration, reasons),
                    Ok(Compatibility::Refused { reasons }) => (&mut check.refused, reasons),
                    Err(error @ (Error::Damaged { .. } | Error::UnknownVersion { .. })) => {
                        (&mut check.unreadable, vec![error.to_string()])
                    }
                    Err(Error::NotFound { .. }) => continue, // deleted since the list was made
                    Err(error) => return Err(error),
                };
                list.push(CheckedRun {
                    run_id: head.run_id,
                    status: head.status,
                    reasons,
                });
            }
            match runs.next {
                Some(next) => page = PageRequest::after(next, 1_000),
                None => return Ok(check),
            }
        }
    }

    async fn check_run(&self, stored: &Stored<'_>, head: &RunHead) -> Result<Compatibility> {
        let base = stored.base(head, head.last_seq).await?;
        let mut outline = Outline::default();
        stored
            .read(base, base, |record, text| outline.take(record, text).map(drop))
            .await?;
        let mut verdict = outline.shape.compare(self.shape());
        if goes_on(&verdict) {
            let mut later: Vec<GraphShape> = Vec::new();
            stored
                .read(base, head.last_seq, |record, text| {
                    outline.take(record, text)?;
                    if record.kind == RecordKind::Start && record.seq > base {
                        later.push(outline.shape.clone());
                    }
                    Ok(())
                })
                .await?;
            for shape in later {
                if goes_on(&verdict) {
                    verdict = shape.compare(self.shape());
                }
            }
        }
        if let Compatibility::Compatible { .. } = verdict
            && let Err(Error::Unsupported { what, .. }) =
                renumber(&mut outline.schedule.clone(), &outline.shape, self.shape())
        {
            verdict = Compatibility::NeedsMigration { reasons: vec![what] };
        }
        Ok(verdict)
    }
}

fn goes_on(verdict: &Compatibility) -> bool {
    matches!(verdict, Compatibility::Same | Compatibility::Compatible { .. })
}
