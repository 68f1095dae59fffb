//! The law of Chat Completions, and of the servers that are stricter.

use super::{Faults, is_of, list, word};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a server asks beyond the usual.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a fact about a server, and none excludes another
pub(crate) struct Calls {
    /// There are tools.
    pub(crate) has_tools: bool,
    /// Ids of calls are nine letters and digits.
    pub(crate) nine: bool,
    /// A user may speak directly after results.
    pub(crate) user_after_results: bool,
    /// One system message, the first of all.
    pub(crate) one_system: bool,
    /// User and assistant by turns, the user first.
    pub(crate) alternates: bool,
    /// Whether the last turn may be the model's, and the flag it wants then.
    pub(crate) assistant_last: Option<&'static str>,
    /// Every turn of the model carries its reasoning, if only an empty one.
    pub(crate) must_think: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            has_tools: true,
            nine: false,
            user_after_results: true,
            one_system: false,
            alternates: false,
            assistant_last: Some(""),
            must_think: false,
        }
    }
}

pub(super) fn check(body: &Value, rules: &Calls, faults: &mut Faults) {
    let turns = list(&body["messages"]);
    faults.unless(!turns.is_empty(), || "no turns".to_owned());
    let mut ids = BTreeSet::new();
    // Calls that wait for their results.
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (at, turn) in turns.iter().enumerate() {
        let role = word(&turn["role"]);
        let before = at
            .checked_sub(1)
            .map_or("", |before| word(&turns[before]["role"]));
        faults.unless(open.is_empty() || role == "tool", || {
            format!("turn {at}: {role} where results of {open:?} have to come")
        });
        content(at, turn, faults);
        match role {
            "system" | "developer" => {
                faults.unless(!rules.one_system || at == 0, || {
                    format!("turn {at}: a late system message")
                });
            }
            "user" => {
                faults.unless(rules.user_after_results || before != "tool", || {
                    format!("turn {at}: a user after results")
                });
                faults.unless(!rules.alternates || before != "user", || {
                    format!("turn {at}: user twice")
                });
            }
            "assistant" => {
                faults.unless(!rules.alternates || before != "assistant", || {
                    format!("turn {at}: assistant twice")
                });
                let is_first = matches!(before, "" | "system" | "developer");
                faults.unless(!rules.alternates || !is_first, || {
                    format!("turn {at}: the model begins")
                });
                faults.unless(!rules.must_think || turn["reasoning_content"].is_string(), || {
                    format!("turn {at}: no reasoning")
                });
                calls(at, turn, rules, &mut ids, &mut open, faults);
            }
            "tool" => {
                let id = word(&turn["tool_call_id"]);
                faults.unless(open.remove(id), || {
                    format!("turn {at}: a result of `{id}`, which is not open")
                });
                faults.unless(rules.has_tools, || format!("turn {at}: a result without tools"));
                faults.unless(turn.get("content").is_some(), || format!("turn {at}: no content"));
            }
            other => faults.unless(false, || format!("turn {at}: role `{other}`")),
        }
    }
    faults.unless(open.is_empty(), || format!("no results of {open:?}"));
    if let Some(last) = turns.last().filter(|turn| turn["role"] == "assistant") {
        let is_right = match rules.assistant_last {
            None => false,
            Some("") => true,
            Some(flag) => last[flag] == true,
        };
        faults.unless(is_right, || "the last turn is the model's".to_owned());
    }
}

/// What is said is not nothing.
fn content(at: usize, turn: &Value, faults: &mut Faults) {
    let role = word(&turn["role"]);
    match &turn["content"] {
        Value::Null => faults.unless(
            role == "assistant" && !list(&turn["tool_calls"]).is_empty(),
            || format!("turn {at}: {role} says nothing"),
        ),
        Value::String(text) => faults.unless(!text.is_empty() || role == "tool", || {
            format!("turn {at}: {role} says an empty text")
        }),
        pieces => {
            faults.unless(!list(pieces).is_empty(), || format!("turn {at}: no pieces"));
            for piece in list(pieces) {
                let kind = word(&piece["type"]);
                let is_empty = kind == "text" && word(&piece["text"]).is_empty();
                faults.unless(!kind.is_empty() && !is_empty, || {
                    format!("turn {at}: an empty piece")
                });
                let is_models = matches!(kind, "text" | "thinking" | "refusal");
                faults.unless(role != "assistant" || is_models, || {
                    format!("turn {at}: {kind} of the model")
                });
            }
        }
    }
}

fn calls<'b>(
    at: usize,
    turn: &'b Value,
    rules: &Calls,
    ids: &mut BTreeSet<&'b str>,
    open: &mut BTreeSet<&'b str>,
    faults: &mut Faults,
) {
    if let Some(calls) = turn.get("tool_calls") {
        faults.unless(!list(calls).is_empty(), || {
            format!("turn {at}: an empty list of calls")
        });
        faults.unless(rules.has_tools, || format!("turn {at}: calls without tools"));
    }
    for call in list(&turn["tool_calls"]) {
        let id = word(&call["id"]);
        let is_formed = if rules.nine {
            is_of(id, 9..=9, "")
        } else {
            (1..=64).contains(&id.len())
        };
        faults.unless(is_formed, || format!("turn {at}: id `{id}`"));
        faults.unless(ids.insert(id), || format!("turn {at}: id `{id}` twice"));
        open.insert(id);
        let function = &call["function"];
        faults.unless(call["type"] == "function", || {
            format!("turn {at}: a call of no type")
        });
        let name = word(&function["name"]);
        faults.unless(is_of(name, 1..=128, "_-"), || format!("turn {at}: name `{name}`"));
        faults.unless(function["arguments"].is_string(), || {
            format!("turn {at}: arguments no text")
        });
    }
}
