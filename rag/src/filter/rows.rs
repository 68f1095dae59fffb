//! [`RowSet`]: rows of one segment, a bit each.

/// A set of rows of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowSet {
    words: Vec<u64>,
    len: u32,
}

impl RowSet {
    pub(crate) fn empty(rows: u32) -> Self {
        Self {
            words: vec![0; (rows as usize).div_ceil(64)],
            len: 0,
        }
    }

    pub(super) fn full(rows: u32) -> Self {
        let mut words = vec![u64::MAX; (rows as usize).div_ceil(64)];
        if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(64)) {
            *last = (1 << (rows % 64)) - 1;
        }
        Self { words, len: rows }
    }

    #[cfg(test)]
    pub(crate) fn from_rows(rows: u32, members: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::empty(rows);
        members.into_iter().for_each(|row| set.insert(row));
        set
    }

    /// Rows past the last word are left out.
    pub(crate) fn insert(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            let bit = 1_u64 << (row % 64);
            self.len += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        self.words
            .get(row as usize / 64)
            .is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// 64 rows to a word, lowest bit first.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// What both have.
    pub(super) fn and(self, other: &Self) -> Self {
        self.combine(other, |left, right| left & right)
    }

    /// What either has.
    pub(super) fn or(self, other: &Self) -> Self {
        self.combine(other, |left, right| left | right)
    }

    /// What the other has not.
    pub(super) fn without(self, other: &Self) -> Self {
        self.combine(other, |left, right| left & !right)
    }

    /// The rows, lowest first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut bits = *word;
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }

    fn combine(mut self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word = with(*word, *other);
        }
        self.len = self.words.iter().map(|word| word.count_ones()).sum();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::RowSet;

    #[test]
    fn a_full_set_has_no_rows_past_its_end() {
        for rows in [0, 1, 63, 64, 65, 128] {
            let full = RowSet::full(rows);
            assert_eq!(full, RowSet::from_rows(rows, 0..rows));
            assert_eq!(
                full.words().iter().map(|word| word.count_ones()).sum::<u32>(),
                rows
            );
        }
    }
}
