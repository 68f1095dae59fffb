//! What JavaScript may say of an agent.

use crate::{
    chat::request,
    rag::{ScopeGiven, filter},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use stepwell::{
    AllowAll, AskBeforeEffects, BudgetLimits, ChatModel, ChatRequest, Error, Limits, Policy, Result, Schema,
    Scope, SearchMode,
    agent::{AgentBuilder, ContextOptions, DropToolOutputs, Summarise, Trim},
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ContextGiven {
    top_k: Option<usize>,
    max_bytes: Option<usize>,
    filter: Option<Value>,
    mode: Option<SearchMode>,
    min_score: Option<f32>,
}

impl ContextGiven {
    fn options(self) -> Result<ContextOptions> {
        let mut options = ContextOptions::default();
        options.top_k = self.top_k.unwrap_or(options.top_k);
        options.max_bytes = self.max_bytes.unwrap_or(options.max_bytes);
        options.mode = self.mode.unwrap_or(options.mode);
        options.filter = self.filter.map(filter).transpose()?;
        options.min_score = self.min_score;
        Ok(options)
    }
}

/// A context policy of the engine.
#[derive(Deserialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
enum ContextPolicyGiven {
    Trim {
        to_tokens: u64,
        keep_turns: Option<usize>,
        #[serde(default)]
        keep_first: bool,
    },
    DropToolOutputs {
        keep_rounds: Option<usize>,
        min_bytes: Option<usize>,
    },
    Summarise {
        over_tokens: u64,
        /// Its place among the models.
        model: usize,
        keep_turns: Option<usize>,
        summary_tokens: Option<u64>,
    },
}

impl ContextPolicyGiven {
    fn put_on(&self, builder: AgentBuilder, models: &[Arc<dyn ChatModel>]) -> Result<AgentBuilder> {
        Ok(match *self {
            Self::Trim {
                to_tokens,
                keep_turns,
                keep_first,
            } => {
                let mut trim = Trim::to_tokens(to_tokens);
                if let Some(turns) = keep_turns {
                    trim = trim.keep_turns(turns);
                }
                if keep_first {
                    trim = trim.keep_first();
                }
                builder.context_policy(trim)
            }
            Self::DropToolOutputs {
                keep_rounds,
                min_bytes,
            } => {
                let mut drop = DropToolOutputs::default();
                if let Some(rounds) = keep_rounds {
                    drop = drop.keep_rounds(rounds);
                }
                if let Some(bytes) = min_bytes {
                    drop = drop.min_bytes(bytes);
                }
                builder.context_policy(drop)
            }
            Self::Summarise {
                over_tokens,
                model,
                keep_turns,
                summary_tokens,
            } => {
                let model = models
                    .get(model)
                    .ok_or_else(|| Error::internal("a policy names a model that was not passed"))?;
                let mut summarise = Summarise::over_tokens(over_tokens, Arc::clone(model));
                if let Some(turns) = keep_turns {
                    summarise = summarise.keep_turns(turns);
                }
                if let Some(tokens) = summary_tokens {
                    summarise = summarise.summary_tokens(tokens);
                }
                builder.context_policy(summarise)
            }
        })
    }
}

/// What JavaScript writes, as it comes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AgentGiven {
    name: Option<String>,
    instructions: Option<String>,
    template: Option<String>,
    variables: Option<Map<String, Value>>,
    output: Option<Value>,
    output_retries: Option<u32>,
    context_options: Option<ContextGiven>,
    #[serde(default)]
    context_policies: Vec<ContextPolicyGiven>,
    request: Option<Value>,
    policy: Option<PolicyGiven>,
    limits: Option<LimitsGiven>,
    budget: Option<BudgetGiven>,
    scope: Option<ScopeGiven>,
    #[serde(default)]
    is_synced: bool,
}

/// The same, read: what is the same for all runs of an agent.
pub(crate) struct Settings {
    name: Option<String>,
    instructions: Option<String>,
    template: Option<String>,
    variables: Option<Map<String, Value>>,
    output: Option<Schema>,
    output_retries: Option<u32>,
    pub(crate) context: ContextOptions,
    context_policies: Vec<ContextPolicyGiven>,
    request: ChatRequest,
    policy: Arc<dyn Policy>,
    limits: Limits,
    budget: BudgetLimits,
    scope: Option<Scope>,
    is_synced: bool,
}

impl AgentGiven {
    pub(crate) fn settings(self) -> Result<Settings> {
        let request = match self.request {
            None => ChatRequest::default(),
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
        if self.instructions.is_some() && self.template.is_some() {
            return Err(Error::invalid(
                "template",
                "the instructions are said already: pass one of the two",
            ));
        }
        Ok(Settings {
            name: self.name,
            instructions: self.instructions,
            template: self.template,
            variables: self.variables,
            output: self.output.map(Schema::from_value).transpose()?,
            output_retries: self.output_retries,
            context: self.context_options.unwrap_or_default().options()?,
            context_policies: self.context_policies,
            request,
            policy: match self.policy {
                Some(PolicyGiven::AllowAll) => Arc::new(AllowAll),
                Some(PolicyGiven::AskBeforeEffects) | None => Arc::new(AskBeforeEffects),
            },
            limits: self.limits.unwrap_or_default().limits()?,
            budget: self.budget.unwrap_or_default().limits(),
            scope: self.scope.map(ScopeGiven::scope).transpose()?,
            is_synced: self.is_synced,
        })
    }
}

impl Settings {
    /// What they say of an agent; `models` are those of policies that ask one.
    pub(crate) fn apply(
        &self,
        mut builder: AgentBuilder,
        models: &[Arc<dyn ChatModel>],
    ) -> Result<AgentBuilder> {
        builder = builder
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
        if let Some(template) = &self.template {
            builder = builder.template(template);
        }
        if let Some(variables) = &self.variables {
            builder = builder.variables(variables);
        }
        if let Some(schema) = &self.output {
            builder = builder.output_schema(schema.clone());
        }
        if let Some(retries) = self.output_retries {
            builder = builder.output_retries(retries);
        }
        for policy in &self.context_policies {
            builder = policy.put_on(builder, models)?;
        }
        if let Some(scope) = &self.scope {
            builder = builder.scope(scope.clone());
        }
        if self.is_synced {
            builder = builder.sync();
        }
        Ok(builder)
    }
}
