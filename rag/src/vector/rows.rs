//! Rows on their way into a file: gathered from documents at flush, from older files at merge.

use std::io;

use super::build::CodedRows;
use super::file::VectorFile;
use super::format::{Encoding, Metric, RowSource, Section, VectorSpec};
use super::walk;

/// The squares of longer vectors come near the end of f32.
const MAX_NORM: f64 = 1e18;

/// Why a vector cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VectorFault {
    #[error("it has {got} dimensions instead of {expected}")]
    Dimension { expected: u32, got: usize },
    #[error("it holds a value that is not a finite number")]
    NotFinite,
    #[error("all its values are zero")]
    Zero,
    #[error("it is too long to be compared: its length is above 1e18")]
    TooLong,
}

/// Checks a vector and, for cosine, brings it to length one. Everything that the plugin would refuse is told here,
/// before tantivy sees the document: an error in a plugin loses the whole segment in hand.
pub(crate) fn prepare(spec: &VectorSpec, vector: &[f32]) -> Result<Vec<f32>, VectorFault> {
    if vector.len() != spec.dim as usize {
        return Err(VectorFault::Dimension {
            expected: spec.dim,
            got: vector.len(),
        });
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err(VectorFault::NotFinite);
    }
    // In f64: the squares of large f32 values overflow f32.
    let norm = vector
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt();
    // The zero vector has no direction, but it has distances.
    if norm <= f64::from(f32::MIN_POSITIVE) && spec.metric != Metric::L2 {
        return Err(VectorFault::Zero);
    }
    let prepared: Vec<f32> = match spec.metric {
        Metric::Cosine => vector
            .iter()
            .map(|value| (f64::from(*value) / norm) as f32)
            .collect(),
        // Products and squared distances must stay finite, or nothing could be ordered.
        Metric::Dot | Metric::L2 if norm > MAX_NORM => return Err(VectorFault::TooLong),
        Metric::Dot | Metric::L2 => vector.to_vec(),
    };
    Ok(prepared)
}

/// Int8 codes plus 128, and their scale. One scale per vector: a merge copies codes unchanged.
pub(crate) fn quantise(vector: &[f32], codes: &mut Vec<u8>) -> f32 {
    let largest = vector
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    if scale == 0.0 || !scale.is_finite() {
        codes.resize(codes.len() + vector.len(), 128);
        return 0.0;
    }
    #[allow(clippy::cast_sign_loss)] // clamped to 1..=255 first
    codes.extend(
        vector
            .iter()
            .map(|value| ((value / scale).round().clamp(-127.0, 127.0) + 128.0) as u8),
    );
    scale
}

/// What the codes leave out, in 256ths of their step, plus 128.
fn low_bytes(vector: &[f32], codes: &[u8], scale: f32, low: &mut Vec<u8>) {
    if scale == 0.0 {
        low.resize(low.len() + vector.len(), 128);
        return;
    }
    let pairs = vector.iter().zip(codes);
    #[allow(clippy::cast_sign_loss)] // clamped to 0..=255 first
    low.extend(pairs.map(|(value, code)| {
        let left_out = value / scale - (f32::from(*code) - 128.0);
        ((left_out * 256.0).round().clamp(-128.0, 127.0) + 128.0) as u8
    }));
}

/// Rows in memory, already encoded; what a segment writer fills.
#[derive(Debug)]
pub(crate) struct RowBuffer {
    dim: u32,
    encoding: Encoding,
    rows: u32,
    present: u32,
    presence: Vec<u8>,
    codes: Vec<u8>,
    scales: Vec<u8>,
    /// Empty unless the metric needs them.
    norms: Vec<u8>,
    has_norms: bool,
    vectors: Vec<u8>,
}

impl RowBuffer {
    pub(crate) fn new(spec: &VectorSpec) -> Self {
        Self {
            dim: spec.dim,
            encoding: spec.encoding,
            rows: 0,
            present: 0,
            presence: Vec::new(),
            codes: Vec::new(),
            scales: Vec::new(),
            norms: Vec::new(),
            has_norms: spec.has_norms(),
            vectors: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    fn next_row(&mut self, is_present: bool) {
        if self.rows.is_multiple_of(8) {
            self.presence.push(0);
        }
        if is_present && let Some(byte) = self.presence.last_mut() {
            *byte |= 1 << (self.rows % 8);
            self.present += 1;
        }
        self.rows += 1;
    }

    /// A row for a document without a vector.
    pub(crate) fn push_absent(&mut self) {
        self.next_row(false);
        let dim = self.dim as usize;
        self.codes.resize(self.codes.len() + dim, 128);
        if dim > 0 {
            self.scales.extend_from_slice(&0.0_f32.to_le_bytes());
        }
        if self.has_norms {
            self.norms.extend_from_slice(&0.0_f32.to_le_bytes());
        }
        self.vectors
            .resize(self.vectors.len() + dim * self.encoding.vector_width(), 0);
    }

    /// A row for a vector that `prepare` let pass.
    pub(crate) fn push(&mut self, vector: &[f32]) -> Result<(), VectorFault> {
        if vector.len() != self.dim as usize || vector.is_empty() {
            return Err(VectorFault::Dimension {
                expected: self.dim,
                got: vector.len(),
            });
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(VectorFault::NotFinite);
        }
        self.next_row(true);
        let scale = quantise(vector, &mut self.codes);
        self.scales.extend_from_slice(&scale.to_le_bytes());
        if self.has_norms {
            let codes = &self.codes[self.codes.len() - vector.len()..];
            self.norms
                .extend_from_slice(&walk::norm(codes, scale).to_le_bytes());
        }
        match self.encoding {
            Encoding::Codes => {}
            Encoding::Codes16 => {
                let codes = &self.codes[self.codes.len() - vector.len()..];
                low_bytes(vector, codes, scale, &mut self.vectors);
            }
            Encoding::CodesF32 => self
                .vectors
                .extend(vector.iter().flat_map(|value| value.to_le_bytes())),
        }
        Ok(())
    }

    pub(crate) fn memory(&self) -> usize {
        self.presence.capacity()
            + self.codes.capacity()
            + self.scales.capacity()
            + self.norms.capacity()
            + self.vectors.capacity()
    }
}

impl RowSource for RowBuffer {
    fn rows(&self) -> u32 {
        self.rows
    }

    fn present(&self) -> u32 {
        self.present
    }

    fn coded(&self) -> CodedRows<'_> {
        let mut rows = CodedRows::with_capacity(self.rows as usize);
        let scales = self.scales.as_chunks::<4>().0;
        let codes = self.codes.chunks_exact((self.dim as usize).max(1));
        for (row, (codes, scale)) in codes.zip(scales).enumerate() {
            if self.presence[row / 8] & (1 << (row % 8)) != 0 {
                rows.push(codes, f32::from_le_bytes(*scale));
            } else {
                rows.push_absent();
            }
        }
        rows
    }

    fn section(&self, section: Section, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match section {
            Section::Presence => sink(&self.presence),
            Section::Codes => sink(&self.codes),
            Section::Scales => sink(&self.scales),
            Section::Norms => sink(&self.norms),
            Section::Vectors => sink(&self.vectors),
            _ => Ok(()),
        }
    }
}

/// The living rows of older files, in merge order; codes and vectors are copied bit for bit.
#[derive(Debug, Default)]
pub(crate) struct MergedRows {
    parts: Vec<(VectorFile, Vec<u32>)>,
}

impl MergedRows {
    pub(crate) fn push(&mut self, file: VectorFile, alive: Vec<u32>) -> io::Result<()> {
        if alive.iter().any(|row| *row >= file.rows()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a vector file has fewer rows than its segment",
            ));
        }
        self.parts.push((file, alive));
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (&VectorFile, u32)> {
        self.parts
            .iter()
            .flat_map(|(file, rows)| rows.iter().map(move |row| (file, *row)))
    }
}

impl RowSource for MergedRows {
    fn rows(&self) -> u32 {
        self.parts.iter().map(|(_, rows)| rows.len() as u32).sum()
    }

    fn present(&self) -> u32 {
        self.all().filter(|(file, row)| file.has_vector(*row)).count() as u32
    }

    fn coded(&self) -> CodedRows<'_> {
        let mut rows = CodedRows::with_capacity(self.rows() as usize);
        for (file, row) in self.all() {
            if file.has_vector(row) {
                rows.push(file.codes(row..row + 1), file.scale(row));
            } else {
                rows.push_absent();
            }
        }
        rows
    }

    fn section(&self, section: Section, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if section == Section::Presence {
            let mut bits = vec![0_u8; (self.rows() as usize).div_ceil(8)];
            for (new, (file, row)) in self.all().enumerate() {
                bits[new / 8] |= u8::from(file.has_vector(row)) << (new % 8);
            }
            return sink(&bits);
        }
        for (file, rows) in &self.parts {
            file.copy_rows(section, rows, sink)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Metric;
    use super::*;

    fn spec(metric: Metric) -> VectorSpec {
        VectorSpec {
            dim: 3,
            metric,
            encoding: Encoding::Codes16,
            fingerprint: [0; 16],
        }
    }

    #[test]
    fn a_vector_that_cannot_be_compared_is_refused_with_its_reason() {
        let cosine = spec(Metric::Cosine);
        assert_eq!(
            prepare(&cosine, &[1.0, 2.0]),
            Err(VectorFault::Dimension { expected: 3, got: 2 })
        );
        assert_eq!(
            prepare(&cosine, &[1.0, f32::NAN, 0.0]),
            Err(VectorFault::NotFinite)
        );
        assert_eq!(
            prepare(&cosine, &[1.0, f32::INFINITY, 0.0]),
            Err(VectorFault::NotFinite)
        );
        assert_eq!(prepare(&cosine, &[0.0, -0.0, 0.0]), Err(VectorFault::Zero));
        assert_eq!(
            prepare(&spec(Metric::Dot), &[1e19, 0.0, 0.0]),
            Err(VectorFault::TooLong)
        );
    }

    #[test]
    fn cosine_vectors_are_brought_to_length_one_even_when_their_squares_overflow() {
        let vector = prepare(&spec(Metric::Cosine), &[f32::MAX, f32::MAX, 0.0]).expect("finite");
        let norm: f32 = vector.iter().map(|value| value * value).sum();
        assert!((norm - 1.0).abs() < 1e-6);
    }

    #[test]
    fn codes_stay_within_half_a_step_of_the_value() {
        let vector = [0.5_f32, -0.25, 0.124];
        let mut codes = Vec::new();
        let scale = quantise(&vector, &mut codes);
        for (code, value) in codes.iter().zip(vector) {
            assert!(((f32::from(*code) - 128.0) * scale - value).abs() <= scale / 2.0 + f32::EPSILON);
        }
    }

    #[test]
    fn the_low_byte_brings_a_value_to_a_256th_of_a_step() {
        // Half-way between two codes on both sides, whole codes, and what lies between.
        let vector: Vec<f32> = [
            127.0, -127.0, 0.5, -0.5, 63.5, -63.5, 0.0, 1.0, 0.25, -100.123, 1e-9,
        ]
        .map(|steps| steps * 0.013)
        .to_vec();
        let (mut codes, mut low) = (Vec::new(), Vec::new());
        let scale = quantise(&vector, &mut codes);
        low_bytes(&vector, &codes, scale, &mut low);
        for ((code, low), value) in codes.iter().zip(&low).zip(&vector) {
            let kept = ((f32::from(*code) - 128.0) + (f32::from(*low) - 128.0) / 256.0) * scale;
            assert!((kept - value).abs() <= scale / 255.0, "{kept} for {value}");
        }
    }
}
