//! Lesson 12: an answer from documents, each sentence with the exact words it rests on, and a check of it.
//!
//! Everything runs offline: the model quotes, the embedder is in process. With `stepwell::model("vendor/name")` in its place
//! the rest stays as it is.

use futures::StreamExt;
use std::sync::Arc;
use stepwell::{
    prelude::*,
    providers::{Extractive, Scripted},
    rag::{
        Language,
        answer::{AnswerEvent, CheckOptions, Keyphrases, Verdict, answer, check_claim, summarise},
    },
};

#[tokio::main]
async fn main() -> Result<()> {
    let embedder = Arc::new(MiniLm::new()?);
    let kettle = Document::new(
        "kettle.md",
        "Descale the kettle once a month with citric acid. Keep its lid shut while it boils. The kettle holds 1.7 litres of \
         water and switches off by itself.",
    );
    let oven = Document::new(
        "oven.md",
        "The oven beeps twice when it is hot. It weighs forty kilograms without its trays.",
    );
    let collection = Collection::in_memory().embedder(embedder.clone()).build().await?;
    collection.add([kettle.clone(), oven]).await?;
    let house = Arc::new(collection);
    let model = Arc::new(Extractive::new().embedder(embedder.clone()));

    let answered = answer(
        "How often should I descale the kettle?",
        house.clone(),
        model.clone(),
    )
    .await?;
    println!("{}", answered.marked_text());
    for (number, citation) in (1..).zip(&answered.citations) {
        println!(
            "  [{number}] {}, bytes {:?}: {:?}",
            citation.place(),
            citation.span,
            citation.quote
        );
        assert_eq!(citation.quote, kettle.text[citation.span.clone()]);
    }

    // What the documents do not tell is an outcome, not an error and not an invention.
    let none = answer("Who won the world cup in 1966?", house.clone(), model.clone()).await?;
    println!("{:?}: {}", none.outcome, none.text);

    // Each sentence is held against the words it cites; numbers, names and denials strictly.
    let report = answered.check().embedder(embedder.clone()).await?;
    println!("supported: {}", report.is_supported());
    let source = answered.citations[0].quote.as_str();
    let altered = check_claim(
        "Descale the kettle 2 times a month.",
        &[source],
        None,
        &CheckOptions::default(),
    );
    assert_eq!(altered.verdict, Verdict::Unsupported);
    println!("altered: {:?}", altered.doubts);

    // The same as it comes.
    let mut events = answer(
        "How many kilograms does the oven weigh?",
        house.clone(),
        model.clone(),
    )
    .stream();
    while let Some(event) = events.next().await {
        match event? {
            AnswerEvent::TextDelta(text) => print!("{text}"),
            AnswerEvent::Citation { citation, .. } => print!(" ({})", citation.place()),
            AnswerEvent::Finish(_) => println!(),
            _ => {}
        }
    }

    // A title of a text, offline as well. A summary takes a model that writes; a script stands in for it here.
    println!(
        "title: {}",
        Keyphrases::new(Language::English)
            .title(&kettle.text, 6)
            .unwrap_or_default()
    );
    let script =
        Arc::new(Scripted::new().say("The kettle is descaled monthly [1] and holds 1.7 litres [1]."));
    let summary = summarise([kettle], script).await?;
    println!("summary: {}", summary.marked_text());
    Ok(())
}
