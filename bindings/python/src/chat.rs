//! Models, whoever plays them: `chat`, its blocking twin, and `stream`.

use crate::{
    caller::{Caller, Function},
    convert::{json_to_py, serde_to_py},
    embed::NativeEmbedder,
    error::to_pyerr,
    layers::{self, Backing, Layer, NativeBreaker, NativeBudget, NativeCache, NativeRateLimiter},
    rag::scope_of,
    request::read_request,
    runtime::Born,
    stream::{Item, NativeStream, Outcome},
    vendor::{NativeCassette, vendor_options},
};
use futures::StreamExt;
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, intern, prelude::*, types::PyDict};
use serde_json::Value;
use std::sync::Arc;
use stepwell::{
    ChatAs, ChatModel, ChatResponse, Fold, ModelInfo, StreamEvent, TypedAnswer, providers::Extractive,
};

/// Deltas are nearly all events of a stream: they are built by hand, the rest goes through JSON.
impl Item for StreamEvent {
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let delta = |kind: &Bound<'_, pyo3::types::PyString>,
                     index: u32,
                     name: &Bound<'_, pyo3::types::PyString>,
                     piece: &str| {
            let dict = PyDict::new(py);
            dict.set_item(intern!(py, "type"), kind)?;
            dict.set_item(intern!(py, "index"), index)?;
            dict.set_item(name, piece)?;
            dict.into_py_any(py)
        };
        match self {
            Self::TextDelta { index, text } => {
                delta(intern!(py, "text_delta"), *index, intern!(py, "text"), text)
            }
            Self::ReasoningDelta { index, text } => {
                delta(intern!(py, "reasoning_delta"), *index, intern!(py, "text"), text)
            }
            Self::ToolCallDelta { index, arguments } => delta(
                intern!(py, "tool_call_delta"),
                *index,
                intern!(py, "arguments"),
                arguments,
            ),
            event => serde_to_py(py, event).map(Bound::unbind),
        }
    }
}

impl Item for ChatResponse {
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        serde_to_py(py, self).map(Bound::unbind)
    }
}

/// A model.
#[pyclass(frozen, name = "Model", module = "stepwell._native")]
pub(crate) struct NativeModel {
    backing: Backing,
    born: Born,
}

impl NativeModel {
    pub(crate) fn engine(model: Arc<dyn ChatModel>) -> Self {
        Self::of(Backing::Engine(model))
    }

    pub(crate) fn of(backing: Backing) -> Self {
        Self {
            backing,
            born: Born::now(),
        }
    }

    /// The model for one call: a Python one runs where its caller is.
    pub(crate) fn bind(&self, caller: &Arc<Caller>) -> stepwell::Result<Arc<dyn ChatModel>> {
        self.backing.bind(caller)
    }

    fn layered(&self, layer: Layer) -> Self {
        Self {
            backing: self.backing.clone().layered(layer),
            born: Born::now(),
        }
    }
}

#[pymethods]
impl NativeModel {
    /// A model whose answers a Python function gives: `function(request)` answers a response or a thing with
    /// `next()`, a coroutine that gives a list of events, or `None` at the end.
    #[staticmethod]
    fn host(provider: String, model: String, function: Py<PyAny>, is_async: bool) -> Self {
        Self {
            backing: Backing::Host {
                info: Arc::new(ModelInfo::new(provider, model)),
                function: Function {
                    callable: Arc::new(function),
                    is_async,
                },
            },
            born: Born::now(),
        }
    }

    /// The model of a name such as `anthropic/claude-sonnet-5`, or `extractive`. What `options` does not say comes
    /// from the environment.
    #[staticmethod]
    #[pyo3(signature = (name, options=None, cassette=None))]
    fn named(
        py: Python<'_>,
        name: &str,
        options: Option<&Bound<'_, PyAny>>,
        cassette: Option<&Bound<'_, NativeCassette>>,
    ) -> PyResult<Self> {
        match vendor_options(py, options, cassette)? {
            None => stepwell::model(name),
            Some(options) => stepwell::model_with(name, options),
        }
        .map(Self::engine)
        .map_err(|error| to_pyerr(py, &error))
    }

    fn with_retry(&self, py: Python<'_>, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(self.layered(Layer::Retry(layers::read(py, "retry", options)?)))
    }

    fn with_timeouts(&self, py: Python<'_>, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(self.layered(Layer::Timeouts(layers::read(py, "timeouts", options)?)))
    }

    fn with_rate_limit(&self, limiter: &NativeRateLimiter) -> Self {
        self.layered(Layer::RateLimit(limiter.0.clone()))
    }

    fn with_breaker(&self, breaker: &NativeBreaker) -> Self {
        self.layered(Layer::Breaker(breaker.0.clone()))
    }

    fn with_budget(&self, budget: &NativeBudget) -> Self {
        self.layered(Layer::Budget(budget.0.clone()))
    }

    fn with_fallback(
        &self,
        py: Python<'_>,
        others: Vec<PyRef<'_, Self>>,
        options: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let options = layers::read(py, "fallback", options)?;
        let others = others.iter().map(|other| other.backing.clone()).collect();
        Ok(self.layered(Layer::Fallback(others, options)))
    }

    fn with_cache(
        &self,
        py: Python<'_>,
        cache: &NativeCache,
        tenant: Option<String>,
        options: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let options = layers::read(py, "cache", options)?;
        let place = || Ok((cache.get()?, scope_of(tenant, None)?));
        let (cache, scope) = place().map_err(|error| to_pyerr(py, &error))?;
        Ok(self.layered(Layer::Cache(cache, scope, options)))
    }

    /// The model that answers with sentences of the documents.
    #[staticmethod]
    fn extractive(py: Python<'_>, embedder: Option<&Bound<'_, NativeEmbedder>>) -> PyResult<Self> {
        let mut model = Extractive::new();
        if let Some(embedder) = embedder {
            model = model.embedder(embedder.get().get().map_err(|error| to_pyerr(py, &error))?);
        }
        Ok(Self::engine(Arc::new(model)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.backing.traverse(&visit)
    }

    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        serde_to_py(py, self.backing.info())
    }

    fn chat<'py>(&self, py: Python<'py>, request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, bridge) = Caller::on_loop(py)?;
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        bridge.spawn(py, async move { model.chat(request).await }, |py, response| {
            response.show(py)
        })
    }

    fn chat_sync(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, desk) = Caller::on_thread(py)?;
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        let response = desk.block_on(py, async move { model.chat(request).await })?;
        response.show(py)
    }

    fn chat_value<'py>(&self, py: Python<'py>, request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, bridge) = Caller::on_loop(py)?;
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        bridge.spawn(
            py,
            async move { model.chat_value(request).await },
            |py, answer| show_typed(py, &answer),
        )
    }

    fn chat_value_sync(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, desk) = Caller::on_thread(py)?;
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        let answer = desk.block_on(py, async move { model.chat_value(request).await })?;
        show_typed(py, &answer)
    }

    fn count_tokens<'py>(&self, py: Python<'py>, request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, bridge) = Caller::on_loop(py)?;
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        bridge.spawn(
            py,
            async move { model.count_tokens(&request).await },
            |py, usage| serde_to_py(py, &usage).map(Bound::unbind),
        )
    }

    fn count_tokens_sync(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, desk) = Caller::on_thread(py)?;
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        let usage = desk.block_on(py, async move { model.count_tokens(&request).await })?;
        serde_to_py(py, &usage).map(Bound::unbind)
    }

    #[pyo3(signature = (request, *, blocking=false))]
    fn stream(&self, py: Python<'_>, request: &Bound<'_, PyAny>, blocking: bool) -> PyResult<NativeStream> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let caller = if blocking {
            Caller::on_thread(py)?.0
        } else {
            Caller::on_loop(py)?.0
        };
        let model = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        let outcome = Outcome::default();
        let whole = outcome.clone();
        NativeStream::open(py, outcome, async move {
            let info = model.info();
            let mut fold = Some(Fold::new(&info.provider, &info.model, request.include_raw));
            let events = model.stream(request).await?;
            let watched = events.map(move |event| {
                let event = event?;
                if let Some(open) = &mut fold {
                    open.push(event.clone())?;
                    if open.is_finished()
                        && let Some(done) = fold.take()
                    {
                        whole.set(done.finish()?);
                    }
                }
                Ok(event)
            });
            Ok(watched.boxed())
        })
    }
}

fn show_typed(py: Python<'_>, answer: &TypedAnswer<Value>) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "value"), json_to_py(py, &answer.value)?)?;
    dict.set_item(intern!(py, "response"), answer.response.show(py)?)?;
    dict.into_py_any(py)
}
