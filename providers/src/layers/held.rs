//! [`hold`]: reads an answer up to its first visible piece, so that a failure before it can still be mended unseen.

use crate::tape::is_output;
use futures::{StreamExt, stream};
use stepwell_core::{
    Attempt, ChatStream, Error, FinishReason, ModelInfo, Result, StreamEvent, VendorFailure, Warning,
};

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
/// What the stream failed with before; a vendor's failure takes along what was told by then.
pub(super) async fn hold(mut stream: ChatStream) -> Result<Held> {
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
            Err(mut error) => {
                if let Some(failure) = error.vendor_failure_mut() {
                    tell(failure, &events);
                }
                return Err(error);
            }
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

    /// The failed try that an answer without a word is, under this code.
    pub(super) fn as_attempt(&self, info: &ModelInfo, code: &str) -> Attempt {
        let mut failure = VendorFailure::new(&info.provider);
        tell(&mut failure, &self.events);
        let mut attempt = Attempt::failed(info, &Error::Rejected(Box::new(failure)));
        code.clone_into(&mut attempt.code);
        attempt
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

/// Adds to a failure what had been told before it.
fn tell(failure: &mut VendorFailure, events: &[StreamEvent]) {
    for event in events {
        match event {
            StreamEvent::MessageStart {
                request_id: Some(id), ..
            } if failure.request_id.is_none() => failure.request_id = Some(id.clone()),
            StreamEvent::Usage(usage) if usage.total() > 0 => {
                let mut usage = usage.clone();
                // What a vendor counts before its end is not what it will bill.
                usage.is_estimated = true;
                failure.usage = Some(usage);
            }
            StreamEvent::Attempt(attempt) => failure.attempts.push((**attempt).clone()),
            _ => {}
        }
    }
}
