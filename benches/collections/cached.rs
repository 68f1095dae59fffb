//! [`Cached`]: an embedder whose vectors are kept on disk between runs; embedding is what a run of a bench takes.

use async_trait::async_trait;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
};
use stepwell::{EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, Result, TokenCounter, Usage};

/// By the hash of their text.
type Vectors = HashMap<[u8; 32], Vec<f32>>;

/// Keeps vectors in a file of `target/`, named after the embedder's fingerprint: 32 bytes of a text's hash, then its numbers.
#[derive(Debug)]
pub(crate) struct Cached {
    embedder: Arc<dyn Embedder>,
    kept: Mutex<(Vectors, File)>,
}

impl Cached {
    pub(crate) fn new(embedder: Arc<dyn Embedder>) -> Result<Self> {
        let io = |error| Error::io("opening the vectors of earlier runs", error);
        let folder = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(
                || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
                PathBuf::from,
            )
            .join("bench-vectors");
        std::fs::create_dir_all(&folder).map_err(io)?;
        let name = blake3::hash(embedder.info().fingerprint().as_bytes()).to_hex();
        let path = folder.join(&name[..16]);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let dimension = embedder.info().dimension;
        let mut kept = HashMap::new();
        // A run that was stopped may have left a part of a record: nothing behind it is used.
        for record in bytes.chunks_exact(32 + dimension * 4) {
            let (key, numbers) = record.split_at(32);
            let numbers = numbers
                .as_chunks::<4>()
                .0
                .iter()
                .map(|four| f32::from_le_bytes(*four));
            kept.insert(key.try_into().expect("32 bytes"), numbers.collect());
        }
        let whole = (bytes.len() - bytes.len() % (32 + dimension * 4)) as u64;
        file.set_len(whole).map_err(io)?;
        Ok(Self {
            embedder,
            kept: Mutex::new((kept, file)),
        })
    }
}

#[async_trait]
impl Embedder for Cached {
    fn info(&self) -> &EmbedderInfo {
        self.embedder.info()
    }

    async fn embed(&self, texts: &[&str], kind: EmbedKind) -> Result<Embeddings> {
        let key = |text: &str| *blake3::hash(text.as_bytes()).as_bytes();
        let missing: Vec<&str> = {
            let kept = self.kept.lock().expect("no thread panicked");
            texts
                .iter()
                .copied()
                .filter(|text| !kept.0.contains_key(&key(text)))
                .collect()
        };
        if !missing.is_empty() {
            let made = self.embedder.embed(&missing, kind).await?;
            let mut kept = self.kept.lock().expect("no thread panicked");
            for (text, row) in missing.iter().zip(made.rows()) {
                let mut record = key(text).to_vec();
                record.extend(row.iter().flat_map(|number| number.to_le_bytes()));
                kept.1
                    .write_all(&record)
                    .map_err(|error| Error::io("keeping a vector", error))?;
                kept.0.insert(key(text), row.to_vec());
            }
        }
        let kept = self.kept.lock().expect("no thread panicked");
        let values = texts
            .iter()
            .flat_map(|text| kept.0[&key(text)].iter().copied())
            .collect();
        Embeddings::new(self.info().dimension, values, Usage::default())
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        self.embedder.tokens()
    }
}
