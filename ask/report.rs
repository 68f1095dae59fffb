//! [`AskReport`]: what was asked, answered and found; as text for people, as JSON for programs.

use crate::rag::answer::Answer;
use serde::Serialize;
use std::fmt::Write as _;
use stepwell_core::{Citation, Hit};

/// Columns of printed text.
const WIDTH: usize = 100;

/// One sentence or paragraph of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// Its words.
    pub text: String,
    /// Numbers of [`AskReport::citations`], counted from 1.
    pub citations: Vec<usize>,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The file.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Skipped {
    pub(super) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

/// What indexing did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Indexed {
    /// Documents in the index.
    pub documents: u64,
    /// Chunks in the index.
    pub chunks: u64,
    /// Documents that are new.
    pub added: u64,
    /// Documents that replaced an older version.
    pub updated: u64,
    /// Documents taken out because their files are gone.
    pub removed: u64,
    /// Documents that had not changed.
    pub unchanged: u64,
}

/// A found chunk.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Found {
    /// 1 for the best.
    pub rank: usize,
    /// Higher is better.
    pub score: f32,
    /// Rank by words alone.
    pub lexical_rank: Option<u32>,
    /// Rank by meaning alone.
    pub dense_rank: Option<u32>,
    /// File, then page or heading.
    pub place: String,
    /// The chunk's id.
    pub chunk_id: String,
    /// The chunk's words.
    pub text: String,
}

/// Everything about one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AskReport {
    /// The question.
    pub question: String,
    /// Whether the documents tell.
    pub is_found: bool,
    /// The answer in pieces; one that says so where the documents do not tell.
    pub answer: Vec<Claim>,
    /// What the answer rests on.
    pub citations: Vec<Citation>,
    /// The hits, best first.
    pub hits: Vec<Found>,
    /// Files left out.
    pub skipped: Vec<Skipped>,
    /// What indexing did.
    pub indexed: Indexed,
    /// The model that answered.
    pub model: String,
}

impl AskReport {
    pub(super) fn new(answer: &Answer, hits: &[Hit], skipped: Vec<Skipped>, indexed: Indexed) -> Self {
        let claims = answer.claims.iter().map(|claim| Claim {
            text: answer.text[claim.span.clone()].to_owned(),
            citations: claim.citations.iter().map(|place| place + 1).collect(),
        });
        let mut claims: Vec<Claim> = claims.collect();
        if claims.is_empty() && !answer.text.is_empty() {
            claims.push(Claim {
                text: answer.text.clone(),
                citations: Vec::new(),
            });
        }
        let found = hits.iter().enumerate().map(|(place, hit)| Found {
            rank: place + 1,
            score: hit.score,
            lexical_rank: hit.explanation.lexical.and_then(|leg| leg.rank),
            dense_rank: hit.explanation.dense.and_then(|leg| leg.rank),
            place: place_of(hit),
            chunk_id: hit.chunk.id.clone(),
            text: hit.chunk.text.clone(),
        });
        Self {
            question: answer.question.clone(),
            is_found: answer.is_found(),
            answer: claims,
            citations: answer.citations.clone(),
            hits: found.collect(),
            skipped,
            indexed,
            model: answer.model.clone(),
        }
    }

    /// As printed for a person.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let answer: Vec<String> = self
            .answer
            .iter()
            .map(|claim| {
                let mut sentence = one_line(&claim.text, usize::MAX);
                for number in &claim.citations {
                    let _ = write!(sentence, " [{number}]");
                }
                sentence
            })
            .collect();
        wrap(&mut text, &answer.join(" "), "", "");
        if !self.citations.is_empty() {
            text.push('\n');
        }
        for (place, citation) in self.citations.iter().enumerate() {
            let quote = one_line(&citation.quote, usize::MAX);
            wrap(
                &mut text,
                &format!("[{}] {}: “{quote}”", place + 1, citation.place()),
                "  ",
                "      ",
            );
        }
        if self.is_found {
            text.push_str("\nHits\n");
            for hit in &self.hits {
                let leg = |rank: Option<u32>| rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
                let _ = writeln!(
                    text,
                    "  {}. {}  (score {:.3}; by words {}, by meaning {})",
                    hit.rank,
                    hit.place,
                    hit.score,
                    leg(hit.lexical_rank),
                    leg(hit.dense_rank)
                );
                let _ = writeln!(text, "     {}", one_line(&hit.text, WIDTH - 5));
            }
        }
        text
    }
}

fn place_of(hit: &Hit) -> String {
    let words = hit.chunk.text.trim_start();
    let start = hit.chunk.text.len() - words.len();
    hit.chunk
        .cite(start..start)
        .map_or_else(|_| hit.chunk.document_id.clone(), |citation| citation.place())
}

/// White space folded, cut at so many signs.
fn one_line(text: &str, signs: usize) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line: String = line.join(" ").chars().filter(|sign| !sign.is_control()).collect();
    if line.chars().count() <= signs {
        return line;
    }
    let mut cut: String = line.chars().take(signs.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn wrap(out: &mut String, text: &str, first: &str, next: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            next.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{AskReport, Indexed, one_line};
    use crate::{providers::Scripted, rag::answer::answer};
    use async_trait::async_trait;
    use std::sync::Arc;
    use stepwell_core::{Chunk, Document, Explanation, Hit, Query, Result, Retriever};

    #[derive(Debug)]
    struct OneHit;

    #[async_trait]
    impl Retriever for OneHit {
        async fn retrieve(&self, _: &Query) -> Result<Vec<Hit>> {
            Ok(vec![hit()])
        }
    }

    fn hit() -> Hit {
        let document = Document::new(
            "a.md",
            "Cats sleep most of the long day. \u{1b}[31mDogs walk in the morning.",
        );
        let chunk = Chunk::of(&document, 0, 0..document.text.len()).expect("whole");
        Hit::new(chunk, 0.5, Explanation::default())
    }

    async fn report(said: &str) -> AskReport {
        let model = Arc::new(Scripted::new().say(said));
        let answer = answer("?", Arc::new(OneHit), model).await.expect("answers");
        AskReport::new(&answer, &[hit()], Vec::new(), Indexed::default())
    }

    #[tokio::test]
    async fn a_claim_names_its_source_and_the_same_source_is_listed_once() {
        let report = report("Cats sleep [1]. They sleep most of the day [1].").await;
        assert_eq!((report.citations.len(), report.is_found), (1, true));
        let text = report.to_text();
        assert!(
            text.starts_with(
                "Cats sleep. [1] They sleep most of the day. [1]\n\n  [1] a.md: “Cats sleep most of the long day."
            ),
            "{text}"
        );
    }

    #[tokio::test]
    async fn not_found_is_told_and_prints_no_hits() {
        let report = report("Not found in these documents.").await;
        assert!(!report.is_found && !report.to_text().contains("Hits"));
    }

    #[tokio::test]
    async fn a_documents_control_signs_do_not_reach_the_terminal() {
        assert!(!report("Cats.").await.to_text().contains('\u{1b}'));
        assert_eq!(one_line("a  b\nc d", 4), "a b…");
    }
}
