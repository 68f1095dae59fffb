//! [`ModelCall`]: one call of a model inside a run: reserved before, watched while it goes, booked after.

use crate::{EventKind, RunContext};
use futures::StreamExt;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, Fold, HeuristicTokens, Part, Result, Spend, StreamEvent,
    TokenCounter, Usage, telemetry,
};
use tracing::Instrument;

/// One call of a model inside a run.
pub(crate) struct ModelCall<'a> {
    pub(crate) model: &'a Arc<dyn ChatModel>,
    pub(crate) cx: &'a RunContext,
    /// Whether its answer streams out as events.
    pub(crate) is_shown: bool,
}

impl ModelCall<'_> {
    /// The answer. `input_tokens` estimates the prompt where a call breaks off before the vendor told.
    ///
    /// # Errors
    /// [`Error::BudgetExceeded`] before anything is sent; what the model fails with.
    pub(crate) async fn run(
        &self,
        mut request: ChatRequest,
        input_tokens: impl FnOnce() -> u64,
    ) -> Result<ChatResponse> {
        let (info, cx) = (self.model.info(), self.cx);
        let reserved = cx.budget().reserve_call(info, &mut request)?;
        let span = tracing::info_span!(
            "chat",
            { telemetry::OPERATION_NAME } = "chat",
            { telemetry::PROVIDER_NAME } = info.provider,
            { telemetry::REQUEST_MODEL } = info.model,
        );
        let began = Instant::now();
        let (usage, cost, response) = match self.answer(request).instrument(span).await {
            Ok(response) => (response.usage.clone(), response.cost, Ok(response)),
            Err((error, partial)) => {
                let is_untold = partial.as_ref().is_some_and(|partial| partial.usage.total() == 0);
                let input = if is_untold { input_tokens() } else { 0 };
                (usage_so_far(partial, input), None, Err(error))
            }
        };
        let mut spend = Spend::call(usage.total());
        let cost = cost.or_else(|| info.price.as_ref().and_then(|price| price.cost(&usage)));
        spend.micro_usd = cost.map_or(0, |cost| cost.micro_usd);
        spend.time_ms = millis(began.elapsed());
        reserved.settle(spend);
        cx.add_used(&usage, spend);
        response
    }

    /// The whole answer; what had come of it where the call failed or was stopped.
    async fn answer(&self, request: ChatRequest) -> Result<ChatResponse, (Error, Option<ChatResponse>)> {
        let (info, cx) = (self.model.info(), self.cx);
        let include_raw = request.include_raw;
        let mut stream = tokio::select! {
            biased;
            stream = self.model.stream(request) => stream.map_err(|error| (error, None))?,
            () = cx.cancel().cancelled() => return Err((Error::Cancelled, None)),
        };
        let mut fold = Fold::new(&info.provider, &info.model, include_raw);
        let most = cx.limits().answer_bytes;
        let mut bytes = 0usize;
        let mut cancelled = std::pin::pin!(cx.cancel().cancelled());
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                () = cancelled.as_mut() => return Err((Error::Cancelled, Some(fold.partial()))),
            };
            let Some(event) = event else { break };
            let event = match event {
                Ok(event) => event,
                Err(error @ Error::StreamTruncated { .. }) => {
                    let known = error.partial().cloned();
                    return Err((error, known));
                }
                Err(error) => return Err((error, Some(fold.partial()))),
            };
            bytes = bytes.saturating_add(weight(&event));
            if bytes > most {
                let error = Error::LimitExceeded {
                    what: format!("the answer of {}", info.name()),
                    limit: format!("{most} bytes"),
                };
                return Err((error, Some(fold.partial())));
            }
            if self.is_shown {
                show(&event, cx).await;
            }
            if let Err(error) = fold.push(event) {
                return Err((error, Some(fold.partial())));
            }
        }
        fold.finish().map_err(|error| (error, None))
    }
}

/// Lets whoever watches the run see it.
pub(crate) async fn show(event: &StreamEvent, cx: &RunContext) {
    if let Some(events) = &cx.shared.events {
        cx.event(|| EventKind::Model { event: event.clone() });
        events.room().await;
    }
}

/// What the work gives, unless the run is cancelled before.
///
/// # Errors
/// What the work fails with; [`Error::Cancelled`].
pub(crate) async fn unless_cancelled<T>(
    cx: &RunContext,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        () = cx.cancel().cancelled() => Err(Error::Cancelled),
    }
}

/// Bytes an event adds to the answer.
fn weight(event: &StreamEvent) -> usize {
    match event {
        StreamEvent::TextDelta { text, .. } | StreamEvent::ReasoningDelta { text, .. } => text.len(),
        StreamEvent::ToolCallDelta { arguments, .. } => arguments.len(),
        StreamEvent::ToolCallStart { id, name, .. } => id.len() + name.len(),
        StreamEvent::Citation { citation, .. } => citation.quote.len() + 64,
        StreamEvent::Part { part, .. } => serde_json::to_string(part).map_or(0, |text| text.len()),
        StreamEvent::Data(data) => data.value.to_string().len(),
        _ => 0,
    }
}

/// What a call that did not end has used: what the vendor told, or else an estimate, flagged.
fn usage_so_far(partial: Option<ChatResponse>, input: u64) -> Usage {
    let (told, words) = match partial {
        Some(partial) => (partial.usage, partial.message),
        None => return Usage::default(), // nothing came: nothing is known to be spent
    };
    if told.total() > 0 {
        return told;
    }
    let output: usize = words
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(part) => HeuristicTokens.count(&part.text),
            Part::Reasoning(part) => HeuristicTokens.count(&part.text),
            _ => 0,
        })
        .sum();
    let mut usage = Usage::default();
    usage.input_tokens = Some(input);
    usage.output_tokens = Some(output as u64);
    usage.is_estimated = true;
    usage
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
