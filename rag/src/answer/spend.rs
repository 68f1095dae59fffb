//! A call of a model within a [`Budget`]: set aside before, booked after.

use std::time::Instant;
use stepwell_core::{
    Budget, ChatModel, ChatRequest, ChatResponse, Cost, Error, Price, Reservation, Result, Spend, Usage,
};

/// What one call has set aside. Dropped before it is settled, it books the prompt: the vendor has read it.
#[derive(Debug)]
pub(super) struct Spending {
    reserved: Option<Reservation>,
    input: u64,
    price: Option<Price>,
    began: Instant,
}

impl Spending {
    /// # Errors
    /// As [`Budget::reserve_call`].
    pub(super) fn open(model: &dyn ChatModel, budget: &Budget, request: &mut ChatRequest) -> Result<Self> {
        let info = model.info();
        Ok(Self {
            reserved: Some(budget.reserve_call(info, request)?),
            input: request.estimated_tokens(),
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
