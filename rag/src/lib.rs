//! Loading, chunking and hybrid retrieval: text, vectors, metadata and deletes in one tantivy index.

mod checksum;
mod chunk;
mod collection;
mod error;
mod fact;
mod filter;
mod fuse;
mod lexical;
mod load;
mod schema;
mod snapshot;
mod sync;
mod vector;
mod writer;

pub use chunk::{ChunkOptions, Chunker};
pub use collection::{
    AddEvent, AddOptions, AddProgress, AddReport, Chunking, Collection, CollectionBuilder, CollectionStats,
    DocumentEntry, Explained, GraphState, IndexStats, Nearest, Neighbour, ProgressFn, SegmentStats,
    SkipReason, Storage, VectorReader, WholeDocuments,
};
pub use fuse::Fusion;
pub use lexical::Language;
pub use load::{Format, LoadLimits, SkippedFile, SourceFile, SourceFiles, find_files, load};
pub use sync::{SyncEvent, SyncFn, SyncOptions, SyncProgress, SyncReport};
pub use vector::format::Metric;
pub use vector::plan::{GraphOptions, SegmentSearch, Strategy};
