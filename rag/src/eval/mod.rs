//! How good an order is: recall, reciprocal rank and nDCG on a judged set, by leg, and whether a difference is one.
//!
//! ```
//! # async fn example(collection: &stepwell_rag::Collection) -> stepwell_core::Result<()> {
//! use stepwell_rag::eval::{JudgedSet, evaluate_legs};
//! let judged = JudgedSet::read("beir/scifact")?;
//! collection.add(judged.documents()?).await?;
//! println!("{}", evaluate_legs(collection, &judged).await?);
//! # Ok(()) }
//! ```

mod compare;
mod fit;
mod judged;
mod measures;

use std::collections::HashSet;
use std::fmt;

use stepwell_core::{HitUnit, Query, Result, Retriever, SearchMode};

pub(crate) use self::compare::Random;
pub use self::compare::{Comparison, compare};
pub use self::fit::{Fitted, FittedRelevance, fit_fusion, fit_relevance};
pub use self::judged::{JudgedQuestion, JudgedSet};
pub use self::measures::{Measures, measure};
use crate::Collection;

/// How many documents of an answer are judged.
const DEPTH: usize = 100;

/// The measures of one retriever over all questions of a set.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Means over the questions.
    pub mean: Measures,
    /// Of each question, in the set's order.
    pub each: Vec<Measures>,
}

/// Asks every question and judges the answers: the best 100 documents of each, a document counting at its best chunk.
///
/// `ask` makes the query of a question's words, and may set anything but how many hits.
///
/// # Errors
/// What the retriever says.
pub async fn evaluate(
    retriever: &dyn Retriever,
    judged: &JudgedSet,
    ask: impl Fn(&str) -> Query + Send,
) -> Result<Evaluation> {
    let mut each = Vec::with_capacity(judged.questions.len());
    for question in &judged.questions {
        let query = ask(&question.text).unit(HitUnit::BestChunk).top_k(DEPTH);
        let hits = retriever.retrieve(&query).await?;
        let mut seen = HashSet::new();
        let ranking: Vec<&str> = hits
            .iter()
            .map(|hit| hit.chunk.document_id.as_str())
            .filter(|document| seen.insert(*document))
            .collect();
        each.push(measure(&ranking, &question.gains));
    }
    Ok(Evaluation {
        mean: Measures::mean(&each),
        each,
    })
}

/// A collection's legs beside each other.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LegReport {
    /// Words alone, meaning alone, both; only words where the collection has no embedder.
    pub legs: Vec<(SearchMode, Evaluation)>,
    /// Of each leg but the last, how the last one's nDCG@10 compares with it.
    pub comparisons: Vec<(SearchMode, Comparison)>,
}

/// Judges words, meaning and both.
///
/// # Errors
/// What the collection says.
pub async fn evaluate_legs(collection: &Collection, judged: &JudgedSet) -> Result<LegReport> {
    let modes: &[SearchMode] = if collection.has_embedder() {
        &[SearchMode::Lexical, SearchMode::Dense, SearchMode::Hybrid]
    } else {
        &[SearchMode::Lexical]
    };
    let mut legs = Vec::new();
    for mode in modes {
        let found = evaluate(collection, judged, |words| Query::new(words).mode(*mode)).await?;
        legs.push((*mode, found));
    }
    let mut comparisons = Vec::new();
    if let Some(((_, last), others)) = legs.split_last() {
        for (mode, other) in others {
            let (last, other): (Vec<f64>, Vec<f64>) = last
                .each
                .iter()
                .zip(&other.each)
                .map(|(last, other)| (last.ndcg, other.ndcg))
                .unzip();
            comparisons.push((*mode, compare(&last, &other)?));
        }
    }
    Ok(LegReport { legs, comparisons })
}

/// A leg's name in a table.
fn name(mode: SearchMode) -> &'static str {
    match mode {
        SearchMode::Lexical => "lexical",
        SearchMode::Dense => "dense",
        _ => "hybrid",
    }
}

impl fmt::Display for LegReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "leg       nDCG@10   recall@10  recall@100  MRR@10")?;
        for (mode, Evaluation { mean, .. }) in &self.legs {
            writeln!(
                f,
                "{:<8}  {:.4}    {:.4}     {:.4}      {:.4}",
                name(*mode),
                mean.ndcg,
                mean.recall_at_10,
                mean.recall_at_100,
                mean.reciprocal_rank
            )?;
        }
        let last = self.legs.last().map_or("", |(mode, _)| name(*mode));
        for (mode, found) in &self.comparisons {
            writeln!(
                f,
                "{last} − {}: {:+.4} nDCG@10 (95 % of resamples between {:+.4} and {:+.4}), p = {:.4}",
                name(*mode),
                found.difference,
                found.low,
                found.high,
                found.p_value
            )?;
        }
        Ok(())
    }
}
