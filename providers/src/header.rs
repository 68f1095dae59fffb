//! What response headers say: the request's id, how long to wait, how much is left.

use reqwest::header::HeaderMap;
use std::time::{Duration, SystemTime};
use stepwell_core::RateLimit;

/// Longest wait that is believed: a day. Whether a shorter one is worth it is the retry layer's to decide.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
}

/// The vendor's id of the request. Anything that does not look like an id is left out: it goes into errors.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    ["request-id", "x-request-id"]
        .iter()
        .find_map(|name| text(headers, name))
        .filter(|id| is_id(id))
        .map(str::to_owned)
}

/// Whether a word from outside may stand in an error as an id.
pub(crate) fn is_id(word: &str) -> bool {
    (1..=128).contains(&word.len())
        && !word.starts_with("sk-")
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// The vendor's verdict on a second try.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match text(headers, "x-should-retry")? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// How long the vendor asks to wait: `retry-after-ms`, then `retry-after` as seconds, then as a date; each only
/// where it is above zero. Meant for failures: some vendors send it on success too.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let seconds = |number: &str, scale: f64| {
        let value = number.parse::<f64>().ok()? * scale;
        (value > 0.0)
            .then(|| Duration::try_from_secs_f64(value).ok())
            .flatten()
    };
    let after = text(headers, "retry-after");
    text(headers, "retry-after-ms")
        .and_then(|number| seconds(number, 0.001))
        .or_else(|| after.and_then(|number| seconds(number, 1.0)))
        .or_else(|| {
            let date = httpdate::parse_http_date(after?).ok()?;
            date.duration_since(now).ok().filter(|wait| !wait.is_zero())
        })
        .filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT)
}

/// How long a failure's body asks to wait, where no header did: Gemini's `RetryInfo`, else a sentence such as
/// "Please retry in 48.9s". The sentence is read only where the body is JSON of an error.
pub(crate) fn retry_after_in(body: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(body).ok()?;
    if !text.contains("retry") && !text.contains("try again") {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    // Gemini's JSON-array streams send the failure in an array.
    let value = value.get(0).unwrap_or(&value);
    let error = value.get("error").unwrap_or(value);
    let details = error.get("details").and_then(serde_json::Value::as_array);
    let told = details.into_iter().flatten().find_map(|detail| {
        let kind = detail.get("@type")?.as_str()?;
        kind.ends_with("google.rpc.RetryInfo")
            .then(|| span_ms(detail.get("retryDelay")?.as_str()?))
            .flatten()
    });
    told.or_else(|| {
        let sentence = error.get("message")?.as_str()?.to_ascii_lowercase();
        let at = ["retry in ", "try again in "]
            .iter()
            .find_map(|words| sentence.find(words).map(|at| at + words.len()))?;
        let span: String = sentence[at..]
            .chars()
            .take_while(|sign| sign.is_ascii_alphanumeric() || *sign == '.')
            .collect();
        span_ms(span.trim_end_matches('.'))
    })
    .map(Duration::from_millis)
    .filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT)
}

/// The vendor's limits: `anthropic-ratelimit-tokens-remaining`, `x-ratelimit-remaining-tokens` and their like.
pub(crate) fn rate_limits(headers: &HeaderMap, now: SystemTime) -> Vec<RateLimit> {
    let mut limits: Vec<RateLimit> = Vec::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let (kind, field) = if let Some(rest) = name.as_str().strip_prefix("anthropic-ratelimit-") {
            let Some(split) = rest.rsplit_once('-') else {
                continue;
            };
            split
        } else if let Some(rest) = name.as_str().strip_prefix("x-ratelimit-") {
            let Some((field, kind)) = rest.split_once('-') else {
                continue;
            };
            (kind, field)
        } else {
            continue;
        };
        if !matches!(field, "limit" | "remaining" | "reset") || limits.len() >= 16 {
            continue;
        }
        let kind = kind.replace('-', "_");
        let at = limits
            .iter()
            .position(|limit| limit.name == kind)
            .unwrap_or_else(|| {
                limits.push(RateLimit::new(kind));
                limits.len() - 1
            });
        match field {
            "limit" => limits[at].limit = value.parse().ok(),
            "remaining" => limits[at].remaining = value.parse().ok(),
            _ => limits[at].reset_ms = reset_ms(value, now),
        }
    }
    // Header maps have no order of their own.
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    limits
}

fn reset_ms(value: &str, now: SystemTime) -> Option<u64> {
    if let Some(at) = unix_ms(value) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
        return Some(at.saturating_sub(u64::try_from(now).ok()?));
    }
    span_ms(value)
}

/// A span such as `6ms`, `1m2.5s`, `1h0m0s`, or bare seconds.
fn span_ms(value: &str) -> Option<u64> {
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let letters = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        total += number
            * match &unit[..letters] {
                "ms" => 1.0,
                "s" | "" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => 86_400_000.0,
                _ => return None,
            };
        rest = &unit[letters..];
    }
    (!value.is_empty())
        .then(|| Duration::try_from_secs_f64(total / 1_000.0).ok())
        .flatten()
        .and_then(|span| u64::try_from(span.as_millis()).ok())
}

/// A moment such as `2026-02-14T13:19:10Z` in milliseconds since 1970 (RFC 3339).
fn unix_ms(value: &str) -> Option<u64> {
    let (date, time) = value.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let zone = time.rfind(['Z', 'z', '+', '-'])?;
    let offset = match &time[zone..] {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = i64::from(hours.parse::<u8>().ok()?) * 60 + i64::from(minutes.parse::<u8>().ok()?);
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let mut clock = time[..zone].splitn(3, ':');
    let (hour, minute) = (
        clock.next()?.parse::<i64>().ok()?,
        clock.next()?.parse::<i64>().ok()?,
    );
    let second: f64 = clock.next()?.parse().ok()?;
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || !(0..24).contains(&hour)
        || !(0..60).contains(&minute)
        || !(0.0..61.0).contains(&second)
        || offset.abs() > 24 * 60
    {
        return None;
    }
    // Days since 1970 by Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    let minutes = days * 1_440 + hour * 60 + minute - offset;
    u64::try_from(minutes)
        .ok()?
        .checked_mul(60_000)?
        .checked_add(u64::try_from(Duration::try_from_secs_f64(second).ok()?.as_millis()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::{
        is_id, rate_limits, request_id, retry_after, retry_after_in, should_retry, span_ms, unix_ms,
    };
    use crate::fixtures;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
    use std::time::{Duration, SystemTime};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).expect("a header"),
                )
            })
            .collect()
    }

    #[test]
    fn the_wait_is_read_in_the_order_milliseconds_seconds_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_696_004_797);
        for (pairs, expected) in [
            (
                vec![("retry-after-ms", "250"), ("retry-after", "9")],
                Some(Duration::from_millis(250)),
            ),
            (
                vec![("retry-after-ms", "0"), ("retry-after", "1")],
                Some(Duration::from_secs(1)),
            ),
            (
                vec![("retry-after", "Fri, 29 Sep 2023 16:26:47 GMT")],
                Some(Duration::from_secs(10)),
            ),
            (vec![("retry-after", "Fri, 29 Sep 2023 16:26:27 GMT")], None),
            (vec![("retry-after", "-10")], None),
            (vec![("retry-after", "NaN")], None),
            (vec![("retry-after", "1e300")], None),
            (vec![("retry-after", "soon")], None),
            // Above nothing, and shorter than any clock counts.
            (vec![("retry-after", "55e-77")], None),
            (vec![], None),
        ] {
            assert_eq!(retry_after(&headers(&pairs), now), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_recorded_retry_after_values_are_read_or_refused_as_the_vendor_does() {
        let Some(cases) = fixtures::lines("conformance/retry_after.jsonl") else {
            println!("skipped: 1 (no fixtures)");
            return;
        };
        assert!(!cases.is_empty());
        for case in &cases {
            let now =
                SystemTime::UNIX_EPOCH + Duration::from_secs(case["now_unix"].as_u64().expect("a time"));
            let value = case["retry_after"].as_str().expect("a value");
            let read = retry_after(&headers(&[("retry-after", value)]), now);
            let expected = case["expected_seconds"].as_f64().expect("seconds");
            // Where the vendor's client falls back to its own schedule (at most 8 s), the header gave nothing
            // below the cap of 120 s; the schedule itself is the retry layer's.
            match read.filter(|wait| *wait <= Duration::from_mins(2)) {
                Some(wait) => assert!((wait.as_secs_f64() - expected).abs() < 0.5, "{value}: {wait:?}"),
                None => assert!(expected <= 8.0, "{value} is an answer of {expected} s"),
            }
        }
    }

    #[test]
    fn limits_of_both_vendors_become_one_shape() {
        let now = SystemTime::UNIX_EPOCH
            + Duration::from_millis(unix_ms("2026-02-14T13:19:10Z").expect("a moment"));
        let limits = rate_limits(
            &headers(&[
                ("anthropic-ratelimit-input-tokens-limit", "2000000"),
                ("anthropic-ratelimit-input-tokens-remaining", "1999000"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-02-14T13:19:12Z"),
                ("x-ratelimit-remaining-requests", "399"),
                ("x-ratelimit-reset-requests", "1m2.5s"),
            ]),
            now,
        );
        assert_eq!(limits.len(), 2);
        assert_eq!(
            (
                limits[0].name.as_str(),
                limits[0].limit,
                limits[0].remaining,
                limits[0].reset_ms
            ),
            ("input_tokens", Some(2_000_000), Some(1_999_000), Some(2_000))
        );
        assert_eq!(
            (limits[1].name.as_str(), limits[1].remaining, limits[1].reset_ms),
            ("requests", Some(399), Some(62_500))
        );
    }

    #[test]
    fn a_wait_told_in_the_body_is_found_in_its_two_forms() {
        for (body, expected) in [
            (
                r#"{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.Help"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"48s"}]}}"#,
                Some(48_000),
            ),
            (
                r#"[{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}]"#,
                Some(1_500),
            ),
            (
                r#"{"error":{"message":"Quota exceeded. Please retry in 48.9s."}}"#,
                Some(48_900),
            ),
            (
                r#"{"error":{"message":"Rate limit. Please try again in 6ms. Visit us"}}"#,
                Some(6),
            ),
            (
                r#"{"error":{"message":"Please try again in 1m2.5s."}}"#,
                Some(62_500),
            ),
            (r#"{"error":{"message":"Please retry in 0s"}}"#, None),
            (r#"{"error":{"message":"Please retry in a while"}}"#, None),
            (r#"{"error":{"message":"Please retry in 9e99s"}}"#, None),
            ("please retry in 3s", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after_in(body.as_bytes()),
                expected.map(Duration::from_millis),
                "{body}"
            );
        }
    }

    #[test]
    fn spans_and_moments_are_read_and_nonsense_is_not() {
        assert_eq!(
            [
                span_ms("6ms"),
                span_ms("1h0m0s"),
                span_ms("0.5"),
                span_ms("1x"),
                span_ms("")
            ],
            [Some(6), Some(3_600_000), Some(500), None, None]
        );
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_ms("2024-02-29T12:00:00.5+02:00"), Some(1_709_200_800_500));
        assert_eq!(unix_ms("2024-13-01T00:00:00Z"), None);
        assert_eq!(unix_ms("T"), None);
        // A zone of more hours than a number holds.
        assert_eq!(unix_ms("2024-01-01T00:00:00+9000000000000000000:00"), None);
        assert_eq!(unix_ms("9999-12-31T23:59:60Z"), Some(253_402_300_800_000));
    }

    #[test]
    fn ids_are_taken_and_anything_that_could_be_a_key_or_words_is_not() {
        assert_eq!(
            request_id(&headers(&[("request-id", "req_011C")])).as_deref(),
            Some("req_011C")
        );
        assert_eq!(request_id(&headers(&[("x-request-id", "two words")])), None);
        assert!(!is_id("sk-canary") && !is_id(""));
        assert_eq!(
            should_retry(&headers(&[("x-should-retry", "false")])),
            Some(false)
        );
    }
}
