//! [`Budgeted`]: sets aside what a call may spend, stops its answer at the limit, books what it took.

use super::{
    clock::{Clock, SystemClock},
    meter::Meter,
    watch::{Watcher, watch},
};
use crate::tape::Tape;
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use stepwell_core::{
    Budget, ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Reservation, Result, Spend, StreamEvent,
    Timer, Usage,
};

/// Output tokens set aside more when an answer grows longer than that.
const STEP_TOKENS: u64 = 256;

/// A model that spends from a budget.
#[derive(Debug)]
pub(super) struct Budgeted {
    pub(super) inner: Arc<dyn ChatModel>,
    pub(super) budget: Budget,
}

fn spend(info: &ModelInfo, input: u64, output: u64, calls: u64) -> Spend {
    let mut usage = Usage::default();
    (usage.input_tokens, usage.output_tokens) = (Some(input), Some(output));
    let mut spend = Spend::call(input.saturating_add(output));
    spend.calls = calls;
    spend.micro_usd = info
        .price
        .as_ref()
        .and_then(|price| price.cost(&usage))
        .map_or(0, |cost| cost.micro_usd);
    spend
}

/// The largest number of output tokens, up to `most`, that still fits.
fn affordable(info: &ModelInfo, budget: &Budget, input: u64, most: u64) -> u64 {
    let left = budget.available();
    let fits = |output: u64| {
        let sum = spend(info, input, output, 1);
        left.tokens.is_none_or(|tokens| sum.tokens <= tokens)
            && left.micro_usd.is_none_or(|money| sum.micro_usd <= money)
    };
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

impl Budgeted {
    /// Sets aside the input and as much output as fits, up to `most`.
    fn reserve(&self, input: u64, most: u64) -> Result<(u64, Reservation)> {
        let info = self.inner.info();
        let mut most = most.max(1);
        loop {
            // Less than one token of answer is no answer: then the reservation fails and says why.
            let output = affordable(info, &self.budget, input, most).max(1);
            match self.budget.reserve(spend(info, input, output, 1)) {
                Ok(first) => return Ok((output, first)),
                // Another call was quicker: less is left, and may still do.
                Err(Error::BudgetExceeded { .. }) if output > 1 => most = output - 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn open(&self, request: &ChatRequest) -> Result<Account> {
        let (info, limits) = (self.inner.info(), self.budget.limits());
        let is_bounded = limits.tokens.is_some() || limits.micro_usd.is_some();
        if limits.micro_usd.is_some() && info.price.is_none() {
            return Err(Error::Unsupported {
                who: info.name(),
                what: "a budget in money".into(),
                hint: "its price is not known; give the model one, or bound tokens instead".into(),
            });
        }
        let input = request.estimated_tokens();
        let most = request
            .max_output_tokens
            .or(info.max_output_tokens)
            .unwrap_or(Budget::ANSWER_TOKENS);
        let (output, first) = if is_bounded {
            self.reserve(input, most)?
        } else {
            (u64::MAX, self.budget.reserve(Spend::call(0))?)
        };
        let clock = SystemClock;
        Ok(Account {
            reserved: vec![first],
            budget: self.budget.clone(),
            info: info.clone(),
            output,
            meter: Meter::new(input),
            tape: Tape::default(),
            earlier: Spend::default(),
            began: clock.now(),
        })
    }
}

#[async_trait]
impl ChatModel for Budgeted {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let mut account = self.open(&request)?;
        match self.inner.stream(request).await {
            Ok(stream) => Ok(watch(stream, account)),
            Err(error) => {
                account.refused(&error);
                Err(error)
            }
        }
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

/// What one call has set aside. Dropping it books what was used by then.
struct Account {
    /// Empty once it is settled.
    reserved: Vec<Reservation>,
    budget: Budget,
    info: ModelInfo,
    /// Output tokens that are set aside.
    output: u64,
    meter: Meter,
    tape: Tape,
    /// What tries before this one took.
    earlier: Spend,
    began: Duration,
}

impl Account {
    fn settle(&mut self, tokens: u64, micro_usd: u64) {
        let mut reserved = std::mem::take(&mut self.reserved).into_iter();
        let Some(first) = reserved.next() else { return };
        let mut actual = Spend::call(tokens.saturating_add(self.earlier.tokens));
        actual.calls += self.earlier.calls;
        actual.micro_usd = micro_usd.saturating_add(self.earlier.micro_usd);
        let took = SystemClock.now().saturating_sub(self.began);
        actual.time_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        first.settle(actual);
    }

    fn settle_metered(&mut self) {
        let usage = self.meter.usage();
        let cost = self
            .meter
            .cost()
            .or_else(|| self.info.price.as_ref()?.cost(&usage));
        self.settle(usage.total(), cost.map_or(0, |cost| cost.micro_usd));
    }

    fn earlier(&mut self, attempt: &stepwell_core::Attempt) {
        self.earlier.calls += 1;
        self.earlier.tokens += attempt.usage.as_ref().map_or(0, Usage::total);
        self.earlier.micro_usd += attempt.cost.map_or(0, |cost| cost.micro_usd);
    }

    /// The call failed before its first event.
    fn refused(&mut self, error: &Error) {
        for attempt in error
            .vendor_failure()
            .map_or(&[][..], |failure| &failure.attempts)
        {
            self.earlier(attempt);
        }
        self.meter.failure(error);
        // Who stalled had read the request; who refused it, or was not reached, bills nothing.
        let is_read = self.meter.has_begun()
            || matches!(error, Error::Timeout { timer, .. } if !matches!(timer, Timer::Connect | Timer::Queue));
        if is_read {
            self.settle_metered();
        } else {
            self.settle(0, 0);
        }
    }
}

impl Watcher for Account {
    fn event(&mut self, event: &StreamEvent) -> Result<()> {
        if let StreamEvent::Attempt(attempt) = event {
            self.earlier(attempt);
        }
        self.meter.event(event);
        if self.output < u64::MAX {
            self.tape.note(event);
        }
        if matches!(event, StreamEvent::Finish { .. }) {
            self.settle_metered();
            return Ok(());
        }
        while self.meter.output() > self.output {
            match self.budget.reserve(spend(&self.info, 0, STEP_TOKENS, 0)) {
                Ok(more) => {
                    self.reserved.push(more);
                    self.output += STEP_TOKENS;
                }
                Err(Error::BudgetExceeded { what, limit, .. }) => {
                    let info = &self.info;
                    let mut partial = self
                        .tape
                        .partial([], &info.provider, &info.model, info.price.as_ref());
                    partial.usage = self.meter.usage();
                    self.settle_metered();
                    return Err(Error::BudgetExceeded {
                        what,
                        limit,
                        partial: Some(Box::new(partial)),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn failure(&mut self, error: Error) -> Error {
        self.meter.failure(&error);
        self.settle_metered();
        error
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settle_metered();
    }
}

#[cfg(test)]
mod tests {
    use crate::layers::{
        ModelExt, RetryOptions, VirtualClock,
        played::{Played, Step, delta, overloaded, said, start, usage},
    };
    use futures::executor::block_on;
    use std::sync::Arc;
    use stepwell_core::{Budget, BudgetLimits, ChatModel, ChatRequest, Error, StreamEvent};

    /// Deltas of 40 bytes, ten tokens each by estimate.
    fn long(deltas: usize) -> Vec<Step> {
        let mut events = vec![start(), usage(10, 0), StreamEvent::TextStart { index: 0 }];
        events.extend((0..deltas).map(|_| delta(&"word ".repeat(8))));
        let tail = said("x").split_off(3);
        events.extend(tail);
        events.into_iter().map(Step::Event).collect()
    }

    #[test]
    fn an_answer_is_stopped_at_the_limit_with_what_had_come() {
        let clock = VirtualClock::new();
        let budget = Budget::tokens(500);
        let model = Played::new("m", &clock)
            .play(long(200))
            .with_budget(budget.clone());
        match block_on(clock.run(model.chat("hi".into()))) {
            Err(Error::BudgetExceeded {
                what,
                partial: Some(partial),
                ..
            }) => {
                assert_eq!(what, "tokens");
                assert!(partial.usage.is_estimated);
                let said = partial.text().len() as u64 / 4;
                assert!((400..=520).contains(&said), "{said}");
                // At most one delta over the limit.
                assert!(
                    (480..=520).contains(&budget.spent().tokens),
                    "{:?}",
                    budget.spent()
                );
            }
            other => panic!("expected a stop, got {other:?}"),
        }
        // Not one token is left for another call.
        let error = block_on(clock.run(model.chat("hi".into()))).expect_err("nothing left");
        assert_eq!(error.code(), "budget_exceeded");
    }

    #[test]
    fn the_true_figures_are_booked_and_the_rest_is_given_back() {
        let clock = VirtualClock::new();
        let budget = Budget::tokens(10_000);
        let model = Played::new("m", &clock)
            .say("a")
            .say("b")
            .with_budget(budget.clone());
        block_on(clock.run(async {
            let stream = model.stream("hi".into()).await.expect("begins");
            assert!(budget.available().tokens.expect("bounded") < 10_000 - 4_000);
            drop(stream);
            let begun = budget.spent();
            assert!(
                begun.tokens > 0 && begun.tokens < 20 && begun.calls == 1,
                "{begun:?}"
            );
            model.chat("hi".into()).await.expect("fits");
            assert_eq!(budget.spent().tokens, begun.tokens + 15);
        }));
        assert_eq!(budget.available().tokens, Some(10_000 - budget.spent().tokens));
    }

    #[test]
    fn money_is_bounded_too_and_needs_a_price() {
        let clock = VirtualClock::new();
        let mut limits = BudgetLimits::default();
        limits.micro_usd = Some(300);
        let budget = Budget::new(limits);
        let model = Played::new("m", &clock)
            .play(long(100))
            .with_budget(budget.clone());
        let error = block_on(clock.run(model.chat("hi".into()))).expect_err("stopped");
        assert_eq!(
            (error.code(), error.partial().is_some()),
            ("budget_exceeded", true)
        );
        assert!(
            (280..=320).contains(&budget.spent().micro_usd),
            "{:?}",
            budget.spent()
        );

        let unpriced = crate::Scripted::new().say("x").with_budget(budget);
        let error = block_on(unpriced.chat("hi".into())).expect_err("no price");
        assert_eq!(error.code(), "unsupported");
    }

    #[test]
    fn a_refused_try_costs_a_call_and_no_tokens_and_is_never_repeated_for_money() {
        let clock = VirtualClock::new();
        let budget = Budget::tokens(10_000);
        let inner = Played::new("m", &clock).fail(overloaded()).say("a");
        let retry = || RetryOptions::default().seed(1).clock(Arc::new(clock.clone()));
        let model = inner.with_retry(retry()).with_budget(budget.clone());
        block_on(clock.run(model.chat("hi".into()))).expect("the second try");
        assert_eq!((budget.spent().calls, budget.spent().tokens), (2, 15));

        let inner = Played::new("m", &clock);
        let model = inner.clone().with_budget(Budget::tokens(1)).with_retry(retry());
        let request = ChatRequest::from("a question that does not fit");
        assert_eq!(
            block_on(clock.run(model.chat(request)))
                .expect_err("too small")
                .code(),
            "budget_exceeded"
        );
        assert_eq!(inner.calls(), 0);
    }
}
