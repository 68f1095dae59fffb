//! Which rows a search may see: a [`Filter`] and a tenant become a tantivy query, the query a set of rows.

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

    #[cfg(test)]
    pub(crate) fn from_rows(rows: u32, members: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::empty(rows);
        members.into_iter().for_each(|row| set.insert(row));
        set
    }

    /// Rows past the end are left out.
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
}
