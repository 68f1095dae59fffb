//! [`Pass`]: some texts' way through the network.

use crate::{
    DIMENSION, INNER, POSITIONS, WIDTH,
    attention::Head,
    fold::sum,
    kernel::{COLUMNS, Cpu, Work},
    network::Network,
    rows::Rows,
};

/// Rows that go through a feed forward together.
pub(crate) const BLOCK: usize = 72;
/// Rows of a pass at most: more texts are begun while there is room for one of any length.
pub(crate) const MOST_ROWS: usize = 2 * POSITIONS;

/// Room for the numbers on the way, used again for the next pass.
pub(crate) struct Scratch {
    /// The tokens' rows, between the layers' parts.
    pub(crate) states: Vec<f32>,
    /// The same, rounded.
    pub(crate) input: Rows,
    /// The two heads at work.
    pub(crate) heads: [Head; COLUMNS / crate::HEAD_WIDTH],
    /// What attention found.
    pub(crate) context: Vec<f32>,
    /// A block's rows inside of the feed forward.
    pub(crate) inner: Vec<f32>,
    /// The same, rounded.
    pub(crate) inner_codes: Rows,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            states: vec![0.0; MOST_ROWS * WIDTH],
            input: Rows::new(MOST_ROWS, WIDTH),
            heads: std::array::from_fn(|_| Head::new()),
            context: vec![0.0; MOST_ROWS * WIDTH],
            inner: vec![0.0; BLOCK * INNER],
            inner_codes: Rows::new(BLOCK, INNER),
        }
    }
}

/// Texts of known words, each of 1 to [`POSITIONS`] and at most [`MOST_ROWS`] in all.
pub(crate) struct Pass<'a> {
    pub(crate) network: &'a Network,
    pub(crate) texts: Vec<&'a [u32]>,
    pub(crate) scratch: &'a mut Scratch,
}

impl Work for Pass<'_> {
    type Output = Vec<[f32; DIMENSION]>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Self::Output {
        let Self {
            network,
            texts,
            scratch,
        } = self;
        let mut ends = Vec::with_capacity(texts.len());
        let mut count = 0;
        for text in &texts {
            for (position, &word) in text.iter().enumerate() {
                let state = &mut scratch.states[count * WIDTH..][..WIDTH];
                network.place(cpu, word, position, state);
                scratch.input.quantise(cpu, count, state);
                count += 1;
            }
            ends.push(count);
        }
        for layer in &network.layers {
            layer.attend(cpu, scratch, &ends);
            layer.feed(cpu, scratch, count);
        }
        let mut start = 0;
        let mean = |&end: &usize| {
            let mut vector = [0.0; DIMENSION];
            for row in scratch.states[start * WIDTH..end * WIDTH].as_chunks::<WIDTH>().0 {
                for (sum, value) in vector.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            start = end;
            // The length of the sum is as good as the mean's: the vector is brought to length 1.
            let factor = 1.0 / sum(&vector, |x| x * x).sqrt();
            for value in &mut vector {
                *value *= factor;
            }
            vector
        };
        ends.iter().map(mean).collect()
    }
}
