//! [`Extras`]: citations, annotations and executed tools of an answer, whatever chunk brings them.

use super::wire;
use serde_json::{Value, value::RawValue};
use stepwell_core::Citation;

/// Most citations, annotations and executed tools that are kept of an answer.
const MOST_EXTRAS: usize = 512;

/// What belongs to the answer as a whole and may come in any chunk.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Replaced by a later chunk.
    pub(super) citations: Vec<Citation>,
    /// Added to by later chunks.
    pub(super) annotations: Vec<Citation>,
    /// Tools that the vendor ran: a later one of the same index replaces it.
    pub(super) executed: Vec<Value>,
}

impl Extras {
    /// What the answer rests on, as Perplexity tells it with every chunk.
    pub(super) fn read(&mut self, citations: Option<&RawValue>, results: Option<&RawValue>) {
        let results: Option<Vec<wire::SearchResult>> =
            results.and_then(|raw| serde_json::from_str(raw.get()).ok());
        if let Some(results) = results.filter(|results| !results.is_empty()) {
            self.citations = results
                .into_iter()
                .take(MOST_EXTRAS)
                .map(|result| web_place(result.url, result.title, result.snippet))
                .collect();
        } else if self.citations.is_empty() {
            let addresses: Option<Vec<String>> =
                citations.and_then(|raw| serde_json::from_str(raw.get()).ok());
            let places = addresses.into_iter().flatten().take(MOST_EXTRAS);
            self.citations = places.map(|url| web_place(Some(url), None, None)).collect();
        }
    }

    pub(super) fn annotate(&mut self, raw: &RawValue) {
        let annotations: Option<Vec<wire::Annotation>> = serde_json::from_str(raw.get()).ok();
        for annotation in annotations.into_iter().flatten() {
            if let Some(place) = annotation.url_citation
                && self.annotations.len() < MOST_EXTRAS
            {
                self.annotations
                    .push(web_place(place.url, place.title, place.content));
            }
        }
    }

    pub(super) fn execute(&mut self, raw: &RawValue) {
        let tools: Option<Vec<Value>> = serde_json::from_str(raw.get()).ok();
        for tool in tools.into_iter().flatten() {
            let is_same = |known: &Value| known["index"].is_number() && known["index"] == tool["index"];
            match self.executed.iter().position(is_same) {
                Some(at) => self.executed[at] = tool,
                None if self.executed.len() < MOST_EXTRAS => self.executed.push(tool),
                None => {}
            }
        }
    }

    pub(super) fn take_citations(&mut self) -> impl Iterator<Item = Citation> + use<> {
        let annotations = std::mem::take(&mut self.annotations).into_iter();
        annotations.chain(std::mem::take(&mut self.citations))
    }
}

fn web_place(url: Option<String>, title: Option<String>, words: Option<String>) -> Citation {
    let mut citation = Citation::new(url.clone().unwrap_or_default(), 0..0, words.unwrap_or_default());
    citation.uri = url;
    citation.title = title;
    citation
}
