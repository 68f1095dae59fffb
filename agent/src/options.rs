//! [`NodeOptions`]: how a node is run: again when it fails, how long, by whom its failure is handled.

use crate::{Node, RunContext, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};
use stepwell_core::{Error, store::Cache};

type When = Arc<dyn Fn(&Error) -> bool + Send + Sync>;
type CacheKey<S> = Box<dyn Fn(&S, &RunContext) -> Value + Send + Sync>;

/// Runs a node again when it fails. An interrupt, a cancel and a spent budget are no failures.
#[derive(Clone)]
pub struct Retry {
    pub(crate) attempts: u32,
    first_delay: Duration,
    factor: f64,
    max_delay: Duration,
    has_jitter: bool,
    when: Option<When>,
}

impl Retry {
    /// Runs it so often at most, the first time included. Waits half a second before the second, twice as long before
    /// each further one, 30 s at most, each time up to a quarter more by chance.
    pub fn attempts(attempts: u32) -> Self {
        Self {
            attempts: attempts.max(1),
            first_delay: Duration::from_millis(500),
            factor: 2.0,
            max_delay: Duration::from_secs(30),
            has_jitter: true,
            when: None,
        }
    }

    /// Waits so long before the second attempt.
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// Each wait is so many times the one before; 2.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = if factor.is_finite() { factor.max(1.0) } else { 1.0 };
        self
    }

    /// Waits at most so long; 30 s.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Whether chance makes the waits up to a quarter longer, so that many runs do not try again at once; true.
    pub fn jitter(mut self, has_jitter: bool) -> Self {
        self.has_jitter = has_jitter;
        self
    }

    /// Only after failures like this; otherwise after every failure of the node's own code, every time limit and every
    /// error that [`Error::is_retryable`].
    pub fn when(mut self, when: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    pub(crate) fn takes(&self, error: &Error) -> bool {
        if matches!(
            error,
            Error::Cancelled | Error::BudgetExceeded { .. } | Error::InvalidGraph { .. }
        ) {
            return false;
        }
        if let Some(when) = &self.when {
            // The author thinks in what the node failed with, not in the wrapper around it.
            return when(error);
        }
        let is_its_own = matches!(
            error,
            Error::Host(_) | Error::NodeFailed { .. } | Error::Timeout { .. }
        );
        is_its_own || error.is_retryable()
    }

    /// How long to wait after this attempt; `chance` is between 0 and 1.
    pub(crate) fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let power = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let most = self.max_delay.as_secs_f64();
        let plain = (self.first_delay.as_secs_f64() * self.factor.powi(power)).min(most);
        let more = if self.has_jitter {
            plain * 0.25 * chance
        } else {
            0.0
        };
        Duration::try_from_secs_f64((plain + more).min(most)).unwrap_or(self.max_delay)
    }
}

impl Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("first_delay", &self.first_delay)
            .finish_non_exhaustive()
    }
}

/// A [`Retry`] as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryShape {
    /// Most attempts, the first included.
    pub attempts: u32,
    /// The wait before the second, milliseconds; 500 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_delay_ms: Option<u64>,
    /// Each wait in hundredths of the one before; 200 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor_percent: Option<u32>,
    /// The longest wait, milliseconds; 30,000 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay_ms: Option<u64>,
    /// Whether chance makes waits longer; it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_jitter: Option<bool>,
    /// Which failures it takes is code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_conditional: bool,
}

impl RetryShape {
    pub(crate) fn of(retry: &Retry) -> Self {
        let usual = Retry::attempts(1);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // a factor is at least 1; the cast saturates
        let percent = |factor: f64| (factor * 100.0).round() as u32;
        let other = |is_usual: bool| (!is_usual).then_some(());
        Self {
            attempts: retry.attempts,
            first_delay_ms: other(retry.first_delay == usual.first_delay).map(|()| millis(retry.first_delay)),
            factor_percent: other(percent(retry.factor) == percent(usual.factor))
                .map(|()| percent(retry.factor)),
            max_delay_ms: other(retry.max_delay == usual.max_delay).map(|()| millis(retry.max_delay)),
            has_jitter: other(retry.has_jitter).map(|()| retry.has_jitter),
            is_conditional: retry.when.is_some(),
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        let mut retry = Retry::attempts(self.attempts);
        if let Some(delay) = self.first_delay_ms {
            retry = retry.first_delay(Duration::from_millis(delay));
        }
        if let Some(percent) = self.factor_percent {
            retry = retry.factor(f64::from(percent) / 100.0);
        }
        if let Some(delay) = self.max_delay_ms {
            retry = retry.max_delay(Duration::from_millis(delay));
        }
        retry.jitter(self.has_jitter.unwrap_or(true))
    }
}

/// Keeps what a node returned and gives it again for the same key instead of running it.
pub struct NodeCache<S: State> {
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) key: CacheKey<S>,
    pub(crate) time: Option<Duration>,
}

impl<S: State> NodeCache<S> {
    /// In this cache, under what `key` gives: everything the node's result depends on. Tenant, graph and node are added.
    pub fn new(
        cache: Arc<dyn Cache>,
        key: impl Fn(&S, &RunContext) -> Value + Send + Sync + 'static,
    ) -> Self {
        Self {
            cache,
            key: Box::new(key),
            time: None,
        }
    }

    /// For so long; as long as the cache keeps it where nothing is said.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }
}

/// How a node is run. Nothing is set where nothing is said: once, as long as it takes, and its failure ends the run.
pub struct NodeOptions<S: State> {
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) on_error: Option<Box<dyn Node<S>>>,
    pub(crate) cache: Option<NodeCache<S>>,
    pub(crate) reads: Vec<String>,
    pub(crate) writes: Vec<String>,
}

impl<S: State> Default for NodeOptions<S> {
    fn default() -> Self {
        Self {
            retry: None,
            timeout: None,
            idle_timeout: None,
            on_error: None,
            cache: None,
            reads: Vec::new(),
            writes: Vec::new(),
        }
    }
}

impl<S: State> NodeOptions<S> {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs it again when it fails.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// One attempt takes at most so long; then it is dropped and what it wrote with it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// An attempt that shows no sign of life for so long is dropped. Events of its model and tools, [`RunContext::emit`],
    /// finished memoised steps and [`RunContext::heartbeat`] are signs of life.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// What runs when the node has failed and is not tried again: it sees the state and, with [`RunContext::failure`], why;
    /// what it returns stands for what the node would have, also where to go. Interrupts are no failures.
    pub fn on_error(mut self, handler: impl Node<S> + 'static) -> Self {
        self.on_error = Some(Box::new(handler));
        self
    }

    /// Gives the result of an earlier run for the same key.
    pub fn cache(mut self, cache: NodeCache<S>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Declares the keys it reads, so that building the graph tells where nobody writes one.
    pub fn reads<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.reads.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Declares the keys it writes, so that building the graph tells where two nodes of one step write one that has no
    /// reducer.
    pub fn writes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.writes.extend(keys.into_iter().map(Into::into));
        self
    }
}

impl<S: State> Debug for NodeOptions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeOptions")
            .field("retry", &self.retry)
            .field("timeout", &self.timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("has_handler", &self.on_error.is_some())
            .field("has_cache", &self.cache.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Retry;
    use std::time::Duration;
    use stepwell_core::Error;

    #[test]
    fn waits_grow_up_to_their_bound_and_chance_only_lengthens_them() {
        let retry = Retry::attempts(9)
            .first_delay(Duration::from_secs(1))
            .max_delay(Duration::from_secs(5));
        let waits = |chance: f64| {
            (1..=4)
                .map(move |attempt| retry.delay(attempt, chance))
                .collect::<Vec<_>>()
        };
        let seconds = |list: [f64; 4]| list.map(Duration::from_secs_f64).to_vec();
        assert_eq!(waits(0.0), seconds([1.0, 2.0, 4.0, 5.0]));
        let retry = Retry::attempts(9)
            .first_delay(Duration::from_secs(1))
            .max_delay(Duration::from_secs(5));
        assert_eq!(retry.delay(1, 1.0), Duration::from_secs_f64(1.25));
        assert_eq!(retry.delay(u32::MAX, 1.0), Duration::from_secs(5));
    }

    #[test]
    fn a_cancel_or_a_spent_budget_is_never_tried_again_whatever_the_policy_says() {
        let retry = Retry::attempts(3).when(|_| true);
        assert!(!retry.takes(&Error::Cancelled));
        let spent = Error::BudgetExceeded {
            what: "calls".into(),
            limit: "1".into(),
            partial: None,
        };
        assert!(!retry.takes(&spent));
        assert!(retry.takes(&Error::StepLimit { limit: 1 }));
        assert!(!Retry::attempts(3).takes(&Error::StepLimit { limit: 1 }));
    }
}
