//! [`AgentModel`]: an agent as a chat model; [`AgentModels`]: several by name, for a registry.

use super::{Agent, RunResult};
use crate::{EventKind, RunEvent, RunStream};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};
use stepwell_core::{
    ChatModel, ChatRequest, ChatStream, Cost, Error, FinishReason, ModelInfo, Origin, Part, ResponseFormat,
    Result, StreamEvent, Structured, StructuredStrategy, ToolChoice, Warning, store::RunStatus,
};

/// The vendor of agents in names such as `agent/cyber-analyst`.
const VENDOR: &str = "agent";

/// An agent as a chat model: whoever asks a model can ask it, other agents too. Every request is a run.
///
/// - Its words stream as the agent's model says them, those before a call of a tool too. Where hooks may change an answer,
///   where its shape may be refused, and with [`AgentModel::answer_only`], the answer alone comes when the run is at its end.
/// - Each call of a tool is told by data parts named `tool_call` and `tool_result`, beside the answer.
/// - Usage is that of all calls of the run; errors keep their codes. Dropping the stream stops the run.
/// - The agent has its own tools and its own instructions. A request with tools, or for a shape that the agent does not
///   answer in, is [`Error::Unsupported`]; other options are left out with a warning.
/// - A run that waits for a person is [`Error::Interrupted`], with its id: with a store, answer it there and ask again.
#[derive(Clone, Debug)]
pub struct AgentModel {
    info: ModelInfo,
    agent: Agent,
    holds: bool,
}

impl AgentModel {
    /// This agent under a name, as `agent/<name>`.
    pub fn new(name: impl Into<String>, agent: Agent) -> Self {
        let mut info = ModelInfo::new(VENDOR, name);
        info.abilities.tools = Some(false); // those of a request
        info.abilities.structured_output = Some(agent.has_shape);
        let holds = agent.holds_answers;
        Self { info, agent, holds }
    }

    /// Tells the last answer alone, when the run is at its end: nothing of what the model says before it calls a tool.
    pub fn answer_only(mut self) -> Self {
        self.holds = true;
        self
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    fn refuse(&self, what: &str, hint: &str) -> Error {
        Error::Unsupported {
            who: self.info.name(),
            what: what.into(),
            hint: hint.into(),
        }
    }
}

/// The options that an agent does not take from a request.
fn left_out(request: &ChatRequest) -> Vec<Warning> {
    let given = [
        ("tool_choice", request.tool_choice != ToolChoice::Auto),
        ("parallel_tool_calls", request.parallel_tool_calls.is_some()),
        ("max_output_tokens", request.max_output_tokens.is_some()),
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("top_k", request.top_k.is_some()),
        ("stop_sequences", !request.stop_sequences.is_empty()),
        ("seed", request.seed.is_some()),
        (
            "reasoning",
            request.reasoning != stepwell_core::ReasoningOptions::default(),
        ),
        ("provider_options", !request.provider_options.is_empty()),
    ];
    given
        .into_iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(option, _)| Warning::option_ignored(VENDOR, option))
        .collect()
}

#[async_trait]
impl ChatModel for AgentModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        if !request.tools.is_empty() {
            return Err(self.refuse("tools of the request", "give them to the agent where it is built"));
        }
        if !matches!(request.response_format, ResponseFormat::Text) && !self.agent.has_shape {
            return Err(self.refuse(
                "an answer in a shape",
                "build the agent with `.output::<T>()` or `.output_schema(..)`",
            ));
        }
        let out = left_out(&request)
            .into_iter()
            .map(|warning| Ok(StreamEvent::Warning(warning)))
            .collect();
        let play = Play {
            run: self.agent.run(request.messages).stream(),
            model: self.info.model.clone(),
            holds: self.holds,
            out,
            open: HashMap::new(),
            next: 0,
            finish: FinishReason::Stop,
            is_done: false,
        };
        Ok(stream::unfold(play, |mut play| async move {
            loop {
                if let Some(event) = play.out.pop_front() {
                    return Some((event, play));
                }
                if play.is_done {
                    return None;
                }
                match play.run.next().await {
                    Some(event) => play.event(event),
                    None => play.end(),
                }
            }
        })
        .boxed())
    }
}

/// A run that is being told as the answer of a model.
struct Play {
    run: RunStream<RunResult>,
    model: String,
    /// The answer is told at the end.
    holds: bool,
    out: VecDeque<Result<StreamEvent>>,
    /// Text parts of the step's answer, by its own index: the index here.
    open: HashMap<u32, u32>,
    next: u32,
    finish: FinishReason,
    is_done: bool,
}

impl Play {
    fn give(&mut self, event: StreamEvent) {
        self.out.push_back(Ok(event));
    }

    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// Data becomes a part of the answer, at the next free index.
    fn data(&mut self, name: &str, value: serde_json::Value) {
        if let Part::Data(data) = Part::data(name, value, Origin::Tool) {
            self.index();
            self.give(StreamEvent::Data(data));
        }
    }

    fn event(&mut self, event: RunEvent) {
        if !event.path.is_empty() {
            return; // of an agent within
        }
        match event.kind {
            EventKind::RunStart { .. } => self.give(StreamEvent::MessageStart {
                id: Some(event.run_id.to_string()),
                model: Some(self.model.clone()),
                request_id: None,
            }),
            EventKind::ToolStart { call } => self.data(
                "tool_call",
                json!({ "call_id": call.id, "name": call.name, "arguments": call.arguments }),
            ),
            EventKind::ToolEnd { result } => self.data(
                "tool_result",
                json!({ "call_id": result.call_id, "name": result.name, "is_error": result.is_error }),
            ),
            EventKind::Model { event } => self.said(event),
            _ => {}
        }
    }

    /// What the agent's model says.
    fn said(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Finish { reason, .. } => {
                self.finish = reason;
                self.open.clear();
            }
            StreamEvent::Warning(_) => self.give(event),
            _ if self.holds => {}
            StreamEvent::TextStart { index } => {
                let at = self.index();
                self.open.insert(index, at);
                self.give(StreamEvent::TextStart { index: at });
            }
            StreamEvent::TextDelta { index, text } => {
                if let Some(&index) = self.open.get(&index) {
                    self.give(StreamEvent::TextDelta { index, text });
                }
            }
            StreamEvent::Citation { index, citation } => {
                if let Some(&index) = self.open.get(&index) {
                    self.give(StreamEvent::Citation { index, citation });
                }
            }
            StreamEvent::TextEnd { index, .. } => {
                if let Some(index) = self.open.remove(&index) {
                    self.give(StreamEvent::TextEnd { index, opaque: None });
                }
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        self.is_done = true;
        let Some(mut result) = self.run.take_result() else {
            self.out
                .push_back(Err(Error::internal("a run ended without a result")));
            return;
        };
        self.give(StreamEvent::Usage(result.usage.clone()));
        if result.spent.micro_usd > 0 {
            self.give(StreamEvent::Cost(Cost {
                micro_usd: result.spent.micro_usd,
            }));
        }
        let error = result.error.take().or_else(|| {
            (result.status != RunStatus::Done).then(|| Error::Interrupted {
                run_id: result.run_id.clone(),
            })
        });
        if let Some(error) = error {
            self.out.push_back(Err(error));
            return;
        }
        if self.holds {
            let parts = result.answer_message().map(|message| message.parts.clone());
            for part in parts.unwrap_or_default() {
                let Part::Text(text) = part else { continue };
                let index = self.index();
                self.give(StreamEvent::TextStart { index });
                self.give(StreamEvent::TextDelta {
                    index,
                    text: text.text,
                });
                for citation in text.citations {
                    self.give(StreamEvent::Citation {
                        index,
                        citation: Box::new(citation),
                    });
                }
                self.give(StreamEvent::TextEnd { index, opaque: None });
            }
        }
        if let Some(value) = result.value.take() {
            self.give(StreamEvent::Structured(Structured::new(
                StructuredStrategy::Native,
                Some(value),
            )));
        }
        let is_call = self.finish == FinishReason::ToolCalls; // a hook stopped it there
        self.give(StreamEvent::Finish {
            reason: if is_call { FinishReason::Other } else { self.finish },
            raw: None,
            refusal: None,
        });
    }
}

/// Agents by name, as models. Clones share them.
///
/// ```
/// # use std::sync::Arc;
/// # use stepwell_agent::{Agent, AgentModels};
/// # fn models(agent: Agent) -> stepwell_core::Result<()> {
/// let agents = AgentModels::new();
/// agents.add("cyber-analyst", agent)?;
/// assert_eq!(agents.get("cyber-analyst")?.info().name(), "agent/cyber-analyst");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct AgentModels(Arc<RwLock<BTreeMap<String, Arc<AgentModel>>>>);

impl AgentModels {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an agent, or takes the place of the one of this name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name that has no place in `agent/<name>`.
    pub fn add(&self, name: impl Into<String>, agent: Agent) -> Result<()> {
        self.add_model(AgentModel::new(name, agent))
    }

    /// The same, under the model's own name.
    ///
    /// # Errors
    /// As [`AgentModels::add`].
    pub fn add_model(&self, model: AgentModel) -> Result<()> {
        let name = model.info.model.clone();
        let is_plain = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !is_plain {
            return Err(Error::invalid(
                "agent name",
                "use 1 to 64 of the letters a-z, A-Z, digits, `-`, `_` and `.`",
            ));
        }
        // A map of agents is whole whoever panicked, so a poisoned lock is taken.
        let mut agents = self.0.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(name, Arc::new(model));
        Ok(())
    }

    /// The agent of this name as a model.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the names there are.
    pub fn get(&self, name: &str) -> Result<Arc<dyn ChatModel>> {
        let agents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match agents.get(name) {
            Some(model) => Ok(Arc::clone(model) as Arc<dyn ChatModel>),
            None => Err(Error::NotFound {
                what: "agent".into(),
                name: name.chars().take(64).collect(),
                hint: if agents.is_empty() {
                    "register it first".into()
                } else {
                    let known: Vec<&str> = agents.keys().map(String::as_str).collect();
                    format!("known are {}", known.join(", "))
                },
            }),
        }
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        let agents = self.0.read().unwrap_or_else(PoisonError::into_inner);
        agents.keys().cloned().collect()
    }
}
