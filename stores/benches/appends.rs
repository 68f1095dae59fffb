//! What an append costs: records of 300 bytes, beside SQLite itself with one commit a record, on this disk.
//!
//! `cargo bench -p stepwell-stores` prints one `claim` line each. CPU time is the whole process's, Linux only.

use futures::future::join_all;
use rusqlite::Connection;
use std::{fs, path::Path, time::Instant};
use stepwell_core::{
    Scope,
    store::{NewRecord, RecordKind, RunAppend, RunStore},
};
use stepwell_stores::{MemoryStore, SqliteStore};

const BODY: [u8; 300] = [b'x'; 300];

fn append(run: &str, after: u64) -> RunAppend {
    RunAppend::new(
        run,
        "graph",
        after,
        vec![NewRecord::new(RecordKind::Task, 1, &BODY[..])],
    )
}

/// CPU seconds of this process so far: user and system, in hundredths.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// SQLite itself: the same table and settings, one commit a record, no thread between.
fn bare(path: &Path, count: u64) -> f64 {
    let db = Connection::open(path).expect("opens");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE record (id INTEGER PRIMARY KEY, kind TEXT, at_ms INTEGER, body BLOB)",
    )
    .expect("a table");
    let start = Instant::now();
    for _ in 0..count {
        db.prepare_cached("INSERT INTO record (kind, at_ms, body) VALUES ('task', 1, ?1)")
            .and_then(|mut insert| insert.execute([&BODY[..]]))
            .expect("inserts");
    }
    start.elapsed().as_secs_f64()
}

async fn one_by_one(store: &dyn RunStore, run: &str, count: u64, is_sync: bool) -> (f64, Option<f64>) {
    let scope = Scope::local();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    for after in 0..count {
        let mut append = append(run, after);
        if is_sync {
            append = append.sync();
        }
        store.append(&scope, append).await.expect("is taken");
    }
    store.flush().await.expect("flushes");
    let wall = start.elapsed().as_secs_f64();
    (wall, cpu.zip(cpu_seconds()).map(|(before, after)| after - before))
}

async fn side_by_side(store: &dyn RunStore, clients: u64, each: u64) -> f64 {
    let scope = Scope::local();
    let start = Instant::now();
    let work = (0..clients).map(|client| {
        let scope = &scope;
        async move {
            let run = format!("client {client} of {clients}");
            for after in 0..each {
                store
                    .append(scope, append(&run, after).sync())
                    .await
                    .expect("is taken");
            }
        }
    });
    join_all(work).await;
    start.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("store.db")).expect("opens");
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for round in 0..5 {
        // In turn, for the disk's own mood changes within seconds.
        peer.push(150.0 / bare(&folder.path().join(format!("bare{round}.db")), 150));
        own.push(150.0 / one_by_one(&store, &format!("single{round}"), 150, true).await.0);
    }
    let median = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let (own, peer) = (median(&mut own), median(&mut peer));
    println!(
        "claim sync_appends_single value={own:.0} unit=per_second peer=rusqlite_commit_each:{peer:.0} ratio={:.2}",
        own / peer
    );
    for clients in [16, 64, 200] {
        let before = store.commits();
        let rate = (clients * 30) as f64 / side_by_side(&store, clients, 30).await;
        let commits = store.commits() - before;
        println!(
            "claim sync_appends_{clients}_clients value={rate:.0} unit=per_second commits={commits} appends={} \
             peer=rusqlite_commit_each:{peer:.0} ratio={:.1}",
            clients * 30,
            rate / peer
        );
    }
    let memory = MemoryStore::new();
    for (name, store) in [("sqlite", &store as &dyn RunStore), ("memory", &memory)] {
        let count = 20_000_u32;
        let (wall, cpu) = one_by_one(store, "async", u64::from(count), false).await;
        let each = |seconds: f64| seconds * 1e6 / f64::from(count);
        let cpu = cpu.map_or("unknown".to_owned(), |cpu| format!("{:.1}", each(cpu)));
        println!(
            "claim async_append_{name} value={cpu} unit=cpu_us wall_us={:.1}",
            each(wall)
        );
    }
    let scope = Scope::local();
    let start = Instant::now();
    for from in (1..20_000).step_by(100) {
        store.read(&scope, "async", from, 100).await.expect("reads");
    }
    println!(
        "claim read_100_records value={:.0} unit=us",
        start.elapsed().as_secs_f64() * 1e6 / 200.0
    );
    drop(store);
    let start = Instant::now();
    let store = SqliteStore::open(folder.path().join("store.db")).expect("opens again");
    println!(
        "claim open_store value={:.1} unit=ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    drop(store);
    let bytes = fs::metadata(folder.path().join("store.db")).expect("there").len();
    let content = (20_000 + 750 + 280 * 30) * 300;
    println!(
        "claim disk value={:.2} unit=bytes_per_content_byte",
        bytes as f64 / f64::from(content)
    );
}
