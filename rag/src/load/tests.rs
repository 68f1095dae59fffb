//! The loaders on files that others made to break loaders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stepwell_core::Document;

use super::{LoadLimits, charset, load};

/// Far above what any case takes, for builds without optimisation on a busy machine: it tells a hang. What reading costs is
/// measured in `tests/hostile.rs`.
const LONG: Duration = Duration::from_secs(30);

/// Damaged copies of each file.
const ROUNDS: usize = 4;

fn fixtures() -> PathBuf {
    std::env::var_os("STEPWELL_FIXTURES")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
            PathBuf::from,
        )
        .join("conformance")
}

/// The cases of a suite; none where the fixtures are not there.
fn cases(name: &str) -> Vec<Value> {
    let Ok(lines) = fs::read_to_string(fixtures().join(name)) else {
        println!("skipped: {name}");
        return Vec::new();
    };
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case is JSON"))
        .collect()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key]
        .as_str()
        .unwrap_or_else(|| panic!("no `{key}` in {case}"))
}

fn bytes(case: &Value, key: &str) -> Vec<u8> {
    STANDARD.decode(text(case, key)).expect("base64")
}

fn read(name: &str, bytes: &[u8]) -> Result<Document, String> {
    match load(name, bytes.to_vec(), &LoadLimits::default().with_time(LONG * 2)) {
        Ok(document) => {
            check(&document);
            Ok(document)
        }
        Err(error) => {
            assert!(
                matches!(error.code(), "unreadable" | "limit_exceeded"),
                "{name}: {error}"
            );
            Err(error.to_string())
        }
    }
}

/// What holds for every document.
fn check(document: &Document) {
    let text = &document.text;
    assert!(!text.contains('\r') && !text.trim().is_empty(), "{}", document.id);
    for heading in &document.headings {
        assert!(
            !text[heading.span.clone()].trim().is_empty(),
            "{}: {heading:?}",
            document.id
        );
    }
    assert!(
        document
            .headings
            .windows(2)
            .all(|two| two[0].span.end <= two[1].span.start),
        "{}",
        document.id
    );
    for page in &document.pages {
        assert!(text.get(page.span.clone()).is_some(), "{}: {page:?}", document.id);
    }
    assert!(
        document
            .pages
            .windows(2)
            .all(|two| two[0].span.end <= two[1].span.start),
        "{}",
        document.id
    );
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn odd_and_malformed_pdfs_end_and_give_the_words_two_readers_agree_on() {
    let reference: BTreeMap<String, Value> = cases("pdf_reference.jsonl")
        .into_iter()
        .map(|case| (text(&case, "id").to_owned(), case))
        .collect();
    let (mut agreed, mut equal, mut missed, mut reasons) =
        (0, 0, Vec::new(), BTreeMap::<String, usize>::new());
    let mut slowest = Duration::ZERO;
    for case in cases("pdf.jsonl") {
        let id = text(&case, "id");
        let bytes = fs::read(fixtures().join(text(&case, "file"))).expect("the file of a case");
        let begin = Instant::now();
        let result = read(id, &bytes);
        slowest = slowest.max(begin.elapsed());
        if let Err(error) = &result {
            *reasons
                .entry(error.trim_start_matches(id).trim_start_matches(": ").to_owned())
                .or_default() += 1;
        }
        let Some(wanted) = reference.get(id).and_then(|case| case["agreed_words"].as_array()) else {
            continue;
        };
        let wanted: Vec<&str> = wanted.iter().filter_map(Value::as_str).collect();
        // The reference lists words as runs of letters and digits.
        let got: Vec<&str> = result.as_ref().map_or(Vec::new(), |document| {
            let parts = document
                .text
                .split(|sign: char| !sign.is_alphanumeric() && sign != '_');
            parts.filter(|word| !word.is_empty()).collect()
        });
        if wanted.is_empty() {
            continue;
        }
        agreed += 1;
        if got == wanted {
            equal += 1;
        } else {
            missed.push((
                id.to_owned(),
                format!("{wanted:?} != {got:?} ({:?})", result.as_ref().err()),
            ));
        }
    }
    println!("words equal: {equal} of {agreed}; slowest {slowest:?}; refused: {reasons:#?}");
    for (id, difference) in &missed {
        println!(
            "missed {id}: {}",
            difference.chars().take(300).collect::<String>()
        );
    }
    assert!(missed.is_empty(), "{} of {agreed} differ", missed.len());
    assert!(slowest < LONG, "{slowest:?}");
}

/// Files with a few bytes changed, cut or doubled: what a fuzzer does first.
#[test]
fn damaged_copies_of_real_files_end_in_words_or_a_reason() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % (below.max(1) as u64)).expect("below a usize")
    };
    let (mut read_well, mut refused) = (0, 0);
    for suite in ["pdf.jsonl", "docx.jsonl"] {
        for case in cases(suite) {
            let name = text(&case, "file");
            let whole = fs::read(fixtures().join(name)).expect("the file of a case");
            if whole.is_empty() || whole.len() > 200_000 {
                continue;
            }
            for _ in 0..ROUNDS {
                let mut bytes = whole.clone();
                for _ in 0..=random(8) {
                    let at = random(bytes.len());
                    match random(4) {
                        0 => bytes[at] = b"0123456789<>[]()/ \nRj"[random(21)],
                        1 => bytes[at] ^= 1 << random(8),
                        2 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                        _ => {
                            let piece = bytes[at..(at + random(200)).min(bytes.len())].to_vec();
                            bytes.splice(at..at, piece);
                        }
                    }
                    if bytes.is_empty() {
                        bytes.push(b'%');
                    }
                }
                let begin = Instant::now();
                match read(name, &bytes) {
                    Ok(_) => read_well += 1,
                    Err(_) => refused += 1,
                }
                assert!(begin.elapsed() < LONG, "{name}");
            }
        }
    }
    println!("damaged copies: {read_well} read, {refused} refused");
}

#[test]
fn word_files_give_their_lines_in_order() {
    for case in cases("docx.jsonl") {
        let id = text(&case, "id");
        let bytes = fs::read(fixtures().join(text(&case, "file"))).expect("the file of a case");
        let result = read(id, &bytes);
        let wanted = case["expected_lines"].as_array().expect("lines");
        if wanted.is_empty() {
            assert!(
                result.is_ok() || result.is_err_and(|error| error.ends_with("no text in it")),
                "{id}"
            );
            continue;
        }
        let document = result.expect(id);
        let mut rest = words(&document.text).join(" ");
        for line in wanted.iter().filter_map(Value::as_str) {
            let at = rest
                .find(line)
                .unwrap_or_else(|| panic!("{id}: `{line}` not in `{rest}`"));
            rest = rest.split_off(at + line.len());
        }
    }
}

#[test]
fn pages_declare_their_encoding_as_browsers_read_it() {
    let mut differences = Vec::new();
    for case in cases("encoding.jsonl") {
        let bytes = bytes(&case, "bytes_b64");
        let (found, _) = charset::of(&bytes);
        let wanted = text(&case, "expected_encoding");
        // Without a declaration we take valid UTF-8 for UTF-8; for these pages, which are ASCII, the text is the same.
        let is_default =
            wanted.eq_ignore_ascii_case("windows-1252") && found.name() == "UTF-8" && bytes.is_ascii();
        if !found.name().eq_ignore_ascii_case(wanted) && !is_default {
            differences.push(format!("{}: {wanted} != {}", text(&case, "id"), found.name()));
        }
        let _ = read("page.html", &bytes);
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Why the words of a page differ from the tokenizer's.
fn html_rule(source: &str, wanted: &str, got: &str) -> Option<&'static str> {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    let visible: String = wanted
        .chars()
        .filter(|sign| {
            !sign.is_control() && *sign != '\u{FEFF}' && *sign != '\u{AD}' && !super::text::is_tag(*sign)
        })
        .collect();
    let lower = source.to_ascii_lowercase();
    if plain(wanted) == plain(got) {
        return None;
    }
    Some(if plain(&visible) == plain(got) {
        "what is not shown is dropped: control characters, soft hyphens, byte order marks, tag characters"
    } else if [
        "<script",
        "<style",
        "<title",
        "<textarea",
        "<plaintext",
        "<xmp",
        "<iframe",
        "<noscript",
        "<svg",
    ]
    .iter()
    .any(|tag| lower.contains(tag))
    {
        "the element changes how its content is read"
    } else {
        "?"
    })
}

#[test]
fn pages_show_the_words_of_the_tokenizer() {
    let (mut equal, mut by_rule) = (0, BTreeMap::<&str, Vec<String>>::new());
    for case in cases("html_text.jsonl") {
        let source = bytes(&case, "input_b64");
        let wanted = String::from_utf8(bytes(&case, "expected_text_b64")).expect("UTF-8");
        let got = match read("page.html", &source) {
            Ok(document) => document.text,
            Err(error) => {
                assert!(
                    error.ends_with("no text in it") || error.ends_with("empty file"),
                    "{error}"
                );
                String::new()
            }
        };
        match html_rule(&String::from_utf8_lossy(&source), &wanted, &got) {
            None => equal += 1,
            Some(rule) => by_rule.entry(rule).or_default().push(format!(
                "{} {source:?} {wanted:?} {got:?}",
                text(&case, "id"),
                source = String::from_utf8_lossy(&source)
            )),
        }
    }
    for (rule, ids) in &by_rule {
        println!("{rule}: {}", ids.len());
    }
    println!("text equal: {equal}");
    assert!(!by_rule.contains_key("?"), "{:#?}", by_rule["?"]);
}

#[test]
fn naughty_strings_pass_or_are_refused_as_binary() {
    let mut refused = Vec::new();
    for case in cases("naughty.jsonl") {
        let string = String::from_utf8(bytes(&case, "b64")).expect("UTF-8");
        for name in ["a.txt", "a.md"] {
            match read(name, string.as_bytes()) {
                Ok(document) => {
                    let wanted: String = string
                        .replace("\r\n", "\n")
                        .replace('\r', "\n")
                        .chars()
                        .filter(|sign| !super::text::is_tag(*sign))
                        .collect();
                    assert_eq!(
                        document.text,
                        wanted.strip_prefix('\u{FEFF}').unwrap_or(&wanted),
                        "{name}"
                    );
                }
                Err(error) => refused.push(format!("{error} {string:?}")),
            }
        }
        let _ = read("a.html", string.as_bytes());
    }
    // Three strings: one empty, one of control characters, one that rings the bell.
    assert!(refused.len() <= 6, "{refused:#?}");
}
