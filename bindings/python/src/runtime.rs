//! The one tokio runtime: made at first use, forgotten in a forked child, stopped before the interpreter ends.
//!
//! A `OnceLock` would not do: fork and exit have to take the runtime away again. The locks are held across a fork
//! (`before_fork`), so that no thread that is gone in the child can have left them locked.

use crate::bridge::{self, Bridges};
use pyo3::prelude::*;
use std::{
    cell::RefCell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use stepwell::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// How long threads get to end their work at exit.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    runtime: Option<Runtime>,
    is_closed: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    runtime: None,
    is_closed: false,
});
/// Counts forks: an object remembers the count it was born under.
static GENERATION: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static HELD: RefCell<Option<(MutexGuard<'static, State>, MutexGuard<'static, Bridges>)>> = const { RefCell::new(None) };
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runtime, started where there is none.
pub(crate) fn handle() -> Result<Handle> {
    let mut state = state();
    if state.is_closed {
        return Err(Error::Unsupported {
            who: "stepwell".into(),
            what: "a call while the interpreter ends".into(),
            hint: "make it before the program's last line".into(),
        });
    }
    if let Some(runtime) = &state.runtime {
        return Ok(runtime.handle().clone());
    }
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("stepwell")
        .enable_all()
        .build()
        .map_err(|error| Error::io("starting the engine's threads", error))?;
    let handle = runtime.handle().clone();
    state.runtime = Some(runtime);
    Ok(handle)
}

/// The fork an object was made under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Born(u32);

impl Born {
    pub(crate) fn now() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Refuses an object that a fork has left without its threads.
    pub(crate) fn check(self, what: &str) -> Result<()> {
        if self.0 == GENERATION.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Error::Unsupported {
                who: format!("a {what} that was made before a fork"),
                what: "calls in the child".into(),
                hint: "make a new one there".into(),
            })
        }
    }
}

/// Takes every lock of the binding, so that the child finds them free.
#[pyfunction]
pub(crate) fn before_fork() {
    let locks = (state(), bridge::bridges());
    HELD.with_borrow_mut(|held| *held = Some(locks));
}

#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    HELD.with_borrow_mut(Option::take);
}

/// The parent's threads are not here: its runtime and bridges are forgotten, not dropped (dropping would wait for
/// the threads, and close pipes that the parent still uses).
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    if let Some((mut state, mut bridges)) = HELD.with_borrow_mut(Option::take) {
        std::mem::forget(state.runtime.take());
        std::mem::forget(std::mem::take(&mut *bridges));
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

/// From `atexit`: stops the threads while the interpreter is still there.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    let runtime = {
        let mut state = state();
        state.is_closed = true;
        state.runtime.take()
    };
    if let Some(runtime) = runtime {
        py.detach(move || runtime.shutdown_timeout(GRACE));
    }
}
