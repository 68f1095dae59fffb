//! The law of Responses where the vendor keeps nothing.

use super::{Faults, is_of, list, word};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(body: &Value, must_seal: bool, faults: &mut Faults) {
    faults.unless(body["store"] == false, || "it is to be stored".to_owned());
    let items = list(&body["input"]);
    faults.unless(!items.is_empty(), || "no items".to_owned());
    let mut ids = BTreeSet::new();
    // Open calls, and the kind of result each wants.
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        let kind = item.get("type").map_or("message", word);
        let next = items.get(at + 1);
        match kind {
            "message" => {
                let role = word(&item["role"]);
                faults.unless(
                    matches!(role, "system" | "developer" | "user" | "assistant"),
                    || format!("item {at}: role `{role}`"),
                );
                // The model may say something behind its calls; nobody else may before they have their results.
                faults.unless(open.is_empty() || role == "assistant", || {
                    format!("item {at}: {role} where results have to come")
                });
                // A refusal is told back whole.
                let is_whole = list(&item["content"])
                    .iter()
                    .any(|piece| piece["type"] == "refusal");
                faults.unless(is_whole || item.get("id").is_none(), || {
                    format!("item {at}: an id of its own")
                });
                content(at, item, faults);
            }
            "reasoning" => {
                faults.unless(!must_seal || item["encrypted_content"].is_string(), || {
                    format!("item {at}: a thought that is not sealed")
                });
                let follower = next.map_or("", |next| next.get("type").map_or("message", word));
                let is_models = match follower {
                    "message" => next.is_some_and(|next| next["role"] == "assistant"),
                    "reasoning" => true,
                    kind => kind.ends_with("_call") || kind.starts_with("mcp_"),
                };
                faults.unless(is_models, || format!("item {at}: a thought before `{follower}`"));
            }
            "function_call" | "custom_tool_call" | "shell_call" | "local_shell_call" | "apply_patch_call"
            | "computer_call" => {
                let id = word(&item["call_id"]);
                faults.unless((1..=64).contains(&id.len()), || format!("item {at}: id `{id}`"));
                faults.unless(ids.insert(id), || format!("item {at}: id `{id}` twice"));
                let wanted = match kind {
                    "function_call" => "function_call_output".to_owned(),
                    kind => format!("{kind}_output"),
                };
                open.insert(id, wanted);
                if kind == "function_call" {
                    let name = word(&item["name"]);
                    faults.unless(is_of(name, 1..=128, "_-"), || format!("item {at}: name `{name}`"));
                    faults.unless(item["arguments"].is_string(), || {
                        format!("item {at}: arguments no text")
                    });
                    faults.unless(item.get("id").is_none(), || {
                        format!("item {at}: an id of its own")
                    });
                }
            }
            kind if kind.ends_with("_output") => {
                let id = word(&item["call_id"]);
                let wanted = open.remove(id);
                faults.unless(wanted.as_deref() == Some(kind), || {
                    format!("item {at}: {kind} of `{id}`, {wanted:?} expected")
                });
            }
            kind => faults.unless(!kind.is_empty(), || format!("item {at}: no type")),
        }
    }
    faults.unless(open.is_empty(), || format!("no results of {open:?}"));
}

fn content(at: usize, item: &Value, faults: &mut Faults) {
    let role = word(&item["role"]);
    match &item["content"] {
        Value::String(text) => faults.unless(!text.is_empty(), || format!("item {at}: an empty text")),
        pieces => {
            faults.unless(!list(pieces).is_empty(), || format!("item {at}: no pieces"));
            for piece in list(pieces) {
                let kind = word(&piece["type"]);
                let is_right = match role {
                    "assistant" => matches!(kind, "output_text" | "refusal"),
                    _ => kind.starts_with("input_"),
                };
                faults.unless(is_right, || format!("item {at}: {kind} of {role}"));
                faults.unless(
                    !kind.ends_with("_text") || !word(&piece["text"]).is_empty(),
                    || format!("item {at}: an empty piece"),
                );
            }
        }
    }
}
