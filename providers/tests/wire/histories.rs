//! Histories that no program should have: cut wherever a crash may cut one, and made of nonsense.

use crate::frame::random::Random;
use serde_json::json;
use stepwell_core::{MediaSource, Message, Opaque, Origin, Part, Role, ToolCall};

/// The beginnings of a history: up to each message, and up to each part in it, its last words cut in the middle.
pub(crate) fn cuts(messages: &[Message]) -> Vec<Vec<Message>> {
    let mut found = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        for parts in 0..=message.parts.len() {
            let mut cut = messages[..=at].to_vec();
            cut[at].parts.truncate(parts);
            if let Some(Part::Text(text)) = cut[at].parts.last_mut()
                && parts < message.parts.len()
            {
                let middle = text.text.floor_char_boundary(text.text.len() / 2);
                text.text.truncate(middle);
            }
            found.push(cut);
        }
    }
    found
}

/// Turns and parts in any order, each of which some program has made once.
pub(crate) fn nonsense(random: &mut Random, makers: &[(String, String)]) -> Vec<Message> {
    let count = random.below(9);
    (0..count)
        .map(|_| {
            let roles = [
                Role::System,
                Role::Developer,
                Role::User,
                Role::Assistant,
                Role::Tool,
            ];
            // Turns of people and models are what histories mostly are.
            let role = roles[[2, 3, 3, 4, 2, 0, 1, 3, 4][random.below(9)]];
            let parts = (0..random.below(5))
                .map(|_| part(random, makers))
                .collect::<Vec<_>>();
            let mut message = Message::new(role, parts);
            if random.below(6) == 0 {
                message.name = Some(["ann", "no name / at all", ""][random.below(3)].to_owned());
            }
            message
        })
        .collect()
}

fn token(random: &mut Random, makers: &[(String, String)]) -> Option<Opaque> {
    if random.below(2) == 0 {
        return None;
    }
    let (provider, model) = makers[random.below(makers.len())].clone();
    let seal = format!(
        "sealed-{}-{provider}-0123456789abcdef0123456789",
        random.below(1000)
    );
    // In the form that each vendor gives.
    let value = match provider.as_str() {
        "openai" | "xai" => {
            json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal })
        }
        "openrouter" => json!([{ "type": "reasoning.encrypted", "data": seal }]),
        "gemini-openai" => json!({ "google": { "thought_signature": seal } }),
        _ => json!(seal),
    };
    Some(Opaque {
        provider,
        model,
        value,
    })
}

fn words(random: &mut Random) -> String {
    let texts = [
        "",
        " ",
        "\n\n",
        "hello",
        "trailing blanks \n",
        "mañana 日本語 🦀",
        "{\"a\":1}",
    ];
    texts[random.below(texts.len())].to_owned()
}

fn origin(random: &mut Random) -> Origin {
    [
        Origin::User,
        Origin::Model,
        Origin::Tool,
        Origin::Import,
        Origin::System,
    ][random.below(5)]
}

fn call(random: &mut Random, makers: &[(String, String)]) -> ToolCall {
    let ids = [
        "a",
        "a",
        "b",
        "call_1",
        "",
        "with spaces!",
        "AbCdEfGh1",
        "toolu_01",
        &"x".repeat(300),
    ];
    let names = [
        "search",
        "search",
        "look_up",
        "functions.search",
        "",
        "web search",
        &"n".repeat(200),
    ];
    let (id, name) = (ids[random.below(ids.len())], names[random.below(names.len())]);
    let mut call = match random.below(6) {
        0 => ToolCall::from_text(id, name, "{\"q\": \"cut he"),
        1 => ToolCall::new(id, name, json!("a string")),
        2 => ToolCall::new(id, name, json!(null)),
        3 => ToolCall::new(id, name, json!([1, 2])),
        _ => ToolCall::new(id, name, json!({ "q": words(random) })),
    };
    call.is_provider_executed = random.below(8) == 0;
    // What carries a token that says another kind of call is not of this test: its maker made it so.
    call.opaque = token(random, makers).filter(|token| token.value.is_string());
    call
}

fn part(random: &mut Random, makers: &[(String, String)]) -> Part {
    match random.below(14) {
        0..4 => {
            let mut part = Part::text(words(random), origin(random));
            if let Part::Text(text) = &mut part {
                text.opaque = token(random, makers).filter(|token| token.value.is_string());
            }
            part
        }
        4 | 5 => {
            let token = token(random, makers);
            let is_redacted = token.is_some() && random.below(4) == 0;
            let mut part = Part::reasoning(words(random), token);
            if let Part::Reasoning(thought) = &mut part {
                thought.is_redacted = is_redacted;
            }
            part
        }
        6..9 => Part::ToolCall(call(random, makers)),
        9..12 => {
            let call = call(random, makers);
            let said = match random.below(5) {
                0 => Vec::new(),
                1 => vec![Part::text("", Origin::Tool)],
                2 => vec![Part::data("rows", json!([{ "n": 1 }]), Origin::Tool)],
                _ => vec![Part::text(words(random), Origin::Tool)],
            };
            Part::tool_result(&call, said, random.below(3) == 0, Origin::Tool)
        }
        12 => match random.below(3) {
            0 => Part::data("note", json!({ "kept": true }), Origin::System),
            1 => Part::unknown("somebody", json!({ "type": "new_block" }), Origin::Model),
            _ => Part::unknown("another", json!("words"), Origin::User),
        },
        _ => Part::media("image/png", MediaSource::Bytes(b"\x89PNG".to_vec().into())),
    }
}
