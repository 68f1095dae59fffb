//! Layers: each is a [`ChatModel`] around a [`ChatModel`]. [`ModelExt`] puts them on.
//!
//! ```text
//! trace ▸ ledger ▸ budget ▸ cache ▸ total time ▸ fallback ▸ retry ▸ breaker ▸ rate limit ▸ the vendor's model
//! (outermost: sees a call as its caller does)                       (innermost: sees each try)
//! ```
//!
//! That order suits most programs; any other works. Three rules hold in every order:
//! - There is **one** retry loop in a stack, the outermost; a retry inside another lets failures pass.
//! - Nothing is asked again once a piece of the answer was handed out, but for a fallback that is told to go on.
//! - Dropping a stream, or the call for one, puts back whatever a layer holds: places, reservations, probes.
//!
//! [`crate::model`] gives a vendor's model with [`resilient`] around it: a retry, and a limit on the time of all tries.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! use stepwell_core::{Budget, ChatModel, Error, VendorFailure};
//! use stepwell_providers::{Scripted, layers::{ModelExt, RetryOptions}};
//! let mut busy = VendorFailure::new("acme");
//! busy.retry_after = Some(std::time::Duration::from_millis(1));
//! let model = Scripted::new()
//!     .fail(Error::Overloaded(Box::new(busy)))
//!     .say("A ledger is a book of accounts.")
//!     .with_retry(RetryOptions::default())
//!     .with_budget(Budget::tokens(10_000));
//! let answer = model.chat("What is a ledger?".into()).await?;
//! assert_eq!(answer.attempts[0].code, "overloaded");
//! # Ok::<(), Error>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod around;
mod breaker;
mod budget;
mod cache;
mod clock;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod dropped;
mod fallback;
mod held;
mod ledger;
mod limit;
mod meter;
#[cfg(test)]
mod played;
mod retry;
mod timeouts;
mod trace;
mod watch;

pub use breaker::{Breaker, BreakerOptions, CIRCUIT_OPEN, Circuit};
pub use cache::CacheOptions;
pub use clock::{Clock, SystemClock, VirtualClock};
pub use fallback::{Continuation, FallbackOptions, FallbackReason};
pub use ledger::{CallRecord, Outcome, UsageHook};
pub use limit::{RateLimitOptions, RateLimiter};
pub use retry::{Replace, RetryOptions};
pub use timeouts::TimeoutOptions;

use std::sync::Arc;
use stepwell_core::{
    Budget, ChatModel, Scope,
    store::{Cache, UsageLedger},
};

/// Puts layers around a model. The one put on last is the outermost.
pub trait ModelExt: ChatModel + Sized + 'static {
    /// Asks again when a call fails before its first word.
    fn with_retry(self, options: RetryOptions) -> Arc<dyn ChatModel> {
        Arc::new(retry::Retry::new(Arc::new(self), options))
    }

    /// Bounds the time to the first event, between events, and in all. A stall after the first words is an
    /// [`stepwell_core::Error::Timeout`] that carries what had come.
    fn with_timeouts(self, options: TimeoutOptions) -> Arc<dyn ChatModel> {
        Arc::new(timeouts::Timeouts {
            inner: Arc::new(self),
            options,
        })
    }

    /// Waits until the account may send the request; share the limiter among all that use the account.
    fn with_rate_limit(self, limiter: RateLimiter) -> Arc<dyn ChatModel> {
        Arc::new(limit::Limited::new(Arc::new(self), limiter))
    }

    /// Fails at once while the endpoint is down, with [`CIRCUIT_OPEN`] and the time to wait.
    fn with_breaker(self, breaker: Breaker) -> Arc<dyn ChatModel> {
        Arc::new(breaker::Broken::new(Arc::new(self), breaker))
    }

    /// Asks these models, in order, when this one cannot answer.
    fn with_fallback(
        self,
        others: impl IntoIterator<Item = Arc<dyn ChatModel>>,
        options: FallbackOptions,
    ) -> Arc<dyn ChatModel> {
        Arc::new(fallback::Fallback::new(Arc::new(self), others, options))
    }

    /// Gives answers again that were given to this tenant before. Only whole, good answers are kept; a sampled answer
    /// is repeated as well, so leave it off where each answer is to be a new one.
    fn with_cache(self, cache: Arc<dyn Cache>, scope: Scope, options: CacheOptions) -> Arc<dyn ChatModel> {
        Arc::new(cache::Cached::new(Arc::new(self), cache, scope, options))
    }

    /// Spends from a budget: sets aside an estimate before the call, stops the answer with
    /// [`stepwell_core::Error::BudgetExceeded`] at the limit, and books what it took.
    fn with_budget(self, budget: Budget) -> Arc<dyn ChatModel> {
        Arc::new(budget::Budgeted {
            inner: Arc::new(self),
            budget,
        })
    }

    /// Writes what each try took into a ledger, however it ended: as told by the vendor, or an estimate, flagged, where
    /// it broke off or was dropped. Tries that used nothing are left out.
    fn with_ledger(
        self,
        ledger: Arc<dyn UsageLedger>,
        scope: Scope,
        purpose: impl Into<String>,
    ) -> Arc<dyn ChatModel> {
        Arc::new(ledger::Booked::written(
            Arc::new(self),
            ledger,
            scope,
            purpose.into(),
        ))
    }

    /// Tells a function what each try took, exactly once each, also those that used nothing.
    fn with_usage_hook(self, hook: impl Fn(CallRecord) + Send + Sync + 'static) -> Arc<dyn ChatModel> {
        Arc::new(ledger::Booked::told(Arc::new(self), Arc::new(hook)))
    }

    /// Puts a span with OpenTelemetry's GenAI names around each call, to the end of its stream.
    fn with_trace(self) -> Arc<dyn ChatModel> {
        Arc::new(trace::Traced {
            inner: Arc::new(self),
        })
    }
}

impl<M: ChatModel + 'static> ModelExt for M {}

/// What [`crate::model`] puts around a vendor's model: two retries with the vendor's delays up to two minutes
/// ([`RetryOptions`]), and thirty minutes for all tries together ([`TimeoutOptions`]). Each try has the clocks of
/// the vendor's client besides: connecting, first event, idle, total.
pub fn resilient(model: impl ChatModel + 'static) -> Arc<dyn ChatModel> {
    model
        .with_retry(RetryOptions::default())
        .with_timeouts(TimeoutOptions::default())
}
