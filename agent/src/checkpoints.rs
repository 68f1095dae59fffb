//! [`Checkpoint`]: a place in a run's journal that one can look at, return to or fork from; and what is done with stored
//! runs from outside: editing, pruning, migrating and checking them.

mod check;
mod edit;
mod migration;
mod prune;

pub use check::{CheckedRun, RunsCheck};
pub use edit::StateUpdate;
pub use migration::Migration;
pub(crate) use migration::migrate;
pub use prune::{Keep, RunSize};

use crate::{
    Failure, Graph, Run, RunView, State,
    journal::{ForkBody, Outline, Stored, encode, is_place, now_ms},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stepwell_core::{
    Error, Result, Scope,
    store::{NewRecord, Page, PageRequest, RecordKind, RunStore},
};

/// What made a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckpointSource {
    /// The run's input, or that of a further turn.
    Input,
    /// A step ended.
    Step,
    /// The state was changed from outside.
    Edit,
    /// The run was forked from another, at this checkpoint of it.
    Fork {
        /// The other run.
        run_id: String,
        /// Its checkpoint.
        seq: u64,
    },
    /// What was there before was pruned, or written by another version of the graph and migrated.
    Snapshot,
}

/// A place in a run's journal that one can look at, return to or fork from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Its number: that of a record of the journal.
    pub seq: u64,
    /// Steps that had ended.
    pub step: u32,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What made it.
    #[serde(flatten)]
    pub source: CheckpointSource,
    /// Nodes whose writes were folded in, in order of declaration.
    pub nodes: Vec<String>,
    /// Nodes of the step that follows, in order of declaration; empty at the end.
    pub next: Vec<String>,
    /// Why the run stopped in the step that follows, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Bytes of the records since the checkpoint before, its own included.
    pub bytes: u64,
}

impl<S: State> Graph<S> {
    /// The checkpoints of a run, newest first. A page reads the records since the snapshot before it, and no state.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::UnknownVersion`]; [`Error::InvalidInput`] for a page that is none.
    pub async fn history(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        page: PageRequest,
    ) -> Result<Page<Checkpoint>> {
        let stored = Stored::new(store, scope, run_id);
        let head = stored.head().await?;
        let mut end = match &page.after {
            None => head.last_seq + 1,
            Some(after) => after.parse().map_err(|_| {
                Error::invalid(
                    "page",
                    "give it the `next` of the page before, or none for the first",
                )
            })?,
        };
        let limit = page.limit.clamp(1, 1_000);
        let mut found: Vec<Checkpoint> = Vec::new();
        // Of a snapshot that repeats the step before it.
        let mut repeated: Option<Checkpoint> = None;
        while found.len() <= limit && end > 1 {
            let base = stored.base(&head, end - 1).await?;
            if base >= end {
                break;
            }
            let mut places = checkpoints(&stored, base, end - 1).await?;
            if let (Some(repeated), Some(last)) = (repeated.take(), places.last_mut()) {
                last.failure = repeated.failure;
                last.bytes += repeated.bytes;
            }
            if base > 1 {
                let before = store.read(scope, run_id, base - 1, 1).await?;
                if before
                    .first()
                    .is_some_and(|record| record.seq < base && record.kind == RecordKind::Step)
                {
                    repeated = Some(places.remove(0));
                }
            }
            found.extend(places.into_iter().rev());
            end = base;
        }
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more);
        let next = next.map(|last| last.seq.to_string());
        Ok(Page::new(found, next))
    }

    /// The run as it was at a checkpoint: the state, and what came next. What tasks of a broken step had finished is shown at
    /// the run's last record only, as [`Graph::view`] does.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a number that is not there, [`Error::InvalidInput`] for a record that is no checkpoint, and
    /// those of [`Graph::view`].
    pub async fn state_at(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        seq: u64,
    ) -> Result<RunView<S>> {
        let stored = Stored::new(store, scope, run_id);
        let head = stored.head().await?;
        if seq != head.last_seq {
            check_place(&stored, seq).await?;
        }
        let mut replay = stored.replay(self, &head, seq).await?;
        if seq != head.last_seq {
            replay.forget_step();
        }
        RunView::new(self, replay)
    }

    /// Makes a new run of all a run had done up to a checkpoint; resume it to go on from there. Neither run knows of the
    /// other. What a broken step had finished, asked or memoised behind the checkpoint stays behind.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use stepwell_agent::{Channels, ChannelsUpdate, Graph};
    /// # use stepwell_core::{Result, Scope, store::{PageRequest, RunStore}};
    /// /// What would have come of it with another draft?
    /// async fn again(graph: &Graph<Channels>, store: Arc<dyn RunStore>) -> Result<Channels> {
    ///     let scope = Scope::local();
    ///     let history = graph.history(&*store, &scope, "letter-1", PageRequest::default()).await?;
    ///     let drafted = history.items.iter().find(|place| place.nodes == ["draft"]).expect("it ran");
    ///     graph.fork(&*store, &scope, "letter-1", drafted.seq, "letter-2").await?;
    ///     let shorter = ChannelsUpdate::new().set("text", "Dear Ada");
    ///     graph.update_state(&*store, &scope, "letter-2", shorter, Some("draft")).await?;
    ///     Ok(graph.resume("letter-2").store(store).await?.state)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such run or checkpoint, [`Error::InvalidInput`] for a record that is no
    /// checkpoint, [`Error::Conflict`] where the new id is taken.
    pub async fn fork(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        at: u64,
        new_run_id: &str,
    ) -> Result<()> {
        let stored = Stored::new(store, scope, run_id);
        stored.head().await?;
        check_place(&stored, at).await?;
        let body = ForkBody {
            run_id: run_id.to_owned(),
            seq: at,
        };
        let record = NewRecord::new(RecordKind::Fork, now_ms(), encode(RecordKind::Fork, &body)?);
        // In one piece: half a fork would go on as if it were the other run.
        store
            .fork(scope, run_id, new_run_id, at, record)
            .await
            .map(|_| ())
    }

    /// Forks a run at a checkpoint and goes on from there; from the last checkpoint of a run that is done there is nothing
    /// to do. Give the run that is returned what it needs and await it.
    ///
    /// # Errors
    /// Those of [`Graph::fork`].
    pub async fn replay(
        &self,
        store: Arc<dyn RunStore>,
        scope: &Scope,
        run_id: &str,
        from: u64,
        new_run_id: &str,
    ) -> Result<Run<S>> {
        self.fork(&*store, scope, run_id, from, new_run_id).await?;
        Ok(self.resume(new_run_id).scope(scope.clone()).store(store))
    }

    /// Copies a run as it is, what it waits for included, under a new id.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such run, [`Error::Conflict`] where the new id is taken.
    pub async fn copy(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        new_run_id: &str,
    ) -> Result<()> {
        store.copy(scope, run_id, new_run_id, None).await.map(|_| ())
    }

    /// Deletes a run; whether there was one. Forks and copies of it stay.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, store: &dyn RunStore, scope: &Scope, run_id: &str) -> Result<bool> {
        store.delete(scope, run_id).await
    }
}

/// The checkpoints of these records, oldest first.
async fn checkpoints(stored: &Stored<'_>, base: u64, up_to: u64) -> Result<Vec<Checkpoint>> {
    let mut outline = Outline::default();
    let mut found: Vec<Checkpoint> = Vec::new();
    let mut bytes = 0;
    stored
        .read(base, up_to, |record, text| {
            bytes += record.body.len() as u64;
            if let Some(place) = outline.take(record, text)? {
                found.push(Checkpoint {
                    seq: record.seq,
                    step: outline.schedule.step,
                    at_ms: record.at_ms,
                    source: place.source,
                    nodes: place.nodes,
                    next: outline.next(),
                    failure: None,
                    bytes: std::mem::take(&mut bytes),
                });
            } else if let Some(last) = found.last_mut()
                && outline.failure.is_some()
            {
                last.failure.clone_from(&outline.failure);
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

async fn check_place(stored: &Stored<'_>, seq: u64) -> Result<()> {
    let record = stored.record(seq).await?;
    if is_place(record.kind) {
        return Ok(());
    }
    Err(Error::invalid(
        "checkpoint",
        format!("record {seq} is in the middle of a step; `history` lists the checkpoints"),
    ))
}
