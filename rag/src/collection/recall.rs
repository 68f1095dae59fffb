//! [`Collection::measure_recall`]: how many of the true nearest a search by meaning finds, measured where it runs.

use std::time::{Duration, Instant};

use stepwell_core::{Error, Filter, Result};

use super::Collection;
use super::vectors::VectorReader;
use crate::error::blocking;
use crate::eval::Random;

/// More samples are refused: each compares every vector.
const MOST_SAMPLES: usize = 10_000;

/// What [`Collection::measure_recall`] measures.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecallOptions {
    /// How many questions are asked: 100.
    pub samples: usize,
    /// Nearest chunks of each: 10.
    pub k: usize,
    /// Among which chunks; all of the scope where nothing is said.
    pub filter: Option<Filter>,
    /// Where the choice of samples starts; the same seed over the same index chooses the same.
    pub seed: u64,
    /// Vectors to ask with, such as those of real questions; chunks of the collection's own where there are none.
    pub questions: Vec<Vec<f32>>,
    /// Which vector field; the first where nothing is said.
    pub vector_field: Option<String>,
}

impl Default for RecallOptions {
    fn default() -> Self {
        Self {
            samples: 100,
            k: 10,
            filter: None,
            seed: 1,
            questions: Vec::new(),
            vector_field: None,
        }
    }
}

impl RecallOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With so many samples.
    pub fn samples(mut self, samples: usize) -> Self {
        self.samples = samples;
        self
    }

    /// For so many nearest.
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Among these chunks.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// With another choice of samples.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With these questions' vectors.
    pub fn questions(mut self, questions: Vec<Vec<f32>>) -> Self {
        self.questions = questions;
        self
    }

    /// Of this vector field.
    pub fn vector_field(mut self, name: impl Into<String>) -> Self {
        self.vector_field = Some(name.into());
        self
    }
}

/// How many of the true nearest were found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecallReport {
    /// Questions asked; 0 where nothing has a vector.
    pub samples: usize,
    /// Share of the true nearest that was found, mean over the samples; 1 where there were none.
    pub recall: f64,
    /// The lowest of a sample.
    pub lowest: f64,
    /// Samples of which a segment was walked through its graph, rather than compared whole.
    pub walked: usize,
    /// Mean time of a search as the collection does it.
    pub search_time: Duration,
    /// Mean time of a search that compares everything.
    pub exact_time: Duration,
}

impl Collection {
    /// Measures the recall of searches by meaning as they are set, against exact scans over the same snapshot. Near equals
    /// count as found: a neighbour is missed only if something nearer than it was to be had.
    ///
    /// # Errors
    /// `limit_exceeded` for more than 10,000 samples or neighbours; `invalid_input` for question vectors that do not fit.
    pub async fn measure_recall(&self, options: RecallOptions) -> Result<RecallReport> {
        if options.samples > MOST_SAMPLES || options.questions.len() > MOST_SAMPLES {
            return Err(Error::LimitExceeded {
                what: "the samples of recall".to_owned(),
                limit: MOST_SAMPLES.to_string(),
            });
        }
        let mut reader = self.vectors(options.filter.as_ref()).await?;
        if let Some(name) = &options.vector_field {
            reader = reader.vector_field(name)?;
        }
        blocking(&self.inner.place, move || measure(&reader, options)).await
    }
}

fn measure(reader: &VectorReader, options: RecallOptions) -> Result<RecallReport> {
    let exact = reader.clone().recall(1.0)?;
    let questions = if options.questions.is_empty() {
        let mut random = Random(options.seed);
        reader.sample(options.samples, |limit| random.below(limit))
    } else {
        options.questions
    };
    let mut report = RecallReport {
        samples: questions.len(),
        recall: 1.0,
        lowest: 1.0,
        ..RecallReport::default()
    };
    let mut sum = 0.0;
    for question in &questions {
        let begun = Instant::now();
        let found = reader.nearest(question, options.k)?;
        report.search_time += begun.elapsed();
        let begun = Instant::now();
        let wanted = exact.nearest(question, options.k)?;
        report.exact_time += begun.elapsed();
        report.walked += usize::from(found.segments.iter().any(|segment| segment.ef > 0));
        let Some(last) = wanted.neighbours.last() else {
            sum += 1.0;
            continue;
        };
        // As near as the last of the true ones, but for rounding.
        let bar = last.score - last.score.abs().max(1e-3) * 1e-5;
        let hits = found
            .neighbours
            .iter()
            .filter(|neighbour| neighbour.score >= bar)
            .count();
        let recall = (hits as f64 / wanted.neighbours.len() as f64).min(1.0);
        sum += recall;
        report.lowest = report.lowest.min(recall);
    }
    let count = u32::try_from(questions.len()).unwrap_or(u32::MAX);
    if count > 0 {
        report.recall = sum / f64::from(count);
        report.search_time /= count;
        report.exact_time /= count;
    }
    Ok(report)
}
