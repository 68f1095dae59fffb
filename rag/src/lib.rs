//! Loading, chunking and hybrid retrieval: text, vectors, metadata and deletes in one tantivy index.

mod filter;
mod vector;
