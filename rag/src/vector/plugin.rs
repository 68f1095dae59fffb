//! The tantivy segment plugin: vectors become a file of every segment, written at flush, rewritten at merge.
//!
//! Two rules of tantivy 0.27 shape this file. An error in a writer loses every document of the segment in hand, so
//! vectors are checked before tantivy sees the document (`rows::prepare`), and what is refused here is a bug of ours.
//! The permutation of a sorted index is private, so a sorted index is refused instead of written wrongly.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::directory::TerminatingWrite;
use tantivy::index::SegmentComponent;
use tantivy::indexer::doc_id_mapping::{DocIdMapping, MappingType};
use tantivy::schema::document::ErasedDocument;
use tantivy::schema::{Field, Schema, Value};
use tantivy::space_usage::ComponentSpaceUsage;
use tantivy::{
    DocId, HasLen, PluginMergeContext, PluginWriter, PluginWriterContext, Segment, SegmentPlugin,
    SegmentReader, TantivyDocument, TantivyError,
};

use super::build::build;
use super::file::VectorFile;
use super::format::{self, RowSource, VectorSpec};
use super::graph::GraphParts;
use super::plan::GraphOptions;
use super::rows::{MergedRows, RowBuffer};
use crate::stop::Stop;

/// A graph joins two rows at least.
const LEAST_ROWS: u32 = 2;

/// The component of a segment that holds the vectors of a field.
pub(crate) fn component(extension: &str) -> SegmentComponent {
    SegmentComponent::Custom(extension.to_owned())
}

/// Builds graphs, or does not; shared with the collection, which tells why.
#[derive(Debug, Default)]
pub(crate) struct Graphs {
    options: GraphOptions,
    skipped: Mutex<Option<String>>,
    stop: Stop,
}

impl Graphs {
    pub(crate) fn new(options: GraphOptions) -> Self {
        Self {
            options,
            skipped: Mutex::default(),
            stop: Stop::default(),
        }
    }

    /// Ends a merge, and the build of its graph.
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Whether a merged segment with so many vectors gets a graph.
    pub(crate) fn is_due(&self, vectors: u64) -> bool {
        vectors >= u64::from(self.options.merge_rows.max(LEAST_ROWS))
            && u32::try_from(vectors)
                .is_ok_and(|rows| self.options.build_bytes(rows) <= self.options.memory_bytes)
    }

    /// Why the last graph that was due was not built.
    pub(crate) fn skipped(&self) -> Option<String> {
        self.skipped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The graph of new rows, where one is due. A merge or commit never fails by it: without a graph the segment is
    /// scanned, and the next merge tries again.
    fn build(&self, spec: &VectorSpec, rows: &dyn RowSource, least: u32) -> Option<GraphParts> {
        if spec.dim == 0 || rows.present() < least.max(LEAST_ROWS) {
            return None;
        }
        let needed = self.options.build_bytes(rows.rows());
        let built = if needed > self.options.memory_bytes {
            Err(format!(
                "a graph over {} vectors takes {needed} bytes to build, and {} are allowed",
                rows.present(),
                self.options.memory_bytes
            ))
        } else {
            // A bug in the build must not cost the merge.
            std::panic::catch_unwind(AssertUnwindSafe(|| {
                build(&rows.coded(), spec.metric, self.options.shape(), &self.stop)
            }))
            .map_err(|_| "building the graph failed in an unforeseen way".to_owned())
        };
        let (graph, skipped) = match built {
            Ok(graph) => (graph, None),
            Err(reason) => {
                tracing::warn!(reason, "a segment is written without a graph");
                (None, Some(reason))
            }
        };
        *self.skipped.lock().unwrap_or_else(PoisonError::into_inner) = skipped;
        graph
    }
}

/// Writes the vectors of one custom field; an index has one for each.
#[derive(Clone, Debug)]
pub(crate) struct VectorPlugin {
    spec: VectorSpec,
    field: Field,
    /// What its files end in; one of [`format::EXTENSIONS`].
    extension: [&'static str; 1],
    graphs: Arc<Graphs>,
}

impl VectorPlugin {
    pub(crate) fn new(spec: VectorSpec, field: Field, extension: &'static str, graphs: Arc<Graphs>) -> Self {
        Self {
            spec,
            field,
            extension: [extension],
            graphs,
        }
    }

    fn component(&self) -> SegmentComponent {
        component(self.extension[0])
    }
}

fn internal(error: impl std::fmt::Display) -> TantivyError {
    TantivyError::InternalError(format!("vector file: {error}"))
}

fn damaged(error: impl std::fmt::Display) -> TantivyError {
    TantivyError::DataCorruption(tantivy::error::DataCorruption::comment_only(error))
}

impl SegmentPlugin for VectorPlugin {
    fn extensions(&self) -> &[&str] {
        &self.extension
    }

    fn create_writer(&self, _: &PluginWriterContext<'_>) -> tantivy::Result<Box<dyn PluginWriter>> {
        Ok(Box::new(VectorWriter {
            field: self.field,
            buffer: RowBuffer::new(&self.spec),
            spec: self.spec.clone(),
            component: self.component(),
            graphs: Arc::clone(&self.graphs),
        }))
    }

    fn merge(&self, ctx: PluginMergeContext<'_>) -> tantivy::Result<()> {
        if ctx.doc_id_mapping.mapping_type() == MappingType::Shuffled {
            return Err(internal("a sorted index cannot hold vectors"));
        }
        let mut rows = MergedRows::default();
        for reader in ctx.readers {
            if self.graphs.stop.is_set() {
                return Err(internal("the merge was given up"));
            }
            let bytes = reader.open_read(self.component())?.read_bytes()?;
            let file = VectorFile::open(bytes, &self.spec).map_err(damaged)?;
            // A flipped bit must not be copied under a fresh checksum. Graphs are not copied.
            file.verify_rows().map_err(damaged)?;
            rows.push(file, reader.doc_ids_alive().collect())?;
        }
        let graph = self
            .graphs
            .build(&self.spec, &rows, self.graphs.options.merge_rows);
        let mut out = ctx.target_segment.open_write(self.component())?;
        format::write(&self.spec, &rows, graph.as_ref(), &mut out)?;
        Ok(out.terminate()?)
    }

    fn space_usage(&self, reader: &SegmentReader) -> tantivy::Result<BTreeMap<String, ComponentSpaceUsage>> {
        let bytes = reader.open_read(self.component())?.len() as u64;
        Ok(BTreeMap::from([(
            self.extension[0].to_owned(),
            ComponentSpaceUsage::Basic(bytes.into()),
        )]))
    }
}

struct VectorWriter {
    field: Field,
    spec: VectorSpec,
    component: SegmentComponent,
    buffer: RowBuffer,
    graphs: Arc<Graphs>,
}

impl PluginWriter for VectorWriter {
    fn add_document(&mut self, doc_id: DocId, doc: &dyn ErasedDocument, _: &Schema) -> tantivy::Result<()> {
        if doc_id != self.buffer.rows() {
            return Err(internal("documents came out of order"));
        }
        let doc = doc
            .as_any()
            .downcast_ref::<TantivyDocument>()
            .ok_or_else(|| internal("documents must be TantivyDocument"))?;
        let mut values = doc.get_all(self.field).filter_map(|value| value.as_custom());
        let Some(bytes) = values.next() else {
            self.buffer.push_absent();
            return Ok(());
        };
        if values.next().is_some() || bytes.len() % 4 != 0 {
            return Err(internal("a document holds one vector of f32 values"));
        }
        let vector: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        self.buffer.push(&vector).map_err(internal)
    }

    fn serialize(
        self: Box<Self>,
        segment: &Segment,
        doc_id_map: Option<&DocIdMapping>,
    ) -> tantivy::Result<()> {
        if doc_id_map.is_some() {
            return Err(internal("a sorted index cannot hold vectors"));
        }
        let graph = self
            .graphs
            .build(&self.spec, &self.buffer, self.graphs.options.flush_rows);
        let mut out = segment.open_write(self.component)?;
        format::write(&self.spec, &self.buffer, graph.as_ref(), &mut out)?;
        Ok(out.terminate()?)
    }

    fn mem_usage(&self) -> usize {
        self.buffer.memory()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A vector as the bytes of its custom field.
pub(crate) fn field_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use tantivy::merge_policy::NoMergePolicy;
    use tantivy::schema::{INDEXED, STORED, STRING};
    use tantivy::{Index, IndexWriter, Term};

    use super::super::format::{EXTENSION, Encoding, Metric};
    use super::super::rows::prepare;
    use super::*;

    const DIM: u32 = 19;

    fn spec() -> VectorSpec {
        VectorSpec {
            dim: DIM,
            metric: Metric::Cosine,
            encoding: Encoding::CodesF32,
            fingerprint: [1; 16],
        }
    }

    fn vector(seed: u64) -> Vec<f32> {
        let raw: Vec<f32> = (0..u64::from(DIM))
            .map(|at| ((seed * 31 + at * 7) as f32 * 0.113).sin() + 0.01)
            .collect();
        prepare(&spec(), &raw).expect("finite")
    }

    struct Fixture {
        index: Index,
        id: Field,
        vector: Field,
    }

    fn fixture(directory: &std::path::Path) -> Fixture {
        let mut schema = Schema::builder();
        let id = schema.add_text_field("id", STRING | STORED);
        let number = schema.add_u64_field("number", INDEXED);
        let vector = schema.add_custom_field("vector", "test.vector", serde_json::json!({}));
        let _ = number;
        let directory = tantivy::directory::MmapDirectory::open(directory).expect("folder");
        let index = Index::builder()
            .schema(schema.build())
            .register_plugin(Arc::new(VectorPlugin::new(
                spec(),
                vector,
                EXTENSION,
                Arc::default(),
            )))
            .open_or_create(directory)
            .expect("index");
        Fixture { index, id, vector }
    }

    fn add(writer: &IndexWriter, fixture: &Fixture, id: u64) {
        let mut doc = TantivyDocument::new();
        doc.add_text(fixture.id, id.to_string());
        if id % 5 != 4 {
            doc.add_custom(fixture.vector, &field_bytes(&vector(id)));
        }
        writer.add_document(doc).expect("queued");
    }

    /// Every living document has exactly the vector that was added with it.
    fn check(fixture: &Fixture, expected: &[u64]) {
        let searcher = fixture.index.reader().expect("reader").searcher();
        let mut seen = Vec::new();
        for (ordinal, reader) in searcher.segment_readers().iter().enumerate() {
            let bytes = reader
                .open_read(component(EXTENSION))
                .expect("file")
                .read_bytes()
                .expect("bytes");
            let file = VectorFile::open(bytes, &spec()).expect("opens");
            file.verify_rows().expect("checksums");
            assert_eq!(file.rows(), reader.max_doc());
            for doc_id in reader.doc_ids_alive() {
                let doc: TantivyDocument = searcher
                    .doc(tantivy::DocAddress::new(ordinal as u32, doc_id))
                    .expect("stored");
                let id: u64 = doc
                    .get_first(fixture.id)
                    .and_then(|value| value.as_str())
                    .and_then(|id| id.parse().ok())
                    .expect("id");
                let want = (id % 5 != 4).then(|| vector(id));
                assert_eq!(file.vector(doc_id), want, "document {id}");
                seen.push(id);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn vectors_survive_flush_delete_merge_and_reopen_bit_for_bit() {
        let folder = tempfile::tempdir().expect("folder");
        let mut living: Vec<u64> = (0..300).collect();
        {
            let fixture = fixture(folder.path());
            let mut writer: IndexWriter = fixture
                .index
                .writer_with_num_threads(1, 15_000_000)
                .expect("writer");
            writer.set_merge_policy(Box::new(NoMergePolicy));
            for batch in 0..3_u64 {
                for id in batch * 100..(batch + 1) * 100 {
                    add(&writer, &fixture, id);
                }
                writer.commit().expect("commit");
            }
            check(&fixture, &living);
            for id in (0..300_u64).step_by(3) {
                writer.delete_term(Term::from_field_text(fixture.id, &id.to_string()));
            }
            writer.commit().expect("commit");
            living.retain(|id| id % 3 != 0);
            check(&fixture, &living);
            let segments = fixture.index.searchable_segment_ids().expect("ids");
            assert_eq!(segments.len(), 3);
            writer.merge(&segments).wait().expect("merge");
            assert_eq!(fixture.index.searchable_segment_ids().expect("ids").len(), 1);
            check(&fixture, &living);
        }
        let reopened = fixture(folder.path());
        check(&reopened, &living);
    }

    #[test]
    fn a_refused_vector_loses_nothing_that_was_committed() {
        let folder = tempfile::tempdir().expect("folder");
        let fixture = fixture(folder.path());
        let mut writer: IndexWriter = fixture
            .index
            .writer_with_num_threads(1, 15_000_000)
            .expect("writer");
        for id in 0..10 {
            add(&writer, &fixture, id);
        }
        writer.commit().expect("commit");
        let mut doc = TantivyDocument::new();
        doc.add_text(fixture.id, "99");
        doc.add_custom(fixture.vector, &[1, 2, 3]);
        let _ = writer.add_document(doc);
        assert!(writer.commit().is_err());
        writer.rollback().expect("rollback");
        add(&writer, &fixture, 10);
        writer.commit().expect("commit after rollback");
        check(&fixture, &(0..=10).collect::<Vec<_>>());
    }
}
