//! [`Prompt`]: what a state holds for the model beside its messages; [`Kept`]: what a model node gives back to it.

use crate::Passages;
use serde_json::{Map, Value};
use stepwell_core::{Message, Part, Role};

/// What a state holds for the model beside its messages.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Prompt<'a> {
    /// Instructions of this run, in place of the node's own.
    pub instructions: Option<&'a str>,
    /// What was found for the question; it is put before it.
    pub passages: Option<&'a Passages>,
    /// What context policies keep from turn to turn, by policy; `None` where the state has no place for it.
    pub memory: Option<&'a Map<String, Value>>,
}

/// What a model node found beside its answer. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// What context policies keep from turn to turn, by policy.
    pub memory: Option<Map<String, Value>>,
    /// The answer in the shape that was asked for, checked.
    pub output: Option<Value>,
}

/// Whether a person says it: complaints of the program about an answer stand as turns of the user too.
pub(crate) fn is_question(message: &Message) -> bool {
    let is_programs = |part: &Part| part.origin() == stepwell_core::Origin::System;
    message.role == Role::User && (message.parts.is_empty() || !message.parts.iter().all(is_programs))
}
