//! [`Scripted`]: a model that plays a script, for tests, docs and examples.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde_json::Value;
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, ChatStream, Error, FinishReason, HeuristicTokens, ModelInfo,
    Origin, Part, Result, StreamEvent, TokenCounter, Usage, whole,
};

type Reply = Arc<dyn Fn(&ChatRequest) -> Result<Vec<Part>> + Send + Sync>;

enum Step {
    Answer(Vec<Part>),
    Ask(Reply),
    Fail(Error),
    BreakOff(Vec<Part>, Option<Error>),
}

#[derive(Default)]
struct Play {
    steps: VecDeque<Step>,
    /// Plays when no step is left.
    forever: Option<Reply>,
    requests: Vec<ChatRequest>,
    calls: usize,
}

/// A model that plays a script: each step answers one request. Clones share the script and what was asked.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use serde_json::json;
/// use stepwell_core::ChatModel;
/// use stepwell_providers::Scripted;
/// let model = Scripted::new()
///     .call("weather", json!({ "city": "Oslo, Norway" }))
///     .then(|request| Ok(format!("You asked: {}", request.last_user_text().unwrap_or_default())));
/// let first = model.chat("Cold?".into()).await?;
/// assert_eq!(first.message.tool_calls().next().map(|call| call.name.as_str()), Some("weather"));
/// assert_eq!(model.chat("Cold?".into()).await?.text(), "You asked: Cold?");
/// assert_eq!(model.requests().len(), 2);
/// # Ok::<(), stepwell_core::Error>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Scripted {
    info: ModelInfo,
    delta_chars: usize,
    pace: Option<Duration>,
    play: Arc<Mutex<Play>>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self::new()
    }
}

impl Scripted {
    /// An empty script.
    pub fn new() -> Self {
        Self {
            info: ModelInfo::new("scripted", "script"),
            delta_chars: 12,
            pace: None,
            play: Arc::default(),
        }
    }

    /// Plays under another name.
    pub fn named(mut self, provider: impl Into<String>, model: impl Into<String>) -> Self {
        self.info = ModelInfo::new(provider, model);
        self
    }

    /// Sets the length of a delta, in characters; 12 without.
    pub fn delta_chars(mut self, chars: usize) -> Self {
        self.delta_chars = chars.max(1);
        self
    }

    /// Waits so long before each event: for tests of cancelling and of timers.
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = Some(pace);
        self
    }

    /// The next answer is this text.
    pub fn say(self, text: impl Into<String>) -> Self {
        self.answer([Part::text(text, Origin::Model)])
    }

    /// The next answer is a call of this tool.
    pub fn call(self, tool: impl Into<String>, arguments: Value) -> Self {
        self.calls([(tool, arguments)])
    }

    /// The next answer calls several tools at once.
    pub fn calls(self, calls: impl IntoIterator<Item = (impl Into<String>, Value)>) -> Self {
        let parts: Vec<Part> = {
            let mut play = self.play();
            calls
                .into_iter()
                .map(|(tool, arguments)| {
                    play.calls += 1;
                    Part::tool_call(format!("call_{}", play.calls), tool, arguments)
                })
                .collect()
        };
        self.answer(parts)
    }

    /// The next answer has these parts; it waits for tool results when a call is among them.
    pub fn answer(self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.step(Step::Answer(parts.into_iter().collect()))
    }

    /// The next answer depends on what is asked.
    pub fn then<A: IntoAnswer>(
        self,
        reply: impl Fn(&ChatRequest) -> Result<A> + Send + Sync + 'static,
    ) -> Self {
        self.step(Step::Ask(Arc::new(move |request| {
            Ok(reply(request)?.into_parts())
        })))
    }

    /// Every answer after the script's end is this.
    pub fn forever<A: IntoAnswer>(
        self,
        reply: impl Fn(&ChatRequest) -> Result<A> + Send + Sync + 'static,
    ) -> Self {
        self.play().forever = Some(Arc::new(move |request| Ok(reply(request)?.into_parts())));
        self
    }

    /// The next request fails before anything is said.
    pub fn fail(self, error: Error) -> Self {
        self.step(Step::Fail(error))
    }

    /// The next answer begins with this text and then fails.
    pub fn fail_after(self, text: impl Into<String>, error: Error) -> Self {
        let parts = vec![Part::text(text, Origin::Model)];
        self.step(Step::BreakOff(parts, Some(error)))
    }

    /// The next answer begins with this text and breaks off without its end mark.
    pub fn break_off(self, text: impl Into<String>) -> Self {
        let parts = vec![Part::text(text, Origin::Model)];
        self.step(Step::BreakOff(parts, None))
    }

    /// What was asked so far, oldest first.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.play().requests.clone()
    }

    /// How many steps have not been played.
    pub fn remaining(&self) -> usize {
        self.play().steps.len()
    }

    fn step(self, step: Step) -> Self {
        self.play().steps.push_back(step);
        self
    }

    fn play(&self) -> MutexGuard<'_, Play> {
        // Steps are taken whole, so a panic elsewhere leaves the play as it is.
        self.play.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn response(&self, parts: Vec<Part>, input: Option<u64>) -> ChatResponse {
        let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let output: usize = parts
            .iter()
            .map(|part| match part {
                Part::Text(part) => HeuristicTokens.count(&part.text),
                Part::ToolCall(call) => HeuristicTokens.count(&call.arguments.to_string()),
                _ => 0,
            })
            .sum();
        let reason = if has_calls {
            FinishReason::ToolCalls
        } else {
            FinishReason::Stop
        };
        let mut response = ChatResponse::new(&self.info.provider, &self.info.model, parts, reason);
        response.raw_finish_reason = Some(if has_calls { "tool_calls" } else { "stop" }.to_owned());
        response.usage = Usage::default();
        response.usage.input_tokens = input;
        response.usage.output_tokens = Some(output as u64);
        response.usage.is_estimated = true;
        response
    }

    fn stream_of(&self, events: Vec<Result<StreamEvent>>) -> ChatStream {
        match self.pace {
            None => stream::iter(events).boxed(),
            Some(pace) => stream::iter(events)
                .then(move |event| async move {
                    tokio::time::sleep(pace).await;
                    event
                })
                .boxed(),
        }
    }
}

/// What a step may answer with.
pub trait IntoAnswer {
    /// The parts of the answer.
    fn into_parts(self) -> Vec<Part>;
}

impl IntoAnswer for String {
    fn into_parts(self) -> Vec<Part> {
        vec![Part::text(self, Origin::Model)]
    }
}

impl IntoAnswer for &str {
    fn into_parts(self) -> Vec<Part> {
        vec![Part::text(self, Origin::Model)]
    }
}

impl IntoAnswer for Part {
    fn into_parts(self) -> Vec<Part> {
        vec![self]
    }
}

impl IntoAnswer for Vec<Part> {
    fn into_parts(self) -> Vec<Part> {
        self
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("model", &self.info.name())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ChatModel for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let input = self.count_tokens(&request).await?.input_tokens;
        // The reply is called outside the lock: it may look at the model itself.
        let (step, forever, played) = {
            let mut play = self.play();
            play.requests.push(request.clone());
            (
                play.steps.pop_front(),
                play.forever.clone(),
                play.requests.len() - 1,
            )
        };
        let (parts, broken) = match (step, forever) {
            (Some(Step::Answer(parts)), _) => (parts, None),
            (Some(Step::Ask(reply)), _) | (None, Some(reply)) => (reply(&request)?, None),
            (Some(Step::Fail(error)), _) => return Err(error),
            (Some(Step::BreakOff(parts, error)), _) => (parts, Some(error)),
            (None, None) => {
                return Err(Error::invalid(
                    "script",
                    format!("the scripted model has played its {played} answers; add one for this request"),
                ));
            }
        };
        let mut events: Vec<Result<StreamEvent>> = whole(self.response(parts.clone(), input))
            .into_iter()
            .flat_map(|event| pieces(event, self.delta_chars))
            .map(Ok)
            .collect();
        if let Some(error) = broken {
            events.retain(|event| {
                !matches!(
                    event,
                    Ok(StreamEvent::Finish { .. } | StreamEvent::TextEnd { .. })
                )
            });
            events.push(Err(error.unwrap_or_else(|| {
                let mut partial = self.response(parts, input);
                partial.finish_reason = FinishReason::Other;
                partial.raw_finish_reason = None;
                Error::StreamTruncated {
                    provider: self.info.provider.clone(),
                    partial: Box::new(partial),
                }
            })));
        }
        Ok(self.stream_of(events))
    }
}

/// A delta cut into small ones; anything else as it is.
fn pieces(event: StreamEvent, chars: usize) -> Vec<StreamEvent> {
    let cut = |text: &str| -> Vec<String> {
        let all: Vec<char> = text.chars().collect();
        all.chunks(chars).map(|piece| piece.iter().collect()).collect()
    };
    match event {
        StreamEvent::TextDelta { index, text } => cut(&text)
            .into_iter()
            .map(|text| StreamEvent::TextDelta { index, text })
            .collect(),
        StreamEvent::ReasoningDelta { index, text } => cut(&text)
            .into_iter()
            .map(|text| StreamEvent::ReasoningDelta { index, text })
            .collect(),
        StreamEvent::ToolCallDelta { index, arguments } => cut(&arguments)
            .into_iter()
            .map(|arguments| StreamEvent::ToolCallDelta { index, arguments })
            .collect(),
        event => vec![event],
    }
}

#[cfg(test)]
mod tests {
    use super::Scripted;
    use futures::StreamExt;
    use serde_json::json;
    use stepwell_core::{ChatModel, Error, FinishReason, StreamEvent};

    #[tokio::test]
    async fn a_script_is_played_in_order_and_its_end_is_told() {
        let model = Scripted::new()
            .call("look", json!({ "q": "x" }))
            .say("There it is.")
            .fail(Error::Cancelled);
        let first = model.chat("where?".into()).await.expect("plays");
        assert_eq!(first.finish_reason, FinishReason::ToolCalls);
        assert_eq!(
            first.message.tool_calls().next().expect("a call").arguments,
            json!({ "q": "x" })
        );
        let second = model.chat("and?".into()).await.expect("plays");
        assert_eq!(second.text(), "There it is.");
        assert!(second.usage.is_estimated && second.usage.total_output() > 0);
        assert_eq!(
            model.chat("x".into()).await.expect_err("scripted").code(),
            "cancelled"
        );
        let error = model.chat("x".into()).await.expect_err("at its end");
        assert_eq!(error.code(), "invalid_input");
        assert!(error.to_string().contains("played its 3 answers"), "{error}");
        assert_eq!(model.requests()[1].last_user_text().as_deref(), Some("and?"));
    }

    #[tokio::test]
    async fn text_comes_in_small_deltas_and_may_break_off() {
        let model = Scripted::new()
            .delta_chars(2)
            .say("føur")
            .break_off("half")
            .fail_after("half", Error::Cancelled);
        let deltas: Vec<String> = model
            .stream("x".into())
            .await
            .expect("plays")
            .filter_map(async |event| match event {
                Ok(StreamEvent::TextDelta { text, .. }) => Some(text),
                _ => None,
            })
            .collect()
            .await;
        assert_eq!(deltas, ["fø", "ur"]);
        match model.chat("x".into()).await {
            Err(Error::StreamTruncated { partial, .. }) => assert_eq!(partial.text(), "half"),
            other => panic!("expected a truncated stream, got {other:?}"),
        }
        assert_eq!(
            model.chat("x".into()).await.expect_err("scripted").code(),
            "cancelled"
        );
    }

    #[tokio::test]
    async fn an_answer_may_depend_on_the_question_and_go_on_forever() {
        let model = Scripted::new().forever(|request| Ok(request.last_user_text().unwrap_or_default()));
        for text in ["a", "b", "c"] {
            assert_eq!(model.chat(text.into()).await.expect("plays").text(), text);
        }
    }
}
