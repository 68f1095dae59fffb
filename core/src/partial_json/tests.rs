//! The suites of partial JSON and JSON, and what has to hold for any text.

use super::PartialJson;
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

fn suite(name: &str) -> Option<Vec<Value>> {
    let root = std::env::var_os("STEPWELL_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(root.join("conformance").join(name)) else {
        println!("skipped: 1 (no {name})");
        return None;
    };
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect(),
    )
}

/// The value of a text in these pieces; `None` where it can never become JSON.
fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Option<Value> {
    let mut partial = PartialJson::new();
    for piece in pieces {
        partial.push(piece).ok()?;
    }
    partial.value().cloned()
}

fn by_characters(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

#[test]
fn it_repairs_as_one_of_three_libraries_does_and_differs_from_the_others_where_their_policies_do() {
    let Some(suite) = suite("partial_json.jsonl") else {
        return;
    };
    // Where another policy wants something else, and what ours gives: everything that has come is shown.
    let differs = [
        (
            "promplate/ok-edf6dcb377",
            "drops an open string",
            json!({ "": "" }),
        ),
        (
            "promplate/ok-452b2b0e59",
            "reads -Infinity, which is no JSON",
            Value::Null,
        ),
        ("promplate/err-cb7f31cff9", "refuses an open string", json!("")),
        ("promplate/err-88e2a7dfc2", "refuses an open array", json!([])),
        ("promplate/err-7374a25689", "refuses an open array", json!([""])),
        ("promplate/err-d01aea3bce", "refuses an open array", json!([""])),
        ("promplate/err-14d650a93c", "refuses an open array", json!([""])),
        ("promplate/err-3202123f12", "refuses an open object", json!({})),
        ("promplate/err-28858043dd", "refuses an open object", json!({})),
        ("promplate/err-8de9989588", "refuses an open object", json!({})),
        (
            "promplate/err-a696ef791a",
            "refuses an open object",
            json!({ "": "" }),
        ),
        (
            "promplate/err-a7f1b79827",
            "refuses an open object",
            json!({ "": "" }),
        ),
        (
            "jiter/on-1b4f92df57",
            "drops an open string",
            json!({ "a": 1, "b": 2, "c": "foo" }),
        ),
    ];
    let mut same = 0;
    for case in &suite {
        let (id, input) = (
            case["id"].as_str().expect("an id"),
            case["input"].as_str().expect("text"),
        );
        let got = read([input]);
        assert_eq!(got, read(by_characters(input)), "{id}: however it is cut");
        if let Some((_, _, ours)) = differs.iter().find(|(name, ..)| *name == id) {
            assert_eq!(got.unwrap_or(Value::Null), *ours, "{id}");
            continue;
        }
        let expected = if let Some(text) = case["expected_repaired_text"].as_str() {
            Some(serde_json::from_str(text).expect("JSON"))
        } else if let Some(python) = case["expected_python"].as_str() {
            let text = match python {
                "None" => "null".to_owned(),
                "True" => "true".to_owned(),
                other => other.to_owned(),
            };
            Some(serde_json::from_str(&text).expect("JSON"))
        } else if case["expected_error"].is_string() {
            None
        } else {
            Some(case["expected_value"].clone())
        };
        assert_eq!(got, expected, "{id}");
        same += 1;
    }
    println!(
        "{same} of {} alike, {} differ by policy",
        suite.len(),
        differs.len()
    );
    for (id, why, _) in &differs {
        println!("  {id}: it {why}");
    }
    assert_eq!(same + differs.len(), suite.len());
}

#[test]
fn it_takes_what_is_json_and_refuses_what_is_none() {
    let Some(suite) = suite("json_parsing.jsonl") else {
        return;
    };
    let mut differs = 0;
    for case in &suite {
        let id = case["id"].as_str().expect("an id");
        let decode = |value: &Value| STANDARD.decode(value.as_str().expect("base64")).expect("base64");
        let bytes = if case["generate"].is_object() {
            let times = usize::try_from(case["generate"]["times"].as_u64().expect("a count")).expect("small");
            let mut bytes = decode(&case["generate"]["unit_b64"]).repeat(times);
            bytes.extend(decode(&case["generate"]["tail_b64"]));
            bytes
        } else {
            decode(&case["bytes_b64"])
        };
        let Ok(text) = std::str::from_utf8(&bytes) else {
            assert_ne!(case["expect"], "accept", "{id}");
            continue;
        };
        let mut partial = PartialJson::new();
        let pushed = partial.push(text);
        let whole = pushed.and_then(|()| partial.finish());
        match case["expect"].as_str() {
            Some("accept") => {
                let value: Value = serde_json::from_str(text).expect("JSON");
                assert_eq!(whole.expect(id), value, "{id}");
            }
            Some("reject") => assert!(whole.is_err(), "{id}"),
            _ => {
                let theirs: Option<Value> = serde_json::from_str(text).ok();
                if theirs != whole.ok() {
                    differs += 1;
                    println!("{id}: not as serde_json");
                }
            }
        }
    }
    println!(
        "{} cases; {differs} of those left open are read otherwise than by serde_json",
        suite.len()
    );
    assert_eq!(differs, 0);
}

#[test]
fn the_work_is_linear_and_depth_and_size_are_bounded() {
    let begun = Instant::now();
    let mut partial = PartialJson::new();
    partial.push(r#"{"a":{"b":[""#).expect("fine");
    for _ in 0..(4 << 20) / 8 {
        partial.push("eight by").expect("fine");
    }
    partial.push(r#""]}}"#).expect("fine");
    assert!(partial.is_complete());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let mut deep = PartialJson::new();
    assert_eq!(
        deep.push(&"[".repeat(1000)).expect_err("too deep").code(),
        "limit_exceeded"
    );
    assert!(deep.push("]").is_err(), "it stays failed");
    let mut long = PartialJson::new().max_bytes(4);
    assert_eq!(long.push("[1,2]").expect_err("too long").code(), "limit_exceeded");
    assert!(
        format!("{}", PartialJson::new().push("canary").expect_err("none"))
            .find("canary")
            .is_none()
    );
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Whether the one can still become the other by reading on.
fn grows_into(partial: &Value, whole: &Value) -> bool {
    match (partial, whole) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .all(|(key, value)| b.get(key).is_some_and(|other| grows_into(value, other))),
        (Value::Array(a), Value::Array(b)) => {
            a.len() <= b.len() && a.iter().zip(b).all(|(value, other)| grows_into(value, other))
        }
        (Value::String(a), Value::String(b)) => b.starts_with(a.as_str()),
        (Value::Number(_), Value::Number(_)) => true,
        _ => partial == whole,
    }
}

proptest! {
    #[test]
    fn however_json_is_cut_it_is_the_same_and_every_beginning_grows_into_it(value in json_value(), cuts in prop::collection::vec(0usize..200, 0..8), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("JSON");
        let mut partial = PartialJson::new();
        let mut from = 0;
        let mut ends: Vec<usize> = cuts.into_iter().filter(|at| *at <= text.len() && text.is_char_boundary(*at)).collect();
        ends.sort_unstable();
        ends.push(text.len());
        for end in ends {
            partial.push(&text[from..end]).expect("JSON");
            from = end;
            if let Some(so_far) = partial.value() {
                prop_assert!(grows_into(so_far, &value), "{so_far} of {value}");
            }
        }
        prop_assert_eq!(partial.finish().expect("whole"), value);
    }

    #[test]
    fn whatever_comes_it_agrees_with_serde_json(text in r#"[\[\]{}",:0-9eE.+\-truefalsn\\ u]{0,24}"#) {
        let mut partial = PartialJson::new();
        let ours = partial.push(&text).and_then(|()| partial.finish()).ok();
        let theirs: Option<Value> = serde_json::from_str(&text).ok();
        prop_assert_eq!(ours, theirs);
    }
}
