//! [`Extractive`]: a model without a key, a network or a hallucination. It asks the search tool, then answers with the
//! best sentences of what was found, each with its citation, or says that the documents do not tell. Hits that stand
//! beside the question, in a data part named `hits`, it reads at once.
//!
//! It does not reason, compare or compute. Every word of its answer stands in a document.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde_json::json;
use std::{collections::HashSet, ops::Range, sync::Arc};
use stepwell_core::{
    ChatModel, ChatRequest, ChatResponse, ChatStream, EmbedKind, Embedder, Error, FinishReason, Hit, Message,
    ModelInfo, NOT_FOUND, Origin, Part, Result, Role, ToolChoice, Usage, whole,
    words::{sentences, stems},
};

/// Hits it reads sentences from.
const HITS: usize = 8;
/// Sentences it weighs at most.
const SENTENCES: usize = 96;
/// Sentences it answers with at most.
const ANSWER: usize = 3;

/// A chat model that answers with sentences of the documents.
#[derive(Clone, Debug)]
pub struct Extractive {
    info: ModelInfo,
    embedder: Option<Arc<dyn Embedder>>,
}

impl Default for Extractive {
    fn default() -> Self {
        Self::new()
    }
}

/// A sentence of a hit, weighed.
struct Candidate {
    hit: usize,
    range: Range<usize>,
    words: HashSet<String>,
    cosine: Option<f32>,
    coverage: f32,
    score: f32,
}

impl Extractive {
    /// Weighs sentences by the words they share with the question.
    pub fn new() -> Self {
        let mut info = ModelInfo::new("extractive", "sentences");
        info.abilities.tools = Some(true);
        Self { info, embedder: None }
    }

    /// Weighs them by meaning as well: much better.
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    async fn answer(&self, request: &ChatRequest) -> Result<ChatResponse> {
        let Some(asked) = request
            .messages
            .iter()
            .rposition(|message| message.role == Role::User)
        else {
            return Err(Error::invalid(
                "messages",
                "there is no question: add a user message",
            ));
        };
        let question = question(&request.messages[asked]);
        if question.trim().is_empty() {
            return Err(Error::invalid("question", "it is empty; ask something"));
        }
        let after = &request.messages[asked + 1..];
        let given = hits(&request.messages[asked..=asked]);
        let hits = match given {
            Some(hits) => hits,
            None if after.iter().any(|message| message.role == Role::Tool) => hits(after).unwrap_or_default(),
            None => return self.search(request, &question),
        };
        let mut response = ChatResponse::new("extractive", "sentences", Vec::new(), FinishReason::Stop);
        response.message.parts = match self.best(&question, &hits).await? {
            sentences if sentences.is_empty() => vec![Part::text(NOT_FOUND, Origin::Model)].into(),
            sentences => sentences
                .into_iter()
                .enumerate()
                .map(|(number, sentence)| quoted(&hits[sentence.hit], sentence.range, number > 0))
                .collect::<Result<_>>()?,
        };
        Ok(response)
    }

    /// The first turn: every tool that takes a `query` is asked the question.
    fn search(&self, request: &ChatRequest, question: &str) -> Result<ChatResponse> {
        let calls: Vec<Part> = request
            .tools
            .iter()
            .filter(|tool| match &request.tool_choice {
                ToolChoice::None => false,
                ToolChoice::Named(name) => *name == tool.name,
                _ => true,
            })
            .filter(|tool| tool.parameters["properties"]["query"].is_object())
            .enumerate()
            .map(|(number, tool)| {
                Part::tool_call(
                    format!("search_{}", number + 1),
                    &tool.name,
                    json!({ "query": question }),
                )
            })
            .collect();
        if calls.is_empty() {
            return Err(Error::Unsupported {
                who: "the extractive model".into(),
                what: "a question without a search tool".into(),
                hint: "give the agent a retriever tool, or use another model".into(),
            });
        }
        Ok(ChatResponse::new(
            "extractive",
            &self.info.model,
            calls,
            FinishReason::ToolCalls,
        ))
    }

    /// The sentences to answer with, best first; none where the documents do not tell.
    async fn best(&self, question: &str, hits: &[Hit]) -> Result<Vec<Candidate>> {
        let wanted = stems(question);
        let mut candidates: Vec<Candidate> = Vec::new();
        for (at, hit) in hits.iter().enumerate() {
            for range in sentences(&hit.chunk.text) {
                let words = stems(&hit.chunk.text[range.clone()]);
                // Chunks overlap: the same sentence is weighed once.
                if candidates.len() < SENTENCES
                    && !candidates.iter().any(|known| same(hits, known, at, &range))
                {
                    let coverage = share(&wanted, &words);
                    candidates.push(Candidate {
                        hit: at,
                        range,
                        words,
                        cosine: None,
                        coverage,
                        score: 0.0,
                    });
                }
            }
        }
        if candidates.is_empty() {
            return Ok(candidates);
        }
        if let Some(embedder) = &self.embedder {
            let texts: Vec<&str> = candidates
                .iter()
                .map(|candidate| &hits[candidate.hit].chunk.text[candidate.range.clone()])
                .collect();
            let query = embedder.embed(&[question], EmbedKind::Query).await?;
            let rows = embedder.embed(&texts, EmbedKind::Document).await?;
            let query: Vec<f32> = query.values;
            let cosines: Vec<f32> = rows.rows().map(|row| cosine(&query, row)).collect();
            for (candidate, cosine) in candidates.iter_mut().zip(cosines) {
                candidate.cosine = Some(cosine);
            }
        }
        for candidate in &mut candidates {
            // The hit's place breaks near ties: what the whole passage is about counts a little.
            #[allow(clippy::cast_precision_loss)] // at most 8
            let place = 0.06 / (1.0 + candidate.hit as f32);
            candidate.score = match candidate.cosine {
                Some(cosine) => 0.75 * cosine + 0.25 * candidate.coverage + place,
                None => candidate.coverage + place,
            };
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        if !is_answered(&candidates[0], hits) {
            return Ok(Vec::new());
        }
        let floor = candidates[0].score * 0.8;
        let mut chosen: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            if chosen.len() == ANSWER || candidate.score < floor {
                break;
            }
            let is_repeat = chosen
                .iter()
                .any(|known| overlap(&known.words, &candidate.words) > 0.7);
            if !is_repeat && (chosen.is_empty() || is_answered(&candidate, hits)) {
                chosen.push(candidate);
            }
        }
        Ok(chosen)
    }
}

/// Whether a sentence answers at all. The bounds were chosen by hand and then held against questions that the documents answer
/// and questions of another subject (`benches/not_found.rs`).
fn is_answered(best: &Candidate, hits: &[Hit]) -> bool {
    let passage = hits[best.hit]
        .explanation
        .term_coverage
        .unwrap_or(best.coverage)
        .max(best.coverage);
    match best.cosine {
        Some(cosine) => {
            cosine >= 0.5 || (cosine >= 0.38 && passage >= 0.3) || (cosine >= 0.28 && passage >= 0.6)
        }
        None => best.coverage >= 0.5,
    }
}

fn same(hits: &[Hit], known: &Candidate, hit: usize, range: &Range<usize>) -> bool {
    let (one, two) = (&hits[known.hit].chunk, &hits[hit].chunk);
    one.document_id == two.document_id
        && one.span.start + known.range.start < two.span.start + range.end
        && two.span.start + range.start < one.span.start + known.range.end
}

fn quoted(hit: &Hit, range: Range<usize>, is_after_another: bool) -> Result<Part> {
    let citation = hit.chunk.cite(range)?;
    let words: Vec<&str> = citation.quote.split_whitespace().collect();
    let mut text = words.join(" ");
    if is_after_another {
        text.insert(0, ' ');
    }
    let mut part = Part::text(text, Origin::Model);
    if let Part::Text(text) = &mut part {
        text.citations.push(citation);
    }
    Ok(part)
}

/// What the person asks; passages that stand before the question are not part of it.
fn question(message: &Message) -> String {
    let own: String = message
        .parts
        .iter()
        .filter(|part| part.origin() != Origin::Document)
        .filter_map(Part::as_text)
        .collect();
    if own.trim().is_empty() {
        message.text()
    } else {
        own
    }
}

/// The hits that stand beside a question or that search tools brought after it, best of each list first; `None` where
/// there is no list.
fn hits(messages: &[Message]) -> Option<Vec<Hit>> {
    let mut lists: Vec<Vec<Hit>> = Vec::new();
    let given = messages.iter().flat_map(|message| &message.parts);
    for part in given.flat_map(|part| match part {
        Part::ToolResult(result) => result.parts.as_slice(),
        part => std::slice::from_ref(part),
    }) {
        if let Part::Data(data) = part
            && data.name == "hits"
            && let Ok(hits) = serde_json::from_value::<Vec<Hit>>(data.value.clone())
        {
            lists.push(hits);
        }
    }
    if lists.is_empty() {
        return None;
    }
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let mut all = Vec::new();
    for place in 0..longest {
        all.extend(lists.iter().filter_map(|list| list.get(place)).cloned());
    }
    all.truncate(HITS);
    Some(all)
}

/// Share of the wanted words that are there.
#[allow(clippy::cast_precision_loss)] // a few dozen words
fn share(wanted: &HashSet<String>, words: &HashSet<String>) -> f32 {
    if wanted.is_empty() {
        0.0
    } else {
        wanted.intersection(words).count() as f32 / wanted.len() as f32
    }
}

/// Shared words over all words of both.
#[allow(clippy::cast_precision_loss)] // a few dozen words
fn overlap(one: &HashSet<String>, two: &HashSet<String>) -> f32 {
    let all = one.union(two).count();
    if all == 0 {
        0.0
    } else {
        one.intersection(two).count() as f32 / all as f32
    }
}

fn cosine(one: &[f32], two: &[f32]) -> f32 {
    let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(two) {
        dot += x * y;
        a += x * x;
        b += y * y;
    }
    if a > 0.0 && b > 0.0 {
        dot / (a.sqrt() * b.sqrt())
    } else {
        0.0
    }
}

#[async_trait]
impl ChatModel for Extractive {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream> {
        let mut response = self.answer(&request).await?;
        let mut usage = Usage::default();
        usage.is_estimated = true; // no tokens are bought here
        response.usage = usage;
        Ok(stream::iter(whole(response)).map(Ok).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::Extractive;
    use serde_json::json;
    use stepwell_core::{
        ChatModel, ChatRequest, Chunk, Document, Explanation, FinishReason, Hit, Message, NOT_FOUND, Origin,
        Part, Role, Schema, ToolCall, ToolSpec,
    };

    fn search_tool() -> ToolSpec {
        let schema =
            Schema::from_value(json!({ "type": "object", "properties": { "query": { "type": "string" } } }))
                .expect("fine");
        ToolSpec::new("search", "Searches.", &schema).expect("fine")
    }

    fn hit(id: &str, text: &str) -> Hit {
        let document = Document::new(id, text);
        Hit::new(
            Chunk::of(&document, 0, 0..text.len()).expect("whole"),
            1.0,
            Explanation::default(),
        )
    }

    async fn ask(question: &str, hits: &[Hit]) -> stepwell_core::ChatResponse {
        let first = Extractive::new()
            .chat(ChatRequest::new([Message::user(question)]).tool(search_tool()))
            .await
            .expect("searches");
        assert_eq!(first.finish_reason, FinishReason::ToolCalls);
        let call: ToolCall = first.message.tool_calls().next().expect("one call").clone();
        assert_eq!(call.arguments, json!({ "query": question }));
        let data = Part::data(
            "hits",
            serde_json::to_value(hits).expect("serialises"),
            Origin::Document,
        );
        let result = Part::tool_result(&call, vec![data], false, Origin::Document);
        let history = [
            Message::user(question),
            first.message,
            Message::new(Role::Tool, vec![result]),
        ];
        Extractive::new()
            .chat(ChatRequest::new(history).tool(search_tool()))
            .await
            .expect("answers")
    }

    #[tokio::test]
    async fn it_searches_first_and_then_answers_in_the_documents_own_words() {
        let text = "# Journal\n\nA journal only grows and is\nnever rewritten. After a crash the run reads its journal and goes on. Lunch is at noon every day.";
        let answer = ask("What happens to a run after a crash?", &[hit("runs.md", text)]).await;
        assert_eq!(
            answer.text(),
            "After a crash the run reads its journal and goes on."
        );
        let citation = answer.message.citations().next().expect("cited");
        assert_eq!(citation.quote, text[citation.span.clone()]);
    }

    #[tokio::test]
    async fn it_says_so_when_the_documents_do_not_tell() {
        let answer = ask(
            "Who won the world cup in 1966?",
            &[hit("runs.md", "A journal only grows and is never rewritten.")],
        )
        .await;
        assert_eq!(answer.text(), NOT_FOUND);
        assert_eq!(ask("Who won?", &[]).await.text(), NOT_FOUND);
    }

    #[tokio::test]
    async fn without_a_search_tool_it_refuses_instead_of_inventing() {
        let error = Extractive::new()
            .chat(ChatRequest::from("What is a run?"))
            .await
            .expect_err("no tool");
        assert_eq!(error.code(), "unsupported");
    }

    #[tokio::test]
    async fn hits_beside_the_question_are_read_without_a_search() {
        let hits = [hit(
            "runs.md",
            "After a crash the run reads its journal and goes on.",
        )];
        let message = Message::new(
            Role::User,
            vec![
                Part::text("Passages: cats sleep most of the day.", Origin::Document),
                Part::data(
                    "hits",
                    serde_json::to_value(&hits).expect("serialises"),
                    Origin::Document,
                ),
                Part::text("What happens to a run after a crash?", Origin::User),
            ],
        );
        let answer = Extractive::new()
            .chat(ChatRequest::new([message]))
            .await
            .expect("answers");
        assert_eq!(
            answer.text(),
            "After a crash the run reads its journal and goes on."
        );
    }
}
