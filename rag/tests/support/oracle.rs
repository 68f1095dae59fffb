//! What a filter means, told a second time: over metadata as JSON, value by value, without terms or an index.
#![allow(dead_code, reason = "each journey uses a part")]

use std::cmp::Ordering;

use serde_json::{Map, Value, json};
use stepwell_core::{Filter, FilterValue};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Seeded;

/// Whether a document with this id and metadata passes.
pub(crate) fn passes(filter: &Filter, id: &str, metadata: &Map<String, Value>) -> bool {
    match filter {
        Filter::And(all) => all.iter().all(|part| passes(part, id, metadata)),
        Filter::Or(any) => any.iter().any(|part| passes(part, id, metadata)),
        Filter::Not(part) => !passes(part, id, metadata),
        Filter::Documents { ids } => ids.iter().any(|one| one == id),
        Filter::Exists { key } => !found(metadata, key).is_empty(),
        Filter::Eq { key, value } => found(metadata, key)
            .iter()
            .any(|fact| compare(fact, value) == Some(Ordering::Equal)),
        Filter::In { key, values } => found(metadata, key).iter().any(|fact| {
            values
                .iter()
                .any(|value| compare(fact, value) == Some(Ordering::Equal))
        }),
        Filter::Range { key, min, max } => found(metadata, key).iter().any(|fact| {
            let above = |min| compare(fact, min).is_some_and(Ordering::is_ge);
            let below = |max| compare(fact, max).is_some_and(Ordering::is_le);
            min.as_ref().is_none_or(above) && max.as_ref().is_none_or(below)
        }),
        Filter::Prefix { key, prefix } => found(metadata, key)
            .iter()
            .any(|fact| fact.as_str().is_some_and(|text| text.starts_with(prefix))),
        other => panic!("the oracle does not know {other:?}"),
    }
}

/// All values under a dotted key: those of lists one by one, objects themselves.
fn found<'a>(metadata: &'a Map<String, Value>, key: &str) -> Vec<&'a Value> {
    let mut all = Vec::new();
    for (name, value) in metadata {
        walk(name.clone(), value, &mut all);
    }
    all.into_iter()
        .filter(|(path, _)| path == key)
        .map(|(_, value)| value)
        .collect()
}

fn walk<'a>(path: String, value: &'a Value, all: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| walk(path.clone(), item, all)),
        Value::Object(map) => {
            for (name, value) in map {
                walk(format!("{path}.{name}"), value, all);
            }
            if !map.is_empty() {
                all.push((path, value));
            }
        }
        _ => all.push((path, value)),
    }
}

/// `None` for values of different types.
fn compare(fact: &Value, value: &FilterValue) -> Option<Ordering> {
    match (fact, value) {
        (Value::String(fact), FilterValue::Text(text)) => Some(fact.as_bytes().cmp(text.as_bytes())),
        (Value::String(fact), FilterValue::Date(date)) => Some(moment(fact)?.cmp(&moment(date)?)),
        (Value::Bool(fact), FilterValue::Bool(value)) => Some(fact.cmp(value)),
        (Value::Number(_), FilterValue::Integer(_) | FilterValue::Number(_)) => {
            let left = number(fact);
            let right = match value {
                FilterValue::Integer(whole) => Number::Whole(i128::from(*whole)),
                FilterValue::Number(broken) => Number::Broken(*broken),
                _ => return None,
            };
            Some(left.compare(right))
        }
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Broken(f64),
}

fn number(value: &Value) -> Number {
    match (value.as_i64(), value.as_u64(), value.as_f64()) {
        (Some(whole), ..) => Number::Whole(whole.into()),
        (None, Some(whole), _) => Number::Whole(whole.into()),
        (None, None, broken) => Number::Broken(broken.expect("a number")),
    }
}

impl Number {
    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => left.cmp(&right),
            (Self::Broken(left), Self::Broken(right)) => left.partial_cmp(&right).expect("finite"),
            (Self::Broken(_), Self::Whole(_)) => other.compare(self).reverse(),
            (Self::Whole(_), Self::Broken(right)) if right >= 1e20 => Ordering::Less,
            (Self::Whole(_), Self::Broken(right)) if right <= -1e20 => Ordering::Greater,
            (Self::Whole(left), Self::Broken(right)) => {
                let below = right.floor();
                left.cmp(&(below as i128)).then(if right > below {
                    Ordering::Less
                } else {
                    Ordering::Equal
                })
            }
        }
    }
}

/// Microseconds since 1970.
fn moment(text: &str) -> Option<i128> {
    let whole = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let parsed = OffsetDateTime::parse(&whole, &Rfc3339).ok()?;
    Some(parsed.unix_timestamp_nanos().div_euclid(1_000))
}

const DATES: [&str; 10] = [
    "2024-05-01",
    "2024-05-01T00:00:00Z",
    "2024-05-01T02:00:00+02:00",
    "2024-04-30T23:59:59.999999Z",
    "2024-05-01T12:30:00.5-05:30",
    "2024-05-01T18:00:00.500000Z",
    "1969-12-31T23:59:59.25Z",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "2024-02-29",
];

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "a",
        "ab",
        "abc",
        "b",
        "1",
        "true",
        "é",
        "\u{10FFFF}",
        "a\0b",
        "a\0",
        "2024-02-30",
        "2024",
        "A",
    ]
    .map(str::to_owned)
    .into();
    // About the length from which a hash stands for the rest.
    texts.extend([
        "x".repeat(255),
        "x".repeat(256),
        "x".repeat(257),
        "x".repeat(256) + "y",
    ]);
    texts.push("é".repeat(128) + "z");
    texts.extend(DATES.map(str::to_owned));
    texts
}

fn numbers() -> Vec<Value> {
    vec![
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(-1),
        json!(-1.5),
        json!(2),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_994.0),
        json!(-9_007_199_254_740_993_i64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(9_223_372_036_854_775_808.0),
        json!(18_446_744_073_709_551_616.0),
        json!(1e300),
        json!(-1e300),
        json!(5e-324),
    ]
}

fn pick<T: Clone>(seed: &mut Seeded, from: &[T]) -> T {
    from[usize::try_from(seed.below(from.len() as u64)).expect("small")].clone()
}

/// A value of any type, lists and objects among them.
fn value(seed: &mut Seeded, depth: u64) -> Value {
    match seed.below(if depth > 2 { 8 } else { 12 }) {
        0..=2 => pick(seed, &numbers()),
        3..=5 => Value::from(pick(seed, &texts())),
        6 => Value::from(seed.below(2) == 0),
        7 => pick(
            seed,
            &[
                Value::Null,
                json!([]),
                json!({}),
                json!([null]),
                json!({"x": null}),
            ],
        ),
        8..=9 => (0..seed.below(4)).map(|_| value(seed, depth + 1)).collect(),
        _ => {
            let mut map = Map::new();
            for _ in 0..seed.below(3) {
                map.insert(pick(seed, &["x", "y", "x.y"]).to_owned(), value(seed, depth + 1));
            }
            Value::Object(map)
        }
    }
}

const KEYS: [&str; 6] = ["a", "b", "c", "a.x", "a.y", "a.x.y"];

/// Metadata with values of mixed types under a few keys.
pub(crate) fn metadata(seed: &mut Seeded) -> Map<String, Value> {
    let mut map = Map::new();
    for _ in 0..seed.below(4) {
        map.insert(pick(seed, &KEYS).to_owned(), value(seed, 0));
    }
    map
}

fn filter_value(seed: &mut Seeded, kind: u64) -> FilterValue {
    match kind {
        0 => loop {
            match number(&pick(seed, &numbers())) {
                Number::Whole(whole) => {
                    if let Ok(whole) = i64::try_from(whole) {
                        break FilterValue::Integer(whole);
                    }
                }
                Number::Broken(broken) => break FilterValue::Number(broken),
            }
        },
        1 => FilterValue::Text(pick(seed, &texts())),
        2 => FilterValue::Date(pick(seed, &DATES).to_owned()),
        _ => FilterValue::Bool(seed.below(2) == 0),
    }
}

/// A bound of a range, where long texts are refused.
fn bound(seed: &mut Seeded, kind: u64) -> FilterValue {
    loop {
        match filter_value(seed, kind) {
            FilterValue::Text(text) if text.len() > 256 => {}
            value => return value,
        }
    }
}

/// A filter over the same keys and values; `ids` are what [`Filter::Documents`] may name.
pub(crate) fn filter(seed: &mut Seeded, ids: &[&str], depth: u64) -> Filter {
    let key = pick(seed, &KEYS);
    let kind = seed.below(4);
    match seed.below(if depth > 2 { 9 } else { 13 }) {
        0..=1 => Filter::eq(key, filter_value(seed, kind)),
        2..=3 => Filter::is_in(
            key,
            (0..seed.below(4))
                .map(|_| filter_value(seed, kind))
                .collect::<Vec<_>>(),
        ),
        4..=5 => {
            let side = seed.below(3);
            let (min, max) = (bound(seed, kind), bound(seed, kind));
            Filter::range(key, (side != 0).then_some(min), (side != 1).then_some(max))
        }
        6 => Filter::exists(key),
        7 => loop {
            let prefix = pick(seed, &texts());
            if prefix.len() <= 256 {
                break Filter::prefix(key, prefix);
            }
        },
        8 => Filter::Documents {
            ids: (0..seed.below(4)).map(|_| pick(seed, ids).to_owned()).collect(),
        },
        9..=10 => filter(seed, ids, depth + 1).negate(),
        11 => Filter::And((0..seed.below(4)).map(|_| filter(seed, ids, depth + 1)).collect()),
        _ => Filter::Or((0..seed.below(4)).map(|_| filter(seed, ids, depth + 1)).collect()),
    }
}
