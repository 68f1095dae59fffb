//! Options for vendors, and cassettes.

use crate::{error::to_pyerr, layers::read};
use pyo3::prelude::*;
use serde::Deserialize;
use std::path::PathBuf;
use stepwell::providers::{Cassette, Chunks, Fault, ModelOptions, Registry, quirks::Quirks};

/// Calls to vendors, recorded to a file or played from it.
#[pyclass(frozen, name = "Cassette", module = "stepwell._native")]
pub(crate) struct NativeCassette(Cassette);

/// How a cassette plays.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Playing {
    chunks: Chunks,
    keeps_time: bool,
    /// Which call goes wrong, and how.
    faults: Vec<(usize, Fault)>,
}

#[pymethods]
impl NativeCassette {
    /// `mode` is `record`, `play` or `record_or_play`.
    #[new]
    fn new(py: Python<'_>, mode: &str, path: PathBuf, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        let options: Playing = read(py, "cassette", options)?;
        let opened = py.detach(|| match mode {
            "record" => Cassette::record(path),
            "play" => Cassette::play(path),
            _ => Cassette::record_or_play(path),
        });
        let mut cassette = opened
            .map_err(|error| to_pyerr(py, &error))?
            .chunks(options.chunks)
            .timing(options.keeps_time);
        for (call, fault) in options.faults {
            cassette = cassette.fault(call, fault);
        }
        Ok(Self(cassette))
    }

    #[getter]
    fn is_playing(&self) -> bool {
        self.0.is_playing()
    }
}

/// What the program says of a vendor; `None` where it says nothing.
pub(crate) fn vendor_options(
    py: Python<'_>,
    options: Option<&Bound<'_, PyAny>>,
    cassette: Option<&Bound<'_, NativeCassette>>,
) -> PyResult<Option<ModelOptions>> {
    let given: Option<ModelOptions> = options.map(|options| read(py, "options", options)).transpose()?;
    Ok(match (given, cassette) {
        (given, None) => given,
        (given, Some(cassette)) => {
            let mut options = given.unwrap_or_default();
            options.http = options.http.cassette(cassette.get().0.clone());
            Some(options)
        }
    })
}

/// A server of the host's own that speaks Chat Completions.
#[pyfunction]
pub(crate) fn register_compatible(
    py: Python<'_>,
    vendor: String,
    base_url: String,
    quirks: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let quirks: Quirks = read(py, "quirks", quirks)?;
    Registry::global().register_compatible(vendor, base_url, quirks);
    Ok(())
}
