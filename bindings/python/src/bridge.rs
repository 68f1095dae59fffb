//! The way back into Python: one [`Bridge`] per event loop, one [`Desk`] per thread that blocks in a sync call.
//!
//! Engine threads never take the GIL to finish something. They push a job and, where none was pending, wake the
//! loop with one byte; the loop's own thread then runs every pending job with the GIL it has already.

use crate::{
    convert::intern_import,
    error::{raised, to_pyerr, to_pyerr_async},
    runtime,
};
use futures::FutureExt;
use pyo3::prelude::*;
use std::{
    collections::HashMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use stepwell::{Error, Result};
use tokio::{sync::oneshot, task::AbortHandle};

/// Something to do in Python.
pub(crate) type Job = Box<dyn FnOnce(Python<'_>) + Send>;
/// All bridges, by the address of their loop. A bridge keeps its loop alive, so no address is used twice.
pub(crate) type Bridges = Option<HashMap<usize, Arc<Bridge>>>;

static BRIDGES: Mutex<Bridges> = Mutex::new(None);
/// How often a blocked call looks for Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn bridges() -> MutexGuard<'static, Bridges> {
    BRIDGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a loop is woken.
enum Wake {
    /// One byte down a pair of sockets that the loop watches: needs no GIL.
    #[cfg(unix)]
    Pair {
        ours: std::os::unix::net::UnixStream,
        loops: std::os::unix::net::UnixStream,
    },
    /// `call_soon_threadsafe`, for loops that watch no descriptors (Windows' default loop).
    CallSoon,
}

impl Wake {
    #[cfg(unix)]
    fn pair() -> std::io::Result<Self> {
        let (ours, loops) = std::os::unix::net::UnixStream::pair()?;
        // Blocking would hang a parent whose byte a forked child has read.
        ours.set_nonblocking(true)?;
        loops.set_nonblocking(true)?;
        Ok(Self::Pair { ours, loops })
    }
}

#[derive(Default)]
struct Jobs {
    pending: Vec<Job>,
    is_closed: bool,
}

/// The way into one event loop.
pub(crate) struct Bridge {
    event_loop: Py<PyAny>,
    create_future: Py<PyAny>,
    jobs: Mutex<Jobs>,
    is_armed: AtomicBool,
    wake: Wake,
    drain: Mutex<Option<Py<Drain>>>,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge")
            .field("armed", &self.is_armed)
            .finish_non_exhaustive()
    }
}

/// What the loop calls when it is woken. It holds its bridge weakly: the loop must not keep itself alive.
#[pyclass(frozen, module = "stepwell._native")]
pub(crate) struct Drain(Mutex<Weak<Bridge>>);

#[pymethods]
impl Drain {
    fn __call__(&self, py: Python<'_>) {
        let bridge = lock(&self.0).upgrade();
        if let Some(bridge) = bridge {
            bridge.drain(py);
        }
    }
}

impl Bridge {
    /// The bridge of the running loop, made at its first call.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Arc<Self>> {
        let event_loop = intern_import!(py, "asyncio", "get_running_loop")?.call0()?;
        let key = event_loop.as_ptr() as usize;
        if let Some(bridge) = bridges().get_or_insert_default().get(&key) {
            return Ok(Arc::clone(bridge));
        }
        Self::forget_closed(py);
        let (bridge, reader) = Self::open(py, &event_loop)?;
        if let Some((descriptor, drain)) = reader {
            let watched = event_loop.call_method1("add_reader", (descriptor, drain));
            if let Err(error) = watched {
                if !error.is_instance_of::<pyo3::exceptions::PyNotImplementedError>(py) {
                    return Err(error);
                }
                let bridge = Self::with_wake(py, &event_loop, Wake::CallSoon)?;
                bridges().get_or_insert_default().insert(key, Arc::clone(&bridge));
                return Ok(bridge);
            }
        }
        bridges().get_or_insert_default().insert(key, Arc::clone(&bridge));
        Ok(bridge)
    }

    #[cfg(unix)]
    #[allow(clippy::type_complexity)] // what the loop has to watch: a descriptor and what to call
    fn open(
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<(Arc<Self>, Option<(i32, Py<Drain>)>)> {
        use std::os::fd::AsRawFd;
        // The other way to wake can be asked for, so that it is tested where descriptors can be watched too.
        if std::env::var_os("STEPWELL_WAKE").is_some_and(|wake| wake == "call_soon") {
            return Ok((Self::with_wake(py, event_loop, Wake::CallSoon)?, None));
        }
        let bridge = Self::with_wake(py, event_loop, Wake::pair()?)?;
        let descriptor = match &bridge.wake {
            Wake::Pair { loops, .. } => loops.as_raw_fd(),
            Wake::CallSoon => return Ok((bridge, None)),
        };
        let drain = lock(&bridge.drain).as_ref().map(|drain| drain.clone_ref(py));
        Ok((bridge, drain.map(|drain| (descriptor, drain))))
    }

    #[cfg(not(unix))]
    #[allow(clippy::type_complexity)] // the same shape as above
    fn open(
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<(Arc<Self>, Option<(i32, Py<Drain>)>)> {
        Ok((Self::with_wake(py, event_loop, Wake::CallSoon)?, None))
    }

    fn with_wake(py: Python<'_>, event_loop: &Bound<'_, PyAny>, wake: Wake) -> PyResult<Arc<Self>> {
        let bridge = Arc::new(Self {
            create_future: event_loop.getattr("create_future")?.unbind(),
            event_loop: event_loop.clone().unbind(),
            jobs: Mutex::default(),
            is_armed: AtomicBool::new(false),
            wake,
            drain: Mutex::new(None),
        });
        let drain = Py::new(py, Drain(Mutex::new(Arc::downgrade(&bridge))))?;
        *lock(&bridge.drain) = Some(drain);
        Ok(bridge)
    }

    /// Drops the bridges of loops that are closed. No lock of ours is held while Python runs.
    fn forget_closed(py: Python<'_>) {
        let all: Vec<(usize, Arc<Self>)> = bridges()
            .iter()
            .flatten()
            .map(|(key, bridge)| (*key, Arc::clone(bridge)))
            .collect();
        for (key, bridge) in all {
            let is_closed = bridge
                .event_loop
                .bind(py)
                .call_method0("is_closed")
                .and_then(|closed| closed.is_truthy())
                .unwrap_or(true);
            if is_closed {
                let gone = bridges().as_mut().and_then(|all| all.remove(&key));
                let unheard = {
                    let mut jobs = lock(&bridge.jobs);
                    jobs.is_closed = true;
                    std::mem::take(&mut jobs.pending)
                };
                // Dropping a job tells whoever waits for it that nobody will answer.
                drop((gone, unheard));
            }
        }
    }

    pub(crate) fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    /// Gives the loop something to do; from any thread, without the GIL.
    pub(crate) fn post(self: &Arc<Self>, job: Job) {
        {
            let mut jobs = lock(&self.jobs);
            if jobs.is_closed {
                return;
            }
            jobs.pending.push(job);
        }
        if self.is_armed.swap(true, Ordering::AcqRel) {
            return; // somebody has woken the loop already
        }
        match &self.wake {
            #[cfg(unix)]
            Wake::Pair { ours, .. } => {
                use std::io::Write;
                // A full pipe is readable already; a closed one belongs to a loop that is gone.
                let _ = (&mut &*ours).write(b"x");
            }
            Wake::CallSoon => {
                let bridge = Arc::clone(self);
                if let Ok(runtime) = runtime::handle() {
                    // Not on a worker: attaching may wait for a busy Python thread.
                    runtime.spawn_blocking(move || {
                        Python::try_attach(|py| {
                            let drain = lock(&bridge.drain).as_ref().map(|drain| drain.clone_ref(py));
                            // A closed loop refuses: there is nobody left to tell.
                            let _ = bridge
                                .event_loop
                                .call_method1(py, "call_soon_threadsafe", (drain,));
                        });
                    });
                }
            }
        }
    }

    fn drain(&self, py: Python<'_>) {
        #[cfg(unix)]
        if let Wake::Pair { loops, .. } = &self.wake {
            use std::io::Read;
            let _ = (&mut &*loops).read(&mut [0u8; 64]); // what was written does not matter
        }
        // In this order: a job pushed meanwhile is either in the list or wakes the loop again.
        self.is_armed.store(false, Ordering::Release);
        let jobs = std::mem::take(&mut lock(&self.jobs).pending);
        for job in jobs {
            job(py);
        }
    }

    /// A future of the engine as one of asyncio. Cancelling that one drops this one.
    pub(crate) fn spawn<'py, T: Send + 'static>(
        self: &Arc<Self>,
        py: Python<'py>,
        future: impl Future<Output = Result<T>> + Send + 'static,
        show: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        let runtime = runtime::handle().map_err(|error| to_pyerr(py, &error))?;
        let promise = self.create_future(py)?;
        let answer = promise.clone().unbind();
        let bridge = Arc::clone(self);
        let task = runtime.spawn(async move {
            let result = caught(future).await;
            bridge.post(Box::new(move |py| {
                let promise = answer.bind(py);
                if is_done(promise) {
                    return;
                }
                let shown = match result {
                    Ok(value) => show(py, value),
                    Err(error) => Err(to_pyerr_async(py, &error)),
                };
                // A future that was settled in between has nobody to hear this.
                let _ = match shown {
                    Ok(value) => promise.call_method1("set_result", (value,)),
                    Err(error) => promise.call_method1("set_exception", (error.into_value(py),)),
                };
            }));
        });
        promise.call_method1("add_done_callback", (AbortWhenCancelled(task.abort_handle()),))?;
        Ok(promise)
    }

    /// Awaits what `start` gives, as a task of this loop in the caller's context. Dropping this future cancels
    /// the task.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        context: &Arc<Py<PyAny>>,
        start: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send + 'static,
        read: impl FnOnce(&Bound<'_, PyAny>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, answer) = oneshot::channel::<Result<T>>();
        let slot: Arc<Mutex<Option<Py<PyAny>>>> = Arc::default();
        let (context, held) = (Arc::clone(context), Arc::clone(&slot)); // Arc: cloning needs no GIL
        self.post(Box::new(move |py| {
            let begin = || -> PyResult<Py<PyAny>> {
                let awaitable = start(py)?;
                let ensure_future = intern_import!(py, "asyncio", "ensure_future")?;
                // Made inside the context, the task copies it; 3.10 knows no `context=`.
                let task = context.bind(py).call_method1("run", (ensure_future, awaitable))?;
                Ok(task.unbind())
            };
            match begin() {
                Err(error) => {
                    let _ = sender.send(Err(raised(py, error))); // nobody waits any more
                }
                Ok(task) => {
                    let answer: Tell = Box::new(move |task| {
                        let result = match task.call_method0("result") {
                            Ok(value) => read(&value),
                            Err(error) => Err(raised(task.py(), error)),
                        };
                        let _ = sender.send(result); // nobody waits any more
                    });
                    let tell = TellWhenDone(Mutex::new(Some(answer)));
                    // Cannot fail on a task of this very loop; if it does, the sender is dropped and tells it.
                    let _ = task.call_method1(py, "add_done_callback", (tell,));
                    *lock(&held) = Some(task);
                }
            }
        }));
        let mut guard = CancelTask {
            slot,
            bridge: Arc::clone(self),
            is_live: true,
        };
        let result = answer.await;
        guard.is_live = false;
        result.unwrap_or(Err(Error::Cancelled))
    }
}

/// Whether an asyncio future is settled.
pub(crate) fn is_done(future: &Bound<'_, PyAny>) -> bool {
    future
        .call_method0("done")
        .and_then(|done| done.is_truthy())
        .unwrap_or(true)
}

/// A panic must not leave somebody waiting for ever.
async fn caught<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::internal("the engine panicked; its words are on stderr")))
}

/// Cancels the Python task when the engine does not wait for it any more.
struct CancelTask {
    slot: Arc<Mutex<Option<Py<PyAny>>>>,
    bridge: Arc<Bridge>,
    is_live: bool,
}

impl Drop for CancelTask {
    fn drop(&mut self) {
        if self.is_live {
            let slot = Arc::clone(&self.slot);
            // The queue is in order: this comes after the job that makes the task.
            self.bridge.post(Box::new(move |py| {
                let task = lock(&slot).take();
                if let Some(task) = task {
                    let _ = task.call_method0(py, "cancel"); // a finished task takes no harm
                }
            }));
        }
    }
}

#[pyclass(frozen, module = "stepwell._native")]
struct AbortWhenCancelled(AbortHandle);

#[pymethods]
impl AbortWhenCancelled {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if future.call_method0("cancelled")?.is_truthy()? {
            self.0.abort();
        }
        Ok(())
    }
}

type Tell = Box<dyn FnOnce(&Bound<'_, PyAny>) + Send>;

#[pyclass(frozen, module = "stepwell._native")]
struct TellWhenDone(Mutex<Option<Tell>>);

#[pymethods]
impl TellWhenDone {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let tell = lock(&self.0).take();
        if let Some(tell) = tell {
            tell(task);
        }
    }
}

/// Where a thread that blocks in a sync call takes its jobs from.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<DeskState>,
    rung: Condvar,
}

#[derive(Default)]
struct DeskState {
    jobs: Vec<Job>,
    is_finished: bool,
}

impl Desk {
    pub(crate) fn post(&self, job: Job) {
        lock(&self.state).jobs.push(job);
        self.rung.notify_one();
    }

    fn finish(&self) {
        lock(&self.state).is_finished = true;
        self.rung.notify_one();
    }

    /// Jobs, or none after a while; and whether the call is over.
    fn wait(&self) -> (Vec<Job>, bool) {
        let state = lock(&self.state);
        let (mut state, _) = self
            .rung
            .wait_timeout_while(state, SIGNALS_EVERY, |state| {
                state.jobs.is_empty() && !state.is_finished
            })
            .unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.jobs), state.is_finished)
    }

    /// Runs a future of the engine to its end on the runtime, doing jobs here and listening for Ctrl-C.
    pub(crate) fn block_on<T: Send + 'static>(
        self: &Arc<Self>,
        py: Python<'_>,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> PyResult<T> {
        let runtime = runtime::handle().map_err(|error| to_pyerr(py, &error))?;
        let slot: Arc<Mutex<Option<Result<T>>>> = Arc::default();
        let (desk, answer) = (Arc::clone(self), Arc::clone(&slot));
        let task = runtime.spawn(async move {
            let result = caught(future).await;
            *lock(&answer) = Some(result);
            desk.finish();
        });
        loop {
            let (jobs, is_finished) = py.detach(|| self.wait());
            for job in jobs {
                job(py);
            }
            if is_finished {
                let result = lock(&slot).take();
                return result
                    .unwrap_or(Err(Error::Cancelled))
                    .map_err(|error| to_pyerr(py, &error));
            }
            if task.is_finished() && lock(&slot).is_none() {
                return Err(to_pyerr(py, &Error::Cancelled)); // the runtime was shut down
            }
            if let Err(interrupt) = py.check_signals() {
                task.abort();
                return Err(interrupt);
            }
        }
    }
}

/// The bridge of one loop, to be kept by Python: the background loop hands its own to sync calls.
#[pyclass(frozen, name = "LoopBridge", module = "stepwell._native")]
pub(crate) struct LoopBridge(pub(crate) Arc<Bridge>);

/// The bridge of the running loop.
#[pyfunction]
pub(crate) fn current_bridge(py: Python<'_>) -> PyResult<LoopBridge> {
    Bridge::current(py).map(LoopBridge)
}
