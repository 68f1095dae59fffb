//! What a sentence states that can be held against its source without a model: numbers, dates, names, denials, directions.

use std::collections::{BTreeSet, HashSet};
use stepwell_core::words::{is_stop_word, stem};
use unicode_segmentation::UnicodeSegmentation;

/// Words after a denial that it denies.
const DENIED_WORDS: usize = 3;

const NUMBER_WORDS: [(&str, &str); 19] = [
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fifty", "50"),
    ("hundred", "100"),
    ("thousand", "1000"),
    ("million", "1000000"),
    ("twice", "2"),
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DENIALS: [&str; 17] = [
    "not", "no", "never", "without", "neither", "nor", "none", "cannot", "lack", "lacks", "lacked",
    "lacking", "fails", "failed", "unable", "absence", "hardly",
];
/// Crude stems, as [`stem`] cuts them, of words that say that something grows or is brought about.
const UP: [&str; 24] = [
    "increas",
    "rais",
    "higher",
    "elevat",
    "enhanc",
    "upregulat",
    "promot",
    "stimulat",
    "activat",
    "induc",
    "improv",
    "accelerat",
    "expand",
    "high",
    "greater",
    "ris",
    "gain",
    "faster",
    "longer",
    "strengthen",
    "amplif",
    "caus",
    "boost",
    "larger",
];
/// The same of words that say that it shrinks or is kept from being.
const DOWN: [&str; 28] = [
    "decreas",
    "reduc",
    "lower",
    "diminish",
    "downregulat",
    "inhibit",
    "suppress",
    "suppres",
    "impair",
    "attenuat",
    "block",
    "dropp",
    "prevent",
    "low",
    "lessen",
    "slow",
    "slower",
    "worsen",
    "declin",
    "drop",
    "shorter",
    "weaken",
    "inactivat",
    "abolish",
    "fewer",
    "los",
    "smaller",
    "dampen",
];

/// The numbers and dates a text names, each in one form: `1,000` and `1000.0` are one, and so are `2024-05-01` and
/// `1 May 2024`. Digits inside of a name, such as `IL-10`, are none.
pub(super) fn numbers(text: &str) -> BTreeSet<String> {
    let signs: Vec<char> = text.chars().collect();
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < signs.len() {
        if !signs[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < signs.len()
            && (signs[at].is_ascii_digit()
                || (matches!(signs[at], '.' | ',') && signs.get(at + 1).is_some_and(char::is_ascii_digit)))
        {
            at += 1;
        }
        let before = signs[..start].iter().rev();
        let is_in_name = match before.clone().next() {
            Some(sign) if sign.is_alphabetic() => true,
            Some('-' | '‐' | '‑') => before.clone().nth(1).is_some_and(|sign| sign.is_alphabetic()),
            _ => false,
        };
        if is_in_name {
            continue;
        }
        let word: String = signs[start..at].iter().collect();
        if let Some(date) = iso_date(&signs[start..]) {
            found.extend(date);
            at = start + 10;
        } else {
            found.insert(plain(&word));
        }
    }
    let words: Vec<&str> = text.unicode_words().collect();
    for (at, word) in words.iter().enumerate() {
        let lower = word.to_lowercase();
        if let Some((_, number)) = NUMBER_WORDS.iter().find(|(known, _)| *known == lower) {
            found.insert((*number).to_owned());
        }
        let is_dated = |other: Option<&&str>| {
            other.is_some_and(|word| word.starts_with(|sign: char| sign.is_ascii_digit()))
        };
        if let Some(month) = MONTHS.iter().position(|month| month == word)
            && (is_dated(words.get(at + 1)) || (at > 0 && is_dated(words.get(at - 1))))
        {
            found.insert(format!("month {}", month + 1));
        }
    }
    found
}

/// Year, month and day of `2024-05-01`.
fn iso_date(signs: &[char]) -> Option<[String; 3]> {
    let word: String = signs.get(..10)?.iter().collect();
    let (year, month, day) = (word.get(..4)?, word.get(5..7)?, word.get(8..10)?);
    let is_date = word.get(4..5) == Some("-")
        && word.get(7..8) == Some("-")
        && [year, month, day]
            .iter()
            .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let ends = !signs.get(10).is_some_and(char::is_ascii_digit);
    let month: u8 = month.parse().ok()?;
    (is_date && ends && (1..=12).contains(&month))
        .then(|| [plain(year), format!("month {month}"), plain(day)])
}

/// A number without grouping, leading zeros and an empty fraction.
fn plain(word: &str) -> String {
    let is_grouped = {
        let whole = word.split('.').next().unwrap_or(word);
        let mut groups = whole.split(',');
        groups.next().is_some_and(|first| (1..=3).contains(&first.len()))
            && whole.contains(',')
            && groups.all(|group| group.len() == 3)
    };
    let word = if is_grouped {
        word.replace(',', "")
    } else {
        word.replace(',', ".")
    };
    let (whole, fraction) = word.split_once('.').unwrap_or((&word, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        whole.to_owned()
    } else {
        format!("{whole}.{fraction}")
    }
}

/// A word that is compared by its letters and digits alone: `IL-10` is `il10`.
fn bare(word: &str) -> String {
    word.chars()
        .filter(|sign| sign.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// The names in a sentence that its source lacks: words with a capital inside or digits among letters, and words with a
/// capital that do not begin the sentence. An abbreviation is there as well where the source spells it out.
pub(super) fn missing_names(sentence: &str, source: &str) -> bool {
    let words: Vec<&str> = source.split_whitespace().collect();
    let mut known: HashSet<String> = HashSet::new();
    for (at, word) in words.iter().enumerate() {
        for piece in word.split(['/', '(', ')', '–', '—']).chain([*word]) {
            let piece = bare(piece);
            known.insert(stem(&piece));
            known.insert(piece);
        }
        for piece in word.split('-') {
            known.insert(stem(&bare(piece)));
            known.insert(bare(piece));
        }
        if let Some(next) = words.get(at + 1) {
            known.insert(bare(&format!("{word}{next}")));
        }
    }
    let initials: String = words
        .iter()
        .flat_map(|word| word.split('-'))
        .filter_map(|word| word.chars().find(|sign| sign.is_alphanumeric()))
        .flat_map(char::to_lowercase)
        .collect();
    let mut is_first = true;
    for word in sentence.split_whitespace().flat_map(|word| word.split('/')) {
        let word = word.trim_matches(|sign: char| !sign.is_alphanumeric());
        let begins = is_first;
        is_first &= word.is_empty();
        let Some(first) = word.chars().next() else {
            continue;
        };
        let rest = &word[first.len_utf8()..];
        let has_inner = rest.contains(char::is_uppercase);
        let is_mixed =
            word.contains(|sign: char| sign.is_ascii_digit()) && word.contains(char::is_alphabetic);
        let is_unit =
            first.is_ascii_digit() && word.trim_start_matches(|sign: char| sign.is_ascii_digit()).len() <= 4;
        let is_proper = first.is_uppercase() && !begins && rest.chars().count() > 1;
        let is_month = MONTHS.contains(&word);
        if !(has_inner || (is_mixed && !is_unit) || is_proper) || is_month {
            continue;
        }
        let name = bare(word.trim_end_matches("'s").trim_end_matches("’s"));
        let singular = name.strip_suffix('s').unwrap_or(&name);
        let is_there = known.contains(&name)
            || known.contains(singular)
            || known.contains(&format!("{name}s"))
            || known.contains(&stem(&name))
            || (has_inner && singular.chars().count() >= 2 && initials.contains(singular))
            // A name of several pieces is there piece by piece.
            || (word.contains('-') && word.split('-').all(|piece| known.contains(&bare(piece)) || known.contains(&stem(&bare(piece)))));
        if !is_there && !is_stop_word(&name) {
            return true;
        }
    }
    false
}

/// Stems of a sentence: those it denies and those it affirms.
#[derive(Debug, Default)]
struct Denials {
    denied: HashSet<String>,
    affirmed: HashSet<String>,
}

impl Denials {
    fn of(sentence: &str) -> Self {
        let mut found = Self::default();
        let mut left = 0;
        for word in sentence.split_word_bounds() {
            if word.trim().is_empty() {
                continue;
            }
            let lower = word.to_lowercase();
            if DENIALS.contains(&lower.as_str()) || lower.ends_with("n't") || lower.ends_with("n’t") {
                left = DENIED_WORDS;
            } else if !word.contains(char::is_alphanumeric) {
                left = if matches!(word, "," | ";" | ":" | "." | "(" | ")") {
                    0
                } else {
                    left
                };
            } else if !is_stop_word(&lower) {
                let stem = stem(&lower);
                if left > 0 {
                    left -= 1;
                    found.denied.insert(stem);
                } else {
                    found.affirmed.insert(stem);
                }
            }
        }
        found
    }
}

/// Whether one of two sentences denies what the other affirms.
pub(super) fn contradict(one: &str, two: &str) -> bool {
    let (one, two) = (Denials::of(one), Denials::of(two));
    let clash = |denied: &Denials, affirmed: &Denials| {
        let mut words = denied
            .denied
            .iter()
            .filter(|word| !denied.affirmed.contains(*word));
        words.any(|word| affirmed.affirmed.contains(word) && !affirmed.denied.contains(word))
    };
    clash(&one, &two) || clash(&two, &one)
}

/// Whether one of two sentences speaks of more where the other speaks of less, and of nothing else.
pub(super) fn opposed(one: &HashSet<String>, two: &HashSet<String>) -> bool {
    let has = |words: &HashSet<String>, of: &[&str]| of.iter().any(|word| words.contains(*word));
    let (up, down) = (has(one, &UP), has(one, &DOWN));
    let (other_up, other_down) = (has(two, &UP), has(two, &DOWN));
    (up && !down && other_down && !other_up) || (down && !up && other_up && !other_down)
}

#[cfg(test)]
mod tests {
    use super::{DOWN, UP, contradict, missing_names, numbers, opposed};
    use stepwell_core::words::{stem, stems};

    #[test]
    fn a_number_or_date_has_one_form_and_digits_of_a_name_are_none() {
        let of = |text: &str| numbers(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(of("1,000 patients, 1000.0 mg and 0.50%"), "0.5 1000");
        assert_eq!(of("on 2024-05-01"), of("on 1 May 2024"));
        assert_eq!(of("It may rise by two"), "2");
        assert_eq!(
            (of("IL-10, B12 and S100A9"), of("10mg of 3-fold")),
            (String::new(), "10 3".to_owned())
        );
        assert_eq!((of("3,14"), of("007")), ("3.14".to_owned(), "7".to_owned()));
    }

    #[test]
    fn a_name_counts_as_there_in_any_spelling_and_spelt_out() {
        let source = "Interleukin IL 10 and chronic obstructive pulmonary disease were seen in the United Kingdom (UK).";
        for there in [
            "We saw IL-10.",
            "The COPD patients.",
            "The UK cohort.",
            "A UK's cohort",
            "Seen in the United Kingdom",
        ] {
            assert!(!missing_names(there, source), "{there}");
        }
        for missing in ["We saw IL-11.", "The AML patients.", "Seen in the United States"] {
            assert!(missing_names(missing, source), "{missing}");
        }
        assert!(
            !missing_names("Mice were seen", "rats were seen"),
            "a first word is no name"
        );
    }

    #[test]
    fn a_denial_is_told_from_one_of_something_else() {
        assert!(contradict(
            "Aspirin does not reduce pain",
            "Aspirin reduces pain."
        ));
        assert!(contradict(
            "Aspirin reduces pain",
            "There was no reduced pain under aspirin"
        ));
        assert!(!contradict(
            "Aspirin reduces pain",
            "Aspirin, but not ibuprofen, reduces pain"
        ));
        assert!(!contradict("It doesn't reduce pain", "It failed to reduce pain"));
    }

    #[test]
    fn more_is_the_opposite_of_less_whatever_its_words_form() {
        assert!(opposed(
            &stems("It increases risk"),
            &stems("It lowered the risk")
        ));
        assert!(!opposed(
            &stems("It increases risk"),
            &stems("It raised the risk")
        ));
        assert!(!opposed(
            &stems("It increases risk"),
            &stems("Low doses raised the risk")
        ));
        for (words, list) in [
            (
                "increase increases increased raised rises elevates promoting causes amplify amplifies",
                &UP[..],
            ),
            (
                "decreases reduced lowers suppress suppresses suppressed dropped loss declining slower",
                &DOWN[..],
            ),
        ] {
            for word in words.split(' ') {
                assert!(list.contains(&stem(word).as_str()), "{word} is {}", stem(word));
            }
        }
    }
}
