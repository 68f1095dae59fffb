//! Lesson 3: an async function becomes a tool, and an agent calls it.
//!
//! The doc comments below are what a model reads. The arguments are checked before the function runs.

use serde_json::json;
use std::sync::Arc;
use stepwell::{prelude::*, providers::Scripted};

/// Current temperature of a city, in degrees Celsius.
#[tool]
async fn temperature(
    /// The city, for example `Oslo`.
    city: String,
) -> Result<f64, ToolError> {
    match city.as_str() {
        "Oslo" => Ok(-3.5),
        "Cairo" => Ok(31.0),
        _ => Err(ToolError::Retry(format!(
            "no station in `{city}`; try Oslo or Cairo"
        ))),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // What a real model would do: call the tool, wrongly at first, then answer with the result.
    let model = Scripted::new()
        .call("temperature", json!({ "city": "Olso" }))
        .call("temperature", json!({ "city": "Oslo" }))
        .say("It is -3.5 °C in Oslo.");
    let agent = Agent::new(Arc::new(model)).tool(temperature).build()?;
    let result = agent.run("How cold is it in Oslo?").await?;
    for message in &result.messages {
        println!(
            "{:?}: {}",
            message.role,
            serde_json::to_string(&message.parts).map_err(Error::host)?
        );
    }
    println!("{}", result.answer);
    Ok(())
}
