//! Effort and budget → `thinkingConfig`: a budget of tokens up to 2.5, a level from 3 on.

use super::{super::wire::ThinkingConfig, Encoder};
use stepwell_core::{ChatRequest, ReasoningEffort};

/// Least budget of a 2.5 model that cannot be switched off.
const LEAST_OF_PRO: u64 = 128;

impl Encoder<'_> {
    pub(super) fn thinking(&mut self, request: &ChatRequest) -> Option<ThinkingConfig> {
        let asked = &request.reasoning;
        if asked.effort.is_none() && asked.budget_tokens.is_none() && asked.show_summary.is_none() {
            return None;
        }
        if !self.is_at_least(2, 5) {
            let is_wanted = asked.effort.is_some_and(|effort| effort != ReasoningEffort::None)
                || asked.budget_tokens.is_some_and(|budget| budget > 0)
                || asked.show_summary == Some(true);
            let _ = self.warnings.unless(true, "reasoning", is_wanted.then_some(()));
            return None;
        }
        let is_pro = self.info.model.contains("pro");
        let mut config = ThinkingConfig {
            include_thoughts: asked.show_summary,
            ..ThinkingConfig::default()
        };
        if self.is_at_least(3, 0) {
            // A budget alone is still taken; beside a level it is refused.
            match asked.effort {
                Some(effort) => config.thinking_level = Some(self.level(effort, is_pro)),
                None => config.thinking_budget = asked.budget_tokens,
            }
        } else {
            config.thinking_budget = asked
                .budget_tokens
                .or_else(|| asked.effort.map(|effort| self.budget(effort, is_pro)));
        }
        Some(config)
    }

    fn level(&mut self, effort: ReasoningEffort, is_pro: bool) -> &'static str {
        if effort == ReasoningEffort::None {
            let _ = self.warnings.unless(
                true,
                "reasoning.effort none (it thinks as little as it can)",
                Some(()),
            );
        }
        match effort {
            ReasoningEffort::None | ReasoningEffort::Minimal if !is_pro => "minimal",
            ReasoningEffort::None | ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
            // The first of them knew two levels.
            ReasoningEffort::Medium if !(is_pro && self.generation == Some((3, 0))) => "medium",
            _ => "high",
        }
    }

    fn budget(&mut self, effort: ReasoningEffort, is_pro: bool) -> u64 {
        match effort {
            ReasoningEffort::None if is_pro => {
                let _ = self.warnings.unless(
                    true,
                    "reasoning.effort none (it thinks as little as it can)",
                    Some(()),
                );
                LEAST_OF_PRO
            }
            ReasoningEffort::None => 0,
            ReasoningEffort::Minimal => 512,
            // As the vendor's own OpenAI-compatible endpoint reads the words.
            ReasoningEffort::Low => 1_024,
            ReasoningEffort::Medium => 8_192,
            ReasoningEffort::Max if is_pro => 32_768,
            _ => 24_576,
        }
    }
}
