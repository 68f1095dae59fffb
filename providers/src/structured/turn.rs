//! [`run`]: the events of a structured answer, whichever way it was asked for: its JSON as text, checked at the end.

use super::{Sends, plan::Plan, text::Extract};
use futures::{StreamExt, stream};
use std::collections::{HashMap, VecDeque};
use stepwell_core::{
    ChatStream, Cost, Error, FinishReason, Fold, Message, Result, Role, StreamEvent, Structured,
    StructuredStrategy, Usage, Warning,
};

/// # Errors
/// What the vendor fails with before its first event.
pub(super) async fn run<C: Sends>(client: C, mut plan: Plan) -> Result<ChatStream> {
    let (provider, model) = client.name();
    let inner = client.send(std::mem::take(&mut plan.request)).await?;
    let turn = Turn {
        inner,
        extract: (plan.is_wrapped || plan.strategy == StructuredStrategy::Prompted)
            .then(|| Extract::new(plan.is_wrapped)),
        fold: Some(Fold::new(&provider, &model, true)),
        client,
        plan,
        out: VecDeque::new(),
        held: Vec::new(),
        answers: HashMap::new(),
        lead: Some(String::new()),
        bare: None,
        calls: false,
        is_done: false,
        offset: 0,
        next: 0,
        before: Spent::default(),
        has_left_out: false,
    };
    Ok(stream::unfold(turn, |mut turn| async move {
        loop {
            if let Some(event) = turn.out.pop_front() {
                turn.is_done |= event.is_err();
                return Some((event, turn));
            }
            if turn.is_done {
                return None;
            }
            match turn.inner.next().await {
                Some(Ok(event)) => turn.event(event).await,
                Some(Err(error)) => {
                    let error = turn.broken(error);
                    turn.out.push_back(Err(error));
                }
                None => turn.is_done = true,
            }
        }
    })
    .boxed())
}

/// What earlier calls of the same answer took.
#[derive(Debug, Default)]
struct Spent {
    usage: Option<Usage>,
    cost: Option<Cost>,
    last_usage: Usage,
    last_cost: Option<Cost>,
}

struct Turn<C> {
    client: C,
    plan: Plan,
    inner: ChatStream,
    extract: Option<Extract>,
    /// The answer as it is handed out.
    fold: Option<Fold>,
    out: VecDeque<Result<StreamEvent>>,
    /// Text that is the answer only if no better one comes.
    held: Vec<StreamEvent>,
    /// Parts whose arguments are handed out as text.
    answers: HashMap<u32, bool>,
    /// Of the arguments, as long as nothing or `null` may be all of them; then `None`.
    lead: Option<String>,
    /// The part of a call that had no arguments: an empty object, if it is not cut.
    bare: Option<u32>,
    /// A tool of the caller's is called.
    calls: bool,
    is_done: bool,
    /// Where the parts of the second call begin.
    offset: u32,
    /// The first index that is free.
    next: u32,
    before: Spent,
    has_left_out: bool,
}

impl<C: Sends> Turn<C> {
    /// Hands an event out.
    fn give(&mut self, event: StreamEvent) {
        if let Some(fold) = &mut self.fold
            && let Err(error) = fold.push(event.clone())
        {
            self.out.push_back(Err(error));
            return;
        }
        self.out.push_back(Ok(event));
    }

    /// Whether plain text has to wait: it may be words before a call that is the answer, or the first of two phases.
    fn holds_text(&self) -> bool {
        !self.calls && (self.plan.tool.is_some() || self.plan.second.is_some())
    }

    async fn event(&mut self, event: StreamEvent) {
        use StreamEvent as E;
        let event = shifted(event, self.offset);
        if let Some(index) = index_of(&event) {
            self.next = self.next.max(index + 1);
        }
        match event {
            E::ToolCallStart {
                index,
                ref name,
                is_provider_executed: false,
                ..
            } => {
                if self.plan.tool.as_ref() == Some(name) {
                    let is_first = self.answers.is_empty();
                    self.answers.insert(index, is_first);
                    if is_first {
                        self.leave_out();
                        self.give(E::TextStart { index });
                    }
                } else {
                    self.calls = true;
                    self.release();
                    self.give(event);
                }
            }
            E::ToolCallDelta { index, arguments } if self.answers.contains_key(&index) => {
                if self.answers[&index] {
                    self.arguments(index, &arguments);
                }
            }
            E::ToolCallEnd { index, .. } if self.answers.contains_key(&index) => {
                if self.answers[&index] && self.lead.is_none() {
                    self.rest(index);
                    self.give(E::TextEnd { index, opaque: None });
                } else if self.answers[&index] {
                    self.bare = Some(index);
                }
            }
            E::TextStart { .. } | E::TextDelta { .. } | E::TextEnd { .. } | E::Citation { .. }
                if self.holds_text() =>
            {
                self.held.push(event);
            }
            E::TextDelta { index, text } => self.text(index, &text),
            E::TextEnd { index, .. } => {
                self.rest(index);
                self.give(event);
            }
            E::Usage(usage) => {
                self.before.last_usage = usage.clone();
                let mut sum = self.before.usage.clone().unwrap_or_default();
                sum.add(&usage);
                self.give(E::Usage(sum));
            }
            E::Cost(cost) => {
                self.before.last_cost = Some(cost);
                let earlier = self.before.cost.map_or(0, |cost| cost.micro_usd);
                let mut sum = cost;
                sum.micro_usd = sum.micro_usd.saturating_add(earlier);
                self.give(E::Cost(sum));
            }
            E::MessageStart { .. } if self.before.usage.is_some() => {} // the second call of one answer
            E::Finish { reason, raw, refusal } => {
                let is_whole = matches!(reason, FinishReason::Stop) && refusal.is_none() && !self.calls;
                if is_whole && let Some(second) = self.plan.second.take() {
                    self.again(*second).await;
                    return;
                }
                self.finish(reason, raw, refusal);
            }
            event => self.give(event),
        }
    }

    /// Arguments of the call that is the answer. Vendors write none of them as nothing at all or as `null`.
    fn arguments(&mut self, index: u32, piece: &str) {
        let Some(mut lead) = self.lead.take() else {
            return self.text(index, piece);
        };
        lead.push_str(piece);
        if "null".starts_with(lead.trim()) {
            self.lead = Some(lead);
        } else {
            self.text(index, &lead);
        }
    }

    /// Text of the answer, as far as it is its JSON.
    fn text(&mut self, index: u32, piece: &str) {
        let text = match &mut self.extract {
            Some(extract) if !self.calls => extract.push(piece),
            _ => piece.to_owned(),
        };
        if !text.is_empty() {
            self.give(StreamEvent::TextDelta { index, text });
        }
    }

    fn rest(&mut self, index: u32) {
        let text = self.extract.as_mut().map(Extract::end).unwrap_or_default();
        if !text.is_empty() {
            self.give(StreamEvent::TextDelta { index, text });
        }
    }

    /// The held text is no part of the answer.
    fn leave_out(&mut self) {
        let has_words = self
            .held
            .iter()
            .any(|event| matches!(event, StreamEvent::TextDelta { text, .. } if !text.trim().is_empty()));
        self.held.clear();
        if has_words && !std::mem::replace(&mut self.has_left_out, true) {
            self.give(StreamEvent::Warning(Warning::new(
                "text_left_out",
                "the model wrote words beside its structured answer; they were left out",
            )));
        }
    }

    /// The held text is what there is.
    fn release(&mut self) {
        for event in std::mem::take(&mut self.held) {
            match event {
                StreamEvent::TextDelta { index, text } if !self.calls => self.text(index, &text),
                StreamEvent::TextEnd { index, .. } if !self.calls => {
                    self.rest(index);
                    self.give(event);
                }
                event => self.give(event),
            }
        }
    }

    /// The second phase: the same answer once more, in the shape.
    async fn again(&mut self, second: Plan) {
        let mut words = Fold::new("", "", false);
        for event in std::mem::take(&mut self.held) {
            // Held events are those of whole text parts, each in its place.
            if let Err(error) = words.push(event) {
                self.out.push_back(Err(error));
                return;
            }
        }
        let answer = Message::new(Role::Assistant, words.partial().message.parts);
        let mut second = second.behind(answer);
        self.before.usage = Some(std::mem::take(&mut self.before.last_usage));
        self.before.cost = self.before.last_cost.take();
        self.offset = self.next;
        self.extract = (second.is_wrapped || second.strategy == StructuredStrategy::Prompted)
            .then(|| Extract::new(second.is_wrapped));
        match self.client.send(std::mem::take(&mut second.request)).await {
            Ok(inner) => self.inner = inner,
            Err(error) => {
                let error = self.broken(error);
                self.out.push_back(Err(error));
            }
        }
    }

    /// The vendor's error, with the answer as its reader saw it and what all calls for it took.
    fn broken(&mut self, mut error: Error) -> Error {
        let has_earlier = self.before.usage.is_some();
        if let Some(failure) = error.vendor_failure_mut()
            && let Some(mut usage) = self.before.usage.clone()
        {
            usage.add(&failure.usage.take().unwrap_or_default());
            usage.is_estimated = true;
            failure.usage = Some(usage);
            failure.output_started = true;
        }
        let (Error::StreamTruncated { partial, .. }
        | Error::Timeout {
            partial: Some(partial),
            ..
        }) = &mut error
        else {
            return error;
        };
        let Some(mut fold) = self.fold.take() else {
            return error;
        };
        for event in std::mem::take(&mut self.held) {
            // Whole text parts, each in its place; if they are not, the answer is what came before.
            if fold.push(event).is_err() {
                break;
            }
        }
        let mut seen = fold.partial();
        seen.usage = self.before.usage.take().unwrap_or_default();
        seen.usage.add(&partial.usage);
        seen.cost = match (self.before.cost, partial.cost) {
            // Without the price of one of them the sum is not known.
            (None, _) if has_earlier => None,
            (Some(earlier), Some(mut cost)) => {
                cost.micro_usd = cost.micro_usd.saturating_add(earlier.micro_usd);
                Some(cost)
            }
            (_, cost) => cost,
        };
        seen.raw = partial.raw.take();
        **partial = seen;
        error
    }

    fn finish(&mut self, reason: FinishReason, raw: Option<String>, refusal: Option<stepwell_core::Refusal>) {
        if self.plan.tool.is_some() && self.extract.is_none() && self.answers.is_empty() && !self.calls {
            // The call was left out: the answer may stand in the text.
            self.extract = Some(Extract::new(self.plan.is_wrapped));
        }
        if let Some(index) = self.bare.take() {
            if reason != FinishReason::Length {
                self.text(index, "{}");
            }
            self.give(StreamEvent::TextEnd { index, opaque: None });
        }
        if self.answers.is_empty() || self.calls {
            self.release();
        } else {
            self.leave_out();
        }
        // The call that is the answer is no call to the reader.
        let reason = if reason == FinishReason::ToolCalls && !self.calls && !self.answers.is_empty() {
            FinishReason::Stop
        } else {
            reason
        };
        let strategy = self.plan.strategy;
        let end = StreamEvent::Finish { reason, raw, refusal };
        let Some(mut fold) = self.fold.take() else { return };
        if let Err(error) = fold.push(end.clone()) {
            self.out.push_back(Err(error));
            return;
        }
        let mut answer = match fold.finish() {
            Ok(answer) => answer,
            Err(error) => {
                self.out.push_back(Err(error));
                return;
            }
        };
        if answer.is_final_answer() {
            answer.structured = Some(Structured::new(strategy, None));
            match self.plan.format.read(&answer) {
                Ok(value) => self
                    .out
                    .push_back(Ok(StreamEvent::Structured(Structured::new(strategy, value)))),
                Err(error) => {
                    self.out.push_back(Err(error));
                    return;
                }
            }
        }
        self.out.push_back(Ok(end));
    }
}

/// The place of an event's part.
fn index_of(event: &StreamEvent) -> Option<u32> {
    use StreamEvent as E;
    match event {
        E::TextStart { index }
        | E::ReasoningStart { index }
        | E::ToolCallStart { index, .. }
        | E::Part { index, .. } => Some(*index),
        _ => None,
    }
}

/// The event, its part so many places further.
fn shifted(mut event: StreamEvent, by: u32) -> StreamEvent {
    use StreamEvent as E;
    if by > 0 {
        match &mut event {
            E::TextStart { index }
            | E::TextDelta { index, .. }
            | E::TextEnd { index, .. }
            | E::ReasoningStart { index }
            | E::ReasoningDelta { index, .. }
            | E::ReasoningEnd { index, .. }
            | E::ToolCallStart { index, .. }
            | E::ToolCallDelta { index, .. }
            | E::ToolCallEnd { index, .. }
            | E::Part { index, .. }
            | E::Citation { index, .. } => *index += by,
            _ => {}
        }
    }
    event
}
