//! [`Network`]: the ONNX graph, loaded once per process.

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use std::{
    num::NonZeroUsize,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use stepwell_core::{Error, Result};

static WEIGHTS: &[u8] = include_bytes!("../../data/minilm/model.onnx");
/// Length of a vector.
pub(super) const DIMENSION: usize = 384;

/// Where texts are worked on: pools of one thread each, a text in each. One pool for all would split every text,
/// which costs 7 % more in handing over than it gains.
pub(super) struct Threads(Vec<Arc<ThreadPool>>);

impl Threads {
    pub(super) fn new(count: NonZeroUsize) -> Self {
        let pool = || Arc::new(ThreadPool::with_num_threads(1));
        Self(std::iter::repeat_with(pool).take(count.get()).collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The graph with its weights packed for this processor.
pub(super) struct Network {
    model: Model,
    input: NodeId,
    output: NodeId,
}

impl Network {
    /// The one network of this process; the first call loads it.
    pub(super) fn shared() -> Result<&'static Self> {
        static NETWORK: OnceLock<std::result::Result<Network, String>> = OnceLock::new();
        NETWORK.get_or_init(Self::load).as_ref().map_err(|message| {
            Error::internal(format!("the built-in MiniLM network cannot be loaded: {message}"))
        })
    }

    fn load() -> std::result::Result<Self, String> {
        // Packing costs 3 ms and 11 MB, and halves the time of a short text.
        let model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load_static_slice(WEIGHTS)
            .map_err(|error| error.to_string())?;
        let input = model.node_id("input_ids").map_err(|error| error.to_string())?;
        let output = model.node_id("embedding").map_err(|error| error.to_string())?;
        Ok(Self { model, input, output })
    }

    /// A vector per row of token ids, in order. Each row is alone in its tensor, because the graph scales activations
    /// per tensor: a text gets the same vector whatever else is embedded with it.
    pub(super) fn run(&self, rows: &[Vec<u32>], threads: &Threads) -> Result<Vec<f32>> {
        // The longest first, so that the threads end together.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(rows[row].len()));
        let next = AtomicUsize::new(0);
        let work = |pool: &Arc<ThreadPool>| -> Result<Vec<(usize, Vec<f32>)>> {
            let mut done = Vec::new();
            while let Some(&row) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((row, self.run_one(&rows[row], pool)?));
            }
            Ok(done)
        };
        let mut values = vec![0.0; rows.len() * DIMENSION];
        let mut place = |done: Result<Vec<(usize, Vec<f32>)>>| -> Result<()> {
            for (row, vector) in done? {
                values[row * DIMENSION..][..DIMENSION].copy_from_slice(&vector);
            }
            Ok(())
        };
        let (here, others) = threads.0.split_first().expect("there is at least one thread");
        let helpers = others.len().min(rows.len().saturating_sub(1));
        std::thread::scope(|scope| {
            let helping: Vec<_> = others[..helpers]
                .iter()
                .map(|pool| scope.spawn(|| work(pool)))
                .collect();
            place(work(here))?;
            for helper in helping {
                place(
                    helper
                        .join()
                        .unwrap_or_else(|_| Err(Error::internal("embedding with MiniLM panicked"))),
                )?;
            }
            Ok(())
        })?;
        Ok(values)
    }

    fn run_one(&self, ids: &[u32], pool: &Arc<ThreadPool>) -> Result<Vec<f32>> {
        let ids = ids.iter().map(|&id| id.cast_signed()).collect::<Vec<_>>();
        let input = NdTensor::from_data([1, ids.len()], ids);
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let [output] = self
            .model
            .run_n(vec![(self.input, input.into())], [self.output], Some(options))
            .map_err(|error| Error::internal(format!("the built-in MiniLM network failed: {error}")))?;
        let output: NdTensor<f32, 2> = output.try_into().map_err(|error| {
            Error::internal(format!("the built-in MiniLM network gave no vector: {error}"))
        })?;
        let vector = output.into_data();
        if vector.len() != DIMENSION || !vector.iter().all(|value| value.is_finite()) {
            return Err(Error::internal(
                "the built-in MiniLM network gave a vector that is not finite",
            ));
        }
        Ok(vector)
    }
}

#[cfg(test)]
mod tests {
    use super::{Network, WEIGHTS};
    use crate::minilm::{MiniLm, wordpiece::VOCABULARY};
    use sha2::{Digest, Sha256};
    use std::fmt::Write as _;

    #[test]
    fn the_files_built_in_are_those_the_sums_name() {
        let sums = include_str!("../../data/minilm/SHA256SUMS");
        for (name, bytes) in [("model.onnx", WEIGHTS), ("tokenizer.json", VOCABULARY)] {
            let mut hex = String::new();
            for byte in Sha256::digest(bytes) {
                write!(hex, "{byte:02x}").expect("writing to a string does not fail");
            }
            assert!(sums.contains(&format!("{hex}  {name}")), "{name} is {hex}");
            if name == "model.onnx" {
                assert!(hex.starts_with(MiniLm::REVISION), "the revision pins the weights");
            }
        }
    }

    #[test]
    fn the_network_is_loaded_once() {
        let (one, two) = (
            Network::shared().expect("loads"),
            Network::shared().expect("loads"),
        );
        assert!(std::ptr::eq(one, two));
    }
}
