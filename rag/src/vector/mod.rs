//! Vectors inside tantivy's segments: the file, the plugin that writes it, the scan that reads it.

pub(crate) mod file;
pub(crate) mod format;
pub(crate) mod plugin;
pub(crate) mod rows;
pub(crate) mod search;
mod simd;
