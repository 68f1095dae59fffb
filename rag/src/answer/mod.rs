//! Answers that rest on documents: [`answer`] with byte-exact citations, [`Answer::check`], [`pack`], [`summarise`],
//! [`Keyphrases`], [`MultiQuery`], [`Routed`].
//!
//! ```text
//! question ─▶ Retriever ─▶ Hit… ─▶ pack ─▶ Passage… ─▶ ChatModel ─▶ marks ─▶ Answer ─▶ check
//! ```

mod ask;
mod check;
mod cited;
mod facts;
mod frame;
mod keyphrase;
mod lists;
mod marks;
mod multi;
mod pack;
mod passage;
mod rewrite;
mod route;
mod spend;
mod stream;
mod summary;

pub use ask::{AnswerRequest, answer};
pub use check::{Check, CheckOptions, CheckReport, CheckedClaim, Doubt, Verdict, check_claim};
pub use cited::AnswerClaim;
pub use keyphrase::{Keyphrase, Keyphrases, TermCounts};
pub use multi::{MultiQuery, Searched};
pub use pack::{PackOptions, Packed, PassageOrder, pack};
pub use passage::Passage;
pub use rewrite::{Rewritten, rewrite_follow_up};
pub use route::{Routed, Routing};
pub use stream::{AnswerEvent, AnswerStream};
pub use summary::{Summary, SummaryRequest, SummaryStop, summarise};

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use stepwell_core::{Citation, Cost, FinishReason, Hit, Usage, Warning};

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerOutcome {
    /// There is an answer.
    Answered,
    /// Nothing was found for the question; the model was not asked.
    NothingFound,
    /// The model read what was found, and said that it does not tell.
    NotTold,
    /// The model or its vendor would not answer.
    Refused,
}

/// An answer, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// What was asked.
    pub question: String,
    /// The question that was searched for, where a history made it another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<String>,
    /// What became of it.
    pub outcome: AnswerOutcome,
    /// The words, without marks.
    pub text: String,
    /// The sentences of the text, each with its citations.
    pub claims: Vec<AnswerClaim>,
    /// What the answer rests on: each `quote` is `document.text[span]`, exactly.
    pub citations: Vec<Citation>,
    /// What the model read.
    pub passages: Vec<Passage>,
    /// The hits that the passages were made of, best first.
    pub hits: Vec<Hit>,
    /// Tokens of all calls.
    pub usage: Usage,
    /// Money of all calls, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The model, `vendor/model`.
    pub model: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What was not done as asked, or is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

impl Answer {
    /// Whether there is an answer.
    pub fn is_found(&self) -> bool {
        self.outcome == AnswerOutcome::Answered
    }

    /// The text with a mark `[n]` behind each sentence, counted from 1 in the order of [`Answer::citations`].
    pub fn marked_text(&self) -> String {
        marked(&self.text, &self.claims, |citation| citation + 1)
    }

    /// The citations of a sentence.
    pub fn citations_of<'a>(&'a self, claim: &'a AnswerClaim) -> impl Iterator<Item = &'a Citation> {
        claim.citations.iter().filter_map(|at| self.citations.get(*at))
    }
}

/// A text with marks behind its sentences.
fn marked(text: &str, claims: &[AnswerClaim], number: impl Fn(usize) -> usize) -> String {
    let mut out = String::new();
    let mut at = 0;
    for claim in claims {
        let Some(words) = text.get(at..claim.span.end) else {
            continue;
        };
        out.push_str(words);
        at = claim.span.end;
        for citation in &claim.citations {
            // Writing to a string does not fail.
            let _ = write!(out, " [{}]", number(*citation));
        }
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}
