//! [`Plan`]: whether and when to ask again. Pure: time and chance are passed in.

use super::RetryOptions;
use crate::layers::{around::Around, breaker::CIRCUIT_OPEN, clock::Dice};
use std::time::Duration;
use stepwell_core::{Error, Timer};

/// What a failure before the first word of an answer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same request fails again, or the caller wants no more.
    Never,
    /// At once: nothing is gained by waiting.
    Now,
    /// After the vendor's own delay, else after ours.
    Later,
    /// At once, and the model's slip is counted apart: it wrote a tool call that the vendor could not read.
    Malformed,
}

impl Verdict {
    pub(super) fn of(error: &Error) -> Self {
        if let Some(failure) = error.vendor_failure() {
            match (failure.kind.as_deref(), failure.should_retry) {
                // Asking again is what the open circuit is to prevent.
                (Some(CIRCUIT_OPEN), _) | (_, Some(false)) => return Self::Never,
                (_, Some(true)) => return Self::Later,
                (Some("tool_use_failed"), None) => return Self::Malformed,
                _ => {}
            }
        }
        match error {
            Error::Transport { source, .. } if is_tls(source.as_ref()) => Self::Never,
            Error::RateLimited(_)
            | Error::Overloaded(_)
            | Error::Transport { .. }
            | Error::Timeout {
                timer: Timer::Connect,
                ..
            } => Self::Later,
            // Whoever stalled or broke off has been waited for already.
            Error::StreamTruncated { .. }
            | Error::Timeout {
                timer: Timer::FirstEvent | Timer::Idle | Timer::Attempt,
                ..
            } => Self::Now,
            _ => Self::Never,
        }
    }
}

#[cfg(feature = "http")]
fn is_tls(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.is::<crate::tls::TlsFault>()
}

#[cfg(not(feature = "http"))]
fn is_tls(_source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    false
}

/// The state of one call's retries.
#[derive(Debug)]
pub(super) struct Plan {
    began: Duration,
    retries: u32,
    malformed: u32,
}

impl Plan {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            began: now,
            retries: 0,
            malformed: 0,
        }
    }

    /// How long to wait before the next try; `None` where there is none.
    pub(super) fn next(
        &mut self,
        verdict: Verdict,
        asked: Option<Duration>,
        options: &RetryOptions,
        now: Duration,
        around: Around,
        dice: &Dice,
    ) -> Option<Duration> {
        let (count, most) = match verdict {
            Verdict::Never => return None,
            Verdict::Malformed => (&mut self.malformed, options.max_malformed_retries),
            Verdict::Now | Verdict::Later => (&mut self.retries, options.max_retries),
        };
        if *count >= most {
            return None;
        }
        let wait = if verdict == Verdict::Later {
            // What the vendor asks for tells another model's turn even where it is too long to be waited for.
            if around.is_too_long(asked.unwrap_or_default()) {
                return None;
            }
            asked
                .filter(|asked| !asked.is_zero() && *asked <= options.max_server_delay)
                .unwrap_or_else(|| backoff(*count, options, dice.unit()))
        } else {
            Duration::ZERO
        };
        let is_over = options
            .deadline
            .is_some_and(|limit| now.saturating_add(wait) > self.began.saturating_add(limit));
        if is_over || around.is_too_long(wait) {
            return None;
        }
        *count += 1;
        Some(wait)
    }
}

/// Our own delay before retry `n + 1`: twice as long each time up to a cap, and down to three quarters of that by
/// chance, so that many callers do not come back at once.
fn backoff(retries: u32, options: &RetryOptions, chance: f64) -> Duration {
    let doubled = options
        .first_delay
        .saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX));
    doubled.min(options.max_delay).mul_f64(1.0 - 0.25 * chance)
}

#[cfg(test)]
mod tests {
    use super::{Plan, Verdict, backoff};
    use crate::layers::{around::Around, clock::Dice, retry::RetryOptions};
    use proptest::prelude::*;
    use std::time::Duration;
    use stepwell_core::{ChatResponse, Error, FinishReason};

    #[test]
    fn the_own_delay_doubles_up_to_its_cap_and_is_never_below_three_quarters() {
        let options = RetryOptions::default();
        for (retries, seconds) in [
            (0, 0.5),
            (1, 1.0),
            (2, 2.0),
            (3, 4.0),
            (4, 8.0),
            (5, 8.0),
            (40, 8.0),
        ] {
            assert!((backoff(retries, &options, 0.0).as_secs_f64() - seconds).abs() < 1e-9);
            let least = backoff(retries, &options, 0.999_999_9).as_secs_f64();
            assert!(least >= 0.75 * seconds && least < 0.76 * seconds, "{least}");
        }
    }

    #[test]
    fn an_answer_of_the_wrong_shape_is_not_asked_for_again() {
        let answer = ChatResponse::new("acme", "m", Vec::new(), FinishReason::Stop);
        let error = Error::SchemaMismatch {
            provider: "acme".into(),
            faults: Vec::new(),
            response: Box::new(answer),
        };
        assert_eq!(Verdict::of(&error), Verdict::Never);
        assert!(!error.is_retryable());
    }

    fn verdicts() -> impl Strategy<Value = (Verdict, Option<u64>, u64)> {
        (
            prop_oneof![
                1 => Just(Verdict::Never),
                3 => Just(Verdict::Now),
                6 => Just(Verdict::Later),
                2 => Just(Verdict::Malformed),
            ],
            proptest::option::of(0_u64..400_000),
            0_u64..60_000,
        )
    }

    proptest! {
        /// Whatever comes in whatever order: the counts, the deadline, the patience and the bounds of every wait hold.
        #[test]
        fn no_order_of_failures_breaks_a_bound(
            steps in proptest::collection::vec(verdicts(), 1..40),
            max_retries in 0_u32..6,
            max_malformed in 0_u32..4,
            deadline_ms in proptest::option::of(0_u64..300_000),
            patience_ms in proptest::option::of(0_u64..10_000),
            seed: u64,
        ) {
            let options = RetryOptions::default()
                .max_retries(max_retries)
                .max_malformed_retries(max_malformed)
                .deadline(deadline_ms.map(Duration::from_millis));
            let around = Around { is_retrying: false, patience: patience_ms.map(Duration::from_millis) };
            let dice = Dice::new(Some(seed));
            let mut now = Duration::from_secs(9);
            let mut plan = Plan::new(now);
            let began = now;
            let (mut retries, mut malformed) = (0_u32, 0_u32);
            for (verdict, asked_ms, took_ms) in steps {
                now += Duration::from_millis(took_ms);
                let asked = asked_ms.map(Duration::from_millis);
                let Some(wait) = plan.next(verdict, asked, &options, now, around, &dice) else {
                    break;
                };
                match verdict {
                    Verdict::Never => prop_assert!(false, "asked again after `never`"),
                    Verdict::Now => prop_assert_eq!(wait, Duration::ZERO),
                    Verdict::Malformed => {
                        malformed += 1;
                        prop_assert_eq!(wait, Duration::ZERO);
                    }
                    Verdict::Later => {
                        let full = (0.5 * f64::from(1 << retries.min(5))).min(8.0);
                        let own = 0.75 * full - 1e-6..=full + 1e-6;
                        let honoured = asked.filter(|asked| !asked.is_zero() && *asked <= options.max_server_delay);
                        prop_assert!(honoured == Some(wait) || honoured.is_none() && own.contains(&wait.as_secs_f64()));
                    }
                }
                if verdict != Verdict::Malformed {
                    retries += 1;
                }
                now += wait;
                prop_assert!(retries <= max_retries && malformed <= max_malformed);
                prop_assert!(options.deadline.is_none_or(|limit| now <= began + limit));
                prop_assert!(around.patience.is_none_or(|patience| wait <= patience));
            }
        }
    }
}
