//! [`Agent`]: a model and its tools, as a graph of two nodes with a friendly builder.
//!
//! ```text
//! AgentInput ─▶ AgentState ─▶ (passages ─▶) model ⇄ tools ─▶ Outcome ─▶ RunResult
//! ```

mod bounds;
mod builder;
mod input;
mod instructions;
mod model;
mod result;
mod run;
mod state;
mod tool;

pub use bounds::Bounds;
pub use builder::AgentBuilder;
pub use input::AgentInput;
pub use model::{AgentModel, AgentModels};
pub use result::RunResult;
pub use run::AgentRun;
pub use state::{AgentState, AgentUpdate};
pub use tool::{AgentNode, AgentTool};

use crate::{Graph, RunStream, run::RunOptions};
use instructions::Template;
use serde_json::{Map, Value};
use std::{
    fmt::{self, Debug},
    sync::Arc,
};
use stepwell_core::{ChatModel, Error, Message, Result};

/// A model and its tools, in a loop until the model answers. Clones share the graph.
#[derive(Clone)]
pub struct Agent {
    graph: Graph<AgentState>,
    options: RunOptions,
    template: Option<Template>,
    variables: Arc<Map<String, Value>>,
    has_shape: bool,
    outlook: Arc<bounds::Outlook>,
    /// What the model says may not be the answer: hooks may change it, or its shape be refused.
    holds_answers: bool,
}

impl Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("graph", &self.graph)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Begins an agent with this model.
    #[allow(clippy::new_ret_no_self)] // an agent is always built; `Agent::new(model).tool(..).build()` reads as one sentence
    pub fn new(model: Arc<dyn ChatModel>) -> AgentBuilder {
        AgentBuilder::new(model)
    }

    /// Runs it on words or a conversation. `.await` it for the result, or watch it with [`AgentRun::stream`].
    pub fn run(&self, input: impl Into<AgentInput>) -> AgentRun {
        let run = self
            .graph
            .run(AgentState::default())
            .with_options(self.options.clone());
        AgentRun::new(self.clone(), run, Some(input.into()))
    }

    /// Runs it and gives what happens, as it happens.
    pub fn stream(&self, input: impl Into<AgentInput>) -> RunStream<RunResult> {
        self.run(input).stream()
    }

    /// Goes on with a run from the agent's store.
    pub fn resume(&self, run_id: impl Into<String>) -> AgentRun {
        let run = self.graph.resume(run_id).with_options(self.options.clone());
        AgentRun::new(self.clone(), run, None)
    }

    /// Goes on with a run that paused, with a store or without one; the same run where it did not.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the run is not paused.
    pub fn go_on(&self, paused: RunResult) -> Result<AgentRun> {
        let Some(paused) = paused.paused else {
            return Err(Error::invalid(
                "run",
                "it is not paused: there is nothing to go on with",
            ));
        };
        let mut run = paused.resume();
        // This agent's own: its tools may have been made anew since.
        run.graph = self.graph.clone();
        Ok(AgentRun::new(self.clone(), run, None))
    }

    /// The state a run of its graph begins with: the conversation, and the instructions where a template makes them.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where there is nothing to answer, for variables without a template and for one that the
    /// template uses and nobody gives; [`Error::LimitExceeded`] for a template that works or writes too much.
    pub fn begin(
        &self,
        input: impl Into<AgentInput>,
        variables: Option<Map<String, Value>>,
    ) -> Result<AgentState> {
        let AgentInput { messages, memory } = input.into();
        if !has_words(&messages) {
            return Err(Error::invalid(
                "messages",
                "there is nothing to answer: give a question or a message",
            ));
        }
        let instructions = match (&self.template, variables) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::invalid(
                    "variables",
                    "the instructions of this agent are no template: build it with `.template(..)`",
                ));
            }
            (Some(template), None) => Some(template.render(&self.variables)?),
            (Some(template), Some(given)) => {
                let mut variables = (*self.variables).clone();
                variables.extend(given);
                Some(template.render(&variables)?)
            }
        };
        Ok(AgentState {
            messages: messages.into(),
            instructions,
            memory,
            ..AgentState::default()
        })
    }

    /// Its graph.
    pub fn graph(&self) -> &Graph<AgentState> {
        &self.graph
    }
}

/// Whether the last message says anything.
fn has_words(messages: &[Message]) -> bool {
    messages.last().is_some_and(|message| {
        message
            .parts
            .iter()
            .any(|part| part.as_text().is_none_or(|text| !text.trim().is_empty()))
    })
}
