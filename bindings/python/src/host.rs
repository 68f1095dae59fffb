//! [`HostModel`]: a chat model that a Python function plays.

use crate::{
    caller::{Caller, Function},
    convert::{json_to_py, py_to_json, py_to_serde},
    error::unreadable,
    request::show_request,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use pyo3::{prelude::*, types::PyTuple};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt, sync::Arc};
use stepwell::{
    ChatModel, ChatRequest, ChatResponse, ChatStream, Error, FinishReason, Message, ModelInfo, Result,
    StreamEvent, Usage, whole,
};

/// A model that a Python function plays, for one call.
pub(crate) struct HostModel {
    pub(crate) info: ModelInfo,
    pub(crate) function: Function,
    pub(crate) caller: Arc<Caller>,
}

impl fmt::Debug for HostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PythonModel").field(&self.info.name()).finish()
    }
}

enum HostAnswer {
    Whole(Value),
    Steps { next: Function, close: Py<PyAny> },
}

fn read_answer(answer: &Bound<'_, PyAny>) -> Result<HostAnswer> {
    match (answer.getattr("next"), answer.getattr("close")) {
        (Ok(next), Ok(close)) => Ok(HostAnswer::Steps {
            next: Function {
                callable: Arc::new(next.unbind()),
                is_async: true,
            },
            close: close.unbind(),
        }),
        _ => py_to_json(answer).map(HostAnswer::Whole),
    }
}

/// The Python side of a stream; dropping it stops the generator, wherever it stands.
struct Steps {
    caller: Arc<Caller>,
    next: Function,
    close: Option<Py<PyAny>>,
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(close) = self.close.take() {
            self.caller.post_to_loop(Box::new(move |py| {
                let _ = close.call0(py); // a finished generator takes no harm
            }));
        }
    }
}

/// A whole answer, with what a Python author may leave out.
#[derive(Deserialize)]
struct WholeAnswer {
    message: Message,
    #[serde(default)]
    finish_reason: Option<FinishReason>,
    #[serde(default)]
    usage: Usage,
}

#[async_trait]
impl ChatModel for HostModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let request = show_request(&request)?;
        let answer = self
            .caller
            .call(
                &self.function,
                move |py| PyTuple::new(py, [json_to_py(py, &request)?]),
                read_answer,
            )
            .await?;
        match answer {
            HostAnswer::Whole(value) => {
                let answer: WholeAnswer = serde_json::from_value(value)
                    .map_err(|error| unreadable("the answer of a Python model", &error))?;
                let reason = answer.finish_reason.unwrap_or_else(|| {
                    if answer.message.tool_calls().next().is_some() {
                        FinishReason::ToolCalls
                    } else {
                        FinishReason::Stop
                    }
                });
                let mut response = ChatResponse::new(
                    &self.info.provider,
                    &self.info.model,
                    answer.message.parts.into(),
                    reason,
                );
                response.usage = answer.usage;
                Ok(stream::iter(whole(response).into_iter().map(Ok)).boxed())
            }
            HostAnswer::Steps { next, close } => {
                let steps = Steps {
                    caller: Arc::clone(&self.caller),
                    next,
                    close: Some(close),
                };
                let batches = stream::try_unfold(steps, |steps| async move {
                    let batch = steps
                        .caller
                        .call(&steps.next, |py| Ok(PyTuple::empty(py)), read_batch)
                        .await?;
                    Ok::<_, Error>(batch.map(|events| (events, steps)))
                });
                let events = batches.map_ok(|events| stream::iter(events.into_iter().map(Ok)));
                Ok(events.try_flatten().boxed())
            }
        }
    }
}

fn read_batch(batch: &Bound<'_, PyAny>) -> Result<Option<Vec<StreamEvent>>> {
    if batch.is_none() {
        return Ok(None);
    }
    py_to_serde("the events of a Python model", batch).map(Some)
}
