//! [`Fallback`]: another model answers when the first cannot.

mod carry_on;
#[cfg(test)]
mod tests;
mod verdict;

use super::{
    around::Around,
    held::{Held, hold},
};
use crate::seconds::seconds;
use async_trait::async_trait;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use stepwell_core::{
    Attempt, ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, StreamEvent, Usage, Warning,
};
use verdict::Verdict;

/// What the next model is told when it takes up a text that broke off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Continuation {
    /// The text so far as the model's own turn, and a turn of the user that asks to go on. Any model can.
    #[default]
    Ask,
    /// The text so far as the model's own turn, which it goes on with: only for models that take such a prefill.
    Prefill,
}

/// Why the next model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FallbackReason {
    /// The account has no quota left.
    Quota,
    /// Too many requests.
    RateLimit,
    /// The vendor failed, stalled, broke off, could not be reached, or its circuit is open.
    Failure,
    /// The answer cannot be read, or has another shape than was asked for and no word of it was handed out.
    InvalidResponse,
    /// The request is longer than the model's window; models with a window known to be as small are passed over.
    ContextWindow,
    /// The model or its vendor would not answer, and said nothing.
    Refusal,
    /// The key is refused or the model is not there.
    Misconfiguration,
}

/// When the next model is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FallbackOptions {
    /// All but [`FallbackReason::Refusal`], which is an answer, and [`FallbackReason::Misconfiguration`], which wants
    /// mending.
    pub reasons: Vec<FallbackReason>,
    /// A wait longer than this goes to the next model instead, while there is one: 5 s.
    #[serde(deserialize_with = "seconds")]
    pub patience: Duration,
    /// Goes on with another model also when a text breaks off after its first words: no. The new part begins behind
    /// a [`StreamEvent::Fallback`]; an answer that had begun to call a tool, or has to be JSON, is never continued.
    pub after_output: Option<Continuation>,
}

impl Default for FallbackOptions {
    fn default() -> Self {
        use FallbackReason::{ContextWindow, Failure, InvalidResponse, Quota, RateLimit};
        Self {
            reasons: vec![Quota, RateLimit, Failure, InvalidResponse, ContextWindow],
            patience: Duration::from_secs(5),
            after_output: None,
        }
    }
}

impl FallbackOptions {
    /// Asks the next model for this reason too.
    pub fn also(mut self, reason: FallbackReason) -> Self {
        self.reasons.push(reason);
        self
    }

    /// Does not ask the next model for this reason.
    pub fn never(mut self, reason: FallbackReason) -> Self {
        self.reasons.retain(|own| *own != reason);
        self
    }

    /// Sets the longest wait while another model is left.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Goes on with another model also after the first words.
    pub fn after_output(mut self, continuation: Continuation) -> Self {
        self.after_output = Some(continuation);
        self
    }

    fn has(&self, reason: FallbackReason) -> bool {
        self.reasons.contains(&reason)
    }
}

/// Models in the order they are asked.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    /// Never empty.
    models: Arc<[Arc<dyn ChatModel>]>,
    options: FallbackOptions,
}

/// An answer that has begun, and who gives it.
struct Begun {
    /// The model's place in the list.
    at: usize,
    held: Held,
    attempts: Vec<Attempt>,
}

impl Fallback {
    pub(super) fn new(
        first: Arc<dyn ChatModel>,
        others: impl IntoIterator<Item = Arc<dyn ChatModel>>,
        options: FallbackOptions,
    ) -> Self {
        Self {
            models: std::iter::once(first).chain(others).collect(),
            options,
        }
    }

    /// The first model from this place on that begins to answer.
    async fn begin(
        &self,
        from: usize,
        request: &ChatRequest,
        mut attempts: Vec<Attempt>,
        mut too_small: Option<u64>,
    ) -> Result<Begun> {
        let around = Around::now();
        let mut last = None;
        for (at, model) in self.models.iter().enumerate().skip(from) {
            let info = model.info();
            // A window known to be no larger than the one that was too small would fail for nothing.
            if too_small.is_some_and(|window| info.context_window.is_some_and(|own| own <= window)) {
                continue;
            }
            let is_last = at + 1 == self.models.len();
            let inside = if is_last {
                around
            } else {
                let patience = around
                    .patience
                    .map_or(self.options.patience, |outer| outer.min(self.options.patience));
                Around {
                    patience: Some(patience),
                    ..around
                }
            };
            let begun = async { hold(model.stream(request.clone()).await?).await };
            let mut error = match inside.call(begun).await {
                Ok(held) if !is_last && self.options.has(FallbackReason::Refusal) && held.is_refused() => {
                    attempts.push(held.as_attempt(info, "refused"));
                    continue;
                }
                Ok(held) => return Ok(Begun { at, held, attempts }),
                Err(error) => error,
            };
            let verdict = Verdict::of(&error, &self.options);
            if verdict == Verdict::Stay || is_last {
                attach(&mut error, attempts);
                return Err(error);
            }
            if verdict == Verdict::LargerWindow {
                too_small = info.context_window.or(too_small);
            }
            let attempt = Attempt::failed(info, &error);
            // The tries of a retry layer inside come first.
            if let Some(failure) = error.vendor_failure_mut() {
                attempts.append(&mut failure.attempts);
            }
            tracing::debug!(model = %info.name(), code = error.code(), "a model cannot answer; asking the next");
            attempts.push(attempt);
            last = Some(error);
        }
        let mut error = last.unwrap_or_else(|| Error::internal("no model was left to ask"));
        // Its own try is told by the error itself.
        attempts.pop();
        attach(&mut error, attempts);
        Err(error)
    }
}

fn attach(error: &mut Error, attempts: Vec<Attempt>) {
    if let Some(failure) = error.vendor_failure_mut() {
        failure.attempts.splice(0..0, attempts);
    }
}

impl Begun {
    /// Its events, with the change of model told first.
    fn into_stream(mut self, models: &[Arc<dyn ChatModel>], begins: bool) -> ChatStream {
        let mut warnings = Vec::new();
        if self.at > 0 || !begins {
            let info = models[self.at].info();
            let code = if begins { "fallback" } else { "continued" };
            let word = if begins { "answers" } else { "goes on" };
            let why = self.attempts.last().map_or("refused", |attempt| &attempt.code);
            warnings.push(Warning::new(
                code,
                format!(
                    "{} {word} in place of {} ({why})",
                    info.name(),
                    models[0].info().name()
                ),
            ));
            self.held.events.insert(
                0,
                StreamEvent::Fallback {
                    provider: info.provider.clone(),
                    model: info.model.clone(),
                },
            );
        }
        self.held.with(self.attempts, warnings)
    }
}

#[async_trait]
impl ChatModel for Fallback {
    /// Of the first model.
    fn info(&self) -> &ModelInfo {
        self.models[0].info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let begun = self.begin(0, &request, Vec::new(), None).await?;
        let at = begun.at;
        let stream = begun.into_stream(&self.models, true);
        if self.options.after_output.is_none() || at + 1 == self.models.len() {
            return Ok(stream);
        }
        Ok(carry_on::stream(self.clone(), at, request, stream))
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.models[0].count_tokens(request).await
    }
}
