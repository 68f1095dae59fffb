//! Lesson 6: an agent that answers as a type, is told why an answer will not do, and becomes a model by name.

use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use stepwell::{
    agent::{DropToolOutputs, Trim},
    prelude::*,
    providers::Scripted,
};

/// What is known of an address.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[allow(dead_code)] // it is printed
struct Verdict {
    /// The address.
    address: String,
    /// 0 for harmless, 10 for certain harm.
    danger: u8,
}

/// How often an address was reported.
#[tool]
async fn reports(
    /// The address, for example `203.0.113.7`.
    address: String,
) -> Result<u32, ToolError> {
    Ok(if address == "203.0.113.7" { 31 } else { 0 })
}

#[tokio::main]
async fn main() -> Result<()> {
    // What a real model would do: look, answer out of range, and mend that.
    let model = Scripted::new()
        .call("reports", json!({ "address": "203.0.113.7" }))
        .say(r#"{ "address": "203.0.113.7", "danger": 31 }"#)
        .say(r#"{ "address": "203.0.113.7", "danger": 9 }"#);
    let analyst = Agent::new(Arc::new(model.clone()))
        .template("You judge addresses for {{ team }}.")
        .variables(json!({ "team": "the night shift" }))
        .tool(reports)
        .output::<Verdict>()
        .validate(|verdict| match verdict["danger"].as_u64() {
            Some(0..=10) => Ok(()),
            _ => Err("`danger` is a number from 0 to 10".into()),
        })
        .context_policy(DropToolOutputs::default())
        .context_policy(Trim::to_tokens(100_000))
        .build()?;

    let result = analyst.run("What about 203.0.113.7?").await?;
    println!("{:?}", result.output::<Verdict>()?);
    for request in model.requests().iter().skip(2) {
        println!("it was told: {}", request.last_user_text().unwrap_or_default());
    }

    stepwell::register_agent("analyst", analyst)?;
    println!(
        "and it is a model: {}",
        stepwell::model("agent/analyst")?.info().name()
    );
    Ok(())
}
