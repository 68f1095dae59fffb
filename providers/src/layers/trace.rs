//! [`Traced`]: a span around a call, with OpenTelemetry's names.

use super::{
    clock::{Clock, SystemClock},
    meter::Meter,
    watch::{Watcher, watch},
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, StreamEvent, Usage, telemetry,
};
use tracing::{Instrument, Span, field::Empty};

/// A model whose calls stand in a span, from the call to the end of the stream. No word of a request or an answer
/// goes into it.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) inner: Arc<dyn ChatModel>,
}

#[async_trait]
impl ChatModel for Traced {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let info = self.inner.info();
        let span = tracing::info_span!(
            "chat",
            "otel.name" = %format_args!("{} {}", telemetry::SPAN_CHAT, info.model),
            "otel.kind" = "client",
            { telemetry::OPERATION_NAME } = telemetry::SPAN_CHAT,
            { telemetry::PROVIDER_NAME } = %info.provider,
            { telemetry::REQUEST_MODEL } = %info.model,
            { telemetry::RESPONSE_PROVIDER } = Empty,
            { telemetry::RESPONSE_MODEL } = Empty,
            { telemetry::RESPONSE_ID } = Empty,
            { telemetry::RESPONSE_FINISH_REASONS } = Empty,
            { telemetry::USAGE_INPUT_TOKENS } = Empty,
            { telemetry::USAGE_OUTPUT_TOKENS } = Empty,
            { telemetry::USAGE_CACHE_READ_TOKENS } = Empty,
            { telemetry::USAGE_REASONING_TOKENS } = Empty,
            { telemetry::TIME_TO_FIRST_EVENT } = Empty,
            { telemetry::ATTEMPTS } = Empty,
            { telemetry::ERROR_TYPE } = Empty,
            "otel.status_code" = Empty,
        );
        let mut life = Life {
            span: span.clone(),
            meter: Meter::new(0),
            began: SystemClock.now(),
            attempts: 1,
            has_begun: false,
            is_over: false,
        };
        match self.inner.stream(request).instrument(span).await {
            Ok(stream) => Ok(watch(stream, life)),
            Err(error) => {
                if let Some(failure) = error.vendor_failure() {
                    life.attempts += failure.attempts.len() as u64;
                }
                Err(life.failure(error))
            }
        }
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

struct Life {
    span: Span,
    meter: Meter,
    began: Duration,
    attempts: u64,
    has_begun: bool,
    is_over: bool,
}

impl Life {
    fn end(&mut self, error: Option<&str>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.span.record(telemetry::ATTEMPTS, self.attempts);
        if self.meter.has_begun() {
            let usage = self.meter.usage();
            self.span
                .record(telemetry::USAGE_INPUT_TOKENS, usage.total_input());
            self.span
                .record(telemetry::USAGE_OUTPUT_TOKENS, usage.total_output());
            if let Some(tokens) = usage.cache_read_tokens {
                self.span.record(telemetry::USAGE_CACHE_READ_TOKENS, tokens);
            }
            if let Some(tokens) = usage.reasoning_tokens {
                self.span.record(telemetry::USAGE_REASONING_TOKENS, tokens);
            }
        }
        if let Some(code) = error {
            self.span.record(telemetry::ERROR_TYPE, code);
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

impl Watcher for Life {
    fn around(&mut self, step: &mut dyn FnMut()) {
        self.span.in_scope(step);
    }

    fn event(&mut self, event: &StreamEvent) -> Result<()> {
        self.meter.event(event);
        if !self.has_begun && !matches!(event, StreamEvent::Ping) {
            self.has_begun = true;
            let took = SystemClock.now().saturating_sub(self.began);
            self.span.record(
                telemetry::TIME_TO_FIRST_EVENT,
                u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            );
        }
        match event {
            StreamEvent::MessageStart { id, model, .. } => {
                if let Some(model) = model {
                    self.span.record(telemetry::RESPONSE_MODEL, model.as_str());
                }
                if let Some(id) = id {
                    self.span.record(telemetry::RESPONSE_ID, id.as_str());
                }
            }
            StreamEvent::Attempt(_) => self.attempts += 1,
            StreamEvent::Fallback { provider, model } => {
                self.span.record(telemetry::RESPONSE_PROVIDER, provider.as_str());
                self.span.record(telemetry::RESPONSE_MODEL, model.as_str());
            }
            StreamEvent::Finish { reason, .. } => {
                // The word it has in all three languages.
                let word = serde_json::to_value(reason).unwrap_or_default();
                self.span.record(
                    telemetry::RESPONSE_FINISH_REASONS,
                    word.as_str().unwrap_or("other"),
                );
                self.end(None);
            }
            _ => {}
        }
        Ok(())
    }

    fn failure(&mut self, error: Error) -> Error {
        self.meter.failure(&error);
        self.end(Some(error.code()));
        error
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end(Some("cancelled"));
    }
}
