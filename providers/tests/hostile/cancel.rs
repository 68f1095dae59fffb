//! An answer that is dropped half way: the connection closes, and what it took is told once, as an estimate.

use crate::{
    server::{Act, Server, head},
    wires::wires,
};
use futures::StreamExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_core::StreamEvent;
use stepwell_providers::{
    HttpOptions,
    layers::{CallRecord, ModelExt, Outcome, RetryOptions},
};

#[tokio::test]
async fn a_dropped_answer_closes_its_connection_and_is_told_to_the_hook_with_an_estimate() {
    for wire in wires() {
        let server = Server::always(vec![
            Act::Send(head(200, &[&format!("content-type: {}", wire.kind)])),
            Act::Send(wire.begun().into()),
            Act::Stall,
        ])
        .await;
        let told: Arc<Mutex<Vec<CallRecord>>> = Arc::default();
        let log = told.clone();
        let model = (wire.build)(&server.url, "k", HttpOptions::default())
            .with_retry(RetryOptions::default())
            .with_usage_hook(move |record| log.lock().expect("no panic inside").push(record));
        let mut stream = model
            .stream("a question of some length".into())
            .await
            .expect("begins");
        let mut said = String::new();
        while said.is_empty() {
            let event = stream.next().await.expect("more").expect("a good event");
            if let StreamEvent::TextDelta { text, .. } = event {
                said.push_str(&text);
            }
        }
        assert!(told.lock().expect("no panic inside").is_empty(), "{}", wire.name);
        drop(stream);
        {
            let told = told.lock().expect("no panic inside");
            assert_eq!(told.len(), 1, "{}: at once, and once", wire.name);
            let record = &told[0];
            assert_eq!(record.outcome, Outcome::Cancelled, "{}", wire.name);
            assert!(record.usage.is_estimated, "{}", wire.name);
            assert!(
                record.usage.total_input() > 0 && record.usage.total_output() > 0,
                "{}: {:?}",
                wire.name,
                record.usage
            );
        }
        for _ in 0..200 {
            if server.hung_up() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.hung_up(), 1, "{}: nobody listens any more", wire.name);
        assert_eq!(server.requests().len(), 1, "{}", wire.name);
        drop(model);
        assert_eq!(told.lock().expect("no panic inside").len(), 1, "{}", wire.name);
    }
}
