//! Errors across the border: engine → Python class by code, Python exception → engine and back as the same object.

use crate::convert::{intern_import, serde_to_py};
use pyo3::{prelude::*, types::PyDict};
use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};
use stepwell::{Error, VendorFailure};

/// A Python exception on its way through the engine. Its words are read once, where the GIL is held anyway.
#[derive(Debug)]
pub(crate) struct Raised {
    error: PyErr,
    message: String,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Raised {}

/// What Python code raised, as an error of the engine. A cancelled task is a cancelled call.
pub(crate) fn raised(py: Python<'_>, error: PyErr) -> Error {
    let cancelled = intern_import!(py, "asyncio", "CancelledError");
    if cancelled.is_ok_and(|class| error.is_instance(py, class)) {
        return Error::Cancelled;
    }
    let message = error.to_string();
    // A Python model that fails as a vendor does is asked again, or another in its place, as a vendor's is.
    let vendor = vendor_code(error.value(py));
    let raised = Raised { error, message };
    let Some((code, mut failure)) = vendor else {
        return Error::host(raised);
    };
    failure.source = Some(Arc::new(raised));
    let failure = Box::new(failure);
    match code.as_str() {
        "rate_limited" => Error::RateLimited(failure),
        "overloaded" => Error::Overloaded(failure),
        "quota_exceeded" => Error::QuotaExceeded(failure),
        _ => Error::Rejected(failure),
    }
}

/// The code and the facts of an exception that stands for a vendor's failure.
fn vendor_code(error: &Bound<'_, PyAny>) -> Option<(String, VendorFailure)> {
    let class = intern_import!(error.py(), "stepwell._errors", "ProviderError").ok()?;
    if !error.is_instance(class).ok()? {
        return None;
    }
    let code: String = error.getattr("code").ok()?.extract().ok()?;
    if !["rate_limited", "overloaded", "quota_exceeded", "rejected"].contains(&code.as_str()) {
        return None;
    }
    let word = |name: &str| error.getattr(name).ok()?.extract::<Option<String>>().ok()?;
    let mut failure = VendorFailure::new(word("provider").unwrap_or_else(|| "host".to_owned()));
    failure.kind = word("kind");
    failure.status = error
        .getattr("status")
        .ok()
        .and_then(|status| status.extract().ok()?);
    let wait: Option<f64> = error
        .getattr("retry_after")
        .ok()
        .and_then(|wait| wait.extract().ok()?);
    failure.retry_after = wait.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
    Some((code, failure))
}

/// The Python exception inside an engine error, however deep: the very object that was raised.
fn original(py: Python<'_>, error: &Error) -> Option<PyErr> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        let played = error.downcast_ref::<Error>().and_then(Error::vendor_failure);
        let played = played.and_then(|failure| failure.source.as_deref());
        let raised = played.map_or(error.downcast_ref::<Raised>(), |source| source.downcast_ref());
        if let Some(raised) = raised {
            return Some(raised.error.clone_ref(py));
        }
        next = error.source();
    }
    None
}

/// The engine's error as the exception Python code is to see.
pub(crate) fn to_pyerr(py: Python<'_>, error: &Error) -> PyErr {
    original(py, error).unwrap_or_else(|| build(py, error).unwrap_or_else(|failure| failure))
}

/// The same for a call that somebody awaits: there, cancelled is asyncio's own word.
pub(crate) fn to_pyerr_async(py: Python<'_>, error: &Error) -> PyErr {
    if matches!(error, Error::Cancelled)
        && let Ok(class) = intern_import!(py, "asyncio", "CancelledError")
        && let Ok(instance) = class.call0()
    {
        return PyErr::from_value(instance);
    }
    to_pyerr(py, error)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let facts = PyDict::new(py);
    facts.set_item("retryable", error.is_retryable())?;
    facts.set_item("retry_after", error.retry_after().map(|wait| wait.as_secs_f64()))?;
    if let Some(failure) = error.vendor_failure() {
        facts.set_item("provider", &failure.provider)?;
        facts.set_item("status", failure.status)?;
        facts.set_item("kind", failure.kind.as_deref())?;
        facts.set_item("request_id", failure.request_id.as_deref())?;
        facts.set_item("vendor_message", failure.message.as_deref())?;
    }
    if let Some(partial) = error.partial() {
        facts.set_item("partial", serde_to_py(py, partial)?)?;
    }
    match error {
        Error::Interrupted { run_id } => facts.set_item("run_id", run_id)?,
        Error::InvalidGraph { faults } => facts.set_item("faults", faults)?,
        Error::Io { source, .. } => facts.set_item("errno", source.raw_os_error())?,
        _ => {}
    }
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    facts.set_item("causes", causes)?;
    let make = intern_import!(py, "stepwell._errors", "from_code")?;
    let exception = make.call1((error.code(), error.to_string(), facts))?;
    Ok(PyErr::from_value(exception))
}

/// What to do with a failed conversion of engine data: it is our fault, and said so.
pub(crate) fn unreadable(what: &str, error: &serde_json::Error) -> Error {
    Error::invalid(what, error.to_string())
}
