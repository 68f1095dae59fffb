//! [`Language`] and its analyser: lower case → stop words (of questions only) → ASCII folding and stemming.

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language as Stem, LowerCaser, RemoveLongFilter, Stemmer, StopWordFilter,
    TextAnalyzer, TokenizerManager,
};

use super::words::Words;

/// Longer words are left out; 64 hexadecimal digits of a hash still fit.
const LONGEST_WORD: usize = 128;

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

#[cfg(test)]
mod tests {
    use super::*;

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
