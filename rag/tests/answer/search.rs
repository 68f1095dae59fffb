//! Asking in several wordings, and choosing among collections.

use crate::model::{Fixed, Player, hit};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use stepwell_core::{
    ChatModel, EmbedKind, Embedder, EmbedderInfo, Embeddings, Error, HeuristicTokens, Hit, Message, Origin,
    Part, Query, Result, Retriever, TokenCounter, Usage,
};
use stepwell_rag::answer::{MultiQuery, Routed, rewrite_follow_up};

/// Finds for each word of a query the document of that name.
#[derive(Debug)]
struct ByWord;

#[async_trait]
impl Retriever for ByWord {
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>> {
        if query.text.contains("fail") {
            return Err(Error::host("the test's retriever was told to fail"));
        }
        let words = query.text.split_whitespace().take(query.top_k);
        Ok(words.map(|word| hit(word, "Some words.")).collect())
    }
}

fn wordings(queries: &[&str]) -> Arc<Player> {
    let text = json!({ "queries": queries }).to_string();
    Player::says(&text)
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.chunk.document_id.as_str()).collect()
}

#[tokio::test]
async fn wordings_are_searched_beside_the_question_and_fused() {
    let model = wordings(&["b c", "B C", " ", "a b", "d", "e", "f"]);
    let multi = MultiQuery::new(Arc::new(ByWord), model.clone());
    let searched = multi.search(&Query::new("a b").top_k(3)).await.expect("found");
    assert_eq!(
        searched.queries,
        ["a b", "b c", "d", "e"],
        "the question first, none twice, three others at most"
    );
    assert_eq!(ids(&searched.hits), ["b", "a", "d"]);
    assert_eq!(searched.hits[0].explanation.stage, "multi_query");
    assert_eq!((searched.usage.total(), searched.warnings.len()), (110, 0));
    let none = MultiQuery::new(Arc::new(ByWord), model.clone()).variants(0);
    assert_eq!(
        ids(&none.retrieve(&Query::new("a b")).await.expect("found")),
        ["a", "b"]
    );
    assert_eq!(model.asked().len(), 1, "no model is asked for no wordings");
}

#[tokio::test]
async fn where_the_model_fails_the_question_is_searched_as_it_is() {
    for model in [Player::fails(), Player::says("no JSON here")] {
        let searched = MultiQuery::new(Arc::new(ByWord), model)
            .search(&Query::new("a b"))
            .await
            .expect("found");
        assert_eq!((ids(&searched.hits), searched.queries.len()), (vec!["a", "b"], 1));
        assert_eq!(searched.warnings[0].code, "rewrite_failed");
    }
    let multi = MultiQuery::new(Arc::new(ByWord), wordings(&["fail", "c"]));
    let searched = multi.search(&Query::new("a")).await.expect("found");
    assert_eq!(
        (ids(&searched.hits), searched.warnings[0].code.as_str()),
        (vec!["a", "c"], "variant_failed")
    );
    assert!(
        multi.retrieve(&Query::new("fail")).await.is_err(),
        "the question itself has to be searched"
    );
}

#[tokio::test]
async fn a_rewritten_question_is_one_line_or_the_question_as_it_was() {
    let history = [
        Message::user("Tell me of Oslo."),
        Message::assistant("It is in Norway."),
    ];
    let ask =
        async |said: &str| rewrite_follow_up(Player::says(said).as_ref(), &history, "And in winter?").await;
    assert_eq!(
        ask("\n How cold is Oslo in winter?\n").await.question,
        "How cold is Oslo in winter?"
    );
    for bad in ["", "It is cold.\nVery cold.", &"x".repeat(2_000)] {
        let kept = ask(bad).await;
        assert_eq!(
            (kept.question.as_str(), kept.warnings[0].code.as_str()),
            ("And in winter?", "rewrite_failed")
        );
    }
    let alone = Player::fails();
    assert!(
        rewrite_follow_up(alone.as_ref(), &[], "Why?")
            .await
            .warnings
            .is_empty()
    );
    assert!(alone.asked().is_empty(), "without a conversation nobody is asked");
}

/// Words of animals point one way, all others another.
#[derive(Debug)]
struct Animals(EmbedderInfo);

#[async_trait]
impl Embedder for Animals {
    fn info(&self) -> &EmbedderInfo {
        &self.0
    }

    async fn embed(&self, texts: &[&str], _: EmbedKind) -> Result<Embeddings> {
        let rows = texts.iter().flat_map(|text| match () {
            () if text.contains("fail") => [f32::NAN, 0.0, 0.0],
            () if text.contains("cat") => [1.0, 0.1, 0.0],
            () if text.contains("tax") => [0.1, 1.0, 0.0],
            () => [0.0, 0.0, 1.0],
        });
        if texts.iter().any(|text| text.contains("down")) {
            return Err(Error::host("the test's embedder was told to fail"));
        }
        Embeddings::new(3, rows.collect(), Usage::default())
    }

    fn tokens(&self) -> Arc<dyn TokenCounter> {
        Arc::new(HeuristicTokens)
    }
}

fn houses() -> (Routed, [Arc<Fixed>; 2]) {
    let zoo = Fixed::of(&[("shared.md", "Cats sleep."), ("cats.md", "Cats purr.")]);
    let office = Fixed::of(&[("shared.md", "Taxes are due.")]);
    let sources: [(&str, &str, Arc<dyn Retriever>); 2] = [
        ("zoo", "About cats and dogs.", zoo.clone()),
        ("office", "About taxes.", office.clone()),
    ];
    (Routed::new(sources).expect("well named"), [zoo, office])
}

#[tokio::test]
async fn a_model_chooses_where_a_question_is_searched() {
    let model = Player::says(r#"{"collections":["`office`","attic","office"]}"#);
    let (routed, [zoo, office]) = houses();
    let routed = routed.by_model(model.clone());
    let hits = routed
        .retrieve(&Query::new("Is the cat taxed?"))
        .await
        .expect("found");
    assert_eq!(
        (ids(&hits), hits[0].explanation.stage.as_str()),
        (vec!["shared.md"], "routed:office")
    );
    assert_eq!((zoo.queries().len(), office.queries().len()), (0, 1));
    let system = model.asked()[0].messages[0].text();
    assert!(
        system.contains("- `zoo`: About cats and dogs.") && !system.contains("taxed"),
        "{system}"
    );
}

#[tokio::test]
async fn all_are_searched_where_none_is_chosen_and_equal_ids_are_two_hits() {
    for model in [
        Player::fails(),
        Player::says(r#"{"collections":["attic"]}"#),
        Player::says("zoo, I think"),
    ] {
        let (routed, _) = houses();
        let routed = routed.by_model(model);
        let routing = routed.route(&Query::new("What?")).await;
        assert_eq!(
            (routing.names.as_slice(), routing.is_fallback),
            (["zoo".to_owned(), "office".to_owned()].as_slice(), true)
        );
        let hits = routed.retrieve(&Query::new("What?")).await.expect("found");
        assert_eq!(ids(&hits), ["shared.md", "shared.md", "cats.md"]);
    }
    let (routed, _) = houses();
    assert!(
        !routed.route(&Query::new("What?")).await.is_fallback,
        "all is what was asked for"
    );
    let error = routed
        .retrieve(&Query::new("fail"))
        .await
        .expect_err("a source that fails is told, not left out");
    assert_eq!(error.code(), "host");
}

#[tokio::test]
async fn descriptions_are_compared_offline() {
    let embedder = Arc::new(Animals(EmbedderInfo::new("t", "m", "1", 3, 256, false)));
    let (routed, _) = houses();
    let routed = routed.by_embedder(embedder).top_n(1);
    for (question, names, is_fallback) in [
        ("Do cats purr?", vec!["zoo"], false),
        ("When are taxes due?", vec!["office"], false),
        ("Who won the cup?", vec!["zoo", "office"], true),
        ("fail", vec!["zoo", "office"], true),
        ("down", vec!["zoo", "office"], true),
    ] {
        let routing = routed.route(&Query::new(question)).await;
        assert_eq!(
            (routing.names, routing.is_fallback),
            (names.into_iter().map(str::to_owned).collect(), is_fallback),
            "{question}"
        );
        assert_eq!(routing.warnings.len(), usize::from(question == "down"));
    }
}

#[test]
fn names_of_collections_are_checked() {
    let source = |name: &'static str| (name, "About.", Fixed::of(&[]) as Arc<dyn Retriever>);
    for bad in [vec![], vec![source("")], vec![source("a"), source("a")]] {
        assert_eq!(Routed::new(bad).expect_err("refused").code(), "invalid_input");
    }
}

#[tokio::test]
async fn an_answer_is_asked_of_several_collections_in_several_wordings() {
    let (routed, _) = houses();
    let model: Arc<dyn ChatModel> = Player::new(|request, _| {
        let is_rewording = request.messages[0].text().contains("other wordings");
        let words = if is_rewording {
            r#"{"queries":["cat"]}"#
        } else {
            "Cats purr [2], and taxes are due [3]."
        };
        Ok(vec![Part::text(words, Origin::Model)])
    });
    let retriever = Arc::new(MultiQuery::new(Arc::new(routed), model.clone()));
    let answer = stepwell_rag::answer::answer("What?", retriever, model)
        .await
        .expect("answers");
    let quotes: Vec<&str> = answer
        .citations
        .iter()
        .map(|citation| citation.quote.as_str())
        .collect();
    assert_eq!(
        answer.passages.len(),
        3,
        "two documents of one id stay two passages"
    );
    assert_eq!(quotes.len(), 2, "{quotes:?}");
}
