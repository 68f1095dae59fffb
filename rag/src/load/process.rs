//! Reading in a process of its own: a program of the host, held to its memory and time by the system.
//!
//! A library cannot start itself, so the host names a program that calls [`serve_reader`]: `stepwell-reader` of this crate,
//! or one of its own. It gets one file over its input, gives one document over its output, and can open nothing.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stepwell_core::{Cancel, Document, Error, Result};

use super::limits::{LoadLimits, size};
use super::refusal::Refusal;

/// Raised when the two sides would not understand each other.
const VERSION: u32 = 1;
/// Longest first line of a question.
const LONGEST_HEAD: u64 = 64 << 10;
/// How often a waiting caller looks at its cancel switch.
const TICK: Duration = Duration::from_millis(20);
/// What a program may need beyond the time of one file: to start, and to hand its answer over.
const START: Duration = Duration::from_secs(5);
/// What a reader needs of its environment to start: where libraries lie. Keys stay here.
const KEPT: [&str; 9] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "SYSTEMROOT",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "NODE_PATH",
];

/// A program that calls [`serve_reader`], with its arguments: `stepwell-reader` of this crate, or the host's own under an
/// argument that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderProgram {
    /// Where it lies.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl ReaderProgram {
    /// A program without arguments.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
        }
    }

    /// With one argument more.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for name in KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.spawn()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    version: u32,
    name: String,
    limits: LoadLimits,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Document(Box<Document>),
    Refusal(Refusal),
}

/// Reads the one file that comes over `input`, writes its document to `output`, and returns: what the program of
/// [`LoadLimits::with_program`] does with its standard input and output, and nothing beside.
///
/// On Unix it first gives up the right to open files and connections and to write files, and bounds its own time; on
/// Linux its memory too. These bounds hold for the whole process and do not end with the call.
///
/// ```no_run
/// // The whole program; or one branch of a larger one's `main`.
/// stepwell_rag::serve_reader(std::io::stdin().lock(), std::io::stdout().lock())?;
/// # Ok::<(), stepwell_core::Error>(())
/// ```
///
/// # Errors
/// `invalid_input` when the other side is no `load`; `io` when it has gone away.
pub fn serve_reader(input: impl Read, mut output: impl Write) -> Result<()> {
    let (question, bytes) = asked(input)?;
    bound(&question.limits);
    let answer = match super::read_here(&question.name, bytes.into(), &question.limits, &Cancel::new())? {
        Ok(document) => Answer::Document(Box::new(document)),
        Err(refusal) => Answer::Refusal(refusal),
    };
    let answer = serde_json::to_vec(&answer).map_err(|error| Error::internal(error.to_string()))?;
    output
        .write_all(&answer)
        .and_then(|()| output.flush())
        .map_err(|error| Error::io("handing a document over", error))
}

fn asked(input: impl Read) -> Result<(Question, Vec<u8>)> {
    let invalid = |message: &str| Error::invalid("the input of a reader of files", message.to_owned());
    let failed = |error| Error::io("taking a file over", error);
    let mut input = BufReader::new(input);
    let mut head = Vec::new();
    input
        .by_ref()
        .take(LONGEST_HEAD)
        .read_until(b'\n', &mut head)
        .map_err(failed)?;
    let question: Question = serde_json::from_slice(&head)
        .map_err(|_| invalid("it is no question of `load`; only `load` starts this program"))?;
    if question.version != VERSION {
        return Err(invalid(
            "it is of another version; build the program with the same version",
        ));
    }
    let mut bytes = Vec::new();
    input
        .take(question.bytes)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 != question.bytes {
        return Err(invalid("the file broke off"));
    }
    Ok((question, bytes))
}

/// Takes from this process what reading does not need. A limit that the system refuses is left as it was: the thread's
/// own limits hold all the same.
#[cfg(unix)]
fn bound(limits: &LoadLimits) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let at = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    let seconds = limits.time.saturating_add(START).as_secs().saturating_add(1);
    // What was allocated so far is not the file's.
    let memory = address_space().map(|used| used.saturating_add(limits.memory_bytes));
    let bounds = [
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(0)),
        (Resource::Nofile, Some(0)),
        (Resource::Cpu, Some(seconds)),
        (Resource::As, memory),
    ];
    for (resource, most) in bounds {
        if let Some(most) = most {
            let _ = setrlimit(resource, at(most));
        }
    }
}

#[cfg(not(unix))]
fn bound(_limits: &LoadLimits) {}

/// Bytes of address space in use; `None` where the system does not tell.
#[cfg(unix)]
fn address_space() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').next()?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// Has the program read a file. `Ok(Err(_))` refuses, `Err(_)` was cancelled or could not start.
pub(super) fn read(
    program: &ReaderProgram,
    name: &str,
    bytes: Bytes,
    limits: &LoadLimits,
    cancel: &Cancel,
) -> Result<std::result::Result<Document, Refusal>> {
    let failed = |error| {
        Error::io(
            format!("starting `{}` to read a file", program.path.display()),
            error,
        )
    };
    let question = Question {
        version: VERSION,
        name: name.to_owned(),
        limits: limits.clone(),
        bytes: bytes.len() as u64,
    };
    let mut head = serde_json::to_vec(&question).map_err(|error| Error::internal(error.to_string()))?;
    head.push(b'\n');
    if head.len() as u64 > LONGEST_HEAD {
        return Ok(Err(Refusal::new("its name is too long")));
    }
    let end = Instant::now() + limits.time.saturating_add(START);
    let mut running = Running(program.start().map_err(failed)?);
    let (Some(mut input), Some(output)) = (running.0.stdin.take(), running.0.stdout.take()) else {
        return Err(Error::internal("a started program has no pipes"));
    };
    // Its text, escaped, and room for its structure.
    let most = (limits.text_bytes as u64)
        .saturating_mul(8)
        .saturating_add(64 << 20);
    let (sender, receiver) = mpsc::sync_channel(1);
    let asking = thread::spawn(move || {
        // A program that ends early does not want the rest.
        let _ = input.write_all(&head).and_then(|()| input.write_all(&bytes));
    });
    let hearing = thread::spawn(move || {
        let mut answer = Vec::new();
        let heard = output.take(most + 1).read_to_end(&mut answer).map(|_| answer);
        let _ = sender.send(heard);
    });
    let heard = loop {
        match receiver.recv_timeout(TICK) {
            Ok(heard) => break heard.ok(),
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() || Instant::now() >= end => {
                drop(running);
                let _ = (asking.join(), hearing.join());
                cancel.check()?;
                return Ok(Err(limits.too_slow()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    // Its end closes both pipes; one that says more than it may, or hangs on, is ended.
    drop(running);
    let _ = (asking.join(), hearing.join());
    Ok(match heard {
        Some(answer) if answer.len() as u64 > most => Err(limits.too_long()),
        Some(answer) => match serde_json::from_slice(&answer) {
            Ok(Answer::Document(document)) if is_sound(&document) => Ok(*document),
            Ok(Answer::Refusal(refusal)) => Err(refusal),
            Ok(Answer::Document(_)) | Err(_) => Err(broke_off(limits)),
        },
        None => Err(broke_off(limits)),
    })
}

fn broke_off(limits: &LoadLimits) -> Refusal {
    Refusal::new(format!(
        "its reader broke off: it is broken, or reading it takes more memory than {} (`memory_bytes` of the load limits)",
        size(limits.memory_bytes)
    ))
}

/// Whether what a reader says of a document holds: it may have been taken over by its file.
fn is_sound(document: &Document) -> bool {
    let text = &document.text;
    let headings = document.headings.iter().map(|heading| &heading.span);
    let pages = document.pages.iter().map(|page| &page.span);
    let is_slice = |span: &std::ops::Range<usize>| text.get(span.clone()).is_some();
    !text.contains('\r')
        && headings.clone().all(is_slice)
        && headings.is_sorted_by_key(|span| span.start)
        && pages.clone().all(is_slice)
        && pages.is_sorted_by_key(|span| span.start)
}

/// A process that does not outlive its question.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(limits: LoadLimits, name: &str, bytes: &[u8]) -> Vec<u8> {
        let question = Question {
            version: VERSION,
            name: name.to_owned(),
            limits,
            bytes: bytes.len() as u64,
        };
        let mut head = serde_json::to_vec(&question).expect("JSON");
        head.push(b'\n');
        head.extend(bytes);
        head
    }

    #[test]
    fn what_is_no_question_is_refused_before_anything_is_read() {
        let mut out = Vec::new();
        for input in [
            b"".to_vec(),
            b"hello\n".to_vec(),
            vec![b'x'; 100 << 10],
            question(LoadLimits::default(), "a.txt", b"ten bytes.")[..]
                .split_last()
                .expect("bytes")
                .1
                .to_vec(),
        ] {
            let error = serve_reader(&input[..], &mut out).expect_err("refused");
            assert_eq!(error.code(), "invalid_input");
        }
        assert!(out.is_empty());
    }

    #[test]
    fn a_reader_taken_over_by_its_file_cannot_give_spans_that_are_none() {
        use stepwell_core::{Heading, PageSpan};
        let mut document = Document::new("a", "äb");
        assert!(is_sound(&document));
        document.headings.push(Heading::new(1, "x", 0..1));
        assert!(!is_sound(&document), "inside a character");
        document.headings = vec![Heading::new(1, "x", 2..3), Heading::new(1, "x", 0..2)];
        assert!(!is_sound(&document), "out of order");
        document.headings.clear();
        document.pages.push(PageSpan::new(1, 0..9));
        assert!(!is_sound(&document), "beyond the end");
    }

    #[test]
    fn a_program_that_is_not_there_is_told_and_not_taken_for_a_broken_file() {
        let program = ReaderProgram::new("/no/such/reader").arg("read");
        let error = read(
            &program,
            "a.txt",
            Bytes::from_static(b"x"),
            &LoadLimits::default(),
            &Cancel::new(),
        )
        .expect_err("not there");
        assert_eq!(error.code(), "io");
    }
}
