//! [`NativeAgent`]: a model and its tools; `run` and `stream`.

use crate::{
    chat::{Model, request},
    convert::{messages, parse, to_json, to_json_flat},
    error::to_napi,
    rag::{ScopeGiven, SearchTool, citations_json, hits_json},
    runtime::{Cancel, promise},
    stream::NativeStream,
    tool::{Answer, Caller, ToolFace},
};
use futures::StreamExt;
use napi::{
    Env,
    bindgen_prelude::{Function, PromiseRaw},
};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stepwell::{
    AllowAll, AskBeforeEffects, BudgetLimits, ChatModel, DynTool, Error, Limits, Message, Policy, Result,
    agent::{Agent, AgentRun, EventKind, RunResult},
};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyGiven {
    AllowAll,
    AskBeforeEffects,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LimitsGiven {
    steps: Option<u32>,
    tool_calls: Option<usize>,
    tool_output_bytes: Option<usize>,
    tool_timeout_ms: Option<f64>,
    answer_bytes: Option<usize>,
    tool_retries: Option<u32>,
}

impl LimitsGiven {
    fn limits(self) -> Result<Limits> {
        let mut limits = Limits::default();
        limits.steps = self.steps.unwrap_or(limits.steps);
        limits.tool_calls = self.tool_calls.unwrap_or(limits.tool_calls);
        limits.tool_output_bytes = self.tool_output_bytes.unwrap_or(limits.tool_output_bytes);
        limits.answer_bytes = self.answer_bytes.unwrap_or(limits.answer_bytes);
        limits.tool_retries = self.tool_retries.unwrap_or(limits.tool_retries);
        if let Some(milliseconds) = self.tool_timeout_ms {
            limits.tool_timeout = Duration::try_from_secs_f64(milliseconds / 1e3)
                .map_err(|_| Error::invalid("toolTimeoutMs", "give milliseconds, 0 or more"))?;
        }
        Ok(limits)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct BudgetGiven {
    micro_usd: Option<u64>,
    tokens: Option<u64>,
    calls: Option<u64>,
    time_ms: Option<u64>,
}

impl BudgetGiven {
    pub(crate) fn limits(&self) -> BudgetLimits {
        let mut limits = BudgetLimits::default();
        limits.micro_usd = self.micro_usd;
        limits.tokens = self.tokens;
        limits.calls = self.calls;
        limits.time_ms = self.time_ms;
        limits
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AgentGiven {
    name: Option<String>,
    instructions: Option<String>,
    request: Option<Value>,
    policy: Option<PolicyGiven>,
    limits: Option<LimitsGiven>,
    budget: Option<BudgetGiven>,
    scope: Option<ScopeGiven>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RunGiven {
    run_id: Option<String>,
    scope: Option<ScopeGiven>,
}

/// A tool of the agent: one that calls into JavaScript is bound to each run anew.
enum Face {
    Js(Arc<ToolFace>),
    Engine(Arc<dyn DynTool>),
}

/// A model and its tools, in a loop until the model answers.
#[napi]
pub struct NativeAgent {
    model: Arc<dyn ChatModel>,
    name: Option<String>,
    instructions: Option<String>,
    request: stepwell::ChatRequest,
    policy: Arc<dyn Policy>,
    limits: Limits,
    budget: BudgetLimits,
    scope: Option<stepwell::Scope>,
    tools: Mutex<Vec<Face>>,
}

impl NativeAgent {
    fn of(model: &Model, options: &str) -> Result<Self> {
        let given: AgentGiven = parse("options", options)?;
        let request = match given.request {
            None => stepwell::ChatRequest::default(),
            Some(Value::Object(mut members)) => {
                // Its messages and tools are the run's and the agent's.
                if members.contains_key("messages") || members.contains_key("tools") {
                    return Err(Error::invalid(
                        "request",
                        "messages go to `run`, tools to the agent",
                    ));
                }
                members.insert("messages".into(), json!([]));
                request(&Value::Object(members).to_string())?
            }
            Some(_) => return Err(Error::invalid("request", "pass an object of options")),
        };
        Ok(Self {
            model: model.inner(),
            name: given.name,
            instructions: given.instructions,
            request,
            policy: match given.policy {
                Some(PolicyGiven::AllowAll) => Arc::new(AllowAll),
                Some(PolicyGiven::AskBeforeEffects) | None => Arc::new(AskBeforeEffects),
            },
            limits: given.limits.unwrap_or_default().limits()?,
            budget: given.budget.unwrap_or_default().limits(),
            scope: given.scope.map(ScopeGiven::scope).transpose()?,
            tools: Mutex::default(),
        })
    }

    fn add(&self, face: Face) {
        self.tools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(face);
    }

    fn agent(&self, caller: Option<&Caller>) -> Result<Agent> {
        let mut builder = Agent::new(self.model())
            .request(self.request.clone())
            .shared_policy(Arc::clone(&self.policy))
            .limits(self.limits.clone())
            .budget(self.budget.clone());
        if let Some(name) = &self.name {
            builder = builder.name(name);
        }
        if let Some(instructions) = &self.instructions {
            builder = builder.instructions(instructions);
        }
        if let Some(scope) = &self.scope {
            builder = builder.scope(scope.clone());
        }
        let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        builder
            .tools(tools.iter().map(|face| match face {
                Face::Js(face) => Arc::clone(face).bind(caller),
                Face::Engine(tool) => Arc::clone(tool),
            }))
            .build()
    }

    fn model(&self) -> Arc<dyn ChatModel> {
        Arc::clone(&self.model)
    }

    fn begin(
        &self,
        input: &str,
        options: &str,
        dispatch: &Function<'_, String, Answer>,
    ) -> napi::Result<AgentRun> {
        let caller = Caller::new(dispatch)?;
        self.run_of(input, options, &caller).map_err(to_napi)
    }

    fn run_of(&self, input: &str, options: &str, caller: &Caller) -> Result<AgentRun> {
        let options: RunGiven = parse("options", options)?;
        let input: Vec<Message> = messages("input", parse("input", input)?)?;
        let mut run = self.agent(Some(caller))?.run(input);
        if let Some(run_id) = options.run_id {
            run = run.run_id(run_id);
        }
        if let Some(scope) = options.scope {
            run = run.scope(scope.scope()?);
        }
        Ok(run)
    }
}

#[napi]
impl NativeAgent {
    /// An agent without tools yet.
    #[napi(constructor)]
    pub fn new(model: &Model, options: String) -> napi::Result<Self> {
        Self::of(model, &options).map_err(to_napi)
    }

    /// Gives it a tool that is a JavaScript function.
    #[napi]
    pub fn add_tool(&self, tool: String) -> napi::Result<()> {
        let face = ToolFace::read(&tool).map_err(to_napi)?;
        self.add(Face::Js(Arc::new(face)));
        Ok(())
    }

    /// Gives it a search.
    #[napi]
    pub fn add_search(&self, tool: &SearchTool) {
        self.add(Face::Engine(tool.inner()));
    }

    /// Checks everything, so that faults are told where the agent is made.
    #[napi]
    pub fn check(&self) -> napi::Result<()> {
        self.agent(None).map(drop).map_err(to_napi)
    }

    /// Runs it; the result as JSON. A pulled switch stops the run in good order.
    #[napi(
        ts_args_type = "input: string, options: string, dispatch: (message: string) => string | Promise<string>, cancel: Cancel",
        ts_return_type = "Promise<string>"
    )]
    pub fn run<'env>(
        &self,
        env: &'env Env,
        input: String,
        options: String,
        dispatch: Function<'_, String, Answer>,
        cancel: &Cancel,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let run = self
            .begin(&input, &options, &dispatch)?
            .cancel(Cancel::of(Some(cancel)));
        promise(
            env,
            stepwell::Cancel::new(),
            async move { result_json(&run.await?) },
        )
    }

    /// Runs it and gives what happens. The outcome is the result.
    #[napi(
        ts_args_type = "input: string, options: string, dispatch: (message: string) => string | Promise<string>"
    )]
    pub fn stream(
        &self,
        input: String,
        options: String,
        dispatch: Function<'_, String, Answer>,
    ) -> napi::Result<NativeStream> {
        let run = self.begin(&input, &options, &dispatch)?;
        Ok(NativeStream::open(move |feed| async move {
            let mut events = run.stream();
            while let Some(event) = events.next().await {
                let words = match &event.kind {
                    EventKind::Model {
                        event: stepwell::StreamEvent::TextDelta { text, .. },
                    } => Some(text.as_str()),
                    _ => None,
                };
                feed.push_written(to_json_flat(&event), words)?;
                feed.room().await;
            }
            let mut result = events
                .take_result()
                .ok_or_else(|| Error::internal("a run ended without a result"))?;
            match result.error.take() {
                Some(error) => Err(error),
                None => result_json(&result).map(Some),
            }
        }))
    }
}

fn result_json(result: &RunResult) -> Result<String> {
    Ok(format!(
        "{{\"runId\":{},\"status\":{},\"answer\":{},\"messages\":{},\"citations\":{},\"hits\":{},\"usage\":{},\"spent\":{},\"steps\":{}}}",
        json!(result.run_id),
        to_json(&result.status)?,
        json!(result.answer),
        to_json(&result.messages)?,
        citations_json(&result.citations)?,
        hits_json(&result.hits())?,
        to_json(&result.usage)?,
        to_json(&result.spent)?,
        result.steps,
    ))
}
