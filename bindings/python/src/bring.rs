//! Bringing documents and files into a collection, with a Python callback that watches.

use crate::{bridge::Job, caller::Caller, convert::json_to_py};
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use stepwell::{
    Cancel, Document, Result,
    rag::{
        AddEvent, AddOptions, AddProgress, AddReport, Collection, FailedDocument, LoadLimits, RenamedFile,
        SkipReason, SkippedFile, SyncEvent, SyncOptions, SyncPlan, SyncProgress, SyncReport,
    },
};

/// What a Python progress callback raised: it stops the `add`, and the caller gets it.
pub(crate) type Thrown = Arc<Mutex<Option<PyErr>>>;

pub(crate) fn taken(thrown: &Thrown) -> Option<PyErr> {
    thrown.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Calls a Python function with each event, where the caller waits.
struct Watcher {
    caller: Arc<Caller>,
    callback: Arc<Py<PyAny>>,
    thrown: Thrown,
    cancel: Cancel,
}

impl Watcher {
    /// Posts one event; those this binding does not know are left out.
    fn see(&self, event: Option<Value>) {
        let Some(event) = event.filter(|_| !self.cancel.is_cancelled()) else {
            return;
        };
        let (callback, thrown, cancel) = (
            Arc::clone(&self.callback),
            Arc::clone(&self.thrown),
            self.cancel.clone(),
        );
        let context = self.caller.context();
        let job: Job = Box::new(move |py| {
            if cancel.is_cancelled() {
                return;
            }
            let call = || -> PyResult<()> {
                let context = context.bind(py).call_method0("copy")?;
                context.call_method1("run", (callback.bind(py), json_to_py(py, &event)?))?;
                Ok(())
            };
            if let Err(error) = call() {
                *thrown.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                cancel.cancel();
            }
        });
        self.caller.post(job);
    }
}

fn progress_json(progress: &AddProgress) -> Value {
    json!({
        "type": "progress",
        "documents_total": progress.documents_total,
        "documents_done": progress.documents_done,
        "documents_added": progress.documents_added,
        "documents_updated": progress.documents_updated,
        "documents_unchanged": progress.documents_unchanged,
        "documents_skipped": progress.documents_skipped,
        "documents_failed": progress.documents_failed,
        "chunks": progress.chunks,
        "chunks_cached": progress.chunks_cached,
        "chunks_reused": progress.chunks_reused,
        "tokens": progress.tokens,
        "commits": progress.commits,
        "elapsed": progress.elapsed.as_secs_f64(),
        "chunks_per_second": progress.chunks_per_second,
        "remaining": progress.remaining.map(|time| time.as_secs_f64()),
    })
}

fn skipped_json(document_id: &str, reason: SkipReason) -> Value {
    let word = match reason {
        SkipReason::Unchanged => "unchanged",
        SkipReason::Empty => "empty",
        SkipReason::Replaced => "replaced",
        other => other.as_str(),
    };
    json!({ "type": "skipped", "document_id": document_id, "reason": word })
}

fn failed_json(failed: &FailedDocument) -> Value {
    let error = json!({ "code": failed.error.code(), "message": failed.error.to_string() });
    json!({ "type": "failed", "document_id": failed.document_id, "error": error })
}

fn event_json(event: &AddEvent) -> Option<Value> {
    match event {
        AddEvent::Progress(progress) => Some(progress_json(progress)),
        AddEvent::Skipped { document_id, reason } => Some(skipped_json(document_id, *reason)),
        AddEvent::Failed(failed) => Some(failed_json(failed)),
        _ => None,
    }
}

fn report_json(report: &AddReport) -> Value {
    json!({
        "progress": progress_json(&report.progress),
        "skipped": report.skipped.iter().map(|(id, reason)| skipped_json(id, *reason)).collect::<Vec<_>>(),
        "failed": report.failed.iter().map(failed_json).collect::<Vec<_>>(),
    })
}

fn sync_progress_json(progress: &SyncProgress) -> Value {
    json!({
        "type": "progress",
        "files_total": progress.files_total,
        "files_done": progress.files_done,
        "files_added": progress.files_added,
        "files_updated": progress.files_updated,
        "files_renamed": progress.files_renamed,
        "files_unchanged": progress.files_unchanged,
        "files_skipped": progress.files_skipped,
        "documents_removed": progress.documents_removed,
        "chunks": progress.chunks,
        "chunks_cached": progress.chunks_cached,
        "chunks_reused": progress.chunks_reused,
        "tokens": progress.tokens,
        "commits": progress.commits,
        "elapsed": progress.elapsed.as_secs_f64(),
        "chunks_per_second": progress.chunks_per_second,
        "remaining": progress.remaining.map(|time| time.as_secs_f64()),
    })
}

fn skipped_file_json(file: &SkippedFile) -> Value {
    json!({ "type": "skipped", "uri": file.uri, "reason": file.reason })
}

fn sync_event_json(event: &SyncEvent) -> Option<Value> {
    match event {
        SyncEvent::Progress(progress) => Some(sync_progress_json(progress)),
        SyncEvent::Skipped(file) => Some(skipped_file_json(file)),
        _ => None,
    }
}

/// `from` is a word of Python's grammar, so the field is `from_` there.
fn renamed_json(file: &RenamedFile) -> Value {
    json!({ "from_": file.from, "to": file.to })
}

fn sync_report_json(report: &SyncReport) -> Value {
    json!({
        "progress": sync_progress_json(&report.progress),
        "skipped": report.skipped.iter().map(skipped_file_json).collect::<Vec<_>>(),
        "removed": report.removed,
        "added": report.added,
        "updated": report.updated,
        "renamed": report.renamed.iter().map(renamed_json).collect::<Vec<_>>(),
    })
}

fn plan_json(plan: &SyncPlan) -> Value {
    json!({
        "added": plan.added,
        "updated": plan.updated,
        "renamed": plan.renamed.iter().map(renamed_json).collect::<Vec<_>>(),
        "removed": plan.removed,
        "unchanged": plan.unchanged,
        "skipped": plan.skipped.iter().map(skipped_file_json).collect::<Vec<_>>(),
    })
}

/// What is brought in: documents, or the files under some paths; or what would be of the files.
pub(crate) enum Bringing {
    Documents(Vec<Document>, AddSettings),
    Files(Vec<PathBuf>, FileSettings),
    Plan(Vec<PathBuf>, FileSettings),
}

/// The settings of one `add`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AddSettings {
    chunks_per_commit: Option<usize>,
    stops_at_error: Option<bool>,
}

/// The settings of one `sync`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileSettings {
    chunks_per_commit: Option<usize>,
    removes: Option<bool>,
    allows_empty: Option<bool>,
    input_bytes: Option<u64>,
}

impl FileSettings {
    fn options(&self, cancel: Cancel) -> SyncOptions {
        let mut options = SyncOptions::new().cancel(cancel);
        if let Some(chunks) = self.chunks_per_commit {
            options = options.chunks_per_commit(chunks);
        }
        if let Some(removes) = self.removes {
            options = options.removes(removes);
        }
        if let Some(allows) = self.allows_empty {
            options = options.allows_empty(allows);
        }
        if let Some(bytes) = self.input_bytes {
            options = options.limits(LoadLimits::new().with_input_bytes(bytes));
        }
        options
    }
}

impl Bringing {
    async fn run(self, collection: Collection, cancel: Cancel, watcher: Option<Watcher>) -> Result<Value> {
        match self {
            Self::Documents(documents, settings) => {
                let mut options = AddOptions::new().cancel(cancel);
                if let Some(chunks) = settings.chunks_per_commit {
                    options = options.chunks_per_commit(chunks);
                }
                if let Some(stops) = settings.stops_at_error {
                    options = options.stops_at_error(stops);
                }
                if let Some(watcher) = watcher {
                    options = options.progress(move |event| watcher.see(event_json(event)));
                }
                let report = collection.add_with(documents, options).await?;
                Ok(report_json(&report))
            }
            Self::Files(paths, settings) => {
                let mut options = settings.options(cancel);
                if let Some(watcher) = watcher {
                    options = options.progress(move |event| watcher.see(sync_event_json(event)));
                }
                let report = collection.sync(paths, options).await?;
                Ok(sync_report_json(&report))
            }
            Self::Plan(paths, settings) => {
                let plan = collection.plan_sync(paths, settings.options(cancel)).await?;
                Ok(plan_json(&plan))
            }
        }
    }
}

/// A change under way, with the switch and the slot that its progress callback shares.
pub(crate) struct Change {
    caller: Arc<Caller>,
    cancel: Cancel,
    pub(crate) thrown: Thrown,
}

impl Change {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self {
            caller,
            cancel: Cancel::new(),
            thrown: Thrown::default(),
        }
    }

    pub(crate) fn run(
        &self,
        collection: Collection,
        bringing: Bringing,
        progress: Option<Py<PyAny>>,
    ) -> impl Future<Output = Result<Value>> + Send + 'static + use<> {
        let watcher = progress.map(|callback| Watcher {
            caller: Arc::clone(&self.caller),
            callback: Arc::new(callback),
            thrown: Arc::clone(&self.thrown),
            cancel: self.cancel.clone(),
        });
        bringing.run(collection, self.cancel.clone(), watcher)
    }
}
