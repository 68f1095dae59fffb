//! [`Answer`]: drives a vendor's decoder over the bytes of an answer, and keeps the promises of a stream.
//!
//! Nothing is handed out before the first real event, so a vendor that fails first fails the call and not the
//! stream; the stream closes with one end mark or with an error that carries what had come.

use crate::{
    framing::{Framing, Limits, Parser},
    header,
    http::{Http, Reply, Secrets, WEB_PAGE},
    sse,
    tape::{Tape, is_output},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};
use stepwell_core::{
    ChatResponse, ChatStream, Cost, Error, ModelInfo, Price, RateLimit, Result, StreamEvent, Warning,
};

/// Most events that wait for the first real one: pings, and raw events where they are asked for.
const MOST_WAITING: usize = 10_000;

/// Most parts of an answer, as many as are folded: each event may look through those that are there.
pub(crate) const MOST_PARTS: usize = 10_000;

/// An answer of more parts than any model says.
pub(crate) fn too_many_parts(provider: &str) -> Error {
    Error::LimitExceeded {
        what: format!("the answer of {provider}"),
        limit: format!("{MOST_PARTS} parts"),
    }
}

/// Events on their way out.
pub(crate) type Out = VecDeque<StreamEvent>;

/// A vendor's wire: its events in, ours out. Pure: no clock, no network.
pub(crate) trait Decoder: Send + Unpin + 'static {
    /// One event of the wire. The first thing ever put out (but pings) is [`StreamEvent::MessageStart`].
    fn event(&mut self, name: &str, data: &str, out: &mut Out) -> Result<()>;

    /// How the events lie in the bytes of an answer of this content type.
    fn framing(&self, content_type: &[u8]) -> Framing {
        Framing::usual(content_type)
    }

    /// No more bytes come. Puts out the end mark where the wire allows an end without one.
    fn end(&mut self, out: &mut Out);
}

/// What is known of an answer beside its body.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) request_id: Option<String>,
    pub(crate) rate_limits: Vec<RateLimit>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) include_raw: bool,
    /// What the model asks, for vendors that do not tell the money themselves.
    pub(crate) price: Option<Price>,
    /// What nothing that is handed out may carry.
    pub(crate) secrets: Secrets,
}

impl Facts {
    pub(crate) fn new(
        info: &ModelInfo,
        headers: &HeaderMap,
        warnings: Vec<Warning>,
        include_raw: bool,
    ) -> Self {
        Self {
            provider: info.provider.clone(),
            model: info.model.clone(),
            request_id: header::request_id(headers),
            rate_limits: header::rate_limits(headers, SystemTime::now()),
            warnings,
            include_raw,
            price: info.price.clone(),
            secrets: Secrets::default(),
        }
    }

    /// What the answer cost, by the last of these usages; `None` where the vendor told it itself.
    fn charge<'a>(&self, events: impl DoubleEndedIterator<Item = &'a StreamEvent> + Clone) -> Option<Cost> {
        let price = self.price.as_ref()?;
        if events.clone().any(|event| matches!(event, StreamEvent::Cost(_))) {
            return None;
        }
        events.rev().find_map(|event| match event {
            StreamEvent::Usage(usage) => Some(price.cost(usage)),
            _ => None,
        })?
    }

    /// Puts the facts behind the start of the message.
    fn insert(&mut self, out: &mut Out) {
        let at = out
            .iter()
            .position(|event| matches!(event, StreamEvent::MessageStart { .. }));
        let mut at = at.map_or(0, |at| {
            if let StreamEvent::MessageStart { request_id, .. } = &mut out[at] {
                *request_id = request_id.take().or(self.request_id.take());
            }
            self.secrets.clean_event(&mut out[at]);
            at + 1
        });
        if !self.rate_limits.is_empty() {
            let limits = std::mem::take(&mut self.rate_limits);
            out.insert(at, StreamEvent::RateLimits { limits });
            at += 1;
        }
        for warning in std::mem::take(&mut self.warnings) {
            out.insert(at, StreamEvent::Warning(warning));
            at += 1;
        }
    }
}

/// The stream of a reply with status 200, whether the vendor streams or sends the answer whole.
pub(crate) async fn of<D: Decoder>(
    reply: Reply,
    http: &Http,
    mut facts: Facts,
    decoder: D,
    decode_whole: impl FnOnce(&[u8]) -> Result<Out>,
) -> Result<ChatStream> {
    facts.secrets = http.secrets.clone();
    let framing = decoder.framing(&reply.kind());
    if framing == Framing::Whole {
        let body = reply.body.read().await?;
        // Some gateways put a byte order mark before JSON, which is none.
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&body);
        let events = decode_whole(body).map_err(|error| facts.secrets.clean(error))?;
        return Ok(whole(events, facts, body));
    }
    let parser = framing.parser(Limits {
        event: http.options.max_event_bytes,
        line: http.options.max_line_bytes,
    });
    let mut answer = Answer::new(reply.body, parser, decoder, facts);
    answer.first().await?;
    answer.body.begun();
    Ok(answer.boxed())
}

fn whole(mut events: Out, mut facts: Facts, body: &[u8]) -> ChatStream {
    facts.insert(&mut events);
    if let Some(cost) = facts.charge(events.iter()) {
        // The end mark stays last.
        events.insert(events.len().saturating_sub(1), StreamEvent::Cost(cost));
    }
    if facts.include_raw
        && let Ok(value) = serde_json::from_slice(body)
    {
        events.push_front(StreamEvent::Raw { value });
    }
    stream::iter(events.into_iter().map(Ok)).boxed()
}

/// A streamed answer.
pub(crate) struct Answer<B, D> {
    body: B,
    parser: Parser,
    decoder: D,
    facts: Facts,
    out: Out,
    tape: Tape,
    failed: Option<Error>,
    output_started: bool,
    /// How many parts have begun.
    parts: usize,
    /// Whether a byte has come that is no blank.
    has_bytes: bool,
    is_done: bool,
}

impl<B, D> Answer<B, D>
where
    B: Stream<Item = Result<Bytes>> + Send + Unpin + 'static,
    D: Decoder,
{
    pub(crate) fn new(body: B, parser: Parser, decoder: D, facts: Facts) -> Self {
        Self {
            body,
            parser,
            decoder,
            facts,
            out: Out::new(),
            tape: Tape::default(),
            failed: None,
            output_started: false,
            parts: 0,
            has_bytes: false,
            is_done: false,
        }
    }

    /// Reads on until there is something real to hand out.
    pub(crate) async fn first(&mut self) -> Result<()> {
        poll_fn(|cx| {
            while !self
                .out
                .iter()
                .any(|event| !matches!(event, StreamEvent::Ping | StreamEvent::Raw { .. }))
            {
                if let Some(error) = self.failed.take() {
                    return Poll::Ready(Err(self.facts.secrets.clean(error)));
                }
                if self.out.len() > MOST_WAITING {
                    return Poll::Ready(Err(Error::LimitExceeded {
                        what: format!("what {} sends before its answer", self.facts.provider),
                        limit: format!("{MOST_WAITING} events"),
                    }));
                }
                ready!(self.advance(cx));
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        self.facts.insert(&mut self.out);
        Ok(())
    }

    /// One event, or one piece of the body.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.parser.next() {
            // One sign of life says as much as many that were not looked at yet.
            Ok(Some(sse::Item::Comment)) => {
                if self.out.back() != Some(&StreamEvent::Ping) {
                    self.out.push_back(StreamEvent::Ping);
                }
            }
            Ok(Some(sse::Item::Event(event))) => {
                keep_raw(self.facts.include_raw, &event.data, &mut self.out);
                let known = self.out.len();
                self.failed = self.decoder.event(&event.name, &event.data, &mut self.out).err();
                self.parts += self.out.range(known..).filter(|event| begins_part(event)).count();
                if self.parts > MOST_PARTS && self.failed.is_none() {
                    self.failed = Some(too_many_parts(&self.facts.provider));
                }
            }
            Err(error) => self.failed = Some(error),
            Ok(None) => match ready!(self.body.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => {
                    if self.is_web_page(&bytes) {
                        self.failed = Some(Error::InvalidResponse {
                            provider: self.facts.provider.clone(),
                            message: WEB_PAGE.to_owned(),
                        });
                    } else {
                        self.parser.push(&bytes);
                    }
                }
                // A connection that breaks before the first word is a failure to reach the vendor.
                Some(Err(error)) if self.tape.is_empty() => self.failed = Some(error),
                Some(Err(Error::Transport { .. })) | None => self.end(),
                // Not truncated: the caller may want to wait longer the next time.
                Some(Err(Error::Timeout {
                    what, after, timer, ..
                })) => {
                    let partial = Some(Box::new(self.partial()));
                    self.failed = Some(Error::Timeout {
                        what,
                        after,
                        timer,
                        partial,
                    });
                }
                Some(Err(error)) => self.failed = Some(error),
            },
        }
        Poll::Ready(())
    }

    /// Whether these are the first bytes, and begin like a page whatever its header says: no wire begins so.
    fn is_web_page(&mut self, bytes: &[u8]) -> bool {
        if self.has_bytes {
            return false;
        }
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        self.has_bytes = first.is_some();
        first == Some(&b'<')
    }

    fn end(&mut self) {
        if let Some(data) = self.parser.rest() {
            keep_raw(self.facts.include_raw, &data, &mut self.out);
            self.failed = self.decoder.event("message", &data, &mut self.out).err();
            if self.failed.is_some() {
                return;
            }
        }
        self.decoder.end(&mut self.out);
        let is_whole = self
            .out
            .iter()
            .any(|event| matches!(event, StreamEvent::Finish { .. }));
        if is_whole {
            return;
        }
        let partial = self.partial();
        self.failed = Some(Error::StreamTruncated {
            provider: self.facts.provider.clone(),
            partial: Box::new(partial),
        });
    }

    fn partial(&mut self) -> ChatResponse {
        let Facts {
            provider,
            model,
            price,
            ..
        } = &self.facts;
        // What is still to be handed out counts too, and is handed out all the same.
        let waiting: Vec<_> = self.out.iter().cloned().collect();
        self.tape.partial(waiting, provider, model, price.as_ref())
    }
}

impl<B, D> Stream for Answer<B, D>
where
    B: Stream<Item = Result<Bytes>> + Send + Unpin + 'static,
    D: Decoder,
{
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.is_done {
                return Poll::Ready(None);
            }
            if let Some(event) = this.out.pop_front() {
                if matches!(event, StreamEvent::Finish { .. }) {
                    if let Some(cost) = this.facts.charge(this.tape.events()) {
                        this.out.push_front(event);
                        this.tape.note(&StreamEvent::Cost(cost));
                        return Poll::Ready(Some(Ok(StreamEvent::Cost(cost))));
                    }
                    this.is_done = true;
                    // The end of the body is mostly there already; read, the connection can serve again.
                    let _ = this.body.poll_next_unpin(cx);
                }
                this.output_started |= is_output(&event);
                this.tape.note(&event);
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(mut error) = this.failed.take() {
                this.is_done = true;
                if let Some(failure) = error.vendor_failure_mut() {
                    failure.output_started = this.output_started;
                }
                return Poll::Ready(Some(Err(this.facts.secrets.clean(error))));
            }
            if this.advance(cx).is_pending() {
                // Many streams wait most of the time: the room for events is not kept meanwhile.
                this.out = Out::new();
                return Poll::Pending;
            }
        }
    }
}

fn begins_part(event: &StreamEvent) -> bool {
    matches!(
        event,
        StreamEvent::TextStart { .. }
            | StreamEvent::ReasoningStart { .. }
            | StreamEvent::ToolCallStart { .. }
            | StreamEvent::Part { .. }
            | StreamEvent::Data(_)
    )
}

fn keep_raw(is_asked: bool, data: &str, out: &mut Out) {
    if is_asked && let Ok(value) = serde_json::from_str::<Value>(data) {
        out.push_back(StreamEvent::Raw { value });
    }
}

/// An answer that cannot be read, told without its words: serde's own sentence may quote them.
pub(crate) fn unreadable(provider: &str, what: &str, error: &serde_json::Error) -> Error {
    Error::InvalidResponse {
        provider: provider.to_owned(),
        message: format!(
            "{what} is not the JSON its documentation promises ({:?} fault at line {}, column {})",
            error.classify(),
            error.line(),
            error.column()
        ),
    }
}

/// The events and, if so, the failure of a stream whose body of this content type comes so.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) async fn run<D: Decoder>(
    body: Vec<Result<Bytes>>,
    content_type: &[u8],
    decoder: D,
    provider: &str,
) -> (Vec<StreamEvent>, Option<Error>) {
    let facts = Facts {
        provider: provider.to_owned(),
        ..Facts::default()
    };
    let parser = decoder.framing(content_type).parser(Limits {
        event: 1 << 20,
        line: 1 << 16,
    });
    let mut answer = Answer::new(stream::iter(body), parser, decoder, facts);
    if let Err(error) = answer.first().await {
        return (Vec::new(), Some(error));
    }
    let mut events = Vec::new();
    while let Some(event) = answer.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

/// The same for a recorded stream in these pieces.
#[cfg(test)]
pub(crate) async fn replay<D: Decoder>(
    pieces: &[&[u8]],
    decoder: D,
    provider: &str,
) -> (Vec<StreamEvent>, Option<Error>) {
    let pieces = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece)));
    run(pieces.collect(), b"", decoder, provider).await
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Facts, Out, replay, whole};
    use stepwell_core::{Cost, Error, FinishReason, Price, Result, StreamEvent, Usage, collect};

    /// A wire of three words.
    struct Toy;

    impl Decoder for Toy {
        fn event(&mut self, _name: &str, data: &str, out: &mut Out) -> Result<()> {
            match data {
                "fail" => return Err(Error::Overloaded(Box::default())),
                "stop" => out.push_back(StreamEvent::Finish {
                    reason: FinishReason::Stop,
                    raw: None,
                    refusal: None,
                }),
                "start" => {
                    out.push_back(StreamEvent::MessageStart {
                        id: None,
                        model: None,
                        request_id: None,
                    });
                    out.push_back(StreamEvent::TextStart { index: 0 });
                }
                text => out.push_back(StreamEvent::TextDelta {
                    index: 0,
                    text: text.to_owned(),
                }),
            }
            Ok(())
        }

        fn end(&mut self, _out: &mut Out) {}
    }

    #[tokio::test]
    async fn a_failure_that_comes_first_fails_the_call_even_behind_pings() {
        let (events, error) = replay(
            &[b": ping

: ping

data: fail

"],
            Toy,
            "acme",
        )
        .await;
        assert!(events.is_empty());
        assert_eq!(error.expect("a failure").code(), "overloaded");
    }

    #[tokio::test]
    async fn the_money_comes_before_the_end_mark_and_a_sum_of_the_vendors_own_stands() {
        let mut price = Price::default();
        price.input = Some(2_000_000);
        price.output = Some(10_000_000);
        let mut usage = Usage::default();
        usage.input_tokens = Some(100);
        usage.output_tokens = Some(10);
        let finish = StreamEvent::Finish {
            reason: FinishReason::Stop,
            raw: None,
            refusal: None,
        };
        let stated = Cost { micro_usd: 5 };
        for (told, expected) in [(None, Cost { micro_usd: 300 }), (Some(stated), stated)] {
            let mut events: Out = [StreamEvent::Usage(usage.clone())].into();
            events.extend(told.map(StreamEvent::Cost));
            events.push_back(finish.clone());
            let facts = Facts {
                price: Some(price.clone()),
                ..Facts::default()
            };
            let answer = collect(whole(events, facts, b"{}"), "acme", "m", false).await;
            assert_eq!(answer.expect("folds").cost, Some(expected));
        }
    }

    #[tokio::test]
    async fn a_later_failure_says_that_output_had_begun() {
        let (events, error) = replay(
            &[b"data: start

data: hi

data: fail

"],
            Toy,
            "acme",
        )
        .await;
        assert_eq!(events.len(), 3);
        let error = error.expect("a failure");
        assert!(error.vendor_failure().expect("of the vendor").output_started);
    }

    #[tokio::test]
    async fn a_stream_without_its_end_carries_what_had_come_and_one_with_it_ends_there() {
        let (events, error) = replay(
            &[b"data: start

data: he

data: llo

"],
            Toy,
            "acme",
        )
        .await;
        assert_eq!(events.len(), 4);
        match error {
            Some(Error::StreamTruncated { partial, .. }) => {
                assert_eq!(partial.text(), "hello");
                assert!(partial.usage.is_estimated && partial.usage.total_output() > 0);
            }
            other => panic!("expected a truncated stream, got {other:?}"),
        }
        let (events, error) = replay(
            &[b"data: start

data: hi

data: stop

data: later

"],
            Toy,
            "acme",
        )
        .await;
        assert!(error.is_none());
        assert!(matches!(events.last(), Some(StreamEvent::Finish { .. })));
    }
}
