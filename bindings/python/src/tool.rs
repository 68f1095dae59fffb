//! Python functions as tools. The Python layer reads the signature and wraps the function; here it becomes a
//! [`DynTool`] of the engine, bound anew for every run to the caller's loop and context.

use crate::{
    agent::NativeAgent,
    caller::{Caller, Function},
    convert::{intern_import, json_to_py, py_to_json, py_to_serde, serde_to_py},
    error::to_pyerr,
};
use async_trait::async_trait;
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, prelude::*, types::PyTuple};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};
use stepwell::{
    DynTool, Effect, Error, IntoDynTool, Origin, Result, Risk, Schema, Scope, ToolContext, ToolError,
    ToolOptions, ToolOutput, ToolSpec,
};

/// The options a Python tool may name.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    effect: Effect,
    risk: Risk,
    timeout: Option<f64>,
    parallel: Option<bool>,
    origin: Option<Origin>,
    retries: Option<u32>,
}

impl Options {
    fn read(given: &Bound<'_, PyAny>) -> Result<ToolOptions> {
        let given: Self = py_to_serde("tool options", given)?;
        let mut options = ToolOptions::default()
            .effect(given.effect)
            .risk(given.risk)
            .parallel(given.parallel.unwrap_or(true))
            .origin(given.origin.unwrap_or(Origin::Tool))
            .retries(given.retries.unwrap_or(0));
        if let Some(timeout) = given.timeout {
            options = options.timeout(seconds("timeout", timeout)?);
        }
        Ok(options)
    }
}

/// A number of seconds from Python as a duration.
pub(crate) fn seconds(what: &str, seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Error::invalid(what, "give a number of seconds, 0 or more"))
}

#[derive(Clone)]
struct Face {
    spec: ToolSpec,
    options: ToolOptions,
    schema: Schema,
}

enum Backing {
    Python(Face, Function),
    Engine(Arc<dyn DynTool>),
    /// An agent: built anew for each call, as its tools are.
    Agent {
        agent: Py<NativeAgent>,
        spec: ToolSpec,
        options: ToolOptions,
    },
}

/// A tool: made of a Python function, or one of the engine's own.
#[pyclass(frozen, name = "Tool", module = "stepwell._native")]
pub(crate) struct NativeTool(Backing);

impl NativeTool {
    pub(crate) fn engine(tool: Arc<dyn DynTool>) -> Self {
        Self(Backing::Engine(tool))
    }

    /// An agent as a tool.
    pub(crate) fn of_agent(
        agent: &Bound<'_, NativeAgent>,
        name: String,
        description: String,
        options: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = agent.py();
        let (caller, _) = Caller::on_thread(py)?;
        let read = || -> Result<_> {
            let tool = agent.get().build(&caller)?.tool(name, description);
            Ok((tool.into_dyn_tool()?.spec().clone(), Options::read(options)?))
        };
        let (spec, options) = read().map_err(|error| to_pyerr(py, &error))?;
        Ok(Self(Backing::Agent {
            agent: agent.clone().unbind(),
            spec,
            options,
        }))
    }

    fn spec(&self) -> &ToolSpec {
        match &self.0 {
            Backing::Python(face, _) => &face.spec,
            Backing::Engine(tool) => tool.spec(),
            Backing::Agent { spec, .. } => spec,
        }
    }
}

#[pymethods]
impl NativeTool {
    /// `function(arguments, context)` answers `(door, value)`; `door` is `ok`, `retry` or `failed`.
    #[new]
    fn new(
        py: Python<'_>,
        name: String,
        description: String,
        parameters: &Bound<'_, PyAny>,
        function: Py<PyAny>,
        is_async: bool,
        options: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let face = || -> Result<Face> {
            let schema = Schema::from_value(py_to_json(parameters)?)?;
            let options = Options::read(options)?;
            Ok(Face {
                spec: ToolSpec::new(name, description, &schema)?,
                options,
                schema,
            })
        };
        let function = Function {
            callable: Arc::new(function),
            is_async,
        };
        let face = face().map_err(|error| to_pyerr(py, &error))?;
        Ok(Self(Backing::Python(face, function)))
    }

    // A tool may hold the very agent that holds it. The cycle is cut elsewhere: at the function, or a dict.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.0 {
            Backing::Python(_, function) => function.traverse(&visit),
            Backing::Engine(_) => Ok(()),
            Backing::Agent { agent, .. } => visit.call(agent),
        }
    }

    #[getter]
    fn name(&self) -> &str {
        &self.spec().name
    }

    #[getter]
    fn description(&self) -> &str {
        &self.spec().description
    }

    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json_to_py(py, &self.spec().parameters)
    }

    /// Calls it as a runner does: arguments checked, answer as parts.
    fn call<'py>(&self, py: Python<'py>, arguments: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let arguments = py_to_json(arguments).map_err(|error| to_pyerr(py, &error))?;
        let (caller, bridge) = Caller::on_loop(py)?;
        let tool = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        bridge.spawn(
            py,
            async move { Ok(call_alone(tool, arguments).await) },
            show_output,
        )
    }

    /// The blocking twin of `call`.
    fn call_sync(&self, py: Python<'_>, arguments: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let arguments = py_to_json(arguments).map_err(|error| to_pyerr(py, &error))?;
        let (caller, desk) = Caller::on_thread(py)?;
        let tool = self.bind(&caller).map_err(|error| to_pyerr(py, &error))?;
        let output = desk.block_on(py, async move { Ok(call_alone(tool, arguments).await) })?;
        show_output(py, output)
    }
}

/// A call outside of any run, with the checks a runner makes.
async fn call_alone(tool: Arc<dyn DynTool>, arguments: Value) -> Result<ToolOutput, ToolError> {
    let arguments = tool.schema().read(arguments).map_err(|violations| {
        let told: Vec<String> = violations.iter().map(ToString::to_string).collect();
        ToolError::Retry(told.join("; "))
    })?;
    // No run and no model gave this call an id.
    let cx = ToolContext::new("alone", "alone", Scope::local());
    tool.call(arguments, &cx).await
}

/// The parts, or the exception of the door.
fn show_output(py: Python<'_>, output: Result<ToolOutput, ToolError>) -> PyResult<Py<PyAny>> {
    let raise = |class: PyResult<&Bound<'_, PyAny>>, message: String| match class
        .and_then(|class| class.call1((message,)))
    {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    };
    match output {
        Ok(output) => serde_to_py(py, &output.parts).map(Bound::unbind),
        Err(ToolError::Fatal(error)) => Err(to_pyerr(py, &error)),
        Err(ToolError::Retry(message)) => Err(raise(
            intern_import!(py, "stepwell._errors", "ToolRetry"),
            message,
        )),
        Err(other) => Err(raise(
            intern_import!(py, "stepwell._errors", "ToolFailed"),
            other.to_string(),
        )),
    }
}

impl NativeTool {
    /// The tool for the runs of one call.
    pub(crate) fn bind(&self, caller: &Arc<Caller>) -> Result<Arc<dyn DynTool>> {
        Ok(match &self.0 {
            Backing::Engine(tool) => Arc::clone(tool),
            Backing::Agent { agent, spec, options } => {
                let tool = agent.get().build(caller)?.tool(&spec.name, &spec.description);
                tool.options(options.clone()).into_dyn_tool()?
            }
            Backing::Python(face, function) => Arc::new(BoundTool {
                face: face.clone(),
                function: function.clone(),
                caller: Arc::clone(caller),
            }),
        })
    }
}

struct BoundTool {
    face: Face,
    function: Function,
    caller: Arc<Caller>,
}

impl fmt::Debug for BoundTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PythonTool").field(&self.face.spec.name).finish()
    }
}

/// The three doors, as the Python wrapper names them.
enum Door {
    Done(Value),
    Retry(String),
    Failed(String),
}

fn read_door(answer: &Bound<'_, PyAny>) -> Result<Door> {
    let (door, value): (String, Bound<'_, PyAny>) = answer
        .extract()
        .map_err(|_| Error::internal("a tool wrapper did not answer with a door and a value"))?;
    let said = || {
        value
            .str()
            .map_or_else(|_| String::new(), |text| text.to_string())
    };
    match door.as_str() {
        "ok" => Ok(Door::Done(py_to_json(&value)?)),
        "retry" => Ok(Door::Retry(said())),
        "failed" => Ok(Door::Failed(said())),
        _ => Err(Error::internal("a tool wrapper named an unknown door")),
    }
}

#[async_trait]
impl DynTool for BoundTool {
    fn spec(&self) -> &ToolSpec {
        &self.face.spec
    }

    fn options(&self) -> &ToolOptions {
        &self.face.options
    }

    fn schema(&self) -> &Schema {
        &self.face.schema
    }

    async fn call(&self, arguments: Value, cx: &ToolContext) -> Result<ToolOutput, ToolError> {
        let context = NativeToolContext(cx.clone());
        let answer = self
            .caller
            .call(
                &self.function,
                move |py| PyTuple::new(py, [json_to_py(py, &arguments)?, context.into_bound_py_any(py)?]),
                read_door,
            )
            .await;
        match answer {
            Ok(Door::Done(value)) => Ok(ToolOutput::json(&self.face.spec.name, value)),
            Ok(Door::Retry(message)) => Err(ToolError::Retry(message)),
            Ok(Door::Failed(message)) => Err(ToolError::Failed(message)),
            // What else a Python tool raises stops the run, and its caller catches the very exception.
            Err(error) => Err(ToolError::Fatal(error)),
        }
    }
}

/// The facts of one call, for a tool that asks for them.
#[pyclass(frozen, name = "ToolContext", module = "stepwell")]
pub(crate) struct NativeToolContext(ToolContext);

#[pymethods]
impl NativeToolContext {
    #[getter]
    fn call_id(&self) -> &str {
        &self.0.call_id
    }

    #[getter]
    fn run_id(&self) -> &str {
        &self.0.run_id
    }

    #[getter]
    fn tenant(&self) -> &str {
        self.0.scope.tenant()
    }

    #[getter]
    fn actor(&self) -> Option<&str> {
        self.0.scope.actor()
    }

    #[getter]
    fn idempotency_key(&self) -> &str {
        &self.0.idempotency_key
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt
    }

    #[getter]
    fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Tells whoever watches the run how far this call is.
    fn emit(&self, py: Python<'_>, progress: &Bound<'_, PyAny>) -> PyResult<()> {
        let progress = py_to_json(progress).map_err(|error| to_pyerr(py, &error))?;
        self.0.emit(progress);
        Ok(())
    }
}
