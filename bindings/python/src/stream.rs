//! Streams: `take()` gives everything that is ready, `wait()` one future per dry spell.
//!
//! An item leaves the queue only in `take`, so a cancelled `wait` loses none. The producer sleeps above a bound.

use crate::{
    bridge::{Bridge, is_done},
    error::to_pyerr,
    runtime::{self, Born},
};
use futures::{Stream, StreamExt, stream::BoxStream};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyList};
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stepwell::{Error, Result};
use tokio::{sync::Notify, task::AbortHandle};

/// Above so many items the producer sleeps until `take` makes room.
const HIGH_WATER: usize = 1024;
/// How often a blocked reader looks for Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// One item, on its way to becoming a Python object on the reader's thread.
pub(crate) trait Item: Send + 'static {
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

/// What is known once the stream has ended: the whole answer, the end of a run.
#[derive(Clone, Default)]
pub(crate) struct Outcome(Arc<Mutex<Option<Box<dyn Item>>>>);

impl Outcome {
    pub(crate) fn set(&self, item: impl Item) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(item));
    }
}

struct Waiter {
    future: Py<PyAny>,
    bridge: Arc<Bridge>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Result<Box<dyn Item>>>,
    is_done: bool,
    waiter: Option<Waiter>,
}

#[derive(Default)]
struct Feed {
    queue: Mutex<Queue>,
    /// For a reader that blocks.
    filled: Condvar,
    /// For the producer.
    space: Notify,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, or the end; tells whether the producer has to wait for room.
    fn push(self: &Arc<Self>, item: Option<Result<Box<dyn Item>>>) -> bool {
        let (bridge, is_full) = {
            let mut queue = self.lock();
            if queue.is_done {
                return false; // closed meanwhile
            }
            match item {
                Some(item) => queue.items.push_back(item),
                None => queue.is_done = true,
            }
            let bridge = queue.waiter.as_ref().map(|waiter| Arc::clone(&waiter.bridge));
            (bridge, queue.items.len() >= HIGH_WATER)
        };
        self.filled.notify_all();
        if let Some(bridge) = bridge {
            self.wake(&bridge);
        }
        is_full
    }

    fn is_full(&self) -> bool {
        let queue = self.lock();
        queue.items.len() >= HIGH_WATER && !queue.is_done
    }

    fn wake(self: &Arc<Self>, bridge: &Arc<Bridge>) {
        let feed = Arc::clone(self);
        bridge.post(Box::new(move |py| {
            let waiter = feed.lock().waiter.take();
            if let Some(waiter) = waiter {
                settle(waiter.future.bind(py));
            }
        }));
    }

    fn close(self: &Arc<Self>) {
        let (bridge, dropped) = {
            let mut queue = self.lock();
            queue.is_done = true;
            let bridge = queue.waiter.as_ref().map(|waiter| Arc::clone(&waiter.bridge));
            (bridge, std::mem::take(&mut queue.items))
        };
        drop(dropped);
        self.filled.notify_all();
        self.space.notify_one();
        if let Some(bridge) = bridge {
            self.wake(&bridge);
        }
    }
}

fn settle(future: &Bound<'_, PyAny>) {
    if !is_done(future) {
        // It can only fail when it was settled in between, and then nobody waits.
        let _ = future.call_method1("set_result", (future.py().None(),));
    }
}

/// A running stream of the engine; closing or dropping it stops the engine's side.
#[pyclass(frozen, name = "Stream", module = "stepwell._native")]
pub(crate) struct NativeStream {
    feed: Arc<Feed>,
    producer: AbortHandle,
    outcome: Outcome,
    born: Born,
}

impl NativeStream {
    /// Starts a stream. `source` is awaited first; a failure there is the stream's first and last item.
    pub(crate) fn open<T: Item>(
        py: Python<'_>,
        outcome: Outcome,
        source: impl Future<Output = Result<BoxStream<'static, Result<T>>>> + Send + 'static,
    ) -> PyResult<Self> {
        let feed = Arc::new(Feed::default());
        let runtime = runtime::handle().map_err(|error| to_pyerr(py, &error))?;
        let end = EndOfFeed(Arc::clone(&feed));
        let task = runtime.spawn(async move {
            match source.await {
                Ok(stream) => pump(stream, &end.0).await,
                Err(error) => {
                    end.0.push(Some(Err(error)));
                }
            }
            drop(end);
        });
        Ok(Self {
            feed,
            producer: task.abort_handle(),
            outcome,
            born: Born::now(),
        })
    }
}

/// Whatever becomes of the producer (a panic too), the reader is told that it ended.
struct EndOfFeed(Arc<Feed>);

impl Drop for EndOfFeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.push(Some(Err(Error::internal(
                "the engine panicked; its words are on stderr",
            ))));
        }
        self.0.push(None);
    }
}

async fn pump<T: Item>(mut stream: impl Stream<Item = Result<T>> + Unpin, feed: &Arc<Feed>) {
    while let Some(item) = stream.next().await {
        let is_error = item.is_err();
        let is_full = feed.push(Some(item.map(|item| Box::new(item) as Box<dyn Item>)));
        if is_error {
            return;
        }
        if is_full {
            while feed.is_full() {
                feed.space.notified().await;
            }
        }
    }
}

#[pymethods]
impl NativeStream {
    /// Everything that is ready, at most `max`; an empty list when nothing is, `None` at the end.
    #[pyo3(signature = (max=512))]
    fn take<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Option<Bound<'py, PyList>>> {
        self.born.check("stream").map_err(|error| to_pyerr(py, &error))?;
        let mut ready = Vec::new();
        {
            let mut queue = self.feed.lock();
            if queue.items.is_empty() && queue.is_done {
                return Ok(None);
            }
            while ready.len() < max {
                match queue.items.pop_front() {
                    Some(Ok(item)) => ready.push(item),
                    Some(Err(error)) if ready.is_empty() => {
                        drop(queue);
                        return Err(to_pyerr(py, &error));
                    }
                    Some(error) => {
                        queue.items.push_front(error); // items first, then the error alone
                        break;
                    }
                    None => break,
                }
            }
        }
        self.feed.space.notify_one();
        let items = ready
            .iter()
            .map(|item| item.show(py))
            .collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, items).map(Some)
    }

    /// A future that ends when `take` has something to say.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.born.check("stream").map_err(|error| to_pyerr(py, &error))?;
        let bridge = Bridge::current(py)?;
        let future = bridge.create_future(py)?; // runs Python: no lock is held
        let old = {
            let queue = self.feed.lock();
            queue.waiter.as_ref().map(|waiter| waiter.future.clone_ref(py))
        };
        // A waiter whose task was cancelled is replaced.
        if let Some(old) = old
            && !is_done(old.bind(py))
        {
            return Err(PyRuntimeError::new_err(
                "another task is already waiting on this stream",
            ));
        }
        let (is_ready, replaced) = {
            let mut queue = self.feed.lock();
            let replaced = queue.waiter.replace(Waiter {
                future: future.clone().unbind(),
                bridge,
            });
            // Looked at again after the waiter is set: no item can slip between.
            (!queue.items.is_empty() || queue.is_done, replaced)
        };
        drop(replaced);
        if is_ready {
            let waiter = self.feed.lock().waiter.take();
            drop(waiter);
            settle(&future);
        }
        Ok(future)
    }

    /// Blocks until `take` has something to say.
    fn wait_sync(&self, py: Python<'_>) -> PyResult<()> {
        self.born.check("stream").map_err(|error| to_pyerr(py, &error))?;
        loop {
            let is_ready = py.detach(|| {
                let queue = self.feed.lock();
                let (queue, _) = self
                    .feed
                    .filled
                    .wait_timeout_while(queue, SIGNALS_EVERY, |queue| {
                        queue.items.is_empty() && !queue.is_done
                    })
                    .unwrap_or_else(PoisonError::into_inner);
                !queue.items.is_empty() || queue.is_done
            });
            if is_ready {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// Stops the engine's side, forgets what is queued and ends a pending `wait`.
    fn close(&self) {
        self.producer.abort();
        self.feed.close();
    }

    /// What the stream came to, once it has ended well; `None` before.
    fn result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let item = self
            .outcome
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(item) = item else { return Ok(None) };
        let shown = item.show(py)?;
        *self.outcome.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(item);
        Ok(Some(shown))
    }

    #[getter]
    fn is_closed(&self) -> bool {
        let queue = self.feed.lock();
        queue.is_done && queue.items.is_empty()
    }
}

impl Drop for NativeStream {
    fn drop(&mut self) {
        self.producer.abort();
        self.feed.close();
    }
}
