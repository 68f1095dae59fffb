//! The law of Anthropic Messages.

use super::{Faults, has_words, is_of, list, word};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn check(body: &Value, may_prefill: bool, faults: &mut Faults) {
    for block in list(&body["system"]) {
        faults.unless(block["type"] == "text" && has_words(&block["text"]), || {
            "a system block without words".to_owned()
        });
    }
    let turns = list(&body["messages"]);
    faults.unless(!turns.is_empty(), || "no turns".to_owned());
    let mut ids = BTreeSet::new();
    for (at, turn) in turns.iter().enumerate() {
        let role = word(&turn["role"]);
        faults.unless(matches!(role, "user" | "assistant"), || {
            format!("turn {at}: role {role}")
        });
        faults.unless(at == 0 || turns[at - 1]["role"] != turn["role"], || {
            format!("turn {at}: {role} twice")
        });
        let blocks = list(&turn["content"]);
        faults.unless(!blocks.is_empty(), || format!("turn {at}: it is empty"));
        if role == "assistant" {
            assistant(at, blocks, at + 1 == turns.len(), &mut ids, faults);
            let called = of_kind(blocks, "tool_use", "id");
            let answered = turns.get(at + 1).map(|next| list(&next["content"]));
            let answered = of_kind(answered.unwrap_or_default(), "tool_result", "tool_use_id");
            faults.unless(sorted(&called) == sorted(&answered), || {
                format!("turn {at}: calls {called:?}, results {answered:?}")
            });
        } else {
            let before = at.checked_sub(1).map(|before| list(&turns[before]["content"]));
            user(at, blocks, before.unwrap_or_default(), faults);
        }
    }
    if body["thinking"]["type"] == "enabled" {
        thought_first(turns, faults);
    }
    let Some(last) = turns.last().filter(|turn| turn["role"] == "assistant") else {
        points(body, faults);
        return;
    };
    let end = list(&last["content"]).last().unwrap_or(&Value::Null);
    // A paused turn is resent as it is; everything else is a prefill.
    let is_pause = !matches!(
        word(&end["type"]),
        "text" | "tool_use" | "thinking" | "redacted_thinking"
    );
    faults.unless(may_prefill || is_pause, || {
        "the last turn is the model's".to_owned()
    });
    let text = word(&end["text"]);
    faults.unless(text == text.trim_end(), || {
        "the last words end with blanks".to_owned()
    });
    points(body, faults);
}

/// With a thinking budget, the turn that waits for its results has a thought, and begins with one.
fn thought_first(turns: &[Value], faults: &mut Faults) {
    let is_result = |block: &Value| block["type"] == "tool_result";
    let asked = turns
        .iter()
        .rposition(|turn| turn["role"] == "user" && !list(&turn["content"]).iter().all(is_result));
    let looped = &turns[asked.map_or(0, |asked| asked + 1)..];
    let waits = looped.last().is_some_and(|last| last["role"] == "user");
    let first = looped.first().and_then(|turn| list(&turn["content"]).first());
    let is_thought = first.is_some_and(|block| word(&block["type"]).ends_with("thinking"));
    faults.unless(!waits || is_thought, || {
        "a waiting turn that does not begin with a thought".to_owned()
    });
}

/// No more places to cache than four.
fn points(body: &Value, faults: &mut Faults) {
    let count = body.to_string().matches("\"cache_control\":{").count();
    faults.unless(count <= 4, || format!("{count} cache points"));
}

fn of_kind<'b>(blocks: &'b [Value], kind: &str, key: &str) -> Vec<&'b str> {
    let found = blocks.iter().filter(|block| block["type"] == kind);
    found.map(|block| word(&block[key])).collect()
}

fn sorted<'b>(ids: &[&'b str]) -> Vec<&'b str> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

fn assistant(at: usize, blocks: &[Value], is_last: bool, ids: &mut BTreeSet<String>, faults: &mut Faults) {
    for (place, block) in blocks.iter().enumerate() {
        let here = || format!("turn {at}, block {place}");
        match word(&block["type"]) {
            "text" => faults.unless(has_words(&block["text"]), || format!("{}: no words", here())),
            "thinking" => faults.unless(
                block["thinking"].is_string() && !word(&block["signature"]).is_empty(),
                || format!("{}: a thought without its signature", here()),
            ),
            "redacted_thinking" => faults.unless(!word(&block["data"]).is_empty(), || {
                format!("{}: a redacted thought without its data", here())
            }),
            "tool_use" => {
                let id = word(&block["id"]);
                faults.unless(is_of(id, 1..=256, "_-"), || format!("{}: id `{id}`", here()));
                faults.unless(ids.insert(id.to_owned()), || {
                    format!("{}: id `{id}` twice", here())
                });
                faults.unless(block["input"].is_object(), || {
                    format!("{}: input no object", here())
                });
                let name = word(&block["name"]);
                faults.unless(is_of(name, 1..=128, "_-"), || {
                    format!("{}: name `{name}`", here())
                });
            }
            "server_tool_use" | "mcp_tool_use" => {
                let id = word(&block["id"]);
                let has_result = blocks[place..].iter().any(|other| {
                    word(&other["type"]).ends_with("_tool_result") && other["tool_use_id"] == id
                });
                // Without it only where the vendor paused, at the very end.
                let is_servers = |other: &Value| {
                    let kind = word(&other["type"]);
                    kind.ends_with("_tool_result") || matches!(kind, "server_tool_use" | "mcp_tool_use")
                };
                let is_paused = is_last && blocks[place..].iter().all(is_servers);
                faults.unless(has_result || is_paused, || {
                    format!("{}: no result of `{id}`", here())
                });
                faults.unless(block["input"].is_object(), || {
                    format!("{}: input no object", here())
                });
            }
            "tool_result" | "image" | "document" => {
                faults.unless(false, || format!("{}: {} of the model", here(), block["type"]));
            }
            kind if kind.ends_with("_tool_result") => {
                let has_call = blocks[..place]
                    .iter()
                    .any(|other| other["id"] == block["tool_use_id"] && other["id"].is_string());
                faults.unless(has_call, || format!("{}: {kind} without its call", here()));
            }
            kind => faults.unless(!kind.is_empty(), || format!("{}: no type", here())),
        }
    }
    let end = blocks.last().map_or("", |block| word(&block["type"]));
    faults.unless(!end.ends_with("thinking"), || {
        format!("turn {at}: it ends with a thought")
    });
}

fn user(at: usize, blocks: &[Value], before: &[Value], faults: &mut Faults) {
    let called = of_kind(before, "tool_use", "id");
    let mut has_words_before = false;
    let mut seen = BTreeSet::new();
    for (place, block) in blocks.iter().enumerate() {
        let here = || format!("turn {at}, block {place}");
        match word(&block["type"]) {
            "tool_result" => {
                let id = word(&block["tool_use_id"]);
                faults.unless(!has_words_before, || {
                    format!("{}: a result behind other blocks", here())
                });
                faults.unless(called.contains(&id), || {
                    format!("{}: a result of no call before", here())
                });
                faults.unless(seen.insert(id), || format!("{}: a second result", here()));
                for inner in list(&block["content"]) {
                    let is_text = inner["type"] == "text";
                    faults.unless(!is_text || !word(&inner["text"]).is_empty(), || {
                        format!("{}: an empty text in it", here())
                    });
                }
            }
            kind => {
                has_words_before = true;
                faults.unless(kind != "text" || has_words(&block["text"]), || {
                    format!("{}: no words", here())
                });
                let is_models = matches!(
                    kind,
                    "thinking" | "redacted_thinking" | "tool_use" | "server_tool_use"
                );
                faults.unless(!is_models, || format!("{}: {kind} of the user", here()));
            }
        }
    }
}
