//! Lesson 2: the same answer as it comes, event by event. Dropping the stream would cancel the call.

use futures::StreamExt;
use std::io::Write;
use stepwell::{prelude::*, providers::Scripted};

#[tokio::main]
async fn main() -> Result<()> {
    let model = Scripted::new().say("One step after another, and none is lost.");
    let mut events = model.stream("How does an answer come?".into()).await?;
    while let Some(event) = events.next().await {
        match event? {
            StreamEvent::TextDelta { text, .. } => {
                print!("{text}|");
                std::io::stdout().flush().ok();
            }
            StreamEvent::Finish { reason, .. } => println!("\nfinished: {reason:?}"),
            _ => {}
        }
    }
    Ok(())
}
