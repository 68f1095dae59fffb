//! Models: by name, scripted, or a Python function; `chat`, its blocking twin, and `stream`.

use crate::{
    caller::{Caller, Function},
    convert::{json_to_py, py_to_json, py_to_serde, serde_to_py},
    error::{raised, to_pyerr, unreadable},
    rag::NativeEmbedder,
    runtime::Born,
    stream::{Item, NativeStream, Outcome},
    tool::seconds,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use pyo3::{
    IntoPyObjectExt, PyTraverseError, PyVisit, intern,
    prelude::*,
    types::{PyDict, PyTuple},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{fmt, sync::Arc};
use stepwell::{
    CacheMode, ChatModel, ChatRequest, ChatResponse, ChatStream, Error, FinishReason, Fold, Message,
    ModelInfo, Part, ReasoningEffort, ReasoningOptions, ResponseFormat, Result, Schema, StreamEvent,
    ToolChoice, ToolSpec,
    providers::{Anthropic, Extractive, OpenAi, Scripted},
    whole,
};

/// A request as the Python layer writes it down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Spec>,
    #[serde(default)]
    tool_choice: ToolChoice,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    response_format: Format,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    top_k: Option<u32>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    reasoning: Thinking,
    #[serde(default)]
    cache: CacheMode,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    provider_options: Map<String, Value>,
    #[serde(default)]
    include_raw: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Format {
    #[default]
    Text,
    Json,
    Schema {
        name: String,
        schema: Value,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Thinking {
    effort: Option<ReasoningEffort>,
    budget_tokens: Option<u64>,
    show_summary: Option<bool>,
}

/// The request of a Python call.
pub(crate) fn read_request(given: &Bound<'_, PyAny>) -> Result<ChatRequest> {
    let given: Request = py_to_serde("request", given)?;
    let mut request = ChatRequest::new(given.messages);
    for tool in given.tools {
        let schema = Schema::from_value(tool.parameters)?;
        request
            .tools
            .push(ToolSpec::new(tool.name, tool.description, &schema)?);
    }
    request.tool_choice = given.tool_choice;
    request.parallel_tool_calls = given.parallel_tool_calls;
    request.response_format = match given.response_format {
        Format::Text => ResponseFormat::Text,
        Format::Json => ResponseFormat::Json,
        Format::Schema { name, schema } => ResponseFormat::Schema {
            name,
            schema: Schema::from_value(schema)?,
        },
    };
    request.max_output_tokens = given.max_output_tokens;
    request.temperature = given.temperature;
    request.top_p = given.top_p;
    request.top_k = given.top_k;
    request.stop_sequences = given.stop_sequences;
    request.seed = given.seed;
    let mut reasoning = ReasoningOptions::default();
    reasoning.effort = given.reasoning.effort;
    reasoning.budget_tokens = given.reasoning.budget_tokens;
    reasoning.show_summary = given.reasoning.show_summary;
    request.reasoning = reasoning;
    request.cache = given.cache;
    for (key, value) in given.metadata {
        let Value::String(value) = value else {
            return Err(Error::invalid(
                "metadata",
                format!("the value of `{key}` is a string"),
            ));
        };
        request.metadata.insert(key, value);
    }
    request.provider_options.extend(given.provider_options);
    request.include_raw = given.include_raw;
    Ok(request)
}

/// The request as a Python model sees it.
fn show_request(request: &ChatRequest) -> Result<Value> {
    let written = |error: serde_json::Error| Error::internal(format!("a request is no JSON: {error}"));
    Ok(json!({
        "messages": serde_json::to_value(&request.messages).map_err(written)?,
        "tools": serde_json::to_value(&request.tools).map_err(written)?,
        "tool_choice": serde_json::to_value(&request.tool_choice).map_err(written)?,
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": match &request.response_format {
            ResponseFormat::Json => json!("json"),
            ResponseFormat::Schema { name, schema } => json!({ "schema": { "name": name, "schema": schema.as_value() } }),
            _ => json!("text"),
        },
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": request.stop_sequences,
        "seed": request.seed,
        "metadata": serde_json::to_value(&request.metadata).map_err(written)?,
        "provider_options": serde_json::to_value(&request.provider_options).map_err(written)?,
    }))
}

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
            Ok(Arc::new(builder.build()?))
        }
        Some(("openai", model)) => {
            let mut builder = OpenAi::new(model);
            if let Some(key) = api_key {
                builder = builder.api_key(key);
            }
            if let Some(url) = base_url {
                builder = builder.base_url(url);
            }
            Ok(Arc::new(builder.build()?))
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

/// The script of a scripted model.
#[pyclass(frozen, name = "Script", module = "stepwell._native")]
pub(crate) struct NativeScript(Scripted);

#[pymethods]
impl NativeScript {
    #[new]
    fn new(py: Python<'_>, name: &str, delta_chars: Option<usize>, pace: Option<f64>) -> PyResult<Self> {
        let (provider, model) = name.split_once('/').unwrap_or(("scripted", name));
        let mut script = Scripted::new().named(provider, model);
        if let Some(chars) = delta_chars {
            script = script.delta_chars(chars);
        }
        if let Some(pace) = pace {
            script = script.pace(seconds("pace", pace).map_err(|error| to_pyerr(py, &error))?);
        }
        Ok(Self(script))
    }

    /// The model that plays it.
    fn model(&self) -> NativeModel {
        NativeModel::engine(Arc::new(self.0.clone()))
    }

    /// Adds an answer of these parts. The script is shared by its clones.
    fn answer(&self, py: Python<'_>, parts: &Bound<'_, PyAny>) -> PyResult<()> {
        let parts: Vec<Part> = py_to_serde("parts", parts).map_err(|error| to_pyerr(py, &error))?;
        drop(self.0.clone().answer(parts));
        Ok(())
    }

    /// Adds an answer that calls tools: `(name, arguments)` each.
    fn calls(&self, py: Python<'_>, calls: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<()> {
        let calls = calls
            .into_iter()
            .map(|(tool, arguments)| Ok((tool, py_to_json(&arguments)?)))
            .collect::<Result<Vec<_>>>()
            .map_err(|error| to_pyerr(py, &error))?;
        drop(self.0.clone().calls(calls));
        Ok(())
    }

    /// Adds a request that fails with this exception, after this text where there is some.
    fn fail(&self, py: Python<'_>, exception: Bound<'_, PyAny>, after: Option<String>) {
        let error = raised(py, PyErr::from_value(exception));
        let script = self.0.clone();
        drop(match after {
            Some(text) => script.fail_after(text, error),
            None => script.fail(error),
        });
    }

    /// Adds an answer that breaks off without its end mark.
    fn break_off(&self, text: String) {
        drop(self.0.clone().break_off(text));
    }

    /// What was asked so far, oldest first.
    fn requests<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.0
            .requests()
            .iter()
            .map(|request| {
                let shown = show_request(request).map_err(|error| to_pyerr(py, &error))?;
                json_to_py(py, &shown)
            })
            .collect()
    }

    #[getter]
    fn remaining(&self) -> usize {
        self.0.remaining()
    }
}

/// A model that a Python function plays, for one call.
struct HostModel {
    info: ModelInfo,
    function: Function,
    caller: Arc<Caller>,
}

impl fmt::Debug for HostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PythonModel").field(&self.info.name()).finish()
    }
}

enum HostAnswer {
    Whole(Value),
    Steps { next: Function, close: Py<PyAny> },
}

fn read_answer(answer: &Bound<'_, PyAny>) -> Result<HostAnswer> {
    match (answer.getattr("next"), answer.getattr("close")) {
        (Ok(next), Ok(close)) => Ok(HostAnswer::Steps {
            next: Function {
                callable: Arc::new(next.unbind()),
                is_async: true,
            },
            close: close.unbind(),
        }),
        _ => py_to_json(answer).map(HostAnswer::Whole),
    }
}

/// The Python side of a stream; dropping it stops the generator, wherever it stands.
struct Steps {
    caller: Arc<Caller>,
    next: Function,
    close: Option<Py<PyAny>>,
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(close) = self.close.take() {
            self.caller.post_to_loop(Box::new(move |py| {
                let _ = close.call0(py); // a finished generator takes no harm
            }));
        }
    }
}

/// A whole answer, with what a Python author may leave out.
#[derive(Deserialize)]
struct WholeAnswer {
    message: Message,
    #[serde(default)]
    finish_reason: Option<FinishReason>,
    #[serde(default)]
    usage: stepwell::Usage,
}

#[async_trait]
impl ChatModel for HostModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let request = show_request(&request)?;
        let answer = self
            .caller
            .call(
                &self.function,
                move |py| PyTuple::new(py, [json_to_py(py, &request)?]),
                read_answer,
            )
            .await?;
        match answer {
            HostAnswer::Whole(value) => {
                let answer: WholeAnswer = serde_json::from_value(value)
                    .map_err(|error| unreadable("the answer of a Python model", &error))?;
                let reason = answer.finish_reason.unwrap_or_else(|| {
                    if answer.message.tool_calls().next().is_some() {
                        FinishReason::ToolCalls
                    } else {
                        FinishReason::Stop
                    }
                });
                let mut response = ChatResponse::new(
                    &self.info.provider,
                    &self.info.model,
                    answer.message.parts,
                    reason,
                );
                response.usage = answer.usage;
                Ok(stream::iter(whole(response).into_iter().map(Ok)).boxed())
            }
            HostAnswer::Steps { next, close } => {
                let steps = Steps {
                    caller: Arc::clone(&self.caller),
                    next,
                    close: Some(close),
                };
                let batches = stream::try_unfold(steps, |steps| async move {
                    let batch = steps
                        .caller
                        .call(&steps.next, |py| Ok(PyTuple::empty(py)), read_batch)
                        .await?;
                    Ok::<_, Error>(batch.map(|events| (events, steps)))
                });
                let events = batches.map_ok(|events| stream::iter(events.into_iter().map(Ok)));
                Ok(events.try_flatten().boxed())
            }
        }
    }
}

fn read_batch(batch: &Bound<'_, PyAny>) -> Result<Option<Vec<StreamEvent>>> {
    if batch.is_none() {
        return Ok(None);
    }
    py_to_serde("the events of a Python model", batch).map(Some)
}
