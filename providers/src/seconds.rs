//! Times as data: options can be read from a settings file, their times in seconds.

use serde::{Deserialize, Deserializer, de::Error};
use std::time::Duration;

/// A time in seconds, a fraction allowed.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    read(f64::deserialize(from)?)
}

/// The same where there may be none.
pub(crate) fn some_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Option::<f64>::deserialize(from)?.map(read).transpose()
}

fn read<E: Error>(seconds: f64) -> Result<Duration, E> {
    Duration::try_from_secs_f64(seconds).map_err(|_| E::custom("a time is a number of seconds, 0 or more"))
}

#[cfg(test)]
mod tests {
    use crate::layers::{
        BreakerOptions, CacheOptions, Continuation, FallbackOptions, FallbackReason, RateLimitOptions,
        RetryOptions, TimeoutOptions,
    };
    use serde_json::{from_value, json};
    use std::time::Duration;

    #[test]
    fn options_are_read_in_seconds_and_what_is_not_said_is_the_default() {
        let retry: RetryOptions =
            from_value(json!({ "max_retries": 7, "max_delay": 0.25, "deadline": null })).expect("reads");
        assert_eq!(
            (retry.max_retries, retry.max_delay),
            (7, Duration::from_millis(250))
        );
        assert_eq!(
            (retry.deadline, retry.first_delay),
            (None, Duration::from_millis(500))
        );
        let rate: RateLimitOptions =
            from_value(json!({ "requests_per_minute": 60, "max_wait": 2 })).expect("reads");
        assert_eq!(
            (rate.requests_per_minute, rate.max_wait),
            (Some(60), Some(Duration::from_secs(2)))
        );
        assert!(rate.is_adaptive);
        let fallback: FallbackOptions = from_value(
            json!({ "reasons": ["refusal", "rate_limit"], "patience": 1, "after_output": "prefill" }),
        )
        .expect("reads");
        assert_eq!(
            fallback.reasons,
            [FallbackReason::Refusal, FallbackReason::RateLimit]
        );
        assert_eq!(fallback.after_output, Some(Continuation::Prefill));
        let cache: CacheOptions = from_value(json!({ "time_to_live": 60 })).expect("reads");
        assert_eq!(cache.time_to_live, Some(Duration::from_mins(1)));
        let breaker: BreakerOptions = from_value(json!({ "open_for": 5 })).expect("reads");
        assert_eq!((breaker.failures, breaker.open_for), (5, Duration::from_secs(5)));
    }

    #[test]
    fn a_slip_in_a_name_and_a_time_that_is_none_are_refused() {
        let error = from_value::<RetryOptions>(json!({ "max_retrys": 7 })).expect_err("a slip");
        assert!(error.to_string().contains("max_retries"), "{error}");
        for time in [json!(-1), json!(1e300), json!("1")] {
            let error = from_value::<TimeoutOptions>(json!({ "total": time })).expect_err("no time");
            assert!(!error.to_string().is_empty());
        }
    }
}
