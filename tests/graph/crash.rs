//! A real process killed with SIGKILL at each append to its journal in SQLite, before the append and after it, and its run taken
//! up by another process.

use crate::{
    board::{Board, Slate, is_long},
    kept::Hooked,
    works::{Came, Note, Notes, assert_effects, finish, graph, recorded},
};
use futures::StreamExt;
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};
use stepwell::{
    Scope,
    agent::{Channels, WatchItem},
    store::{RunStatus, RunStore},
    stores::SqliteStore,
};

const FOLDER: &str = "STEPWELL_KILL_FOLDER";
const AT: &str = "STEPWELL_KILL_AT";
const AFTER: &str = "STEPWELL_KILL_AFTER";
const SYNC: &str = "STEPWELL_KILL_SYNC";
const CHANNELS: &str = "STEPWELL_KILL_CHANNELS";

fn die() -> ! {
    let _ = Command::new("kill")
        .args(["-9", &std::process::id().to_string()])
        .status();
    std::process::abort();
}

/// Effects are lines of a file.
fn noting(folder: &Path) -> Note {
    let path = folder.join("effects");
    Arc::new(move |effect| {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .expect("a file");
        file.write_all(format!("{effect}\n").as_bytes()).expect("written");
    })
}

fn effects(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("effects")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder.join("runs.db")).expect("opens")
}

#[tokio::test]
#[ignore = "the crash suite runs it as its child"]
async fn child_that_is_killed() {
    async fn live<S: Slate>(folder: &Path, store: Arc<dyn RunStore>) {
        let graph = graph::<S>(&noting(folder));
        let is_sync = std::env::var_os(SYNC).is_some();
        let mut run = graph.run(S::blank()).run_id("r").store(store.clone());
        if is_sync {
            run = run.sync();
        }
        let outcome = run.keep_events().await.expect("it pauses");
        let mut run = graph.resume("r").store(store).keep_events();
        if is_sync {
            run = run.sync();
        }
        let done = run.answer(&outcome.questions[0].id, 7).await.expect("it ends");
        assert_eq!(done.status, RunStatus::Done);
    }
    let folder = PathBuf::from(std::env::var(FOLDER).expect("set by the parent"));
    let at: usize = std::env::var(AT).expect("set").parse().expect("a number");
    let is_after = std::env::var_os(AFTER).is_some();
    let mut deadly = Hooked::new(Arc::new(open(&folder)));
    deadly.hook = Box::new(move |append, has_written| {
        if append == at && has_written == is_after {
            die();
        }
    });
    let store: Arc<dyn RunStore> = Arc::new(deadly);
    if std::env::var_os(CHANNELS).is_some() {
        live::<Channels>(&folder, store).await;
    } else {
        live::<Board>(&folder, store).await;
    }
}

/// The numbers of the kept events, and of those that are missing between them.
async fn events(store: &Arc<dyn RunStore>) -> Vec<u64> {
    let graph = graph::<Board>(&Notes::default().note());
    let scope = Scope::local();
    if store.head(&scope, "r").await.expect("reads").is_none() {
        return Vec::new(); // it never began
    }
    let items = graph.events(Arc::clone(store), &scope, "r", 1);
    let items: Vec<WatchItem> = items.map(|item| item.expect("reads")).collect().await;
    let mut next = 1;
    for item in &items {
        match item {
            WatchItem::Event(event) => {
                assert_eq!(event.seq, next, "each once, in order");
                next += 1;
            }
            WatchItem::Gap { from, to } => {
                assert_eq!(*from, next, "what is missing is told");
                next = to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    items
        .iter()
        .filter_map(WatchItem::event)
        .map(|event| event.seq)
        .collect()
}

/// Runs the child; whether it got to its end.
fn child(folder: &Path, at: usize, is_sync: bool, after: bool, channels: bool) -> bool {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child
        .args(["--exact", "crash::child_that_is_killed", "--include-ignored"])
        .env(FOLDER, folder)
        .env(AT, at.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for (name, is_set) in [(SYNC, is_sync), (AFTER, after), (CHANNELS, channels)] {
        if is_set {
            child.env(name, "1");
        }
    }
    child.status().expect("starts").success()
}

async fn suite(is_sync: bool, after: bool) {
    async fn came<S: Slate>(folder: &Path) -> Came {
        let store: Arc<dyn RunStore> = Arc::new(open(folder));
        let graph = graph::<S>(&noting(folder));
        Came::of(&finish(&graph, &store, "r").await.expect("ends"))
    }
    let undisturbed = tempfile::tempdir().expect("a folder");
    let whole = came::<Board>(undisturbed.path()).await;
    let whole_effects = effects(undisturbed.path());
    let stride = if is_long() { 1 } else { 9 };
    let mut at = if is_long() {
        0
    } else {
        usize::from(after) * 4 + usize::from(is_sync)
    };
    let mut killed = 0;
    loop {
        let folder = tempfile::tempdir().expect("a folder");
        let channels = at % 2 == 1;
        let has_ended = child(folder.path(), at, is_sync, after, channels);
        let place = format!("killed at append {at}, sync {is_sync}, after {after}, channels {channels}");
        let store: Arc<dyn RunStore> = Arc::new(open(folder.path()));
        let known = recorded(&store, "r").await;
        let told = events(&store).await;
        drop(store);
        let mut before = effects(folder.path());
        before.sort();
        before.dedup();
        assert!(
            known.iter().all(|effect| before.contains(effect)),
            "{place}: {known:?}"
        );
        let came = if channels {
            came::<Channels>(folder.path()).await
        } else {
            came::<Board>(folder.path()).await
        };
        assert!(came.is_like(&whole), "{place}: {came:#?} is not {whole:#?}");
        assert_effects(&place, &known, &effects(folder.path()), &whole_effects);
        let store: Arc<dyn RunStore> = Arc::new(open(folder.path()));
        assert_eq!(events(&store).await, told, "{place}: what was kept stays");
        if has_ended {
            assert!(told.len() > 60, "{} events", told.len());
            break;
        }
        killed += 1;
        at += stride;
    }
    let least = match (is_long(), is_sync) {
        (true, true) => 25,
        (true, false) => 8,
        (false, true) => 3,
        (false, false) => 1,
    };
    assert!(killed >= least, "the child was killed {killed} times");
}

#[tokio::test]
async fn a_run_killed_before_an_append_ends_as_if_it_had_not_been_killed() {
    suite(true, false).await;
}

#[tokio::test]
async fn a_run_killed_after_an_append_ends_as_if_it_had_not_been_killed() {
    suite(true, true).await;
}

#[tokio::test]
async fn a_run_that_saves_beside_its_steps_survives_being_killed_too() {
    suite(false, false).await;
    suite(false, true).await;
}
