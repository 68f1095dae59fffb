//! The judged collections of the fixtures: documents, questions, judgements.

#![allow(dead_code)] // each bench takes what it needs

use flate2::read::GzDecoder;
use serde::Deserialize;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
};
use stepwell::Document;

/// A sequence that is the same on every machine.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Roughly normal: the sum of four even numbers, with variance one.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4)
            .map(|part| ((bits >> (16 * part)) & 0xFFFF) as f32 / 65_536.0 - 0.5)
            .sum();
        sum * 3.0_f32.sqrt()
    }
}

/// The same disorder at each run: neighbours would otherwise be of one document, which flatters every cache.
pub(crate) fn shuffle<T>(list: &mut [T]) {
    let mut noise = Noise::new(17);
    for at in (1..list.len()).rev() {
        let other = usize::try_from(noise.next() % (at as u64 + 1)).expect("a place in the list");
        list.swap(at, other);
    }
}

/// One collection.
pub(crate) struct Judged {
    /// Documents; the text is `title + " " + text`, as the published figures have it.
    pub(crate) documents: Vec<Document>,
    /// Id and words.
    pub(crate) questions: Vec<(String, String)>,
    /// Question → document → gain.
    pub(crate) gains: HashMap<String, HashMap<String, f64>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    text: String,
}

/// Where the fixtures are.
pub(crate) fn fixtures() -> PathBuf {
    std::env::var_os("STEPWELL_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"),
        PathBuf::from,
    )
}

impl Judged {
    /// Reads a collection; `None` where the fixtures are absent.
    pub(crate) fn read(name: &str) -> Option<Self> {
        let folder = fixtures().join("ir").join(name);
        let corpus = BufReader::new(GzDecoder::new(File::open(folder.join("corpus.jsonl.gz")).ok()?));
        let documents = corpus.lines().map(|line| {
            let entry: Entry = serde_json::from_str(&line.expect("gzip holds")).expect("a line is an entry");
            Document::new(entry.id, format!("{} {}", entry.title, entry.text))
        });
        let documents = documents
            .filter(|document| !document.text.trim().is_empty())
            .collect();
        let questions = BufReader::new(File::open(folder.join("queries.jsonl")).ok()?)
            .lines()
            .map(|line| {
                let entry: Entry = serde_json::from_str(&line.expect("a file")).expect("a line is an entry");
                (entry.id, entry.text)
            });
        let mut gains: HashMap<String, HashMap<String, f64>> = HashMap::new();
        for line in BufReader::new(File::open(folder.join("qrels.tsv")).ok()?)
            .lines()
            .skip(1)
        {
            let line = line.expect("a file");
            let mut cells = line.split('\t');
            let (Some(question), Some(document), Some(gain)) = (cells.next(), cells.next(), cells.next())
            else {
                continue;
            };
            let gain: f64 = gain.trim().parse().expect("a number");
            gains
                .entry(question.to_owned())
                .or_default()
                .insert(document.to_owned(), gain);
        }
        Some(Self {
            documents,
            questions: questions.collect(),
            gains,
        })
    }

    /// nDCG@10 with linear gain, and recall@100, of a ranking of documents for a question.
    pub(crate) fn judge(&self, question: &str, ranking: &[String]) -> (f64, f64) {
        let none = HashMap::new();
        let gains = self.gains.get(question).unwrap_or(&none);
        let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
            gains
                .take(10)
                .enumerate()
                .map(|(rank, gain)| gain / ((rank + 2) as f64).log2())
                .sum()
        };
        let mut best: Vec<f64> = gains.values().copied().filter(|gain| *gain > 0.0).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let ideal = discounted(&mut best.iter().copied());
        let gained = discounted(&mut ranking.iter().map(|id| gains.get(id).copied().unwrap_or(0.0)));
        let found = ranking
            .iter()
            .take(100)
            .filter(|id| gains.get(*id).is_some_and(|gain| *gain > 0.0))
            .count();
        (
            gained / ideal.max(f64::MIN_POSITIVE),
            found as f64 / best.len().max(1) as f64,
        )
    }
}
