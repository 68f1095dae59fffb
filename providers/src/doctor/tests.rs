//! Broken histories by hand; what holds for every history on every wire is in `tests/wire/doctor.rs` of the crate.

use super::{Arguments, ChangeKind, Names, Prefill, ReasoningRule, Rules, Turns, mend};
use serde_json::json;
use stepwell_core::{Message, ModelInfo, Opaque, Origin, Part, Role, ToolCall};

fn call(id: &str) -> ToolCall {
    ToolCall::new(id, "search", json!({ "q": 1 }))
}

fn asks(ids: &[&str]) -> Message {
    let calls: Vec<Part> = ids.iter().map(|id| Part::ToolCall(call(id))).collect();
    Message::new(Role::Assistant, calls)
}

fn answers(ids: &[&str]) -> Message {
    let results: Vec<Part> = ids
        .iter()
        .map(|id| {
            Part::tool_result(
                &call(id),
                vec![Part::text(format!("of {id}"), Origin::Tool)],
                false,
                Origin::Tool,
            )
        })
        .collect();
    Message::tool(results)
}

fn info() -> ModelInfo {
    ModelInfo::new("acme", "m")
}

/// The shape of a history: `u`ser, `a`ssistant with its call ids, `t`ool with its result ids.
fn shape(messages: &[Message]) -> String {
    let mut shape = Vec::new();
    for message in messages {
        let ids: Vec<String> = message
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall(call) => Some(call.id.clone()),
                Part::ToolResult(result) => Some(format!(
                    "{}{}",
                    result.call_id,
                    if result.is_error { "!" } else { "" }
                )),
                _ => None,
            })
            .collect();
        let role = match message.role {
            Role::System | Role::Developer => "s",
            Role::User => "u",
            Role::Assistant => "a",
            _ => "t",
        };
        shape.push(format!("{role}({})", ids.join(" ")));
    }
    shape.join(" ")
}

fn mended(messages: &[Message], rules: &Rules) -> (String, Vec<ChangeKind>) {
    let done = mend(messages, rules, &info());
    let again = mend(&done.messages, rules, &info());
    assert_eq!(again.changes, [], "mending twice changes nothing more");
    let kinds = done.changes.iter().map(|change| change.kind).collect();
    (shape(&done.messages), kinds)
}

#[test]
fn a_history_in_order_is_not_copied() {
    let history = [
        Message::system("be brief"),
        Message::user("look"),
        asks(&["a", "b"]),
        answers(&["b"]),
        answers(&["a"]),
        Message::user("and?"),
        Message::assistant("done"),
    ];
    let done = mend(&history, &Rules::LENIENT, &info());
    assert!(matches!(done.messages, std::borrow::Cow::Borrowed(_)));
    assert_eq!(done.changes, []);
}

#[test]
fn results_come_behind_their_calls_and_open_calls_are_closed() {
    use ChangeKind::{CallClosed, DuplicateDropped, ResultDropped, ResultMoved};
    for (history, shape, kinds) in [
        (
            vec![Message::user("x"), asks(&["a"])],
            "u() a(a) t(a!)",
            vec![CallClosed],
        ),
        (
            vec![asks(&["a", "b"]), answers(&["b"]), Message::user("stop")],
            "a(a b) t(a! b) u()",
            vec![CallClosed, ResultMoved],
        ),
        (
            vec![asks(&["a"]), Message::user("hm"), answers(&["a"])],
            "a(a) t(a) u()",
            vec![ResultMoved],
        ),
        (
            vec![answers(&["a"]), asks(&["a"]), Message::user("x")],
            "a(a) t(a) u()",
            vec![ResultMoved],
        ),
        (
            vec![
                Message::user("x"),
                answers(&["z"]),
                asks(&["a"]),
                answers(&["a", "a"]),
            ],
            "u() a(a) t(a)",
            vec![ResultDropped, DuplicateDropped],
        ),
    ] {
        assert_eq!(mended(&history, &Rules::LENIENT), (shape.to_owned(), kinds));
    }
}

#[test]
fn the_same_id_in_two_turns_becomes_two_and_each_keeps_its_result() {
    let history = [
        asks(&["call_0"]),
        answers(&["call_0"]),
        asks(&["call_0"]),
        answers(&["call_0"]),
    ];
    let done = mend(&history, &Rules::LENIENT, &info());
    let ids: Vec<&str> = done
        .messages
        .iter()
        .flat_map(|message| &message.parts)
        .map(|part| match part {
            Part::ToolCall(call) => call.id.as_str(),
            Part::ToolResult(result) => result.call_id.as_str(),
            _ => "",
        })
        .collect();
    assert_eq!((ids[0], ids[0], ids[2]), ("call_0", ids[1], ids[3]));
    assert_ne!(ids[2], "call_0");
}

#[test]
fn the_report_counts_each_kind_once_and_quotes_nothing() {
    let history = [asks(&["canary-a", "canary-b"]), Message::user("canary")];
    let done = mend(&history, &Rules::LENIENT, &info());
    let warnings = done.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code, "history_changed");
    assert!(
        warnings[0].message.starts_with("call_closed (2 x)"),
        "{warnings:?}"
    );
    assert!(!format!("{:?} {warnings:?}", done.changes).contains("canary"));
}

#[test]
fn every_change_of_one_call_is_told() {
    use ChangeKind::{ArgumentsMended, NameChanged, TokenDropped};
    let mut made_up = ToolCall::new("a", "functions.search", json!([1]));
    made_up.opaque = Some(Opaque {
        provider: "another".to_owned(),
        model: "m".to_owned(),
        value: json!("seal"),
    });
    let history = [
        Message::new(Role::Assistant, vec![Part::ToolCall(made_up)]),
        answers(&["a"]),
    ];
    let rules = Rules {
        arguments: Arguments::Object,
        names: Names::Form { max: 12, more: "" },
        tokens: true,
        ..Rules::LENIENT
    };
    let (_, kinds) = mended(&history, &rules);
    assert_eq!(kinds, [ArgumentsMended, NameChanged, TokenDropped]);
    let done = mend(&history, &rules, &info());
    let call = done.messages[0].tool_calls().next().expect("the call");
    assert_eq!(
        (call.name.as_str(), &call.arguments),
        ("functions_se", &json!({ "value": [1] }))
    );
}

#[test]
fn a_turn_that_was_cut_before_it_said_anything_is_left_out_where_no_wire_has_a_place_for_it() {
    use ChangeKind::{ReasoningDropped, TurnsJoined};
    let rules = Rules {
        reasoning: ReasoningRule::Keep,
        reasoning_alone: false,
        turns: Turns::Alternating,
        ..Rules::LENIENT
    };
    let thought = || Message::new(Role::Assistant, vec![Part::reasoning("Hm.", None)]);
    let cut = [Message::user("x"), thought(), Message::user("y")];
    assert_eq!(
        mended(&cut, &rules),
        ("u()".to_owned(), vec![ReasoningDropped, TurnsJoined])
    );
    // Neighbours are one turn there, and what is said in the next is said with it.
    let goes_on = [Message::user("x"), thought(), Message::assistant("z")];
    assert_eq!(
        mended(&goes_on, &rules),
        ("u() a()".to_owned(), vec![TurnsJoined])
    );
}

#[test]
fn a_call_of_the_vendors_waits_for_its_result_only_at_the_very_end() {
    use ChangeKind::{ServerCallDropped, TurnAdded};
    let mut call = call("s");
    call.is_provider_executed = true;
    call.opaque = Some(Opaque {
        provider: "acme".to_owned(),
        model: "m".to_owned(),
        value: json!({ "type": "server_tool_use" }),
    });
    let rules = Rules {
        own_parts: true,
        server_results: true,
        prefill: Prefill::Refused,
        ..Rules::LENIENT
    };
    let paused = [
        Message::user("x"),
        Message::new(Role::Assistant, vec![Part::ToolCall(call.clone())]),
    ];
    assert_eq!(mended(&paused, &rules).1, []);
    let said = [Part::ToolCall(call), Part::text("It is blue.", Origin::Model)];
    let said = [Message::user("x"), Message::new(Role::Assistant, said)];
    assert_eq!(
        mended(&said, &rules),
        ("u() a() u()".to_owned(), vec![ServerCallDropped, TurnAdded])
    );
}
