//! Loading, chunking and hybrid retrieval: text, vectors, metadata and deletes in one tantivy index.

pub mod answer;
#[cfg(test)]
mod asking;
mod best;
mod calibrate;
mod checksum;
mod chunk;
mod collection;
mod disk;
mod diversify;
mod error;
pub mod eval;
mod fact;
mod filter;
mod fuse;
// Its targets need every format.
#[cfg(all(
    any(test, feature = "fuzz"),
    feature = "html",
    feature = "pdf",
    feature = "docx",
    feature = "epub"
))]
#[doc(hidden)]
pub mod fuzz;
mod lexical;
mod load;
mod record;
mod rerank;
mod schema;
mod simd;
mod snapshot;
mod spare;
mod stop;
mod sync;
mod vector;
mod writer;

pub use calibrate::Calibration;
pub use chunk::{ChunkOptions, ChunkStyle, Chunker};
pub use collection::{
    AddEvent, AddOptions, AddProgress, AddReport, Chunking, ClockFn, Collection, CollectionBuilder,
    CollectionStats, Coverage, DocumentEntry, Explained, FailedDocument, GraphState, IndexStats, Nearest,
    Neighbour, ProgressFn, RecallOptions, RecallReport, SegmentStats, SkipReason, Storage, VectorField,
    VectorFieldStats, VectorReader, WholeDocuments,
};
pub use fuse::Fusion;
pub use lexical::{FieldBoosts, Language};
pub use load::{
    Format, LoadLimits, ReaderProgram, SkippedFile, SourceFile, SourceFiles, find_files, load, serve_reader,
};
pub use rerank::Reranked;
pub use sync::{RenamedFile, SyncEvent, SyncFn, SyncOptions, SyncPlan, SyncProgress, SyncReport};
pub use vector::format::Metric;
pub use vector::plan::{GraphOptions, SegmentSearch, Strategy};
