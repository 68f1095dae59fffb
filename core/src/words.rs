//! Sentences of a text as byte ranges, Markdown furniture left out, and the words in them that carry meaning.
//!
//! One notion of both for whoever quotes, cites or checks.

use std::{collections::HashSet, ops::Range};
use unicode_segmentation::UnicodeSegmentation;

/// Shortest sentence worth quoting, in letters.
const SHORTEST: usize = 20;

/// Byte ranges of the sentences of a passage, in order. Headings, code blocks and table rules are left out; a list
/// item is a sentence of its own, without its marker; lines wrapped within a paragraph belong together.
///
/// Those of fewer than 20 letters are left out too: they are not worth quoting.
///
/// ```
/// # use stepwell_core::words::sentences;
/// let text = "# Runs\n\nA run is a log that only grows. Yes.";
/// assert_eq!(&text[sentences(text)[0].clone()], "A run is a log that only grows.");
/// ```
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = all_sentences(text);
    found.retain(|range| {
        text[range.clone()]
            .chars()
            .filter(|sign| sign.is_alphabetic())
            .count()
            >= SHORTEST
    });
    found
}

/// [`sentences`], the short ones as well: all that has a letter or a digit.
pub fn all_sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut paragraph: Option<Range<usize>> = None;
    let mut is_code = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let words = line.trim();
        if words.starts_with("```") || words.starts_with("~~~") {
            is_code = !is_code;
            flush(text, paragraph.take(), &mut found);
            continue;
        }
        if is_code || words.is_empty() || is_heading(words) || is_rule(words) {
            flush(text, paragraph.take(), &mut found);
            continue;
        }
        if let Some(marker) = list_marker(line) {
            flush(text, paragraph.take(), &mut found);
            paragraph = Some(start + marker..end);
        } else if words.starts_with('|') {
            flush(text, paragraph.take(), &mut found);
            found.push(trimmed(text, start..end));
        } else {
            paragraph = Some(paragraph.map_or(start..end, |open| open.start..end));
        }
    }
    flush(text, paragraph, &mut found);
    found.retain(|range| text[range.clone()].contains(char::is_alphanumeric));
    found
}

fn flush(text: &str, paragraph: Option<Range<usize>>, found: &mut Vec<Range<usize>>) {
    let Some(paragraph) = paragraph else { return };
    // A line end inside a paragraph is a space: the segmenter would take it for a paragraph's end. Same length, so offsets hold.
    let joined = text[paragraph.clone()].replace('\n', " ");
    let mut open: Option<Range<usize>> = None;
    for (offset, piece) in joined.split_sentence_bound_indices() {
        let range = paragraph.start + offset..paragraph.start + offset + piece.len();
        let whole = open.take().map_or(range.clone(), |open| open.start..range.end);
        if ends_in_abbreviation(&joined[whole.start - paragraph.start..whole.end - paragraph.start]) {
            open = Some(whole);
        } else {
            found.push(trimmed(text, whole));
        }
    }
    if let Some(open) = open {
        found.push(trimmed(text, open));
    }
}

fn ends_in_abbreviation(sentence: &str) -> bool {
    const SHORT: [&str; 14] = [
        "e.g.", "i.e.", "etc.", "cf.", "vs.", "fig.", "no.", "dr.", "mr.", "mrs.", "prof.", "al.", "approx.",
        "st.",
    ];
    let last = sentence
        .split_whitespace()
        .next_back()
        .unwrap_or("")
        .trim_start_matches(['(', '['])
        .to_lowercase();
    SHORT.contains(&last.as_str())
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let words = &text[range.clone()];
    let start = range.start + (words.len() - words.trim_start().len());
    start..start + words.trim().len()
}

fn is_heading(line: &str) -> bool {
    line.starts_with('#') && line.trim_start_matches('#').starts_with(' ')
}

fn is_rule(line: &str) -> bool {
    line.len() >= 3
        && line
            .chars()
            .all(|sign| matches!(sign, '-' | '=' | '*' | '_' | '|' | ':' | ' ' | '+'))
}

/// Length of a list or quote marker with its indentation.
fn list_marker(line: &str) -> Option<usize> {
    let indent = line.len() - line.trim_start().len();
    let rest = &line[indent..];
    if ["- ", "* ", "+ ", "> ", "• "]
        .iter()
        .any(|marker| rest.starts_with(marker))
    {
        let sign = rest.chars().next().map_or(0, char::len_utf8);
        return Some(indent + sign + 1);
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let is_numbered =
        (1..=3).contains(&digits) && (rest[digits..].starts_with(". ") || rest[digits..].starts_with(") "));
    is_numbered.then_some(indent + digits + 2)
}

/// The words of a text that carry meaning, lower-cased and cut to a crude stem, so that `resumes` meets `resume`.
pub fn stems(text: &str) -> HashSet<String> {
    text.unicode_words()
        .map(str::to_lowercase)
        .filter(|word| !is_stop_word(word))
        .map(|word| stem(&word))
        .collect()
}

/// The crude stem of a lower-case English word.
pub fn stem(word: &str) -> String {
    let mut stem = word;
    for ending in [
        "ingly", "edly", "ings", "ing", "ies", "ied", "ed", "es", "s", "ly", "e",
    ] {
        if let Some(rest) = stem.strip_suffix(ending)
            && rest.chars().count() >= 3
        {
            stem = rest;
            break;
        }
    }
    stem.trim_end_matches(['i', 'y']).to_owned()
}

/// Whether a lower-case English word carries no meaning of its own.
pub fn is_stop_word(word: &str) -> bool {
    const STOP: [&str; 94] = [
        "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been",
        "before", "but", "by", "can", "could", "did", "do", "does", "for", "from", "get", "had", "has",
        "have", "he", "her", "here", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just",
        "like", "many", "me", "more", "most", "much", "my", "no", "not", "of", "on", "one", "or", "other",
        "our", "out", "over", "she", "should", "so", "some", "such", "tell", "than", "that", "the", "their",
        "them", "then", "there", "these", "they", "this", "those", "to", "up", "us", "was", "we", "were",
        "what", "when", "where", "which", "while", "who", "whom", "why", "will", "with", "would", "you",
    ];
    STOP.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{sentences, stems};

    fn texts(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn wrapped_lines_are_one_sentence_and_markdown_furniture_is_left_out() {
        let text = "# Runs and journals\n\nA run is a log that\nonly grows. After a crash it is\nread again, e.g. by another process.\n\n\
                    ```\nlet run = agent.run(\"this is code and no sentence\");\n```\n\n- The first item of a list here.\n\
                    2. The second item of a list here.\n\n| a cell of a table | another cell of it |\n|---|---|\n";
        assert_eq!(
            texts(text),
            [
                "A run is a log that\nonly grows.",
                "After a crash it is\nread again, e.g. by another process.",
                "The first item of a list here.",
                "The second item of a list here.",
                "| a cell of a table | another cell of it |",
            ]
        );
    }

    #[test]
    fn ranges_lie_on_character_bounds_in_any_script() {
        let text = "Ünïcödé sentences are fine as well. 这是一个用来测试分句的很长的中文句子，没有空格也可以。😀 emoji do not hurt the splitter at all!";
        for range in sentences(text) {
            assert!(text.get(range).is_some());
        }
    }

    #[test]
    fn forms_of_a_word_share_a_stem_and_stop_words_do_not_count() {
        assert_eq!(stems("How does it resume?"), stems("resumes, resumed, resuming"));
        assert!(stems("what is the").is_empty());
    }
}
