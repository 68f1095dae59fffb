//! [`AgentTool`]: an agent as a tool of another, and [`AgentNode`]: as a node of a graph.

use super::{Agent, AgentInput, AgentState, RunResult};
use crate::{
    Command, GraphShape, HasMessages, Node, NodeError, Outcome, RunContext,
    inside::{Inside, Mode},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{
    fmt::{self, Debug},
    sync::Arc,
};
use stepwell_core::{
    Cancel, DynTool, Error, IntoDynTool, Message, Origin, Part, Result, Schema, ToolContext, ToolError,
    ToolOptions, ToolOutput, ToolSpec, store::RunStatus,
};

/// Largest task that is handed to an agent, in characters.
const TASK_CHARS: usize = 100_000;

impl Agent {
    /// The agent as a tool: `{ "task": string }`. The model that calls it reads the answer.
    ///
    /// The agent's run is inside of the caller's: it spends from the same budget, stops with the same switch, its events
    /// have a path, its questions are the run's, and after a pause or a crash it goes on where it was.
    pub fn tool(&self, name: impl Into<String>, description: impl Into<String>) -> AgentTool {
        AgentTool {
            agent: self.clone(),
            name: name.into(),
            description: description.into(),
            options: ToolOptions::default(),
        }
    }

    /// The agent as a node: it goes on with the conversation of the state, and what it says is added to it.
    pub fn node(&self) -> AgentNode {
        AgentNode { agent: self.clone() }
    }

    /// Runs it inside of a task of another run, for a node or tool of one's own: it spends from that run's budget, stops with
    /// it, its events have a path, and what it has done is not done again after a pause or a crash. The key tells several
    /// such runs of one task apart.
    ///
    /// # Errors
    /// What the run fails with; an interrupt where it waits for a person: pass it on with `?`.
    pub async fn run_within(
        &self,
        cx: &RunContext,
        key: &str,
        input: impl Into<AgentInput>,
    ) -> Result<RunResult, NodeError> {
        let inside = self.inside(key, cx.cancel().clone());
        let ended = inside.drive(cx, |_| Ok(self.begin(input, None)?)).await?;
        Ok(RunResult::from(Outcome::ended(cx.run_id(), ended.state)))
    }

    fn inside<'a>(&'a self, key: &'a str, cancel: Cancel) -> Inside<'a, AgentState> {
        Inside {
            graph: &self.graph,
            key,
            mode: Mode::Fresh,
            cancel,
            limits: Some(self.options.limits.clone()),
            budget: self.options.budget_limits.clone(),
        }
    }
}

/// An agent about to become a tool; see [`Agent::tool`].
#[derive(Clone, Debug)]
pub struct AgentTool {
    agent: Agent,
    name: String,
    description: String,
    options: ToolOptions,
}

impl AgentTool {
    /// Risk, time limit and whether it may run beside other calls. What the agent does is journalled call by call, so
    /// calling it again after a crash repeats nothing.
    pub fn options(mut self, options: ToolOptions) -> Self {
        self.options = options;
        self
    }
}

impl IntoDynTool for AgentTool {
    fn into_dyn_tool(self) -> Result<Arc<dyn DynTool>> {
        let schema = Schema::from_value(json!({
            "type": "object",
            "properties": {
                "task": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": TASK_CHARS,
                    "description": "What to do, with everything one has to know for it: the conversation is not seen."
                }
            },
            "required": ["task"],
            "additionalProperties": false
        }))?;
        let spec = ToolSpec::new(&self.name, &self.description, &schema)?;
        Ok(Arc::new(Handed {
            agent: self.agent,
            options: self.options,
            schema,
            spec,
        }))
    }
}

struct Handed {
    agent: Agent,
    options: ToolOptions,
    schema: Schema,
    spec: ToolSpec,
}

impl Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentTool")
            .field("name", &self.spec.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DynTool for Handed {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn options(&self) -> &ToolOptions {
        &self.options
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn call(&self, arguments: Value, cx: &ToolContext) -> Result<ToolOutput, ToolError> {
        let task = arguments["task"].as_str().unwrap_or_default().trim();
        if task.is_empty() {
            return Err(ToolError::Retry("the task is empty; say what to do".into()));
        }
        let result = match RunContext::of_tool(cx) {
            Some(run) => {
                let inside = self.agent.inside(&cx.call_id, cx.cancel.clone());
                let ended = inside.drive(run, |_| Ok(self.agent.begin(task, None)?)).await?;
                RunResult::from(Outcome::ended(run.run_id(), ended.state))
            }
            // Called by something else than a run: it is one of its own.
            None => {
                let run = self
                    .agent
                    .run(task)
                    .scope(cx.scope.clone())
                    .cancel(cx.cancel.clone());
                run.await?
            }
        };
        if result.status != RunStatus::Done {
            return Err(ToolError::Fatal(Error::Interrupted {
                run_id: result.run_id,
            }));
        }
        let mut parts = Vec::new();
        if let Some(value) = &result.value {
            parts.push(Part::data(&self.spec.name, value.clone(), Origin::Tool));
        }
        parts.push(Part::text(result.answer.clone(), Origin::Tool));
        let hits = result.hits();
        if !hits.is_empty()
            && let Ok(hits) = serde_json::to_value(&hits)
        {
            parts.push(Part::data("hits", hits, Origin::Document));
        }
        Ok(ToolOutput::parts(parts))
    }
}

/// An agent as a node of a graph whose state has a conversation; see [`Agent::node`].
#[derive(Clone, Debug)]
pub struct AgentNode {
    agent: Agent,
}

#[async_trait]
impl<S: HasMessages> Node<S> for AgentNode {
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        let given: Vec<Message> = state.messages().to_vec();
        let known = given.len();
        let inside = self.agent.inside("", cx.cancel().clone());
        let ended = inside
            .drive(cx, |_| Ok(self.agent.begin(AgentInput::from(given), None)?))
            .await?;
        let said = ended.state.messages.into_vec().split_off(known);
        Ok(Command::update(S::add_messages(said)))
    }

    fn graph(&self) -> Option<GraphShape> {
        Some(self.agent.graph.shape().clone())
    }

    fn ends_on_cancel(&self) -> bool {
        true
    }
}
