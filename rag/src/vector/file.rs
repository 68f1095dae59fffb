//! [`VectorFile`]: a segment's vector file, open and checked. Its layout stands in [`super::format`].

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tantivy::directory::OwnedBytes;

use super::format::{
    ALIGN, Encoding, FormatError, GRAPH, HEADER_LEN, MAGIC, MAX_DIM, Metric, ROWS, SLOT_LEN, SLOTS, Section,
    TABLE_AT, VERSION, VectorSpec,
};
use super::graph::{Graph, Head};
use super::walk::Coded;
use crate::simd::fine_steps;

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    crc: u32,
}

/// An open file: a checked header over mapped bytes.
pub(crate) struct VectorFile {
    bytes: OwnedBytes,
    rows: u32,
    present: u32,
    dim: usize,
    metric: Metric,
    encoding: Encoding,
    sections: [Option<Span>; SLOTS],
    /// The graph's head once the graph was looked at and found whole, on first use; `None` where it is not.
    graph: OnceLock<Option<Head>>,
    /// Whether the rows match their checksums, once that was looked at.
    whole: OnceLock<bool>,
    /// The largest scale, once it was asked for.
    widest: OnceLock<f32>,
    /// Whether the last scan went from the first row to the last.
    went_forward: AtomicBool,
}

impl std::fmt::Debug for VectorFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorFile")
            .field("rows", &self.rows)
            .field("present", &self.present)
            .field("dim", &self.dim)
            .field("encoding", &self.encoding)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(read_u32(bytes, at)) | u64::from(read_u32(bytes, at + 4)) << 32
}

impl VectorFile {
    /// Checks the header and every bound; touches the presence bits, but no vector.
    pub(crate) fn open(bytes: OwnedBytes, spec: &VectorSpec) -> Result<Self, FormatError> {
        let len = bytes.len();
        if len < HEADER_LEN {
            return Err(FormatError::Truncated { len });
        }
        let header = &bytes.as_slice()[..HEADER_LEN];
        if header[..8] != MAGIC {
            return Err(FormatError::NotAVectorFile);
        }
        // The version comes first: another version may keep its checksum elsewhere.
        let version = read_u16(header, 8);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        if crc32fast::hash(&header[..HEADER_LEN - 4]) != read_u32(header, HEADER_LEN - 4) {
            return Err(FormatError::Checksum { part: "header" });
        }
        if read_u32(header, 12) as usize != HEADER_LEN || usize::from(read_u16(header, 26)) != SLOTS {
            return Err(FormatError::Inconsistent("header length"));
        }
        if read_u64(header, 32) != len as u64 {
            return Err(FormatError::Truncated { len });
        }
        let rows = read_u32(header, 16);
        let present = read_u32(header, 28);
        if read_u32(header, 20) != spec.dim || spec.dim > MAX_DIM {
            return Err(FormatError::OtherSpec("dimension"));
        }
        if header[24] != spec.metric as u8 {
            return Err(FormatError::OtherSpec("metric"));
        }
        if header[25] != spec.encoding as u8 {
            return Err(FormatError::OtherSpec("encoding"));
        }
        if header[40..56] != spec.fingerprint {
            return Err(FormatError::OtherSpec("embedder"));
        }
        let mut sections = [None; SLOTS];
        for slot in 0..SLOTS {
            let at = TABLE_AT + slot * SLOT_LEN;
            let Some(section) = Section::from_number(read_u32(header, at)) else {
                continue;
            };
            let (start, length) = (read_u64(header, at + 8), read_u64(header, at + 16));
            let end = start.checked_add(length).filter(|end| *end <= len as u64);
            let Some(end) = end.filter(|_| start >= HEADER_LEN as u64 && start % ALIGN == 0) else {
                return Err(FormatError::Inconsistent("a section lies outside the file"));
            };
            if section
                .length(rows, spec)
                .is_some_and(|expected| expected != length)
            {
                return Err(FormatError::Inconsistent("a section has the wrong length"));
            }
            let span = Span {
                start: start as usize,
                end: end as usize,
                crc: read_u32(header, at + 4),
            };
            if sections[section as usize].replace(span).is_some() {
                return Err(FormatError::Inconsistent("a section stands twice"));
            }
        }
        if spec
            .row_sections()
            .any(|section| sections[section as usize].is_none())
        {
            return Err(FormatError::Inconsistent("a section is missing"));
        }
        let file = Self {
            bytes,
            rows,
            present,
            dim: spec.dim as usize,
            metric: spec.metric,
            encoding: spec.encoding,
            sections,
            graph: OnceLock::new(),
            whole: OnceLock::new(),
            widest: OnceLock::new(),
            went_forward: AtomicBool::new(false),
        };
        let counted: u32 = file
            .section(Section::Presence)
            .iter()
            .map(|byte| byte.count_ones())
            .sum();
        if counted != present || present > rows {
            return Err(FormatError::Inconsistent("presence bits"));
        }
        Ok(file)
    }

    /// Compares the rows with their checksums; reads them all. The graph is not looked at: without it nothing is lost.
    pub(crate) fn verify_rows(&self) -> Result<(), FormatError> {
        ROWS.into_iter()
            .try_for_each(|section| self.verify_section(section))
    }

    /// [`VectorFile::verify_rows`], read once: for who copies single rows.
    pub(crate) fn has_whole_rows(&self) -> bool {
        *self.whole.get_or_init(|| self.verify_rows().is_ok())
    }

    fn verify_section(&self, section: Section) -> Result<(), FormatError> {
        match self.sections[section as usize] {
            Some(span) if crc32fast::hash(self.section(section)) != span.crc => Err(FormatError::Checksum {
                part: match section {
                    Section::Presence => "presence section",
                    Section::Codes => "code section",
                    Section::Scales => "scale section",
                    Section::Norms => "norm section",
                    Section::Vectors => "vector section",
                    Section::GraphHead | Section::GraphBase | Section::GraphUpper => "graph",
                },
            }),
            _ => Ok(()),
        }
    }

    /// Whether the segment was written with a graph, whole or not.
    pub(crate) fn has_graph(&self) -> bool {
        self.sections[Section::GraphHead as usize].is_some()
    }

    /// The graph, if there is one and it is whole. The first call reads it against its checksums.
    pub(crate) fn graph(&self) -> Option<Graph<'_>> {
        let [head, upper, base] = GRAPH.map(|section| self.section(section));
        let checked = self.graph.get_or_init(|| {
            if !self.has_graph()
                || GRAPH
                    .into_iter()
                    .any(|section| self.verify_section(section).is_err())
            {
                return None;
            }
            let head = Head::read(head, base, upper, self.rows)?;
            Graph::new(&head, base, upper).is_sound(self.rows).then_some(head)
        });
        checked.as_ref().map(|head| Graph::new(head, base, upper))
    }

    /// The codes as a walk needs them.
    pub(crate) fn coded(&self) -> FileCodes<'_> {
        FileCodes {
            dim: self.dim,
            codes: self.section(Section::Codes),
            scales: self.section(Section::Scales),
            norms: self.section(Section::Norms),
        }
    }

    fn section(&self, section: Section) -> &[u8] {
        match self.sections[section as usize] {
            Some(span) => &self.bytes.as_slice()[span.start..span.end],
            None => &[],
        }
    }

    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    pub(crate) fn present(&self) -> u32 {
        self.present
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn graph_bytes(&self) -> usize {
        GRAPH.into_iter().map(|section| self.section(section).len()).sum()
    }

    /// Has this row a vector? Rows past the end have none.
    pub(crate) fn has_vector(&self, row: u32) -> bool {
        self.section(Section::Presence)
            .get(row as usize / 8)
            .is_some_and(|byte| byte & (1 << (row % 8)) != 0)
    }

    /// The presence bits of rows `64 * word ..`, as a word.
    pub(crate) fn presence_word(&self, word: usize) -> u64 {
        let bits = self.section(Section::Presence);
        let mut bytes = [0_u8; 8];
        let from = (word * 8).min(bits.len());
        let piece = &bits[from..(from + 8).min(bits.len())];
        bytes[..piece.len()].copy_from_slice(piece);
        u64::from_le_bytes(bytes)
    }

    /// Codes of consecutive rows, `dim` bytes each.
    pub(crate) fn codes(&self, rows: std::ops::Range<u32>) -> &[u8] {
        &self.section(Section::Codes)[rows.start as usize * self.dim..rows.end as usize * self.dim]
    }

    /// Scales of consecutive rows, little endian.
    pub(crate) fn scales(&self, rows: std::ops::Range<u32>) -> &[[u8; 4]] {
        &self.section(Section::Scales).as_chunks().0[rows.start as usize..rows.end as usize]
    }

    pub(crate) fn scale(&self, row: u32) -> f32 {
        f32::from_bits(read_u32(self.section(Section::Scales), row as usize * 4))
    }

    /// The largest scale of a row.
    pub(crate) fn widest(&self) -> f32 {
        *self.widest.get_or_init(|| {
            let scales = self.scales(0..self.rows).iter();
            scales.map(|scale| f32::from_le_bytes(*scale)).fold(0.0, f32::max)
        })
    }

    /// Whether a scan that begins now goes from the first row to the last: every second one does.
    pub(crate) fn turns(&self) -> bool {
        !self.went_forward.fetch_xor(true, Ordering::Relaxed)
    }

    /// Squared length of what a row's codes stand for; for L2 alone.
    pub(crate) fn norm(&self, row: u32) -> f32 {
        f32::from_bits(read_u32(self.section(Section::Norms), row as usize * 4))
    }

    /// The rescoring vector as it stands in the file; empty where only codes are kept.
    pub(crate) fn vector_bytes(&self, row: u32) -> &[u8] {
        let stride = self.dim * self.encoding.vector_width();
        &self.section(Section::Vectors)[row as usize * stride..][..stride]
    }

    /// The best vector that the file holds for a row.
    pub(crate) fn vector(&self, row: u32) -> Option<Vec<f32>> {
        if !self.has_vector(row) {
            return None;
        }
        let bytes = self.vector_bytes(row);
        Some(match self.encoding {
            Encoding::Codes => {
                let scale = self.scale(row);
                self.codes(row..row + 1)
                    .iter()
                    .map(|code| (f32::from(*code) - 128.0) * scale)
                    .collect()
            }
            Encoding::Codes16 => {
                let scale = self.scale(row) / 256.0;
                let pairs = self.codes(row..row + 1).iter().zip(bytes);
                pairs
                    .map(|(code, low)| fine_steps(*code, *low) as f32 * scale)
                    .collect()
            }
            Encoding::CodesF32 => bytes
                .chunks_exact(4)
                .map(|four| f32::from_bits(read_u32(four, 0)))
                .collect(),
        })
    }

    /// Hands on the bytes of chosen rows of a section with a fixed stride; used when segments merge.
    pub(crate) fn copy_rows(
        &self,
        section: Section,
        rows: &[u32],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let stride = match section {
            Section::Codes => self.dim,
            Section::Scales | Section::Norms => 4,
            Section::Vectors => self.dim * self.encoding.vector_width(),
            _ => {
                return Err(io::Error::other(
                    "only sections of fixed stride are copied by row",
                ));
            }
        };
        let bytes = self.section(section);
        if stride == 0 || bytes.is_empty() {
            return Ok(());
        }
        // Runs of consecutive rows go out in one piece.
        for run in rows.chunk_by(|left, right| left + 1 == *right) {
            let from = run[0] as usize * stride;
            sink(&bytes[from..from + run.len() * stride])?;
        }
        Ok(())
    }
}

/// The codes of a file's rows, borrowed once for a whole walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileCodes<'a> {
    dim: usize,
    codes: &'a [u8],
    scales: &'a [u8],
    norms: &'a [u8],
}

fn float(bytes: &[u8], row: u32) -> f32 {
    let at = row as usize * 4;
    bytes.get(at..at + 4).map_or(0.0, |four| {
        f32::from_le_bytes([four[0], four[1], four[2], four[3]])
    })
}

impl Coded for FileCodes<'_> {
    fn code(&self, row: u32) -> &[u8] {
        let at = row as usize * self.dim;
        self.codes.get(at..at + self.dim).unwrap_or_default()
    }

    fn scale(&self, row: u32) -> f32 {
        float(self.scales, row)
    }

    fn norm(&self, row: u32) -> f32 {
        float(self.norms, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::format::write;
    use crate::vector::rows::RowBuffer;

    fn spec(encoding: Encoding) -> VectorSpec {
        VectorSpec {
            dim: 5,
            metric: Metric::Cosine,
            encoding,
            fingerprint: [7; 16],
        }
    }

    fn sample(encoding: Encoding) -> Vec<u8> {
        let spec = spec(encoding);
        let mut buffer = RowBuffer::new(&spec);
        for row in 0..13_u32 {
            if row % 4 == 3 {
                buffer.push_absent();
            } else {
                let vector: Vec<f32> = (0..5).map(|at| ((row * 5 + at) as f32 * 0.37).sin()).collect();
                buffer.push(&vector).expect("a finite vector of the right length");
            }
        }
        let mut bytes = Vec::new();
        write(&spec, &buffer, None, &mut bytes).expect("memory takes every byte");
        bytes
    }

    #[test]
    fn a_file_gives_back_its_rows_in_each_encoding() {
        for (encoding, tolerance) in [
            (Encoding::Codes, 0.005),
            (Encoding::Codes16, 0.00005),
            (Encoding::CodesF32, 0.0),
        ] {
            let file = VectorFile::open(OwnedBytes::new(sample(encoding)), &spec(encoding)).expect("opens");
            file.verify_rows().expect("checksums hold");
            assert_eq!((file.rows(), file.present(), file.dim()), (13, 10, 5));
            assert_eq!(file.vector(3), None);
            for row in [0_u32, 1, 2, 4, 12] {
                let got = file.vector(row).expect("present");
                for (at, value) in got.iter().enumerate() {
                    let want = ((row * 5 + at as u32) as f32 * 0.37).sin();
                    assert!((value - want).abs() <= tolerance, "row {row}: {value} for {want}");
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = sample(Encoding::Codes16);
        let spec = spec(Encoding::Codes16);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let noticed = match VectorFile::open(OwnedBytes::new(bad), &spec) {
                Err(_) => true,
                Ok(file) => file.verify_rows().is_err(),
            };
            // Padding between sections belongs to no checksum and to no answer.
            let table: Vec<(usize, usize)> = (0..4)
                .map(|slot| {
                    let entry = TABLE_AT + slot * SLOT_LEN;
                    (
                        read_u64(&good, entry + 8) as usize,
                        read_u64(&good, entry + 16) as usize,
                    )
                })
                .collect();
            let counts = at < HEADER_LEN || table.iter().any(|(from, len)| (*from..from + len).contains(&at));
            assert_eq!(noticed, counts, "byte {at}");
        }
        for len in 0..good.len() {
            assert!(VectorFile::open(OwnedBytes::new(good[..len].to_vec()), &spec).is_err());
        }
    }

    #[test]
    fn a_header_with_a_good_checksum_and_wild_offsets_is_refused() {
        let good = sample(Encoding::Codes16);
        for (at, value) in [
            (72_usize, u64::MAX),
            (80, u64::MAX),
            (72, 64),
            (80, 1 << 40),
            (72, 513),
        ] {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let sum = crc32fast::hash(&bad[..HEADER_LEN - 4]);
            bad[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
            assert!(matches!(
                VectorFile::open(OwnedBytes::new(bad), &spec(Encoding::Codes16)),
                Err(FormatError::Inconsistent(_))
            ));
        }
    }

    #[test]
    fn sections_start_at_multiples_of_64() {
        let bytes = sample(Encoding::CodesF32);
        for slot in 0..4 {
            assert_eq!(read_u64(&bytes, TABLE_AT + slot * SLOT_LEN + 8) % 64, 0);
        }
    }

    #[test]
    fn a_file_of_another_embedder_is_told_apart() {
        let bytes = sample(Encoding::Codes);
        let other = VectorSpec {
            fingerprint: [8; 16],
            ..spec(Encoding::Codes)
        };
        assert_eq!(
            VectorFile::open(OwnedBytes::new(bytes), &other).err(),
            Some(FormatError::OtherSpec("embedder"))
        );
    }
}
