//! [`Cassette`]: calls to vendors written to a file, and played from it again, offline.
//!
//! It sits where calls leave the process, under every wire, so chats, embeddings and reranking are all on it. A line
//! of the file is one exchange with the boundaries and times of its pieces. Keys never get there: of the headers
//! only a few harmless ones are kept, a key that a body echoes is blotted out, and so are fields of a request that
//! are named like a key. Prompts and answers do get there, for they are what a cassette is for.

mod fault;
mod format;
#[cfg(all(test, feature = "anthropic"))]
mod journeys;
mod play;
mod redact;
mod write;

pub use fault::Fault;
pub use play::Chunks;

use crate::http::{Raw, Secrets};
use play::Player;
use std::{fmt, path::Path, sync::Arc};
use stepwell_core::{Error, Result};
use write::Writer;

/// Calls to vendors, recorded to a file or played from it.
///
/// ```no_run
/// # async fn example() -> stepwell_core::Result<()> {
/// use stepwell_core::ChatModel;
/// use stepwell_providers::{Anthropic, Cassette, Chunks, HttpOptions};
/// let cassette = Cassette::record_or_play("tests/ledger.jsonl")?.chunks(Chunks::Random { seed: 7 });
/// let model = Anthropic::new("claude-sonnet-5").http(HttpOptions::default().cassette(cassette)).build()?;
/// println!("{}", model.chat("What is a ledger?".into()).await?.text());
/// # Ok(())
/// # }
/// ```
///
/// While it plays no key is needed and nothing is dialled. A request gets the answer of the recorded request that
/// equals it, field by field; equal ones get theirs in turn, and then again from the first. A request that was not
/// recorded is [`Error::NotFound`], which names the first field that differs.
///
/// While it records, a disk that fails costs no answer: the call whose exchange could not be written ends as ever, the
/// file keeps the exchanges before it, and every later call fails before anything is sent. [`Cassette::check`] tells
/// without a call.
///
/// Clones share the file and the place in it.
#[derive(Clone)]
pub struct Cassette {
    side: Side,
}

#[derive(Clone)]
enum Side {
    Record(Arc<Writer>),
    Play(Player),
}

impl Cassette {
    /// Records to a new file.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the file is there already, [`Error::Io`] where it cannot be made.
    pub fn record(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self {
            side: Side::Record(Arc::new(Writer::create(path.as_ref())?)),
        })
    }

    /// Plays a recorded file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Foreign`], [`Error::UnknownVersion`] or [`Error::Damaged`] where
    /// it is no cassette of ours, [`Error::LimitExceeded`] over 256 MiB.
    pub fn play(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self {
            side: Side::Play(Player::open(path.as_ref())?),
        })
    }

    /// Plays the file where it is there, records it where it is not: delete it to record anew.
    ///
    /// # Errors
    /// As [`Cassette::record`] and [`Cassette::play`].
    pub fn record_or_play(path: impl AsRef<Path>) -> Result<Self> {
        if path.as_ref().exists() {
            Self::play(path)
        } else {
            Self::record(path)
        }
    }

    /// How a played body is cut into pieces; as recorded without. Recording is not changed by it.
    pub fn chunks(mut self, chunks: Chunks) -> Self {
        if let Side::Play(player) = &mut self.side {
            player.chunks = chunks;
        }
        self
    }

    /// Whether played pieces come at their recorded times; at once without. Recording is not changed by it.
    pub fn timing(mut self, is_recorded: bool) -> Self {
        if let Side::Play(player) = &mut self.side {
            player.keeps_time = is_recorded;
        }
        self
    }

    /// Lets the played call of this number (from 0, counted over all clones) go wrong. The exchange is not used up by
    /// it, so that a second try gets its answer. Recording is not changed by it.
    pub fn fault(mut self, call: usize, fault: Fault) -> Self {
        if let Side::Play(player) = &mut self.side {
            player.faults.push((call, fault));
        }
        self
    }

    /// Whether it plays, and so needs no key.
    pub fn is_playing(&self) -> bool {
        matches!(self.side, Side::Play(_))
    }

    /// Whether every exchange that has ended could be written; also right while it plays.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::Io`] where the file could not be written, [`Error::LimitExceeded`] where it would
    /// have grown over 256 MiB.
    pub fn check(&self) -> Result<()> {
        match &self.side {
            Side::Record(writer) => writer.check(),
            Side::Play(_) => Ok(()),
        }
    }

    /// The recorded answer to a request; `None` while recording.
    pub(crate) fn answer(&self, provider: &str, path: &str, body: &[u8]) -> Result<Option<Raw>> {
        match &self.side {
            Side::Record(writer) => writer.check().map(|()| None),
            Side::Play(player) => player.answer(provider, path, body).map(Some),
        }
    }

    /// The same answer, written down while it is read.
    pub(crate) fn tee(&self, provider: &str, path: &str, secrets: &Secrets, body: &[u8], raw: Raw) -> Raw {
        match &self.side {
            Side::Record(writer) => writer.clone().tee(provider, path, secrets, body, raw),
            Side::Play(_) => raw,
        }
    }
}

impl fmt::Debug for Cassette {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, path) = match &self.side {
            Side::Record(writer) => ("record", writer.path()),
            Side::Play(player) => ("play", player.path()),
        };
        f.debug_tuple("Cassette").field(&side).field(&path).finish()
    }
}

/// Reads a line of a file, for the fuzzer.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_line(line: &str) {
    play::read_line(line);
}

/// An error about the file itself.
fn damaged(path: &Path, line: usize) -> Error {
    Error::Damaged {
        what: format!("the cassette {}", path.display()),
        message: format!("line {line} cannot be read"),
        hint: "delete it and record it anew".to_owned(),
    }
}
