//! Anthropic's count of tokens: the reader of its messages, on the endpoint that only counts.

use super::{
    Allowed, Exchange, Failure, Notes, ReplayServer, Verdict, Wire,
    chat::{self, ChatWire},
    difference,
    messages::Messages,
};
use async_trait::async_trait;
use serde_json::Value;

const QUERY: Allowed = Allowed {
    name: "beta_namespace",
    reason: "`?beta=true` asks the same of the vendor's beta namespace",
};

/// The wire.
#[derive(Debug)]
pub struct Counts;

#[async_trait]
impl Wire for Counts {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.provider == "anthropic" && exchange.api == "count_tokens"
    }

    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict {
        let mut notes = Notes::default();
        let faults = check(exchange, server, &mut notes).await;
        Verdict::of(faults.unwrap_or_else(|fault| vec![fault]), notes)
    }
}

async fn check(exchange: &Exchange, server: &ReplayServer, notes: &mut Notes) -> Result<Vec<String>, String> {
    let asked = exchange
        .request
        .as_ref()
        .ok_or("the recording holds no request")?;
    let request = Messages.read_request(exchange, asked)?;
    let model = Messages
        .model(exchange, &server.url)
        .map_err(|error| format!("no model: {error}"))?;
    server.take();
    server.expect(chat::answer(exchange, vec![exchange.body.as_bytes().to_vec()]));
    let counted = model.count_tokens(&request).await;
    let seen = server.take();
    let [sent] = seen.as_slice() else {
        return Err(format!("request: sent {} times", seen.len()));
    };
    let mut faults = Vec::new();
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    if query == "beta=true" {
        notes.allow(&QUERY);
    }
    if sent.path != path {
        faults.push(format!("request: path {path} expected, {} sent", sent.path));
    }
    let mut recorded = asked.body.clone();
    let mut body: Value = serde_json::from_slice(&sent.body).map_err(|_| "request: the body is no JSON")?;
    Messages.canonical(&mut recorded, notes);
    Messages.canonical(&mut body, notes);
    difference::align_required(&recorded, &mut body, notes);
    let found = difference::between(&recorded, &body).into_iter();
    faults.extend(found.map(|fault| format!("request: {fault}")));
    match counted {
        Ok(usage) => {
            let expected = exchange.json()?["input_tokens"].as_u64();
            if usage.input_tokens != expected || usage.is_estimated || expected.is_none() {
                faults.push(format!("{expected:?} tokens expected, {usage:?} there"));
            }
        }
        Err(error) => {
            let body = exchange.json()?;
            let code = match body["error"]["type"].as_str() {
                Some("not_found_error") => "not_found",
                _ => return Err(format!("a failure this reader has not learned: {error}")),
            };
            faults.extend(Failure::new(code, None).compare(&error));
        }
    }
    Ok(faults)
}
