//! [`ModelCall`]: one call of a model inside a run: reserved before, watched while it goes, booked after.

use crate::{EventKind, RunContext};
use futures::StreamExt;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, Fold, HeuristicTokens, Part, Price, Reservation, Result,
    Spend, StreamEvent, TokenCounter, Usage, telemetry,
};
use tracing::Instrument;

/// Tokens of an answer that are set aside where nobody says how long it may get.
const ANSWER_TOKENS: u64 = 4_096;

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
        let reserved = self.reserve(&mut request)?;
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

    /// Sets aside what the call may spend; without a bound in tokens or money nothing has to be estimated. Where the
    /// request leaves the length of the answer open, what is left of the tokens bounds it.
    fn reserve(&self, request: &mut ChatRequest) -> Result<Reservation> {
        let cx = self.cx;
        let left = cx.budget().available();
        if left.tokens.is_none() && left.micro_usd.is_none() {
            return cx.budget().reserve(Spend::call(0));
        }
        let info = self.model.info();
        // The estimate: a vendor's own count would be a call before every call.
        let input = request.estimated_tokens();
        let mut output = request
            .max_output_tokens
            .or(info.max_output_tokens)
            .unwrap_or(ANSWER_TOKENS);
        if let Some(tokens) = left.tokens
            && request.max_output_tokens.is_none()
        {
            output = output.min(tokens.saturating_sub(input).max(1));
            request.max_output_tokens = Some(output);
        }
        if let (Some(micro_usd), Some(price)) = (left.micro_usd, &info.price)
            && request.max_output_tokens.is_none()
        {
            // The longest answer of a model may cost more than a person means to spend on all of them.
            if let Some(affordable) = affordable_output(price, input, micro_usd) {
                output = output.min(affordable.max(1));
                request.max_output_tokens = Some(output);
            }
        }
        let mut spend = Spend::call(input.saturating_add(output));
        let mut estimate = Usage::default();
        (estimate.input_tokens, estimate.output_tokens) = (Some(input), Some(output));
        match info.price.as_ref().and_then(|price| price.cost(&estimate)) {
            Some(cost) => spend.micro_usd = cost.micro_usd,
            // An unknown price is not 0: the bound could not be kept.
            None if left.micro_usd.is_some() => {
                return Err(Error::Unsupported {
                    who: info.name(),
                    what: "a budget in money".into(),
                    hint: "its price is not known; give the model one, or bound tokens instead".into(),
                });
            }
            None => {}
        }
        cx.budget().reserve(spend)
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

/// How long an answer may be for so much money, behind a prompt of this length; `None` where a price is unknown or
/// answers are free.
fn affordable_output(price: &Price, input_tokens: u64, micro_usd: u64) -> Option<u64> {
    let pico_usd = |output_tokens| {
        let mut usage = Usage::default();
        (usage.input_tokens, usage.output_tokens) = (Some(input_tokens), Some(output_tokens));
        price.pico_usd(&usage)
    };
    let (prompt, with_one) = (pico_usd(0)?, pico_usd(1)?);
    let left = (u128::from(micro_usd) * 1_000_000).saturating_sub(prompt);
    let tokens = left.checked_div(with_one.saturating_sub(prompt))?;
    Some(u64::try_from(tokens).unwrap_or(u64::MAX))
}
