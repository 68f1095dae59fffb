//! [`AgentBuilder`]: builds an [`Agent`].

use super::{
    Agent, AgentState,
    bounds::Outlook,
    instructions::{Instructions, Template, variables_of},
};
use crate::{
    ContextOptions, ContextPolicy, END, GraphBuilder, Hooks, OutputShape, RunContext, START,
    journal::Saving,
    nodes::{ModelNode, ToolsNode, passages::PassagesNode},
    run::RunOptions,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    collections::HashSet,
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};
use stepwell_core::{
    AskBeforeEffects, BudgetLimits, ChatModel, ChatRequest, DynTool, Error, IntoDynTool, Limits, Policy,
    Result, Retriever, Schema, Scope,
    store::{Cache, RunStore},
};

/// The node that searches before the model is asked.
const PASSAGES: &str = "passages";
/// The node that asks the model.
const MODEL: &str = "model";
/// The node that runs its calls.
const TOOLS: &str = "tools";

/// A host's own check of an answer.
type Check = Box<dyn Fn(&Value) -> std::result::Result<(), String> + Send + Sync>;

/// What fills an argument of a tool in.
type Fill = Box<dyn Fn(&AgentState, &RunContext) -> Value + Send + Sync>;

/// Builds an [`Agent`].
#[must_use = "call `.build()`"]
pub struct AgentBuilder {
    model: Arc<dyn ChatModel>,
    name: String,
    instructions: Option<Instructions>,
    variables: Option<Map<String, Value>>,
    request: ChatRequest,
    tools: Vec<Result<Arc<dyn DynTool>>>,
    policy: Arc<dyn Policy>,
    output: Option<OutputShape>,
    check: Option<Check>,
    output_retries: Option<u32>,
    context: Option<PassagesNode>,
    context_policies: Vec<Arc<dyn ContextPolicy>>,
    hooks: Vec<Arc<dyn Hooks>>,
    tool_cache: Option<Arc<dyn Cache>>,
    approvals: Option<Duration>,
    injected: Vec<(String, String, Fill)>,
    options: RunOptions,
    /// What a setter was given that cannot be, to be told with the rest.
    faults: Vec<String>,
}

impl AgentBuilder {
    pub(super) fn new(model: Arc<dyn ChatModel>) -> Self {
        Self {
            model,
            name: "agent".into(),
            instructions: None,
            variables: None,
            request: ChatRequest::default(),
            tools: Vec::new(),
            policy: Arc::new(AskBeforeEffects),
            output: None,
            check: None,
            output_retries: None,
            context: None,
            context_policies: Vec::new(),
            hooks: Vec::new(),
            tool_cache: None,
            approvals: None,
            injected: Vec::new(),
            options: RunOptions::default(),
            faults: Vec::new(),
        }
    }

    /// A name for lists of runs, and for the model's messages; `agent` otherwise.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the model is told before every conversation, as it is: braces mean nothing.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(Instructions::Plain(instructions.into().into()));
        self
    }

    /// What the model is told before every conversation, made anew for each run from a template in the syntax of Jinja,
    /// such as `You help {{ name }}.` A name that is not given is an error before any call. A template reads no files,
    /// works a bounded time, and makes at most 256 KiB.
    pub fn template(mut self, template: impl Into<String>) -> Self {
        match Template::new(template.into()) {
            Ok(template) => self.instructions = Some(Instructions::Template(template)),
            Err(error) => self.faults.push(error.to_string()),
        }
        self
    }

    /// Fills the template: a map or a struct, whose keys are the names in it. Those of a run go before them.
    pub fn variables(mut self, variables: impl Serialize) -> Self {
        match variables_of(variables) {
            Ok(variables) => self.variables = Some(variables),
            Err(error) => self.faults.push(error.to_string()),
        }
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

    /// Fills an argument of a tool in, which the model then does not see: a user's id, a handle. What the model gives under
    /// that name is left out. A tool or argument that is not there is told by [`AgentBuilder::build`].
    pub fn inject(
        mut self,
        tool: impl Into<String>,
        argument: impl Into<String>,
        value: impl Fn(&AgentState, &RunContext) -> Value + Send + Sync + 'static,
    ) -> Self {
        self.injected
            .push((tool.into(), argument.into(), Box::new(value)));
        self
    }

    /// Keeps the results of tools there that say how long theirs may be kept.
    pub fn tool_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.tool_cache = Some(cache);
        self
    }

    /// A call that nobody approves within this time does not run, once the run is resumed; the model is told.
    pub fn approvals_expire_in(mut self, time: Duration) -> Self {
        self.approvals = Some(time);
        self
    }

    /// Options of every model call: temperature, length, reasoning, tool choice, a vendor's own. Its messages and tools are
    /// left out. A tool choice that forces a call does so until a tool has answered, once per question.
    pub fn request(mut self, request: ChatRequest) -> Self {
        self.request = request;
        self
    }

    /// Asks for an answer of this type; [`crate::RunResult::output`] gives it. A faulty answer is answered with what is
    /// wrong, and the model asked again; both stay in the conversation, the complaint as a turn of the user whose words
    /// have [`stepwell_core::Origin::System`]. Tools may be called before it.
    pub fn output<T: DeserializeOwned + JsonSchema>(mut self) -> Self {
        self.output = Some(OutputShape::of::<T>());
        self
    }

    /// Asks for an answer of this schema; [`crate::RunResult::value`] is it.
    pub fn output_schema(mut self, schema: Schema) -> Self {
        self.output = Some(OutputShape::schema(schema));
        self
    }

    /// Also asks this about an answer that keeps to the schema. What it complains of is told to the model.
    pub fn validate(
        mut self,
        check: impl Fn(&Value) -> std::result::Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// How often the model is asked again after a faulty answer; 2.
    pub fn output_retries(mut self, retries: u32) -> Self {
        self.output_retries = Some(retries);
        self
    }

    /// Searches for what the person last said, and puts what is found before it: the model reads it as a document's
    /// words, each passage after its label, and is told to cite by labels. [`crate::RunResult::hits`] has it whole.
    pub fn context(mut self, retriever: Arc<dyn Retriever>, options: ContextOptions) -> Self {
        self.context = Some(PassagesNode { retriever, options });
        self
    }

    /// Shapes what of a long conversation is sent; several do so one after the other. The state keeps everything. What
    /// was left out is told by an event named `context`.
    pub fn context_policy(mut self, policy: impl ContextPolicy + 'static) -> Self {
        self.context_policies.push(Arc::new(policy));
        self
    }

    /// The host's own code around calls of the model and the tools; several may be given.
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.hooks.push(Arc::new(hooks));
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

    /// Saves only when a run ends, pauses or fails: see [`crate::Run::at_exit`].
    pub fn at_exit(mut self) -> Self {
        self.options.saving = Saving::AtExit;
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
    /// [`Error::InvalidInput`] with every fault: names no vendor takes, two tools of one name, tools for a model that has
    /// none, a template that cannot be read, a check without a shape.
    pub fn build(self) -> Result<Agent> {
        let mut faults = self.faults;
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
        if self.variables.is_some() && !matches!(self.instructions, Some(Instructions::Template(_))) {
            faults.push("there are variables and no template: pass it with `.template(..)`".to_owned());
        }
        if self.output.is_none() && (self.check.is_some() || self.output_retries.is_some()) {
            faults.push(
                "there is a check of the answer and no shape for it: pass one with `.output::<T>()`"
                    .to_owned(),
            );
        }
        if !faults.is_empty() {
            return Err(Error::invalid("agent", faults.join("; ")));
        }
        let mut tools = ToolsNode::new(tools, self.policy).hooks(self.hooks.iter().cloned());
        if let Some(time) = self.approvals {
            tools = tools.approvals_expire_in(time);
        }
        if let Some(cache) = self.tool_cache {
            tools = tools.cache(cache);
        }
        for (tool, argument, value) in self.injected {
            tools = tools.inject::<AgentState>(&tool, argument, move |state, cx| value(state, cx))?;
        }
        let mut request = self.request;
        request.messages.clear();
        request.tools = tools.specs();
        let outlook = Outlook {
            info: info.clone(),
            request: request.clone(),
            instructions: match &self.instructions {
                Some(Instructions::Plain(told)) => Some(told.to_string()),
                _ => None,
            },
            has_context: self.context.is_some(),
        };
        let mut model = ModelNode::new(self.model)
            .request(request)
            .tools_at(TOOLS)
            .name(&self.name)
            .context_policies(self.context_policies)
            .hooks(self.hooks.iter().cloned());
        let mut template = None;
        match self.instructions {
            Some(Instructions::Plain(told)) => model = model.instructions(told),
            Some(Instructions::Template(found)) => template = Some(found),
            None => {}
        }
        let mut exits = vec![TOOLS, END];
        let has_shape = self.output.is_some();
        if let Some(mut shape) = self.output {
            if let Some(check) = self.check {
                shape = shape.validate(check);
            }
            if let Some(retries) = self.output_retries {
                shape = shape.retries(retries);
            }
            model = model.output(shape);
            exits.push(MODEL);
        }
        let mut graph = GraphBuilder::new(AgentState::default()).name(self.name.as_str());
        graph = match self.context {
            Some(context) => graph
                .node(PASSAGES, context)
                .edge(START, PASSAGES)
                .edge(PASSAGES, MODEL),
            None => graph.edge(START, MODEL),
        };
        let graph = graph
            .node(MODEL, model)
            .node(TOOLS, tools)
            .goto(MODEL, exits)
            .edge(TOOLS, MODEL)
            .build()?;
        Ok(Agent {
            graph,
            options: self.options,
            template,
            variables: Arc::new(self.variables.unwrap_or_default()),
            has_shape,
            outlook: Arc::new(outlook),
            holds_answers: has_shape || !self.hooks.is_empty(),
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
