//! Loading, chunking and hybrid retrieval: text, vectors, metadata and deletes in one tantivy index.

mod calibrate;
mod chunk;
mod collection;
mod diversify;
mod error;
pub mod eval;
mod fact;
mod filter;
mod fuse;
mod lexical;
mod load;
mod rerank;
mod schema;
mod snapshot;
mod sync;
mod vector;
mod writer;

pub use calibrate::Calibration;
pub use chunk::{ChunkOptions, Chunker};
pub use collection::{
    AddEvent, AddOptions, AddProgress, AddReport, Chunking, Collection, CollectionBuilder, CollectionStats,
    DocumentEntry, Explained, GraphState, Nearest, Neighbour, ProgressFn, RecallOptions, RecallReport,
    SegmentStats, SkipReason, Storage, VectorReader, WholeDocuments,
};
pub use fuse::Fusion;
pub use lexical::{FieldBoosts, Language};
pub use load::{Format, LoadLimits, SkippedFile, SourceFile, SourceFiles, find_files, load};
pub use rerank::Reranked;
pub use sync::{SyncEvent, SyncFn, SyncOptions, SyncProgress, SyncReport};
pub use vector::format::Metric;
pub use vector::plan::{GraphOptions, SegmentSearch, Strategy};
