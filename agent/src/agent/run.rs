//! [`AgentRun`]: an agent's run about to begin.

use super::{Agent, AgentInput, AgentState, RunResult, instructions::variables_of};
use crate::{Run, RunStream};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    fmt::{self, Debug},
    future::{Future, IntoFuture},
    pin::Pin,
};
use stepwell_core::{Budget, Cancel, Limits, Result, Scope};

/// An agent's run about to begin.
#[must_use = "await it, or poll its stream"]
pub struct AgentRun {
    agent: Agent,
    run: Run<AgentState>,
    /// What it begins with; `None` where it goes on.
    input: Option<AgentInput>,
    variables: Result<Option<Map<String, Value>>>,
}

impl Debug for AgentRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentRun")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl AgentRun {
    pub(super) fn new(agent: Agent, run: Run<AgentState>, input: Option<AgentInput>) -> Self {
        Self {
            agent,
            run,
            input,
            variables: Ok(None),
        }
    }

    /// Under this id.
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.run = self.run.run_id(run_id);
        self
    }

    /// For this tenant instead of the agent's.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.run = self.run.scope(scope);
        self
    }

    /// Fills the template of the instructions: a map or a struct, whose keys go before those the agent was built with. A
    /// run that goes on has its instructions already.
    pub fn variables(mut self, variables: impl Serialize) -> Self {
        self.variables = variables_of(variables).map(Some);
        self
    }

    /// Answers a question of a run that goes on: see [`Run::answer`]. A call that needs an approval takes a
    /// [`crate::Approval`].
    pub fn answer(mut self, question_id: impl Into<String>, answer: impl Serialize) -> Self {
        self.run = self.run.answer(question_id, answer);
        self
    }

    /// Answers the only question of a run that goes on.
    pub fn reply(mut self, answer: impl Serialize) -> Self {
        self.run = self.run.reply(answer);
        self
    }

    /// Pauses at the end of the step that is under way when this switch is pulled.
    pub fn drain(mut self, drain: Cancel) -> Self {
        self.run = self.run.drain(drain);
        self
    }

    /// Stops when this switch is pulled; the history is closed and the result still comes with [`AgentRun::outcome`].
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.run = self.run.cancel(cancel);
        self
    }

    /// Spends from this account, shared with whoever else holds it, instead of a budget of its own.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.run = self.run.budget(budget);
        self
    }

    /// Other bounds than the agent's.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.run = self.run.limits(limits);
        self
    }

    /// How it ended, also where it failed: the messages then have what had finished, and `error` tells why.
    pub async fn outcome(self) -> RunResult {
        match self.checked() {
            Ok(run) => run.outcome().await.into(),
            Err(refused) => *refused,
        }
    }

    /// The run as its events, closed by its result.
    pub fn stream(self) -> RunStream<RunResult> {
        match self.checked() {
            Ok(run) => run.stream().map_result(RunResult::from),
            Err(refused) => RunStream::ended(*refused),
        }
    }

    /// What would waste a call is refused before it.
    fn checked(self) -> Result<Run<AgentState>, Box<RunResult>> {
        let state = self.variables.and_then(|variables| match self.input {
            Some(input) => self.agent.begin(input, variables).map(Some),
            None => Ok(None),
        });
        match state {
            Ok(Some(state)) => Ok(self.run.with_state(state)),
            Ok(None) => Ok(self.run),
            Err(error) => Err(Box::new(RunResult::refused(error))),
        }
    }
}

impl IntoFuture for AgentRun {
    type Output = Result<RunResult>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            let mut result = self.outcome().await;
            match result.error.take() {
                Some(error) => Err(error),
                None => Ok(result),
            }
        })
    }
}
