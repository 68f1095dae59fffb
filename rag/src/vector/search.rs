//! The dense leg: a scan over int8 codes or a walk through the graph, then rescoring of the best in what the file keeps.
//!
//! A scan is exact: after the best by their codes, every row is rescored whose codes do not rule out that it is among
//! the best ([`Margin`]). Exact means by what is kept: 16 bits a component unless f32 are stored.

use std::cmp::Ordering;

use super::file::VectorFile;
use super::format::{Encoding, Metric};
use super::graph::Graph;
use super::margin::Margin;
use super::plan::{Choice, Effort, SegmentSearch, Strategy, choose};
use super::rows::quantise;
use super::scan::Piece;
use super::walk::{Comparison, Probe, Reach, with_scratch};
use crate::best::{Best, Scored, best_first, keep_best, nth_score, sort_by_address};
use crate::filter::RowSet;
use crate::simd::{Kernels, kernels, prefetch};
use crate::spare::Spare;

/// Rows rescored exactly for each row asked for. Recall@10 against f32 was 1.0 on SciFact and Cranfield with MiniLM;
/// of codes alone it was .995 and .997.
const RESCORE_FACTOR: usize = 4;
/// Never rescore fewer: at tiny k the factor alone is too thin.
const RESCORE_LEAST: usize = 64;
/// Rows kept by their codes at least: a second look at all rows is needed where these do not reach far enough.
const KEPT_LEAST: usize = 256;

/// A prepared query vector: as it is for rescoring, as codes for scan and walk.
#[derive(Clone, Debug)]
pub(crate) struct DenseQuery {
    vector: Vec<f32>,
    pub(super) probe: Probe,
    length: f32,
    /// Length of what the codes leave out.
    left_out: f32,
}

impl DenseQuery {
    /// `vector` has passed `rows::prepare`.
    pub(crate) fn new(vector: Vec<f32>) -> Self {
        let mut codes = Vec::with_capacity(vector.len());
        let scale = quantise(&vector, &mut codes);
        let mut probe = Probe::default();
        probe.set(&codes, scale);
        let length = length(vector.iter().copied());
        let left_out = self::length(
            vector
                .iter()
                .zip(probe.codes.codes())
                .map(|(value, code)| value - f32::from(*code) * scale),
        );
        Self {
            vector,
            probe,
            length,
            left_out,
        }
    }
}

fn length(values: impl Iterator<Item = f32>) -> f32 {
    let square: f64 = values.map(|value| f64::from(value).powi(2)).sum();
    square.sqrt() as f32
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
        (Encoding::Codes16, Metric::Cosine | Metric::Dot) => {
            kernels.dot_fine(file.codes(row..row + 1), bytes, file.scale(row), vector)
        }
        (Encoding::CodesF32, Metric::Cosine | Metric::Dot) => kernels.dot_f32(bytes, vector),
        (Encoding::Codes16, Metric::L2) => {
            -kernels.distance_fine(file.codes(row..row + 1), bytes, file.scale(row), vector)
        }
        (Encoding::CodesF32, Metric::L2) => -kernels.distance_f32(bytes, vector),
    }
}

/// The best `depth` of the allowed rows, in the order of their addresses; at least the best `4 × exact` of them by their codes
/// have their exact score, and among scanned rows the best `exact` are the true ones. How each segment was searched comes
/// beside.
pub(crate) fn search<'a>(
    segments: impl Iterator<Item = (&'a VectorFile, &'a RowSet)> + Clone,
    query: &DenseQuery,
    depth: usize,
    exact: usize,
    effort: Effort,
) -> (Spare<Scored>, Vec<SegmentSearch>) {
    let kernels = kernels();
    let rescored = (exact * RESCORE_FACTOR).max(RESCORE_LEAST);
    let kept = depth.max(rescored).max(KEPT_LEAST);
    let mut best = Best::new(kept);
    let mut piece = Piece::default();
    let mut files = Vec::new();
    let mut scans = Vec::new();
    let mut told = Vec::new();
    for (segment, (file, allowed)) in segments.enumerate() {
        let segment = segment as u32;
        let (search, is_scan) = search_file(
            kernels, file, allowed, query, segment, depth, effort, &mut piece, &mut best,
        );
        scans.extend(is_scan.then_some((segment, file, allowed)));
        told.push(search);
        files.push(file);
    }
    let mut list = best.into_list();
    let bar = nth_score(&list, rescored);
    let mut exactly = Rescoring {
        kernels,
        files: &files,
        query,
        nearest: Best::new(exact),
        places: Spare::default(),
        scores: Spare::default(),
    };
    exactly.rescore(&list, |score| score >= bar);
    if let Some((_, first, _)) = scans.first() {
        let margin = Margin::new(
            first.metric(),
            first.encoding(),
            query.vector.len(),
            query.length,
            query.left_out,
        );
        let widest = scans.iter().map(|(_, file, _)| file.widest()).fold(0.0, f32::max);
        let reach = margin.least(exactly.least(), widest);
        exactly.rescore(&list, |score| score < bar && score >= reach);
        // Where none was ruled out, rows that were not kept are not either.
        if list.len() >= kept
            && exactly.places.len() == list.len()
            && let Some(last) = list.iter().copied().max_by(best_first)
        {
            for (segment, file, allowed) in scans {
                piece.scan(kernels, file, allowed, query, |piece| {
                    for (row, score) in piece.rows() {
                        let scored = Scored { score, segment, row };
                        // Rows that were not kept come after the last that was.
                        let was_kept = best_first(&last, &scored) != Ordering::Less;
                        if !was_kept && score >= margin.least(exactly.least(), file.scale(row)) {
                            let scored = exactly.exact(scored);
                            list.extend((!scored.score.is_nan()).then_some(scored));
                        }
                    }
                });
            }
        }
    }
    for (at, score) in exactly.places.iter().zip(exactly.scores.iter()) {
        list[*at as usize].score = *score;
    }
    if exactly.scores.iter().any(|score| score.is_nan()) {
        // Numbers that only a damaged file can hold.
        list.retain(|scored| !scored.score.is_nan());
    }
    if list.len() > depth {
        keep_best(&mut list, depth);
    }
    sort_by_address(&mut list);
    (list, told)
}

/// Gives rows their exact scores, and keeps the nearest of them.
struct Rescoring<'a> {
    kernels: Kernels,
    files: &'a [&'a VectorFile],
    query: &'a DenseQuery,
    nearest: Best,
    /// Places in the list that have been rescored.
    places: Spare<u32>,
    /// The exact score of each.
    scores: Spare<f32>,
}

impl Rescoring<'_> {
    fn exact(&mut self, mut scored: Scored) -> Scored {
        scored.score = rescore(
            self.kernels,
            self.files[scored.segment as usize],
            scored.row,
            self.query,
        );
        self.nearest.push(scored);
        scored
    }

    /// The rows of the list whose scores by codes are wanted; the list keeps those.
    fn rescore(&mut self, list: &[Scored], is_wanted: impl Fn(f32) -> bool) {
        let files = self.files;
        let before = self.places.len();
        let wanted = (0..).zip(list).filter(|(_, scored)| is_wanted(scored.score));
        self.places.extend(wanted.map(|(at, _)| at));
        let places = before..self.places.len();
        for at in places.clone() {
            let scored = &list[self.places[at] as usize];
            let file = files[scored.segment as usize];
            prefetch(file.vector_bytes(scored.row));
            if file.encoding() == Encoding::Codes16 {
                prefetch(file.codes(scored.row..scored.row + 1));
            }
        }
        for at in places {
            let scored = self.exact(list[self.places[at] as usize]);
            self.scores.push(scored.score);
        }
        self.nearest.settle();
    }

    /// The exact score of the last that is wanted, or less; rows below it are not.
    fn least(&self) -> f32 {
        self.nearest.threshold()
    }
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
    piece: &mut Piece,
    best: &mut Best,
) -> (SegmentSearch, bool) {
    let reachable = reachable(file, allowed);
    let mut told = SegmentSearch {
        vectors: file.present(),
        allowed: reachable,
        strategy: Strategy::Skipped,
        reason: "nothing matches",
        ef: 0,
        compared: 0,
    };
    if file.dim() != query.vector.len() || file.present() == 0 {
        return (told, false);
    }
    // The graph is read against its checksum on first use: not where nothing would use it.
    let has_graph = file.has_graph() && reachable as usize > depth;
    let graph = if has_graph { file.graph() } else { None };
    let needs = graph.as_ref().map(Graph::needs);
    match choose(needs, file.present(), reachable, depth, effort) {
        Choice::Skip => return (told, false),
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
                return (told, false);
            }
        }
    }
    piece.scan(kernels, file, allowed, query, |piece| {
        best.push_rows(
            segment,
            piece.first,
            &piece.bits,
            &piece.scores,
            f32::NEG_INFINITY,
        );
    });
    told.compared += reachable as usize;
    (told, true)
}

/// How many of the allowed rows have a vector.
fn reachable(file: &VectorFile, allowed: &RowSet) -> u32 {
    if file.present() == file.rows() {
        return allowed.len();
    }
    let words = allowed.words().iter().enumerate();
    words
        .map(|(at, word)| (word & file.presence_word(at)).count_ones())
        .sum()
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
    // As many as the segment has, and all of them with a vector, are all of them.
    let is_filtered = told.allowed < file.present();
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
        let wanted = depth.min(told.allowed as usize);
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

#[cfg(test)]
mod tests {
    use tantivy::directory::OwnedBytes;

    use super::super::format::{self, VectorSpec};
    use super::super::rows::{RowBuffer, prepare};
    use super::*;
    use crate::best::sort_best_first;

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

    /// What a row scores by what its file keeps, in f64: the truth that a scan is held to.
    fn kept_score(file: &VectorFile, row: u32, query: &[f32]) -> f64 {
        let kept = file.vector(row).expect("a vector");
        let pairs = kept
            .iter()
            .zip(query)
            .map(|(left, right)| (f64::from(*left), f64::from(*right)));
        match file.metric() {
            Metric::Cosine | Metric::Dot => pairs.map(|(left, right)| left * right).sum(),
            Metric::L2 => -pairs.map(|(left, right)| (left - right).powi(2)).sum::<f64>(),
        }
    }

    #[test]
    fn a_scan_finds_exactly_the_nearest_by_what_is_kept_under_filters_of_any_width() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            for encoding in [Encoding::Codes, Encoding::Codes16, Encoding::CodesF32] {
                let spec = VectorSpec {
                    metric,
                    ..spec(96, encoding)
                };
                let mut noise = Noise(11);
                let mut data = vectors(&mut noise, &spec, 2_000);
                // So near to each other that codes cannot tell them apart: more than are kept by their codes.
                for at in 0..700 {
                    let (from, to) = (data[at % 3].clone(), &mut data[at]);
                    to.iter_mut()
                        .zip(from)
                        .for_each(|(to, from)| *to = from + 1e-3 * noise.value());
                    *to = prepare(&spec, to).expect("finite");
                }
                let files = [file(&spec, &data[..700]), file(&spec, &data[700..])];
                for (round, every) in [1_usize, 2, 3, 10, 50, 200, 1_999].into_iter().enumerate() {
                    let question = if round % 2 == 0 {
                        data[round]
                            .iter()
                            .map(|value| value + 0.1 * noise.value())
                            .collect()
                    } else {
                        vectors(&mut noise, &spec, 1).remove(0)
                    };
                    let query = prepare(&spec, &question).expect("finite");
                    let sets = [0, 700].map(|from: usize| {
                        let rows = if from == 0 { 700 } else { 1_300 };
                        RowSet::from_rows(
                            rows,
                            (0..rows).filter(|row| (from + *row as usize).is_multiple_of(every)),
                        )
                    });
                    let mut want: Vec<(f64, u32, u32)> = Vec::new();
                    for (segment, (file, set)) in files.iter().zip(&sets).enumerate() {
                        let rows = (0..file.rows()).filter(|row| set.contains(*row));
                        want.extend(rows.map(|row| (kept_score(file, row, &query), segment as u32, row)));
                    }
                    want.sort_by(|left, right| right.0.total_cmp(&left.0));
                    for k in [1, 10, 40] {
                        let (mut got, told) = search(
                            files.iter().zip(&sets),
                            &DenseQuery::new(query.clone()),
                            k,
                            k,
                            Effort::DEFAULT,
                        );
                        assert!(told.iter().all(|search| search.strategy.is_exact()));
                        assert_eq!(got.len(), want.len().min(k), "k or all, filter 1/{every}");
                        assert!(got.is_sorted_by_key(|scored| scored.address()));
                        sort_best_first(&mut got);
                        for (scored, (score, ..)) in got.iter().zip(&want) {
                            let true_score = kept_score(&files[scored.segment as usize], scored.row, &query);
                            // Rows nearer to each other than sums in f32 tell may stand for each other.
                            assert!(
                                (true_score - score).abs() < 2e-5 * (1.0 + score.abs()),
                                "{metric:?} {encoding:?} 1/{every} k {k}: {true_score} for {score}"
                            );
                            assert!(
                                (f64::from(scored.score) - true_score).abs() < 1e-4 * (1.0 + score.abs())
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_row_scores_less_by_its_codes_than_the_margin_leaves_it() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            for encoding in [Encoding::Codes, Encoding::Codes16, Encoding::CodesF32] {
                let spec = VectorSpec {
                    metric,
                    ..spec(96, encoding)
                };
                let mut noise = Noise(17);
                let data = vectors(&mut noise, &spec, 500);
                let file = file(&spec, &data);
                let all = RowSet::from_rows(500, 0..500);
                let mut lower = 0;
                // The codes of the last leave nothing out: what they miss is the row's alone.
                let signs: Vec<f32> = (0..96).map(|_| noise.value().signum()).collect();
                let mut questions = vectors(&mut noise, &spec, 20);
                questions.extend([data[7].clone(), prepare(&spec, &signs).expect("finite")]);
                for vector in questions {
                    let query = DenseQuery::new(vector);
                    let margin = Margin::new(metric, encoding, 96, query.length, query.left_out);
                    Piece::default().scan(kernels(), &file, &all, &query, |piece| {
                        for (row, score) in piece.rows() {
                            let exact = exact_score(&file, row, &query).expect("a vector");
                            let least = margin.least(exact, file.scale(row));
                            assert!(score >= least, "{metric:?} {encoding:?}: {score} for {exact}");
                            lower += usize::from(score < exact);
                        }
                    });
                }
                // Without a margin, every second row would be ruled out wrongly.
                assert!(lower > 22 * 500 / 5, "{metric:?} {encoding:?}: {lower}");
            }
        }
    }

    #[test]
    fn a_walk_shows_no_row_that_is_not_allowed_where_rows_have_no_vector() {
        let spec = spec(8, Encoding::Codes16);
        let mut noise = Noise(5);
        let data = vectors(&mut noise, &spec, 400);
        let mut buffer = RowBuffer::new(&spec);
        for (at, vector) in data.iter().enumerate() {
            if at % 2 == 0 {
                buffer.push(vector).expect("finite");
            } else {
                buffer.push_absent();
            }
        }
        let graph = super::super::build::build(
            &format::RowSource::coded(&buffer),
            spec.metric,
            super::super::plan::GraphOptions::default().shape(),
            &crate::stop::Stop::default(),
        );
        let mut bytes = Vec::new();
        format::write(&spec, &buffer, graph.as_ref(), &mut bytes).expect("memory");
        let file = VectorFile::open(OwnedBytes::new(bytes), &spec).expect("opens");
        assert!(file.graph().is_some());
        // As many allowed rows as there are vectors, but half of them without one.
        let allowed = RowSet::from_rows(400, 0..200);
        let (got, told) = search(
            std::iter::once((&file, &allowed)),
            &DenseQuery::new(data[300].clone()),
            10,
            10,
            Effort::Ef(20),
        );
        assert_eq!(told[0].strategy, Strategy::FilteredWalk);
        assert_eq!((got.len(), told[0].allowed), (10, 100));
        assert!(got.iter().all(|scored| allowed.contains(scored.row)));
    }

    #[test]
    fn equal_vectors_come_in_address_order() {
        let spec = spec(8, Encoding::Codes16);
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
}
