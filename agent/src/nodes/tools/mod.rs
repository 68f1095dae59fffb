//! [`ToolsNode`]: the one door between a model's wish and a tool. It asks the policy, checks the arguments, runs the
//! calls apart from each other, and answers every call exactly once.

mod approval;
mod call;
mod output;

pub use approval::{Approval, Verdict};
#[cfg(feature = "mcp")]
pub(crate) use {call::overdue, output::accepted};

use crate::{
    Command, HasMessages, Hooks, Messages, Node, NodeError, RunContext, State, journal::EffectBody,
    nodes::hooks::HookList,
};
use async_trait::async_trait;
use call::{Call, Ended};
use futures::{StreamExt, stream::FuturesUnordered};
use indexmap::IndexMap;
pub(super) use output::refused;
use serde_json::Value;
use std::{
    any::Any,
    collections::{HashMap, HashSet},
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};
use stepwell_core::{
    DynTool, Effect, Error, Message, Part, Policy, Result, Role, Schema, ToolCall, ToolResult, ToolSpec,
    store::{Cache, RecordKind},
};

/// What fills an argument in that the model does not see. `None` where the state is of another type.
type Inject = Arc<dyn Fn(&dyn Any, &RunContext) -> Option<Value> + Send + Sync>;

/// A tool as the node holds it.
#[derive(Clone)]
struct Held {
    tool: Arc<dyn DynTool>,
    /// What the model sees, and what its arguments are checked against.
    spec: ToolSpec,
    schema: Schema,
    injected: IndexMap<String, Inject>,
}

/// A node that runs the tool calls of the conversation's last answer.
///
/// - Calls run side by side; one whose tool is not parallel runs alone, in its place.
/// - There is one result per call id whatever happens: an unknown tool, arguments that do not fit, a refusal of the
///   policy, an error, a panic, a time limit and a cancel are results too. Results stand in the order of the calls.
/// - The policy is asked before each call, with the exact arguments. Where it would ask, the run pauses with a question
///   for each such call, whose answer is an [`Approval`]; the other calls run meanwhile.
/// - Each finished call is recorded, so that a resumed run does not repeat it. A tool with an effect leaves its intent in
///   the journal before it runs; a call of an [`Effect::AtMostOnce`] tool that had begun and not ended is never repeated:
///   the model is told that its outcome is not known.
#[derive(Clone)]
pub struct ToolsNode {
    tools: IndexMap<String, Held>,
    policy: Arc<dyn Policy>,
    cache: Option<Arc<dyn Cache>>,
    hooks: HookList,
    /// How long a person has to approve a call.
    approvals: Option<Duration>,
}

impl Debug for ToolsNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolsNode")
            .field("tools", &self.tools.keys().collect::<Vec<_>>())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl ToolsNode {
    /// These tools under this policy.
    pub fn new(tools: impl IntoIterator<Item = Arc<dyn DynTool>>, policy: Arc<dyn Policy>) -> Self {
        let hold = |tool: Arc<dyn DynTool>| Held {
            spec: tool.spec().clone(),
            schema: tool.schema().clone(),
            tool,
            injected: IndexMap::new(),
        };
        Self {
            tools: tools
                .into_iter()
                .map(|tool| (tool.spec().name.clone(), hold(tool)))
                .collect(),
            policy,
            cache: None,
            hooks: HookList::default(),
            approvals: None,
        }
    }

    /// A call that nobody approves within this time does not run, once the run is resumed; the model is told. For ever
    /// otherwise.
    pub fn approvals_expire_in(mut self, time: Duration) -> Self {
        self.approvals = Some(time);
        self
    }

    /// The host's own code before and after each call.
    pub fn hooks(mut self, hooks: impl IntoIterator<Item = Arc<dyn Hooks>>) -> Self {
        self.hooks = HookList::new(hooks.into_iter().collect());
        self
    }

    /// Keeps the results of tools there that say how long theirs may be kept.
    pub fn cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Fills an argument of a tool in from the state and the run. The model does not see it; what it gives under that name
    /// is left out.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such tool or the tool has no such argument.
    pub fn inject<S: State>(
        mut self,
        tool: &str,
        argument: impl Into<String>,
        value: impl Fn(&S, &RunContext) -> Value + Send + Sync + 'static,
    ) -> Result<Self> {
        let argument = argument.into();
        let Some(held) = self.tools.get_mut(tool) else {
            return Err(Error::NotFound {
                what: "tool".into(),
                name: tool.to_owned(),
                hint: format!(
                    "there is: {}",
                    self.tools.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            });
        };
        let mut visible = held.schema.as_value().clone();
        let is_there = visible
            .get_mut("properties")
            .and_then(Value::as_object_mut)
            .is_some_and(|properties| properties.shift_remove(&argument).is_some());
        if !is_there {
            return Err(Error::NotFound {
                what: format!("argument of the tool `{tool}`"),
                name: argument,
                hint: "name one of its schema's properties".into(),
            });
        }
        if let Some(required) = visible.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name.as_str() != Some(argument.as_str()));
        }
        held.schema = Schema::from_value(visible)?;
        held.spec.parameters = held.schema.as_value().clone();
        let inject = move |state: &dyn Any, cx: &RunContext| Some(value(state.downcast_ref::<S>()?, cx));
        held.injected.insert(argument, Arc::new(inject));
        Ok(self)
    }

    /// What the model sees of the tools.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.values().map(|held| held.spec.clone()).collect()
    }

    fn is_parallel(&self, call: &ToolCall) -> bool {
        self.tools
            .get(&call.name)
            .is_none_or(|held| held.tool.options().is_parallel)
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

    /// The result of a call that the end of the run overtook.
    fn stopped(&self, call: &ToolCall) -> ToolResult {
        let has_effect = self
            .tools
            .get(&call.name)
            .is_some_and(|held| held.tool.options().effect != Effect::Pure);
        let told = if has_effect {
            "the run was stopped before the call ended; it may or may not have had its effect"
        } else {
            "the run was stopped before the call ended"
        };
        refused(call, told.into())
    }

    /// What fills in the arguments that the model does not see, by call.
    fn injected<S: State>(
        &self,
        calls: &[&ToolCall],
        state: &S,
        cx: &RunContext,
    ) -> Result<HashMap<String, Vec<(String, Value)>>, NodeError> {
        let mut found: HashMap<String, Vec<(String, Value)>> = HashMap::new();
        for call in calls {
            let Some(held) = self.tools.get(&call.name) else {
                continue;
            };
            if held.injected.is_empty() || found.contains_key(&call.name) {
                continue;
            }
            let mut values = Vec::with_capacity(held.injected.len());
            for (argument, inject) in &held.injected {
                let value = inject(state, cx).ok_or_else(|| {
                    Error::invalid(
                        "injected argument",
                        format!(
                            "`{argument}` of the tool `{}` is filled in from a state of another type",
                            call.name
                        ),
                    )
                })?;
                values.push((argument.clone(), value));
            }
            found.insert(call.name.clone(), values);
        }
        Ok(found)
    }
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
        let injected = self.injected(&calls, state, cx)?;
        let cancel = cx.cancel().child();
        let mut stop: Option<Error> = None;
        let mut has_paused = false;
        let groups = self.groups(&calls[..calls.len().min(most)]);
        let last_group = groups.len().saturating_sub(1);
        let mut cancelled = std::pin::pin!(cx.cancel().cancelled());
        for (number, group) in groups.into_iter().enumerate() {
            let mut running: FuturesUnordered<_> = group
                .into_iter()
                .map(|at| {
                    let call = Call {
                        node: self,
                        wish: calls[at],
                        injected: injected.get(&calls[at].name).map_or(&[][..], Vec::as_slice),
                        messages,
                        cx: cx.for_call(&calls[at].id),
                        cancel: &cancel,
                    };
                    async move { (at, call.run().await) }
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
                    Ended::Paused => {
                        has_paused = true;
                        continue;
                    }
                    Ended::Stop(result, error) => {
                        stop = Some(error);
                        results[at] = Some(result);
                        break;
                    }
                };
                // The last result of all is recorded with the task, at once.
                if has_paused || !(running.is_empty() && number == last_group) {
                    record_effect(&result, cx).await?;
                }
                results[at] = Some(result);
            }
            if stop.is_some() {
                cancel.cancel();
                break;
            }
            if has_paused {
                break; // what comes after them waits with them
            }
        }
        if has_paused && stop.is_none() {
            return Err(NodeError::interrupt(cx));
        }
        let results: Vec<Part> = results
            .into_iter()
            .zip(&calls)
            .map(|(result, call)| Part::ToolResult(result.unwrap_or_else(|| self.stopped(call))))
            .collect();
        let message = Message::tool(results).with_id(cx.message_id());
        let stop = stop.or_else(|| cx.recorded_stop());
        Ok(Command::update(S::add_messages(vec![message])).stopped(stop))
    }

    /// It closes the history: one result per call.
    fn ends_on_cancel(&self) -> bool {
        true
    }
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

async fn record_effect(result: &ToolResult, cx: &RunContext) -> Result<(), NodeError> {
    let is_remembered = cx.memory().effects.contains_key(&result.call_id);
    if is_remembered {
        return Ok(());
    }
    // What it took to come to this is booked with it: after a crash the call is not made again.
    cx.book_used().map_err(NodeError::passed_on)?;
    let body = EffectBody {
        task: cx.task_ref(),
        result: result.clone(),
    };
    let written = cx.leave(RecordKind::Effect, &body, false)?;
    cx.memory()
        .effects
        .insert(body.result.call_id.clone(), body.result);
    written.safe().await
}
