//! [`Lane`]: the buckets and the queue of one model's calls; [`Permit`]: a place in it.

use super::{RateLimitOptions, RateLimiter};
use crate::layers::around::Around;
use futures::future::BoxFuture;
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use stepwell_core::{Error, RateLimit, Result, Timer};

/// Longest pause that a window's end is believed.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct Ticket {
    id: u64,
    waker: Waker,
}

/// The buckets and the queue of one model's calls.
#[derive(Debug)]
pub(super) struct Lane {
    /// In order of arrival: only the first may pass.
    queue: VecDeque<Ticket>,
    next: u64,
    pub(super) running: usize,
    /// How many may run at once just now; follows the vendor's 429s.
    places: f64,
    requests: f64,
    tokens: f64,
    filled_at: Duration,
    /// The vendor asked for quiet until then.
    quiet_until: Duration,
}

/// Why the first in the queue has to wait.
enum Wait {
    /// A place has to become free.
    ForPlace,
    For(Duration),
}

impl Lane {
    pub(super) fn new(options: &RateLimitOptions, now: Duration) -> Self {
        Self {
            queue: VecDeque::new(),
            next: 0,
            running: 0,
            places: options
                .max_concurrent
                .map_or(f64::INFINITY, |most| most.max(1) as f64),
            requests: options.request_rate().unwrap_or(0.0),
            tokens: options.token_rate().unwrap_or(0.0),
            filled_at: now,
            quiet_until: Duration::ZERO,
        }
    }

    /// Nobody runs, waits or has to be remembered.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.running == 0
            && self.queue.is_empty()
            && self.quiet_until <= now
            && now.saturating_sub(self.filled_at) > Duration::from_mins(1)
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> f64 {
        self.places
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn fill(&mut self, options: &RateLimitOptions, now: Duration) {
        let minutes = now.saturating_sub(self.filled_at).as_secs_f64() / 60.0;
        self.filled_at = now;
        if let Some(rate) = options.request_rate() {
            self.requests = (self.requests + minutes * rate).min(rate);
        }
        if let Some(rate) = options.token_rate() {
            self.tokens = (self.tokens + minutes * rate).min(rate);
        }
    }

    /// Takes a place for so many tokens, or tells why not.
    fn take(&mut self, tokens: f64, options: &RateLimitOptions, now: Duration) -> Result<(), Wait> {
        if self.quiet_until > now {
            return Err(Wait::For(self.quiet_until.saturating_sub(now)));
        }
        if self.running as f64 + 1.0 > self.places {
            return Err(Wait::ForPlace);
        }
        self.fill(options, now);
        let until =
            |missing: f64, rate: f64| Duration::from_secs_f64((missing / rate * 60.0).clamp(0.001, 3_600.0));
        let mut wait = Duration::ZERO;
        if let Some(rate) = options.request_rate()
            && self.requests < 1.0 - 1e-9
        {
            wait = wait.max(until(1.0 - self.requests, rate));
        }
        if let Some(rate) = options.token_rate() {
            // A call larger than the bucket goes when the bucket is full, and empties it below zero.
            let missing = tokens.min(rate) - self.tokens;
            if missing > 1e-6 {
                wait = wait.max(until(missing, rate));
            }
        }
        if !wait.is_zero() {
            return Err(Wait::For(wait));
        }
        self.requests -= 1.0;
        self.tokens -= tokens;
        self.running += 1;
        Ok(())
    }

    fn wake_first(&self) {
        if let Some(first) = self.queue.front() {
            first.waker.wake_by_ref();
        }
    }

    /// Books the true tokens in place of what was set aside.
    fn settle(&mut self, reserved: f64, actual: f64, options: &RateLimitOptions) {
        if let Some(rate) = options.token_rate() {
            self.tokens = (self.tokens + reserved - actual).min(rate);
        }
        self.wake_first();
    }

    /// Takes over what the vendor says is left: others may use the same account.
    fn observe(&mut self, limits: &[RateLimit], now: Duration) {
        for limit in limits {
            let Some(left) = limit.remaining else { continue };
            let left = left as f64;
            match limit.name.as_str() {
                "requests" => self.requests = self.requests.min(left),
                "tokens" | "input_tokens" | "output_tokens" => self.tokens = self.tokens.min(left),
                _ => continue,
            }
            if left < 1.0
                && let Some(reset) = limit.reset_ms
            {
                let reset = Duration::from_millis(reset).min(LONGEST_PAUSE);
                self.quiet_until = self.quiet_until.max(now + reset);
            }
        }
    }

    /// The vendor refused for the rate: quiet, and half as many at once.
    fn throttle(&mut self, wait: Option<Duration>, now: Duration) {
        let wait = wait.unwrap_or(Duration::from_secs(1)).min(LONGEST_PAUSE);
        self.quiet_until = self.quiet_until.max(now + wait);
        if self.places.is_finite() {
            self.places = (self.places / 2.0).max(1.0);
        }
    }

    /// A call went well: a little more at once, up to the limit.
    fn widen(&mut self, options: &RateLimitOptions) {
        if let Some(most) = options.max_concurrent {
            self.places = (self.places + 1.0 / self.places).min(most.max(1) as f64);
        }
    }
}

/// Waits for a place. Dropping it leaves the queue.
pub(super) struct Enter {
    limiter: RateLimiter,
    lane: String,
    tokens: u64,
    ticket: Option<u64>,
    began: Duration,
    patience: Around,
    nap: Option<BoxFuture<'static, ()>>,
}

impl Enter {
    pub(super) fn new(limiter: RateLimiter, lane: String, tokens: u64) -> Self {
        Self {
            began: limiter.options().clock.now(),
            limiter,
            lane,
            tokens,
            ticket: None,
            patience: Around::now(),
            nap: None,
        }
    }

    fn leave(&mut self) {
        if let Some(id) = self.ticket.take() {
            self.limiter.with(&self.lane, |lane, _, _| {
                let was_first = lane.queue.front().is_some_and(|first| first.id == id);
                lane.queue.retain(|ticket| ticket.id != id);
                if was_first {
                    lane.wake_first();
                }
            });
        }
    }

    fn late(&mut self, after: Duration) -> Error {
        self.leave();
        Error::Timeout {
            what: format!(
                "a place under the rate limit of {}",
                RateLimiter::shown(&self.lane)
            ),
            after,
            timer: Timer::Queue,
            partial: None,
        }
    }
}

impl Future for Enter {
    type Output = Result<Permit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let clock = this.limiter.options().clock.clone();
        loop {
            let (ticket, tokens) = (this.ticket, this.tokens as f64);
            let waiter = this.limiter.with(&this.lane, |lane, options, now| {
                let id = match ticket {
                    Some(id) => {
                        let own = lane.queue.iter_mut().find(|ticket| ticket.id == id);
                        if let Some(own) = own {
                            own.waker.clone_from(cx.waker());
                        }
                        id
                    }
                    None if lane.queue.len() >= options.max_waiting => return Err(None),
                    None => {
                        lane.next += 1;
                        lane.queue.push_back(Ticket {
                            id: lane.next,
                            waker: cx.waker().clone(),
                        });
                        lane.next
                    }
                };
                if lane.queue.front().is_none_or(|first| first.id != id) {
                    return Err(Some((id, None)));
                }
                match lane.take(tokens, options, now) {
                    Ok(()) => {
                        lane.queue.pop_front();
                        lane.wake_first();
                        Ok(())
                    }
                    Err(Wait::ForPlace) => Err(Some((id, None))),
                    Err(Wait::For(time)) => Err(Some((id, Some(time)))),
                }
            });
            let (id, wait) = match waiter {
                Ok(()) => {
                    this.ticket = None;
                    return Poll::Ready(Ok(Permit {
                        limiter: this.limiter.clone(),
                        lane: this.lane.clone(),
                        tokens: Some(this.tokens),
                    }));
                }
                Err(None) => {
                    return Poll::Ready(Err(Error::LimitExceeded {
                        what: format!("the queue for {}", RateLimiter::shown(&this.lane)),
                        limit: format!("{} calls", this.limiter.options().max_waiting),
                    }));
                }
                Err(Some(waiter)) => waiter,
            };
            this.ticket = Some(id);
            let waited = clock.now().saturating_sub(this.began);
            // Nobody waits for what would come too late anyway.
            let limit = [this.limiter.options().max_wait, this.patience.patience]
                .into_iter()
                .flatten()
                .min();
            if let Some(limit) = limit
                && (waited >= limit || wait.is_some_and(|wait| waited + wait > limit))
            {
                return Poll::Ready(Err(this.late(limit)));
            }
            let nap = match (wait, limit) {
                (Some(wait), _) => wait,
                (None, Some(limit)) => limit.saturating_sub(waited),
                (None, None) => {
                    this.nap = None;
                    return Poll::Pending;
                }
            };
            let mut nap = clock.sleep(nap);
            if nap.as_mut().poll(cx).is_pending() {
                this.nap = Some(nap);
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A place among the running calls, with tokens set aside. Dropping it frees the place; tokens that were not settled
/// stay spent, for the request may have been read.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: RateLimiter,
    lane: String,
    /// Set aside and not settled yet.
    tokens: Option<u64>,
}

impl Permit {
    pub(super) fn settle(&mut self, actual: u64) {
        if let Some(reserved) = self.tokens.take() {
            self.limiter.with(&self.lane, |lane, options, _| {
                lane.settle(reserved as f64, actual as f64, options);
            });
        }
    }

    pub(super) fn observe(&self, limits: &[RateLimit]) {
        if self.limiter.options().is_adaptive {
            self.limiter
                .with(&self.lane, |lane, _, now| lane.observe(limits, now));
        }
    }

    pub(super) fn throttle(&self, wait: Option<Duration>) {
        if self.limiter.options().is_adaptive {
            self.limiter
                .with(&self.lane, |lane, _, now| lane.throttle(wait, now));
        }
    }

    pub(super) fn widen(&self) {
        self.limiter
            .with(&self.lane, |lane, options, _| lane.widen(options));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.with(&self.lane, |lane, _, _| {
            lane.running = lane.running.saturating_sub(1);
            lane.wake_first();
        });
    }
}
