//! Several lists of hits → one, by reciprocal rank.

use std::collections::HashMap;
use stepwell_core::Hit;

/// Damps the first ranks, as is usual.
const DAMPING: f32 = 60.0;

/// The best `top_k` of several lists, each best first: a hit's score is the sum of `1 / (60 + rank)` over the lists it is
/// in. The number beside a list tells whose ids it has: equal ids of two sources are two chunks, and so are equal ids with
/// other words. Of equal scores the first seen comes first.
pub(super) fn reciprocal_rank(
    lists: Vec<(usize, Vec<Hit>)>,
    top_k: usize,
    stage: impl Fn(usize) -> String,
) -> Vec<Hit> {
    let mut places: HashMap<(usize, String, blake3::Hash), usize> = HashMap::new();
    let mut fused: Vec<Hit> = Vec::new();
    for (source, list) in lists {
        for (rank, mut hit) in list.into_iter().enumerate() {
            let score = 1.0 / (DAMPING + rank as f32 + 1.0);
            let key = (
                source,
                hit.chunk.id.clone(),
                blake3::hash(hit.chunk.text.as_bytes()),
            );
            if let Some(place) = places.get(&key) {
                fused[*place].score += score;
                continue;
            }
            places.insert(key, fused.len());
            hit.score = score;
            hit.explanation.stage = stage(source);
            fused.push(hit);
        }
    }
    fused.sort_by(|a, b| b.score.total_cmp(&a.score));
    fused.truncate(top_k);
    fused
}

#[cfg(test)]
mod tests {
    use super::reciprocal_rank;
    use stepwell_core::{Chunk, Document, Explanation, Hit};

    fn list(ids: &[&str]) -> Vec<Hit> {
        let hit = |id: &&str| {
            let document = Document::new(*id, "words");
            Hit::new(
                Chunk::of(&document, 0, 0..5).expect("whole"),
                9.0,
                Explanation::default(),
            )
        };
        ids.iter().map(hit).collect()
    }

    #[test]
    fn what_several_lists_have_comes_first_and_equal_ids_of_two_sources_are_two() {
        let ids = |hits: Vec<Hit>| {
            hits.into_iter()
                .map(|hit| hit.chunk.document_id)
                .collect::<Vec<_>>()
        };
        let lists = vec![(0, list(&["a", "b", "c"])), (0, list(&["d", "b"]))];
        assert_eq!(ids(reciprocal_rank(lists, 3, |_| "x".into())), ["b", "a", "d"]);
        let lists = vec![(0, list(&["a"])), (1, list(&["a"]))];
        let both = reciprocal_rank(lists, 9, |source| format!("routed:{source}"));
        assert_eq!((both.len(), both[1].explanation.stage.as_str()), (2, "routed:1"));
    }
}
