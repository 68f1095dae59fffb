//! [`Stop`]: long work that nobody waits for any more ends early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a merge, and the graph that is built for it, to give up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self, is_set: bool) {
        self.0.store(is_set, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
