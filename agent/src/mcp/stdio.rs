//! [`Stdio`]: a server that runs as a child of this process and talks over its input and output.

use super::wire::{Line, Lines};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fmt, io,
    path::PathBuf,
    process::Stdio as Pipe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stepwell_core::{Error, Result, Secret};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

/// What a child gets of our environment: what programs need to start at all, and nothing that could be a key.
const ESSENTIAL: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TMPDIR",
    "SYSTEMROOT",
    "PATHEXT",
    "TEMP",
    "TMP",
    "APPDATA",
    "USERPROFILE",
];
/// How long a server may take to end by itself once its input is closed.
const GRACE: Duration = Duration::from_secs(1);
/// How long the last of its error output may take.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Lines in a row that are no messages. Programs do print things; one that prints nothing else is no server.
const NOISE: usize = 1_000;

/// A server to start: a program and its arguments, given one by one; no shell reads them.
///
/// Of our environment the child gets `PATH` and the few others without which programs do not start (`HOME`, `TMPDIR`,
/// `LANG` and their like), and no other variable unless it is named here. It is ended, with all that it started, when
/// the client is dropped; on Windows the child alone is.
///
/// ```
/// use stepwell_agent::mcp::Stdio;
/// let server = Stdio::new("npx").args(["-y", "some-server@1.2.3"]).inherit("SOME_TOKEN").dir("/srv/data");
/// # let _ = server;
/// ```
#[derive(Clone)]
pub struct Stdio {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Secret)>,
    inherited: Vec<OsString>,
    dir: Option<PathBuf>,
}

impl fmt::Debug for Stdio {
    /// Arguments may hold keys: only the program and the names of variables are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Stdio")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &names)
            .field("inherited", &self.inherited)
            .field("dir", &self.dir)
            .finish()
    }
}

impl Stdio {
    /// A program, by path or as found in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            inherited: Vec::new(),
            dir: None,
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable for the server.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl Into<Secret>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.into()));
        self
    }

    /// Lets the server have this variable of our environment, where it is set.
    pub fn inherit(mut self, name: impl AsRef<OsStr>) -> Self {
        self.inherited.push(name.as_ref().to_owned());
        self
    }

    /// Where it runs; our own working directory where not set.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(Pipe::piped())
            .kill_on_drop(true);
        let allowed = ESSENTIAL
            .iter()
            .map(OsStr::new)
            .chain(self.inherited.iter().map(OsString::as_os_str));
        for name in allowed {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, value) in &self.env {
            command.env(name, value.reveal());
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        // A group of its own: what it starts ends with it, and a Ctrl-C at our terminal is ours to handle.
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    /// Starts it.
    pub(super) fn start(
        &self,
        name: &str,
        message_bytes: usize,
        stderr: &Arc<Stderr>,
        line: &Arc<Line>,
    ) -> Result<ChildWire> {
        let mut child = self.command().spawn().map_err(|error| {
            Error::io(
                format!(
                    "starting the MCP server `{name}` (program {})",
                    self.program.display()
                ),
                error,
            )
        })?;
        let (Some(stdin), Some(stdout), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::internal("a child with pipes has no pipes"));
        };
        tokio::spawn(Arc::clone(stderr).fill(errors, Arc::clone(line)));
        let output = Lines::new(stdout, message_bytes, Some(Arc::clone(line)));
        Ok(ChildWire {
            output: BufReader::new(output),
            text: Vec::new(),
            noise: 0,
            line: Arc::clone(line),
            input: Arc::new(tokio::sync::Mutex::new(Some(stdin))),
            process: Process {
                group: child.id(),
                child,
            },
        })
    }
}

/// The end of what a server wrote to its error output: for a developer's eyes. It may hold anything.
pub(super) struct Stderr {
    most: usize,
    kept: Mutex<VecDeque<u8>>,
}

impl Stderr {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    /// Reads it to its end, kept or not: a full pipe would stop the server. Something that the server started and that
    /// left its group may hold the pipe open: it is not waited for.
    async fn fill(self: Arc<Self>, mut errors: ChildStderr, line: Arc<Line>) {
        let ended = async {
            line.ended.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.copy(&mut errors) => {}
            () = ended => {}
        }
        line.drained.cancel();
    }

    async fn copy(&self, errors: &mut ChildStderr) {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = errors.read(&mut piece).await {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&piece[..count]);
            let surplus = kept.len().saturating_sub(self.most);
            kept.drain(..surplus);
        }
    }
}

/// A running server. Dropping it ends the whole group at once.
struct Process {
    group: Option<u32>,
    child: Child,
}

impl Process {
    #[cfg(unix)]
    fn kill_group(&mut self) {
        let group = self
            .group
            .take()
            .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL); // nobody left is fine
        }
    }

    #[cfg(not(unix))]
    fn kill_group(&mut self) {
        self.group = None;
        let _ = self.child.start_kill(); // ended already is fine
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// The messages of a child, one a line. What is no message is passed over and not answered: an answer to noise makes
/// more of it.
pub(super) struct ChildWire {
    output: BufReader<Lines<ChildStdout>>,
    text: Vec<u8>,
    noise: usize,
    line: Arc<Line>,
    input: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    process: Process,
}

impl Transport<RoleClient> for ChildWire {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let input = Arc::clone(&self.input);
        async move {
            let mut text = serde_json::to_vec(&item)?;
            text.push(b'\n');
            // Held while it writes: messages must not mix.
            match &mut *input.lock().await {
                Some(input) => input.write_all(&text).await,
                None => Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            // A read that is dropped half-way goes on where it was: what has come stays in `text`.
            if self.output.read_until(b'\n', &mut self.text).await.is_err() || !self.text.ends_with(b"\n") {
                return None;
            }
            let read = serde_json::from_slice(&self.text);
            self.text.clear();
            self.text.shrink_to(64 << 10);
            if let Ok(message) = read {
                self.noise = 0;
                return Some(message);
            }
            self.noise += 1;
            if self.noise > NOISE {
                self.line.blame("it writes lines that are no messages");
                return None;
            }
        }
    }

    /// Closes its input, lets it end by itself for a second, then ends it and all that it started.
    async fn close(&mut self) -> io::Result<()> {
        // A write that hangs on a full pipe holds the input: the server has its second all the same.
        let _ = tokio::time::timeout(GRACE, async {
            drop(self.input.lock().await.take());
            self.process.child.wait().await
        })
        .await;
        self.process.kill_group();
        let _ = self.process.child.wait().await?; // no zombie stays
        Ok(())
    }
}
