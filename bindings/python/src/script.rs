//! Scripted models: the script is written from Python, step by step.

use crate::{
    chat::NativeModel,
    convert::{json_to_py, py_to_json, py_to_serde},
    error::{raised, to_pyerr},
    request::show_request,
    tool::seconds,
};
use pyo3::prelude::*;
use std::sync::Arc;
use stepwell::{Part, Result, providers::Scripted};

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
