//! [`hold`]: reads an answer up to its first visible piece, so that a failure before it can still be mended unseen.

use crate::tape::is_output;
use futures::{StreamExt, stream};
use stepwell_core::{Attempt, ChatStream, Error, FinishReason, ModelInfo, StreamEvent, Warning};

/// Most events kept back; a vendor that sends more before its first word is handed out as it comes.
const MOST: usize = 256;

/// The beginning of an answer.
pub(super) struct Held {
    pub(super) events: Vec<StreamEvent>,
    /// What comes after them.
    pub(super) rest: ChatStream,
}

/// The events up to the first that shows something of the answer, that one included; pings are left out.
///
/// # Errors
/// What the stream failed with before, and what of it was told by then.
pub(super) async fn hold(mut stream: ChatStream) -> Result<Held, (Error, Vec<StreamEvent>)> {
    let mut events = Vec::with_capacity(4);
    while let Some(event) = stream.next().await {
        match event {
            Ok(StreamEvent::Ping) => {}
            Ok(event) => {
                let is_due = is_output(&event) || matches!(event, StreamEvent::Finish { .. });
                events.push(event);
                if is_due || events.len() >= MOST {
                    break;
                }
            }
            Err(error) => return Err((error, events)),
        }
    }
    Ok(Held { events, rest: stream })
}

impl Held {
    /// Why the answer ended, where it did without showing anything.
    fn empty_finish(&self) -> Option<(FinishReason, Option<&str>)> {
        if self.events.iter().any(is_output) {
            return None;
        }
        match self.events.last()? {
            StreamEvent::Finish { reason, raw, .. } => Some((*reason, raw.as_deref())),
            _ => None,
        }
    }

    /// The model meant to call a tool and wrote a call that the vendor cannot read; nothing else came.
    pub(super) fn is_malformed_call(&self) -> bool {
        matches!(
            self.empty_finish(),
            Some((FinishReason::Other, Some("MALFORMED_FUNCTION_CALL")))
        )
    }

    /// The vendor or the model would not answer, and said nothing else.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.empty_finish(), Some((FinishReason::ContentFilter, _)))
    }

    /// The answer, with what had failed before it told behind its start.
    pub(super) fn with(self, attempts: Vec<Attempt>, warnings: Vec<Warning>) -> ChatStream {
        let Self { mut events, rest } = self;
        if !attempts.is_empty() || !warnings.is_empty() {
            let start = events
                .iter()
                .position(|event| matches!(event, StreamEvent::MessageStart { .. }))
                .map_or(0, |at| at + 1);
            let attempts = attempts
                .into_iter()
                .map(|attempt| StreamEvent::Attempt(Box::new(attempt)));
            let told = attempts.chain(warnings.into_iter().map(StreamEvent::Warning));
            events.splice(start..start, told);
        }
        stream::iter(events.into_iter().map(Ok)).chain(rest).boxed()
    }
}

/// Adds to a failed try of this model what its events had told before it failed.
pub(super) fn note(attempt: &mut Attempt, events: &[StreamEvent], info: &ModelInfo) {
    for event in events {
        match event {
            StreamEvent::MessageStart {
                request_id: Some(id), ..
            } if attempt.request_id.is_none() => attempt.request_id = Some(id.clone()),
            StreamEvent::Usage(usage) if usage.total() > 0 => {
                let mut usage = usage.clone();
                // What a vendor counts before its end is not what it will bill.
                usage.is_estimated = true;
                attempt.cost = info.price.as_ref().and_then(|price| price.cost(&usage));
                attempt.usage = Some(usage);
            }
            StreamEvent::Cost(cost) => attempt.cost = Some(*cost),
            _ => {}
        }
    }
}
