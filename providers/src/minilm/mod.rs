//! [`MiniLm`]: all-MiniLM-L6-v2 in this process. No key, no download, no C library.
//!
//! The int8 weights (23 MB, Apache-2.0) are part of the library; `providers/data/minilm` says where they come from.
//!
//! ```
//! # async fn example() -> stepwell_core::Result<()> {
//! use stepwell_core::{EmbedKind, Embedder};
//!
//! let minilm = stepwell_providers::minilm::MiniLm::new()?;
//! let found = minilm.embed(&["a ledger of debts", "a book of accounts"], EmbedKind::Document).await?;
//! assert_eq!((found.len(), found.dimension), (2, 384));
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod expected;
mod network;
mod wordpiece;

use async_trait::async_trait;
use std::{fmt, num::NonZeroUsize, sync::Arc};
use stepwell_core::{EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, Result, TokenCounter, Usage};
use stepwell_minilm::{DIMENSION, Network};
use wordpiece::WordPiece;

/// A batch ends at this many bytes of text, about 4,000 tokens: a quarter of a second of work on one core.
const BATCH_BYTES: usize = 16 * 1024;
/// What a text counts for in a batch at most: the rest of it is not read.
const TEXT_BYTES: usize = 1024;

/// all-MiniLM-L6-v2 in process: 384 numbers of length 1 per text; questions and passages are embedded alike.
///
/// The first 256 tokens of a text are read, longer text is cut: chunk with [`Embedder::tokens`]. A text has the
/// same vector whatever it is embedded with. An empty text has a vector too.
///
/// Work runs in tokio's blocking pool, with further threads while a batch has texts for them, batch by batch: dropping
/// the future of [`Embedder::embed`] stops it after the batch in hand (a quarter of a second on one core). Outside of
/// a tokio runtime it runs on the calling thread. All instances share the weights.
#[derive(Clone)]
pub struct MiniLm {
    network: &'static Network,
    words: WordPiece,
    threads: NonZeroUsize,
    info: EmbedderInfo,
}

impl MiniLm {
    /// The most tokens of a text that are read, without the two marks the model adds.
    pub const MAX_TOKENS: usize = 256;
    /// Which weights: the first digits of their SHA-256.
    pub const REVISION: &str = "a0fe73b0b92d";
    /// How numbers are rounded on the way: to bytes, row by row. It is part of the fingerprint, because vectors that
    /// were rounded tensor by tensor (as an ONNX engine does with this file) have a cosine of .994 with these.
    const ROUNDING: &str = "u8-rows";

    /// With as many threads as the machine has to offer. The first call in a process loads the model, about 50 ms;
    /// later ones take none of that.
    ///
    /// # Errors
    /// [`Error::Internal`] when the built-in model cannot be loaded, which would be a fault of this build.
    pub fn new() -> Result<Self> {
        Self::with_threads(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// With this many threads.
    ///
    /// # Errors
    /// As [`MiniLm::new`].
    pub fn with_threads(threads: NonZeroUsize) -> Result<Self> {
        // The two take about as long, so they load side by side.
        let (network, words) = std::thread::scope(|scope| {
            let words = scope.spawn(WordPiece::shared);
            let network = network::shared();
            let words = words
                .join()
                .unwrap_or_else(|_| Err(Error::internal("loading the MiniLM tokeniser panicked")));
            (network, words)
        });
        Ok(Self {
            network: network?,
            words: words?,
            threads,
            info: EmbedderInfo::new(
                "minilm",
                "all-MiniLM-L6-v2",
                Self::REVISION,
                DIMENSION,
                Self::MAX_TOKENS,
                true,
            )
            .settings(Self::ROUNDING),
        })
    }

    /// Tokens read and the vectors, row by row.
    fn embed_batch(&self, texts: &[impl AsRef<str>]) -> Result<(usize, Vec<f32>)> {
        let ids = texts
            .iter()
            .map(|text| self.words.ids(text.as_ref(), Self::MAX_TOKENS))
            .collect::<Result<Vec<_>>>()?;
        let tokens = ids.iter().map(Vec::len).sum();
        let vectors = self
            .network
            .embed(&ids, self.threads)
            .map_err(|error| Error::internal(format!("the built-in MiniLM network failed: {error}")))?;
        Ok((tokens, vectors))
    }
}

impl fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniLm")
            .field("revision", &Self::REVISION)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Embedder for MiniLm {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _kind: EmbedKind) -> Result<Embeddings> {
        let mut values = Vec::with_capacity(texts.len() * DIMENSION);
        let mut tokens = 0;
        for batch in batches(texts) {
            let (read, vectors) = match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    let this = self.clone();
                    let batch: Vec<String> = batch.iter().map(|&text| text.to_owned()).collect();
                    runtime
                        .spawn_blocking(move || this.embed_batch(&batch))
                        .await
                        .map_err(|_| Error::internal("embedding with MiniLM panicked"))??
                }
                Err(_) => self.embed_batch(batch)?,
            };
            tokens += read;
            values.extend(vectors);
        }
        let mut usage = Usage::default();
        usage.input_tokens = Some(tokens as u64);
        Embeddings::new(DIMENSION, values, usage)
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::new(self.words)
    }
}

/// Neighbouring texts of about [`BATCH_BYTES`] together. They need no sorting by length: nothing is padded.
fn batches<'a, 'b>(texts: &'a [&'b str]) -> impl Iterator<Item = &'a [&'b str]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|text| {
                let begins = bytes < BATCH_BYTES;
                bytes += text.len().min(TEXT_BYTES) + 32;
                begins
            })
            .count();
        let batch;
        (batch, rest) = rest.split_at(count);
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::{DIMENSION, MiniLm, batches, expected};
    use std::num::NonZeroUsize;
    use stepwell_core::{EmbedKind, Embedder, Embeddings};

    fn minilm() -> MiniLm {
        MiniLm::new().expect("the built-in model loads")
    }

    async fn embed(texts: &[&str]) -> Embeddings {
        minilm()
            .embed(texts, EmbedKind::Document)
            .await
            .expect("it embeds")
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[tokio::test]
    async fn vectors_are_near_those_of_the_unquantised_model() {
        let rows = expected::rows();
        let texts: Vec<_> = rows.iter().map(|row| row.text.as_str()).collect();
        let found = embed(&texts).await;
        assert_eq!(found.len(), rows.len());
        let mut sum = 0.0;
        for (row, vector) in rows.iter().zip(found.rows()) {
            // A text without words has only the two marks, whose activations are the least even.
            let least = if row.text.trim().is_empty() { 0.985 } else { 0.99 };
            let near = cosine(vector, &row.vector);
            assert!(near >= least, "{near} for {:?}", row.text);
            sum += near;
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-4, "length {length} for {:?}", row.text);
        }
        let mean = sum / rows.len() as f32;
        assert!(mean >= 0.995, "mean {mean}");
    }

    #[test]
    fn the_fingerprint_pins_the_weights_and_the_rounding() {
        assert_eq!(
            minilm().info().fingerprint(),
            "minilm/all-MiniLM-L6-v2@a0fe73b0b92d:384:unit:u8-rows"
        );
    }

    #[tokio::test]
    async fn a_text_has_the_same_vector_in_any_company_and_order_is_kept() {
        let long = "ledger of wells ".repeat(90);
        let texts = ["short", long.as_str(), "", "日本語 😀", "short"];
        let together = embed(&texts).await;
        for (text, vector) in texts.iter().zip(together.rows()) {
            assert_eq!(embed(&[text]).await.values, vector, "{text:.20}");
        }
        let one = MiniLm::with_threads(NonZeroUsize::MIN).expect("loads");
        assert_eq!(
            one.embed(&texts, EmbedKind::Query).await.expect("embeds").values,
            together.values
        );
    }

    #[tokio::test]
    async fn what_means_the_same_is_nearer_than_what_does_not() {
        let found = embed(&[
            "How do I cancel my order?",
            "Stopping a purchase",
            "The moon is made of rock",
        ])
        .await;
        let rows: Vec<_> = found.rows().collect();
        assert!(cosine(rows[0], rows[1]) > cosine(rows[0], rows[2]) + 0.2);
    }

    #[tokio::test]
    async fn only_the_first_256_tokens_count_and_the_usage_says_so() {
        let cut = "word ".repeat(256);
        let long = "word ".repeat(300_000);
        let found = embed(&[&cut, &long]).await;
        let rows: Vec<_> = found.rows().collect();
        assert_eq!(rows[0], rows[1]);
        assert_eq!(found.usage.input_tokens, Some(2 * 258));
        assert_eq!(minilm().tokens().count(&cut), MiniLm::MAX_TOKENS);
    }

    #[tokio::test]
    async fn no_texts_give_no_rows() {
        assert!(embed(&[]).await.is_empty());
    }

    #[test]
    fn it_works_without_a_runtime() {
        let found = futures::executor::block_on(minilm().embed(&["one"], EmbedKind::Query)).expect("embeds");
        assert_eq!(found.values.len(), DIMENSION);
    }

    #[tokio::test]
    async fn dropping_the_future_stops_it_at_the_next_batch() {
        let text = "retrieval with tokens and vectors ".repeat(60);
        let many: Vec<&str> = vec![&text; 20_000]; // five million tokens: minutes of work
        let begun = std::time::Instant::now();
        let limit = std::time::Duration::from_millis(50);
        let minilm = minilm();
        assert!(
            tokio::time::timeout(limit, minilm.embed(&many, EmbedKind::Document))
                .await
                .is_err()
        );
        // The threads are free again: a question is answered, and no batch but the one in hand was run.
        minilm
            .embed(&["a question"], EmbedKind::Query)
            .await
            .expect("embeds");
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(30),
            "{:?}",
            begun.elapsed()
        );
    }

    #[test]
    fn batches_are_all_texts_in_order_and_bounded() {
        let long = "x".repeat(5000);
        let texts: Vec<&str> = (0..100)
            .map(|n| if n % 3 == 0 { long.as_str() } else { "" })
            .collect();
        let cut: Vec<_> = batches(&texts).collect();
        assert_eq!(cut.concat(), texts);
        assert!(cut.len() > 1 && cut.iter().all(|batch| batch.len() <= 60));
        let empty = vec![""; 10_000];
        assert!(batches(&empty).all(|batch| batch.len() <= 520));
    }
}
