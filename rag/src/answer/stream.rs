//! [`AnswerStream`]: an answer as it comes.

use super::{
    Answer, AnswerOutcome, AnswerRequest, Passage,
    cited::{Cited, Told},
    pack::pack,
    rewrite::rewrite_within,
    spend::Spending,
};
use futures::{StreamExt, stream, stream::BoxStream};
use std::collections::{HashMap, VecDeque};
use stepwell_core::{
    ChatStream, Citation, Cost, Error, FinishReason, Fold, Hit, NOT_FOUND, Result, StreamEvent, Usage,
    Warning,
};

/// Longest answer, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// An answer as it comes. Dropping it cancels the call.
pub type AnswerStream = BoxStream<'static, Result<AnswerEvent>>;

/// One step of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnswerEvent {
    /// What the model reads.
    Passages(Vec<Passage>),
    /// More of the text, without marks.
    TextDelta(String),
    /// What the words before this byte of the text rest on.
    Citation {
        /// The place in the document.
        citation: Box<Citation>,
        /// Where in the text the words end.
        at: usize,
    },
    /// Something that was not done as asked, or is not as it should be.
    Warning(Warning),
    /// The whole answer. Exactly one, and the last.
    Finish(Box<Answer>),
}

enum Phase {
    Start(Box<AnswerRequest>),
    Model(Box<Model>),
    Done,
}

/// An answer that is being written.
struct Model {
    stream: ChatStream,
    spending: Spending,
    fold: Fold,
    cited: Cited,
    /// Citations of each text part that is open, held until its token has come.
    own: HashMap<u32, Vec<Citation>>,
    bytes: usize,
    answer: Answer,
}

pub(super) fn start(request: AnswerRequest) -> AnswerStream {
    let begin = (Phase::Start(Box::new(request)), VecDeque::new());
    stream::unfold(begin, |(mut phase, mut queue)| async move {
        loop {
            if let Some(event) = queue.pop_front() {
                return Some((Ok(event), (phase, queue)));
            }
            let next = match phase {
                Phase::Start(request) => begin_answer(*request, &mut queue).await,
                Phase::Model(model) => go_on(model, &mut queue).await,
                Phase::Done => return None,
            };
            match next {
                Ok(next) => phase = next,
                Err(error) => return Some((Err(error), (Phase::Done, queue))),
            }
        }
    })
    .boxed()
}

/// Rewrites, searches, packs, asks.
async fn begin_answer(request: AnswerRequest, queue: &mut VecDeque<AnswerEvent>) -> Result<Phase> {
    request.check()?;
    let mut answer = Answer {
        question: request.question.clone(),
        rewritten: None,
        outcome: AnswerOutcome::NothingFound,
        text: NOT_FOUND.to_owned(),
        claims: Vec::new(),
        citations: Vec::new(),
        passages: Vec::new(),
        hits: Vec::new(),
        usage: Usage::default(),
        cost: None,
        model: request.model.info().name(),
        finish_reason: FinishReason::Stop,
        warnings: Vec::new(),
    };
    let mut question = request.question.clone();
    if !request.history.is_empty() {
        let model = request.model.as_ref();
        let rewritten = rewrite_within(model, &request.history, &question, &request.budget).await;
        answer.usage.add(&rewritten.usage);
        answer.cost = sum(answer.cost, rewritten.cost);
        for warning in rewritten.warnings {
            tell(&mut answer, warning, queue);
        }
        if rewritten.question != question {
            answer.rewritten = Some(rewritten.question.clone());
            question = rewritten.question;
        }
    }
    let mut query = request.query.clone();
    query.text.clone_from(&question);
    let hits = request.retriever.retrieve(&query).await?;
    if hits.is_empty() {
        queue.push_back(AnswerEvent::Passages(Vec::new()));
        queue.push_back(AnswerEvent::Finish(Box::new(answer)));
        return Ok(Phase::Done);
    }
    let packed = pack(&hits, &request.pack);
    if packed.passages.is_empty() {
        return Err(Error::invalid(
            "max_tokens",
            format!(
                "not one passage fits in {} tokens; raise it",
                request.pack.max_tokens
            ),
        ));
    }
    answer.hits = used(hits, &packed.passages);
    answer.passages = packed.passages;
    queue.push_back(AnswerEvent::Passages(answer.passages.clone()));

    let mut chat = request.request(&question, &answer.passages);
    let info = request.model.info();
    let spending = Spending::open(request.model.as_ref(), &request.budget, &mut chat)?;
    let stream = match request.model.stream(chat).await {
        Ok(stream) => stream,
        Err(error) => {
            spending.failed(&error);
            return Err(error);
        }
    };
    Ok(Phase::Model(Box::new(Model {
        stream,
        spending,
        fold: Fold::new(&info.provider, &info.model, false),
        cited: Cited::default(),
        own: HashMap::new(),
        bytes: 0,
        answer,
    })))
}

/// Takes one event of the model in.
async fn go_on(mut model: Box<Model>, queue: &mut VecDeque<AnswerEvent>) -> Result<Phase> {
    let event = match model.stream.next().await {
        Some(Ok(event)) => event,
        Some(Err(error)) => {
            model.spending.failed(&error);
            return Err(error);
        }
        None => {
            finish(*model, queue)?;
            return Ok(Phase::Done);
        }
    };
    let passages = &model.answer.passages;
    let told = match &event {
        StreamEvent::TextDelta { text, .. } => {
            model.bytes += text.len();
            if model.bytes > ANSWER_BYTES {
                return Err(Error::LimitExceeded {
                    what: format!("the answer of {}", model.answer.model),
                    limit: format!("{ANSWER_BYTES} bytes"),
                });
            }
            model.cited.words(text, passages)
        }
        StreamEvent::Citation { index, citation } => {
            model.own.entry(*index).or_default().push((**citation).clone());
            Vec::new()
        }
        StreamEvent::TextEnd { index, opaque } => {
            let own = model.own.remove(index).unwrap_or_default();
            model
                .cited
                .own(own, opaque.as_ref().map(|token| &token.value), passages)
        }
        _ => Vec::new(),
    };
    model.fold.push(event)?;
    pass_on(told, &mut model.answer, queue);
    Ok(Phase::Model(model))
}

fn finish(model: Model, queue: &mut VecDeque<AnswerEvent>) -> Result<()> {
    let Model {
        spending,
        fold,
        mut cited,
        own,
        mut answer,
        ..
    } = model;
    let response = match fold.finish() {
        Ok(response) => response,
        Err(error) => {
            spending.failed(&error);
            return Err(error);
        }
    };
    spending.settle(&response.usage, response.cost);
    // A model that never closed its part has cited all the same.
    let mut told: Vec<Told> = own
        .into_values()
        .flat_map(|own| cited.own(own, None, &answer.passages))
        .collect();
    told.extend(cited.finish(&answer.passages));
    pass_on(told, &mut answer, queue);
    answer.usage.add(&response.usage);
    answer.cost = sum(answer.cost, response.cost);
    answer.finish_reason = response.finish_reason;
    answer.warnings.extend(response.warnings);
    answer.claims = cited.claims();
    answer.citations = cited.citations;
    answer.text = cited.text;
    answer.outcome = if response.refusal.is_some() || response.finish_reason == FinishReason::ContentFilter {
        AnswerOutcome::Refused
    } else if answer.text.is_empty() || says_not_found(&answer.text) {
        AnswerOutcome::NotTold
    } else {
        AnswerOutcome::Answered
    };
    if answer.outcome == AnswerOutcome::NotTold {
        NOT_FOUND.clone_into(&mut answer.text);
        answer.claims.clear();
        answer.citations.clear();
    }
    queue.push_back(AnswerEvent::Finish(Box::new(answer)));
    Ok(())
}

fn pass_on(told: Vec<Told>, answer: &mut Answer, queue: &mut VecDeque<AnswerEvent>) {
    for told in told {
        match told {
            Told::Text(text) => queue.push_back(AnswerEvent::TextDelta(text)),
            Told::Citation(citation, at) => queue.push_back(AnswerEvent::Citation { citation, at }),
            Told::Warning(warning) => tell(answer, warning, queue),
        }
    }
}

fn tell(answer: &mut Answer, warning: Warning, queue: &mut VecDeque<AnswerEvent>) {
    if !answer.warnings.contains(&warning) {
        answer.warnings.push(warning.clone());
        queue.push_back(AnswerEvent::Warning(warning));
    }
}

/// The hits of which something is read.
fn used(hits: Vec<Hit>, passages: &[Passage]) -> Vec<Hit> {
    let mut chunks = passages.iter().flat_map(|passage| &passage.chunks);
    let ids: Vec<&String> = chunks.by_ref().map(|(id, _)| id).collect();
    hits.into_iter()
        .filter(|hit| ids.contains(&&hit.chunk.id))
        .collect()
}

pub(super) fn sum(one: Option<Cost>, two: Option<Cost>) -> Option<Cost> {
    match (one, two) {
        (Some(mut one), Some(two)) => {
            one.micro_usd = one.micro_usd.saturating_add(two.micro_usd);
            Some(one)
        }
        (one, two) => one.or(two),
    }
}

/// Whether a model said that the documents do not tell.
fn says_not_found(text: &str) -> bool {
    let text = text.trim().trim_matches(['.', '"', '\'', '*', '`', '!']).trim();
    text.eq_ignore_ascii_case(NOT_FOUND)
}
