//! The same request gives the same bytes, and one that has grown at its end begins with the bytes it had: what a
//! vendor has cached stays cached.

use crate::{
    conversations,
    frame::random::Random,
    sink::Sink,
    targets::{self, Target},
};
use serde_json::Value;
use std::collections::BTreeMap;
use stepwell_core::{CacheMode, ChatRequest, Error, Message, Role};

async fn sent(target: &Target, request: &ChatRequest, sink: &Sink) -> Option<Vec<u8>> {
    sink.take();
    let error = target
        .model
        .chat(request.clone())
        .await
        .expect_err("it is refused");
    let body = sink.take().pop();
    let is_known = matches!(error, Error::Unsupported { .. } | Error::InvalidInput { .. });
    assert!(body.is_some() || is_known, "not sent: {error}");
    body
}

/// Where the last turn of a body begins, in bytes: what stands before may not change any more.
fn last_turn(target: &Target, body: &[u8]) -> usize {
    let value: Value = serde_json::from_slice(body).expect("JSON");
    let turns = target.law.turns(&value);
    let last = turns.last().expect("a turn");
    let text = serde_json::to_vec(last).expect("JSON");
    body.windows(text.len())
        .rposition(|window| window == text)
        .expect("the turn as it was written")
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[tokio::test]
async fn the_same_request_is_the_same_bytes_and_a_grown_one_begins_with_them() {
    let conversations = conversations::all().await;
    let sink = Sink::start().await;
    let targets = targets::all(&sink.url);
    let mut faults = Vec::new();
    // Target → grown requests, bytes in common, bytes of the shorter ones.
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut random = Random::of("grown");
    for conversation in &conversations {
        let own = targets::target(&conversation.provider, &conversation.model, &sink.url);
        for target in targets::chosen(&targets, 4, &mut random).into_iter().chain(&own) {
            let mut before: Option<Vec<u8>> = None;
            let mut messages = conversation.messages.clone();
            messages.extend([
                Message::user("And then?"),
                Message::assistant("Then it rained."),
                Message::user("Why?"),
            ]);
            for length in 1..=messages.len() {
                // A program asks after a turn of the user or after results.
                if matches!(
                    messages[length - 1].role,
                    Role::System | Role::Developer | Role::Assistant
                ) {
                    continue;
                }
                let mut request = ChatRequest::new(messages[..length].to_vec());
                request.tools.clone_from(&conversation.request.tools);
                request.cache = CacheMode::Automatic;
                let Some(body) = sent(target, &request, &sink).await else {
                    break;
                };
                let again = sent(target, &request, &sink).await;
                if again.as_ref() != Some(&body) {
                    faults.push(format!("{} → {}: other bytes", conversation.id, target.name()));
                }
                if let Some(before) = before.replace(body.clone()) {
                    let (kept, needed) = (common(&before, &body), last_turn(target, &before));
                    let count = counts.entry(target.name()).or_default();
                    *count = [count[0] + 1, count[1] + kept, count[2] + before.len()];
                    if kept < needed {
                        let from = kept.saturating_sub(40);
                        faults.push(format!(
                            "{} → {} at {length}: {kept} of {needed} bytes stay: {} | {}",
                            conversation.id,
                            target.name(),
                            String::from_utf8_lossy(&before[from..(kept + 60).min(before.len())]),
                            String::from_utf8_lossy(&body[from..(kept + 60).min(body.len())]),
                        ));
                    }
                }
            }
        }
    }
    if conversations.is_empty() {
        return;
    }
    for (name, [count, kept, all]) in &counts {
        #[allow(clippy::cast_precision_loss)] // a share to be read
        let share = 100.0 * *kept as f64 / *all as f64;
        println!("{name:<44} {count:>5} grown requests, {share:>5.1} % of their bytes as before");
    }
    for fault in faults.iter().take(30) {
        println!("{fault}");
    }
    assert!(faults.is_empty(), "{} faults", faults.len());
}
