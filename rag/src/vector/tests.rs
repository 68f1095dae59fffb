//! Graphs against brute force: recall, `min(k, matches)` under any filter, damage, repetition.

use tantivy::directory::OwnedBytes;

use super::build::{CodedRows, Shape, build};
use super::file::VectorFile;
use super::format::{self, Encoding, GRAPH, HEADER_LEN, Metric, RowSource, VectorSpec};
use super::graph::{Graph, Head, NONE};
use super::needs::Needs;
use super::plan::{Effort, Strategy};
use super::rows::{RowBuffer, prepare};
use super::search::{DenseQuery, search};
use super::walk::{Comparison, Layer, Near, Probe, Reach, with_scratch};
use crate::best::Scored;
use crate::filter::RowSet;
use crate::simd::kernels;
use crate::stop::Stop;

const SHAPE: Shape = Shape {
    links: 8,
    ef_construction: 60,
};

pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0 - 0.5
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Random,
    Clustered,
    /// Clustered, and of lengths from a half to two.
    Uneven,
}

struct Sample {
    spec: VectorSpec,
    vectors: Vec<Vec<f32>>,
    questions: Vec<Vec<f32>>,
}

impl Sample {
    fn new(kind: Kind, metric: Metric, encoding: Encoding, rows: usize, dim: u32, seed: u64) -> Self {
        let spec = VectorSpec {
            dim,
            metric,
            encoding,
            fingerprint: [3; 16],
        };
        let mut noise = Noise::new(seed);
        let centres: Vec<Vec<f32>> = (0..30)
            .map(|_| (0..dim).map(|_| noise.value()).collect())
            .collect();
        let mut draw = || {
            let mut vector: Vec<f32> = match kind {
                Kind::Random => (0..dim).map(|_| noise.value()).collect(),
                Kind::Clustered | Kind::Uneven => {
                    let centre = noise.below(centres.len());
                    centres[centre]
                        .iter()
                        .map(|value| value + 0.8 * noise.value())
                        .collect()
                }
            };
            if kind == Kind::Uneven {
                let length = 1.25 + 1.5 * noise.value();
                for value in &mut vector {
                    *value *= length;
                }
            }
            prepare(&spec, &vector).expect("finite")
        };
        let vectors = (0..rows).map(|_| draw()).collect();
        let questions = (0..40).map(|_| draw()).collect();
        Self {
            spec,
            vectors,
            questions,
        }
    }

    /// Every ninth row has no vector where `has_gaps`.
    fn buffer(&self, has_gaps: bool) -> RowBuffer {
        let mut buffer = RowBuffer::new(&self.spec);
        for (row, vector) in self.vectors.iter().enumerate() {
            if has_gaps && row % 9 == 4 {
                buffer.push_absent();
            } else {
                buffer.push(vector).expect("finite");
            }
        }
        buffer
    }

    fn bytes(&self, has_gaps: bool, has_graph: bool) -> Vec<u8> {
        let buffer = self.buffer(has_gaps);
        let graph = if has_graph {
            build(&buffer.coded(), self.spec.metric, SHAPE, &Stop::default())
        } else {
            None
        };
        let mut bytes = Vec::new();
        format::write(&self.spec, &buffer, graph.as_ref(), &mut bytes).expect("memory");
        bytes
    }

    fn open(&self, bytes: Vec<u8>) -> VectorFile {
        VectorFile::open(OwnedBytes::new(bytes), &self.spec).expect("opens")
    }

    fn score(&self, row: usize, question: &[f32]) -> f64 {
        let pairs = self.vectors[row].iter().zip(question);
        match self.spec.metric {
            Metric::Cosine | Metric::Dot => pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
            Metric::L2 => -pairs
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum::<f64>(),
        }
    }

    fn truth(&self, question: &[f32], k: usize, allowed: &RowSet) -> Vec<u32> {
        let mut scored: Vec<(f64, u32)> = (0..self.vectors.len() as u32)
            .filter(|row| allowed.contains(*row))
            .map(|row| (self.score(row as usize, question), row))
            .collect();
        scored.sort_by(|left, right| right.0.total_cmp(&left.0));
        scored.into_iter().take(k).map(|(_, row)| row).collect()
    }
}

fn shared(found: &[u32], wanted: &[u32]) -> usize {
    found.iter().filter(|row| wanted.contains(row)).count()
}

#[test]
fn a_walk_finds_what_brute_force_finds_on_random_and_clustered_vectors_of_each_metric_and_storage() {
    for (kind, metric, encoding, least) in [
        (Kind::Random, Metric::Cosine, Encoding::Codes16, 0.95),
        (Kind::Clustered, Metric::Cosine, Encoding::Codes16, 0.98),
        (Kind::Clustered, Metric::Cosine, Encoding::Codes, 0.95),
        (Kind::Clustered, Metric::L2, Encoding::CodesF32, 0.98),
        (Kind::Uneven, Metric::L2, Encoding::Codes16, 0.98),
        (Kind::Clustered, Metric::Dot, Encoding::CodesF32, 0.98),
        (Kind::Uneven, Metric::Dot, Encoding::Codes16, 0.95),
    ] {
        let sample = Sample::new(kind, metric, encoding, 3_000, 40, 7);
        let file = sample.open(sample.bytes(false, true));
        let all = RowSet::from_rows(3_000, 0..3_000);
        let mut hits = 0;
        for question in &sample.questions {
            let segments = std::iter::once((&file, &all));
            let (found, told) = search(
                segments,
                &DenseQuery::new(question.clone()),
                10,
                10,
                Effort::Ef(100),
            );
            assert_eq!((told[0].strategy, told[0].ef), (Strategy::Walk, 100));
            assert!(told[0].compared < 2_500, "{}", told[0].compared);
            let rows: Vec<u32> = found.iter().map(|scored| scored.row).collect();
            hits += shared(&rows, &sample.truth(question, 10, &all));
            if encoding == Encoding::CodesF32 {
                for scored in found.iter() {
                    let want = sample.score(scored.row as usize, question);
                    assert!(
                        (f64::from(scored.score) - want).abs() < 1e-4,
                        "{} for {want}",
                        scored.score
                    );
                }
            }
        }
        let recall = hits as f32 / 400.0;
        assert!(recall >= least, "{kind:?} {metric:?} {encoding:?}: {recall}");
    }
}

#[test]
fn k_or_all_come_back_at_each_of_a_hundred_selectivities() {
    let sample = Sample::new(Kind::Clustered, Metric::Cosine, Encoding::Codes16, 4_000, 32, 11);
    let bytes = sample.bytes(true, true);
    let file = sample.open(bytes);
    let mut noise = Noise::new(5);
    let mut strategies = std::collections::HashMap::new();
    for percent in 1..=100 {
        // Every other filter lets through what is alike, instead of what chance takes.
        let is_alike = percent % 2 == 0;
        let pivot = &sample.vectors[noise.below(4_000)];
        let mut ranked: Vec<(f64, u32)> = (0..4_000_u32)
            .filter(|row| row % 9 != 4)
            .map(|row| {
                let key = if is_alike {
                    sample.score(row as usize, pivot)
                } else {
                    noise.next() as f64
                };
                (key, row)
            })
            .collect();
        ranked.sort_by(|left, right| right.0.total_cmp(&left.0));
        let count = ranked.len() * percent / 100;
        let allowed = RowSet::from_rows(4_000, ranked[..count].iter().map(|(_, row)| *row));
        let (mut hits, mut wanted) = (0, 0);
        for (at, question) in sample.questions.iter().take(10).enumerate() {
            let k = [1, 10, 10, 50][at % 4];
            for effort in [Effort::Recall(0.95), Effort::Ef(40)] {
                let segments = std::iter::once((&file, &allowed));
                let (found, told) = search(segments, &DenseQuery::new(question.clone()), k, k, effort);
                *strategies.entry(told[0].strategy).or_insert(0) += 1;
                let mut rows: Vec<u32> = found.iter().map(|scored| scored.row).collect();
                assert_eq!(rows.len(), k.min(count), "{percent} %, {:?}", told[0]);
                assert!(rows.iter().all(|row| allowed.contains(*row)));
                let truth = sample.truth(question, k, &allowed);
                hits += shared(&rows, &truth);
                wanted += truth.len();
                rows.sort_unstable();
                rows.dedup();
                assert_eq!(rows.len(), k.min(count), "none twice");
            }
        }
        let recall = hits as f32 / wanted as f32;
        assert!(recall >= 0.95, "{percent} %, alike {is_alike}: {recall}");
    }
    for strategy in [Strategy::Scan, Strategy::FilteredWalk, Strategy::Walk] {
        assert!(strategies.contains_key(&strategy), "{strategies:?}");
    }
}

#[test]
fn a_graph_over_vectors_that_are_hard_to_find_says_how_far_to_walk_for_a_recall() {
    // Without clusters every row is about as far as the next: far from the sentences that the formula was fitted to.
    let rows = 8_000;
    let mut sample = Sample::new(Kind::Random, Metric::Cosine, Encoding::Codes16, rows, 28, 31);
    let mut noise = Noise::new(8);
    for _ in 0..160 {
        let raw: Vec<f32> = (0..28).map(|_| noise.value()).collect();
        sample
            .questions
            .push(prepare(&sample.spec, &raw).expect("finite"));
    }
    let file = sample.open(sample.bytes(false, true));
    let needs = file.graph().expect("a graph").needs();
    let all = RowSet::from_rows(rows as u32, 0..rows as u32);
    let reached = |needs: Needs, aim: f32| {
        let effort = Effort::Ef(needs.ef(aim, 10, rows as u32));
        let mut shared = 0;
        for question in &sample.questions {
            let question = DenseQuery::new(question.clone());
            let ask = |effort| search([(&file, &all)].into_iter(), &question, 10, 10, effort).0;
            let rows_of = |list: &[Scored]| list.iter().map(|scored| scored.row).collect::<Vec<_>>();
            let (found, wanted) = (ask(effort), ask(Effort::Recall(1.0)));
            shared += self::shared(&rows_of(&found), &rows_of(&wanted));
        }
        shared as f64 / (10 * sample.questions.len()) as f64
    };
    for aim in [0.95, 0.99] {
        let (formula, measured) = (reached(Needs::default(), aim), reached(needs, aim));
        assert!(
            measured >= f64::from(aim) - 0.01 && measured > formula + 0.01,
            "{aim}: {measured} by what was measured, {formula} by the formula, {needs:?}"
        );
    }
    // Too few rows to be asked for: the formula stands.
    let small = Sample::new(Kind::Random, Metric::Cosine, Encoding::Codes16, 600, 28, 32);
    let small = small.open(small.bytes(false, true));
    assert_eq!(small.graph().expect("a graph").needs(), Needs::default());
}

#[test]
fn a_walk_that_goes_on_too_long_ends_as_a_scan() {
    let sample = Sample::new(Kind::Clustered, Metric::L2, Encoding::CodesF32, 4_000, 32, 13);
    let file = sample.open(sample.bytes(false, true));
    let all = RowSet::from_rows(4_000, 0..4_000);
    for question in sample.questions.iter().take(10) {
        // What may be found is what lies farthest: everything else stands in the way.
        let ranked = sample.truth(question, 4_000, &all);
        let allowed = RowSet::from_rows(4_000, ranked[2_500..].iter().copied());
        let segments = std::iter::once((&file, &allowed));
        let (found, told) = search(
            segments,
            &DenseQuery::new(question.clone()),
            1,
            1,
            Effort::Recall(0.5),
        );
        assert_eq!(
            (told[0].strategy, told[0].reason),
            (Strategy::WalkThenScan, "the walk was too long")
        );
        assert!(told[0].compared > 1_500, "{:?}", told[0]);
        assert_eq!(found[0].row, ranked[2_500]);
    }
}

fn reachable(head: &Head, base: &[u8], upper: &[u8], rows: u32) -> usize {
    let graph = Graph::new(head, base, upper);
    let layer = graph.base_layer();
    let start = u32::from_le_bytes(upper[..4].try_into().expect("four bytes"));
    let mut seen = vec![false; rows as usize];
    seen[start as usize] = true;
    let mut open = vec![start];
    while let Some(row) = open.pop() {
        for other in layer.list(row) {
            if !std::mem::replace(&mut seen[other as usize], true) {
                open.push(other);
            }
        }
    }
    seen.into_iter().filter(|seen| *seen).count()
}

#[test]
fn every_row_can_be_reached_even_among_hundreds_of_equal_ones() {
    let mut sample = Sample::new(Kind::Clustered, Metric::Cosine, Encoding::Codes16, 1_500, 24, 3);
    for row in 0..1_500 {
        // A third are one vector, a tenth another.
        if row % 3 == 0 {
            sample.vectors[row] = sample.vectors[0].clone();
        } else if row % 10 == 1 {
            sample.vectors[row] = sample.vectors[1].clone();
        }
    }
    let buffer = sample.buffer(true);
    let graph = build(&buffer.coded(), Metric::Cosine, SHAPE, &Stop::default()).expect("rows to join");
    let head = Head::read(&graph.head, &graph.base, &graph.upper, 1_500).expect("sound");
    assert!(Graph::new(&head, &graph.base, &graph.upper).is_sound(1_500));
    assert_eq!(
        reachable(&head, &graph.base, &graph.upper, 1_500),
        buffer.present() as usize
    );
    // The five hundred equal ones come back when they are asked for.
    let file = sample.open(sample.bytes(true, true));
    let all = RowSet::from_rows(1_500, (0..1_500).filter(|row| row % 9 != 4));
    let question = DenseQuery::new(sample.vectors[0].clone());
    let (found, _) = search(
        std::iter::once((&file, &all)),
        &question,
        100,
        100,
        Effort::Ef(200),
    );
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|scored| scored.score > 0.999));
}

#[test]
fn the_same_rows_give_the_same_graph() {
    let sample = Sample::new(Kind::Random, Metric::Cosine, Encoding::Codes, 800, 16, 1);
    assert_eq!(sample.bytes(false, true), sample.bytes(false, true));
}

#[test]
fn one_row_and_no_row_have_a_graph_and_none() {
    let sample = Sample::new(Kind::Random, Metric::L2, Encoding::CodesF32, 1, 8, 1);
    let file = sample.open(sample.bytes(false, true));
    assert!(file.graph().is_some());
    let all = RowSet::from_rows(1, 0..1);
    let question = DenseQuery::new(sample.questions[0].clone());
    let (found, _) = search(std::iter::once((&file, &all)), &question, 3, 3, Effort::Ef(10));
    assert_eq!(found.len(), 1);
    assert_eq!(
        build(&CodedRows::default(), Metric::L2, SHAPE, &Stop::default()),
        None
    );
}

#[test]
fn a_flipped_bit_in_the_graph_means_a_scan_and_elsewhere_an_error() {
    let sample = Sample::new(Kind::Clustered, Metric::Cosine, Encoding::Codes16, 400, 12, 9);
    let good = sample.bytes(false, true);
    let plain = sample.open(sample.bytes(false, false));
    let all = RowSet::from_rows(400, 0..400);
    let question = DenseQuery::new(sample.questions[0].clone());
    let ask = |file: &VectorFile| search(std::iter::once((file, &all)), &question, 10, 10, Effort::Ef(20));
    let (want, _) = ask(&plain);
    let graph_from = sample.bytes(false, false).len().next_multiple_of(64);
    let (mut refused, mut scanned, mut unhurt) = (0, 0, 0);
    for at in (0..good.len()).filter(|at| *at < 512 || at % 13 == 0 || *at + 300 > good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let Ok(file) = VectorFile::open(OwnedBytes::new(bad), &sample.spec) else {
            refused += 1;
            continue;
        };
        if file.verify_rows().is_err() {
            assert!(at < graph_from, "byte {at} is the graph's");
            refused += 1;
            continue;
        }
        let (got, told) = ask(&file);
        if file.graph().is_none() {
            assert_eq!(
                (told[0].strategy, told[0].reason),
                (Strategy::Scan, "its graph is damaged")
            );
            assert_eq!(got, want, "byte {at}");
            scanned += 1;
        } else {
            // Padding between sections belongs to no checksum and to no answer.
            unhurt += 1;
        }
    }
    assert!(
        refused > 500 && scanned > 1_000 && unhurt < 64,
        "{refused} {scanned} {unhurt}"
    );
    for keep in (0..good.len()).step_by(61) {
        let cut = OwnedBytes::new(good[..keep].to_vec());
        assert!(VectorFile::open(cut, &sample.spec).is_err(), "cut to {keep}");
    }
}

#[test]
fn a_walk_through_numbers_that_mean_nothing_ends_and_finds_only_rows() {
    let sample = Sample::new(Kind::Random, Metric::Cosine, Encoding::Codes16, 300, 12, 2);
    let file = sample.open(sample.bytes(false, false));
    let graph = build(
        &sample.buffer(false).coded(),
        Metric::Cosine,
        SHAPE,
        &Stop::default(),
    )
    .expect("rows to join");
    let coded = file.coded();
    let comparison = Comparison {
        kernels: kernels(),
        metric: Metric::Cosine,
        coded: &coded,
    };
    let mut probe = Probe::default();
    probe.set(file.codes(7..8), file.scale(7));
    let mut noise = Noise::new(77);
    for round in 0..300 {
        let (mut base, mut upper) = (graph.base.clone(), graph.upper.clone());
        for _ in 0..=noise.below(200) {
            // Any number, or one near the ends.
            let number = match noise.below(4) {
                0 => NONE,
                1 => 300 + noise.below(3) as u32,
                _ => noise.next() as u32,
            };
            let part = if noise.below(3) == 0 {
                &mut upper
            } else {
                &mut base
            };
            let at = noise.below(part.len() / 4) * 4;
            part[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let head = Head::read(&graph.head, &base, &upper, 300).expect("the shape is whole");
        let broken = Graph::new(&head, &base, &upper);
        with_scratch(|scratch| {
            let start = broken.way_in(&comparison, &probe).unwrap_or(Near::new(0.0, 0));
            let reach = Reach {
                ef: 20,
                budget: usize::MAX,
            };
            comparison.around(&broken.base_layer(), &probe, start, reach, |_| true, scratch);
            assert!(scratch.found.len() <= 20);
            assert!(
                scratch
                    .found
                    .iter()
                    .all(|near| near.node() < 300 || near == &start),
                "round {round}"
            );
        });
    }
    // Heads that promise other lengths, or nothing that a graph can have, are refused.
    for at in 0..graph.head.len() {
        for bit in 0..8 {
            let mut head = graph.head;
            head[at] ^= 1 << bit;
            if let Some(read) = Head::read(&head, &graph.base, &graph.upper, 300) {
                let graph = Graph::new(&read, &graph.base, &graph.upper);
                let _ = graph.is_sound(300) && graph.way_in(&comparison, &probe).is_some();
            }
        }
    }
}

#[test]
fn a_scan_over_numbers_that_mean_nothing_ends_and_finds_only_rows() {
    // Of the sections that hold numbers, every kind that is not one, and numbers too large to be multiplied.
    let numbers = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        -1.0,
        0.0,
        f32::MIN_POSITIVE,
    ];
    let mut noise = Noise::new(41);
    let mut without = 0;
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for encoding in [Encoding::Codes, Encoding::Codes16, Encoding::CodesF32] {
            let sample = Sample::new(Kind::Clustered, metric, encoding, 700, 12, 6);
            let good = sample.bytes(true, false);
            for round in 0..40 {
                let mut bad = good.clone();
                for _ in 0..=noise.below(400) {
                    let number = numbers[noise.below(numbers.len())];
                    let at = HEADER_LEN + noise.below((bad.len() - HEADER_LEN) / 4) * 4;
                    bad[at..at + 4].copy_from_slice(&number.to_le_bytes());
                }
                // Where rows have vectors is checked at open.
                let presence = 700_usize.div_ceil(8);
                bad[HEADER_LEN..HEADER_LEN + presence]
                    .copy_from_slice(&good[HEADER_LEN..HEADER_LEN + presence]);
                let file = sample.open(bad);
                for every in [1, 3, 40] {
                    let allowed = RowSet::from_rows(700, (0..700).filter(|row| row % every == 0));
                    let question = DenseQuery::new(sample.questions[round].clone());
                    let (got, told) = search(
                        [(&file, &allowed)].into_iter(),
                        &question,
                        10,
                        10,
                        Effort::DEFAULT,
                    );
                    assert!(told[0].strategy.is_exact());
                    assert!(got.is_sorted_by(|left, right| left.address() < right.address()));
                    let is_good = |scored: &Scored| {
                        allowed.contains(scored.row) && file.has_vector(scored.row) && !scored.score.is_nan()
                    };
                    assert!(
                        got.len() <= 10 && got.iter().all(is_good),
                        "{metric:?} {encoding:?} {got:?}"
                    );
                    without += usize::from(got.len() < 10);
                }
            }
        }
    }
    // A row of nonsense is no row; the others are there.
    assert!(without < 100, "{without} of 1080");
}

#[test]
fn the_files_of_a_graph_start_at_multiples_of_64() {
    let sample = Sample::new(Kind::Random, Metric::L2, Encoding::Codes16, 100, 7, 2);
    let bytes = sample.bytes(false, true);
    let mut seen = 0;
    for slot in bytes[64..64 + 16 * 24].chunks_exact(24) {
        let kind = u32::from_le_bytes(slot[..4].try_into().expect("four bytes"));
        let offset = u64::from_le_bytes(slot[8..16].try_into().expect("eight bytes"));
        assert_eq!(offset % 64, 0);
        seen += usize::from(GRAPH.iter().any(|section| *section as u32 == kind));
    }
    assert_eq!(seen, 3);
}

#[test]
fn walks_at_once_do_not_disturb_each_other() {
    let sample = Sample::new(Kind::Clustered, Metric::Cosine, Encoding::Codes16, 2_000, 24, 21);
    let file = sample.open(sample.bytes(false, true));
    let all = RowSet::from_rows(2_000, 0..2_000);
    let ask = |question: &Vec<f32>| {
        search(
            std::iter::once((&file, &all)),
            &DenseQuery::new(question.clone()),
            10,
            10,
            Effort::Ef(30),
        )
        .0
    };
    let want: Vec<_> = sample.questions.iter().map(ask).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // More than 255: the marks of the walks start again.
                for _ in 0..20 {
                    for (question, want) in sample.questions.iter().zip(&want) {
                        assert_eq!(&ask(question), want);
                    }
                }
            });
        }
    });
}
