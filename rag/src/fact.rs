//! A fact, one value of a document's metadata, as an ordered byte term: `path 0x00 kind value`.
//!
//! Whole and broken numbers share one order, moments another, so a range is a range of terms; a list has a term per
//! value.

use serde_json::{Map, Value};
use stepwell_core::{Error, FilterValue, Result};

/// Longer strings are indexed by this many bytes and a hash of the whole.
const MAX_TEXT: usize = 256;
/// Longer paths are refused.
const MAX_PATH: usize = 256;
/// Deeper metadata is refused.
const MAX_DEPTH: usize = 16;
/// More values in one document's metadata are refused.
const MAX_FACTS: usize = 4_096;

const KIND_PRESENT: u8 = 1;
const KIND_BOOL: u8 = 2;
const KIND_NUMBER: u8 = 3;
const KIND_MOMENT: u8 = 4;
const KIND_TEXT: u8 = 5;

/// The first term that does not begin with these bytes.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return next;
        }
    }
    // Only a prefix of 0xFF bytes has no successor; ours begin with a path or a length.
    vec![u8::MAX; prefix.len() + 1]
}

/// What the terms of all text values of a fact begin with; the value follows.
pub(crate) fn text_fact_prefix(key: &str) -> Result<Vec<u8>> {
    term_of(key, KIND_TEXT, &[])
}

/// The term of all rows that have the fact, whatever its value.
pub(crate) fn present_term(key: &str) -> Result<Vec<u8>> {
    term_of(key, KIND_PRESENT, &[])
}

/// What the terms of all text values with this beginning begin with.
pub(crate) fn text_prefix(key: &str, prefix: &str) -> Result<Vec<u8>> {
    if prefix.len() > MAX_TEXT {
        return Err(Error::invalid(
            "filter",
            format!("a prefix has at most {MAX_TEXT} bytes"),
        ));
    }
    term_of(key, KIND_TEXT, prefix.as_bytes())
}

fn term_of(path: &str, kind: u8, value: &[u8]) -> Result<Vec<u8>> {
    if path.is_empty() || path.len() > MAX_PATH || path.contains('\0') {
        return Err(Error::invalid(
            "metadata key",
            format!("give it 1 to {MAX_PATH} bytes and no zero character"),
        ));
    }
    let mut term = Vec::with_capacity(path.len() + 2 + value.len());
    term.extend_from_slice(path.as_bytes());
    term.extend_from_slice(&[0, kind]);
    term.extend_from_slice(value);
    Ok(term)
}

/// A number in an order that whole and broken ones share: the nearest f64, then what a whole number differs from it.
fn number_bytes(number: f64, difference: i32) -> [u8; 10] {
    // −0 and 0 are one number.
    let bits = (if number == 0.0 { 0.0 } else { number }).to_bits();
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&ordered.to_be_bytes());
    // A whole number of 64 bits is never further than 1,024 from its nearest f64.
    #[allow(clippy::cast_sign_loss)]
    bytes[8..].copy_from_slice(&((difference + 32_768) as u16).to_be_bytes());
    bytes
}

fn whole_bytes(number: i128) -> [u8; 10] {
    let nearest = number as f64;
    number_bytes(nearest, (number - nearest as i128) as i32)
}

fn text_bytes(text: &str) -> Vec<u8> {
    if text.len() <= MAX_TEXT {
        return text.as_bytes().to_vec();
    }
    let mut bytes = text.as_bytes()[..MAX_TEXT].to_vec();
    bytes.push(u8::MAX);
    bytes.extend_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    bytes
}

fn value_bytes(value: &FilterValue) -> Result<(u8, Vec<u8>)> {
    Ok(match value {
        FilterValue::Text(text) => (KIND_TEXT, text_bytes(text)),
        FilterValue::Integer(number) => (KIND_NUMBER, whole_bytes(i128::from(*number)).to_vec()),
        FilterValue::Number(number) if number.is_finite() => (KIND_NUMBER, number_bytes(*number, 0).to_vec()),
        FilterValue::Bool(value) => (KIND_BOOL, vec![u8::from(*value)]),
        FilterValue::Date(text) => {
            let moment = moment(text).ok_or_else(|| {
                Error::invalid("filter", "write a date as 2024-05-01 or 2024-05-01T12:00:00Z")
            })?;
            (KIND_MOMENT, whole_bytes(i128::from(moment)).to_vec())
        }
        _ => {
            return Err(Error::invalid(
                "filter",
                "compare with a finite number, a text, a date, true or false",
            ));
        }
    })
}

/// The term of the rows whose fact has this value.
pub(crate) fn value_term(key: &str, value: &FilterValue) -> Result<Vec<u8>> {
    let (kind, bytes) = value_bytes(value)?;
    term_of(key, kind, &bytes)
}

/// The terms of a range: from the first, up to but without the second.
pub(crate) fn range_terms(
    key: &str,
    min: Option<&FilterValue>,
    max: Option<&FilterValue>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    for bound in [min, max].into_iter().flatten() {
        if matches!(bound, FilterValue::Text(text) if text.len() > MAX_TEXT) {
            return Err(Error::invalid(
                "filter",
                format!("a text bound has at most {MAX_TEXT} bytes"),
            ));
        }
    }
    let (min, max) = (
        min.map(value_bytes).transpose()?,
        max.map(value_bytes).transpose()?,
    );
    let kind = match (&min, &max) {
        (Some((left, _)), Some((right, _))) if left != right => {
            return Err(Error::invalid(
                "filter",
                "give both bounds of a range the same type",
            ));
        }
        (Some((kind, _)), _) | (None, Some((kind, _))) => *kind,
        (None, None) => {
            return Err(Error::invalid(
                "filter",
                "give a range at least one bound, or use `exists`",
            ));
        }
    };
    let from = term_of(key, kind, min.as_ref().map_or(&[], |(_, bytes)| bytes))?;
    let to = match max {
        // The first term after the bound itself: bounds are included.
        Some((_, mut bytes)) => {
            bytes.push(0);
            term_of(key, kind, &bytes)?
        }
        None => term_of(key, kind + 1, &[])?,
    };
    Ok((from, to))
}

/// The terms of a document's metadata.
pub(crate) fn fact_terms(metadata: &Map<String, Value>) -> Result<Vec<Vec<u8>>> {
    let mut terms = Vec::new();
    for (key, value) in metadata {
        add_fact(key, value, 1, &mut terms)?;
    }
    terms.sort_unstable();
    terms.dedup();
    Ok(terms)
}

fn add_fact(path: &str, value: &Value, depth: usize, terms: &mut Vec<Vec<u8>>) -> Result<()> {
    if depth > MAX_DEPTH || terms.len() > MAX_FACTS {
        return Err(Error::LimitExceeded {
            what: "a document's metadata".to_owned(),
            limit: format!("{MAX_DEPTH} levels and {MAX_FACTS} values"),
        });
    }
    let (kind, bytes) = match value {
        Value::Null => return Ok(()),
        Value::Array(items) => {
            return items
                .iter()
                .try_for_each(|item| add_fact(path, item, depth + 1, terms));
        }
        Value::Object(map) => {
            if !map.is_empty() {
                terms.push(term_of(path, KIND_PRESENT, &[])?);
            }
            return map
                .iter()
                .try_for_each(|(key, value)| add_fact(&format!("{path}.{key}"), value, depth + 1, terms));
        }
        Value::Bool(value) => (KIND_BOOL, vec![u8::from(*value)]),
        Value::Number(number) => {
            let whole = number
                .as_i64()
                .map(i128::from)
                .or_else(|| number.as_u64().map(i128::from));
            let bytes = match (whole, number.as_f64()) {
                (Some(whole), _) => whole_bytes(whole),
                (None, Some(broken)) if broken.is_finite() => number_bytes(broken, 0),
                _ => {
                    return Err(Error::invalid(
                        "metadata",
                        format!("`{path}` is not a finite number"),
                    ));
                }
            };
            (KIND_NUMBER, bytes.to_vec())
        }
        Value::String(text) => {
            if let Some(moment) = moment(text) {
                terms.push(term_of(path, KIND_MOMENT, &whole_bytes(i128::from(moment)))?);
            }
            (KIND_TEXT, text_bytes(text))
        }
    };
    terms.push(term_of(path, KIND_PRESENT, &[])?);
    terms.push(term_of(path, kind, &bytes)?);
    Ok(())
}

/// Microseconds since 1970 of an RFC 3339 moment, or of midnight UTC of a date alone.
fn moment(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then(|| {
            digits
                .iter()
                .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let sign = |at: usize, sign: u8| bytes.get(at) == Some(&sign);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if year == 0 || !sign(4, b'-') || !sign(7, b'-') {
        return None;
    }
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if is_leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=length).contains(&day) {
        return None;
    }
    let years = year - 1;
    let days_before = years * 365 + years / 4 - years / 100 + years / 400;
    let month_days: i64 = lengths[..usize::try_from(month - 1).ok()?].iter().sum();
    let days = days_before + month_days + day - 1 - 719_162;
    let midnight = days * 86_400_000_000;
    if bytes.len() == 10 {
        return Some(midnight);
    }
    let is_separated = matches!(bytes[10], b'T' | b't' | b' ');
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !is_separated || !sign(13, b':') || !sign(16, b':') || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut micros = 0;
    if sign(at, b'.') {
        let digits = bytes[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return None;
        }
        for place in 0..6 {
            let digit = if place < digits {
                i64::from(bytes[at + 1 + place] - b'0')
            } else {
                0
            };
            micros = micros * 10 + digit;
        }
        at += 1 + digits;
    }
    let offset_minutes = match *bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        direction @ (b'+' | b'-') if bytes.len() == at + 6 && sign(at + 3, b':') => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if direction == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    Some(midnight + seconds * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_order_as_bytes_across_whole_and_broken_ones() {
        let wholes: Vec<i128> = vec![
            i128::from(i64::MIN),
            -9_007_199_254_740_993,
            -9_007_199_254_740_992,
            -2,
            -1,
            0,
            1,
            2,
            9_007_199_254_740_992,
            9_007_199_254_740_993,
            i128::from(i64::MAX) - 1,
            i128::from(i64::MAX),
            i128::from(u64::MAX),
        ];
        assert!(
            wholes
                .iter()
                .map(|number| whole_bytes(*number))
                .is_sorted_by(|left, right| left < right)
        );
        assert_eq!(whole_bytes(3), number_bytes(3.0, 0));
        assert_eq!(number_bytes(-0.0, 0), whole_bytes(0));
        assert!(number_bytes(-1.5, 0) < whole_bytes(-1) && whole_bytes(-2) < number_bytes(-1.5, 0));
        assert!(number_bytes(0.5, 0) < whole_bytes(1) && whole_bytes(0) < number_bytes(0.5, 0));
    }

    #[test]
    fn moments_are_read_to_the_microsecond_in_any_offset() {
        assert_eq!(moment("1970-01-01"), Some(0));
        assert_eq!(moment("2000-02-29T12:00:00Z"), Some(951_825_600_000_000));
        assert_eq!(
            moment("2024-05-01T14:30:00.25+02:30"),
            moment("2024-05-01T12:00:00.250000Z")
        );
        assert_eq!(moment("1969-12-31T23:59:59Z"), Some(-1_000_000));
        for bad in [
            "",
            "2024",
            "2024-13-01",
            "2023-02-29",
            "2024-05-01T",
            "2024-05-01T25:00:00Z",
            "2024-05-01T12:00:00",
            "2024-05-01T12:00:00.Z",
            "2024-05-01T12:00:00+2:00",
            "2024-05-01T12:00:00+24:00",
            "2024-05-01T12:00:00-01:60",
            "2024/05/01",
            "2024-05-0é",
        ] {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_the_first_term_past_it() {
        assert_eq!(after_prefix(b"ab"), b"ac");
        assert_eq!(after_prefix(&[1, 255, 255]), [2]);
        assert!(after_prefix(&[255]) > vec![255, 1, 1]);
    }

    #[test]
    fn metadata_that_is_too_deep_or_too_wide_is_refused() {
        let mut deep = Value::from(1);
        for _ in 0..20 {
            deep = serde_json::json!({ "a": deep });
        }
        let mut map = Map::new();
        map.insert("a".to_owned(), deep);
        assert_eq!(fact_terms(&map).expect_err("deep").code(), "limit_exceeded");
        map.insert("a".to_owned(), Value::from((0..9_999).collect::<Vec<_>>()));
        assert_eq!(fact_terms(&map).expect_err("wide").code(), "limit_exceeded");
        map.clear();
        map.insert("a\0b".to_owned(), Value::from(1));
        assert_eq!(fact_terms(&map).expect_err("zero").code(), "invalid_input");
    }
}
