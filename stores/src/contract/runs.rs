//! The suite of [`RunStore`].

use super::{STRINGS, fresh, keys, refused, unfit, walk};
use futures::future::join_all;
use std::time::Duration;
use stepwell_core::{
    Scope,
    store::{
        NewRecord, PageRequest, RecordKind, RunAppend, RunFilter, RunHead, RunRecord, RunStatus, RunStore,
    },
};

const MINUTE: Duration = Duration::from_mins(1);

fn records(from: u64, count: u64) -> Vec<NewRecord> {
    (from..from + count)
        .map(|number| NewRecord::new(RecordKind::Task, 1_000 + number, format!("body {number}")))
        .collect()
}

async fn begin(store: &dyn RunStore, scope: &Scope, run: &str, count: u64) -> u64 {
    store
        .append(scope, RunAppend::new(run, "graph", 0, records(1, count)))
        .await
        .expect("a new run is taken")
}

async fn all(store: &dyn RunStore, scope: &Scope, run: &str) -> Vec<RunRecord> {
    store.read(scope, run, 1, usize::MAX).await.expect("reads")
}

async fn head(store: &dyn RunStore, scope: &Scope, run: &str) -> RunHead {
    let head = store.head(scope, run).await.expect("reads");
    head.expect("there is such a run")
}

/// Everything a [`RunStore`] promises.
pub async fn run_store(store: &dyn RunStore) {
    numbers_and_conflicts(store).await;
    appends_are_whole(store).await;
    one_of_many_appends_wins(store).await;
    reading(store).await;
    listing(store).await;
    leases(store).await;
    copying(store).await;
    pruning_and_deleting(store).await;
    tenants_stay_apart(store).await;
    run_strings(store, STRINGS).await;
    store.flush().await.expect("flushes");
}

async fn numbers_and_conflicts(store: &dyn RunStore) {
    let scope = fresh("runs numbers").with_actor("ada");
    assert!(store.head(&scope, "r").await.expect("reads").is_none());
    assert!(all(store, &scope, "r").await.is_empty());
    assert_eq!(begin(store, &scope, "r", 3).await, 3, "numbers begin with 1");
    for after in [0, 1, 2, 4, u64::from(u32::MAX), u64::MAX] {
        let append = RunAppend::new("r", "graph", after, records(1, 1));
        refused(
            store.append(&scope, append).await,
            "conflict",
            "another record is the last",
        );
    }
    let append = RunAppend::new("r", "", 3, records(4, 2))
        .status(RunStatus::Paused)
        .sync();
    assert_eq!(store.append(&scope, append).await.expect("goes on"), 5);
    let found = all(store, &scope, "r").await;
    let numbers: Vec<u64> = found.iter().map(|record| record.seq).collect();
    assert_eq!(
        numbers,
        [1, 2, 3, 4, 5],
        "without gaps, refused appends left nothing"
    );
    assert_eq!(
        (found[4].kind, found[4].at_ms, &found[4].body[..]),
        (RecordKind::Task, 1_005, &b"body 5"[..])
    );
    let head = head(store, &scope, "r").await;
    assert_eq!((head.graph.as_str(), head.status), ("graph", RunStatus::Paused));
    assert_eq!((head.last_seq, head.snapshot_seq, head.fence), (5, 0, 0));
    assert_eq!((head.created_ms, head.updated_ms), (1_001, 1_005));
    let only_status = RunAppend::new("r", "", 5, Vec::new()).status(RunStatus::Done);
    assert_eq!(
        store
            .append(&scope, only_status)
            .await
            .expect("changes the status"),
        5
    );
    assert_eq!(self::head(store, &scope, "r").await.status, RunStatus::Done);
    let nothing = RunAppend::new("none", "graph", 0, Vec::new());
    refused(
        store.append(&scope, nothing).await,
        "invalid_input",
        "a run begins with a record",
    );
    let nameless = RunAppend::new("none", "", 0, records(1, 1));
    refused(
        store.append(&scope, nameless).await,
        "invalid_input",
        "a run begins with its graph",
    );
}

async fn appends_are_whole(store: &dyn RunStore) {
    let scope = fresh("runs whole");
    begin(store, &scope, "r", 1).await;
    let mut some_bad = records(2, 3);
    some_bad[2].at_ms = u64::MAX;
    let append = RunAppend::new("r", "", 1, some_bad);
    refused(
        store.append(&scope, append).await,
        "invalid_input",
        "no such moment",
    );
    assert_eq!(
        all(store, &scope, "r").await.len(),
        1,
        "all of it is written, or none"
    );
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut kinds = vec![NewRecord::new(RecordKind::Snapshot, 5, body.clone())];
    kinds.push(NewRecord::new(RecordKind::Event, 6, Vec::new()));
    let append = RunAppend::new("r", "", 1, kinds);
    assert_eq!(store.append(&scope, append).await.expect("large and empty"), 3);
    let found = all(store, &scope, "r").await;
    assert_eq!((&found[1].body[..], found[2].body.len()), (&body[..], 0));
    assert_eq!(head(store, &scope, "r").await.snapshot_seq, 2);
}

async fn one_of_many_appends_wins(store: &dyn RunStore) {
    let scope = fresh("runs race");
    begin(store, &scope, "r", 1).await;
    let tries = (0..20).map(|number| {
        let mut append = RunAppend::new("r", "", 1, records(number, 2));
        if number % 2 == 0 {
            append = append.sync();
        }
        store.append(&scope, append)
    });
    let answers = join_all(tries).await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(won, 1, "one writer gets the next number");
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, "conflict", "the others are told");
    }
    assert_eq!(all(store, &scope, "r").await.len(), 3);
}

async fn reading(store: &dyn RunStore) {
    let scope = fresh("runs reading");
    begin(store, &scope, "r", 10).await;
    for (from, limit, first, count) in [
        (0, 3, 1, 3),
        (1, 3, 1, 3),
        (4, 3, 4, 3),
        (9, 100, 9, 2),
        (10, usize::MAX, 10, 1),
    ] {
        let found = store.read(&scope, "r", from, limit).await.expect("reads");
        assert_eq!((found.len(), found[0].seq), (count, first), "from {from}");
    }
    for (from, limit) in [(11, 5), (u64::MAX, 5), (1, 0)] {
        let found = store.read(&scope, "r", from, limit).await.expect("reads");
        assert!(found.is_empty(), "from {from}, at most {limit}");
    }
}

async fn listing(store: &dyn RunStore) {
    let scope = fresh("runs list");
    for number in 0..25_u64 {
        // Moments come in pairs, so that the order of equal ones is tried, too.
        let record = NewRecord::new(RecordKind::Start, 100 + number / 2, "x");
        let graph = if number % 5 == 0 { "odd one" } else { "graph" };
        let status = if number % 2 == 0 {
            RunStatus::Done
        } else {
            RunStatus::Running
        };
        let append = RunAppend::new(format!("r{number:02}"), graph, 0, vec![record]).status(status);
        store.append(&scope, append).await.expect("a new run");
    }
    let everything = RunFilter::default();
    let runs = walk!(4, |page| store.list(&scope, &everything, page.clone()));
    assert_eq!(runs.len(), 25, "every run once");
    assert!(
        runs.windows(2)
            .all(|pair| pair[0].created_ms >= pair[1].created_ms),
        "newest first"
    );
    let mut names: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 25);
    let mut filter = RunFilter::default();
    filter.graph = Some("odd one".to_owned());
    assert_eq!(
        walk!(2, |page| store.list(&scope, &filter, page.clone())).len(),
        5
    );
    filter.status = Some(RunStatus::Done);
    assert_eq!(
        walk!(2, |page| store.list(&scope, &filter, page.clone())).len(),
        3
    );
    filter.graph = None;
    filter.status = Some(RunStatus::Paused);
    assert!(walk!(2, |page| store.list(&scope, &filter, page.clone())).is_empty());
    let invented = PageRequest::after("no such cursor", 10);
    refused(
        store.list(&scope, &everything, invented).await,
        "invalid_input",
        "an invented cursor",
    );
}

async fn leases(store: &dyn RunStore) {
    let scope = fresh("runs leases");
    let claim = |owner: &'static str, fence, time| store.claim(&scope, "r", owner, fence, time);
    refused(claim("a", None, MINUTE).await, "not_found", "nothing to claim");
    begin(store, &scope, "r", 1).await;
    let first = claim("a", None, MINUTE).await.expect("free");
    assert_eq!(first.fence, 1);
    assert_eq!(head(store, &scope, "r").await.fence, 1);
    refused(claim("b", None, MINUTE).await, "locked", "held by a");
    refused(
        claim("b", Some(1), MINUTE).await,
        "locked",
        "a fence is no good in other hands",
    );
    let unfenced = RunAppend::new("r", "", 1, records(2, 1));
    refused(
        store.append(&scope, unfenced).await,
        "conflict",
        "writes need the fence now",
    );
    let append = RunAppend::new("r", "", 1, records(2, 1)).fence(1);
    assert_eq!(store.append(&scope, append).await.expect("the owner writes"), 2);
    let renewed = claim("a", Some(1), 2 * MINUTE).await.expect("renews");
    assert_eq!(renewed.fence, 1, "a renewal keeps its fence");
    assert!(renewed.until_ms > first.until_ms);
    refused(
        claim("a", Some(9), MINUTE).await,
        "conflict",
        "a fence never given",
    );
    // A lease of no time is over at once: this is how an owner lets go.
    claim("a", Some(1), Duration::ZERO).await.expect("lets go");
    let second = claim("b", None, MINUTE).await.expect("free again");
    assert_eq!(second.fence, 2, "fences count up");
    let stale = RunAppend::new("r", "", 2, records(3, 1)).fence(1).sync();
    refused(
        store.append(&scope, stale).await,
        "conflict",
        "a stale fence writes nothing",
    );
    refused(claim("a", Some(1), MINUTE).await, "locked", "b holds it");
    let append = RunAppend::new("r", "", 2, records(3, 1)).fence(2);
    assert_eq!(
        store.append(&scope, append).await.expect("the new owner writes"),
        3
    );
    claim("b", Some(2), Duration::from_millis(30))
        .await
        .expect("a short lease");
    tokio::time::sleep(Duration::from_millis(80)).await;
    refused(
        claim("a", Some(1), MINUTE).await,
        "conflict",
        "outdone, so it has to read again",
    );
    let late = claim("b", Some(2), MINUTE)
        .await
        .expect("nobody took over meanwhile");
    assert_eq!(late.fence, 2);
    assert_eq!(
        claim("b", None, MINUTE)
            .await
            .expect("the same owner, begun anew")
            .fence,
        3
    );
    let far = claim("b", Some(3), Duration::MAX)
        .await
        .expect("as long as it goes");
    assert!(far.until_ms > late.until_ms);
}

async fn copying(store: &dyn RunStore) {
    let scope = fresh("runs copy");
    let mut some = records(1, 6);
    some[1].kind = RecordKind::Snapshot;
    some[4].kind = RecordKind::Snapshot;
    let append = RunAppend::new("old", "graph", 0, some).status(RunStatus::Done);
    store.append(&scope, append).await.expect("a new run");
    assert_eq!(
        store.copy(&scope, "old", "part", Some(4)).await.expect("copies"),
        4
    );
    assert_eq!(
        all(store, &scope, "part").await,
        all(store, &scope, "old").await[..4]
    );
    let part = head(store, &scope, "part").await;
    assert_eq!((part.last_seq, part.snapshot_seq, part.fence), (4, 2, 0));
    assert_eq!(part.status, RunStatus::Running, "it stands in the middle");
    assert_eq!(store.copy(&scope, "old", "whole", None).await.expect("copies"), 6);
    let whole = head(store, &scope, "whole").await;
    assert_eq!((whole.snapshot_seq, whole.status), (5, RunStatus::Done));
    let append = RunAppend::new("part", "", 4, records(5, 1));
    assert_eq!(
        store
            .append(&scope, append)
            .await
            .expect("a copy goes its own way"),
        5
    );
    assert_eq!(all(store, &scope, "old").await.len(), 6);
    refused(
        store.copy(&scope, "old", "part", None).await,
        "conflict",
        "the new id exists",
    );
    refused(
        store.copy(&scope, "old", "old", None).await,
        "conflict",
        "the new id is the old",
    );
    refused(
        store.copy(&scope, "none", "x", None).await,
        "not_found",
        "no old one",
    );
    refused(
        store.copy(&scope, "old", "x", Some(0)).await,
        "invalid_input",
        "nothing to copy",
    );
    assert_eq!(
        store.copy(&scope, "old", "y", Some(u64::MAX)).await.expect("all"),
        6
    );
    forking(store, &scope).await;
}

async fn forking(store: &dyn RunStore, scope: &Scope) {
    let other = || records(9, 1).remove(0);
    assert_eq!(
        store.fork(scope, "old", "fork", 4, other()).await.expect("forks"),
        5
    );
    let fork = all(store, scope, "fork").await;
    assert_eq!(fork[..4], all(store, scope, "old").await[..4]);
    assert_eq!(
        (fork.len(), fork[4].seq, &fork[4].body[..]),
        (5, 5, &b"body 9"[..])
    );
    let end = head(store, scope, "fork").await;
    assert_eq!((end.last_seq, end.snapshot_seq, end.fence), (5, 2, 0));
    assert_eq!((end.graph.as_str(), end.status), ("graph", RunStatus::Running));
    assert_eq!(
        store.fork(scope, "old", "end", 6, other()).await.expect("forks"),
        7
    );
    assert_eq!(head(store, scope, "end").await.status, RunStatus::Running);
    refused(
        store.fork(scope, "old", "fork", 4, other()).await,
        "conflict",
        "the new id exists",
    );
    refused(
        store.fork(scope, "none", "x", 4, other()).await,
        "not_found",
        "no old one",
    );
    refused(
        store.fork(scope, "old", "x", 0, other()).await,
        "invalid_input",
        "nothing to copy",
    );
    let mut late = other();
    late.at_ms = u64::MAX;
    refused(
        store.fork(scope, "old", "x", 4, late).await,
        "invalid_input",
        "no such moment",
    );
    assert_eq!(all(store, scope, "fork").await, fork);
    assert!(
        store.head(scope, "x").await.expect("reads").is_none(),
        "nothing is left of it"
    );
}

async fn pruning_and_deleting(store: &dyn RunStore) {
    let scope = fresh("runs prune");
    begin(store, &scope, "r", 6).await;
    begin(store, &scope, "s", 2).await;
    assert_eq!(store.prune(&scope, "none", 5).await.expect("nothing there"), 0);
    assert_eq!(store.prune(&scope, "r", 0).await.expect("nothing before"), 0);
    assert_eq!(store.prune(&scope, "r", 4).await.expect("prunes"), 3);
    assert_eq!(
        all(store, &scope, "r").await[0].seq,
        4,
        "the rest keep their numbers"
    );
    let append = RunAppend::new("r", "", 6, records(7, 1));
    assert_eq!(store.append(&scope, append).await.expect("goes on"), 7);
    refused(
        store.copy(&scope, "r", "x", Some(3)).await,
        "invalid_input",
        "those are gone",
    );
    assert_eq!(
        store.copy(&scope, "r", "x", Some(5)).await.expect("what is left"),
        5
    );
    replacing(store, &scope).await;
    assert_eq!(store.prune(&scope, "r", u64::MAX).await.expect("all of them"), 4);
    assert_eq!(head(store, &scope, "r").await.last_seq, 7);
    assert!(store.delete(&scope, "r").await.expect("deletes"));
    assert!(!store.delete(&scope, "r").await.expect("only once"));
    assert!(store.head(&scope, "r").await.expect("reads").is_none());
    assert!(all(store, &scope, "r").await.is_empty());
    assert_eq!(all(store, &scope, "s").await.len(), 2, "its neighbour stays");
    assert_eq!(begin(store, &scope, "r", 1).await, 1, "the id is free again");
    assert_eq!(
        all(store, &scope, "r").await.len(),
        1,
        "and nothing of the old run shows"
    );
}

async fn replacing(store: &dyn RunStore, scope: &Scope) {
    begin(store, scope, "whole", 6).await;
    let append = || RunAppend::new("whole", "", 6, records(7, 2)).status(RunStatus::Paused);
    refused(
        store
            .replace(scope, RunAppend::new("whole", "", 5, records(7, 2)))
            .await,
        "conflict",
        "another record is the last",
    );
    assert_eq!(all(store, scope, "whole").await.len(), 6, "nothing was deleted");
    assert_eq!(store.replace(scope, append().sync()).await.expect("replaces"), 6);
    let left: Vec<u64> = all(store, scope, "whole")
        .await
        .iter()
        .map(|record| record.seq)
        .collect();
    assert_eq!(left, [7, 8]);
    let end = head(store, scope, "whole").await;
    assert_eq!((end.last_seq, end.status), (8, RunStatus::Paused));
    refused(
        store.replace(scope, append()).await,
        "conflict",
        "it was done already",
    );
}

async fn tenants_stay_apart(store: &dyn RunStore) {
    let (ours, theirs) = (fresh("runs ours"), fresh("runs theirs"));
    begin(store, &ours, "same", 2).await;
    begin(store, &theirs, "same", 5).await;
    begin(store, &theirs, "only theirs", 1).await;
    assert_eq!(all(store, &ours, "same").await.len(), 2);
    assert!(store.head(&ours, "only theirs").await.expect("reads").is_none());
    assert!(!store.delete(&ours, "only theirs").await.expect("nothing there"));
    refused(
        store.copy(&ours, "only theirs", "x", None).await,
        "not_found",
        "not ours",
    );
    refused(
        store.claim(&ours, "only theirs", "a", None, MINUTE).await,
        "not_found",
        "not ours",
    );
    let everything = RunFilter::default();
    let list = walk!(10, |page| store.list(&ours, &everything, page.clone()));
    assert_eq!(list.len(), 1);
    store.prune(&ours, "same", u64::MAX).await.expect("prunes");
    assert!(store.delete(&ours, "same").await.expect("deletes"));
    assert_eq!(all(store, &theirs, "same").await.len(), 5);
}

/// These strings as tenants, ids, graphs, owners and bodies come back as they were.
pub async fn run_strings(store: &dyn RunStore, strings: &[&str]) {
    let scope = fresh("runs strings");
    let mut count = 0;
    for text in keys(strings) {
        let record = NewRecord::new(RecordKind::Input, 1, text.as_bytes().to_vec());
        let append = RunAppend::new(text, text, 0, vec![record]);
        assert_eq!(
            store.append(&scope, append).await.expect("a fit name"),
            1,
            "{text:?}"
        );
        store
            .claim(&scope, text, text, None, MINUTE)
            .await
            .expect("a fit owner");
        assert_eq!(&all(store, &scope, text).await[0].body[..], text.as_bytes());
        let head = head(store, &scope, text).await;
        assert_eq!((head.run_id.as_str(), head.graph.as_str()), (text, text));
        let mut filter = RunFilter::default();
        filter.graph = Some(text.to_owned());
        let found = walk!(10, |page| store.list(&scope, &filter, page.clone()));
        assert_eq!(found.len(), 1, "{text:?} names itself only");
        count += 1;
    }
    let everything = RunFilter::default();
    let list = walk!(3, |page| store.list(&scope, &everything, page.clone()));
    assert_eq!(list.len(), count, "every name is one run, and cursors hold it");
    for text in unfit(strings) {
        let append = RunAppend::new(text, "graph", 0, records(1, 1));
        refused(store.append(&scope, append).await, "invalid_input", "an unfit id");
        refused(store.head(&scope, text).await, "invalid_input", "an unfit id");
    }
    let tenants: Vec<Scope> = keys(strings)
        .filter_map(|text| Scope::new(format!("{} {text}", scope.tenant())).ok())
        .collect();
    for tenant in &tenants {
        let record = NewRecord::new(RecordKind::Input, 1, tenant.tenant().to_owned());
        let append = RunAppend::new("same", "graph", 0, vec![record]);
        assert_eq!(store.append(tenant, append).await.expect("a fit tenant"), 1);
    }
    for tenant in &tenants {
        let found = all(store, tenant, "same").await;
        assert_eq!((found.len(), &found[0].body[..]), (1, tenant.tenant().as_bytes()));
    }
}
