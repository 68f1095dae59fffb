//! `Answer::check`: what is borne out by the places that are cited.

use crate::model::{Fixed, Player};
use serde_json::json;
use std::sync::Arc;
use stepwell_core::{ChatModel, Origin, Part};
use stepwell_rag::answer::{Answer, CheckOptions, Doubt, Verdict, answer};

const TRIAL: (&str, &str) = (
    "trial.md",
    "The trial enrolled 120 patients in Norway in May 2019. Aspirin reduced the risk of stroke in older adults. \
     No difference in bleeding was seen between the groups. The doctors called it \"a step in the right direction\".",
);

async fn said(words: &str) -> Answer {
    answer("What?", Fixed::of(&[TRIAL]), Player::says(words))
        .await
        .expect("answers")
}

async fn doubts(words: &str) -> (Verdict, Vec<Doubt>) {
    let report = said(words).await.check().await.expect("offline");
    assert_eq!(report.claims.len(), 1, "{report:?}");
    (report.claims[0].verdict, report.claims[0].doubts.clone())
}

#[tokio::test]
async fn a_sentence_in_the_words_of_its_source_is_supported_and_altered_ones_are_not() {
    for supported in [
        "The trial enrolled 120 patients in Norway [1].",
        "In older adults aspirin reduced stroke risk [1].",
        "No difference in bleeding was seen [1].",
        "It was called \"a step in the right direction\" by doctors [1].",
    ] {
        assert_eq!(
            doubts(supported).await,
            (Verdict::Supported, vec![]),
            "{supported}"
        );
    }
    for (altered, doubt) in [
        ("The trial enrolled 210 patients in Norway [1].", Doubt::Number),
        (
            "The trial enrolled patients in Norway in June 2019 [1].",
            Doubt::Number,
        ),
        ("The trial enrolled 120 patients in Sweden [1].", Doubt::Name),
        (
            "Aspirin did not reduce the risk of stroke in older adults [1].",
            Doubt::Negation,
        ),
        (
            "Aspirin raised the risk of stroke in older adults [1].",
            Doubt::Direction,
        ),
        (
            "It was called \"a giant leap for all\" by the doctors [1].",
            Doubt::Quote,
        ),
    ] {
        let (verdict, found) = doubts(altered).await;
        // A quotation that is made up is cited by nothing.
        let expected = if doubt == Doubt::Quote {
            Verdict::Uncited
        } else {
            Verdict::Unsupported
        };
        assert_eq!(verdict, expected, "{altered}: {found:?}");
        assert!(
            doubt == Doubt::Quote || found.contains(&doubt),
            "{altered}: {found:?}"
        );
    }
    assert_eq!(
        doubts("Whales sing in the deep ocean at night [1].").await.1,
        [Doubt::Words]
    );
    assert_eq!(
        doubts("Aspirin reduced the risk of stroke.").await,
        (Verdict::Uncited, vec![])
    );
}

#[tokio::test]
async fn an_answer_that_was_altered_outside_is_refused_or_doubted_and_never_a_panic() {
    let answer = said("The trial enrolled 120 patients in Norway [1].").await;
    let altered = |change: &dyn Fn(&mut serde_json::Value)| -> Answer {
        let mut value = serde_json::to_value(&answer).expect("JSON");
        change(&mut value);
        serde_json::from_value(value).expect("still an answer")
    };
    let judge: Arc<dyn ChatModel> = Player::says("never asked");
    for text in ["", "short", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"] {
        let answer = altered(&|value| value["text"] = json!(text));
        let error = answer
            .check()
            .judge(Arc::clone(&judge))
            .await
            .expect_err("no slice");
        assert_eq!(error.code(), "invalid_input", "{error}");
    }
    let answer = altered(&|value| value["claims"][0]["citations"] = json!([7]));
    let report = answer.check().await.expect("checked");
    assert_eq!(report.claims[0].verdict, Verdict::Uncited);
}

#[tokio::test]
async fn whole_passages_count_where_asked() {
    let answer = said("Older adults in Norway had a reduced risk of stroke [1].").await;
    let strict = answer.check().await.expect("offline");
    assert_eq!(strict.claims[0].doubts, [Doubt::Name]);
    let wide = answer
        .check()
        .options(CheckOptions::default().passages(true))
        .await
        .expect("offline");
    assert!(wide.is_supported(), "{wide:?}");
}

#[tokio::test]
async fn a_model_that_judges_has_the_last_word_and_where_it_fails_the_rest_stands() {
    let answer = said("The trial enrolled 210 patients in Norway [1]. Aspirin reduced the risk of stroke [1]. Nothing is cited here.").await;
    let judge = Player::new(|request, _| {
        let text = request.messages[1].text();
        assert!(
            text.contains("<<sentence 2 ") && !text.contains("<<sentence 3 "),
            "only what cites is judged"
        );
        let judged = json!({ "judgements": [
            { "number": 1, "reason": "a typo, the source is the same", "is_supported": true },
            { "number": 2, "reason": "only in older adults", "is_supported": false },
            { "number": 7, "reason": "there is none", "is_supported": false },
        ] });
        Ok(vec![Part::text(judged.to_string(), Origin::Model)])
    });
    let report = answer
        .check()
        .judge(judge.clone() as Arc<dyn ChatModel>)
        .await
        .expect("judged");
    let verdicts: Vec<Verdict> = report.claims.iter().map(|claim| claim.verdict).collect();
    assert_eq!(
        verdicts,
        [Verdict::Supported, Verdict::Unsupported, Verdict::Uncited]
    );
    assert_eq!(report.claims[1].reason.as_deref(), Some("only in older adults"));
    assert_eq!((report.usage.total(), report.warnings.len()), (110, 0));

    for judge in [
        Player::fails(),
        Player::says("I cannot say."),
        Player::says(r#"{"judgements":[]}"#),
    ] {
        let report = answer.check().judge(judge).await.expect("offline");
        assert_eq!(report.claims[0].doubts, [Doubt::Number]);
        assert_eq!(report.claims[1].verdict, Verdict::Supported);
        assert!(
            report.warnings[0].code.starts_with("judge_"),
            "{:?}",
            report.warnings
        );
    }
}
