//! OpenAI's Responses, stateless unless asked otherwise: nothing is kept by the vendor, and what the model thought
//! goes back to it whole, sealed, and in its place. xAI and several gateways speak it too.
//!
//! `encode`, `decode` and `stream` are pure; [`stream`](fn@stream) and [`count`] are the calls.

pub(crate) mod decode;
mod encode;
mod items;
mod open;
#[cfg(test)]
mod scripted;
pub(crate) mod stream;
mod wire;

use crate::{
    answer::{self, Facts},
    client::Client,
    openai::failure,
};
use reqwest::header::{HeaderName, HeaderValue};
use stepwell_core::{ChatRequest, ChatStream, Error, Result, Usage};

pub(crate) use encode::rules;

/// The answer to a request, as it comes. `path` is where Responses are asked below the vendor's address.
pub(crate) async fn stream(
    client: &Client,
    path: &str,
    headers: Vec<(HeaderName, HeaderValue)>,
    request: ChatRequest,
) -> Result<ChatStream> {
    let include_raw = request.include_raw;
    let Client { info, http, .. } = client;
    let encoded = encode::answer(&http.vendor, info, &request)?;
    drop(request); // its media are in the body now
    let reply = client.post(path, headers, encoded.body, failure::error).await?;
    let (vendor, model) = (&http.vendor, &info.model);
    let facts = Facts::new(info, &reply.headers, encoded.warnings, include_raw);
    let decoder = stream::Responses::new(vendor.clone(), model.as_str());
    answer::of(reply, http, facts, decoder, |body| {
        decode::body(vendor, model, body)
    })
    .await
}

/// How many input tokens the vendor counts in a request; an estimate, flagged so, where it does not count.
///
/// # Errors
/// What cannot be encoded, and a key that is refused: that call would be refused too.
pub(crate) async fn count(
    client: &Client,
    path: &str,
    headers: Vec<(HeaderName, HeaderValue)>,
    request: &ChatRequest,
) -> Result<Usage> {
    let body = encode::count(&client.http.vendor, &client.info, request)?;
    let path = format!("{path}/input_tokens");
    let reply = client.post(&path, headers, body, failure::error).await;
    let body = match reply {
        Ok(reply) => reply.body.read().await,
        Err(error) => Err(error),
    };
    let counted = match body {
        Ok(body) => serde_json::from_slice::<wire::Count>(&body).ok(),
        Err(error @ Error::Unauthorized { .. }) => return Err(error),
        // Not every server of this wire counts.
        Err(_) => None,
    };
    let mut usage = Usage::default();
    usage.is_estimated = counted.is_none();
    usage.input_tokens = Some(counted.map_or_else(|| request.estimated_tokens(), |count| count.input_tokens));
    Ok(usage)
}
