//! [`Agent`]: a model and its tools, as a graph of two nodes with a friendly builder.

use crate::{
    END, Graph, GraphBuilder, Messages, Outcome, Run, RunStream, START,
    journal::Saving,
    nodes::{ModelNode, ToolsNode},
    run::RunOptions,
    runs::{Prepared, Sealed, Startable},
};
use serde::Deserialize;
use std::{
    collections::HashSet,
    fmt::{self, Debug},
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};
use stepwell_core::{
    AskBeforeEffects, Budget, BudgetLimits, Cancel, ChatModel, ChatRequest, Citation, DynTool, Error, Hit,
    IntoDynTool, Limits, Message, Part, Policy, Result, Role, Scope, Spend, Usage,
    store::{RunStatus, RunStore},
};
use stepwell_macros::State;

/// The node that asks the model.
const MODEL: &str = "model";
/// The node that runs its calls.
const TOOLS: &str = "tools";

/// What flows through an agent's graph: the conversation.
#[derive(Clone, Debug, Default, PartialEq, State)]
#[state(crate = "crate", update = "AgentUpdate")]
#[non_exhaustive]
pub struct AgentState {
    /// The conversation, instructions left out.
    #[state(messages)]
    pub messages: Messages,
}

/// What an agent is given: words, a message, or a conversation so far.
#[derive(Clone, Debug, Default)]
pub struct AgentInput(Vec<Message>);

impl From<&str> for AgentInput {
    fn from(text: &str) -> Self {
        Self(vec![Message::user(text)])
    }
}
impl From<String> for AgentInput {
    fn from(text: String) -> Self {
        Self(vec![Message::user(text)])
    }
}
impl From<&String> for AgentInput {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}
impl From<Message> for AgentInput {
    fn from(message: Message) -> Self {
        Self(vec![message])
    }
}
impl From<Vec<Message>> for AgentInput {
    fn from(messages: Vec<Message>) -> Self {
        Self(messages)
    }
}

/// Builds an [`Agent`].
#[must_use = "call `.build()`"]
pub struct AgentBuilder {
    model: Arc<dyn ChatModel>,
    name: String,
    instructions: Option<String>,
    request: ChatRequest,
    tools: Vec<Result<Arc<dyn DynTool>>>,
    policy: Arc<dyn Policy>,
    options: RunOptions,
}

impl AgentBuilder {
    /// A name for lists of runs, and for the model's messages; `agent` otherwise.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the model is told before every conversation.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Gives it a tool. What is wrong with it is told by [`AgentBuilder::build`].
    pub fn tool(mut self, tool: impl IntoDynTool) -> Self {
        self.tools.push(tool.into_dyn_tool());
        self
    }

    /// Gives it several tools.
    pub fn tools(mut self, tools: impl IntoIterator<Item = Arc<dyn DynTool>>) -> Self {
        self.tools.extend(tools.into_iter().map(Ok));
        self
    }

    /// Options of every model call: temperature, length, a vendor's own. Its messages and tools are left out.
    pub fn request(mut self, request: ChatRequest) -> Self {
        self.request = request;
        self
    }

    /// Who decides whether a call may run. Reading runs, writing and sending asks, where nothing is said.
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// The same, shared.
    pub fn shared_policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = policy;
        self
    }

    /// Bounds on what comes from outside, and on steps.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// What each run may spend.
    pub fn budget(mut self, limits: BudgetLimits) -> Self {
        self.options.budget_limits = limits;
        self
    }

    /// Keeps the journals of its runs there, so that they can be resumed.
    pub fn store(mut self, store: Arc<dyn RunStore>) -> Self {
        self.options.store = Some(store);
        self
    }

    /// Each step is safe before the next begins; otherwise saving overlaps with the steps that follow.
    pub fn sync(mut self) -> Self {
        self.options.saving = Saving::Sync;
        self
    }

    /// Whose runs; the one local tenant otherwise.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.scope = scope;
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with every fault: names no vendor takes, two tools of one name, tools for a model that has none.
    pub fn build(self) -> Result<Agent> {
        let mut faults = Vec::new();
        let mut tools: Vec<Arc<dyn DynTool>> = Vec::new();
        for tool in self.tools {
            match tool {
                Ok(tool) => tools.push(tool),
                Err(error) => faults.push(error.to_string()),
            }
        }
        let mut names = HashSet::new();
        for tool in &tools {
            if !names.insert(tool.spec().name.clone()) {
                faults.push(format!("two tools are named `{}`", tool.spec().name));
            }
        }
        let info = self.model.info();
        if !tools.is_empty() && info.abilities.tools == Some(false) {
            faults.push(format!(
                "the model `{}` calls no tools; leave them out or use another model",
                info.name()
            ));
        }
        if self.name.trim().is_empty() {
            faults.push("the name is blank".to_owned());
        }
        if !faults.is_empty() {
            return Err(Error::invalid("agent", faults.join("; ")));
        }
        let mut request = self.request;
        request.messages.clear();
        request.tools = tools.iter().map(|tool| tool.spec().clone()).collect();
        let mut model = ModelNode::new(self.model)
            .request(request)
            .tools_at(TOOLS)
            .name(&self.name);
        if let Some(instructions) = self.instructions {
            model = model.instructions(instructions);
        }
        let graph = GraphBuilder::new(AgentState::default())
            .name(self.name)
            .node(MODEL, model)
            .node(TOOLS, ToolsNode::new(tools, self.policy))
            .edge(START, MODEL)
            .goto(MODEL, [TOOLS, END])
            .edge(TOOLS, MODEL)
            .build()?;
        Ok(Agent {
            graph,
            options: self.options,
        })
    }
}

impl Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder")
            .field("name", &self.name)
            .field("tools", &self.tools.len())
            .finish_non_exhaustive()
    }
}

/// A model and its tools, in a loop until the model answers. Clones share the graph.
#[derive(Clone)]
pub struct Agent {
    graph: Graph<AgentState>,
    options: RunOptions,
}

impl Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("graph", &self.graph)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Begins an agent with this model.
    #[allow(clippy::new_ret_no_self)] // an agent is always built; `Agent::new(model).tool(..).build()` reads as one sentence
    pub fn new(model: Arc<dyn ChatModel>) -> AgentBuilder {
        AgentBuilder {
            model,
            name: "agent".into(),
            instructions: None,
            request: ChatRequest::default(),
            tools: Vec::new(),
            policy: Arc::new(AskBeforeEffects),
            options: RunOptions::default(),
        }
    }

    /// Runs it on words or a conversation. `.await` it for the result, or watch it with [`AgentRun::stream`].
    pub fn run(&self, input: impl Into<AgentInput>) -> AgentRun {
        let messages = input.into().0;
        AgentRun {
            run: self
                .graph
                .run(AgentState {
                    messages: messages.into(),
                })
                .with_options(self.options.clone()),
            is_new: true,
        }
    }

    /// Runs it and gives what happens, as it happens.
    pub fn stream(&self, input: impl Into<AgentInput>) -> RunStream<RunResult> {
        self.run(input).stream()
    }

    /// Goes on with a run from the agent's store.
    pub fn resume(&self, run_id: impl Into<String>) -> AgentRun {
        AgentRun {
            run: self.graph.resume(run_id).with_options(self.options.clone()),
            is_new: false,
        }
    }

    /// Its graph.
    pub fn graph(&self) -> &Graph<AgentState> {
        &self.graph
    }
}

/// An agent's run about to begin.
#[derive(Debug)]
#[must_use = "await it, or poll its stream"]
pub struct AgentRun {
    run: Run<AgentState>,
    is_new: bool,
}

impl AgentRun {
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

    /// Keeps what can be watched in the journal too; see [`Run::keep_events`].
    pub fn keep_events(mut self) -> Self {
        self.run = self.run.keep_events();
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

    /// A run without a question would waste a call.
    fn checked(self) -> Result<Run<AgentState>, Box<RunResult>> {
        if self.is_new && self.run.state().is_some_and(|state| !has_words(&state.messages)) {
            let error = Error::invalid(
                "messages",
                "there is nothing to answer: give a question or a message",
            );
            return Err(Box::new(RunResult {
                run_id: String::new(),
                status: RunStatus::Failed,
                messages: Vec::new(),
                answer: String::new(),
                citations: Vec::new(),
                usage: Usage::default(),
                spent: Spend::default(),
                steps: 0,
                error: Some(error),
            }));
        }
        Ok(self.run)
    }
}

impl Sealed for AgentRun {}

impl Startable for AgentRun {
    type Ended = RunResult;

    #[allow(private_interfaces)] // nobody outside can name what it takes to implement it
    fn prepare(self) -> Result<Prepared<RunResult>> {
        match self.checked() {
            Ok(run) => Ok(run.prepare()?.map(RunResult::from)),
            Err(refused) => Err(refused.error.unwrap_or(Error::Cancelled)),
        }
    }

    fn into_result(ended: RunResult) -> Result<RunResult> {
        ended.into_result()
    }
}

/// Whether the last message says anything.
fn has_words(messages: &[Message]) -> bool {
    messages.last().is_some_and(|message| {
        message
            .parts
            .iter()
            .any(|part| part.as_text().is_none_or(|text| !text.trim().is_empty()))
    })
}

impl IntoFuture for AgentRun {
    type Output = Result<RunResult>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.outcome().await.into_result() })
    }
}

/// How an agent's run ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunResult {
    /// The run; resume it by this id.
    pub run_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The whole conversation: what was given, then the model's messages and the tools' results.
    pub messages: Vec<Message>,
    /// The words of the answer; empty where there is none yet.
    pub answer: String,
    /// What the answer rests on, as the model cited it.
    pub citations: Vec<Citation>,
    /// Tokens of all model calls.
    pub usage: Usage,
    /// What was spent.
    pub spent: Spend,
    /// Steps of the graph.
    pub steps: u32,
    /// Why it stopped before its end.
    pub error: Option<Error>,
}

impl RunResult {
    /// The result of a run that got to its end or paused.
    ///
    /// # Errors
    /// Why it did not.
    pub fn into_result(mut self) -> Result<Self> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// The message that answers; `None` where the run stopped before.
    pub fn answer_message(&self) -> Option<&Message> {
        answer_of(&self.messages)
    }

    /// What was found by searches of this turn, in order, each chunk once: for citing exactly.
    pub fn hits(&self) -> Vec<Hit> {
        let turn = self
            .messages
            .iter()
            .rposition(|message| message.role == Role::User)
            .map_or(0, |at| at + 1);
        let mut seen = HashSet::new();
        self.messages[turn..]
            .iter()
            .flat_map(|message| &message.parts)
            .filter_map(|part| match part {
                Part::ToolResult(result) => Some(&result.parts),
                _ => None,
            })
            .flatten()
            .filter_map(|part| match part {
                Part::Data(data) if data.name == "hits" => Vec::<Hit>::deserialize(&data.value).ok(),
                _ => None,
            })
            .flatten()
            .filter(|hit| seen.insert(hit.chunk.id.clone()))
            .collect()
    }
}

fn answer_of(messages: &[Message]) -> Option<&Message> {
    messages
        .last()
        .filter(|message| message.role == Role::Assistant && message.tool_calls().next().is_none())
}

impl From<Outcome<AgentState>> for RunResult {
    fn from(outcome: Outcome<AgentState>) -> Self {
        let messages = outcome.state.messages.into_vec();
        let answer = answer_of(&messages);
        Self {
            answer: answer.map(Message::text).unwrap_or_default(),
            citations: answer.into_iter().flat_map(Message::citations).cloned().collect(),
            run_id: outcome.run_id,
            status: outcome.status,
            messages,
            usage: outcome.usage,
            spent: outcome.spent,
            steps: outcome.steps,
            error: outcome.error,
        }
    }
}
