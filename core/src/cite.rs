//! Marks in a model's answer, `[chunk id]` or `[2]` → citations with the exact words.

use crate::{
    Citation, Hit, Origin, Part,
    words::{sentences, stems},
};
use std::{collections::HashSet, ops::Range};

/// What a model says when the documents do not tell.
pub const NOT_FOUND: &str = "not found in these documents";

/// Takes a model's answer apart at its `[chunk id]` marks: each piece of text carries the citations of the marks that
/// followed it, each with the sentence of that chunk that shares most with the piece. Marks of unknown chunks stay
/// in the text, so that a made-up source is seen.
///
/// ```
/// # use stepwell_core::{Chunk, Document, Explanation, Hit, Part};
/// # use stepwell_core::cite_marks;
/// let document = Document::new("runs.md", "A journal only grows. It is read again after a crash.");
/// let chunk = Chunk::of(&document, 0, 0..document.text.len()).unwrap();
/// let hits = [Hit::new(chunk, 1.0, Explanation::default())];
/// let parts = cite_marks("After a crash the journal is read again [runs.md#0].", &hits);
/// let Part::Text(text) = &parts[0] else { unreachable!() };
/// assert_eq!(text.citations[0].quote, "It is read again after a crash.");
/// ```
pub fn cite_marks(answer: &str, hits: &[Hit]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut piece = String::new();
    let mut citations: Vec<Citation> = Vec::new();
    let mut rest = answer;
    while let Some(open) = rest.find('[') {
        let Some(close) = rest[open..].find(']').map(|length| open + length) else {
            break;
        };
        let known: Vec<&Hit> = rest[open + 1..close]
            .split([',', ';'])
            .filter_map(|id| hits.iter().find(|hit| hit.chunk.id == id.trim()))
            .collect();
        let before = &rest[..open];
        if known.is_empty() {
            push(&mut parts, &mut piece, &mut citations, before);
            piece.push_str(&rest[open..=close]);
        } else {
            push(&mut parts, &mut piece, &mut citations, before);
            for hit in known {
                if let Some(citation) = best_sentence(&piece, hit)
                    && !citations.contains(&citation)
                {
                    citations.push(citation);
                }
            }
        }
        rest = &rest[close + 1..];
    }
    push(&mut parts, &mut piece, &mut citations, rest);
    if !piece.is_empty() || !citations.is_empty() {
        parts.push(part(piece.trim_end(), citations));
    }
    parts
}

/// Adds text to the open piece; where the piece has its citations already, it ends after the mark's punctuation.
fn push(parts: &mut Vec<Part>, piece: &mut String, citations: &mut Vec<Citation>, text: &str) {
    if citations.is_empty() {
        piece.push_str(text);
        return;
    }
    let tail = text.len() - text.trim_start_matches(['.', ',', ';', ':', '!', '?', ')']).len();
    let mut whole = piece.trim_end().to_owned();
    whole.push_str(&text[..tail]);
    if text[tail..].trim().is_empty() {
        // Another mark follows at once: the piece stays open for it.
        *piece = whole;
        piece.push_str(&text[tail..]);
    } else {
        parts.push(part(&whole, std::mem::take(citations)));
        text[tail..].clone_into(piece);
    }
}

fn part(text: &str, citations: Vec<Citation>) -> Part {
    let mut part = Part::text(text, Origin::Model);
    if let Part::Text(text) = &mut part {
        text.citations = citations;
    }
    part
}

fn best_sentence(claim: &str, hit: &Hit) -> Option<Citation> {
    let best = quote_for(claim, &hit.chunk.text)?;
    hit.chunk.cite(best).ok()
}

/// The bytes of a passage that words rest on most likely: the sentence that shares most with the last sentence of the
/// claim, the first of equal ones. `None` where the passage has no words.
pub fn quote_for(claim: &str, passage: &str) -> Option<Range<usize>> {
    // The claim is the last sentence of the piece: what stands before the mark.
    let claim = sentences(claim).pop().map_or(claim, |range| &claim[range]);
    let wanted = stems(claim);
    let shared = |words: &HashSet<String>| words.intersection(&wanted).count();
    sentences(passage)
        .into_iter()
        .map(|range| (shared(&stems(&passage[range.clone()])), range))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, range)| range)
        .or_else(|| {
            let start = passage.len() - passage.trim_start().len();
            (!passage.trim().is_empty()).then(|| start..passage.trim_end().len())
        })
}

/// Where a passage has these words, runs of white space and the kinds of quotation marks, dashes and apostrophes taken
/// for equal; letters have to be the same. `None` where it has not, or where the words are empty.
///
/// ```
/// # use stepwell_core::find_quote;
/// let passage = "A journal\n  only grows; it\u{2019}s never rewritten.";
/// let found = find_quote(passage, "only grows; it's never").unwrap();
/// assert_eq!(&passage[found], "only grows; it\u{2019}s never");
/// ```
pub fn find_quote(passage: &str, quote: &str) -> Option<Range<usize>> {
    let (wanted, _) = folded(quote.trim());
    if wanted.is_empty() {
        return None;
    }
    let (text, places) = folded(passage);
    let at = text.find(&wanted)?;
    // Places are those of single signs: the last one of the quote tells where it ends.
    let signs_before = text[..at].chars().count();
    let last = signs_before + wanted.chars().count() - 1;
    Some(places.get(signs_before)?.start..places.get(last)?.end)
}

/// A text with its spaces and signs made alike, and for each of its signs the bytes it came from.
fn folded(text: &str) -> (String, Vec<Range<usize>>) {
    let (mut out, mut places) = (String::with_capacity(text.len()), Vec::new());
    for (at, sign) in text.char_indices() {
        let bytes = at..at + sign.len_utf8();
        let sign = match sign {
            sign if sign.is_whitespace() => ' ',
            '\u{2018}' | '\u{2019}' | '\u{201b}' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => '"',
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            sign => sign,
        };
        if sign == ' ' && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        out.push(sign);
        places.push(bytes);
    }
    (out, places)
}

#[cfg(test)]
mod tests {
    use super::{cite_marks, find_quote};
    use crate::{Chunk, Document, Explanation, Hit, Part};

    fn hits() -> Vec<Hit> {
        let document = Document::new(
            "a.md",
            "Cats sleep most of the day. Dogs like to walk in the morning.",
        );
        let chunk = Chunk::of(&document, 0, 0..document.text.len()).expect("whole");
        vec![Hit::new(chunk, 1.0, Explanation::default())]
    }

    #[test]
    fn each_claim_gets_the_sentence_it_rests_on() {
        let parts = cite_marks(
            "Cats sleep a lot [a.md#0]. Dogs walk in the morning [a.md#0].",
            &hits(),
        );
        let found: Vec<(String, String)> = parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => (text.text.clone(), text.citations[0].quote.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            found[0],
            ("Cats sleep a lot.".into(), "Cats sleep most of the day.".into())
        );
        assert_eq!(
            found[1],
            (
                " Dogs walk in the morning.".into(),
                "Dogs like to walk in the morning.".into()
            )
        );
    }

    #[test]
    fn a_made_up_source_stays_visible_and_cites_nothing() {
        let parts = cite_marks("Fish fly [b.md#9], see [1]", &hits());
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].as_text(), Some("Fish fly [b.md#9], see [1]"));
    }

    #[test]
    fn a_quote_is_found_over_line_ends_and_typographic_signs_and_never_by_other_letters() {
        let passage = "  \u{201c}Cats\n\tsleep\u{201d} \u{2014} so it\u{2019}s said. 東京";
        let found = |quote: &str| find_quote(passage, quote).map(|range| &passage[range]);
        assert_eq!(
            found("\"Cats sleep\" - so it's"),
            Some("\u{201c}Cats\n\tsleep\u{201d} \u{2014} so it\u{2019}s")
        );
        assert_eq!(found(" said. 東京 "), Some("said. 東京"));
        assert_eq!(
            (found("Cats sleeps"), found("cats sleep"), found("  ")),
            (None, None, None)
        );
    }
}
