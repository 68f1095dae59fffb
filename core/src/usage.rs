//! [`Usage`] and [`FinishReason`]: what an answer took, and why it ended.

use serde::{Deserialize, Serialize};

/// Tokens of one call, in **disjoint** parts: their sum is the total, whatever the vendor's own convention is.
/// Searches are counted beside them.
/// What was not reported is `None`, never 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Input read afresh (neither from nor into a cache).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Input read from the vendor's prompt cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Input written to the cache (kept about five minutes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Input written to the cache for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_tokens: Option<u64>,
    /// Output the user sees, without reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Output spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Searches that are billed beside the tokens: the vendor's own on the web, or a reranker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searches: Option<u64>,
    /// The figures are ours, not the vendor's (a stream was cut, or the vendor reports none).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_estimated: bool,
}

impl Usage {
    /// All input, cached or not.
    pub fn total_input(&self) -> u64 {
        [
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.cache_write_1h_tokens,
        ]
        .into_iter()
        .flatten()
        .sum()
    }

    /// All output, reasoning included.
    pub fn total_output(&self) -> u64 {
        [self.output_tokens, self.reasoning_tokens]
            .into_iter()
            .flatten()
            .sum()
    }

    /// Everything.
    pub fn total(&self) -> u64 {
        self.total_input() + self.total_output()
    }

    /// Adds another call's figures; a part unknown on both sides stays unknown.
    pub fn add(&mut self, other: &Self) {
        fn sum(a: &mut Option<u64>, b: Option<u64>) {
            if let Some(b) = b {
                *a = Some(a.unwrap_or(0).saturating_add(b));
            }
        }
        sum(&mut self.input_tokens, other.input_tokens);
        sum(&mut self.cache_read_tokens, other.cache_read_tokens);
        sum(&mut self.cache_write_tokens, other.cache_write_tokens);
        sum(&mut self.cache_write_1h_tokens, other.cache_write_1h_tokens);
        sum(&mut self.output_tokens, other.output_tokens);
        sum(&mut self.reasoning_tokens, other.reasoning_tokens);
        sum(&mut self.searches, other.searches);
        self.is_estimated |= other.is_estimated;
    }
}

/// Why an answer ended. The vendor's own word is kept beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model was done, or met a stop sequence.
    Stop,
    /// The output limit or the context window was reached.
    Length,
    /// The model waits for tool results.
    ToolCalls,
    /// The model or the vendor refused.
    ContentFilter,
    /// Anything else; look at the raw word.
    #[default]
    Other,
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn unknown_parts_stay_unknown_when_calls_are_added() {
        let mut sum = Usage {
            input_tokens: Some(10),
            ..Usage::default()
        };
        sum.add(&Usage {
            input_tokens: Some(5),
            output_tokens: Some(2),
            ..Usage::default()
        });
        assert_eq!(
            (sum.input_tokens, sum.output_tokens, sum.cache_read_tokens),
            (Some(15), Some(2), None)
        );
        assert_eq!(sum.total(), 17);
    }
}
