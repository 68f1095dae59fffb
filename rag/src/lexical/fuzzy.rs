//! Words that nothing has become words that something has: one letter wrong, or two in long ones.

use stepwell_core::Result;
use tantivy::Searcher;
use tantivy::schema::{Field, Term};

use super::question::Sought;
use crate::error::Place;
use crate::fact::after_prefix;
use crate::schema::Fields;

/// Shorter words are too like each other.
const SHORTEST: usize = 4;
/// Words of this many letters may have two wrong.
const LONG: usize = 8;
/// Forms of a word that are searched: the nearest, and of these the most common.
const MOST_FORMS: usize = 16;
/// Words of one question that are mended.
const MOST_WORDS: usize = 8;
/// Terms of a segment that a word is compared with.
const MOST_COMPARED: usize = 200_000;
/// What a form counts with one letter wrong, and with two.
const COUNTS: [f32; 2] = [0.5, 0.25];

/// Gives each word that no text has the forms it may be mistyped from. The first letter is taken to be right.
pub(crate) fn mend(searcher: &Searcher, fields: &Fields, words: &mut [Sought], place: &Place) -> Result<()> {
    let mut work = || -> tantivy::Result<()> {
        let mut left = MOST_WORDS;
        for word in words.iter_mut() {
            if left == 0 || allowance(&word.term) == 0 {
                continue;
            }
            let mut known = 0;
            for field in [fields.body, fields.title, fields.heading] {
                known += searcher.doc_freq(&Term::from_field_text(field, &word.term))?;
            }
            if known == 0 {
                left -= 1;
                word.others = forms(searcher, fields.body, &word.term)?;
            }
        }
        Ok(())
    };
    place.check("searching", work())
}

/// Letters of a word that may be wrong.
fn allowance(word: &str) -> usize {
    match word.chars().count() {
        0..SHORTEST => 0,
        SHORTEST..LONG => 1,
        _ => 2,
    }
}

fn forms(searcher: &Searcher, field: Field, word: &str) -> tantivy::Result<Vec<(String, f32)>> {
    let letters: Vec<char> = word.chars().collect();
    let most = allowance(word);
    let first = letters.first().map(ToString::to_string).unwrap_or_default();
    let end = after_prefix(first.as_bytes());
    let mut found: std::collections::HashMap<String, (usize, u64)> = std::collections::HashMap::new();
    for reader in searcher.segment_readers() {
        let index = reader.inverted_index(field)?;
        let mut terms = index
            .terms()
            .range()
            .ge(first.as_bytes())
            .lt(&end)
            .into_stream()?;
        let mut compared = 0;
        while terms.advance() && compared < MOST_COMPARED {
            compared += 1;
            let Ok(term) = std::str::from_utf8(terms.key()) else {
                continue;
            };
            if let Some(distance) = distance(&letters, term, most) {
                let entry = found.entry(term.to_owned()).or_insert((distance, 0));
                entry.1 += u64::from(terms.value().doc_freq);
            }
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(left, near), (right, far)| {
        near.0
            .cmp(&far.0)
            .then_with(|| far.1.cmp(&near.1))
            .then_with(|| left.cmp(right))
    });
    found.truncate(MOST_FORMS);
    Ok(found
        .into_iter()
        .map(|(term, (distance, _))| (term, COUNTS[distance.saturating_sub(1).min(1)]))
        .collect())
}

/// Letters to put in, take out, change or swap with their neighbour; `None` where more than `most`.
fn distance(word: &[char], other: &str, most: usize) -> Option<usize> {
    // Bytes bound letters from above, and words of one length class are few.
    if other.len() + most < word.len() {
        return None;
    }
    let other: Vec<char> = other.chars().take(word.len() + most + 1).collect();
    if other.len().abs_diff(word.len()) > most {
        return None;
    }
    let mut rows = [
        vec![0; other.len() + 1],
        (0..=other.len()).collect(),
        vec![0; other.len() + 1],
    ];
    for (at, letter) in word.iter().enumerate() {
        let [before, last, next] = &mut rows;
        next[0] = at + 1;
        for (column, against) in other.iter().enumerate() {
            let mut cost = (last[column] + usize::from(letter != against))
                .min(last[column + 1] + 1)
                .min(next[column] + 1);
            if at > 0 && column > 0 && *letter == other[column - 1] && word[at - 1] == *against {
                cost = cost.min(before[column - 1] + 1);
            }
            next[column + 1] = cost;
        }
        if next.iter().all(|cost| *cost > most) {
            return None;
        }
        rows.rotate_left(1);
    }
    rows[1].last().copied().filter(|cost| *cost <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far(word: &str, other: &str, most: usize) -> Option<usize> {
        distance(&word.chars().collect::<Vec<_>>(), other, most)
    }

    #[test]
    fn the_distance_of_words_is_how_many_letters_are_wrong() {
        assert_eq!(far("cathod", "cathod", 2), Some(0));
        assert_eq!(far("cathod", "cahtod", 1), Some(1), "swapped");
        assert_eq!(far("cathod", "catod", 1), Some(1), "left out");
        assert_eq!(far("cathod", "cathhod", 1), Some(1), "doubled");
        assert_eq!(far("cathod", "kathot", 2), Some(2));
        assert_eq!(far("cathod", "kathot", 1), None);
        assert_eq!(far("cathod", "method", 2), Some(2));
        assert_eq!(far("cathod", "methyl", 2), None);
        assert_eq!(far("über", "uber", 1), Some(1));
        assert_eq!(far("word", &"w".repeat(10_000), 2), None);
    }
}
