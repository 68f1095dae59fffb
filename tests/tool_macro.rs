//! `#[tool]`: an async function becomes a tool with a schema, options and the three doors.

use serde_json::json;
use stepwell::{Effect, IntoDynTool, Part, Risk, Scope, ToolContext, ToolError, tool};

/// Pays an amount to somebody.
///
/// Ask before large amounts.
#[tool(
    name = "pay_out",
    effect = "at_most_once",
    risk = "egress",
    timeout_ms = 1500,
    sequential
)]
async fn pay(
    /// Who gets it.
    to: String,
    /// In cents.
    cents: u32,
    note: Option<String>,
    cx: &ToolContext,
) -> Result<String, ToolError> {
    cx.emit(json!("paying"));
    if cents > 1_000 {
        return Err(ToolError::Retry("split it: at most 1000 cents at once".into()));
    }
    Ok(format!(
        "{to} got {cents}{} as {}",
        note.unwrap_or_default(),
        cx.idempotency_key
    ))
}

/// The length of a text in letters.
#[tool]
async fn letters(text: String) -> usize {
    text.chars().count()
}

#[tokio::test]
async fn a_function_becomes_a_tool_with_the_words_of_its_comments() {
    let paying = pay.into_dyn_tool().expect("the name is fine");
    assert_eq!(
        (paying.spec().name.as_str(), paying.spec().description.as_str()),
        (
            "pay_out",
            "Pays an amount to somebody.\n\nAsk before large amounts."
        )
    );
    let properties = &paying.spec().parameters["properties"];
    assert_eq!(properties["to"]["description"], "Who gets it.");
    assert_eq!(
        paying.spec().parameters["required"],
        json!(["to", "cents"]),
        "an option may be left out, the context is no argument"
    );
    let options = paying.options();
    assert_eq!(
        (options.effect, options.risk, options.is_parallel),
        (Effect::AtMostOnce, Risk::Egress, false)
    );
    assert_eq!(options.timeout, Some(std::time::Duration::from_millis(1500)));

    let cx = ToolContext::new("c1", "r1", Scope::local());
    let output = paying
        .call(json!({ "to": "Ada", "cents": 5 }), &cx)
        .await
        .expect("small");
    assert_eq!(output.parts[0].as_text(), Some("Ada got 5 as r1:c1"));
    let error = paying
        .call(json!({ "to": "Ada", "cents": 5_000 }), &cx)
        .await
        .expect_err("large");
    assert!(matches!(error, ToolError::Retry(message) if message.contains("split it")));
}

#[tokio::test]
async fn a_function_without_a_result_cannot_fail() {
    let counting = letters.into_dyn_tool().expect("the name is fine");
    let output = counting
        .call(
            json!({ "text": "Ünïcödé" }),
            &ToolContext::new("c", "r", Scope::local()),
        )
        .await
        .expect("cannot fail");
    assert!(matches!(&output.parts[..], [Part::Data(data)] if data.value == json!(7)));
    assert_eq!(counting.options().effect, Effect::Pure);
}
