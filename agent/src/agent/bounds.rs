//! [`Bounds`]: what a run may take at most, told before its first call.

use super::{Agent, AgentInput};
use serde::{Deserialize, Serialize};
use stepwell_core::{Budget, BudgetLimits, ChatRequest, Message, ModelInfo, Result, Spend, Usage};

/// What a run may take at most, told without a call: see [`Agent::dry_run`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bounds {
    /// The first call of the model: its prompt as it is now, estimated, and the longest answer.
    pub first_call: Spend,
    /// Calls of the model at most, by the limit of steps and the budget.
    pub model_calls: u64,
    /// Calls of tools at most, by the limits of steps and of calls in one answer, and the budget.
    pub tool_calls: u64,
    /// All calls of the model together: tokens and money, by the model's window and price and by the budget, whichever is
    /// less. `None` where nothing bounds it, or the price is not known. What agents used as tools take is not in it,
    /// unless the budget bounds it.
    pub most: BudgetLimits,
}

/// What the bounds are made of.
#[derive(Clone, Debug)]
pub(super) struct Outlook {
    pub(super) info: ModelInfo,
    /// Options and tools of every call.
    pub(super) request: ChatRequest,
    pub(super) instructions: Option<String>,
    pub(super) has_context: bool,
}

impl Agent {
    /// What a run on this input may take at most, without asking the model: for a program that wants to know before it
    /// begins. The prompt is estimated, not counted by the vendor; passages that would be searched are not in it.
    ///
    /// ```
    /// # use stepwell_agent::Agent;
    /// # fn show(agent: &Agent) -> stepwell_core::Result<()> {
    /// let bounds = agent.dry_run("What is a ledger?")?;
    /// println!("at most {} calls, {:?} tokens", bounds.model_calls, bounds.most.tokens);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Agent::begin`].
    pub fn dry_run(&self, input: impl Into<AgentInput>) -> Result<Bounds> {
        let state = self.begin(input, None)?;
        let Outlook {
            info,
            request,
            instructions,
            has_context,
        } = &*self.outlook;
        let mut request = request.clone();
        let told = state.instructions.or_else(|| instructions.clone());
        request.messages = told.map(Message::system).into_iter().collect();
        request.messages.extend(state.messages.iter().cloned());
        let output = request
            .max_output_tokens
            .or(info.max_output_tokens)
            .unwrap_or(Budget::ANSWER_TOKENS);
        let input = request.estimated_tokens();
        let mut first_call = Spend::call(input.saturating_add(output));
        first_call.micro_usd = cost(info, input, output).unwrap_or(0);

        let limits = &self.options.limits;
        let budget = &self.options.budget_limits;
        let steps = u64::from(limits.steps).saturating_sub(u64::from(*has_context));
        let has_tools = !request.tools.is_empty();
        // With tools every other step is a call of the model, unless an answer is asked for again.
        let mut model_calls = match (has_tools, self.has_shape) {
            (true, false) => steps.div_ceil(2),
            (_, true) => steps,
            (false, false) => steps.min(1),
        };
        model_calls = budget.calls.map_or(model_calls, |calls| model_calls.min(calls));
        let mut tool_calls = if has_tools {
            model_calls.saturating_mul(limits.tool_calls as u64)
        } else {
            0
        };
        tool_calls = budget.calls.map_or(tool_calls, |calls| tool_calls.min(calls));
        // A later prompt may be as long as the window lets it.
        let longest = info
            .context_window
            .map(|window| window.saturating_sub(output).max(input));
        let longest = if model_calls <= 1 { Some(input) } else { longest };
        let tokens = longest.map(|longest| longest.saturating_add(output).saturating_mul(model_calls));
        let micro_usd = longest
            .and_then(|longest| cost(info, longest, output))
            .map(|cost| cost.saturating_mul(model_calls));
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        let mut most = BudgetLimits::default();
        most.tokens = least(tokens, budget.tokens);
        most.micro_usd = least(micro_usd, budget.micro_usd);
        most.calls = Some(
            budget
                .calls
                .unwrap_or_else(|| model_calls.saturating_add(tool_calls)),
        );
        most.time_ms = budget.time_ms;
        Ok(Bounds {
            first_call,
            model_calls,
            tool_calls,
            most,
        })
    }
}

/// Millionths of a dollar; `None` where the price is not known.
fn cost(info: &ModelInfo, input: u64, output: u64) -> Option<u64> {
    let mut usage = Usage::default();
    (usage.input_tokens, usage.output_tokens) = (Some(input), Some(output));
    Some(info.price.as_ref()?.cost(&usage)?.micro_usd)
}
