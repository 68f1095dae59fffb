//! A real process killed in the middle of a step, and its run taken up by another.

mod support;

use async_trait::async_trait;
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
    time::{Duration, Instant},
};
use stepwell_agent::{
    Channels, ChannelsUpdate, Command, END, Graph, GraphBuilder, Node, NodeError, Reducer, RunContext, START,
};
use support::LogStore;

const FOLDER: &str = "STEPWELL_CRASH_FOLDER";

/// Leaves a line in a file each time it runs; may wait for ever.
struct Mark {
    name: &'static str,
    folder: PathBuf,
    hangs: bool,
}

#[async_trait]
impl Node<Channels> for Mark {
    async fn run(&self, _: &Channels, _: &RunContext) -> Result<Command<ChannelsUpdate>, NodeError> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("effects"))?;
        writeln!(file, "{}", self.name)?;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(ChannelsUpdate::new().set("log", [self.name]).into())
    }
}

fn state() -> Channels {
    Channels::new().slot("log", Reducer::Append)
}

fn graph(folder: &Path, hangs: bool) -> Graph<Channels> {
    let mark = |name, hangs| Mark {
        name,
        folder: folder.to_owned(),
        hangs,
    };
    GraphBuilder::new(state())
        .node("first", mark("first", false))
        .node("quick", mark("quick", false))
        .node("slow", mark("slow", hangs))
        .node("last", mark("last", false))
        .edge(START, "first")
        .edge("first", "quick")
        .edge("first", "slow")
        .join(["quick", "slow"], "last")
        .edge("last", END)
        .build()
        .expect("no fault")
}

#[tokio::test]
#[ignore = "the crash test runs it as its child"]
async fn child_that_hangs_in_its_second_step() {
    let folder = PathBuf::from(std::env::var(FOLDER).expect("set by the parent"));
    let store = LogStore::open(&folder.join("journal"));
    let run = graph(&folder, true).run(state()).run_id("r").store(store);
    run.await.expect("it never ends");
}

#[tokio::test]
async fn after_kill_9_finished_nodes_do_not_run_again_and_the_others_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Process::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "child_that_hangs_in_its_second_step",
            "--include-ignored",
        ])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let journal = folder.path().join("journal");
    let began = Instant::now();
    loop {
        let kinds = LogStore::open(&journal).kinds("r");
        if kinds.iter().filter(|kind| **kind == "task").count() == 2 {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "the child came as far as {kinds:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let resumed = graph(folder.path(), false)
        .resume("r")
        .store(LogStore::open(&journal))
        .await
        .expect("resumes");
    let effects = std::fs::read_to_string(folder.path().join("effects")).expect("written");
    let count = |name: &str| effects.lines().filter(|line| *line == name).count();
    assert_eq!(
        [count("first"), count("quick"), count("slow"), count("last")],
        [1, 1, 2, 1]
    );
    let log = resumed.state.get("log").expect("written");
    assert_eq!(log, serde_json::json!(["first", "quick", "slow", "last"]));
}
