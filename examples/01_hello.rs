//! Lesson 1: a model answers a message.
//!
//! The model here plays a script, so the lesson runs without a key. With one, write
//! `stepwell::model("anthropic/claude-sonnet-5")?` instead: nothing else changes.

use stepwell::{prelude::*, providers::Scripted};

#[tokio::main]
async fn main() -> Result<()> {
    let model = Scripted::new().say("A ledger is a book that only grows.");
    let request = ChatRequest::new([
        Message::system("Answer in one sentence."),
        Message::user("What is a ledger?"),
    ]);
    let answer = model.chat(request).await?;
    println!("{}", answer.text());
    println!(
        "finished: {:?}, tokens: {}",
        answer.finish_reason,
        answer.usage.total()
    );
    Ok(())
}
