//! [`RunResult`]: how an agent's run ended.

use super::{AgentInput, AgentState};
use crate::{Outcome, Passages, Pause, Paused, Question, prompt::is_question};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::HashSet;
use stepwell_core::{Citation, Error, Hit, Message, Part, Result, Role, Spend, Usage, store::RunStatus};

/// How an agent's run ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunResult {
    /// The run; resume it by this id.
    pub run_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The whole conversation: what was given, then the model's messages and the tools' results.
    pub messages: Vec<Message>,
    /// The words of the answer; empty where there is none yet.
    pub answer: String,
    /// The answer's JSON, checked, where the agent was built with a shape for it; `None` where there is none yet.
    pub value: Option<Value>,
    /// What the answer rests on, as the model cited it.
    pub citations: Vec<Citation>,
    /// Tokens of all model calls.
    pub usage: Usage,
    /// What was spent.
    pub spent: Spend,
    /// Steps of the graph.
    pub steps: u32,
    /// Why it paused, where it did.
    pub pause: Option<Pause>,
    /// What it waits for: calls that need an approval, questions of tools. Answer them with [`super::AgentRun::answer`].
    pub questions: Vec<Question>,
    /// Why it stopped before its end.
    pub error: Option<Error>,
    pub(super) paused: Option<Paused<AgentState>>,
    passages: Option<Passages>,
    memory: Map<String, Value>,
}

impl RunResult {
    /// One of a run that did not begin.
    pub(super) fn refused(error: Error) -> Self {
        Self {
            run_id: String::new(),
            status: RunStatus::Failed,
            messages: Vec::new(),
            answer: String::new(),
            value: None,
            citations: Vec::new(),
            usage: Usage::default(),
            spent: Spend::default(),
            steps: 0,
            pause: None,
            questions: Vec::new(),
            error: Some(error),
            paused: None,
            passages: None,
            memory: Map::new(),
        }
    }

    /// The message that answers; `None` where the run stopped before.
    pub fn answer_message(&self) -> Option<&Message> {
        answer_of(&self.messages)
    }

    /// The answer as a type, such as the one that [`crate::AgentBuilder::output`] was given.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the agent was built without a shape for its answer, when there is no answer, and when
    /// it is none of this type.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T> {
        let Some(value) = &self.value else {
            return Err(Error::invalid(
                "output",
                "there is no answer in a shape: build the agent with `.output::<T>()`, and look at the run's error",
            ));
        };
        T::deserialize(value).map_err(|_| {
            Error::invalid(
                "output",
                "the answer is none of this type: ask for the one the agent was built with",
            )
        })
    }

    /// What was found for this turn, before the question and by searches, in order, each chunk once: for citing exactly.
    pub fn hits(&self) -> Vec<Hit> {
        let turn = self.messages.iter().rposition(is_question).map_or(0, |at| at + 1);
        let before = self.passages.iter().flat_map(|passages| passages.hits.clone());
        let mut seen = HashSet::new();
        let searched = self.messages[turn..]
            .iter()
            .flat_map(|message| &message.parts)
            .filter_map(|part| match part {
                Part::ToolResult(result) => Some(&result.parts),
                _ => None,
            })
            .flatten()
            .filter_map(|part| match part {
                Part::Data(data) if data.name == "hits" => Vec::<Hit>::deserialize(&data.value).ok(),
                _ => None,
            })
            .flatten();
        before
            .chain(searched)
            .filter(|hit| seen.insert(hit.chunk.id.clone()))
            .collect()
    }

    /// The conversation with this said next, to run an agent on: with what context policies kept, so that a summary is
    /// not made again.
    pub fn into_input(self, next: impl Into<Message>) -> AgentInput {
        let mut messages = self.messages;
        messages.push(next.into());
        AgentInput {
            messages,
            memory: self.memory,
        }
    }
}

fn answer_of(messages: &[Message]) -> Option<&Message> {
    messages
        .last()
        .filter(|message| message.role == Role::Assistant && message.tool_calls().next().is_none())
}

impl From<Outcome<AgentState>> for RunResult {
    fn from(mut outcome: Outcome<AgentState>) -> Self {
        let paused = outcome.take_paused();
        let AgentState {
            messages,
            passages,
            memory,
            output,
            ..
        } = outcome.state;
        let messages = messages.into_vec();
        let answer = answer_of(&messages);
        Self {
            answer: answer.map(Message::text).unwrap_or_default(),
            value: output.filter(|_| answer.is_some()),
            citations: answer.into_iter().flat_map(Message::citations).cloned().collect(),
            run_id: outcome.run_id,
            status: outcome.status,
            messages,
            usage: outcome.usage,
            spent: outcome.spent,
            steps: outcome.steps,
            pause: outcome.pause,
            questions: outcome.questions,
            error: outcome.error,
            paused,
            passages,
            memory,
        }
    }
}
