//! Lesson 5: what to do when a vendor fails. Layers go around a model and are models themselves.

use std::time::Duration;
use stepwell::{
    Budget, VendorFailure,
    prelude::*,
    providers::{
        Scripted,
        layers::{FallbackOptions, ModelExt, RetryOptions},
    },
};

#[tokio::main]
async fn main() -> Result<()> {
    let busy = || Error::Overloaded(Box::new(VendorFailure::new("first")));
    let first = Scripted::new().named("first", "m").fail(busy()).fail(busy());
    let second = Scripted::new()
        .named("second", "m")
        .say("A ledger is a book of accounts.");

    let budget = Budget::tokens(1_000);
    let model = first
        .with_retry(
            RetryOptions::default()
                .max_retries(1)
                .first_delay(Duration::from_millis(10)),
        )
        .with_fallback([std::sync::Arc::new(second) as _], FallbackOptions::default())
        .with_budget(budget.clone());

    let answer = model.chat("What is a ledger?".into()).await?;
    for attempt in &answer.attempts {
        println!("{}/{} failed: {}", attempt.provider, attempt.model, attempt.code);
    }
    println!("{} answers: {}", answer.provider, answer.text());
    println!("{} tokens spent of 1,000", budget.spent().tokens);
    Ok(())
}
