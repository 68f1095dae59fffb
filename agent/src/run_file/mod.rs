//! [`RunFile`]: a whole run in one file. What it holds can be looked at without its graph ([`RunTrace`]), replayed without
//! a network ([`crate::Graph::replay_file`]), forked with another model, and compared ([`RunComparison`]).

mod bytes;
mod compare;
mod flat;
mod one_run;
mod recording;
mod replay;
mod trace;
mod unfold;

pub(crate) use compare::usd;
pub use compare::{NodeComparison, RunComparison, RunSummary};
pub(crate) use recording::Recording;
pub use replay::{Divergence, ReplayReport};
pub use trace::{RunTrace, TraceCall, TraceChange, TraceMemo, TraceQuestion, TraceRun, TraceStep, TraceTask};

use crate::journal::{ForkBody, StepBody, encode, not_found, open, read};
use std::{
    fmt::{self, Debug},
    io::{Read as _, Write as _},
    path::Path,
};
use stepwell_core::{
    Error, Result, Scope,
    store::{NewRecord, RecordKind, RunAppend, RunHead, RunRecord, RunStatus, RunStore},
};

/// Records are read in pieces of so many.
const PAGE: usize = 512;
/// Bounds on a file, unpacked.
const BYTES: usize = 1 << 30;

/// A whole run: its journal's records as they are, with the recorded results of models and tools in them.
///
/// A journal holds no keys and no headers: credentials never enter a run's records. What people, models and tools said is
/// in it in plain words; a file is as confidential as the conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct RunFile {
    head: RunHead,
    records: Vec<RunRecord>,
}

impl Debug for RunFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunFile")
            .field("run_id", &self.head.run_id)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl RunFile {
    /// Takes a run out of a store. Each record is checked. A run that goes on meanwhile is taken as far as it was.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::UnknownVersion`], [`Error::LimitExceeded`] beyond 1 GiB.
    pub async fn export(store: &dyn RunStore, scope: &Scope, run_id: &str) -> Result<Self> {
        let head = store
            .head(scope, run_id)
            .await?
            .ok_or_else(|| not_found(run_id))?;
        let mut records: Vec<RunRecord> = Vec::new();
        let (mut from, mut bytes) = (1, 0usize);
        'pages: loop {
            let page = store.read(scope, run_id, from, PAGE).await?;
            let is_last = page.len() < PAGE;
            for record in page {
                if record.seq > head.last_seq {
                    break 'pages;
                }
                bytes = bytes.saturating_add(record.body.len() + 32);
                check_size(bytes)?;
                from = record.seq + 1;
                records.push(record);
            }
            if is_last {
                break;
            }
        }
        let file = Self { head, records };
        file.check()?;
        Ok(file)
    }

    /// Reads a file from bytes. Everything is checked: the file's checksum, each record's, and that none is missing.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::UnknownVersion`], [`Error::LimitExceeded`] beyond 1 GiB unpacked.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = bytes::read(bytes)?;
        file.check()?;
        Ok(file)
    }

    /// The file's bytes, packed.
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes::write(self)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`RunFile::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error| Error::io(format!("reading `{}`", path.display()), error);
        let mut file = std::fs::File::open(path).map_err(failed)?;
        // Nothing large is read before it is known to be a run file of a size that is taken.
        let mut bytes = Vec::new();
        let head = bytes::HEADER as u64;
        (&mut file).take(head).read_to_end(&mut bytes).map_err(failed)?;
        bytes::check_header(&bytes)?;
        let length = file.metadata().map_err(failed)?.len();
        check_size(usize::try_from(length).unwrap_or(usize::MAX))?;
        file.take(BYTES as u64 + 1 - head)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        check_size(bytes.len())?;
        Self::from_bytes(&bytes)
    }

    /// Writes the file; one that is there is replaced.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |error| Error::io(format!("writing `{}`", path.display()), error);
        let mut file = std::fs::File::create(path).map_err(failed)?;
        file.write_all(&self.to_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    /// Puts the run into a store under this id; gives the number of its last record. Records count from 1 there.
    ///
    /// Messages keep the ids they were given; a run that is replayed has to keep its own id, one that goes on need not.
    ///
    /// # Errors
    /// [`Error::Conflict`] where there is a run of this id; nothing is written then.
    pub async fn import(&self, store: &dyn RunStore, scope: &Scope, run_id: &str) -> Result<u64> {
        self.append(
            store,
            scope,
            run_id,
            self.new_records(self.records.len()),
            self.head.status,
        )
        .await
    }

    /// Puts the run into a store under this id as it was after a step, to go on from there with another model, prompt or
    /// graph: the recording stands for the steps before, and what comes after is live. 0 is the place before the first
    /// step. Go on with [`crate::Graph::resume`].
    ///
    /// # Errors
    /// [`Error::NotFound`] where the run has not come to that step; [`Error::Conflict`] where there is a run of this id.
    pub async fn fork(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        after_step: u32,
    ) -> Result<u64> {
        let Some(place) = self.place_after(after_step)? else {
            return Err(Error::NotFound {
                what: "step".into(),
                name: after_step.to_string(),
                hint: format!("the run `{}` has no record of its end", self.head.run_id),
            });
        };
        let mut records = self.new_records(place + 1);
        let fork = ForkBody {
            run_id: self.head.run_id.clone(),
            seq: self.records[place].seq,
        };
        let at_ms = self.records[place].at_ms;
        records.push(NewRecord::new(
            RecordKind::Fork,
            at_ms,
            encode(RecordKind::Fork, &fork)?,
        ));
        self.append(store, scope, run_id, records, RunStatus::Running)
            .await
    }

    async fn append(
        &self,
        store: &dyn RunStore,
        scope: &Scope,
        run_id: &str,
        records: Vec<NewRecord>,
        status: RunStatus,
    ) -> Result<u64> {
        let append = RunAppend::new(run_id, &self.head.graph, 0, records)
            .status(status)
            .sync();
        store.append(scope, append).await
    }

    fn new_records(&self, count: usize) -> Vec<NewRecord> {
        self.records[..count]
            .iter()
            .map(|record| NewRecord::new(record.kind, record.at_ms, record.body.clone()))
            .collect()
    }

    /// The record with which the step ended, or the first input.
    fn place_after(&self, step: u32) -> Result<Option<usize>> {
        for (at, record) in self.records.iter().enumerate() {
            let is_place = match record.kind {
                RecordKind::Input => step == 0,
                RecordKind::Step => {
                    let body: StepBody<'_> = read(record.seq, open(record)?)?;
                    body.schedule.step == step
                }
                _ => false,
            };
            if is_place {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The run at a glance, as the store told it when it was taken out.
    pub fn head(&self) -> &RunHead {
        &self.head
    }

    /// Its records, in order.
    pub fn records(&self) -> &[RunRecord] {
        &self.records
    }

    /// What happened in it, without its graph.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a record cannot be read.
    pub fn trace(&self) -> Result<RunTrace> {
        RunTrace::of(self)
    }

    fn check(&self) -> Result<()> {
        let Some(first) = self.records.first() else {
            return Err(bytes::damaged("it has no record"));
        };
        if !matches!(first.kind, RecordKind::Start | RecordKind::Snapshot) {
            return Err(bytes::damaged("it does not begin with a start or a snapshot"));
        }
        for (seq, record) in (first.seq..).zip(&self.records) {
            if record.seq != seq {
                return Err(bytes::damaged(&format!("record {seq} is missing")));
            }
            open(record)?;
        }
        Ok(())
    }
}

fn check_size(bytes: usize) -> Result<()> {
    if bytes > BYTES {
        return Err(Error::LimitExceeded {
            what: "the run file".into(),
            limit: format!("{BYTES} bytes"),
        });
    }
    Ok(())
}
