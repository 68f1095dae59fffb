//! [`Tape`]: what of an answer has been handed out, and the partial answer it makes when the stream breaks.

use stepwell_core::{ChatResponse, Fold, HeuristicTokens, Part, Price, StreamEvent, TokenCounter};

/// What has been handed out, with the deltas of a part run together.
#[derive(Debug, Default)]
pub(crate) struct Tape(Vec<StreamEvent>);

impl Tape {
    /// Keeps an event; pings and raw events are left out.
    pub(crate) fn note(&mut self, event: &StreamEvent) {
        use StreamEvent::{Ping, Raw, ReasoningDelta, TextDelta, ToolCallDelta, Usage};
        match (event, self.0.last_mut()) {
            (Ping | Raw { .. }, _) => return,
            (
                TextDelta { index, text },
                Some(TextDelta {
                    index: last,
                    text: so_far,
                }),
            )
            | (
                ReasoningDelta { index, text },
                Some(ReasoningDelta {
                    index: last,
                    text: so_far,
                }),
            )
            | (
                ToolCallDelta {
                    index,
                    arguments: text,
                },
                Some(ToolCallDelta {
                    index: last,
                    arguments: so_far,
                }),
            ) if index == last => {
                so_far.push_str(text);
                return;
            }
            (Usage(usage), Some(Usage(last))) => {
                *last = usage.clone();
                return;
            }
            _ => {}
        }
        if self.0.len() == self.0.capacity() {
            // An event is large and most answers are a few: room for no more than is there, while they are few.
            self.0.reserve_exact(1 + self.0.len() / 2);
        }
        self.0.push(event.clone());
    }

    /// Whether nothing was handed out.
    #[cfg(feature = "http")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was handed out, oldest first.
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &StreamEvent> + Clone {
        self.0.iter()
    }

    /// Whether a piece of the answer itself was handed out.
    pub(crate) fn has_output(&self) -> bool {
        self.0.iter().any(is_output)
    }

    /// The answer as far as it came, what had not been handed out yet included. Its usage is flagged as an estimate:
    /// what a vendor counts before its end is not what it will bill.
    pub(crate) fn partial(
        &mut self,
        more: impl IntoIterator<Item = StreamEvent>,
        provider: &str,
        model: &str,
        price: Option<&Price>,
    ) -> ChatResponse {
        let mut fold = Fold::new(provider, model, false);
        for event in self.0.drain(..).chain(more) {
            // What was handed out is in order; if it is not, the partial answer is what came before.
            if fold.push(event).is_err() {
                break;
            }
        }
        let mut partial = fold.partial();
        let said = partial.message.parts.iter().map(|part| match part {
            Part::Text(part) => HeuristicTokens.count(&part.text),
            Part::ToolCall(call) => HeuristicTokens.count(call.malformed.as_deref().unwrap_or("")),
            _ => 0,
        });
        let said = said.sum::<usize>() as u64;
        let usage = &mut partial.usage;
        usage.output_tokens = Some(usage.output_tokens.unwrap_or(0).max(said));
        usage.is_estimated = true;
        if partial.cost.is_none() {
            partial.cost = price.and_then(|price| price.cost(&partial.usage));
        }
        partial
    }
}

/// Whether an event brings a piece of the answer itself: from then on nothing can be asked again unseen.
pub(crate) fn is_output(event: &StreamEvent) -> bool {
    matches!(
        event,
        StreamEvent::TextDelta { .. }
            | StreamEvent::ReasoningDelta { .. }
            | StreamEvent::ReasoningEnd { .. }
            | StreamEvent::ToolCallStart { .. }
            | StreamEvent::Part { .. }
            | StreamEvent::Data(_)
    )
}
