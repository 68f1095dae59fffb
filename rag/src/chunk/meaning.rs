//! Where the meaning of a text turns: by the distance between the vectors of its sentences.
//!
//! Sentences are read in pairs, so that a short one does not look like a turn. A turn is a place whose two
//! sides are further apart than those of most places of the same document. No random choice, no threshold that would fit
//! one embedder alone.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// A longer text is read in pieces of several sentences: what the embedder has to do stays bounded.
const MOST_PROBES: usize = 4_096;
/// A longer sentence is read in pieces: an embedder reads no more of it anyway.
const LONGEST: usize = 2_048;

/// Pieces of a text that together are all of it: sentences, or several where there are too many.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = Vec::new();
    let mut start = 0;
    for (at, sentence) in text.split_sentence_bound_indices() {
        let end = at + sentence.len();
        // White space alone goes with what stands before it.
        if sentence.trim().is_empty() && !ends.is_empty() {
            ends.pop();
            ends.push(end);
            start = end;
            continue;
        }
        while end - start > LONGEST {
            start = text.floor_char_boundary(start + LONGEST);
            ends.push(start);
        }
        if end > start {
            ends.push(end);
        }
        start = end;
    }
    let group = ends.len().div_ceil(MOST_PROBES).max(1);
    let mut from = 0;
    ends.chunks(group)
        .filter_map(|group| group.last())
        .map(|end| {
            let span = from..*end;
            from = *end;
            span
        })
        .collect()
}

/// Each sentence with the one behind it; none for a text of fewer than three.
pub(super) fn probes(text: &str) -> Vec<Range<usize>> {
    let sentences = sentences(text);
    if sentences.len() < 3 {
        return Vec::new();
    }
    let pairs = sentences.iter().enumerate().map(|(at, sentence)| {
        let end = sentences.get(at + 1).map_or(sentence.end, |next| next.end);
        let is_short = end - sentence.start <= LONGEST;
        sentence.start..if is_short { end } else { sentence.end }
    });
    pairs.collect()
}

/// Where the meaning turns, given the vectors of the probes: between two sentences whose pairs on both sides are further
/// apart than this share of such pairs.
pub(super) fn turns(text: &str, vectors: &[Vec<f32>], percentile: u8) -> Vec<usize> {
    let sentences = sentences(text);
    if vectors.len() != sentences.len() || sentences.len() < 3 {
        return Vec::new();
    }
    // The pair before the place ends there, the pair behind it begins there.
    let distances: Vec<(usize, f32)> = (1..sentences.len() - 1)
        .map(|at| (sentences[at].end, distance(&vectors[at - 1], &vectors[at + 1])))
        .collect();
    let mut sorted: Vec<f32> = distances.iter().map(|(_, distance)| *distance).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let place = (sorted.len() * usize::from(percentile) / 100).min(sorted.len() - 1);
    let threshold = sorted[place];
    distances
        .into_iter()
        .filter(|(_, distance)| percentile < 100 && *distance >= threshold && *distance > sorted[0])
        .map(|(at, _)| at)
        .collect()
}

/// One less the cosine; 1 where a vector has no direction.
fn distance(left: &[f32], right: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| {
        left.iter()
            .zip(right)
            .map(|(left, right)| f64::from(*left) * f64::from(*right))
            .sum::<f64>()
    };
    let norms = (dot(left, left) * dot(right, right)).sqrt();
    let cosine = if norms > 0.0 && norms.is_finite() {
        dot(left, right) / norms
    } else {
        0.0
    };
    (1.0 - cosine) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Herons fish at dawn. They stand in the water. They eat frogs. Banks lend money. \
                        Interest is paid each year. Loans are for houses.";

    #[test]
    fn the_meaning_turns_where_the_subject_does() {
        let probes = probes(TEXT);
        assert_eq!(probes.len(), 6);
        assert_eq!(
            &TEXT[probes[0].clone()],
            "Herons fish at dawn. They stand in the water. "
        );
        let turn = TEXT.find("Banks").expect("there");
        // A pair's vector is the share of birds in it.
        let vectors: Vec<Vec<f32>> = probes
            .iter()
            .map(|probe| {
                let birds = turn.clamp(probe.start, probe.end) - probe.start;
                let share = birds as f32 / probe.len() as f32;
                vec![share, 1.0 - share]
            })
            .collect();
        assert_eq!(turns(TEXT, &vectors, 90), [turn]);
        assert!(turns(TEXT, &vectors, 100).is_empty());
        assert!(
            turns(TEXT, &vectors[1..], 90).is_empty(),
            "not the vectors of this text"
        );
        let same = vec![vec![1.0, 2.0]; 6];
        assert!(turns(TEXT, &same, 50).is_empty(), "nothing turns");
    }

    #[test]
    fn the_sentences_are_all_of_the_text_and_their_number_is_bounded() {
        for text in [
            String::new(),
            " \n\n ".to_owned(),
            TEXT.to_owned(),
            "ä".repeat(100_000),
            "A word. ".repeat(20_000),
            format!("\n\n{TEXT}\n\n \n"),
        ] {
            let sentences = sentences(&text);
            let mut covered = 0;
            for span in &sentences {
                assert_eq!(span.start, covered);
                assert!(text.get(span.clone()).is_some() && !span.is_empty());
                covered = span.end;
            }
            assert_eq!(covered, text.len());
            assert!(sentences.len() <= MOST_PROBES);
        }
    }
}
