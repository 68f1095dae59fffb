//! Size, order and health: statistics, merging, checksums.
//!
//! Two kinds of calls: [`Collection::stats`] is a tenant's and tells nothing of others; [`Collection::index_stats`],
//! `compact`, `optimize` and `verify` are of the whole index, for who runs it, and show nobody's content.

use std::sync::Arc;

use stepwell_core::{Error, Result};

use super::Collection;
use crate::error::blocking;
use crate::snapshot::Snapshot;
use crate::vector::file::VectorFile;

/// Whether a segment's vectors are searched through a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GraphState {
    /// It has none: too few vectors, or it could not be built. The segment is scanned.
    #[default]
    Absent,
    /// It has one.
    Ready,
    /// It has one that does not match its checksum. The segment is scanned until [`Collection::optimize`] or a merge
    /// builds the graph again.
    Damaged,
}

impl GraphState {
    /// What is to be said of two graphs: what is wrong with either.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Damaged, _) | (_, Self::Damaged) => Self::Damaged,
            (Self::Absent, _) | (_, Self::Absent) => Self::Absent,
            (Self::Ready, Self::Ready) => Self::Ready,
        }
    }
}

/// The size of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Chunks, deleted ones included.
    pub chunks: u64,
    /// Of these, deleted ones.
    pub deleted_chunks: u64,
    /// Chunks with a vector, deleted ones included; in the fullest of its vector fields.
    pub vectors: u64,
    /// Bytes of the vectors and their graphs, of all vector fields.
    pub vector_bytes: u64,
    /// Of these, bytes of graphs.
    pub graph_bytes: u64,
    /// Whether there is a graph, in each vector field.
    pub graph: GraphState,
}

/// What a collection holds of its scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectionStats {
    /// Documents of the scope.
    pub documents: u64,
    /// Chunks of the scope.
    pub chunks: u64,
    /// Of these, chunks with a vector.
    pub vectors: u64,
    /// Fingerprint of the embedder; `None` for an index of words alone.
    pub embedder: Option<String>,
    /// Length of a vector.
    pub dimension: usize,
    /// Its other vector fields.
    pub vector_fields: Vec<VectorFieldStats>,
}

/// A vector field beside the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VectorFieldStats {
    /// Its name.
    pub name: String,
    /// Chunks of the scope with a vector of it.
    pub vectors: u64,
    /// Fingerprint of its embedder.
    pub embedder: String,
    /// Length of a vector.
    pub dimension: usize,
}

/// The size of the index, which all tenants share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexStats {
    /// Segments of the index.
    pub segments: u64,
    /// Chunks of all tenants, deleted ones left out.
    pub chunks: u64,
    /// Chunks of all tenants that are deleted, but not merged away yet.
    pub deleted_chunks: u64,
    /// Vectors of all tenants, those of deleted chunks included.
    pub vectors: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Of these, bytes of vectors and graphs.
    pub vector_bytes: u64,
    /// Of these, bytes of graphs.
    pub graph_bytes: u64,
    /// Vectors of segments that are searched through a graph.
    pub graph_vectors: u64,
    /// Why the last graph that this process had to build was not built.
    pub graph_skipped: Option<String>,
    /// Each segment.
    pub segment_sizes: Vec<SegmentStats>,
}

fn graph_state(file: &VectorFile) -> GraphState {
    match (file.has_graph(), file.graph()) {
        (false, _) => GraphState::Absent,
        (true, Some(_)) => GraphState::Ready,
        (true, None) => GraphState::Damaged,
    }
}

fn segment_sizes(snapshot: &Snapshot) -> Vec<SegmentStats> {
    let readers = snapshot.searcher.segment_readers();
    readers
        .iter()
        .enumerate()
        .map(|(at, reader)| {
            let files = || snapshot.vectors.iter().map(|field| &field[at]);
            SegmentStats {
                chunks: u64::from(reader.max_doc()),
                deleted_chunks: u64::from(reader.num_deleted_docs()),
                vectors: files().map(|file| u64::from(file.present())).max().unwrap_or(0),
                vector_bytes: files().map(|file| file.bytes_len() as u64).sum(),
                graph_bytes: files().map(|file| file.graph_bytes() as u64).sum(),
                // A field of words alone has no vectors, and no graph to miss.
                graph: files()
                    .filter(|file| file.present() > 0)
                    .map(|file| graph_state(file))
                    .reduce(GraphState::or)
                    .unwrap_or_default(),
            }
        })
        .collect()
}

impl Collection {
    /// What it holds of its scope.
    pub async fn stats(&self) -> Result<CollectionStats> {
        self.read(|inner, scope, snapshot| {
            let entries = inner.entries(snapshot, scope)?;
            let allowed = inner.allowed(snapshot, scope, None)?;
            let vectors = |field: &[Arc<VectorFile>]| -> u64 {
                let of_segments = field.iter().zip(&allowed).map(|(file, rows)| {
                    let words = rows.words().iter().enumerate();
                    let with_vector = words.map(|(at, word)| (word & file.presence_word(at)).count_ones());
                    u64::from(with_vector.sum::<u32>())
                });
                of_segments.sum()
            };
            let first = inner.pinned.first();
            let others = inner.pinned.vectors.iter().zip(&snapshot.vectors).skip(1);
            Ok(CollectionStats {
                documents: entries.len() as u64,
                chunks: entries.iter().map(|entry| entry.chunks).sum(),
                vectors: vectors(&snapshot.vectors[0]),
                embedder: (!first.embedder.is_empty()).then(|| first.embedder.clone()),
                dimension: first.spec.dim as usize,
                vector_fields: others
                    .map(|(pinned, files)| VectorFieldStats {
                        name: pinned.name.clone(),
                        vectors: vectors(files),
                        embedder: pinned.embedder.clone(),
                        dimension: pinned.spec.dim as usize,
                    })
                    .collect(),
            })
        })
        .await
    }

    /// How large the whole index is, whoever the chunks belong to: for who runs it, not for a tenant. Reads each graph
    /// against its checksum, where no search has done so yet.
    pub async fn index_stats(&self) -> Result<IndexStats> {
        self.read(|inner, _, snapshot| {
            let bytes = snapshot
                .searcher
                .space_usage()
                .map_err(|error| inner.place.explain("measuring", &error.into()))?
                .total();
            let sizes = segment_sizes(snapshot);
            let sum = |of: fn(&SegmentStats) -> u64| sizes.iter().map(of).sum();
            Ok(IndexStats {
                chunks: sum(|segment| segment.chunks - segment.deleted_chunks),
                segments: sizes.len() as u64,
                deleted_chunks: sum(|segment| segment.deleted_chunks),
                vectors: sum(|segment| segment.vectors),
                bytes: bytes.get_bytes(),
                vector_bytes: sum(|segment| segment.vector_bytes),
                graph_bytes: sum(|segment| segment.graph_bytes),
                graph_vectors: sizes
                    .iter()
                    .filter(|segment| segment.graph == GraphState::Ready)
                    .map(|segment| segment.vectors)
                    .sum(),
                graph_skipped: inner.graphs.skipped(),
                segment_sizes: sizes,
            })
        })
        .await
    }

    /// Merges all segments of the index into one, those of all tenants, and frees what was deleted. It happens by
    /// itself too, little by little.
    pub async fn compact(&self) -> Result<()> {
        self.merge_all(|_, _| true).await
    }

    /// [`Collection::compact`] where it helps: where there are several segments or deleted chunks, or where a graph is
    /// damaged or still to be built. Otherwise nothing is written.
    pub async fn optimize(&self) -> Result<()> {
        self.merge_all(|sizes, due| {
            let [only] = sizes else {
                return !sizes.is_empty();
            };
            let has_graph_due = match only.graph {
                GraphState::Ready => false,
                GraphState::Damaged => true,
                GraphState::Absent => due(only.vectors),
            };
            only.deleted_chunks > 0 || has_graph_due
        })
        .await
    }

    async fn merge_all(
        &self,
        is_due: impl FnOnce(&[SegmentStats], &dyn Fn(u64) -> bool) -> bool + Send + 'static,
    ) -> Result<()> {
        let turn = self.inner.writers.turn().await?;
        let this = self.clone();
        blocking(&self.inner.place, move || {
            let inner = &this.inner;
            let mut writer = inner.writer(turn)?;
            // Looked at with the lock in hand: nobody else merges now.
            let sizes = segment_sizes(inner.snapshots.latest()?.as_ref());
            let is_big = |vectors: u64| inner.graphs.is_due(vectors);
            if is_due(&sizes, &is_big) {
                writer.compact()?;
            }
            writer.close();
            inner.snapshots.follow()
        })
        .await
    }

    /// Reads every file of the index, for all tenants, against its checksums, and proves for each document of the scope whose chunker covered its text
    /// that every byte is still in a stored chunk; [`stepwell_core::Error::Damaged`] names the first that fails. A damaged
    /// graph is told last: it costs time, but no answer. [`Collection::coverage`] tells of one document.
    pub async fn verify(&self) -> Result<()> {
        self.verify_files().await?;
        self.verify_coverage().await?;
        self.verify_graphs().await
    }

    async fn verify_files(&self) -> Result<()> {
        self.read(|inner, _, snapshot| {
            let (index, specs) = (&inner.index, inner.pinned.specs());
            if let Some(damage) = inner.checksums.damage(index, &specs, &inner.place, u64::MAX)? {
                return Err(damage);
            }
            let rows =
                |file: &Arc<VectorFile>| file.verify_rows().map_err(|error| inner.place.damaged(error));
            snapshot.vectors.iter().flatten().try_for_each(rows)
        })
        .await
    }

    async fn verify_graphs(&self) -> Result<()> {
        self.read(|inner, _, snapshot| {
            let sizes = segment_sizes(snapshot);
            for (reader, size) in snapshot.searcher.segment_readers().iter().zip(sizes) {
                if size.graph == GraphState::Damaged {
                    return Err(Error::Damaged {
                        what: inner.place.name(),
                        message: format!(
                            "the graph of segment {} does not match its checksum",
                            reader.segment_id()
                        ),
                        hint: "run `optimize()`, which builds it again; searches scan the segment meanwhile"
                            .to_owned(),
                    });
                }
            }
            Ok(())
        })
        .await
    }
}
