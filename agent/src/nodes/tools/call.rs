//! One tool call, from the model's wish to its result.

use super::{
    Held, ToolsNode,
    approval::{self, Verdict},
    failures_before,
    output::{accepted, cut, refused},
};
use crate::{EventKind, Messages, RunContext, journal::IntentBody, nodes::call::millis};
use futures::FutureExt;
use serde_json::Value;
use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use stepwell_core::{
    Cancel, Decision, Effect, Error, Origin, Part, PolicyRequest, Result, Spend, ToolCall, ToolContext,
    ToolError, ToolOutput, ToolResult, Usage, Violation, store::RecordKind, telemetry,
};
use tracing::Instrument;

/// Complaints of a schema that are told to the model.
const VIOLATIONS: usize = 5;
/// The wait before a tool is tried again; twice as long each further time, up to the longest.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// How a call ended.
pub(super) enum Ended {
    Result(ToolResult),
    /// It waits for a person.
    Paused,
    Stop(ToolResult, Error),
}

/// A call about to run.
#[allow(clippy::struct_field_names)] // what the model wished for is a call too
pub(super) struct Call<'a> {
    pub(super) node: &'a ToolsNode,
    pub(super) wish: &'a ToolCall,
    pub(super) injected: &'a [(String, Value)],
    pub(super) messages: &'a Messages,
    pub(super) cx: RunContext,
    pub(super) cancel: &'a Cancel,
}

impl Call<'_> {
    pub(super) async fn run(&self) -> Ended {
        let remembered = self.cx.memory().effects.get(&self.wish.id).cloned();
        if let Some(result) = remembered {
            return Ended::Result(result);
        }
        self.cx.event(|| EventKind::ToolStart {
            call: self.wish.clone(),
        });
        let ended = self.hooked().await;
        if let Ended::Result(result) | Ended::Stop(result, _) = &ended {
            self.cx.event(|| EventKind::ToolEnd {
                result: result.clone(),
            });
        }
        ended
    }

    /// The call between its hooks: they may change it before, and its result after.
    async fn hooked(&self) -> Ended {
        let (call, hooks) = (self.wish, &self.node.hooks);
        // A recorded result is as the hooks left it.
        if hooks.is_empty() || self.cx.shared.recording.is_some() {
            return self.checked(call).await;
        }
        let mut meant = call.clone();
        let ended = match hooks.before_tool(&mut meant, &self.cx).await {
            Ok(None) => self.checked(&meant).await,
            Ok(Some(output)) => Ended::Result(accepted(&meant, output, Origin::Tool, self.cx.limits())),
            Err(error) => Ended::Stop(
                refused(call, "the run was stopped before the call ran".into()),
                error,
            ),
        };
        let (mut result, stop) = match ended {
            Ended::Result(result) => (result, None),
            Ended::Stop(result, error) => (result, Some(error)),
            Ended::Paused => return Ended::Paused,
        };
        let stop = stop.or(hooks.after_tool(&meant, &mut result, &self.cx).await.err());
        result.name.clone_from(&call.name); // the pair that a vendor sees is the one the model made
        match stop {
            None => Ended::Result(result),
            Some(error) => Ended::Stop(result, error),
        }
    }

    /// Everything that must hold before a call runs.
    async fn checked(&self, call: &ToolCall) -> Ended {
        let Some(held) = self.node.tools.get(&call.name) else {
            let known: Vec<&str> = self.node.tools.keys().map(String::as_str).collect();
            let told = if known.is_empty() {
                "there is no such tool; answer without tools".to_owned()
            } else {
                format!("there is no such tool; there is: {}", known.join(", "))
            };
            return Ended::Result(refused(call, told));
        };
        if call.malformed.is_some() {
            let told = "the arguments are not whole JSON; send them again as one JSON object".to_owned();
            return Ended::Result(self.may_mend(told));
        }
        let mut wished = call.arguments.clone();
        if let Some(object) = wished.as_object_mut() {
            object.retain(|name, _| !held.injected.contains_key(name));
        }
        // A strict vendor is given a schema in which an optional argument is null where it is absent.
        let arguments = match held.schema.read(wished) {
            Ok(arguments) => arguments,
            Err(violations) => return Ended::Result(self.may_mend(misfit(&violations))),
        };
        let mut meant = call.clone();
        meant.arguments = arguments;
        let edited = match self.permitted(held, &meant).await {
            Ok(None) => None,
            Ok(Some(arguments)) => match held.schema.read(arguments) {
                Ok(arguments) => {
                    meant.arguments = arguments;
                    Some(format!(
                        "[a person changed the arguments of this call to {}]",
                        cut(meant.arguments.to_string(), self.cx.limits().tool_output_bytes)
                    ))
                }
                Err(violations) => {
                    let told = format!(
                        "a person changed the call and it did not run: {}",
                        misfit(&violations)
                    );
                    return Ended::Result(refused(call, told));
                }
            },
            Err(ended) => return *ended,
        };
        if let Some(object) = meant.arguments.as_object_mut() {
            for (name, value) in self.injected {
                object.insert(name.clone(), value.clone());
            }
            if !self.injected.is_empty()
                && let Err(violations) = held.tool.schema().check(&meant.arguments)
            {
                // The model cannot mend what it does not see, and must not read it.
                let places: Vec<&str> = violations
                    .iter()
                    .map(|violation| violation.path.as_str())
                    .collect();
                let error = Error::ToolFailed {
                    tool: call.name.clone(),
                    message: format!(
                        "what was filled in does not fit its schema, at {}",
                        places.join(", ")
                    ),
                };
                return Ended::Stop(refused(call, "the call did not run".into()), error);
            }
        }
        match (self.called(held, &meant).await, edited) {
            // A recorded result says so already.
            (Ended::Result(mut result), Some(edited)) if self.cx.shared.recording.is_none() => {
                result.parts.insert(0, Part::text(edited, Origin::Tool));
                Ended::Result(result)
            }
            (ended, _) => ended,
        }
    }

    /// Whether the policy, or the person it wants to be asked, lets the call run; and other arguments where they say so.
    async fn permitted(&self, held: &Held, call: &ToolCall) -> Result<Option<Value>, Box<Ended>> {
        let options = held.tool.options();
        let question = PolicyRequest::new(
            self.cx.scope(),
            self.cx.run_id(),
            &call.id,
            &call.name,
            &call.arguments,
            options.effect,
            options.risk,
            self.messages.origins(),
        );
        let decision = AssertUnwindSafe(self.node.policy.decide(question))
            .catch_unwind()
            .await;
        let refuse = |told: String| Err(Box::new(Ended::Result(refused(call, told))));
        match decision {
            Ok(Decision::Allow) => Ok(None),
            Ok(Decision::Deny { reason }) => refuse(format!("the call was not allowed: {reason}")),
            Ok(Decision::Ask { reason }) => {
                let approval =
                    match approval::ask(&*held.tool, call, &reason, self.node.approvals, &self.cx).await {
                        Ok(approval) => approval,
                        Err(error) if error.is_interrupt() => return Err(Box::new(Ended::Paused)),
                        Err(error) => match error.into_error(&self.cx.node) {
                            Error::NodeFailed { source, .. }
                                if source
                                    .downcast_ref::<Error>()
                                    .is_some_and(|error| matches!(error, Error::Timeout { .. })) =>
                            {
                                return refuse("nobody approved the call in time; it did not run".into());
                            }
                            Error::Timeout { .. } => {
                                return refuse("nobody approved the call in time; it did not run".into());
                            }
                            error => {
                                let told = "the approval could not be read; the call did not run";
                                return Err(Box::new(Ended::Stop(refused(call, told.into()), error)));
                            }
                        },
                    };
                match approval.decision {
                    Verdict::Allow => Ok(None),
                    Verdict::Edit => Ok(approval.arguments),
                    Verdict::Deny => refuse(match approval.reason {
                        Some(reason) if !reason.trim().is_empty() => {
                            format!("a person did not allow the call: {reason}")
                        }
                        _ => "a person did not allow the call".to_owned(),
                    }),
                }
            }
            // What is not clearly allowed does not run.
            _ => refuse("the policy gave no clear answer; the call did not run".into()),
        }
    }

    async fn called(&self, held: &Held, call: &ToolCall) -> Ended {
        let (cx, tool) = (&self.cx, &held.tool);
        let options = tool.options();
        let began_before = cx.memory().intents.get(&call.id).copied().unwrap_or(0);
        if began_before > 0 && options.effect == Effect::AtMostOnce {
            let told = "the call began before the run was interrupted and its outcome is not known; it was not repeated. \
                        Check the outcome before you ask for it again";
            return Ended::Result(refused(call, told.into()));
        }
        let cached = match (&self.node.cache, options.cache) {
            (Some(cache), Some(time)) if options.effect == Effect::Pure => {
                Some((cache, cache_key(call), time))
            }
            _ => None,
        };
        if let Some((cache, key, _)) = &cached
            && let Ok(Ok(Some(bytes))) = AssertUnwindSafe(cache.get(cx.scope(), key)).catch_unwind().await
            && let Ok(output) = serde_json::from_slice::<ToolOutput>(&bytes)
        {
            return Ended::Result(accepted(call, output, options.origin, cx.limits()));
        }
        // Call ids repeat between answers of some vendors; place, step and node make the key the call's own.
        let key = format!(
            "{}:{}{}:{}:{}",
            cx.run_id(),
            cx.shared.prefix,
            cx.step_number(),
            cx.place(),
            call.id
        );
        if let Err(error) = self.intend(held, call, &key).await {
            let told = "the journal could not be written; the call did not run";
            return Ended::Stop(refused(call, told.into()), error);
        }
        match cx.recorded_result(&call.id) {
            Ok(Some(result)) => return Ended::Result(result),
            Ok(None) => {}
            Err(error) => return Ended::Stop(refused(call, "the call did not run".into()), error),
        }
        let most = match options.effect {
            Effect::AtMostOnce => 1,
            _ => options.retries.saturating_add(1),
        };
        let mut attempt = began_before + 1;
        let last = began_before.saturating_add(most);
        loop {
            let ended = self.attempt(held, call, &key, attempt).await;
            let is_failed = match &ended {
                Tried::Output(output) => {
                    if let Some((cache, key, time)) = &cached
                        && let Ok(bytes) = serde_json::to_vec(output)
                    {
                        // A cache that fails costs time, never the run.
                        let put = cache.put(cx.scope(), key, bytes.into(), Some(*time));
                        let _ = AssertUnwindSafe(put).catch_unwind().await;
                    }
                    false
                }
                Tried::Failed(_) => true,
                Tried::Ended(_) => false,
            };
            if is_failed && attempt < last {
                let delay = FIRST_DELAY
                    .saturating_mul(1 << (attempt - began_before - 1).min(8))
                    .min(MAX_DELAY);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = self.cancel.cancelled() => return Ended::Result(self.node.stopped(call)),
                }
                attempt += 1;
                continue;
            }
            return match ended {
                Tried::Output(output) => Ended::Result(accepted(call, output, options.origin, cx.limits())),
                Tried::Failed(told) => Ended::Result(refused(call, cut(told, cx.limits().tool_output_bytes))),
                Tried::Ended(ended) => *ended,
            };
        }
    }

    async fn attempt(&self, held: &Held, call: &ToolCall, key: &str, attempt: u32) -> Tried {
        let (cx, tool) = (&self.cx, &held.tool);
        let options = tool.options();
        let reserved = match cx.budget().reserve(Spend::call(0)) {
            Ok(reserved) => reserved,
            Err(error) => {
                let told = "the budget of the run is spent; the call did not run";
                return Tried::Ended(Box::new(Ended::Stop(refused(call, told.into()), error)));
            }
        };
        let cancel = self.cancel.child();
        let facts = self.facts(call, key, attempt, cancel.clone());
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
        if !matches!(ended, Ok(Ok(_))) {
            cancel.cancel(); // it left without cleaning up: what it started elsewhere is told to stop
        }
        let ended = match ended {
            Ok(Ok(Ok(output))) => return Tried::Output(output),
            Ok(Ok(Err(ToolError::Retry(told)))) => Ended::Result(self.may_mend(told)),
            Ok(Ok(Err(ToolError::Fatal(Error::Interrupted { .. })))) => Ended::Paused,
            Ok(Ok(Err(ToolError::Fatal(error)))) => Ended::Stop(
                refused(call, "the tool stopped the run".into()),
                match error {
                    Error::Cancelled | Error::BudgetExceeded { .. } | Error::Host(_) => error,
                    error => Error::ToolFailed {
                        tool: call.name.clone(),
                        message: error.to_string(),
                    },
                },
            ),
            Ok(Ok(Err(error))) => return Tried::Failed(error.to_string()),
            Ok(Err(_)) => return Tried::Failed("the tool failed unexpectedly".into()),
            Err(_) => return Tried::Failed(overdue(limit, options.effect)),
        };
        Tried::Ended(Box::new(ended))
    }

    fn facts(&self, call: &ToolCall, key: &str, attempt: u32, cancel: Cancel) -> ToolContext {
        let cx = &self.cx;
        let mut facts = ToolContext::new(&call.id, cx.run_id(), cx.scope().clone())
            .with_cancel(cancel)
            .with_extension(Arc::new(cx.clone()));
        key.clone_into(&mut facts.idempotency_key);
        facts.attempt = attempt;
        let (progress, call_id) = (cx.clone(), call.id.clone());
        facts.with_progress(Arc::new(move |value| {
            progress.event(|| EventKind::ToolProgress {
                call_id: call_id.clone(),
                value,
            });
        }))
    }

    /// Leaves the intent of a call with an effect in the journal. One that must not happen twice is safe there before it
    /// runs.
    async fn intend(&self, held: &Held, call: &ToolCall, key: &str) -> Result<()> {
        let (cx, effect) = (&self.cx, held.tool.options().effect);
        if effect == Effect::Pure {
            return Ok(());
        }
        let body = IntentBody {
            task: cx.task_ref(),
            call_id: call.id.clone(),
            tool: call.name.clone(),
            idempotency_key: key.to_owned(),
        };
        let must_be_safe = effect == Effect::AtMostOnce;
        let written = cx.leave(RecordKind::Intent, &body, must_be_safe);
        let written = written.map_err(|error| error.into_error(&cx.node))?;
        // Counted once it is safe: the call has not begun before.
        written.safe().await.map_err(|error| error.into_error(&cx.node))?;
        *cx.memory().intents.entry(call.id.clone()).or_default() += 1;
        Ok(())
    }

    /// A result that lets the model mend its call, but not for ever.
    fn may_mend(&self, mut told: String) -> ToolResult {
        let limits = self.cx.limits();
        told = cut(told, limits.tool_output_bytes);
        if failures_before(&self.wish.name, self.messages, limits.tool_retries) >= limits.tool_retries {
            told.push_str("; this was the last try: answer without this tool");
        }
        refused(self.wish, told)
    }
}

/// How an attempt ended.
enum Tried {
    Output(ToolOutput),
    /// It may be tried again.
    Failed(String),
    Ended(Box<Ended>),
}

fn misfit(violations: &[Violation]) -> String {
    let told: Vec<String> = violations
        .iter()
        .take(VIOLATIONS)
        .map(ToString::to_string)
        .collect();
    format!("the arguments do not fit the tool's schema: {}", told.join("; "))
}

fn cache_key(call: &ToolCall) -> String {
    let text = serde_json::to_string(&(&call.name, &call.arguments)).unwrap_or_default();
    format!("tool:{}", &blake3::hash(text.as_bytes()).to_hex()[..32])
}

pub(crate) fn overdue(limit: Duration, effect: Effect) -> String {
    let doubt = match effect {
        Effect::Pure => "",
        _ => "; it may or may not have had its effect",
    };
    format!("the tool did not end within {limit:?} and was stopped{doubt}")
}
