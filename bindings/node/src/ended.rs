//! [`Ended`]: what a paused run goes on with.

use napi_derive::napi;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};
use stepwell::{Error, Result, agent::RunResult, store::RunStatus};

/// Where a run that pauses is kept, until it goes on.
#[napi]
#[derive(Clone, Default)]
pub struct Ended(Arc<Mutex<Option<RunResult>>>);

#[napi]
impl Ended {
    /// One that holds nothing.
    #[napi(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a run waits in it.
    #[napi(getter)]
    pub fn is_paused(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Ended {
    /// The run that waits, where one does. It goes on once, so what would be refused is refused before.
    pub(crate) fn take(&self, answers: &Map<String, Value>) -> Result<Option<RunResult>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = &*kept {
            for (id, answer) in answers {
                let question = waiting.questions.iter().find(|question| question.id == *id);
                let unknown = || Error::invalid("answers", format!("no question `{id}` waits for an answer"));
                question.ok_or_else(unknown)?.check(answer)?;
            }
        }
        Ok(kept.take())
    }

    /// Keeps a run that paused.
    pub(crate) fn keep(&self, result: RunResult) {
        if result.status == RunStatus::Paused {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    }
}
