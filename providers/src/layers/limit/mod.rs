//! [`RateLimiter`]: no more requests, tokens and calls at once than an account may have.

mod lane;
#[cfg(test)]
mod tests;

use super::{
    clock::{Clock, system_clock},
    meter::Meter,
    watch::{Watcher, watch},
};
use crate::seconds::some_seconds;
use async_trait::async_trait;
use lane::{Enter, Lane, Permit};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, Scope, StreamEvent, Usage,
};

/// Most lanes kept; idle ones go first.
const MOST_LANES: usize = 4_096;

/// What an account may have. What is `None` is not limited by us; what the vendor's headers say is followed either way.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RateLimitOptions {
    /// Requests in a minute, at least one: no limit.
    pub requests_per_minute: Option<u32>,
    /// Tokens in and out in a minute, at least one: no limit.
    pub tokens_per_minute: Option<u64>,
    /// Calls at once, at least one: no limit. A 429 halves it, every good answer widens it again.
    pub max_concurrent: Option<usize>,
    /// Output tokens set aside for a request that does not bound its answer: 1,024.
    pub expected_output_tokens: u64,
    /// Follows what the vendor says is left, and is quiet as long as it asks for: yes.
    pub is_adaptive: bool,
    /// The longest wait for a place: no limit.
    #[serde(deserialize_with = "some_seconds")]
    pub max_wait: Option<Duration>,
    /// Most calls that wait for one model: 10,000.
    pub max_waiting: usize,
    /// Where the time comes from: this machine.
    #[serde(skip)]
    pub clock: Arc<dyn Clock>,
}

impl Default for RateLimitOptions {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            max_concurrent: None,
            expected_output_tokens: 1_024,
            is_adaptive: true,
            max_wait: None,
            max_waiting: 10_000,
            clock: system_clock(),
        }
    }
}

impl RateLimitOptions {
    /// Sets the requests in a minute.
    pub fn requests_per_minute(mut self, requests: u32) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// Sets the tokens in a minute.
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    /// Sets the calls at once.
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.max_concurrent = Some(calls);
        self
    }

    /// Sets the output tokens set aside for a request that does not bound its answer.
    pub fn expected_output_tokens(mut self, tokens: u64) -> Self {
        self.expected_output_tokens = tokens;
        self
    }

    /// Sets whether the vendor's own figures are followed.
    pub fn adaptive(mut self, is_adaptive: bool) -> Self {
        self.is_adaptive = is_adaptive;
        self
    }

    /// Sets the longest wait for a place.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// Sets the most calls that wait for one model.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.max_waiting = calls;
        self
    }

    /// Sets where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// None at all would be a wait without end.
    fn request_rate(&self) -> Option<f64> {
        self.requests_per_minute.map(|rate| f64::from(rate.max(1)))
    }

    fn token_rate(&self) -> Option<f64> {
        self.tokens_per_minute.map(|rate| rate.max(1) as f64)
    }
}

#[derive(Debug)]
struct Shared {
    options: RateLimitOptions,
    lanes: Mutex<HashMap<String, Lane>>,
}

/// The limits of an account. Clones share the buckets, across threads; each model has its own, and each tenant with
/// [`RateLimiter::for_scope`]. Who comes first goes first.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
    tenant: Option<String>,
}

impl RateLimiter {
    /// With full buckets.
    pub fn new(options: RateLimitOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                lanes: Mutex::default(),
            }),
            tenant: None,
        }
    }

    /// The same limits for this tenant alone: its calls take nothing from others.
    pub fn for_scope(&self, scope: &Scope) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            tenant: Some(scope.tenant().to_owned()),
        }
    }

    /// How many calls of `vendor/model` wait, and how many run.
    pub fn load(&self, model: &str) -> (usize, usize) {
        self.with(&self.lane(model), |lane, _, _| (lane.waiting(), lane.running))
    }

    fn lane(&self, model: &str) -> String {
        match &self.tenant {
            // A tenant's name has no control characters.
            Some(tenant) => format!("{model}\u{1f}{tenant}"),
            None => model.to_owned(),
        }
    }

    /// A lane's name without the tenant's.
    fn shown(lane: &str) -> &str {
        lane.split('\u{1f}').next().unwrap_or(lane)
    }

    fn options(&self) -> &RateLimitOptions {
        &self.shared.options
    }

    fn with<T>(&self, lane: &str, work: impl FnOnce(&mut Lane, &RateLimitOptions, Duration) -> T) -> T {
        let options = &self.shared.options;
        let now = options.clock.now();
        // Nothing in here panics, and a lane is whole after each step.
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if !lanes.contains_key(lane) {
            if lanes.len() >= MOST_LANES {
                lanes.retain(|_, lane| !lane.is_idle(now));
            }
            lanes.insert(lane.to_owned(), Lane::new(options, now));
        }
        let lane = lanes.get_mut(lane).expect("it was put in above");
        work(lane, options, now)
    }
}

/// A model that waits for its turn.
#[derive(Debug)]
pub(super) struct Limited {
    inner: Arc<dyn ChatModel>,
    limiter: RateLimiter,
    lane: String,
}

impl Limited {
    pub(super) fn new(inner: Arc<dyn ChatModel>, limiter: RateLimiter) -> Self {
        Self {
            lane: limiter.lane(&inner.info().name()),
            inner,
            limiter,
        }
    }
}

#[async_trait]
impl ChatModel for Limited {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let options = self.limiter.options();
        let input = if options.tokens_per_minute.is_some() {
            request.estimated_tokens()
        } else {
            0
        };
        let output = request
            .max_output_tokens
            .unwrap_or(options.expected_output_tokens);
        let tokens = input.saturating_add(output);
        let mut permit = Enter::new(self.limiter.clone(), self.lane.clone(), tokens).await?;
        match self.inner.stream(request).await {
            Ok(stream) => Ok(watch(
                stream,
                Turn {
                    permit,
                    meter: Meter::new(input),
                },
            )),
            Err(error) => {
                refused(&mut permit, &error, 0);
                Err(error)
            }
        }
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

fn refused(permit: &mut Permit, error: &Error, tokens: u64) {
    if matches!(error, Error::RateLimited(_)) {
        permit.throttle(error.retry_after());
    }
    // Who was refused before a word was not billed.
    if error.vendor_failure().is_some() {
        permit.settle(tokens);
    }
}

struct Turn {
    permit: Permit,
    meter: Meter,
}

impl Watcher for Turn {
    fn event(&mut self, event: &StreamEvent) -> Result<()> {
        self.meter.event(event);
        match event {
            StreamEvent::RateLimits { limits } => self.permit.observe(limits),
            StreamEvent::Finish { .. } => {
                self.permit.settle(self.meter.usage().total());
                self.permit.widen();
            }
            _ => {}
        }
        Ok(())
    }

    fn failure(&mut self, error: Error) -> Error {
        self.meter.failure(&error);
        refused(&mut self.permit, &error, self.meter.usage().total());
        error
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit.settle(self.meter.usage().total());
    }
}
