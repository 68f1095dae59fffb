//! Embedders and rerankers: the one in process, and those of vendors.

use crate::{
    caller::Caller,
    convert::{py_to_serde, serde_to_py},
    error::to_pyerr,
    runtime::Born,
    vendor::{NativeCassette, vendor_options},
};
use pyo3::{IntoPyObjectExt, prelude::*};
use std::{num::NonZeroUsize, sync::Arc};
use stepwell::{
    EmbedKind, Embedder, Hit, Reranker, Result,
    providers::{MiniLm, Registry},
};

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

    /// The embedder of a name such as `voyage/voyage-4`.
    #[staticmethod]
    #[pyo3(signature = (name, options=None, cassette=None))]
    fn named(
        py: Python<'_>,
        name: &str,
        options: Option<&Bound<'_, PyAny>>,
        cassette: Option<&Bound<'_, NativeCassette>>,
    ) -> PyResult<Self> {
        let options = vendor_options(py, options, cassette)?;
        // The one in process loads its weights here.
        let made = py.detach(|| match options {
            None => stepwell::embedder(name),
            Some(options) => Registry::global().embedder_with(name, options),
        });
        Ok(Self {
            embedder: made.map_err(|error| to_pyerr(py, &error))?,
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

/// Hits in a better order.
#[pyclass(frozen, name = "Reranker", module = "stepwell._native")]
pub(crate) struct NativeReranker {
    reranker: Arc<dyn Reranker>,
    born: Born,
}

impl NativeReranker {
    fn ready(&self, hits: &Bound<'_, PyAny>) -> Result<(Arc<dyn Reranker>, Vec<Hit>)> {
        self.born.check("reranker")?;
        Ok((Arc::clone(&self.reranker), py_to_serde("hits", hits)?))
    }
}

#[pymethods]
impl NativeReranker {
    /// The reranker of a name such as `voyage/rerank-2.5`.
    #[staticmethod]
    #[pyo3(signature = (name, options=None, cassette=None))]
    fn named(
        py: Python<'_>,
        name: &str,
        options: Option<&Bound<'_, PyAny>>,
        cassette: Option<&Bound<'_, NativeCassette>>,
    ) -> PyResult<Self> {
        let made = match vendor_options(py, options, cassette)? {
            None => stepwell::reranker(name),
            Some(options) => Registry::global().reranker_with(name, options),
        };
        Ok(Self {
            reranker: made.map_err(|error| to_pyerr(py, &error))?,
            born: Born::now(),
        })
    }

    fn rerank<'py>(
        &self,
        py: Python<'py>,
        question: String,
        hits: &Bound<'py, PyAny>,
        top_k: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (reranker, hits) = self.ready(hits).map_err(|error| to_pyerr(py, &error))?;
        let (_, bridge) = Caller::on_loop(py)?;
        bridge.spawn(
            py,
            async move { reranker.rerank(&question, hits, top_k).await },
            |py, hits| serde_to_py(py, &hits).map(Bound::unbind),
        )
    }

    fn rerank_sync(
        &self,
        py: Python<'_>,
        question: String,
        hits: &Bound<'_, PyAny>,
        top_k: usize,
    ) -> PyResult<Py<PyAny>> {
        let (reranker, hits) = self.ready(hits).map_err(|error| to_pyerr(py, &error))?;
        let (_, desk) = Caller::on_thread(py)?;
        let hits = desk.block_on(py, async move { reranker.rerank(&question, hits, top_k).await })?;
        serde_to_py(py, &hits).map(Bound::unbind)
    }
}
