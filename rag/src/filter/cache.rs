//! [`FilterCache`]: the sets that past questions made, bounded by their bytes.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use stepwell_core::Result;
use tantivy::SegmentReader;
use tantivy::index::SegmentId;

use super::{Restriction, RowSet};
use crate::error::Place;
use crate::schema::Fields;

/// What all kept sets may take. A set of a segment of a million rows takes 125 kB.
const MOST_BYTES: usize = 32 << 20;
/// What an entry takes beside its words.
const ENTRY_BYTES: usize = 192;

/// A segment, its deletes, and the restriction's hash.
type Key = (SegmentId, Option<u64>, [u8; 32]);

/// Sets for segments as they are now; what was asked for longest ago goes first.
#[derive(Debug)]
pub(crate) struct FilterCache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    sets: LruCache<Key, Arc<RowSet>>,
    bytes: usize,
}

fn bytes(set: &RowSet) -> usize {
    size_of_val(set.words()) + ENTRY_BYTES
}

impl Default for FilterCache {
    fn default() -> Self {
        Self::with_limit(MOST_BYTES)
    }
}

impl FilterCache {
    fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::new(Kept {
                sets: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    /// The living rows of a segment that a restriction lets through.
    pub(super) fn rows(
        &self,
        reader: &SegmentReader,
        fields: &Fields,
        restriction: &Restriction,
        place: &Place,
    ) -> Result<Arc<RowSet>> {
        let key = (reader.segment_id(), reader.delete_opstamp(), restriction.hash);
        if let Some(found) = self.get(&key) {
            return Ok(found);
        }
        let set = Arc::new(restriction.living_rows(reader, fields, place)?);
        self.keep(key, &set);
        Ok(set)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Each step leaves finished sets; at worst the sum of their bytes is too high after a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key) -> Option<Arc<RowSet>> {
        self.lock().sets.get(key).map(Arc::clone)
    }

    fn keep(&self, key: Key, set: &Arc<RowSet>) {
        let size = bytes(set);
        // One that fills the cache alone would only push the others out.
        if size > self.limit / 2 {
            return;
        }
        let mut kept = self.lock();
        let before = kept.sets.put(key, Arc::clone(set));
        kept.bytes = (kept.bytes + size).saturating_sub(before.map_or(0, |set| bytes(&set)));
        while kept.bytes > self.limit
            && let Some((_, oldest)) = kept.sets.pop_lru()
        {
            kept.bytes = kept.bytes.saturating_sub(bytes(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_by_bytes_and_what_was_asked_for_longest_ago_goes_first() {
        let set = Arc::new(RowSet::empty(6_400));
        assert_eq!(bytes(&set), 800 + ENTRY_BYTES);
        let cache = FilterCache::with_limit(10 * bytes(&set));
        let keys: Vec<Key> = (0..30_u8)
            .map(|at| (SegmentId::generate_random(), None, [at; 32]))
            .collect();
        for (at, key) in keys.iter().enumerate() {
            cache.keep(*key, &set);
            assert!(cache.lock().bytes <= cache.limit);
            // The first one is asked for all the time.
            assert!(cache.get(&keys[0]).is_some(), "after {at}");
        }
        let left: Vec<usize> = (0..30)
            .filter(|at| cache.lock().sets.contains(&keys[*at]))
            .collect();
        assert_eq!(left, [0, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
        assert_eq!(cache.lock().bytes, 10 * bytes(&set));
        // The same again takes no more.
        cache.keep(keys[25], &set);
        assert_eq!(cache.lock().sets.len(), 10);
        assert_eq!(cache.lock().bytes, 10 * bytes(&set));
        // Too large to be kept, and nothing goes for it.
        let large = (SegmentId::generate_random(), None, [99; 32]);
        cache.keep(large, &Arc::new(RowSet::empty(1_000_000)));
        assert!(cache.get(&large).is_none());
        assert_eq!(cache.lock().sets.len(), 10);
    }
}
