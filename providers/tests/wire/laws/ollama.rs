//! The law of Ollama's own wire.

use super::{Faults, list, word};
use serde_json::Value;

pub(super) fn check(body: &Value, faults: &mut Faults) {
    faults.unless(body["options"]["num_ctx"].is_u64(), || "no num_ctx".to_owned());
    let turns = list(&body["messages"]);
    faults.unless(!turns.is_empty(), || "no turns".to_owned());
    // Tools whose results have to come, in order.
    let mut open: Vec<&str> = Vec::new();
    for (at, turn) in turns.iter().enumerate() {
        let role = word(&turn["role"]);
        faults.unless(open.is_empty() || role == "tool", || {
            format!("turn {at}: {role} where results of {open:?} have to come")
        });
        let calls = list(&turn["tool_calls"]);
        let says = turn["content"].is_string()
            && (!word(&turn["content"]).is_empty()
                || !calls.is_empty()
                || !list(&turn["images"]).is_empty()
                || !word(&turn["thinking"]).is_empty()
                || role == "tool");
        faults.unless(says, || format!("turn {at}: {role} says nothing"));
        for image in list(&turn["images"]) {
            faults.unless(!word(image).is_empty(), || {
                format!("turn {at}: an image of no bytes")
            });
        }
        match role {
            "system" | "user" => {
                faults.unless(calls.is_empty() && turn.get("thinking").is_none(), || {
                    format!("turn {at}: {role} calls or thinks")
                });
            }
            "assistant" => {
                for call in calls {
                    let function = &call["function"];
                    faults.unless(!word(&function["name"]).is_empty(), || {
                        format!("turn {at}: a call of no tool")
                    });
                    faults.unless(function["arguments"].is_object(), || {
                        format!("turn {at}: arguments no object")
                    });
                    open.push(word(&function["name"]));
                }
            }
            "tool" => {
                let name = word(&turn["tool_name"]);
                let is_next = open.first() == Some(&name);
                faults.unless(is_next, || {
                    format!("turn {at}: a result of `{name}`, {open:?} are open")
                });
                if !open.is_empty() {
                    open.remove(0);
                }
            }
            other => faults.unless(false, || format!("turn {at}: role `{other}`")),
        }
    }
    faults.unless(open.is_empty(), || format!("no results of {open:?}"));
}
