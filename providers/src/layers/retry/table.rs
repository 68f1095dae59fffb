//! Every form in which vendors say when to come back, over a real socket and under a virtual clock.

use crate::{
    Anthropic, OpenAi, fixtures,
    fixtures::{Act, Framing, Server, http_answer},
    layers::{ModelExt, RetryOptions, VirtualClock, clock::Clock},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use stepwell_core::{ChatModel, Error, VendorFailure};

const CHAT: &str = r#"{"id":"c1","object":"chat.completion","model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const MESSAGES: &str = r#"{"id":"m1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":1}}"#;

/// What the caller sees after one failure and a good answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Comes back after so many milliseconds.
    After(u64),
    /// At a date, so many milliseconds ahead when the table was made.
    About(u64),
    /// After our own first delay, 375 to 500 ms.
    Own,
    /// Does not come back.
    Stays(&'static str),
}

struct Form {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    then: Then,
}

fn form(status: u16, headers: &[(&'static str, &str)], body: &'static str, then: Then) -> Form {
    Form {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        body,
        then,
    }
}

/// Forms that mean the same at every vendor.
fn common() -> Vec<Form> {
    use Then::{About, After, Own, Stays};
    let date = |seconds: i64| {
        let now = SystemTime::now();
        let moment = if seconds < 0 {
            now - Duration::from_secs(seconds.unsigned_abs())
        } else {
            now + Duration::from_secs(seconds.unsigned_abs())
        };
        httpdate::fmt_http_date(moment)
    };
    let limited = |headers: &[(&'static str, &str)], then| form(429, headers, "", then);
    let mut forms = vec![
        limited(&[], Own),
        limited(&[("retry-after", "7")], After(7_000)),
        limited(&[("retry-after", "0.25")], After(250)),
        limited(&[("retry-after", " 7 ")], After(7_000)),
        limited(&[("retry-after", "1e1")], After(10_000)),
        limited(&[("retry-after", "120")], After(120_000)),
        limited(&[("retry-after", "120.001")], Own),
        limited(&[("retry-after", "121")], Own),
        limited(&[("retry-after", "3600")], Own),
        limited(&[("retry-after", "1000000000")], Own),
        limited(&[("retry-after", "1e300")], Own),
        limited(&[("retry-after", "0")], Own),
        limited(&[("retry-after", "0.0")], Own),
        limited(&[("retry-after", "-10")], Own),
        limited(&[("retry-after", "NaN")], Own),
        limited(&[("retry-after", "inf")], Own),
        limited(&[("retry-after", "")], Own),
        limited(&[("retry-after", "soon")], Own),
        limited(&[("retry-after", "7s")], Own),
        limited(&[("retry-after", "7, 9")], Own),
        limited(&[("retry-after", &date(20))], About(20_000)),
        limited(&[("retry-after", &date(-20))], Own),
        limited(&[("retry-after", &date(300))], Own),
        limited(&[("retry-after", "Fri, 99 Sep 2023 16:26:27 GMT")], Own),
        limited(&[("retry-after", "2099-01-01T00:00:00Z")], Own),
        limited(&[("retry-after-ms", "250")], After(250)),
        limited(&[("retry-after-ms", "1500.5")], After(1_500)),
        limited(&[("retry-after-ms", "250"), ("retry-after", "9")], After(250)),
        // Azure.
        limited(&[("retry-after-ms", "0"), ("retry-after", "1")], After(1_000)),
        limited(&[("retry-after-ms", "-5"), ("retry-after", "2")], After(2_000)),
        limited(&[("retry-after-ms", "x"), ("retry-after", "2")], After(2_000)),
        limited(
            &[("retry-after-ms", ""), ("retry-after", &date(20))],
            About(20_000),
        ),
        limited(&[("retry-after-ms", "900000")], Own),
        limited(&[("retry-after-ms", "0")], Own),
        limited(&[("x-should-retry", "false")], Stays("rate_limited")),
        limited(
            &[("x-should-retry", "false"), ("retry-after", "1")],
            Stays("rate_limited"),
        ),
        limited(&[("x-should-retry", "true"), ("retry-after", "1")], After(1_000)),
        limited(&[("x-should-retry", "maybe"), ("retry-after", "1")], After(1_000)),
        form(400, &[("x-should-retry", "true")], "", Own),
        form(
            400,
            &[("x-should-retry", "true"), ("retry-after", "3")],
            "",
            After(3_000),
        ),
        form(503, &[("x-should-retry", "false")], "", Stays("overloaded")),
        form(529, &[("retry-after", "2")], "", After(2_000)),
        form(400, &[("retry-after", "1")], "", Stays("rejected")),
        form(401, &[("retry-after", "1")], "", Stays("unauthorized")),
        form(402, &[], "", Stays("quota_exceeded")),
        form(403, &[], "", Stays("unauthorized")),
        form(413, &[], "", Stays("rejected")),
        form(422, &[], "", Stays("rejected")),
        form(
            302,
            &[("location", "http://127.0.0.1:1/"), ("retry-after", "1")],
            "",
            Stays("invalid_response"),
        ),
        // Waits in the body: Gemini's two forms, and OpenAI's sentence.
        form(
            429,
            &[],
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"48s"}]}}"#,
            After(48_000),
        ),
        form(
            429,
            &[],
            r#"{"error":{"message":"Please retry in 48.9s."}}"#,
            After(48_900),
        ),
        form(
            429,
            &[],
            r#"{"error":{"message":"Please try again in 20ms."}}"#,
            After(20),
        ),
        form(
            429,
            &[("retry-after", "3")],
            r#"{"error":{"message":"Please retry in 48.9s."}}"#,
            After(3_000),
        ),
        form(429, &[], r#"{"error":{"message":"Please retry in 9000s."}}"#, Own),
    ];
    for status in [408, 409, 425, 500, 502, 503, 504, 520, 529, 599] {
        forms.push(form(status, &[], "", Own));
        forms.push(form(
            status,
            &[("retry-after", "2")],
            "<html>busy</html>",
            After(2_000),
        ));
    }
    forms
}

fn openai() -> Vec<Form> {
    use Then::{Own, Stays};
    let mut forms = common();
    forms.extend([
        form(
            429,
            &[("retry-after", "1")],
            r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota","message":"x"}}"#,
            Stays("quota_exceeded"),
        ),
        form(
            429,
            &[],
            r#"{"error":{"code":"rate_limit_exceeded","type":"tokens"}}"#,
            Own,
        ),
        form(
            500,
            &[],
            r#"{"error":{"type":"server_error","message":"x"}}"#,
            Own,
        ),
        form(
            503,
            &[],
            r#"{"error":{"message":"The engine is currently overloaded"}}"#,
            Own,
        ),
        form(
            404,
            &[],
            r#"{"error":{"code":"model_not_found"}}"#,
            Stays("not_found"),
        ),
        form(
            400,
            &[],
            r#"{"error":{"code":"context_length_exceeded","type":"invalid_request_error"}}"#,
            Stays("rejected"),
        ),
    ]);
    forms
}

fn anthropic() -> Vec<Form> {
    use Then::{After, Own, Stays};
    let mut forms = common();
    forms.extend([
        form(429, &[("retry-after", "5")], r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"},"request_id":"req_1"}"#, After(5_000)),
        form(529, &[], r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Own),
        form(500, &[], r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#, Own),
        form(504, &[], r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#, Own),
        form(400, &[], r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#, Stays("quota_exceeded")),
        form(404, &[], r#"{"type":"error","error":{"type":"not_found_error","message":"model"}}"#, Stays("not_found")),
        form(413, &[], r#"{"type":"error","error":{"type":"request_too_large"}}"#, Stays("rejected")),
    ]);
    forms
}

async fn check(
    name: &str,
    forms: Vec<Form>,
    good: &str,
    build: impl Fn(&str) -> Arc<dyn ChatModel>,
) -> usize {
    let answer = |status: u16, headers: &[(&str, &str)], body: &str| {
        vec![Act::Send(http_answer(
            status,
            headers,
            body.as_bytes(),
            Framing::Length,
        ))]
    };
    let mut scripts = Vec::new();
    for form in &forms {
        let mut headers: Vec<(&str, &str)> = form
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        headers.push(("content-type", "application/json"));
        scripts.push(answer(form.status, &headers, form.body));
        if !matches!(form.then, Then::Stays(_)) {
            // A delay on a good answer is no delay (Anthropic sends it on 200 as well).
            let headers = [("content-type", "application/json"), ("retry-after", "60")];
            scripts.push(answer(200, &headers, good));
        }
    }
    let asked = scripts.len();
    let server = Server::start(scripts).await;
    let inner = build(&server.url);
    let count = forms.len();
    for form in forms {
        let clock = VirtualClock::new();
        let options = RetryOptions::default().seed(11).clock(Arc::new(clock.clone()));
        let model = inner.clone().with_retry(options);
        let answered = clock.run(model.chat("x".into())).await;
        let waited = u64::try_from(clock.now().as_millis()).expect("small");
        let shown = format!("{name}: {} {:?} {}", form.status, form.headers, form.body);
        match (form.then, answered) {
            (Then::Stays(code), Err(error)) => {
                assert_eq!((error.code(), waited), (code, 0), "{shown}");
            }
            (then, Ok(answer)) => {
                assert_eq!(answer.text(), "hello");
                assert_eq!(answer.attempts.len(), 1, "{shown}");
                assert_eq!(answer.attempts[0].status, Some(form.status));
                assert_eq!(answer.attempts[0].waited_ms, waited);
                assert!(
                    match then {
                        Then::After(ms) => waited == ms,
                        // Dates have whole seconds, and some pass until the case's turn.
                        Then::About(ms) => waited <= ms && waited + 8_000 >= ms,
                        Then::Own => (375..=500).contains(&waited),
                        Then::Stays(_) => false,
                    },
                    "{shown}: {then:?}, waited {waited} ms"
                );
            }
            (then, Err(error)) => panic!("{shown}: {then:?}, got {error}"),
        }
    }
    assert_eq!(server.requests().len(), asked);
    count
}

#[cfg(all(feature = "anthropic", feature = "openai"))]
#[tokio::test]
async fn every_form_of_a_wait_is_honoured_or_replaced_by_ours() {
    let chat = check("openai", openai(), CHAT, |url| {
        let model = OpenAi::new("gpt-x").api_key("k").base_url(url);
        Arc::new(model.build().expect("builds"))
    })
    .await;
    let messages = check("anthropic", anthropic(), MESSAGES, |url| {
        let model = Anthropic::new("claude-x").api_key("k").base_url(url);
        Arc::new(model.build().expect("builds"))
    })
    .await;
    assert!(chat >= 40 && messages >= 40);
    println!("retry forms: {chat} over OpenAI's wire, {messages} over Anthropic's");
}

#[test]
fn the_recorded_waits_of_the_vendors_client_are_ours_too() {
    let Some(cases) = fixtures::lines("conformance/retry_after.jsonl") else {
        println!("skipped: 1 (no fixtures)");
        return;
    };
    for case in &cases {
        let number = |name: &str| case[name].as_i64().expect("a number");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(number("now_unix").unsigned_abs());
        let value = case["retry_after"].as_str().expect("a value");
        let headers = [(
            reqwest::header::RETRY_AFTER,
            reqwest::header::HeaderValue::from_str(value).expect("a header"),
        )]
        .into_iter()
        .collect();
        // Retries made before, each with our own delay.
        let before = usize::try_from(number("max_retries") - number("remaining_retries")).expect("few");
        let clock = VirtualClock::new();
        let mut model = crate::Scripted::new();
        for at in 0..=before {
            let mut failure = VendorFailure::new("openai");
            if at == before {
                failure.retry_after = crate::header::retry_after(&headers, now);
            }
            model = model.fail(Error::RateLimited(Box::new(failure)));
        }
        let options = RetryOptions::default()
            .max_retries(u32::try_from(before + 1).expect("few"))
            .deadline(None)
            .seed(3)
            .clock(Arc::new(clock.clone()));
        let model = model.say("hello").with_retry(options);
        let answer = futures::executor::block_on(clock.run(model.chat("x".into()))).expect("in the end");
        let waited = answer.attempts[before].waited_ms as f64 / 1e3;
        let expected = case["expected_seconds"].as_f64().expect("seconds");
        // Theirs is an absolute tolerance around half a second of jitter; a quarter of a longer delay is larger.
        let tolerance = case["tolerance_seconds"].as_f64().expect("seconds");
        let least = if value.parse::<f64>().is_ok_and(|asked| asked > 0.0) {
            expected
        } else {
            0.75 * expected
        };
        assert!(
            waited >= least - 1e-9 && waited <= expected + tolerance,
            "{}: {waited} s",
            case["id"]
        );
    }
    println!("{} of {} recorded waits", cases.len(), cases.len());
}
