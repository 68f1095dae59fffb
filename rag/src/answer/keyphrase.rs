//! [`Keyphrases`]: what a text is about in a few of its own words, offline.

use crate::{
    Collection,
    lexical::{Language, analyzer},
};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use stepwell_core::{Result, words::is_stop_word};

/// Bytes of a text that are read.
const READ: usize = 256 << 10;
/// Words of a phrase at most.
const PHRASE_WORDS: usize = 4;

/// Of each analysed word, in how many chunks of a collection it stands; see [`Collection::term_counts`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TermCounts {
    /// Chunks in all.
    pub chunks: u64,
    /// Word, as the analyser cuts it → chunks that have it.
    pub counts: HashMap<String, u64>,
}

/// A phrase of a text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Keyphrase {
    /// The words as they first stand in the text.
    pub text: String,
    /// Where they first stand.
    pub span: Range<usize>,
    /// Higher is better; comparable within one text.
    pub score: f32,
}

/// Finds the phrases that tell what a text is about: runs of words between stop words and punctuation, weighed by how often
/// their words stand in the text, with how many others, and how rare they are in the collection where that is known. No
/// model is asked, and the same text gives the same phrases.
///
/// ```
/// use stepwell_rag::{Language, answer::Keyphrases};
/// let text = "Sodium cathodes swell when they are charged. We coat sodium cathodes with alumina. \
///             The alumina coating keeps sodium cathodes from swelling.";
/// assert_eq!(Keyphrases::new(Language::English).phrases(text)[0].text, "Sodium cathodes");
/// ```
#[derive(Clone, Debug)]
pub struct Keyphrases {
    language: Language,
    counts: Option<TermCounts>,
    most: usize,
}

/// A word of a text.
struct Word {
    span: Range<usize>,
    stem: String,
    is_stop: bool,
}

impl Keyphrases {
    /// In a text of this language, ten at most.
    pub fn new(language: Language) -> Self {
        Self {
            language,
            counts: None,
            most: 10,
        }
    }

    /// With what is rare in a collection.
    pub fn counts(mut self, counts: TermCounts) -> Self {
        self.counts = Some(counts);
        self
    }

    /// So many at most.
    pub fn most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// The best phrases, best first; none says again what a better one says.
    pub fn phrases(&self, text: &str) -> Vec<Keyphrase> {
        let text = &text[..text.floor_char_boundary(READ)];
        let words = self.words(text);
        let runs = runs(text, &words);
        let weights = self.weights(&words, &runs);
        let mut found: Vec<(Keyphrase, Vec<&str>)> = Vec::new();
        let mut places: HashMap<Vec<&str>, usize> = HashMap::new();
        for run in &runs {
            for length in 1..=PHRASE_WORDS.min(run.len()) {
                for window in run.windows(length) {
                    let stems: Vec<&str> = window.iter().map(|at| words[*at].stem.as_str()).collect();
                    let distinct: HashSet<&&str> = stems.iter().collect();
                    if distinct.len() < stems.len() {
                        continue;
                    }
                    if let Some(place) = places.get(&stems) {
                        found[*place].0.score += 1.0; // counted first, weighed below
                        continue;
                    }
                    let span = words[window[0]].span.start..words[window[length - 1]].span.end;
                    places.insert(stems.clone(), found.len());
                    let phrase = Keyphrase {
                        text: text[span.clone()]
                            .split_whitespace()
                            .collect::<Vec<_>>()
                            .join(" "),
                        span,
                        score: 1.0,
                    };
                    found.push((phrase, stems));
                }
            }
        }
        for (phrase, stems) in &mut found {
            let weight: f32 = stems
                .iter()
                .map(|stem| weights.get(stem).copied().unwrap_or_default())
                .sum();
            let length = stems.len() as f32;
            // A phrase that comes again is one; one that stands early is likelier the subject.
            let early = 1.0 + 0.3 / (1.0 + phrase.span.start as f32 / 200.0);
            phrase.score = weight / length.powf(0.6) * (1.0 + (phrase.score).ln()) * early;
        }
        found.sort_by(|a, b| {
            let by_score = b.0.score.total_cmp(&a.0.score);
            by_score
                .then(a.0.span.start.cmp(&b.0.span.start))
                .then(b.0.span.end.cmp(&a.0.span.end))
        });
        let mut best: Vec<(Keyphrase, Vec<&str>)> = Vec::new();
        for (phrase, stems) in found {
            if best.len() == self.most {
                break;
            }
            let is_said = best
                .iter()
                .any(|(_, known)| stems.iter().any(|stem| known.contains(stem)));
            if !is_said {
                best.push((phrase, stems));
            }
        }
        best.into_iter().map(|(phrase, _)| phrase).collect()
    }

    /// A title of at most so many words: the best phrases, in the order they stand in the text. `None` for a text without
    /// words.
    pub fn title(&self, text: &str, most_words: usize) -> Option<String> {
        let mut chosen: Vec<Keyphrase> = Vec::new();
        let mut words = 0;
        for phrase in self.phrases(text) {
            let count = phrase.text.split_whitespace().count();
            if words + count <= most_words {
                words += count;
                chosen.push(phrase);
            }
        }
        chosen.sort_by_key(|phrase| phrase.span.start);
        let mut title = chosen
            .into_iter()
            .map(|phrase| phrase.text)
            .collect::<Vec<_>>()
            .join(", ");
        let first = title.chars().next()?;
        // A word with a capital inside, such as pH, is left as it is.
        let word = title.split_whitespace().next().unwrap_or_default();
        if first.is_lowercase() && !word.contains(char::is_uppercase) {
            title.replace_range(..first.len_utf8(), &first.to_uppercase().to_string());
        }
        Some(title)
    }

    fn words(&self, text: &str) -> Vec<Word> {
        let spans = |with_stop_words: bool| {
            let mut analyzer = analyzer(self.language, !with_stop_words);
            let mut stream = analyzer.token_stream(text);
            let mut found = Vec::new();
            while stream.advance() {
                let token = stream.token();
                found.push((token.offset_from..token.offset_to, token.text.clone()));
            }
            found
        };
        let kept: HashSet<usize> = spans(false).into_iter().map(|(span, _)| span.start).collect();
        spans(true)
            .into_iter()
            .map(|(span, stem)| {
                let word = text[span.clone()].to_lowercase();
                let is_common = self.language == Language::English
                    && (is_stop_word(&word) || COMMON.contains(&word.as_str()));
                let is_stop = !kept.contains(&span.start)
                    || is_common
                    || word.chars().count() < 2
                    || !word.contains(char::is_alphabetic);
                Word { span, stem, is_stop }
            })
            .collect()
    }

    /// What each word of the runs weighs.
    fn weights<'a>(&self, words: &'a [Word], runs: &[Vec<usize>]) -> HashMap<&'a str, f32> {
        let mut counts: HashMap<&str, (f32, f32)> = HashMap::new();
        for run in runs {
            for at in run {
                let (times, company) = counts.entry(&words[*at].stem).or_default();
                *times += 1.0;
                *company += run.len() as f32;
            }
        }
        counts
            .into_iter()
            .map(|(stem, (times, company))| {
                // Company tells terms from common words; a collection tells it better of those that it knows well.
                let mut rarity = (1.0 + company / times).ln() + 1.0;
                if let Some(known) = &self.counts {
                    let having = known.counts.get(stem).copied().unwrap_or(0) as f32;
                    let chunks = known.chunks as f32;
                    let rarest = (1.0 + chunks).ln().max(f32::MIN_POSITIVE);
                    rarity *= 0.4 + (1.0 + chunks / (having + 1.0)).ln() / rarest;
                }
                (stem, (1.0 + times.ln()) * rarity)
            })
            .collect()
    }
}

/// Common words, of reports above all, that tell nothing of a subject.
const COMMON: [&str; 49] = [
    "once",
    "we",
    "here",
    "show",
    "shows",
    "showed",
    "shown",
    "study",
    "studies",
    "results",
    "result",
    "methods",
    "method",
    "conclusions",
    "conclusion",
    "background",
    "objective",
    "objectives",
    "found",
    "find",
    "findings",
    "using",
    "used",
    "use",
    "may",
    "between",
    "during",
    "among",
    "however",
    "both",
    "well",
    "new",
    "role",
    "demonstrate",
    "demonstrated",
    "suggest",
    "suggests",
    "suggesting",
    "identified",
    "including",
    "significantly",
    "significant",
    "associated",
    "compared",
    "whether",
    "within",
    "through",
    "first",
    "data",
];

/// Words that stand together: places of words without a stop word or a sign between them.
fn runs(text: &str, words: &[Word]) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut end = None;
    for (at, word) in words.iter().enumerate() {
        if word.is_stop {
            end = None;
            continue;
        }
        let touches = end.is_some_and(|end| {
            let between: &str = &text[end..word.span.start];
            between
                .chars()
                .all(|sign| sign.is_whitespace() || matches!(sign, '-' | '‐' | '‑' | '\'' | '’'))
                && !between.contains("\n\n")
        });
        match runs.last_mut() {
            Some(run) if touches => run.push(at),
            _ => runs.push(vec![at]),
        }
        end = Some(word.span.end);
    }
    runs
}

impl Collection {
    /// In how many chunks of this tenant each distinct word of a text stands, as the collection's analyser cuts it: what
    /// [`Keyphrases::counts`] weighs by. At most 10,000 words of the text are counted.
    pub async fn term_counts(&self, text: &str) -> Result<TermCounts> {
        let text = &text[..text.floor_char_boundary(READ)];
        self.count_terms(text).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Keyphrases, TermCounts};
    use crate::Language;
    use proptest::prelude::*;

    const TEXT: &str = "Myelodysplastic syndromes (MDS) are stem cell malignancies. Here we report that myeloid-derived suppressor \
        cells were expanded in the bone marrow of MDS patients. Myeloid-derived suppressor cells overproduce cytokines.";

    #[test]
    fn the_phrase_that_comes_again_is_the_subject_and_none_says_the_same() {
        let phrases = Keyphrases::new(Language::English).phrases(TEXT);
        assert_eq!(phrases[0].text, "myeloid-derived suppressor cells");
        assert_eq!(phrases[0].text, TEXT[phrases[0].span.clone()]);
        assert_eq!(
            phrases
                .iter()
                .filter(|phrase| phrase.text.contains("suppressor"))
                .count(),
            1
        );
        let title = Keyphrases::new(Language::English).title(TEXT, 6).expect("words");
        assert!(
            title.split_whitespace().count() <= 6 && title.contains("yeloid-derived suppressor cells"),
            "{title}"
        );
    }

    #[test]
    fn a_word_that_every_chunk_has_weighs_little() {
        let counts = TermCounts {
            chunks: 1_000,
            counts: [
                ("cell".to_owned(), 990),
                ("suppressor".to_owned(), 990),
                ("deriv".to_owned(), 990),
                ("myeloid".to_owned(), 990),
            ]
            .into(),
        };
        let phrases = Keyphrases::new(Language::English).counts(counts).phrases(TEXT);
        assert!(!phrases[0].text.contains("suppressor"), "{phrases:?}");
    }

    #[test]
    fn a_text_without_words_has_no_title() {
        assert_eq!(
            Keyphrases::new(Language::English).title(" ... the of 12 ", 8),
            None
        );
    }

    proptest! {
        #[test]
        fn any_text_gives_the_same_phrases_again_each_a_slice_of_it(text in "\\PC{0,300}") {
            let finder = Keyphrases::new(Language::Neutral);
            let phrases = finder.phrases(&text);
            for phrase in &phrases {
                prop_assert!(text.get(phrase.span.clone()).is_some() && phrase.score.is_finite());
            }
            prop_assert_eq!(finder.phrases(&text), phrases);
        }
    }
}
