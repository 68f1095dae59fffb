//! The same numbers every time (SplitMix64), and bodies cut with them.

/// A seeded sequence.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this word, such as an exchange's id.
    pub fn of(word: &str) -> Self {
        let seed = word.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }

    /// Pieces of random length, so that cuts fall inside lines and characters; some fall right at the line ends.
    pub fn cut(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let longest = [5, 40, 300, 3000][self.below(4)];
        let at_lines = self.below(3) == 0;
        let (mut rest, mut pieces) = (bytes, Vec::new());
        while !rest.is_empty() {
            let mut length = (1 + self.below(longest)).min(rest.len());
            if at_lines && let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                length = (end + self.below(2)).clamp(1, rest.len());
            }
            let (piece, tail) = rest.split_at(length);
            pieces.push(piece.to_vec());
            rest = tail;
        }
        pieces
    }
}
