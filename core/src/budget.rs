//! [`Budget`]: what a run may spend, reserved before it is spent.

use crate::{Error, Result};
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

    fn plus(self, other: Self) -> Self {
        Self {
            micro_usd: self.micro_usd.saturating_add(other.micro_usd),
            tokens: self.tokens.saturating_add(other.tokens),
            calls: self.calls.saturating_add(other.calls),
            time_ms: self.time_ms.saturating_add(other.time_ms),
        }
    }

    fn minus(self, other: Self) -> Self {
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
            reserved: Spend::default(),
        })))
    }

    /// Sets an amount aside before it is spent.
    ///
    /// # Errors
    /// [`Error::BudgetExceeded`] when spent + reserved + this would pass a bound; nothing is set aside then.
    pub fn reserve(&self, amount: Spend) -> Result<Reservation> {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        account.reserved = account.reserved.plus(amount);
        Ok(Reservation {
            account: Arc::clone(&self.0),
            amount,
        })
    }

    /// What may still be set aside; `None` for what has no bound. Others may take it first.
    pub fn available(&self) -> BudgetLimits {
        let account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = account.spent.plus(account.reserved);
        let left = |limit: Option<u64>, used: u64| limit.map(|limit| limit.saturating_sub(used));
        BudgetLimits {
            micro_usd: left(account.limits.micro_usd, used.micro_usd),
            tokens: left(account.limits.tokens, used.tokens),
            calls: left(account.limits.calls, used.calls),
            time_ms: left(account.limits.time_ms, used.time_ms),
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
}

impl Reservation {
    /// Books what was really spent, which may be more than was set aside.
    pub fn settle(self, actual: Spend) {
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
}
