//! Python values ⇄ JSON values. Dicts, lists, strings and numbers are walked directly: a detour through JSON text
//! costs twice as much.

use crate::error::to_pyerr;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};
use stepwell::{Error, Result};

/// Deepest nesting that is read; deeper is a cycle or an attack.
const DEPTH: usize = 128;

/// An attribute of a Python module, looked up once per interpreter.
macro_rules! intern_import {
    ($py:expr, $module:literal, $name:literal) => {{
        static CELL: pyo3::sync::PyOnceLock<pyo3::Py<pyo3::PyAny>> = pyo3::sync::PyOnceLock::new();
        CELL.import($py, $module, $name)
    }};
}
pub(crate) use intern_import;

/// JSON as Python data.
pub(crate) fn json_to_py<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => flag.into_bound_py_any(py)?,
        Value::Number(number) => {
            if let Some(integer) = number.as_i64() {
                integer.into_bound_py_any(py)?
            } else if let Some(integer) = number.as_u64() {
                integer.into_bound_py_any(py)?
            } else {
                number.as_f64().into_bound_py_any(py)?
            }
        }
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| json_to_py(py, item))
                .collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::Object(entries) => {
            let dict = PyDict::new(py);
            for (key, item) in entries {
                dict.set_item(key, json_to_py(py, item)?)?;
            }
            dict.into_any()
        }
    })
}

/// Engine data as Python data.
pub(crate) fn serde_to_py<'py>(py: Python<'py>, data: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(data)
        .map_err(|error| to_pyerr(py, &Error::internal(format!("an answer is no JSON: {error}"))))?;
    json_to_py(py, &value)
}

/// Python data as JSON.
///
/// # Errors
/// [`Error::InvalidInput`] that names the first value which is no JSON.
pub(crate) fn py_to_json(value: &Bound<'_, PyAny>) -> Result<Value> {
    walk(value, DEPTH)
}

/// Python data as a type of the engine; `what` names it where it does not fit.
pub(crate) fn py_to_serde<T: DeserializeOwned>(what: &str, value: &Bound<'_, PyAny>) -> Result<T> {
    serde_json::from_value(py_to_json(value)?).map_err(|error| crate::error::unreadable(what, &error))
}

fn walk(value: &Bound<'_, PyAny>, depth: usize) -> Result<Value> {
    if depth == 0 {
        return Err(Error::LimitExceeded {
            what: "a value given to the engine".into(),
            limit: format!("{DEPTH} levels; does it contain itself?"),
        });
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return text
            .to_str()
            .map(|text| Value::String(text.to_owned()))
            .map_err(|_| Error::invalid("text", "it holds a lone surrogate; decode it as UTF-8 first"));
    }
    // A bool is an int in Python: ask first.
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return value
            .extract::<i64>()
            .map(Value::from)
            .or_else(|_| value.extract::<u64>().map(Value::from))
            .map_err(|_| Error::invalid("number", "an integer of JSON has at most 64 bits"));
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Number::from_f64(number.value())
            .map(Value::Number)
            .ok_or_else(|| Error::invalid("number", "JSON has no NaN and no infinity"));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        return walk_dict(dict, depth);
    }
    if let Ok(items) = value.cast::<PyList>() {
        return items.iter().map(|item| walk(&item, depth - 1)).collect();
    }
    if let Ok(items) = value.cast::<PyTuple>() {
        return items.iter().map(|item| walk(&item, depth - 1)).collect();
    }
    if is_record(value)
        && let Ok(fields) = value.getattr("__dict__")
        && let Ok(fields) = fields.cast::<PyDict>()
    {
        return walk_dict(fields, depth);
    }
    let kind = value
        .get_type()
        .name()
        .map_or_else(|_| "object".to_owned(), |name| name.to_string());
    let hint = if value.is_instance_of::<PyBytes>() {
        "; encode bytes as text"
    } else {
        ""
    };
    Err(Error::invalid(
        "value",
        format!("`{kind}` is no JSON value{hint}"),
    ))
}

fn walk_dict(dict: &Bound<'_, PyDict>, depth: usize) -> Result<Value> {
    let mut entries = Map::with_capacity(dict.len());
    for (key, item) in dict.iter() {
        let key = key
            .cast::<PyString>()
            .ok()
            .and_then(|key| key.to_str().ok().map(str::to_owned))
            .ok_or_else(|| Error::invalid("value", "the keys of a JSON object are strings"))?;
        entries.insert(key, walk(&item, depth - 1)?);
    }
    Ok(Value::Object(entries))
}

/// Whether it is one of the package's own plain records.
fn is_record(value: &Bound<'_, PyAny>) -> bool {
    intern_import!(value.py(), "stepwell._records", "Record")
        .is_ok_and(|class| value.is_instance(class).unwrap_or(false))
}
