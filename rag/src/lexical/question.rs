//! [`Questions`]: a question's distinct words as the index has them, and where they stand in a text.

use std::collections::HashSet;
use std::ops::Range;

use compact_str::CompactString;
use stepwell_core::{Error, Result};
use tantivy::tokenizer::{TextAnalyzer, TokenStream};

use super::language::{Language, analyzer};

/// More distinct words of one question are not searched.
const MOST_TERMS: usize = 256;
/// Longer questions are refused.
const LONGEST_QUESTION: usize = 65_536;

/// A word that is looked for, in each form that counts as it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sought {
    /// The word itself, as a term of the index; most words are short and need no memory of their own.
    pub(crate) term: CompactString,
    /// Other terms with what each counts; the word itself counts 1.
    pub(crate) others: Vec<(String, f32)>,
}

impl Sought {
    pub(super) fn word(term: &str) -> Self {
        Self {
            term: term.into(),
            others: Vec::new(),
        }
    }

    /// All terms that count as the word, with what each counts.
    pub(crate) fn forms(&self) -> impl Iterator<Item = (&str, f32)> {
        let others = self.others.iter().map(|(term, weight)| (term.as_str(), *weight));
        std::iter::once((self.term.as_str(), 1.0)).chain(others)
    }
}

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Question {
    /// The distinct words in order; stop words are left out unless there is nothing else.
    pub(crate) words: Vec<Sought>,
    /// Words that stand side by side in the question.
    pub(crate) pairs: Vec<[String; 2]>,
}

/// The analysers of questions; made once, not for each question.
#[derive(Clone)]
pub(crate) struct Questions {
    /// With stop words left out.
    asking: TextAnalyzer,
    /// As the index reads: with all words.
    reading: TextAnalyzer,
}

impl Questions {
    pub(crate) fn new(language: Language) -> Self {
        Self {
            asking: analyzer(language, true),
            reading: analyzer(language, false),
        }
    }

    /// The words of a question, and the pairs of neighbours where they are asked for.
    pub(crate) fn read(&self, question: &str, with_pairs: bool) -> Result<Question> {
        if question.len() > LONGEST_QUESTION {
            return Err(Error::LimitExceeded {
                what: "the question".to_owned(),
                limit: format!("{LONGEST_QUESTION} bytes"),
            });
        }
        for analyzer in [&self.asking, &self.reading] {
            let words = question_of(analyzer.clone(), question, with_pairs);
            if !words.words.is_empty() {
                return Ok(words);
            }
        }
        Ok(Question::default())
    }

    /// Every word of a text, as the index has it, with its bytes.
    pub(super) fn all(&self, text: &str) -> Vec<(String, Range<usize>)> {
        let mut analyzer = self.reading.clone();
        let mut stream = analyzer.token_stream(text);
        let mut words = Vec::new();
        while stream.advance() {
            let token = stream.token();
            if !token.text.is_empty() {
                words.push((token.text.clone(), token.offset_from..token.offset_to));
            }
        }
        words
    }

    /// Where these words stand in a text, in order; neighbours stay apart.
    pub(crate) fn places(&self, words: &[Sought], text: &str) -> Vec<Range<usize>> {
        let forms: HashSet<&str> = words
            .iter()
            .flat_map(Sought::forms)
            .map(|(form, _)| form)
            .collect();
        let mut analyzer = self.reading.clone();
        let mut stream = analyzer.token_stream(text);
        let mut places = Vec::new();
        while stream.advance() {
            let token = stream.token();
            if forms.contains(token.text.as_str()) && text.get(token.offset_from..token.offset_to).is_some() {
                places.push(token.offset_from..token.offset_to);
            }
        }
        places
    }
}

fn question_of(mut analyzer: TextAnalyzer, question: &str, with_pairs: bool) -> Question {
    let mut stream = analyzer.token_stream(question);
    let mut found = Question::default();
    let mut before: Option<(usize, String)> = None;
    while stream.advance() && found.words.len() < MOST_TERMS {
        let token = stream.token();
        if token.text.is_empty() {
            continue;
        }
        if let Some((position, word)) = before.take()
            && position + 1 == token.position
            && word != token.text
        {
            let pair = [word, token.text.clone()];
            if !found.pairs.contains(&pair) {
                found.pairs.push(pair);
            }
        }
        // So few are compared faster than put into a set.
        if !found.words.iter().any(|word| word.term == *token.text) {
            found.words.push(Sought::word(&token.text));
        }
        if with_pairs {
            before = Some((token.position, token.text.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(language: Language, text: &str) -> Vec<String> {
        let question = Questions::new(language).read(text, true).expect("short");
        question.words.into_iter().map(|word| word.term.into()).collect()
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
                .read(&"x".repeat(70_000), true)
                .expect_err("long")
                .code(),
            "limit_exceeded"
        );
    }

    #[test]
    fn words_are_pairs_only_where_nothing_stood_between_them() {
        let question = Questions::new(Language::English)
            .read("sodium cathodes of sodium cathodes in wells", true)
            .expect("short");
        assert_eq!(question.pairs, [["sodium", "cathod"].map(str::to_owned)]);
    }

    #[test]
    fn the_places_of_words_are_the_bytes_of_every_form_they_take() {
        let questions = Questions::new(Language::English);
        let question = questions.read("Running the café", false).expect("short");
        let text = "She runs. Cafés run; the CAFE ran";
        let found: Vec<&str> = questions
            .places(&question.words, text)
            .into_iter()
            .map(|place| &text[place])
            .collect();
        assert_eq!(found, ["runs", "Cafés", "run", "CAFE"]);
    }
}
