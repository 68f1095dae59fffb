//! [`Caller`]: who made a public call, and so where the Python functions it leads to have to run.

use crate::{
    bridge::{Bridge, Desk, Job, LoopBridge},
    convert::intern_import,
    error::raised,
    runtime,
};
use pyo3::{PyTraverseError, PyVisit, prelude::*, types::PyTuple};
use std::sync::{Arc, Mutex, PoisonError};
use stepwell::{Error, Result};

/// A Python function, and whether calling it gives a coroutine.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) callable: Arc<Py<PyAny>>,
    pub(crate) is_async: bool,
}

impl Function {
    /// Shows the function to Python's cycle collector, unless a call of the engine is using it: then it is alive
    /// whatever Python sees.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(&self.callable) == 1 {
            visit.call(&*self.callable)?;
        }
        Ok(())
    }
}

enum Home {
    /// An event loop waits for the call.
    Loop,
    /// A thread is blocked in it.
    Thread(Arc<Desk>),
}

/// The facts of one public call: its loop or thread, and its context variables.
pub(crate) struct Caller {
    home: Home,
    /// The loop for coroutines: the caller's, or for a blocked caller the background loop once it is needed.
    bridge: Mutex<Option<Arc<Bridge>>>,
    context: Arc<Py<PyAny>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

impl Caller {
    /// The caller's context variables.
    pub(crate) fn context(&self) -> Arc<Py<PyAny>> {
        Arc::clone(&self.context)
    }

    fn copy_context(py: Python<'_>) -> PyResult<Arc<Py<PyAny>>> {
        let context = intern_import!(py, "contextvars", "copy_context")?.call0()?;
        Ok(Arc::new(context.unbind()))
    }

    /// The caller awaits on the running loop.
    pub(crate) fn on_loop(py: Python<'_>) -> PyResult<(Arc<Self>, Arc<Bridge>)> {
        let bridge = Bridge::current(py)?;
        let caller = Arc::new(Self {
            home: Home::Loop,
            bridge: Mutex::new(Some(Arc::clone(&bridge))),
            context: Self::copy_context(py)?,
        });
        Ok((caller, bridge))
    }

    /// The caller blocks.
    pub(crate) fn on_thread(py: Python<'_>) -> PyResult<(Arc<Self>, Arc<Desk>)> {
        let desk = Arc::new(Desk::default());
        let caller = Arc::new(Self {
            home: Home::Thread(Arc::clone(&desk)),
            bridge: Mutex::new(None),
            context: Self::copy_context(py)?,
        });
        Ok((caller, desk))
    }

    /// Does something in Python where the caller waits.
    pub(crate) fn post(&self, job: Job) {
        match &self.home {
            Home::Thread(desk) => desk.post(job),
            Home::Loop => self.post_to_loop(job),
        }
    }

    /// Does something on the loop for coroutines, where there has been one.
    pub(crate) fn post_to_loop(&self, job: Job) {
        if let Some(bridge) = &*self.bridge.lock().unwrap_or_else(PoisonError::into_inner) {
            bridge.post(job);
        }
    }

    /// The loop that coroutines run on.
    async fn bridge(&self) -> Result<Arc<Bridge>> {
        if let Some(bridge) = &*self.bridge.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(bridge));
        }
        let bridge = attached(|py| {
            let handle = intern_import!(py, "stepwell._loop", "background")?.call0()?;
            Ok(Arc::clone(&handle.cast::<LoopBridge>()?.get().0))
        })
        .await?;
        *self.bridge.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&bridge));
        Ok(bridge)
    }

    /// Calls a Python function: a coroutine on the caller's loop, anything else off it, both in the caller's
    /// context. What it returns is awaited where it can be.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        function: &Function,
        arguments: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyTuple>> + Send + 'static,
        read: impl FnOnce(&Bound<'_, PyAny>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let callable = Arc::clone(&function.callable); // Arc: cloning needs no GIL
        if function.is_async {
            let start = move |py: Python<'_>| callable.call1(py, arguments(py)?);
            return self.bridge().await?.run(&self.context, start, read).await;
        }
        let context = Arc::clone(&self.context);
        let outcome = attached(move |py| {
            // A copy: a context cannot be entered twice at once.
            let context = context.bind(py).call_method0("copy")?;
            let arguments = arguments(py)?;
            let mut all = vec![callable.bind(py).clone()];
            all.extend(arguments.iter());
            let value = context.call_method1("run", PyTuple::new(py, all)?)?;
            if value.hasattr("__await__")? {
                Ok(Outcome::Awaitable(value.unbind(), read))
            } else {
                Ok(Outcome::Value(read(&value)))
            }
        })
        .await?;
        match outcome {
            Outcome::Value(result) => result,
            Outcome::Awaitable(awaitable, read) => {
                self.bridge()
                    .await?
                    .run(&self.context, move |_| Ok(awaitable), read)
                    .await
            }
        }
    }
}

enum Outcome<T, R> {
    Value(Result<T>),
    Awaitable(Py<PyAny>, R),
}

/// Runs Python code on a thread that may wait for the GIL: never a worker of the runtime.
async fn attached<T: Send + 'static>(
    work: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
) -> Result<T> {
    let task = runtime::handle()?.spawn_blocking(move || {
        Python::try_attach(|py| work(py).map_err(|error| raised(py, error))).unwrap_or(Err(Error::Cancelled)) // the interpreter ends
    });
    task.await.unwrap_or(Err(Error::Cancelled))
}
