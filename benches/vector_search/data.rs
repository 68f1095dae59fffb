//! The vectors: sentences of the judged collections through MiniLM, and clusters around them.

use std::{
    collections::HashSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use stepwell::{EmbedKind, Embedder, Result, providers::MiniLm};

use super::collections::{Judged, Noise, shuffle};

/// Base vectors and questions, flat, of length one.
pub(crate) struct Vectors {
    pub(crate) dim: usize,
    pub(crate) base: Vec<f32>,
    pub(crate) questions: Vec<f32>,
}

fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    for value in vector {
        *value /= norm;
    }
}

impl Vectors {
    pub(crate) fn rows(&self) -> usize {
        self.base.len() / self.dim
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.base[row * self.dim..][..self.dim]
    }

    pub(crate) fn asked(&self) -> usize {
        self.questions.len() / self.dim
    }

    pub(crate) fn question(&self, at: usize) -> &[f32] {
        &self.questions[at * self.dim..][..self.dim]
    }

    /// `rows` sentence vectors and `asked` more as questions; `None` where the fixtures are absent. Kept in `cache`, for
    /// embedding takes a minute.
    pub(crate) async fn real(rows: usize, asked: usize, cache: &Path) -> Result<Option<Self>> {
        let dim = 384;
        let file = cache.join(format!("sentences-{rows}-{asked}.f32"));
        let wanted = (rows + asked) * dim * 4;
        if let Some(bytes) = fs::read(&file).ok().filter(|bytes| bytes.len() == wanted) {
            let values: Vec<f32> = bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect();
            return Ok(Some(Self::split(dim, values, rows)));
        }
        let mut sentences: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for name in ["scifact", "cranfield"] {
            let Some(judged) = Judged::read(name) else {
                return Ok(None);
            };
            for document in &judged.documents {
                for sentence in document.text.split_inclusive(". ").map(str::trim) {
                    if sentence.len() > 30 && seen.insert(sentence.to_owned()) {
                        sentences.push(sentence.to_owned());
                    }
                }
            }
        }
        assert!(
            sentences.len() >= rows + asked,
            "the collections have {} sentences",
            sentences.len()
        );
        shuffle(&mut sentences);
        sentences.truncate(rows + asked);
        let minilm = MiniLm::new()?;
        let mut values = Vec::with_capacity((rows + asked) * dim);
        for batch in sentences.chunks(512) {
            let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
            for row in minilm.embed(&batch, EmbedKind::Document).await?.rows() {
                let mut row = row.to_vec();
                normalise(&mut row);
                values.extend(row);
            }
        }
        fs::create_dir_all(cache).expect("the target folder");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(&file, bytes).expect("the target folder");
        Ok(Some(Self::split(dim, values, rows)))
    }

    fn split(dim: usize, mut values: Vec<f32>, rows: usize) -> Self {
        let questions = values.split_off(rows * dim);
        Self {
            dim,
            base: values,
            questions,
        }
    }

    /// `times` vectors around each of these, at a cosine of about .8; the questions stay.
    pub(crate) fn clustered(&self, times: usize) -> Self {
        let mut noise = Noise::new(29);
        let spread = 0.75 / (self.dim as f32).sqrt();
        let mut base = Vec::with_capacity(self.base.len() * times);
        for _ in 0..times {
            for row in 0..self.rows() {
                let mut vector: Vec<f32> = self
                    .row(row)
                    .iter()
                    .map(|value| value + spread * noise.normal())
                    .collect();
                normalise(&mut vector);
                base.extend(vector);
            }
        }
        Self {
            dim: self.dim,
            base,
            questions: self.questions.clone(),
        }
    }

    /// The same in `dim` random directions.
    pub(crate) fn turned(&self, dim: usize) -> Self {
        let mut noise = Noise::new(53);
        let directions: Vec<f32> = (0..dim * self.dim).map(|_| noise.normal()).collect();
        let turn = |values: &[f32]| {
            let mut turned = Vec::with_capacity(values.len() / self.dim * dim);
            for row in values.chunks_exact(self.dim) {
                let mut vector: Vec<f32> = directions
                    .chunks_exact(self.dim)
                    .map(|direction| dot(direction, row))
                    .collect();
                normalise(&mut vector);
                turned.extend(vector);
            }
            turned
        };
        Self {
            dim,
            base: turn(&self.base),
            questions: turn(&self.questions),
        }
    }

    /// The `k` best rows of each question among those let through, by brute force in f32.
    pub(crate) fn truth(&self, k: usize, is_allowed: impl Fn(usize) -> bool) -> Vec<Vec<u32>> {
        let allowed: Vec<usize> = (0..self.rows()).filter(|row| is_allowed(*row)).collect();
        (0..self.asked())
            .map(|at| {
                let question = self.question(at);
                let mut scored: Vec<(f32, u32)> = allowed
                    .iter()
                    .map(|row| {
                        (
                            dot(self.row(*row), question),
                            u32::try_from(*row).expect("few rows"),
                        )
                    })
                    .collect();
                let k = k.min(scored.len());
                if k < scored.len() {
                    scored.select_nth_unstable_by(k, |left, right| right.0.total_cmp(&left.0));
                }
                scored.truncate(k);
                scored.into_iter().map(|(_, row)| row).collect()
            })
            .collect()
    }

    /// The matrices as NumPy reads them, for the peer.
    pub(crate) fn write(
        &self,
        folder: &Path,
        truth: &[Vec<u32>],
    ) -> std::io::Result<(PathBuf, PathBuf, PathBuf)> {
        let paths = (
            folder.join("base.npy"),
            folder.join("questions.npy"),
            folder.join("truth.npy"),
        );
        write_npy(
            &paths.0,
            "<f4",
            self.dim,
            self.base.iter().map(|value| value.to_le_bytes()),
        )?;
        write_npy(
            &paths.1,
            "<f4",
            self.dim,
            self.questions.iter().map(|value| value.to_le_bytes()),
        )?;
        let k = truth.first().map_or(0, Vec::len);
        let truth: Vec<[u8; 4]> = truth.iter().flatten().map(|row| row.to_le_bytes()).collect();
        write_npy(&paths.2, "<u4", k, truth.into_iter())?;
        Ok(paths)
    }
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    for (left, right) in left.chunks_exact(16).zip(right.chunks_exact(16)) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    sums.iter().sum()
}

fn write_npy(
    path: &Path,
    kind: &str,
    columns: usize,
    values: impl ExactSizeIterator<Item = [u8; 4]>,
) -> std::io::Result<()> {
    let rows = values.len() / columns.max(1);
    let shape = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let padded = (10 + shape.len() + 1).div_ceil(64) * 64 - 10;
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&u16::try_from(padded).expect("a short header").to_le_bytes())?;
    file.write_all(format!("{shape:<width$}\n", width = padded - 1).as_bytes())?;
    for value in values {
        file.write_all(&value)?;
    }
    file.flush()
}
