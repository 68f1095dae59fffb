//! Models, whoever plays them: `chat`, its blocking twin, and `stream`.

use crate::{
    caller::{Caller, Function},
    convert::serde_to_py,
    embed::NativeEmbedder,
    error::to_pyerr,
    host::HostModel,
    request::read_request,
    runtime::Born,
    stream::{Item, NativeStream, Outcome},
};
use futures::StreamExt;
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, intern, prelude::*, types::PyDict};
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatResponse, Error, Fold, ModelInfo, Result, StreamEvent,
    providers::{Anthropic, Extractive, OpenAi, layers::resilient},
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

enum Backing {
    Engine(Arc<dyn ChatModel>),
    Host {
        info: Box<ModelInfo>,
        function: Function,
    },
}

/// A model.
#[pyclass(frozen, name = "Model", module = "stepwell._native")]
pub(crate) struct NativeModel {
    backing: Backing,
    born: Born,
}

impl NativeModel {
    pub(crate) fn engine(model: Arc<dyn ChatModel>) -> Self {
        Self {
            backing: Backing::Engine(model),
            born: Born::now(),
        }
    }

    /// The model for one call: a Python one runs where its caller is.
    pub(crate) fn bind(&self, caller: &Arc<Caller>) -> Arc<dyn ChatModel> {
        match &self.backing {
            Backing::Engine(model) => Arc::clone(model),
            Backing::Host { info, function } => Arc::new(HostModel {
                info: ModelInfo::clone(info),
                function: function.clone(),
                caller: Arc::clone(caller),
            }),
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
                info: Box::new(ModelInfo::new(provider, model)),
                function: Function {
                    callable: Arc::new(function),
                    is_async,
                },
            },
            born: Born::now(),
        }
    }

    /// The model of a name such as `anthropic/claude-sonnet-5`, or `extractive`. Key and address come from the environment where
    /// they are not given.
    #[staticmethod]
    #[pyo3(signature = (name, *, api_key=None, base_url=None))]
    fn named(
        py: Python<'_>,
        name: &str,
        api_key: Option<String>,
        base_url: Option<String>,
    ) -> PyResult<Self> {
        named(name, api_key, base_url)
            .map(Self::engine)
            .map_err(|error| to_pyerr(py, &error))
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
        match &self.backing {
            Backing::Host { function, .. } => function.traverse(&visit),
            Backing::Engine(_) => Ok(()),
        }
    }

    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.backing {
            Backing::Engine(model) => serde_to_py(py, model.info()),
            Backing::Host { info, .. } => serde_to_py(py, info),
        }
    }

    fn chat<'py>(&self, py: Python<'py>, request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, bridge) = Caller::on_loop(py)?;
        let model = self.bind(&caller);
        bridge.spawn(py, async move { model.chat(request).await }, |py, response| {
            response.show(py)
        })
    }

    fn chat_sync(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let request = read_request(request).map_err(|error| to_pyerr(py, &error))?;
        self.born.check("model").map_err(|error| to_pyerr(py, &error))?;
        let (caller, desk) = Caller::on_thread(py)?;
        let model = self.bind(&caller);
        let response = desk.block_on(py, async move { model.chat(request).await })?;
        response.show(py)
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
        let model = self.bind(&caller);
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

fn named(name: &str, api_key: Option<String>, base_url: Option<String>) -> Result<Arc<dyn ChatModel>> {
    if api_key.is_none() && base_url.is_none() {
        return stepwell::model(name);
    }
    match name.trim().split_once(['/', ':']) {
        Some(("anthropic", model)) => {
            let mut builder = Anthropic::new(model);
            if let Some(key) = api_key {
                builder = builder.api_key(key);
            }
            if let Some(url) = base_url {
                builder = builder.base_url(url);
            }
            Ok(resilient(builder.build()?))
        }
        Some(("openai", model)) => {
            let mut builder = OpenAi::new(model);
            if let Some(key) = api_key {
                builder = builder.api_key(key);
            }
            if let Some(url) = base_url {
                builder = builder.base_url(url);
            }
            Ok(resilient(builder.build()?))
        }
        // Tells what is wrong with the name; no other model takes a key from here.
        _ => stepwell::model(name).and_then(|model| {
            Err(Error::Unsupported {
                who: model.info().provider.clone(),
                what: "a key or an address given here".into(),
                hint: "leave both out".into(),
            })
        }),
    }
}
