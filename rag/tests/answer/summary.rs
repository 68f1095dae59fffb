//! `summarise()`: parts, putting together, kept citations, budget, resume, cancel.

use crate::model::{Kept, Player};
use futures::FutureExt;
use std::{
    collections::HashMap,
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use stepwell_core::{Budget, BudgetLimits, ChatRequest, Document, Error, Origin, Part, Result, Scope};
use stepwell_rag::answer::{Summary, SummaryRequest, SummaryStop, summarise};

/// Documents whose sentences each name a number of their own.
fn documents() -> Vec<Document> {
    (0..3)
        .map(|at| {
            let sentences: Vec<String> = (0..90)
                .map(|n| {
                    format!(
                        "The éclair number {} of shop {at} was sold on a rainy day in Oslo.",
                        at * 1_000 + n
                    )
                })
                .collect();
            Document::new(format!("shop-{at}.md"), sentences.join(" ")).with_title(format!("Shop {at}"))
        })
        .collect()
}

/// Takes the first sentence of each of the first two passages over, or the first two of what stands in parts.
fn told(request: &ChatRequest) -> String {
    let text = request.messages[1].text();
    if text.contains("<<passage ") {
        let mut said = String::new();
        for block in text.split("<<passage ").skip(2).take(2) {
            let number = block.split(' ').next().expect("a number");
            let words = block.split_once('\n').expect("a line").1;
            let sentence = words.split(". ").next().expect("a sentence");
            said += &[sentence, " [", number, "]. "].concat();
        }
        return said;
    }
    let mut said = String::new();
    for block in text.split("<<part ").skip(2) {
        let words = block.split_once('\n').expect("a line").1;
        let (sentence, rest) = words.split_once(". [").expect("a mark");
        let number = rest.split(']').next().expect("closed");
        said += &[sentence, " [", number, "]. "].concat();
    }
    said + "All shops are wet [99]."
}

fn model() -> Arc<Player> {
    Player::new(|request, _| Ok(vec![Part::text(told(request), Origin::Model)]))
}

fn request(model: Arc<Player>) -> SummaryRequest {
    summarise(documents(), model).part_tokens(1_000).concurrency(3)
}

/// Every citation is a slice of its document, and every sentence that names an éclair cites the sentence it is from.
fn check(summary: &Summary) {
    let documents: HashMap<String, Document> = documents()
        .into_iter()
        .map(|document| (document.id.clone(), document))
        .collect();
    for citation in &summary.citations {
        let document = &documents[&citation.document_id];
        assert_eq!(citation.quote, document.text[citation.span.clone()]);
        assert_eq!(citation.title, document.title);
    }
    let mut cited = 0;
    for claim in &summary.claims {
        let words = &summary.text[claim.span.clone()];
        if words.contains("éclair") {
            let quote = &summary.citations[claim.citations[0]].quote;
            assert_eq!(words, quote);
            cited += 1;
        }
    }
    assert!(cited > 0);
}

#[tokio::test]
async fn citations_lead_through_every_step_to_the_documents() {
    let model = model();
    let summary = request(model.clone()).await.expect("summarised");
    assert!(!summary.is_partial());
    check(&summary);
    assert!(
        summary.parts_total >= 6 && summary.parts_done == summary.parts_total,
        "{}",
        summary.parts_total
    );
    assert!(
        summary.calls_done > summary.parts_total,
        "the parts were put together by calls of their own"
    );
    assert_eq!(summary.calls_done, model.asked().len());
    assert_eq!(summary.usage.total(), 110 * model.asked().len() as u64);
    let codes: Vec<&str> = summary
        .warnings
        .iter()
        .map(|warning| warning.code.as_str())
        .collect();
    assert_eq!(codes, ["mark_unknown"], "[99] was removed and told once");
    assert!(!summary.text.contains('['));
    assert_eq!(summary.marked_text().matches(" [1]").count(), 1);
    assert_eq!(
        request(self::model()).await.expect("again"),
        summary,
        "the same calls give the same summary"
    );
}

#[tokio::test]
async fn no_more_calls_run_at_once_than_allowed() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug)]
    struct Slow(stepwell_core::ModelInfo);
    #[async_trait::async_trait]
    impl stepwell_core::ChatModel for Slow {
        fn info(&self) -> &stepwell_core::ModelInfo {
            &self.0
        }
        async fn stream(&self, request: ChatRequest) -> Result<stepwell_core::ChatStream> {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            NOW.fetch_sub(1, Ordering::SeqCst);
            let part = Part::text(told(&request), Origin::Model);
            let answer =
                stepwell_core::ChatResponse::new("t", "m", vec![part], stepwell_core::FinishReason::Stop);
            Ok(Box::pin(futures::stream::iter(
                stepwell_core::whole(answer).into_iter().map(Ok),
            )))
        }
    }
    let model = Arc::new(Slow(stepwell_core::ModelInfo::new("t", "m")));
    let summary = summarise(documents(), model)
        .part_tokens(1_000)
        .concurrency(3)
        .await
        .expect("summarised");
    check(&summary);
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_spent_budget_gives_what_is_done_and_the_next_run_goes_on_from_there() {
    let whole = request(model()).await.expect("summarised");
    let cache = Arc::new(Kept::default());
    let mut calls_made = 0;
    let mut limits = BudgetLimits::default();
    limits.calls = Some(2);
    let first = request(model())
        .budget(Budget::new(limits.clone()))
        .cache(cache.clone(), Scope::local())
        .await
        .expect("partial");
    assert_eq!(
        (first.stopped.clone(), first.parts_done, first.calls_kept),
        (Some(SummaryStop::Budget), 2, 0)
    );
    check(&first);
    calls_made += 2;
    for _ in 0..whole.calls_done {
        let model = model();
        let next = request(model.clone())
            .budget(Budget::new(limits.clone()))
            .cache(cache.clone(), Scope::local())
            .await;
        let next = next.expect("at least partial");
        assert_eq!(next.calls_kept, calls_made, "what was done is not done again");
        calls_made += model.asked().len();
        assert!(model.asked().len() <= 2);
        check(&next);
        if !next.is_partial() {
            assert_eq!((next.text, next.citations), (whole.text, whole.citations));
            assert_eq!(calls_made, whole.calls_done);
            return;
        }
    }
    panic!("it never came to an end");
}

#[tokio::test]
async fn what_others_have_set_aside_is_waited_for() {
    // Each call sets aside more than 1,300 tokens and takes 110: three do not fit at once, and with waiting all do.
    let budget = Budget::tokens(3_200);
    let summary = request(model()).budget(budget.clone()).await.expect("summarised");
    assert!(!summary.is_partial(), "{:?}", summary.stopped);
    assert_eq!(budget.spent().tokens, summary.usage.total());
    assert_eq!(budget.available().tokens, Some(3_200 - summary.usage.total()));
}

#[tokio::test]
async fn a_call_that_fails_stops_new_ones_and_what_is_done_comes_back() {
    for fails_at in 0..10 {
        let cache = Arc::new(Kept::default());
        let model = Player::new(move |request, number| {
            if number == fails_at {
                return Err(Error::host("the test's model was told to fail"));
            }
            Ok(vec![Part::text(told(request), Origin::Model)])
        });
        let summary = request(model.clone()).cache(cache.clone(), Scope::local()).await;
        let made = model.asked().len();
        assert!(made <= fails_at + 3, "at most those on their way");
        let kept = cache.values.lock().expect("no panic holds it").len();
        assert_eq!(kept, made - 1);
        match summary {
            Ok(summary) => {
                assert_eq!(summary.stopped, Some(SummaryStop::Failed { code: "host".into() }));
                assert_eq!(summary.calls_done, kept);
                check(&summary);
            }
            Err(error) => assert_eq!((error.code(), kept), ("host", 0)),
        }
        let after = self::model();
        let whole = request(after.clone())
            .cache(cache, Scope::local())
            .await
            .expect("goes on");
        assert!(!whole.is_partial());
        assert_eq!(after.asked().len(), whole.calls_done - kept);
    }
    let error = request(Player::fails()).await.expect_err("nothing was done");
    assert_eq!(error.code(), "host");
}

#[tokio::test]
async fn dropped_after_any_poll_it_leaves_nothing_set_aside_and_goes_on_later() {
    let text = documents().swap_remove(0).text;
    let text = &text[..text.floor_char_boundary(3_000)];
    let one = |model| {
        summarise([Document::new("shop.md", text)], model)
            .part_tokens(600)
            .concurrency(3)
    };
    let whole = one(model()).await.expect("summarised");
    let mut polls = 0;
    loop {
        let (cache, budget, model) = (Arc::new(Kept::default()), Budget::tokens(1_000_000), model());
        let mut run = one(model.clone())
            .budget(budget.clone())
            .cache(cache.clone(), Scope::local())
            .into_future();
        let mut is_done = false;
        for _ in 0..polls {
            is_done = (&mut run).now_or_never().is_some();
            // The runtime wakes what yielded to it once it has its turn.
            tokio::task::yield_now().await;
            if is_done {
                break;
            }
        }
        drop(run);
        if is_done {
            break;
        }
        let spent = budget.spent().tokens;
        assert_eq!(
            budget.available().tokens,
            Some(1_000_000 - spent),
            "poll {polls}: nothing stays set aside"
        );
        let kept = cache.values.lock().expect("no panic holds it").len();
        let on_their_way = model.asked().len() - kept;
        assert!(on_their_way <= 3, "poll {polls}");
        if polls % 3 == 0 {
            let after = self::model();
            let next = one(after.clone())
                .cache(cache, Scope::local())
                .await
                .expect("goes on");
            assert_eq!(
                (next.calls_kept, after.asked().len()),
                (kept, whole.calls_done - kept),
                "poll {polls}"
            );
            assert_eq!((&next.text, &next.citations), (&whole.text, &whole.citations));
        }
        polls += 1;
    }
    assert!(polls > 30, "it was dropped at {polls} places");
}

#[tokio::test]
async fn another_prompt_model_or_place_is_another_part_and_a_broken_cache_costs_only_time() {
    let cache = Arc::new(Kept::default());
    let note = |id: &str| {
        [Document::new(
            id,
            "The kettle is descaled once a month with citric acid.",
        )]
    };
    let ask = |documents, model: &Arc<Player>| {
        summarise(documents, model.clone()).cache(cache.clone(), Scope::local())
    };
    let model = Player::says("Descaled monthly [1].");
    let first = ask(note("a.md"), &model).await.expect("summarised");
    assert_eq!((first.calls_kept, first.parts_total), (0, 1));
    let again = ask(note("a.md"), &model).await.expect("kept");
    assert_eq!(
        (again.calls_kept, again.usage.total(), &again.citations),
        (1, 0, &first.citations)
    );
    let other = ask(note("b.md"), &model).await.expect("another document");
    assert_eq!(
        (other.calls_kept, other.citations[0].document_id.as_str()),
        (0, "b.md")
    );
    assert_eq!(
        ask(note("a.md"), &model)
            .instructions("In Norwegian.")
            .await
            .expect("another prompt")
            .calls_kept,
        0
    );

    let broken = Arc::new(Kept {
        fails: true,
        ..Kept::default()
    });
    let summary = summarise(note("a.md"), model.clone())
        .cache(broken, Scope::local())
        .await
        .expect("summarised");
    assert_eq!(
        (summary.text.as_str(), summary.warnings[0].code.as_str()),
        ("Descaled monthly.", "cache_failed")
    );
    assert_eq!(
        summarise([Document::new("empty", " \n")], model)
            .await
            .expect_err("no words")
            .code(),
        "invalid_input"
    );
}
