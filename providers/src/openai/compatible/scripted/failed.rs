//! Failures: every form, and whether a second try is worth it.

use super::{DONE, KEY, answer, builder, delta, end, json_answer};
use crate::{
    OpenAiCompatible,
    fixtures::{Act, Framing, Server, http_answer, shown},
};
use serde_json::json;
use std::time::Duration;
use stepwell_core::{ChatModel, Error};

async fn failure(vendor: &str, script: Vec<Act>) -> Error {
    let server = Server::start(vec![script]).await;
    let model = builder(vendor, &server.url).build().expect("builds");
    let error = model.chat("Hi".into()).await.expect_err("fails");
    assert_eq!(server.requests().len(), 1);
    let shown = shown(&error);
    assert!(!shown.contains("canary"), "{shown}");
    error
}

#[tokio::test]
async fn each_form_of_a_refusal_is_read_and_its_sentence_kept() {
    for (vendor, status, body, code, retry) in [
        (
            "xai",
            404,
            r#"{"code":"invalid-argument","error":"canary"}"#,
            "rejected",
            false,
        ),
        ("venice", 404, r#"{"error":"canary"}"#, "rejected", false),
        ("mistral", 401, r#"{"detail":"canary"}"#, "unauthorized", false),
        (
            "mistral",
            401,
            r#"{"message":"canary","request_id":"r"}"#,
            "unauthorized",
            false,
        ),
        (
            "mistral",
            422,
            r#"{"detail":[{"loc":["body","stream_options"],"msg":"canary","type":"extra_forbidden"}]}"#,
            "rejected",
            false,
        ),
        (
            "mistral",
            429,
            r#"{"object":"error","message":"canary","type":"rate_limited","code":"1300"}"#,
            "rate_limited",
            true,
        ),
        (
            "vllm",
            400,
            r#"{"object":"error","message":"canary","type":"BadRequestError","code":400}"#,
            "rejected",
            false,
        ),
        (
            "doubleword",
            400,
            r#"{"code":400,"message":"canary","type":"Bad Request"}"#,
            "rejected",
            false,
        ),
        (
            "deepseek",
            402,
            r#"{"error":{"message":"canary","type":"unknown_error","code":"invalid_request_error"}}"#,
            "quota_exceeded",
            false,
        ),
        (
            "groq",
            413,
            r#"{"error":{"message":"canary","type":"tokens","code":"rate_limit_exceeded"}}"#,
            "rate_limited",
            true,
        ),
        (
            "groq",
            400,
            r#"{"error":{"message":"canary","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"canary"}}"#,
            "overloaded",
            true,
        ),
        (
            "azure",
            400,
            r#"{"error":{"message":"canary","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            "rejected",
            false,
        ),
        (
            "openrouter",
            402,
            r#"{"error":{"message":"canary","code":402}}"#,
            "quota_exceeded",
            false,
        ),
        (
            "gemini-openai",
            400,
            r#"[{"error":{"code":400,"message":"canary","status":"INVALID_ARGUMENT"}}]"#,
            "rejected",
            false,
        ),
        (
            "together",
            429,
            r#"{"id":"o","error":{"message":"canary","type":"model_rate_limit","param":null,"code":null}}"#,
            "rate_limited",
            true,
        ),
    ] {
        let builder = builder(vendor, "http://127.0.0.1:1");
        assert!(!format!("{builder:?}").contains(KEY));
        let error = failure(vendor, json_answer(status, &[], body)).await;
        assert_eq!(
            (error.code(), error.is_retryable()),
            (code, retry),
            "{vendor} {body}"
        );
        let words = error.vendor_message().unwrap_or_default();
        assert!(words.contains("canary"), "{vendor} {body}: {words}");
        let failed = error.vendor_failure().expect("of the vendor");
        assert_eq!((failed.status, failed.provider.as_str()), (Some(status), vendor));
    }
    let error = failure(
        "azure",
        json_answer(400, &[], r#"{"error":{"code":"content_filter","message":"x"}}"#),
    )
    .await;
    let kind = error.vendor_failure().and_then(|failed| failed.kind.clone());
    assert_eq!(kind.as_deref(), Some("content_filter"));
}

#[tokio::test]
async fn a_server_fault_in_json_is_final_where_servers_mean_the_request_by_it() {
    let fault = r#"{"error":{"code":500,"message":"image input is not supported","type":"server_error"}}"#;
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    for (vendor, status, body, code, retry) in [
        ("llamacpp", 500, fault, "rejected", false),
        ("vllm", 500, fault, "rejected", false),
        ("lmstudio", 500, fault, "rejected", false),
        ("groq", 500, fault, "overloaded", true),
        ("llamacpp", 500, "<html>bad gateway</html>", "overloaded", true),
        ("llamacpp", 503, loading, "overloaded", true),
        ("llamacpp", 502, fault, "overloaded", true),
    ] {
        let error = failure(vendor, json_answer(status, &[], body)).await;
        assert_eq!(
            (error.code(), error.is_retryable()),
            (code, retry),
            "{vendor} {status}"
        );
    }
}

#[tokio::test]
async fn a_failure_with_status_200_is_one_all_the_same() {
    for (vendor, body, code) in [
        (
            "openrouter",
            r#"{"error":{"code":429,"message":"canary"}}"#,
            "rate_limited",
        ),
        (
            "openrouter",
            r#"{"error":{"code":502,"message":"canary"},"user_id":"u"}"#,
            "overloaded",
        ),
        (
            "openrouter",
            r#"{"id":"a","choices":[{"index":0,"message":null,"finish_reason":"error","error":{"code":502,"message":"canary"}}]}"#,
            "overloaded",
        ),
        (
            "xai",
            r#"{"code":"unauthenticated","error":"canary"}"#,
            "overloaded",
        ),
        (
            "mistral",
            r#"{"object":"error","message":"canary","type":"invalid_model","code":"1500"}"#,
            "not_found",
        ),
        ("vllm", r#"{"detail":"canary"}"#, "overloaded"),
    ] {
        let error = failure(vendor, json_answer(200, &[], body)).await;
        assert_eq!(error.code(), code, "{vendor} {body}");
    }
    let error = failure("vllm", json_answer(200, &[], r#"{"choices":[]}"#)).await;
    assert_eq!(error.code(), "invalid_response");
}

#[tokio::test]
async fn a_failure_inside_a_stream_has_the_meaning_of_its_code() {
    let text = delta(&json!({ "content": "so far" }));
    let groq = "event: error\ndata: {\"error\":{\"message\":\"canary\",\"type\":\"invalid_request_error\",\"code\":\"tool_use_failed\",\"failed_generation\":\"{canary}\",\"status_code\":400}}";
    let groq_rejected = "event: error\ndata: {\"error\":{\"message\":\"canary\",\"type\":\"invalid_request_error\",\"status_code\":400}}";
    let choice = r#"data: {"id":"a","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","error":{"code":429,"message":"canary"}}]}"#;
    let top = r#"data: {"id":"a","error":{"code":"server_error","message":"canary"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#;
    let flat = r#"data: {"code":"invalid-argument","error":"canary"}"#;
    let older = r#"data: {"object":"error","message":"canary","type":"BadRequestError","code":400}"#;
    let named = "event: error\ndata: {\"message\":\"canary\",\"code\":503}";
    let (given_up, no_resource) = (end("error"), end("insufficient_system_resource"));
    for (vendor, event, code, retry) in [
        ("groq", groq, "overloaded", true),
        ("groq", groq_rejected, "rejected", false),
        ("openrouter", choice, "rate_limited", true),
        ("openrouter", top, "overloaded", true),
        ("xai", flat, "rejected", false),
        ("vllm", older, "rejected", false),
        ("groq", named, "overloaded", true),
        ("mistral", given_up.as_str(), "overloaded", true),
        ("deepseek", no_resource.as_str(), "overloaded", true),
    ] {
        for (events, has_output) in [
            (vec![event], false),
            (vec![": alive", event], false),
            (vec![&text, event], true),
        ] {
            let Some(failed) = chat(vendor, &events).await else {
                panic!("{vendor} {event} is no answer")
            };
            assert_eq!(
                (failed.code(), failed.is_retryable()),
                (code, retry),
                "{vendor} {event}"
            );
            assert!(!shown(&failed).contains("canary"));
            let told = failed.vendor_failure().expect("of the vendor");
            assert_eq!(told.output_started, has_output, "{vendor} {event}");
        }
    }
    let words = chat("groq", &[groq]).await.expect("fails");
    assert_eq!(words.vendor_message(), Some("canary\nThe model wrote: {canary}"));
}

async fn chat(vendor: &str, events: &[&str]) -> Option<Error> {
    let mut all = events.to_vec();
    all.push(DONE);
    answer(vendor, &all).await.err()
}

#[tokio::test]
async fn azures_wait_of_zero_milliseconds_is_not_believed_beside_a_second() {
    let headers = [("retry-after-ms", "0"), ("retry-after", "1")];
    let body = r#"{"error":{"code":"RateLimitReached","message":"canary"}}"#;
    let error = failure("azure", json_answer(429, &headers, body)).await;
    assert_eq!(
        (error.code(), error.retry_after()),
        ("rate_limited", Some(Duration::from_secs(1)))
    );
}

#[tokio::test]
async fn a_key_in_any_header_stays_on_its_origin() {
    for (vendor, header) in [("azure", "api-key"), ("groq", "authorization")] {
        let elsewhere = Server::start(vec![]).await;
        let location = format!("{}/stolen", elsewhere.url);
        let redirect = http_answer(308, &[("location", &location)], b"", Framing::Length);
        let server = Server::start(vec![vec![Act::Send(redirect)]]).await;
        let model = builder(vendor, &server.url)
            .header("x-other-key", "canary-other")
            .query("key", "canary-query")
            .build()
            .expect("builds");
        let error = model.chat("Hi".into()).await.expect_err("it redirects");
        assert_eq!(error.code(), "invalid_response");
        assert!(!shown(&error).contains("canary"));
        assert!(
            server.requests()[0]
                .header(header)
                .is_some_and(|value| value.contains(KEY))
        );
        assert_eq!(server.requests()[0].header("x-other-key"), Some("canary-other"));
        assert!(elsewhere.requests().is_empty());
    }
}

#[tokio::test]
async fn no_key_no_query_and_no_prompt_is_shown_by_a_failure_of_the_connection() {
    let model = OpenAiCompatible::new("my-vendor", "http://127.0.0.1:1/canary-path", "m")
        .api_key(KEY)
        .header("x-other-key", "canary-other")
        .query("key", "canary-query")
        .build()
        .expect("builds");
    let error = model
        .chat("canary-prompt".into())
        .await
        .expect_err("nobody listens");
    assert_eq!((error.code(), error.is_retryable()), ("transport", true));
    let shown = format!("{} {model:?}", shown(&error));
    assert!(!shown.contains("canary"), "{shown}");
}
