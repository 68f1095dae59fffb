//! [`Meter`]: what an answer has taken so far.

use stepwell_core::{Cost, Error, StreamEvent, Usage};

/// Counts along with a stream: the vendor's own figures once the answer is whole, an estimate before.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Input tokens by estimate.
    input: u64,
    /// Bytes of output so far.
    bytes: u64,
    told: Usage,
    cost: Option<Cost>,
    has_begun: bool,
    is_whole: bool,
}

impl Meter {
    /// For a request of about so many tokens.
    pub(super) fn new(input: u64) -> Self {
        Self {
            input,
            ..Self::default()
        }
    }

    pub(super) fn event(&mut self, event: &StreamEvent) {
        let bytes = match event {
            StreamEvent::TextDelta { text, .. } | StreamEvent::ReasoningDelta { text, .. } => text.len(),
            StreamEvent::ToolCallDelta { arguments, .. } => arguments.len(),
            StreamEvent::ToolCallStart { name, .. } => name.len(),
            StreamEvent::Usage(usage) => {
                self.told = usage.clone();
                0
            }
            StreamEvent::Cost(cost) => {
                self.cost = Some(*cost);
                0
            }
            StreamEvent::Finish { .. } => {
                self.is_whole = true;
                0
            }
            // These come before the model says anything, whether it will or not.
            StreamEvent::Ping | StreamEvent::Attempt(_) | StreamEvent::Fallback { .. } => return,
            _ => 0,
        };
        self.has_begun = true;
        self.bytes += bytes as u64;
    }

    /// A failure that brings what had come.
    pub(super) fn failure(&mut self, error: &Error) {
        if let Some(partial) = error.partial() {
            self.has_begun = true;
            if partial.usage.total() > 0 {
                self.told = partial.usage.clone();
            }
            self.cost = partial.cost.or(self.cost);
            // That answer was whole; only its shape was wrong.
            self.is_whole |= matches!(error, Error::SchemaMismatch { .. }) && !partial.usage.is_estimated;
        } else if let Some(usage) = error.vendor_failure().and_then(|failure| failure.usage.as_ref()) {
            self.has_begun = true;
            self.told = usage.clone();
        }
    }

    /// Output tokens so far, the larger of what was told and what was seen.
    pub(super) fn output(&self) -> u64 {
        self.told.total_output().max(self.bytes.div_ceil(4))
    }

    /// Whether the vendor had begun to answer.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The money the vendor or its price told.
    pub(super) fn cost(&self) -> Option<Cost> {
        self.cost
    }

    /// The tokens: as told where the answer is whole, else flagged as an estimate.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = self.told.clone();
        if self.is_whole && usage.total() > 0 {
            return usage;
        }
        if usage.total_input() == 0 {
            usage.input_tokens = Some(self.input);
        }
        let unseen = self.output().saturating_sub(usage.total_output());
        usage.output_tokens = Some(usage.output_tokens.unwrap_or(0) + unseen);
        usage.is_estimated = true;
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;
    use stepwell_core::{ChatResponse, Cost, Error, FinishReason, StreamEvent, Usage};

    #[test]
    fn an_answer_of_another_shape_took_what_the_vendor_told_and_a_broken_one_about_so_much() {
        let mut answer = ChatResponse::new("acme", "m", Vec::new(), FinishReason::Stop);
        (answer.usage.input_tokens, answer.usage.output_tokens) = (Some(20), Some(7));
        answer.cost = Some(Cost { micro_usd: 9 });
        let told = answer.usage.clone();
        let mut meter = Meter::new(90);
        meter.event(&StreamEvent::Cost(Cost { micro_usd: 4 }));
        meter.failure(&Error::SchemaMismatch {
            provider: "acme".into(),
            faults: Vec::new(),
            response: Box::new(answer.clone()),
        });
        assert_eq!((meter.usage(), meter.cost()), (told, Some(Cost { micro_usd: 9 })));
        let mut meter = Meter::new(90);
        meter.failure(&Error::StreamTruncated {
            provider: "acme".into(),
            partial: Box::new(answer),
        });
        assert!(meter.usage().is_estimated);
    }

    #[test]
    fn the_vendors_figures_count_once_the_answer_is_whole_and_an_estimate_before() {
        let mut told = Usage::default();
        (told.input_tokens, told.output_tokens) = (Some(100), Some(1));
        let mut meter = Meter::new(90);
        assert!(!meter.has_begun());
        assert_eq!(meter.usage().input_tokens, Some(90));
        meter.event(&StreamEvent::Usage(told.clone()));
        meter.event(&StreamEvent::TextDelta {
            index: 0,
            text: "x".repeat(40),
        });
        let so_far = meter.usage();
        assert!(so_far.is_estimated);
        assert_eq!((so_far.input_tokens, so_far.output_tokens), (Some(100), Some(10)));
        told.output_tokens = Some(12);
        meter.event(&StreamEvent::Usage(told.clone()));
        meter.event(&StreamEvent::Finish {
            reason: FinishReason::Stop,
            raw: None,
            refusal: None,
        });
        assert_eq!(meter.usage(), told);
    }
}
