//! Does the offline model answer what the documents tell, and say so where they do not?
//!
//! Own questions: those of a judged collection, asked of it. Foreign questions: those of the other collection, which is about
//! another science. The bounds in `providers/src/extractive` are held against this; there is no peer that answers offline.

mod collections;

use collections::Judged;
use std::sync::Arc;
use stepwell::{
    ChatModel, ChatRequest, Message, Origin, Part, Query, Role, ToolCall,
    providers::{Extractive, MiniLm, NOT_FOUND},
    rag::Collection,
};

/// Questions asked of each kind.
const QUESTIONS: usize = 150;

async fn is_answered(model: &Extractive, collection: &Collection, question: &str) -> stepwell::Result<bool> {
    let hits = collection.search(&Query::new(question).top_k(8)).await?;
    let call = ToolCall::new("search_1", "search", serde_json::json!({ "query": question }));
    let data = Part::data(
        "hits",
        serde_json::to_value(hits).expect("hits serialise"),
        Origin::Document,
    );
    let result = Part::tool_result(&call, vec![data], false, Origin::Document);
    let history = [
        Message::user(question),
        Message::new(Role::Assistant, vec![Part::ToolCall(call)]),
        Message::new(Role::Tool, vec![result]),
    ];
    Ok(model.chat(ChatRequest::new(history)).await?.text() != NOT_FOUND)
}

#[tokio::main]
async fn main() -> stepwell::Result<()> {
    let (Some(scifact), Some(cranfield)) = (Judged::read("scifact"), Judged::read("cranfield")) else {
        println!("skipped: 4 (the judged collections are not among the fixtures)");
        return Ok(());
    };
    let embedder = Arc::new(MiniLm::new()?);
    let model = Extractive::new().embedder(embedder.clone());
    for (name, own, foreign) in [
        ("cranfield", &cranfield, &scifact),
        ("scifact", &scifact, &cranfield),
    ] {
        let collection = Collection::in_memory().embedder(embedder.clone()).build().await?;
        // A part of the documents is enough: every question has its relevant ones among them.
        let wanted: std::collections::HashSet<&String> = own
            .questions
            .iter()
            .take(QUESTIONS)
            .filter_map(|(id, _)| own.gains.get(id))
            .flat_map(|gains| gains.keys())
            .collect();
        let documents = own
            .documents
            .iter()
            .enumerate()
            .filter(|(place, document)| *place < 400 || wanted.contains(&document.id));
        collection
            .add(
                documents
                    .map(|(_, document)| document.clone())
                    .collect::<Vec<_>>(),
            )
            .await?;
        for (kind, questions, bar) in [
            ("own", &own.questions, ">=0.85"),
            ("foreign", &foreign.questions, "<=0.1"),
        ] {
            let mut answered = 0;
            for (_, words) in questions.iter().take(QUESTIONS) {
                answered += u32::from(is_answered(&model, &collection, words).await?);
            }
            let asked = questions.len().min(QUESTIONS);
            println!(
                "claim {name}_{kind}_answered value={:.3} unit=share must={bar}",
                f64::from(answered) / asked as f64
            );
        }
    }
    Ok(())
}
