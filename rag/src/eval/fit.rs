//! Settings learned from judged questions, kept only where they hold on questions they were not learned from.

use std::collections::HashMap;

use stepwell_core::{Error, HitUnit, LegScore, Query, Result, SearchMode};

use super::judged::JudgedSet;
use super::measures::measure;
use crate::calibrate::Calibration;
use crate::{Collection, Fusion};

/// Weights that are tried.
const STEPS: usize = 20;
/// Chunks of each answer that are put in a new order.
const DEPTH: usize = 300;
/// Fewer questions teach nothing.
const FEWEST: usize = 20;

/// A fusion learned from judged questions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fitted {
    /// What to give to [`crate::CollectionBuilder::fusion`]: the learned weight, or the collection's own fusion where the
    /// learned one is not better on held-out questions.
    pub fusion: Fusion,
    /// The weight of the dense leg that is best on all questions.
    pub weight: f32,
    /// nDCG@10 of the collection's fusion.
    pub own: f64,
    /// nDCG@10 of learned weights on questions they were not learned from: two folds, each judged with the other's.
    pub held_out: f64,
    /// Whether the learned weight is taken: it beats the collection's own on the held-out questions.
    pub is_better: bool,
}

/// One found chunk's document with what both legs say.
type Found = Vec<(String, f32, f32)>;

/// Learns the weight of the dense leg. It gains little: on SciFact and Cranfield a weight of one half is within .005 of the
/// best, so a learned one is taken only where it wins on held-out questions too. From 200 questions on it is worth a try.
///
/// # Errors
/// `invalid_input` for fewer than 20 questions, or a collection without weights (without an embedder, or with reciprocal
/// ranks); what the collection says.
pub async fn fit_fusion(collection: &Collection, judged: &JudgedSet) -> Result<Fitted> {
    check(judged)?;
    let own = collection.fusion();
    let with: fn(f32) -> Fusion = match own {
        Fusion::ZScore { .. } => |weight| Fusion::ZScore { weight },
        Fusion::MinMax { .. } => |weight| Fusion::MinMax { weight },
        Fusion::ReciprocalRank { .. } => {
            return Err(Error::invalid(
                "fusion",
                "reciprocal ranks have no weight; set z-scores or min-max",
            ));
        }
    };
    let own_weight = match own {
        Fusion::ZScore { weight } | Fusion::MinMax { weight } => weight,
        Fusion::ReciprocalRank { .. } => 0.5,
    };
    let mut answers = Vec::with_capacity(judged.questions.len());
    for question in &judged.questions {
        let hits = collection
            .search(&Query::new(&question.text).mode(SearchMode::Hybrid).top_k(DEPTH))
            .await?;
        let mut found = Found::with_capacity(hits.len());
        for hit in hits {
            let (Some(lexical), Some(dense)) = (hit.explanation.lexical, hit.explanation.dense) else {
                return Err(Error::invalid(
                    "collection",
                    "a weight needs both legs: open it with `.embedder(..)`, and index the documents with it",
                ));
            };
            found.push((hit.chunk.document_id, lexical.normalized, dense.normalized));
        }
        answers.push(found);
    }
    let judge = |which: &dyn Fn(usize) -> bool, weight: f32| -> (f64, usize) {
        let chosen = (0..answers.len()).filter(|at| which(*at));
        chosen.fold((0.0, 0), |(sum, count), at| {
            (
                sum + ndcg(&answers[at], &judged.questions[at].gains, weight),
                count + 1,
            )
        })
    };
    let best = |which: &dyn Fn(usize) -> bool| -> f32 {
        // Equal weights: the one nearest to the collection's own.
        let mut best = (f64::NEG_INFINITY, own_weight);
        for step in 0..=STEPS {
            let weight = step as f32 / STEPS as f32;
            let (sum, _) = judge(which, weight);
            let is_nearer = (weight - own_weight).abs() < (best.1 - own_weight).abs();
            if sum > best.0 + 1e-9 || (sum > best.0 - 1e-9 && is_nearer) {
                best = (sum, weight);
            }
        }
        best.1
    };
    let even = |at: usize| at.is_multiple_of(2);
    let odd = |at: usize| !at.is_multiple_of(2);
    let all = |_: usize| true;
    let held_out = judge(&odd, best(&even)).0 + judge(&even, best(&odd)).0;
    let count = answers.len() as f64;
    let (own_sum, _) = judge(&all, own_weight);
    let weight = best(&all);
    let is_better = held_out > own_sum && (weight - own_weight).abs() > f32::EPSILON;
    Ok(Fitted {
        fusion: if is_better { with(weight) } else { own },
        weight,
        own: own_sum / count,
        held_out: held_out / count,
        is_better,
    })
}

fn check(judged: &JudgedSet) -> Result<()> {
    if judged.questions.len() >= FEWEST {
        return Ok(());
    }
    Err(Error::invalid(
        "judged set",
        format!("judge {FEWEST} questions at least; from 200 on a fit is worth something"),
    ))
}

fn ndcg(found: &Found, gains: &HashMap<String, f64>, weight: f32) -> f64 {
    let mut best: HashMap<&str, f32> = HashMap::new();
    for (document, lexical, dense) in found {
        let score = (1.0 - weight) * lexical + weight * dense;
        let entry = best.entry(document).or_insert(f32::NEG_INFINITY);
        *entry = entry.max(score);
    }
    let mut order: Vec<(&str, f32)> = best.into_iter().collect();
    order.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(right.0)));
    let ranking: Vec<&str> = order.into_iter().map(|(document, _)| document).collect();
    measure(&ranking, gains).ndcg
}

/// A [`Calibration`] learned from judged questions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FittedRelevance {
    /// What to give to [`crate::CollectionBuilder::calibration`].
    pub calibration: Calibration,
    /// Hits it was learned from.
    pub hits: usize,
    /// Of these, relevant ones.
    pub relevant: usize,
    /// Mean loss (negative log-likelihood, in nats) of the collection's calibration over these hits.
    pub own_loss: f64,
    /// Mean loss of the learned one over hits of questions it was not learned from, in two folds.
    pub held_out_loss: f64,
}

/// What a hit shows and whether it is relevant.
type Sample = (Option<f32>, f32, bool);

/// Learns what cosine and words say about relevance, from the first ten documents of each question and of `foreign`
/// questions that nothing in the collection answers. Judgements that miss relevant documents make it doubtful of good
/// hits, so bring a set that is judged well.
///
/// # Errors
/// `invalid_input` for fewer than 20 questions; what the collection says.
pub async fn fit_relevance(
    collection: &Collection,
    judged: &JudgedSet,
    foreign: &[String],
) -> Result<FittedRelevance> {
    check(judged)?;
    let mut halves: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    let none = HashMap::new();
    let own = judged
        .questions
        .iter()
        .map(|question| (&question.text, &question.gains));
    let all = own.chain(foreign.iter().map(|text| (text, &none)));
    for (at, (text, gains)) in all.enumerate() {
        let hits = collection
            .search(&Query::new(text).unit(HitUnit::BestChunk))
            .await?;
        for hit in hits {
            let is_relevant = gains.get(&hit.chunk.document_id).is_some_and(|gain| *gain > 0.0);
            let cosine = hit.explanation.dense.map(|LegScore { raw, .. }| raw);
            halves[at % 2].push((
                cosine,
                hit.explanation.weighted_coverage.unwrap_or(0.0),
                is_relevant,
            ));
        }
    }
    let [even, odd] = &halves;
    let samples: Vec<Sample> = even.iter().chain(odd).copied().collect();
    let own = collection.calibration();
    let held_out = loss(Calibration::learn(even, own), odd) + loss(Calibration::learn(odd, own), even);
    let count = samples.len().max(1) as f64;
    Ok(FittedRelevance {
        calibration: Calibration::learn(&samples, own),
        hits: samples.len(),
        relevant: samples.iter().filter(|(.., is_relevant)| *is_relevant).count(),
        own_loss: loss(own, &samples) / count,
        held_out_loss: held_out / count,
    })
}

fn loss(calibration: Calibration, samples: &[Sample]) -> f64 {
    let loss = |(cosine, coverage, is_relevant): &Sample| {
        let relevance = f64::from(calibration.relevance(*cosine, Some(*coverage))).clamp(1e-6, 1.0 - 1e-6);
        -if *is_relevant { relevance } else { 1.0 - relevance }.ln()
    };
    samples.iter().map(loss).sum()
}
