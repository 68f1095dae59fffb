//! Agents: a model and its tools in a loop; run, watch, resume.
//!
//! The engine's agent is built anew for every call, bound to the caller's loop and context: building takes
//! microseconds, and so tools and models written in Python run where their caller is.

use crate::{
    caller::Caller,
    chat::NativeModel,
    convert::{py_to_serde, serde_to_py},
    ended::{Ended, NativePaused},
    error::to_pyerr,
    layers::Backing,
    rag::{NativeCollection, scope_of},
    request::read_request,
    runtime::Born,
    settings::Settings,
    stream::{Item, NativeStream, Outcome},
    tool::NativeTool,
};
use futures::{StreamExt, stream};
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, prelude::*, types::PyDict};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{path::PathBuf, sync::Arc};
use stepwell::{
    ChatRequest, IntoDynTool, Message, Result,
    agent::{Agent, AgentModel, AgentModels, AgentRun, EventKind, RunEvent, retriever_tool},
    store::RunStore,
    stores::{MemoryStore, SqliteStore},
};

/// Where the journals of runs are kept.
#[pyclass(frozen, name = "RunStore", module = "stepwell._native")]
pub(crate) struct NativeRunStore {
    store: Arc<dyn RunStore>,
    born: Born,
}

#[pymethods]
impl NativeRunStore {
    #[staticmethod]
    fn memory() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            born: Born::now(),
        }
    }

    #[staticmethod]
    fn sqlite(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let store = py
            .detach(|| SqliteStore::open(path))
            .map_err(|error| to_pyerr(py, &error))?;
        Ok(Self {
            store: Arc::new(store),
            born: Born::now(),
        })
    }
}

/// A collection as a tool that searches it.
#[pyfunction]
#[pyo3(signature = (name, collection, *, about=None, top_k=None))]
pub(crate) fn collection_tool(
    py: Python<'_>,
    name: String,
    collection: &Bound<'_, NativeCollection>,
    about: Option<String>,
    top_k: Option<usize>,
) -> PyResult<NativeTool> {
    let mut tool = retriever_tool(name, Arc::new(collection.get().get(py)?));
    if let Some(about) = about {
        tool = tool.about(about);
    }
    if let Some(top_k) = top_k {
        tool = tool.top_k(top_k);
    }
    tool.into_dyn_tool()
        .map(NativeTool::engine)
        .map_err(|error| to_pyerr(py, &error))
}

/// One run, as the Python layer asks for it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RunSettings {
    messages: Option<Vec<Message>>,
    /// Goes on with this run instead of beginning one.
    resume: Option<String>,
    /// To questions of a run that goes on, by their ids.
    answers: Map<String, Value>,
    variables: Option<Map<String, Value>>,
    run_id: Option<String>,
    tenant: Option<String>,
    actor: Option<String>,
}

/// An agent: its model, its tools and its settings.
#[pyclass(frozen, name = "Agent", module = "stepwell._native")]
pub(crate) struct NativeAgent {
    model: Py<NativeModel>,
    tools: Vec<Py<NativeTool>>,
    store: Option<Py<NativeRunStore>>,
    context: Option<Py<NativeCollection>>,
    /// Those of context policies.
    models: Vec<Py<NativeModel>>,
    request: ChatRequest,
    settings: Settings,
    /// Tells a paused run whose it is.
    identity: Arc<()>,
    born: Born,
}

impl NativeAgent {
    /// The engine's agent for the runs of one call.
    pub(crate) fn build(&self, caller: &Arc<Caller>) -> Result<Agent> {
        self.born.check("agent")?;
        let tools = self.tools.iter().map(|tool| tool.get().bind(caller));
        let models: Vec<_> = self
            .models
            .iter()
            .map(|model| model.get().bind(caller))
            .collect::<Result<_>>()?;
        let mut builder = Agent::new(self.model.get().bind(caller)?)
            .request(self.request.clone())
            .tools(tools.collect::<Result<Vec<_>>>()?);
        builder = self.settings.apply(builder, &models)?;
        if let Some(collection) = &self.context {
            let collection = Arc::new(collection.get().shared()?);
            builder = builder.context(collection, self.settings.context());
        }
        if let Some(store) = &self.store {
            store.get().born.check("store")?;
            builder = builder.store(Arc::clone(&store.get().store));
        }
        builder.build()
    }

    /// The agent as a model, for one call.
    pub(crate) fn model(&self, name: &str, caller: &Arc<Caller>) -> Result<AgentModel> {
        self.build(caller).map(|agent| AgentModel::new(name, agent))
    }

    fn begin(
        &self,
        py: Python<'_>,
        caller: &Arc<Caller>,
        run: &Bound<'_, PyAny>,
        paused: Option<&NativePaused>,
    ) -> PyResult<AgentRun> {
        let begin = || -> Result<AgentRun> {
            let run: RunSettings = py_to_serde("run", run)?;
            let agent = self.build(caller)?;
            let mut begun = match (paused, run.resume) {
                (Some(paused), _) => agent.go_on(paused.take(&self.identity, &run.answers)?)?,
                (None, Some(id)) => agent.resume(id),
                (None, None) => agent.run(run.messages.unwrap_or_default()),
            };
            for (question, answer) in run.answers {
                begun = begun.answer(question, answer);
            }
            if let Some(variables) = run.variables {
                begun = begun.variables(variables);
            }
            if let Some(id) = run.run_id {
                begun = begun.run_id(id);
            }
            if run.tenant.is_some() {
                begun = begun.scope(scope_of(run.tenant, run.actor)?);
            }
            Ok(begun)
        };
        begin().map_err(|error| to_pyerr(py, &error))
    }
}

#[pymethods]
impl NativeAgent {
    /// `request` are the options of every model call; `models` are those of context policies.
    #[new]
    #[allow(clippy::too_many_arguments)] // each is an object of its own; plain data is in `settings`
    fn new(
        py: Python<'_>,
        model: Py<NativeModel>,
        tools: Vec<Py<NativeTool>>,
        store: Option<Py<NativeRunStore>>,
        context: Option<Py<NativeCollection>>,
        models: Vec<Py<NativeModel>>,
        request: &Bound<'_, PyAny>,
        settings: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let read = || -> Result<_> {
            Ok((
                read_request(request)?,
                py_to_serde::<Settings>("agent settings", settings)?,
            ))
        };
        let (request, settings) = read().map_err(|error| to_pyerr(py, &error))?;
        let agent = Self {
            model,
            tools,
            store,
            context,
            models,
            request,
            settings,
            identity: Arc::new(()),
            born: Born::now(),
        };
        // What is wrong with it is told here, not at the first run.
        let (caller, _) = Caller::on_thread(py)?;
        agent.build(&caller).map_err(|error| to_pyerr(py, &error))?;
        Ok(agent)
    }

    /// The agent as a tool of another.
    fn tool(
        slf: &Bound<'_, Self>,
        name: String,
        description: String,
        options: &Bound<'_, PyAny>,
    ) -> PyResult<NativeTool> {
        NativeTool::of_agent(slf, name, description, options)
    }

    /// The agent as a model, under `agent/<name>`.
    fn as_model(slf: &Bound<'_, Self>, name: String) -> PyResult<NativeModel> {
        let py = slf.py();
        let (caller, _) = Caller::on_thread(py)?;
        let info = || -> Result<_> {
            let model = slf.get().model(&name, &caller)?;
            let info = stepwell::ChatModel::info(&model).clone();
            AgentModels::new().add_model(model)?; // it checks the name
            Ok(info)
        };
        let info = Arc::new(info().map_err(|error| to_pyerr(py, &error))?);
        let agent = Arc::new(slf.clone().unbind());
        Ok(NativeModel::of(Backing::Agent { info, agent }))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.model)?;
        self.models.iter().try_for_each(|model| visit.call(model))?;
        self.tools.iter().try_for_each(|tool| visit.call(tool))
    }

    /// How the run ended, also where it failed; with `paused` it is that run which goes on.
    #[pyo3(signature = (run, paused=None))]
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        run: &Bound<'py, PyAny>,
        paused: Option<&NativePaused>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (caller, bridge) = Caller::on_loop(py)?;
        let begun = self.begin(py, &caller, run, paused)?;
        let identity = Arc::clone(&self.identity);
        bridge.spawn(
            py,
            async move { Ok(Ended::new(begun.outcome().await, identity)) },
            |py, ended| ended.show(py),
        )
    }

    /// The blocking twin of `outcome`.
    #[pyo3(signature = (run, paused=None))]
    fn outcome_sync(
        &self,
        py: Python<'_>,
        run: &Bound<'_, PyAny>,
        paused: Option<&NativePaused>,
    ) -> PyResult<Py<PyAny>> {
        let (caller, desk) = Caller::on_thread(py)?;
        let begun = self.begin(py, &caller, run, paused)?;
        let identity = Arc::clone(&self.identity);
        let work = async move { Ok(Ended::new(begun.outcome().await, identity)) };
        desk.block_on(py, work)?.show(py)
    }

    /// The run as its events; the error it ends with, where it does, comes after the last of them.
    #[pyo3(signature = (run, *, blocking=false))]
    fn stream(&self, py: Python<'_>, run: &Bound<'_, PyAny>, blocking: bool) -> PyResult<NativeStream> {
        let caller = if blocking {
            Caller::on_thread(py)?.0
        } else {
            Caller::on_loop(py)?.0
        };
        let begun = self.begin(py, &caller, run, None)?;
        let identity = Arc::clone(&self.identity);
        let outcome = Outcome::default();
        let whole = outcome.clone();
        NativeStream::open(py, outcome, async move {
            let watched = stream::unfold(Some((begun.stream(), whole, identity)), |state| async move {
                let (mut run, whole, identity) = state?;
                if let Some(event) = run.next().await {
                    return Some((Ok(event), Some((run, whole, identity))));
                }
                let mut result = run.take_result()?;
                let error = result.error.take();
                whole.set(Ended::new(result, identity));
                error.map(|error| (Err(error), None))
            });
            Ok(watched.boxed())
        })
    }
}

/// What a model says is nearly all there is to see: its deltas are built by hand, the rest goes through JSON.
impl Item for RunEvent {
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let EventKind::Model { event } = &self.kind else {
            return serde_to_py(py, self).map(Bound::unbind);
        };
        let dict = PyDict::new(py);
        dict.set_item(pyo3::intern!(py, "type"), pyo3::intern!(py, "model"))?;
        dict.set_item(pyo3::intern!(py, "seq"), self.seq)?;
        dict.set_item(pyo3::intern!(py, "run_id"), &*self.run_id)?;
        if !self.path.is_empty() {
            dict.set_item(pyo3::intern!(py, "path"), &*self.path)?;
        }
        dict.set_item(pyo3::intern!(py, "step"), self.step)?;
        dict.set_item(pyo3::intern!(py, "node"), self.node.as_deref())?;
        dict.set_item(pyo3::intern!(py, "event"), event.show(py)?)?;
        dict.into_py_any(py)
    }
}
