//! What the journeys share: a small embedder without a model, documents, a seeded sequence.
#![allow(dead_code, reason = "each journey uses a part")]

pub(crate) mod oracle;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use stepwell_core::{
    Document, EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, HeuristicTokens, Result, TokenCounter,
    Usage,
};
use stepwell_rag::{Collection, Metric};

/// Each word is a direction that its hash chooses; a text is the sum of its words.
#[derive(Debug)]
pub(crate) struct WordEmbedder {
    info: EmbedderInfo,
    /// Texts embedded so far.
    pub(crate) texts: AtomicU64,
    /// Fails the next calls while set.
    pub(crate) fails: AtomicBool,
    /// Gives vectors of zeros while set.
    pub(crate) gives_zeros: AtomicBool,
}

impl WordEmbedder {
    pub(crate) fn new(dimension: usize) -> Arc<Self> {
        Self::named("words", dimension)
    }

    pub(crate) fn named(model: &str, dimension: usize) -> Arc<Self> {
        Arc::new(Self {
            info: EmbedderInfo::new("test", model, "1", dimension, 256, false),
            texts: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            gives_zeros: AtomicBool::new(false),
        })
    }

    pub(crate) fn texts(&self) -> u64 {
        self.texts.load(Ordering::SeqCst)
    }

    pub(crate) fn vector(&self, text: &str) -> Vec<f32> {
        let mut sum = vec![0.0_f32; self.info.dimension];
        for word in text
            .split(|sign: char| !sign.is_alphanumeric())
            .filter(|word| !word.is_empty())
        {
            let mut seed = Seeded::new(
                word.to_lowercase()
                    .bytes()
                    .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
                    }),
            );
            for value in &mut sum {
                *value += seed.value();
            }
        }
        if sum.iter().all(|value| *value == 0.0) {
            sum[0] = 1.0;
        }
        sum
    }
}

#[async_trait]
impl Embedder for WordEmbedder {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: EmbedKind) -> Result<Embeddings> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::host("the test's embedder was told to fail"));
        }
        self.texts.fetch_add(texts.len() as u64, Ordering::SeqCst);
        let values = if self.gives_zeros.load(Ordering::SeqCst) {
            vec![0.0; texts.len() * self.info.dimension]
        } else {
            texts.iter().flat_map(|text| self.vector(text)).collect()
        };
        Embeddings::new(self.info.dimension, values, Usage::default())
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::new(HeuristicTokens)
    }
}

/// A sequence that is the same on every machine.
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn value(&mut self) -> f32 {
        self.below(20_001) as f32 / 10_000.0 - 1.0
    }
}

/// A document of some twenty words out of a small vocabulary.
pub(crate) fn document(number: u64) -> Document {
    let mut seed = Seeded::new(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
    seed.next();
    let words: Vec<String> = (0..20).map(|_| format!("word{}", seed.below(400))).collect();
    Document::new(format!("doc-{number}"), words.join(" "))
        .with_metadata("number", number)
        .with_metadata("parity", if number.is_multiple_of(2) { "even" } else { "odd" })
}

pub(crate) fn documents(range: std::ops::Range<u64>) -> Vec<Document> {
    range.map(document).collect()
}

pub(crate) async fn in_memory(embedder: &Arc<WordEmbedder>) -> Collection {
    Collection::in_memory()
        .embedder(embedder.clone())
        .build()
        .await
        .expect("an empty collection")
}

pub(crate) async fn open(path: &std::path::Path, embedder: &Arc<WordEmbedder>) -> Collection {
    Collection::open(path)
        .embedder(embedder.clone())
        .build()
        .await
        .expect("the folder opens")
}

/// How near two vectors are; higher is nearer.
pub(crate) fn score(metric: Metric, left: &[f32], right: &[f32]) -> f64 {
    let pairs = || {
        left.iter()
            .zip(right)
            .map(|(a, b)| (f64::from(*a), f64::from(*b)))
    };
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    match metric {
        Metric::Dot => dot,
        Metric::L2 => -pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>(),
        _ => {
            let (left, right): (f64, f64) = (
                pairs().map(|(a, _)| a * a).sum(),
                pairs().map(|(_, b)| b * b).sum(),
            );
            dot / (left * right).sqrt()
        }
    }
}

/// The numbers of the best documents, by brute force.
pub(crate) fn truth(
    embedder: &WordEmbedder,
    metric: Metric,
    living: &BTreeSet<u64>,
    question: &[f32],
    k: usize,
) -> Vec<(f64, u64)> {
    let mut scored: Vec<(f64, u64)> = living
        .iter()
        .map(|number| {
            let vector = embedder.vector(&document(*number).text);
            (score(metric, &vector, question), *number)
        })
        .collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0));
    scored.truncate(k);
    scored
}
