//! The suite of [`UsageLedger`].

use super::{STRINGS, fresh, keys, refused, unfit, walk};
use stepwell_core::{
    Cost, Scope, Usage,
    store::{UsageGroup, UsageLedger, UsageRow, UsageTotal},
};

const DAY: u64 = 86_400_000;

fn row(id: &str, at_ms: u64, tokens: u64) -> UsageRow {
    let mut usage = Usage::default();
    usage.input_tokens = Some(tokens);
    UsageRow::new(id, at_ms, "chat", "acme", "small", usage)
}

async fn record(ledger: &dyn UsageLedger, scope: &Scope, row: UsageRow) {
    ledger.record(scope, row).await.expect("is booked");
}

async fn totals(ledger: &dyn UsageLedger, scope: &Scope, group: UsageGroup) -> Vec<UsageTotal> {
    ledger.totals(scope, 0, u64::MAX, group).await.expect("sums")
}

/// Everything a [`UsageLedger`] promises.
pub async fn usage_ledger(ledger: &dyn UsageLedger) {
    counting_once(ledger).await;
    sums(ledger).await;
    rows_and_pruning(ledger).await;
    tenants_stay_apart(ledger).await;
    usage_strings(ledger, STRINGS).await;
}

async fn counting_once(ledger: &dyn UsageLedger) {
    let scope = fresh("usage once");
    let nothing = totals(ledger, &scope, UsageGroup::None).await;
    assert_eq!(nothing, [UsageTotal::default()], "one sum, of nothing");
    assert!(totals(ledger, &scope, UsageGroup::Model).await.is_empty());
    record(ledger, &scope, row("a", 10, 5)).await;
    record(ledger, &scope, row("a", 99, 700)).await;
    let total = &totals(ledger, &scope, UsageGroup::None).await[0];
    assert_eq!(
        (total.calls, total.usage.input_tokens),
        (1, Some(5)),
        "the first one counts"
    );
    let mut absurd = row("b", 10, u64::MAX);
    refused(
        ledger.record(&scope, absurd.clone()).await,
        "limit_exceeded",
        "it could not be added up",
    );
    absurd.usage = Usage::default();
    absurd.at_ms = u64::MAX;
    refused(
        ledger.record(&scope, absurd).await,
        "invalid_input",
        "no such moment",
    );
}

async fn sums(ledger: &dyn UsageLedger) {
    let scope = fresh("usage sums").with_actor("scope's");
    let mut first = row("1", 5, 100);
    first.cost = Some(Cost { micro_usd: 30 });
    first.usage.output_tokens = Some(7);
    let mut second = row("2", DAY - 1, 10);
    second.cost = Some(Cost { micro_usd: 4 });
    second.actor = Some("bob".to_owned());
    let mut third = row("3", DAY, 1);
    "title".clone_into(&mut third.purpose);
    "large".clone_into(&mut third.model);
    third.usage.is_estimated = true;
    third.usage.cache_read_tokens = Some(0);
    for row in [first, second, third] {
        record(ledger, &scope, row).await;
    }
    let all = &totals(ledger, &scope, UsageGroup::None).await[0];
    assert_eq!((all.group.as_str(), all.calls, all.unpriced_calls), ("", 3, 1));
    assert_eq!(all.cost, Cost { micro_usd: 34 });
    assert_eq!(
        (all.usage.input_tokens, all.usage.output_tokens),
        (Some(111), Some(7))
    );
    assert_eq!(all.usage.cache_read_tokens, Some(0), "a reported 0 is known");
    assert_eq!(
        all.usage.reasoning_tokens, None,
        "what nobody reported stays unknown"
    );
    assert!(all.usage.is_estimated);
    for (group, expected) in [
        (UsageGroup::Model, [("acme/large", 1), ("acme/small", 2)]),
        (UsageGroup::Purpose, [("chat", 2), ("title", 1)]),
        (UsageGroup::Actor, [("bob", 1), ("scope's", 2)]),
        (UsageGroup::Day, [("1970-01-01", 2), ("1970-01-02", 1)]),
    ] {
        let found = totals(ledger, &scope, group).await;
        let found: Vec<(&str, u64)> = found
            .iter()
            .map(|total| (total.group.as_str(), total.calls))
            .collect();
        assert_eq!(found, expected, "groups in order of their names");
    }
    let window = ledger
        .totals(&scope, 5, DAY - 1, UsageGroup::None)
        .await
        .expect("sums");
    assert_eq!(
        window[0].calls, 1,
        "from the first moment up to, not with, the last"
    );
}

async fn rows_and_pruning(ledger: &dyn UsageLedger) {
    let scope = fresh("usage rows");
    for number in 0..9_u64 {
        record(
            ledger,
            &scope,
            row(&format!("u{number}"), 100 - number / 2, number),
        )
        .await;
    }
    let list = walk!(2, |page| ledger.rows(&scope, 0, u64::MAX, page.clone()));
    assert_eq!(list.len(), 9);
    assert!(
        list.windows(2)
            .all(|pair| (pair[0].at_ms, &pair[0].id) < (pair[1].at_ms, &pair[1].id)),
        "oldest first"
    );
    let mut whole = row("whole", 200, 1);
    whole.run_id = Some("run".to_owned());
    whole.actor = Some("ada".to_owned());
    whole.cost = Some(Cost { micro_usd: 9 });
    whole.usage.cache_write_1h_tokens = Some(3);
    record(ledger, &scope, whole.clone()).await;
    assert_eq!(
        walk!(5, |page| ledger.rows(&scope, 200, 201, page.clone())),
        [whole]
    );
    assert_eq!(ledger.prune(&scope, 98).await.expect("prunes"), 3);
    assert_eq!(ledger.prune(&scope, 98).await.expect("nothing left before"), 0);
    assert_eq!(
        walk!(5, |page| ledger.rows(&scope, 0, u64::MAX, page.clone())).len(),
        7
    );
}

async fn tenants_stay_apart(ledger: &dyn UsageLedger) {
    let (ours, theirs) = (fresh("usage ours"), fresh("usage theirs"));
    record(ledger, &ours, row("same", 1, 1)).await;
    record(ledger, &theirs, row("same", 1, 50)).await;
    let total = &totals(ledger, &theirs, UsageGroup::None).await[0];
    assert_eq!(total.usage.input_tokens, Some(50), "an id is the tenant's own");
    let list = walk!(5, |page| ledger.rows(&ours, 0, 9, page.clone()));
    assert_eq!((list.len(), list[0].usage.input_tokens), (1, Some(1)));
    assert_eq!(ledger.prune(&ours, u64::MAX).await.expect("prunes"), 1);
    assert_eq!(totals(ledger, &theirs, UsageGroup::None).await[0].calls, 1);
}

/// These strings as ids and labels come back as they were.
pub async fn usage_strings(ledger: &dyn UsageLedger, strings: &[&str]) {
    let scope = fresh("usage strings");
    let mut names: Vec<&str> = strings
        .iter()
        .copied()
        .filter(|text| text.len() <= 1_000)
        .collect();
    names.sort_unstable();
    names.dedup();
    for (number, text) in names.iter().enumerate() {
        let mut row = row(&format!("{number}"), 1, 1);
        row.purpose = (*text).to_owned();
        row.actor = Some((*text).to_owned());
        record(ledger, &scope, row).await;
    }
    for group in [UsageGroup::Purpose, UsageGroup::Actor] {
        let found = totals(ledger, &scope, group).await;
        let found: Vec<&str> = found.iter().map(|total| total.group.as_str()).collect();
        assert_eq!(found, names, "each its own group, in order of their bytes");
    }
    let scope = fresh("usage ids");
    for text in keys(strings) {
        record(ledger, &scope, row(text, 1, 1)).await;
    }
    let list = walk!(3, |page| ledger.rows(&scope, 0, 9, page.clone()));
    assert_eq!(list.len(), keys(strings).count());
    for text in unfit(strings) {
        refused(
            ledger.record(&scope, row(text, 1, 1)).await,
            "invalid_input",
            "an unfit id",
        );
    }
}
