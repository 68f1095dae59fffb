//! [`Head`]: one attention head over one text.

use crate::{
    HEAD_WIDTH, POSITIONS,
    curve::exp,
    fold::{greatest, sum},
    kernel::{Cpu, LANES, Lanes, ROWS},
};

/// Keys are compared in groups of [`LANES`].
const GROUPS: usize = POSITIONS.div_ceil(LANES);

/// Queries, keys and values of a text, and room to compare them.
pub(crate) struct Head {
    queries: Vec<Lanes>,
    /// By group of keys, then by dimension: a key per lane.
    keys: Vec<Lanes>,
    values: Vec<Lanes>,
    /// Scores of [`ROWS`] queries with all keys.
    scores: Vec<f32>,
}

impl Head {
    pub(crate) fn new() -> Self {
        let zero = Lanes([0.0; LANES]);
        Self {
            queries: vec![zero; POSITIONS],
            keys: vec![zero; GROUPS * HEAD_WIDTH],
            values: vec![zero; POSITIONS],
            scores: vec![0.0; ROWS * GROUPS * LANES],
        }
    }

    #[inline(always)]
    pub(crate) fn set_query(&mut self, at: usize, query: &[f32; HEAD_WIDTH]) {
        self.queries[at].0 = *query;
    }

    #[inline(always)]
    pub(crate) fn set_key(&mut self, at: usize, key: &[f32; HEAD_WIDTH]) {
        let group = &mut self.keys[at / LANES * HEAD_WIDTH..][..HEAD_WIDTH];
        for (lanes, part) in group.iter_mut().zip(key) {
            lanes.0[at % LANES] = *part;
        }
    }

    #[inline(always)]
    pub(crate) fn set_value(&mut self, at: usize, value: &[f32; HEAD_WIDTH]) {
        self.values[at].0 = *value;
    }

    /// For each query the mean of the values, weighted by e to the query's product with the key.
    #[inline(always)]
    pub(crate) fn attend<C: Cpu>(
        &mut self,
        cpu: C,
        length: usize,
        mut take: impl FnMut(usize, &[f32; HEAD_WIDTH]),
    ) {
        let groups = length.div_ceil(LANES);
        let width = groups * LANES;
        let mut sums = [Lanes([0.0; LANES]); ROWS];
        for first in (0..length).step_by(ROWS) {
            let count = ROWS.min(length - first);
            // A short last block repeats its last query.
            let queries = std::array::from_fn(|row| &self.queries[first + row.min(count - 1)].0[..]);
            for (group, keys) in self.keys.chunks_exact(HEAD_WIDTH).take(groups).enumerate() {
                cpu.blend(queries, keys, &mut sums);
                for (scores, sums) in self.scores.chunks_exact_mut(width).zip(&sums) {
                    scores[group * LANES..][..LANES].copy_from_slice(&sums.0);
                }
            }
            let mut factors = [0.0; ROWS];
            for (scores, factor) in self.scores.chunks_exact_mut(width).zip(&mut factors) {
                scores[length..].fill(f32::MIN); // no keys
                let most = greatest(scores, f32::MIN);
                for score in &mut *scores {
                    *score = exp(cpu, *score - most);
                }
                *factor = 1.0 / sum(scores, |score| score);
            }
            let scores = std::array::from_fn(|row| &self.scores[row * width..][..length]);
            cpu.blend(scores, &self.values[..length], &mut sums);
            for (row, (sums, factor)) in sums.iter().zip(factors).enumerate().take(count) {
                let mut found = [0.0; HEAD_WIDTH];
                for lane in 0..HEAD_WIDTH {
                    found[lane] = sums.0[lane] * factor;
                }
                take(first + row, &found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Head;
    use crate::{
        HEAD_WIDTH, POSITIONS,
        kernel::{Cpu, Processor, Work},
        noise::Noise,
    };

    type Row = [f32; HEAD_WIDTH];

    struct Attend<'a> {
        head: &'a mut Head,
        rows: &'a [[Row; 3]],
    }

    impl Work for Attend<'_> {
        type Output = Vec<Row>;

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> Self::Output {
            for (at, [query, key, value]) in self.rows.iter().enumerate() {
                self.head.set_query(at, query);
                self.head.set_key(at, key);
                self.head.set_value(at, value);
            }
            let mut found = Vec::new();
            self.head.attend(cpu, self.rows.len(), |row, values| {
                assert_eq!(row, found.len(), "row by row");
                found.push(*values);
            });
            found
        }
    }

    fn exact(rows: &[[Row; 3]], query: &Row) -> [f64; HEAD_WIDTH] {
        let dot = |key: &Row| {
            query
                .iter()
                .zip(key)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum::<f64>()
        };
        let weights: Vec<f64> = rows.iter().map(|[_, key, _]| dot(key).exp()).collect();
        let all: f64 = weights.iter().sum();
        std::array::from_fn(|lane| {
            rows.iter()
                .zip(&weights)
                .map(|([_, _, value], weight)| f64::from(value[lane]) * weight / all)
                .sum()
        })
    }

    #[test]
    fn each_query_gets_the_weighted_mean_whatever_the_head_held_before() {
        let mut noise = Noise::new(5);
        for processor in Processor::all() {
            let mut head = Head::new();
            for length in [POSITIONS, 1, 2, 7, 8, 9, 31, 32, 33, 64, 100] {
                // Queries of this size give scores from about −20 to 20.
                let mut row = |size: f32| std::array::from_fn(|_| noise.float() * size);
                let rows: Vec<[Row; 3]> = (0..length).map(|_| [row(6.0), row(2.0), row(1.0)]).collect();
                let found = processor.run(Attend {
                    head: &mut head,
                    rows: &rows,
                });
                assert_eq!(found.len(), length);
                for ([query, ..], found) in rows.iter().zip(&found) {
                    for (found, want) in found.iter().zip(exact(&rows, query)) {
                        let off = (f64::from(*found) - want).abs();
                        assert!(off < 2e-5, "{processor:?}, {length} keys: {found} for {want}");
                    }
                }
            }
        }
    }
}
