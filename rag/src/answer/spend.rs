//! A call of a model within a [`Budget`]: set aside before, booked after.

use std::time::Instant;
use stepwell_core::{
    Budget, ChatModel, ChatRequest, ChatResponse, Cost, Error, Price, Reservation, Result, Spend, Usage,
};

/// Output tokens set aside where nobody says how long an answer may get.
const ANSWER_TOKENS: u64 = 2_048;

/// What one call has set aside. Dropped before it is settled, it books the prompt: the vendor has read it.
#[derive(Debug)]
pub(super) struct Spending {
    reserved: Option<Reservation>,
    input: u64,
    price: Option<Price>,
    began: Instant,
}

impl Spending {
    /// Sets aside the prompt and the longest answer. Where the request leaves its length open, what is left bounds it.
    ///
    /// # Errors
    /// `budget_exceeded` where it does not fit; `unsupported` for a bound in money and a model without a price.
    pub(super) fn open(model: &dyn ChatModel, budget: &Budget, request: &mut ChatRequest) -> Result<Self> {
        let (info, left) = (model.info(), budget.available());
        let input = request.estimated_tokens();
        let mut output = request
            .max_output_tokens
            .or(info.max_output_tokens)
            .unwrap_or(ANSWER_TOKENS);
        if request.max_output_tokens.is_none()
            && let Some(tokens) = left.tokens
        {
            output = output.min(tokens.saturating_sub(input).max(1));
            request.max_output_tokens = Some(output);
        }
        let mut spend = Spend::call(input.saturating_add(output));
        let mut usage = Usage::default();
        (usage.input_tokens, usage.output_tokens) = (Some(input), Some(output));
        match info.price.as_ref().and_then(|price| price.cost(&usage)) {
            Some(cost) => spend.micro_usd = cost.micro_usd,
            // An unknown price is not 0: the bound could not be kept.
            None if left.micro_usd.is_some() => {
                return Err(Error::Unsupported {
                    who: info.name(),
                    what: "a budget in money".into(),
                    hint: "its price is not known; give the model one, or bound tokens instead".into(),
                });
            }
            None => {}
        }
        Ok(Self {
            reserved: Some(budget.reserve(spend)?),
            input,
            price: info.price.clone(),
            began: Instant::now(),
        })
    }

    /// Books what the call took.
    pub(super) fn settle(mut self, usage: &Usage, cost: Option<Cost>) {
        self.book(usage, cost);
    }

    /// Books what a call took that failed: what is known of it.
    pub(super) fn failed(mut self, error: &Error) {
        let partial = error.partial().map(|partial| &partial.usage);
        let told = error.vendor_failure().and_then(|failure| failure.usage.as_ref());
        let usage = partial.or(told).cloned().unwrap_or_default();
        self.book(&usage, None);
    }

    fn book(&mut self, usage: &Usage, cost: Option<Cost>) {
        let Some(reserved) = self.reserved.take() else {
            return;
        };
        let mut spend = Spend::call(usage.total());
        let cost = cost.or_else(|| self.price.as_ref().and_then(|price| price.cost(usage)));
        spend.micro_usd = cost.map_or(0, |cost| cost.micro_usd);
        spend.time_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        reserved.settle(spend);
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        let mut usage = Usage::default();
        usage.input_tokens = Some(self.input);
        self.book(&usage, None);
    }
}

/// One whole answer within a budget.
pub(super) async fn chat(
    model: &dyn ChatModel,
    budget: &Budget,
    mut request: ChatRequest,
) -> Result<ChatResponse> {
    let spending = Spending::open(model, budget, &mut request)?;
    match model.chat(request).await {
        Ok(response) => {
            spending.settle(&response.usage, response.cost);
            Ok(response)
        }
        Err(error) => {
            spending.failed(&error);
            Err(error)
        }
    }
}
