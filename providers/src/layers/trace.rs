//! [`Traced`]: a span around a call, with OpenTelemetry's names.

use super::{
    clock::{Clock, SystemClock},
    meter::Meter,
    watch::{Watcher, watch},
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, StreamEvent, Structured, Usage, telemetry,
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
            { telemetry::STRUCTURED_STRATEGY } = Empty,
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
    fn shape(&self, structured: &Structured) {
        self.span
            .record(telemetry::STRUCTURED_STRATEGY, structured.strategy.as_str());
    }

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
                if let Some(model) = model.as_deref().filter(|name| telemetry::is_plain_name(name)) {
                    self.span.record(telemetry::RESPONSE_MODEL, model);
                }
                if let Some(id) = id.as_deref().filter(|name| telemetry::is_plain_name(name)) {
                    self.span.record(telemetry::RESPONSE_ID, id);
                }
            }
            StreamEvent::Attempt(_) => self.attempts += 1,
            StreamEvent::Structured(structured) => self.shape(structured),
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
        if let Some(structured) = error.partial().and_then(|answer| answer.structured.as_ref()) {
            self.shape(structured);
        }
        self.end(Some(error.code()));
        error
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end(Some("cancelled"));
    }
}

#[cfg(test)]
mod tests {
    use crate::layers::{
        ModelExt, RetryOptions, VirtualClock,
        played::{Played, Step, overloaded},
    };
    use futures::{StreamExt, executor::block_on};
    use std::{
        collections::BTreeMap,
        fmt::{Debug, Write as _},
        sync::{Arc, Mutex},
    };
    use stepwell_core::{ChatModel, FinishReason, StreamEvent, Structured, StructuredStrategy};
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    #[derive(Default)]
    struct Seen {
        fields: BTreeMap<String, String>,
        entered: usize,
        closed: usize,
        open: usize,
    }

    #[derive(Clone, Default)]
    struct Watch(Arc<Mutex<Seen>>);

    impl Visit for Seen {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let mut text = String::new();
            write!(text, "{value:?}").expect("a String takes all");
            self.fields
                .insert(field.name().to_owned(), text.trim_matches('"').to_owned());
        }
    }

    impl Subscriber for Watch {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_span() && metadata.name() == "chat"
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut seen = self.0.lock().expect("no panic inside");
            span.record(&mut *seen);
            seen.open = 1;
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, values: &Record<'_>) {
            values.record(&mut *self.0.lock().expect("no panic inside"));
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {
            self.0.lock().expect("no panic inside").entered += 1;
        }

        fn exit(&self, _: &Id) {}

        fn clone_span(&self, id: &Id) -> Id {
            self.0.lock().expect("no panic inside").open += 1;
            id.clone()
        }

        fn try_close(&self, _: Id) -> bool {
            let mut seen = self.0.lock().expect("no panic inside");
            seen.open -= 1;
            if seen.open == 0 {
                seen.closed += 1;
            }
            seen.open == 0
        }
    }

    fn watched(work: impl FnOnce()) -> Seen {
        let watch = Watch::default();
        tracing::subscriber::with_default(watch.clone(), work);
        std::mem::take(&mut *watch.0.lock().expect("no panic inside"))
    }

    #[test]
    fn a_span_tells_what_the_conventions_name_and_no_words() {
        let seen = watched(|| {
            let clock = VirtualClock::new();
            let model = Played::new("m", &clock)
                .fail(overloaded())
                .say("canary-answer")
                .with_retry(RetryOptions::default().seed(1).clock(Arc::new(clock.clone())))
                .with_trace();
            block_on(clock.run(model.chat("canary-question".into()))).expect("an answer");
        });
        for (name, value) in [
            ("otel.name", "chat m"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "acme"),
            ("gen_ai.request.model", "m"),
            ("gen_ai.response.id", "a1"),
            ("gen_ai.response.finish_reasons", "stop"),
            ("gen_ai.usage.input_tokens", "10"),
            ("gen_ai.usage.output_tokens", "5"),
            ("stepwell.attempts", "2"),
        ] {
            assert_eq!(seen.fields.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(seen.fields.contains_key("stepwell.time_to_first_event_ms"));
        assert!(!seen.fields.contains_key("error.type"));
        assert!(!format!("{:?}", seen.fields).contains("canary"));
        assert_eq!((seen.closed, seen.open), (1, 0));
    }

    #[test]
    fn a_span_tells_how_the_answer_was_brought_into_its_shape() {
        let seen = watched(|| {
            let clock = VirtualClock::new();
            let structured = Structured::new(StructuredStrategy::TwoPhase, None);
            let model = Played::new("m", &clock)
                .play(vec![
                    Step::Event(StreamEvent::Structured(structured)),
                    Step::Event(StreamEvent::Finish {
                        reason: FinishReason::Stop,
                        raw: None,
                        refusal: None,
                    }),
                ])
                .with_trace();
            block_on(clock.run(model.chat("x".into()))).expect("an answer");
        });
        let told = seen
            .fields
            .get("stepwell.structured.strategy")
            .map(String::as_str);
        assert_eq!(told, Some("two_phase"));
    }

    #[test]
    fn a_span_lives_until_the_stream_is_dropped_or_has_failed() {
        let dropped = watched(|| {
            let clock = VirtualClock::new();
            let model = Played::new("m", &clock).say("x").with_trace();
            let mut stream = block_on(clock.run(model.stream("x".into()))).expect("begins");
            block_on(clock.run(stream.next()));
            drop(stream);
        });
        assert_eq!(
            dropped.fields.get("error.type").map(String::as_str),
            Some("cancelled")
        );
        assert_eq!(dropped.closed, 1);
        assert!(dropped.entered >= 2, "each step of the stream runs inside");
        let failed = watched(|| {
            let clock = VirtualClock::new();
            let model = Played::new("m", &clock).fail(overloaded()).with_trace();
            block_on(clock.run(model.chat("x".into()))).expect_err("fails");
        });
        assert_eq!(
            failed.fields.get("error.type").map(String::as_str),
            Some("overloaded")
        );
        assert_eq!(failed.closed, 1);
    }
}
