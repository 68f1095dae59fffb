//! Schemas and values by chance: the promises hold for whatever comes.

use crate::{ALL, judge};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Map, Value, json};
use stepwell_core::{Dialect, Schema};

const NAMES: [&str; 5] = ["a", "b", "c", "d/e", "$ref"];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..6).prop_map(Value::from),
        (0_u8..8).prop_map(|n| json!(f64::from(n) / 2.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((0..NAMES.len(), inner), 0..4).prop_map(|pairs| {
                let map: Map<String, Value> = pairs
                    .into_iter()
                    .map(|(at, value)| (NAMES[at].to_owned(), value))
                    .collect();
                Value::Object(map)
            }),
        ]
    })
}

fn bounds() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    prop::collection::vec(
        prop_oneof![
            (0_u64..4).prop_map(|n| ("minimum", json!(n))),
            (0_u64..4).prop_map(|n| ("exclusiveMaximum", json!(n))),
            Just(("multipleOf", json!(2))),
            (0_u64..3).prop_map(|n| ("minLength", json!(n))),
            (0_u64..3).prop_map(|n| ("maxLength", json!(n))),
            Just(("pattern", json!("^a"))),
            Just(("pattern", json!("(?!b)a"))),
            (0_u64..3).prop_map(|n| ("minItems", json!(n))),
            (0_u64..3).prop_map(|n| ("maxItems", json!(n))),
            Just(("uniqueItems", json!(true))),
            (0_u64..3).prop_map(|n| ("minProperties", json!(n))),
            Just(("description", json!("words"))),
            Just(("default", json!(1))),
            Just(("dependentRequired", json!({ "a": ["b"] }))),
            Just(("not", json!({ "type": "boolean" }))),
        ],
        0..3,
    )
}

fn kind() -> impl Strategy<Value = Option<Value>> {
    let word = || {
        prop::sample::select(vec![
            "null", "boolean", "integer", "number", "string", "array", "object",
        ])
    };
    prop_oneof![
        1 => Just(None),
        5 => word().prop_map(|word| Some(json!(word))),
        2 => (word(), word()).prop_map(|(a, b)| Some(if a == b { json!(a) } else { json!([a, b]) })),
    ]
}

fn with(kind: Option<Value>, bounds: Vec<(&'static str, Value)>) -> Map<String, Value> {
    let mut map = Map::new();
    map.extend(kind.map(|kind| ("type".to_owned(), kind)));
    map.extend(bounds.into_iter().map(|(key, value)| (key.to_owned(), value)));
    map
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => (kind(), bounds()).prop_map(|(kind, bounds)| Value::Object(with(kind, bounds))),
        2 => prop::collection::vec(scalar(), 1..4).prop_map(|mut values| {
            values.dedup();
            json!({ "enum": values })
        }),
        1 => scalar().prop_map(|value| json!({ "const": value })),
        1 => any::<bool>().prop_map(Value::from),
        2 => prop::sample::select(vec!["#/$defs/x", "#/$defs/y", "#"]).prop_map(|to| json!({ "$ref": to })),
        1 => (prop::sample::select(vec!["#/$defs/x", "#/$defs/y"]), bounds()).prop_map(|(to, bounds)| {
            let mut map = with(None, bounds);
            map.insert("$ref".to_owned(), json!(to));
            Value::Object(map)
        }),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let properties = prop::collection::vec((0..NAMES.len(), inner.clone(), any::<bool>()), 0..4);
        let group = prop::sample::select(vec!["anyOf", "oneOf", "allOf"]);
        prop_oneof![
            4 => (properties, prop::option::of(inner.clone()), bounds(), any::<bool>()).prop_map(|(list, more, bounds, is_typed)| {
                let mut map = with(is_typed.then(|| json!("object")), bounds);
                let required: Vec<&str> = list.iter().filter(|(.., must)| *must).map(|(at, ..)| NAMES[*at]).collect();
                let mut names: Vec<&str> = Vec::new();
                for name in required {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                map.insert("required".to_owned(), json!(names));
                let parts: Map<String, Value> = list.into_iter().map(|(at, part, _)| (NAMES[at].to_owned(), part)).collect();
                map.insert("properties".to_owned(), Value::Object(parts));
                map.extend(more.map(|more| ("additionalProperties".to_owned(), more)));
                Value::Object(map)
            }),
            2 => (inner.clone(), bounds()).prop_map(|(items, bounds)| {
                let mut map = with(Some(json!("array")), bounds);
                map.insert("items".to_owned(), items);
                Value::Object(map)
            }),
            1 => (prop::collection::vec(inner.clone(), 1..3), inner.clone())
                .prop_map(|(places, items)| json!({ "type": "array", "prefixItems": places, "items": items })),
            3 => (group, prop::collection::vec(inner, 1..4), kind(), bounds()).prop_map(|(key, parts, kind, bounds)| {
                let mut map = with(kind, bounds);
                map.insert(key.to_owned(), Value::Array(parts));
                Value::Object(map)
            }),
        ]
    })
}

fn document() -> impl Strategy<Value = Value> {
    (schema(), schema(), schema()).prop_map(|(root, x, y)| {
        json!({ "type": "object", "properties": { "v": root }, "required": ["v"], "$defs": { "x": x, "y": y } })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    /// Valid for the vendor, the same twice, and no promise broken that the report does not name.
    #[test]
    fn any_schema_becomes_one_the_vendor_takes_and_that_promises_no_more_than_it_keeps(
        given in document(),
        values in prop::collection::vec(value(), 1..12),
    ) {
        let Ok(schema) = Schema::from_value(given.clone()) else { return Ok(()) };
        for dialect in ALL {
            let Ok(compiled) = dialect.compile(&given) else { continue };
            let again = dialect.compile(&given).expect("again").value.to_string();
            prop_assert_eq!(compiled.value.to_string(), again);
            let faults = judge::faults(dialect, &compiled.value);
            prop_assert!(faults.is_empty(), "{:?}: {:?} in {}", dialect, faults, compiled.value);
            let checked = Schema::from_value(judge::as_json_schema(dialect, &compiled.value));
            prop_assert!(checked.is_ok(), "{:?}: {} is no schema", dialect, compiled.value);
            let checked = checked.expect("just looked");
            // A reference that leads in circles says nothing; the checker would never end.
            if leads_in_circles(&given) {
                continue;
            }
            for value in &values {
                let value = json!({ "v": value });
                if let Some(Err(breach)) = judge::breach(&schema, &compiled, &checked, &value) {
                    prop_assert!(false, "{:?}: {}: {} fits {} but not {}; told {:?}", dialect, breach, value, compiled.value, given,
                        compiled.losses.iter().map(ToString::to_string).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Whatever is read back has only lost nulls, and keeps to the schema.
    #[test]
    fn reading_takes_nothing_but_nulls_and_gives_only_what_fits(given in document(), inner in value()) {
        let Ok(schema) = Schema::from_value(given.clone()) else { return Ok(()) };
        if leads_in_circles(&given) {
            return Ok(());
        }
        let value = json!({ "v": inner });
        if let Ok(read) = schema.read(value.clone()) {
            prop_assert!(schema.check(&read).is_ok());
            prop_assert!(only_lost_nulls(&value, &read), "{} became {}", value, read);
        }
    }

    /// No text of any kind makes the compiler panic.
    #[test]
    fn no_json_at_all_panics(given in value(), at in 0..ALL.len()) {
        let _ = ALL[at].compile(&given);
        let _ = ALL[at].compile(&json!({ "type": "object", "properties": given, "required": given, "anyOf": given }));
    }
}

/// A schema that is nothing but a reference, through others, to itself.
fn leads_in_circles(given: &Value) -> bool {
    // Any reference outside `properties`, `items` and the like looks at the same value again.
    fn same_value<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        let Value::Object(map) = value else { return };
        found.extend(map.get("$ref").and_then(Value::as_str));
        for key in ["anyOf", "oneOf", "allOf"] {
            for inner in map.get(key).and_then(Value::as_array).into_iter().flatten() {
                same_value(inner, found);
            }
        }
    }
    ["#/$defs/x", "#/$defs/y"].iter().any(|start| {
        let mut seen: Vec<&str> = Vec::new();
        let mut waiting = vec![*start];
        while let Some(next) = waiting.pop() {
            let mut found = Vec::new();
            if let Some(target) = given.pointer(&next[1..]) {
                same_value(target, &mut found);
            }
            if found.contains(start) {
                return true;
            }
            for to in found {
                if !seen.contains(&to) {
                    seen.push(to);
                    waiting.push(to);
                }
            }
        }
        false
    })
}

fn only_lost_nulls(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(name, value)| {
                after
                    .get(name)
                    .map_or(value.is_null(), |other| only_lost_nulls(value, other))
            }) && after.keys().all(|name| before.contains_key(name))
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len() && before.iter().zip(after).all(|(a, b)| only_lost_nulls(a, b))
        }
        _ => before == after,
    }
}

#[test]
fn the_generated_schemas_are_mostly_usable() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut fine, mut all) = (0, 0);
    for _ in 0..400 {
        let given = document().new_tree(&mut runner).expect("a schema").current();
        all += 1;
        fine += usize::from(Dialect::OpenAiStrict.compile(&given).is_ok());
    }
    assert!(fine * 2 > all, "{fine} of {all} compile");
}

/// The same schemas each time, unless `STEPWELL_LONG=1` asks for new ones.
fn seed() -> RngSeed {
    if cases() > 300 {
        RngSeed::Random
    } else {
        RngSeed::Fixed(20_261_121)
    }
}

/// How many schemas are tried: 300, or twenty times as many with `STEPWELL_LONG=1`.
fn cases() -> u32 {
    let is_long = std::env::var_os("STEPWELL_LONG").is_some_and(|value| value == "1");
    if is_long { 6_000 } else { 300 }
}
