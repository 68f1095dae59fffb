use super::{VendorReranker, VendorRerankerBuilder};
use crate::fixtures::{Act, Framing, Server, http_answer};
use serde_json::{Value, json};
use stepwell_core::{Chunk, Cost, Explanation, Hit, Reranker};

fn answer(body: &str) -> Vec<Act> {
    vec![Act::Send(http_answer(
        200,
        &[("content-type", "application/json")],
        body.as_bytes(),
        Framing::Length,
    ))]
}

fn scores(scores: &[(usize, f64)]) -> String {
    let results: Vec<Value> = scores
        .iter()
        .map(|(index, score)| json!({ "index": index, "relevance_score": score }))
        .collect();
    json!({ "results": results, "usage": { "total_tokens": 5 } }).to_string()
}

fn acme(url: &str) -> VendorRerankerBuilder {
    VendorReranker::compatible("acme", url, "m").concurrency(1)
}

fn hit(text: &str) -> Hit {
    let chunk: Chunk = serde_json::from_value(json!({
        "id": text, "document_id": "d", "number": 0, "text": text, "span": { "start": 0, "end": text.len() }
    }))
    .unwrap_or_else(|error| panic!("{error}"));
    Hit::new(chunk, 0.1, Explanation::default())
}

#[tokio::test]
async fn batches_are_merged_by_score_and_point_at_the_documents_that_were_given() {
    let server = Server::start(vec![
        answer(&scores(&[(1, 0.4), (0, 0.2)])),
        answer(&scores(&[(0, 0.9)])),
    ])
    .await;
    let reranker = acme(&server.url).max_batch_documents(2).build().expect("builds");
    let ranking = reranker.rank("q", &["a", "b", "c"], 2).await.expect("ranks");
    let found: Vec<_> = ranking
        .ranked
        .iter()
        .map(|ranked| (ranked.index, ranked.score))
        .collect();
    assert_eq!(found, [(2, 0.9), (1, 0.4)]);
    assert_eq!(ranking.usage.input_tokens, Some(10));
    assert_eq!(ranking.cost, None);
    let asked: Vec<Value> = server
        .requests()
        .iter()
        .map(crate::fixtures::Seen::json)
        .collect();
    assert_eq!(
        asked[0],
        json!({ "model": "m", "query": "q", "documents": ["a", "b"] })
    );
    assert_eq!(server.requests()[0].path, "/rerank");
}

#[tokio::test]
async fn hits_get_their_new_scores_and_the_stage_and_equal_ones_keep_their_order() {
    let server = Server::start(vec![answer(&scores(&[(2, 0.5), (0, 0.5)]))]).await;
    let reranker = acme(&server.url).build().expect("builds");
    let hits = vec![hit("a"), hit("b"), hit("c")];
    let hits = reranker.rerank("q", hits, 2).await.expect("ranks");
    let found: Vec<_> = hits
        .iter()
        .map(|hit| (hit.chunk.text.as_str(), hit.score))
        .collect();
    assert_eq!(found, [("a", 0.5), ("c", 0.5)]);
    assert_eq!(hits[0].explanation.stage, "reranked");
    assert_eq!(server.requests()[0].json()["top_n"], 2);
}

#[tokio::test]
async fn llama_cpps_logits_become_scores_that_keep_their_order() {
    let server = Server::start(vec![answer(&scores(&[
        (2, 0.822),
        (1, -4.76),
        (0, 30.0),
        (3, 31.0),
    ]))])
    .await;
    let reranker = VendorReranker::llamacpp("bge")
        .base_url(&server.url)
        .build()
        .expect("builds without a key");
    let ranking = reranker.rank("q", &["a", "b", "c", "d"], 9).await.expect("ranks");
    let order: Vec<_> = ranking.ranked.iter().map(|ranked| ranked.index).collect();
    assert_eq!(
        order,
        [3, 0, 2, 1],
        "by the logits, where the scores are too near 1 to differ"
    );
    let scores: Vec<_> = ranking.ranked.iter().map(|ranked| ranked.score).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b));
    assert!((scores[2] - 0.694_7).abs() < 1e-3 && (scores[3] - 0.008_5).abs() < 1e-3);
    assert!((ranking.ranked[3].raw + 4.76).abs() < 1e-12);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_and_nothing_is_sent_for_nothing() {
    let cases = [
        (scores(&[(0, 0.1)]), "1 scores where 2 were asked for"),
        (scores(&[(0, 0.1), (0, 0.2)]), "two scores for document 0"),
        (scores(&[(0, 0.1), (2, 0.2)]), "a score for document 2 of 2"),
        (
            r#"{"results":[{"index":0,"relevance_score":null},{"index":1,"relevance_score":1}]}"#.to_owned(),
            "is not the JSON",
        ),
        ("{}".to_owned(), "is not the JSON"),
    ];
    let server = Server::start(cases.iter().map(|(body, _)| answer(body)).collect()).await;
    let reranker = acme(&server.url).build().expect("builds");
    for (body, message) in &cases {
        let error = reranker.rank("q", &["a", "b"], 5).await.expect_err(body);
        assert_eq!(error.code(), "invalid_response");
        assert!(error.to_string().contains(message), "{error}");
    }
    assert!(
        reranker
            .rank("q", &[], 5)
            .await
            .expect("nothing")
            .ranked
            .is_empty()
    );
    assert!(
        reranker
            .rank("q", &["a"], 0)
            .await
            .expect("nothing")
            .ranked
            .is_empty()
    );
    assert_eq!(
        reranker
            .rank(" ", &["a"], 1)
            .await
            .expect_err("no question")
            .code(),
        "invalid_input"
    );
    assert_eq!(server.requests().len(), cases.len());
}

#[cfg(all(feature = "cohere", feature = "voyage"))]
#[tokio::test]
async fn cohere_bills_searches_and_voyage_tokens() {
    let cohere = json!({ "results": [{ "index": 0, "relevance_score": 0.5 }], "meta": { "billed_units": { "search_units": 1 } } });
    let voyage =
        json!({ "data": [{ "index": 0, "relevance_score": 0.5 }], "usage": { "total_tokens": 1_000 } });
    let server = Server::start(vec![answer(&cohere.to_string()), answer(&voyage.to_string())]).await;
    let ranking = VendorReranker::cohere("rerank-v3.5")
        .api_key("k")
        .base_url(&server.url)
        .build()
        .expect("builds")
        .rank("q", &["a"], 1)
        .await
        .expect("ranks");
    assert_eq!(ranking.usage.searches, Some(1));
    assert_eq!(ranking.cost, Some(Cost { micro_usd: 2_000 }));
    let ranking = VendorReranker::voyage("rerank-2.5")
        .api_key("k")
        .base_url(&server.url)
        .build()
        .expect("builds")
        .rank("q", &["a"], 1)
        .await
        .expect("ranks");
    assert_eq!(ranking.usage.input_tokens, Some(1_000));
    assert_eq!(ranking.cost, Some(Cost { micro_usd: 50 }));
    let seen = server.requests();
    assert_eq!(seen[0].path, "/v2/rerank");
    assert_eq!(
        seen[1].json(),
        json!({ "query": "q", "documents": ["a"], "model": "rerank-2.5", "truncation": false })
    );
}

#[test]
fn the_vendors_that_are_called_by_name_are_in_the_table() {
    let _ = (VendorReranker::openrouter("m"), VendorReranker::llamacpp("m"));
    assert_eq!(
        VendorReranker::of_vendor("acne", "m").expect_err("a slip").code(),
        "not_found"
    );
}
