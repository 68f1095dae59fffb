//! Teaches: judging a collection. Reads a folder of documents, questions and judgements (as the BEIR sets lay them out), asks
//! every question by words, by meaning and by both, and prints how good the answers are and whether both are better.
//!
//!   cargo run --release --example eval -- ../shared/fixtures/ir/cranfield
//!
//! Without a folder it judges three documents of its own.

use std::sync::Arc;
use stepwell::prelude::*;
use stepwell::rag::eval::{JudgedQuestion, JudgedSet, evaluate_legs, fit_fusion};

#[tokio::main]
async fn main() -> Result<()> {
    let (judged, documents) = match std::env::args().nth(1) {
        Some(folder) => {
            let judged = JudgedSet::read(folder)?;
            let documents = judged.documents()?;
            (judged, documents)
        }
        None => small(),
    };
    let collection = Collection::in_memory()
        .embedder(Arc::new(MiniLm::new()?))
        .build()
        .await?;
    let report = collection.add(documents).await?;
    println!(
        "{} documents, {} chunks, {} questions",
        report.progress.documents_added,
        report.progress.chunks,
        judged.questions.len()
    );
    print!("{}", evaluate_legs(&collection, &judged).await?);
    match fit_fusion(&collection, &judged).await {
        Ok(fitted) if fitted.is_better => println!(
            "A weight of {} is better on held-out questions: {:.4} for {:.4}. Set .fusion({:?}).",
            fitted.weight, fitted.held_out, fitted.own, fitted.fusion
        ),
        Ok(fitted) => println!(
            "The default weight stays: learned ones give {:.4} on held-out questions, it gives {:.4}.",
            fitted.held_out, fitted.own
        ),
        Err(error) => println!("No weight was learned: {error}."),
    }
    Ok(())
}

/// Three documents, and two questions with the one that answers each.
fn small() -> (JudgedSet, Vec<Document>) {
    let documents = vec![
        Document::new("cathodes", "Sodium cathodes swell in summer heat."),
        Document::new("wells", "A step well stores the water of the rains."),
        Document::new("ledgers", "A ledger is a book of accounts."),
    ];
    let questions = vec![
        JudgedQuestion::new("1", "Where is rain kept?", [("wells", 1.0)]),
        JudgedQuestion::new("2", "What expands when it is hot?", [("cathodes", 1.0)]),
    ];
    (JudgedSet::new(questions), documents)
}
