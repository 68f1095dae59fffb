//! What bringing documents and files into a collection may be told, and tells: options, events and reports as JSON.

use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use stepwell::{
    Cancel,
    rag::{
        AddEvent, AddOptions, AddProgress, AddReport, FailedDocument, RenamedFile, SkipReason, SkippedFile,
        SyncEvent, SyncOptions, SyncPlan, SyncProgress, SyncReport,
    },
};

/// What a JavaScript caller may say of an `add`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct AddGiven {
    chunks_per_commit: Option<usize>,
    stops_at_error: Option<bool>,
}

impl AddGiven {
    pub(crate) fn options(&self, cancel: Cancel) -> AddOptions {
        let mut options = AddOptions::new().cancel(cancel);
        if let Some(chunks) = self.chunks_per_commit {
            options = options.chunks_per_commit(chunks);
        }
        if let Some(stops) = self.stops_at_error {
            options = options.stops_at_error(stops);
        }
        options
    }
}

/// What a JavaScript caller may say of a `sync`, or of its plan.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SyncGiven {
    chunks_per_commit: Option<usize>,
    removes: Option<bool>,
    allows_empty: Option<bool>,
}

impl SyncGiven {
    pub(crate) fn options(&self, cancel: Cancel) -> SyncOptions {
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
        options
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn progress_json(progress: &AddProgress) -> Value {
    json!({
        "documentsTotal": progress.documents_total, "documentsDone": progress.documents_done,
        "documentsAdded": progress.documents_added, "documentsUpdated": progress.documents_updated,
        "documentsUnchanged": progress.documents_unchanged, "documentsSkipped": progress.documents_skipped,
        "documentsFailed": progress.documents_failed, "chunks": progress.chunks,
        "chunksCached": progress.chunks_cached, "chunksReused": progress.chunks_reused,
        "tokens": progress.tokens, "commits": progress.commits,
        "elapsedMs": milliseconds(progress.elapsed), "chunksPerSecond": progress.chunks_per_second,
        "remainingMs": progress.remaining.map(milliseconds),
    })
}

fn skipped_json(document_id: &str, reason: SkipReason) -> Value {
    json!({ "documentId": document_id, "reason": reason.as_str() })
}

fn failed_json(failed: &FailedDocument) -> Value {
    let error = json!({ "code": failed.error.code(), "message": failed.error.to_string() });
    json!({ "documentId": failed.document_id, "error": error })
}

/// An event under its type.
fn typed(kind: &str, mut event: Value) -> Option<String> {
    event.as_object_mut()?.shift_insert(0, "type".into(), kind.into());
    Some(event.to_string())
}

/// One event; those this binding does not know are left out.
pub(crate) fn event_json(event: &AddEvent) -> Option<String> {
    match event {
        AddEvent::Progress(progress) => typed("progress", progress_json(progress)),
        AddEvent::Skipped { document_id, reason } => typed("skipped", skipped_json(document_id, *reason)),
        AddEvent::Failed(failed) => typed("failed", failed_json(failed)),
        _ => None,
    }
}

pub(crate) fn report_json(report: &AddReport) -> String {
    let skipped = report
        .skipped
        .iter()
        .map(|(id, reason)| skipped_json(id, *reason));
    let skipped: Vec<_> = skipped.collect();
    let failed: Vec<_> = report.failed.iter().map(failed_json).collect();
    json!({ "progress": progress_json(&report.progress), "skipped": skipped, "failed": failed }).to_string()
}

fn sync_progress_json(progress: &SyncProgress) -> Value {
    json!({
        "filesTotal": progress.files_total, "filesDone": progress.files_done, "filesAdded": progress.files_added,
        "filesUpdated": progress.files_updated, "filesRenamed": progress.files_renamed,
        "filesUnchanged": progress.files_unchanged, "filesSkipped": progress.files_skipped,
        "documentsRemoved": progress.documents_removed, "chunks": progress.chunks,
        "chunksCached": progress.chunks_cached, "chunksReused": progress.chunks_reused,
        "tokens": progress.tokens, "commits": progress.commits,
        "elapsedMs": milliseconds(progress.elapsed), "chunksPerSecond": progress.chunks_per_second,
        "remainingMs": progress.remaining.map(milliseconds),
    })
}

fn skipped_file_json(file: &SkippedFile) -> Value {
    json!({ "uri": file.uri, "reason": file.reason })
}

fn renamed_json(file: &RenamedFile) -> Value {
    json!({ "from": file.from, "to": file.to })
}

/// One event; those this binding does not know are left out.
pub(crate) fn sync_event_json(event: &SyncEvent) -> Option<String> {
    match event {
        SyncEvent::Progress(progress) => typed("progress", sync_progress_json(progress)),
        SyncEvent::Skipped(file) => typed("skipped", skipped_file_json(file)),
        _ => None,
    }
}

pub(crate) fn sync_report_json(report: &SyncReport) -> String {
    let skipped: Vec<_> = report.skipped.iter().map(skipped_file_json).collect();
    let renamed: Vec<_> = report.renamed.iter().map(renamed_json).collect();
    json!({
        "progress": sync_progress_json(&report.progress), "skipped": skipped, "removed": report.removed,
        "added": report.added, "updated": report.updated, "renamed": renamed,
    })
    .to_string()
}

pub(crate) fn plan_json(plan: &SyncPlan) -> String {
    let skipped: Vec<_> = plan.skipped.iter().map(skipped_file_json).collect();
    let renamed: Vec<_> = plan.renamed.iter().map(renamed_json).collect();
    json!({
        "added": plan.added, "updated": plan.updated, "renamed": renamed, "removed": plan.removed,
        "unchanged": plan.unchanged, "skipped": skipped,
    })
    .to_string()
}
