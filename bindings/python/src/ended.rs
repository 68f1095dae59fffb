//! How a run ended, and [`NativePaused`]: one that waits.

use crate::{convert::json_to_py, error::to_pyerr, runtime::Born, stream::Item};
use pyo3::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use stepwell::{Error, Result, agent::RunResult, store::RunStatus};

/// How an agent's run ended, and what it goes on with where it paused.
pub(crate) struct Ended {
    data: Value,
    error: Option<Error>,
    paused: Option<Waiting>,
}

#[derive(Clone)]
struct Waiting {
    result: Arc<Mutex<Option<RunResult>>>,
    agent: Arc<()>,
}

impl Ended {
    /// The result of a run of the agent that has this identity.
    pub(crate) fn new(mut result: RunResult, agent: Arc<()>) -> Self {
        let data = json!({
            "run_id": result.run_id,
            "status": result.status,
            "messages": result.messages,
            "answer": result.answer,
            "output": result.value,
            "citations": result.citations,
            "hits": result.hits(),
            "usage": result.usage,
            "spent": result.spent,
            "steps": result.steps,
            "pause": result.pause,
            "questions": result.questions,
        });
        let error = result.error.take();
        let is_paused = result.status == RunStatus::Paused;
        let paused = is_paused.then(|| Waiting {
            result: Arc::new(Mutex::new(Some(result))),
            agent,
        });
        Self { data, error, paused }
    }
}

impl Item for Ended {
    fn show(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let data = json_to_py(py, &self.data)?;
        let error = self
            .error
            .as_ref()
            .map(|error| to_pyerr(py, error).into_value(py));
        data.set_item("error", error)?;
        let paused = self.paused.clone().map(|waiting| NativePaused {
            waiting,
            born: Born::now(),
        });
        data.set_item("paused", paused)?;
        Ok(data.unbind())
    }
}

/// A run that waits, with all it goes on with.
#[pyclass(frozen, name = "Paused", module = "stepwell._native")]
pub(crate) struct NativePaused {
    waiting: Waiting,
    born: Born,
}

impl NativePaused {
    /// What the agent goes on with. It can be done once, so what would be refused is refused before.
    pub(crate) fn take(&self, agent: &Arc<()>, answers: &Map<String, Value>) -> Result<RunResult> {
        self.born.check("paused run")?;
        if !Arc::ptr_eq(&self.waiting.agent, agent) {
            return Err(Error::invalid(
                "result",
                "the run is another agent's: let it go on with the agent that began it",
            ));
        }
        let mut result = self.waiting.result.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = &*result else {
            return Err(Error::invalid(
                "result",
                "the run has gone on already; use the result that came of it",
            ));
        };
        for (id, answer) in answers {
            let question = waiting.questions.iter().find(|question| question.id == *id);
            let unknown = || Error::invalid("answers", format!("no question `{id}` waits for an answer"));
            question.ok_or_else(unknown)?.check(answer)?;
        }
        result
            .take()
            .ok_or_else(|| Error::internal("a paused run is gone"))
    }
}
