//! Lesson 9: agents as nodes. A receptionist reads the question and hands the conversation to the agent who knows.
//!
//! Each agent is a node that goes on with the conversation of the state. The receptionist answers in a shape, so the
//! route reads a field and not a sentence.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stepwell::{
    Message, State,
    agent::{Agent, END, Graph, HasMessages, Messages, START},
    prelude::*,
    providers::Scripted,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Desk {
    Billing,
    Repairs,
}

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Referral {
    /// Who goes on.
    desk: Desk,
}

#[derive(Clone, Debug, Default, State)]
struct Call {
    #[state(messages)]
    messages: Messages,
}

/// Where the receptionist sent the caller.
fn referred(call: &Call) -> &'static str {
    let said = call.messages.last().map(Message::text).unwrap_or_default();
    match serde_json::from_str(&said) {
        Ok(Referral {
            desk: Desk::Billing, ..
        }) => "billing",
        Ok(Referral {
            desk: Desk::Repairs, ..
        }) => "repairs",
        Err(_) => END,
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let receptionist = Agent::new(Arc::new(Scripted::new().say(r#"{ "desk": "repairs" }"#)))
        .name("receptionist")
        .output::<Referral>()
        .build()?;
    let desk = |name: &str, answer: &str| {
        Agent::new(Arc::new(Scripted::new().say(answer)))
            .name(name)
            .build()
    };
    let graph = Graph::<Call>::builder()
        .node("receptionist", receptionist.node())
        .node("billing", desk("billing", "Your invoice is on its way.")?.node())
        .node(
            "repairs",
            desk("repairs", "Close the valve; we come tomorrow.")?.node(),
        )
        .edge(START, "receptionist")
        .route("receptionist", referred, ["billing", "repairs", END])
        .edge("billing", END)
        .edge("repairs", END)
        .build()?;
    let ended = graph
        .run_input(Call::add_messages(vec![Message::user("My tap drips.")]))
        .await?;
    for message in ended.state.messages.iter() {
        println!(
            "{}: {}",
            message.name.as_deref().unwrap_or("caller"),
            message.text()
        );
    }
    Ok(())
}
