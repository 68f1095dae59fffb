//! The weights that are built in, and the network read from them once per process.

use std::sync::OnceLock;
use stepwell_core::{Error, Result};
use stepwell_minilm::Network;

static WEIGHTS: &[u8] = include_bytes!("../../data/minilm/model.onnx");

/// The one network of this process; the first call reads it.
pub(super) fn shared() -> Result<&'static Network> {
    static NETWORK: OnceLock<std::result::Result<Network, stepwell_minilm::Error>> = OnceLock::new();
    NETWORK
        .get_or_init(|| Network::read(WEIGHTS))
        .as_ref()
        .map_err(|error| Error::internal(format!("the built-in MiniLM network cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{WEIGHTS, shared};
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
    fn the_network_is_read_once() {
        let (one, two) = (shared().expect("reads"), shared().expect("reads"));
        assert!(std::ptr::eq(one, two));
    }
}
