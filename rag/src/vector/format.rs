//! The layout of a segment's vector file, and its writer: header, section table, 64-byte aligned sections.
//!
//! ```text
//!   0  magic(8) version(2) flags(2) header_len(4) rows(4) dim(4) metric(1) encoding(1) slots(2) present(4)
//!  32  body_len(8) fingerprint(16) reserved(8)
//!  64  16 slots of: kind(4) crc32(4) offset(8) length(8)        an empty slot has kind 0
//! 448  reserved(60) header crc32(4)
//! 512  sections, each at a multiple of 64
//! ```
//!
//! Little endian throughout. Row = tantivy's document id; a document without a vector keeps its row and has no
//! presence bit. The layout is final: a graph fills sections 5 to 7, and readers skip kinds that they do not know.

use std::io::{self, Write};

/// The one file extension that the index claims; it can never be changed for an index that exists.
pub(crate) const EXTENSION: &str = "swv";

pub(super) const MAGIC: [u8; 8] = *b"\x89SWVEC\r\n";
pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 512;
pub(super) const SLOTS: usize = 16;
pub(super) const TABLE_AT: usize = 64;
pub(super) const SLOT_LEN: usize = 24;
pub(super) const ALIGN: u64 = 64;
/// More dimensions than any embedder has; bounds what a damaged header can ask for.
pub(crate) const MAX_DIM: u32 = 16_384;

/// How two vectors are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Vectors are stored with length one; the score is their cosine.
    Cosine = 1,
    /// Vectors are stored as they come; the score is their inner product.
    Dot = 2,
}

impl Metric {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Cosine, Self::Dot]
            .into_iter()
            .find(|metric| metric.name() == name)
    }
}

/// What is kept of a vector beside its int8 codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Codes alone: smallest, scores are approximate.
    Codes = 1,
    /// Codes to scan, f16 to rescore.
    CodesF16 = 2,
    /// Codes to scan, f32 to rescore.
    CodesF32 = 3,
}

impl Encoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::CodesF16 => "codes+f16",
            Self::CodesF32 => "codes+f32",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Codes, Self::CodesF16, Self::CodesF32]
            .into_iter()
            .find(|encoding| encoding.name() == name)
    }

    /// Bytes of one component in the rescoring section.
    pub(crate) fn vector_width(self) -> usize {
        match self {
            Self::Codes => 0,
            Self::CodesF16 => 2,
            Self::CodesF32 => 4,
        }
    }
}

/// What every vector of an index has in common; pinned in the schema and repeated in each file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VectorSpec {
    /// 0 in an index without an embedder: rows, but no vectors.
    pub(crate) dim: u32,
    pub(crate) metric: Metric,
    pub(crate) encoding: Encoding,
    /// First half of the blake3 hash of the embedder's fingerprint.
    pub(crate) fingerprint: [u8; 16],
}

/// The parts of a file. Numbers are on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Section {
    /// One bit per row: has this document a vector?
    Presence = 1,
    /// `dim` bytes per row: the int8 code plus 128.
    Codes = 2,
    /// One f32 per row: component = (code - 128) * scale.
    Scales = 3,
    /// `dim` f16 or f32 per row.
    Vectors = 4,
    /// Reserved for the graph: one u8 per row, its top level.
    GraphLevels = 5,
    /// Reserved for the graph: u64 per row and level, where its neighbours begin.
    GraphOffsets = 6,
    /// Reserved for the graph: u32 row numbers.
    GraphNeighbours = 7,
}

/// The sections that this version writes, in file order.
pub(super) const WRITTEN: [Section; 4] = [
    Section::Presence,
    Section::Codes,
    Section::Scales,
    Section::Vectors,
];

impl Section {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        [
            Self::Presence,
            Self::Codes,
            Self::Scales,
            Self::Vectors,
            Self::GraphLevels,
            Self::GraphOffsets,
            Self::GraphNeighbours,
        ]
        .into_iter()
        .find(|section| *section as u32 == number)
    }

    /// Bytes of a section whose size follows from the rows alone.
    pub(super) fn length(self, rows: u32, spec: &VectorSpec) -> Option<u64> {
        let rows = u64::from(rows);
        let dim = u64::from(spec.dim);
        match self {
            Self::Presence => Some(rows.div_ceil(8)),
            Self::Codes => Some(rows * dim),
            Self::Scales => Some(if dim == 0 { 0 } else { rows * 4 }),
            Self::Vectors => Some(rows * dim * spec.encoding.vector_width() as u64),
            Self::GraphLevels | Self::GraphOffsets | Self::GraphNeighbours => None,
        }
    }
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("the vector file is cut short: {len} bytes")]
    Truncated { len: usize },
    #[error("the vector file does not begin as one")]
    NotAVectorFile,
    #[error("the vector file has format version {0}, this program reads version {VERSION}")]
    Version(u16),
    #[error("the vector file's {part} does not match its checksum")]
    Checksum { part: &'static str },
    #[error("the vector file's header contradicts itself: {0}")]
    Inconsistent(&'static str),
    #[error("the vector file was written for other vectors ({0})")]
    OtherSpec(&'static str),
}

/// Where the rows of a new file come from; each section is asked for twice: once to sum it, once to write it.
pub(crate) trait RowSource {
    fn rows(&self) -> u32;
    fn present(&self) -> u32;
    fn section(&self, section: Section, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// Writes a whole file to a writer that cannot seek.
pub(crate) fn write(spec: &VectorSpec, source: &dyn RowSource, out: &mut dyn Write) -> io::Result<()> {
    let rows = source.rows();
    let mut header = [0_u8; HEADER_LEN];
    let mut lengths = [0_u64; WRITTEN.len()];
    let mut at = HEADER_LEN as u64;
    for (slot, section) in WRITTEN.into_iter().enumerate() {
        let length = section
            .length(rows, spec)
            .expect("written sections follow from the rows");
        let mut crc = crc32fast::Hasher::new();
        let mut seen = 0_u64;
        source.section(section, &mut |bytes| {
            crc.update(bytes);
            seen += bytes.len() as u64;
            Ok(())
        })?;
        if seen != length {
            return Err(io::Error::other(format!(
                "section {section:?} has {seen} bytes instead of {length}"
            )));
        }
        at = at.next_multiple_of(ALIGN);
        let entry = &mut header[TABLE_AT + slot * SLOT_LEN..][..SLOT_LEN];
        entry[..4].copy_from_slice(&(section as u32).to_le_bytes());
        entry[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        entry[8..16].copy_from_slice(&at.to_le_bytes());
        entry[16..24].copy_from_slice(&length.to_le_bytes());
        lengths[slot] = length;
        at += length;
    }
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
    header[16..20].copy_from_slice(&rows.to_le_bytes());
    header[20..24].copy_from_slice(&spec.dim.to_le_bytes());
    header[24] = spec.metric as u8;
    header[25] = spec.encoding as u8;
    header[26..28].copy_from_slice(&(SLOTS as u16).to_le_bytes());
    header[28..32].copy_from_slice(&source.present().to_le_bytes());
    header[32..40].copy_from_slice(&at.to_le_bytes());
    header[40..56].copy_from_slice(&spec.fingerprint);
    let sum = crc32fast::hash(&header[..HEADER_LEN - 4]);
    header[HEADER_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
    out.write_all(&header)?;

    let mut at = HEADER_LEN as u64;
    for (section, length) in WRITTEN.into_iter().zip(lengths) {
        let padding = at.next_multiple_of(ALIGN) - at;
        out.write_all(&[0_u8; ALIGN as usize][..padding as usize])?;
        source.section(section, &mut |bytes| out.write_all(bytes))?;
        at += padding + length;
    }
    Ok(())
}
