//! The dense leg: a scan over int8 codes or a walk through the graph, then rescoring of the best in what the file keeps.

use std::cmp::Ordering;

use super::file::VectorFile;
use super::format::{Encoding, Metric};
use super::graph::Graph;
use super::plan::{Choice, Effort, SegmentSearch, Strategy, choose};
use super::rows::quantise;
use super::simd::{Kernels, kernels, prefetch};
use super::walk::{Comparison, Probe, Reach, with_scratch};
use crate::filter::RowSet;

/// Rows rescored exactly for each row asked for. Recall@10 against f32 was 1.0 on SciFact and Cranfield with MiniLM;
/// of codes alone it was .995 and .997.
const RESCORE_FACTOR: usize = 4;
/// Never rescore fewer: at tiny k the factor alone is too thin.
const RESCORE_LEAST: usize = 64;

/// A row of one snapshot with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) score: f32,
    pub(crate) segment: u32,
    pub(crate) row: u32,
}

impl Scored {
    pub(crate) fn address(self) -> (u32, u32) {
        (self.segment, self.row)
    }
}

/// Best first; equal scores in address order, so that an answer repeats.
pub(crate) fn best_first(left: &Scored, right: &Scored) -> Ordering {
    right
        .score
        .total_cmp(&left.score)
        .then_with(|| left.address().cmp(&right.address()))
}

/// Keeps the best `limit` of many: fills to twice the limit, then cuts, so a push is mostly one comparison.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    kept: Vec<Scored>,
    threshold: f32,
}

impl Best {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Vec::with_capacity((limit * 2).min(8_192)),
            threshold: f32::NEG_INFINITY,
        }
    }

    /// Rows below this score cannot enter any more.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    pub(crate) fn push(&mut self, scored: Scored) {
        // Not `<=`: a row equal to the threshold may still win by its address. NaN never enters.
        if self.limit == 0 || scored.score.is_nan() || scored.score < self.threshold {
            return;
        }
        self.kept.push(scored);
        if self.kept.len() >= self.limit * 2 && self.kept.len() > self.limit {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.kept.select_nth_unstable_by(self.limit - 1, best_first);
        self.threshold = self.kept[self.limit - 1].score;
        self.kept.truncate(self.limit);
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Scored> {
        if self.kept.len() > self.limit {
            self.cut();
        }
        self.kept.sort_unstable_by(best_first);
        self.kept
    }
}

/// A prepared query vector: as it is for rescoring, as codes for scan and walk.
#[derive(Clone, Debug)]
pub(crate) struct DenseQuery {
    vector: Vec<f32>,
    probe: Probe,
}

impl DenseQuery {
    /// `vector` has passed `rows::prepare`.
    pub(crate) fn new(vector: Vec<f32>) -> Self {
        let mut codes = Vec::with_capacity(vector.len());
        let scale = quantise(&vector, &mut codes);
        let mut probe = Probe::default();
        probe.set(&codes, scale);
        Self { vector, probe }
    }
}

/// The best score that the file allows for one row; `None` where the row has no vector.
pub(crate) fn exact_score(file: &VectorFile, row: u32, query: &DenseQuery) -> Option<f32> {
    file.has_vector(row).then(|| rescore(kernels(), file, row, query))
}

fn rescore(kernels: Kernels, file: &VectorFile, row: u32, query: &DenseQuery) -> f32 {
    let (bytes, vector) = (file.vector_bytes(row), &query.vector);
    match (file.encoding(), file.metric()) {
        (Encoding::Codes, metric) => {
            // The query stays exact: only the row's rounding is left.
            let scale = file.scale(row);
            let pairs = file.codes(row..row + 1).iter().zip(vector);
            let pairs = pairs.map(|(code, value)| ((f32::from(*code) - 128.0) * scale, value));
            match metric {
                Metric::Cosine | Metric::Dot => pairs.map(|(row, value)| row * value).sum(),
                Metric::L2 => -pairs.map(|(row, value)| (row - value).powi(2)).sum::<f32>(),
            }
        }
        (Encoding::CodesF16, Metric::Cosine | Metric::Dot) => kernels.dot_f16(bytes, vector),
        (Encoding::CodesF32, Metric::Cosine | Metric::Dot) => kernels.dot_f32(bytes, vector),
        (Encoding::CodesF16, Metric::L2) => -kernels.distance_f16(bytes, vector),
        (Encoding::CodesF32, Metric::L2) => -kernels.distance_f32(bytes, vector),
    }
}

/// The best `depth` of the allowed rows; the first `4 × exact` of them are rescored and ordered exactly. How each
/// segment was searched comes beside.
pub(crate) fn search<'a>(
    segments: impl Iterator<Item = (&'a VectorFile, &'a RowSet)>,
    query: &DenseQuery,
    depth: usize,
    exact: usize,
    effort: Effort,
) -> (Vec<Scored>, Vec<SegmentSearch>) {
    let kernels = kernels();
    let rescored = (exact * RESCORE_FACTOR).max(RESCORE_LEAST);
    let mut best = Best::new(depth.max(rescored));
    let mut files = Vec::new();
    let mut told = Vec::new();
    for (segment, (file, allowed)) in segments.enumerate() {
        told.push(search_file(
            kernels,
            file,
            allowed,
            query,
            segment as u32,
            depth,
            effort,
            &mut best,
        ));
        files.push(file);
    }
    let mut found = best.into_sorted();
    for scored in found.iter().take(rescored) {
        prefetch(files[scored.segment as usize].vector_bytes(scored.row));
    }
    for scored in found.iter_mut().take(rescored) {
        scored.score = rescore(kernels, files[scored.segment as usize], scored.row, query);
    }
    // Numbers that only a damaged file can hold.
    found.retain(|scored| !scored.score.is_nan());
    let head = rescored.min(found.len());
    // Only the head is sorted again: below it every score is approximate alike.
    found[..head].sort_unstable_by(best_first);
    found.truncate(depth);
    (found, told)
}

#[allow(clippy::too_many_arguments)] // one call, from the loop above
fn search_file(
    kernels: Kernels,
    file: &VectorFile,
    allowed: &RowSet,
    query: &DenseQuery,
    segment: u32,
    depth: usize,
    effort: Effort,
    best: &mut Best,
) -> SegmentSearch {
    let mut told = SegmentSearch {
        vectors: file.present(),
        allowed: allowed.len(),
        strategy: Strategy::Skipped,
        reason: "nothing matches",
        ef: 0,
        compared: 0,
    };
    if file.dim() != query.vector.len() || file.present() == 0 {
        return told;
    }
    // The graph is read against its checksum on first use: not where nothing would use it.
    let has_graph = file.has_graph() && allowed.len() as usize > depth;
    let graph = if has_graph { file.graph() } else { None };
    match choose(graph.is_some(), file.present(), allowed.len(), depth, effort) {
        Choice::Skip => return told,
        Choice::Scan { reason } => {
            (told.strategy, told.reason) = (Strategy::Scan, reason);
            if file.has_graph() && graph.is_none() && has_graph {
                told.reason = "its graph is damaged";
            }
        }
        Choice::Walk(reach) => {
            let walked = graph.is_some_and(|graph| {
                walk(
                    kernels, file, graph, allowed, query, segment, depth, reach, best, &mut told,
                )
            });
            if walked {
                return told;
            }
        }
    }
    scan_file(kernels, file, allowed, query, segment, best);
    told.compared += allowed.len() as usize;
    told
}

/// Through the graph; `false` when the segment has to be scanned after all.
#[allow(clippy::too_many_arguments)] // one call, from the function above
fn walk(
    kernels: Kernels,
    file: &VectorFile,
    graph: Graph<'_>,
    allowed: &RowSet,
    query: &DenseQuery,
    segment: u32,
    depth: usize,
    reach: Reach,
    best: &mut Best,
    told: &mut SegmentSearch,
) -> bool {
    let coded = file.coded();
    let comparison = Comparison {
        kernels,
        metric: file.metric(),
        coded: &coded,
    };
    let is_filtered = allowed.len() < file.present();
    told.ef = reach.ef;
    (told.strategy, told.reason) = if is_filtered {
        (Strategy::FilteredWalk, "many rows match")
    } else {
        (Strategy::Walk, "all rows match")
    };
    with_scratch(|scratch| {
        let Some(start) = graph.way_in(&comparison, &query.probe) else {
            (told.strategy, told.reason) = (Strategy::WalkThenScan, "the graph has no way in");
            return false;
        };
        let layer = graph.base_layer();
        let is_done = if is_filtered {
            let is_allowed = |row| allowed.contains(row);
            comparison.around(&layer, &query.probe, start, reach, is_allowed, scratch)
        } else {
            comparison.around(&layer, &query.probe, start, reach, |_| true, scratch)
        };
        told.compared = scratch.compared;
        let wanted = depth.min(allowed.len() as usize);
        if !is_done || scratch.found.len() < wanted {
            told.strategy = Strategy::WalkThenScan;
            told.reason = if is_done {
                "the walk found too few"
            } else {
                "the walk was too long"
            };
            return false;
        }
        for near in &scratch.found {
            let (score, row) = (near.score(), near.node());
            best.push(Scored { score, segment, row });
        }
        true
    })
}

fn scan_file(
    kernels: Kernels,
    file: &VectorFile,
    allowed: &RowSet,
    query: &DenseQuery,
    segment: u32,
    best: &mut Best,
) {
    let (probe, metric) = (&query.probe, file.metric());
    let rows = file.rows();
    let mut sums = [0_i32; 64];
    for (word, bits) in allowed.words().iter().enumerate() {
        let mut bits = bits & file.presence_word(word);
        let first = word as u32 * 64;
        if bits == 0 || first >= rows {
            continue;
        }
        // A well filled word is multiplied in one go, unwanted rows included.
        let together = bits.count_ones() >= 16;
        if together {
            let last = (first + 64).min(rows);
            kernels.dot_codes(
                file.codes(first..last),
                &probe.codes,
                &mut sums[..(last - first) as usize],
            );
        }
        while bits != 0 {
            let at = bits.trailing_zeros();
            bits &= bits - 1;
            let row = first + at;
            if row >= rows {
                break;
            }
            if !together {
                kernels.dot_codes(
                    file.codes(row..row + 1),
                    &probe.codes,
                    &mut sums[at as usize..=at as usize],
                );
            }
            let score = probe.score(metric, sums[at as usize], file.scale(row), || file.norm(row));
            best.push(Scored { score, segment, row });
        }
    }
}

#[cfg(test)]
mod tests {
    use tantivy::directory::OwnedBytes;

    use super::super::format::{self, VectorSpec};
    use super::super::rows::{RowBuffer, prepare};
    use super::*;

    struct Noise(u64);

    impl Noise {
        fn value(&mut self) -> f32 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 40) as f32 / 16_777_216.0) - 0.5
        }
    }

    fn spec(dim: u32, encoding: Encoding) -> VectorSpec {
        VectorSpec {
            dim,
            metric: Metric::Cosine,
            encoding,
            fingerprint: [0; 16],
        }
    }

    fn file(spec: &VectorSpec, vectors: &[Vec<f32>]) -> VectorFile {
        let mut buffer = RowBuffer::new(spec);
        for vector in vectors {
            buffer.push(vector).expect("finite");
        }
        let mut bytes = Vec::new();
        format::write(spec, &buffer, None, &mut bytes).expect("memory");
        VectorFile::open(OwnedBytes::new(bytes), spec).expect("opens")
    }

    /// Clustered vectors, as embeddings are.
    fn vectors(noise: &mut Noise, spec: &VectorSpec, count: usize) -> Vec<Vec<f32>> {
        let centres: Vec<Vec<f32>> = (0..40)
            .map(|_| (0..spec.dim).map(|_| noise.value()).collect())
            .collect();
        (0..count)
            .map(|at| {
                let raw: Vec<f32> = centres[at % 40]
                    .iter()
                    .map(|value| value + 0.7 * noise.value())
                    .collect();
                prepare(spec, &raw).expect("finite")
            })
            .collect()
    }

    #[test]
    fn the_scan_finds_what_brute_force_finds_under_filters_of_any_width() {
        for encoding in [Encoding::Codes, Encoding::CodesF16, Encoding::CodesF32] {
            let spec = spec(96, encoding);
            let mut noise = Noise(11);
            let data = vectors(&mut noise, &spec, 2_000);
            let files = [file(&spec, &data[..700]), file(&spec, &data[700..])];
            let (mut found, mut wanted) = (0, 0);
            for (round, every) in [1_usize, 2, 3, 10, 50, 200, 1_999].into_iter().enumerate() {
                let query = prepare(&spec, &vectors(&mut noise, &spec, 3)[round % 3]).expect("finite");
                let sets: Vec<RowSet> = files
                    .iter()
                    .enumerate()
                    .map(|(at, file)| {
                        let from = at * 700;
                        RowSet::from_rows(
                            file.rows(),
                            (0..file.rows()).filter(|row| (from + *row as usize).is_multiple_of(every)),
                        )
                    })
                    .collect();
                let mut want: Vec<(f32, usize)> = (0..data.len())
                    .filter(|at| at.is_multiple_of(every))
                    .map(|at| (data[at].iter().zip(&query).map(|(a, b)| a * b).sum(), at))
                    .collect();
                want.sort_by(|left, right| right.0.total_cmp(&left.0));
                let (got, _) = search(
                    files.iter().zip(&sets),
                    &DenseQuery::new(query),
                    10,
                    10,
                    Effort::DEFAULT,
                );
                assert_eq!(got.len(), want.len().min(10), "k or all, filter 1/{every}");
                assert!(got.is_sorted_by(|left, right| best_first(left, right) != Ordering::Greater));
                let top: Vec<usize> = want.iter().take(10).map(|(_, at)| *at).collect();
                wanted += top.len();
                found += got
                    .iter()
                    .filter(|scored| top.contains(&(scored.segment as usize * 700 + scored.row as usize)))
                    .count();
                if encoding == Encoding::CodesF32 {
                    for (scored, (score, _)) in got.iter().zip(&want) {
                        assert!((scored.score - score).abs() < 1e-5);
                    }
                }
            }
            let recall = found as f32 / wanted as f32;
            assert!(
                recall >= if encoding == Encoding::Codes { 0.95 } else { 0.99 },
                "{encoding:?}: {recall}"
            );
        }
    }

    #[test]
    fn equal_vectors_come_in_address_order() {
        let spec = spec(8, Encoding::CodesF16);
        let same = prepare(&spec, &[1.0; 8]).expect("finite");
        let file = file(&spec, &vec![same.clone(); 500]);
        let all = RowSet::from_rows(500, 0..500);
        let (got, _) = search(
            std::iter::once((&file, &all)),
            &DenseQuery::new(same),
            7,
            7,
            Effort::DEFAULT,
        );
        assert_eq!(
            got.iter().map(|scored| scored.row).collect::<Vec<_>>(),
            (0..7).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_best_few_of_many_are_kept_whatever_their_order() {
        let mut noise = Noise(3);
        for limit in [0_usize, 1, 2, 10, 100] {
            let all: Vec<Scored> = (0..1_000)
                .map(|row| Scored {
                    score: (noise.value() * 20.0).round(),
                    segment: 0,
                    row,
                })
                .collect();
            let mut best = Best::new(limit);
            for scored in &all {
                best.push(*scored);
            }
            let mut want = all;
            want.sort_by(best_first);
            want.truncate(limit);
            assert_eq!(best.into_sorted(), want);
        }
    }
}
