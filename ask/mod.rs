//! The main job: ask my documents. Behind the example `ask`, `python -m stepwell ask` and `npx stepwell ask`.
//!
//! [`Ask`] is the job itself and prints nothing; [`main`] is the command around it.

mod args;
mod command;
mod report;

pub use command::main;
#[doc(hidden)]
pub use command::run;
pub use report::{AskReport, Claim, Found, Indexed, Skipped};

use crate::{
    providers::{Extractive, MiniLm},
    rag::{Collection, SyncEvent, SyncOptions, answer::answer},
};
use std::{
    future::IntoFuture,
    path::{Path, PathBuf},
    sync::Arc,
};
use stepwell_core::{Cancel, ChatModel, Error, Query, Result};

/// A question to some files and folders.
#[derive(Clone, Debug)]
pub struct Ask {
    question: String,
    paths: Vec<PathBuf>,
    model: Option<String>,
    index: Option<PathBuf>,
    top_k: usize,
    cancel: Cancel,
}

impl Ask {
    /// Asks these files and folders, offline, with the index under `.stepwell` in the current folder.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>, question: impl Into<String>) -> Self {
        Self {
            question: question.into(),
            paths: paths.into_iter().map(Into::into).collect(),
            model: None,
            index: None,
            top_k: 5,
            cancel: Cancel::new(),
        }
    }

    /// Answers with this model, `vendor/model`, and its key from the environment.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// Keeps the index in this folder.
    pub fn index(mut self, folder: impl Into<PathBuf>) -> Self {
        self.index = Some(folder.into());
        self
    }

    /// Reports so many hits; 5.
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Stops when this is pulled. What was indexed by then stays, and the next run goes on from there.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Indexes what is new, answers, and tells what was found.
    ///
    /// # Errors
    /// `invalid_input` for an empty question, `not_found` for a path that is not there or holds nothing readable; those of the
    /// index and of the model.
    pub async fn run(self, progress: impl Fn(&SyncEvent) + Send + Sync + 'static) -> Result<AskReport> {
        if self.question.trim().is_empty() {
            return Err(Error::invalid("question", "it is empty; ask something"));
        }
        for path in &self.paths {
            if !path.exists() {
                return Err(Error::NotFound {
                    what: "file or folder".into(),
                    name: path.display().to_string(),
                    hint: "check the path".into(),
                });
            }
        }
        let embedder = Arc::new(MiniLm::new()?);
        // The key is asked for before the work of indexing, not after it.
        let model: Arc<dyn ChatModel> = match self.model.as_deref() {
            None | Some("extractive") => Arc::new(Extractive::new().embedder(embedder.clone())),
            Some(name) => crate::model(name)?,
        };
        let folder = match &self.index {
            Some(folder) => folder.clone(),
            None => default_index(&self.paths)?,
        };
        let collection = Collection::open(folder).embedder(embedder).build().await?;
        // Who breaks it off keeps nearly everything that was read.
        let options = SyncOptions::new()
            .progress(progress)
            .cancel(self.cancel.clone())
            .chunks_per_commit(256);
        let synced = collection.sync(self.paths.clone(), options).await?;
        let stats = collection.stats().await?;
        let skipped: Vec<Skipped> = synced
            .skipped
            .iter()
            .map(|file| Skipped::new(&file.uri, &file.reason))
            .collect();
        if stats.documents == 0 {
            return Err(nothing_readable(&self.paths, &skipped));
        }
        let indexed = Indexed {
            documents: stats.documents,
            chunks: stats.chunks,
            added: synced.progress.files_added,
            updated: synced.progress.files_updated,
            removed: synced.progress.documents_removed,
            unchanged: synced.progress.files_unchanged,
        };
        let hits = collection
            .search(&Query::new(self.question.as_str()).top_k(self.top_k))
            .await?;
        let asked = answer(&self.question, Arc::new(collection), model);
        let answer = tokio::select! {
            biased;
            answer = asked.into_future() => answer?,
            () = self.cancel.cancelled() => return Err(Error::Cancelled),
        };
        Ok(AskReport::new(&answer, &hits, skipped, indexed))
    }
}

/// One folder per set of paths, so that two questions to other folders do not disturb each other.
fn default_index(paths: &[PathBuf]) -> Result<PathBuf> {
    let mut names = Vec::new();
    for path in paths {
        let whole = path
            .canonicalize()
            .map_err(|error| Error::io(format!("reading {}", path.display()), error))?;
        names.push(whole.into_os_string().into_encoded_bytes());
    }
    names.sort();
    let hash = blake3::hash(&names.join(&0)).to_hex();
    Ok(Path::new(".stepwell").join(format!("index-{}", &hash[..16])))
}

fn nothing_readable(paths: &[PathBuf], skipped: &[Skipped]) -> Error {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let hint = match skipped {
        [] => "name a folder with text, Markdown, HTML, PDF or DOCX files".to_owned(),
        [one] => format!("{}: {}", one.path, one.reason),
        [one, ..] => format!(
            "{} files were skipped, the first is {}: {}",
            skipped.len(),
            one.path,
            one.reason
        ),
    };
    Error::NotFound {
        what: "readable document in".into(),
        name: names.join(", "),
        hint,
    }
}
