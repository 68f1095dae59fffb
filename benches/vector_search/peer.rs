//! A peer in a process of its own (`peer.py`), asked line by line.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub(crate) struct Peer {
    pub(crate) engine: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// `hnswlib`, `faiss` or `usearch`.
    pub(crate) fn start(engine: &'static str, python: &OsStr, folder: &Path) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/vector_search/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(engine)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        Self {
            engine,
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    /// Two numbers for a command.
    fn ask(&mut self, command: &str) -> (f64, f64) {
        writeln!(self.input, "{command}").expect("the peer listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the peer answers");
        let mut numbers = line
            .split_whitespace()
            .map(|number| number.parse().expect("a number"));
        (
            numbers.next().expect("the first number"),
            numbers.next().expect("the second number"),
        )
    }

    /// CPU seconds and bytes per vector.
    pub(crate) fn build(&mut self) -> (f64, f64) {
        self.ask("build")
    }

    /// CPU seconds for all questions, and recall@10.
    pub(crate) fn search(&mut self, ef: usize) -> (f64, f64) {
        self.ask(&format!("search {ef}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Only ours: the child that this value started.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
