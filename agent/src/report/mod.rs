//! [`Report`]: one self-contained HTML page of a run.

mod content;
mod page;
mod timeline;

use crate::{EventKind, RunEvent, RunFile, RunTrace};
use std::{
    collections::HashMap,
    fmt::{self, Debug},
    path::Path,
};
use stepwell_core::{Error, Result};

/// Bytes of content on a page, where nothing is said.
const BYTES: usize = 4 << 20;

/// A page about a run: its graph with timings, when what ran, the conversation, tool calls, what was found, what each step
/// changed, and what it cost.
///
/// The page needs nothing from elsewhere and runs no script: its content policy forbids both. All words of the run are
/// escaped. Unless [`Report::with_content`] is called, what people, models and tools said is left out: kinds and lengths
/// stand for it, names of nodes, tools and keys remain.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
/// # use stepwell_agent::{Report, RunFile};
/// # async fn page(store: &dyn stepwell_core::store::RunStore) -> stepwell_core::Result<()> {
/// let file = RunFile::export(store, &stepwell_core::Scope::local(), "run-1").await?;
/// Report::of(&file)?.with_content().save("run-1.html")?;
/// # Ok(()) } });
/// ```
#[must_use = "call `.to_html()` or `.save(..)`"]
pub struct Report {
    trace: RunTrace,
    has_content: bool,
    bytes: usize,
    seen: Seen,
}

/// Path, step and node.
type Place = (String, u32, String);
/// From when to when, milliseconds since 1970.
type Times = (Option<u64>, Option<u64>);

/// Times that events tell more exactly than records.
#[derive(Default)]
struct Seen {
    /// From when to when.
    tasks: HashMap<Place, Times>,
    /// The same by call.
    calls: HashMap<String, Times>,
    /// Attempts that failed and were tried again.
    retries: HashMap<Place, u32>,
    count: usize,
}

impl Report {
    /// The page of a run.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a record cannot be read.
    pub fn of(file: &RunFile) -> Result<Self> {
        Ok(Self {
            trace: file.trace()?,
            has_content: false,
            bytes: BYTES,
            seen: Seen::default(),
        })
    }

    /// Shows what people, models and tools said: whoever gets the page reads the conversation.
    pub fn with_content(mut self) -> Self {
        self.has_content = true;
        self
    }

    /// Most bytes of content; 4 MiB. What goes beyond is cut, and the page says so.
    pub fn bytes(mut self, most: usize) -> Self {
        self.bytes = most;
        self
    }

    /// An event of the run and when it was seen, milliseconds since 1970: where events tell when something began and ended,
    /// the page shows that instead of when its record was written.
    pub fn event(mut self, at_ms: u64, event: &RunEvent) -> Self {
        let place = || {
            let node = event.node.as_deref().unwrap_or_default().to_owned();
            (event.path.join("/"), event.step, node)
        };
        self.seen.count += 1;
        match &event.kind {
            EventKind::NodeStart => {
                // The last time: a node that waited for a person starts anew.
                self.seen.tasks.entry(place()).or_default().0 = Some(at_ms);
            }
            EventKind::NodeEnd { .. } => self.seen.tasks.entry(place()).or_default().1 = Some(at_ms),
            EventKind::NodeRetry { .. } => *self.seen.retries.entry(place()).or_default() += 1,
            EventKind::ToolStart { call } => {
                self.seen.calls.entry(call.id.clone()).or_default().0 = Some(at_ms);
            }
            EventKind::ToolEnd { result } => {
                self.seen.calls.entry(result.call_id.clone()).or_default().1 = Some(at_ms);
            }
            _ => {}
        }
        self
    }

    /// The page.
    pub fn to_html(&self) -> String {
        page::write(self)
    }

    /// Writes the page; one that is there is replaced.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.to_html())
            .map_err(|error| Error::io(format!("writing `{}`", path.display()), error))
    }
}

impl Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("run_id", &self.trace.run_id)
            .field("has_content", &self.has_content)
            .finish_non_exhaustive()
    }
}
