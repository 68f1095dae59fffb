//! [`Policy`]: may this call run? And [`Limits`]: how much may come in.

use crate::{Effect, Origin, Risk, Scope};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt::Debug, time::Duration};

/// What a policy is asked about: one tool call, before it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PolicyRequest<'a> {
    /// Whose run.
    pub scope: &'a Scope,
    /// The run.
    pub run_id: &'a str,
    /// The call's id.
    pub call_id: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// The exact arguments, already valid against the tool's schema.
    pub arguments: &'a Value,
    /// What repeating the call would do.
    pub effect: Effect,
    /// What the call may touch.
    pub risk: Risk,
    /// Where the words came from that the model had read: a call made after reading a document may be the document's wish.
    pub origins: &'a [Origin],
}

impl<'a> PolicyRequest<'a> {
    /// A question about one call.
    #[allow(clippy::too_many_arguments)] // every fact is required; a builder would allow a missing one
    pub fn new(
        scope: &'a Scope,
        run_id: &'a str,
        call_id: &'a str,
        tool: &'a str,
        arguments: &'a Value,
        effect: Effect,
        risk: Risk,
        origins: &'a [Origin],
    ) -> Self {
        Self {
            scope,
            run_id,
            call_id,
            tool,
            arguments,
            effect,
            risk,
            origins,
        }
    }
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decision {
    /// The call runs.
    Allow,
    /// A person has to agree. Where nobody can be asked the call does not run, and the model is told.
    Ask {
        /// Shown to that person.
        reason: String,
    },
    /// The call does not run; the model is told.
    Deny {
        /// Told to the model.
        reason: String,
    },
}

/// Decides on tool calls. Asked by the tools node only, before every call.
#[async_trait]
pub trait Policy: Send + Sync + Debug {
    /// May this call run?
    async fn decide(&self, request: PolicyRequest<'_>) -> Decision;
}

/// Allows every call: for programs whose tools only read.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

#[async_trait]
impl Policy for AllowAll {
    async fn decide(&self, _: PolicyRequest<'_>) -> Decision {
        Decision::Allow
    }
}

/// The default: reading runs, writing and sending asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskBeforeEffects;

#[async_trait]
impl Policy for AskBeforeEffects {
    async fn decide(&self, request: PolicyRequest<'_>) -> Decision {
        match request.risk {
            Risk::Read => Decision::Allow,
            Risk::Write => Decision::Ask {
                reason: format!("`{}` changes something", request.tool),
            },
            Risk::Egress => Decision::Ask {
                reason: format!("`{}` sends something out", request.tool),
            },
        }
    }
}

/// Bounds on what comes from outside, with defaults that a program rarely meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Steps of one graph run; 100.
    pub steps: u32,
    /// Tool calls of one answer; 64.
    pub tool_calls: usize,
    /// Bytes of one tool result that the model gets to read; 256 KiB.
    pub tool_output_bytes: usize,
    /// Time of one tool call where the tool names none; 60 s.
    pub tool_timeout: Duration,
    /// Bytes of one model answer; 16 MiB.
    pub answer_bytes: usize,
    /// Times a model may mend one call; 3.
    pub tool_retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 100,
            tool_calls: 64,
            tool_output_bytes: 256 << 10,
            tool_timeout: Duration::from_mins(1),
            answer_bytes: 16 << 20,
            tool_retries: 3,
        }
    }
}
