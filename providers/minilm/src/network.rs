//! [`Network`]: the weights, and texts shared out among threads.

use crate::{
    DIMENSION, Error, LAYERS, POSITIONS, WIDTH, WORDS,
    kernel::{Cpu, Processor},
    layer::Layer,
    norm::Norm,
    onnx::Tensors,
    pass::{MOST_ROWS, Pass, Scratch},
};
use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

/// all-MiniLM-L6-v2, its weights packed for the kernels: 11 MB beside the file, whose word table is used where it stands.
pub struct Network {
    processor: Processor,
    words: &'static [u8],
    word_scales: Vec<f32>,
    positions: Vec<f32>,
    norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

impl Network {
    /// Takes the weights from an ONNX file by their names.
    ///
    /// # Errors
    /// Where the file is no ONNX file, or lacks a constant of the right name, type and shape.
    pub fn read(file: &'static [u8]) -> Result<Self, Error> {
        let tensors = Tensors::read(file)?;
        Ok(Self {
            processor: Processor::detect(),
            words: tensors.bytes("words", &[WORDS, WIDTH])?,
            word_scales: tensors.floats("words.scale", &[WORDS, 1])?,
            positions: tensors.floats("positions", &[POSITIONS, WIDTH])?,
            norm: Norm::read(&tensors, "embeddings.LayerNorm")?,
            layers: (0..LAYERS)
                .map(|number| Layer::read(&tensors, number))
                .collect::<Result<_, _>>()?,
        })
    }

    /// A vector of [`DIMENSION`] numbers and length 1 per text, in order; a text is its token ids with the marks at
    /// its ends. It has the same vector in any company, on any number of threads.
    ///
    /// # Errors
    /// Where a text is empty, longer than [`POSITIONS`], or has an id that is no word.
    pub fn embed(&self, texts: &[Vec<u32>], threads: NonZeroUsize) -> Result<Vec<f32>, Error> {
        for text in texts {
            if text.is_empty() || text.len() > POSITIONS {
                return Err(Error(format!(
                    "a text of {} tokens, where 1 to {POSITIONS} fit",
                    text.len()
                )));
            }
            if let Some(word) = text.iter().find(|&&word| word as usize >= WORDS) {
                return Err(Error(format!("there is no word {word}")));
            }
        }
        let passes = share(texts, threads.get());
        let next = AtomicUsize::new(0);
        let work = || {
            let mut scratch = Scratch::new();
            let mut done = Vec::new();
            while let Some(pass) = passes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let texts = pass.iter().map(|&text| &*texts[text]).collect();
                let vectors = self.processor.run(Pass {
                    network: self,
                    texts,
                    scratch: &mut scratch,
                });
                done.extend(pass.iter().copied().zip(vectors));
            }
            done
        };
        let mut values = vec![0.0; texts.len() * DIMENSION];
        let mut place = |done: Vec<(usize, [f32; DIMENSION])>| {
            for (text, vector) in done {
                values[text * DIMENSION..][..DIMENSION].copy_from_slice(&vector);
            }
        };
        std::thread::scope(|scope| {
            let helpers = threads.get().min(passes.len()).saturating_sub(1);
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            place(work());
            for helper in helpers {
                place(helper.join().map_err(|_| Error("a thread panicked".to_owned()))?);
            }
            Ok(())
        })?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(Error("a vector is not finite".to_owned()))
        }
    }

    /// The row of a word at its place.
    #[inline(always)]
    pub(crate) fn place<C: Cpu>(&self, cpu: C, word: u32, position: usize, state: &mut [f32]) {
        let word = word as usize;
        let codes = &self.words[word * WIDTH..][..WIDTH];
        let scale = self.word_scales[word];
        let places = &self.positions[position * WIDTH..][..WIDTH];
        for ((state, code), place) in state.iter_mut().zip(codes).zip(places) {
            *state = cpu.fma(f32::from(code.cast_signed()), scale, *place);
        }
        self.norm.apply(cpu, state);
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("processor", &self.processor)
            .finish_non_exhaustive()
    }
}

/// Texts in groups of about as many tokens, at most [`MOST_ROWS`], the longest texts first, so that threads end together.
fn share(texts: &[Vec<u32>], threads: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&text| std::cmp::Reverse(texts[text].len()));
    let all: usize = texts.iter().map(Vec::len).sum();
    let enough = all.div_ceil(threads).min(MOST_ROWS - POSITIONS + 1);
    let mut passes: Vec<Vec<usize>> = Vec::new();
    let mut rows = usize::MAX;
    for text in order {
        if rows >= enough {
            passes.push(Vec::new());
            rows = 0;
        }
        rows += texts[text].len();
        passes.last_mut().expect("the first text opened one").push(text);
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::{Network, share};
    use crate::{DIMENSION, POSITIONS, kernel::Processor, noise::Noise, pass::MOST_ROWS};
    use std::{num::NonZeroUsize, sync::OnceLock};

    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    fn file() -> &'static [u8] {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/minilm/model.onnx");
        FILE.get_or_init(|| std::fs::read(path).expect("the model is in the repository"))
    }

    fn texts(lengths: &[usize]) -> Vec<Vec<u32>> {
        let mut noise = Noise::new(8);
        let mut word = || u32::try_from(1_000 + noise.below(29_000)).expect("a small number");
        let text = |&length: &usize| {
            let mut ids: Vec<u32> = (0..length).map(|_| word()).collect();
            (ids[0], ids[length - 1]) = (101, 102);
            ids
        };
        lengths.iter().map(text).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn every_processor_gives_the_same_vectors_but_for_the_last_digits() {
        let texts = texts(&[2, 9, 33, 100, POSITIONS]);
        let mut network = Network::read(file()).expect("reads");
        let best = network.embed(&texts, ONE).expect("embeds");
        for processor in Processor::all() {
            network.processor = processor;
            let found = network.embed(&texts, ONE).expect("embeds");
            for (found, best) in found.chunks(DIMENSION).zip(best.chunks(DIMENSION)) {
                // Where a sum rounds the other way in the last bit, a code may move by one.
                let near = cosine(found, best);
                assert!(near > 0.999, "{processor:?}: {near}");
                assert!((cosine(found, found) - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_text_has_the_same_vector_in_any_company_and_on_any_number_of_threads() {
        let texts = texts(&[3, POSITIONS, 2, 40, 17, 200, 90, 1, 64, 8, 8, 257]);
        let network = Network::read(file()).expect("reads");
        let together = network.embed(&texts, ONE).expect("embeds");
        for (text, vector) in texts.iter().zip(together.chunks(DIMENSION)) {
            assert_eq!(
                network.embed(std::slice::from_ref(text), ONE).expect("embeds"),
                vector,
                "{}",
                text.len()
            );
        }
        for threads in [2, 3, 50] {
            let threads = NonZeroUsize::new(threads).expect("not zero");
            assert_eq!(network.embed(&texts, threads).expect("embeds"), together);
        }
        assert!(network.embed(&[], ONE).expect("embeds").is_empty());
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        let network = Network::read(file()).expect("reads");
        for (text, why) in [
            (vec![], "a text of 0 tokens, where 1 to 258 fit"),
            (vec![101; 259], "a text of 259 tokens, where 1 to 258 fit"),
            (vec![101, 30_522], "there is no word 30522"),
            (vec![u32::MAX], "there is no word 4294967295"),
        ] {
            assert_eq!(
                network
                    .embed(&[vec![101], text], ONE)
                    .expect_err("is refused")
                    .to_string(),
                why
            );
        }
    }

    #[test]
    fn a_file_that_is_not_the_network_is_refused() {
        for (file, why) in [
            (&b""[..], "it has no `words`"),
            (b"a text file", "it is not an ONNX file, or a part of one"),
            (&file()[..1_000_000], "it is not an ONNX file, or a part of one"),
        ] {
            assert_eq!(Network::read(file).expect_err("is refused").to_string(), why);
        }
    }

    #[test]
    fn every_text_is_in_one_pass_and_every_pass_fits() {
        let mut noise = Noise::new(9);
        for count in [0, 1, 2, 7, 300] {
            let lengths: Vec<_> = (0..count)
                .map(|_| 1 + noise.below(POSITIONS as u64) as usize)
                .collect();
            let texts = texts(&lengths);
            for threads in [1, 2, 16] {
                let passes = share(&texts, threads);
                let mut seen = passes.concat();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..count));
                let rows = |pass: &Vec<usize>| pass.iter().map(|&text| lengths[text]).sum::<usize>();
                assert!(passes.iter().all(|pass| (1..=MOST_ROWS).contains(&rows(pass))));
                if count == 300 {
                    assert!(passes.len() >= threads);
                }
            }
        }
    }
}
