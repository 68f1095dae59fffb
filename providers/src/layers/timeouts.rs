//! [`Timeouts`]: clocks over the events of an answer, whatever model gives it.

use super::clock::{Clock, system_clock};
use crate::seconds::some_seconds;
use crate::tape::Tape;
use async_trait::async_trait;
use futures::{
    Stream, StreamExt,
    future::{BoxFuture, Either, select},
};
use serde::Deserialize;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, ModelInfo, Result, StreamEvent, Timer, Usage,
};

/// How long to wait for what. Around a retry or a fallback the limits hold for all tries together, inside it for
/// each. The vendors' own clients have clocks as well, over bytes and for each try: see `HttpOptions`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeoutOptions {
    /// From the call to the first event that is no ping: none.
    #[serde(deserialize_with = "some_seconds")]
    pub first_event: Option<Duration>,
    /// Between two events: none.
    #[serde(deserialize_with = "some_seconds")]
    pub idle: Option<Duration>,
    /// Whether a ping is an event to the idle clock; a model that thinks long sends little else: yes.
    pub pings_count: bool,
    /// The whole call: 30 min.
    #[serde(deserialize_with = "some_seconds")]
    pub total: Option<Duration>,
    /// Where the time comes from: this machine.
    #[serde(skip)]
    pub clock: Arc<dyn Clock>,
}

impl Default for TimeoutOptions {
    fn default() -> Self {
        Self {
            first_event: None,
            idle: None,
            pings_count: true,
            total: Some(Duration::from_mins(30)),
            clock: system_clock(),
        }
    }
}

impl TimeoutOptions {
    /// Sets the time to the first event.
    pub fn first_event(mut self, limit: Option<Duration>) -> Self {
        self.first_event = limit;
        self
    }

    /// Sets the time between two events.
    pub fn idle(mut self, limit: Option<Duration>) -> Self {
        self.idle = limit;
        self
    }

    /// Sets whether a ping is an event to the idle clock.
    pub fn pings_count(mut self, pings_count: bool) -> Self {
        self.pings_count = pings_count;
        self
    }

    /// Sets the time for the whole call.
    pub fn total(mut self, limit: Option<Duration>) -> Self {
        self.total = limit;
        self
    }

    /// Sets where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// A model that may not take as long as it likes.
#[derive(Debug)]
pub(super) struct Timeouts {
    pub(super) inner: Arc<dyn ChatModel>,
    pub(super) options: TimeoutOptions,
}

/// When the next clock rings, and which.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Duration,
    limit: Duration,
    timer: Timer,
}

#[derive(Debug)]
struct Clocks {
    options: TimeoutOptions,
    name: String,
    began: Duration,
    last: Duration,
    has_begun: bool,
}

impl Clocks {
    fn due(&self) -> Option<Due> {
        let (since, part, timer) = if self.has_begun {
            (self.last, self.options.idle, Timer::Idle)
        } else {
            (self.began, self.options.first_event, Timer::FirstEvent)
        };
        let due = |since: Duration, limit: Option<Duration>, timer| {
            limit.map(|limit| Due {
                at: since.saturating_add(limit),
                limit,
                timer,
            })
        };
        let part = due(since, part, timer);
        let total = due(self.began, self.options.total, Timer::Total);
        // The nearer one; where both ring at once, the one that says more.
        [part, total].into_iter().flatten().min_by_key(|due| due.at)
    }

    fn error(&self, due: Due, tape: &mut Tape, info: &ModelInfo) -> Error {
        let what = match due.timer {
            Timer::FirstEvent => format!("the first event of {}", self.name),
            Timer::Idle => format!("the next event of {}", self.name),
            _ => format!("the answer of {}", self.name),
        };
        Error::Timeout {
            what,
            after: due.limit,
            timer: due.timer,
            partial: tape
                .has_output()
                .then(|| Box::new(tape.partial([], &info.provider, &info.model, info.price.as_ref()))),
        }
    }
}

#[async_trait]
impl ChatModel for Timeouts {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let clock = Arc::clone(&self.options.clock);
        let now = clock.now();
        let clocks = Clocks {
            options: self.options.clone(),
            name: self.inner.info().name(),
            began: now,
            last: now,
            has_begun: false,
        };
        let call = self.inner.stream(request);
        let (stream, alarm, alarm_at) = match clocks.due() {
            None if self.options.idle.is_none() => return call.await,
            None => (call.await?, None, Duration::MAX),
            Some(due) => match select(call, clock.sleep(due.limit)).await {
                Either::Left((stream, alarm)) => (stream?, Some(alarm), due.at),
                Either::Right(((), _)) => {
                    return Err(clocks.error(due, &mut Tape::default(), self.inner.info()));
                }
            },
        };
        Ok(Timed {
            info: self.inner.info().clone(),
            stream: Some(stream),
            clocks,
            tape: Tape::default(),
            alarm,
            alarm_at,
        }
        .boxed())
    }

    async fn count_tokens(&self, request: &ChatRequest) -> Result<Usage> {
        self.inner.count_tokens(request).await
    }
}

struct Timed {
    info: ModelInfo,
    /// `None` once it is over.
    stream: Option<ChatStream>,
    clocks: Clocks,
    tape: Tape,
    /// One timer for the whole answer: it is set anew only when it rings, or when it would ring too late.
    alarm: Option<BoxFuture<'static, ()>>,
    alarm_at: Duration,
}

impl Timed {
    fn set(&mut self, due: Option<Due>, now: Duration) {
        self.alarm = due.map(|due| {
            self.alarm_at = due.at;
            self.clocks.options.clock.sleep(due.at.saturating_sub(now))
        });
    }
}

impl Stream for Timed {
    type Item = Result<StreamEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        match stream.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(event))) => {
                let is_ping = matches!(event, StreamEvent::Ping);
                if !is_ping || this.clocks.options.pings_count {
                    this.clocks.last = this.clocks.options.clock.now();
                }
                if !is_ping && !this.clocks.has_begun {
                    this.clocks.has_begun = true;
                    let due = this.clocks.due();
                    if due.is_some_and(|due| due.at < this.alarm_at) {
                        let now = this.clocks.last;
                        this.set(due, now);
                    }
                }
                this.tape.note(&event);
                Poll::Ready(Some(Ok(event)))
            }
            Poll::Ready(last) => {
                this.stream = None;
                Poll::Ready(last)
            }
            Poll::Pending => {
                while let Some(alarm) = &mut this.alarm {
                    if alarm.as_mut().poll(cx).is_pending() {
                        break;
                    }
                    let (now, due) = (this.clocks.options.clock.now(), this.clocks.due());
                    match due {
                        Some(due) if now >= due.at => {
                            this.stream = None;
                            let error = this.clocks.error(due, &mut this.tape, &this.info);
                            return Poll::Ready(Some(Err(error)));
                        }
                        due => this.set(due, now),
                    }
                }
                Poll::Pending
            }
        }
    }
}
