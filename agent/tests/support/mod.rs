//! What the tests of this crate stand on: a journal in memory or in one file, and a model that plays a script.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde_json::json;
use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, ChatStream, Error, FinishReason, ModelInfo, Part, Result, Scope,
    Usage,
    store::{
        Durability, Lease, Page, PageRequest, RecordKind, RunAppend, RunFilter, RunHead, RunRecord,
        RunStatus, RunStore,
    },
    whole,
};

#[derive(Debug, Default)]
struct Kept {
    graph: String,
    status: RunStatus,
    records: Vec<RunRecord>,
}

impl Kept {
    fn last_seq(&self) -> u64 {
        self.records.last().map_or(0, |record| record.seq)
    }
}

/// Journals in memory; with a path every append is also a line of a file, written before the append is done.
#[derive(Debug, Default)]
pub struct LogStore {
    runs: Mutex<HashMap<(String, String), Kept>>,
    file: Option<PathBuf>,
    pub appends: AtomicUsize,
    pub sync_appends: AtomicUsize,
    /// Appends that succeed before the disk is full.
    pub room: Option<usize>,
}

impl LogStore {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn with_room(appends: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Some(appends),
            ..Self::default()
        })
    }

    pub fn open(path: &Path) -> Arc<Self> {
        let store = Self {
            file: Some(path.to_owned()),
            ..Self::default()
        };
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let Ok(row) = serde_json::from_str::<serde_json::Value>(line) else {
                break; // a torn last line
            };
            let text = |key: &str| row[key].as_str().expect("written so").to_owned();
            let mut runs = store.runs.lock().expect("no panic holds it");
            let kept = runs.entry((text("tenant"), text("run"))).or_default();
            kept.graph = text("graph");
            kept.status = RunStatus::from_str(&text("status")).expect("known");
            for record in row["records"].as_array().expect("written so") {
                let body: Vec<u8> = serde_json::from_value(record["body"].clone()).expect("bytes");
                kept.records.push(RunRecord::new(
                    record["seq"].as_u64().expect("a number"),
                    RecordKind::from_str(record["kind"].as_str().expect("a word")).expect("known"),
                    0,
                    body.into(),
                ));
            }
        }
        Arc::new(store)
    }

    pub fn kinds(&self, run_id: &str) -> Vec<&'static str> {
        self.records(run_id)
            .iter()
            .map(|record| record.kind.as_str())
            .collect()
    }

    pub fn records(&self, run_id: &str) -> Vec<RunRecord> {
        let runs = self.runs.lock().expect("no panic holds it");
        runs.iter()
            .filter(|((_, run), _)| run == run_id)
            .flat_map(|(_, kept)| kept.records.clone())
            .collect()
    }

    pub fn bytes(&self, run_id: &str) -> usize {
        self.records(run_id).iter().map(|record| record.body.len()).sum()
    }

    /// Spoils one byte of a record.
    pub fn damage(&self, run_id: &str, seq: u64, at: usize, to: u8) {
        let mut runs = self.runs.lock().expect("no panic holds it");
        for ((_, run), kept) in runs.iter_mut() {
            if run == run_id {
                let record = kept.records.iter_mut().find(|record| record.seq == seq);
                let record = record.expect("it is there");
                let mut body = record.body.to_vec();
                body[at] = to;
                record.body = body.into();
            }
        }
    }

    /// Forgets everything after a record, as a crash does.
    pub fn cut_after(&self, run_id: &str, seq: usize) {
        let mut runs = self.runs.lock().expect("no panic holds it");
        for ((_, run), kept) in runs.iter_mut() {
            if run == run_id {
                kept.records.retain(|record| record.seq <= seq as u64);
                kept.status = RunStatus::Running;
            }
        }
    }
}

#[async_trait]
impl RunStore for LogStore {
    async fn append(&self, scope: &Scope, append: RunAppend) -> Result<u64> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst);
        if self.room.is_some_and(|room| number >= room) {
            return Err(Error::DiskFull {
                what: "the journal".into(),
            });
        }
        if append.durability == Durability::Sync {
            self.sync_appends.fetch_add(1, Ordering::SeqCst);
        }
        tokio::task::yield_now().await; // a real store is not done at once
        let mut runs = self.runs.lock().expect("no panic holds it");
        let key = (scope.tenant().to_owned(), append.run_id.to_string());
        let last = runs.get(&key).map_or(0, Kept::last_seq);
        if last != append.after {
            return Err(Error::Conflict {
                what: format!("run `{}`", append.run_id),
            });
        }
        let kept = runs.entry(key).or_default();
        if last == 0 {
            kept.graph.clone_from(&append.graph);
        }
        kept.status = append.status;
        let mut rows = Vec::new();
        for (seq, record) in (last + 1..).zip(append.records) {
            rows.push(json!({ "seq": seq, "kind": record.kind.as_str(), "body": record.body.to_vec() }));
            kept.records
                .push(RunRecord::new(seq, record.kind, record.at_ms, record.body));
        }
        if let Some(path) = &self.file {
            let row = json!({
                "tenant": scope.tenant(), "run": &*append.run_id, "graph": kept.graph,
                "status": kept.status.as_str(), "records": rows,
            });
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Error::io("open the journal", error))?;
            writeln!(file, "{row}").map_err(|error| Error::io("write the journal", error))?;
        }
        Ok(kept.last_seq())
    }

    async fn read(&self, scope: &Scope, run_id: &str, from_seq: u64, limit: usize) -> Result<Vec<RunRecord>> {
        let runs = self.runs.lock().expect("no panic holds it");
        Ok(runs
            .get(&(scope.tenant().to_owned(), run_id.to_owned()))
            .map(|kept| {
                let from_here = kept.records.iter().filter(|record| record.seq >= from_seq);
                from_here.take(limit).cloned().collect()
            })
            .unwrap_or_default())
    }

    async fn head(&self, scope: &Scope, run_id: &str) -> Result<Option<RunHead>> {
        let runs = self.runs.lock().expect("no panic holds it");
        Ok(runs
            .get(&(scope.tenant().to_owned(), run_id.to_owned()))
            .map(|kept| {
                let mut head = RunHead::new(run_id, &kept.graph);
                head.status = kept.status;
                head.last_seq = kept.last_seq();
                head.snapshot_seq = kept
                    .records
                    .iter()
                    .rfind(|record| record.kind == RecordKind::Snapshot)
                    .map_or(0, |record| record.seq);
                head
            }))
    }

    async fn list(&self, scope: &Scope, filter: &RunFilter, _: PageRequest) -> Result<Page<RunHead>> {
        let mut ids: Vec<String> = {
            let runs = self.runs.lock().expect("no panic holds it");
            let ours = runs.keys().filter(|(tenant, _)| tenant == scope.tenant());
            ours.map(|(_, run)| run.clone()).collect()
        };
        ids.sort();
        let mut heads = Vec::new();
        for id in ids {
            let head = self.head(scope, &id).await?.expect("it is there");
            if filter.graph.as_ref().is_none_or(|graph| *graph == head.graph)
                && filter.status.is_none_or(|status| status == head.status)
            {
                heads.push(head);
            }
        }
        Ok(Page::new(heads, None))
    }
    async fn claim(&self, _: &Scope, _: &str, _: &str, _: Option<u64>, _: Duration) -> Result<Lease> {
        Err(unused("claim"))
    }
    async fn copy(&self, scope: &Scope, run_id: &str, to: &str, up_to: Option<u64>) -> Result<u64> {
        let mut runs = self.runs.lock().expect("no panic holds it");
        let key = |run: &str| (scope.tenant().to_owned(), run.to_owned());
        let Some(kept) = runs.get(&key(run_id)) else {
            return Err(Error::NotFound {
                what: "run".into(),
                name: run_id.into(),
                hint: "check the id".into(),
            });
        };
        if runs.contains_key(&key(to)) {
            return Err(Error::Conflict {
                what: format!("run `{to}`"),
            });
        }
        let up_to = up_to.unwrap_or(u64::MAX);
        let records = kept.records.iter().filter(|record| record.seq <= up_to);
        let mut copy = Kept {
            graph: kept.graph.clone(),
            status: kept.status,
            records: records.cloned().collect(),
        };
        if copy.last_seq() != kept.last_seq() {
            copy.status = RunStatus::Running;
        }
        let last = copy.last_seq();
        runs.insert(key(to), copy);
        Ok(last)
    }
    async fn prune(&self, scope: &Scope, run_id: &str, before_seq: u64) -> Result<u64> {
        let mut runs = self.runs.lock().expect("no panic holds it");
        let key = (scope.tenant().to_owned(), run_id.to_owned());
        Ok(runs.get_mut(&key).map_or(0, |kept| {
            let before = kept.records.len();
            kept.records.retain(|record| record.seq >= before_seq);
            (before - kept.records.len()) as u64
        }))
    }
    async fn delete(&self, scope: &Scope, run_id: &str) -> Result<bool> {
        let mut runs = self.runs.lock().expect("no panic holds it");
        let key = (scope.tenant().to_owned(), run_id.to_owned());
        Ok(runs.remove(&key).is_some())
    }
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn unused(what: &str) -> Error {
    Error::internal(format!("the runner does not call `{what}`"))
}

/// A model that says one line of its script after the other, and keeps what it was asked.
#[derive(Debug)]
pub struct Script {
    pub info: ModelInfo,
    lines: Vec<Vec<Part>>,
    pub usage: Usage,
    pub asked: Mutex<Vec<ChatRequest>>,
    /// The answer breaks off after so many events.
    pub hangs_after: Option<usize>,
}

impl Script {
    pub fn new(lines: Vec<Vec<Part>>) -> Arc<Self> {
        Arc::new(Self::plain(lines))
    }

    pub fn plain(lines: Vec<Vec<Part>>) -> Self {
        let mut usage = Usage::default();
        (usage.input_tokens, usage.output_tokens) = (Some(10), Some(5));
        Self {
            info: ModelInfo::new("script", "play"),
            lines,
            usage,
            asked: Mutex::default(),
            hangs_after: None,
        }
    }

    pub fn calls(&self) -> usize {
        self.asked.lock().expect("no panic holds it").len()
    }
}

#[async_trait]
impl ChatModel for Script {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        // The line is chosen by the conversation, so that a resumed run goes on where it was.
        let said = request
            .messages
            .iter()
            .filter(|message| message.role == stepwell_core::Role::Assistant)
            .count();
        self.asked.lock().expect("no panic holds it").push(request);
        let Some(parts) = self.lines.get(said).cloned() else {
            return Err(Error::internal("the script is over"));
        };
        let is_call = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let reason = if is_call {
            FinishReason::ToolCalls
        } else {
            FinishReason::Stop
        };
        let mut response = ChatResponse::new("script", "play", parts, reason);
        response.usage = self.usage.clone();
        let events = whole(response);
        Ok(match self.hangs_after {
            None => stream::iter(events.into_iter().map(Ok)).boxed(),
            Some(most) => stream::iter(events.into_iter().take(most).map(Ok))
                .chain(stream::pending())
                .boxed(),
        })
    }
}

/// A generator for tests: the same seed, the same numbers.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}
