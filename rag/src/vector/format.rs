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
//! presence bit. The layout is final: what comes later gets a section kind of its own, and readers skip kinds that they
//! do not know. The graph (5 to 7, see [`super::graph`]) may be absent or damaged: then the segment is scanned.

use std::io::{self, Write};

use serde::Deserialize;

use super::build::CodedRows;
use super::graph::GraphParts;

/// The one file extension that the index claims; it can never be changed for an index that exists.
pub(crate) const EXTENSION: &str = "swv";
/// What the files of an index end in, by vector field; the length bounds how many fields there may be.
pub(crate) const EXTENSIONS: [&str; 8] = [EXTENSION, "swv1", "swv2", "swv3", "swv4", "swv5", "swv6", "swv7"];

pub(super) const MAGIC: [u8; 8] = *b"\x89SWVEC\r\n";
pub(crate) const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 512;
pub(super) const SLOTS: usize = 16;
pub(super) const TABLE_AT: usize = 64;
pub(super) const SLOT_LEN: usize = 24;
pub(super) const ALIGN: u64 = 64;
/// More dimensions than any embedder has; bounds what a damaged header can ask for.
pub(crate) const MAX_DIM: u32 = 16_384;

/// How two vectors are compared. A higher score is always nearer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// The score is the cosine. Vectors are stored with length one. The default.
    #[default]
    Cosine = 1,
    /// The score is the inner product. Vectors are stored as they come.
    Dot = 2,
    /// The score is the squared Euclidean distance, negated. Vectors are stored as they come.
    L2 = 3,
}

impl Metric {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L2 => "l2",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Cosine, Self::Dot, Self::L2]
            .into_iter()
            .find(|metric| metric.name() == name)
    }
}

/// What is kept of a vector beside its int8 codes. Numbers are on disk: never reuse one (2 was f16 beside the codes,
/// which took a byte more and kept less).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Codes alone: smallest, scores are approximate.
    Codes = 1,
    /// Codes to scan, f32 to rescore.
    CodesF32 = 3,
    /// Codes to scan, a byte of what they leave out to rescore: 16-bit fixed point together.
    Codes16 = 4,
}

impl Encoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::Codes16 => "codes+low",
            Self::CodesF32 => "codes+f32",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Codes, Self::Codes16, Self::CodesF32]
            .into_iter()
            .find(|encoding| encoding.name() == name)
    }

    /// Bytes of one component in the rescoring section.
    pub(crate) fn vector_width(self) -> usize {
        match self {
            Self::Codes => 0,
            Self::Codes16 => 1,
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

impl VectorSpec {
    /// Whether rows have their squared length beside their codes.
    pub(crate) fn has_norms(&self) -> bool {
        self.metric == Metric::L2 && self.dim > 0
    }

    /// The sections that a file of such vectors must have, in file order.
    pub(super) fn row_sections(&self) -> impl Iterator<Item = Section> {
        let has_norms = self.has_norms();
        ROWS.into_iter()
            .filter(move |section| *section != Section::Norms || has_norms)
    }
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
    /// What the encoding adds, per row: `dim` f32, or `dim` bytes, each 128 more than 256ths of a code's step:
    /// component = ((code - 128) + (byte - 128) / 256) * scale.
    Vectors = 4,
    /// The shape of the graph.
    GraphHead = 5,
    /// Neighbours of each row.
    GraphBase = 6,
    /// The graph's levels above that.
    GraphUpper = 7,
    /// One f32 per row, for L2 alone: the squared length of what the codes stand for.
    Norms = 8,
}

/// The sections that hold the rows, in file order.
pub(super) const ROWS: [Section; 5] = [
    Section::Presence,
    Section::Codes,
    Section::Scales,
    Section::Norms,
    Section::Vectors,
];

/// The sections of a graph, in file order.
pub(super) const GRAPH: [Section; 3] = [Section::GraphHead, Section::GraphUpper, Section::GraphBase];

impl Section {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        [
            Self::Presence,
            Self::Codes,
            Self::Scales,
            Self::Vectors,
            Self::GraphHead,
            Self::GraphBase,
            Self::GraphUpper,
            Self::Norms,
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
            Self::Norms => Some(if spec.has_norms() { rows * 4 } else { 0 }),
            Self::GraphHead | Self::GraphBase | Self::GraphUpper => None,
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
    /// The codes of all rows, to be joined to a graph.
    fn coded(&self) -> CodedRows<'_>;
    fn section(&self, section: Section, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// Writes a whole file to a writer that cannot seek.
pub(crate) fn write(
    spec: &VectorSpec,
    source: &dyn RowSource,
    graph: Option<&GraphParts>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let graph_section = |section| match (graph, section) {
        (Some(graph), Section::GraphHead) => &graph.head[..],
        (Some(graph), Section::GraphUpper) => &graph.upper,
        (Some(graph), Section::GraphBase) => &graph.base,
        _ => &[],
    };
    let emit = |section, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
        if GRAPH.contains(&section) {
            sink(graph_section(section))
        } else {
            source.section(section, sink)
        }
    };
    let rows = source.rows();
    let sections = || {
        spec.row_sections()
            .chain(GRAPH.into_iter().filter(|_| graph.is_some()))
    };
    let mut header = [0_u8; HEADER_LEN];
    let mut starts = [0_u64; SLOTS];
    let mut end = HEADER_LEN as u64;
    for (slot, section) in sections().enumerate() {
        let length = section
            .length(rows, spec)
            .unwrap_or_else(|| graph_section(section).len() as u64);
        let mut crc = crc32fast::Hasher::new();
        let mut seen = 0_u64;
        emit(section, &mut |bytes| {
            crc.update(bytes);
            seen += bytes.len() as u64;
            Ok(())
        })?;
        if seen != length {
            return Err(io::Error::other(format!(
                "section {section:?} has {seen} bytes instead of {length}"
            )));
        }
        starts[slot] = end.next_multiple_of(ALIGN);
        let entry = &mut header[TABLE_AT + slot * SLOT_LEN..][..SLOT_LEN];
        entry[..4].copy_from_slice(&(section as u32).to_le_bytes());
        entry[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        entry[8..16].copy_from_slice(&starts[slot].to_le_bytes());
        entry[16..24].copy_from_slice(&length.to_le_bytes());
        end = starts[slot] + length;
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
    header[32..40].copy_from_slice(&end.to_le_bytes());
    header[40..56].copy_from_slice(&spec.fingerprint);
    let sum = crc32fast::hash(&header[..HEADER_LEN - 4]);
    header[HEADER_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
    out.write_all(&header)?;

    let mut at = HEADER_LEN as u64;
    for (section, start) in sections().zip(starts) {
        out.write_all(&[0_u8; ALIGN as usize][..(start - at) as usize])?;
        at = start;
        emit(section, &mut |bytes| {
            at += bytes.len() as u64;
            out.write_all(bytes)
        })?;
    }
    Ok(())
}
