//! Vectors of texts: from the cache where they are known, from the embedder where not.
//!
//! ```text
//! key    embedding/1/ hex(blake3(fingerprint, kind, text))
//! value  "SWE1" | format (2: f32, 3: i16) | dim (4) | largest (4) | dim values | first 8 bytes of blake3 of all before
//! ```
//!
//! i16 values are 32,767ths of the largest one, so that no scale of vectors overflows or vanishes. What comes fresh from the
//! embedder takes the same way through the entry's format: an index is the same with a full cache and an empty one.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};
use stepwell_core::store::Cache;
use stepwell_core::{Cancel, EmbedKind, Embedder, Error, Result, Scope};

const MAGIC: &[u8; 4] = b"SWE1";
const HEAD: usize = 4 + 1 + 4 + 4;
const SUM: usize = 8;

/// How exactly the cache keeps vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    F32 = 2,
    Int16 = 3,
}

impl Precision {
    fn width(self) -> usize {
        match self {
            Self::Int16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Where vectors are kept between calls.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) cache: Arc<dyn Cache>,
    pub(super) precision: Precision,
}

/// The vectors of some texts.
#[derive(Debug, Default)]
pub(super) struct Embedded {
    /// As the embedder made them, one per text.
    pub(super) vectors: Vec<Vec<f32>>,
    /// Texts whose vector the cache had.
    pub(super) cached: u64,
    /// Texts that got the vector of an equal one in the same call.
    pub(super) repeated: u64,
    /// Tokens that the embedder reports.
    pub(super) tokens: u64,
}

/// One vector per text: each distinct text is looked up, then embedded once.
pub(super) async fn embed(
    embedder: &dyn Embedder,
    shelf: Option<(&Shelf, &Scope)>,
    texts: &[&str],
    cancel: &Cancel,
) -> Result<Embedded> {
    cancel.check()?;
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(texts.len());
    let mut distinct: Vec<&str> = Vec::with_capacity(texts.len());
    let at: Vec<usize> = texts
        .iter()
        .map(|text| {
            *places.entry(text).or_insert_with(|| {
                distinct.push(text);
                distinct.len() - 1
            })
        })
        .collect();
    let info = embedder.info();
    let mut found: Vec<Option<Vec<f32>>> = vec![None; distinct.len()];
    let mut keys = Vec::new();
    if let Some((shelf, scope)) = shelf {
        let fingerprint = info.fingerprint();
        keys = distinct
            .iter()
            .map(|text| key(&fingerprint, EmbedKind::Document, text))
            .collect();
        found = look_up(shelf, scope, &keys, info.dimension).await;
    }
    let missing: Vec<usize> = (0..distinct.len())
        .filter(|place| found[*place].is_none())
        .collect();
    let cached = at.iter().filter(|place| found[**place].is_some()).count() as u64;
    let mut tokens = 0;
    if !missing.is_empty() {
        let wanted: Vec<&str> = missing.iter().map(|place| distinct[*place]).collect();
        let work = embedder.embed(&wanted, EmbedKind::Document);
        let made = match select(work, pin!(cancel.cancelled())).await {
            Either::Left((made, _)) => made?,
            // Dropping the other future stops the embedder.
            Either::Right(_) => return Err(Error::Cancelled),
        };
        if made.len() != wanted.len() || made.dimension != info.dimension {
            return Err(Error::InvalidResponse {
                provider: info.provider.clone(),
                message: format!(
                    "{} vectors of {} values for {} texts of {}",
                    made.len(),
                    made.dimension,
                    wanted.len(),
                    info.dimension
                ),
            });
        }
        tokens = made.usage.total_input();
        let mut entries = Vec::new();
        for (row, place) in made.rows().zip(&missing) {
            let mut vector = row.to_vec();
            if let Some((shelf, _)) = shelf
                && let Some(entry) = encode(&vector, shelf.precision)
            {
                if let Some(kept) = decode(&entry, info.dimension, shelf.precision) {
                    vector = kept;
                }
                entries.push((keys[*place].clone(), entry));
            }
            found[*place] = Some(vector);
        }
        if let Some((shelf, scope)) = shelf {
            // What cannot be kept is made again another time.
            if let Err(error) = shelf.cache.put_many(scope, entries, None).await {
                tracing::warn!(code = error.code(), "embeddings are not cached");
            }
        }
    }
    let repeated = texts.len() as u64 - cached - missing.len() as u64;
    let vectors = at
        .iter()
        .map(|place| found[*place].clone().unwrap_or_default())
        .collect();
    Ok(Embedded {
        vectors,
        cached,
        repeated,
        tokens,
    })
}

/// What the cache knows; a cache that fails or gives nonsense knows nothing.
async fn look_up(shelf: &Shelf, scope: &Scope, keys: &[String], dim: usize) -> Vec<Option<Vec<f32>>> {
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    match shelf.cache.get_many(scope, &names).await {
        Ok(values) if values.len() == keys.len() => values
            .into_iter()
            .map(|value| decode(&value?, dim, shelf.precision))
            .collect(),
        Ok(_) => vec![None; keys.len()],
        Err(error) => {
            tracing::warn!(code = error.code(), "the embedding cache cannot be read");
            vec![None; keys.len()]
        }
    }
}

fn key(fingerprint: &str, kind: EmbedKind, text: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(fingerprint.len() as u64).to_le_bytes());
    hasher.update(fingerprint.as_bytes());
    hasher.update(match kind {
        EmbedKind::Query => b"q",
        EmbedKind::Document => b"d",
    });
    hasher.update(text.as_bytes());
    format!("embedding/1/{}", hasher.finalize().to_hex())
}

/// `None` for values that are no numbers: the index will refuse them by name.
fn encode(vector: &[f32], precision: Precision) -> Option<Bytes> {
    let dim = u32::try_from(vector.len()).ok()?;
    if vector.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let largest = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let mut bytes = Vec::with_capacity(HEAD + vector.len() * precision.width() + SUM);
    bytes.extend_from_slice(MAGIC);
    bytes.push(precision as u8);
    bytes.extend_from_slice(&dim.to_le_bytes());
    bytes.extend_from_slice(&largest.to_le_bytes());
    for value in vector {
        match precision {
            Precision::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
            Precision::Int16 => {
                let share = if largest > 0.0 { value / largest } else { 0.0 };
                let steps = (share * f32::from(i16::MAX)).round() as i16;
                bytes.extend_from_slice(&steps.to_le_bytes());
            }
        }
    }
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(&sum.as_bytes()[..SUM]);
    Some(bytes.into())
}

/// `None` for what is not an entry of this dimension, is damaged, or is kept less exactly than wanted.
fn decode(bytes: &[u8], dim: usize, wanted: Precision) -> Option<Vec<f32>> {
    let body = bytes.get(..bytes.len().checked_sub(SUM)?)?;
    let four = |at: usize| body.get(at..at + 4)?.try_into().ok();
    let precision = match body.get(4)? {
        2 => Precision::F32,
        3 => Precision::Int16,
        _ => return None,
    };
    let is_whole = body.starts_with(MAGIC)
        && u32::from_le_bytes(four(5)?) as usize == dim
        && body.len() == HEAD + dim * precision.width()
        && blake3::hash(body).as_bytes()[..SUM] == bytes[body.len()..];
    if !is_whole || precision.width() < wanted.width() {
        return None;
    }
    let largest = f32::from_le_bytes(four(9)?);
    let values = &body[HEAD..];
    let exact: Vec<f32> = match precision {
        Precision::F32 => values
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        Precision::Int16 => values
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / f32::from(i16::MAX) * largest)
            .collect(),
    };
    if precision == wanted {
        return Some(exact);
    }
    // An entry kept more exactly gives what the coarser one would: the same index either way.
    decode(&encode(&exact, wanted)?, dim, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_survives_and_a_damaged_or_foreign_one_is_none() {
        let vector = [0.5_f32, -3.0, 1e-3, 0.0];
        for precision in [Precision::Int16, Precision::F32] {
            let entry = encode(&vector, precision).expect("numbers");
            let kept = decode(&entry, 4, precision).expect("ours");
            for (value, kept) in vector.iter().zip(&kept) {
                assert!((value - kept).abs() <= 3.0 / 32767.0, "{value} {kept}");
            }
            for at in 0..entry.len() {
                let mut bad = entry.to_vec();
                bad[at] ^= 1;
                assert_eq!(decode(&bad, 4, precision), None, "a flipped bit at {at}");
                assert_eq!(decode(&entry[..at], 4, precision), None, "cut at {at}");
            }
            assert_eq!(decode(&entry, 3, precision), None, "another dimension");
        }
        assert_eq!(decode(b"", 4, Precision::Int16), None);
        assert_eq!(decode(&[7; 200], 4, Precision::Int16), None);
        assert_eq!(encode(&[f32::NAN], Precision::Int16), None);
        let coarse = encode(&vector, Precision::Int16).expect("numbers");
        assert_eq!(decode(&coarse, 4, Precision::F32), None, "less exact than wanted");
        let fine = encode(&vector, Precision::F32).expect("numbers");
        assert_eq!(
            decode(&fine, 4, Precision::Int16),
            decode(&coarse, 4, Precision::Int16),
            "an exact entry gives the same coarse vector"
        );
    }

    #[test]
    fn a_key_tells_embedder_kind_and_text_apart_and_fits_a_cache() {
        let one = key("a", EmbedKind::Document, "bc");
        assert_ne!(one, key("ab", EmbedKind::Document, "c"));
        assert_ne!(one, key("a", EmbedKind::Query, "bc"));
        stepwell_core::store::check_name("key", &one).expect("a good key");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]
        #[test]
        fn vectors_of_any_scale_keep_their_direction(values in prop::collection::vec(-1.0_f32..1.0, 1..40), power in -25_i32..30) {
            let vector: Vec<f32> = values.iter().map(|value| value * 10_f32.powi(power)).collect();
            let entry = encode(&vector, Precision::Int16).expect("numbers");
            let kept = decode(&entry, vector.len(), Precision::Int16).expect("ours");
            let largest = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for (value, kept) in vector.iter().zip(&kept) {
                prop_assert!((value - kept).abs() <= largest / 32000.0);
            }
            prop_assert_eq!(decode(&encode(&kept, Precision::Int16).expect("numbers"), vector.len(), Precision::Int16), Some(kept));
        }
    }
}
