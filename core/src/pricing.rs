//! [`Price`], [`Cost`], [`PriceTable`]: the types of money; the figures are data of `providers`.

use crate::Usage;
use serde::{Deserialize, Serialize};

/// Money in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cost {
    /// Millionths of a US dollar.
    pub micro_usd: u64,
}

impl Cost {
    /// In dollars, for showing.
    #[allow(clippy::cast_precision_loss)] // shown with a few digits
    pub fn usd(self) -> f64 {
        self.micro_usd as f64 / 1e6
    }
}

/// What a model asks per million tokens, in millionths of a US dollar. `None` is unknown, never free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Price {
    /// Fresh input.
    pub input: Option<u64>,
    /// Input read from the cache.
    pub cache_read: Option<u64>,
    /// Input written to the cache (five minutes).
    pub cache_write: Option<u64>,
    /// Input written to the cache (one hour).
    pub cache_write_1h: Option<u64>,
    /// Output, reasoning included.
    pub output: Option<u64>,
    /// Where the figures come from.
    pub source: String,
    /// Day of the figures, `YYYY-MM-DD`.
    pub date: String,
}

impl Price {
    /// What a call cost; `None` where a part was used whose price is unknown.
    pub fn cost(&self, usage: &Usage) -> Option<Cost> {
        let parts = [
            (usage.input_tokens, self.input),
            (usage.cache_read_tokens, self.cache_read),
            (usage.cache_write_tokens, self.cache_write),
            (usage.cache_write_1h_tokens, self.cache_write_1h),
            (usage.output_tokens, self.output),
            (usage.reasoning_tokens, self.output),
        ];
        let mut total: u128 = 0;
        for (tokens, price) in parts {
            let tokens = tokens.unwrap_or(0);
            if tokens > 0 {
                total += u128::from(tokens) * u128::from(price?);
            }
        }
        Some(Cost {
            micro_usd: u64::try_from(total.div_ceil(1_000_000)).ok()?,
        })
    }
}

/// Where prices are looked up.
pub trait PriceTable: Send + Sync {
    /// The price of a model on a day (`YYYY-MM-DD`); `None` is unknown.
    fn price(&self, provider: &str, model: &str, date: &str) -> Option<Price>;
}

#[cfg(test)]
mod tests {
    use super::{Cost, Price};
    use crate::Usage;

    #[test]
    fn an_unknown_price_makes_the_cost_unknown_and_not_zero() {
        let price = Price {
            input: Some(2_000_000),
            output: None,
            ..Price::default()
        };
        let input_only = Usage {
            input_tokens: Some(500_000),
            ..Usage::default()
        };
        assert_eq!(price.cost(&input_only), Some(Cost { micro_usd: 1_000_000 }));
        let both = Usage {
            output_tokens: Some(1),
            ..input_only
        };
        assert_eq!(price.cost(&both), None);
    }
}
