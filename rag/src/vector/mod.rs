//! Vectors inside tantivy's segments: the file, the plugin that writes it, the scan and the walk that read it.

mod build;
pub(crate) mod file;
pub(crate) mod format;
mod graph;
mod margin;
mod needs;
pub(crate) mod plan;
pub(crate) mod plugin;
pub(crate) mod rows;
mod scan;
pub(crate) mod search;
mod walk;

#[cfg(test)]
mod tests;
