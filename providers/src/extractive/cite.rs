//! `[chunk id]` marks in a model's answer → citations with the exact words.

use super::sentences::{sentences, stems};
use std::collections::HashSet;
use stepwell_core::{Citation, Hit, Origin, Part};

/// Takes a model's answer apart at its `[chunk id]` marks: each piece of text carries the citations of the marks that
/// followed it, each with the sentence of that chunk that shares most with the piece. Marks of unknown chunks stay
/// in the text, so that a made-up source is seen.
///
/// ```
/// # use stepwell_core::{Chunk, Document, Explanation, Hit, Part};
/// # use stepwell_providers::cite_marks;
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
    // The claim is the last sentence of the piece: what stands before the mark.
    let claim = sentences(claim).pop().map_or(claim, |range| &claim[range]);
    let wanted = stems(claim);
    let text = &hit.chunk.text;
    let shared = |words: &HashSet<String>| words.intersection(&wanted).count();
    let best = sentences(text)
        .into_iter()
        .map(|range| (shared(&stems(&text[range.clone()])), range))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, range)| range)
        .or_else(|| {
            (!text.trim().is_empty()).then(|| text.len() - text.trim_start().len()..text.trim_end().len())
        })?;
    hit.chunk.cite(best).ok()
}

#[cfg(test)]
mod tests {
    use super::cite_marks;
    use stepwell_core::{Chunk, Document, Explanation, Hit, Part};

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
}
