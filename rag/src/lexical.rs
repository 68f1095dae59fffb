//! The lexical leg: analyser, terms, BM25.
//!
//! The analyser is lower case → stop words (at query time only) → ASCII folding → stemming. A question never reaches
//! a query parser: its words become terms of which any may match.

use std::collections::HashSet;

use stepwell_core::{Error, Result};
use tantivy::query::{BooleanQuery, BoostQuery, EnableScoring, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Term};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language as Stem, LowerCaser, RemoveLongFilter, Stemmer, StopWordFilter,
    TextAnalyzer, Token, TokenStream, Tokenizer, TokenizerManager,
};
use tantivy::{DocSet, Searcher, TERMINATED};

use crate::error::Place;
use crate::filter::RowSet;
use crate::schema::Fields;
use crate::vector::search::{Best, Scored};

/// Longer words are left out; 64 hexadecimal digits of a hash still fit.
const LONGEST_WORD: usize = 128;
/// More distinct words of one question are not searched.
const MOST_TERMS: usize = 256;
/// Longer questions are refused.
const LONGEST_QUESTION: usize = 65_536;
/// What a word in a heading counts beside the same word in the text: headings repeat for every chunk below them.
const HEADING_BOOST: f32 = 0.5;

/// The language of a collection: which endings are cut and which words are too common to search.
///
/// ```
/// # use stepwell_rag::Language;
/// assert_eq!(Language::default(), Language::English);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // the names say it
pub enum Language {
    Arabic,
    Danish,
    Dutch,
    #[default]
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
    /// No stemming, no stop words: names, code, mixed languages.
    Neutral,
}

const LANGUAGES: [(Language, &str, Option<Stem>); 19] = [
    (Language::Arabic, "arabic", Some(Stem::Arabic)),
    (Language::Danish, "danish", Some(Stem::Danish)),
    (Language::Dutch, "dutch", Some(Stem::Dutch)),
    (Language::English, "english", Some(Stem::English)),
    (Language::Finnish, "finnish", Some(Stem::Finnish)),
    (Language::French, "french", Some(Stem::French)),
    (Language::German, "german", Some(Stem::German)),
    (Language::Greek, "greek", Some(Stem::Greek)),
    (Language::Hungarian, "hungarian", Some(Stem::Hungarian)),
    (Language::Italian, "italian", Some(Stem::Italian)),
    (Language::Norwegian, "norwegian", Some(Stem::Norwegian)),
    (Language::Portuguese, "portuguese", Some(Stem::Portuguese)),
    (Language::Romanian, "romanian", Some(Stem::Romanian)),
    (Language::Russian, "russian", Some(Stem::Russian)),
    (Language::Spanish, "spanish", Some(Stem::Spanish)),
    (Language::Swedish, "swedish", Some(Stem::Swedish)),
    (Language::Tamil, "tamil", Some(Stem::Tamil)),
    (Language::Turkish, "turkish", Some(Stem::Turkish)),
    (Language::Neutral, "neutral", None),
];

impl Language {
    /// Its lower-case English name.
    pub fn name(self) -> &'static str {
        LANGUAGES
            .iter()
            .find(|(language, ..)| *language == self)
            .map_or("neutral", |(_, name, _)| name)
    }

    /// The language of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        LANGUAGES
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(language, ..)| *language)
    }

    fn stem(self) -> Option<Stem> {
        LANGUAGES
            .iter()
            .find(|(language, ..)| *language == self)
            .and_then(|(.., stem)| *stem)
    }
}

/// The analyser's name in the schema; the number changes with its rules.
pub(crate) fn tokenizer_name(language: Language) -> String {
    format!("stepwell_{}_1", language.name())
}

pub(crate) fn analyzer(language: Language, for_question: bool) -> TextAnalyzer {
    let mut builder = TextAnalyzer::builder(Words::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .dynamic();
    let stem = language.stem();
    if let Some(stop) = stem.filter(|_| for_question).and_then(StopWordFilter::new) {
        builder = builder.filter_dynamic(stop);
    }
    // The other stemmers know accented endings; they go before folding.
    match stem {
        None => builder.filter_dynamic(AsciiFoldingFilter).build(),
        Some(Stem::English) => builder
            .filter_dynamic(AsciiFoldingFilter)
            .filter_dynamic(Stemmer::new(Stem::English))
            .build(),
        Some(stem) => builder
            .filter_dynamic(Stemmer::new(stem))
            .filter_dynamic(AsciiFoldingFilter)
            .build(),
    }
}

/// The analysers that an index needs, under the names of its schema.
pub(crate) fn tokenizers(language: Language) -> TokenizerManager {
    // The default ones are asked for even by fields of bytes.
    let manager = TokenizerManager::default();
    manager.register(&tokenizer_name(language), analyzer(language, false));
    manager
}

/// Words between signs that are no letter or digit; scripts written without spaces give one word per sign.
#[derive(Clone, Default)]
struct Words {
    token: Token,
}

struct WordStream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream {
            text,
            at: 0,
            token: &mut self.token,
        }
    }
}

/// Han, Kana, Thai, Lao, Khmer, Burmese: written without spaces.
fn stands_alone(sign: char) -> bool {
    matches!(u32::from(sign),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3134F)
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some((skipped, first)) = rest.char_indices().find(|(_, sign)| sign.is_alphanumeric()) else {
            self.at = self.text.len();
            return false;
        };
        let from = self.at + skipped;
        let length = if stands_alone(first) {
            first.len_utf8()
        } else {
            let word = &rest[skipped..];
            word.find(|sign: char| !sign.is_alphanumeric() || stands_alone(sign))
                .unwrap_or(word.len())
        };
        self.at = from + length;
        self.token.text.clear();
        self.token.text.push_str(&self.text[from..self.at]);
        self.token.offset_from = from;
        self.token.offset_to = self.at;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// The analysers of questions; made once, not for each question.
#[derive(Clone)]
pub(crate) struct Questions {
    /// With stop words left out, and with all words.
    analyzers: [TextAnalyzer; 2],
}

impl Questions {
    pub(crate) fn new(language: Language) -> Self {
        Self {
            analyzers: [analyzer(language, true), analyzer(language, false)],
        }
    }

    /// The distinct words of a question, stemmed, in order; stop words are left out unless there is nothing else.
    pub(crate) fn terms(&self, question: &str) -> Result<Vec<String>> {
        if question.len() > LONGEST_QUESTION {
            return Err(Error::LimitExceeded {
                what: "the question".to_owned(),
                limit: format!("{LONGEST_QUESTION} bytes"),
            });
        }
        for mut analyzer in self.analyzers.clone() {
            let mut stream = analyzer.token_stream(question);
            let mut seen = HashSet::new();
            let mut terms = Vec::new();
            while stream.advance() && terms.len() < MOST_TERMS {
                let word = &stream.token().text;
                if !word.is_empty() && seen.insert(word.clone()) {
                    terms.push(word.clone());
                }
            }
            if !terms.is_empty() {
                return Ok(terms);
            }
        }
        Ok(Vec::new())
    }
}

fn query(fields: &Fields, terms: &[String]) -> BooleanQuery {
    let term = |field: Field, word: &str| {
        Box::new(TermQuery::new(
            Term::from_field_text(field, word),
            IndexRecordOption::WithFreqs,
        ))
    };
    let clauses = terms.iter().flat_map(|word| {
        let heading: Box<dyn Query> = Box::new(BoostQuery::new(term(fields.heading, word), HEADING_BOOST));
        let body: Box<dyn Query> = term(fields.body, word);
        [(Occur::Should, body), (Occur::Should, heading)]
    });
    BooleanQuery::new(clauses.collect())
}

/// The best `depth` of the allowed rows by BM25.
pub(crate) fn search(
    searcher: &Searcher,
    fields: &Fields,
    terms: &[String],
    allowed: &[std::sync::Arc<RowSet>],
    depth: usize,
    place: &Place,
) -> Result<Vec<Scored>> {
    let mut best = Best::new(depth);
    if terms.is_empty() {
        return Ok(Vec::new());
    }
    let walk = |best: &mut Best| -> tantivy::Result<()> {
        let weight = query(fields, terms).weight(EnableScoring::enabled_from_searcher(searcher))?;
        for (segment, (reader, allowed)) in searcher.segment_readers().iter().zip(allowed).enumerate() {
            if allowed.len() == 0 {
                continue;
            }
            // The threshold prunes whole blocks of postings; one step below it keeps equal scores in the race.
            weight.for_each_pruning(best.threshold().next_down(), reader, &mut |row, score| {
                if allowed.contains(row) {
                    best.push(Scored {
                        score,
                        segment: segment as u32,
                        row,
                    });
                }
                best.threshold().next_down()
            })?;
        }
        Ok(())
    };
    place.check("searching", walk(&mut best))?;
    Ok(best.into_sorted())
}

/// Of each row, how many of the terms its text or headings have.
pub(crate) fn matching_terms(
    searcher: &Searcher,
    fields: &Fields,
    terms: &[String],
    rows: &[(u32, u32)],
    place: &Place,
) -> Result<Vec<u32>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by_key(|at| rows[*at]);
    let mut counts = vec![0; rows.len()];
    let mut walk = || -> tantivy::Result<()> {
        for group in order.chunk_by(|left, right| rows[*left].0 == rows[*right].0) {
            let Some(reader) = searcher.segment_readers().get(rows[group[0]].0 as usize) else {
                continue;
            };
            let (body, heading) = (
                reader.inverted_index(fields.body)?,
                reader.inverted_index(fields.heading)?,
            );
            for word in terms {
                let mut has = vec![false; group.len()];
                for (index, field) in [(&body, fields.body), (&heading, fields.heading)] {
                    let term = Term::from_field_text(field, word);
                    let Some(mut postings) = index.read_postings(&term, IndexRecordOption::Basic)? else {
                        continue;
                    };
                    let mut doc = postings.doc();
                    for (has, at) in has.iter_mut().zip(group) {
                        let row = rows[*at].1;
                        if doc < row {
                            doc = postings.seek(row);
                        }
                        *has |= doc == row && doc != TERMINATED;
                    }
                }
                for (has, at) in has.into_iter().zip(group) {
                    counts[*at] += u32::from(has);
                }
            }
        }
        Ok(())
    };
    place.check("searching", walk())?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(language: Language, text: &str) -> Vec<String> {
        Questions::new(language).terms(text).expect("short")
    }

    #[test]
    fn a_question_becomes_distinct_folded_stems_without_stop_words() {
        assert_eq!(
            words(Language::English, "The Runs AND the running of Cafés?"),
            ["run", "cafe"]
        );
        assert_eq!(
            words(Language::Neutral, "The Runs: Café-1"),
            ["the", "runs", "cafe", "1"]
        );
        assert_eq!(words(Language::German, "die Häuser des Hauses"), ["haus"]);
    }

    #[test]
    fn a_question_of_stop_words_alone_is_still_searched() {
        assert_eq!(
            words(Language::English, "to be or not to be"),
            ["to", "be", "or", "not"]
        );
        assert!(words(Language::English, " ?! ").is_empty());
    }

    #[test]
    fn scripts_without_spaces_give_one_word_per_sign() {
        assert_eq!(
            words(Language::English, "東京tower 2024年"),
            ["東", "京", "tower", "2024", "年"]
        );
    }

    #[test]
    fn a_hash_of_64_digits_is_a_word_and_a_book_in_one_word_is_not() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(words(Language::English, &hash), [hash]);
        assert!(words(Language::English, &"x".repeat(500)).is_empty());
        assert_eq!(
            Questions::new(Language::English)
                .terms(&"x".repeat(70_000))
                .expect_err("long")
                .code(),
            "limit_exceeded"
        );
    }

    #[test]
    fn every_language_has_its_name() {
        for (language, name, _) in LANGUAGES {
            assert_eq!(
                (language.name(), Language::from_name(name)),
                (name, Some(language))
            );
        }
        assert_eq!(Language::from_name("klingon"), None);
    }
}
