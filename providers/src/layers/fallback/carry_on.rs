//! An answer that breaks off after its first words, taken up by the next model.

use super::{Continuation, Fallback, verdict::Verdict};
use crate::tape::Tape;
use futures::{StreamExt, stream};
use std::collections::VecDeque;
use stepwell_core::{
    Attempt, ChatRequest, ChatStream, Error, Message, Origin, Part, Result, Role, StreamEvent,
};

const GO_ON: &str = "Your answer was cut off. Go on exactly where it stops: repeat nothing, explain nothing, do not \
                     begin anew.";

/// What part is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text(u32),
    Reasoning(u32),
}

struct Carried {
    fallback: Fallback,
    /// The model that speaks.
    at: usize,
    request: ChatRequest,
    /// `None` once it is over.
    stream: Option<ChatStream>,
    /// To be handed out before more is read.
    out: VecDeque<Result<StreamEvent>>,
    tape: Tape,
    /// Added to the indices of the model that speaks.
    offset: u32,
    /// The first index nobody has used.
    free: u32,
    open: Option<Open>,
    has_call: bool,
}

/// The same answer, which goes on elsewhere when it breaks off.
pub(super) fn stream(fallback: Fallback, at: usize, request: ChatRequest, begun: ChatStream) -> ChatStream {
    let carried = Carried {
        fallback,
        at,
        request,
        stream: Some(begun),
        out: VecDeque::new(),
        tape: Tape::default(),
        offset: 0,
        free: 0,
        open: None,
        has_call: false,
    };
    stream::unfold(carried, |mut carried| async move {
        let event = carried.next().await?;
        Some((event, carried))
    })
    .boxed()
}

impl Carried {
    async fn next(&mut self) -> Option<Result<StreamEvent>> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(event);
            }
            match self.stream.as_mut()?.next().await {
                Some(Ok(mut event)) => {
                    self.note(&mut event);
                    return Some(Ok(event));
                }
                Some(Err(error)) => self.take_up(error).await,
                None => {
                    self.stream = None;
                    return None;
                }
            }
        }
    }

    /// Moves an event to its place in the whole answer, and remembers what is open.
    fn note(&mut self, event: &mut StreamEvent) {
        use StreamEvent::{
            Citation, Part, ReasoningDelta, ReasoningEnd, ReasoningStart, TextDelta, TextEnd, TextStart,
            ToolCallDelta, ToolCallEnd, ToolCallStart,
        };
        if let TextStart { index }
        | TextDelta { index, .. }
        | TextEnd { index, .. }
        | ReasoningStart { index }
        | ReasoningDelta { index, .. }
        | ReasoningEnd { index, .. }
        | ToolCallStart { index, .. }
        | ToolCallDelta { index, .. }
        | ToolCallEnd { index, .. }
        | Part { index, .. }
        | Citation { index, .. } = event
        {
            *index += self.offset;
            self.free = self.free.max(*index + 1);
        }
        match event {
            TextStart { index } => self.open = Some(Open::Text(*index)),
            ReasoningStart { index } => self.open = Some(Open::Reasoning(*index)),
            TextEnd { .. } | ReasoningEnd { .. } => self.open = None,
            ToolCallStart { .. } => self.has_call = true,
            // `Fold` gives it the next free place.
            StreamEvent::Data(_) => self.free += 1,
            _ => {}
        }
        self.tape.note(event);
    }

    /// Lets the next model go on, or passes the failure on.
    async fn take_up(&mut self, error: Error) {
        self.stream = None;
        let options = &self.fallback.options;
        let next = self.at + 1;
        let goes_on = Verdict::of(&error, options) == Verdict::Next
            && next < self.fallback.models.len()
            && !self.has_call
            && matches!(self.request.response_format, stepwell_core::ResponseFormat::Text);
        if !goes_on {
            self.out.push_back(Err(error));
            return;
        }
        let info = self.fallback.models[self.at].info();
        let price = info.price.as_ref();
        let events: Vec<StreamEvent> = self.tape.events().cloned().collect();
        let partial = self.tape.partial([], &info.provider, &info.model, price);
        for event in &events {
            self.tape.note(event);
        }
        let mut attempt = Attempt::failed(info, &error);
        if attempt.usage.is_none() {
            attempt.usage = Some(partial.usage.clone());
            attempt.cost = partial.cost;
        }
        let said = partial.message.text();
        let continuation = options.after_output.unwrap_or_default();
        let request = continued(&self.request, &said, continuation);
        let Ok(begun) = self.fallback.begin(next, &request, vec![attempt], None).await else {
            // The first failure is the one that lost words.
            self.out.push_back(Err(error));
            return;
        };
        if let Some(open) = self.open.take() {
            let end = match open {
                Open::Text(index) => StreamEvent::TextEnd { index, opaque: None },
                Open::Reasoning(index) => StreamEvent::ReasoningEnd {
                    index,
                    opaque: None,
                    is_redacted: false,
                },
            };
            self.tape.note(&end);
            self.out.push_back(Ok(end));
        }
        self.offset = self.free;
        self.at = begun.at;
        self.stream = Some(begun.into_stream(&self.fallback.models, false));
    }
}

/// The conversation with the words that were said. Thoughts stay behind: they are bound to the model that had them.
fn continued(request: &ChatRequest, said: &str, continuation: Continuation) -> ChatRequest {
    let mut request = request.clone();
    if said.is_empty() {
        return request;
    }
    // Vendors refuse a prefill that ends in white space.
    let said = match continuation {
        Continuation::Prefill => said.trim_end(),
        Continuation::Ask => said,
    };
    let parts = vec![Part::text(said, Origin::Model)];
    request.messages.push(Message::new(Role::Assistant, parts));
    if continuation == Continuation::Ask {
        request.messages.push(Message::user(GO_ON));
    }
    request
}
