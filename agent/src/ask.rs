//! [`Question`]: what a run waits for; [`Ask`]: a node asking it; and the check of answers.

use crate::{EventKind, NodeError, RunContext, context::TaskMemory, step::TaskId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt::{self, Debug},
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    time::Duration,
};
use stepwell_core::{Error, Result, Schema, Timer, store::RecordKind};

/// Complaints of a schema that are told.
const VIOLATIONS: usize = 5;

/// A question that a run waits for: plain data, to be shown to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Question {
    /// Answer it by this.
    pub id: String,
    /// The author's name for it.
    pub key: String,
    /// The nodes around the run that asks, from the outermost in; empty in the outermost run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The node that asks.
    pub node: String,
    /// Its step.
    pub step: u32,
    /// The tool call that asks, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// What the person is shown.
    pub payload: Value,
    /// JSON Schema of the answer.
    pub schema: Value,
    /// When it was asked, milliseconds since 1970.
    pub asked_ms: u64,
    /// When it is too late for an answer; the node is told then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl Question {
    /// Whether it is too late for an answer.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| now_ms >= expires)
    }

    /// Whether it is an answer: what a run says of it that is given it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] that tells where it does not fit the schema, in places and keywords alone.
    pub fn check(&self, answer: &Value) -> Result<()> {
        let schema = Schema::from_value(self.schema.clone())?;
        schema.check(answer).map_err(|violations| {
            // Places and keywords; the words of a violation may quote the answer.
            let told: Vec<String> = violations
                .iter()
                .take(VIOLATIONS)
                .map(|violation| {
                    let path = if violation.path.is_empty() {
                        "/"
                    } else {
                        &violation.path
                    };
                    format!("`{}` at {path}", violation.keyword)
                })
                .collect();
            Error::invalid(
                "answer",
                format!(
                    "the answer to `{}` does not fit its schema: {}",
                    self.id,
                    told.join(", ")
                ),
            )
        })
    }
}

/// A question about to be asked; `.await` it for the answer.
#[must_use = "await it"]
pub struct Ask<'a, T> {
    cx: &'a RunContext,
    key: String,
    payload: serde_json::Result<Value>,
    schema: Schema,
    expires_in: Option<Duration>,
    answer: PhantomData<fn() -> T>,
}

impl<'a, T> Ask<'a, T> {
    pub(crate) fn new(
        cx: &'a RunContext,
        key: String,
        payload: serde_json::Result<Value>,
        schema: Schema,
    ) -> Self {
        Self {
            cx,
            key,
            payload,
            schema,
            expires_in: None,
            answer: PhantomData,
        }
    }

    /// After so long it is too late for an answer: a run that is resumed then gives the node [`Error::Timeout`] here.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }
}

impl<'a, T: DeserializeOwned + Send + 'a> IntoFuture for Ask<'a, T> {
    type Output = Result<T, NodeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.answer())
    }
}

impl<T: DeserializeOwned> Ask<'_, T> {
    async fn answer(self) -> Result<T, NodeError> {
        let cx = self.cx;
        cx.use_key("question key", &self.key)?;
        let id = format!(
            "{}{}.{}:{}",
            cx.shared.prefix,
            cx.place(),
            cx.step,
            cx.scoped(&self.key)
        );
        if let Some(answer) = cx.answer_to(&id) {
            return serde_json::from_value(answer).map_err(|error| {
                Error::invalid(
                    "answer",
                    format!("the answer to `{id}` does not fit its type: {error}"),
                )
                .into()
            });
        }
        let now = (cx.shared.clock)();
        let known = cx.asked_before(&id);
        match known.map(|question| (question.is_expired(now), question.asked_ms, question.expires_ms)) {
            Some((true, asked, expires)) => Err(NodeError::passed_on(Error::Timeout {
                what: format!("the answer to `{id}`"),
                after: Duration::from_millis(expires.unwrap_or(now).saturating_sub(asked)),
                timer: Timer::Answer,
                partial: None,
            })),
            Some(_) => Err(NodeError::interrupt(cx)),
            None => {
                let payload = self.payload.map_err(|error| {
                    Error::invalid(
                        "question",
                        format!("the payload of `{}` is no JSON: {error}", self.key),
                    )
                })?;
                let question = Question {
                    id,
                    key: self.key,
                    path: cx.path().to_vec(),
                    node: cx.node.to_string(),
                    step: cx.step,
                    call_id: cx.call_id().map(str::to_owned),
                    payload,
                    schema: self.schema.as_value().clone(),
                    asked_ms: now,
                    expires_ms: self
                        .expires_in
                        .map(|time| now.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))),
                };
                cx.pose(question).await?;
                Err(NodeError::interrupt(cx))
            }
        }
    }
}

impl<T> Debug for Ask<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl RunContext {
    /// What was answered. A run inside that keeps nothing finds it with the task it is inside of.
    fn answer_to(&self, id: &str) -> Option<Value> {
        let own = self.memory().answers.get(id).cloned();
        own.or_else(|| self.shared.outer.as_ref()?.answer_to(id))
    }

    /// The question as it was asked before, if it was; the task remembers it from then on.
    fn asked_before(&self, id: &str) -> Option<Question> {
        let find = |memory: &TaskMemory| {
            memory
                .questions
                .iter()
                .find(|question| question.id == id)
                .cloned()
        };
        let own = find(&self.memory());
        own.or_else(|| {
            let question = self.shared.outer.as_ref()?.asked_before(id)?;
            self.memory().questions.push(question.clone());
            Some(question)
        })
    }

    /// Leaves a question in the journal and in the task's memory.
    pub(crate) async fn pose(&self, question: Question) -> Result<(), NodeError> {
        if self
            .memory()
            .questions
            .iter()
            .any(|known| known.id == question.id)
        {
            return Ok(());
        }
        let body = crate::journal::InterruptBody {
            task: self.task_ref(),
            call_id: self.call_id().map(str::to_owned),
            question,
        };
        let written = self.leave(RecordKind::Interrupt, &body, false)?;
        let question = body.question;
        {
            let mut memory = self.memory();
            if let Some(call) = &body.call_id {
                // The tool call asks before it has done anything, or knows what it has: it may begin again.
                memory.intents.remove(call);
            }
            memory.questions.push(question.clone());
        }
        if question.path.len() == self.path().len() {
            self.event(|| EventKind::Question { question });
        }
        written.safe().await
    }
}

/// Gives answers to the tasks that asked. Nothing is given unless every answer fits.
///
/// # Errors
/// [`Error::NotFound`] for an unknown question, [`Error::InvalidInput`] for one that was answered before, that has
/// expired, or whose answer does not fit its schema.
pub(crate) fn give(
    memory: &mut HashMap<TaskId, TaskMemory>,
    answers: &[(String, Value)],
    now_ms: u64,
) -> Result<()> {
    for (at, (id, answer)) in answers.iter().enumerate() {
        let found = memory.values().find_map(|task| {
            task.questions
                .iter()
                .find(|question| question.id == *id)
                .map(|question| (task, question))
        });
        let Some((task, question)) = found else {
            let open: Vec<&str> = memory
                .values()
                .flat_map(|task| open(task, now_ms))
                .map(|question| question.id.as_str())
                .collect();
            return Err(Error::NotFound {
                what: "open question".into(),
                name: id.clone(),
                hint: if open.is_empty() {
                    "the run waits for no answer".into()
                } else {
                    format!("the run waits for: {}", open.join(", "))
                },
            });
        };
        if task.answers.contains_key(id) || answers[..at].iter().any(|(earlier, _)| earlier == id) {
            return Err(Error::invalid(
                "answer",
                format!("the question `{id}` was answered before"),
            ));
        }
        if question.is_expired(now_ms) {
            return Err(Error::invalid(
                "answer",
                format!("it is too late for an answer to `{id}`; resume the run without one"),
            ));
        }
        question.check(answer)?;
    }
    for (id, answer) in answers {
        give_one(memory, id, answer.clone());
    }
    Ok(())
}

pub(crate) fn give_one(memory: &mut HashMap<TaskId, TaskMemory>, id: &str, answer: Value) {
    let asked = |task: &&mut TaskMemory| task.questions.iter().any(|question| question.id == id);
    if let Some(task) = memory.values_mut().find(asked) {
        task.answers.insert(id.to_owned(), answer);
    }
}

/// The questions of a task that wait for an answer.
pub(crate) fn open(task: &TaskMemory, now_ms: u64) -> impl Iterator<Item = &Question> {
    task.questions
        .iter()
        .filter(move |question| !task.answers.contains_key(&question.id) && !question.is_expired(now_ms))
}
