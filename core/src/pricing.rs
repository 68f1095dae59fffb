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
    /// Of a sum that a vendor states in dollars, rounded up; `None` where it is no sum of money.
    pub fn from_usd(usd: f64) -> Option<Self> {
        // Beyond that a double no longer tells one millionth from the next.
        if !(0.0..9e9).contains(&usd) {
            return None;
        }
        // A sum such as 0.000123 is not exact in binary: its noise must not become a millionth more.
        let micro = usd * 1e6;
        let rounded = if (micro - micro.round()).abs() < 1e-6 {
            micro.round()
        } else {
            micro.ceil()
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked above
        Some(Self {
            micro_usd: rounded as u64,
        })
    }

    /// Of millionths of millionths of a dollar, rounded up.
    pub fn from_pico_usd(pico_usd: u128) -> Option<Self> {
        Some(Self {
            micro_usd: u64::try_from(pico_usd.div_ceil(1_000_000)).ok()?,
        })
    }

    /// In dollars, for showing.
    #[allow(clippy::cast_precision_loss)] // shown with a few digits
    pub fn usd(self) -> f64 {
        self.micro_usd as f64 / 1e6
    }
}

/// What a long prompt costs: once a request's input is longer than the mark, **all** its tokens are billed so.
/// What is `None` costs as without the tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PriceTier {
    /// Applies from one token more than this, cached input counted in.
    pub above_input_tokens: u64,
    /// Fresh input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Input read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Input written to the cache (five minutes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Input written to the cache (one hour).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
    /// Output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Reasoning, where it is priced apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

impl PriceTier {
    /// A tier that begins above so many tokens of input, nothing priced yet.
    pub fn above(input_tokens: u64) -> Self {
        Self {
            above_input_tokens: input_tokens,
            ..Self::default()
        }
    }
}

/// What a model asks, in millionths of a US dollar: tokens per million, fees per thousand. `None` is unknown, never
/// free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Output.
    pub output: Option<u64>,
    /// Reasoning, where it is priced apart; it costs as output where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// A thousand searches: the vendor's own on the web, or a reranker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub searches: Option<u64>,
    /// A thousand requests, where a request costs beside its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Dearer or cheaper long prompts, in any order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<PriceTier>,
    /// First day of the price, `YYYY-MM-DD`; `None` where it always was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where the figures come from.
    pub source: String,
    /// Day of the figures, `YYYY-MM-DD`.
    pub date: String,
}

impl Price {
    /// The highest tier that a request with so much input reaches.
    fn tier(&self, input_tokens: u64) -> Option<&PriceTier> {
        self.tiers
            .iter()
            .filter(|tier| input_tokens > tier.above_input_tokens)
            .max_by_key(|tier| tier.above_input_tokens)
    }

    /// What **one** call cost, to the millionth of a millionth of a dollar: for sums over many small calls.
    /// `None` where nothing was reported, or a part was used whose price is unknown.
    pub fn pico_usd(&self, usage: &Usage) -> Option<u128> {
        let tier = self.tier(usage.total_input());
        let rate = |own: Option<u64>, of_tier: fn(&PriceTier) -> Option<u64>| tier.and_then(of_tier).or(own);
        let output = rate(self.output, |tier| tier.output);
        // A tier that prices output and not reasoning means both.
        let reasoning = tier
            .and_then(|tier| tier.reasoning.or(tier.output))
            .or(self.reasoning)
            .or(output);
        // Per million tokens, millionths: the product is in millionths of millionths.
        let parts = [
            (usage.input_tokens, rate(self.input, |tier| tier.input), 1),
            (
                usage.cache_read_tokens,
                rate(self.cache_read, |tier| tier.cache_read),
                1,
            ),
            (
                usage.cache_write_tokens,
                rate(self.cache_write, |tier| tier.cache_write),
                1,
            ),
            (
                usage.cache_write_1h_tokens,
                rate(self.cache_write_1h, |tier| tier.cache_write_1h),
                1,
            ),
            (usage.output_tokens, output, 1),
            (usage.reasoning_tokens, reasoning, 1),
            (usage.searches, self.searches, 1_000),
        ];
        if parts.iter().all(|(count, ..)| count.is_none()) {
            return None;
        }
        let mut total = u128::from(self.requests.unwrap_or(0)) * 1_000;
        for (count, price, scale) in parts {
            let count = count.unwrap_or(0);
            if count > 0 {
                let part = u128::from(count) * u128::from(price?);
                total = total.checked_add(part.checked_mul(scale)?)?;
            }
        }
        Some(total)
    }

    /// What **one** call cost, rounded up to the millionth of a dollar; `None` where nothing was reported, or a
    /// part was used whose price is unknown.
    pub fn cost(&self, usage: &Usage) -> Option<Cost> {
        Cost::from_pico_usd(self.pico_usd(usage)?)
    }
}

/// Where prices are looked up.
pub trait PriceTable: Send + Sync {
    /// The price of a model on a day (`YYYY-MM-DD`); `None` is unknown.
    fn price(&self, provider: &str, model: &str, date: &str) -> Option<Price>;
}

#[cfg(test)]
mod tests {
    use super::{Cost, Price, PriceTier};
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
        assert_eq!(
            price.cost(&Usage::default()),
            None,
            "nothing reported is not free"
        );
    }

    /// A price such as a vendor's with a long-prompt tier: $1.25 / $0.125 / $10 and above 200,000 tokens
    /// $2.50 / $0.25 / $15.
    fn tiered() -> Price {
        Price {
            input: Some(1_250_000),
            cache_read: Some(125_000),
            output: Some(10_000_000),
            tiers: vec![PriceTier {
                above_input_tokens: 200_000,
                input: Some(2_500_000),
                cache_read: Some(250_000),
                output: Some(15_000_000),
                ..PriceTier::default()
            }],
            ..Price::default()
        }
    }

    #[test]
    fn a_long_prompt_is_billed_whole_at_the_tier_from_the_first_token_over_the_mark() {
        // 150,000 fresh + 50,000 cached are exactly 200,000: not above.
        let mut usage = Usage {
            input_tokens: Some(150_000),
            cache_read_tokens: Some(50_000),
            output_tokens: Some(1_000),
            reasoning_tokens: Some(500),
            ..Usage::default()
        };
        // 150,000 x 1.25 + 50,000 x 0.125 + 1,500 x 10 = 187,500 + 6,250 + 15,000
        assert_eq!(tiered().cost(&usage), Some(Cost { micro_usd: 208_750 }));
        usage.cache_read_tokens = Some(50_001);
        // 150,000 x 2.5 + 50,001 x 0.25 + 1,500 x 15 = 375,000 + 12,500.25 + 22,500
        assert_eq!(tiered().pico_usd(&usage), Some(410_000_250_000));
        assert_eq!(tiered().cost(&usage), Some(Cost { micro_usd: 410_001 }));
    }

    #[test]
    fn the_highest_tier_that_is_reached_counts_whatever_their_order() {
        let mut price = tiered();
        price.tiers.insert(
            0,
            PriceTier {
                above_input_tokens: 500_000,
                input: Some(9_000_000),
                ..PriceTier::default()
            },
        );
        let of = |tokens| {
            price.pico_usd(&Usage {
                input_tokens: Some(tokens),
                ..Usage::default()
            })
        };
        assert_eq!(of(200_000), Some(200_000 * 1_250_000));
        assert_eq!(of(200_001), Some(200_001 * 2_500_000));
        assert_eq!(of(500_000), Some(500_000 * 2_500_000));
        assert_eq!(of(500_001), Some(500_001 * 9_000_000));
    }

    #[test]
    fn both_cache_writes_reasoning_and_fees_have_their_own_price() {
        let price = Price {
            input: Some(3_000_000),
            cache_read: Some(300_000),
            cache_write: Some(3_750_000),
            cache_write_1h: Some(6_000_000),
            output: Some(15_000_000),
            reasoning: Some(30_000_000),
            searches: Some(10_000_000),
            requests: Some(5_000_000),
            ..Price::default()
        };
        let usage = Usage {
            input_tokens: Some(1_000),
            cache_read_tokens: Some(2_000),
            cache_write_tokens: Some(400),
            cache_write_1h_tokens: Some(300),
            output_tokens: Some(100),
            reasoning_tokens: Some(10),
            searches: Some(2),
            ..Usage::default()
        };
        // 3,000 + 600 + 1,500 + 1,800 + 1,500 + 300 millionths, two searches 20,000, the request 5,000
        assert_eq!(price.cost(&usage), Some(Cost { micro_usd: 33_700 }));
        let no_search_price = Price {
            searches: None,
            ..price
        };
        assert_eq!(no_search_price.cost(&usage), None);
    }

    #[test]
    fn a_sum_in_dollars_is_taken_over_without_the_noise_of_binary_fractions() {
        for (usd, micro) in [
            (0.0, 0),
            (1.4e-7, 1),
            (0.000_123, 123),
            (0.1 + 0.2, 300_000),
            (12.5, 12_500_000),
        ] {
            assert_eq!(Cost::from_usd(usd), Some(Cost { micro_usd: micro }), "{usd}");
        }
        for usd in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Cost::from_usd(usd), None);
        }
    }
}
