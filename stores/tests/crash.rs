//! kill -9 at any moment: what was acknowledged as durable is there afterwards, byte for byte, and nothing by half.

#![cfg(feature = "sqlite")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use stepwell_core::{
    Message, Scope,
    store::{Conversation, ConversationStore, NewRecord, PageRequest, RecordKind, RunAppend, RunStore},
};
use stepwell_stores::SqliteStore;

const PLACE: &str = "STEPWELL_STORE_CHILD";
/// Writers of the child, each on a run of its own.
const WRITERS: u64 = 4;

/// What record `seq` of a run holds: its size differs, so that torn writes would show.
fn body(run: &str, seq: u64) -> Vec<u8> {
    let size = usize::try_from(seq * 37 % 3_000).expect("small");
    format!("{run} {seq} ")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(size + 20)
        .collect()
}

/// Two records an append, the second of them every time; every fourth append is not waited for.
async fn write_until_killed(store: SqliteStore, run: String) {
    let scope = Scope::local();
    let conversations: &dyn ConversationStore = &store;
    let _ = conversations.create(&scope, Conversation::new(&run, 1)).await; // there after the first round
    let head = RunStore::head(&store, &scope, &run).await.expect("reads");
    let mut last = head.map_or(0, |head| head.last_seq);
    loop {
        let records = [last + 1, last + 2].map(|seq| NewRecord::new(RecordKind::Task, seq, body(&run, seq)));
        let mut append = RunAppend::new(run.as_str(), "graph", last, records.into());
        let is_sync = last % 8 != 0;
        if is_sync {
            append = append.sync();
        }
        last = RunStore::append(&store, &scope, append).await.expect("is taken");
        if is_sync {
            println!("{run} record {last}");
        }
        if last % 6 == 0 {
            let text = format!("{run} {last}");
            let said = conversations
                .append(&scope, &run, None, Message::user(text), false, last)
                .await;
            println!("{run} message {}", said.expect("is taken"));
        }
        std::io::stdout().flush().expect("the parent listens");
    }
}

#[test]
#[ignore = "the child that the kill test starts"]
fn the_child_of_the_kill_test_writes_until_it_is_killed() {
    let path = env::var_os(PLACE).expect("started by the kill test");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(path).expect("opens");
        println!("ready");
        let writers = (0..WRITERS).map(|number| write_until_killed(store.clone(), format!("run{number}")));
        futures::future::join_all(writers).await;
    });
}

/// Starts the child, kills it after so long, and gives what it said was durable: run → last record, last message.
fn one_life(path: &Path, life: Duration) -> Vec<(u64, u64)> {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "the_child_of_the_kill_test_writes_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(PLACE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in lines.by_ref() {
        if line.expect("text").ends_with("ready") {
            break;
        }
    }
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        child.kill().expect("kills");
        child.wait().expect("ends");
    });
    let mut durable = vec![(0, 0); usize::try_from(WRITERS).expect("small")];
    for line in lines {
        let Ok(line) = line else { break };
        let mut words = line.split(' ');
        let (Some(run), Some(kind), Some(Ok(seq))) =
            (words.next(), words.next(), words.next().map(str::parse::<u64>))
        else {
            continue; // the last line may be cut
        };
        let number: usize = run.trim_start_matches("run").parse().expect("a number");
        match kind {
            "record" => durable[number].0 = seq,
            _ => durable[number].1 = seq,
        }
    }
    killer.join().expect("the child is gone");
    durable
}

#[tokio::test]
async fn whatever_was_acknowledged_is_there_after_kill_nine() {
    let rounds = if env::var_os("STEPWELL_LONG").is_some() {
        200
    } else {
        20
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let scope = Scope::local();
    let (mut acknowledged, mut slowest) = (0, Duration::ZERO);
    let mut random = 0x2545_F491_u64;
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(15 + (random >> 33) % 150);
        let durable = one_life(&path, life);
        let start = Instant::now();
        let store = SqliteStore::open(&path).expect("opens after every kill");
        slowest = slowest.max(start.elapsed());
        for (number, (records, messages)) in durable.into_iter().enumerate() {
            let run = format!("run{number}");
            let found = RunStore::read(&store, &scope, &run, 1, usize::MAX)
                .await
                .expect("reads");
            let last = found.last().map_or(0, |record| record.seq);
            assert!(
                last >= records,
                "round {round}, {run}: {records} was durable, {last} is there"
            );
            assert_eq!(found.len() as u64, last, "without gaps");
            assert_eq!(last % 2, 0, "an append is whole or absent");
            for record in &found {
                assert!(
                    record.body[..] == body(&run, record.seq),
                    "{run} {} differs",
                    record.seq
                );
            }
            let head = RunStore::head(&store, &scope, &run).await.expect("reads");
            assert_eq!(head.map_or(0, |head| head.last_seq), last);
            let page = PageRequest::after(format!("{}:", messages.saturating_sub(1)), 1);
            let found = store.messages(&scope, &run, page).await.expect("reads");
            assert!(
                messages == 0 || found.items[0].seq == messages,
                "message {messages} was durable"
            );
            acknowledged += records + messages;
        }
        store.verify().await.expect("whole");
    }
    assert!(acknowledged > 0, "the child came to write");
    println!("{rounds} kills, sum of last durable numbers {acknowledged}, slowest open {slowest:?}");
}
