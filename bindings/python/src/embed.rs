//! Embedders: the one in process.

use crate::{caller::Caller, convert::serde_to_py, error::to_pyerr, runtime::Born};
use pyo3::{IntoPyObjectExt, prelude::*};
use std::{num::NonZeroUsize, sync::Arc};
use stepwell::{EmbedKind, Embedder, Result, providers::MiniLm};

/// An embedder of the engine.
#[pyclass(frozen, name = "Embedder", module = "stepwell._native")]
pub(crate) struct NativeEmbedder {
    embedder: Arc<dyn Embedder>,
    born: Born,
}

impl NativeEmbedder {
    /// The embedder, where its threads are still there.
    pub(crate) fn get(&self) -> Result<Arc<dyn Embedder>> {
        self.born.check("embedder")?;
        Ok(Arc::clone(&self.embedder))
    }
}

#[pymethods]
impl NativeEmbedder {
    /// all-MiniLM-L6-v2 in process; its weights are in this library.
    #[staticmethod]
    #[pyo3(signature = (threads=None))]
    fn minilm(py: Python<'_>, threads: Option<NonZeroUsize>) -> PyResult<Self> {
        let made = py.detach(|| threads.map_or_else(MiniLm::new, MiniLm::with_threads));
        Ok(Self {
            embedder: Arc::new(made.map_err(|error| to_pyerr(py, &error))?),
            born: Born::now(),
        })
    }

    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        serde_to_py(py, self.embedder.info())
    }

    #[getter]
    fn fingerprint(&self) -> String {
        self.embedder.info().fingerprint()
    }

    fn embed<'py>(&self, py: Python<'py>, texts: Vec<String>, is_query: bool) -> PyResult<Bound<'py, PyAny>> {
        let embedder = self.get().map_err(|error| to_pyerr(py, &error))?;
        let (_, bridge) = Caller::on_loop(py)?;
        bridge.spawn(py, embed(embedder, texts, is_query), |py, rows| {
            rows.into_py_any(py)
        })
    }

    fn embed_sync(&self, py: Python<'_>, texts: Vec<String>, is_query: bool) -> PyResult<Vec<Vec<f32>>> {
        let embedder = self.get().map_err(|error| to_pyerr(py, &error))?;
        let (_, desk) = Caller::on_thread(py)?;
        desk.block_on(py, embed(embedder, texts, is_query))
    }
}

async fn embed(embedder: Arc<dyn Embedder>, texts: Vec<String>, is_query: bool) -> Result<Vec<Vec<f32>>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let kind = if is_query {
        EmbedKind::Query
    } else {
        EmbedKind::Document
    };
    let made = embedder.embed(&texts, kind).await?;
    Ok(made.rows().map(<[f32]>::to_vec).collect())
}
