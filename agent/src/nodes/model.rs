//! [`ModelNode`]: a chat model as a node.

use crate::{Command, END, EventKind, HasMessages, Node, NodeError, RunContext};
use async_trait::async_trait;
use futures::StreamExt;
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, Error, Fold, HeuristicTokens, Message, Part, Price, Reservation,
    Result, Spend, StreamEvent, TokenCounter, Usage, telemetry,
};
use tracing::Instrument;

/// Tokens of an answer that are set aside where nobody says how long it may get.
const ANSWER_TOKENS: u64 = 4_096;

/// A node that lets a model continue the conversation of the state. Its answer streams out as events, its tokens are
/// reserved in the run's budget before and booked after the call.
///
/// The finished task is the journal's record of the call: a resumed run does not repeat it.
#[derive(Clone, Debug)]
pub struct ModelNode {
    model: Arc<dyn ChatModel>,
    request: ChatRequest,
    instructions: Option<String>,
    on_calls: Option<String>,
    name: Option<String>,
}

impl ModelNode {
    /// This model with no options of its own.
    pub fn new(model: Arc<dyn ChatModel>) -> Self {
        Self {
            model,
            request: ChatRequest::default(),
            instructions: None,
            on_calls: None,
            name: None,
        }
    }

    /// What the model is told before the conversation; it never enters the state.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Tools and options of every call; its messages are left out.
    pub fn request(mut self, request: ChatRequest) -> Self {
        self.request = request;
        self
    }

    /// Goes to this node when the model asks for tools, and to the end otherwise. Declare both with
    /// [`crate::GraphBuilder::goto`].
    pub fn tools_at(mut self, node: impl Into<String>) -> Self {
        self.on_calls = Some(node.into());
        self
    }

    /// Signs the model's messages with this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    fn request_for(&self, messages: &[Message]) -> ChatRequest {
        let mut request = self.request.clone();
        request.messages = Vec::with_capacity(messages.len() + 1);
        request
            .messages
            .extend(self.instructions.as_ref().map(Message::system));
        request.messages.extend_from_slice(messages);
        request
    }

    /// Sets aside what the call may spend; without a bound in tokens or money nothing has to be estimated. Where the
    /// request leaves the length of the answer open, what is left of the tokens bounds it.
    fn reserve(&self, request: &mut ChatRequest, cx: &RunContext) -> Result<Reservation> {
        let limits = cx.budget().limits();
        if limits.tokens.is_none() && limits.micro_usd.is_none() {
            return cx.budget().reserve(Spend::call(0));
        }
        let info = self.model.info();
        // The estimate: a vendor's own count would be a call before every call.
        let input = request.estimated_tokens();
        let mut output = request
            .max_output_tokens
            .or(info.max_output_tokens)
            .unwrap_or(ANSWER_TOKENS);
        if let Some(limit) = limits.tokens
            && request.max_output_tokens.is_none()
        {
            let left = limit.saturating_sub(cx.budget().spent().tokens.saturating_add(input));
            output = output.min(left.max(1));
            request.max_output_tokens = Some(output);
        }
        if let (Some(limit), Some(price)) = (limits.micro_usd, &info.price)
            && request.max_output_tokens.is_none()
        {
            // The longest answer of a model may cost more than a person means to spend on all of them.
            let left = limit.saturating_sub(cx.budget().spent().micro_usd);
            if let Some(affordable) = affordable_output(price, input, left) {
                output = output.min(affordable.max(1));
                request.max_output_tokens = Some(output);
            }
        }
        let mut spend = Spend::call(input.saturating_add(output));
        let mut estimate = Usage::default();
        (estimate.input_tokens, estimate.output_tokens) = (Some(input), Some(output));
        match info.price.as_ref().and_then(|price| price.cost(&estimate)) {
            Some(cost) => spend.micro_usd = cost.micro_usd,
            // An unknown price is not 0: the bound could not be kept.
            None if limits.micro_usd.is_some() => {
                return Err(Error::Unsupported {
                    who: info.name(),
                    what: "a budget in money".into(),
                    hint: "its price is not known; give the model one, or bound tokens instead".into(),
                });
            }
            None => {}
        }
        cx.budget().reserve(spend)
    }

    /// The whole answer; what had come of it where the call failed or was stopped.
    async fn answer(
        &self,
        request: ChatRequest,
        cx: &RunContext,
    ) -> Result<ChatResponse, (Error, Option<ChatResponse>)> {
        let info = self.model.info();
        let mut stream = tokio::select! {
            biased;
            stream = self.model.stream(request) => stream.map_err(|error| (error, None))?,
            () = cx.cancel().cancelled() => return Err((Error::Cancelled, None)),
        };
        let mut fold = Fold::new(&info.provider, &info.model, self.request.include_raw);
        let most = cx.limits().answer_bytes;
        let mut bytes = 0usize;
        let mut cancelled = std::pin::pin!(cx.cancel().cancelled());
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                () = cancelled.as_mut() => return Err((Error::Cancelled, Some(fold.partial()))),
            };
            let Some(event) = event else { break };
            let event = match event {
                Ok(event) => event,
                Err(Error::StreamTruncated { provider, partial }) => {
                    let known = (*partial).clone();
                    return Err((Error::StreamTruncated { provider, partial }, Some(known)));
                }
                Err(error) => return Err((error, Some(fold.partial()))),
            };
            bytes = bytes.saturating_add(weight(&event));
            if bytes > most {
                let error = Error::LimitExceeded {
                    what: format!("the answer of {}", info.name()),
                    limit: format!("{most} bytes"),
                };
                return Err((error, Some(fold.partial())));
            }
            if let Some(events) = &cx.shared.events {
                cx.event(|| EventKind::Model { event: event.clone() });
                events.room().await;
            }
            if let Err(error) = fold.push(event) {
                return Err((error, Some(fold.partial())));
            }
        }
        fold.finish().map_err(|error| (error, None))
    }
}

/// Bytes an event adds to the answer.
fn weight(event: &StreamEvent) -> usize {
    match event {
        StreamEvent::TextDelta { text, .. } | StreamEvent::ReasoningDelta { text, .. } => text.len(),
        StreamEvent::ToolCallDelta { arguments, .. } => arguments.len(),
        StreamEvent::ToolCallStart { id, name, .. } => id.len() + name.len(),
        StreamEvent::Citation { citation, .. } => citation.quote.len() + 64,
        StreamEvent::Part { part, .. } => serde_json::to_string(part).map_or(0, |text| text.len()),
        StreamEvent::Data(data) => data.value.to_string().len(),
        _ => 0,
    }
}

/// What a call that did not end has used: what the vendor told, or else an estimate, flagged.
fn usage_so_far(partial: Option<ChatResponse>, input: u64) -> Usage {
    let (told, words) = match partial {
        Some(partial) => (partial.usage, partial.message),
        None => return Usage::default(), // nothing came: nothing is known to be spent
    };
    if told.total() > 0 {
        return told;
    }
    let output: usize = words
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(part) => HeuristicTokens.count(&part.text),
            Part::Reasoning(part) => HeuristicTokens.count(&part.text),
            _ => 0,
        })
        .sum();
    let mut usage = Usage::default();
    usage.input_tokens = Some(input);
    usage.output_tokens = Some(output as u64);
    usage.is_estimated = true;
    usage
}

/// Every call gets an id of its own within the answer: results are tied to calls by it.
fn mend_call_ids(message: &mut Message) {
    let mut seen: HashSet<String> = HashSet::new();
    for part in &mut message.parts {
        let Part::ToolCall(call) = part else { continue };
        let plain = match call.id.as_str() {
            "" => "call".to_owned(),
            id => id.to_owned(),
        };
        let mut id = plain.clone();
        let mut number = 2;
        while !seen.insert(id.clone()) {
            id = format!("{plain}_{number}");
            number += 1;
        }
        call.id = id;
    }
}

#[async_trait]
impl<S: HasMessages> Node<S> for ModelNode {
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        if let Some(command) = cx.recorded_command::<S>()? {
            return Ok(command);
        }
        let mut request = self.request_for(state.messages());
        let reserved = self.reserve(&mut request, cx).map_err(NodeError::passed_on)?;
        let info = self.model.info();
        let span = tracing::info_span!(
            "chat",
            { telemetry::OPERATION_NAME } = "chat",
            { telemetry::PROVIDER_NAME } = info.provider,
            { telemetry::REQUEST_MODEL } = info.model,
        );
        let began = Instant::now();
        let answered = self.answer(request, cx).instrument(span).await;
        let (usage, cost, response) = match answered {
            Ok(response) => (response.usage.clone(), response.cost, Ok(response)),
            Err((error, partial)) => {
                let is_untold = partial.as_ref().is_some_and(|partial| partial.usage.total() == 0);
                let input = if is_untold {
                    let request = self.request_for(state.messages());
                    request.estimated_tokens()
                } else {
                    0
                };
                (usage_so_far(partial, input), None, Err(error))
            }
        };
        let mut spend = Spend::call(usage.total());
        let cost = cost.or_else(|| info.price.as_ref().and_then(|price| price.cost(&usage)));
        spend.micro_usd = cost.map_or(0, |cost| cost.micro_usd);
        spend.time_ms = millis(began.elapsed());
        reserved.settle(spend);
        cx.add_used(&usage, spend);
        let mut message = response.map_err(NodeError::passed_on)?.message;
        mend_call_ids(&mut message);
        message.name = message.name.or_else(|| self.name.clone());
        if message.id.is_none() {
            message.id = Some(format!("{}.{}.{}", cx.run_id(), cx.step_number(), cx.node()));
        }
        let asks = message.tool_calls().next().is_some();
        let command = Command::update(S::add_messages(vec![message]));
        Ok(match &self.on_calls {
            Some(tools) if asks => command.with_goto(tools.clone()),
            Some(_) => command.with_goto(END),
            None => command,
        })
    }

    /// It books what the call had used, then ends.
    fn ends_on_cancel(&self) -> bool {
        true
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long an answer may be for so much money, behind a prompt of this length; `None` where a price is unknown or
/// answers are free.
fn affordable_output(price: &Price, input_tokens: u64, micro_usd: u64) -> Option<u64> {
    let pico_usd = |output_tokens| {
        let mut usage = Usage::default();
        (usage.input_tokens, usage.output_tokens) = (Some(input_tokens), Some(output_tokens));
        price.pico_usd(&usage)
    };
    let (prompt, with_one) = (pico_usd(0)?, pico_usd(1)?);
    let left = (u128::from(micro_usd) * 1_000_000).saturating_sub(prompt);
    let tokens = left.checked_div(with_one.saturating_sub(prompt))?;
    Some(u64::try_from(tokens).unwrap_or(u64::MAX))
}
