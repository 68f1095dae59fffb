//! [`Breaker`]: stops asking an endpoint that does nothing but fail, until it is well again.

use super::{
    clock::{Clock, system_clock},
    watch::{Watcher, watch},
};
use crate::seconds::seconds;
use async_trait::async_trait;
use serde::Deserialize;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, StreamEvent, Timer, Usage, VendorFailure,
};

/// [`VendorFailure::kind`] of the error that a call gets while its circuit is open.
pub const CIRCUIT_OPEN: &str = "circuit_open";

/// Most calls remembered for each endpoint.
const MOST_CALLS: usize = 1_024;

/// When an endpoint counts as down, and for how long it is left alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// So many failures within the window open the circuit, if they are at least half of its calls: 5.
    pub failures: usize,
    /// How far back calls count: 60 s.
    #[serde(deserialize_with = "seconds")]
    pub window: Duration,
    /// How long no call is let through; then one may try: 30 s.
    #[serde(deserialize_with = "seconds")]
    pub open_for: Duration,
    /// Where the time comes from: this machine.
    #[serde(skip)]
    pub clock: Arc<dyn Clock>,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_mins(1),
            open_for: Duration::from_secs(30),
            clock: system_clock(),
        }
    }
}

impl BreakerOptions {
    /// Sets how many failures open the circuit.
    pub fn failures(mut self, failures: usize) -> Self {
        self.failures = failures.max(1);
        self
    }

    /// Sets how far back calls count.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long no call is let through.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Sets where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// What is known of an endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Circuit {
    /// Calls go through.
    Closed,
    /// None does, for so long.
    Open(Duration),
    /// One call tries, or may.
    HalfOpen,
}

#[derive(Debug)]
enum State {
    /// Calls of the window: when, and whether they went well.
    Closed(VecDeque<(Duration, bool)>),
    Open {
        until: Duration,
    },
    HalfOpen {
        is_probing: bool,
    },
}

#[derive(Debug)]
struct Shared {
    options: BreakerOptions,
    endpoints: Mutex<HashMap<String, State>>,
}

/// The circuits of all endpoints (a vendor's model each). Clones share them: give one to many models.
#[derive(Clone, Debug)]
pub struct Breaker(Arc<Shared>);

impl Default for Breaker {
    fn default() -> Self {
        Self::new(BreakerOptions::default())
    }
}

impl Breaker {
    /// All circuits closed.
    pub fn new(options: BreakerOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            endpoints: Mutex::default(),
        }))
    }

    fn endpoints(&self) -> MutexGuard<'_, HashMap<String, State>> {
        // Every change of a state is one assignment, so a panic elsewhere leaves it whole.
        self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The circuit of `vendor/model`.
    pub fn circuit(&self, endpoint: &str) -> Circuit {
        let now = self.0.options.clock.now();
        match self.endpoints().get(endpoint) {
            None | Some(State::Closed(_)) => Circuit::Closed,
            Some(State::Open { until }) if *until > now => Circuit::Open(until.saturating_sub(now)),
            Some(State::Open { .. } | State::HalfOpen { .. }) => Circuit::HalfOpen,
        }
    }

    /// Lets a call through, or tells how long to wait.
    fn enter(&self, endpoint: &str) -> Result<Pass, Duration> {
        let now = self.0.options.clock.now();
        let mut endpoints = self.endpoints();
        let state = endpoints
            .entry(endpoint.to_owned())
            .or_insert_with(|| State::Closed(VecDeque::new()));
        let is_probe = match state {
            State::Closed(_) => false,
            State::Open { until } if *until > now => return Err(until.saturating_sub(now)),
            // Another call is finding out; it may take a while.
            State::HalfOpen { is_probing: true } => return Err(Duration::from_secs(1)),
            State::Open { .. } | State::HalfOpen { .. } => {
                *state = State::HalfOpen { is_probing: true };
                true
            }
        };
        Ok(Pass {
            breaker: self.clone(),
            endpoint: endpoint.to_owned(),
            is_probe,
            is_decided: false,
        })
    }

    fn decide(&self, pass: &Pass, went_well: bool) {
        let options = &self.0.options;
        let now = options.clock.now();
        let mut endpoints = self.endpoints();
        let Some(state) = endpoints.get_mut(&pass.endpoint) else {
            return;
        };
        if pass.is_probe {
            *state = if went_well {
                State::Closed(VecDeque::new())
            } else {
                State::Open {
                    until: now + options.open_for,
                }
            };
            return;
        }
        // A call that began before the circuit opened tells nothing new.
        let State::Closed(calls) = state else {
            return;
        };
        while calls.len() >= MOST_CALLS
            || calls
                .front()
                .is_some_and(|(at, _)| now.saturating_sub(*at) > options.window)
        {
            calls.pop_front();
        }
        calls.push_back((now, went_well));
        let failures = calls.iter().filter(|(_, went_well)| !went_well).count();
        if !went_well && failures >= options.failures && failures * 2 >= calls.len() {
            tracing::warn!(endpoint = %pass.endpoint, failures, "the circuit of a model opens");
            *state = State::Open {
                until: now + options.open_for,
            };
        }
    }
}

/// A call that was let through. Dropping it undecided lets the next one try.
#[derive(Debug)]
struct Pass {
    breaker: Breaker,
    endpoint: String,
    is_probe: bool,
    is_decided: bool,
}

impl Pass {
    fn decide(&mut self, went_well: bool) {
        if !self.is_decided {
            self.is_decided = true;
            self.breaker.clone().decide(self, went_well);
        }
    }

    fn failed(&mut self, error: &Error) {
        if is_of_the_endpoint(error) {
            self.decide(false);
        } else if error.vendor_failure().is_some() {
            // It answered, if only to refuse: it is there.
            self.decide(true);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_probe
            && !self.is_decided
            && let Some(state) = self.breaker.endpoints().get_mut(&self.endpoint)
        {
            *state = State::HalfOpen { is_probing: false };
        }
    }
}

impl Watcher for Pass {
    fn event(&mut self, event: &StreamEvent) -> Result<()> {
        if matches!(event, StreamEvent::Finish { .. }) {
            self.decide(true);
        }
        Ok(())
    }

    fn failure(&mut self, error: Error) -> Error {
        self.failed(&error);
        error
    }
}

/// Whether the endpoint is to blame. Mistakes of the caller, keys, empty accounts and rate limits are not its fault.
fn is_of_the_endpoint(error: &Error) -> bool {
    match error {
        Error::Overloaded(failure) => failure.kind.as_deref() != Some(CIRCUIT_OPEN),
        Error::Transport { .. } | Error::StreamTruncated { .. } | Error::InvalidResponse { .. } => true,
        Error::Timeout { timer, .. } => !matches!(timer, Timer::Total | Timer::Queue),
        _ => false,
    }
}

/// A model whose endpoint is left alone while it is down.
#[derive(Debug)]
pub(super) struct Broken {
    inner: Arc<dyn ChatModel>,
    breaker: Breaker,
    endpoint: String,
}

impl Broken {
    pub(super) fn new(inner: Arc<dyn ChatModel>, breaker: Breaker) -> Self {
        Self {
            endpoint: inner.info().name(),
            inner,
            breaker,
        }
    }
}

#[async_trait]
impl ChatModel for Broken {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let mut pass = self.breaker.enter(&self.endpoint).map_err(|wait| {
            let mut failure = VendorFailure::new(&self.inner.info().provider);
            failure.kind = Some(CIRCUIT_OPEN.to_owned());
            failure.retry_after = Some(wait);
            Error::Overloaded(Box::new(failure))
        })?;
        match self.inner.stream(request).await {
            Ok(stream) => Ok(watch(stream, pass)),
            Err(error) => {
                pass.failed(&error);
                Err(error)
            }
        }
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, BreakerOptions, CIRCUIT_OPEN, Circuit};
    use crate::layers::{
        ModelExt, RetryOptions, VirtualClock,
        played::{Played, failure, overloaded},
    };
    use futures::executor::block_on;
    use std::{sync::Arc, time::Duration};
    use stepwell_core::{ChatModel, Error, Timer};

    fn breaker(clock: &VirtualClock) -> Breaker {
        Breaker::new(
            BreakerOptions::default()
                .failures(3)
                .clock(Arc::new(clock.clone())),
        )
    }

    #[test]
    fn the_circuit_opens_after_its_failures_lets_one_probe_through_and_closes_after_it() {
        let clock = VirtualClock::new();
        let breaker = breaker(&clock);
        let inner = Played::new("m", &clock)
            .fail(overloaded())
            .break_off("x", overloaded())
            .fail(Error::Transport {
                provider: "acme".into(),
                source: "reset".into(),
            })
            .fail(overloaded())
            .say("well again");
        let model = inner.clone().with_breaker(breaker.clone());
        let ask = || block_on(clock.run(model.chat("x".into())));
        for _ in 0..3 {
            assert_eq!(breaker.circuit("acme/m"), Circuit::Closed);
            ask().expect_err("fails");
        }
        clock.advance(Duration::from_secs(10));
        let error = ask().expect_err("open");
        let told = error.vendor_failure().expect("of the vendor");
        assert_eq!(
            (error.code(), told.kind.as_deref()),
            ("overloaded", Some(CIRCUIT_OPEN))
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
        assert_eq!(inner.calls(), 3);
        clock.advance(Duration::from_secs(20));
        ask().expect_err("the probe fails");
        assert_eq!(breaker.circuit("acme/m"), Circuit::Open(Duration::from_secs(30)));
        clock.advance(Duration::from_secs(30));
        assert_eq!(ask().expect("the probe").text(), "well again");
        assert_eq!(breaker.circuit("acme/m"), Circuit::Closed);
    }

    #[test]
    fn while_one_probes_the_others_are_told_to_wait_and_other_models_are_not_concerned() {
        let clock = VirtualClock::new();
        let breaker = Breaker::new(
            BreakerOptions::default()
                .failures(1)
                .clock(Arc::new(clock.clone())),
        );
        let model = Played::new("m", &clock)
            .fail(overloaded())
            .say("a")
            .with_breaker(breaker.clone());
        let other = Played::new("n", &clock).say("b").with_breaker(breaker.clone());
        block_on(clock.run(async {
            model.chat("x".into()).await.expect_err("fails");
            other.chat("x".into()).await.expect("its own circuit");
            clock.advance(Duration::from_secs(30));
            let probe = model.stream("x".into()).await.expect("the probe");
            assert_eq!(breaker.circuit("acme/m"), Circuit::HalfOpen);
            assert!(model.chat("x".into()).await.is_err());
            drop(probe);
        }));
        assert_eq!(breaker.circuit("acme/m"), Circuit::HalfOpen);
    }

    #[test]
    fn mistakes_of_the_caller_rates_and_old_failures_do_not_count() {
        let clock = VirtualClock::new();
        let breaker = breaker(&clock);
        let queue = Error::Timeout {
            what: "x".into(),
            after: Duration::ZERO,
            timer: Timer::Queue,
            partial: None,
        };
        let mut inner = Played::new("m", &clock);
        for error in [
            Error::Rejected(failure(None)),
            Error::RateLimited(failure(None)),
            Error::QuotaExceeded(failure(None)),
            Error::Unauthorized {
                env_var: "K".into(),
                failure: failure(None),
            },
            Error::invalid("x", "y"),
            Error::Cancelled,
            queue,
        ] {
            inner = inner.fail(error);
        }
        for _ in 0..6 {
            inner = inner.fail(overloaded());
        }
        let model = inner.with_breaker(breaker.clone());
        for _ in 0..7 {
            block_on(clock.run(model.chat("x".into()))).expect_err("fails");
        }
        for _ in 0..6 {
            // Two within the window at a time.
            clock.advance(Duration::from_secs(31));
            block_on(clock.run(model.chat("x".into()))).expect_err("fails");
            assert_eq!(breaker.circuit("acme/m"), Circuit::Closed);
        }
    }

    #[test]
    fn few_failures_among_many_good_calls_do_not_open_it_and_an_open_one_is_not_retried() {
        let clock = VirtualClock::new();
        let breaker = breaker(&clock);
        let mut inner = Played::new("m", &clock);
        for _ in 0..4 {
            inner = inner.say("a").say("b").fail(overloaded());
        }
        let model = inner.with_breaker(breaker.clone());
        for _ in 0..12 {
            let _ = block_on(clock.run(model.chat("x".into())));
        }
        assert_eq!(breaker.circuit("acme/m"), Circuit::Closed);

        let once = Breaker::new(
            BreakerOptions::default()
                .failures(1)
                .clock(Arc::new(clock.clone())),
        );
        let inner = Played::new("m", &clock).fail(overloaded());
        let model = inner
            .clone()
            .with_breaker(once)
            .with_retry(RetryOptions::default().clock(Arc::new(clock.clone())));
        let error = block_on(clock.run(model.chat("x".into()))).expect_err("open at the second try");
        let failure = error.vendor_failure().expect("of the vendor");
        assert_eq!(
            (failure.kind.as_deref(), failure.attempts.len(), inner.calls()),
            (Some(CIRCUIT_OPEN), 1, 1)
        );
    }
}
