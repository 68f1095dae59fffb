//! [`ToolsNode`]: the one door between a model's wish and a tool. It asks the policy, checks the arguments, runs the
//! calls apart from each other, and answers every call exactly once.

use crate::{
    Command, EventKind, HasMessages, Messages, Node, NodeError, RunContext,
    journal::{EffectBody, IntentBody, encode},
    nodes::model::millis,
};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use indexmap::IndexMap;
use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell_core::{
    Cancel, Decision, DynTool, Effect, Error, Limits, Message, Origin, Part, Policy, PolicyRequest, Result,
    Role, Spend, ToolCall, ToolContext, ToolError, ToolOutput, ToolResult, Usage, store::RecordKind,
    telemetry,
};
use tracing::Instrument;

/// Data beside the words may be so many times larger than what a model gets to read.
const DATA_FACTOR: usize = 16;
/// Complaints of a schema that are told to the model.
const VIOLATIONS: usize = 5;

/// A node that runs the tool calls of the conversation's last answer.
///
/// - Calls run side by side; one whose tool is not parallel runs alone, in its place.
/// - There is one result per call id whatever happens: an unknown tool, arguments that do not fit, a refusal of the
///   policy, an error, a panic, a time limit and a cancel are results too. Results stand in the order of the calls.
/// - The policy is asked before each call, with the exact arguments. A person cannot be asked yet: where the policy
///   would ask, the call does not run and the model is told that it needs an approval.
/// - Each finished call is recorded, so that a resumed run does not repeat it. A tool with an effect leaves its intent in
///   the journal before it runs; a call of an [`Effect::AtMostOnce`] tool that had begun and not ended is never repeated:
///   the model is told that its outcome is not known.
#[derive(Clone, Debug)]
pub struct ToolsNode {
    tools: IndexMap<String, Arc<dyn DynTool>>,
    policy: Arc<dyn Policy>,
}

/// How a call ended.
enum Ended {
    Result(ToolResult),
    Stop(ToolResult, Error),
}

impl ToolsNode {
    /// These tools under this policy.
    pub fn new(tools: impl IntoIterator<Item = Arc<dyn DynTool>>, policy: Arc<dyn Policy>) -> Self {
        Self {
            tools: tools
                .into_iter()
                .map(|tool| (tool.spec().name.clone(), tool))
                .collect(),
            policy,
        }
    }

    fn is_parallel(&self, call: &ToolCall) -> bool {
        self.tools
            .get(&call.name)
            .is_none_or(|tool| tool.options().is_parallel)
    }

    /// Calls that may run together, group after group.
    fn groups(&self, calls: &[&ToolCall]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut is_open = false;
        for (at, call) in calls.iter().enumerate() {
            let is_parallel = self.is_parallel(call);
            match groups.last_mut() {
                Some(group) if is_open && is_parallel => group.push(at),
                _ => groups.push(vec![at]),
            }
            is_open = is_parallel;
        }
        groups
    }

    async fn one(&self, call: &ToolCall, messages: &Messages, cx: &RunContext, cancel: &Cancel) -> Ended {
        let remembered = cx.memory.as_ref().and_then(|memory| memory.effects.get(&call.id));
        if let Some(result) = remembered {
            return Ended::Result(result.clone());
        }
        cx.event(|| EventKind::ToolStart { call: call.clone() });
        let ended = self.checked(call, messages, cx, cancel).await;
        let (Ended::Result(result) | Ended::Stop(result, _)) = &ended;
        cx.event(|| EventKind::ToolEnd {
            result: result.clone(),
        });
        ended
    }

    /// Everything that must hold before a call runs.
    async fn checked(&self, call: &ToolCall, messages: &Messages, cx: &RunContext, cancel: &Cancel) -> Ended {
        let Some(tool) = self.tools.get(&call.name) else {
            let known: Vec<&str> = self.tools.keys().map(String::as_str).collect();
            let told = if known.is_empty() {
                "there is no such tool; answer without tools".to_owned()
            } else {
                format!("there is no such tool; there is: {}", known.join(", "))
            };
            return Ended::Result(refused(call, told));
        };
        if call.malformed.is_some() {
            let told = "the arguments are not whole JSON; send them again as one JSON object".to_owned();
            return Ended::Result(may_mend(call, told, messages, cx.limits()));
        }
        // A strict vendor is given a schema in which an optional argument is null where it is absent.
        let arguments = match tool.schema().read(call.arguments.clone()) {
            Ok(arguments) => arguments,
            Err(violations) => {
                let told: Vec<String> = violations
                    .iter()
                    .take(VIOLATIONS)
                    .map(ToString::to_string)
                    .collect();
                let told = format!("the arguments do not fit the tool's schema: {}", told.join("; "));
                return Ended::Result(may_mend(call, told, messages, cx.limits()));
            }
        };
        let mut meant = call.clone();
        meant.arguments = arguments;
        let call = &meant;
        let options = tool.options();
        let question = PolicyRequest::new(
            cx.scope(),
            cx.run_id(),
            &call.id,
            &call.name,
            &call.arguments,
            options.effect,
            options.risk,
            messages.origins(),
        );
        let decision = AssertUnwindSafe(self.policy.decide(question))
            .catch_unwind()
            .await;
        match decision {
            Ok(Decision::Allow) => {}
            Ok(Decision::Deny { reason }) => {
                return Ended::Result(refused(call, format!("the call was not allowed: {reason}")));
            }
            Ok(Decision::Ask { reason }) => {
                let told = format!(
                    "the call needs the approval of a person and did not run: {reason}; tell the user, do not repeat it"
                );
                return Ended::Result(refused(call, told));
            }
            // What is not clearly allowed does not run.
            _ => {
                return Ended::Result(refused(
                    call,
                    "the policy gave no clear answer; the call did not run".into(),
                ));
            }
        }
        self.call(tool, call, messages, cx, cancel).await
    }

    async fn call(
        &self,
        tool: &Arc<dyn DynTool>,
        call: &ToolCall,
        messages: &Messages,
        cx: &RunContext,
        cancel: &Cancel,
    ) -> Ended {
        let options = tool.options();
        let began_before = cx
            .memory
            .as_ref()
            .and_then(|memory| memory.intents.get(&call.id).copied())
            .unwrap_or(0);
        if began_before > 0 && options.effect == Effect::AtMostOnce {
            let told = "the call began before the run was interrupted and its outcome is not known; it was not repeated. \
                        Check the outcome before you ask for it again";
            return Ended::Result(refused(call, told.into()));
        }
        let reserved = match cx.budget().reserve(Spend::call(0)) {
            Ok(reserved) => reserved,
            Err(error) => {
                let told = "the budget of the run is spent; the call did not run";
                return Ended::Stop(refused(call, told.into()), error);
            }
        };
        // Call ids repeat between answers of some vendors; step and node make the key the call's own.
        let key = format!("{}:{}:{}:{}", cx.run_id(), cx.step_number(), cx.node(), call.id);
        if let Err(error) = intend(tool, call, &key, cx).await {
            let told = "the journal could not be written; the call did not run";
            return Ended::Stop(refused(call, told.into()), error);
        }
        let mut facts =
            ToolContext::new(&call.id, cx.run_id(), cx.scope().clone()).with_cancel(cancel.clone());
        facts.idempotency_key = key;
        facts.attempt = began_before + 1;
        if let Some(events) = cx.shared.events.clone() {
            let (run_id, node, step, call_id) = (
                Arc::clone(&cx.shared.run_id),
                Arc::clone(&cx.node),
                cx.step,
                call.id.clone(),
            );
            facts = facts.with_progress(Arc::new(move |value| {
                let call_id = call_id.clone();
                events.push(
                    &run_id,
                    step,
                    Some(&node),
                    EventKind::ToolProgress { call_id, value },
                );
            }));
        }
        let limit = options.timeout.unwrap_or(cx.limits().tool_timeout);
        let span = tracing::info_span!(
            "execute_tool",
            { telemetry::TOOL_NAME } = call.name,
            { telemetry::TOOL_CALL_ID } = call.id,
        );
        let began = Instant::now();
        let work = AssertUnwindSafe(async { tool.call(call.arguments.clone(), &facts).await }).catch_unwind();
        let ended = tokio::time::timeout(limit, work).instrument(span).await;
        let mut spend = Spend::call(0);
        spend.time_ms = millis(began.elapsed());
        reserved.settle(spend);
        cx.add_used(&Usage::default(), spend);
        match ended {
            Ok(Ok(Ok(output))) => Ended::Result(accepted(call, output, options.origin, cx.limits())),
            Ok(Ok(Err(ToolError::Retry(told)))) => Ended::Result(may_mend(call, told, messages, cx.limits())),
            Ok(Ok(Err(ToolError::Fatal(error)))) => Ended::Stop(
                refused(call, "the tool stopped the run".into()),
                match error {
                    Error::Cancelled | Error::Host(_) => error,
                    error => Error::ToolFailed {
                        tool: call.name.clone(),
                        message: error.to_string(),
                    },
                },
            ),
            Ok(Ok(Err(error))) => Ended::Result(refused(
                call,
                cut(error.to_string(), cx.limits().tool_output_bytes),
            )),
            Ok(Err(_)) => Ended::Result(refused(call, "the tool failed unexpectedly".into())),
            Err(_) => Ended::Result(refused(call, overdue(limit, options.effect))),
        }
    }
}

pub(crate) fn overdue(limit: Duration, effect: Effect) -> String {
    let doubt = match effect {
        Effect::Pure => "",
        _ => "; it may or may not have had its effect",
    };
    format!("the tool did not end within {limit:?} and was stopped{doubt}")
}

/// Leaves the intent of a call with an effect in the journal. One that must not happen twice is safe there before it runs.
async fn intend(tool: &Arc<dyn DynTool>, call: &ToolCall, key: &str, cx: &RunContext) -> Result<()> {
    let effect = tool.options().effect;
    if effect == Effect::Pure || cx.shared.journal.is_none() {
        return Ok(());
    }
    let body = IntentBody {
        step: cx.step,
        node: cx.node.to_string(),
        call_id: call.id.clone(),
        tool: call.name.clone(),
        idempotency_key: key.to_owned(),
    };
    let body = encode(RecordKind::Intent, &body)?;
    let must_be_safe = effect == Effect::AtMostOnce;
    cx.record(RecordKind::Intent, body, must_be_safe)
        .await
        .map_err(|error| error.into_error(&cx.node))
}

/// A result that tells the model why there is none.
fn refused(call: &ToolCall, told: String) -> ToolResult {
    as_result(Part::tool_result(
        call,
        vec![Part::text(told, Origin::Tool)],
        true,
        Origin::Tool,
    ))
}

fn as_result(part: Part) -> ToolResult {
    match part {
        Part::ToolResult(result) => result,
        other => unreachable!("`Part::tool_result` makes a result, not {other:?}"),
    }
}

/// A result that lets the model mend its call, but not for ever.
fn may_mend(call: &ToolCall, mut told: String, messages: &Messages, limits: &Limits) -> ToolResult {
    told = cut(told, limits.tool_output_bytes);
    if failures_before(&call.name, messages, limits.tool_retries) >= limits.tool_retries {
        told.push_str("; this was the last try: answer without this tool");
    }
    refused(call, told)
}

/// How often in a row the tool has failed since the person last spoke, counted up to `most`.
fn failures_before(tool: &str, messages: &Messages, most: u32) -> u32 {
    let mut failures = 0;
    for message in messages.iter().rev() {
        if message.role == Role::User || failures >= most {
            break;
        }
        for part in &message.parts {
            match part {
                Part::ToolResult(result) if result.name == tool && result.is_error => failures += 1,
                Part::ToolResult(result) if result.name == tool => return failures,
                _ => {}
            }
        }
    }
    failures
}

/// A tool's output as the model gets it: stamped with its origin, cut to the limit.
pub(crate) fn accepted(call: &ToolCall, output: ToolOutput, origin: Origin, limits: &Limits) -> ToolResult {
    let most = limits.tool_output_bytes;
    let mut left = most;
    let mut data_left = most.saturating_mul(DATA_FACTOR);
    let mut parts = Vec::with_capacity(output.parts.len());
    let is_worded = output
        .parts
        .iter()
        .any(|part| matches!(part, Part::Text(_) | Part::Media(_)));
    for mut part in output.parts {
        match &mut part {
            Part::Text(text) => {
                text.origin = origin;
                if text.text.len() > left {
                    text.text = cut(std::mem::take(&mut text.text), left);
                }
                left = left.saturating_sub(text.text.len());
                parts.push(part);
            }
            Part::Media(media) => {
                media.origin = origin;
                let bytes = match &media.source {
                    stepwell_core::MediaSource::Bytes(bytes) => bytes.len(),
                    _ => 0,
                };
                if bytes > data_left {
                    parts.push(Part::text(
                        format!("[a medium of {bytes} bytes was left out]"),
                        origin,
                    ));
                } else {
                    data_left -= bytes;
                    parts.push(part);
                }
            }
            Part::Data(data) => {
                data.origin = origin;
                let bytes = json_bytes(&data.value, data_left);
                if bytes > data_left {
                    parts.push(Part::text(
                        format!("[data over the limit of {data_left} bytes was left out]"),
                        origin,
                    ));
                    continue;
                }
                data_left -= bytes;
                if !is_worded && bytes > left {
                    // Alone, data is what the model reads: it gets what the limit allows.
                    parts.push(Part::text(cut(data.value.to_string(), left), origin));
                    left = 0;
                }
                parts.push(part);
            }
            Part::Unknown(unknown) => {
                unknown.origin = origin;
                parts.push(part);
            }
            // A tool neither thinks nor calls: such parts would be taken for the model's own.
            _ => {}
        }
    }
    as_result(Part::tool_result(call, parts, false, origin))
}

/// Bytes of a value as JSON; stops counting beyond `most`.
fn json_bytes(value: &serde_json::Value, most: usize) -> usize {
    struct Counter {
        bytes: usize,
        most: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            self.bytes += piece.len();
            if self.bytes > self.most {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(piece.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { bytes: 0, most };
    let _ = serde_json::to_writer(&mut counter, value); // an error is the limit
    counter.bytes
}

/// Text of at most so many bytes; a cut is told.
fn cut(mut text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let whole = text.len();
    let mark = format!("… [cut: {whole} bytes in all]");
    let mut end = most.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&mark);
    text
}

/// The calls of the last answer that have no result yet.
fn open_calls(messages: &[Message]) -> Vec<&ToolCall> {
    let mut answered: HashSet<&str> = HashSet::new();
    for message in messages.iter().rev() {
        if message.role == Role::Assistant {
            return message
                .tool_calls()
                .filter(|call| !answered.contains(call.id.as_str()))
                .collect();
        }
        answered.extend(message.parts.iter().filter_map(|part| match part {
            Part::ToolResult(result) => Some(result.call_id.as_str()),
            _ => None,
        }));
        if message.role == Role::User {
            break; // whoever speaks after a call has taken the turn
        }
    }
    Vec::new()
}

#[async_trait]
impl<S: HasMessages> Node<S> for ToolsNode {
    async fn run(&self, state: &S, cx: &RunContext) -> Result<Command<S::Update>, NodeError> {
        let messages = state.messages();
        let calls = open_calls(messages);
        if calls.is_empty() {
            return Ok(Command::default());
        }
        let most = cx.limits().tool_calls;
        let mut results: Vec<Option<ToolResult>> = calls
            .iter()
            .enumerate()
            .map(|(at, call)| {
                (at >= most).then(|| {
                    refused(
                        call,
                        format!("more than {most} calls in one answer; it did not run"),
                    )
                })
            })
            .collect();
        let cancel = cx.cancel().child();
        let mut stop: Option<Error> = None;
        let groups = self.groups(&calls[..calls.len().min(most)]);
        let last_group = groups.len().saturating_sub(1);
        let mut cancelled = std::pin::pin!(cx.cancel().cancelled());
        for (number, group) in groups.into_iter().enumerate() {
            let mut running: FuturesUnordered<_> = group
                .into_iter()
                .map(|at| {
                    let (call, cancel) = (calls[at], &cancel);
                    async move { (at, self.one(call, messages, cx, cancel).await) }
                })
                .collect();
            loop {
                let ended = tokio::select! {
                    biased;
                    ended = running.next() => ended,
                    () = cancelled.as_mut() => {
                        stop = Some(Error::Cancelled);
                        None
                    }
                };
                let Some((at, ended)) = ended else { break };
                let result = match ended {
                    Ended::Result(result) => result,
                    Ended::Stop(result, error) => {
                        stop = Some(error);
                        results[at] = Some(result);
                        break;
                    }
                };
                // The last result of all is recorded with the task, at once.
                if !(running.is_empty() && number == last_group) {
                    record_effect(&result, cx).await?;
                }
                results[at] = Some(result);
            }
            if stop.is_some() {
                cancel.cancel();
                break;
            }
        }
        let results: Vec<Part> = results
            .into_iter()
            .zip(&calls)
            .map(|(result, call)| Part::ToolResult(result.unwrap_or_else(|| self.stopped(call))))
            .collect();
        let id = format!("{}.{}.{}", cx.run_id(), cx.step_number(), cx.node());
        let message = Message::tool(results).with_id(id);
        Ok(Command::update(S::add_messages(vec![message])).stopped(stop))
    }

    /// It closes the history: one result per call.
    fn ends_on_cancel(&self) -> bool {
        true
    }
}

impl ToolsNode {
    /// The result of a call that the end of the run overtook.
    fn stopped(&self, call: &ToolCall) -> ToolResult {
        let has_effect = self
            .tools
            .get(&call.name)
            .is_some_and(|tool| tool.options().effect != Effect::Pure);
        let told = if has_effect {
            "the run was stopped before the call ended; it may or may not have had its effect"
        } else {
            "the run was stopped before the call ended"
        };
        refused(call, told.into())
    }
}

async fn record_effect(result: &ToolResult, cx: &RunContext) -> Result<(), NodeError> {
    let is_remembered = cx
        .memory
        .as_ref()
        .is_some_and(|memory| memory.effects.contains_key(&result.call_id));
    if cx.shared.journal.is_none() || is_remembered {
        return Ok(());
    }
    let body = EffectBody {
        step: cx.step,
        node: cx.node.to_string(),
        result: result.clone(),
    };
    let body = encode(RecordKind::Effect, &body).map_err(NodeError::passed_on)?;
    cx.record(RecordKind::Effect, body, false).await
}

#[cfg(test)]
mod tests {
    use super::{accepted, cut};
    use serde_json::json;
    use stepwell_core::{Limits, Origin, Part, ToolCall, ToolOutput};

    #[test]
    fn a_cut_text_ends_on_a_whole_character_and_says_how_long_it_was() {
        let text = cut("ä".repeat(1_000), 101);
        assert!(
            text.len() <= 101 && text.ends_with("[cut: 2000 bytes in all]"),
            "{text}"
        );
        assert_eq!(cut("short".into(), 5), "short");
    }

    #[test]
    fn an_output_is_stamped_with_its_origin_and_held_to_the_limit() {
        let mut limits = Limits::default();
        limits.tool_output_bytes = 100;
        let call = ToolCall::new("1", "t", json!({}));
        let output = ToolOutput::parts(vec![
            Part::text("x".repeat(90), Origin::System),
            Part::text("y".repeat(90), Origin::System),
            Part::tool_call("2", "evil", json!({})),
            Part::data("big", json!("z".repeat(2_000)), Origin::User),
            Part::data("small", json!(1), Origin::User),
        ]);
        let result = accepted(&call, output, Origin::Document, &limits);
        assert!(result.parts.iter().all(|part| part.origin() == Origin::Document));
        assert!(!result.parts.iter().any(|part| matches!(part, Part::ToolCall(_))));
        assert!(result.text().len() < 250, "{}", result.text());
        assert!(
            result
                .parts
                .iter()
                .any(|part| matches!(part, Part::Data(data) if data.name == "small"))
        );
        assert!(
            !result
                .parts
                .iter()
                .any(|part| matches!(part, Part::Data(data) if data.name == "big"))
        );
    }

    #[test]
    fn data_alone_is_read_up_to_the_limit() {
        let mut limits = Limits::default();
        limits.tool_output_bytes = 100;
        let call = ToolCall::new("1", "t", json!({}));
        let output = ToolOutput::json("t", json!({ "words": "w".repeat(500) }));
        let text = accepted(&call, output, Origin::Tool, &limits).text();
        assert!(text.len() <= 100 && text.contains("[cut:"), "{text}");
    }
}
