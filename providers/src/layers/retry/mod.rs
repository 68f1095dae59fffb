//! [`Retry`]: asks again when a call fails before its first word.

mod plan;
#[cfg(all(test, feature = "http"))]
mod table;
#[cfg(test)]
mod tests;

use super::{
    around::Around,
    clock::{Clock, Dice, system_clock},
    held::hold,
};
use crate::seconds::{seconds, some_seconds};
use async_trait::async_trait;
use plan::{Plan, Verdict};
use serde::Deserialize;
use std::{fmt, sync::Arc, time::Duration};
use stepwell_core::{Attempt, ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Usage, Warning};

/// Gives another model for the next try, or none: the same model with another key, say.
pub type Replace = Arc<dyn Fn(&Error) -> Option<Arc<dyn ChatModel>> + Send + Sync>;

/// How often and when to ask again.
///
/// ```
/// use std::time::Duration;
/// use stepwell_providers::layers::RetryOptions;
/// let patient = RetryOptions::default().max_retries(5).deadline(Some(Duration::from_secs(120)));
/// ```
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryOptions {
    /// Most tries after the first: 2.
    pub max_retries: u32,
    /// Most tries after the model wrote a tool call that its vendor could not read, counted apart: 2.
    pub max_malformed_retries: u32,
    /// Our delay before the first retry, doubled before each further one: 0.5 s.
    #[serde(deserialize_with = "seconds")]
    pub first_delay: Duration,
    /// Our longest delay: 8 s.
    #[serde(deserialize_with = "seconds")]
    pub max_delay: Duration,
    /// The longest delay a vendor may ask for; where it asks for more, ours is taken: 120 s.
    #[serde(deserialize_with = "seconds")]
    pub max_server_delay: Duration,
    /// No try begins later than this after the call's begin, its wait counted in: 5 min. A try that runs is not cut
    /// short; [`super::TimeoutOptions::total`] does that.
    #[serde(deserialize_with = "some_seconds")]
    pub deadline: Option<Duration>,
    /// Repeats the chances of the jitter; different in every process without.
    pub seed: Option<u64>,
    /// Asked when a key is refused or limited: another model is asked at once, within `max_retries`; none.
    #[serde(skip)]
    pub replace: Option<Replace>,
    /// Where the time comes from: this machine.
    #[serde(skip)]
    pub clock: Arc<dyn Clock>,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            max_retries: 2,
            max_malformed_retries: 2,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(8),
            max_server_delay: Duration::from_mins(2),
            deadline: Some(Duration::from_mins(5)),
            seed: None,
            replace: None,
            clock: system_clock(),
        }
    }
}

impl fmt::Debug for RetryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryOptions")
            .field("max_retries", &self.max_retries)
            .field("max_malformed_retries", &self.max_malformed_retries)
            .field("first_delay", &self.first_delay)
            .field("max_delay", &self.max_delay)
            .field("max_server_delay", &self.max_server_delay)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl RetryOptions {
    /// Sets the most tries after the first.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets the most tries after a tool call that could not be read.
    pub fn max_malformed_retries(mut self, retries: u32) -> Self {
        self.max_malformed_retries = retries;
        self
    }

    /// Sets our delay before the first retry.
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// Sets our longest delay.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets the longest delay a vendor may ask for.
    pub fn max_server_delay(mut self, delay: Duration) -> Self {
        self.max_server_delay = delay;
        self
    }

    /// Sets when the last try may begin.
    pub fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes the jitter repeat itself.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets who gives another model when a key is refused or limited.
    pub fn replace(
        mut self,
        replace: impl Fn(&Error) -> Option<Arc<dyn ChatModel>> + Send + Sync + 'static,
    ) -> Self {
        self.replace = Some(Arc::new(replace));
        self
    }

    /// Sets where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// A model that is asked again. Inside another retry it lets failures pass: there is one loop in a stack.
#[derive(Debug)]
pub(super) struct Retry {
    inner: Arc<dyn ChatModel>,
    options: RetryOptions,
    dice: Dice,
}

impl Retry {
    pub(super) fn new(inner: Arc<dyn ChatModel>, options: RetryOptions) -> Self {
        Self {
            inner,
            dice: Dice::new(options.seed),
            options,
        }
    }

    /// What another key or model may mend.
    fn replacement(&self, error: &Error) -> Option<Arc<dyn ChatModel>> {
        let replace = self.options.replace.as_ref()?;
        matches!(error, Error::Unauthorized { .. } | Error::RateLimited(_))
            .then(|| replace(error))
            .flatten()
    }
}

/// One sentence on what had failed before an answer.
fn told(attempts: &[Attempt]) -> Option<Warning> {
    let last = attempts.last()?;
    let waited: u64 = attempts.iter().map(|attempt| attempt.waited_ms).sum();
    Some(Warning::new(
        "retried",
        format!(
            "{} of {} tries failed before this answer (the last with {}); {} ms were waited",
            attempts.len(),
            attempts.len() + 1,
            last.code,
            waited,
        ),
    ))
}

#[async_trait]
impl ChatModel for Retry {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let around = Around::now();
        if around.is_retrying {
            return self.inner.stream(request).await;
        }
        let inside = Around {
            is_retrying: true,
            ..around
        };
        let (options, clock) = (&self.options, &self.options.clock);
        let mut plan = Plan::new(clock.now());
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut model = Arc::clone(&self.inner);
        loop {
            let begun = async { hold(model.stream(request.clone()).await?).await };
            let mut error = match inside.call(begun).await {
                Ok(held) if held.is_malformed_call() => {
                    let (verdict, now) = (Verdict::Malformed, clock.now());
                    if plan
                        .next(verdict, None, options, now, around, &self.dice)
                        .is_none()
                    {
                        return Ok(held.with(attempts, Vec::new()));
                    }
                    let info = model.info();
                    tracing::debug!(model = %info.model, "a tool call could not be read; asking again");
                    attempts.push(held.as_attempt(info, "malformed_call"));
                    continue;
                }
                Ok(held) => {
                    let warning = told(&attempts);
                    return Ok(held.with(attempts, warning.into_iter().collect()));
                }
                Err(error) => error,
            };
            let replacement = self.replacement(&error);
            let verdict = if replacement.is_some() {
                Verdict::Now
            } else {
                Verdict::of(&error)
            };
            let attempt = Attempt::failed(model.info(), &error);
            let Some(wait) = plan.next(
                verdict,
                error.retry_after(),
                options,
                clock.now(),
                around,
                &self.dice,
            ) else {
                if let Some(failure) = error.vendor_failure_mut() {
                    failure.attempts.splice(0..0, attempts);
                }
                return Err(error);
            };
            tracing::debug!(
                model = %attempt.model,
                code = %attempt.code,
                wait_ms = wait.as_millis(),
                "a call failed before its first word; asking again"
            );
            attempts.push(attempt.waited(wait));
            model = replacement.unwrap_or(model);
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
        }
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}
