//! [`Around`]: what a layer tells the layers inside it, whatever stands between them.
//!
//! A layer knows the model inside it only as `Arc<dyn ChatModel>`. Two rules reach across that wall all the same:
//! there is **one** retry loop in a stack, the outermost; and a wait that is long enough for another model to answer
//! is not waited out while another model is left. Both travel with the call, in the task that makes it.

use std::{future::Future, time::Duration};

tokio::task_local! {
    static AROUND: Around;
}

/// What stands around a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around {
    /// A retry loop: those inside let failures pass.
    pub(super) is_retrying: bool,
    /// A fallback that has another model left: it would rather be told than wait longer than this.
    pub(super) patience: Option<Duration>,
}

impl Around {
    /// What stands around the call that is being made.
    pub(super) fn now() -> Self {
        AROUND.try_with(|around| *around).unwrap_or_default()
    }

    /// Makes a call inside it.
    pub(super) async fn call<F: Future>(self, call: F) -> F::Output {
        AROUND.scope(self, call).await
    }

    /// Whether to be told of a wait rather than to wait.
    pub(super) fn is_too_long(self, wait: Duration) -> bool {
        self.patience.is_some_and(|patience| wait > patience)
    }
}
