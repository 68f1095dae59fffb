//! The parts of each message, one by one: what may stand where, and in which form.

use super::{
    change::ChangeKind,
    draft::Chart,
    rules::{Arguments, Names, ReasoningRule},
};
use serde_json::json;
use std::borrow::Cow;
use stepwell_core::{Opaque, Part, Reasoning, Role, Text, ToolCall, ToolResult};

/// The name of a tool that was called without one.
const NAMELESS: &str = "unnamed_tool";

/// What becomes of a part.
enum Verdict {
    Keep,
    Drop(ChangeKind, Cow<'static, str>),
    Replace(Box<Part>, Vec<(ChangeKind, Cow<'static, str>)>),
}

fn replace(part: Part, kind: ChangeKind, detail: impl Into<Cow<'static, str>>) -> Verdict {
    Verdict::Replace(Box::new(part), vec![(kind, detail.into())])
}

fn drop(kind: ChangeKind, detail: &'static str) -> Verdict {
    Verdict::Drop(kind, Cow::Borrowed(detail))
}

fn made_by(token: Option<&Opaque>) -> Cow<'static, str> {
    token.map_or(Cow::Borrowed("without a token"), |token| {
        Cow::Owned(format!("of {}/{}", token.provider, token.model))
    })
}

impl Chart<'_, '_> {
    /// Puts every part right, or leaves it out.
    pub(super) fn clean_parts(&mut self) {
        for at in 0..self.drafts.len() {
            let draft = &self.drafts[at];
            let index = draft.index;
            if draft.parts.is_empty() {
                self.change(index, ChangeKind::EmptyDropped, "message");
                continue;
            }
            let verdicts: Vec<Verdict> = draft
                .parts
                .iter()
                .map(|part| self.verdict(draft.role, part, &draft.parts))
                .collect();
            if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Keep)) {
                continue;
            }
            let parts = self.drafts[at].take_parts();
            let mut kept = Vec::with_capacity(parts.len());
            for (part, verdict) in parts.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Keep => kept.push(part),
                    Verdict::Drop(kind, detail) => self.change(index, kind, detail),
                    Verdict::Replace(part, changes) => {
                        kept.push(*part);
                        for (kind, detail) in changes {
                            self.change(index, kind, detail);
                        }
                    }
                }
            }
            self.drafts[at].parts = Cow::Owned(kept);
        }
        self.drop_empty();
    }

    fn verdict(&self, role: Role, part: &Part, siblings: &[Part]) -> Verdict {
        let is_system = matches!(role, Role::System | Role::Developer);
        let is_assistant = role == Role::Assistant;
        match part {
            Part::Text(text) => self.text(text, is_assistant),
            Part::Media(_) if is_system => drop(ChangeKind::PartDropped, "media among words of the program"),
            Part::Media(_) if is_assistant && !self.rules.assistant_media => {
                drop(ChangeKind::PartDropped, "media in a turn of the model")
            }
            Part::Reasoning(_) | Part::ToolCall(_) if !is_assistant => drop(
                ChangeKind::PartDropped,
                "reasoning or a call outside the model's turns",
            ),
            Part::Reasoning(part) => {
                let is_own = self.is_own(part.opaque.as_ref());
                let is_kept = match self.rules.reasoning {
                    ReasoningRule::Drop => false,
                    ReasoningRule::Own => is_own,
                    ReasoningRule::Keep => is_own || !part.text.is_empty(),
                };
                if !is_kept {
                    return Verdict::Drop(ChangeKind::ReasoningDropped, made_by(part.opaque.as_ref()));
                }
                match &part.opaque {
                    Some(_)
                        if is_own && self.rules.one_reasoning_token && self.is_replaced(part, siblings) =>
                    {
                        drop(
                            ChangeKind::ReasoningDropped,
                            "a later one of its turn has the place of its token",
                        )
                    }
                    Some(token) if !is_own && self.rules.tokens => {
                        let mut bare = part.clone();
                        bare.opaque = None;
                        bare.is_redacted = false;
                        replace(
                            Part::Reasoning(bare),
                            ChangeKind::TokenDropped,
                            made_by(Some(token)),
                        )
                    }
                    _ => Verdict::Keep,
                }
            }
            Part::ToolCall(call) => self.call(call),
            Part::ToolResult(result) => {
                let server_call = if is_assistant {
                    server_call(siblings, &result.call_id)
                } else {
                    None
                };
                match server_call {
                    Some(call) if self.keeps_server_call(call) => Verdict::Keep,
                    Some(_) => self.result_as_text(result),
                    None if !self.rules.has_tools => self.result_as_text(result),
                    None => Verdict::Keep,
                }
            }
            Part::Unknown(part) if is_system => drop(
                ChangeKind::UnknownDropped,
                if part.provider == self.info.provider {
                    "among words of the program"
                } else {
                    "of another vendor"
                },
            ),
            Part::Unknown(part) if part.provider != self.info.provider => Verdict::Drop(
                ChangeKind::UnknownDropped,
                Cow::Owned(format!("of {}", part.provider)),
            ),
            Part::Unknown(_) if !self.rules.own_parts => {
                drop(ChangeKind::UnknownDropped, "this wire does not take it back")
            }
            // Data is for the program; it is not sent, and a newer kind of part is the encoder's to judge.
            _ => Verdict::Keep,
        }
    }

    /// Whether a later thought of the turn carries an own token too.
    fn is_replaced(&self, part: &Reasoning, siblings: &[Part]) -> bool {
        let own = siblings.iter().rev().find_map(|sibling| match sibling {
            Part::Reasoning(other) if self.is_own(other.opaque.as_ref()) => Some(other),
            _ => None,
        });
        own.is_some_and(|last| !std::ptr::eq(last, part))
    }

    fn text(&self, part: &Text, is_assistant: bool) -> Verdict {
        let is_own = self.is_own(part.opaque.as_ref());
        let is_empty = part.text.is_empty() || (!self.rules.blank_text && part.text.trim().is_empty());
        // Only the model's own words carry one.
        if is_empty && !(is_own && is_assistant && self.rules.empty_text) {
            return drop(ChangeKind::EmptyDropped, "text");
        }
        match &part.opaque {
            Some(token) if !is_own && self.rules.tokens => {
                let mut bare = part.clone();
                bare.opaque = None;
                replace(Part::Text(bare), ChangeKind::TokenDropped, made_by(Some(token)))
            }
            _ => Verdict::Keep,
        }
    }

    /// Whether a call that a vendor ran goes back as it came.
    fn keeps_server_call(&self, call: &ToolCall) -> bool {
        // It goes back as the block or item it was.
        let is_whole = call.opaque.as_ref().is_some_and(|token| token.value.is_object());
        self.rules.own_parts && is_whole && self.is_vendors(call.opaque.as_ref())
    }

    fn call(&self, call: &ToolCall) -> Verdict {
        if call.is_provider_executed {
            if self.keeps_server_call(call) {
                return Verdict::Keep;
            }
            return as_text(call, "run by a vendor");
        }
        if !self.rules.has_tools {
            return as_text(call, "this wire has no tools");
        }
        let mut mended = call.clone();
        let mut changes: Vec<(ChangeKind, Cow<'static, str>)> = Vec::new();
        if self.rules.arguments == Arguments::Object {
            if let Some(text) = mended.malformed.take() {
                // What the model wrote stays to be seen, so that it can mend it.
                mended.arguments = json!({ "INVALID_JSON": text });
                changes.push((ChangeKind::ArgumentsMended, "not JSON".into()));
            } else if !call.arguments.is_object() {
                mended.arguments = json!({ "value": call.arguments });
                changes.push((ChangeKind::ArgumentsMended, "not an object".into()));
            }
        }
        if let Some(name) = mended_name(&call.name, self.rules.names) {
            mended.name = name;
            changes.push((ChangeKind::NameChanged, "not of the wire's form".into()));
        }
        if self.rules.tokens
            && let Some(token) = call.opaque.as_ref().filter(|token| !self.is_own(Some(token)))
        {
            mended.opaque = None;
            changes.push((ChangeKind::TokenDropped, made_by(Some(token))));
        }
        if changes.is_empty() {
            return Verdict::Keep;
        }
        Verdict::Replace(Box::new(Part::ToolCall(mended)), changes)
    }

    fn result_as_text(&self, result: &ToolResult) -> Verdict {
        match result_text(result) {
            Some(part) => {
                let why = if self.rules.has_tools {
                    "of a call that a vendor ran"
                } else {
                    "this wire has no tools"
                };
                replace(part, ChangeKind::ResultAsText, why)
            }
            None => drop(ChangeKind::ResultDropped, "it has no words"),
        }
    }
}

/// The call of this id among the parts, where a vendor ran it.
pub(super) fn server_call<'p>(parts: &'p [Part], id: &str) -> Option<&'p ToolCall> {
    parts.iter().find_map(|part| match part {
        Part::ToolCall(call) if call.is_provider_executed && call.id == id => Some(call),
        _ => None,
    })
}

/// Another name for a tool, where its own is not of the form: what can be read stays readable.
fn mended_name(name: &str, form: Names) -> Option<String> {
    let is_known =
        |c: char, more: &str| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || more.contains(c);
    if name.trim().is_empty() {
        return Some(NAMELESS.to_owned());
    }
    let Names::Form { max, more } = form else {
        return None;
    };
    let is_formed = name.len() <= max && name.chars().all(|c| is_known(c, more));
    (!is_formed).then(|| {
        let signs = name.chars().map(|c| if is_known(c, more) { c } else { '_' });
        signs.take(max).collect()
    })
}

fn as_text(call: &ToolCall, why: &'static str) -> Verdict {
    let arguments = call
        .malformed
        .clone()
        .unwrap_or_else(|| call.arguments.to_string());
    let text = format!("[called the tool `{}` with {arguments}]", call.name);
    replace(Part::text(text, call.origin), ChangeKind::CallAsText, why)
}

/// A result as words, still labelled as what a tool said.
pub(super) fn result_text(result: &ToolResult) -> Option<Part> {
    let text = result.text();
    if text.trim().is_empty() {
        return None;
    }
    let what = if result.is_error { "error" } else { "result" };
    let mut part = Part::text(
        format!("[{what} of the tool `{}`] {text}", result.name),
        result.origin,
    );
    if let Part::Text(part) = &mut part {
        part.cache = result.cache;
    }
    Some(part)
}
