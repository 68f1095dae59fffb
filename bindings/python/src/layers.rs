//! Layers around models, and what they share: rate limiters, breakers, budgets.

use crate::{
    agent::NativeAgent,
    caller::{Caller, Function},
    convert::{py_to_serde, serde_to_py},
    error::to_pyerr,
    host::HostModel,
    runtime::Born,
    settings::BudgetSettings,
};
use pyo3::{PyTraverseError, PyVisit, prelude::*};
use std::{path::PathBuf, sync::Arc};
use stepwell::{
    Budget, ChatModel, ModelInfo, Result, Scope,
    providers::layers::{
        Breaker, BreakerOptions, CacheOptions, FallbackOptions, ModelExt, RateLimitOptions, RateLimiter,
        RetryOptions, TimeoutOptions,
    },
    store::Cache,
    stores::{MemoryStore, SqliteStore},
};

/// What answers: the engine, a Python function, or one of them with layers around it.
#[derive(Clone)]
pub(crate) enum Backing {
    Engine(Arc<dyn ChatModel>),
    Host {
        info: Arc<ModelInfo>,
        function: Function,
    },
    /// An agent, built anew for each call.
    Agent {
        info: Arc<ModelInfo>,
        agent: Arc<Py<NativeAgent>>,
    },
    /// A Python function or an agent is somewhere inside: the layers are put on anew for each call, where its caller is. What
    /// they share is in the layer.
    Layered(Arc<(Backing, Layer)>),
}

/// A layer and what it needs.
pub(crate) enum Layer {
    Retry(RetryOptions),
    Timeouts(TimeoutOptions),
    RateLimit(RateLimiter),
    Breaker(Breaker),
    Fallback(Vec<Backing>, FallbackOptions),
    Cache(Arc<dyn Cache>, Scope, CacheOptions),
    Budget(Budget),
}

impl Layer {
    fn others(&self) -> &[Backing] {
        match self {
            Self::Fallback(others, _) => others,
            _ => &[],
        }
    }

    fn put_on(&self, model: Arc<dyn ChatModel>, others: Vec<Arc<dyn ChatModel>>) -> Arc<dyn ChatModel> {
        match self {
            Self::Retry(options) => model.with_retry(options.clone()),
            Self::Timeouts(options) => model.with_timeouts(options.clone()),
            Self::RateLimit(limiter) => model.with_rate_limit(limiter.clone()),
            Self::Breaker(breaker) => model.with_breaker(breaker.clone()),
            Self::Fallback(_, options) => model.with_fallback(others, options.clone()),
            Self::Cache(cache, scope, options) => {
                model.with_cache(Arc::clone(cache), scope.clone(), options.clone())
            }
            Self::Budget(budget) => model.with_budget(budget.clone()),
        }
    }
}

impl Backing {
    /// The same with a layer around it.
    pub(crate) fn layered(self, layer: Layer) -> Self {
        let engine = |backing: &Self| match backing {
            Self::Engine(model) => Some(Arc::clone(model)),
            _ => None,
        };
        let others: Option<Vec<_>> = layer.others().iter().map(engine).collect();
        match (engine(&self), others) {
            (Some(model), Some(others)) => Self::Engine(layer.put_on(model, others)),
            _ => Self::Layered(Arc::new((self, layer))),
        }
    }

    /// The model for one call: a Python one runs where its caller is.
    pub(crate) fn bind(&self, caller: &Arc<Caller>) -> Result<Arc<dyn ChatModel>> {
        Ok(match self {
            Self::Engine(model) => Arc::clone(model),
            Self::Host { info, function } => Arc::new(HostModel {
                info: ModelInfo::clone(info),
                function: function.clone(),
                caller: Arc::clone(caller),
            }),
            Self::Agent { info, agent } => Arc::new(agent.get().model(&info.model, caller)?),
            Self::Layered(layered) => {
                let (inner, layer) = &**layered;
                let others = layer.others().iter().map(|other| other.bind(caller));
                layer.put_on(inner.bind(caller)?, others.collect::<Result<_>>()?)
            }
        })
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        match self {
            Self::Engine(model) => model.info(),
            Self::Host { info, .. } | Self::Agent { info, .. } => info,
            Self::Layered(layered) => layered.0.info(),
        }
    }

    /// Shows Python's cycle collector the functions that only this holds.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        match self {
            Self::Engine(_) => Ok(()),
            Self::Host { function, .. } => function.traverse(visit),
            Self::Agent { agent, .. } if Arc::strong_count(agent) > 1 => Ok(()), // likewise
            Self::Agent { agent, .. } => visit.call(&**agent),
            Self::Layered(layered) if Arc::strong_count(layered) > 1 => Ok(()), // a call is using it
            Self::Layered(layered) => {
                let (inner, layer) = &**layered;
                inner.traverse(visit)?;
                layer.others().iter().try_for_each(|other| other.traverse(visit))
            }
        }
    }
}

/// What an account may send, shared by all models it is around.
#[pyclass(frozen, name = "RateLimiter", module = "stepwell._native")]
pub(crate) struct NativeRateLimiter(pub(crate) RateLimiter);

#[pymethods]
impl NativeRateLimiter {
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        let options: RateLimitOptions = read(py, "rate limit", options)?;
        Ok(Self(RateLimiter::new(options)))
    }

    /// How many calls of `vendor/model` wait, and how many run.
    fn load(&self, model: &str) -> (usize, usize) {
        self.0.load(model)
    }
}

/// Which endpoints are down, shared by all models it is around.
#[pyclass(frozen, name = "Breaker", module = "stepwell._native")]
pub(crate) struct NativeBreaker(pub(crate) Breaker);

#[pymethods]
impl NativeBreaker {
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        let options: BreakerOptions = read(py, "breaker", options)?;
        Ok(Self(Breaker::new(options)))
    }
}

/// What may be spent, shared by all that spend from it.
#[pyclass(frozen, name = "Budget", module = "stepwell._native")]
pub(crate) struct NativeBudget(pub(crate) Budget);

#[pymethods]
impl NativeBudget {
    #[new]
    fn new(py: Python<'_>, limits: &Bound<'_, PyAny>) -> PyResult<Self> {
        let limits: BudgetSettings = read(py, "budget", limits)?;
        Ok(Self(Budget::new(limits.read())))
    }

    #[getter]
    fn spent<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        serde_to_py(py, &self.0.spent())
    }
}

/// Where answers are kept, so that they can be given again.
#[pyclass(frozen, name = "Cache", module = "stepwell._native")]
pub(crate) struct NativeCache {
    cache: Arc<dyn Cache>,
    born: Born,
}

impl NativeCache {
    /// The cache, where its threads are still there.
    pub(crate) fn get(&self) -> Result<Arc<dyn Cache>> {
        self.born.check("cache")?;
        Ok(Arc::clone(&self.cache))
    }
}

#[pymethods]
impl NativeCache {
    #[staticmethod]
    fn memory() -> Self {
        Self {
            cache: Arc::new(MemoryStore::new()),
            born: Born::now(),
        }
    }

    #[staticmethod]
    fn sqlite(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let store = py
            .detach(|| SqliteStore::open(path))
            .map_err(|error| to_pyerr(py, &error))?;
        Ok(Self {
            cache: Arc::new(store),
            born: Born::now(),
        })
    }
}

/// Options from Python, as an exception where they are none.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    py: Python<'_>,
    what: &'static str,
    given: &Bound<'_, PyAny>,
) -> PyResult<T> {
    py_to_serde(what, given).map_err(|error| to_pyerr(py, &error))
}
