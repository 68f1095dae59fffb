//! The frame: checks recorded exchanges through the public API and a real local socket.
//!
//! To add a wire of chat, add one file: a type that implements [`ChatWire`] (a reader of recorded requests, a
//! rewriting of bodies that mean the same, a reader of recorded answers), and a line in [`wires`]. Vendors that
//! speak Chat Completions with quirks of their own are values of [`completions::Completions`]. For anything that
//! is no chat (embeddings, rerank) implement [`Wire`] itself over [`ReplayServer`] and [`difference::between`].
//! Nothing may depend on the ids of today's files.

pub mod blob;
pub mod chat;
pub mod compatible;
pub mod completions;
pub mod counts;
pub mod difference;
pub mod exchange;
pub mod gemini;
pub mod gist;
pub mod messages;
pub mod mutation;
pub mod ollama;
pub mod random;
pub mod rerank;
pub mod responses;
pub mod server;
pub mod vectors;

pub use chat::{Chat, ChatWire, KEY};
pub use difference::{Allowed, Notes};
pub use exchange::{Asked, Exchange};
pub use gist::{Failure, Gist, Outcome, Piece};
pub use server::ReplayServer;

use async_trait::async_trait;
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// How a check went.
#[derive(Debug)]
pub enum Verdict {
    /// All is right; these allowed differences were met.
    Passed(Notes),
    /// What is wrong.
    Failed(Vec<String>),
    /// Not our wire, and why.
    Unsupported(&'static str),
}

impl Verdict {
    /// Passed where there are no faults.
    pub fn of(faults: Vec<String>, notes: Notes) -> Self {
        if faults.is_empty() {
            Self::Passed(notes)
        } else {
            Self::Failed(faults)
        }
    }
}

/// One wire of one vendor or of several.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Whether it is the wire of this exchange. The first that says so gets it.
    fn takes(&self, exchange: &Exchange) -> bool;

    /// Sends what was recorded, answers with what was recorded, and compares.
    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict;
}

/// The wires of chat.
pub fn chats() -> Vec<Box<dyn ChatWire>> {
    let mut chats: Vec<Box<dyn ChatWire>> = vec![
        Box::new(messages::Messages),
        Box::new(gemini::GenerateContent),
        Box::new(gemini::Vertex),
        Box::new(ollama::NativeChat),
        Box::new(completions::OPENAI),
        Box::new(responses::BEARER),
        Box::new(responses::AZURE),
    ];
    chats.extend(compatible::chats());
    chats
}

/// All wires.
fn wires() -> Vec<Box<dyn Wire>> {
    let mut wires: Vec<Box<dyn Wire>> = vec![Box::new(compatible::RefusedBefore)];
    wires.extend(
        chats()
            .into_iter()
            .map(|chat| Box::new(Chat(chat)) as Box<dyn Wire>),
    );
    wires.push(Box::new(gemini::CountTokens));
    wires.push(Box::new(vectors::Vectors));
    wires.push(Box::new(rerank::Rerank));
    wires.push(Box::new(counts::Counts));
    wires
}

/// Why an exchange that no wire takes is none of ours.
fn reason(exchange: &Exchange) -> &'static str {
    match exchange.api.as_str() {
        "batch" => "batches are not done yet",
        "models" => "lists of models are not asked for",
        "moderation" => "moderation is not done",
        "cached_contents" => "cached contents are made by hand",
        "ollama_native" => "Ollama is spoken over /api/chat",
        "interactions" => "Gemini is spoken over generateContent",
        "converse" => "Bedrock is not spoken",
        "cohere_chat" => "Cohere is spoken for embeddings and rerank only",
        _ => "no wire of ours speaks to this vendor and API",
    }
}

/// How a whole folder went.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: usize,
    pub failed: usize,
    pub unsupported: usize,
    /// Streams that came byte by byte too.
    pub cut_at_every_byte: usize,
    /// One per exchange, in order.
    pub lines: Vec<String>,
    /// Vendor and API: passed, supported, all.
    cells: BTreeMap<(String, String), [usize; 3]>,
    allowed: BTreeMap<&'static Allowed, usize>,
    /// Why not, and how often.
    reasons: BTreeMap<&'static str, usize>,
}

impl Report {
    fn add(&mut self, exchange: &Exchange, verdict: Verdict, verbose: bool) {
        let what = format!("{} {}", exchange.provider, exchange.api);
        let cell = self
            .cells
            .entry((exchange.provider.clone(), exchange.api.clone()))
            .or_default();
        cell[2] += 1;
        self.lines.push(match verdict {
            Verdict::Passed(notes) => {
                self.passed += 1;
                (cell[0], cell[1]) = (cell[0] + 1, cell[1] + 1);
                let mut line = format!("ok           {}  {what}", exchange.id);
                self.cut_at_every_byte += usize::from(notes.is_cut_at_every_byte);
                if verbose && !notes.allowed.is_empty() {
                    let names: Vec<_> = notes.allowed.iter().map(|allowed| allowed.name).collect();
                    let _ = write!(line, "  [{}]", names.join(", "));
                }
                for allowed in notes.allowed {
                    *self.allowed.entry(allowed).or_default() += 1;
                }
                line
            }
            Verdict::Failed(faults) => {
                self.failed += 1;
                cell[1] += 1;
                let shown = if verbose {
                    faults.len()
                } else {
                    3.min(faults.len())
                };
                let mut line = format!(
                    "FAIL         {}  {what}: {}",
                    exchange.id,
                    faults[..shown].join("; ")
                );
                if shown < faults.len() {
                    let _ = write!(line, "; and {} more", faults.len() - shown);
                }
                line
            }
            Verdict::Unsupported(why) => {
                self.unsupported += 1;
                *self.reasons.entry(why).or_default() += 1;
                format!("unsupported  {}  {what}: {why}", exchange.id)
            }
        });
    }

    /// Vendor × API: passed of those supported.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<16} {:<18} {:>6} {:>6} {:>12}\n",
            "vendor", "api", "passed", "of", "unsupported"
        );
        for ((vendor, api), [passed, of, all]) in &self.cells {
            let _ = writeln!(
                table,
                "{vendor:<16} {api:<18} {passed:>6} {of:>6} {:>12}",
                all - of
            );
        }
        for (why, count) in &self.reasons {
            let _ = writeln!(table, "{count:>5}  unsupported: {why}");
        }
        table
    }

    /// The allowed differences that were met, how often, and why each is allowed.
    pub fn differences(&self) -> String {
        let mut table = "allowed differences between what was recorded and what we send\n".to_owned();
        for (allowed, count) in &self.allowed {
            let _ = writeln!(table, "{count:>5}  {:<22} {}", allowed.name, allowed.reason);
        }
        let _ = writeln!(
            table,
            "{:>5}  streams cut at every byte, all at random",
            self.cut_at_every_byte
        );
        table
    }

    /// `N passed, M failed, K unsupported`.
    pub fn sum(&self) -> String {
        format!(
            "{} passed, {} failed, {} unsupported",
            self.passed, self.failed, self.unsupported
        )
    }
}

/// Checks every exchange at and below a path; `watch` gets each line as it comes.
///
/// # Errors
/// One sentence where the path cannot be read or no port can be had.
pub async fn run(path: &Path, verbose: bool, mut watch: impl FnMut(&str)) -> Result<Report, String> {
    let server = ReplayServer::start()
        .await
        .map_err(|error| format!("no local server: {error}"))?;
    let wires = wires();
    let mut report = Report::default();
    for file in exchange::files(path)? {
        let (exchange, verdict) = match Exchange::read(&file) {
            Err(fault) => {
                let name = file
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let exchange = Exchange {
                    id: name,
                    provider: "?".into(),
                    api: "?".into(),
                    ..Exchange::default()
                };
                (exchange, Verdict::Failed(vec![fault]))
            }
            Ok(exchange) => {
                let verdict = match wires.iter().find(|wire| wire.takes(&exchange)) {
                    Some(wire) => wire.check(&exchange, &server).await,
                    None => Verdict::Unsupported(reason(&exchange)),
                };
                (exchange, verdict)
            }
        };
        report.add(&exchange, verdict, verbose);
        if let Some(line) = report.lines.last() {
            watch(line);
        }
    }
    Ok(report)
}
