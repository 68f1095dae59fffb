//! [`Budget`]: what a run may spend, reserved before it is spent.

use crate::{ChatRequest, Error, ModelInfo, Price, Result, Usage};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds; `None` is unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BudgetLimits {
    /// Money, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Model and tool calls.
    pub calls: Option<u64>,
    /// Working time in milliseconds, pauses not counted.
    pub time_ms: Option<u64>,
}

/// An amount of everything a budget counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Spend {
    /// Money, in millionths of a US dollar.
    pub micro_usd: u64,
    /// Tokens in and out.
    pub tokens: u64,
    /// Model and tool calls.
    pub calls: u64,
    /// Milliseconds.
    pub time_ms: u64,
}

impl Spend {
    /// One call of so many tokens.
    pub fn call(tokens: u64) -> Self {
        Self {
            tokens,
            calls: 1,
            ..Self::default()
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            micro_usd: self.micro_usd.saturating_add(other.micro_usd),
            tokens: self.tokens.saturating_add(other.tokens),
            calls: self.calls.saturating_add(other.calls),
            time_ms: self.time_ms.saturating_add(other.time_ms),
        }
    }

    /// This without that; never below nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            micro_usd: self.micro_usd.saturating_sub(other.micro_usd),
            tokens: self.tokens.saturating_sub(other.tokens),
            calls: self.calls.saturating_sub(other.calls),
            time_ms: self.time_ms.saturating_sub(other.time_ms),
        }
    }
}

#[derive(Debug, Default)]
struct Account {
    limits: BudgetLimits,
    spent: Spend,
    reserved: Spend,
    /// The account this is a part of: what is spent here is spent there too.
    whole: Option<Budget>,
}

/// What a run and its children may spend together. Clones share one account.
///
/// ```
/// # use stepwell_core::{Budget, BudgetLimits, Spend};
/// let budget = Budget::tokens(1_000);
/// let first = budget.reserve(Spend::call(800)).unwrap();
/// assert!(budget.reserve(Spend::call(300)).is_err()); // reserved is as good as spent
/// first.settle(Spend::call(120));                     // the true figure frees the rest
/// assert!(budget.reserve(Spend::call(300)).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<Mutex<Account>>);

impl Budget {
    /// Output tokens that are set aside where nobody says how long an answer may get.
    pub const ANSWER_TOKENS: u64 = 4_096;

    /// A budget with these bounds.
    pub fn new(limits: BudgetLimits) -> Self {
        Self(Arc::new(Mutex::new(Account {
            limits,
            ..Account::default()
        })))
    }

    /// No bounds: it only counts.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// Bounded in tokens alone.
    pub fn tokens(limit: u64) -> Self {
        Self::new(BudgetLimits {
            tokens: Some(limit),
            ..BudgetLimits::default()
        })
    }

    /// Takes up where an earlier part of the run had stopped.
    pub fn resume(limits: BudgetLimits, spent: Spend) -> Self {
        Self(Arc::new(Mutex::new(Account {
            limits,
            spent,
            ..Account::default()
        })))
    }

    /// Whether anything is bounded, here or in the budget this is a part of.
    pub fn is_bounded(&self) -> bool {
        self.available() != BudgetLimits::default()
    }

    /// A part of this budget with bounds of its own: what is spent there is spent here, and neither bound is passed.
    #[must_use]
    pub fn part(&self, limits: BudgetLimits) -> Self {
        Self(Arc::new(Mutex::new(Account {
            limits,
            whole: Some(self.clone()),
            ..Account::default()
        })))
    }

    /// Equal parts of what may still be spent, for work that runs side by side: none can spend what another was meant to
    /// have. Working time is not divided, for they spend it together.
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let left = self.available();
        let count = u64::try_from(parts.max(1)).unwrap_or(u64::MAX);
        let share = |amount: Option<u64>| amount.map(|amount| amount / count);
        let limits = BudgetLimits {
            micro_usd: share(left.micro_usd),
            tokens: share(left.tokens),
            calls: share(left.calls),
            time_ms: left.time_ms,
        };
        (0..parts).map(|_| self.part(limits.clone())).collect()
    }

    /// Sets an amount aside before it is spent.
    ///
    /// # Errors
    /// [`Error::BudgetExceeded`] when spent + reserved + this would pass a bound; nothing is set aside then.
    pub fn reserve(&self, amount: Spend) -> Result<Reservation> {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = account.whole.clone();
        let sum = account.spent.plus(account.reserved).plus(amount);
        let over = |what: &str, sum: u64, limit: Option<u64>, unit: &str| match limit {
            Some(limit) if sum > limit => Err(Error::BudgetExceeded {
                what: what.into(),
                limit: format!("{limit} {unit}"),
                partial: None,
            }),
            _ => Ok(()),
        };
        over(
            "money",
            sum.micro_usd,
            account.limits.micro_usd,
            "millionths of a dollar",
        )?;
        over("tokens", sum.tokens, account.limits.tokens, "tokens")?;
        over("calls", sum.calls, account.limits.calls, "calls")?;
        over("time", sum.time_ms, account.limits.time_ms, "ms")?;
        // A part is locked before its whole, never the other way round.
        let outer = whole.map(|whole| whole.reserve(amount)).transpose()?;
        account.reserved = account.reserved.plus(amount);
        Ok(Reservation {
            account: Arc::clone(&self.0),
            amount,
            outer: outer.map(Box::new),
        })
    }

    /// Sets aside what a call of this model may spend: the prompt as it is estimated and the longest answer. Where the
    /// request leaves the length of the answer open, what is left of tokens and money bounds it. Without a bound in
    /// either, nothing has to be estimated.
    ///
    /// # Errors
    /// As [`Budget::reserve`]; [`Error::Unsupported`] for a bound in money and a model without a price.
    pub fn reserve_call(&self, info: &ModelInfo, request: &mut ChatRequest) -> Result<Reservation> {
        let left = self.available();
        if left.tokens.is_none() && left.micro_usd.is_none() {
            return self.reserve(Spend::call(0));
        }
        // The estimate: a vendor's own count would be a call before every call.
        let input = request.estimated_tokens();
        let is_open = request.max_output_tokens.is_none();
        let mut output = request
            .max_output_tokens
            .or(info.max_output_tokens)
            .unwrap_or(Self::ANSWER_TOKENS);
        if let Some(tokens) = left.tokens.filter(|_| is_open) {
            output = output.min(tokens.saturating_sub(input).max(1));
        }
        if let (Some(micro_usd), Some(price)) = (left.micro_usd.filter(|_| is_open), &info.price)
            // The longest answer of a model may cost more than a person means to spend on all of them.
            && let Some(affordable) = affordable_output(price, input, micro_usd)
        {
            output = output.min(affordable.max(1));
        }
        if is_open {
            request.max_output_tokens = Some(output);
        }
        let mut spend = Spend::call(input.saturating_add(output));
        let mut estimate = Usage::default();
        (estimate.input_tokens, estimate.output_tokens) = (Some(input), Some(output));
        match info.price.as_ref().and_then(|price| price.cost(&estimate)) {
            Some(cost) => spend.micro_usd = cost.micro_usd,
            // An unknown price is not 0: the bound could not be kept.
            None if left.micro_usd.is_some() => {
                return Err(Error::Unsupported {
                    who: info.name(),
                    what: "a budget in money".into(),
                    hint: "its price is not known; give the model one, or bound tokens instead".into(),
                });
            }
            None => {}
        }
        self.reserve(spend)
    }

    /// What may still be set aside; `None` for what has no bound. Others may take it first.
    pub fn available(&self) -> BudgetLimits {
        let account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = account.whole.as_ref().map(Self::available).unwrap_or_default();
        let used = account.spent.plus(account.reserved);
        let left = |limit: Option<u64>, used: u64, whole: Option<u64>| {
            let own = limit.map(|limit| limit.saturating_sub(used));
            own.into_iter().chain(whole).min()
        };
        BudgetLimits {
            micro_usd: left(account.limits.micro_usd, used.micro_usd, whole.micro_usd),
            tokens: left(account.limits.tokens, used.tokens, whole.tokens),
            calls: left(account.limits.calls, used.calls, whole.calls),
            time_ms: left(account.limits.time_ms, used.time_ms, whole.time_ms),
        }
    }

    /// What was spent so far, reservations not counted.
    pub fn spent(&self) -> Spend {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spent
    }

    /// The bounds.
    pub fn limits(&self) -> BudgetLimits {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .limits
            .clone()
    }
}

/// An amount set aside. Dropping it unsettled gives it back.
#[derive(Debug)]
#[must_use = "settle it with the true figure, or drop it to give the amount back"]
pub struct Reservation {
    account: Arc<Mutex<Account>>,
    amount: Spend,
    /// The same amount in the account this one is a part of.
    outer: Option<Box<Reservation>>,
}

impl Reservation {
    /// Books what was really spent, which may be more than was set aside.
    pub fn settle(mut self, actual: Spend) {
        if let Some(outer) = self.outer.take() {
            outer.settle(actual);
        }
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.spent = account.spent.plus(actual);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.reserved = account.reserved.minus(self.amount);
    }
}

/// How long an answer may be for so much money, behind a prompt of this length; `None` where a price is unknown or
/// answers are free.
fn affordable_output(price: &Price, input_tokens: u64, micro_usd: u64) -> Option<u64> {
    let pico_usd = |output_tokens| {
        let mut usage = Usage::default();
        (usage.input_tokens, usage.output_tokens) = (Some(input_tokens), Some(output_tokens));
        price.pico_usd(&usage)
    };
    let (prompt, with_one) = (pico_usd(0)?, pico_usd(1)?);
    let left = (u128::from(micro_usd) * 1_000_000).saturating_sub(prompt);
    let tokens = left.checked_div(with_one.saturating_sub(prompt))?;
    Some(u64::try_from(tokens).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Budget, Spend};

    #[test]
    fn children_share_one_account_and_a_dropped_reservation_returns() {
        let budget = Budget::tokens(100);
        let child = budget.clone();
        let held = child.reserve(Spend::call(90)).expect("fits");
        assert_eq!(
            budget
                .reserve(Spend::call(20))
                .expect_err("held elsewhere")
                .code(),
            "budget_exceeded"
        );
        assert_eq!(budget.available().tokens, Some(10));
        drop(held);
        budget
            .reserve(Spend::call(100))
            .expect("given back")
            .settle(Spend::call(60));
        assert_eq!(child.spent().tokens, 60);
    }

    #[test]
    fn a_part_spends_from_its_whole_and_neither_bound_is_passed() {
        let budget = Budget::tokens(100);
        let parts = budget.split(3);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0].available().tokens, Some(33));
        assert!(parts[0].reserve(Spend::call(34)).is_err(), "another part's");
        let held = parts[0].reserve(Spend::call(33)).expect("its own");
        assert_eq!(budget.available().tokens, Some(67), "held in the whole as well");
        held.settle(Spend::call(30));
        assert_eq!((parts[0].spent().tokens, budget.spent().tokens), (30, 30));
        // Somebody else takes from the whole: the part cannot have what is not there.
        budget
            .reserve(Spend::call(60))
            .expect("fits")
            .settle(Spend::call(60));
        assert_eq!(parts[1].available().tokens, Some(10));
        assert!(parts[1].reserve(Spend::call(11)).is_err());
        assert_eq!(
            parts[1].available().tokens,
            Some(10),
            "nothing stays set aside after a refusal"
        );
    }
}
