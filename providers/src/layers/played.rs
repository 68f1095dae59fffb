//! Test support: a model that plays chosen events, pauses and failures on a virtual clock.

use super::clock::{Clock, VirtualClock};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Error, FinishReason, ModelInfo, Price, Result, StreamEvent, Usage,
    VendorFailure,
};

pub(super) enum Step {
    Event(StreamEvent),
    Wait(Duration),
    /// At the beginning it fails the call, later the stream.
    Fail(Error),
}

/// Each play answers one call. Every step takes two polls, so that a future can be dropped between any two.
#[derive(Clone)]
pub(super) struct Played {
    info: ModelInfo,
    clock: VirtualClock,
    plays: Arc<Mutex<VecDeque<Vec<Step>>>>,
    requests: Arc<Mutex<Vec<ChatRequest>>>,
}

impl std::fmt::Debug for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Played")
    }
}

impl Played {
    pub(super) fn new(model: &str, clock: &VirtualClock) -> Self {
        let mut info = ModelInfo::new("acme", model);
        let mut price = Price::default();
        // A millionth of a dollar for each token.
        (price.input, price.output) = (Some(1_000_000), Some(1_000_000));
        info.price = Some(price);
        Self {
            info,
            clock: clock.clone(),
            plays: Arc::default(),
            requests: Arc::default(),
        }
    }

    pub(super) fn window(mut self, tokens: u64) -> Self {
        self.info.context_window = Some(tokens);
        self
    }

    pub(super) fn play(self, steps: Vec<Step>) -> Self {
        self.plays.lock().expect("no panic inside").push_back(steps);
        self
    }

    pub(super) fn fail(self, error: Error) -> Self {
        self.play(vec![Step::Fail(error)])
    }

    /// An answer of this text with usage 10 in and 5 out.
    pub(super) fn say(self, text: &str) -> Self {
        let steps = said(text).into_iter().map(Step::Event).collect();
        self.play(steps)
    }

    /// The beginning of an answer, then this failure.
    pub(super) fn break_off(self, text: &str, error: Error) -> Self {
        let mut steps: Vec<Step> = said(text).into_iter().take(3).map(Step::Event).collect();
        steps.push(Step::Fail(error));
        self.play(steps)
    }

    pub(super) fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().expect("no panic inside").clone()
    }

    pub(super) fn calls(&self) -> usize {
        self.requests().len()
    }
}

pub(super) fn delta(text: &str) -> StreamEvent {
    StreamEvent::TextDelta {
        index: 0,
        text: text.to_owned(),
    }
}

pub(super) fn start() -> StreamEvent {
    StreamEvent::MessageStart {
        id: Some("a1".into()),
        model: None,
        request_id: Some("req_1".into()),
    }
}

pub(super) fn finish(reason: FinishReason, raw: &str) -> StreamEvent {
    StreamEvent::Finish {
        reason,
        raw: Some(raw.to_owned()),
        refusal: None,
    }
}

pub(super) fn usage(input: u64, output: u64) -> StreamEvent {
    let mut usage = Usage::default();
    (usage.input_tokens, usage.output_tokens) = (Some(input), Some(output));
    StreamEvent::Usage(usage)
}

/// Start, text, usage of 10 and 5, end mark.
pub(super) fn said(text: &str) -> Vec<StreamEvent> {
    vec![
        start(),
        StreamEvent::TextStart { index: 0 },
        delta(text),
        StreamEvent::TextEnd {
            index: 0,
            opaque: None,
        },
        usage(10, 5),
        finish(FinishReason::Stop, "stop"),
    ]
}

pub(super) fn failure(retry_after: Option<u64>) -> Box<VendorFailure> {
    let mut failure = VendorFailure::new("acme");
    failure.retry_after = retry_after.map(Duration::from_secs);
    Box::new(failure)
}

pub(super) fn overloaded() -> Error {
    Error::Overloaded(failure(None))
}

async fn yield_once() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl ChatModel for Played {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        self.requests.lock().expect("no panic inside").push(request);
        yield_once().await;
        let mut steps: VecDeque<Step> = {
            let mut plays = self.plays.lock().expect("no panic inside");
            plays.pop_front().expect("a play for every call").into()
        };
        while let Some(Step::Wait(time)) = steps.front() {
            self.clock.sleep(*time).await;
            steps.pop_front();
        }
        if matches!(steps.front(), Some(Step::Fail(_)))
            && let Some(Step::Fail(error)) = steps.pop_front()
        {
            return Err(error);
        }
        let clock = self.clock.clone();
        Ok(stream::unfold(steps, move |mut steps| {
            let clock = clock.clone();
            async move {
                yield_once().await;
                loop {
                    match steps.pop_front()? {
                        Step::Event(event) => return Some((Ok(event), steps)),
                        Step::Wait(time) => clock.sleep(time).await,
                        Step::Fail(error) => return Some((Err(error), VecDeque::new())),
                    }
                }
            }
        })
        .boxed())
    }
}
