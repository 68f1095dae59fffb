//! What a Python caller may say of an agent.

use crate::{rag::scope_of, tool::seconds};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use stepwell::{
    AllowAll, AskBeforeEffects, BudgetLimits, ChatModel, Error, Filter, Limits, Policy, Result, Schema,
    SearchMode,
    agent::{AgentBuilder, ContextOptions, DropToolOutputs, Summarise, Trim},
};

/// What a Python caller may say of an agent.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    name: Option<String>,
    instructions: Option<String>,
    template: Option<String>,
    variables: Option<Map<String, Value>>,
    /// JSON Schema of the answer.
    output: Option<Value>,
    output_retries: Option<u32>,
    context: ContextSettings,
    context_policies: Vec<PolicySettings>,
    policy: Option<PolicyName>,
    limits: LimitSettings,
    budget: BudgetSettings,
    tenant: Option<String>,
    actor: Option<String>,
    is_synced: bool,
}

impl Settings {
    /// What they say of an agent; `models` are those of policies that ask one.
    pub(crate) fn apply(
        &self,
        mut builder: AgentBuilder,
        models: &[Arc<dyn ChatModel>],
    ) -> Result<AgentBuilder> {
        let policy: Arc<dyn Policy> = match self.policy.unwrap_or(PolicyName::AskBeforeEffects) {
            PolicyName::AllowAll => Arc::new(AllowAll),
            PolicyName::AskBeforeEffects => Arc::new(AskBeforeEffects),
        };
        builder = builder
            .shared_policy(policy)
            .limits(self.limits.read()?)
            .budget(self.budget.read())
            .scope(scope_of(self.tenant.clone(), self.actor.clone())?);
        if let Some(name) = &self.name {
            builder = builder.name(name);
        }
        if self.instructions.is_some() && self.template.is_some() {
            return Err(Error::invalid(
                "template",
                "the instructions are said already: pass one of the two",
            ));
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
            builder = builder.output_schema(Schema::from_value(schema.clone())?);
        }
        if let Some(retries) = self.output_retries {
            builder = builder.output_retries(retries);
        }
        for policy in &self.context_policies {
            builder = policy.put_on(builder, models)?;
        }
        if self.is_synced {
            builder = builder.sync();
        }
        Ok(builder)
    }

    /// How an agent searches before its model is asked.
    pub(crate) fn context(&self) -> ContextOptions {
        let given = &self.context;
        let mut options = ContextOptions::default();
        options.top_k = given.top_k.unwrap_or(options.top_k);
        options.max_bytes = given.max_bytes.unwrap_or(options.max_bytes);
        options.mode = given.mode.unwrap_or(options.mode);
        options.filter.clone_from(&given.filter);
        options.min_score = given.min_score;
        options
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ContextSettings {
    top_k: Option<usize>,
    max_bytes: Option<usize>,
    filter: Option<Filter>,
    mode: Option<SearchMode>,
    min_score: Option<f32>,
}

/// A context policy of the engine.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum PolicySettings {
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

impl PolicySettings {
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

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyName {
    AllowAll,
    AskBeforeEffects,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitSettings {
    steps: Option<u32>,
    tool_calls: Option<usize>,
    tool_output_bytes: Option<usize>,
    tool_timeout: Option<f64>,
    answer_bytes: Option<usize>,
    tool_retries: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetSettings {
    micro_usd: Option<u64>,
    tokens: Option<u64>,
    calls: Option<u64>,
    time_ms: Option<u64>,
}

impl LimitSettings {
    fn read(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        limits.steps = self.steps.unwrap_or(limits.steps);
        limits.tool_calls = self.tool_calls.unwrap_or(limits.tool_calls);
        limits.tool_output_bytes = self.tool_output_bytes.unwrap_or(limits.tool_output_bytes);
        limits.answer_bytes = self.answer_bytes.unwrap_or(limits.answer_bytes);
        limits.tool_retries = self.tool_retries.unwrap_or(limits.tool_retries);
        if let Some(timeout) = self.tool_timeout {
            limits.tool_timeout = seconds("tool_timeout", timeout)?;
        }
        Ok(limits)
    }
}

impl BudgetSettings {
    pub(crate) fn read(&self) -> BudgetLimits {
        let mut limits = BudgetLimits::default();
        limits.micro_usd = self.micro_usd;
        limits.tokens = self.tokens;
        limits.calls = self.calls;
        limits.time_ms = self.time_ms;
        limits
    }
}
