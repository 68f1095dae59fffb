//! Chunk ⇄ tantivy document: the fields of the index, what is pinned in them, and the stored form of a chunk.

use std::sync::Arc;

use serde_json::json;
use stepwell_core::{Document, EmbedderInfo, Error, Result, Scope};
use tantivy::schema::{
    BytesOptions, Field, FieldType, IndexRecordOption, NumericOptions, Schema, TantivyDocument,
    TextFieldIndexing, TextOptions,
};

use crate::error::Place;
use crate::fact::fact_terms;
use crate::lexical::exact::name_terms;
use crate::lexical::{Language, tokenizer_name};
pub(crate) use crate::record::{Record, StoredChunk};
use crate::vector::format::{EXTENSIONS, Encoding, MAX_DIM, Metric, VectorSpec};
use crate::vector::plugin::field_bytes;

/// The type name of the vector field: what tells our indexes from others.
const VECTOR_TYPE: &str = "stepwell.vector";
/// The name of the first vector field; the others' follow after an underscore.
const VECTOR: &str = "vector";
/// The version of the fields below and of what is stored; every other is refused.
const SCHEMA_VERSION: u32 = 2;
/// The fast field of chunk numbers, by name, as tantivy asks for it.
pub(crate) const NUMBER: &str = "number";
/// Longer ids are refused.
const MAX_ID_BYTES: usize = 1_024;

/// The fields of the index.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    /// One term per document: tenant, id, content hash and settings hash. Finds, lists and deletes documents.
    pub(crate) document: Field,
    /// Whose chunk it is.
    pub(crate) tenant: Field,
    /// The metadata as ordered terms; see `filter`.
    pub(crate) facts: Field,
    /// Eight bytes for each name of a document (title, address), in the row of its first chunk.
    pub(crate) name: Field,
    /// The chunk's place in its document, fast: a document's rows lie side by side, so a row less this is the first.
    pub(crate) number: Field,
    /// The title, analysed.
    pub(crate) title: Field,
    /// Headings other than the title, analysed.
    pub(crate) heading: Field,
    /// The chunk's text, analysed.
    pub(crate) body: Field,
    /// The chunk itself, stored.
    pub(crate) chunk: Field,
    /// Its vectors, for the plugins; in the order of [`Pinned::vectors`].
    pub(crate) vectors: Vec<Field>,
}

/// What a vector field is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinnedVectors {
    /// Empty for the first.
    pub(crate) name: String,
    pub(crate) spec: VectorSpec,
    /// The embedder's fingerprint; empty for an index of words alone.
    pub(crate) embedder: String,
}

impl PinnedVectors {
    pub(crate) fn new(
        name: &str,
        info: Option<&EmbedderInfo>,
        metric: Metric,
        encoding: Encoding,
    ) -> Result<Self> {
        let (embedder, dim) = info.map_or((String::new(), 0), |info| (info.fingerprint(), info.dimension));
        let is_usable = info.is_none() || dim > 0;
        let Some(dim) = u32::try_from(dim).ok().filter(|dim| *dim <= MAX_DIM && is_usable) else {
            return Err(Error::invalid(
                "embedder",
                format!("its dimension must lie between 1 and {MAX_DIM}"),
            ));
        };
        let spec = VectorSpec {
            dim,
            metric,
            encoding,
            fingerprint: short_hash(&embedder),
        };
        Ok(Self {
            name: name.to_owned(),
            spec,
            embedder,
        })
    }

    fn from_params(name: &str, params: &serde_json::Value, place: &Place) -> Result<Self> {
        let number = |key: &str| {
            params
                .get(key)
                .and_then(serde_json::Value::as_u64)
                .and_then(|n| u32::try_from(n).ok())
        };
        let text = |key: &str| params.get(key).and_then(serde_json::Value::as_str);
        let damaged = || undescribed(place);
        let embedder = text("embedder").ok_or_else(damaged)?.to_owned();
        let spec = VectorSpec {
            dim: number("dim").filter(|dim| *dim <= MAX_DIM).ok_or_else(damaged)?,
            metric: text("metric").and_then(Metric::from_name).ok_or_else(damaged)?,
            encoding: text("encoding")
                .and_then(Encoding::from_name)
                .ok_or_else(damaged)?,
            fingerprint: short_hash(&embedder),
        };
        Ok(Self {
            name: name.to_owned(),
            spec,
            embedder,
        })
    }
}

/// What an index is made with; lives in the params of its vector fields, where every open reads it first.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    /// One at least.
    pub(crate) vectors: Vec<PinnedVectors>,
    pub(crate) language: Language,
}

impl Pinned {
    /// The first vector field, that of the collection's own embedder.
    pub(crate) fn first(&self) -> &PinnedVectors {
        &self.vectors[0]
    }

    /// The number of the field with this name.
    pub(crate) fn field(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name else { return Ok(0) };
        let mut fields = self.vectors.iter().enumerate().skip(1);
        let found = fields.find(|(_, field)| field.name == name);
        found
            .map(|(at, _)| at)
            .ok_or_else(|| Error::invalid("vector_field", format!("the index has no vector field `{name}`")))
    }

    pub(crate) fn specs(&self) -> Vec<VectorSpec> {
        self.vectors.iter().map(|field| field.spec.clone()).collect()
    }

    fn to_params(&self, field: &PinnedVectors) -> serde_json::Value {
        json!({
            "version": SCHEMA_VERSION,
            "dim": field.spec.dim,
            "metric": field.spec.metric.name(),
            "encoding": field.spec.encoding.name(),
            "embedder": field.embedder,
            "language": self.language.name(),
        })
    }

    fn from_params<'a>(
        fields: impl Iterator<Item = (&'a str, &'a serde_json::Value)>,
        place: &Place,
    ) -> Result<Self> {
        let mut vectors = Vec::new();
        let mut language = None;
        for (name, params) in fields {
            let version = params.get("version").and_then(serde_json::Value::as_u64);
            let version = version.and_then(|version| u32::try_from(version).ok());
            let version = version.ok_or_else(|| undescribed(place))?;
            if version != SCHEMA_VERSION {
                return Err(place.unknown_version(version, SCHEMA_VERSION));
            }
            let text = params.get("language").and_then(serde_json::Value::as_str);
            language = text.and_then(Language::from_name);
            let name = name.strip_prefix(VECTOR).unwrap_or(name);
            let name = name.strip_prefix('_').unwrap_or(name);
            vectors.push(PinnedVectors::from_params(name, params, place)?);
        }
        if vectors.is_empty() {
            return Err(place.foreign());
        }
        if vectors.len() > EXTENSIONS.len() {
            return Err(undescribed(place));
        }
        Ok(Self {
            vectors,
            language: language.ok_or_else(|| undescribed(place))?,
        })
    }
}

fn undescribed(place: &Place) -> Error {
    place.damaged("its description cannot be read")
}

fn short_hash(text: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    short
}

/// The schema of a new index.
pub(crate) fn create(pinned: &Pinned) -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let indexed = || BytesOptions::default().set_indexed();
    // Positions are kept for phrases; they cost about one byte per word.
    let text = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer(&tokenizer_name(pinned.language))
            .set_index_option(IndexRecordOption::WithFreqsAndPositions),
    );
    let fields = Fields {
        document: builder.add_bytes_field("document", indexed()),
        tenant: builder.add_bytes_field("tenant", indexed()),
        facts: builder.add_bytes_field("facts", indexed()),
        name: builder.add_bytes_field("name", indexed()),
        number: builder.add_u64_field(NUMBER, NumericOptions::default().set_fast()),
        title: builder.add_text_field("title", text.clone()),
        heading: builder.add_text_field("heading", text.clone()),
        body: builder.add_text_field("body", text),
        chunk: builder.add_bytes_field("chunk", BytesOptions::default().set_stored()),
        vectors: pinned
            .vectors
            .iter()
            .map(|field| {
                let name = if field.name.is_empty() {
                    VECTOR.to_owned()
                } else {
                    format!("{VECTOR}_{}", field.name)
                };
                builder.add_custom_field(&name, VECTOR_TYPE, pinned.to_params(field))
            })
            .collect(),
    };
    (builder.build(), fields)
}

/// The fields of an index that exists; [`Error::Foreign`] when it is not one of ours.
pub(crate) fn read(schema: &Schema, place: &Place) -> Result<(Pinned, Fields)> {
    let described = schema.fields().filter_map(|(_, entry)| match entry.field_type() {
        FieldType::Custom(options) if options.type_name() == VECTOR_TYPE => {
            Some((entry.name(), options.params()))
        }
        _ => None,
    });
    let pinned = Pinned::from_params(described, place)?;
    let (expected, fields) = create(&pinned);
    // Field numbers follow from the order of creation, so equal schemas have equal fields.
    if expected != *schema {
        return Err(place.damaged("its fields are not those of its version"));
    }
    Ok((pinned, fields))
}

/// The term of one version of one document: lengths first, so that no id can imitate another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentKey {
    pub(crate) id: String,
    /// Hash of the content, as [`Document::content_hash`] gives it.
    pub(crate) content: [u8; 32],
    /// Hash of what else decides the chunks: chunker settings.
    pub(crate) settings: [u8; 4],
}

fn push_sized(bytes: &mut Vec<u8>, piece: &[u8]) {
    // Lengths are checked when scopes and ids are made: both fit.
    bytes.extend_from_slice(&(piece.len() as u16).to_be_bytes());
    bytes.extend_from_slice(piece);
}

impl DocumentKey {
    pub(crate) fn new(document: &Document, settings: &str) -> Result<Self> {
        check_id(&document.id)?;
        let mut content = [0_u8; 32];
        let hash = document.content_hash();
        for (byte, pair) in content.iter_mut().zip(hash.as_bytes().chunks_exact(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| Error::internal("a content hash is not hexadecimal"))?;
        }
        let mut short = [0; 4];
        short.copy_from_slice(&blake3::hash(settings.as_bytes()).as_bytes()[..4]);
        Ok(Self {
            id: document.id.clone(),
            content,
            settings: short,
        })
    }

    pub(crate) fn content_hash(&self) -> String {
        use std::fmt::Write as _;
        self.content
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// What the terms of all documents of a tenant begin with.
    pub(crate) fn tenant_prefix(scope: &Scope) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_sized(&mut bytes, scope.tenant().as_bytes());
        bytes
    }

    /// What the terms of all versions of a document begin with.
    pub(crate) fn prefix(scope: &Scope, id: &str) -> Vec<u8> {
        let mut bytes = Self::tenant_prefix(scope);
        push_sized(&mut bytes, id.as_bytes());
        bytes
    }

    pub(crate) fn term(&self, scope: &Scope) -> Vec<u8> {
        let mut bytes = Self::prefix(scope, &self.id);
        bytes.extend_from_slice(&self.content);
        bytes.extend_from_slice(&self.settings);
        bytes
    }

    pub(crate) fn from_term(term: &[u8]) -> Option<Self> {
        let rest = skip_sized(term)?;
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        let (id, rest) = (rest.get(2..2 + length)?, rest.get(2 + length..)?);
        Some(Self {
            id: std::str::from_utf8(id).ok()?.to_owned(),
            content: rest.get(..32)?.try_into().ok()?,
            settings: rest.get(32..)?.try_into().ok()?,
        })
    }
}

fn skip_sized(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    bytes.get(2 + length..)
}

/// Checks a document's id.
pub(crate) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(Error::invalid(
            "document id",
            format!("give it 1 to {MAX_ID_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// A chunk as tantivy takes it. `facts` are the document's, shared by its chunks; `number` is its place among them.
pub(crate) fn encode(
    fields: &Fields,
    scope: &Scope,
    key: &[u8],
    number: usize,
    record: &Record<'_>,
    facts: &[Vec<u8>],
    vectors: &[Option<&[f32]>],
) -> Result<TantivyDocument> {
    let chunk = record.chunk;
    let mut document = TantivyDocument::new();
    document.add_bytes(fields.document, key);
    document.add_bytes(fields.tenant, scope.tenant().as_bytes());
    for fact in facts {
        document.add_bytes(fields.facts, fact);
    }
    document.add_u64(fields.number, number as u64);
    if number == 0 {
        for name in name_terms(chunk) {
            document.add_bytes(fields.name, &name);
        }
    }
    if let Some(title) = &chunk.title {
        document.add_text(fields.title, title);
    }
    for heading in chunk
        .headings
        .iter()
        .filter(|heading| Some(*heading) != chunk.title.as_ref())
    {
        document.add_text(fields.heading, heading);
    }
    document.add_text(fields.body, &chunk.text);
    document.add_bytes(fields.chunk, &record.to_bytes()?);
    for (field, vector) in fields.vectors.iter().zip(vectors) {
        if let Some(vector) = vector {
            document.add_custom(*field, &field_bytes(vector));
        }
    }
    Ok(document)
}

/// The chunk of a row, and what else is kept of it, from the bytes that tantivy stores of it.
pub(crate) fn decode(fields: &Fields, stored: &[u8], place: &Place) -> Result<StoredChunk> {
    record_of(fields, stored)
        .and_then(StoredChunk::from_bytes)
        .ok_or_else(|| place.damaged("a stored chunk cannot be read"))
}

/// The record in a stored document, which has no other field. Tantivy's own reading of it copies it twice, byte by byte.
///
/// ```text
/// 1 (how many fields) | the field, 4 bytes | 4 (it is bytes) | length | record
/// ```
/// Lengths and counts come in groups of seven bits, the lowest first; the last one has its highest bit set.
fn record_of<'a>(fields: &Fields, stored: &'a [u8]) -> Option<&'a [u8]> {
    let (head, rest) = stored.split_first_chunk::<6>()?;
    let field = fields.chunk.field_id().to_le_bytes();
    if head[0] != 0x81 || head[1..5] != field || head[5] != 4 {
        return None;
    }
    let digits = rest.iter().take(5).position(|byte| byte & 0x80 != 0)? + 1;
    let (digits, record) = rest.split_at(digits);
    let length = digits
        .iter()
        .rev()
        .fold(0, |length, digit| length << 7 | u64::from(digit & 0x7F));
    (record.len() as u64 == length).then_some(record)
}

/// The metadata of a document as the terms of its chunks.
pub(crate) fn facts_of(document: &Document) -> Result<Arc<[Vec<u8>]>> {
    Ok(fact_terms(&document.metadata)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_key_survives_its_term_and_no_id_imitates_another() {
        let scope = Scope::local();
        let document = Document::new("a/b.md", "text");
        let key = DocumentKey::new(&document, "settings").expect("a good id");
        let term = key.term(&scope);
        assert_eq!(DocumentKey::from_term(&term), Some(key.clone()));
        assert_eq!(key.content_hash(), document.content_hash());
        let longer = DocumentKey::new(&Document::new("a/b.md2", "text"), "settings").expect("a good id");
        assert!(
            !longer
                .term(&scope)
                .starts_with(&DocumentKey::prefix(&scope, "a/b.md"))
        );
        assert!((0..term.len()).all(|len| DocumentKey::from_term(&term[..len]).is_none()));
    }

    #[test]
    fn what_is_pinned_is_read_back_from_the_schema() {
        let info = EmbedderInfo::new("test", "words", "1", 64, 256, true);
        let other = EmbedderInfo::new("test", "other", "2", 16, 256, true);
        let field = |name: &str, info, metric, encoding| {
            PinnedVectors::new(name, Some(info), metric, encoding).expect("a good size")
        };
        let pinned = Pinned {
            vectors: vec![
                field("", &info, Metric::Dot, Encoding::Codes),
                field("_a_b", &other, Metric::L2, Encoding::CodesF32),
            ],
            language: Language::German,
        };
        let (schema, fields) = create(&pinned);
        assert_eq!(fields.vectors.len(), 2);
        let (read, _) = read(&schema, &Place::memory()).expect("ours");
        assert_eq!((read.vectors, read.language), (pinned.vectors, pinned.language));
        let foreign = Schema::builder().build();
        assert_eq!(
            super::read(&foreign, &Place::memory())
                .expect_err("foreign")
                .code(),
            "foreign"
        );
    }
}
