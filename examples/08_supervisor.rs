//! Lesson 8: agents as tools. A supervisor hands tasks to specialists, side by side, and puts their answers together.
//!
//! The runs of the specialists are inside of the supervisor's: one budget, one journal, one list of events with paths.

use futures::StreamExt;
use std::sync::Arc;
use stepwell::{
    BudgetLimits,
    agent::{Agent, EventKind},
    prelude::*,
    providers::Scripted,
};

fn specialist(name: &str, answer: &str) -> Result<Agent> {
    Agent::new(Arc::new(Scripted::new().say(answer)))
        .name(name)
        .instructions(format!("You are the {name}. Answer in one sentence."))
        .build()
}

#[tokio::main]
async fn main() -> Result<()> {
    let lawyer = specialist("lawyer", "The contract ends in May.")?;
    let banker = specialist("banker", "The account holds 1,200 euros.")?;
    let model = Scripted::new()
        .calls([
            (
                "lawyer",
                serde_json::json!({ "task": "When does the contract end?" }),
            ),
            ("banker", serde_json::json!({ "task": "How much money is left?" })),
        ])
        .say("The contract ends in May, and 1,200 euros are left.");
    let mut limits = BudgetLimits::default();
    limits.calls = Some(20); // of all of them together
    let supervisor = Agent::new(Arc::new(model))
        .name("supervisor")
        .tool(lawyer.tool("lawyer", "Knows contracts."))
        .tool(banker.tool("banker", "Knows accounts."))
        .budget(limits)
        .build()?;

    let mut run = supervisor.stream("Can we afford to wait until the contract ends?");
    while let Some(event) = run.next().await {
        if let EventKind::NodeStart = event.kind {
            let path = event.path.join(" › ");
            println!("{:>14} │ {}", path, event.node.as_deref().unwrap_or_default());
        }
    }
    let result = run.finish().await?;
    println!("{} ({} calls)", result.answer, result.spent.calls);
    Ok(())
}
