//! [`Ended`]: what a paused run goes on with.

use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError};
use stepwell::{agent::RunResult, store::RunStatus};

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
    pub(crate) fn take(&self) -> Option<RunResult> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps a run that paused.
    pub(crate) fn keep(&self, result: RunResult) {
        if result.status == RunStatus::Paused {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    }
}
