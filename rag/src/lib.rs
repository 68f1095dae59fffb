//! Loading, chunking and hybrid retrieval: text, vectors, metadata and deletes in one tantivy index.

mod collection;
mod error;
mod filter;
mod fuse;
mod lexical;
mod schema;
mod snapshot;
mod vector;
mod writer;

pub use collection::{
    AddEvent, AddOptions, AddProgress, AddReport, Chunking, Collection, CollectionBuilder, CollectionStats,
    DocumentEntry, ProgressFn, SkipReason, WholeDocuments,
};
pub use fuse::Fusion;
pub use lexical::Language;
