//! Lesson 7: a tool that changes something waits for a person.
//!
//! The default policy lets tools read and asks before they write. The run pauses with a question that shows the exact
//! arguments; here the program itself plays the person, allows the small payment and refuses the large one.

use std::sync::Arc;
use stepwell::{
    Effect, Risk, Tool, ToolContext, ToolError, ToolOptions,
    agent::{Agent, Approval},
    prelude::*,
    providers::Scripted,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct PayArgs {
    /// Who is paid.
    to: String,
    /// How much.
    cents: u64,
}

struct Pay;

impl Tool for Pay {
    const NAME: &'static str = "pay";
    const DESCRIPTION: &'static str = "Pays somebody.";
    type Args = PayArgs;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default()
            .effect(Effect::AtMostOnce)
            .risk(Risk::Write)
    }

    async fn call(&self, args: PayArgs, cx: &ToolContext) -> Result<String, ToolError> {
        // A bank would be given the key, so that a repeated call pays once.
        println!("  (paying {} cents to {})", args.cents, args.to);
        Ok(format!("paid, receipt {}", cx.idempotency_key.len()))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let model = Scripted::new()
        .calls([
            ("pay", serde_json::json!({ "to": "ann", "cents": 500 })),
            ("pay", serde_json::json!({ "to": "bob", "cents": 900_000 })),
        ])
        .say("Ann is paid. Bob is not: it was too much.");
    let agent = Agent::new(Arc::new(model)).tool(Pay).build()?;

    let paused = agent.run("Pay Ann 5 and Bob 9000.").await?;
    println!("the run waits for {} answers", paused.questions.len());
    let mut answers = Vec::new();
    for question in &paused.questions {
        let arguments = &question.payload["arguments"];
        println!("  may it run? {arguments}");
        let answer = match arguments["cents"].as_u64() {
            Some(cents) if cents < 10_000 => Approval::allow(question)?,
            _ => Approval::deny(question, "it is too much")?,
        };
        answers.push((question.id.clone(), answer));
    }
    let mut run = agent.go_on(paused)?;
    for (question, answer) in answers {
        run = run.answer(question, answer);
    }
    println!("{}", run.await?.answer);
    Ok(())
}
