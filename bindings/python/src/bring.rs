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
        AddEvent, AddOptions, AddProgress, AddReport, Collection, LoadLimits, SkipReason, SkippedFile,
        SyncEvent, SyncOptions, SyncProgress,
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
        "chunks": progress.chunks,
        "tokens": progress.tokens,
        "commits": progress.commits,
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

fn event_json(event: &AddEvent) -> Option<Value> {
    match event {
        AddEvent::Progress(progress) => Some(progress_json(progress)),
        AddEvent::Skipped { document_id, reason } => Some(skipped_json(document_id, *reason)),
        _ => None,
    }
}

fn report_json(report: &AddReport) -> Value {
    json!({
        "progress": progress_json(&report.progress),
        "skipped": report.skipped.iter().map(|(id, reason)| skipped_json(id, *reason)).collect::<Vec<_>>(),
    })
}

fn sync_progress_json(progress: &SyncProgress) -> Value {
    json!({
        "type": "progress",
        "files_total": progress.files_total,
        "files_done": progress.files_done,
        "files_added": progress.files_added,
        "files_updated": progress.files_updated,
        "files_unchanged": progress.files_unchanged,
        "files_skipped": progress.files_skipped,
        "documents_removed": progress.documents_removed,
        "chunks": progress.chunks,
        "tokens": progress.tokens,
        "commits": progress.commits,
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

/// What is brought in: documents, or the files under some paths.
pub(crate) enum Bringing {
    Documents(Vec<Document>, Option<usize>),
    Files(Vec<PathBuf>, FileSettings),
}

/// The settings of one `sync`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileSettings {
    chunks_per_commit: Option<usize>,
    removes: Option<bool>,
    input_bytes: Option<u64>,
}

impl Bringing {
    async fn run(self, collection: Collection, cancel: Cancel, watcher: Option<Watcher>) -> Result<Value> {
        match self {
            Self::Documents(documents, chunks_per_commit) => {
                let mut options = AddOptions::new().cancel(cancel);
                if let Some(chunks) = chunks_per_commit {
                    options = options.chunks_per_commit(chunks);
                }
                if let Some(watcher) = watcher {
                    options = options.progress(move |event| watcher.see(event_json(event)));
                }
                let report = collection.add_with(documents, options).await?;
                Ok(report_json(&report))
            }
            Self::Files(paths, settings) => {
                let mut options = SyncOptions::new().cancel(cancel);
                if let Some(chunks) = settings.chunks_per_commit {
                    options = options.chunks_per_commit(chunks);
                }
                if let Some(removes) = settings.removes {
                    options = options.removes(removes);
                }
                if let Some(bytes) = settings.input_bytes {
                    options = options.limits(LoadLimits::new().with_input_bytes(bytes));
                }
                if let Some(watcher) = watcher {
                    options = options.progress(move |event| watcher.see(sync_event_json(event)));
                }
                let report = collection.sync(paths, options).await?;
                Ok(json!({
                    "progress": sync_progress_json(&report.progress),
                    "skipped": report.skipped.iter().map(skipped_file_json).collect::<Vec<_>>(),
                    "removed": report.removed,
                }))
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
