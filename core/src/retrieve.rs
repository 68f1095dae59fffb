//! [`Document`], [`Chunk`], [`Query`], [`Filter`], [`Hit`]; [`Retriever`] and [`Reranker`].

use crate::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt::Debug, ops::Range};

/// A heading of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heading {
    /// 1 for the highest.
    pub level: u8,
    /// Its words.
    pub title: String,
    /// Bytes of the normalised text where the heading's own line stands; its section runs to the next heading of
    /// the same or a higher level.
    pub span: Range<usize>,
}

impl Heading {
    /// A heading.
    pub fn new(level: u8, title: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            level,
            title: title.into(),
            span,
        }
    }
}

/// A page of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageSpan {
    /// 1 for the first.
    pub number: u32,
    /// Bytes of the normalised text.
    pub span: Range<usize>,
}

impl PageSpan {
    /// A page.
    pub fn new(number: u32, span: Range<usize>) -> Self {
        Self { number, span }
    }
}

/// What a user brings: a normalised text with its structure. Loaders make it; a program may too.
///
/// Every span in the engine counts bytes of `text`; a citation's quote is `text[span]`, exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Document {
    /// Its id in the collection; adding another of the same id replaces it.
    pub id: String,
    /// The text, normalised: UTF-8, LF line ends.
    pub text: String,
    /// A title to show and to search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Path or address to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Such as `text/markdown`, `application/pdf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Headings in order of their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<Heading>,
    /// Pages in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageSpan>,
    /// Facts to filter by: strings, numbers, booleans, or lists of them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Document {
    /// A plain text under an id.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            title: None,
            uri: None,
            media_type: None,
            headings: Vec::new(),
            pages: Vec::new(),
            metadata: Map::new(),
        }
    }

    /// With a title.
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// With a path or address.
    pub fn with_uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// With a fact to filter by.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The titles of the headings a byte stands under, highest first.
    pub fn heading_path(&self, at: usize) -> Vec<String> {
        /// How far back a higher heading is looked for: a hostile document has millions of the lowest.
        const BACK: usize = 10_000;
        let end = self.headings.partition_point(|heading| heading.span.start <= at);
        let mut path: Vec<String> = Vec::new();
        let mut lowest = u8::MAX;
        for heading in self.headings[..end].iter().rev().take(BACK) {
            if heading.level < lowest {
                lowest = heading.level;
                path.push(heading.title.clone());
            }
            if lowest <= 1 {
                break;
            }
        }
        path.reverse();
        path
    }

    /// The page a byte stands on.
    pub fn page(&self, at: usize) -> Option<u32> {
        let end = self.pages.partition_point(|page| page.span.start <= at);
        self.pages[..end].last().map(|page| page.number)
    }

    /// A hash of all that is indexed of it: equal hashes need no new indexing.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let structure = (
            &self.title,
            &self.uri,
            &self.media_type,
            &self.headings,
            &self.pages,
            &self.metadata,
        );
        let structure = serde_json::to_vec(&structure).expect("strings, numbers and JSON serialise");
        hasher.update(&(structure.len() as u64).to_le_bytes());
        hasher.update(&structure);
        hasher.update(self.text.as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// What is searched: a span of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Chunk {
    /// Its id: the document's and the chunk's number.
    pub id: String,
    /// The document's id.
    pub document_id: String,
    /// 0 for the document's first.
    pub number: u32,
    /// The words: `document.text[span]`.
    pub text: String,
    /// Bytes of the document's normalised text.
    pub span: Range<usize>,
    /// Headings it stands under, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
    /// Page of its first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Where in the chunk a new page begins: byte of the document's text and page number. Lets a quote name its own page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub page_breaks: Vec<(usize, u32)>,
    /// Where in the chunk a new section begins: byte of the document's text and the headings from there on. Lets a quote
    /// name its own section.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heading_breaks: Vec<(usize, Vec<String>)>,
    /// The document's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The document's path or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The document's facts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Chunk {
    /// A span of a document as its chunk of this number.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the span does not lie on character bounds of the text.
    pub fn of(document: &Document, number: u32, span: Range<usize>) -> Result<Self> {
        let Some(text) = document.text.get(span.clone()) else {
            return Err(crate::Error::invalid(
                "chunk",
                format!(
                    "bytes {}..{} are no slice of document `{}`",
                    span.start, span.end, document.id
                ),
            ));
        };
        // Leading space belongs to the page before; the first word tells page and heading.
        let first = span.start + (text.len() - text.trim_start().len());
        let pages = document.pages.partition_point(|page| page.span.start <= first);
        let page_breaks = document.pages[pages..]
            .iter()
            .take_while(|page| page.span.start < span.end)
            .map(|page| (page.span.start, page.number))
            .collect();
        let headings = document
            .headings
            .partition_point(|heading| heading.span.start <= first);
        let heading_breaks = document.headings[headings..]
            .iter()
            .take_while(|heading| heading.span.start < span.end)
            .map(|heading| (heading.span.start, document.heading_path(heading.span.start)))
            .collect();
        Ok(Self {
            id: format!("{}#{number}", document.id),
            document_id: document.id.clone(),
            number,
            text: text.to_owned(),
            headings: document.heading_path(first),
            page: document.page(first),
            page_breaks,
            heading_breaks,
            title: document.title.clone(),
            uri: document.uri.clone(),
            metadata: document.metadata.clone(),
            span,
        })
    }

    /// A citation of a part of it, by bytes of the chunk's own text.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] when the range does not lie on character bounds of the text.
    pub fn cite(&self, range: Range<usize>) -> Result<Citation> {
        let Some(quote) = self.text.get(range.clone()) else {
            return Err(crate::Error::invalid(
                "citation",
                format!(
                    "bytes {}..{} are no slice of chunk `{}`",
                    range.start, range.end, self.id
                ),
            ));
        };
        let span = self.span.start + range.start..self.span.start + range.end;
        let page = self
            .page_breaks
            .iter()
            .rev()
            .find(|(at, _)| *at <= span.start)
            .map_or(self.page, |(_, page)| Some(*page));
        let section = self.heading_breaks.iter().rev().find(|(at, _)| *at <= span.start);
        let headings = section.map_or(&self.headings, |(_, headings)| headings).clone();
        Ok(Citation {
            document_id: self.document_id.clone(),
            chunk_id: self.id.clone(),
            title: self.title.clone(),
            uri: self.uri.clone(),
            span,
            page,
            headings,
            quote: quote.to_owned(),
        })
    }
}

/// A place in a document that words rest on: `quote == document.text[span]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Citation {
    /// The document.
    pub document_id: String,
    /// The chunk it was read in.
    pub chunk_id: String,
    /// The document's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The document's path or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Bytes of the document's normalised text.
    pub span: Range<usize>,
    /// Page of the quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Headings it stands under, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
    /// The exact words.
    pub quote: String,
}

impl Citation {
    /// A citation as a vendor reports it; empty fields where it tells nothing.
    pub fn new(document_id: impl Into<String>, span: Range<usize>, quote: impl Into<String>) -> Self {
        Self {
            document_id: document_id.into(),
            chunk_id: String::new(),
            title: None,
            uri: None,
            span,
            page: None,
            headings: Vec::new(),
            quote: quote.into(),
        }
    }

    /// File, then page or heading: `guide.pdf, page 3` or `runs.md, Runs › Resume`.
    pub fn place(&self) -> String {
        let name = self
            .uri
            .as_deref()
            .or(self.title.as_deref())
            .unwrap_or(&self.document_id);
        match (self.page, self.headings.is_empty()) {
            (Some(page), _) => format!("{name}, page {page}"),
            (None, false) => format!("{name}, {}", self.headings.join(" › ")),
            (None, true) => name.to_owned(),
        }
    }
}

/// A value a fact is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FilterValue {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// A moment, RFC 3339, compared as time.
    Date(String),
}

impl From<&str> for FilterValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for FilterValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for FilterValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}
impl From<f64> for FilterValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}
impl From<bool> for FilterValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Which chunks may be found: a typed tree over the facts in `metadata`. Dots in a key step into objects.
/// A fact that is a list matches when one of its values does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// The fact equals this.
    Eq {
        /// The fact.
        key: String,
        /// The value.
        value: FilterValue,
    },
    /// The fact equals one of these.
    In {
        /// The fact.
        key: String,
        /// The values.
        values: Vec<FilterValue>,
    },
    /// The fact lies between, bounds included; an open side is `None`.
    Range {
        /// The fact.
        key: String,
        /// At least.
        min: Option<FilterValue>,
        /// At most.
        max: Option<FilterValue>,
    },
    /// The fact is there.
    Exists {
        /// The fact.
        key: String,
    },
    /// The fact, a string, begins so.
    Prefix {
        /// The fact.
        key: String,
        /// How it begins.
        prefix: String,
    },
    /// Chunks of these documents.
    Documents {
        /// Their ids.
        ids: Vec<String>,
    },
    /// All of these; with none, every chunk.
    And(Vec<Filter>),
    /// At least one of these; with none, no chunk.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
}

impl Filter {
    /// The fact equals this.
    pub fn eq(key: impl Into<String>, value: impl Into<FilterValue>) -> Self {
        Self::Eq {
            key: key.into(),
            value: value.into(),
        }
    }

    /// The fact equals one of these.
    pub fn is_in(key: impl Into<String>, values: impl IntoIterator<Item = impl Into<FilterValue>>) -> Self {
        Self::In {
            key: key.into(),
            values: values.into_iter().map(Into::into).collect(),
        }
    }

    /// The fact lies between, bounds included.
    pub fn range(key: impl Into<String>, min: Option<FilterValue>, max: Option<FilterValue>) -> Self {
        Self::Range {
            key: key.into(),
            min,
            max,
        }
    }

    /// The fact is there.
    pub fn exists(key: impl Into<String>) -> Self {
        Self::Exists { key: key.into() }
    }

    /// The fact begins so.
    pub fn prefix(key: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::Prefix {
            key: key.into(),
            prefix: prefix.into(),
        }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut all) => {
                all.push(other);
                Self::And(all)
            }
            first => Self::And(vec![first, other]),
        }
    }

    /// Either.
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Or(mut any) => {
                any.push(other);
                Self::Or(any)
            }
            first => Self::Or(vec![first, other]),
        }
    }

    /// The opposite.
    pub fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// Which legs search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SearchMode {
    /// Words and meaning, fused.
    #[default]
    Hybrid,
    /// Words alone (BM25).
    Lexical,
    /// Meaning alone (vectors).
    Dense,
}

/// A question to a [`Retriever`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Query {
    /// The question; user text, never parsed as a query language.
    pub text: String,
    /// How many hits; 10.
    pub top_k: usize,
    /// Which chunks may be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Which legs search.
    #[serde(default)]
    pub mode: SearchMode,
    /// The question's vector, where it is at hand; embedded otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    /// Hits below this score are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
}

impl Query {
    /// A question for ten hits.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            top_k: 10,
            filter: None,
            mode: SearchMode::Hybrid,
            vector: None,
            min_score: None,
        }
    }

    /// For so many hits.
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Among these chunks.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// With these legs.
    pub fn mode(mut self, mode: SearchMode) -> Self {
        self.mode = mode;
        self
    }

    /// With its vector.
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = Some(vector);
        self
    }

    /// Not below this score.
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = Some(score);
        self
    }
}

impl From<&str> for Query {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// What one leg thinks of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LegScore {
    /// 1 for the leg's best; `None` where the hit is not in the leg's list.
    pub rank: Option<u32>,
    /// The leg's own score: BM25, or the cosine.
    pub raw: f32,
    /// The same on the scale that is fused.
    pub normalized: f32,
}

impl LegScore {
    /// All three.
    pub fn new(rank: Option<u32>, raw: f32, normalized: f32) -> Self {
        Self {
            rank,
            raw,
            normalized,
        }
    }
}

/// Why a hit is where it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// By words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LegScore>,
    /// By meaning; `raw` is the cosine of question and chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense: Option<LegScore>,
    /// Share of the question's distinct words (stop words left out, stemmed) that the chunk has, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_coverage: Option<f32>,
    /// What put it there last: `fused`, `lexical`, `dense`, `reranked` …
    pub stage: String,
}

/// A found chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hit {
    /// What was found.
    pub chunk: Chunk,
    /// Higher is better; comparable within one answer.
    pub score: f32,
    /// Why.
    #[serde(default)]
    pub explanation: Explanation,
}

impl Hit {
    /// A hit.
    pub fn new(chunk: Chunk, score: f32, explanation: Explanation) -> Self {
        Self {
            chunk,
            score,
            explanation,
        }
    }
}

/// One question, the best hits first. Fusion, filters and reranking compose around it, and each is again one.
#[async_trait]
pub trait Retriever: Send + Sync + Debug {
    /// The best hits, best first: `min(top_k, matches)` of them.
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>>;
}

/// Puts hits in a better order.
#[async_trait]
pub trait Reranker: Send + Sync + Debug {
    /// The best `top_k` of the hits for this question, best first, with new scores.
    async fn rerank(&self, query: &str, hits: Vec<Hit>, top_k: usize) -> Result<Vec<Hit>>;
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Document, Heading, PageSpan};

    fn guide() -> Document {
        let mut document = Document::new(
            "guide.md",
            "# Runs\nAll about runs.\n## Resume\nIt goes on. Page two here.",
        );
        document.headings = vec![Heading::new(1, "Runs", 0..6), Heading::new(2, "Resume", 23..32)];
        document.pages = vec![PageSpan::new(1, 0..44), PageSpan::new(2, 44..58)];
        document
    }

    #[test]
    fn a_quote_is_the_documents_own_bytes_under_its_page_and_headings() {
        let document = guide();
        let chunk = Chunk::of(&document, 1, 33..document.text.len()).expect("on bounds");
        assert_eq!(
            (chunk.headings.join(" › ").as_str(), chunk.page),
            ("Runs › Resume", Some(1))
        );
        let citation = chunk.cite(12..21).expect("on bounds");
        assert_eq!(citation.quote, document.text[citation.span.clone()]);
        assert_eq!(
            (citation.page, citation.place().as_str()),
            (Some(2), "guide.md, page 2")
        );
        assert!(chunk.cite(0..999).is_err());
    }

    #[test]
    fn a_quote_after_a_heading_inside_the_chunk_names_that_heading() {
        let document = guide();
        let chunk = Chunk::of(&document, 0, 0..document.text.len()).expect("on bounds");
        assert_eq!(chunk.headings, ["Runs"]);
        assert_eq!(chunk.cite(7..22).expect("on bounds").headings, ["Runs"]);
        assert_eq!(
            chunk.cite(33..44).expect("on bounds").headings,
            ["Runs", "Resume"]
        );
    }

    #[test]
    fn the_content_hash_tells_any_change_of_text_or_facts() {
        let one = guide();
        assert_eq!(one.content_hash(), guide().content_hash());
        assert_ne!(
            one.content_hash(),
            guide().with_metadata("year", 2024).content_hash()
        );
        let mut moved = guide();
        moved.pages.pop();
        assert_ne!(one.content_hash(), moved.content_hash());
    }
}
