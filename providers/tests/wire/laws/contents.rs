//! The law of Gemini's contents.

use super::{Faults, list, word};
use serde_json::Value;

/// What a part can be; it is one of them.
const DATA: [&str; 8] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
];

pub(super) fn check(body: &Value, must_sign: bool, faults: &mut Faults) {
    let system = list(&body["systemInstruction"]["parts"]);
    faults.unless(system.iter().all(|part| !word(&part["text"]).is_empty()), || {
        "an empty system instruction".to_owned()
    });
    let contents = list(&body["contents"]);
    faults.unless(!contents.is_empty(), || "no contents".to_owned());
    faults.unless(
        contents.first().is_none_or(|first| first["role"] == "user"),
        || "the model begins".to_owned(),
    );
    for (at, content) in contents.iter().enumerate() {
        let role = word(&content["role"]);
        faults.unless(matches!(role, "user" | "model"), || {
            format!("content {at}: role `{role}`")
        });
        let parts = list(&content["parts"]);
        faults.unless(!parts.is_empty(), || format!("content {at}: no parts"));
        for part in parts {
            self::part(at, role, part, faults);
        }
        let before = at.checked_sub(1).map(|before| &contents[before]);
        let calls = of_kind(Some(content), "functionCall");
        let answers = of_kind(Some(content), "functionResponse");
        if !calls.is_empty() {
            faults.unless(role == "model", || format!("content {at}: calls of {role}"));
            faults.unless(before.is_some_and(|before| before["role"] == "user"), || {
                format!("content {at}: calls that come after no user and no results")
            });
            let next = of_kind(contents.get(at + 1), "functionResponse");
            let names = |list: &[&Value]| list.iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
            let ids = |list: &[&Value]| list.iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
            faults.unless(names(&calls) == names(&next) && ids(&calls) == ids(&next), || {
                format!(
                    "content {at}: calls {:?}, results {:?}",
                    names(&calls),
                    names(&next)
                )
            });
            let first = parts.iter().find(|part| part.get("functionCall").is_some());
            let is_signed = first.is_some_and(|first| first["thoughtSignature"].is_string());
            faults.unless(!must_sign || is_signed, || {
                format!("content {at}: the first call is not signed")
            });
        }
        if !answers.is_empty() {
            faults.unless(!of_kind(before, "functionCall").is_empty(), || {
                format!("content {at}: results of no calls before")
            });
        }
    }
}

fn of_kind<'b>(content: Option<&'b Value>, kind: &str) -> Vec<&'b Value> {
    let parts = content.map_or(&[][..], |content| list(&content["parts"]));
    parts.iter().filter_map(|part| part.get(kind)).collect()
}

fn part(at: usize, role: &str, part: &Value, faults: &mut Faults) {
    let kinds: Vec<&&str> = DATA.iter().filter(|kind| part.get(**kind).is_some()).collect();
    faults.unless(kinds.len() <= 1, || format!("content {at}: a part of {kinds:?}"));
    let fields = part.as_object().map_or(0, serde_json::Map::len);
    faults.unless(fields > 0, || format!("content {at}: an empty part"));
    let signature = &part["thoughtSignature"];
    faults.unless(signature.is_null() || !word(signature).is_empty(), || {
        format!("content {at}: an empty signature")
    });
    if part.get("text").is_some() {
        let is_signed = signature.is_string();
        faults.unless(is_signed || !word(&part["text"]).is_empty(), || {
            format!("content {at}: an empty text")
        });
        faults.unless(role == "model" || part["thought"] != true, || {
            format!("content {at}: a thought of the user")
        });
    }
    if let Some(call) = part.get("functionCall") {
        faults.unless(!word(&call["name"]).is_empty(), || {
            format!("content {at}: a call of no tool")
        });
        faults.unless(call["args"].is_object(), || {
            format!("content {at}: args no object")
        });
    }
    if let Some(answer) = part.get("functionResponse") {
        faults.unless(answer["response"].is_object(), || {
            format!("content {at}: response no object")
        });
        faults.unless(role == "user", || format!("content {at}: a result of the model"));
    }
}
