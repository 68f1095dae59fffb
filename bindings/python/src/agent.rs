//! Agents: a model and its tools in a loop; run, watch, resume.
//!
//! The engine's agent is built anew for every call, bound to the caller's loop and context: building takes
//! microseconds, and so tools and models written in Python run where their caller is.

use crate::{
    caller::Caller,
    chat::NativeModel,
    convert::{py_to_serde, serde_to_py},
    error::to_pyerr,
    rag::{NativeCollection, scope_of},
    request::read_request,
    runtime::Born,
    stream::{Item, NativeStream, Outcome},
    tool::{NativeTool, seconds},
};
use futures::{StreamExt, stream};
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, prelude::*, types::PyDict};
use serde::Deserialize;
use serde_json::json;
use std::{path::PathBuf, sync::Arc};
use stepwell::{
    AllowAll, AskBeforeEffects, BudgetLimits, ChatRequest, IntoDynTool, Limits, Message, Policy, Result,
    agent::{Agent, AgentRun, EventKind, RunEvent, RunResult, retriever_tool},
    store::RunStore,
    stores::{MemoryStore, SqliteStore},
};

/// What a Python caller may say of an agent.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    name: Option<String>,
    instructions: Option<String>,
    policy: Option<PolicyName>,
    limits: LimitSettings,
    budget: BudgetSettings,
    tenant: Option<String>,
    actor: Option<String>,
    is_synced: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyName {
    AllowAll,
    AskBeforeEffects,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitSettings {
    steps: Option<u32>,
    tool_calls: Option<usize>,
    tool_output_bytes: Option<usize>,
    tool_timeout: Option<f64>,
    answer_bytes: Option<usize>,
    tool_retries: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetSettings {
    micro_usd: Option<u64>,
    tokens: Option<u64>,
    calls: Option<u64>,
    time_ms: Option<u64>,
}

impl LimitSettings {
    fn read(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        limits.steps = self.steps.unwrap_or(limits.steps);
        limits.tool_calls = self.tool_calls.unwrap_or(limits.tool_calls);
        limits.tool_output_bytes = self.tool_output_bytes.unwrap_or(limits.tool_output_bytes);
        limits.answer_bytes = self.answer_bytes.unwrap_or(limits.answer_bytes);
        limits.tool_retries = self.tool_retries.unwrap_or(limits.tool_retries);
        if let Some(timeout) = self.tool_timeout {
            limits.tool_timeout = seconds("tool_timeout", timeout)?;
        }
        Ok(limits)
    }
}

impl BudgetSettings {
    pub(crate) fn read(&self) -> BudgetLimits {
        let mut limits = BudgetLimits::default();
        limits.micro_usd = self.micro_usd;
        limits.tokens = self.tokens;
        limits.calls = self.calls;
        limits.time_ms = self.time_ms;
        limits
    }
}

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
    request: ChatRequest,
    settings: Settings,
    born: Born,
}

impl NativeAgent {
    fn build(&self, caller: &Arc<Caller>) -> Result<Agent> {
        self.born.check("agent")?;
        let settings = &self.settings;
        let policy: Arc<dyn Policy> = match settings.policy.unwrap_or(PolicyName::AskBeforeEffects) {
            PolicyName::AllowAll => Arc::new(AllowAll),
            PolicyName::AskBeforeEffects => Arc::new(AskBeforeEffects),
        };
        let mut builder = Agent::new(self.model.get().bind(caller))
            .request(self.request.clone())
            .tools(self.tools.iter().map(|tool| tool.get().bind(caller)))
            .shared_policy(policy)
            .limits(settings.limits.read()?)
            .budget(settings.budget.read())
            .scope(scope_of(settings.tenant.clone(), settings.actor.clone())?);
        if let Some(name) = &settings.name {
            builder = builder.name(name);
        }
        if let Some(instructions) = &settings.instructions {
            builder = builder.instructions(instructions);
        }
        if let Some(store) = &self.store {
            store.get().born.check("store")?;
            builder = builder.store(Arc::clone(&store.get().store));
        }
        if settings.is_synced {
            builder = builder.sync();
        }
        builder.build()
    }

    fn begin(&self, py: Python<'_>, caller: &Arc<Caller>, run: &Bound<'_, PyAny>) -> PyResult<AgentRun> {
        let begin = || -> Result<AgentRun> {
            let run: RunSettings = py_to_serde("run", run)?;
            let agent = self.build(caller)?;
            let mut begun = match run.resume {
                Some(id) => agent.resume(id),
                None => agent.run(run.messages.unwrap_or_default()),
            };
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
    /// `request` are the options of every model call.
    #[new]
    fn new(
        py: Python<'_>,
        model: Py<NativeModel>,
        tools: Vec<Py<NativeTool>>,
        store: Option<Py<NativeRunStore>>,
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
            request,
            settings,
            born: Born::now(),
        };
        // What is wrong with it is told here, not at the first run.
        let (caller, _) = Caller::on_thread(py)?;
        agent.build(&caller).map_err(|error| to_pyerr(py, &error))?;
        Ok(agent)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.model)?;
        self.tools.iter().try_for_each(|tool| visit.call(tool))
    }

    /// How the run ended, also where it failed.
    fn outcome<'py>(&self, py: Python<'py>, run: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (caller, bridge) = Caller::on_loop(py)?;
        let begun = self.begin(py, &caller, run)?;
        bridge.spawn(py, async move { Ok(begun.outcome().await) }, |py, result| {
            result.show(py)
        })
    }

    /// The blocking twin of `outcome`.
    fn outcome_sync(&self, py: Python<'_>, run: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (caller, desk) = Caller::on_thread(py)?;
        let begun = self.begin(py, &caller, run)?;
        let result = desk.block_on(py, async move { Ok(begun.outcome().await) })?;
        result.show(py)
    }

    /// The run as its events; the error it ends with, where it does, comes after the last of them.
    #[pyo3(signature = (run, *, blocking=false))]
    fn stream(&self, py: Python<'_>, run: &Bound<'_, PyAny>, blocking: bool) -> PyResult<NativeStream> {
        let caller = if blocking {
            Caller::on_thread(py)?.0
        } else {
            Caller::on_loop(py)?.0
        };
        let begun = self.begin(py, &caller, run)?;
        let outcome = Outcome::default();
        let whole = outcome.clone();
        NativeStream::open(py, outcome, async move {
            let watched = stream::unfold(Some((begun.stream(), whole)), |state| async move {
                let (mut run, whole) = state?;
                if let Some(event) = run.next().await {
                    return Some((Ok(event), Some((run, whole))));
                }
                let mut result = run.take_result()?;
                let error = result.error.take();
                whole.set(result);
                error.map(|error| (Err(error), None))
            });
            Ok(watched.boxed())
        })
    }
}

impl Item for RunResult {
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let data = serde_to_py(
            py,
            &json!({
                "run_id": self.run_id,
                "status": self.status,
                "messages": self.messages,
                "answer": self.answer,
                "citations": self.citations,
                "hits": self.hits(),
                "usage": self.usage,
                "spent": self.spent,
                "steps": self.steps,
            }),
        )?;
        let error = self
            .error
            .as_ref()
            .map(|error| to_pyerr(py, error).into_value(py));
        data.set_item("error", error)?;
        Ok(data.unbind())
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
            dict.set_item(pyo3::intern!(py, "path"), self.path.to_vec())?;
        }
        dict.set_item(pyo3::intern!(py, "step"), self.step)?;
        dict.set_item(pyo3::intern!(py, "node"), self.node.as_deref())?;
        dict.set_item(pyo3::intern!(py, "event"), event.show(py)?)?;
        dict.into_py_any(py)
    }
}
